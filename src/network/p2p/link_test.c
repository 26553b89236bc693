/* Links end to end: handshakes, messages, events, over a network that loses and alters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "network/p2p/testnet.h"
#include "wire/cell.h"

/* Node 0 is a client, 1 to 3 are relays. */
static struct net *start(uint64_t seed, bool closed)
{
    struct net *net = net_new(seed);
    net_start(net, 0, false, closed, NULL);
    for (size_t i = 1; i < NET_NODES; i++) {
        net_start(net, i, true, closed, NULL);
    }
    return net;
}

static void test_opens_with_every_pattern(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 4; v++) {
        size_t from = v & 1;
        struct net *net = start(v, (v & 2) != 0);
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

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_opens_with_every_pattern),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
