#include "core/learner.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/sweep.h"

/* Entries spoken to at once: the first that answers is not always the honest one. Those that keep
 * us waiting for so long do not hold up the others. */
#define ENTRIES_AT_ONCE 3
#define ASK_PATIENCE MVPN_S(1)
#define SWEEP_PATIENCE MVPN_S(6)
/* No honest clock is later (the year 36812): nothing that is made of it overflows. */
#define PEER_TIME_MAX (UINT64_C(1) << 40)
#define LINK_TIME MVPN_S(8)
#define ENTRY_RETRY MVPN_S(5)
#define ENTRY_RETRY_MAX MVPN_S(300)
/* Between two sweeps over circuits, for up to SWEEP_RECORDS; more take proportionally longer. */
#define SWEEP_TIME MVPN_S(120)
#define SWEEP_RECORDS 1500
/* Soon after connecting, further operators are asked, until so many have shown what they know. */
#define EARLY_SWEEPS 3
#define EARLY_TIME MVPN_S(1)
/* Without a session for so long, entries are asked again. */
#define LOST_TIME MVPN_S(15)
/* And those that worked no sooner than this again. */
#define RENEWAL_TIME MVPN_S(30)
#define TICK_STEP MVPN_MS(100)
#define EVENTS_MAX 32
#define RECENT_MAX 8

enum entry_state {
    ENTRY_NEW,
    ENTRY_ASKING,
    ENTRY_VOUCHED, /* a turn later, so that what it said of the time holds for its link */
    ENTRY_LINKING,
    ENTRY_SWEEPING,
    ENTRY_DONE,
    ENTRY_FAILED,
};

typedef struct entry {
    mvpn_dht_contact contact;
    bool is_pinned; /* the network file's own */
    enum entry_state state;
    mvpn_ed25519_pub identity; /* VOUCHED and later */
    uint64_t transaction;      /* ASKING */
    mvpn_link *link;           /* LINKING, SWEEPING; held */
    sweep *sweep;              /* SWEEPING */
    mvpn_time since, next_try;
    unsigned failures; /* in a row */
} entry;

struct mvpn_learner {
    mvpn_learner_config cfg;
    entry entries[MVPN_LEARNER_ENTRIES_MAX];
    size_t entry_count;
    sweep *over_circuit; /* one at a time; NULL */
    mvpn_circuit *circuit;
    unsigned hop;
    mvpn_view_source recent[RECENT_MAX]; /* operators asked last */
    size_t recent_next;
    unsigned early; /* sweeps over circuits since we are connected */
    bool is_ready, is_connected, was_connected;
    bool has_time; /* told by the latest entry that proved itself */
    mvpn_ed25519_pub time_peer;
    int64_t time_offset_us;
    mvpn_time lost_since, next_sweep, next_check, next_renewal;
    mvpn_learner_event events[EVENTS_MAX];
    size_t event_first, event_count;
    mvpn_learner_status stats;
};

static uint64_t unix_now(const mvpn_learner *l, mvpn_time now)
{
    int64_t t = ((int64_t)now + l->cfg.unix_offset_us) / (int64_t)MVPN_US_PER_S;
    return t < 1 ? 1 : (uint64_t)t; /* 0 would leave times unchecked */
}

static void push_event(mvpn_learner *l, const mvpn_learner_event *event)
{
    if (l->event_count == EVENTS_MAX) { /* nobody listens: the oldest gives way */
        l->event_first = (l->event_first + 1) % EVENTS_MAX;
        l->event_count--;
    }
    l->events[(l->event_first + l->event_count++) % EVENTS_MAX] = *event;
}

bool mvpn_learner_pull_event(mvpn_learner *l, mvpn_learner_event *ret)
{
    if (l->event_count == 0) {
        return false;
    }
    *ret = l->events[l->event_first];
    l->event_first = (l->event_first + 1) % EVENTS_MAX;
    l->event_count--;
    return true;
}

/* ---- entries ---- */

static bool entry_is_busy(const entry *e)
{
    return e->state == ENTRY_ASKING || e->state == ENTRY_VOUCHED || e->state == ENTRY_LINKING ||
           e->state == ENTRY_SWEEPING;
}

static bool entry_is_slow(const entry *e, mvpn_time now)
{
    return now - e->since > (e->state == ENTRY_ASKING ? ASK_PATIENCE : SWEEP_PATIENCE);
}

