/* Links end to end: opening, messages, liveness, closing. */
#include "network/p2p/testnet.h"
#include "wire/cell.h"

static void test_opens_with_every_pattern(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 4; v++) {
        size_t from = v & 1;
        struct net *net = net_standard(v, (v & 2) != 0);
        mvpn_link *link = net_open(net, from, 2);
        assert_int_equal(net_send(net, from, link, MVPN_CMD_CREATE, 100, 7, true), 0);
        assert_true(net_until_open(net, link, MVPN_S(1)));
        net_for(net, MVPN_S(1));
        assert_true(mvpn_link_is_initiator(link));
        assert_true(mvpn_link_is_full_size(link));
        assert_int_equal(mvpn_link_rtt_us(link), MVPN_MS(20));
        assert_true(mvpn_addr_eq(mvpn_link_observed_addr(link), &net->node[from].addr));
        assert_int_equal(mvpn_link_clock_offset_s(link), 0);

        const mvpn_link_event *e = net_event(&net->node[2], MVPN_LINK_OPENED);
        assert_non_null(e);
        assert_int_equal(net->node[2].messages, 1);
        assert_ptr_equal(net->node[2].last_link, e->link);
        assert_false(mvpn_link_is_initiator(e->link));
        const mvpn_ed25519_pub *identity = mvpn_link_peer_identity(e->link);
        assert_int_equal(identity != NULL, from == 1);
        if (identity != NULL) {
            assert_memory_equal(identity->b, net->node[1].config.identity.b, 32);
        }
        assert_int_equal(net_send(net, 2, e->link, MVPN_CMD_RELAY, MVPN_CELL_FULL, 9, false), 0);
        net_for(net, MVPN_S(1));
        assert_int_equal(net->node[from].messages, 1);
        net_free(net);
    }
}

static void test_open_gives_the_link_there_is(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *a = net_open(net, 0, 1);
    assert_ptr_equal(net_open(net, 0, 1), a);
    assert_true(net_until_open(net, a, MVPN_S(1)));
    assert_ptr_equal(net_open(net, 0, 1), a);
    assert_ptr_not_equal(net_open(net, 0, 2), a);
    mvpn_link *self;
    assert_int_equal(mvpn_links_open(net->node[1].links, &net->node[1].target, net->now, &self),
                     MVPN_E_INVAL);
    net_free(net);
}

static void one_link(mvpn_links_config *c)
{
    c->links_max = 1;
}

static void two_links(mvpn_links_config *c)
{
    c->links_max = 2;
}

static size_t table_size;
static void links_of_table(mvpn_links_config *c)
{
    c->links_max = table_size;
}

static void test_links_are_bounded(void **state)
{
    (void)state;
    struct net *net = net_new(1);
    net_start(net, 0, false, false, one_link);
    net_start(net, 1, true, false, one_link);
    net_start(net, 2, true, false, NULL);
    mvpn_link *link, *other;
    mvpn_link *mine = net_joined(net, 0, 1, &other);
    mvpn_link_hold(mine);
    mvpn_link_hold(other);
    assert_int_equal(mvpn_links_open(net->node[0].links, &net->node[2].target, net->now, &link),
                     MVPN_E_LIMIT);
    link = net_open(net, 2, 1); /* the full relay says so, to who has finished a handshake */
    net_for(net, MVPN_MS(100));
    assert_int_equal(net_event(&net->node[2], MVPN_LINK_CLOSED)->error, MVPN_E_BUSY);
    assert_int_equal(net_event_count(&net->node[1], MVPN_LINK_OPENED), 0);
    assert_int_equal(net->node[1].links->half_open_count, 1);
    net_for(net, MVPN_S(2));
    assert_int_equal(net->node[1].links->half_open_count, 0);
    net_free(net);
}

static unsigned busy_lost, busy_seen, busy_to_lose;
static bool lose_busy(struct net *net, struct net_datagram *d)
{
    if (mvpn_addr_eq(&d->from, &net->node[1].addr) && mvpn_addr_eq(&d->to, &net->node[2].addr) &&
        d->len == TRANSPORT_OVERHEAD + 1) {
        busy_seen++;
        busy_lost += busy_lost < busy_to_lose;
        return busy_seen > busy_to_lose;
    }
    return true;
}

