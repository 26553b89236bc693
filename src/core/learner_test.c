/*
 * How a client learns the network, in a world of its own: exchange, links and circuits are played
 * by the test, so that entries answer, lie, stay silent and drip as told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/error.h"
#include "core/directory.h"
#include "core/learner.h"
#include "core/testrecords.h"

#define RELAYS 30
#define ENTRIES 200
#define HOPS 3
#define STEP MVPN_MS(50)
#define PUBLISHED (TEST_NOW - 100)

/* ---- the world ---- */

enum manner {
    SILENT,    /* answers no ask */
    HONEST,    /* answers from a view */
    UNVOUCHED, /* answers, but nobody vouches for it */
    NO_LINK,   /* proves itself; its link never opens */
    MUTE,      /* its link opens; it answers nothing there */
    DRIPPING,  /* "more", for ever */
};

struct mvpn_link {
    unsigned entry;
    bool is_used, is_open, is_closed;
    unsigned holds;
};

typedef struct asked {
    bool is_waiting;
    uint64_t transaction;
    unsigned entry;
    mvpn_time at;
} asked;

typedef struct request {
    bool is_waiting;
    mvpn_link *link; /* or in a circuit */
    mvpn_circuit *circuit;
    unsigned hop;
    uint32_t id;
    unsigned command;
    size_t len;
    uint8_t body[1200];
} request;

static struct world {
    mvpn_rng rng;
    mvpn_packet_pool pool;
    test_network net;
    mvpn_view *ours, *theirs;
    mvpn_learner *l;
    mvpn_time now;
    enum manner manner[ENTRIES];
    unsigned asks[ENTRIES], pinned_asks[ENTRIES], opens[ENTRIES], sends[ENTRIES];
    unsigned hop_asks[HOPS + 1];
    uint64_t pong_time;
    asked ask[32];
    uint64_t transactions;
    mvpn_link link[64];
    request queue[256];
    unsigned queued;
    mvpn_learner_event last;
    unsigned worked, failed, swept;
    bool circuits_answer;
} w;

static mvpn_dht_contact entry_of(unsigned i)
{
    mvpn_dht_contact c = {
        .link_key = {{(uint8_t)i, (uint8_t)(i >> 8), 1}},
        .addr = {.family = 4, .port = 443, .ip = {60, (uint8_t)(i >> 8), (uint8_t)i, 1}}};
    mvpn_ed25519_pub identity = {{(uint8_t)i, (uint8_t)(i >> 8), 9}};
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

static unsigned number_of(const mvpn_dht_contact *c)
{
    return c->addr.ip[1] * 256u + c->addr.ip[2];
}

int mvpn_dht_exchange_ask(mvpn_dht_exchange *x, const mvpn_dht_contact *contact, bool is_pinned,
                          const mvpn_dht_request *r, mvpn_time now, uint64_t *ret_transaction)
{
    (void)x;
    assert_int_equal(r->command, MVPN_CMD_DHT_PING);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(w.ask); i++) {
        if (!w.ask[i].is_waiting) {
            unsigned n = number_of(contact);
            w.asks[n]++;
            w.pinned_asks[n] += is_pinned;
            *ret_transaction = ++w.transactions;
            w.ask[i] = (asked){true, w.transactions, n, now};
            return 0;
        }
    }
    return MVPN_E_LIMIT;
}

void mvpn_dht_exchange_forget(mvpn_dht_exchange *x, uint64_t transaction)
{
    (void)x;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(w.ask); i++) {
        if (w.ask[i].transaction == transaction) {
            w.ask[i].is_waiting = false;
        }
    }
}

bool mvpn_dht_exchange_pull_answer(mvpn_dht_exchange *x, mvpn_dht_exchange_answer *ret)
{
    (void)x;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(w.ask); i++) {
        asked *a = &w.ask[i];
        bool is_silent = w.manner[a->entry] == SILENT;
        if (!a->is_waiting || w.now < a->at + (is_silent ? MVPN_S(3) : MVPN_MS(50))) {
            continue;
        }
        *ret = (mvpn_dht_exchange_answer){
            .transaction = a->transaction,
            .contact = entry_of(a->entry),
            .identity = {{(uint8_t)a->entry, (uint8_t)(a->entry >> 8), 9}},
            .error = is_silent                         ? MVPN_E_TIMEOUT
                     : w.manner[a->entry] == UNVOUCHED ? MVPN_E_POLICY
                                                       : 0,
            .reply = {.command = MVPN_CMD_DHT_PONG, .time = w.pong_time}};
        a->is_waiting = false;
        return true;
    }
    return false;
}

