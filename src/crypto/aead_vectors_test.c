/*
 * ChaCha20-Poly1305: RFC 8439 §2.8.2 and Wycheproof, through every backend of this machine.
 * XChaCha20-Poly1305: Wycheproof.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/error.h"
#include "crypto/aead.h"
#include "crypto/vectors.h"

/* Wycheproof cases with the 96-bit nonces of RFC 8439. */
#define WYCHEPROOF_CASES 316
/* XChaCha20-Poly1305 cases with its 192-bit nonces. */
#define XCHACHA_CASES 306

struct one {
    mvpn_key key;
    mvpn_bytes nonce, ad, plain, cipher, tag;
    bool is_valid;
};

static void open_both_ways(mvpn_aead *aead, const struct one *v, int expected)
{
    uint8_t *apart = vectors_copy(v->cipher);
    uint8_t *in_place = vectors_copy(v->cipher);
    assert_int_equal(
        mvpn_aead_open_nonce(aead, apart, &v->key, v->nonce.p, v->ad, v->cipher, v->tag.p),
        expected);
    assert_int_equal(mvpn_aead_open_nonce(aead, in_place, &v->key, v->nonce.p, v->ad,
                                          mvpn_bytes_of(in_place, v->cipher.n), v->tag.p),
                     expected);
    if (expected == 0) {
        assert_true(vectors_equal(mvpn_bytes_of(apart, v->cipher.n), v->plain));
        assert_true(vectors_equal(mvpn_bytes_of(in_place, v->cipher.n), v->plain));
    }
}

static void seal_both_ways(mvpn_aead *aead, const struct one *v)
{
    uint8_t tag[MVPN_AEAD_TAG];
    uint8_t *apart = vectors_copy(v->plain);
    uint8_t *in_place = vectors_copy(v->plain);
    mvpn_aead_seal_nonce(aead, apart, tag, &v->key, v->nonce.p, v->ad, v->plain);
    assert_true(vectors_equal(mvpn_bytes_of(apart, v->plain.n), v->cipher));
    assert_memory_equal(tag, v->tag.p, sizeof(tag));
    mvpn_aead_seal_nonce(aead, in_place, tag, &v->key, v->nonce.p, v->ad,
                         mvpn_bytes_of(in_place, v->plain.n));
    assert_true(vectors_equal(mvpn_bytes_of(in_place, v->plain.n), v->cipher));
    assert_memory_equal(tag, v->tag.p, sizeof(tag));
}

static void check_one(mvpn_aead *aead, const struct one *v)
{
    open_both_ways(aead, v, v->is_valid ? 0 : MVPN_E_AUTH);
    if (v->is_valid) {
        seal_both_ways(aead, v);
    }
}

static void wycheproof(mvpn_aead *aead)
{
    json_t *root = vectors_load("wycheproof/chacha20_poly1305_test.json");
    size_t count = 0;
    VECTORS_FOREACH(root, group, test)
    {
        if (json_integer_value(json_object_get(group, "ivSize")) != 96) {
            continue;
        }
        mvpn_bytes key = vectors_hex(test, "key");
        struct one v = {
            .nonce = vectors_hex(test, "iv"),
            .ad = vectors_hex(test, "aad"),
            .plain = vectors_hex(test, "msg"),
            .cipher = vectors_hex(test, "ct"),
            .tag = vectors_hex(test, "tag"),
            .is_valid = vectors_is(test, "result", "valid"),
        };
        assert_int_equal(key.n, sizeof(v.key.b));
        assert_int_equal(v.nonce.n, 12);
        assert_int_equal(v.tag.n, MVPN_AEAD_TAG);
        memcpy(v.key.b, key.p, key.n);
        check_one(aead, &v);
        vectors_reset();
        count++;
    }
    json_decref(root);
    assert_int_equal(count, WYCHEPROOF_CASES);
    print_message("%s: %zu Wycheproof cases\n", mvpn_aead_backend_name(aead), count);
}

