/*
 * A discovery node surveys relays: bandwidth over links of known rate, life and death, uptime,
 * snapshots that are one encoding of one knowledge, and the file that outlives it.
 */
#include "scenario.h"
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "core/survey.h"
#include "crypto/x25519.h"

/* ---- a link of known rate in front of a relay ---- */

typedef struct narrow {
    const sim_node *to;
    uint64_t kbit;
    mvpn_time queue; /* what waits longer is dropped */
    mvpn_time busy_until;
    uint64_t passed, dropped;
} narrow;

typedef struct surveyor {
    sim_node *node;
    mvpn_circuit_env env;
    mvpn_measure measure; /* used alone, or */
    mvpn_survey *survey;
    mvpn_ed25519_pub identity;
    mvpn_ed25519_secret secret;
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    bool is_running;
} surveyor;

#define NARROWS 8
static narrow narrows[NARROWS];
static size_t narrow_count;

static bool tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    (void)from;
    for (size_t i = 0; i < narrow_count; i++) {
        narrow *n = &narrows[i];
        if (n->to != to) {
            continue;
        }
        mvpn_time start = MVPN_MAX(n->busy_until, w->now);
        if (start - w->now > n->queue) {
            n->dropped++;
            return false;
        }
        n->busy_until = start + (d->len + 28) * 8000 / n->kbit;
        n->passed++;
        sim_inject(w, d, n->busy_until - w->now + w->path.delay);
        return false; /* it travels on its own */
    }
    return true;
}

static void on_message(sim_node *node, mvpn_link *link, const mvpn_header *header,
                       mvpn_packet *packet)
{
    surveyor *s = node->user;
    mvpn_time now = node->world->now;
    if (s->survey != NULL) {
        if (!mvpn_survey_message(s->survey, link, header, packet, now)) {
            mvpn_packet_free(&node->pool, packet);
        }
    } else if (mvpn_measure_is_for(&s->measure, link, header)) {
        mvpn_measure_message(&s->measure, header, packet, now);
    } else {
        mvpn_packet_free(&node->pool, packet);
    }
}

static void on_closed(sim_node *node, mvpn_link *link)
{
    surveyor *s = node->user;
    if (s->survey != NULL) {
        mvpn_survey_link_closed(s->survey, link, node->world->now);
    } else {
        mvpn_measure_link_closed(&s->measure, link, node->world->now);
    }
}

static void step(sim *w, void *arg)
{
    surveyor *s = arg;
    if (!s->is_running) {
        return;
    }
    sim_current = s->node;
    mvpn_time next;
    if (s->survey != NULL) {
        mvpn_survey_tick(s->survey, w->now);
        next = mvpn_survey_deadline(s->survey);
    } else {
        mvpn_measure_tick(&s->measure, w->now);
        next = mvpn_measure_deadline(&s->measure);
    }
    sim_current = NULL;
    sim_touch(s->node);
    mvpn_time wait = next > w->now ? next - w->now : 0;
    sim_call(w, MVPN_MIN(MVPN_MAX(wait, MVPN_MS(1)), MVPN_MS(50)), step, s);
}

static void surveyor_start(surveyor *s, sim *w)
{
    *s = (surveyor){.node = sim_add(w, SIM_PUPPET)};
    sim_node *n = s->node;
    n->config.packet_count = 8192;
    n->user = s;
    n->on_message = on_message;
    n->on_closed = on_closed;
    sim_start(n);
    s->env = (mvpn_circuit_env){
        .aead = n->aead,
        .rng = &n->rng,
        .pool = &n->pool,
        .links = n->links,
        .view = n->view,
        .realm = {.network_id = w->network_id,
                  .closed = w->is_closed,
                  .network_pub = w->network_pub},
        .size_policy = MVPN_SIZE_CLASSES,
        .suite = MVPN_SUITE_X25519,
        .family = 4,
    };
    if (w->is_closed) {
        mvpn_network_psk(&s->env.realm.psk, &w->network_secret);
    }
    uint8_t seed[32];
    mvpn_rng_bytes(&w->rng, seed, sizeof(seed));
    mvpn_ed25519_from_seed(&s->identity, &s->secret, seed);
    mvpn_membership_make(s->membership, &w->network_secret_key, &s->identity, MVPN_ROLE_DISCOVERY,
                         SIM_UNIX - 3600, SIM_UNIX + 40 * 86400, 77, &w->network_id);
    s->is_running = true;
}