int mvpn_links_open(mvpn_links *links, const mvpn_link_target *target, mvpn_time now,
                    mvpn_link **ret)
{
    (void)links;
    (void)now;
    unsigned n = target->addr.ip[1] * 256u + target->addr.ip[2];
    assert_int_equal(target->identity.b[2], 9); /* the one that was proven, nobody else */
    assert_int_equal(target->identity.b[0], n & 255);
    w.opens[n]++;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(w.link); i++) {
        if (!w.link[i].is_used) {
            w.link[i] = (mvpn_link){.is_used = true, .entry = n};
            *ret = &w.link[i];
            return 0;
        }
    }
    return MVPN_E_LIMIT;
}

void mvpn_link_hold(mvpn_link *link)
{
    link->holds++;
}

void mvpn_link_release(mvpn_link *link, mvpn_time now)
{
    (void)now;
    assert_true(link->holds > 0);
    link->holds--;
}

bool mvpn_link_is_held(const mvpn_link *link)
{
    return link->holds > 0;
}

bool mvpn_link_is_open(const mvpn_link *link)
{
    return link->is_open;
}

void mvpn_link_close(mvpn_link *link, uint8_t reason, mvpn_time now)
{
    (void)reason;
    (void)now;
    assert_int_equal(link->holds, 0); /* whoever holds it still needs it */
    link->is_used = false;
    link->is_open = false;
}

static void enqueue(request r, mvpn_packet *packet)
{
    assert_true(w.queued < MVPN_ARRAY_LEN(w.queue));
    r.len = packet->len;
    memcpy(r.body, packet->data, packet->len);
    mvpn_packet_free(&w.pool, packet);
    w.queue[w.queued++] = r;
}

int mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header, bool acked,
                   mvpn_time now)
{
    (void)acked;
    (void)now;
    assert_true(link->is_used && link->is_open);
    w.sends[link->entry]++;
    enqueue(
        (request){.link = link, .id = mvpn_load32(header->circuit.b), .command = header->command},
        packet);
    return 0;
}

int mvpn_circuit_ask(mvpn_circuit *c, unsigned hop, uint32_t id, unsigned command,
                     mvpn_packet *packet, mvpn_time now)
{
    (void)now;
    assert_in_range(hop, 1, c->path.count);
    w.hop_asks[hop]++;
    enqueue((request){.circuit = c, .hop = hop, .id = id, .command = command}, packet);
    return 0;
}

static void answer(const request *r, unsigned command, mvpn_bytes body)
{
    mvpn_packet *p = mvpn_packet_new(&w.pool);
    assert_non_null(p);
    memcpy(mvpn_packet_append(p, (uint32_t)body.n), body.p, body.n);
    if (r->link != NULL) {
        mvpn_header h = {.command = (uint16_t)command, .length = (uint16_t)body.n};
        mvpn_store32(h.circuit.b, r->id);
        mvpn_learner_message(w.l, r->link, &h, p, w.now);
    } else {
        mvpn_learner_answer(w.l, r->circuit, r->hop, r->id, command, p, w.now);
    }
}

static bool emit(void *ctx, unsigned command, mvpn_bytes body)
{
    answer(ctx, command, body);
    return true;
}

/* What a directory that drips says: always one more key, never the last. */
static void drip(const request *r)
{
    mvpn_dht_request q;
    mvpn_dht_reply m = {.command = MVPN_CMD_DHT_LISTED, .more = true, .listed_count = 1};
    uint8_t body[1200];
    assert_int_equal(mvpn_dht_request_decode(&q, r->command, mvpn_bytes_of(r->body, r->len)), 0);
    m.listed[0] = (mvpn_dht_listed){q.target, 1};
    size_t n = mvpn_dht_reply_encode(body, sizeof(body), &m);
    answer(r, MVPN_CMD_DHT_LISTED, mvpn_bytes_of(body, n));
}

