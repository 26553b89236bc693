/* Requests of the exchange: there and back, what address tokens and claims prove, and what a server
 * drops or answers with an error. (docs/protocol.md §11.2) */
#include "dht/testexchange.h"
#include "base/cursor.h"
#include "dht/token.h"
#include "wire/handshake.h"

static const mvpn_dht_request find_node = {.command = MVPN_CMD_DHT_FIND_NODE, .target = {{7}}};

static void reply_with_nodes(struct net *net)
{
    mvpn_dht_reply *r = &net->b.core.reply;
    *r = (mvpn_dht_reply){.command = MVPN_CMD_DHT_NODES, .contact_count = MVPN_DHT_K};
    for (uint8_t i = 0; i < MVPN_DHT_K; i++) {
        mvpn_ed25519_pub identity = {{i}};
        r->contacts[i].addr = addr_of(false, (uint8_t)(i + 1));
        mvpn_dht_node_id(&r->contacts[i].id, &identity, &r->contacts[i].addr);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct net *net = net_new((struct shape){.closed = i & 1, .is_v6 = i >> 1 & 1});
        bool wants = i >> 2;
        assert_int_equal(net_exchange(net, ping, wants), 0);
        const mvpn_dht *b = &net->b.core, *a = &net->a.core;
        assert_int_equal(b->requests, 1);
        assert_int_equal(b->request.command, MVPN_CMD_DHT_PING);
        assert_true(mvpn_addr_eq(&b->asker.addr, &net->a.self.addr));
        assert_false(b->asker.is_proven);
        assert_int_equal(a->replies, 1);
        assert_int_equal(a->failures, 0);
        assert_true(a->transaction == a->queue[0].transaction);
        assert_int_equal(a->is_certified, wants);
        assert_int_equal(a->got.command, MVPN_CMD_DHT_PONG);
        assert_int_equal(a->got.time, 77);

        reply_with_nodes(net);
        assert_int_equal(net_exchange(net, find_node, false), 0);
        assert_int_equal(b->request.target.b[0], 7);
        assert_true(b->asker.is_proven);
        assert_int_equal(a->got.command, MVPN_CMD_DHT_NODES);
        assert_int_equal(a->got.contact_count, net->a.self.addr.family == 4 ? 20 : 19);
        assert_false(a->is_certified);

        uint8_t record[1000] = {1, [999] = 9};
        mvpn_dht_request store = {
            .command = MVPN_CMD_DHT_STORE, .type = 1, .record = MVPN_BYTES_ARRAY(record)};
        net->b.core.reply = (mvpn_dht_reply){.command = MVPN_CMD_DHT_STORED, .status = 1};
        assert_int_equal(net_exchange(net, store, false), 0);
        assert_memory_equal(b->record, record, sizeof(record));
        assert_int_equal(a->got.status, 1);

        net->b.core.reply = (mvpn_dht_reply){
            .command = MVPN_CMD_DHT_VALUE, .type = 2, .record = MVPN_BYTES_ARRAY(record)};
        assert_int_equal(
            net_exchange(net, (mvpn_dht_request){.command = MVPN_CMD_DHT_FIND_VALUE}, true), 0);
        assert_int_equal(a->got.command, MVPN_CMD_DHT_VALUE);
        assert_false(a->is_certified); /* no room for both: the record goes first */
        net_free(net);
    }
}

/* Padded until a token is there, and again when it no longer counts for sure. */
static void test_tokens(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    reply_with_nodes(net);
    net_send(net, find_node, false, &d);
    assert_int_equal(d.n, MVPN_DHT_DATAGRAM4_MAX);
    assert_int_equal(net_exchange(net, find_node, false), 0);
    assert_false(net->b.core.asker.is_proven);
    assert_int_equal(net->a.core.got.contact_count, 20);
    net_send(net, find_node, false, &d);
    assert_int_equal(d.n, 31 + 48 + 3 + 52 + 20 + 16);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_true(net->b.core.asker.is_proven);
    assert_true(net_take(net, &net->b, &d));
    assert_int_equal(d.n, 13 + 48 + 19 + 2 + 20 * 58);
    net->now += MVPN_DHT_TOKEN_SURE;
    net_send(net, find_node, false, &d);
    assert_int_equal(d.n, MVPN_DHT_DATAGRAM4_MAX);
    net_free(net);
}

