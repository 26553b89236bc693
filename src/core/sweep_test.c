/*
 * A sweep against a real directory answering from a view, with messages lost on the way.
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
#include "core/sweep.h"
#include "core/testrecords.h"
#include "crypto/x25519.h"
#include "wire/message.h"

#define NOW 1800000000u
#define RELAYS 150

typedef struct fixture {
    mvpn_rng rng;
    mvpn_trust trust;
    mvpn_view *theirs, *ours;
    mvpn_packet_pool pool;
    sweep *s;
    uint32_t loss; /* per cent, both ways */
    uint32_t id;   /* of the request being answered */
    mvpn_time now;
    unsigned requests, replies;
} fixture;

static mvpn_view *make_view(fixture *f)
{
    mvpn_view_config c = {.trust = &f->trust};
    mvpn_view *v;
    mvpn_rng_bytes(&f->rng, c.sample_key, sizeof(c.sample_key));
    assert_int_equal(mvpn_view_new(&c, &v), 0);
    return v;
}

static void add_relay(fixture *f, mvpn_view *view, unsigned i)
{
    mvpn_ed25519_secret secret;
    mvpn_x25519_pair link;
    mvpn_descriptor d = {.sequence = 1, .published = NOW - 10, .expires = NOW + 10000};
    mvpn_ed25519_generate(&d.identity, &secret, &f->rng);
    mvpn_x25519_generate(&link, &f->rng);
    mvpn_link_certificate_make(d.link_certificate, &secret, &d.identity, &link.pub, NOW - 10,
                               NOW + 10000, &f->trust.network_id);
    d.onion_key_count = 1;
    d.onion_keys[0] = (mvpn_onion_key){1, link.pub};
    d.address_count = 1;
    d.addresses[0] = (mvpn_descriptor_address){
        MVPN_CARRIER_PLAIN,
        {.family = 4, .port = 443, .ip = {45, (uint8_t)(i >> 8), (uint8_t)i, 1}}};
    d.roles = MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE;
    assert_int_equal(mvpn_descriptor_sign(&d, &secret, &f->trust.network_id), 0);
    assert_int_equal(mvpn_view_put(view, MVPN_RECORD_DESCRIPTOR,
                                   mvpn_bytes_of(d.encoded, d.encoded_len), MVPN_VIEW_LOCAL, NOW),
                     0);
}

static void begin(fixture *f, unsigned relays, uint32_t loss)
{
    memset(f, 0, sizeof(*f));
    mvpn_rng_init_test(&f->rng, 9);
    mvpn_rng_bytes(&f->rng, f->trust.network_pub.b, 32);
    mvpn_network_id(&f->trust.network_id, &f->trust.network_pub);
    f->theirs = make_view(f);
    f->ours = make_view(f);
    f->loss = loss;
    f->now = MVPN_S(10);
    for (unsigned i = 0; i < relays; i++) {
        add_relay(f, f->theirs, i);
    }
    assert_int_equal(mvpn_packet_pool_init(&f->pool, 64), 0);
    f->s = sweep_new(&(sweep_env){&f->rng, &f->pool, f->ours}, 77, f->now);
    assert_non_null(f->s);
}

static void end(fixture *f)
{
    sweep_free(f->s);
    assert_int_equal(f->pool.free_count, f->pool.size); /* nothing was kept */
    mvpn_packet_pool_done(&f->pool);
    mvpn_view_free(f->theirs);
    mvpn_view_free(f->ours);
}

static bool is_lost(fixture *f)
{
    return mvpn_rng_below(&f->rng, 100) < f->loss;
}

static bool deliver(void *ctx, unsigned command, mvpn_bytes body)
{
    fixture *f = ctx;
    assert_true(body.n <= MVPN_DHT_BODY_MAX);
    f->replies++;
    if (!is_lost(f)) {
        sweep_reply(f->s, f->id, command, body, NOW, f->now);
    }
    return true;
}

static enum sweep_result run(fixture *f, mvpn_time span)
{
    mvpn_time until = f->now + span;
    sweep_request q;
    while (sweep_result_of(f->s, f->now) == SWEEP_GOING && f->now < until) {
        while (sweep_pull(f->s, f->now, &q)) {
            f->requests++;
            f->id = q.id;
            if (!is_lost(f)) {
                (void)mvpn_directory_answer(f->theirs, q.command,
                                            mvpn_bytes_of(q.packet->data, q.packet->len),
                                            MVPN_DHT_BODY_MAX, NOW, deliver, f);
            }
            mvpn_packet_free(&f->pool, q.packet);
        }
        f->now += MVPN_MS(100);
    }
    return sweep_result_of(f->s, f->now);
}

