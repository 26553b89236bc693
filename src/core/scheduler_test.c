/* Shares, order, CoDel and the rate; the times are exact. */
#include "core/testing.h"

#include "core/scheduler.h"

#define OVERHEAD 89
#define FULL (MVPN_SCHEDULER_QUANTUM - OVERHEAD)
#define LARGE (MVPN_FLOW_LIGHT - OVERHEAD)
#define FLOWS 1000

static mvpn_packet_pool pool;
static mvpn_scheduler s;
static mvpn_flow flow[FLOWS];
static mvpn_time now;

static void begin(uint64_t rate, uint32_t packets_max)
{
    const mvpn_scheduler_config config = {
        .pool = &pool,
        .rate = rate,
        .packets_max = packets_max,
    };
    assert_int_equal(mvpn_packet_pool_init(&pool, 8192), 0);
    memset(flow, 0, sizeof(flow));
    now = MVPN_S(10);
    mvpn_scheduler_init(&s, &config, now);
}

static void end(void)
{
    for (size_t i = 0; i < FLOWS; i++) {
        mvpn_flow_clear(&s, &flow[i]);
    }
    assert_int_equal(s.packets, 0);
    assert_int_equal(s.flows, 0);
    assert_int_equal(pool.free_count, pool.size);
    mvpn_packet_pool_done(&pool);
}

static void put_flagged(size_t f, uint32_t len, uint8_t flags)
{
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    p->len = len;
    p->flags = flags;
    mvpn_scheduler_put(&s, &flow[f], p, len + OVERHEAD, now);
}

static void put(size_t f, uint32_t len)
{
    put_flagged(f, len, 0);
}

/* The flow whose packet comes next; -1: none. */
static int pull_len(uint32_t *ret_len, bool *ret_is_marked)
{
    mvpn_flow *f;
    mvpn_packet *p;
    bool is_marked;
    if (!mvpn_scheduler_pull(&s, now, &f, &p, &is_marked)) {
        return -1;
    }
    *ret_len = p->len;
    *ret_is_marked = is_marked;
    mvpn_packet_free(&pool, p);
    return (int)(f - flow);
}

static int pull(void)
{
    uint32_t len;
    bool is_marked;
    return pull_len(&len, &is_marked);
}

static void test_order_within_a_flow(void **state)
{
    (void)state;
    uint32_t len;
    bool is_marked;
    begin(0, 4096);
    assert_int_equal(mvpn_scheduler_deadline(&s), MVPN_TIME_NEVER);
    for (uint32_t i = 1; i <= 100; i++) {
        put(0, i);
    }
    assert_int_equal(mvpn_scheduler_deadline(&s), 0);
    for (uint32_t i = 1; i <= 100; i++) {
        assert_int_equal(pull_len(&len, &is_marked), 0);
        assert_int_equal(len, i);
        assert_false(is_marked);
    }
    assert_int_equal(pull(), -1);
    assert_int_equal(mvpn_scheduler_deadline(&s), MVPN_TIME_NEVER);
    end();
}

/* Whatever the sizes, and however unequal the demands, bytes are shared equally. */
static void test_shares_are_of_bytes(void **state)
{
    (void)state;
    static const uint32_t len[4] = {FULL, 600, 100, FULL};
    uint64_t bytes[4] = {0};
    begin(0, 4096);
    for (unsigned i = 0; i < 20000; i++) {
        for (size_t f = 0; f < 4; f++) {
            for (unsigned k = 0; k <= f * 2; k++) { /* the last floods */
                if (flow[f].count < MVPN_FLOW_PACKETS_MAX - 8 || f == 3) {
                    put(f, len[f]);
                }
            }
        }
        uint32_t n = 0;
        bool is_marked;
        int f = pull_len(&n, &is_marked);
        assert_true(f >= 0);
        if (i > 2000) {
            bytes[f] += n + OVERHEAD;
        }
    }
    for (size_t f = 1; f < 4; f++) {
        assert_true(bytes[f] * 100 > bytes[0] * 99 && bytes[f] * 99 < bytes[0] * 100);
    }
    end();
}

