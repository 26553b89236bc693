/* Asks of the exchange, by servers and clients: what a server has to prove and what does not count,
 * sending again, and clocks that are wrong. (docs/protocol.md §11.2) */
#include "dht/testexchange.h"

enum proof {
    GOOD,
    OTHER_LINK_KEY,
    OTHER_IDENTITY,
    OTHER_ADDRESS,
    LINK_EXPIRED,
    LINK_FORGED,
    NO_ROLE,
    MEMBER_EXPIRED,
    MEMBER_FORGED,
    REVOKED,
    NO_MEMBERSHIP,
    OPEN,
    OPEN_NO_ANCHOR,
};

/* A B whose proof fails in one way; the asks are A's. */
static struct net *net_with(enum proof proof, bool client)
{
    struct net *net = net_new((struct shape){.closed = proof < OPEN, .client = client});
    struct node *b = &net->b;
    mvpn_key other = {{9}};
    switch (proof) {
    case OTHER_LINK_KEY:
        certify_link(net, b, &other, UNTIL);
        break;
    case OTHER_IDENTITY: /* a member certifies a key at a node id that is another's */
        b->identity = net->a.identity;
        b->secret = net->a.secret;
        certify_link(net, b, &b->link_key.pub, UNTIL);
        certify(net, b, ROLES, UNTIL);
        break;
    case OTHER_ADDRESS: /* its identity's, but where it is not */
        b->self.addr = addr_of(false, 88);
        mvpn_dht_node_id(&b->self.id, &b->identity, &b->self.addr);
        b->self.addr = addr_of(false, 2);
        mvpn_dht_exchange_free(b->x);
        node_start(net, b, true);
        break;
    case LINK_EXPIRED:
        certify_link(net, b, &b->link_key.pub, UNIX_START - 301);
        break;
    case LINK_FORGED:
        b->link_certificate[170] ^= 1;
        break;
    case NO_ROLE:
        certify(net, b, (uint16_t)~MVPN_ROLE_DHT_SERVER, UNTIL);
        break;
    case MEMBER_EXPIRED:
        certify(net, b, ROLES, UNIX_START - 301);
        break;
    case MEMBER_FORGED:
        b->membership[120] ^= 1;
        break;
    case REVOKED:
        net->trust.revocations = (mvpn_revocations){.sequence = 1, .count = 1, .serials = {SERIAL}};
        break;
    case NO_MEMBERSHIP: /* B takes the network for an open one, but knows its secret */
        mvpn_dht_exchange_free(b->x);
        const mvpn_dht_exchange_config config = {
            .aead = net->aead,
            .rng = &b->rng,
            .pool = &net->pool,
            .dht = &b->core,
            .trust = &net->trust,
            .network_secret = net->secret,
            .unix_offset_us = OFFSET,
            .is_server = true,
            .self = b->self,
            .identity = b->identity,
            .link_key = b->link_key,
            .link_certificate = MVPN_BYTES_ARRAY(b->link_certificate),
        };
        assert_int_equal(mvpn_dht_exchange_new(&config, net->now, &b->x), 0);
        break;
    case OPEN_NO_ANCHOR:
        net->trust.anchor_count = 0;
        break;
    case GOOD:
    case OPEN:
        break;
    }
    return net;
}