static sim *world_new(uint64_t seed, size_t relays)
{
    sim *w = sim_new(seed);
    narrow_count = 0;
    w->is_closed = true;
    w->path.delay = MVPN_MS(25);
    w->tap = tap;
    for (size_t i = 0; i < relays; i++) {
        sim_start(sim_add(w, SIM_RELAY));
    }
    return w;
}

static bool is_measured(sim *w, void *arg)
{
    const surveyor *s = arg;
    (void)w;
    return s->measure.state == MVPN_MEASURE_DONE;
}

/* ---- bandwidth ---- */

typedef struct measured {
    uint32_t kbit;
    mvpn_time took;
    uint64_t bytes;
    bool is_alive;
} measured;

static measured measure_one(uint64_t seed, uint64_t kbit, mvpn_time queue, uint32_t loss,
                            mvpn_time delay)
{
    sim *w = world_new(seed, 1);
    surveyor s;
    narrows[0] = (narrow){.to = w->node[0], .kbit = kbit, .queue = queue};
    narrow_count = 1;
    w->path.delay = delay;
    w->path.loss = loss; /* of the answers; the relay's link drops by itself */
    surveyor_start(&s, w);
    mvpn_time began = w->now;
    sim_current = s.node;
    mvpn_measure_start(&s.measure, &s.env, &w->node[0]->config.identity, true, w->now);
    sim_current = NULL;
    sim_touch(s.node);
    step(w, &s);
    CHECK(sim_run_until(w, is_measured, &s, MVPN_S(20)));
    measured m = {s.measure.result_kbit, w->now - began, s.measure.bytes, s.measure.is_alive};
    s.is_running = false;
    sim_for(w, MVPN_S(1));
    CHECK(sim_packets_in_use(s.node) == 0);
    sim_free(w);
    return m;
}

static void bandwidth(uint64_t seed)
{
    static const uint64_t rates[] = {1000, 3000, 10000, 50000, 100000, 300000};
    static const mvpn_time queues[] = {MVPN_MS(10), MVPN_MS(100), MVPN_MS(1000)};
    static const mvpn_time delays[] = {MVPN_MS(2), MVPN_MS(25), MVPN_MS(100)};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rates); i++) {
        for (size_t k = 0; k < MVPN_ARRAY_LEN(queues); k++) {
            measured m = measure_one(seed + i, rates[i], queues[k], 0, delays[(i + k) % 3]);
            check_context("%u kbit/s, queue %u ms, delay %u ms", (unsigned)rates[i],
                          (unsigned)(queues[k] / 1000), (unsigned)(delays[(i + k) % 3] / 1000));
            say("%6u kbit/s, queue %4u ms, delay %3u ms: %6u kbit/s, %.2f MB in %.2f s",
                (unsigned)rates[i], (unsigned)(queues[k] / 1000),
                (unsigned)(delays[(i + k) % 3] / 1000), (unsigned)m.kbit, (double)m.bytes / 1e6,
                (double)m.took / 1e6);
            CHECK(m.is_alive);
            CHECK(m.kbit * 2 >= rates[i] && m.kbit <= rates[i] * 2);
            CHECK(m.took < MVPN_S(8));
        }
    }
    measured m = measure_one(seed, 20000, MVPN_MS(50), 20000, MVPN_MS(25));
    check_context("20 Mbit/s, 2 %% lost");
    say(" 20000 kbit/s, 2 %% of answers lost: %u kbit/s", (unsigned)m.kbit);
    CHECK(m.kbit >= 10000 && m.kbit <= 40000);
}