static void learns_all(void **state)
{
    fixture f;
    (void)state;
    begin(&f, RELAYS, 0);
    assert_int_equal(run(&f, MVPN_S(5)), SWEEP_DONE);
    assert_int_equal(mvpn_view_count(f.ours), RELAYS);
    assert_int_equal(sweep_records(f.s), RELAYS);
    assert_in_range(f.requests, 4, 4 * 3 + RELAYS / 24 + 4);
    sweep_free(f.s);

    /* Again: a list, and nothing to fetch. */
    f.s = sweep_new(&(sweep_env){&f.rng, &f.pool, f.ours}, 78, f.now);
    f.requests = 0;
    assert_int_equal(run(&f, MVPN_S(5)), SWEEP_DONE);
    assert_int_equal(sweep_records(f.s), 0);
    assert_in_range(f.requests, 4, 12);
    end(&f);
}

static void survives_loss(void **state)
{
    fixture f;
    (void)state;
    begin(&f, RELAYS, 20);
    assert_int_equal(run(&f, MVPN_S(100)), SWEEP_DONE);
    assert_in_range(mvpn_view_count(f.ours), RELAYS * 98 / 100, RELAYS);
    end(&f);
}

static void gives_up_on_silence(void **state)
{
    fixture f;
    (void)state;
    begin(&f, 3, 100);
    assert_int_equal(run(&f, MVPN_S(60)), SWEEP_FAILED);
    assert_in_range(f.requests, 4, 16);
    end(&f);
}

/* A directory that answers every List with "more" and keys that do not move on. */
static void list_without_end(void **state)
{
    fixture f;
    sweep_request q;
    mvpn_dht_reply m = {.command = MVPN_CMD_DHT_LISTED, .more = true, .total = 1000000};
    uint8_t body[MVPN_DHT_BODY_MAX];
    (void)state;
    begin(&f, 0, 0);
    for (unsigned rounds = 0; rounds < 100000 && sweep_result_of(f.s, f.now) == SWEEP_GOING;
         rounds++) {
        while (sweep_pull(f.s, f.now, &q)) {
            mvpn_dht_request r;
            f.requests++;
            assert_int_equal(mvpn_dht_request_decode(&r, q.command,
                                                     mvpn_bytes_of(q.packet->data, q.packet->len)),
                             0);
            mvpn_packet_free(&f.pool, q.packet);
            m.listed_count = r.command == MVPN_CMD_DHT_LIST ? 1 : 0;
            m.listed[0].key = r.target;
            m.listed[0].key.b[0] = r.target.b[0];
            m.listed[0].key.b[19] = 0; /* behind the cursor, sooner or later */
            m.listed[0].sequence = 5;
            size_t n = mvpn_dht_reply_encode(body, sizeof(body), &m);
            sweep_reply(f.s, q.id, MVPN_CMD_DHT_LISTED, mvpn_bytes_of(body, n), NOW, f.now);
        }
        f.now += MVPN_MS(100);
    }
    assert_int_not_equal(sweep_result_of(f.s, f.now), SWEEP_GOING);
    assert_in_range(f.requests, 4, 2000);
    end(&f);
}

/* Answers to nothing, of other requests, of other kinds, damaged ones: nothing happens. */
static void ignores_strangers(void **state)
{
    fixture f;
    sweep_request q;
    uint8_t junk[64];
    (void)state;
    begin(&f, 20, 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(sweep_pull(f.s, f.now, &q));
        mvpn_packet_free(&f.pool, q.packet);
        for (unsigned command = 0; command < 0x40; command++) {
            mvpn_rng_bytes(&f.rng, junk, sizeof(junk));
            sweep_reply(f.s, q.id + 1, command, MVPN_BYTES_ARRAY(junk), NOW, f.now);
            if (command != MVPN_CMD_DHT_ERROR) {
                sweep_reply(f.s, q.id, command, mvpn_bytes_of(junk, 3), NOW, f.now);
            }
        }
    }
    assert_int_equal(run(&f, MVPN_S(20)), SWEEP_DONE);
    assert_int_equal(mvpn_view_count(f.ours), 20);
    end(&f);
}

