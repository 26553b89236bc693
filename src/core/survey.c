#include "core/survey_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define MEASURE_SLOT 0
/* Every relay at least every two minutes up to so many; beyond, as many checks a second as then. */
#define CHECK_INTERVAL MVPN_S(120)
#define CHECK_RELAYS 1000
/* The second try comes soon: one lost handshake is no sign of death. */
#define RETRY_PAUSE MVPN_S(10)
#define ATTEMPTS 2
/* Nobody answers: ask again so often and so long, then believe it. */
#define DOUBT_PAUSE MVPN_S(20)
#define DOUBTS_MAX 30
/* Four measurements a day; one at a time, and a pause between them for our own line. */
#define MEASURE_INTERVAL MVPN_S(6 * 3600)
#define MEASURE_PAUSE MVPN_S(4)
#define MEASURE_AGAIN MVPN_S(600) /* it failed, or the relay does not answer */
/* Who carries traffic; others take no circuit to measure them by. */
#define CARRIERS (MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT)
#define SYNC_STEP MVPN_S(10)
#define BUSY_PAUSE MVPN_S(1)
/* Not seen for so long: the next answer begins a new run of uptime. */
#define GAP_MAX_S 3600
/* A relay that has left the network is remembered so long. */
#define FORGET_S (7 * 86400)
/* ---- the table ---- */

survey_entry *survey_find(const mvpn_survey *s, const mvpn_ed25519_pub *identity)
{
    uint64_t hash = mvpn_siphash(&s->hash_key, identity->b, sizeof(identity->b));
    for (mvpn_hash_node *n = mvpn_hash_first(&s->table, hash); n != NULL; n = mvpn_hash_next(n)) {
        survey_entry *e = MVPN_CONTAINER_OF(n, survey_entry, node);
        if (memcmp(e->relay.identity.b, identity->b, sizeof(identity->b)) == 0) {
            return e;
        }
    }
    return NULL;
}

survey_entry *survey_add(mvpn_survey *s, const mvpn_ed25519_pub *identity)
{
    size_t count = s->table.count;
    if (count >= MVPN_SURVEY_MAX || mvpn_timers_reserve(&s->timers, 2 * (count + 1)) != 0) {
        return NULL;
    }
    survey_entry *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return NULL;
    }
    e->relay.identity = *identity;
    e->check.kind = TIMER_CHECK;
    e->measure.kind = TIMER_MEASURE;
    mvpn_hash_insert(&s->table, &e->node,
                     mvpn_siphash(&s->hash_key, identity->b, sizeof(identity->b)));
    mvpn_list_append(&s->entries, &e->link);
    return e;
}

static void entry_remove(mvpn_survey *s, survey_entry *e)
{
    mvpn_timer_clear(&s->timers, &e->check);
    mvpn_timer_clear(&s->timers, &e->measure);
    mvpn_hash_remove(&s->table, &e->node);
    mvpn_list_remove(&e->link);
    s->alive -= e->relay.up_since != 0;
    if (s->last_answerer == e) {
        s->last_answerer = NULL;
    }
    free(e);
}

static mvpn_time check_interval(const mvpn_survey *s)
{
    mvpn_time t = s->cfg.check_interval;
    return s->listed <= CHECK_RELAYS ? t : t * s->listed / CHECK_RELAYS;
}

/* Times of checks are not to be foreseen: a relay should be fast always. */
static void set_check(mvpn_survey *s, survey_entry *e, mvpn_time after, mvpn_time now)
{
    mvpn_timer_set(&s->timers, &e->check,
                   now + after - mvpn_rng_below(s->cfg.env.rng, (uint32_t)(after / 4) + 1));
}

static void set_measure(mvpn_survey *s, survey_entry *e, mvpn_time after, mvpn_time now)
{
    if (!s->cfg.no_bandwidth && e->is_carrier) {
        mvpn_timer_set(&s->timers, &e->measure, now + mvpn_rng_jitter(s->cfg.env.rng, after, 25));
    }
}

bool survey_is_self(const mvpn_survey *s, const mvpn_ed25519_pub *identity)
{
    return memcmp(s->cfg.identity.b, identity->b, sizeof(identity->b)) == 0;
}

/* Does an address lie in another country than the relay says? (§8.6) */
static bool country_is_wrong(const mvpn_survey *s, const mvpn_descriptor *d)
{
    char found[3] = "";
    if (s->cfg.country == NULL || d->country[0] == '\0') {
        return false;
    }
    for (size_t i = 0; i < d->address_count; i++) {
        if (s->cfg.country(s->cfg.country_ctx, &d->addresses[i].addr, found) &&
            memcmp(found, d->country, 2) != 0) {
            return true;
        }
    }
    return false;
}