/* A relay that is not there; one that refuses. */
static void silence(uint64_t seed)
{
    sim *w = world_new(seed, 1);
    surveyor s;
    surveyor_start(&s, w);
    sim_stop(w->node[0], false);
    mvpn_measure_start(&s.measure, &s.env, &w->node[0]->config.identity, true, w->now);
    sim_touch(s.node);
    step(w, &s);
    CHECK(sim_run_until(w, is_measured, &s, MVPN_S(20)));
    CHECK(!s.measure.is_alive && s.measure.result_kbit == 0);
    CHECK(s.measure.error == MVPN_E_TIMEOUT);
    mvpn_ed25519_pub nobody = {{1}};
    mvpn_measure_start(&s.measure, &s.env, &nobody, true, w->now);
    CHECK(s.measure.state == MVPN_MEASURE_DONE && s.measure.error == MVPN_E_UNKNOWN);
    s.is_running = false;
    sim_for(w, MVPN_MS(100));
    sim_free(w);
}

/* ---- the survey ---- */

static bool country_of(void *ctx, const mvpn_addr *addr, char ret[static 3])
{
    const mvpn_addr *foreign = ctx;
    memcpy(ret, mvpn_addr_eq(addr, foreign) ? "FR" : "DE", 3);
    return true;
}

static void survey_start(surveyor *s, sim *w, const mvpn_survey_config *wish)
{
    mvpn_survey_config c = *wish;
    c.env = s->env;
    c.identity = s->identity;
    c.secret = s->secret;
    c.has_membership = true;
    memcpy(c.membership, s->membership, sizeof(c.membership));
    c.unix_offset_us = (int64_t)SIM_UNIX * 1000000 - (int64_t)SIM_START;
    CHECK(mvpn_survey_new(&c, w->now, &s->survey) == 0);
}

static void survey_end(surveyor *s)
{
    s->is_running = false;
    sim_for(s->node->world, MVPN_MS(200));
    sim_current = s->node;
    mvpn_survey_free(s->survey, s->node->world->now);
    sim_current = NULL;
    s->survey = NULL;
    sim_touch(s->node);
    sim_for(s->node->world, MVPN_S(30)); /* links to nobody give up */
    CHECK(sim_packets_in_use(s->node) == 0);
}

static bool alive_is(const surveyor *s, const sim_node *n)
{
    const mvpn_survey_relay *r = mvpn_survey_find(s->survey, &n->config.identity);
    return r != NULL && mvpn_survey_relay_is_alive(r);
}

static void life_and_death(uint64_t seed)
{
    sim *w = world_new(seed, 12);
    surveyor s;
    surveyor_start(&s, w);
    survey_start(&s, w, &(mvpn_survey_config){.no_bandwidth = true});
    step(w, &s);
    sim_for(w, MVPN_S(30));
    CHECK(mvpn_survey_count(s.survey) == 12);
    CHECK(mvpn_survey_alive_count(s.survey) == 12);

    /* It dies without a word; one more begins anew, and its old link is worth nothing. */
    sim_stop(w->node[3], false);
    sim_stop(w->node[4], false);
    sim_start(w->node[4]);
    sim_for(w, MVPN_S(180));
    CHECK(!alive_is(&s, w->node[3]));
    CHECK(alive_is(&s, w->node[4]));
    CHECK(mvpn_survey_alive_count(s.survey) == 11);
    CHECK(mvpn_survey_get_counters(s.survey)->failures == 1); /* its second try was answered */
    const mvpn_survey_relay *r = mvpn_survey_find(s.survey, &w->node[3]->config.identity);
    CHECK(mvpn_survey_relay_uptime_h(r, SIM_UNIX + 100000) == 0);

    sim_start(w->node[3]);
    sim_for(w, MVPN_S(150));
    CHECK(alive_is(&s, w->node[3]));

    /* Our own network is gone for five minutes: nobody is declared dead. */
    for (size_t i = 0; i < 12; i++) {
        sim_cut(w, w->node[i], s.node, true);
    }
    sim_for(w, MVPN_S(300));
    CHECK(mvpn_survey_alive_count(s.survey) == 12);
    CHECK(mvpn_survey_get_counters(s.survey)->inconclusive > 0);
    for (size_t i = 0; i < 12; i++) {
        sim_cut(w, w->node[i], s.node, false);
    }
    sim_for(w, MVPN_S(200));
    CHECK(mvpn_survey_alive_count(s.survey) == 12);

    /* Hours of uptime in a row, and how often it asked. */
    uint64_t checks = mvpn_survey_get_counters(s.survey)->checks;
    sim_for(w, MVPN_S(3 * 3600));
    checks = mvpn_survey_get_counters(s.survey)->checks - checks;
    say("%u checks of 12 relays in 3 h", (unsigned)checks);
    CHECK(checks >= 12 * 90 && checks <= 12 * 130);
    r = mvpn_survey_find(s.survey, &w->node[3]->config.identity);
    uint64_t unix_now = SIM_UNIX + (w->now - SIM_START) / 1000000;
    CHECK(mvpn_survey_relay_uptime_h(r, unix_now) == 3);
    survey_end(&s);
    sim_free(w);
}

