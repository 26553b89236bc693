#include "bench/load/flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

#define HEADERS 28

static load_flow flow;
static load_histogram rtts;
static mvpn_time now;

static void begin(enum load_kind kind, enum load_direction direction, unsigned kbit)
{
    const load_flow_config config = {
        .kind = kind,
        .direction = direction,
        .client = 7,
        .server = {.family = 4, .port = 4001, .ip = {11, 1, 2, 3}},
        .size = 1000,
        .kbit = kbit,
    };
    now = MVPN_S(100);
    memset(&rtts, 0, sizeof(rtts));
    load_flow_init(&flow, &config, &rtts);
    load_flow_start(&flow, 0, now);
}

/* The server's answer to a packet, as it comes out of the circuit. Its length. */
static size_t answer(const uint8_t *packet, size_t len, uint8_t *ret)
{
    size_t reply = load_reply_len(packet + HEADERS, len - HEADERS);
    memset(ret, 0, HEADERS + LOAD_PAYLOAD_MAX);
    memcpy(ret, packet, HEADERS + LOAD_PAYLOAD_MIN);
    memcpy(ret + 12, packet + 16, 4);
    memcpy(ret + 16, packet + 12, 4);
    return reply == 0 ? 0 : HEADERS + reply;
}

/* What was sent and not yet answered. */
static struct sent {
    size_t len;
    uint8_t packet[HEADERS + LOAD_PAYLOAD_MAX];
} sent[256];
static size_t sent_count;

static void pull_all(void)
{
    while (sent_count < 256 &&
           (sent[sent_count].len = load_flow_pull(&flow, sent[sent_count].packet, now)) > 0) {
        sent_count++;
    }
}

static void give(size_t i)
{
    uint8_t packet[HEADERS + LOAD_PAYLOAD_MAX];
    size_t len = answer(sent[i].packet, sent[i].len, packet);
    if (len > 0) {
        load_flow_receive(&flow, packet, len, now);
    }
}

static void give_all(void)
{
    for (size_t i = 0; i < sent_count; i++) {
        give(i);
    }
    sent_count = 0;
}

static int reset(void **state)
{
    (void)state;
    sent_count = 0;
    return 0;
}

static void packets_are_ip_and_udp(void **state)
{
    (void)state;
    begin(LOAD_BULK, LOAD_UP, 0);
    pull_all();
    const uint8_t *b = sent[0].packet;
    assert_int_equal(sent[0].len, HEADERS + 1000);
    uint32_t sum = 0;
    for (size_t i = 0; i < 20; i += 2) {
        sum += mvpn_load16(b + i);
    }
    assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);
    assert_int_equal(mvpn_load16(b + 2), sent[0].len);
    assert_int_equal(mvpn_load16(b + 22), 4001);
    assert_int_equal(mvpn_load16(b + 24), sent[0].len - 20);
    assert_int_equal(load_reply_len(b + HEADERS, 1000), LOAD_PAYLOAD_MIN);
}

static void directions(void **state)
{
    (void)state;
    static const struct {
        enum load_direction direction;
        size_t up, down;
    } rows[] = {
        {LOAD_UP, 1000, LOAD_PAYLOAD_MIN},
        {LOAD_DOWN, LOAD_PAYLOAD_MIN, 1000},
        {LOAD_BOTH, 1000, 1000},
    };
    for (size_t i = 0; i < 3; i++) {
        sent_count = 0;
        begin(LOAD_BULK, rows[i].direction, 0);
        pull_all();
        size_t up = sent[0].len - HEADERS;
        assert_int_equal(up, rows[i].up);
        assert_int_equal(load_reply_len(sent[0].packet + HEADERS, up), rows[i].down);
        give(0);
        assert_int_equal(flow.counts.bytes, 1000);
        assert_int_equal(flow.counts.corrupt, 0);
    }
}

static void a_window_grows_to_its_bound_and_no_further(void **state)
{
    (void)state;
    begin(LOAD_BULK, LOAD_UP, 0);
    size_t most = 0;
    for (unsigned i = 0; i < 50; i++) {
        pull_all();
        most = sent_count > most ? sent_count : most;
        now += MVPN_MS(10);
        give_all();
    }
    assert_int_equal(most, LOAD_WINDOW_MAX);
    assert_int_equal(flow.counts.lost, 0);
    assert_int_equal(flow.counts.sent, flow.counts.received);
    assert_in_range(load_histogram_quantile(&rtts, 0.5), 10000, 10320);
    assert_true(load_flow_deadline(&flow) <= now); /* there is room */
    pull_all();
    assert_true(load_flow_deadline(&flow) > now);
}