static void test_who_had_nothing_waiting_comes_first(void **state)
{
    (void)state;
    begin(0, 4096);
    for (unsigned i = 0; i < 200; i++) {
        for (size_t f = 0; f < 10; f++) {
            put(f, FULL);
        }
    }
    for (unsigned i = 0; i < 25; i++) {
        (void)pull();
    }
    put(20, 100);
    put(21, 100);
    assert_int_equal(pull(), 20);
    assert_int_equal(pull(), 21);
    assert_true(pull() < 10);
    end();
}

/* But once: else a few flows of small packets would keep the others from their turn. */
static void test_fresh_flows_starve_nobody(void **state)
{
    (void)state;
    unsigned bulk = 0;
    begin(0, 4096);
    for (unsigned i = 0; i < 1000; i++) {
        put(0, FULL);
        for (size_t f = 1; f <= 20;
             f++) { /* each one puts the next as soon as it got one through */
            if (flow[f].count == 0) {
                put(f, FULL);
            }
        }
        for (unsigned k = 0; k < 20; k++) {
            bulk += pull() == 0;
        }
    }
    assert_true(bulk > 900 && bulk <= 1000);
    end();
}

/* Small packets pass the large ones of their flow, at its turn; what they take the flow has less.
 */
static void test_small_packets_go_first(void **state)
{
    (void)state;
    uint64_t bytes[20] = {0};
    uint32_t len = 0;
    bool is_marked;
    begin(0, 4096);
    for (unsigned i = 0; i < 20000; i++) {
        for (size_t f = 0; f < 20; f++) {
            while (flow[f].count < 5) {
                put(f, FULL);
            }
        }
        if (i % 40 == 7) {
            put(3, 100);
        }
        int f = pull_len(&len, &is_marked);
        assert_in_range(f, 0, 19);
        bytes[MVPN_MAX(f, 0)] += len + OVERHEAD;
        assert_true(f != 3 || len == 100 || mvpn_flow_oldest(&flow[3])->len == FULL);
    }
    assert_true(bytes[3] * 100 > bytes[4] * 98 && bytes[3] * 98 < bytes[4] * 100);
    put(3, 100);
    unsigned waited = 0;
    for (int f = pull_len(&len, &is_marked); f != 3; f = pull_len(&len, &is_marked)) {
        waited++;
    }
    assert_int_equal(len, 100);
    assert_true(waited <= 21);
    /* What is to be kept keeps its place. */
    mvpn_flow_clear(&s, &flow[3]);
    put(3, FULL);
    put_flagged(3, 10, MVPN_PACKET_KEEP);
    do {
    } while (pull_len(&len, &is_marked) != 3);
    assert_int_equal(len, FULL);
    end();
}

static void test_fewer_wait_when_turns_are_rare(void **state)
{
    (void)state;
    begin(0, 4096);
    for (unsigned i = 0; i < 3000; i++) {
        for (size_t f = 0; f < 200; f++) {
            put(f, FULL);
        }
        (void)pull();
        now += 1000;
    }
    assert_in_range(flow[0].count, 9, 11); /* 2 s of rounds of 200 ms */
    end();
}

static void test_a_full_flow_loses_its_oldest(void **state)
{
    (void)state;
    uint32_t len;
    bool is_marked;
    begin(0, 4096);
    for (uint32_t i = 1; i <= MVPN_FLOW_PACKETS_MAX + 10; i++) {
        put(0, LARGE + i);
    }
    assert_int_equal(flow[0].count, MVPN_FLOW_PACKETS_MAX);
    assert_int_equal(s.counters.dropped_full, 10);
    assert_int_equal(pull_len(&len, &is_marked), 0);
    assert_int_equal(len, LARGE + 11);
    end();
}

