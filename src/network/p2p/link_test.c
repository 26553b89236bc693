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
    link = net_open(net, 2, 1); /* the full relay says nothing */
    net_for(net, MVPN_S(11));
    assert_int_equal(net_event(&net->node[2], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
    net_free(net);
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
        assert_int_equal(net_send(net, 0, link, 0x45, 20, 1, false), 0);
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

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_opens_with_every_pattern),
        cmocka_unit_test(test_open_gives_the_link_there_is),
        cmocka_unit_test(test_links_are_bounded),
        cmocka_unit_test(test_waiting_messages_are_bounded),
        cmocka_unit_test(test_close_tells_both),
        cmocka_unit_test(test_unheld_link_closes_after_five_minutes),
        cmocka_unit_test(test_held_link_lives_and_notices_death),
        cmocka_unit_test(test_holding_a_silent_link_tests_it),
        cmocka_unit_test(test_commands_of_a_layer_close_the_link),
        cmocka_unit_test(test_unknown_command_is_answered_once),
        cmocka_unit_test(test_dht_and_circuit_commands_reach_the_owner),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
