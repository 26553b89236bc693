/*
 * The client: which circuits are built, over which relays, and what becomes of guards.
 */
#include "core/client_internal.h"

#include <stdlib.h>

#include "base/error.h"
#include "core/target.h"

/* Build time-out: until enough is known, and its bounds. */
#define BUILD_TIME_FIRST MVPN_S(5)
#define BUILD_TIME_MIN MVPN_S(1)
#define BUILD_TIME_MAX MVPN_S(10)
#define BUILD_SAMPLES_ENOUGH 5
/* Pause before the next attempt: none for the first failures, then doubling; in an outage that has
 * lasted long, up to the second bound. */
#define RETRY_FREE 4
#define RETRY_FIRST MVPN_MS(250)
#define RETRY_MAX MVPN_S(1)
#define RETRY_LONG_MAX MVPN_S(10)
#define OUTAGE_LONG MVPN_S(120)
#define BLOCKED_RETRY MVPN_S(5)
#define SPARE_RETRY MVPN_S(3)
/* How long a relay that failed is kept out of new paths. */
#define EXCLUDE_TIME MVPN_S(60)
/* A guard: until it is asked again for the first time (guard.c); an old guard goes before a new. */
#define EXCLUDE_GUARD_TIME MVPN_S(10)
/* A circuit behind another guard than a primary one gives way to one that is: when it is idle for
 * so long, or at the latest after this time. */
#define GUARD_IDLE MVPN_S(30)
#define GUARD_SETTLE MVPN_S(3600)
/* A spare circuit gives way to a fresh one: its hops are the directories that we ask, and the same
 * few for hours could show us whatever they like (§12). */
#define SPARE_LIFE MVPN_S(600)
/* A session at an exit that the user chose no more is left after this, though there is no other:
 * longer than the first tries of a build. */
#define MISFIT_PATIENCE MVPN_S(10)

static void exclude_for(mvpn_client *client, const mvpn_ed25519_pub *relay, mvpn_time span,
                        mvpn_time now)
{
    client->excluded[client->excluded_next] = (excluded){*relay, now + span};
    client->excluded_next = (client->excluded_next + 1) % MVPN_PATH_EXCLUDED_MAX;
}

void client_exclude(mvpn_client *client, const mvpn_ed25519_pub *relay, mvpn_time now)
{
    exclude_for(client, relay, EXCLUDE_TIME, now);
}

void client_blame(mvpn_client *client, const mvpn_circuit *c, mvpn_time now)
{
    const mvpn_ed25519_pub *relay = &c->path.hop[c->failed_hop - 1];
    if (client->is_offline || c->began < client->online) {
        return; /* it was our own network */
    }
    if (c->failed_hop == 1) {
        mvpn_guards_failed(client->guards, relay, client->cfg.env.rng, client_unix(client, now));
    }
    bool is_guard = c->failed_hop == 1 && client_uses_guards(client);
    exclude_for(client, relay, is_guard ? EXCLUDE_GUARD_TIME : EXCLUDE_TIME, now);
}

void client_forgive(mvpn_client *client, const mvpn_path *path)
{
    for (size_t i = 0; i < MVPN_PATH_EXCLUDED_MAX; i++) {
        for (unsigned hop = 0; hop < path->count; hop++) {
            if (client_same(&client->excluded[i].relay, &path->hop[hop])) {
                client->excluded[i].until = 0;
            }
        }
    }
}

