/* Acknowledged messages, parts and their bounds; a long run over a bad network. */
#include "network/p2p/testnet.h"

#include "wire/cell.h"

static unsigned data_sent[2], acks_sent[2];
static bool count_sizes(struct net *net, struct net_datagram *d)
{
    size_t i = mvpn_addr_eq(&d->from, &net->node[0].addr) ? 0 : 1;
    /* An acknowledgement of n messages has 61 + 4n bytes; the data here is longer than 64 of them.
     */
    if (d->len <= TRANSPORT_OVERHEAD + MVPN_LINK_ACK_LEN_MAX) {
        acks_sent[i]++;
    } else {
        data_sent[i]++;
    }
    return true;
}

static void test_acks_are_batched(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    memset(data_sent, 0, sizeof(data_sent));
    memset(acks_sent, 0, sizeof(acks_sent));
    net->filter = count_sizes;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 400, i, true), 0);
    }
    /* The test's network hands over one datagram a turn; here they come at once. */
    net_for(net, 0);
    assert_int_equal(net->flight_count, 100);
    net->now += MVPN_MS(10);
    while (net->flight_count > 0) {
        struct net_datagram d = net->flight[--net->flight_count];
        assert_int_equal(net_inject(net, &d), 1);
    }
    net_for(net, MVPN_MS(500));
    assert_int_equal(data_sent[0], 100);
    assert_int_equal(acks_sent[1], 2); /* 64 and 36 */
    assert_int_equal(link->acked_count, 0);
    assert_int_equal(net->node[0].links->counters.resent, 0);
    net_free(net);
}

/* Two links have many to acknowledge in one turn: nothing is lost, and nothing sent twice. */
static void test_acks_of_two_links(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *link[2], *other;
    link[0] = net_joined(net, 0, 1, &other);
    link[1] = net_joined(net, 2, 1, &other);
    memset(acks_sent, 0, sizeof(acks_sent));
    net->filter = count_sizes;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(
            net_send(net, i % 2 == 0 ? 0 : 2, link[i % 2], MVPN_CMD_CREATE, 400, i, true), 0);
    }
    net_for(net, 0);
    net->now += MVPN_MS(10);
    while (net->flight_count > 0) {
        struct net_datagram d = net->flight[--net->flight_count];
        assert_int_equal(net_inject(net, &d), 1);
    }
    net_for(net, MVPN_MS(500));
    /* One has room for 50; the other sends each time 16 have come. */
    assert_int_equal(acks_sent[1], 1 + 4);
    assert_int_equal(link[0]->acked_count + link[1]->acked_count, 0);
    assert_int_equal(net->node[0].links->counters.resent, 0);
    assert_int_equal(net->node[2].links->counters.resent, 0);
    /* Closed in the same turn: the array is free again. */
    for (unsigned i = 0; i < 20; i++) {
        reliable_note(other, 1000 + i, net->now);
    }
    assert_ptr_equal(net->node[1].links->more_acks_of, other);
    mvpn_link_close(other, 0, net->now);
    assert_null(net->node[1].links->more_acks_of);
    net_free(net);
}

static void test_a_silent_peer_takes_no_last_packets(void **state)
{
    (void)state;
    struct net *net = net_standard(3, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    mvpn_packet_pool *pool = &net->node[0].pool;
    mvpn_packet_queue held;
    mvpn_packet_queue_init(&held);
    net->loss = 100;
    static const struct {
        size_t part; /* less than one in so many is free */
        unsigned limit;
    } rows[] = {{8, 4}, {4, 16}};
    unsigned sent = 0;
    while (pool->free_count >= pool->size / 8) {
        mvpn_packet_queue_push(&held, mvpn_packet_new(pool));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        while (pool->free_count + 100 < pool->size / rows[i].part) {
            mvpn_packet_free(pool, mvpn_packet_queue_pop(&held));
        }
        for (; sent < rows[i].limit; sent++) {
            assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 400, sent, true), 0);
        }
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 400, sent, true), MVPN_E_LIMIT);
    }
    mvpn_packet_queue_clear(&held, pool);
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 400, sent, true), 0);
    net_free(net);
}

/* The peer lives, but these messages never reach it. */
static bool lose_data(struct net *net, struct net_datagram *d)
{
    return count_sizes(net, d) && d->len <= TRANSPORT_OVERHEAD + MVPN_LINK_ACK_LEN_MAX;
}

