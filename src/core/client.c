#include "core/client.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/client_ip.h"
#include "core/target.h"

/* One in use, one spare, and one of each being built in their place. */
#define SLOTS 4
/* IP packets that wait while there is no session: an application's first tries, no more. */
#define WAITING_MAX 128
/* Build time-out: until enough is known, and its bounds. */
#define BUILD_TIME_FIRST MVPN_S(5)
#define BUILD_TIME_MIN MVPN_S(1)
#define BUILD_TIME_MAX MVPN_S(10)
#define BUILD_SAMPLES 32
#define BUILD_SAMPLES_ENOUGH 5
/* Pause before the next attempt: none for the first failures, then doubling. */
#define RETRY_FREE 4
#define RETRY_FIRST MVPN_MS(250)
#define RETRY_MAX MVPN_S(10)
#define BLOCKED_RETRY MVPN_S(5)
#define SPARE_RETRY MVPN_S(10)
/* How long a relay that failed is kept out of new paths. */
#define EXCLUDE_TIME MVPN_S(60)
/* How often the guards are compared with the view. */
#define GUARDS_STEP MVPN_S(1)
/* A circuit behind another guard than a primary one gives way to one that is: when it is idle for
 * so long, or at the latest after this time. */
#define GUARD_IDLE MVPN_S(30)
#define GUARD_SETTLE MVPN_S(3600)
/* A spare circuit gives way to a fresh one: its hops are the directories that we ask, and the same
 * few for hours could show us whatever they like (§12). */
#define SPARE_LIFE MVPN_S(600)
#define BEGIN_AGAIN MVPN_S(1)
#define BEGIN_TRIES 8
/* Liveness: unanswered data for this long begins pings; so many unanswered are the end. */
#define QUIET_TIME MVPN_S(2)
#define PING_TIME MVPN_S(1)
#define PING_MISSES 3
#define IDLE_PING MVPN_S(30)
#define TICK_STEP MVPN_MS(100)
#define EVENTS_MAX 32

typedef struct excluded {
    mvpn_ed25519_pub relay;
    mvpn_time until;
} excluded;

typedef struct slot {
    bool used;
    mvpn_circuit circuit;
    uint8_t begins; /* RelayBegin sent */
    uint8_t misses; /* pings unanswered */
    mvpn_time next_ping;
    mvpn_time retire; /* if it is still a spare then */
} slot;

struct mvpn_client {
    mvpn_client_config cfg;
    client_ip ip;
    slot slots[SLOTS];
    slot *active; /* in use, or about to be; NULL */
    enum mvpn_client_state state;
    mvpn_time since;
    mvpn_guards guards;
    mvpn_time next_guards;
    uint64_t packets_seen; /* at the last look, and when that changed */
    mvpn_time busy;
    bool has_exit; /* the exit that all circuits share */
    mvpn_ed25519_pub exit;
    excluded excluded[MVPN_PATH_EXCLUDED_MAX];
    size_t excluded_next;
    uint32_t samples[BUILD_SAMPLES]; /* build times, microseconds */
    size_t sample_count;
    unsigned failures; /* in a row */
    mvpn_time next_build;
    mvpn_time next_check;
    mvpn_packet_queue tun_out;
    mvpn_packet_queue waiting;
    mvpn_client_event events[EVENTS_MAX];
    size_t event_first, event_count;
    mvpn_client_status stats;
};

static void push_event(mvpn_client *client, const mvpn_client_event *event)
{
    if (client->event_count == EVENTS_MAX) { /* nobody listens: the oldest gives way */
        client->event_first = (client->event_first + 1) % EVENTS_MAX;
        client->event_count--;
    }
    client->events[(client->event_first + client->event_count++) % EVENTS_MAX] = *event;
}

bool mvpn_client_pull_event(mvpn_client *client, mvpn_client_event *ret)
{
    if (client->event_count == 0) {
        return false;
    }
    *ret = client->events[client->event_first];
    client->event_first = (client->event_first + 1) % EVENTS_MAX;
    client->event_count--;
    return true;
}

