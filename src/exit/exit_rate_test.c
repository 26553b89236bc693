/* What an exit bounds: rates of a session and of all, the quota of the month, ICMP of its own, what
 * waits at its outputs. */
#include "exit/testing.h"

static void icmp_is_rate_limited(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true);
    mvpn_packet out;
    unsigned answers = 0;
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, gw4, 2, 9), MVPN_MS(i)),
                         MVPN_E_POLICY);
        answers += pull(id, &out);
    }
    assert_in_range(answers, MVPN_EXIT_ICMP_BURST, MVPN_EXIT_ICMP_BURST + MVPN_EXIT_ICMP_RATE);
}

static void rates(void **state)
{
    (void)state;
    exit_stop();
    mvpn_exit_config c = exit_config();
    c.session_rate = 1000000;
    c.session_burst = 100000;
    c.total_rate = 1500000;
    exit_start(&c);
    uint32_t a = open_session(1289, true), b = open_session(1289, true);
    mvpn_packet out;
    uint64_t passed[2] = {0};
    for (int i = 0; i < 10000; i++) { /* 1 s, 10 MB/s offered by each */
        for (int k = 0; k < 2; k++) {
            if (mvpn_exit_from_session(ex, k ? b : a, udp(4, in4, 1, far4, 2, 972),
                                       (mvpn_time)i * 100) == 0) {
                passed[k] += 1000;
                assert_true(pop(mvpn_exit_tun_out(ex), &out));
            }
        }
    }
    assert_in_range(passed[0], 500000, 1100000);
    assert_in_range(passed[1], 500000, 1100000);
    assert_in_range(passed[0] + passed[1], 1900000, 2200000); /* two buckets of 1.1 MB */
    assert_true(mvpn_exit_get_counters(ex)->refused_rate > 15000);
}

#define SECONDS 30

/* Bytes that pass in SECONDS of which three times as many are offered, both ways, by two sessions.
 */
static void offer(const uint32_t ids[2], uint64_t passed[2][2], uint32_t per_packet, mvpn_time gap)
{
    mvpn_packet out;
    mvpn_addr pool[2][2];
    uint32_t id;
    mvpn_packet *p;
    for (int k = 0; k < 2; k++) {
        assert_int_equal(mvpn_exit_session_addrs(ex, ids[k], &pool[k][0], &pool[k][1]), 0);
    }
    for (mvpn_time now = 0; now < MVPN_S(SECONDS); now += gap) {
        for (int k = 0; k < 2; k++) {
            (void)mvpn_exit_from_session(ex, ids[k], udp(4, in4, 1, far4, 2, per_packet - 28), now);
            passed[k][0] += pop(mvpn_exit_tun_out(ex), &out) ? per_packet : 0;
            (void)mvpn_exit_from_tun(ex, udp(4, far4, 2, pool[k][0].ip, 1, per_packet - 28), now);
            if (mvpn_exit_pull_to_session(ex, &id, &p)) {
                assert_int_equal(id, ids[k]);
                mvpn_packet_free(&packets, p);
                passed[k][1] += per_packet;
            }
        }
    }
}

/* Within 2 % of what was configured, and of their burst. */
static void limits_are_exact(void **state)
{
    (void)state;
    static const struct {
        uint64_t session_rate, total_rate, total_burst;
        uint64_t each, all; /* bytes a second: of one session and direction; of everything */
        mvpn_time gap;
    } rows[] = {
        {100000, 0, 0, 100000, 400000, 3300},
        {300000, 0, 0, 300000, 1200000, 1100},
        {0, 300000, 0, 0, 300000, 3300},
        {0, 300000, 3000000, 0, 300000, 3300},
        {0, 300000, 65536, 0, 300000, 3300},
        {100000, 10000000, 0, 100000, 400000, 3300}, /* the total does not matter */
        {1000000, 500000, 0, 0, 500000, 3300},       /* the sessions' does not */
        {7777, 0, 0, 7777, 4 * 7777, 42000},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        exit_stop();
        mvpn_exit_config c = exit_config();
        c.session_rate = rows[i].session_rate;
        c.session_burst = 65536;
        c.total_rate = rows[i].total_rate;
        c.total_burst = rows[i].total_burst;
        exit_start(&c);
        uint32_t ids[2] = {open_session(1289, true), open_session(1289, true)};
        uint64_t passed[2][2] = {{0}}, all = 0;
        offer(ids, passed, 1000, rows[i].gap);
        for (int k = 0; k < 4; k++) {
            uint64_t n = passed[k / 2][k % 2], want = rows[i].each * SECONDS + 65536;
            all += n;
            if (rows[i].each != 0 && (n < want * 98 / 100 || n > want * 102 / 100)) {
                fail_msg("row %zu: %lu bytes of %lu", i, (unsigned long)n, (unsigned long)want);
            }
        }
        uint64_t total_burst = rows[i].total_burst != 0 ? rows[i].total_burst : rows[i].total_rate;
        uint64_t burst = rows[i].each != 0 ? 4 * 65536 : total_burst;
        uint64_t want = rows[i].all * SECONDS + burst;
        if (all < want * 98 / 100 || all > want * 102 / 100) {
            fail_msg("row %zu: %lu bytes of %lu in all", i, (unsigned long)all,
                     (unsigned long)want);
        }
    }
}

