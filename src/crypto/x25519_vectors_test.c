/* X25519: RFC 7748 §5.2, §6.1 and Wycheproof. Ed25519: RFC 8032 §7.1 test 2 and Wycheproof. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "crypto/vectors.h"
#include "crypto/x25519.h"

#define X25519_CASES 518
#define X25519_ZERO_CASES 31
#define ED25519_CASES 151

static mvpn_key key_of(mvpn_bytes b)
{
    mvpn_key key;
    assert_int_equal(b.n, sizeof(key.b));
    memcpy(key.b, b.p, sizeof(key.b));
    return key;
}

static mvpn_key key_unhex(const char *hex)
{
    mvpn_key key = key_of(vectors_unhex(hex));
    vectors_reset();
    return key;
}

struct dh_row {
    const char *secret, *pub, *shared;
};

static const struct dh_row dh_rows[] = {
    /* RFC 7748 §5.2 */
    {"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
     "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
     "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
    {"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
     "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
     "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
    /* §6.1 */
    {"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
     "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
     "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"},
};

static void test_rfc7748(void **state)
{
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(dh_rows); i++) {
        mvpn_key secret = key_unhex(dh_rows[i].secret);
        mvpn_key pub = key_unhex(dh_rows[i].pub);
        mvpn_key expected = key_unhex(dh_rows[i].shared);
        mvpn_key shared;
        assert_int_equal(mvpn_x25519(&shared, &secret, &pub), 0);
        assert_memory_equal(&shared, &expected, sizeof(shared));
    }
}

static void test_rfc7748_public(void **state)
{
    (void)state;
    mvpn_key alice = key_unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    mvpn_key expected =
        key_unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    mvpn_key pub;
    mvpn_x25519_public(&pub, &alice);
    assert_memory_equal(&pub, &expected, sizeof(pub));
}

/* §5.2: k, u = X25519(k, u), k, starting at 9. */
static void test_rfc7748_iterated(void **state)
{
    (void)state;
    mvpn_key once = key_unhex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    mvpn_key thousand =
        key_unhex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
    mvpn_key k = {{9}};
    mvpn_key u = {{9}};
    for (int i = 1; i <= 1000; i++) {
        mvpn_key next;
        assert_int_equal(mvpn_x25519(&next, &k, &u), 0);
        u = k;
        k = next;
        if (i == 1) {
            assert_memory_equal(&k, &once, sizeof(k));
        }
    }
    assert_memory_equal(&k, &thousand, sizeof(k));
}

static void test_x25519_wycheproof(void **state)
{
    (void)state;
    static const mvpn_key zero = {{0}};
    json_t *root = vectors_load("wycheproof/x25519_test.json");
    size_t count = 0;
    size_t refused = 0;
    VECTORS_FOREACH(root, group, test)
    {
        mvpn_key secret = key_of(vectors_hex(test, "private"));
        mvpn_key pub = key_of(vectors_hex(test, "public"));
        mvpn_key expected = key_of(vectors_hex(test, "shared"));
        mvpn_key shared;
        memset(&shared, 0xee, sizeof(shared));
        mvpn_key untouched = shared;
        int err = mvpn_x25519(&shared, &secret, &pub);
        if (memcmp(&expected, &zero, sizeof(zero)) == 0) {
            assert_int_equal(err, MVPN_E_AUTH);
            assert_memory_equal(&shared, &untouched, sizeof(shared));
            refused++;
        } else {
            assert_int_equal(err, 0);
            assert_memory_equal(&shared, &expected, sizeof(shared));
        }
        vectors_reset();
        count++;
    }
    assert_int_equal(count, X25519_CASES);
    assert_int_equal(refused, X25519_ZERO_CASES);
    json_decref(root);
}

static void test_ed25519_rfc8032(void **state)
{
    (void)state;
    mvpn_key seed = key_unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    static const uint8_t message[] = {0x72};
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret;
    mvpn_signature sig;
    mvpn_ed25519_from_seed(&pub, &secret, seed.b);
    assert_memory_equal(
        pub.b, vectors_unhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c").p,
        32);
    mvpn_ed25519_sign(&sig, &secret, MVPN_BYTES_ARRAY(message));
    assert_memory_equal(
        sig.b,
        vectors_unhex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                      "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
            .p,
        64);
    assert_int_equal(mvpn_ed25519_verify(&sig, &pub, MVPN_BYTES_ARRAY(message)), 0);
    vectors_reset();
}

static void test_ed25519_wycheproof(void **state)
{
    (void)state;
    json_t *root = vectors_load("wycheproof/ed25519_test.json");
    size_t count = 0;
    VECTORS_FOREACH(root, group, test)
    {
        mvpn_ed25519_pub pub;
        mvpn_signature sig = {{0}};
        mvpn_bytes pk = vectors_hex(json_object_get(group, "publicKey"), "pk");
        mvpn_bytes bytes = vectors_hex(test, "sig");
        bool is_valid = vectors_is(test, "result", "valid");
        assert_int_equal(pk.n, sizeof(pub.b));
        memcpy(pub.b, pk.p, sizeof(pub.b));
        if (bytes.n != sizeof(sig.b)) {
            /* Our type has no room for another length. */
            assert_false(is_valid);
        } else {
            memcpy(sig.b, bytes.p, sizeof(sig.b));
            assert_int_equal(mvpn_ed25519_verify(&sig, &pub, vectors_hex(test, "msg")),
                             is_valid ? 0 : MVPN_E_AUTH);
        }
        vectors_reset();
        count++;
    }
    assert_int_equal(count, ED25519_CASES);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc7748),          cmocka_unit_test(test_rfc7748_public),
        cmocka_unit_test(test_rfc7748_iterated), cmocka_unit_test(test_x25519_wycheproof),
        cmocka_unit_test(test_ed25519_rfc8032),  cmocka_unit_test(test_ed25519_wycheproof),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