static void test_too_much_of_all_is_the_longest_flows_loss(void **state)
{
    (void)state;
    begin(0, 1000);
    for (size_t f = 1; f < FLOWS; f++) {
        put(f, FULL);
    }
    for (unsigned i = 0; i < 2000; i++) {
        put(0, FULL);
        assert_true(s.packets <= 1000);
    }
    for (size_t f = 1; f < FLOWS; f++) {
        assert_int_equal(flow[f].count, 1);
    }
    assert_true(flow[0].count >= 1);
    end();
}

/* A sender that does not care at twice the rate: its queue stands, and is cut from the front. */
static void overload(uint8_t flags, unsigned seconds, uint64_t *ret_marked)
{
    uint32_t len;
    bool is_marked;
    *ret_marked = 0;
    for (mvpn_time until = now + MVPN_S(seconds); now < until; now += 500) {
        put_flagged(0, FULL, flags);
        if (now % 1000 == 0 && pull_len(&len, &is_marked) == 0) {
            *ret_marked += is_marked;
        }
    }
}

static void test_codel_drops_from_a_queue_that_stands(void **state)
{
    (void)state;
    uint64_t marked;
    begin(0, 4096);
    overload(0, 1, &marked);
    assert_int_equal(marked, 0);
    assert_int_equal(s.counters.marked, 0);
    assert_true(s.counters.dropped_codel > 5);
    end();
}

static void test_codel_marks_what_can_be_marked(void **state)
{
    (void)state;
    uint64_t marked;
    begin(0, 4096);
    overload(MVPN_PACKET_ECT, 1, &marked);
    assert_true(marked > 5);
    assert_int_equal(s.counters.marked, marked);
    assert_int_equal(s.counters.dropped_codel, 0);
    end();
}

static void test_codel_keeps_what_is_to_be_kept(void **state)
{
    (void)state;
    uint64_t marked;
    begin(0, 4096);
    overload(MVPN_PACKET_KEEP, 1, &marked);
    assert_int_equal(marked, 0);
    assert_int_equal(s.counters.dropped_codel, 0);
    end();
}

/* RFC 8289 §5: the first drop when an interval has passed, the next ones at interval / sqrt(n). */
static void test_codel_times(void **state)
{
    (void)state;
    static const mvpn_time gap[] = {100000, 70710, 57735, 50000};
    mvpn_time at[5] = {0};
    unsigned n = 0;
    begin(0, 4096);
    mvpn_time began = now;
    for (unsigned i = 0; i < 100; i++) {
        put(0, FULL);
    }
    while (n < 5) {
        now += 100;
        if (now % 500 == 0) {
            put(0, FULL);
            put(0, FULL);
        }
        if (now % 1000 == 0) { /* what arrives is twice what leaves */
            (void)pull();
        }
        if (s.counters.dropped_codel > n) {
            at[n++] = now;
        }
    }
    /* Above 5 ms from the sixth packet on. */
    assert_true(at[0] - began >= 105000 && at[0] - began <= 107000);
    for (unsigned i = 0; i < 4; i++) {
        mvpn_time wanted = gap[i];
        assert_true(at[i + 1] - at[i] + 1000 >= wanted && at[i + 1] - at[i] <= wanted + 1000);
    }
    end();
}

/* Nothing is dropped from a flow that has but one cell waiting: it is others that it waits for. */
static void test_codel_spares_the_last_cell(void **state)
{
    (void)state;
    uint64_t got[100] = {0};
    begin(0, 4096);
    for (unsigned i = 0; i < 20000; i++, now += 1000) { /* a round is 100 ms */
        for (size_t f = 0; f < 100; f++) {
            while (flow[f].count < 2) {
                put(f, FULL);
            }
        }
        got[pull()]++;
    }
    assert_int_equal(s.counters.dropped_codel, 0);
    for (size_t f = 0; f < 100; f++) {
        assert_true(got[f] >= 198 && got[f] <= 202);
    }
    end();
}