static void answer_queue(void)
{
    static request now[MVPN_ARRAY_LEN(w.queue)];
    unsigned n = w.queued;
    memcpy(now, w.queue, n * sizeof(now[0]));
    w.queued = 0;
    for (unsigned i = 0; i < n; i++) {
        enum manner manner = now[i].link != NULL ? w.manner[now[i].link->entry]
                             : w.circuits_answer ? HONEST
                                                 : MUTE;
        if (now[i].link != NULL && !now[i].link->is_used) {
            continue; /* closed meanwhile */
        }
        if (manner == HONEST) {
            (void)mvpn_directory_answer(w.theirs, now[i].command,
                                        mvpn_bytes_of(now[i].body, now[i].len), MVPN_DHT_BODY_MAX,
                                        TEST_NOW, emit, &now[i]);
        } else if (manner == DRIPPING && now[i].command == MVPN_CMD_DHT_LIST) {
            drip(&now[i]);
        }
    }
}

static void open_links(void)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(w.link); i++) {
        mvpn_link *link = &w.link[i];
        if (link->is_used && !link->is_open && w.manner[link->entry] != NO_LINK) {
            link->is_open = true;
            mvpn_learner_link_opened(w.l, link, w.now);
        }
    }
}

static void take_events(void)
{
    mvpn_learner_event e;
    while (mvpn_learner_pull_event(w.l, &e)) {
        w.worked += e.type == MVPN_LEARNER_ENTRY_WORKED;
        w.failed += e.type == MVPN_LEARNER_ENTRY_FAILED;
        w.swept += e.type == MVPN_LEARNER_SWEPT;
        w.last = e;
    }
}

static void pass(mvpn_time span)
{
    for (mvpn_time until = w.now + span; w.now < until; w.now += STEP) {
        mvpn_ed25519_pub peer;
        int64_t offset;
        mvpn_learner_tick(w.l, w.now);
        (void)mvpn_learner_take_time(w.l, &peer, &offset);
        open_links();
        answer_queue();
        take_events();
    }
}

static unsigned sum(const unsigned *v)
{
    unsigned n = 0;
    for (unsigned i = 0; i < ENTRIES; i++) {
        n += v[i];
    }
    return n;
}

static void learner_start(int64_t unix_offset_us, bool allow_private)
{
    mvpn_learner_config c = {.rng = &w.rng,
                             .pool = &w.pool,
                             .view = w.ours,
                             .family = 4,
                             .allow_private = allow_private,
                             .unix_offset_us = unix_offset_us};
    mvpn_learner_free(w.l, w.now);
    assert_int_equal(mvpn_learner_new(&c, w.now, &w.l), 0);
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof(w));
    mvpn_rng_init_test(&w.rng, 5);
    test_network_make(&w.net, 1);
    mvpn_view_config vc = {.trust = &w.net.trust, .sample_key = {1}};
    int r = mvpn_view_new(&vc, &w.ours);
    r = r != 0 ? r : mvpn_view_new(&vc, &w.theirs);
    r = r != 0 ? r : mvpn_packet_pool_init(&w.pool, 64);
    for (unsigned i = 0; i < RELAYS; i++) {
        mvpn_descriptor d = test_relay(&w.net, i, 1);
        r = r != 0 ? r
                   : mvpn_view_put(w.theirs, MVPN_RECORD_DESCRIPTOR, test_record(&d),
                                   MVPN_VIEW_LOCAL, TEST_NOW);
    }
    w.now = MVPN_S(1000);
    w.pong_time = TEST_NOW;
    w.circuits_answer = true;
    learner_start((int64_t)(TEST_NOW * MVPN_US_PER_S) - (int64_t)w.now, false);
    return r;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_learner_free(w.l, w.now);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(w.link); i++) {
        if (w.link[i].holds > 0) {
            return -1;
        }
    }
    bool is_whole = w.pool.free_count == w.pool.size;
    mvpn_packet_pool_done(&w.pool);
    mvpn_view_free(w.ours);
    mvpn_view_free(w.theirs);
    return is_whole ? 0 : -1;
}

static void add(unsigned i, enum manner manner, bool is_pinned)
{
    mvpn_dht_contact c = entry_of(i);
    w.manner[i] = manner;
    mvpn_learner_add_entry(w.l, &c, is_pinned, w.now);
}

