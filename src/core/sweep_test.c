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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns_all),          cmocka_unit_test(survives_loss),
        cmocka_unit_test(gives_up_on_silence), cmocka_unit_test(list_without_end),
        cmocka_unit_test(ignores_strangers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