static bool same_identity(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* Never 0: that would leave times unchecked. */
static uint64_t unix_time(const mvpn_client *client, mvpn_time now)
{
    int64_t t = ((int64_t)now + client->cfg.unix_offset_us) / (int64_t)MVPN_US_PER_S;
    return t < 1 ? 1 : (uint64_t)t;
}

/* A hop of a circuit failed: it is kept out of paths for a while. */
static void blame(mvpn_client *client, const mvpn_circuit *c, mvpn_time now)
{
    const mvpn_ed25519_pub *relay = &c->path.hop[c->failed_hop - 1];
    if (c->failed_hop == 1) {
        mvpn_guards_failed(&client->guards, relay, client->cfg.env.rng, unix_time(client, now));
    }
    client->excluded[client->excluded_next] = (excluded){*relay, now + EXCLUDE_TIME};
    client->excluded_next = (client->excluded_next + 1) % MVPN_PATH_EXCLUDED_MAX;
}

/* A circuit works through these: whatever was blamed on them is over. */
static void forgive(mvpn_client *client, const mvpn_path *path)
{
    for (size_t i = 0; i < MVPN_PATH_EXCLUDED_MAX; i++) {
        for (unsigned hop = 0; hop < path->count; hop++) {
            if (same_identity(&client->excluded[i].relay, &path->hop[hop])) {
                client->excluded[i].until = 0;
            }
        }
    }
}

static void set_state(mvpn_client *client, enum mvpn_client_state state, int error, mvpn_time now)
{
    if (client->state == state) {
        return;
    }
    client->state = state;
    client->since = now;
    if (client->cfg.learner != NULL) {
        mvpn_learner_set_connected(client->cfg.learner, state == MVPN_CLIENT_CONNECTED, now);
    }
    mvpn_client_event e = {
        .type = state == MVPN_CLIENT_CONNECTED ? MVPN_CLIENT_EVENT_CONNECTED
                                               : MVPN_CLIENT_EVENT_DISCONNECTED,
        .error = error,
    };
    push_event(client, &e);
}

static int compare_samples(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The 80th percentile of past build times, with room for one link handshake lost, within bounds. */
static mvpn_time build_timeout(const mvpn_client *client)
{
    uint32_t sorted[BUILD_SAMPLES];
    size_t n = MVPN_MIN(client->sample_count, (size_t)BUILD_SAMPLES);
    if (n < BUILD_SAMPLES_ENOUGH) {
        return BUILD_TIME_FIRST;
    }
    memcpy(sorted, client->samples, n * sizeof(sorted[0]));
    qsort(sorted, n, sizeof(sorted[0]), compare_samples);
    mvpn_time t = (mvpn_time)sorted[n * 4 / 5] * 3;
    return t < BUILD_TIME_MIN ? BUILD_TIME_MIN : t > BUILD_TIME_MAX ? BUILD_TIME_MAX : t;
}

static bool is_building(const slot *s)
{
    return s->used &&
           (s->circuit.state == MVPN_CIRCUIT_BUILD || s->circuit.state == MVPN_CIRCUIT_EXTEND);
}

static slot *find_spare(mvpn_client *client)
{
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (s->used && s != client->active && s->circuit.state == MVPN_CIRCUIT_READY) {
            return s;
        }
    }
    return NULL;
}

static void init_wish(const mvpn_client *client, mvpn_path_constraints *wish, mvpn_time now)
{
    *wish = (mvpn_path_constraints){
        .hops = client->cfg.hops,
        .relax = client->cfg.relax,
        .family = client->cfg.env.family,
        .allow_private = client->cfg.allow_private,
        .exit_countries = client->cfg.exit_countries,
        .country_of = client->cfg.country_of,
        .country_ctx = client->cfg.country_ctx,
        .exit_min_kbit = client->cfg.exit_min_kbit,
        .exit_family = client->cfg.exit_family,
        .exit_port_count = client->cfg.exit_port_count,
        .unix_now = unix_time(client, now),
        .exit = client->has_exit ? &client->exit : NULL,
    };
    memcpy(wish->exit_ports, client->cfg.exit_ports, sizeof(wish->exit_ports));
    for (size_t i = 0; i < MVPN_PATH_EXCLUDED_MAX; i++) {
        if (client->excluded[i].until > now) {
            wish->excluded[wish->excluded_count++] = client->excluded[i].relay;
        }
    }
}

/* Keep relays of the circuits there are out of the next path: all but the exit, or the guards
 * alone. */
static void exclude_in_use(const mvpn_client *client, mvpn_path_constraints *wish, bool whole_path)
{
    for (size_t i = 0; i < SLOTS; i++) {
        const mvpn_path *path = &client->slots[i].circuit.path;
        unsigned count = !client->slots[i].used ? 0 : whole_path ? path->count - 1 : 1;
        for (unsigned k = 0; k < count && wish->excluded_count < MVPN_PATH_EXCLUDED_MAX; k++) {
            wish->excluded[wish->excluded_count++] = path->hop[k];
        }
    }
}

/* A path through one of our guards, in their order. `any`: those that did not answer will do too.
 */
static enum mvpn_path_block select_by_guard(mvpn_client *client, mvpn_path_constraints *wish,
                                            bool any, mvpn_path *ret)
{
    mvpn_ed25519_pub order[MVPN_GUARDS_MAX];
    size_t count = mvpn_guards_order(&client->guards, wish->unix_now, any, order);
    for (size_t i = 0; i < count; i++) {
        wish->guard = &order[i];
        if (mvpn_path_select(client->cfg.env.view, wish, client->cfg.env.rng, ret) ==
            MVPN_PATH_OK) {
            return MVPN_PATH_OK;
        }
    }
    return MVPN_PATH_NO_GUARD;
}

/* A path through a new guard; none is drawn if no guard would help. */
static enum mvpn_path_block select_by_new_guard(mvpn_client *client, mvpn_path_constraints *wish,
                                                mvpn_path *ret)
{
    const mvpn_view *view = client->cfg.env.view;
    mvpn_rng *rng = client->cfg.env.rng;
    mvpn_ed25519_pub drawn;
    wish->guard = NULL;
    enum mvpn_path_block block = mvpn_path_select(view, wish, rng, ret);
    if (block != MVPN_PATH_OK) {
        return block;
    }
    int r = mvpn_guards_draw(&client->guards, view, wish, rng, &drawn);
    if (r != 0) {
        return r == MVPN_E_LIMIT ? MVPN_PATH_GUARD_LIMIT : MVPN_PATH_NO_GUARD;
    }
    wish->guard = &drawn;
    return mvpn_path_select(view, wish, rng, ret);
}

/* A spare must not fall with the circuit in use: it shares no relay but the exit, or at least not
 * the guard. */
static enum mvpn_path_block select_path(mvpn_client *client, bool any_guard, mvpn_path *ret,
                                        mvpn_time now)
{
    mvpn_path_constraints wish;
    init_wish(client, &wish, now);
    if (client->cfg.hops == 1) {
        return mvpn_path_select(client->cfg.env.view, &wish, client->cfg.env.rng, ret);
    }
    mvpn_guards_update(&client->guards, client->cfg.env.view, &wish, client->cfg.env.rng);
    exclude_in_use(client, &wish, true);
    if (select_by_guard(client, &wish, any_guard, ret) == MVPN_PATH_OK) {
        return MVPN_PATH_OK;
    }
    init_wish(client, &wish, now);
    exclude_in_use(client, &wish, false);
    if (select_by_guard(client, &wish, any_guard, ret) == MVPN_PATH_OK) {
        return MVPN_PATH_OK;
    }
    return select_by_new_guard(client, &wish, ret);
}

static void note_block(mvpn_client *client, enum mvpn_path_block block, mvpn_time now)
{
    if (block != MVPN_PATH_OK && client->stats.block != block) {
        mvpn_client_event e = {.type = MVPN_CLIENT_EVENT_BLOCKED, .block = block};
        push_event(client, &e);
    }
    if (block != MVPN_PATH_OK && client->cfg.learner != NULL) {
        mvpn_learner_need_more(client->cfg.learner, now);
    }
    client->stats.block = block;
}

static void report_failure(mvpn_client *client, const mvpn_circuit *c, mvpn_time now)
{
    mvpn_client_event e = {
        .type = MVPN_CLIENT_EVENT_BUILD_FAILED,
        .error = c->error,
        .reason = c->reason,
        .hop = c->failed_hop,
    };
    if (c->failed_hop > 0 && c->failed_hop <= c->path.count) {
        e.relay = c->path.hop[c->failed_hop - 1];
        blame(client, c, now);
        if (client->has_exit && same_identity(&client->exit, &e.relay)) {
            client->has_exit = false;
        }
    }
    push_event(client, &e);
    client->stats.build_failures++;
    client->failures++;
    unsigned over = client->failures > RETRY_FREE ? client->failures - RETRY_FREE : 0;
    mvpn_time pause = over == 0 ? 0 : RETRY_FIRST << MVPN_MIN(over, 6u);
    client->next_build = now + MVPN_MIN(pause, RETRY_MAX);
}

static void start_build(mvpn_client *client, mvpn_time now)
{
    mvpn_path path;
    slot *s = NULL;
    for (size_t i = 0; i < SLOTS; i++) {
        if (!client->slots[i].used) {
            s = &client->slots[i];
        }
    }
    if (s == NULL) {
        return;
    }
    if (client->cfg.fixed_path.count > 0) {
        path = client->cfg.fixed_path;
        const mvpn_descriptor *d = mvpn_view_find(client->cfg.env.view, &path.hop[0]);
        if (path.count == 1 && d != NULL && mvpn_target_is_behind_nat(d)) {
            /* A NAT relay never stands between a client and its exit. (§14.3) */
            note_block(client, MVPN_PATH_NO_GUARD, now);
            client->next_build = now + BLOCKED_RETRY;
            return;
        }
    } else {
        bool is_spare = client->active != NULL;
        enum mvpn_path_block block = select_path(client, false, &path, now);
        if (!is_spare) {
            if (block != MVPN_PATH_OK && client->has_exit) {
                client->has_exit = false; /* try another exit before giving up */
                block = select_path(client, false, &path, now);
            }
            if (block != MVPN_PATH_OK) {
                /* A relay that failed is better than none: in a small network, or a bad minute. */
                memset(client->excluded, 0, sizeof(client->excluded));
                block = select_path(client, true, &path, now);
            }
            note_block(client, block, now);
        }
        if (block != MVPN_PATH_OK) {
            client->next_build = now + (is_spare ? SPARE_RETRY : BLOCKED_RETRY);
            return;
        }
    }
    s->used = true;
    s->begins = 0;
    s->misses = 0;
    s->retire = now + mvpn_rng_jitter(client->cfg.env.rng, SPARE_LIFE, 25);
    client->stats.builds++;
    client->has_exit = true;
    client->exit = path.hop[path.count - 1];
    if (mvpn_circuit_start(&s->circuit, &client->cfg.env, &path, now) != 0) {
        report_failure(client, &s->circuit, now);
        s->used = false;
    }
}

static bool uses_guards(const mvpn_client *client)
{
    return client->cfg.fixed_path.count == 0 && client->cfg.hops > 1;
}

/* Build what is missing: a circuit to use, then a spare one; two at once at the start. */
static void build_missing(mvpn_client *client, mvpn_time now)
{
    unsigned have = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        have += client->slots[i].used;
    }
    unsigned want = uses_guards(client) ? 2 : 1;
    while (have < want && now >= client->next_build) {
        uint64_t builds = client->stats.builds;
        start_build(client, now);
        have++;
        if (client->stats.builds == builds) {
            break; /* blocked */
        }
    }
}