static mvpn_learner_status status(void)
{
    mvpn_learner_status s;
    mvpn_learner_get_status(w.l, &s);
    return s;
}

/* ---- entries ---- */

static void test_an_honest_entry(void **state)
{
    (void)state;
    add(1, HONEST, false);
    assert_false(mvpn_learner_is_ready(w.l));
    pass(MVPN_S(2));
    assert_true(mvpn_learner_is_ready(w.l));
    assert_int_equal(mvpn_view_count(w.ours), RELAYS);
    assert_int_equal(w.worked, 1);
    assert_int_equal(w.swept, 1);
    assert_int_equal(status().records_new, RELAYS);
    assert_false(w.link[0].is_used); /* nothing more is wanted of it */
    pass(MVPN_S(10));
    assert_int_equal(w.asks[1], 1);
}

/* Nobody vouches for it: it is asked who it is, ever more seldom, and nothing else. */
static void test_the_unvouched_get_no_link(void **state)
{
    (void)state;
    add(1, UNVOUCHED, true);
    add(2, UNVOUCHED, false);
    pass(MVPN_S(600));
    assert_int_equal(sum(w.opens), 0);
    assert_in_range(w.asks[1], 4, 12);
    assert_in_range(w.asks[2], 4, 12);
    assert_int_equal(w.last.type, MVPN_LEARNER_ENTRY_FAILED);
    assert_int_equal(w.last.error, MVPN_E_POLICY);
    assert_int_equal(mvpn_view_count(w.ours), 0);
    assert_false(mvpn_learner_is_ready(w.l));
    assert_int_equal(status().entries_failed, 2);
}

static void test_entries_that_fail_each_in_its_way(void **state)
{
    (void)state;
    add(1, SILENT, true);
    add(2, NO_LINK, true);
    add(3, MUTE, true);
    pass(MVPN_S(9));
    assert_true(w.failed >= 2);
    pass(MVPN_S(60));
    assert_true(w.asks[3] >= 1 && w.sends[3] >= 4 && w.sends[3] <= 64);
    assert_false(mvpn_learner_is_ready(w.l));
    assert_true(mvpn_learner_wants_entries(w.l, w.now) || w.asks[1] > 1);
    /* With a fourth that answers all is well. */
    add(4, HONEST, false);
    pass(MVPN_S(8));
    assert_true(mvpn_learner_is_ready(w.l));
}

/* Whoever names entries faster than others cannot keep those out, nor hold them up for long. */
static void test_a_flood_of_entries(void **state)
{
    (void)state;
    add(0, SILENT, true);
    pass(MVPN_S(4)); /* it has failed: the next to give way, were it not the user's own */
    for (unsigned i = 1; i < 150; i++) {
        add(i, SILENT, false);
    }
    assert_int_equal(status().entries, MVPN_LEARNER_ENTRIES_MAX);
    pass(MVPN_S(10));
    for (unsigned i = 100; i < 110; i++) {
        add(i, SILENT, false);
    }
    assert_int_equal(status().entries, MVPN_LEARNER_ENTRIES_MAX);
    w.asks[0] = 0;
    w.manner[0] = HONEST; /* the user's own is still there */
    pass(MVPN_S(30));
    assert_true(w.asks[0] > 0);
    assert_true(mvpn_learner_is_ready(w.l));
}

static void test_the_network_files_own_come_first(void **state)
{
    (void)state;
    for (unsigned i = 1; i < 64; i++) {
        add(i, SILENT, false);
    }
    add(64, SILENT, false);
    add(0, HONEST, true); /* there is no free place: one that was not asked yet gives way */
    pass(MVPN_S(2));
    assert_true(mvpn_learner_is_ready(w.l));
    assert_int_equal(w.pinned_asks[0], 1);
}

static void test_many_silent_ones_before_an_honest_one(void **state)
{
    (void)state;
    for (unsigned i = 1; i < 60; i++) {
        add(i, SILENT, false);
    }
    pass(MVPN_S(10));
    add(0, HONEST, false);
    pass(MVPN_S(25));
    assert_true(mvpn_learner_is_ready(w.l));
}

