#include "bench/load/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static load_histogram h;

static int empty(void **state)
{
    (void)state;
    memset(&h, 0, sizeof(h));
    return 0;
}

static void quantiles_of_small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t v = 1; v <= 20; v++) {
        load_histogram_add(&h, v);
    }
    assert_int_equal(load_histogram_quantile(&h, 0.5), 10);
    assert_int_equal(load_histogram_quantile(&h, 0.95), 19);
    assert_int_equal(load_histogram_quantile(&h, 1), 20);
    assert_int_equal(load_histogram_quantile(&h, 0), 1);
}

/* Each value alone: told not too small, and at most one step of 32 too large. */
static void no_value_is_told_far_off(void **state)
{
    (void)state;
    for (uint64_t v = 1; v < UINT64_C(1) << 36; v = v * 9 / 8 + 1) {
        memset(&h, 0, sizeof(h));
        load_histogram_add(&h, v);
        uint64_t told = load_histogram_quantile(&h, 0.5);
        assert_true(told >= v && told <= v + v / LOAD_HISTOGRAM_STEPS);
    }
}

static void what_is_too_large_counts_as_the_last(void **state)
{
    (void)state;
    load_histogram_add(&h, 7);
    load_histogram_add(&h, UINT64_MAX);
    assert_int_equal(h.count, 2);
    assert_int_equal(load_histogram_quantile(&h, 1), (UINT64_C(1) << 36) - 1);
    assert_int_equal(load_histogram_quantile(&h, 0.5), 7);
}

static void nothing_counted_is_zero(void **state)
{
    (void)state;
    assert_int_equal(load_histogram_quantile(&h, 0.5), 0);
}

static void jain(void **state)
{
    (void)state;
    static const struct {
        uint64_t shares[4];
        double index;
    } rows[] = {
        {{5, 5, 5, 5}, 1},
        {{9, 0, 0, 0}, 0.25},
        {{1, 1, 0, 0}, 0.5},
        {{0, 0, 0, 0}, 0},
        {{1, 2, 3, 4}, 100.0 / 120},
        {{UINT64_C(1) << 60, UINT64_C(1) << 60, UINT64_C(1) << 60, UINT64_C(1) << 60}, 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_float_equal(load_jain(rows[i].shares, 4), rows[i].index, 1e-9);
    }
    assert_float_equal(load_jain(rows[0].shares, 0), 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(quantiles_of_small_values_are_exact, empty),
        cmocka_unit_test_setup(no_value_is_told_far_off, empty),
        cmocka_unit_test_setup(what_is_too_large_counts_as_the_last, empty),
        cmocka_unit_test_setup(nothing_counted_is_zero, empty),
        cmocka_unit_test(jain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