/* Let go of what the entry holds. */
static void entry_rest(mvpn_learner *l, entry *e, enum entry_state state, mvpn_time now)
{
    if (e->state == ENTRY_ASKING) {
        mvpn_dht_exchange_forget(l->cfg.exchange, e->transaction);
    }
    sweep_free(e->sweep);
    e->sweep = NULL;
    if (e->link != NULL) {
        mvpn_link *link = e->link;
        e->link = NULL;
        mvpn_link_release(link, now);
        /* Nothing more is wanted of it; a guard's link that happens to be the same one stays. */
        if (!mvpn_link_is_held(link)) {
            mvpn_link_close(link, MVPN_REASON_FINISHED, now);
        }
    }
    e->state = state;
    e->since = now;
}

static void entry_fail(mvpn_learner *l, entry *e, int error, mvpn_time now)
{
    entry_rest(l, e, ENTRY_FAILED, now);
    mvpn_time pause = ENTRY_RETRY << MVPN_MIN(e->failures, 6u);
    e->failures++;
    e->next_try = now + mvpn_rng_jitter(l->cfg.rng, MVPN_MIN(pause, ENTRY_RETRY_MAX), 25);
    push_event(l, &(mvpn_learner_event){
                      .type = MVPN_LEARNER_ENTRY_FAILED, .error = error, .contact = e->contact});
}

/* Whoever can name entries must not push out those of the network file with them. */
static entry *entry_place(mvpn_learner *l, bool is_pinned)
{
    if (l->entry_count < MVPN_LEARNER_ENTRIES_MAX) {
        return &l->entries[l->entry_count++];
    }
    entry *oldest = NULL;
    for (size_t i = 0; i < l->entry_count; i++) {
        entry *e = &l->entries[i];
        bool may_go = e->state == ENTRY_FAILED || (is_pinned && !entry_is_busy(e));
        if (may_go && !e->is_pinned && (oldest == NULL || e->since < oldest->since)) {
            oldest = e;
        }
    }
    return oldest;
}

void mvpn_learner_add_entry(mvpn_learner *l, const mvpn_dht_contact *contact, bool is_pinned,
                            mvpn_time now)
{
    bool reachable = l->cfg.family == 0 || contact->addr.family == l->cfg.family;
    if (!reachable || (!l->cfg.allow_private && !mvpn_addr_is_public(&contact->addr))) {
        return;
    }
    for (size_t i = 0; i < l->entry_count; i++) {
        entry *known = &l->entries[i];
        const mvpn_dht_contact *c = &known->contact;
        if (memcmp(&c->id, &contact->id, sizeof(c->id)) == 0 &&
            mvpn_addr_eq(&c->addr, &contact->addr) &&
            memcmp(&c->link_key, &contact->link_key, sizeof(c->link_key)) == 0) {
            known->is_pinned |= is_pinned;
            return;
        }
    }
    entry *e = entry_place(l, is_pinned);
    if (e != NULL) {
        *e = (entry){.contact = *contact,
                     .is_pinned = is_pinned,
                     .state = ENTRY_NEW,
                     .since = now,
                     .next_try = now};
        l->next_check = now;
    }
}

static void entry_ask(mvpn_learner *l, entry *e, mvpn_time now)
{
    mvpn_dht_request ping = {.command = MVPN_CMD_DHT_PING};
    e->state = ENTRY_ASKING;
    e->since = now;
    int r = mvpn_dht_exchange_ask(l->cfg.exchange, &e->contact, e->is_pinned, &ping, now,
                                  &e->transaction);
    if (r != 0) {
        entry_fail(l, e, r, now);
    }
}

/* It has proven who it is. */
static void entry_open(mvpn_learner *l, entry *e, mvpn_time now)
{
    mvpn_link_target target = {e->identity, e->contact.link_key, e->contact.addr, 0};
    mvpn_link *link;
    int r = mvpn_links_open(l->cfg.links, &target, now, &link);
    if (r != 0) {
        entry_fail(l, e, r, now);
        return;
    }
    mvpn_link_hold(link);
    e->link = link;
    e->state = ENTRY_LINKING;
    e->since = now;
    if (mvpn_link_is_open(link)) {
        mvpn_learner_link_opened(l, link, now);
    }
}

