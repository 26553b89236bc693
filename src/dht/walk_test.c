#include "dht/testing.h"
#include "dht/walk.h"

static mvpn_rng rng;

static void prefixes_by_size(void **state)
{
    (void)state;
    static const struct {
        uint64_t nodes;
        unsigned bits;
    } rows[] = {{1, 0}, {11, 0}, {12, 1}, {100, 4}, {1000, 7}, {10000, 10}, {1u << 30, 14}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_dht_walk w = {0};
        assert_int_equal(mvpn_dht_walk_begin(&w, rows[i].nodes, &rng), 0);
        assert_int_equal(w.bits, rows[i].bits);
        w.pass = 1;
        assert_int_equal(mvpn_dht_walk_begin(&w, rows[i].nodes, &rng), 0);
        /* 8 min at 1,000 servers; never less than 30 s, never quicker than a step takes */
        assert_true(w.interval << w.bits >= MVPN_S(30) && w.interval >= MVPN_MS(3750));
        assert_true(rows[i].nodes != 1000 || w.interval << w.bits == MVPN_S(480));
        mvpn_dht_walk_done(&w);
    }
}

static void each_prefix_once(void **state)
{
    (void)state;
    mvpn_dht_walk w = {0};
    bool seen[128] = {false};
    assert_int_equal(mvpn_dht_walk_begin(&w, 1000, &rng), 0);
    for (; !mvpn_dht_walk_is_round(&w); w.at++) {
        mvpn_dht_id id;
        mvpn_dht_walk_prefix(&w, &id);
        assert_true(mvpn_dht_walk_has_prefix(&w, &id));
        assert_false(seen[id.b[0] >> 1]);
        seen[id.b[0] >> 1] = true;
    }
    for (size_t i = 0; i < 128; i++) {
        assert_true(seen[i]);
    }
    mvpn_dht_walk_done(&w);
}

/* Two of different blocks, asked in turn from pass to pass; kept when prefixes get longer. */
static void contacts_take_turns(void **state)
{
    (void)state;
    mvpn_dht_walk w = {0};
    mvpn_dht_contact a = test_contact(1, test_ip(1)), b = test_contact(2, test_ip(2)),
                     same = test_contact(3, test_ip(1) + 1), one, other;
    assert_int_equal(mvpn_dht_walk_begin(&w, 1000, &rng), 0);
    w.at = w.mask; /* the prefix of zeros */
    assert_false(mvpn_dht_walk_choose(&w, &one));
    mvpn_dht_walk_learn(&w, &a);
    mvpn_dht_walk_learn(&w, &same);
    mvpn_dht_walk_learn(&w, &b);
    assert_true(mvpn_dht_walk_choose(&w, &one));
    w.pass++;
    assert_true(mvpn_dht_walk_choose(&w, &other));
    assert_false(mvpn_dht_contact_eq(&one, &other));
    assert_int_equal(mvpn_dht_walk_begin(&w, 20000, &rng), 0);
    w.at = w.mask;
    mvpn_dht_walk_forget(&w, &a.id);
    assert_true(mvpn_dht_walk_choose(&w, &one));
    assert_true(mvpn_dht_contact_eq(&one, &b));
    mvpn_dht_walk_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_by_size),
        cmocka_unit_test(each_prefix_once),
        cmocka_unit_test(contacts_take_turns),
    };
    mvpn_rng_init_test(&rng, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
