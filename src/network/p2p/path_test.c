/* Paths: roaming, copied packets, connection ids, packet sizes. */
#include "network/p2p/testnet.h"

#include "wire/cell.h"

static const mvpn_addr elsewhere = {.family = 4, .port = 9000, .ip = {198, 51, 100, 7}};

/* What node 1 sends to `elsewhere` and to node 0's first address; the ids that node 0 sends to. */
static unsigned to_victim, cells_to_victim, cells_home;
static uint64_t bytes_to_victim;
static bool is_cell(const struct net_datagram *d)
{
    return d->len == PACKET_FULL;
}

static bool watch(struct net *net, struct net_datagram *d)
{
    if (mvpn_addr_eq(&d->to, &elsewhere)) {
        to_victim++;
        bytes_to_victim += d->len;
        cells_to_victim += is_cell(d);
    } else if (!mvpn_addr_eq(&d->from, &net->node[0].addr)) {
        cells_home += is_cell(d);
    }
    return true;
}

static struct net *watched(uint64_t seed, mvpn_link **ret_link, mvpn_link **ret_other)
{
    struct net *net = net_standard(seed, false);
    *ret_link = net_joined(net, 0, 1, ret_other);
    to_victim = cells_to_victim = cells_home = 0;
    bytes_to_victim = 0;
    net->filter = watch;
    return net;
}

static struct net_datagram kept;
static bool keep(struct net *net, struct net_datagram *d)
{
    if (mvpn_addr_eq(&d->from, &net->node[0].addr)) {
        kept = *d;
        return false;
    }
    return true;
}

static void test_data_follows_only_a_proven_address(void **state)
{
    (void)state;
    mvpn_link *link, *other;
    struct net *net = watched(1, &link, &other);
    mvpn_addr home = net->node[0].addr;
    net->node[0].addr = elsewhere; /* the NAT gave another port: the client does not know */
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
    net_for(net, MVPN_MS(11));
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(net_send(net, 1, other, MVPN_CMD_RELAY, MVPN_CELL_FULL, i, false), 0);
    }
    net_for(net, MVPN_MS(1));
    assert_true(mvpn_addr_eq(mvpn_link_peer_addr(other), &home));
    assert_int_equal(cells_to_victim, 0);
    assert_int_equal(to_victim, 1); /* the challenge */
    net_for(net, MVPN_MS(30));
    assert_true(mvpn_addr_eq(mvpn_link_peer_addr(other), &elsewhere));
    net->node[0].messages = 0;
    assert_int_equal(net_send(net, 1, other, MVPN_CMD_RELAY, 208, 1, false), 0);
    net_for(net, MVPN_MS(500));
    assert_int_equal(net->node[0].messages, 1);
    assert_true(mvpn_link_is_full_size(other)); /* proven anew */
    net_free(net);
}

static void test_new_path_is_split_until_probed(void **state)
{
    (void)state;
    mvpn_link *link, *other;
    struct net *net = watched(1, &link, &other);
    net->node[0].addr = elsewhere;
    net->mtu = 1300;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
    net_for(net, MVPN_MS(100));
    assert_true(mvpn_addr_eq(mvpn_link_peer_addr(other), &elsewhere));
    assert_false(mvpn_link_is_full_size(other));
    net->node[0].messages = 0;
    assert_int_equal(net_send(net, 1, other, MVPN_CMD_RELAY, MVPN_CELL_FULL, 1, false), 0);
    net_for(net, MVPN_MS(100));
    assert_int_equal(net->node[0].messages, 1);
    net_free(net);
}

