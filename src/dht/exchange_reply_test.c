/* Replies of the exchange: only the one that was asked for counts, only as long as it is waited
 * for, and a core hears of what cannot be sent. (docs/protocol.md §11.2) */
#include "dht/testexchange.h"

static void test_reply_bits(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    net_send(net, ping, true, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_true(net_take(net, &net->b, &d));
    for (size_t bit = 6; bit < d.n * 8; bit++) { /* the first six are random */
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = net_give(net, &net->a, &net->b, &d);
        assert_true(rc == MVPN_E_FORMAT || rc == MVPN_E_AUTH || rc == MVPN_E_UNKNOWN);
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < d.n; n++) {
        struct datagram cut = d;
        cut.n = n;
        int rc = net_give(net, &net->a, &net->b, &cut);
        assert_true(rc == MVPN_E_FORMAT || rc == MVPN_E_AUTH);
    }
    /* From elsewhere, and twice. */
    assert_int_equal(net_give_from(net, &net->a, &net->a.self.addr, &d), MVPN_E_UNKNOWN);
    mvpn_addr other = net->b.self.addr;
    other.port++;
    assert_int_equal(net_give_from(net, &net->a, &other, &d), MVPN_E_UNKNOWN);
    assert_int_equal(net->a.core.replies + net->a.core.failures, 0);
    assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
    assert_int_equal(net->a.core.replies, 1);
    assert_int_equal(net_give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    assert_int_equal(net->a.core.replies, 1);
    net_free(net);
}

/* An answer to another question proves the contact faulty. */
static void test_wrong_answer(void **state)
{
    (void)state;
    static const uint16_t replies[] = {
        MVPN_CMD_DHT_PONG,   MVPN_CMD_DHT_NODES,   MVPN_CMD_DHT_STORED,    MVPN_CMD_DHT_VALUE,
        MVPN_CMD_DHT_LISTED, MVPN_CMD_DHT_FETCHED, MVPN_CMD_DHT_BLOB_PART, MVPN_CMD_DHT_ERROR,
    };
    static const struct {
        mvpn_dht_request request;
        uint16_t good[2];
    } rows[] = {
        {{.command = MVPN_CMD_DHT_PING}, {MVPN_CMD_DHT_PONG}},
        {{.command = MVPN_CMD_DHT_FIND_NODE}, {MVPN_CMD_DHT_NODES}},
        {{.command = MVPN_CMD_DHT_FIND_VALUE}, {MVPN_CMD_DHT_VALUE, MVPN_CMD_DHT_NODES}},
        {{.command = MVPN_CMD_DHT_STORE, .record = {(const uint8_t *)"r", 1}},
         {MVPN_CMD_DHT_STORED}},
        {{.command = MVPN_CMD_DHT_LIST}, {MVPN_CMD_DHT_LISTED}},
        {{.command = MVPN_CMD_DHT_FETCH, .key_count = 1}, {MVPN_CMD_DHT_FETCHED}},
        {{.command = MVPN_CMD_DHT_BLOB}, {MVPN_CMD_DHT_BLOB_PART}},
    };
    struct net *net = net_new(closed_v4);
    assert_int_equal(net_exchange(net, ping, false), 0);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        for (size_t j = 0; j < MVPN_ARRAY_LEN(replies); j++) {
            struct datagram d;
            bool good = replies[j] == rows[i].good[0] || replies[j] == rows[i].good[1] ||
                        replies[j] == MVPN_CMD_DHT_ERROR;
            net->b.core.reply =
                (mvpn_dht_reply){.command = replies[j], .observed = net->a.self.addr, .status = 1};
            if (replies[j] == MVPN_CMD_DHT_VALUE) {
                net->b.core.reply.record = MVPN_BYTES_LITERAL("record");
            }
            net->a.core.replies = net->a.core.failures = 0;
            net_send(net, rows[i].request, false, &d);
            assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
            assert_true(net_take(net, &net->b, &d));
            assert_int_equal(net_give(net, &net->a, &net->b, &d), good ? 0 : MVPN_E_FORMAT);
            assert_int_equal(net->a.core.replies, good);
            assert_int_equal(net->a.core.failures, !good);
        }
    }
    net_free(net);
}

/* Nothing of a request stays longer than its reply may take. */
static void test_pending_ends(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
    net_send(net, ping, true, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_true(net_take(net, &net->b, &d));
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == net->now + MVPN_S(8));
    net->now += MVPN_S(8);
    mvpn_dht_exchange_tick(net->a.x, net->now);
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
    assert_int_equal(net_give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    assert_int_equal(net->a.core.failures, 0); /* the core has its own time-outs */
    net_free(net);
}

/* One more than there is room for: the oldest is given up, the others go on. */
static void test_pending_full(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram first, second, d;
    net_send(net, ping, false, &first);
    net_send(net, ping, false, &second);
    for (unsigned i = 2; i <= MVPN_DHT_PENDING_MAX; i++) {
        net_send(net, ping, false, &d);
    }
    assert_int_equal(net_give(net, &net->b, &net->a, &first), 0);
    assert_true(net_take(net, &net->b, &d));
    assert_int_equal(net_give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    assert_int_equal(net_give(net, &net->b, &net->a, &second), 0);
    assert_true(net_take(net, &net->b, &d));
    assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
    net_free(net);
}

/* A core that names a contact whose key is none hears of it, and without packets it is as if they
 * were lost. */
static void test_cannot_send(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    mvpn_dht *core = &net->a.core;
    mvpn_packet *held[65];
    size_t n = 0;
    core->queue[0] = (mvpn_dht_outgoing){.transaction = 5, .to = net->b.self, .request = ping};
    memset(&core->queue[0].to.link_key, 0, 32);
    core->queue_count = 1;
    mvpn_dht_exchange_flush(net->a.x, net->now);
    assert_int_equal(core->failures, 1);
    assert_int_equal(core->transaction, 5);
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
    while ((held[n] = mvpn_packet_new(&net->pool)) != NULL) {
        n++;
    }
    core->queue[0].to = net->b.self;
    core->pulled = 0;
    mvpn_dht_exchange_flush(net->a.x, net->now);
    assert_int_equal(core->failures, 1);
    assert_int_equal(mvpn_dht_exchange_out(net->a.x)->count, 0);
    while (n > 0) {
        mvpn_packet_free(&net->pool, held[--n]);
    }
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply_bits),   cmocka_unit_test(test_wrong_answer),
        cmocka_unit_test(test_pending_ends), cmocka_unit_test(test_pending_full),
        cmocka_unit_test(test_cannot_send),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