static void sync_relay(mvpn_survey *s, const mvpn_descriptor *d, mvpn_time now)
{
    uint64_t unix_now = survey_unix(s, now);
    if (d->roles == 0 || survey_is_self(s, &d->identity)) {
        return; /* withdrawn; or ourselves */
    }
    survey_entry *e = survey_find(s, &d->identity);
    e = e != NULL ? e : survey_add(s, &d->identity);
    if (e == NULL) {
        return;
    }
    e->round = s->round;
    e->last_listed = unix_now;
    if (e->relay.first_seen == 0) {
        e->relay.first_seen = unix_now;
    }
    e->relay.country_wrong = country_is_wrong(s, d);
    e->is_carrier = (d->roles & CARRIERS) != 0;
    if (!e->is_listed) {
        e->is_listed = true;
        s->listed++;
        /* At once if it is new; after a start all come within one interval. */
        mvpn_time spread = e->relay.last_checked == 0 ? MVPN_S(1) : check_interval(s);
        mvpn_timer_set(&s->timers, &e->check,
                       now + mvpn_rng_below(s->cfg.env.rng, (uint32_t)spread));
        uint64_t age = unix_now - MVPN_MIN(e->relay.measured, unix_now);
        mvpn_time left = MVPN_S(age) < s->cfg.measure_interval && e->relay.samples > 0
                             ? s->cfg.measure_interval - MVPN_S(age)
                             : MVPN_S(1);
        set_measure(s, e, left, now);
    }
}

/* Take over what the view has, and forget what has long left it. */
static void sync_view(mvpn_survey *s, mvpn_time now)
{
    const mvpn_view *view = s->cfg.env.view;
    uint64_t unix_now = survey_unix(s, now);
    s->round++;
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        sync_relay(s, mvpn_view_at(view, i), now);
    }
    MVPN_LIST_FOREACH_SAFE(it, next, &s->entries)
    {
        survey_entry *e = MVPN_CONTAINER_OF(it, survey_entry, link);
        if (e->round == s->round) {
            continue;
        }
        if (e->is_listed) {
            e->is_listed = false;
            s->listed--;
            mvpn_timer_clear(&s->timers, &e->check);
            mvpn_timer_clear(&s->timers, &e->measure);
        }
        if (e->slots == 0 && unix_now > e->last_listed + FORGET_S) {
            entry_remove(s, e);
        }
    }
}

/* ---- checks ---- */

static void note_answer(mvpn_survey *s, survey_entry *e, const mvpn_measure *m, mvpn_time now)
{
    mvpn_survey_relay *r = &e->relay;
    uint64_t unix_now = survey_unix(s, now);
    s->alive += r->up_since == 0;
    if (r->up_since == 0 || unix_now > r->last_answered + GAP_MAX_S) {
        r->up_since = MVPN_MAX(unix_now, (uint64_t)1);
    }
    r->last_checked = unix_now;
    r->last_answered = unix_now;
    r->checks++;
    r->answers++;
    r->rtt_us = m->rtt_us != 0 ? m->rtt_us : r->rtt_us;
    e->attempts = 0;
    e->doubts = 0;
    s->last_answer = now;
    s->last_answerer = e;
    s->counters.checks++;
    s->counters.answers++;
}

static void note_silence(mvpn_survey *s, survey_entry *e, mvpn_time now)
{
    mvpn_survey_relay *r = &e->relay;
    s->alive -= r->up_since != 0;
    r->up_since = 0;
    r->last_checked = survey_unix(s, now);
    r->checks++;
    e->attempts = 0;
    e->doubts = 0;
    s->counters.checks++;
    s->counters.failures++;
    set_check(s, e, check_interval(s), now);
}

/* It is asked once more, and with it somebody who answered lately: that one tells whether the fault
 * is ours. */
static void ask_again(mvpn_survey *s, survey_entry *e, mvpn_time pause, mvpn_time now)
{
    survey_entry *w = s->last_answerer;
    mvpn_timer_set(&s->timers, &e->check, now + pause);
    if (w != NULL && w != e && w->is_listed && w->slots == 0) {
        mvpn_timer_set(&s->timers, &w->check, now + pause + MVPN_MS(100));
    }
}

static void check_failed(mvpn_survey *s, survey_entry *e, mvpn_time now)
{
    if (e->attempts < ATTEMPTS) {
        ask_again(s, e, RETRY_PAUSE, now);
        return;
    }
    bool others_live = s->alive > (e->relay.up_since != 0);
    bool others_answered = s->last_answer >= e->attempt_began && s->last_answer != 0;
    if (others_live && !others_answered && e->doubts < DOUBTS_MAX) {
        e->doubts++;
        s->counters.inconclusive++;
        ask_again(s, e, DOUBT_PAUSE, now);
        return;
    }
    note_silence(s, e, now);
}