/* Pages of fresh keys for ever: the list ends all the same, whatever the clock says. */
static void list_that_goes_on(void **state)
{
    (void)state;
    for (unsigned per_page = 1; per_page <= MVPN_DHT_LISTED_MAX; per_page += 40) {
        fixture f;
        sweep_request q;
        mvpn_dht_reply m = {.command = MVPN_CMD_DHT_LISTED, .more = true};
        uint8_t body[MVPN_DHT_BODY_MAX];
        unsigned lists = 0;
        begin(&f, 0, 0);
        for (bool is_listing = true; is_listing;) {
            is_listing = false;
            while (sweep_pull(f.s, f.now, &q)) {
                mvpn_dht_request r;
                assert_int_equal(mvpn_dht_request_decode(
                                     &r, q.command, mvpn_bytes_of(q.packet->data, q.packet->len)),
                                 0);
                mvpn_packet_free(&f.pool, q.packet);
                if (q.command != MVPN_CMD_DHT_LIST) {
                    continue;
                }
                is_listing = true;
                assert_true(++lists < 4100);
                m.listed_count = per_page;
                for (unsigned i = 0; i < per_page; i++) {
                    m.listed[i].key = r.target;
                    m.listed[i].key.b[8] = (uint8_t)(r.target.b[8] + (r.target.b[9] + i) / 256);
                    m.listed[i].key.b[9] = (uint8_t)(r.target.b[9] + i);
                    m.listed[i].sequence = 5;
                }
                if (m.listed[0].key.b[8] > 200) { /* on, before it wraps */
                    for (unsigned i = 0; i < per_page; i++) {
                        m.listed[i].key.b[7]++;
                        m.listed[i].key.b[8] = (uint8_t)(m.listed[i].key.b[8] - 200);
                    }
                }
                size_t n = mvpn_dht_reply_encode(body, sizeof(body), &m);
                assert_true(n > 0);
                sweep_reply(f.s, q.id, MVPN_CMD_DHT_LISTED, mvpn_bytes_of(body, n), NOW, f.now);
            }
        }
        assert_in_range(lists, per_page == 1 ? 4000 : 480, per_page == 1 ? 4000 : 520);
        end(&f);
    }
}

/* Bring the sweep to its Fetch: one relay is listed, the request for it is returned. */
static sweep_request to_fetch(fixture *f, const mvpn_dht_id *key)
{
    sweep_request q;
    mvpn_dht_reply m = {.command = MVPN_CMD_DHT_LISTED};
    uint8_t body[MVPN_DHT_BODY_MAX];
    for (unsigned i = 0; i < 4; i++) {
        assert_true(sweep_pull(f->s, f->now, &q));
        assert_int_equal(q.command, MVPN_CMD_DHT_LIST);
        m.listed_count = key->b[0] >> 6 == i ? 1 : 0;
        m.listed[0] = (mvpn_dht_listed){*key, 1};
        size_t n = mvpn_dht_reply_encode(body, sizeof(body), &m);
        mvpn_packet_free(&f->pool, q.packet);
        sweep_reply(f->s, q.id, MVPN_CMD_DHT_LISTED, mvpn_bytes_of(body, n), NOW, f->now);
    }
    assert_true(sweep_pull(f->s, f->now, &q));
    assert_int_equal(q.command, MVPN_CMD_DHT_FETCH);
    mvpn_packet_free(&f->pool, q.packet);
    return q;
}

static void give_fetched(fixture *f, uint32_t id, mvpn_bytes record, bool more)
{
    uint8_t body[MVPN_DHT_BODY_MAX] = {more};
    size_t len = 1;
    if (record.n > 0) {
        assert_true(
            mvpn_dht_fetched_append(body, sizeof(body), &len, MVPN_RECORD_DESCRIPTOR, record) == 0);
    }
    sweep_reply(f->s, id, MVPN_CMD_DHT_FETCHED, mvpn_bytes_of(body, len), NOW, f->now);
}

