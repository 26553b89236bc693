#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "crypto/x25519.h"

static void test_agree(void **state)
{
    (void)state;
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 1);
    for (int i = 0; i < 50; i++) {
        mvpn_x25519_pair a;
        mvpn_x25519_pair b;
        mvpn_key ab;
        mvpn_key ba;
        mvpn_x25519_generate(&a, &rng);
        mvpn_x25519_generate(&b, &rng);
        assert_false(mvpn_key_eq(&a.secret, &b.secret));
        assert_int_equal(mvpn_x25519(&ab, &a.secret, &b.pub), 0);
        assert_int_equal(mvpn_x25519(&ba, &b.secret, &a.pub), 0);
        assert_true(mvpn_key_eq(&ab, &ba));
    }
}

static void test_signature(void **state)
{
    (void)state;
    static const uint8_t message[] = {1, 2, 3, 4, 5};
    mvpn_rng rng;
    mvpn_ed25519_pub pub;
    mvpn_ed25519_pub other;
    mvpn_ed25519_secret secret;
    mvpn_ed25519_secret other_secret;
    mvpn_signature sig;
    mvpn_rng_init_test(&rng, 2);
    mvpn_ed25519_generate(&pub, &secret, &rng);
    mvpn_ed25519_generate(&other, &other_secret, &rng);
    mvpn_ed25519_sign(&sig, &secret, MVPN_BYTES_ARRAY(message));
    assert_int_equal(mvpn_ed25519_verify(&sig, &pub, MVPN_BYTES_ARRAY(message)), 0);
    assert_int_equal(mvpn_ed25519_verify(&sig, &other, MVPN_BYTES_ARRAY(message)), MVPN_E_AUTH);
    assert_int_equal(mvpn_ed25519_verify(&sig, &pub, mvpn_bytes_of(message, 4)), MVPN_E_AUTH);
    for (size_t bit = 0; bit < 8 * sizeof(sig.b); bit++) {
        mvpn_signature bad = sig;
        bad.b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mvpn_ed25519_verify(&bad, &pub, MVPN_BYTES_ARRAY(message)), MVPN_E_AUTH);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agree),
        cmocka_unit_test(test_signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