/* That a relay is full is told again if it was lost, eight times at most; and if there is room
 * meanwhile, the link opens after all. */
static void test_busy_is_told_again(void **state)
{
    (void)state;
    static const struct {
        unsigned lost;
        mvpn_time room_after;
        int error; /* 1: it opens */
    } rows[] = {{1, 0, MVPN_E_BUSY}, {100, 0, MVPN_E_TIMEOUT}, {8, MVPN_MS(300), 1}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_new(1);
        net_start(net, 0, false, false, one_link);
        net_start(net, 1, true, false, one_link);
        net_start(net, 2, true, false, NULL);
        mvpn_link *other, *mine = net_joined(net, 0, 1, &other);
        mvpn_link_hold(mine);
        mvpn_link_hold(other);
        busy_lost = busy_seen = 0;
        busy_to_lose = rows[i].lost;
        net->filter = lose_busy;
        mvpn_link *link = net_open(net, 2, 1);
        mvpn_link_hold(link);
        assert_int_equal(net_send(net, 2, link, MVPN_CMD_CREATE, 100, 1, true), 0);
        net_for(net, rows[i].room_after);
        if (rows[i].room_after > 0) {
            mvpn_link_close(other, 0, net->now);
        }
        net_for(net, MVPN_MS(1500));
        const mvpn_link_event *e = net_event(&net->node[2], MVPN_LINK_CLOSED);
        assert_in_range(busy_seen, 2, 8);
        assert_int_equal(e != NULL ? e->error : 1, rows[i].error);
        assert_int_equal(net->node[1].messages, rows[i].error == 1);
        net_free(net);
    }
}

/* Of two idle links the one goes whose use is longer ago, whichever came first. */
static void test_the_least_used_gives_way(void **state)
{
    (void)state;
    for (size_t used = 0; used < 3; used++) {
        struct net *net = net_new(used);
        mvpn_link *other[2], *mine[2];
        for (size_t k = 0; k < NET_NODES; k++) {
            net_start(net, k, true, false, k == 1 ? two_links : NULL);
        }
        mine[0] = net_joined(net, 0, 1, &other[0]);
        mine[1] = net_joined(net, 2, 1, &other[1]);
        net_for(net, MVPN_S(1));
        if (used < 2) { /* until then it is neither idle nor in order */
            assert_int_equal(net_send(net, 1, other[used], MVPN_CMD_CREATE, 100, 1, true), 0);
        } else {
            mvpn_link_hold(other[0]);
            net_for(net, MVPN_S(1));
            mvpn_link_release(other[0], net->now);
        }
        net_for(net, GIVE_WAY_AFTER + MVPN_S(1));
        mvpn_link *third = net_open(net, 3, 1);
        assert_int_equal(net_send(net, 3, third, MVPN_CMD_CREATE, 100, 2, true), 0);
        net_for(net, MVPN_S(1));
        const mvpn_link_event *e = net_event(&net->node[1], MVPN_LINK_CLOSED);
        assert_non_null(e);
        assert_ptr_equal(e->link, other[used == 1 ? 0 : 1]);
        assert_true(mvpn_link_is_open(mine[used == 1]));
        net_free(net);
    }
}

/* What a block's clients had is theirs again when they have gone. */
static void test_a_block_gets_its_share_back(void **state)
{
    (void)state;
    struct net *net = net_new(1);
    table_size = 8;
    net_start(net, 0, false, false, NULL);
    net_start(net, 1, true, false, links_of_table);
    for (unsigned i = 0; i < 20; i++) {
        mvpn_link *other, *link = net_joined(net, 0, 1, &other);
        assert_int_equal(net->node[1].links->blocks.count, 1);
        mvpn_link_hold(other);
        mvpn_link_close(link, 0, net->now);
        net_for(net, MVPN_MS(100));
        assert_int_equal(net->node[1].links->live_count, 0);
        assert_int_equal(net->node[1].links->blocks.count, 0);
    }
    net_free(net);
}

/* It lives, but what it should acknowledge does not come to node 0. */
static bool no_message_to_node_0(struct net *net, struct net_datagram *d)
{
    return !mvpn_addr_eq(&d->to, &net->node[0].addr) || d->len != TRANSPORT_OVERHEAD + 100;
}

