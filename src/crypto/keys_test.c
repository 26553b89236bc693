#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "crypto/keys.h"

static void test_wipe(void **state)
{
    (void)state;
    uint8_t b[40];
    memset(b, 0xaa, sizeof(b));
    mvpn_wipe(b + 4, 32);
    for (size_t i = 0; i < sizeof(b); i++) {
        assert_int_equal(b[i], i >= 4 && i < 36 ? 0 : 0xaa);
    }
    mvpn_wipe(NULL, 0);
}

static void test_ct_equal(void **state)
{
    (void)state;
    mvpn_key a;
    mvpn_key b;
    memset(&a, 0x33, sizeof(a));
    b = a;
    assert_true(mvpn_key_eq(&a, &b));
    for (size_t bit = 0; bit < 8 * sizeof(b.b); bit++) {
        b.b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(mvpn_key_eq(&a, &b));
        b.b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    b.b[31] ^= 1;
    assert_true(mvpn_ct_equal(&a, &b, 31));
    assert_true(mvpn_ct_equal(NULL, NULL, 0));
}

static void test_ct_is_zero(void **state)
{
    (void)state;
    uint8_t b[33] = {0};
    assert_true(mvpn_ct_is_zero(b, sizeof(b)));
    assert_true(mvpn_ct_is_zero(NULL, 0));
    for (size_t bit = 0; bit < 8 * sizeof(b); bit++) {
        b[bit / 8] = (uint8_t)(1u << bit % 8);
        assert_false(mvpn_ct_is_zero(b, sizeof(b)));
        b[bit / 8] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_ct_equal),
        cmocka_unit_test(test_ct_is_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