static void test_proofs(void **state)
{
    (void)state;
    static const struct {
        enum proof proof;
        int as_ask; /* error of an ask; an open network wants anchors there */
        bool is_certified;
    } rows[] = {
        {GOOD, 0, true},
        {OTHER_LINK_KEY, MVPN_E_AUTH, false},
        {OTHER_IDENTITY, MVPN_E_AUTH, false},
        {OTHER_ADDRESS, MVPN_E_AUTH, false},
        {LINK_EXPIRED, MVPN_E_EXPIRED, false},
        {LINK_FORGED, MVPN_E_AUTH, false},
        {NO_ROLE, MVPN_E_POLICY, false},
        {MEMBER_EXPIRED, MVPN_E_EXPIRED, false},
        {MEMBER_FORGED, MVPN_E_AUTH, false},
        {REVOKED, MVPN_E_POLICY, false},
        {NO_MEMBERSHIP, MVPN_E_POLICY, false},
        {OPEN, 0, true},
        {OPEN_NO_ANCHOR, MVPN_E_POLICY, true},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_with(rows[i].proof, false);
        struct datagram d;
        net_send(net, ping, true, &d);
        assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
        assert_true(net_take(net, &net->b, &d));
        assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
        assert_int_equal(net->a.core.replies, rows[i].is_certified);
        assert_int_equal(net->a.core.failures, !rows[i].is_certified);
        assert_int_equal(net->a.core.is_certified, rows[i].is_certified);
        assert_int_equal(mvpn_dht_exchange_get_counters(net->a.x)->uncertified,
                         !rows[i].is_certified);
        net_free(net);

        net = net_with(rows[i].proof, true);
        uint64_t transaction;
        mvpn_dht_exchange_answer answer;
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
        assert_false(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        assert_true(net_take(net, &net->a, &d));
        assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
        assert_false(net->b.core.asker.has_claim);
        assert_true(net_take(net, &net->b, &d));
        assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
        assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        assert_true(answer.transaction == transaction);
        assert_int_equal(answer.error, rows[i].as_ask);
        assert_memory_equal(answer.contact.id.b, net->b.self.id.b, 20);
        if (answer.error == 0) {
            assert_memory_equal(answer.identity.b, net->b.identity.b, 32);
            assert_int_equal(answer.reply.command, MVPN_CMD_DHT_PONG);
            assert_int_equal(answer.reply.time, 77);
        }
        assert_false(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        net_free(net);
    }
}

/* What an open network's own file names need be no anchor; anything else must. Being named helps
 * against nothing else. */
static void test_ask_pinned(void **state)
{
    (void)state;
    static const struct {
        enum proof proof;
        bool is_pinned;
        int error;
    } rows[] = {
        {OPEN_NO_ANCHOR, false, MVPN_E_POLICY},
        {OPEN_NO_ANCHOR, true, 0},
        {OPEN, false, 0},
        {NO_MEMBERSHIP, true, MVPN_E_POLICY},
        {NO_ROLE, true, MVPN_E_POLICY},
        {REVOKED, true, MVPN_E_POLICY},
        {OTHER_IDENTITY, true, MVPN_E_AUTH},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_with(rows[i].proof, true);
        struct datagram d;
        uint64_t transaction;
        mvpn_dht_exchange_answer answer;
        assert_int_equal(mvpn_dht_exchange_ask(net->a.x, &net->b.self, rows[i].is_pinned, &ping,
                                               net->now, &transaction),
                         0);
        assert_true(net_take(net, &net->a, &d));
        assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
        assert_true(net_take(net, &net->b, &d));
        assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
        assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        assert_int_equal(answer.error, rows[i].error);
        net_free(net);
    }
}

/* Whom nobody waits for any more is not asked again, and its answer is a stranger's. */
static void test_ask_forgotten(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    struct datagram d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    for (unsigned i = 0; i < 2 * MVPN_DHT_ASKS_MAX; i++) {
        bool is_answered = i % 2 == 1;
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
        assert_true(net_take(net, &net->a, &d));
        if (is_answered) {
            assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
            assert_true(net_take(net, &net->b, &d));
            assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
        }
        mvpn_dht_exchange_forget(net->a.x, transaction + 1); /* another one */
        assert_int_equal(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER, is_answered);
        mvpn_dht_exchange_forget(net->a.x, transaction);
        assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
        assert_false(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        mvpn_dht_exchange_tick(net->a.x, net->now + MVPN_MS(600));
        assert_int_equal(mvpn_packet_queue_pop(mvpn_dht_exchange_out(net->a.x)) != NULL, 0);
        if (!is_answered) {
            assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
            assert_true(net_take(net, &net->b, &d));
            assert_int_equal(net_give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
        }
        net->now += MVPN_S(1);
    }
    net_free(net);
}

/* A reply without the certificate proves nothing, and an ask is for proof. */
static void test_ask_without_certificate(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    const mvpn_dht_request find_value = {.command = MVPN_CMD_DHT_FIND_VALUE};
    uint8_t record[1000] = {0};
    struct datagram d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    net->b.core.reply = (mvpn_dht_reply){
        .command = MVPN_CMD_DHT_VALUE, .type = 1, .record = MVPN_BYTES_ARRAY(record)};
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &find_value, net->now, &transaction),
        0);
    assert_true(net_take(net, &net->a, &d));
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_true(net_take(net, &net->b, &d));
    assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
    assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    assert_int_equal(answer.error, MVPN_E_AUTH);
    net_free(net);
}

static void test_ask_resends(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    struct datagram first, d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    mvpn_time start = net->now;
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, start, &transaction), 0);
    assert_true(net_take(net, &net->a, &first));
    static const unsigned at_ms[] = {500, 1500};
    for (size_t i = 0; i < 2; i++) {
        assert_true(mvpn_dht_exchange_deadline(net->a.x) == start + MVPN_MS(at_ms[i]));
        mvpn_dht_exchange_tick(net->a.x, start + MVPN_MS(at_ms[i]) - 1);
        assert_false(net_take(net, &net->a, &d));
        mvpn_dht_exchange_tick(net->a.x, start + MVPN_MS(at_ms[i]));
        assert_true(net_take(net, &net->a, &d));
        assert_int_equal(d.n, first.n);
        assert_memory_equal(d.bytes, first.bytes, d.n);
        assert_false(net_take(net, &net->a, &d));
    }
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == start + MVPN_S(3));
    mvpn_dht_exchange_tick(net->a.x, start + MVPN_S(3) - 1);
    assert_false(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    mvpn_dht_exchange_tick(net->a.x, start + MVPN_S(3));
    assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    assert_int_equal(answer.error, MVPN_E_TIMEOUT);
    assert_true(answer.transaction == transaction);
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
    assert_int_equal(net_give(net, &net->b, &net->a, &first), 0);
    assert_true(net_take(net, &net->b, &d));
    assert_int_equal(net_give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    net_free(net);
}

/* A clock that is wrong by days: the last sending says so, and the Pong tells the time. */
static void test_unsure_clock(void **state)
{
    (void)state;
    static const struct {
        bool is_unsure;
        int64_t off_s; /* A's clock */
        int error;
        bool by_its_clock;
    } rows[] = {
        {true, 7200, 0, false}, /* certificates hold by both clocks */
        {true, -365 * 86400, 0, true},
        {true, 365 * 86400, 0, true},
        {false, 365 * 86400, MVPN_E_TIMEOUT, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_new((struct shape){.closed = true, .client = true});
        mvpn_time start = net->now;
        struct datagram d, reply;
        uint64_t transaction;
        mvpn_dht_exchange_answer answer;
        net->b.core.reply.time = UNIX_START;
        mvpn_dht_exchange_set_clock_unsure(net->a.x, rows[i].is_unsure);
        mvpn_dht_exchange_set_unix_offset(net->a.x,
                                          OFFSET + rows[i].off_s * (int64_t)MVPN_US_PER_S);
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
        assert_true(net_take(net, &net->a, &d));
        assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
        net->now = start + MVPN_MS(500);
        mvpn_dht_exchange_tick(net->a.x, net->now);
        assert_true(net_take(net, &net->a, &d));
        assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
        net->now = start + MVPN_MS(1500);
        mvpn_dht_exchange_tick(net->a.x, net->now);
        assert_true(net_take(net, &net->a, &d));
        assert_int_equal(net_give(net, &net->b, &net->a, &d), rows[i].is_unsure ? 0 : MVPN_E_AUTH);
        if (net_take(net, &net->b, &reply)) {
            assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_LIMIT); /* not twice */
            assert_int_equal(net_give(net, &net->a, &net->b, &reply), 0);
        }
        mvpn_dht_exchange_tick(net->a.x, start + MVPN_S(3));
        assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        assert_int_equal(answer.error, rows[i].error);
        assert_int_equal(answer.is_by_its_clock, rows[i].by_its_clock);
        if (answer.error == 0) {
            assert_int_equal(answer.reply.time, UNIX_START);
        }
        net_free(net);
    }
    /* Who has an old key cannot show it to a client that trusts its clock. */
    struct net *net = net_with(LINK_EXPIRED, true);
    struct datagram d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    net->b.core.reply.time = UNIX_START - 86400;
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
    assert_true(net_take(net, &net->a, &d));
    assert_int_equal(net_give(net, &net->b, &net->a, &d), 0);
    assert_true(net_take(net, &net->b, &d));
    assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
    assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    assert_int_equal(answer.error, MVPN_E_EXPIRED);
    net_free(net);
}

static void test_ask_limit(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    struct datagram d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    for (unsigned i = 0; i < MVPN_DHT_ASKS_MAX; i++) {
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
        assert_true(net_take(net, &net->a, &d));
    }
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction),
        MVPN_E_LIMIT);
    net->now += MVPN_S(3);
    mvpn_dht_exchange_tick(net->a.x, net->now);
    for (unsigned i = 0; i < MVPN_DHT_ASKS_MAX; i++) {
        assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    }
    /* A key that is none fails here, and takes no place. */
    mvpn_dht_contact zero = net->b.self;
    memset(&zero.link_key, 0, sizeof(zero.link_key));
    for (unsigned i = 0; i <= MVPN_DHT_ASKS_MAX; i++) {
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &zero, false, &ping, net->now, &transaction),
            MVPN_E_AUTH);
    }
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
    net_free(net);
}

/* A client answers nobody. */
static void test_client_is_silent(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    struct datagram d;
    uint64_t transaction;
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->a.self, false, &ping, net->now, &transaction), 0);
    assert_true(net_take(net, &net->a, &d));
    assert_int_equal(net_give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    assert_false(net_take(net, &net->a, &d));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proofs),      cmocka_unit_test(test_ask_without_certificate),
        cmocka_unit_test(test_ask_resends), cmocka_unit_test(test_unsure_clock),
        cmocka_unit_test(test_ask_pinned),  cmocka_unit_test(test_ask_forgotten),
        cmocka_unit_test(test_ask_limit),   cmocka_unit_test(test_client_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