static int compare_samples(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The 80th percentile of past build times, with room for one link handshake lost, within bounds. */
mvpn_time client_build_timeout(const mvpn_client *client)
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

void client_note_built(mvpn_client *client, const mvpn_circuit *c, mvpn_time now)
{
    mvpn_guards_succeeded(client->guards, &c->path.hop[0], client->cfg.env.rng,
                          client_unix(client, now));
    client->samples[client->sample_count++ % BUILD_SAMPLES] = (uint32_t)(c->built - c->began);
    client->failures = 0;
    mvpn_stages_reach(&client->stages, MVPN_STAGE_CIRCUIT, now);
}

void client_init_wish(const mvpn_client *client, const mvpn_ed25519_pub *exit, bool forgiving,
                      mvpn_path_constraints *wish, mvpn_time now)
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
        .unix_now = client_unix(client, now),
        .choice = &client->cfg.exit_choice,
        .exit = exit,
    };
    memcpy(wish->exit_ports, client->cfg.exit_ports, sizeof(wish->exit_ports));
    if (exit != NULL && !client_exit_fits(client, exit, now)) {
        /* Chosen before: a session is there, and drains. */
        wish->choice = NULL;
        wish->exit_countries.count = 0;
        wish->exit_port_count = 0;
        wish->exit_min_kbit = 0;
        wish->exit_family = 0;
    }
    for (size_t i = 0; i < MVPN_PATH_EXCLUDED_MAX; i++) {
        if (client->excluded[i].until > now && !forgiving &&
            (exit == NULL || !client_same(&client->excluded[i].relay, exit))) {
            wish->excluded[wish->excluded_count++] = client->excluded[i].relay;
        }
    }
}

/* Keep relays of the circuits there are out of the next path: all but the exit, or the guards
 * alone. Those that carry a session which only drains may share its fate. */
static void exclude_in_use(const mvpn_client *client, mvpn_path_constraints *wish, bool whole_path)
{
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &client->slots[i];
        const mvpn_path *path = &s->circuit.path;
        bool is_old =
            s->role == SLOT_CARRIES && (client->current == NULL || client->current->carrier != s);
        bool counts = s->used && s->role != SLOT_DRAINS && !is_old;
        unsigned count = !counts ? 0 : whole_path ? path->count - 1 : 1;
        for (unsigned k = 0; k < count && wish->excluded_count < MVPN_PATH_EXCLUDED_MAX; k++) {
            if (wish->exit == NULL || !client_same(&path->hop[k], wish->exit)) {
                wish->excluded[wish->excluded_count++] = path->hop[k];
            }
        }
    }
}

/* A path through one of our guards, in their order. `any`: those that did not answer will do too.
 */
static enum mvpn_path_block select_by_guard(mvpn_client *client, mvpn_path_constraints *wish,
                                            bool any, mvpn_path *ret)
{
    mvpn_ed25519_pub order[MVPN_GUARDS_MAX];
    size_t count = mvpn_guards_order(client->guards, wish->unix_now, any, order);
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
    int r = mvpn_guards_draw(client->guards, view, wish, rng, &drawn);
    if (r != 0) {
        return r == MVPN_E_LIMIT ? MVPN_PATH_GUARD_LIMIT : MVPN_PATH_NO_GUARD;
    }
    wish->guard = &drawn;
    return mvpn_path_select(view, wish, rng, ret);
}

/* Which relays that failed will do all the same? */
enum leniency {
    LENIENT_TO_NONE,
    LENIENT_TO_HOPS, /* to all but guards: those have a time of their own (guard.h) */
    LENIENT_TO_ALL,
};

/* To an exit that no client beside this one uses; no new guard is worth that. */
static bool select_apart(mvpn_client *client, bool is_lenient, bool any_guard, mvpn_path *ret,
                         mvpn_time now)
{
    mvpn_path_constraints wish;
    for (unsigned only_guards = 0; only_guards < 2; only_guards++) {
        client_init_wish(client, NULL, is_lenient, &wish, now);
        if (!client_shun_beside(client, &wish)) {
            return false;
        }
        if (client->cfg.hops == 1) {
            return mvpn_path_select(client->cfg.env.view, &wish, client->cfg.env.rng, ret) ==
                   MVPN_PATH_OK;
        }
        exclude_in_use(client, &wish, only_guards == 0);
        if (select_by_guard(client, &wish, any_guard, ret) == MVPN_PATH_OK) {
            return true;
        }
    }
    return false;
}

