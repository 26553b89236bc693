/* Circuit handshakes: both kinds of network, and what must not match. */
#include "core/testing.h"

#include "core/handshake.h"
#include "crypto/x25519.h"

typedef struct fixture {
    mvpn_realm realm, relay_realm; /* the client's and the relay's idea of the network */
    mvpn_onion_target target, self;
    mvpn_x25519_pair pair;
} fixture;

static mvpn_aead *aead;
static mvpn_rng rng;

static int setup(void **state)
{
    (void)state;
    mvpn_rng_init_test(&rng, 5);
    return mvpn_aead_new(MVPN_AEAD_AUTO, &aead);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_aead_free(aead);
    return 0;
}

static fixture make(bool closed, uint8_t suite)
{
    fixture f = {.realm = {.network_id = {{1, 2, 3}}, .closed = closed, .allow_test_suite = true}};
    if (closed) {
        f.realm.psk = (mvpn_key){{7, 7, 7}};
    }
    mvpn_x25519_generate(&f.pair, &rng);
    f.target = (mvpn_onion_target){.identity = {{9, 9}}, .onion_key = f.pair.pub, .suite = suite};
    f.relay_realm = f.realm;
    f.self = f.target;
    return f;
}

/* The whole exchange: what the relay or at last the client says of it. */
static int run(const fixture *f, mvpn_hop_keys *client, mvpn_hop_keys *relay)
{
    uint8_t m1[MVPN_HANDSHAKE_MAX], m2[MVPN_HANDSHAKE_MAX];
    size_t n1 = 0, n2 = 0;
    mvpn_noise hs;
    assert_int_equal(mvpn_handshake_begin(&hs, aead, &rng, &f->realm, &f->target, m1, &n1), 0);
    int r = mvpn_handshake_answer(aead, &rng, &f->relay_realm, &f->self, &f->pair,
                                  mvpn_bytes_of(m1, n1), m2, &n2, relay);
    if (r != 0) {
        mvpn_noise_done(&hs);
        return r;
    }
    return mvpn_handshake_finish(&hs, mvpn_bytes_of(m2, n2), client);
}

static void test_both_sides_get_the_same_keys(void **state)
{
    (void)state;
    const uint8_t suites[] = {MVPN_SUITE_X25519, MVPN_SUITE_TEST};
    for (unsigned closed = 0; closed < 2; closed++) {
        for (unsigned i = 0; i < 2; i++) {
            fixture f = make(closed, suites[i]);
            mvpn_hop_keys c, r, again;
            assert_int_equal(run(&f, &c, &r), 0);
            assert_memory_equal(c.forward.b, r.forward.b, 32);
            assert_memory_equal(c.backward.b, r.backward.b, 32);
            assert_memory_not_equal(c.forward.b, c.backward.b, 32);
            assert_int_equal(run(&f, &again, &r), 0); /* fresh each time */
            assert_memory_not_equal(c.forward.b, again.forward.b, 32);
        }
    }
}

static void test_messages_have_the_sizes_of_the_suite(void **state)
{
    (void)state;
    const struct {
        uint8_t suite;
        size_t n1, n2;
    } rows[] = {{MVPN_SUITE_X25519, 48, 48}, {MVPN_SUITE_TEST, 48 + 1184, 48 + 1088}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        fixture f = make(true, rows[i].suite);
        uint8_t m1[MVPN_HANDSHAKE_MAX], m2[MVPN_HANDSHAKE_MAX];
        size_t n1, n2;
        mvpn_noise hs;
        mvpn_hop_keys keys;
        assert_int_equal(mvpn_handshake_begin(&hs, aead, &rng, &f.realm, &f.target, m1, &n1), 0);
        assert_int_equal(n1, rows[i].n1);
        assert_int_equal(mvpn_handshake_answer(aead, &rng, &f.realm, &f.self, &f.pair,
                                               mvpn_bytes_of(m1, n1), m2, &n2, &keys),
                         0);
        assert_int_equal(n2, rows[i].n2);
        mvpn_noise_done(&hs);
    }
}

static void test_what_differs_is_refused(void **state)
{
    (void)state;
    for (unsigned closed = 0; closed < 2; closed++) {
        mvpn_hop_keys c, r;
        fixture f = make(closed, MVPN_SUITE_X25519);
        f.relay_realm.network_id.b[0] ^= 1;
        assert_int_equal(run(&f, &c, &r), MVPN_E_AUTH);
        f = make(closed, MVPN_SUITE_X25519);
        f.self.identity.b[5] ^= 1;
        assert_int_equal(run(&f, &c, &r), MVPN_E_AUTH);
        f = make(closed, MVPN_SUITE_X25519);
        mvpn_x25519_generate(&f.pair, &rng); /* another onion key */
        f.self.onion_key = f.pair.pub;
        assert_int_equal(run(&f, &c, &r), MVPN_E_AUTH);
        f = make(closed, MVPN_SUITE_X25519);
        f.relay_realm.closed = !closed;
        assert_int_equal(run(&f, &c, &r), MVPN_E_AUTH);
    }
    mvpn_hop_keys c, r;
    fixture f = make(true, MVPN_SUITE_X25519);
    f.relay_realm.psk.b[31] ^= 1;
    assert_int_equal(run(&f, &c, &r), MVPN_E_AUTH);
}