/* Three that keep us waiting do not hold up the fourth. */
static void test_slow_entries(void **state)
{
    (void)state;
    static const enum manner manners[] = {SILENT, NO_LINK, MUTE, DRIPPING};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(manners); i++) {
        assert_int_equal(i == 0 ? 0 : teardown(state), 0);
        assert_int_equal(i == 0 ? 0 : setup(state), 0);
        for (unsigned k = 1; k <= 3; k++) {
            add(k, manners[i], true);
        }
        pass(MVPN_MS(500));
        assert_int_equal(sum(w.asks), 3);
        add(4, HONEST, false);
        pass(MVPN_S(8));
        assert_true(mvpn_learner_is_ready(w.l));
        assert_int_equal(mvpn_view_count(w.ours), RELAYS);
    }
}

static void test_at_most_three_at_once(void **state)
{
    (void)state;
    for (unsigned i = 1; i < 30; i++) {
        add(i, HONEST, false);
    }
    mvpn_learner_tick(w.l, w.now);
    assert_int_equal(sum(w.asks), 3);
    /* Once something is known, the others are left alone. */
    pass(MVPN_S(10));
    assert_true(mvpn_learner_is_ready(w.l));
    assert_in_range(sum(w.asks), 3, 6);
}

/* An entry that a lesser source named first is the network file's all the same. */
static void test_named_twice(void **state)
{
    (void)state;
    add(1, SILENT, false);
    pass(MVPN_S(1));
    assert_int_equal(w.pinned_asks[1], 0);
    add(1, SILENT, true);
    add(1, SILENT, false);
    assert_int_equal(status().entries, 1);
    pass(MVPN_S(20));
    assert_true(w.pinned_asks[1] > 0);
}

static void test_entries_out_of_reach(void **state)
{
    (void)state;
    mvpn_dht_contact c = entry_of(1);
    c.addr.ip[0] = 10;
    mvpn_learner_add_entry(w.l, &c, true, w.now);
    c = entry_of(1);
    c.addr = (mvpn_addr){.family = 6, .port = 1, .ip = {0x2a, 1}};
    mvpn_learner_add_entry(w.l, &c, true, w.now);
    assert_int_equal(status().entries, 0);
    assert_true(mvpn_learner_wants_entries(w.l, w.now));
}

/* ---- while there is a session ---- */

static void test_connected_means_silence(void **state)
{
    (void)state;
    static const enum manner manners[] = {SILENT, NO_LINK, MUTE, HONEST, UNVOUCHED};
    for (unsigned after = 0; after < 8; after++) {
        assert_int_equal(after == 0 ? 0 : teardown(state), 0);
        assert_int_equal(after == 0 ? 0 : setup(state), 0);
        for (unsigned i = 0; i < MVPN_ARRAY_LEN(manners); i++) {
            add(i, manners[i], i % 2 == 0);
        }
        pass(after * MVPN_MS(50));
        mvpn_learner_set_connected(w.l, true, w.now);
        for (size_t i = 0; i < MVPN_ARRAY_LEN(w.ask); i++) {
            assert_false(w.ask[i].is_waiting); /* nor asked again by the exchange */
        }
        for (size_t i = 0; i < MVPN_ARRAY_LEN(w.link); i++) {
            assert_false(w.link[i].is_used);
        }
        w.queued = 0;
        unsigned asks = sum(w.asks), opens = sum(w.opens), sends = sum(w.sends);
        add(100, HONEST, true); /* a source that was late */
        assert_false(mvpn_learner_wants_entries(w.l, w.now));
        mvpn_learner_need_more(w.l, w.now);
        pass(MVPN_S(400));
        assert_int_equal(sum(w.asks), asks);
        assert_int_equal(sum(w.opens), opens);
        assert_int_equal(sum(w.sends), sends);
    }
}

/* A guard's link that happens to be the entry's stays. */
static void test_a_guards_link_stays(void **state)
{
    (void)state;
    add(1, MUTE, true);
    pass(MVPN_MS(300));
    assert_true(w.link[0].is_used && w.link[0].holds == 1);
    mvpn_link_hold(&w.link[0]);
    mvpn_learner_set_connected(w.l, true, w.now);
    assert_true(w.link[0].is_used);
    assert_int_equal(w.link[0].holds, 1);
    w.link[0].holds = 0;
}