/* A record that is nobody's ends the sweep: each costs us two signatures. */
static void forged_record(void **state)
{
    fixture f;
    uint8_t forged[MVPN_DESCRIPTOR_MAX];
    (void)state;
    begin(&f, 1, 0);
    const mvpn_descriptor *d = mvpn_view_at(f.theirs, 0);
    mvpn_dht_id key;
    mvpn_record_key(key.b, &f.trust.network_id, &d->identity);
    memcpy(forged, d->encoded, d->encoded_len);
    forged[d->encoded_len - 1] ^= 1;
    sweep_request q = to_fetch(&f, &key);
    give_fetched(&f, q.id, mvpn_bytes_of(forged, d->encoded_len), true);
    assert_int_equal(sweep_result_of(f.s, f.now), SWEEP_FAILED);
    assert_false(sweep_pull(f.s, f.now, &q));
    assert_int_equal(mvpn_view_count(f.ours), 0);
    end(&f);

    /* One that has merely expired, or that we hold already, is no offence. */
    begin(&f, 1, 0);
    d = mvpn_view_at(f.theirs, 0);
    mvpn_record_key(key.b, &f.trust.network_id, &d->identity);
    q = to_fetch(&f, &key);
    give_fetched(&f, q.id, mvpn_bytes_of(d->encoded, d->encoded_len), true);
    give_fetched(&f, q.id, mvpn_bytes_of(d->encoded, d->encoded_len), true);
    assert_int_equal(sweep_result_of(f.s, f.now), SWEEP_GOING);
    assert_int_equal(sweep_records(f.s), 1);
    end(&f);
}

/* "More" for ever: a request is over after as many replies as an honest directory sends. */
static void fetched_without_end(void **state)
{
    fixture f;
    mvpn_dht_id key = {{1}};
    unsigned replies = 0, requests = 1;
    (void)state;
    begin(&f, 0, 0);
    sweep_request q = to_fetch(&f, &key);
    while (sweep_result_of(f.s, f.now) == SWEEP_GOING) {
        give_fetched(&f, q.id, MVPN_BYTES_NONE, true);
        assert_true(++replies < 1000);
        sweep_request next;
        if (sweep_pull(f.s, f.now, &next)) {
            mvpn_packet_free(&f.pool, next.packet);
            q = next;
            requests++;
        }
    }
    assert_int_equal(sweep_result_of(f.s, f.now), SWEEP_DONE);
    assert_int_equal(requests, 4);
    assert_int_equal(replies, 4 * MVPN_DIRECTORY_REPLIES_MAX);
    end(&f);
}

/* It refuses everything: that is no sweep, and what was empty stays so. */
static void refuses(void **state)
{
    fixture f;
    sweep_request q;
    (void)state;
    begin(&f, 3, 0);
    uint32_t ids[4];
    for (unsigned i = 0; i < 4; i++) {
        assert_true(sweep_pull(f.s, f.now, &q));
        mvpn_packet_free(&f.pool, q.packet);
        ids[i] = q.id;
    }
    for (unsigned i = 0; i < 4; i++) {
        sweep_reply(f.s, ids[i], MVPN_CMD_DHT_ERROR, MVPN_BYTES_LITERAL("\2"), NOW, f.now);
    }
    assert_int_equal(sweep_result_of(f.s, f.now), SWEEP_FAILED);
    assert_false(sweep_pull(f.s, f.now, &q));
    end(&f);
}

/* A list that leads out of the part that was asked for ends that part. */
static void list_of_another_part(void **state)
{
    fixture f;
    sweep_request q;
    mvpn_dht_reply m = {.command = MVPN_CMD_DHT_LISTED, .more = true, .listed_count = 1};
    uint8_t body[MVPN_DHT_BODY_MAX];
    unsigned lists = 0;
    (void)state;
    begin(&f, 0, 0);
    memset(m.listed[0].key.b, 0xff, sizeof(m.listed[0].key.b));
    m.listed[0].key.b[0] = 0xbf; /* the third */
    m.listed[0].key.b[19] = 0xf0;
    while (sweep_pull(f.s, f.now, &q)) {
        mvpn_packet_free(&f.pool, q.packet);
        if (q.command == MVPN_CMD_DHT_LIST && ++lists < 100) {
            size_t n = mvpn_dht_reply_encode(body, sizeof(body), &m);
            sweep_reply(f.s, q.id, MVPN_CMD_DHT_LISTED, mvpn_bytes_of(body, n), NOW, f.now);
        }
    }
    assert_in_range(lists, 4, 5); /* the third is that key's own */
    end(&f);
}