/* A full table has room for a new link if an old one is of no use: the oldest such one. */
static void test_the_oldest_idle_link_gives_way(void **state)
{
    (void)state;
    enum { NONE = 2 };
    static const struct {
        bool held[2], used[2], pending; /* of the links from nodes 0 and 2 */
        size_t victim;
    } rows[] = {
        {.victim = 0},
        {.held = {true}, .victim = 1},
        {.used = {true}, .victim = 1},
        {.pending = true, .victim = 1},
        {.held = {true, true}, .victim = NONE},
        {.used = {true, true}, .victim = NONE},
        {.held = {true}, .used = {false, true}, .victim = NONE},
    };
    for (size_t i = 0; i < 2 * MVPN_ARRAY_LEN(rows); i++) {
        const size_t row = i / 2, victim = rows[row].victim;
        const bool comes_in = i & 1;
        struct net *net = net_new(i);
        struct net_node *relay = &net->node[1], *peer[2] = {&net->node[0], &net->node[2]};
        mvpn_link *other[2], *mine[2], *third;
        for (size_t k = 0; k < NET_NODES; k++) {
            net_start(net, k, true, false, k == 1 ? two_links : NULL);
        }
        mine[0] = net_joined(net, 0, 1, &other[0]);
        mine[1] = net_joined(net, 2, 1, &other[1]);
        if (rows[row].pending) {
            net->filter = no_message_to_node_0;
            assert_int_equal(net_send(net, 1, other[0], MVPN_CMD_CREATE, 100, 1, true), 0);
            net_for(net, MVPN_MS(100)); /* the other's use is more recent */
            assert_int_equal(net_send(net, 1, other[1], MVPN_CMD_CREATE, 100, 1, false), 0);
        }
        net_for(net, GIVE_WAY_AFTER + MVPN_MS(1));
        for (size_t k = 0; k < 2; k++) {
            if (rows[row].held[k]) {
                mvpn_link_hold(other[k]);
            }
            if (rows[row].used[k]) { /* it sends, or receives */
                bool sends = k == 0;
                assert_int_equal(net_send(net, sends ? 1 : 2, sends ? other[k] : mine[k],
                                          MVPN_CMD_CREATE, 100, 1, false),
                                 0);
            }
        }
        net_for(net, MVPN_MS(100));
        relay->messages = net->node[3].messages = 0;
        if (comes_in) {
            third = net_open(net, 3, 1);
            assert_int_equal(net_send(net, 3, third, MVPN_CMD_CREATE, 100, 2, true), 0);
        } else {
            assert_int_equal(mvpn_links_open(relay->links, &net->node[3].target, net->now, &third),
                             victim == NONE ? MVPN_E_LIMIT : 0);
        }
        net->filter = NULL;
        net_for(net, MVPN_S(1));
        assert_int_equal(net_event_count(relay, MVPN_LINK_CLOSED), victim != NONE);
        assert_int_equal(net_event_count(relay, MVPN_LINK_OPENED), victim != NONE);
        assert_int_equal(relay->messages, comes_in && victim != NONE);
        for (size_t k = 0; k < 2; k++) {
            const mvpn_link_event *e = net_event(peer[k], MVPN_LINK_CLOSED);
            assert_int_equal(e != NULL, k == victim);
            if (k == victim) {
                assert_int_equal(e->error, MVPN_E_REFUSED); /* it was told */
                e = net_event(relay, MVPN_LINK_CLOSED);
                assert_ptr_equal(e->link, other[k]);
                assert_int_equal(e->error, 0);
            } else {
                assert_true(mvpn_link_is_open(mine[k]) && mvpn_link_is_open(other[k]));
            }
        }
        assert_int_equal(mvpn_links_count(relay->links), 2);
        net_free(net);
    }
}