/* A spare must not fall with the circuit in use: it shares no relay but the exit, or at least not
 * the guard. */
static enum mvpn_path_block select_path(mvpn_client *client, const mvpn_ed25519_pub *exit,
                                        enum leniency lenient, mvpn_path *ret, mvpn_time now)
{
    bool is_lenient = lenient != LENIENT_TO_NONE, any_guard = lenient == LENIENT_TO_ALL;
    mvpn_path_constraints wish;
    client_init_wish(client, exit, is_lenient, &wish, now);
    if (client->cfg.hops == 1) {
        return mvpn_path_select(client->cfg.env.view, &wish, client->cfg.env.rng, ret);
    }
    mvpn_guards_update(client->guards, client->cfg.env.view, &wish, client->cfg.env.rng);
    if (exit == NULL && select_apart(client, is_lenient, any_guard, ret, now)) {
        return MVPN_PATH_OK;
    }
    exclude_in_use(client, &wish, true);
    if (select_by_guard(client, &wish, any_guard, ret) == MVPN_PATH_OK) {
        return MVPN_PATH_OK;
    }
    client_init_wish(client, exit, is_lenient, &wish, now);
    exclude_in_use(client, &wish, false);
    if (select_by_guard(client, &wish, any_guard, ret) == MVPN_PATH_OK) {
        return MVPN_PATH_OK;
    }
    return select_by_new_guard(client, &wish, ret);
}

void client_note_block(mvpn_client *client, enum mvpn_path_block block, mvpn_time now)
{
    if (block != MVPN_PATH_OK && client->stats.block != block) {
        mvpn_client_event e = {.type = MVPN_CLIENT_EVENT_BLOCKED, .block = block};
        client_push_event(client, &e);
    }
    if (block != MVPN_PATH_OK && client->cfg.learner != NULL) {
        mvpn_learner_need_more(client->cfg.learner, now);
    }
    client->stats.block = block;
}

/*
 * A new session leads elsewhere: to another exit if there is one that will do, and when the user
 * wishes to be another, over other relays than the ones so far where that is possible.
 */
static enum mvpn_path_block select_elsewhere(mvpn_client *client, mvpn_path *ret, mvpn_time now)
{
    mvpn_path_constraints wish;
    const client_session *current = client->current;
    bool must_differ = current->exit_is_silent || current->doubted != 0;
    /* 0: all else differs; 1: the exit differs; 2: even if relays failed lately; 3: a new session
     * at the same exit. */
    for (unsigned relaxed = client->shun_path ? 0 : 1; relaxed < (must_differ ? 3u : 4u);
         relaxed++) {
        client_init_wish(client, NULL, relaxed >= 2, &wish, now);
        if (relaxed < 2) {
            (void)client_shun_beside(client, &wish);
        }
        if (relaxed < 3 && wish.excluded_count < MVPN_PATH_EXCLUDED_MAX) {
            wish.excluded[wish.excluded_count++] = current->exit;
        }
        const slot *carrier = current->carrier;
        for (unsigned i = 1;
             relaxed == 0 && carrier != NULL && i + 1 < carrier->circuit.path.count &&
             wish.excluded_count < MVPN_PATH_EXCLUDED_MAX;
             i++) {
            wish.excluded[wish.excluded_count++] = carrier->circuit.path.hop[i];
        }
        if (client->cfg.hops == 1) {
            if (mvpn_path_select(client->cfg.env.view, &wish, client->cfg.env.rng, ret) ==
                MVPN_PATH_OK) {
                return MVPN_PATH_OK;
            }
        } else if (select_by_guard(client, &wish, relaxed >= 2, ret) == MVPN_PATH_OK) {
            return MVPN_PATH_OK;
        }
    }
    return MVPN_PATH_NO_EXIT;
}