/* A token of another address, or of another server, is none. */
static void test_token_is_bound(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    assert_int_equal(net_exchange(net, ping, false), 0);
    net_send(net, ping, false, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_true(net->b.core.asker.is_proven);
    assert_true(net_take(net, &net->b, &d));
    net_send(net, ping, false, &d);
    mvpn_addr other = net->a.self.addr;
    other.port++;
    assert_int_equal(net_give_from(net, &net->b, &other, &d), 0);
    assert_false(net->b.core.asker.is_proven);
    net->now += 2 * MVPN_DHT_TOKEN_PERIOD;
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_false(net->b.core.asker.is_proven);
    net_free(net);
}

/* Whatever the core says, without a token nothing grows; what does not fit is an error with which a
 * token comes. */
static void test_no_amplification(void **state)
{
    (void)state;
    uint8_t record[1000] = {0};
    for (unsigned kind = 0; kind < 6; kind++) {
        struct net *net = net_new((struct shape){.closed = kind & 1, .is_v6 = kind == 5});
        struct datagram d, cut, out;
        mvpn_dht_request request = kind < 3 ? find_node : ping;
        if (kind == 0 || kind == 3) {
            reply_with_nodes(net);
        }
        if (kind == 1) {
            request.command = MVPN_CMD_DHT_FIND_VALUE;
            net->b.core.reply = (mvpn_dht_reply){
                .command = MVPN_CMD_DHT_VALUE, .type = 1, .record = MVPN_BYTES_ARRAY(record)};
        }
        if (kind == 2) {
            request = (mvpn_dht_request){.command = MVPN_CMD_DHT_LIST};
            net->b.core.reply =
                (mvpn_dht_reply){.command = MVPN_CMD_DHT_LISTED, .listed_count = 41};
            for (uint8_t i = 0; i < 41; i++) {
                net->b.core.reply.listed[i].key.b[0] = i;
            }
        }
        net_send(net, request, true, &d);
        size_t least = 31 + 2u + mvpn_load16(d.bytes + 29) + 16 - 2;
        for (size_t n = least; n <= d.n; n += n + 7 < d.n ? 7 : 1) {
            cut = d;
            cut.n = n;
            net->now += MVPN_MS(20);
            assert_int_equal(net_give(net, &net->b, &net->a, &cut), 0);
            assert_true(net_take(net, &net->b, &out));
            assert_true(out.n <= n);
            assert_false(net_take(net, &net->b, &out));
        }
        net_free(net);
    }
}

/* A short request whose token is out of date is told so, rather than given half an answer. */
static void test_come_again(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    reply_with_nodes(net);
    assert_int_equal(net_exchange(net, find_node, false), 0);
    mvpn_dht_exchange_free(net->b.x); /* a new start: B's secret is another */
    node_start(net, &net->b, true);
    assert_int_equal(net_exchange(net, find_node, false), 0);
    assert_int_equal(net->a.core.got.command, MVPN_CMD_DHT_ERROR);
    assert_int_equal(net->a.core.got.status, MVPN_DHT_ERROR_TOKEN);
    assert_int_equal(net_exchange(net, find_node, false), 0);
    assert_int_equal(net->a.core.got.contact_count, 20);
    net_free(net);
}

/* A claim counts with a token, and from an address where the node id belongs. */
static void test_claim(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    const mvpn_dht_asker *asker = &net->b.core.asker;
    struct datagram d;
    assert_int_equal(net_exchange(net, ping, false), 0);
    assert_false(asker->has_claim);
    assert_int_equal(net_exchange(net, ping, false), 0);
    assert_true(asker->has_claim);
    assert_memory_equal(asker->claim.id.b, net->a.self.id.b, 20);
    assert_memory_equal(asker->claim.link_key.b, net->a.self.link_key.b, 32);
    assert_true(mvpn_addr_eq(&asker->claim.addr, &net->a.self.addr));
    /* The same from another block, with a token of that block. */
    mvpn_addr elsewhere = addr_of(false, 50);
    net->a.self.addr = elsewhere;
    net_send(net, ping, false, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_true(net_take(net, &net->b, &d));
    assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
    net_send(net, ping, false, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_true(asker->is_proven);
    assert_false(asker->has_claim);
    net_free(net);
}

static void test_request_bits(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    net_send(net, ping, true, &d);
    for (size_t bit = 0; bit < d.n * 8; bit++) {
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = net_give(net, &net->b, &net->a, &d);
        assert_true(rc == MVPN_E_FORMAT || rc == MVPN_E_AUTH || rc == MVPN_E_UNKNOWN);
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < 31 + 48 + 3 + 52 + 16; n++) {
        struct datagram cut = d;
        cut.n = n;
        assert_int_equal(net_give(net, &net->b, &net->a, &cut), MVPN_E_FORMAT);
    }
    assert_int_equal(net->b.core.requests, 0);
    assert_int_equal(mvpn_dht_exchange_get_counters(net->b.x)->dropped_auth, 0);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    net_free(net);
}

static void test_hours(void **state)
{
    (void)state;
    static const struct {
        int hours, expected;
    } rows[] = {{-2, MVPN_E_AUTH}, {-1, 0}, {0, 0}, {1, 0}, {2, MVPN_E_AUTH}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_new(closed_v4);
        struct datagram d;
        mvpn_dht_exchange_set_unix_offset(net->a.x, OFFSET + rows[i].hours * (int64_t)MVPN_S(3600));
        net_send(net, ping, false, &d);
        assert_int_equal(net_give(net, &net->b, &net->a, &d), rows[i].expected);
        assert_int_equal(mvpn_dht_exchange_get_counters(net->b.x)->dropped_mac,
                         rows[i].expected != 0);
        net_free(net);
    }
}

/* Another network, or another network secret: no answer. */
static void test_strangers(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        struct net *net = net_new(closed_v4);
        struct datagram d;
        mvpn_trust other = net->trust;
        mvpn_dht_exchange_free(net->a.x);
        mvpn_key secret = net->secret;
        if (kind == 0) {
            net->secret.b[3] ^= 1;
        } else {
            net->trust.network_id.b[3] ^= 1;
        }
        node_start(net, &net->a, true);
        net->trust = other;
        net->secret = secret;
        net_send(net, ping, false, &d);
        assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
        net_free(net);
    }
}

/* The prologue binds the node id: who asks for another node at our address gets nothing. */
static void test_other_node_id(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    net->b.self.id.b[10] ^= 1;
    net_send(net, ping, false, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
    assert_int_equal(mvpn_dht_exchange_get_counters(net->b.x)->dropped_auth, 1);
    net_free(net);
}

static void test_rates(void **state)
{
    (void)state;
    static const unsigned limits[] = {MVPN_DHT_UNPROVEN_PER_S, MVPN_DHT_PROVEN_PER_S};
    for (unsigned proven = 0; proven < 2; proven++) {
        struct net *net = net_new(closed_v4);
        struct datagram d, out;
        if (proven) {
            assert_int_equal(net_exchange(net, ping, false), 0);
        }
        net->now += MVPN_S(2);
        net_send(net, ping, false, &d);
        /* Where Noise fails the work was done all the same. */
        for (unsigned i = 0; i < limits[proven]; i++) {
            assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
            assert_true(net_take(net, &net->b, &out));
        }
        assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_LIMIT);
        assert_int_equal(mvpn_dht_exchange_get_counters(net->b.x)->dropped_limit, 1);
        net->now += MVPN_S(1) / limits[proven] + 1;
        assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
        net_free(net);
    }
}

static void test_core_says_nothing(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    net->b.core.reply_rc = MVPN_E_LIMIT;
    net_send(net, ping, false, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_LIMIT);
    assert_false(net_take(net, &net->b, &d));
    net_free(net);
}

/* A request made by hand: any command and body, flags and all. */
static void forge(struct net *net, mvpn_bytes payload, mvpn_noise *hs, struct datagram *ret)
{
    const mvpn_dht_exchange_config config = {
        .aead = net->aead, .trust = &net->trust, .network_secret = net->secret};
    mvpn_dht_noise_keys keys;
    mvpn_key key;
    mvpn_dht_noise_keys_init(&keys, &config);
    mvpn_dht_noise_start(hs, &keys, &net->b.self, NULL);
    mvpn_writer w = mvpn_writer_init(ret->bytes, sizeof(ret->bytes));
    mvpn_write8(&w, 0xc0);
    mvpn_write32(&w, MVPN_DHT_VERSION_REQUEST);
    mvpn_write64(&w, 1);
    mvpn_write_zero(&w, 16);
    mvpn_write16(&w, (uint16_t)(payload.n + 48));
    size_t len;
    assert_int_equal(mvpn_noise_write(hs, w.p, 1000, &len, payload, &net->a.rng), 0);
    w.p += len;
    mvpn_mac1_key(&key, &net->b.self.link_key, &keys.token, MVPN_PATTERN_DHT, UNIX_START / 3600);
    mvpn_mac1_make(w.p, &key, mvpn_bytes_of(ret->bytes, mvpn_writer_len(&w)));
    w.p += 16;
    ret->n = mvpn_writer_len(&w);
}

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        uint8_t payload[8];
        size_t n;
        int expected;
        uint8_t reason;
    } rows[] = {
        {{0}, 0, MVPN_E_FORMAT, 0},                                   /* nothing */
        {{0, 0x10}, 2, MVPN_E_FORMAT, 0},                             /* no flags */
        {{0, 0x10, 4}, 3, MVPN_E_FORMAT, 0},                          /* unknown flag */
        {{0, 0x10, 2, 1}, 4, MVPN_E_FORMAT, 0},                       /* half a claim */
        {{0, 0x10, 0, 9}, 4, 0, MVPN_DHT_ERROR_MALFORMED},            /* a Ping with a body */
        {{0, 0x11, 0}, 3, 0, MVPN_DHT_ERROR_MALFORMED},               /* no target */
        {{0, 0x17, 0}, 3, 0, MVPN_DHT_ERROR_NOT_SERVED},              /* no such request */
        {{0, MVPN_CMD_DHT_PONG, 0}, 3, 0, MVPN_DHT_ERROR_NOT_SERVED}, /* a reply */
    };
    struct net *net = net_new(closed_v4);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct datagram d;
        mvpn_noise hs;
        uint8_t plain[1300];
        size_t len;
        forge(net, mvpn_bytes_of(rows[i].payload, rows[i].n), &hs, &d);
        assert_int_equal(net_give(net, &net->b, &net->a, &d), rows[i].expected);
        if (rows[i].expected == 0) {
            mvpn_dht_answer answer;
            assert_true(net_take(net, &net->b, &d));
            assert_int_equal(mvpn_noise_read(&hs, plain, sizeof(plain), &len,
                                             mvpn_bytes_of(d.bytes + 13, d.n - 13)),
                             0);
            assert_int_equal(mvpn_dht_answer_decode(&answer, mvpn_bytes_of(plain, len)), 0);
            assert_int_equal(answer.command, MVPN_CMD_DHT_ERROR);
            assert_int_equal(answer.body.p[0], rows[i].reason);
        }
        mvpn_noise_done(&hs);
    }
    assert_int_equal(net->b.core.requests, 0);
    net_free(net);
}