static void many_losses_of_one_round_trip_halve_the_window_once(void **state)
{
    (void)state;
    begin(LOAD_BULK, LOAD_UP, 0);
    while (flow.window < 32) {
        pull_all();
        now += MVPN_MS(10);
        give_all();
    }
    pull_all();
    double before = flow.window;
    assert_true(sent_count >= 32);
    for (size_t i = 0; i < sent_count; i++) {
        if (i != 3 && i != 7 && i != 12) {
            give(i);
        }
    }
    assert_int_equal(flow.counts.lost, 3);
    assert_true(flow.window < before * 0.75 && flow.window >= before / 2);
    /* One of them comes after all. */
    give(3);
    assert_int_equal(flow.counts.late, 1);
    assert_int_equal(flow.counts.corrupt, 0);
}

static void silence_ends_in_one_packet_and_the_window_comes_back(void **state)
{
    (void)state;
    begin(LOAD_BULK, LOAD_UP, 0);
    for (unsigned i = 0; i < 5; i++) {
        pull_all();
        now += MVPN_MS(10);
        give_all();
    }
    pull_all();
    size_t way = sent_count;
    sent_count = 0;
    assert_true(way > 1);
    now = load_flow_deadline(&flow);
    pull_all();
    assert_int_equal(flow.counts.lost, way);
    assert_int_equal(sent_count, 1);
    for (unsigned i = 0; i < 5; i++) {
        now += MVPN_MS(10);
        give_all();
        pull_all();
    }
    assert_true(sent_count > 4);
}

static void who_hears_nothing_asks_ever_less(void **state)
{
    (void)state;
    begin(LOAD_BULK, LOAD_UP, 0);
    pull_all();
    mvpn_time before = now, wait = 0;
    for (unsigned i = 0; i < 10; i++) {
        now = load_flow_deadline(&flow);
        assert_true(now - before >= wait);
        wait = now - before;
        before = now;
        sent_count = 0;
        pull_all();
        assert_int_equal(sent_count, 1);
    }
    assert_int_equal(wait, MVPN_MS(200) << LOAD_BACKOFF_MAX);
    give_all();
    pull_all();
    assert_in_range(load_flow_deadline(&flow) - now, 0, MVPN_MS(200) << 1);
}

static void reordering_is_seen_and_punishes_nobody(void **state)
{
    (void)state;
    begin(LOAD_BULK, LOAD_UP, 0);
    for (unsigned i = 0; i < 4; i++) {
        pull_all();
        now += MVPN_MS(10);
        give_all();
    }
    pull_all();
    double before = flow.window;
    give(1);
    give(0);
    give(2);
    assert_int_equal(flow.counts.reordered, 1);
    assert_int_equal(flow.counts.lost, 0);
    assert_true(flow.window >= before);
}

static void interactive_keeps_its_pace(void **state)
{
    (void)state;
    begin(LOAD_INTERACTIVE, LOAD_UP, 0);
    mvpn_time end = now + MVPN_S(10);
    while (now < end) {
        pull_all();
        give_all();
        now = load_flow_deadline(&flow);
    }
    assert_int_equal(flow.counts.sent, 200);
    assert_int_equal(flow.counts.received, 200);
}

/* What the measurement is for: an answer that took a second is in the histogram, not in "lost". */
static void slow_answers_count_with_their_time(void **state)
{
    (void)state;
    begin(LOAD_INTERACTIVE, LOAD_UP, 0);
    for (unsigned i = 0; i < 20; i++) {
        pull_all();
        now += MVPN_MS(50);
    }
    give_all();
    load_flow_finish(&flow);
    assert_int_equal(flow.counts.received, 20);
    assert_int_equal(flow.counts.lost, 0);
    assert_in_range(load_histogram_quantile(&rtts, 1), 1000000, 1032000);
}

static void steady_bulk_and_floods_keep_their_rate(void **state)
{
    (void)state;
    static const enum load_kind kinds[] = {LOAD_BULK, LOAD_FLOOD};
    for (size_t i = 0; i < 2; i++) {
        begin(kinds[i], LOAD_UP, 8000); /* 1,000 packets a second */
        mvpn_time end = now + MVPN_S(2);
        while (now < end) {
            pull_all();
            sent_count = 0; /* nobody answers */
            now = load_flow_deadline(&flow);
        }
        assert_in_range(flow.counts.sent, 1990, 2010);
    }
    assert_int_equal(flow.counts.lost, 0); /* a flood asks for no answer */
}