static void take_answers(mvpn_learner *l, mvpn_time now)
{
    mvpn_dht_exchange_answer a;
    while (mvpn_dht_exchange_pull_answer(l->cfg.exchange, &a)) {
        for (size_t i = 0; i < l->entry_count; i++) {
            entry *e = &l->entries[i];
            if (e->state != ENTRY_ASKING || e->transaction != a.transaction) {
                continue;
            }
            if (a.error != 0) {
                entry_fail(l, e, a.error, now);
            } else {
                l->has_time = a.reply.command == MVPN_CMD_DHT_PONG;
                l->time_peer = a.identity;
                l->time_offset_us =
                    (int64_t)(MVPN_MIN(a.reply.time, PEER_TIME_MAX) * MVPN_US_PER_S) - (int64_t)now;
                e->identity = a.identity;
                e->state = ENTRY_VOUCHED;
                l->next_check = now;
            }
            break;
        }
    }
}

static sweep *sweep_begin(mvpn_learner *l, mvpn_view_source source, mvpn_time now)
{
    return sweep_new(&(sweep_env){l->cfg.rng, l->cfg.pool, l->cfg.view}, source, now);
}

void mvpn_learner_link_opened(mvpn_learner *l, mvpn_link *link, mvpn_time now)
{
    for (size_t i = 0; i < l->entry_count; i++) {
        entry *e = &l->entries[i];
        if (e->state == ENTRY_LINKING && e->link == link) {
            e->sweep = sweep_begin(l,
                                   mvpn_view_source_of(l->cfg.view,
                                                       mvpn_view_find(l->cfg.view, &e->identity),
                                                       &e->contact.addr),
                                   now);
            e->state = ENTRY_SWEEPING;
            if (e->sweep == NULL) {
                entry_fail(l, e, MVPN_E_NOMEM, now);
            }
            l->next_check = now;
        }
    }
}

void mvpn_learner_link_closed(mvpn_learner *l, mvpn_link *link, mvpn_time now)
{
    for (size_t i = 0; i < l->entry_count; i++) {
        entry *e = &l->entries[i];
        if (e->link == link) {
            e->link = NULL; /* dead after this event */
            entry_fail(l, e, MVPN_E_TIMEOUT, now);
        }
    }
}

void mvpn_learner_message(mvpn_learner *l, mvpn_link *link, const mvpn_header *header,
                          mvpn_packet *packet, mvpn_time now)
{
    mvpn_bytes body = {packet->data, packet->len};
    for (size_t i = 0; i < l->entry_count; i++) {
        entry *e = &l->entries[i];
        if (e->state == ENTRY_SWEEPING && e->link == link) {
            sweep_reply(e->sweep, mvpn_load32(header->circuit.b), header->command, body,
                        unix_now(l, now), now);
            l->next_check = now;
            break;
        }
    }
    mvpn_packet_free(l->cfg.pool, packet);
}

static void swept(mvpn_learner *l, const sweep *s, bool over_circuit, mvpn_time now)
{
    l->stats.sweeps++;
    l->stats.records_new += sweep_records(s);
    l->stats.last_sweep = now;
    l->is_ready = true;
    push_event(l, &(mvpn_learner_event){.type = MVPN_LEARNER_SWEPT,
                                        .records = sweep_records(s),
                                        .over_circuit = over_circuit});
}

static void entry_check(mvpn_learner *l, entry *e, mvpn_time now)
{
    if (e->state == ENTRY_VOUCHED) {
        entry_open(l, e, now);
    } else if (e->state == ENTRY_LINKING && now - e->since > LINK_TIME) {
        entry_fail(l, e, MVPN_E_TIMEOUT, now);
    } else if (e->state == ENTRY_SWEEPING) {
        sweep_send(e->sweep, e->link, now);
        enum sweep_result result = sweep_result_of(e->sweep, now);
        if (result == SWEEP_DONE) {
            swept(l, e->sweep, false, now);
            push_event(
                l, &(mvpn_learner_event){.type = MVPN_LEARNER_ENTRY_WORKED, .contact = e->contact});
            e->failures = 0;
            entry_rest(l, e, ENTRY_DONE, now);
        } else if (result == SWEEP_FAILED) {
            l->stats.sweeps_failed++;
            entry_fail(l, e, MVPN_E_TIMEOUT, now);
        }
    }
}

/* Begin with further entries while too few are spoken to. */
static void entries_begin(mvpn_learner *l, mvpn_time now)
{
    size_t busy = 0;
    size_t n = l->entry_count;
    size_t first = n > 0 ? mvpn_rng_below(l->cfg.rng, (uint32_t)n) : 0;
    for (size_t i = 0; i < n; i++) {
        const entry *e = &l->entries[i];
        busy += entry_is_busy(e) && !entry_is_slow(e, now);
    }
    /* Those of the network file first: others may be of anybody's making. */
    for (size_t i = 0; i < 2 * n && busy < ENTRIES_AT_ONCE; i++) {
        entry *e = &l->entries[(first + i) % n];
        bool is_due = e->state == ENTRY_NEW || (e->state == ENTRY_FAILED && now >= e->next_try);
        if (is_due && e->is_pinned == (i < n)) {
            entry_ask(l, e, now);
            busy += entry_is_busy(e);
        }
    }
}