/* Bandwidth a few times a day, one at a time, and the median counts. */
static void measurements(uint64_t seed)
{
    sim *w = world_new(seed, 4);
    surveyor s;
    narrows[0] = (narrow){.to = w->node[0], .kbit = 8000, .queue = MVPN_MS(50)};
    narrows[1] = (narrow){.to = w->node[1], .kbit = 40000, .queue = MVPN_MS(50)};
    narrows[2] = (narrow){.to = w->node[2], .kbit = 80000, .queue = MVPN_MS(50)};
    narrows[3] = (narrow){.to = w->node[3], .kbit = 20000, .queue = MVPN_MS(50)};
    narrow_count = 4;
    surveyor_start(&s, w);
    survey_start(&s, w, &(mvpn_survey_config){.check_interval = MVPN_S(600)});
    step(w, &s);
    sim_for(w, MVPN_S(120));
    for (size_t i = 0; i < 4; i++) {
        const mvpn_survey_relay *r = mvpn_survey_find(s.survey, &w->node[i]->config.identity);
        uint32_t kbit = r == NULL ? 0 : mvpn_survey_relay_kbit(r);
        check_context("relay %u", (unsigned)i);
        say("relay %u: %u kbit/s", (unsigned)i, (unsigned)kbit);
        CHECK(kbit * 2 >= narrows[i].kbit && kbit <= narrows[i].kbit * 2);
    }
    CHECK(mvpn_survey_get_counters(s.survey)->measurements == 4);
    sim_for(w, MVPN_S(9 * 3600));
    uint64_t n = mvpn_survey_get_counters(s.survey)->measurements;
    say("%u measurements in 9 h", (unsigned)n);
    CHECK(n >= 8 && n <= 12);
    survey_end(&s);

    mvpn_survey_relay r = {.samples = 5, .kbit = {100, 1, 90000, 110, 120}};
    CHECK(mvpn_survey_relay_kbit(&r) == 110);
    r.samples = 2;
    CHECK(mvpn_survey_relay_kbit(&r) == 1); /* of two the lower */
    sim_free(w);
}

/* ---- snapshots ---- */

/* The list alone, without the name of who made it. */
static mvpn_bytes list_of(const surveyor *s)
{
    mvpn_bytes b = mvpn_survey_snapshot(s->survey, 0);
    return b.n < MVPN_SNAPSHOT_FIXED
               ? MVPN_BYTES_NONE
               : mvpn_bytes_of(b.p + MVPN_SNAPSHOT_FIXED, b.n - MVPN_SNAPSHOT_FIXED);
}