/* The answer of another phase is none. */
static void list_instead_of_records(void **state)
{
    fixture f;
    mvpn_dht_id key;
    (void)state;
    begin(&f, 1, 0);
    const mvpn_descriptor *d = mvpn_view_at(f.theirs, 0);
    mvpn_record_key(key.b, &f.trust.network_id, &d->identity);
    sweep_request q = to_fetch(&f, &key);
    sweep_reply(f.s, q.id, MVPN_CMD_DHT_LISTED, MVPN_BYTES_LITERAL("\0\0\0\0\0"), NOW, f.now);
    sweep_reply(f.s, q.id, MVPN_CMD_DHT_BLOB_PART, MVPN_BYTES_LITERAL("\0\0\0\0\0\0\0\0"), NOW,
                f.now);
    assert_int_equal(sweep_result_of(f.s, f.now), SWEEP_GOING);
    give_fetched(&f, q.id, mvpn_bytes_of(d->encoded, d->encoded_len), false);
    assert_int_equal(sweep_result_of(f.s, f.now), SWEEP_DONE);
    assert_int_equal(sweep_records(f.s), 1);
    end(&f);
}

/* A directory that answers, but a little at a time. */
static void drips(void **state)
{
    fixture f;
    mvpn_dht_id key = {{1}};
    sweep_request again;
    (void)state;
    begin(&f, 0, 0);
    mvpn_time start = f.now;
    sweep_request q = to_fetch(&f, &key);
    while (sweep_result_of(f.s, f.now) == SWEEP_GOING) {
        assert_true(f.now - start < MVPN_S(125));
        give_fetched(&f, q.id, MVPN_BYTES_NONE, true);
        if (sweep_pull(f.s, f.now, &again)) {
            mvpn_packet_free(&f.pool, again.packet);
            q = again;
        }
        f.now += MVPN_S(1);
    }
    assert_int_equal(sweep_result_of(f.s, f.now), SWEEP_FAILED);
    assert_in_range(f.now - start, MVPN_S(120), MVPN_S(122));
    end(&f);
}

/* ---- snapshots ---- */

typedef struct blob {
    fixture f;
    test_network net;
    test_snapshot snapshot;
    sweep_request q;
} blob;

/* A closed network; our view has the head of a discovery node, and the sweep comes to its Blob. */
static void blob_begin(blob *b, unsigned relays)
{
    fixture *f = &b->f;
    sweep_request q;
    static const uint8_t nothing[] = {0, 0, 0, 0, 0};
    memset(b, 0, sizeof(*b));
    test_network_make(&b->net, 1);
    mvpn_rng_init_test(&f->rng, 9);
    f->trust = b->net.trust;
    f->theirs = make_view(f);
    f->ours = make_view(f);
    f->now = MVPN_S(10);
    assert_int_equal(mvpn_packet_pool_init(&f->pool, 64), 0);
    for (unsigned i = 0; i < relays; i++) {
        mvpn_descriptor d = test_relay(&b->net, i, 1);
        test_snapshot_add(&b->net, &b->snapshot, &d);
    }
    test_snapshot_sign(&b->net, &b->snapshot, 0, TEST_HOUR);
    assert_int_equal(mvpn_view_put(f->ours, MVPN_RECORD_SNAPSHOT_HEAD,
                                   test_head_record(&b->snapshot), 5, TEST_NOW),
                     0);
    f->s = sweep_new(&(sweep_env){&f->rng, &f->pool, f->ours}, 77, f->now);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(sweep_pull(f->s, f->now, &q));
        mvpn_packet_free(&f->pool, q.packet);
        sweep_reply(f->s, q.id, MVPN_CMD_DHT_LISTED, MVPN_BYTES_ARRAY(nothing), TEST_NOW, f->now);
    }
    assert_true(sweep_pull(f->s, f->now, &b->q));
    assert_int_equal(b->q.command, MVPN_CMD_DHT_BLOB);
    mvpn_packet_free(&f->pool, b->q.packet);
}

static void blob_end(blob *b)
{
    free(b->snapshot.bytes);
    end(&b->f);
}

static void give_part(blob *b, uint32_t id, uint32_t total, uint32_t offset, mvpn_bytes bytes)
{
    uint8_t body[MVPN_DHT_BODY_MAX];
    mvpn_dht_reply m = {.command = MVPN_CMD_DHT_BLOB_PART, .total = total, .offset = offset};
    m.bytes = bytes;
    size_t n = mvpn_dht_reply_encode(body, sizeof(body), &m);
    assert_true(n > 0);
    sweep_reply(b->f.s, id, MVPN_CMD_DHT_BLOB_PART, mvpn_bytes_of(body, n), TEST_NOW, b->f.now);
}

