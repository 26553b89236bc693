#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/bucket.h"
#include "base/model_random.h"

static void test_burst(void **state)
{
    (void)state;
    mvpn_bucket b;
    mvpn_bucket_init(&b, 10, 3, MVPN_S(5));
    assert_true(mvpn_bucket_take(&b, 2, MVPN_S(5)));
    assert_false(mvpn_bucket_take(&b, 2, MVPN_S(5))); /* refused whole: nothing is taken */
    assert_true(mvpn_bucket_take(&b, 1, MVPN_S(5)));
    assert_false(mvpn_bucket_take(&b, 1, MVPN_S(5)));
    assert_true(mvpn_bucket_take(&b, 0, MVPN_S(5)));
    assert_false(mvpn_bucket_take(&b, 1, MVPN_S(5) + MVPN_MS(100) - 1));
    assert_true(mvpn_bucket_take(&b, 1, MVPN_S(5) + MVPN_MS(100)));
    /* No more than the burst is kept, however long the pause. */
    assert_true(mvpn_bucket_take(&b, 3, MVPN_TIME_NEVER - 1));
    assert_false(mvpn_bucket_take(&b, 1, MVPN_TIME_NEVER - 1));
}

static void test_time_back(void **state)
{
    (void)state;
    mvpn_bucket b;
    mvpn_bucket_init(&b, 1, 1, MVPN_S(10));
    assert_true(mvpn_bucket_take(&b, 1, MVPN_S(10)));
    assert_false(mvpn_bucket_take(&b, 1, MVPN_S(9)));
    assert_false(mvpn_bucket_take(&b, 1, MVPN_S(10)));
    assert_true(mvpn_bucket_take(&b, 1, MVPN_S(11)));
}

static void test_no_rate(void **state)
{
    (void)state;
    mvpn_bucket b;
    mvpn_bucket_init(&b, 0, 2, 0);
    assert_true(mvpn_bucket_take(&b, 2, MVPN_S(1)));
    assert_false(mvpn_bucket_take(&b, 1, MVPN_S(1000000)));
}

/* Asked at random times, it yields the burst and then the rate: never more, hardly less. */
static void test_rate(void **state)
{
    (void)state;
    struct model_random r = model_random_init();
    mvpn_bucket b;
    mvpn_time now = 0;
    uint64_t taken = 0;
    mvpn_bucket_init(&b, 1000, 50, now);
    while (now < MVPN_S(100)) {
        now += model_random_below(&r, 1500);
        taken += mvpn_bucket_take(&b, 1, now);
        taken += mvpn_bucket_take(&b, 1, now);
        assert_true(taken <= 50 + now / 1000);
    }
    assert_true(taken + 2 >= 50 + now / 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_burst),
        cmocka_unit_test(test_time_back),
        cmocka_unit_test(test_no_rate),
        cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