/* The active circuit has a session now: what waited goes out. */
static void session_opened(mvpn_client *client, mvpn_time now)
{
    mvpn_packet *p;
    slot *s = client->active;
    set_state(client, MVPN_CLIENT_CONNECTED, 0, now);
    forgive(client, &s->circuit.path);
    s->next_ping = now; /* measure the round trip */
    client_ip_set_session(&client->ip, s->circuit.profile,
                          (s->circuit.connected_flags & MVPN_CONNECTED_IPV6) != 0);
    while ((p = mvpn_packet_queue_pop(&client->waiting)) != NULL) {
        mvpn_client_from_tun(client, p, now);
    }
}

static void use(mvpn_client *client, slot *s, mvpn_time now)
{
    client->active = s;
    s->begins = 1;
    mvpn_circuit_begin(&s->circuit, now);
}

/* Look at a circuit after anything may have changed its state. */
static void circuit_changed(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    if (c->state == MVPN_CIRCUIT_READY) {
        client->failures = 0;
        if (client->active == NULL) {
            use(client, s, now);
        }
    }
    if (c->state == MVPN_CIRCUIT_RELAY && s == client->active &&
        client->state != MVPN_CLIENT_CONNECTED) {
        session_opened(client, now);
    }
    if (c->state == MVPN_CIRCUIT_CLOSED && s->used) {
        bool was_active = s == client->active;
        if (client->cfg.learner != NULL) {
            mvpn_learner_circuit_closed(client->cfg.learner, c);
        }
        s->used = false;
        if (c->built == 0) {
            report_failure(client, c, now);
        } else if (c->failed_hop > 0) {
            blame(client, c, now);
        }
        if (was_active) {
            client->active = NULL;
            client->stats.switches++;
            set_state(client, MVPN_CLIENT_CONNECTING, c->error, now);
            slot *spare = find_spare(client);
            if (spare != NULL) {
                use(client, spare, now);
            }
        }
        client->next_check = now;
    }
}