static slot *free_slot(mvpn_client *client, mvpn_time now)
{
    slot *oldest = NULL;
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (!s->used) {
            return s;
        }
        if (s->role == SLOT_DRAINS && (oldest == NULL || s->drained < oldest->drained)) {
            oldest = s;
        }
    }
    if (oldest != NULL) {
        client_give_up(client, oldest, now);
    }
    return oldest;
}

static slot *start(mvpn_client *client, const mvpn_path *path, enum slot_cause cause,
                   uint32_t session, mvpn_time now)
{
    slot *s = free_slot(client, now);
    if (s == NULL) {
        return NULL;
    }
    *s = (slot){
        .used = true,
        .cause = cause,
        .session = session,
        .is_link_old = mvpn_links_find(client->cfg.env.links, &path->hop[0]) != NULL,
        .next_ping = now,
        .retire = now + mvpn_rng_jitter(client->cfg.env.rng, SPARE_LIFE, 25),
    };
    client->stats.builds++;
    if (mvpn_circuit_start(&s->circuit, &client->cfg.env, path, now) != 0) {
        client_build_failed(client, s, now);
        s->used = false;
        return NULL;
    }
    return s;
}

void client_build_failed(mvpn_client *client, slot *s, mvpn_time now)
{
    const mvpn_circuit *c = &s->circuit;
    mvpn_client_event e = {
        .type = MVPN_CLIENT_EVENT_BUILD_FAILED,
        .error = c->error,
        .reason = c->reason,
        .hop = c->failed_hop,
    };
    if (c->failed_hop > 0 && c->failed_hop <= c->path.count) {
        e.relay = c->path.hop[c->failed_hop - 1];
        client_blame(client, c, now);
        client_session *current = client->current;
        if (client->has_exit && client_same(&client->exit, &e.relay)) {
            client->has_exit = false;
            if (current != NULL && current->carrier == NULL && !client->is_offline) {
                /* Nobody reaches it, and those before it answered; if there are none, only another
                 * exit's answer tells whose silence it is. */
                current->doubted = current->doubted != 0 ? current->doubted : now;
                current->exit_is_silent = current->exit_is_silent || c->path.count > 1;
            }
        }
    }
    client_push_event(client, &e);
    if (c->failed_hop > 1) {
        const mvpn_stage_trouble trouble = {
            .cause = MVPN_STAGE_NO_HOP, .error = c->error, .hop = c->failed_hop};
        mvpn_stages_hold(&client->stages, MVPN_STAGE_CIRCUIT, &trouble);
    }
    client->stats.build_failures++;
    if (client->failures++ == 0) {
        client->outage = now;
    }
    unsigned over = client->failures > RETRY_FREE ? client->failures - RETRY_FREE : 0;
    mvpn_time pause = over == 0 ? 0 : RETRY_FIRST << MVPN_MIN(over, 6u);
    mvpn_time longest = now - client->outage < OUTAGE_LONG ? RETRY_MAX : RETRY_LONG_MAX;
    client->next_build = now + MVPN_MIN(pause, longest);
}

void client_build_next(mvpn_client *client, const slot *s, bool same_path, mvpn_time now)
{
    const mvpn_path *old = &s->circuit.path;
    mvpn_path path = *old;
    mvpn_path_constraints wish;
    if (!same_path && client->cfg.fixed_path.count == 0 && old->count > 2) {
        client_init_wish(client, slot_exit(s), false, &wish, now);
        wish.guard = &old->hop[0];
        for (unsigned i = 1; i + 1 < old->count && wish.excluded_count < MVPN_PATH_EXCLUDED_MAX;
             i++) {
            wish.excluded[wish.excluded_count++] = old->hop[i];
        }
        if (mvpn_path_select(client->cfg.env.view, &wish, client->cfg.env.rng, &path) !=
            MVPN_PATH_OK) {
            path = *old; /* there are no others: fresh keys are worth something too */
        }
    }
    (void)start(client, &path, CAUSE_ROTATE, s->session, now);
}

bool client_uses_guards(const mvpn_client *client)
{
    return client->cfg.fixed_path.count == 0 && client->cfg.hops > 1;
}