static void test_suites(void **state)
{
    (void)state;
    mvpn_hop_keys c, r;
    fixture f = make(false, MVPN_SUITE_TEST);
    f.relay_realm.allow_test_suite = false;
    assert_int_equal(run(&f, &c, &r), MVPN_E_UNKNOWN);
    f = make(false, 2); /* not spoken */
    assert_int_equal(run(&f, &c, &r), MVPN_E_UNKNOWN);
    f = make(false, MVPN_SUITE_X25519); /* asked for one, was told another: no downgrade */
    f.self.suite = MVPN_SUITE_TEST;
    assert_int_equal(run(&f, &c, &r), MVPN_E_AUTH);
    f = make(false, MVPN_SUITE_TEST);
    f.self.suite = MVPN_SUITE_X25519;
    assert_int_equal(run(&f, &c, &r), MVPN_E_AUTH);
}

static void test_each_flipped_bit_and_each_length(void **state)
{
    (void)state;
    fixture f = make(true, MVPN_SUITE_X25519);
    uint8_t m1[MVPN_HANDSHAKE_MAX], m2[MVPN_HANDSHAKE_MAX], bad[MVPN_HANDSHAKE_MAX];
    size_t n1, n2, n;
    mvpn_noise hs;
    mvpn_hop_keys keys, k;
    assert_int_equal(mvpn_handshake_begin(&hs, aead, &rng, &f.realm, &f.target, m1, &n1), 0);
    assert_int_equal(mvpn_handshake_answer(aead, &rng, &f.realm, &f.self, &f.pair,
                                           mvpn_bytes_of(m1, n1), m2, &n2, &keys),
                     0);
    for (size_t bit = 0; bit < 48 * 8; bit++) {
        memcpy(bad, m1, n1);
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mvpn_handshake_answer(aead, &rng, &f.realm, &f.self, &f.pair,
                                               mvpn_bytes_of(bad, n1), bad, &n, &k),
                         MVPN_E_AUTH);
        mvpn_noise copy = hs;
        memcpy(bad, m2, n2);
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mvpn_handshake_finish(&copy, mvpn_bytes_of(bad, n2), &k), MVPN_E_AUTH);
    }
    for (size_t len = 0; len <= 60; len++) {
        uint8_t out[MVPN_HANDSHAKE_MAX];
        memset(bad, 0, sizeof(bad));
        memcpy(bad, m1, MVPN_MIN(len, n1));
        int r = mvpn_handshake_answer(aead, &rng, &f.realm, &f.self, &f.pair,
                                      mvpn_bytes_of(bad, len), out, &n, &k);
        assert_int_equal(r == 0, len == n1);
        mvpn_noise copy = hs;
        memcpy(bad, m2, MVPN_MIN(len, n2));
        assert_int_equal(mvpn_handshake_finish(&copy, mvpn_bytes_of(bad, len), &k) == 0, len == n2);
    }
    assert_int_equal(mvpn_handshake_finish(&hs, mvpn_bytes_of(m2, n2), &k), 0);
    assert_memory_equal(&k, &keys, sizeof(k));
    assert_true(mvpn_ct_is_zero(&hs.e, sizeof(hs.e))); /* wiped */
}

static void test_far_too_long(void **state)
{
    (void)state;
    static const uint8_t zeros[MVPN_ASSEMBLY_MAX + 1];
    fixture f = make(false, MVPN_SUITE_X25519);
    uint8_t m1[MVPN_HANDSHAKE_MAX];
    size_t n;
    mvpn_noise hs;
    mvpn_hop_keys k;
    assert_int_equal(mvpn_handshake_answer(aead, &rng, &f.realm, &f.self, &f.pair,
                                           MVPN_BYTES_ARRAY(zeros), m1, &n, &k),
                     MVPN_E_FORMAT);
    assert_int_equal(mvpn_handshake_begin(&hs, aead, &rng, &f.realm, &f.target, m1, &n), 0);
    assert_int_equal(mvpn_handshake_finish(&hs, MVPN_BYTES_ARRAY(zeros), &k), MVPN_E_FORMAT);
}

static void test_a_key_of_small_order_ends_it(void **state)
{
    (void)state;
    fixture f = make(false, MVPN_SUITE_X25519);
    uint8_t m1[MVPN_HANDSHAKE_MAX];
    size_t n;
    mvpn_noise hs;
    memset(f.target.onion_key.b, 0, 32);
    assert_int_equal(mvpn_handshake_begin(&hs, aead, &rng, &f.realm, &f.target, m1, &n),
                     MVPN_E_AUTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_sides_get_the_same_keys),
        cmocka_unit_test(test_messages_have_the_sizes_of_the_suite),
        cmocka_unit_test(test_what_differs_is_refused),
        cmocka_unit_test(test_suites),
        cmocka_unit_test(test_each_flipped_bit_and_each_length),
        cmocka_unit_test(test_far_too_long),
        cmocka_unit_test(test_a_key_of_small_order_ends_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