static void test_copied_packets_turn_nothing_on_a_victim(void **state)
{
    (void)state;
    mvpn_link *link, *other;
    struct net *net = watched(2, &link, &other);
    uint64_t bytes_in = 0;
    for (unsigned i = 0; i < 200; i++) {
        /* The attacker overtakes each packet with its copy. */
        net->filter = keep;
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, i, false), 0);
        net_for(net, 0);
        net->filter = watch;
        struct net_datagram copy = kept;
        copy.from = elsewhere;
        bytes_in += copy.len;
        assert_int_equal(net_inject(net, &copy), 1);
        (void)net_inject(net, &kept);
        assert_int_equal(net_send(net, 1, other, MVPN_CMD_RELAY, MVPN_CELL_FULL, i, false), 0);
        net_for(net, MVPN_MS(100));
    }
    assert_int_equal(to_victim, 3); /* then that address is ignored for 30 s */
    assert_int_equal(cells_to_victim, 0);
    assert_true(bytes_to_victim <= 3 * bytes_in);
    assert_true(cells_home >= 200);
    assert_true(mvpn_addr_eq(mvpn_link_peer_addr(other), &net->node[0].addr));
    assert_int_equal(net->node[1].links->counters.path_checks, 1);
    net_for(net, MVPN_S(31));
    net->filter = keep;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
    net_for(net, 0);
    net->filter = watch;
    struct net_datagram copy = kept;
    copy.from = elsewhere;
    assert_int_equal(net_inject(net, &copy), 1);
    assert_int_equal(net->node[1].links->counters.path_checks, 2);
    net_free(net);
}

static void test_small_packet_buys_little(void **state)
{
    (void)state;
    mvpn_link *link, *other;
    struct net *net = watched(2, &link, &other);
    net->filter = keep;
    assert_int_equal(transport_command(link->session, MVPN_CMD_LINK_PAD, MVPN_BYTES_NONE, net->now),
                     0);
    net_for(net, 0);
    net->filter = watch;
    kept.from = elsewhere;
    assert_int_equal(net_inject(net, &kept), 0);
    net_for(net, MVPN_S(20));
    assert_int_equal(kept.len, 61);
    assert_int_equal(to_victim, 2);
    assert_true(bytes_to_victim <= 3 * kept.len);
    net_free(net);
}

static void test_old_packet_moves_nothing(void **state)
{
    (void)state;
    mvpn_link *link, *other;
    struct net *net = watched(3, &link, &other);
    net->filter = keep;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
    net_for(net, 0);
    net->filter = watch;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 2, false), 0);
    net_for(net, MVPN_MS(20));
    kept.from = elsewhere;
    assert_int_equal(net_inject(net, &kept), 1); /* late, and not the highest number */
    net_for(net, MVPN_S(1));
    assert_int_equal(to_victim, 0);
    net_free(net);
}

static void test_response_counts_from_the_new_address_only(void **state)
{
    (void)state;
    mvpn_link *link, *other;
    struct net *net = watched(4, &link, &other);
    net->filter = keep;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
    net_for(net, 0);
    net->filter = NULL;
    kept.from = elsewhere;
    assert_int_equal(net_inject(net, &kept), 1);
    uint64_t token = other->session->check.token;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_PATH_RESPONSE, 8, token, false), 0);
    net_for(net, MVPN_MS(50));
    assert_true(mvpn_addr_eq(mvpn_link_peer_addr(other), &net->node[0].addr));
    net->node[0].addr = elsewhere;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_PATH_RESPONSE, 8, token ^ 1, false), 0);
    net_for(net, MVPN_MS(11));
    assert_false(mvpn_addr_eq(mvpn_link_peer_addr(other), &elsewhere));
    net_free(net);
}

static void test_local_change_takes_a_fresh_id(void **state)
{
    (void)state;
    mvpn_link *link, *other;
    struct net *net = watched(5, &link, &other);
    for (unsigned i = 0; i < 7; i++) {
        mvpn_connection_id id = link->session->route->remote, back = other->session->route->remote;
        net->node[0].addr.port++;
        mvpn_links_local_changed(net->node[0].links, net->now);
        assert_memory_not_equal(&id, &link->session->route->remote, sizeof(id));
        net_for(net, MVPN_MS(500));
        assert_true(mvpn_addr_eq(mvpn_link_peer_addr(other), &net->node[0].addr));
        assert_memory_not_equal(&back, &other->session->route->remote,
                                sizeof(back));               /* both ways */
        assert_true(link->session->route->spare_count >= 2); /* replenished */
        assert_non_null(connid_find(net->node[1].links, id.b));
        net_for(net, MVPN_S(10));
        assert_null(connid_find(net->node[1].links, id.b)); /* retired */
        assert_int_equal(net->node[1].links->ids.count, 4);
    }
    net_free(net);
}