/* Lost for a while: what was known may be stale, so those that worked are asked again. */
static void entries_renew(mvpn_learner *l, mvpn_time now)
{
    for (size_t i = 0; i < l->entry_count; i++) {
        entry *e = &l->entries[i];
        if (e->state == ENTRY_DONE) {
            e->state = ENTRY_NEW;
            e->since = now;
        }
    }
}

bool mvpn_learner_is_ready(const mvpn_learner *l)
{
    return l->is_ready;
}

void mvpn_learner_set_ready(mvpn_learner *l)
{
    l->is_ready = true;
}

bool mvpn_learner_wants_entries(const mvpn_learner *l, mvpn_time now)
{
    if (l->is_connected || (l->is_ready && now - l->lost_since <= LOST_TIME)) {
        return false;
    }
    for (size_t i = 0; i < l->entry_count; i++) {
        if (l->entries[i].state != ENTRY_FAILED && l->entries[i].state != ENTRY_DONE) {
            return false;
        }
    }
    return true;
}

void mvpn_learner_set_connected(mvpn_learner *l, bool is_connected, mvpn_time now)
{
    if (l->is_connected == is_connected) {
        return;
    }
    l->is_connected = is_connected;
    l->was_connected = true;
    l->lost_since = now;
    if (!is_connected) {
        return;
    }
    /* From now on the physical interface shows our guards' addresses only. */
    for (size_t i = 0; i < l->entry_count; i++) {
        entry *e = &l->entries[i];
        if (entry_is_busy(e)) {
            entry_rest(l, e, ENTRY_NEW, now);
        }
    }
    l->early = 0;
    l->next_sweep = now;
    l->next_check = now;
}

void mvpn_learner_need_more(mvpn_learner *l, mvpn_time now)
{
    /* Later on it waits, as after any loss: the line shows guards alone while that may help. */
    if (!l->is_connected && !l->was_connected && now - l->lost_since <= LOST_TIME) {
        l->lost_since = now > LOST_TIME ? now - LOST_TIME - 1 : 0;
        l->next_check = now;
    }
}

/* ---- circuits ---- */

static bool was_asked(const mvpn_learner *l, mvpn_view_source source)
{
    for (size_t i = 0; i < RECENT_MAX; i++) {
        if (l->recent[i] == source) {
            return true;
        }
    }
    return false;
}

static mvpn_view_source source_of_hop(const mvpn_learner *l, const mvpn_circuit *c, unsigned hop)
{
    const mvpn_descriptor *d = mvpn_view_find(l->cfg.view, &c->path.hop[hop - 1]);
    return d == NULL ? 0 : mvpn_view_source_of(l->cfg.view, d, NULL);
}

void mvpn_learner_offer_circuit(mvpn_learner *l, mvpn_circuit *c, mvpn_time now)
{
    if (l->over_circuit != NULL || now < l->next_sweep) {
        return;
    }
    /* Not the guard: it sees our address, and is the one that would gain most by lying to us. */
    unsigned lowest = c->path.count > 1 ? 2 : 1;
    unsigned span = c->path.count - lowest + 1;
    unsigned hop = lowest + mvpn_rng_below(l->cfg.rng, span);
    for (unsigned i = 0; i < span; i++) {
        unsigned other = lowest + (hop - lowest + i) % span;
        if (!was_asked(l, source_of_hop(l, c, other))) {
            hop = other;
            break;
        }
    }
    mvpn_view_source source = source_of_hop(l, c, hop);
    /* All circuits are offered in turn: one with somebody new in it comes first. */
    bool may_wait = l->early > 0 && now < l->next_sweep + EARLY_TIME;
    if (source == 0 || (may_wait && was_asked(l, source))) {
        return;
    }
    l->over_circuit = sweep_begin(l, source, now);
    if (l->over_circuit != NULL) {
        l->circuit = c;
        l->hop = hop;
        l->recent[l->recent_next++ % RECENT_MAX] = source;
        l->next_check = now;
    }
}