static void test_failure_after_eight_sendings(void **state)
{
    (void)state;
    struct net *net = net_standard(2, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    memset(data_sent, 0, sizeof(data_sent));
    net->filter = lose_data;
    mvpn_time start = net->now;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 400, 1, true), 0);
    /* 50 ms doubling: 50 * 255 = 12.75 s (RTT 20 ms). */
    net_run(net, start + MVPN_MS(12740));
    assert_true(mvpn_link_is_open(link));
    assert_int_equal(data_sent[0], 8);
    net_run(net, start + MVPN_MS(12760));
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
    assert_int_equal(data_sent[0], 8);
    net_free(net);
}

/* A peer that delays its answers for minutes does not make us keep each message for hours. */
static void test_a_slow_peer_is_not_waited_for_long(void **state)
{
    (void)state;
    struct net *net = net_standard(2, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    for (unsigned i = 0; i < 200; i++) {
        link_measured(link, MVPN_S(60));
    }
    assert_in_range(mvpn_link_rtt_us(link), MVPN_MS(3990), MVPN_S(4));
    memset(data_sent, 0, sizeof(data_sent));
    net->filter = lose_data;
    mvpn_time start = net->now;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 400, 1, true), 0);
    /* 6 s, 12 s, and six times 20 s. */
    net_run(net, start + MVPN_S(137));
    assert_true(mvpn_link_is_open(link));
    net_run(net, start + MVPN_S(139));
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
    assert_int_equal(data_sent[0], 8);
    net_free(net);
}

static void test_resends_do_not_measure(void **state)
{
    (void)state;
    struct net *net = net_standard(2, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    assert_int_equal(mvpn_link_rtt_us(link), MVPN_MS(20));
    net->loss = 100;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 400, 1, true), 0);
    net_for(net, MVPN_MS(49));
    net->loss = 0;
    net_for(net, MVPN_S(1));
    assert_int_equal(net->node[1].messages, 1);
    assert_int_equal(link->acked_count, 0);
    assert_int_equal(mvpn_link_rtt_us(link), MVPN_MS(20)); /* not 70: Karn */
    net->delay = MVPN_MS(20);
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 400, 2, true), 0);
    net_for(net, MVPN_S(1));
    assert_int_equal(mvpn_link_rtt_us(link), MVPN_US_PER_MS * 45 / 2); /* 7/8 * 20 + 1/8 * 40 */
    net_free(net);
}

static void test_outstanding_messages_are_bounded(void **state)
{
    (void)state;
    struct net *net = net_standard(2, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->loss = 100;
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 8, i, true), 0);
        net_for(net, 0);
    }
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 8, 1, true), MVPN_E_LIMIT);
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_DESTROY, 8, 1, false), 0);
    net_free(net);
}

/* One message is lost again and again while others pass: no sequence leaves the receiver's window.
 */
static uint32_t unlucky_len;
static bool lose_one(struct net *net, struct net_datagram *d)
{
    (void)net;
    return d->len != unlucky_len;
}

static void test_sequences_stay_within_the_window(void **state)
{
    (void)state;
    struct net *net = net_standard(2, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    unlucky_len = TRANSPORT_OVERHEAD + 777;
    net->filter = lose_one;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 777, 1, true), 0);
    uint32_t first = link->next_seq - 1;
    unsigned sent = 0;
    while (net_send(net, 0, link, MVPN_CMD_CREATE, 8, sent, true) == 0) {
        sent++;
        net_for(net, MVPN_MS(1));
    }
    assert_int_equal(link->next_seq - first, 1024);
    net->filter = NULL;
    net_for(net, MVPN_S(7));
    assert_int_equal(net->node[1].messages, sent + 1);
    net_free(net);
}

#define RUN 3000
static uint8_t acked_seen[2][RUN], plain_seen[2][RUN];
static void count_message(struct net *net, struct net_node *node, mvpn_link *link,
                          const mvpn_header *header, const mvpn_packet *packet)
{
    (void)link;
    uint64_t tag = mvpn_load64(packet->data);
    assert_true(tag < RUN);
    for (size_t i = 8; i < packet->len; i++) {
        assert_int_equal(packet->data[i], 0xa5);
    }
    size_t at = node == &net->node[1];
    if (header->link_seq != 0) {
        assert_true(acked_seen[at][tag]++ == 0);
    } else {
        assert_true(plain_seen[at][tag]++ == 0);
    }
}

static void rekey_soon(mvpn_links_config *c)
{
    c->rekey_after = MVPN_S(4);
}

