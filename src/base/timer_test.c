#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/model_random.h"
#include "base/timer.h"

#define TIMERS 200

static mvpn_timer timers[TIMERS];
static mvpn_time model[TIMERS]; /* MVPN_TIME_NEVER: not set */

static mvpn_time model_deadline(void)
{
    mvpn_time first = MVPN_TIME_NEVER;
    for (size_t i = 0; i < TIMERS; i++) {
        first = mvpn_time_min(first, model[i]);
    }
    return first;
}

static void pop_one(mvpn_timers *heap, mvpn_time now)
{
    mvpn_time first = model_deadline();
    mvpn_timer *t = mvpn_timers_pop(heap, now);
    if (first > now) {
        assert_null(t);
        return;
    }
    assert_non_null(t);
    size_t i = (size_t)t->kind;
    assert_ptr_equal(t, &timers[i]);
    assert_int_equal(t->at, first);
    assert_int_equal(model[i], first);
    assert_false(mvpn_timer_is_set(t));
    model[i] = MVPN_TIME_NEVER;
}

static void test_model(void **state)
{
    (void)state;
    struct model_random r = model_random_init();
    mvpn_timers heap;
    mvpn_time now = 0;
    assert_int_equal(mvpn_timers_init(&heap, 0), 0);
    for (size_t i = 0; i < TIMERS; i++) {
        timers[i] = (mvpn_timer){.kind = (int)i};
        model[i] = MVPN_TIME_NEVER;
    }
    for (int step = 0; step < 50000; step++) {
        size_t i = model_random_below(&r, TIMERS);
        switch (model_random_below(&r, 5)) {
        case 0:
            mvpn_timer_clear(&heap, &timers[i]);
            model[i] = MVPN_TIME_NEVER;
            break;
        case 1:
            now += model_random_below(&r, 50);
            pop_one(&heap, now);
            break;
        case 2:
            mvpn_timer_set(&heap, &timers[i], MVPN_TIME_NEVER);
            model[i] = MVPN_TIME_NEVER;
            break;
        default:
            model[i] = now + model_random_below(&r, 1000);
            mvpn_timer_set(&heap, &timers[i], model[i]);
            break;
        }
        assert_int_equal(mvpn_timer_is_set(&timers[i]), model[i] != MVPN_TIME_NEVER);
        assert_int_equal(mvpn_timers_deadline(&heap), model_deadline());
    }
    while (heap.count > 0) {
        pop_one(&heap, MVPN_TIME_NEVER - 1);
    }
    assert_int_equal(model_deadline(), MVPN_TIME_NEVER);
    mvpn_timers_done(&heap);
}

static void test_due(void **state)
{
    (void)state;
    mvpn_timers heap;
    mvpn_timer t = {.kind = 7};
    assert_int_equal(mvpn_timers_init(&heap, 1), 0);
    assert_int_equal(mvpn_timers_deadline(&heap), MVPN_TIME_NEVER);
    assert_null(mvpn_timers_pop(&heap, MVPN_TIME_NEVER));
    mvpn_timer_set(&heap, &t, 100);
    assert_null(mvpn_timers_pop(&heap, 99));
    assert_ptr_equal(mvpn_timers_pop(&heap, 100), &t);
    assert_null(mvpn_timers_pop(&heap, 100));
    mvpn_timer_clear(&heap, &t); /* harmless */
    mvpn_timers_done(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