static void circuit_sweep_end(mvpn_learner *l, bool has_shown, mvpn_time now)
{
    uint64_t size = mvpn_view_record_count(l->cfg.view);
    uint64_t time = SWEEP_TIME * MVPN_MAX(size, (uint64_t)SWEEP_RECORDS) / SWEEP_RECORDS;
    l->early += has_shown;
    l->next_sweep =
        now + (l->early < EARLY_SWEEPS ? EARLY_TIME : mvpn_rng_jitter(l->cfg.rng, time, 25));
    sweep_free(l->over_circuit);
    l->over_circuit = NULL;
    l->circuit = NULL;
}

void mvpn_learner_circuit_closed(mvpn_learner *l, const mvpn_circuit *c)
{
    if (l->over_circuit != NULL && l->circuit == c) {
        sweep_free(l->over_circuit);
        l->over_circuit = NULL;
        l->circuit = NULL;
        l->stats.sweeps_failed++;
    }
}

void mvpn_learner_answer(mvpn_learner *l, mvpn_circuit *c, unsigned hop, uint32_t request_id,
                         unsigned command, mvpn_packet *packet, mvpn_time now)
{
    if (l->over_circuit != NULL && l->circuit == c && l->hop == hop) {
        sweep_reply(l->over_circuit, request_id, command, mvpn_bytes_of(packet->data, packet->len),
                    unix_now(l, now), now);
        l->next_check = now;
    }
    mvpn_packet_free(l->cfg.pool, packet);
}

static void circuit_check(mvpn_learner *l, mvpn_time now)
{
    sweep_request q;
    if (l->over_circuit == NULL) {
        return;
    }
    while (sweep_pull(l->over_circuit, now, &q)) {
        /* What does not go out is asked again. */
        MVPN_IGNORE(mvpn_circuit_ask(l->circuit, l->hop, q.id, q.command, q.packet, now));
    }
    enum sweep_result result = sweep_result_of(l->over_circuit, now);
    if (result == SWEEP_DONE) {
        swept(l, l->over_circuit, true, now);
    } else if (result == SWEEP_FAILED) {
        l->stats.sweeps_failed++;
    }
    if (result != SWEEP_GOING) {
        circuit_sweep_end(l, result == SWEEP_DONE, now);
    }
}

bool mvpn_learner_take_time(mvpn_learner *l, mvpn_ed25519_pub *ret_peer,
                            int64_t *ret_unix_offset_us)
{
    if (!l->has_time) {
        return false;
    }
    l->has_time = false;
    *ret_peer = l->time_peer;
    *ret_unix_offset_us = l->time_offset_us;
    return true;
}

/* ---- the whole ---- */

void mvpn_learner_tick(mvpn_learner *l, mvpn_time now)
{
    take_answers(l, now);
    if (l->has_time) {
        l->next_check = now; /* go on when the owner has taken it */
        return;
    }
    if (now < l->next_check) {
        return;
    }
    l->next_check = now + TICK_STEP;
    circuit_check(l, now);
    if (l->is_connected) {
        return;
    }
    for (size_t i = 0; i < l->entry_count; i++) {
        entry_check(l, &l->entries[i], now);
    }
    if (l->is_ready && now - l->lost_since > LOST_TIME && now >= l->next_renewal) {
        entries_renew(l, now);
        l->next_renewal = now + RENEWAL_TIME;
    }
    if (!l->is_ready || now - l->lost_since > LOST_TIME) {
        entries_begin(l, now);
    }
}

mvpn_time mvpn_learner_deadline(const mvpn_learner *l)
{
    return l->next_check;
}

void mvpn_learner_get_status(const mvpn_learner *l, mvpn_learner_status *ret)
{
    *ret = l->stats;
    ret->entries = l->entry_count;
    for (size_t i = 0; i < l->entry_count; i++) {
        ret->entries_failed += l->entries[i].state == ENTRY_FAILED;
    }
}

void mvpn_learner_set_unix_offset(mvpn_learner *l, int64_t unix_offset_us)
{
    l->cfg.unix_offset_us = unix_offset_us;
}

int mvpn_learner_new(const mvpn_learner_config *config, mvpn_time now, mvpn_learner **ret)
{
    mvpn_learner *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return MVPN_E_NOMEM;
    }
    l->cfg = *config;
    l->next_check = now;
    l->next_sweep = now;
    l->lost_since = now;
    *ret = l;
    return 0;
}

void mvpn_learner_free(mvpn_learner *l, mvpn_time now)
{
    if (l == NULL) {
        return;
    }
    for (size_t i = 0; i < l->entry_count; i++) {
        entry_rest(l, &l->entries[i], ENTRY_DONE, now);
    }
    sweep_free(l->over_circuit);
    free(l);
}