static void snapshots(uint64_t seed)
{
    sim *w = world_new(seed, 8);
    surveyor a, b;
    /* Two say that they are in Germany; the address of one is French. */
    for (size_t i = 5; i < 7; i++) {
        mvpn_descriptor *d = &w->node[i]->descriptor;
        memcpy(d->country, "DE", 3);
        CHECK(mvpn_descriptor_sign(d, &w->node[i]->secret, &w->network_id) == 0);
    }
    surveyor_start(&a, w);
    surveyor_start(&b, w);
    const mvpn_survey_config wish = {.no_bandwidth = true,
                                     .country = country_of,
                                     .country_ctx = &w->node[5]->descriptor.addresses[0].addr};
    survey_start(&a, w, &wish);
    survey_start(&b, w, &wish);
    sim_stop(w->node[2], false);
    step(w, &a);
    step(w, &b);
    sim_for(w, MVPN_S(60));
    const mvpn_snapshot_head *head = mvpn_survey_head(a.survey, 0);
    REQUIRE(head != NULL, return );
    CHECK(mvpn_survey_take_new(a.survey));
    CHECK(!mvpn_survey_take_new(a.survey));
    CHECK(head->entries == 8 && head->hour == SIM_UNIX / 3600);

    /* Who receives it accepts it. */
    mvpn_snapshot_head got;
    mvpn_record_info info;
    mvpn_trust trust = a.node->trust;
    mvpn_bytes encoded = mvpn_bytes_of(head->encoded, head->encoded_len);
    CHECK(mvpn_record_verify(&trust, MVPN_RECORD_SNAPSHOT_HEAD, encoded, SIM_UNIX, &info, NULL) ==
          0);
    CHECK(mvpn_snapshot_head_decode(&got, encoded, &w->network_id) == 0);
    CHECK(mvpn_snapshot_check(mvpn_survey_snapshot(a.survey, 0), &got) == 0);
    unsigned alive = 0, wrong = 0;
    for (size_t i = 0; i < head->entries; i++) {
        mvpn_snapshot_entry e;
        mvpn_snapshot_at(mvpn_survey_snapshot(a.survey, 0), i, &e);
        alive += (e.flags & MVPN_SNAPSHOT_ALIVE) != 0;
        wrong += (e.flags & MVPN_SNAPSHOT_COUNTRY_WRONG) != 0;
        CHECK(e.bandwidth_log2 == MVPN_SNAPSHOT_UNMEASURED && e.uptime_h == 0);
    }
    CHECK(alive == 7);
    CHECK(wrong == 1);

    /* The same knowledge, the same list; and never another one for this hour. */
    CHECK(list_of(&a).n == 8 * MVPN_SNAPSHOT_ENTRY_LEN && list_of(&a).n == list_of(&b).n);
    CHECK(list_of(&b).n > 0 && memcmp(list_of(&a).p, list_of(&b).p, list_of(&a).n) == 0);
    mvpn_key digest = head->digest;
    sim_start(w->node[2]);
    sim_for(w, MVPN_S(600));
    head = mvpn_survey_head(a.survey, 0);
    CHECK(mvpn_key_eq(&head->digest, &digest));
    CHECK(mvpn_survey_get_counters(a.survey)->snapshots == 1);
    sim_for(w, MVPN_S(3600));
    head = mvpn_survey_head(a.survey, 0);
    CHECK(head->hour == SIM_UNIX / 3600 + 1 && !mvpn_key_eq(&head->digest, &digest));
    CHECK(mvpn_key_eq(&mvpn_survey_head(a.survey, 1)->digest, &digest)); /* still served */

    /* Cut off from everybody, it says nothing about anybody. */
    for (size_t i = 0; i < 8; i++) {
        sim_cut(w, w->node[i], a.node, true);
    }
    sim_for(w, MVPN_S(2 * 3600));
    CHECK(mvpn_survey_head(a.survey, 0)->hour == SIM_UNIX / 3600 + 1);
    CHECK(mvpn_survey_head(b.survey, 0)->hour == SIM_UNIX / 3600 + 3);
    survey_end(&a);
    survey_end(&b);
    sim_free(w);
}

/* ---- the file ---- */