static void test_lost_for_a_while(void **state)
{
    (void)state;
    add(1, HONEST, true);
    pass(MVPN_S(1));
    mvpn_learner_set_connected(w.l, true, w.now);
    pass(MVPN_S(60));
    mvpn_learner_set_connected(w.l, false, w.now);
    assert_false(mvpn_learner_wants_entries(w.l, w.now));
    pass(MVPN_S(14));
    assert_int_equal(w.asks[1], 1); /* a circuit that broke is no reason yet */
    pass(MVPN_S(10));
    assert_int_equal(w.asks[1], 2);
    pass(MVPN_S(300));
    assert_in_range(w.asks[1], 8, 13); /* every 30 s */
    /* With no path at all, at once. */
    mvpn_learner_set_connected(w.l, true, w.now);
    mvpn_learner_set_connected(w.l, false, w.now);
    unsigned before = w.asks[1];
    mvpn_learner_need_more(w.l, w.now);
    pass(MVPN_S(1) + MVPN_S(30));
    assert_true(w.asks[1] > before);
}

/* ---- strangers, and time ---- */

static void test_messages_of_strangers(void **state)
{
    (void)state;
    mvpn_link stranger = {.is_used = true, .is_open = true};
    uint8_t junk[40] = {1};
    add(1, MUTE, true);
    pass(MVPN_MS(300));
    for (unsigned i = 0; i < 1000; i++) {
        mvpn_packet *p = mvpn_packet_new(&w.pool);
        mvpn_header h = {.command = (uint16_t)(MVPN_CMD_DHT_PONG + i % 8)};
        assert_non_null(p);
        memcpy(mvpn_packet_append(p, sizeof(junk)), junk, sizeof(junk));
        mvpn_store32(h.circuit.b, i % 3 == 0 ? w.queue[0].id : i);
        mvpn_learner_message(w.l, i % 2 == 0 ? &stranger : &w.link[0], &h, p, w.now);
        mvpn_learner_link_closed(w.l, &stranger, w.now);
        mvpn_learner_link_opened(w.l, &stranger, w.now);
    }
    assert_int_equal(mvpn_view_count(w.ours), 0);
    assert_int_equal(w.failed, 0);
}

/* Its link closes under way: it has failed, and nothing of it is touched again. */
static void test_the_link_closes(void **state)
{
    (void)state;
    add(1, MUTE, true);
    pass(MVPN_MS(300));
    w.link[0].holds = 0;
    w.link[0].is_used = false;
    mvpn_learner_link_closed(w.l, &w.link[0], w.now);
    take_events();
    assert_int_equal(w.failed, 1);
    assert_int_equal(w.last.error, MVPN_E_TIMEOUT);
    pass(MVPN_S(1));
}

static void test_its_time(void **state)
{
    (void)state;
    static const uint64_t times[] = {
        TEST_NOW, TEST_NOW + 86400, 0, 1, UINT64_MAX, INT64_MAX, 0x8000000000000000u / 1000000 + 5};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(times); i++) {
        mvpn_ed25519_pub peer;
        int64_t offset = 7;
        assert_int_equal(i == 0 ? 0 : teardown(state), 0);
        assert_int_equal(i == 0 ? 0 : setup(state), 0);
        w.pong_time = times[i];
        add(1, HONEST, true);
        assert_false(mvpn_learner_take_time(w.l, &peer, &offset));
        mvpn_learner_tick(w.l, w.now);
        w.now += MVPN_MS(60);
        for (unsigned k = 0; k < 10; k++) { /* it waits until its time was taken */
            mvpn_learner_tick(w.l, w.now);
            assert_int_equal(sum(w.opens), 0);
        }
        assert_true(mvpn_learner_take_time(w.l, &peer, &offset));
        assert_int_equal(peer.b[0], 1);
        uint64_t time = MVPN_MIN(times[i], UINT64_C(1) << 40);
        assert_true(offset == (int64_t)(time * MVPN_US_PER_S) - (int64_t)w.now);
        assert_false(mvpn_learner_take_time(w.l, &peer, &offset));
        mvpn_learner_tick(w.l, w.now);
        assert_int_equal(sum(w.opens), 1);
    }
}