/* Who sends one packet as soon as the last one is through has a share as the others, not more. */
static void test_coming_in_portions_gains_nothing(void **state)
{
    (void)state;
    unsigned got[51] = {0};
    begin(0, 4096);
    for (unsigned i = 0; i < 20000; i++) {
        for (size_t f = 0; f < 50; f++) {
            while (flow[f].count < 3) {
                put(f, FULL);
            }
        }
        if (i % 3 == 0 && flow[50].count == 0) { /* it was idle meanwhile */
            put(50, FULL - 50);                  /* something of the quantum is left each time */
        }
        got[pull()]++;
        now += 10;
    }
    assert_true(got[50] * 10 < got[0] * 12 && got[50] * 12 > got[0] * 10);
    end();
}

/* Among many flows two rounds of waiting are no standing queue. */
static void test_codel_counts_in_rounds(void **state)
{
    (void)state;
    begin(0, 4096);
    for (unsigned i = 0; i < 20000; i++, now += 500) { /* a round is 100 ms: two of each */
        for (size_t f = 0; f < 100; f++) {
            while (flow[f].count < 4) {
                put(f, MVPN_SCHEDULER_QUANTUM / 2 - OVERHEAD);
            }
        }
        (void)pull();
    }
    assert_true(s.counters.dropped_codel < 5); /* of before a round was measured */
    end();
}

/* Nor is one packet behind another a queue, however late they are. */
static void test_codel_needs_more_than_a_cell(void **state)
{
    (void)state;
    begin(0, 4096);
    for (unsigned i = 0; i < 10; i++) {
        put(0, FULL);
        put(0, FULL);
        now += MVPN_S(1);
        assert_int_equal(pull(), 0);
        assert_int_equal(pull(), 0);
    }
    assert_int_equal(s.counters.dropped_codel, 0);
    end();
}

static void test_rate(void **state)
{
    (void)state;
    const uint64_t rate = 6250000; /* 50 Mbit/s */
    uint64_t bytes = 0, wakes = 0;
    begin(rate, 4096);
    mvpn_time began = now;
    while (now < began + MVPN_S(2)) {
        while (s.packets < 200) {
            put(s.packets % 7, FULL);
        }
        while (pull() >= 0) {
            bytes += FULL + OVERHEAD;
        }
        mvpn_time at = mvpn_scheduler_deadline(&s);
        assert_true(at > now && at <= now + MVPN_MS(5));
        now = at;
        wakes++;
    }
    assert_true(bytes > rate * 2 * 99 / 100 && bytes < rate * 2 * 101 / 100 + 25000);
    assert_true(wakes < 2500);
    /* After a pause there is a burst of 4 ms, not of the pause. */
    now += MVPN_S(5);
    bytes = 0;
    for (size_t f = 10; f < 110; f++) {
        put(f, FULL);
    }
    while (pull() >= 0) {
        bytes += FULL + OVERHEAD;
    }
    assert_true(bytes >= rate * 4 / 1000 && bytes <= rate * 4 / 1000 + FULL + OVERHEAD);
    /* What else was sent counts. */
    mvpn_scheduler_charge(&s, 62500);
    assert_true(mvpn_scheduler_deadline(&s) >= now + MVPN_MS(10));
    now += MVPN_MS(9);
    assert_int_equal(pull(), -1);
    now += MVPN_MS(3);
    assert_true(pull() >= 0);
    end();
}

static void test_round(void **state)
{
    (void)state;
    begin(0, 4096);
    assert_int_equal(mvpn_scheduler_round(&s, now), 0);
    for (unsigned i = 0; i < 3000; i++) {
        for (size_t f = 0; f < 300; f++) {
            while (flow[f].count < 3) {
                put(f, FULL);
            }
        }
        (void)pull();
        now += 1000;
    }
    mvpn_time round = mvpn_scheduler_round(&s, now);
    assert_true(round > MVPN_MS(295) && round < MVPN_MS(320));
    /* A round that does not end counts too. */
    now += MVPN_S(3);
    assert_true(mvpn_scheduler_round(&s, now) > MVPN_S(2));
    while (pull() >= 0) {
    }
    assert_int_equal(mvpn_scheduler_round(&s, now), 0);
    end();
}

