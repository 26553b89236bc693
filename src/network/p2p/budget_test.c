/* How much goes to addresses that nobody has proven. (docs/protocol.md §14.5) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "network/p2p/connection.h"

#define NOW MVPN_S(5000)

static mvpn_connector c; /* only its table is used */

static int fresh(void **state)
{
    (void)state;
    c = (mvpn_connector){.sip = {{1, 2, 3}}};
    return 0;
}

static mvpn_addr v4(uint8_t a, uint8_t b, uint8_t last, uint16_t port)
{
    return (mvpn_addr){.family = 4, .port = port, .ip = {51, a, b, last}};
}

static mvpn_addr v6(uint8_t in_48, uint8_t last)
{
    return (mvpn_addr){.family = 6, .port = 9, .ip = {0x26, 1, 2, 3, 4, in_48, last, last}};
}

/* How many more may go there. */
static unsigned left(mvpn_addr to, bool is_probe, mvpn_time now)
{
    unsigned n = 0;
    while (n < 5000 && budget_take(&c, &to, is_probe, now)) {
        n++;
        to.port++; /* ports do not matter */
    }
    return n;
}

static void test_per_block(void **state)
{
    (void)state;
    assert_int_equal(left(v4(1, 1, 1, 100), false, NOW), 20);
    assert_int_equal(left(v4(1, 1, 250, 100), false, NOW), 0); /* the same /24 */
    assert_int_equal(left(v4(1, 2, 1, 100), false, NOW), 20);
    assert_int_equal(left(v6(1, 1), false, NOW), 20);
    assert_int_equal(left(v6(1, 2), false, NOW), 0); /* the same /48 */
    assert_int_equal(left(v6(2, 1), false, NOW), 20);
}

/* Punches and probes have their own bounds. */
static void test_probes(void **state)
{
    (void)state;
    mvpn_addr to = v4(1, 1, 1, 100), near = v4(1, 1, 9, 3);
    assert_true(budget_has_probes(&c, &to, NOW));
    assert_int_equal(left(to, false, NOW), 20);
    assert_true(budget_has_probes(&c, &to, NOW));
    assert_int_equal(left(to, true, NOW), 1024);
    assert_false(budget_has_probes(&c, &near, NOW));
    assert_int_equal(left(near, true, NOW), 0);
    assert_int_equal(left(v4(1, 2, 1, 1), true, NOW), 1024);
    assert_int_equal(left(v4(1, 2, 1, 1), false, NOW), 20);
}

/* One that has begun counts, however few went out. */
static void test_one_birthday(void **state)
{
    (void)state;
    mvpn_addr to = v4(1, 1, 1, 100);
    assert_true(budget_take(&c, &to, true, NOW));
    assert_false(budget_has_probes(&c, &to, NOW));
    assert_false(budget_has_probes(&c, &to, NOW + BUDGET_TIME - 1));
    assert_true(budget_has_probes(&c, &to, NOW + BUDGET_TIME));
}

static void test_an_hour(void **state)
{
    (void)state;
    mvpn_addr to = v4(1, 1, 1, 100);
    assert_true(budget_take(&c, &to, false, NOW));
    assert_int_equal(left(to, false, NOW + MVPN_S(3000)), 19);
    assert_int_equal(left(to, true, NOW + MVPN_S(3000)), 1024);
    assert_int_equal(left(to, false, NOW + MVPN_S(3600) - 1), 0);
    assert_int_equal(left(to, true, NOW + MVPN_S(3600) - 1), 0);
    assert_int_equal(left(to, false, NOW + MVPN_S(3600)), 20); /* from the first one on */
    assert_int_equal(left(to, true, NOW + MVPN_S(3600)), 1024);
    assert_int_equal(left(to, false, NOW + MVPN_S(7200) - 1), 0);
}

static void test_given_back(void **state)
{
    (void)state;
    mvpn_addr to = v4(1, 1, 1, 100), other = v4(1, 2, 1, 1), none = v4(9, 9, 9, 9);
    assert_int_equal(left(to, false, NOW), 20);
    assert_int_equal(left(other, false, NOW), 20);
    budget_give_back(&c, &to, 5);
    budget_give_back(&c, &none, 5); /* nothing was sent there */
    assert_int_equal(left(other, false, NOW), 0);
    assert_int_equal(left(to, false, NOW), 5);
    assert_int_equal(left(to, true, NOW), 1024);
    budget_give_back(&c, &to, 100); /* never more than was taken */
    assert_int_equal(left(to, false, NOW), 20);
    assert_int_equal(left(to, true, NOW), 0); /* probes are not */
    assert_int_equal(left(none, false, NOW), 20);
}

static void test_table_is_full(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BUDGET_BLOCKS; i++) {
        mvpn_addr to = v4(1, (uint8_t)i, 1, 1);
        assert_true(budget_take(&c, &to, false, NOW + i));
    }
    mvpn_addr more = v4(2, 1, 1, 1), known = v4(1, 200, 1, 1);
    assert_false(budget_take(&c, &more, false, NOW + 300));
    assert_false(budget_take(&c, &more, true, NOW + 300));
    assert_false(budget_has_probes(&c, &more, NOW + 300));
    assert_true(budget_take(&c, &known, false, NOW + 300));
    assert_false(budget_take(&c, &more, false, NOW + BUDGET_TIME - 1));
    assert_int_equal(left(more, false, NOW + BUDGET_TIME), 20); /* the first block's time is over */
    mvpn_addr another = v4(2, 2, 1, 1);
    assert_false(budget_take(&c, &another, false, NOW + BUDGET_TIME));
    assert_int_equal(left(known, false, NOW + BUDGET_TIME), 18);
}

/* One NAT relay names a quarter of the blocks at most; others' rounds go on. */
static void test_share_of_a_relay(void **state)
{
    (void)state;
    const mvpn_ed25519_pub liar = {{1}}, other = {{2}};
    size_t begun = 0;
    for (unsigned i = 0; i < 2 * BUDGET_BLOCKS; i++) {
        mvpn_addr seen = v4((uint8_t)(i >> 8), (uint8_t)i, 1, 9);
        begun += budget_may_begin(&c, &seen, &liar, NOW + i);
    }
    assert_int_equal(begun, BUDGET_BLOCKS_NAMED);
    const mvpn_addr known = v4(0, 0, 7, 1), fresh_one = v4(9, 9, 1, 9);
    assert_true(budget_may_begin(&c, &known, &liar, NOW + 600)); /* within the block's bounds */
    assert_false(budget_may_begin(&c, &fresh_one, &liar, NOW + 600));
    assert_true(budget_may_begin(&c, &fresh_one, &other, NOW + 600));
    assert_int_equal(left(fresh_one, false, NOW + 600), BUDGET_PUNCHES);
    const mvpn_addr later = v4(9, 10, 1, 9);
    assert_true(budget_may_begin(&c, &later, &liar, NOW + 2 * BUDGET_TIME));
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test_setup(test_per_block, fresh),
        cmocka_unit_test_setup(test_probes, fresh),
        cmocka_unit_test_setup(test_one_birthday, fresh),
        cmocka_unit_test_setup(test_an_hour, fresh),
        cmocka_unit_test_setup(test_given_back, fresh),
        cmocka_unit_test_setup(test_table_is_full, fresh),
        cmocka_unit_test_setup(test_share_of_a_relay, fresh),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