/* A circuit to `exit`, or NULL: to any. */
static void build_to(mvpn_client *client, const mvpn_ed25519_pub *exit, bool is_spare,
                     mvpn_time now)
{
    mvpn_path path;
    if (client->cfg.fixed_path.count > 0) {
        path = client->cfg.fixed_path;
        const mvpn_descriptor *d = mvpn_view_find(client->cfg.env.view, &path.hop[0]);
        if (path.count == 1 && d != NULL && mvpn_target_is_behind_nat(d)) {
            /* A NAT relay never stands between a client and its exit. (§14.3) */
            client_note_block(client, MVPN_PATH_NO_GUARD, now);
            client->next_build = now + BLOCKED_RETRY;
            return;
        }
    } else {
        enum mvpn_path_block block = select_path(client, exit, LENIENT_TO_NONE, &path, now);
        if (!is_spare && block != MVPN_PATH_OK && exit != NULL && client->current == NULL) {
            exit = NULL; /* try another exit before giving up */
            block = select_path(client, NULL, LENIENT_TO_NONE, &path, now);
        }
        if (block != MVPN_PATH_OK) {
            /* A relay that failed is better than none: in a small network, or a bad minute. */
            enum leniency lenient = is_spare ? LENIENT_TO_HOPS : LENIENT_TO_ALL;
            block = select_path(client, exit, lenient, &path, now);
        }
        if (!is_spare) {
            client_note_block(client, block, now);
        }
        if (block != MVPN_PATH_OK) {
            client->next_build = now + (is_spare ? SPARE_RETRY : BLOCKED_RETRY);
            return;
        }
    }
    client->has_exit = true;
    client->exit = path.hop[path.count - 1];
    (void)start(client, &path, CAUSE_SERVE, 0, now);
}

/* How many circuits serve this exit, or will? */
static unsigned count_serving(const mvpn_client *client, const mvpn_ed25519_pub *exit)
{
    unsigned n = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &client->slots[i];
        n += s->used && s->role != SLOT_DRAINS && s->cause == CAUSE_SERVE &&
             (exit == NULL || client_same(slot_exit(s), exit));
    }
    return n;
}

static bool is_being_built(const mvpn_client *client, enum slot_cause cause)
{
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &client->slots[i];
        if (s->used && s->cause == cause && s->role != SLOT_DRAINS) {
            return true;
        }
    }
    return false;
}

/* A session elsewhere, beside the one that is to end. */
static bool build_new(mvpn_client *client, mvpn_time now)
{
    mvpn_path path;
    if (is_being_built(client, CAUSE_NEW)) {
        return true;
    }
    if (!client_wants_new(client, now) || now < client->next_new) {
        return false;
    }
    if (client->cfg.fixed_path.count > 0) {
        if (client->current->doubted != 0) {
            return false; /* there is no elsewhere */
        }
        path = client->cfg.fixed_path;
    } else {
        enum mvpn_path_block block = select_elsewhere(client, &path, now);
        if (block != MVPN_PATH_OK && client->misfit != 0) {
            block = select_path(client, NULL, LENIENT_TO_ALL, &path, now);
            client_note_block(client, block, now);
        }
        if (block != MVPN_PATH_OK) {
            client->next_new = now + BLOCKED_RETRY;
            if (client->misfit != 0) {
                client_session_leave(client, now);
            }
            return false;
        }
    }
    client->next_new = now + RETRY_FIRST;
    return start(client, &path, CAUSE_NEW, 0, now) != NULL;
}