static void note_bandwidth(mvpn_survey *s, survey_entry *e, const mvpn_measure *m, mvpn_time now)
{
    mvpn_survey_relay *r = &e->relay;
    s->counters.measured_bytes += m->bytes;
    s->next_measure = now + s->cfg.measure_pause;
    if (m->result_kbit == 0) {
        s->counters.measurements_failed++;
        set_measure(s, e, MEASURE_AGAIN, now);
        return;
    }
    if (r->samples == MVPN_SURVEY_SAMPLES) {
        memmove(r->kbit, r->kbit + 1, sizeof(r->kbit) - sizeof(r->kbit[0]));
        r->samples--;
    }
    r->kbit[r->samples++] = m->result_kbit;
    r->measured = survey_unix(s, now);
    s->counters.measurements++;
    set_measure(s, e, s->cfg.measure_interval, now);
}

/* A check has ended: what it means for the relay. */
static void slot_done(mvpn_survey *s, survey_slot *sl, mvpn_time now)
{
    survey_entry *e = sl->entry;
    const mvpn_measure *m = &sl->measure;
    bool never_began = m->error == MVPN_E_UNKNOWN || m->error == MVPN_E_LIMIT ||
                       m->error == MVPN_E_NOMEM || m->error == MVPN_E_CLOSED;
    sl->entry = NULL;
    e->slots--;
    if (m->is_alive) {
        note_answer(s, e, m, now);
    }
    if (m->wants_bandwidth) {
        note_bandwidth(s, e, m, now); /* silence is judged by the plain check */
        return;
    }
    if (!e->is_listed) {
        return;
    }
    if (m->is_alive || never_began) {
        e->attempts = 0;
        set_check(s, e, check_interval(s), now);
        return;
    }
    /* A relay that began anew has forgotten our link, which gives up before the second try. */
    check_failed(s, e, now);
}

static void slot_start(mvpn_survey *s, survey_slot *sl, survey_entry *e, bool wants_bandwidth,
                       mvpn_time now)
{
    sl->entry = e;
    e->slots++;
    if (!wants_bandwidth) {
        e->attempts++;
        e->attempt_began = now;
    }
    mvpn_measure_start(&sl->measure, &s->cfg.env, &e->relay.identity, wants_bandwidth, now);
    if (sl->measure.state == MVPN_MEASURE_DONE) {
        slot_done(s, sl, now);
    }
}

static survey_slot *slot_free_one(mvpn_survey *s)
{
    for (size_t i = MEASURE_SLOT + 1; i < SURVEY_SLOTS; i++) {
        if (s->slots[i].entry == NULL) {
            return &s->slots[i];
        }
    }
    return NULL;
}

static void start_due(mvpn_survey *s, mvpn_time now)
{
    mvpn_timer *t;
    while ((t = mvpn_timers_pop(&s->timers, now)) != NULL) {
        if (t->kind == TIMER_CHECK) {
            survey_entry *e = MVPN_CONTAINER_OF(t, survey_entry, check);
            survey_slot *sl = slot_free_one(s);
            if (sl == NULL) {
                mvpn_timer_set(&s->timers, t, now + BUSY_PAUSE);
            } else {
                slot_start(s, sl, e, false, now);
            }
            continue;
        }
        survey_entry *e = MVPN_CONTAINER_OF(t, survey_entry, measure);
        if (e->relay.up_since == 0 && e->relay.last_checked != 0) {
            set_measure(s, e, MEASURE_AGAIN, now);
        } else if (s->slots[MEASURE_SLOT].entry != NULL || now < s->next_measure ||
                   e->relay.up_since == 0) {
            mvpn_timer_set(&s->timers, t, MVPN_MAX(s->next_measure, now) + BUSY_PAUSE);
        } else {
            slot_start(s, &s->slots[MEASURE_SLOT], e, true, now);
        }
    }
}

/* ---- driven by the engine ---- */

bool mvpn_survey_message(mvpn_survey *s, mvpn_link *link, const mvpn_header *header,
                         mvpn_packet *packet, mvpn_time now)
{
    for (size_t i = 0; i < SURVEY_SLOTS; i++) {
        survey_slot *sl = &s->slots[i];
        if (sl->entry != NULL && mvpn_measure_is_for(&sl->measure, link, header)) {
            mvpn_measure_message(&sl->measure, header, packet, now);
            if (sl->measure.state == MVPN_MEASURE_DONE) {
                slot_done(s, sl, now);
            }
            return true;
        }
    }
    return false;
}

void mvpn_survey_link_closed(mvpn_survey *s, mvpn_link *link, mvpn_time now)
{
    for (size_t i = 0; i < SURVEY_SLOTS; i++) {
        survey_slot *sl = &s->slots[i];
        if (sl->entry == NULL) {
            continue;
        }
        mvpn_measure_link_closed(&sl->measure, link, now);
        if (sl->measure.state == MVPN_MEASURE_DONE) {
            slot_done(s, sl, now);
        }
    }
}

