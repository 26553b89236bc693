/* The addresses of a server: it answers by the node id of each, and for a while by those that it
 * had; it claims the first of a family. (docs/protocol.md §11.1) */
#include "dht/testexchange.h"

static void test_old_self(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    mvpn_dht_contact old = net->b.self, moved = old;
    moved.addr = addr_of(false, 77);
    mvpn_dht_node_id(&moved.id, &net->b.identity, &moved.addr);
    mvpn_dht_exchange_set_self(net->b.x, &moved, NULL, 0, net->now);
    net->now += MVPN_S(599);
    assert_int_equal(net_exchange(net, ping, true), 0);
    assert_true(net->a.core.is_certified);
    net->b.self = moved;
    assert_int_equal(net_exchange(net, ping, true), 0);
    assert_true(net->a.core.is_certified);
    net->now += MVPN_S(1);
    assert_int_equal(net_exchange(net, ping, true), 0);
    net->b.self = old;
    net_send(net, ping, true, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
    net_free(net);
}

/* A node at one more address, of the other family than its first. */
static mvpn_dht_contact also_at(const struct node *n, bool is_v6, uint8_t number)
{
    mvpn_dht_contact c = {.link_key = n->link_key.pub, .addr = addr_of(is_v6, number)};
    mvpn_dht_node_id(&c.id, &n->identity, &c.addr);
    return c;
}

/* By the node id of each of its addresses, where that address is; and no longer when it is gone. */
static void test_further_addresses(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .is_v6 = true});
    struct datagram d;
    const mvpn_dht_contact six = net->b.self, four = also_at(&net->b, false, 2);
    const mvpn_dht_contact others[] = {also_at(&net->b, true, 3), six, also_at(&net->b, false, 4)};
    mvpn_dht_exchange_set_self(net->b.x, &four, others, 3, net->now);
    for (unsigned i = 0; i < 2; i++) {
        net->b.self = others[i];
        assert_int_equal(net_exchange(net, ping, true), 0);
        assert_true(net->a.core.is_certified);
    }
    /* Its id of the other family is asked for elsewhere; an id of nobody nowhere. */
    net->b.self = six;
    net->b.self.id = four.id;
    net_send(net, ping, true, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
    const mvpn_addr from = addr_of(false, 1);
    assert_int_equal(net_give_from(net, &net->b, &from, &d), 0);
    assert_true(net_take(net, &net->b, &d));
    net->b.self.id = also_at(&net->b, true, 9).id;
    net_send(net, ping, true, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
    assert_int_equal(net_give_from(net, &net->b, &from, &d), MVPN_E_AUTH);

    net->b.self = six;
    mvpn_dht_exchange_set_self(net->b.x, &four, NULL, 0, net->now);
    net->now += MVPN_S(599);
    assert_int_equal(net_exchange(net, ping, true), 0);
    net->now += MVPN_S(1);
    net_send(net, ping, true, &d);
    assert_int_equal(net_give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
    net_free(net);
}

/* However often its addresses change: those that it has now stay answered. */
static void test_many_addresses(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    const mvpn_dht_contact first = net->b.self;
    for (uint8_t i = 10; i < 60; i++) {
        mvpn_dht_contact others[MVPN_DHT_OWN_MAX];
        for (uint8_t k = 0; k < MVPN_DHT_OWN_MAX; k++) {
            others[k] = also_at(&net->b, false, (uint8_t)(i + k));
        }
        mvpn_dht_exchange_set_self(net->b.x, &first, others, MVPN_ARRAY_LEN(others), net->now);
        net->b.self = others[MVPN_DHT_OWN_MAX - 2]; /* the last that counts */
        assert_int_equal(net_exchange(net, ping, false), 0);
        net->b.self = first;
        assert_int_equal(net_exchange(net, ping, false), 0);
        net->now += MVPN_S(1);
    }
    net_free(net);
}

/* A server says that it is one by the id that fits where its request comes from, or not at all. */
static void test_claim_of_family(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .is_v6 = true});
    const mvpn_dht_contact six = net->a.self, four = also_at(&net->a, false, 1);
    mvpn_dht_exchange_set_self(net->a.x, &four, &six, 1, net->now);
    assert_int_equal(net_exchange(net, ping, true), 0); /* the token */
    assert_int_equal(net_exchange(net, ping, true), 0);
    assert_true(net->b.core.asker.has_claim);
    assert_memory_equal(&net->b.core.asker.claim.id, &six.id, sizeof(six.id));
    assert_true(mvpn_key_eq(&net->b.core.asker.claim.link_key, &six.link_key));
    mvpn_dht_exchange_set_self(net->a.x, &four, NULL, 0, net->now);
    assert_int_equal(net_exchange(net, ping, true), 0);
    assert_false(net->b.core.asker.has_claim);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_old_self),
        cmocka_unit_test(test_further_addresses),
        cmocka_unit_test(test_many_addresses),
        cmocka_unit_test(test_claim_of_family),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