/* What a hop answered as a directory goes to the learner. */
static void take_answer(mvpn_client *client, mvpn_circuit *c, mvpn_time now)
{
    unsigned hop, command;
    uint32_t request_id;
    mvpn_packet *p = mvpn_circuit_take_answer(c, &hop, &request_id, &command);
    if (p != NULL && client->cfg.learner != NULL) {
        mvpn_learner_answer(client->cfg.learner, c, hop, request_id, command, p, now);
    } else {
        mvpn_packet_free(client->cfg.env.pool, p);
    }
}

static void note_built(mvpn_client *client, const mvpn_circuit *c, mvpn_time now)
{
    mvpn_guards_succeeded(&client->guards, &c->path.hop[0], client->cfg.env.rng,
                          unix_time(client, now));
    client->samples[client->sample_count++ % BUILD_SAMPLES] = (uint32_t)(c->built - c->began);
}

void mvpn_client_message(mvpn_client *client, mvpn_link *link, const mvpn_header *header,
                         mvpn_packet *packet, mvpn_time now)
{
    mvpn_packet_queue packets;
    mvpn_packet *p;
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        mvpn_circuit *c = &s->circuit;
        if (!s->used || c->link != link ||
            memcmp(c->in.b, header->circuit.b, sizeof(c->in.b)) != 0) {
            continue;
        }
        enum mvpn_circuit_state before = c->state;
        mvpn_packet_queue_init(&packets);
        mvpn_circuit_message(c, header, packet, now, &packets);
        while ((p = mvpn_packet_queue_pop(&packets)) != NULL) {
            client->stats.packets_down++;
            client->stats.bytes_down += p->len;
            client_ip_to_tun(&client->ip, p, &client->tun_out);
        }
        take_answer(client, c, now);
        if (c->state != before) {
            if (c->state == MVPN_CIRCUIT_READY) {
                note_built(client, c, now);
            }
            circuit_changed(client, s, now);
        }
        return;
    }
    client->stats.dropped++;
    mvpn_packet_free(client->cfg.env.pool, packet);
}