/* A clock before 1970 does not leave times unchecked. */
static void test_no_time_at_all(void **state)
{
    (void)state;
    static const mvpn_time before[] = {0, MVPN_S(5000)};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(before); i++) {
        learner_start(-(int64_t)w.now - (int64_t)before[i], false);
        add(1, HONEST, true);
        pass(MVPN_MS(900));
        assert_true(w.sends[1] > 4); /* records came */
        assert_int_equal(mvpn_view_count(w.ours), 0);
    }
}

/* ---- circuits ---- */

static mvpn_circuit circuit_of(unsigned guard)
{
    mvpn_circuit c = {.state = MVPN_CIRCUIT_RELAY};
    c.path.count = HOPS;
    for (unsigned i = 0; i < HOPS; i++) {
        c.path.hop[i] = mvpn_view_at(w.theirs, (guard + i) % RELAYS)->identity;
    }
    return c;
}

static void connect(void)
{
    add(1, HONEST, true);
    pass(MVPN_S(1));
    mvpn_learner_set_connected(w.l, true, w.now);
    w.swept = 0;
    w.queued = 0;
}

static void offer(mvpn_circuit *c, mvpn_time span)
{
    for (mvpn_time until = w.now + span; w.now < until;) {
        mvpn_learner_offer_circuit(w.l, c, w.now);
        pass(STEP);
    }
}

static void test_hops_are_asked_but_not_the_guard(void **state)
{
    (void)state;
    connect();
    for (unsigned i = 0; i < 12; i++) {
        mvpn_circuit c = circuit_of(3 * i);
        offer(&c, MVPN_S(60));
        mvpn_learner_circuit_closed(w.l, &c);
    }
    assert_int_equal(w.hop_asks[1], 0);
    assert_true(w.hop_asks[2] > 0 && w.hop_asks[3] > 0);
    assert_true(w.last.over_circuit);
    /* Three soon, then one in two minutes. */
    assert_in_range(w.swept, 3 + 4, 3 + 8);
}

/* What is new to a hop comes within a sweep or two. */
static void test_sweeps_go_on(void **state)
{
    (void)state;
    connect();
    mvpn_circuit c = circuit_of(0), d = circuit_of(10);
    offer(&c, MVPN_S(2));
    offer(&d, MVPN_S(30));
    mvpn_descriptor one = test_relay(&w.net, RELAYS + 1, 1);
    assert_int_equal(mvpn_view_put(w.theirs, MVPN_RECORD_DESCRIPTOR, test_record(&one),
                                   MVPN_VIEW_LOCAL, TEST_NOW),
                     0);
    offer(&d, MVPN_S(155));
    assert_int_equal(mvpn_view_count(w.ours), RELAYS + 1);
}

/* Soon after connecting, other operators are asked: the same hops again only if there is nobody. */
static void test_several_operators_at_first(void **state)
{
    (void)state;
    connect();
    mvpn_circuit c = circuit_of(0);
    mvpn_learner_offer_circuit(w.l, &c, w.now);
    pass(MVPN_S(1));
    offer(&c, MVPN_MS(1500));
    assert_int_equal(w.swept, 2);
    assert_true(w.hop_asks[2] > 0 && w.hop_asks[3] > 0);
}

/* Of all circuits the one with a hop that was not asked yet, in whatever order they are offered. */
static void test_new_hops_first(void **state)
{
    (void)state;
    connect();
    mvpn_circuit old = circuit_of(0), fresh = circuit_of(9);
    offer(&old, MVPN_S(300)); /* all of its hops were asked */
    assert_true(w.swept >= 4);
    offer(&old, MVPN_S(30));
    w.circuits_answer = false;
    w.queued = 0;
    for (unsigned i = 0; i < 4000 && w.queued == 0; i++) {
        mvpn_learner_offer_circuit(w.l, &old, w.now);
        mvpn_learner_offer_circuit(w.l, &fresh, w.now);
        mvpn_learner_tick(w.l, w.now);
        w.now += STEP;
    }
    assert_int_equal(w.queued, 4);
    assert_ptr_equal(w.queue[0].circuit, &fresh);
    mvpn_learner_circuit_closed(w.l, &fresh);
    /* With nobody new, anybody does. */
    w.queued = 0;
    for (unsigned i = 0; i < 100 && w.queued == 0; i++) {
        mvpn_learner_offer_circuit(w.l, &old, w.now);
        mvpn_learner_tick(w.l, w.now);
        w.now += STEP;
    }
    assert_int_equal(w.queued, 4);
    mvpn_learner_circuit_closed(w.l, &old);
}