static void no_burst_after_a_pause(void **state)
{
    (void)state;
    begin(LOAD_FLOOD, LOAD_UP, 8000);
    now += MVPN_S(1);
    pull_all();
    assert_in_range(sent_count, 1, 40);
}

static void counting_begins_anew(void **state)
{
    (void)state;
    begin(LOAD_BULK, LOAD_UP, 0);
    pull_all();
    load_flow_begin_count(&flow);
    give_all(); /* of before */
    assert_int_equal(flow.counts.received, 0);
    assert_int_equal(flow.counts.bytes, 0);
    pull_all();
    give_all();
    assert_int_equal(flow.counts.received, flow.counts.sent);
    pull_all();
    load_flow_finish(&flow);
    assert_int_equal(flow.counts.lost, sent_count);
}

static void idle_sends_nothing(void **state)
{
    (void)state;
    begin(LOAD_IDLE, LOAD_UP, 0);
    assert_true(load_flow_deadline(&flow) == MVPN_TIME_NEVER);
    pull_all();
    assert_int_equal(sent_count, 0);
}

static void what_is_not_ours_is_not_counted(void **state)
{
    (void)state;
    uint8_t packet[HEADERS + LOAD_PAYLOAD_MAX], bad[HEADERS + LOAD_PAYLOAD_MAX];
    begin(LOAD_BULK, LOAD_UP, 0);
    pull_all();
    size_t len = answer(sent[0].packet, sent[0].len, packet);
    for (size_t cut = 0; cut < len; cut++) {
        load_flow_receive(&flow, packet, cut, now);
    }
    /* Another sender; another client; a number never sent; a time to come. */
    static const size_t at[] = {12, HEADERS + 7, HEADERS + 8, HEADERS + 16, HEADERS};
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        memcpy(bad, packet, sizeof(bad));
        bad[at[i]] ^= 0x40;
        load_flow_receive(&flow, bad, len, now);
    }
    assert_int_equal(flow.counts.received, 0);
    load_flow_receive(&flow, packet, len, now);
    load_flow_receive(&flow, packet, len, now); /* given up or not: it counts once */
    assert_int_equal(flow.counts.received - flow.counts.late, 1);
}

static void the_server_answers_only_what_asks(void **state)
{
    (void)state;
    uint8_t payload[LOAD_PAYLOAD_MIN] = {'m', 'v', 'p', 'l'};
    mvpn_store16(payload + 24, 1000);
    assert_int_equal(load_reply_len(payload, sizeof(payload)), 1000);
    mvpn_store16(payload + 24, 60000);
    assert_int_equal(load_reply_len(payload, sizeof(payload)), LOAD_PAYLOAD_MAX);
    mvpn_store16(payload + 24, LOAD_PAYLOAD_MIN - 1);
    assert_int_equal(load_reply_len(payload, sizeof(payload)), 0);
    mvpn_store16(payload + 24, 1000);
    assert_int_equal(load_reply_len(payload, sizeof(payload) - 1), 0);
    payload[0] ^= 1;
    assert_int_equal(load_reply_len(payload, sizeof(payload)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(packets_are_ip_and_udp, reset),
        cmocka_unit_test_setup(directions, reset),
        cmocka_unit_test_setup(a_window_grows_to_its_bound_and_no_further, reset),
        cmocka_unit_test_setup(many_losses_of_one_round_trip_halve_the_window_once, reset),
        cmocka_unit_test_setup(silence_ends_in_one_packet_and_the_window_comes_back, reset),
        cmocka_unit_test_setup(who_hears_nothing_asks_ever_less, reset),
        cmocka_unit_test_setup(reordering_is_seen_and_punishes_nobody, reset),
        cmocka_unit_test_setup(interactive_keeps_its_pace, reset),
        cmocka_unit_test_setup(slow_answers_count_with_their_time, reset),
        cmocka_unit_test_setup(steady_bulk_and_floods_keep_their_rate, reset),
        cmocka_unit_test_setup(no_burst_after_a_pause, reset),
        cmocka_unit_test_setup(counting_begins_anew, reset),
        cmocka_unit_test_setup(idle_sends_nothing, reset),
        cmocka_unit_test_setup(what_is_not_ours_is_not_counted, reset),
        cmocka_unit_test_setup(the_server_answers_only_what_asks, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