void mvpn_client_link_closed(mvpn_client *client, mvpn_link *link, mvpn_time now)
{
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (s->used && s->circuit.link == link) {
            mvpn_circuit_link_closed(&s->circuit, now);
            circuit_changed(client, s, now);
        }
    }
}

void mvpn_client_from_tun(mvpn_client *client, mvpn_packet *packet, mvpn_time now)
{
    if (client->state != MVPN_CLIENT_CONNECTED) {
        if (client->waiting.count >=
            WAITING_MAX) { /* the newest matter: retries follow the old ones */
            mvpn_packet_free(client->cfg.env.pool, mvpn_packet_queue_pop(&client->waiting));
            client->stats.dropped++;
        }
        mvpn_packet_queue_push(&client->waiting, packet);
        return;
    }
    if (!client_ip_from_tun(&client->ip, packet, &client->tun_out)) {
        client->stats.dropped++;
        return;
    }
    client->stats.packets_up++;
    client->stats.bytes_up += packet->len;
    mvpn_circuit_send(&client->active->circuit, packet, now);
}

void mvpn_client_flush(mvpn_client *client, mvpn_time now)
{
    if (client->active != NULL && client->active->circuit.state == MVPN_CIRCUIT_RELAY) {
        mvpn_circuit_flush(&client->active->circuit, now);
    }
    if (client->active != NULL && client->active->circuit.state == MVPN_CIRCUIT_CLOSED) {
        circuit_changed(client, client->active, now);
    }
}

