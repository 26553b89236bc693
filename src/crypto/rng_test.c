#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/macros.h"
#include "crypto/rng.h"

#define STREAM 5000 /* several refills */

static void test_determinism(void **state)
{
    (void)state;
    static uint8_t whole[STREAM];
    static uint8_t parts[STREAM];
    mvpn_rng a;
    mvpn_rng b;
    mvpn_rng_init_test(&a, 42);
    mvpn_rng_init_test(&b, 42);
    mvpn_rng_bytes(&a, whole, sizeof(whole));
    /* The stream does not depend on how it is asked for. */
    size_t at = 0;
    for (size_t n = 0; at < sizeof(parts); n = (n + 7) % 1500) {
        size_t part = MVPN_MIN(n, sizeof(parts) - at);
        mvpn_rng_bytes(&b, parts + at, part);
        at += part;
    }
    assert_memory_equal(whole, parts, sizeof(whole));
    assert_int_equal(mvpn_rng_u64(&a), mvpn_rng_u64(&b));
    assert_int_equal(mvpn_rng_u32(&a), mvpn_rng_u32(&b));
}

static void test_distinct(void **state)
{
    (void)state;
    static uint8_t all[3 * STREAM];
    uint8_t seed[32] = {0};
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 1);
    mvpn_rng_bytes(&rng, all, STREAM);
    mvpn_rng_init_test(&rng, 2);
    mvpn_rng_bytes(&rng, all + STREAM, STREAM);
    seed[31] = 1;
    mvpn_rng_init(&rng, seed);
    mvpn_rng_bytes(&rng, all + 2 * STREAM, STREAM);
    /* No 16 bytes occur twice, in one stream or in two. */
    for (size_t i = 0; i + 16 < sizeof(all); i += 16) {
        const uint8_t *at = all + i;
        assert_null(memmem(at + 16, sizeof(all) - i - 16, at, 16));
    }
}

static bool holds(const mvpn_rng *rng, const uint8_t *p, size_t n)
{
    return memmem(rng->buf, sizeof(rng->buf), p, n) != NULL;
}

static void test_erasure(void **state)
{
    (void)state;
    uint8_t seed[32];
    uint8_t out[64];
    mvpn_rng rng;
    memset(seed, 0x77, sizeof(seed));
    mvpn_rng_init(&rng, seed);
    for (int i = 0; i < 100; i++) {
        mvpn_rng before = rng;
        mvpn_rng_bytes(&rng, out, sizeof(out));
        assert_false(holds(&rng, seed, 8));
        for (size_t k = 0; k < sizeof(out); k += 8) {
            assert_false(holds(&rng, out + k, 8));
        }
        if (before.used + sizeof(out) > sizeof(before.buf)) {
            /* Refilled: the key of the spent block is gone. */
            assert_false(holds(&rng, before.buf, 8));
        }
    }
    mvpn_rng_done(&rng);
    for (size_t k = 0; k < sizeof(rng); k++) {
        assert_int_equal(((const uint8_t *)&rng)[k], 0);
    }
}

static void test_below(void **state)
{
    (void)state;
    static const uint32_t bounds[] = {1, 2, 3, 7, 10, 1000, 0x80000000u, 0x80000001u, UINT32_MAX};
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 3);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bounds); i++) {
        for (int k = 0; k < 2000; k++) {
            assert_true(mvpn_rng_below(&rng, bounds[i]) < bounds[i]);
        }
    }
    /* Even: 70000 draws of 7 values miss 10000 each by less than six standard deviations (93). */
    unsigned seen[7] = {0};
    for (int k = 0; k < 70000; k++) {
        seen[mvpn_rng_below(&rng, 7)]++;
    }
    for (size_t i = 0; i < 7; i++) {
        assert_in_range(seen[i], 10000 - 560, 10000 + 560);
    }
    /*
     * With a bound of 3 * 2^30 a plain remainder would put half of all draws below 2^30, not a
     * third.
     */
    unsigned low = 0;
    for (int k = 0; k < 30000; k++) {
        low += mvpn_rng_below(&rng, 3u << 30) < 1u << 30;
    }
    assert_in_range(low, 10000 - 500, 10000 + 500);
}

static void test_jitter(void **state)
{
    (void)state;
    mvpn_rng rng;
    bool has_low = false;
    bool has_high = false;
    mvpn_rng_init_test(&rng, 4);
    for (int k = 0; k < 5000; k++) {
        uint64_t v = mvpn_rng_jitter(&rng, 1000, 10);
        assert_in_range(v, 900, 1100);
        has_low |= v == 900;
        has_high |= v == 1100;
        assert_int_equal(mvpn_rng_jitter(&rng, 12345, 0), 12345);
        assert_int_equal(mvpn_rng_jitter(&rng, 0, 50), 0);
        assert_in_range(mvpn_rng_jitter(&rng, 7, 100), 0, 14);
        uint64_t big = UINT64_MAX / 4;
        assert_in_range(mvpn_rng_jitter(&rng, big, 100), 0, 2 * big);
    }
    assert_true(has_low && has_high);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_determinism), cmocka_unit_test(test_distinct),
        cmocka_unit_test(test_erasure),     cmocka_unit_test(test_below),
        cmocka_unit_test(test_jitter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
