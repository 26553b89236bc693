/* A relay that is to send less than it gets: its rate, who waits, who ends, who is refused.
 * (docs/protocol.md §6.5) */
#include "core/testrelay.h"

#define LIMIT 250000 /* bytes per second */

static void limited(mvpn_engine_config *config)
{
    config->relay_rate = LIMIT;
}

static void few_packets(mvpn_engine_config *config)
{
    config->relay_rate = LIMIT;
    config->packet_count = 256;
}

static int setup_limited(void **state)
{
    (void)state;
    l = lab_new(LAB_RELAY, 1, limited);
    link0 = lab_join(l, 0);
    return 0;
}

static int setup_few_packets(void **state)
{
    (void)state;
    l = lab_new(LAB_RELAY, 1, few_packets);
    link0 = lab_join(l, 0);
    return 0;
}

static void fill_queue(lab_circuit *c, unsigned cells)
{
    uint8_t data[1200] = {0};
    for (unsigned i = 0; i < cells; i++) {
        lab_cell(l, c, MVPN_CMD_RELAY_DROP, false, MVPN_BYTES_ARRAY(data));
        lab_settle(l);
    }
}

static uint32_t waiting(void)
{
    return mvpn_relay_waiting(mvpn_engine_relay(l->engine));
}

static void test_cells_leave_at_the_rate(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_for(l, MVPN_S(1));
    fill_queue(&c, 100);
    uint32_t before = waiting();
    assert_in_range(before, 90, 97); /* the burst is four cells */
    lab_for(l, MVPN_MS(100));
    assert_in_range(before - waiting(), 16, 19); /* of 1,452 bytes */
    lab_for(l, MVPN_S(1));
    assert_int_equal(waiting(), 0);
}

/* A light circuit beside one that stands in its queue. */
static void test_a_light_circuit_is_not_behind_others(void **state)
{
    (void)state;
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    lab_circuit heavy = open_circuit(), light = open_circuit();
    lab_for(l, MVPN_S(1));
    fill_queue(&heavy, 100);
    assert_true(waiting() > 90);
    lab_cell(l, &light, MVPN_CMD_RELAY_PING, false, MVPN_BYTES_LITERAL("12345678"));
    lab_for(l, MVPN_MS(10)); /* the queue is of half a second */
    assert_int_equal(answer_of(&light, out, &n), MVPN_CMD_RELAY_PONG);
    assert_true(waiting() > 80);
}

static void test_the_oldest_ends_when_packets_run_low(void **state)
{
    (void)state;
    lab_circuit c[9], fresh = open_circuit();
    for (size_t i = 0; i < 9; i++) {
        c[i] = open_circuit();
    }
    lab_for(l, MVPN_S(1));
    /* All flows together hold half of the packets at most... */
    for (size_t i = 0; i < 9; i++) {
        fill_queue(&c[i], 30);
        lab_for(l, 10);
    }
    assert_true(waiting() <= 128);
    assert_int_equal(counters()->killed, 0);
    /* ... and if other uses take the rest, who has waited longest has to go. */
    mvpn_packet_pool *pool = mvpn_engine_pool(l->engine);
    mvpn_packet_queue held;
    mvpn_packet_queue_init(&held);
    size_t before = circuits();
    while (pool->free_count > pool->size / RESERVE_PART) {
        mvpn_packet_queue_push(&held, mvpn_packet_new(pool));
    }
    fill_queue(&fresh, 1);
    assert_int_equal(counters()->killed, 1);
    assert_int_equal(circuits(), before - 1);
    assert_destroyed(0, &c[0].in, MVPN_REASON_BUSY);
    mvpn_packet_queue_clear(&held, pool);
}

static void test_no_new_circuits_while_rounds_are_long(void **state)
{
    (void)state;
    enum { ACTIVE = 80 }; /* 80 x 1,452 bytes at 250,000 a second: half a second */
    static lab_circuit c[ACTIVE];
    for (size_t i = 0; i < ACTIVE; i++) {
        c[i] = open_circuit();
        lab_for(l, MVPN_MS(60));
    }
    mvpn_relay *relay = (mvpn_relay *)(uintptr_t)mvpn_engine_relay(l->engine);
    relay->scheduler.config.rate = LIMIT / 8; /* four seconds */
    for (unsigned k = 0; k < 14; k++) {
        for (size_t i = 0; i < ACTIVE; i++) {
            fill_queue(&c[i], 2);
        }
        lab_for(l, MVPN_MS(800));
    }
    assert_true(mvpn_relay_is_overloaded(mvpn_engine_relay(l->engine), l->now));
    lab_circuit more;
    uint64_t refused = counters()->refused;
    assert_false(lab_circuit_open(l, &more, 0, link0));
    assert_int_equal(counters()->refused, refused + 1);
    assert_int_equal(circuits(), ACTIVE);
    relay->scheduler.config.rate = 0;
    lab_for(l, MVPN_S(1)); /* all has left */
    lab_message m;
    while (lab_next(l, 0, &m)) {
    }
    assert_true(lab_circuit_open(l, &more, 0, link0));
}

/* Sockets full turn after turn: reading goes before sending, and handshakes have a tenth. */
static void test_a_crowd_waits_here_and_not_in_the_socket(void **state)
{
    (void)state;
    mvpn_relay *relay = (mvpn_relay *)(uintptr_t)mvpn_engine_relay(l->engine);
    assert_int_equal(relay_creates_now(relay), CREATE_PER_TURN);
    lab_circuit c = open_circuit();
    lab_for(l, MVPN_S(1));
    fill_queue(&c, 100);
    for (mvpn_time passed = 0; passed <= CROWDED_TIME; passed += 500, l->now += 500) {
        relay->arrived = CROWDED_ARRIVALS;
        mvpn_relay_flush(relay, l->now);
        assert_false(relay->is_crowded); /* what is short is the rate */
    }
    relay->scheduler.config.rate = 0;
    relay->arrived = CROWDED_ARRIVALS;
    uint32_t before = waiting();
    assert_true(before > CROWDED_CELLS && before < 2 * CROWDED_CELLS);
    mvpn_relay_flush(relay, l->now);
    assert_int_equal(waiting(), before - CROWDED_CELLS);
    assert_int_equal(relay->create_credit, CROWDED_CELLS);
    assert_true(relay->is_crowded);
    mvpn_relay_flush(relay, l->now);
    assert_int_equal(waiting(), 0);
    assert_false(relay->is_crowded); /* nothing waits any more */
    relay->is_crowded = true;
    assert_int_equal(relay_creates_now(relay), 0);
    relay->create_credit = 3 * CREATE_COST_CELLS - 1;
    assert_int_equal(relay_creates_now(relay), 2);
    assert_int_equal(relay_creates_now(relay), 0);
    relay->is_crowded = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cells_leave_at_the_rate, setup_limited,
                                        relay_teardown),
        cmocka_unit_test_setup_teardown(test_a_light_circuit_is_not_behind_others, setup_limited,
                                        relay_teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_ends_when_packets_run_low,
                                        setup_few_packets, relay_teardown),
        cmocka_unit_test_setup_teardown(test_no_new_circuits_while_rounds_are_long, setup_limited,
                                        relay_teardown),
        cmocka_unit_test_setup_teardown(test_a_crowd_waits_here_and_not_in_the_socket,
                                        setup_limited, relay_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