/* Is the circuit alive? Unanswered data or a long silence is asked about. */
static void check_alive(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    if (c->ping_token != 0) {
        if (now - c->ping_sent < PING_TIME) {
            return;
        }
        c->ping_token = 0;
        if (c->last_in < c->ping_sent && ++s->misses >= PING_MISSES) {
            mvpn_circuit_close(c, MVPN_E_TIMEOUT, MVPN_REASON_TIMEOUT, 0, now);
            circuit_changed(client, s, now);
            return;
        }
        s->next_ping = s->misses > 0 ? now : s->next_ping;
    } else if (s->misses > 0 && c->last_in > c->ping_sent) {
        s->misses = 0;
    }
    bool is_quiet = c->last_out > c->last_in && now - c->last_in > QUIET_TIME;
    if (now >= s->next_ping || is_quiet) {
        mvpn_circuit_ping(c, c->path.count, now);
        s->next_ping = now + mvpn_rng_jitter(client->cfg.env.rng, IDLE_PING, 25);
    }
}

static void check_slot(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    if (is_building(s)) {
        if (now - c->began > build_timeout(client)) {
            /* Blame the hop that did not answer. */
            mvpn_circuit_close(c, MVPN_E_TIMEOUT, MVPN_REASON_TIMEOUT, c->onion.count + 1, now);
        }
    } else if (c->state == MVPN_CIRCUIT_BEGIN && now - c->begin_sent > BEGIN_AGAIN) {
        if (s->begins++ >= BEGIN_TRIES) {
            mvpn_circuit_close(c, MVPN_E_TIMEOUT, MVPN_REASON_TIMEOUT, c->path.count, now);
        } else {
            mvpn_circuit_begin(c, now);
        }
    } else if (c->state == MVPN_CIRCUIT_RELAY || c->state == MVPN_CIRCUIT_READY) {
        check_alive(client, s, now);
    }
    if (s->used && c->state == MVPN_CIRCUIT_CLOSED) {
        circuit_changed(client, s, now);
    }
}

/* ---- back to the guards we chose ---- */

static bool is_primary(const mvpn_client *client, const slot *s)
{
    const mvpn_guard *g = mvpn_guards_find(&client->guards, &s->circuit.path.hop[0]);
    return g != NULL && g->is_primary;
}