static mvpn_bytes piece(const blob *b, uint32_t offset, size_t step)
{
    return mvpn_bytes_of(b->snapshot.bytes + offset, MVPN_MIN(step, b->snapshot.len - offset));
}

static void snapshot_in_pieces(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 100, 1000};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(steps); i++) {
        static blob b;
        mvpn_dht_request r;
        blob_begin(&b, 60);
        uint32_t total = (uint32_t)b.snapshot.len;
        give_part(&b, b.q.id, total, 0, piece(&b, 0, steps[i]));
        while (sweep_pull(b.f.s, b.f.now, &b.q)) {
            assert_int_equal(mvpn_dht_request_decode(
                                 &r, b.q.command, mvpn_bytes_of(b.q.packet->data, b.q.packet->len)),
                             0);
            mvpn_packet_free(&b.f.pool, b.q.packet);
            assert_int_equal(r.command, MVPN_CMD_DHT_BLOB);
            assert_memory_equal(&r.digest, &b.snapshot.head.digest, 32);
            give_part(&b, b.q.id, total, r.offset, piece(&b, r.offset, steps[i]));
        }
        assert_int_equal(sweep_result_of(b.f.s, b.f.now), SWEEP_DONE);
        assert_int_equal(sweep_records(b.f.s), 1);
        assert_int_equal(mvpn_view_snapshot(b.f.ours, &b.snapshot.head.digest).n, b.snapshot.len);
        blob_end(&b);
    }
}

/* Pieces that do not fit what was asked for end it, and nothing is written where it should not. */
static void snapshot_of_a_liar(void **state)
{
    (void)state;
    enum { OTHER_TOTAL, OTHER_OFFSET, EMPTY, NONE, TOO_LONG, SHORTER_LATER, LONGER_LATER, CASES };
    for (unsigned i = 0; i < CASES; i++) {
        static blob b;
        static const uint8_t junk[1100] = {0};
        blob_begin(&b, 20); /* 845 bytes */
        uint32_t total = (uint32_t)b.snapshot.len;
        sweep_request second, third;
        switch (i) {
        case OTHER_TOTAL:
            give_part(&b, b.q.id, total + 1, 0, piece(&b, 0, 100));
            break;
        case OTHER_OFFSET:
            give_part(&b, b.q.id, total, 1, piece(&b, 1, 100));
            break;
        case EMPTY:
            give_part(&b, b.q.id, total, 0, MVPN_BYTES_NONE);
            break;
        case NONE:
            give_part(&b, b.q.id, 0, 0, MVPN_BYTES_NONE);
            break;
        case TOO_LONG:
            give_part(&b, b.q.id, total, 0, MVPN_BYTES_ARRAY(junk));
            break;
        default:
            give_part(&b, b.q.id, total, 0, piece(&b, 0, 300));
            assert_true(sweep_pull(b.f.s, b.f.now, &second));
            assert_true(sweep_pull(b.f.s, b.f.now, &third));
            mvpn_packet_free(&b.f.pool, second.packet);
            mvpn_packet_free(&b.f.pool, third.packet);
            give_part(&b, second.id, total, 300, piece(&b, 300, i == SHORTER_LATER ? 299 : 301));
        }
        /* What no decoder takes is as if it had not come. */
        assert_int_equal(sweep_result_of(b.f.s, b.f.now), i == TOO_LONG ? SWEEP_GOING : SWEEP_DONE);
        assert_int_equal(sweep_records(b.f.s), 0);
        assert_false(sweep_pull(b.f.s, b.f.now, &b.q));
        blob_end(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns_all),
        cmocka_unit_test(survives_loss),
        cmocka_unit_test(gives_up_on_silence),
        cmocka_unit_test(list_without_end),
        cmocka_unit_test(ignores_strangers),
        cmocka_unit_test(list_that_goes_on),
        cmocka_unit_test(forged_record),
        cmocka_unit_test(fetched_without_end),
        cmocka_unit_test(refuses),
        cmocka_unit_test(list_of_another_part),
        cmocka_unit_test(list_instead_of_records),
        cmocka_unit_test(drips),
        cmocka_unit_test(snapshot_in_pieces),
        cmocka_unit_test(snapshot_of_a_liar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