static uint8_t *save(const surveyor *s, size_t *ret_n)
{
    size_t size = mvpn_survey_save_size(s->survey);
    uint8_t *out = malloc(size);
    MVPN_ASSERT(out != NULL);
    CHECK(mvpn_survey_save(s->survey, out, size - 1) == 0);
    *ret_n = mvpn_survey_save(s->survey, out, size);
    CHECK(*ret_n == size);
    return out;
}

static void reload(surveyor *s, const uint8_t *bytes, size_t n, size_t *ret_count)
{
    survey_start(s, s->node->world, &(mvpn_survey_config){.no_bandwidth = true});
    *ret_count = mvpn_survey_load(s->survey, mvpn_bytes_of(bytes, n), s->node->world->now);
}

static void file(uint64_t seed)
{
    sim *w = world_new(seed, 5);
    surveyor s;
    size_t n, count;
    surveyor_start(&s, w);
    survey_start(&s, w, &(mvpn_survey_config){.must_save = true, .no_bandwidth = true});
    step(w, &s);
    sim_for(w, MVPN_S(60));
    /* Not shown to anybody before it is safe. */
    CHECK(mvpn_survey_wants_saving(s.survey));
    CHECK(mvpn_survey_head(s.survey, 0) == NULL && !mvpn_survey_take_new(s.survey));
    uint8_t *saved = save(&s, &n);
    mvpn_survey_saved(s.survey);
    CHECK(!mvpn_survey_wants_saving(s.survey));
    REQUIRE(mvpn_survey_head(s.survey, 0) != NULL, return );
    mvpn_key digest = mvpn_survey_head(s.survey, 0)->digest;
    uint64_t up_since = mvpn_survey_find(s.survey, &w->node[1]->config.identity)->up_since;
    survey_end(&s);

    /* After a restart it shows the same, although it knows something else by now. */
    reload(&s, saved, n, &count);
    CHECK(count == 5 && mvpn_survey_alive_count(s.survey) == 5);
    sim_stop(w->node[0], false);
    s.is_running = true;
    step(w, &s);
    sim_for(w, MVPN_S(300));
    CHECK(mvpn_survey_take_new(s.survey));
    CHECK(mvpn_key_eq(&mvpn_survey_head(s.survey, 0)->digest, &digest));
    CHECK(mvpn_survey_find(s.survey, &w->node[1]->config.identity)->up_since == up_since);
    CHECK(mvpn_survey_alive_count(s.survey) == 4);
    survey_end(&s);

    /* Cut off anywhere: the relays before the cut, and no second snapshot of this hour. */
    size_t last = 0;
    for (size_t cut = 0; cut <= n; cut++) {
        reload(&s, saved, cut, &count);
        CHECK(count >= last && count <= 5);
        last = count;
        if (cut >= 24 && cut % 97 == 0) {
            s.is_running = true;
            step(w, &s);
            sim_for(w, MVPN_S(45));
            const mvpn_snapshot_head *h = mvpn_survey_head(s.survey, 0);
            CHECK(h == NULL || mvpn_key_eq(&h->digest, &digest));
        }
        s.is_running = false;
        sim_for(w, MVPN_MS(60)); /* its last step */
        mvpn_survey_free(s.survey, w->now);
        s.survey = NULL;
        sim_touch(s.node);
    }
    CHECK(last == 5);

    /* Damaged anywhere: the relay that is hit is left out; before them, all may be. */
    for (size_t at = 0; at < n; at += 3) {
        saved[at] ^= 0x10;
        reload(&s, saved, n, &count);
        CHECK(at < n - 5 * 113 ? count == 0 || count == 5 : count == 4);
        const mvpn_snapshot_head *h = mvpn_survey_head(s.survey, 0);
        CHECK(h == NULL || mvpn_key_eq(&h->digest, &digest));
        mvpn_survey_free(s.survey, w->now);
        s.survey = NULL;
        saved[at] ^= 0x10;
    }
    sim_for(w, MVPN_S(5));
    free(saved);
    sim_free(w);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"bandwidth", bandwidth},       {"silence", silence},     {"life", life_and_death},
        {"measurements", measurements}, {"snapshots", snapshots}, {"file", file},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