static void long_run(uint64_t seed, bool is_ik, size_t mtu)
{
    struct net *net = net_new(seed);
    net_start(net, 0, is_ik, true, rekey_soon);
    net_start(net, 1, true, true, rekey_soon);
    mvpn_link *link[2];
    link[0] = net_joined(net, 0, 1, &link[1]);
    memset(acked_seen, 0, sizeof(acked_seen));
    memset(plain_seen, 0, sizeof(plain_seen));
    net->message = count_message;
    net->loss = 10;
    net->dup = 10;
    net->corrupt = 3;
    net->jitter = MVPN_MS(60);
    net->mtu = mtu;
    for (uint64_t i = 0; i < RUN; i++) {
        size_t len = 8 + mvpn_rng_below(&net->rng, MVPN_BODY_MAX - 7);
        size_t from = i & 1;
        assert_int_equal(net_send(net, from, link[from], MVPN_CMD_CREATE, len, i, true), 0);
        assert_int_equal(net_send(net, from, link[from], MVPN_CMD_DESTROY, len, i, false), 0);
        net_for(net, MVPN_MS(20));
    }
    net_for(net, MVPN_S(15));
    size_t plain = 0;
    for (size_t i = 0; i < RUN; i++) {
        assert_int_equal(acked_seen[1 - (i & 1)][i], 1);
        plain += plain_seen[1 - (i & 1)][i];
    }
    assert_true(plain > RUN / 2);
    assert_true(net->node[0].links->counters.rekeys >= 4);
    assert_true(mvpn_link_is_open(link[0]) && mvpn_link_is_open(link[1]));
    net_free(net);
}

static void test_exactly_once_over_a_bad_network(void **state)
{
    (void)state;
    long_run(1, false, 1500);
    long_run(2, true, 1500);
    long_run(3, false, 1300);
    long_run(4, true, 1300);
}

static bool lose_second_parts(struct net *net, struct net_datagram *d)
{
    static bool is_second;
    if (mvpn_addr_eq(&d->from, &net->node[0].addr) && d->len > 600) {
        is_second = !is_second;
        return is_second; /* the first of each pair passes */
    }
    return true;
}

static void test_parts_are_bounded(void **state)
{
    (void)state;
    struct net *net = net_standard(5, false);
    net->mtu = 1232;
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net_for(net, MVPN_S(2));
    assert_false(mvpn_link_is_full_size(link));
    size_t free_before = net->node[1].pool.free_count;
    net->filter = lose_second_parts;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, MVPN_CELL_FULL, i, false), 0);
        net_for(net, MVPN_MS(1));
        assert_true(net->node[1].links->part_count <= 32);
    }
    net_for(net, MVPN_MS(20));
    assert_int_equal(net->node[1].links->part_count, 32);
    assert_int_equal(free_before - net->node[1].pool.free_count, 32);
    net_for(net, MVPN_S(1));
    assert_int_equal(net->node[1].links->part_count, 0);
    assert_int_equal(net->node[1].pool.free_count, free_before);
    assert_int_equal(net->node[1].messages, 0);
    net_free(net);
}

static void test_commands_do_not_come_in_parts(void **state)
{
    (void)state;
    struct net *net = net_standard(6, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->mtu = 1232;
    mvpn_links_message_too_big(net->node[0].links, &net->node[1].addr, net->now);
    net_for(net, MVPN_S(2));
    uint64_t sent = net->node[1].sent;
    /* As large as a probe, but as two parts: an answer would prove nothing. */
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_LINK_PROBE, MVPN_BODY_MAX, 1, false), 0);
    net_for(net, MVPN_S(1));
    assert_int_equal(net->node[1].sent, sent);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_acks_are_batched),
        cmocka_unit_test(test_acks_of_two_links),
        cmocka_unit_test(test_a_silent_peer_takes_no_last_packets),
        cmocka_unit_test(test_failure_after_eight_sendings),
        cmocka_unit_test(test_a_slow_peer_is_not_waited_for_long),
        cmocka_unit_test(test_resends_do_not_measure),
        cmocka_unit_test(test_outstanding_messages_are_bounded),
        cmocka_unit_test(test_sequences_stay_within_the_window),
        cmocka_unit_test(test_exactly_once_over_a_bad_network),
        cmocka_unit_test(test_parts_are_bounded),
        cmocka_unit_test(test_commands_do_not_come_in_parts),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