static void rfc8439(mvpn_aead *aead)
{
    static const char sunscreen[] =
        "Ladies and Gentlemen of the class of '99: If I could offer you "
        "only one tip for the future, sunscreen would be it.";
    struct one v = {
        .nonce = vectors_unhex("070000004041424344454647"),
        .ad = vectors_unhex("50515253c0c1c2c3c4c5c6c7"),
        .plain = MVPN_BYTES_LITERAL(sunscreen),
        .cipher = vectors_unhex("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
                                "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
                                "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
                                "3ff4def08e4b7a9de576d26586cec64b6116"),
        .tag = vectors_unhex("1ae10b594f09e26a7e902ecbd0600691"),
        .is_valid = true,
    };
    for (size_t i = 0; i < sizeof(v.key.b); i++) {
        v.key.b[i] = (uint8_t)(0x80 + i);
    }
    check_one(aead, &v);
    vectors_reset();
}

static mvpn_aead *backend(enum mvpn_aead_backend which)
{
    mvpn_aead *aead = NULL;
    if (mvpn_aead_new(which, &aead) != 0) {
        assert_int_equal(which, MVPN_AEAD_IPSEC_MB); /* only that one may be missing */
        print_message("ipsec-mb: not on this machine\n");
        skip();
    }
    return aead;
}

static void run(void (*check)(mvpn_aead *aead), enum mvpn_aead_backend which)
{
    mvpn_aead *aead = backend(which);
    check(aead);
    mvpn_aead_free(aead);
}

static void test_rfc8439_ipsec_mb(void **state)
{
    (void)state;
    run(rfc8439, MVPN_AEAD_IPSEC_MB);
}

static void test_rfc8439_openssl(void **state)
{
    (void)state;
    run(rfc8439, MVPN_AEAD_OPENSSL);
}

static void test_wycheproof_ipsec_mb(void **state)
{
    (void)state;
    run(wycheproof, MVPN_AEAD_IPSEC_MB);
}

static void test_wycheproof_openssl(void **state)
{
    (void)state;
    run(wycheproof, MVPN_AEAD_OPENSSL);
}

static void xchacha_case(const json_t *test)
{
    mvpn_key key;
    mvpn_bytes key_bytes = vectors_hex(test, "key");
    mvpn_bytes nonce = vectors_hex(test, "iv");
    mvpn_bytes ad = vectors_hex(test, "aad");
    mvpn_bytes plain = vectors_hex(test, "msg");
    mvpn_bytes body = vectors_hex(test, "ct");
    mvpn_bytes tag = vectors_hex(test, "tag");
    assert_int_equal(key_bytes.n, sizeof(key.b));
    assert_int_equal(nonce.n, 24);
    assert_int_equal(tag.n, MVPN_AEAD_TAG);
    memcpy(key.b, key_bytes.p, sizeof(key.b));
    uint8_t *sealed = malloc(body.n + tag.n);
    uint8_t *out = malloc(body.n + tag.n);
    assert_true(sealed != NULL && out != NULL);
    memcpy(sealed, body.p, body.n);
    memcpy(sealed + body.n, tag.p, tag.n);
    mvpn_bytes all = mvpn_bytes_of(sealed, body.n + tag.n);
    if (vectors_is(test, "result", "valid")) {
        assert_int_equal(mvpn_xaead_open(out, &key, nonce.p, ad, all), 0);
        assert_memory_equal(out, plain.p, plain.n);
        mvpn_xaead_seal(out, &key, nonce.p, ad, plain);
        assert_memory_equal(out, sealed, all.n);
    } else {
        assert_int_equal(mvpn_xaead_open(out, &key, nonce.p, ad, all), MVPN_E_AUTH);
    }
    free(out);
    free(sealed);
}

static void test_xchacha(void **state)
{
    (void)state;
    json_t *root = vectors_load("wycheproof/xchacha20_poly1305_test.json");
    size_t count = 0;
    VECTORS_FOREACH(root, group, test)
    {
        if (json_integer_value(json_object_get(group, "ivSize")) == 192) {
            xchacha_case(test);
            vectors_reset();
            count++;
        }
    }
    json_decref(root);
    assert_int_equal(count, XCHACHA_CASES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc8439_ipsec_mb),
        cmocka_unit_test(test_rfc8439_openssl),
        cmocka_unit_test(test_wycheproof_ipsec_mb),
        cmocka_unit_test(test_wycheproof_openssl),
        cmocka_unit_test(test_xchacha),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
