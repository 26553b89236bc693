/*
 * When a network counts as one that lets no UDP back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/silence.h"

static void silence_is_told_once(void **state)
{
    mvpn_time now = MVPN_S(100);
    mvpn_silence s = {.since = now};
    unsigned told = 0;
    (void)state;
    for (unsigned i = 0; i < 12; i++, now += MVPN_S(5)) {
        told += mvpn_silence_look(&s, 3 * i, 0, now);
        assert_int_equal(s.is_silent, i >= 2);
    }
    assert_int_equal(told, 1);
    assert_false(mvpn_silence_look(&s, 40, 1, now)); /* something came */
    assert_false(s.is_silent);
    assert_false(mvpn_silence_look(&s, 50, 1, now + MVPN_S(5)));
    assert_true(mvpn_silence_look(&s, 60, 1, now + MVPN_S(10))); /* another network */
    assert_true(s.is_silent);
}

static void who_says_little_hears_little(void **state)
{
    mvpn_silence s = {.since = MVPN_S(100)};
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        assert_false(mvpn_silence_look(&s, MVPN_SILENCE_SENT - 1, 0, MVPN_S(100 + 5 * i)));
        assert_false(s.is_silent);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_told_once),
        cmocka_unit_test(who_says_little_hears_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