/* Whoever has many addresses in one block does not lock the others out. */
static void test_clients_of_one_block_have_a_quarter(void **state)
{
    (void)state;
    static const char *const far = "203.0.113.9:1";
    static const struct {
        const char *addr[3]; /* of nodes 0, 2, 3, which come one after the other */
        size_t table;
        bool is_relay; /* node 2 */
        bool is_idle;  /* likewise */
        bool gets_in, closes;
    } rows[] = {
        {{far, "192.0.2.7:1", "192.0.2.250:1"}, 4, false, false, false, false},
        {{far, "192.0.2.7:1", "192.0.2.250:1"}, 4, false, true, true, true},
        {{far, "192.0.2.7:1", "192.0.3.7:1"}, 4, false, true, true, false},
        {{far, "192.0.2.7:1", "192.0.2.250:1"}, 4, true, false, true, false},
        {{far, "[2a10:0:1:1::1]:1", "[2a10:0:1:ffff::1]:1"}, 4, false, false, false, false},
        {{far, "[2a10:0:1:1::1]:1", "[2a10:0:2:1::1]:1"}, 4, false, false, true, false},
        {{"192.0.2.8:1", "192.0.2.7:1", "192.0.2.250:1"}, 8, false, false, false, false},
        {{"192.0.2.8:1", "192.0.2.7:1", "192.0.2.250:1"}, 12, false, false, true, false},
    };
    static const size_t node[3] = {0, 2, 3};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_new(i);
        const struct net_node *relay = &net->node[1];
        mvpn_link *other[2], *mine[2];
        table_size = rows[i].table;
        for (size_t k = 0; k < NET_NODES; k++) {
            net_start(net, k, k == 1 || (k == 2 && rows[i].is_relay), false,
                      k == 1 ? links_of_table : NULL);
        }
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(mvpn_addr_parse(rows[i].addr[k], &net->node[node[k]].addr), 0);
        }
        /* The one from far away is idle in most rows: it does not pay for a block's greed. */
        mine[0] = net_joined(net, 0, 1, &other[0]);
        mine[1] = net_joined(net, 2, 1, &other[1]);
        net_for(net, GIVE_WAY_AFTER + MVPN_MS(1));
        if (rows[i].table > 4) {
            mvpn_link_hold(other[0]);
        }
        if (!rows[i].is_idle) {
            mvpn_link_hold(other[1]);
        }
        mvpn_link *third = net_open(net, 3, 1);
        assert_int_equal(net_send(net, 3, third, MVPN_CMD_CREATE, 100, 2, true), 0);
        net_for(net, MVPN_S(1));
        assert_int_equal(relay->messages, rows[i].gets_in);
        assert_int_equal(net_event_count(relay, MVPN_LINK_OPENED), rows[i].gets_in);
        assert_true(mvpn_link_is_open(mine[0]) && mvpn_link_is_open(other[0]));
        const mvpn_link_event *e = net_event(relay, MVPN_LINK_CLOSED);
        assert_int_equal(e != NULL, rows[i].closes);
        assert_true(e == NULL || e->link == other[1]);
        assert_int_equal(net_event(&net->node[2], MVPN_LINK_CLOSED) != NULL, rows[i].closes);
        net_free(net);
    }
}

static void test_waiting_messages_are_bounded(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *link = net_open(net, 0, 1);
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 8, 1, false), MVPN_E_STATE);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 8, i, true), 0);
    }
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 8, 64, true), MVPN_E_LIMIT);
    net_for(net, MVPN_S(2));
    assert_int_equal(net->node[1].messages, 64);
    net_free(net);
}

static void test_close_tells_both(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    mvpn_link_set_user(link, net);
    mvpn_link_close(link, 6, net->now);
    assert_false(mvpn_link_is_open(link));
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 8, 1, true), MVPN_E_STATE);
    net_run(net, net->now + MVPN_S(1));
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, 0);
    assert_int_equal(net_event(&net->node[1], MVPN_LINK_CLOSED)->error, MVPN_E_REFUSED);
    assert_int_equal(mvpn_links_count(net->node[0].links), 0);
    assert_int_equal(mvpn_links_count(net->node[1].links), 0);
    assert_int_equal(net->node[0].links->ids.count, 0);
    assert_int_equal(net->node[1].links->ids.count, 0);
    assert_int_equal(net->node[0].links->session_count + net->node[1].links->session_count, 0);
    net_free(net);
}

static void test_unheld_link_closes_after_five_minutes(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *other;
    (void)net_joined(net, 0, 1, &other);
    net_for(net, MVPN_S(290));
    assert_null(net_event(&net->node[0], MVPN_LINK_CLOSED));
    net_for(net, MVPN_S(15));
    assert_non_null(net_event(&net->node[0], MVPN_LINK_CLOSED));
    assert_non_null(net_event(&net->node[1], MVPN_LINK_CLOSED));
    net_free(net);
}