void client_build_missing(mvpn_client *client, mvpn_time now)
{
    const client_session *current = client->current;
    if (client->is_offline) {
        return;
    }
    if (client->misfit != 0 && now - client->misfit >= MISFIT_PATIENCE) {
        client_session_leave(client, now);
    }
    bool has_new = build_new(client, now);
    current = client->current;
    if (has_new && current != NULL && current->exit_is_silent) {
        return; /* it is of no use to ask that exit again and again meanwhile */
    }
    const mvpn_ed25519_pub *exit = current != NULL ? &current->exit : NULL;
    unsigned want = client_uses_guards(client) ? 2 : 1;
    unsigned have = count_serving(client, exit);
    while (have < want && now >= client->next_build) {
        uint64_t builds = client->stats.builds;
        const mvpn_ed25519_pub *to = exit != NULL ? exit : client->has_exit ? &client->exit : NULL;
        bool is_spare = current != NULL && current->carrier != NULL;
        build_to(client, to, is_spare, now);
        have++;
        if (client->stats.builds == builds) {
            break; /* blocked */
        }
    }
    for (size_t i = 0; i < SESSIONS && now >= client->next_build; i++) {
        const client_session *s = &client->sessions[i];
        if (s != current && s->state == SESSION_LIVE && s->carrier == NULL && s->doubted == 0 &&
            count_serving(client, &s->exit) == 0) {
            const mvpn_ed25519_pub chosen = client->exit;
            build_to(client, &s->exit, true, now);
            client->exit = chosen;
        }
    }
}

/* ---- back to the guards we chose ---- */

static bool is_primary(const mvpn_client *client, const slot *s)
{
    const mvpn_guard *g = mvpn_guards_find(client->guards, &s->circuit.path.hop[0]);
    return g != NULL && g->is_primary;
}

/* Is there a primary guard that a spare circuit could go through now? */
static bool can_use_primary(const mvpn_client *client, const slot *used, const slot *spare,
                            mvpn_time now)
{
    mvpn_path_constraints wish;
    mvpn_path path;
    mvpn_ed25519_pub order[MVPN_GUARDS_MAX];
    client_init_wish(client, slot_exit(spare), false, &wish, now);
    size_t count = mvpn_guards_order(client->guards, wish.unix_now, false, order);
    for (size_t i = 0; i < count; i++) {
        const mvpn_guard *g = mvpn_guards_find(client->guards, &order[i]);
        if (!g->is_primary || client_same(&order[i], &used->circuit.path.hop[0]) ||
            client_same(&order[i], &spare->circuit.path.hop[0])) {
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
    if (mvpn_guards_find(client->guards, &path->hop[0]) == NULL) {
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

/*
 * Circuits behind a guard that is none of ours any more give way (it was drawn from a view that
 * nobody confirmed) as soon as there is another; those behind one that stood in for a primary
 * guard when that is back and the session is quiet.
 */
void client_watch_guards(mvpn_client *client, mvpn_time now)
{
    mvpn_path_constraints wish;
    uint64_t packets = client->stats.packets_up + client->stats.packets_down;
    if (packets != client->packets_seen) {
        client->packets_seen = packets;
        client->busy = now;
    }
    client_init_wish(client, NULL, false, &wish, now);
    mvpn_guards_update(client->guards, client->cfg.env.view, &wish, client->cfg.env.rng);
    client_session *session = client->current;
    slot *s = session == NULL ? NULL : session->carrier;
    if (s == NULL) {
        return;
    }
    slot *spare = client_spare(client, &session->exit);
    bool must_leave = !is_sound(client, s);
    if (must_leave && spare != NULL && !is_sound(client, spare)) {
        client->wants_new = true; /* the exit, most likely */
    } else if (must_leave) {
        client->next_build = MVPN_MIN(client->next_build, now);
    }
    if (spare == NULL) {
        return;
    }
    if (!is_sound(client, spare) || now >= spare->retire ||
        (!is_primary(client, spare) && can_use_primary(client, s, spare, now))) {
        client_give_up(client, spare, now);
        return;
    }
    bool is_time = now - client->busy >= GUARD_IDLE || now - s->circuit.built >= GUARD_SETTLE;
    if ((must_leave || (!is_primary(client, s) && is_primary(client, spare) && is_time)) &&
        !client_session_is_taken(client, session)) {
        client_slot_take(client, spare, session, now);
    }
}