/* Is there a primary guard that a spare circuit could go through now? */
static bool can_use_primary(const mvpn_client *client, const slot *spare, mvpn_time now)
{
    mvpn_path_constraints wish;
    mvpn_path path;
    mvpn_ed25519_pub order[MVPN_GUARDS_MAX];
    init_wish(client, &wish, now);
    size_t count = mvpn_guards_order(&client->guards, wish.unix_now, false, order);
    for (size_t i = 0; i < count; i++) {
        const mvpn_guard *g = mvpn_guards_find(&client->guards, &order[i]);
        if (!g->is_primary || same_identity(&order[i], &client->active->circuit.path.hop[0]) ||
            same_identity(&order[i], &spare->circuit.path.hop[0])) {
            continue;
        }
        wish.guard = &order[i];
        if (mvpn_path_select(client->cfg.env.view, &wish, client->cfg.env.rng, &path) ==
            MVPN_PATH_OK) {
            return true;
        }
    }
    return false;
}

/* Does it pass through nobody that we would not take now? The guards of a view that was not
 * confirmed are dropped when it is, and the other hops drawn from it are no better. */
static bool is_sound(const mvpn_client *client, const slot *s)
{
    const mvpn_view *view = client->cfg.env.view;
    const mvpn_path *path = &s->circuit.path;
    mvpn_view_info info;
    if (mvpn_guards_find(&client->guards, &path->hop[0]) == NULL) {
        return false;
    }
    bool is_confirmed = mvpn_view_is_confirmed(view);
    for (unsigned i = 0; i < path->count && is_confirmed; i++) {
        if (mvpn_view_find_info(view, &path->hop[i], &info) && !info.is_confirmed) {
            return false;
        }
    }
    for (unsigned i = 0; i < path->count; i++) {
        if (mvpn_view_find(view, &path->hop[i]) == NULL) {
            return false; /* revoked */
        }
    }
    return true;
}

static void give_up(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit_close(&s->circuit, 0, MVPN_REASON_FINISHED, 0, now);
    circuit_changed(client, s, now);
}

/*
 * Circuits behind a guard that is none of ours any more end at once (it was drawn from a view that
 * nobody confirmed), as soon as there is another; those behind one that stood in for a primary
 * guard when that is back and the session is quiet.
 */
static void watch_guards(mvpn_client *client, mvpn_time now)
{
    mvpn_path_constraints wish;
    uint64_t packets = client->stats.packets_up + client->stats.packets_down;
    if (packets != client->packets_seen) {
        client->packets_seen = packets;
        client->busy = now;
    }
    init_wish(client, &wish, now);
    mvpn_guards_update(&client->guards, client->cfg.env.view, &wish, client->cfg.env.rng);
    slot *spare = find_spare(client);
    slot *s = client->active;
    if (s == NULL || client->state != MVPN_CLIENT_CONNECTED) {
        return;
    }
    bool must_leave = !is_sound(client, s);
    if (must_leave) {
        client->has_exit = false; /* the spare has to lead elsewhere, and soon */
        client->next_build = MVPN_MIN(client->next_build, now);
    }
    if (spare == NULL) {
        return;
    }
    if (!is_sound(client, spare) || now >= spare->retire ||
        (!is_primary(client, spare) && can_use_primary(client, spare, now))) {
        give_up(client, spare, now);
        return;
    }
    bool is_time = now - client->busy >= GUARD_IDLE || now - s->circuit.built >= GUARD_SETTLE;
    if (must_leave || (!is_primary(client, s) && is_primary(client, spare) && is_time)) {
        give_up(client, s, now);
    }
}

const mvpn_guards *mvpn_client_guards(const mvpn_client *client)
{
    return &client->guards;
}

size_t mvpn_client_guards_save(const mvpn_client *client, uint8_t *out, size_t size)
{
    return mvpn_guards_save(&client->guards, out, size);
}

int mvpn_client_guards_load(mvpn_client *client, mvpn_bytes saved)
{
    return mvpn_guards_load(&client->guards, saved);
}