void mvpn_survey_tick(mvpn_survey *s, mvpn_time now)
{
    if (now >= s->next_sync) {
        s->next_sync = now + SYNC_STEP;
        sync_view(s, now);
        survey_make_snapshot(s, now);
    }
    for (size_t i = 0; i < SURVEY_SLOTS; i++) {
        survey_slot *sl = &s->slots[i];
        if (sl->entry != NULL) {
            mvpn_measure_tick(&sl->measure, now);
            if (sl->measure.state == MVPN_MEASURE_DONE) {
                slot_done(s, sl, now);
            }
        }
    }
    start_due(s, now);
}

mvpn_time mvpn_survey_deadline(const mvpn_survey *s)
{
    mvpn_time t = mvpn_time_min(s->next_sync, mvpn_timers_deadline(&s->timers));
    for (size_t i = 0; i < SURVEY_SLOTS; i++) {
        if (s->slots[i].entry != NULL) {
            t = mvpn_time_min(t, mvpn_measure_deadline(&s->slots[i].measure));
        }
    }
    return t;
}

void mvpn_survey_set_unix_offset(mvpn_survey *s, int64_t unix_offset_us)
{
    s->cfg.unix_offset_us = unix_offset_us;
}

int mvpn_survey_new(const mvpn_survey_config *config, mvpn_time now, mvpn_survey **ret)
{
    mvpn_survey *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return MVPN_E_NOMEM;
    }
    s->cfg = *config;
    mvpn_survey_config *c = &s->cfg;
    c->env.self = &c->identity; /* never our own NAT relay on the way to a guest (core/target.h) */
    c->check_interval = c->check_interval != 0 ? c->check_interval : CHECK_INTERVAL;
    c->measure_interval = c->measure_interval != 0 ? c->measure_interval : MEASURE_INTERVAL;
    c->measure_pause = c->measure_pause != 0 ? c->measure_pause : MEASURE_PAUSE;
    s->started = now;
    s->next_sync = now;
    mvpn_list_init(&s->entries);
    mvpn_rng_bytes(config->env.rng, s->hash_key.b, sizeof(s->hash_key.b));
    int r = mvpn_hash_init(&s->table, 256);
    r = r != 0 ? r : mvpn_timers_init(&s->timers, 256);
    if (r != 0) {
        mvpn_survey_free(s, now);
        return r;
    }
    *ret = s;
    return 0;
}

void mvpn_survey_free(mvpn_survey *s, mvpn_time now)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < SURVEY_SLOTS; i++) {
        if (s->slots[i].entry != NULL) {
            mvpn_measure_stop(&s->slots[i].measure, now);
            s->slots[i].entry->slots--;
        }
    }
    MVPN_LIST_FOREACH_SAFE(it, next, &s->entries)
    {
        entry_remove(s, MVPN_CONTAINER_OF(it, survey_entry, link));
    }
    survey_drop_snapshots(s);
    mvpn_timers_done(&s->timers);
    mvpn_hash_done(&s->table);
    mvpn_wipe(s, sizeof(*s));
    free(s);
}

/* ---- questions ---- */

const mvpn_survey_relay *mvpn_survey_find(const mvpn_survey *s, const mvpn_ed25519_pub *identity)
{
    const survey_entry *e = survey_find(s, identity);
    return e == NULL ? NULL : &e->relay;
}

const mvpn_ed25519_pub *mvpn_survey_identity(const mvpn_survey *s)
{
    return &s->cfg.identity;
}

bool mvpn_survey_relay_is_alive(const mvpn_survey_relay *r)
{
    return r->up_since != 0;
}

uint32_t mvpn_survey_relay_kbit(const mvpn_survey_relay *r)
{
    uint32_t sorted[MVPN_SURVEY_SAMPLES];
    size_t n = 0;
    for (; n < r->samples; n++) { /* by insertion */
        size_t at = n;
        for (; at > 0 && sorted[at - 1] > r->kbit[n]; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = r->kbit[n];
    }
    return n == 0 ? 0 : sorted[(n - 1) / 2];
}

uint16_t mvpn_survey_relay_uptime_h(const mvpn_survey_relay *r, uint64_t unix_now)
{
    uint64_t hours =
        r->up_since == 0 || unix_now < r->up_since ? 0 : (unix_now - r->up_since) / 3600;
    return (uint16_t)MVPN_MIN(hours, (uint64_t)UINT16_MAX);
}

const mvpn_survey_counters *mvpn_survey_get_counters(const mvpn_survey *s)
{
    return &s->counters;
}

size_t mvpn_survey_count(const mvpn_survey *s)
{
    return s->table.count;
}

size_t mvpn_survey_alive_count(const mvpn_survey *s)
{
    return s->alive;
}