static void test_held_link_lives_and_notices_death(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    mvpn_link_hold(link);
    mvpn_link_hold(other);
    net_for(net, MVPN_S(1000));
    assert_true(mvpn_link_is_open(link) && mvpn_link_is_open(other));
    net->loss = 100;
    net_for(net, MVPN_S(15));
    assert_true(mvpn_link_is_open(link));
    net_for(net, MVPN_S(9)); /* 15 s + 25 %, 3 pings at 1 s; the last sign may be a ping of ours */
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
    net_free(net);
}

static void test_holding_a_silent_link_tests_it(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net_for(net, MVPN_S(60));
    net->loss = 100;
    mvpn_link_hold(link);
    net_for(net, MVPN_S(5));
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
    net_free(net);
}

static void test_commands_of_a_layer_close_the_link(void **state)
{
    (void)state;
    const unsigned commands[] = {0x03, 0x04, 0x07, 0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        struct net *net = net_standard(i, false);
        mvpn_link *other, *link = net_joined(net, 0, 1, &other);
        assert_int_equal(net_send(net, 0, link, commands[i], 20, 1, false), 0);
        net_for(net, MVPN_S(1));
        assert_int_equal(net->node[1].messages, 0);
        assert_int_equal(net_event(&net->node[1], MVPN_LINK_CLOSED)->error, MVPN_E_PROTOCOL);
        assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_REFUSED);
        net_free(net);
    }
}

static void test_unknown_command_is_answered_once(void **state)
{
    (void)state;
    struct net *net = net_standard(1, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(net_send(net, 0, link, 0x0f, 20, 1, false), 0);
        assert_int_equal(net_send(net, 0, link, 0x5f, 20, 1, false), 0);
    }
    net_for(net, MVPN_MS(100));
    assert_int_equal(net->node[1].sent, 1);
    assert_int_equal(net->node[1].messages, 0);
    assert_true(mvpn_link_is_open(link));
    net_free(net);
}

static void test_dht_and_circuit_commands_reach_the_owner(void **state)
{
    (void)state;
    const unsigned commands[] = {0x01, 0x02, 0x05, 0x10, 0x1f};
    struct net *net = net_standard(1, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        assert_int_equal(net_send(net, 0, link, commands[i], 20, 1, false), 0);
    }
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY_EARLY, 208, 1, true), 0);
    net_for(net, MVPN_S(1));
    assert_int_equal(net->node[1].messages, MVPN_ARRAY_LEN(commands) + 2);
    net_free(net);
}

/* ---- revocation ---- */

static mvpn_revocations revoked;

static void with_list(mvpn_links_config *c)
{
    c->revocations = &revoked;
}

/* Relays in a closed network that share the list; every certificate has serial 1. */
static struct net *net_with_list(uint64_t seed)
{
    struct net *net = net_new(seed);
    revoked = (mvpn_revocations){.sequence = 0};
    net_start(net, 0, false, true, NULL);
    net_start(net, 1, true, true, NULL);
    net_start(net, 2, true, true, with_list);
    return net;
}

static void revoke(uint64_t serial)
{
    revoked = (mvpn_revocations){.sequence = 1, .count = 1, .serials = {serial}};
}

static void test_the_revoked_get_no_link(void **state)
{
    (void)state;
    struct net *net = net_with_list(1);
    revoke(1);
    mvpn_link *link = net_open(net, 1, 2);
    assert_false(net_until_open(net, link, MVPN_S(3)));
    assert_int_equal(net_event_count(&net->node[2], MVPN_LINK_OPENED), 0);
    /* A client shows no certificate; it is served. */
    assert_true(net_until_open(net, net_open(net, 0, 2), MVPN_S(1)));
    net_free(net);
    net = net_with_list(1);
    revoke(2); /* another's */
    assert_true(net_until_open(net, net_open(net, 1, 2), MVPN_S(1)));
    net_free(net);
}