/* One a second of unsure clocks, and Pings alone. */
static void test_unsure_limits(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    unsigned answered = 0;
    static const uint8_t a_ping[] = {0, MVPN_CMD_DHT_PING, 0}, blob[39] = {0, MVPN_CMD_DHT_BLOB};
    for (unsigned i = 0; i < 40; i++) {
        struct datagram d;
        mvpn_noise hs;
        mvpn_key key;
        forge(net, i == 0 ? MVPN_BYTES_ARRAY(blob) : MVPN_BYTES_ARRAY(a_ping), &hs, &d);
        mvpn_noise_done(&hs);
        mvpn_mac1_key(&key, &net->b.self.link_key, &net->secret, MVPN_PATTERN_DHT,
                      MVPN_HOUR_UNSURE);
        mvpn_mac1_make(d.bytes + d.n - 16, &key, mvpn_bytes_of(d.bytes, d.n - 16));
        int rc = net_give(net, &net->b, &net->a, &d);
        assert_true(rc == (i == 0 ? MVPN_E_FORMAT : answered < 15 ? 0 : MVPN_E_LIMIT));
        answered += rc == 0;
        (void)net_take(net, &net->b, &d);
    }
    assert_int_equal(answered, 15);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_token_is_bound), cmocka_unit_test(test_no_amplification),
        cmocka_unit_test(test_come_again),     cmocka_unit_test(test_claim),
        cmocka_unit_test(test_request_bits),   cmocka_unit_test(test_hours),
        cmocka_unit_test(test_strangers),      cmocka_unit_test(test_other_node_id),
        cmocka_unit_test(test_rates),          cmocka_unit_test(test_core_says_nothing),
        cmocka_unit_test(test_malformed),      cmocka_unit_test(test_unsure_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
