/*
 * The sample messages of RFC 5769 §2 and RFC 8489 appendix B.1: read, checked, and broken.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "crypto/vectors.h"
#include "wire/stun.h"

#define CASES 5

static json_t *root;

static int setup(void **state)
{
    (void)state;
    root = vectors_load("stun/stun.json");
    return json_array_size(json_object_get(root, "vectors")) == CASES ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(root);
    vectors_reset();
    return 0;
}

static mvpn_bytes message_of(size_t i, mvpn_bytes *ret_key)
{
    const json_t *v = json_array_get(json_object_get(root, "vectors"), i);
    *ret_key = vectors_hex(v, "key");
    return vectors_hex(v, "message");
}

static const struct {
    enum mvpn_stun_class class;
    const char *software, *username, *mapped;
    bool has_fingerprint, has_sha256;
    size_t unknown; /* attributes of ICE, USERHASH */
} rows[CASES] = {
    {MVPN_STUN_REQUEST, "STUN test client", "evtj:h6vY", NULL, true, false, 1},
    {MVPN_STUN_SUCCESS, "test vector", NULL, "192.0.2.1:32853", true, false, 0},
    {MVPN_STUN_SUCCESS, "test vector", NULL, "[2001:db8:1234:5678:11:2233:4455:6677]:32853", true,
     false, 0},
    {MVPN_STUN_REQUEST, NULL,
     "\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9", NULL, false, false,
     0},
    {MVPN_STUN_REQUEST, NULL, NULL, NULL, false, true, 1},
};

static void text_is(mvpn_bytes text, const char *expected)
{
    assert_int_equal(text.p != NULL, expected != NULL);
    if (expected != NULL) {
        assert_int_equal(text.n, strlen(expected));
        assert_memory_equal(text.p, expected, text.n);
    }
}

static void test_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        mvpn_bytes key, in = message_of(i, &key);
        mvpn_stun_message m;
        mvpn_addr mapped = {0};
        assert_int_equal(mvpn_stun_decode(&m, in), 0);
        assert_int_equal(m.class, rows[i].class);
        assert_int_equal(m.method, MVPN_STUN_BINDING);
        assert_memory_equal(m.transaction, in.p + 8, sizeof(m.transaction));
        text_is(m.software, rows[i].software);
        text_is(m.username, rows[i].username);
        if (rows[i].mapped != NULL) {
            assert_int_equal(mvpn_addr_parse(rows[i].mapped, &mapped), 0);
        }
        assert_true(mvpn_addr_eq(&m.xor_mapped, &mapped));
        assert_int_equal(m.has_fingerprint, rows[i].has_fingerprint);
        assert_int_equal(m.unknown_count, rows[i].unknown);
        assert_int_equal(m.integrity256_at != 0, rows[i].has_sha256);
        assert_int_equal(mvpn_stun_check_integrity(&m, in, key), 0);
        assert_int_equal(mvpn_stun_check_integrity(&m, in, MVPN_BYTES_LITERAL("wrong")),
                         MVPN_E_AUTH);
    }
}

/* No bit of a message with both protections can be changed unseen. */
static void test_each_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        mvpn_bytes key, in = message_of(i, &key);
        uint8_t *copy = vectors_copy(in);
        for (size_t bit = 0; bit < 8 * in.n; bit++) {
            mvpn_stun_message m;
            copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int err = mvpn_stun_decode(&m, mvpn_bytes_of(copy, in.n));
            if (err == 0) {
                assert_false(rows[i].has_fingerprint && m.has_fingerprint);
                err = mvpn_stun_check_integrity(&m, mvpn_bytes_of(copy, in.n), key);
            }
            /* Behind the integrity only the fingerprint's own type can become something that is
             * passed over. */
            if (err == 0) {
                assert_true(rows[i].has_fingerprint && bit / 8 >= in.n - 8 && bit / 8 < in.n - 6);
            }
            copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void test_truncated(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        size_t left = SIZE_MAX;
        for (size_t n = 0; n < left; n++) {
            mvpn_stun_message m;
            mvpn_bytes key, in = message_of(i, &key);
            uint8_t *copy = vectors_copy(mvpn_bytes_of(in.p, n));
            assert_int_equal(mvpn_stun_decode(&m, mvpn_bytes_of(copy, n)), MVPN_E_FORMAT);
            left = in.n;
            vectors_reset();
        }
    }
}

/* Written by us, byte by byte the same: those whose padding is zero, as ours is. */
static void test_write(void **state)
{
    (void)state;
    uint8_t out[256];
    mvpn_stun_writer s;
    mvpn_bytes key, in = message_of(3, &key);
    mvpn_stun_begin(&s, out, sizeof(out), MVPN_STUN_REQUEST, MVPN_STUN_BINDING, in.p + 8);
    mvpn_stun_put_bytes(&s, MVPN_STUN_USERNAME, mvpn_bytes_of(rows[3].username, 18));
    mvpn_stun_put_bytes(&s, MVPN_STUN_NONCE, MVPN_BYTES_LITERAL("f//499k954d6OL34oL9FSTvy64sA"));
    mvpn_stun_put_bytes(&s, MVPN_STUN_REALM, MVPN_BYTES_LITERAL("example.org"));
    mvpn_stun_put_integrity(&s, key);
    assert_true(vectors_equal(mvpn_bytes_of(out, mvpn_stun_end(&s)), in));

    in = message_of(4, &key);
    mvpn_stun_begin(&s, out, sizeof(out), MVPN_STUN_REQUEST, MVPN_STUN_BINDING, in.p + 8);
    mvpn_stun_put_bytes(&s, 0x001e, mvpn_bytes_of(in.p + 24, 32)); /* USERHASH */
    mvpn_stun_put_bytes(&s, MVPN_STUN_NONCE,
                        MVPN_BYTES_LITERAL("obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"));
    mvpn_stun_put_bytes(&s, MVPN_STUN_REALM, MVPN_BYTES_LITERAL("example.org"));
    mvpn_stun_put_integrity256(&s, key);
    assert_true(vectors_equal(mvpn_bytes_of(out, mvpn_stun_end(&s)), in));

    /* The others pad with spaces: their attributes are the same, their sums are not. */
    in = message_of(1, &key);
    mvpn_addr mapped;
    assert_int_equal(mvpn_addr_parse(rows[1].mapped, &mapped), 0);
    mvpn_stun_begin(&s, out, sizeof(out), MVPN_STUN_SUCCESS, MVPN_STUN_BINDING, in.p + 8);
    mvpn_stun_put_bytes(&s, MVPN_STUN_SOFTWARE, MVPN_BYTES_LITERAL("test vector"));
    mvpn_stun_put_address(&s, MVPN_STUN_XOR_MAPPED_ADDRESS, &mapped);
    assert_int_equal(mvpn_stun_end(&s), 48);
    assert_memory_equal(out + 36, in.p + 36, 12);
    mvpn_stun_put_integrity(&s, key);
    mvpn_stun_put_fingerprint(&s);
    assert_int_equal(mvpn_stun_end(&s), in.n);
    assert_memory_equal(out, in.p, 20);
    mvpn_stun_message m;
    assert_int_equal(mvpn_stun_decode(&m, mvpn_bytes_of(out, in.n)), 0);
    assert_true(m.has_fingerprint);
    assert_int_equal(mvpn_stun_check_integrity(&m, mvpn_bytes_of(out, in.n), key), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_each_bit),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