static void test_links_of_the_revoked_are_closed(void **state)
{
    (void)state;
    struct net *net = net_with_list(1);
    mvpn_link *at_2;
    mvpn_link *link = net_joined(net, 1, 2, &at_2);
    mvpn_link *client = net_open(net, 0, 2);
    assert_true(net_until_open(net, client, MVPN_S(1)));
    revoke(2);
    mvpn_links_check_revocations(net->node[2].links, net->now);
    net_for(net, MVPN_S(1));
    assert_true(mvpn_link_is_open(at_2));
    revoke(1);
    mvpn_links_check_revocations(net->node[1].links, net->now); /* it has no list: nothing */
    mvpn_links_check_revocations(net->node[2].links, net->now);
    net_for(net, MVPN_S(1));
    assert_int_equal(net_event_count(&net->node[2], MVPN_LINK_CLOSED), 1);
    assert_int_equal(net_event_count(&net->node[1], MVPN_LINK_CLOSED), 1);
    assert_null(mvpn_links_find(net->node[1].links, &net->node[2].config.identity));
    assert_true(mvpn_link_is_open(client));
    (void)link;
    net_free(net);
}

/* The initiator judges by the certificate that it looked for. */
static void test_a_revoked_target_is_left(void **state)
{
    (void)state;
    struct net *net = net_with_list(1);
    net->node[1].target.serial = 40;
    mvpn_link *link = net_open(net, 2, 1);
    assert_true(net_until_open(net, link, MVPN_S(1)));
    revoke(40);
    mvpn_links_check_revocations(net->node[2].links, net->now);
    net_for(net, MVPN_S(1));
    assert_int_equal(net_event_count(&net->node[2], MVPN_LINK_CLOSED), 1);
    net_free(net);
}

static bool from_2_is_lost(struct net *net, struct net_datagram *d)
{
    (void)net;
    return !mvpn_addr_eq(&d->from, &(mvpn_addr){.family = 4, .port = 7000, .ip = {192, 0, 2, 3}});
}

/* Looked for by one certificate, come with another: either is enough. */
static void test_either_certificate_counts(void **state)
{
    (void)state;
    struct net *net = net_with_list(1);
    net->node[1].target.serial = 40;
    net->filter = from_2_is_lost;
    mvpn_link *link = net_open(net, 2, 1);
    net_for(net, MVPN_MS(50));
    net->filter = NULL;
    assert_true(net_until_open(net, net_open(net, 1, 2), MVPN_S(2)));
    net_for(net, MVPN_MS(100));
    assert_true(mvpn_link_is_open(link));
    revoke(1);
    mvpn_links_check_revocations(net->node[2].links, net->now);
    net_for(net, MVPN_S(1));
    assert_int_equal(net_event_count(&net->node[2], MVPN_LINK_CLOSED), 1);
    net_free(net);
}

/* Its first packet came before the list, its second after it. */
static void test_the_half_open_are_revoked_too(void **state)
{
    (void)state;
    struct net *net = net_with_list(1);
    (void)net_open(net, 1, 2);
    net_for(net, MVPN_MS(15));
    revoke(1);
    mvpn_links_check_revocations(net->node[2].links, net->now);
    net_for(net, MVPN_S(2));
    assert_int_equal(net_event_count(&net->node[2], MVPN_LINK_OPENED), 0);
    assert_null(mvpn_links_find(net->node[2].links, &net->node[1].config.identity));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_opens_with_every_pattern),
        cmocka_unit_test(test_open_gives_the_link_there_is),
        cmocka_unit_test(test_links_are_bounded),
        cmocka_unit_test(test_busy_is_told_again),
        cmocka_unit_test(test_the_least_used_gives_way),
        cmocka_unit_test(test_a_block_gets_its_share_back),
        cmocka_unit_test(test_the_oldest_idle_link_gives_way),
        cmocka_unit_test(test_clients_of_one_block_have_a_quarter),
        cmocka_unit_test(test_waiting_messages_are_bounded),
        cmocka_unit_test(test_close_tells_both),
        cmocka_unit_test(test_unheld_link_closes_after_five_minutes),
        cmocka_unit_test(test_held_link_lives_and_notices_death),
        cmocka_unit_test(test_holding_a_silent_link_tests_it),
        cmocka_unit_test(test_commands_of_a_layer_close_the_link),
        cmocka_unit_test(test_unknown_command_is_answered_once),
        cmocka_unit_test(test_dht_and_circuit_commands_reach_the_owner),
        cmocka_unit_test(test_the_revoked_get_no_link),
        cmocka_unit_test(test_links_of_the_revoked_are_closed),
        cmocka_unit_test(test_a_revoked_target_is_left),
        cmocka_unit_test(test_either_certificate_counts),
        cmocka_unit_test(test_the_half_open_are_revoked_too),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