static void test_a_hop_that_says_nothing(void **state)
{
    (void)state;
    connect();
    mvpn_circuit c = circuit_of(0);
    w.circuits_answer = false;
    offer(&c, MVPN_S(120));
    assert_int_equal(w.swept, 0);
    assert_in_range(status().sweeps_failed, 3, 12);
    assert_true(w.hop_asks[2] + w.hop_asks[3] < 12 * 17);
    /* It counts for nothing: others are asked at once. */
    w.circuits_answer = true;
    offer(&c, MVPN_S(30));
    assert_true(w.swept >= 1);
}

/* Answers from elsewhere, or to nothing, are dropped. */
static void test_answers_of_strangers(void **state)
{
    (void)state;
    connect();
    mvpn_circuit c = circuit_of(0), other = circuit_of(6);
    mvpn_view *theirs = w.theirs;
    w.circuits_answer = false;
    mvpn_learner_offer_circuit(w.l, &c, w.now);
    mvpn_learner_tick(w.l, w.now);
    assert_int_equal(w.queued, 4);
    unsigned hop = w.queue[0].hop;
    request good[4];
    memcpy(good, w.queue, sizeof(good));
    w.queued = 0;
    for (unsigned i = 0; i < 4; i++) {
        request r = good[i];
        r.circuit = &other;
        emit(&r, MVPN_CMD_DHT_ERROR, MVPN_BYTES_LITERAL("\1"));
        r = good[i];
        r.hop = hop == 2 ? 3 : 2;
        emit(&r, MVPN_CMD_DHT_ERROR, MVPN_BYTES_LITERAL("\1"));
        r = good[i];
        r.id++;
        emit(&r, MVPN_CMD_DHT_ERROR, MVPN_BYTES_LITERAL("\1"));
    }
    mvpn_learner_tick(w.l, w.now);
    assert_int_equal(status().sweeps_failed, 0);
    /* The right ones count. */
    for (unsigned i = 0; i < 4; i++) {
        (void)mvpn_directory_answer(theirs, good[i].command,
                                    mvpn_bytes_of(good[i].body, good[i].len), MVPN_DHT_BODY_MAX,
                                    TEST_NOW, emit, &good[i]);
    }
    w.circuits_answer = true;
    pass(MVPN_S(1));
    assert_int_equal(w.swept, 1);
}

/* The circuit goes under way; answers that still come find nobody. */
static void test_the_circuit_closes(void **state)
{
    (void)state;
    connect();
    mvpn_circuit c = circuit_of(0);
    w.circuits_answer = false;
    mvpn_learner_offer_circuit(w.l, &c, w.now);
    mvpn_learner_tick(w.l, w.now);
    request r = w.queue[0];
    w.queued = 0;
    mvpn_learner_circuit_closed(w.l, &c);
    assert_int_equal(status().sweeps_failed, 1);
    emit(&r, MVPN_CMD_DHT_LISTED, MVPN_BYTES_LITERAL("\0\0\0\0\0"));
    pass(MVPN_S(10));
    assert_int_equal(w.queued, 0);
    assert_int_equal(w.swept, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_an_honest_entry),
        TEST(test_the_unvouched_get_no_link),
        TEST(test_entries_that_fail_each_in_its_way),
        TEST(test_a_flood_of_entries),
        TEST(test_the_network_files_own_come_first),
        TEST(test_many_silent_ones_before_an_honest_one),
        TEST(test_slow_entries),
        TEST(test_at_most_three_at_once),
        TEST(test_named_twice),
        TEST(test_entries_out_of_reach),
        TEST(test_connected_means_silence),
        TEST(test_a_guards_link_stays),
        TEST(test_lost_for_a_while),
        TEST(test_messages_of_strangers),
        TEST(test_the_link_closes),
        TEST(test_its_time),
        TEST(test_no_time_at_all),
        TEST(test_hops_are_asked_but_not_the_guard),
        TEST(test_sweeps_go_on),
        TEST(test_several_operators_at_first),
        TEST(test_new_hops_first),
        TEST(test_a_hop_that_says_nothing),
        TEST(test_answers_of_strangers),
        TEST(test_the_circuit_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