/* What all together did not let pass does not cost the session its own share. */
static void total_limit_leaves_sessions_theirs(void **state)
{
    (void)state;
    exit_stop();
    mvpn_exit_config c = exit_config();
    mvpn_packet out;
    c.session_rate = 10;
    c.session_burst = 100000;
    c.total_rate = 100000; /* burst likewise */
    exit_start(&c);
    uint32_t greedy = open_session(1289, true), other = open_session(1289, true);
    unsigned passed = 0;
    for (int i = 0; i < 100; i++) {
        (void)mvpn_exit_from_session(ex, greedy, udp(4, in4, 1, far4, 2, 972), 0);
        passed += pop(mvpn_exit_tun_out(ex), &out);
    }
    assert_int_equal(passed, 100);
    for (int i = 0; i < 100; i++) { /* nothing is left of the total */
        assert_int_equal(mvpn_exit_from_session(ex, other, udp(4, in4, 1, far4, 2, 972), 0),
                         MVPN_E_LIMIT);
    }
    for (int i = 0; i < 100; i++) { /* a second later there is, and the other has its burst yet */
        passed += mvpn_exit_from_session(ex, other, udp(4, in4, 1, far4, 2, 972), MVPN_S(1)) == 0;
        (void)pop(mvpn_exit_tun_out(ex), &out);
    }
    assert_int_equal(passed, 200);
}

static void quota_ends_traffic(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true), more;
    mvpn_addr pool4, pool6;
    mvpn_packet out;
    assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool4, &pool6), 0);
    mvpn_exit_set_quota(ex, 100000, 20500);
    unsigned passed = 0;
    for (int i = 0; i < 100; i++) {
        mvpn_time now = MVPN_S((unsigned)i);
        int r = i % 2 ? mvpn_exit_from_session(ex, id, udp(4, in4, 1, far4, 2, 972), now)
                      : mvpn_exit_from_tun(ex, udp(4, far4, 2, pool4.ip, 1, 972), now);
        passed += r == 0;
        assert_int_equal(r, i < 79 ? 0 : MVPN_E_LIMIT);
        bool went = pop(mvpn_exit_tun_out(ex), &out);
        assert_true(went == (i % 2 && i < 79));
        bool came = pull(id, &out);
        assert_true(came == (i % 2 == 0 ? i < 79 : i >= 79)); /* answered by ICMP behind it */
        assert_true(i % 2 == 0 || !came || out.data[20] == 3);
    }
    assert_int_equal(passed, 79);
    assert_int_equal(mvpn_exit_quota_used(ex), 99500);
    assert_int_equal(mvpn_exit_get_counters(ex)->refused_quota, 21);
    mvpn_exit_set_quota(ex, 100000, 100000);
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &more), MVPN_E_LIMIT);
    mvpn_exit_set_quota(ex, 100000, 0); /* a new month */
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &more), 0);
    assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, far4, 2, 972), MVPN_S(101)), 0);
    assert_true(pop(mvpn_exit_tun_out(ex), &out));
}

static void outputs_are_bounded(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true);
    mvpn_addr pool4, pool6;
    assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool4, &pool6), 0);
    for (int i = 0; i < MVPN_EXIT_QUEUE_MAX; i++) {
        assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, far4, 2, 5), 0), 0);
        assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, pool4.ip, 2, 5), 0), 0);
    }
    assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, far4, 2, 5), 0), MVPN_E_LIMIT);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, pool4.ip, 2, 5), 0), MVPN_E_LIMIT);
    assert_int_equal(packets.free_count, PACKETS - 2 * MVPN_EXIT_QUEUE_MAX);
    assert_int_equal(mvpn_exit_get_counters(ex)->queue_full, 2);
    exit_stop(); /* gives them all back */
    mvpn_exit_config c = exit_config();
    exit_start(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(icmp_is_rate_limited), TEST(rates),
        TEST(limits_are_exact),     TEST(total_limit_leaves_sessions_theirs),
        TEST(quota_ends_traffic),   TEST(outputs_are_bounded),
    };
    return cmocka_run_group_tests(tests, exit_group_setup, exit_group_teardown);
}