static void test_large_ones_are_dropped(void **state)
{
    (void)state;
    uint32_t len;
    bool is_marked;
    begin(0, 4096);
    mvpn_flow_drop_large(&s, &flow[0]);
    put(0, FULL);
    put_flagged(0, FULL - 1, MVPN_PACKET_KEEP);
    put(0, 100);
    put(0, FULL);
    mvpn_flow_drop_large(&s, &flow[0]);
    assert_int_equal(flow[0].count, 2);
    assert_int_equal(pull_len(&len, &is_marked), 0);
    assert_int_equal(len, 100);
    assert_int_equal(pull_len(&len, &is_marked), 0);
    assert_int_equal(len, FULL - 1);
    assert_int_equal(flow[0].bytes, 0);
    end();
}

static void test_the_oldest(void **state)
{
    (void)state;
    begin(0, 4096);
    assert_null(mvpn_scheduler_oldest(&s));
    put(3, FULL);
    now += 1;
    put(5, FULL);
    put(3, FULL);
    now += 1;
    put(7, FULL);
    assert_ptr_equal(mvpn_scheduler_oldest(&s), &flow[3]);
    assert_int_equal(pull(), 3);
    assert_ptr_equal(mvpn_scheduler_oldest(&s), &flow[3]); /* as old as the fifth's */
    mvpn_flow_clear(&s, &flow[3]);
    assert_ptr_equal(mvpn_scheduler_oldest(&s), &flow[5]);
    end();
}

/* Flows end at any moment; sums hold. */
static void test_model(void **state)
{
    (void)state;
    uint64_t seed = 1;
    begin(1000000, 500);
    for (unsigned i = 0; i < 200000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t f = (size_t)(seed >> 33) % 60;
        unsigned what = (unsigned)(seed >> 60);
        if (what < 8) {
            put_flagged(f, 1 + (uint32_t)(seed >> 40) % FULL,
                        (seed >> 20) % 2 ? MVPN_PACKET_ECT : 0);
        } else if (what < 15) {
            (void)pull();
            now += (seed >> 50) % 1000;
        } else {
            mvpn_flow_clear(&s, &flow[f]);
        }
        uint32_t packets = 0;
        for (size_t k = 0; k < 60; k++) {
            packets += flow[k].count;
        }
        assert_int_equal(packets, s.packets);
        assert_int_equal(pool.size - pool.free_count, s.packets);
    }
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_within_a_flow),
        cmocka_unit_test(test_shares_are_of_bytes),
        cmocka_unit_test(test_who_had_nothing_waiting_comes_first),
        cmocka_unit_test(test_fresh_flows_starve_nobody),
        cmocka_unit_test(test_small_packets_go_first),
        cmocka_unit_test(test_fewer_wait_when_turns_are_rare),
        cmocka_unit_test(test_a_full_flow_loses_its_oldest),
        cmocka_unit_test(test_too_much_of_all_is_the_longest_flows_loss),
        cmocka_unit_test(test_codel_drops_from_a_queue_that_stands),
        cmocka_unit_test(test_codel_marks_what_can_be_marked),
        cmocka_unit_test(test_codel_keeps_what_is_to_be_kept),
        cmocka_unit_test(test_codel_times),
        cmocka_unit_test(test_codel_spares_the_last_cell),
        cmocka_unit_test(test_coming_in_portions_gains_nothing),
        cmocka_unit_test(test_codel_counts_in_rounds),
        cmocka_unit_test(test_codel_needs_more_than_a_cell),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_large_ones_are_dropped),
        cmocka_unit_test(test_the_oldest),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
