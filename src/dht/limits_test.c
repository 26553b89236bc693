#include "dht/limits.h"
#include "dht/testing.h"

static mvpn_rng rng;

static void rate_and_burst(void **state)
{
    (void)state;
    mvpn_dht_limits l;
    mvpn_dht_limits_init(&l, &rng, MVPN_MS(50), MVPN_S(5), 1024, false);
    mvpn_time now = MVPN_S(1);
    unsigned n = 0;
    while (mvpn_dht_limits_take(&l, 1, now)) {
        n++;
    }
    assert_int_equal(n, 100);
    assert_true(mvpn_dht_limits_take(&l, 2, now)); /* others are not concerned */
    for (n = 0; n < 1000; n++) {                   /* 100 a second asked for, 20 given */
        now += MVPN_MS(10);
        assert_int_equal(mvpn_dht_limits_take(&l, 1, now), n % 5 == 4);
    }
    now += MVPN_S(100);
    for (n = 0; mvpn_dht_limits_take(&l, 1, now); n++) {
    }
    assert_int_equal(n, 100);
    mvpn_dht_limits_done(&l);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    mvpn_dht_limits l;
    mvpn_dht_limits_init(&l, &rng, MVPN_MS(50), MVPN_S(5), 64, false);
    assert_int_equal(mvpn_dht_limits_memory(&l), 0);
    for (uint64_t i = 0; i < 10000; i++) {
        assert_true(mvpn_dht_limits_take(&l, i, MVPN_S(1)));
    }
    assert_true(mvpn_dht_limits_memory(&l) <= 64 * 16);
    mvpn_dht_limits_trim(&l, MVPN_S(1));
    assert_true(mvpn_dht_limits_memory(&l) > 0); /* still busy */
    mvpn_dht_limits_trim(&l, MVPN_S(20));
    assert_int_equal(mvpn_dht_limits_memory(&l), 0);
    mvpn_dht_limits_done(&l);
}

/* One a minute and block, and no more blocks than are remembered: nobody makes us send more. */
static void new_blocks_are_refused_when_full(void **state)
{
    (void)state;
    mvpn_dht_limits l;
    mvpn_dht_limits_init(&l, &rng, MVPN_S(60), MVPN_S(60), 64, true);
    unsigned taken = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        taken += mvpn_dht_limits_take(&l, i, MVPN_S(1));
    }
    assert_in_range(taken, 32, 64);
    assert_false(mvpn_dht_limits_take(&l, 0, MVPN_S(60)));
    assert_true(mvpn_dht_limits_take(&l, 0, MVPN_S(62)));
    mvpn_dht_limits_done(&l);
}

static void source_blocks(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool is_same;
    } rows[] = {
        {"11.1.2.3:1", "11.1.2.9:2", true},
        {"11.1.2.3:1", "11.1.3.3:1", false},
        {"[2a00:1:2:3::]:1", "[2a00:1:2:4::]:1", true},
        {"[2a00:1:2::]:1", "[2a00:1:3::]:1", false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr a, b;
        assert_int_equal(mvpn_addr_parse(rows[i].a, &a), 0);
        assert_int_equal(mvpn_addr_parse(rows[i].b, &b), 0);
        assert_int_equal(mvpn_dht_source_block(&a) == mvpn_dht_source_block(&b), rows[i].is_same);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_and_burst),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(new_blocks_are_refused_when_full),
        cmocka_unit_test(source_blocks),
    };
    mvpn_rng_init_test(&rng, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
