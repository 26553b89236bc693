/*
 * What a person is told of a client that connects.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "core/client_stage.h"

#define START MVPN_S(100)

/* "dddr..." is what the stages are: done, running, failed, waiting. */
static void expect(const mvpn_stages *stages, mvpn_time now, const char *states,
                   const unsigned ms[MVPN_STAGES])
{
    mvpn_stage_report report[MVPN_STAGES];
    mvpn_stages_get(stages, now, report);
    for (unsigned i = 0; i < MVPN_STAGES; i++) {
        const char letters[] = {[MVPN_STAGE_WAITING] = '.',
                                [MVPN_STAGE_RUNNING] = 'r',
                                [MVPN_STAGE_DONE] = 'd',
                                [MVPN_STAGE_FAILED] = 'f'};
        assert_int_equal(letters[report[i].state], states[i]);
        assert_int_equal(report[i].took, MVPN_MS(ms[i]));
    }
}

static void test_one_after_the_other(void **state)
{
    mvpn_stages s;
    (void)state;
    mvpn_stages_init(&s, START);
    expect(&s, START + MVPN_MS(3), "r......", (const unsigned[]){3, 0, 0, 0, 0, 0, 0});
    mvpn_stages_reach(&s, MVPN_STAGE_HOST, START + MVPN_MS(10));
    expect(&s, START + MVPN_MS(15), "dr.....", (const unsigned[]){10, 5, 0, 0, 0, 0, 0});
    mvpn_stages_reach(&s, MVPN_STAGE_NETWORK, START + MVPN_MS(30));
    mvpn_stages_reach(&s, MVPN_STAGE_GUARD, START + MVPN_MS(60));
    mvpn_stages_reach(&s, MVPN_STAGE_CIRCUIT, START + MVPN_MS(100));
    mvpn_stages_reach(&s, MVPN_STAGE_EXIT, START + MVPN_MS(150));
    mvpn_stages_reach(&s, MVPN_STAGE_GUARD, START + MVPN_MS(155)); /* of a second circuit */
    expect(&s, START + MVPN_MS(160), "dddddr.", (const unsigned[]){10, 20, 30, 40, 50, 10, 0});
    mvpn_stages_reach(&s, MVPN_STAGE_NAMES, START + MVPN_MS(210));
    mvpn_stages_reach(&s, MVPN_STAGE_CHECK, START + MVPN_MS(280));
    expect(&s, START + MVPN_S(99), "ddddddd", (const unsigned[]){10, 20, 30, 40, 50, 60, 70});
}

static void test_later_means_all_before(void **state)
{
    mvpn_stages s;
    (void)state;
    mvpn_stages_init(&s, START);
    mvpn_stages_reach(&s, MVPN_STAGE_CIRCUIT, START + MVPN_MS(40));
    expect(&s, START + MVPN_MS(45), "ddddr..", (const unsigned[]){40, 0, 0, 0, 5, 0, 0});
}

static void test_trouble_is_of_the_next_alone(void **state)
{
    static const mvpn_stage_trouble dead = {.cause = MVPN_STAGE_NO_GUARD};
    static const mvpn_stage_trouble hop = {
        .cause = MVPN_STAGE_NO_HOP, .error = MVPN_E_TIMEOUT, .hop = 2};
    mvpn_stage_report report[MVPN_STAGES];
    mvpn_stages s;
    (void)state;
    mvpn_stages_init(&s, START);
    mvpn_stages_reach(&s, MVPN_STAGE_NETWORK, START);
    mvpn_stages_hold(&s, MVPN_STAGE_CIRCUIT, &hop); /* not its turn */
    expect(&s, START, "ddr....", (const unsigned[MVPN_STAGES]){0});
    mvpn_stages_hold(&s, MVPN_STAGE_GUARD, &dead);
    expect(&s, START + MVPN_MS(7), "ddf....", (const unsigned[]){0, 0, 7, 0, 0, 0, 0});
    mvpn_stages_reach(&s, MVPN_STAGE_GUARD, START);
    mvpn_stages_hold(&s, MVPN_STAGE_GUARD, &dead); /* over */
    expect(&s, START, "dddr...", (const unsigned[MVPN_STAGES]){0});
    mvpn_stages_hold(&s, MVPN_STAGE_CIRCUIT, &hop);
    mvpn_stages_get(&s, START, report);
    assert_int_equal(report[MVPN_STAGE_CIRCUIT].trouble.cause, MVPN_STAGE_NO_HOP);
    assert_int_equal(report[MVPN_STAGE_CIRCUIT].trouble.hop, 2);
    assert_int_equal(report[MVPN_STAGE_EXIT].trouble.cause, MVPN_STAGE_NOTHING);
}

static void test_lost(void **state)
{
    mvpn_stages s;
    (void)state;
    mvpn_stages_init(&s, START);
    mvpn_stages_reach(&s, MVPN_STAGE_NETWORK, START + MVPN_MS(10));
    mvpn_stages_lose(&s, MVPN_STAGE_EXIT, START + MVPN_MS(11)); /* there was none */
    mvpn_stages_reach(&s, MVPN_STAGE_NAMES, START + MVPN_MS(20));
    mvpn_stages_lose(&s, MVPN_STAGE_GUARD, START + MVPN_S(60));
    expect(&s, START + MVPN_S(60) + MVPN_MS(5), "ddr....",
           (const unsigned[]){10, 0, 5, 0, 0, 0, 0});
    mvpn_stages_reach(&s, MVPN_STAGE_CIRCUIT, START + MVPN_S(60) + MVPN_MS(30));
    expect(&s, START + MVPN_S(60) + MVPN_MS(31), "ddddr..",
           (const unsigned[]){10, 0, 30, 0, 1, 0, 0});
}

static void test_changes_are_told_once(void **state)
{
    static const mvpn_stage_trouble dead = {.cause = MVPN_STAGE_NO_GUARD};
    mvpn_stages s;
    (void)state;
    mvpn_stages_init(&s, START);
    assert_true(mvpn_stages_take_change(&s));
    assert_false(mvpn_stages_take_change(&s));
    mvpn_stages_reach(&s, MVPN_STAGE_NETWORK, START);
    assert_true(mvpn_stages_take_change(&s));
    mvpn_stages_reach(&s, MVPN_STAGE_HOST, START);
    assert_false(mvpn_stages_take_change(&s));
    mvpn_stages_hold(&s, MVPN_STAGE_GUARD, &dead);
    assert_true(mvpn_stages_take_change(&s));
    mvpn_stages_hold(&s, MVPN_STAGE_GUARD, &dead);
    assert_false(mvpn_stages_take_change(&s));
    mvpn_stages_lose(&s, MVPN_STAGE_GUARD, START);
    assert_false(mvpn_stages_take_change(&s));
    mvpn_stages_lose(&s, MVPN_STAGE_NETWORK, START);
    assert_true(mvpn_stages_take_change(&s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_later_means_all_before),
        cmocka_unit_test(test_trouble_is_of_the_next_alone),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_changes_are_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