static void offer_circuits(mvpn_client *client, mvpn_time now)
{
    if (client->state != MVPN_CLIENT_CONNECTED) {
        return;
    }
    for (size_t i = 0; i < SLOTS; i++) {
        enum mvpn_circuit_state state = client->slots[i].circuit.state;
        if (client->slots[i].used && (state == MVPN_CIRCUIT_READY || state == MVPN_CIRCUIT_RELAY)) {
            mvpn_learner_offer_circuit(client->cfg.learner, &client->slots[i].circuit, now);
        }
    }
}

void mvpn_client_tick(mvpn_client *client, mvpn_time now)
{
    if (now < client->next_check) {
        return;
    }
    client->next_check = now + TICK_STEP;
    for (size_t i = 0; i < SLOTS; i++) {
        if (client->slots[i].used) {
            check_slot(client, &client->slots[i], now);
        }
    }
    if (now >= client->next_guards && uses_guards(client)) {
        client->next_guards = now + GUARDS_STEP;
        watch_guards(client, now);
    }
    if (client->cfg.learner != NULL) {
        offer_circuits(client, now);
    }
    /* Before something complete is known, too little would decide about guards. */
    if (client->cfg.learner == NULL || mvpn_learner_is_ready(client->cfg.learner)) {
        build_missing(client, now);
    }
}

void mvpn_client_set_unix_offset(mvpn_client *client, int64_t unix_offset_us)
{
    client->cfg.unix_offset_us = unix_offset_us;
}

mvpn_time mvpn_client_deadline(const mvpn_client *client)
{
    return client->next_check;
}

mvpn_packet_queue *mvpn_client_tun_out(mvpn_client *client)
{
    return &client->tun_out;
}

void mvpn_client_get_status(const mvpn_client *client, mvpn_client_status *ret)
{
    *ret = client->stats;
    ret->state = client->state;
    ret->since = client->since;
    ret->path.count = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &client->slots[i];
        if (s->used && s != client->active && s->circuit.state == MVPN_CIRCUIT_READY) {
            ret->has_spare = true;
            ret->spare_path = s->circuit.path;
        }
    }
    if (client->active != NULL) {
        const mvpn_circuit *c = &client->active->circuit;
        ret->path = c->path;
        ret->build_us = c->built - c->began;
        ret->rtt_us = c->rtt_us;
        ret->has_ipv6 = (c->connected_flags & MVPN_CONNECTED_IPV6) != 0;
    }
}

int mvpn_client_new(const mvpn_client_config *config, mvpn_time now, mvpn_client **ret)
{
    if (config->hops < 1 || config->hops > MVPN_HOPS_MAX) {
        return MVPN_E_INVAL;
    }
    mvpn_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return MVPN_E_NOMEM;
    }
    client->cfg = *config;
    client->since = now;
    client->next_check = now;
    client->next_guards = now;
    mvpn_guards_init(&client->guards, config->env.rng);
    if (config->guards.n > 0 && mvpn_guards_load(&client->guards, config->guards) != 0) {
        mvpn_guards_init(&client->guards, config->env.rng); /* unreadable: begin anew */
    }
    mvpn_packet_queue_init(&client->tun_out);
    mvpn_packet_queue_init(&client->waiting);
    client_ip_init(&client->ip, config->env.pool, &config->tun_v4, &config->tun_v6,
                   &config->gateway_v4);
    *ret = client;
    return 0;
}

void mvpn_client_free(mvpn_client *client, mvpn_time now)
{
    if (client == NULL) {
        return;
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (client->slots[i].used) {
            mvpn_circuit_close(&client->slots[i].circuit, 0, MVPN_REASON_FINISHED, 0, now);
        }
    }
    mvpn_packet_queue_clear(&client->tun_out, client->cfg.env.pool);
    mvpn_packet_queue_clear(&client->waiting, client->cfg.env.pool);
    mvpn_wipe(client, sizeof(*client));
    free(client);
}