static void test_rebinding_burns_no_id(void **state)
{
    (void)state;
    mvpn_link *link, *other;
    struct net *net = watched(5, &link, &other);
    mvpn_connection_id back = other->session->route->remote;
    net->node[0].addr = elsewhere;
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
    net_for(net, MVPN_MS(500));
    assert_true(mvpn_addr_eq(mvpn_link_peer_addr(other), &elsewhere));
    assert_memory_equal(&back, &other->session->route->remote, sizeof(back));
    net_free(net);
}

static size_t largest;
static bool measure(struct net *net, struct net_datagram *d)
{
    (void)net;
    if ((d->flags & MVPN_PACKET_PROBE) == 0) {
        largest = MVPN_MAX(largest, d->len);
    }
    return true;
}

static void test_narrow_path(void **state)
{
    (void)state;
    struct net *net = net_standard(6, false);
    net->mtu = 1300;
    net->filter = measure;
    largest = 0;
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, MVPN_CELL_FULL, i, false), 0);
        assert_int_equal(net_send(net, 1, other, MVPN_CMD_RELAY_EARLY, MVPN_CELL_FULL, i, true), 0);
        net_for(net, MVPN_MS(50));
    }
    assert_int_equal(net->node[0].messages, 20);
    assert_int_equal(net->node[1].messages, 20);
    assert_true(largest <= 1232);
    assert_false(mvpn_link_is_full_size(link));
    mvpn_link_hold(link);
    net->mtu = 1500; /* the path widens: found within ten minutes */
    net_for(net, MVPN_S(605));
    assert_true(mvpn_link_is_full_size(link));
    net_free(net);
}

static void test_too_big_returns_to_splitting(void **state)
{
    (void)state;
    struct net *net = net_standard(7, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    assert_true(mvpn_link_is_full_size(link));
    net->mtu = 1300;
    mvpn_links_message_too_big(net->node[0].links, &net->node[2].addr, net->now);
    assert_true(mvpn_link_is_full_size(link)); /* somebody else's path */
    mvpn_links_message_too_big(net->node[0].links, &net->node[1].addr, net->now);
    assert_false(mvpn_link_is_full_size(link));
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, MVPN_CELL_FULL, 1, false), 0);
    net_for(net, MVPN_MS(100));
    assert_int_equal(net->node[1].messages, 1);
    net_free(net);
}

static void test_black_hole(void **state)
{
    (void)state;
    struct net *net = net_standard(7, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->mtu = 1300; /* in silence */
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY_EARLY, MVPN_CELL_FULL, 1, true), 0);
    net_for(net, MVPN_S(2));
    assert_int_equal(net->node[1].messages, 1);
    assert_false(mvpn_link_is_full_size(link));
    /* Without acknowledged messages the probe of every ten minutes finds it. */
    assert_true(mvpn_link_is_full_size(other));
    mvpn_link_hold(link);
    mvpn_link_hold(other);
    net_for(net, MVPN_S(605));
    assert_false(mvpn_link_is_full_size(other));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_data_follows_only_a_proven_address),
        cmocka_unit_test(test_new_path_is_split_until_probed),
        cmocka_unit_test(test_copied_packets_turn_nothing_on_a_victim),
        cmocka_unit_test(test_small_packet_buys_little),
        cmocka_unit_test(test_old_packet_moves_nothing),
        cmocka_unit_test(test_response_counts_from_the_new_address_only),
        cmocka_unit_test(test_local_change_takes_a_fresh_id),
        cmocka_unit_test(test_rebinding_burns_no_id),
        cmocka_unit_test(test_narrow_path),
        cmocka_unit_test(test_too_big_returns_to_splitting),
        cmocka_unit_test(test_black_hole),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
