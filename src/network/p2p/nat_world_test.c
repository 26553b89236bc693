/*
 * The NAT relay on real links, with loss: a relay at home (node 2) and a client (node 0) at the NAT
 * relay (node 1); node 3's address is a stranger's, or a victim's.
 */
#include "network/p2p/nat_relay.h"
#include "network/p2p/testnet.h"
#include "wire/natmsg.h"

enum { CALLER, RELAY, HOME, OTHER };
#define RAW_LEN 1200
/* A datagram of nobody's keys: what matters is its destination and the mark behind. */
#define MARK 0x7e

struct world {
    struct net *net;
    mvpn_nat_relay *relay;
    mvpn_link *at_relay[NET_NODES]; /* its links with the others */
    mvpn_link *link[NET_NODES];     /* theirs */
    mvpn_nat_registered registered;
    mvpn_nat_opened opened;
    mvpn_nat_ids incoming;
    size_t closes[NET_NODES];
    size_t raw[NET_NODES]; /* datagrams that came to a node through the relay */
    size_t to_other;       /* packets that any node sent to the address of node 3 */
    bool is_capturing;     /* the next datagram of the relay at home is kept back */
    struct net_datagram kept;
};

static size_t index_of(const struct net *net, const struct net_node *node)
{
    return (size_t)(node - net->node);
}

static bool on_datagram(struct net *net, struct net_node *node, mvpn_packet *packet)
{
    struct world *w = net->ctx;
    size_t i = index_of(net, node);
    if (i == RELAY && w->relay != NULL) {
        bool is_taken = mvpn_nat_relay_forward(w->relay, packet, net->now);
        mvpn_packet_queue_splice(mvpn_links_out(node->links), mvpn_nat_relay_out(w->relay));
        return is_taken;
    }
    if (packet->len == RAW_LEN && packet->data[RAW_LEN - 1] == MARK) {
        mvpn_addr from = net_addr(RELAY);
        assert_true(mvpn_addr_eq(&packet->remote, &from));
        w->raw[i]++;
        mvpn_packet_free(&node->pool, packet);
        return true;
    }
    return false;
}

static void on_message(struct net *net, struct net_node *node, mvpn_link *link,
                       const mvpn_header *header, const mvpn_packet *packet)
{
    struct world *w = net->ctx;
    size_t i = index_of(net, node);
    mvpn_bytes body = mvpn_bytes_of(packet->data, packet->len);
    if (i == RELAY) {
        assert_true(mvpn_nat_relay_message(w->relay, link, header, body, net->now));
    } else if (header->command == MVPN_CMD_NAT_REGISTERED) {
        assert_int_equal(mvpn_nat_registered_decode(&w->registered, body), 0);
    } else if (header->command == MVPN_CMD_NAT_OPENED) {
        assert_int_equal(mvpn_nat_opened_decode(&w->opened, body), 0);
    } else if (header->command == MVPN_CMD_NAT_INCOMING) {
        assert_int_equal(mvpn_nat_incoming_decode(&w->incoming, body), 0);
    } else {
        assert_int_equal(header->command, MVPN_CMD_NAT_CLOSE);
        w->closes[i]++;
    }
}

static bool on_send(struct net *net, struct net_datagram *d)
{
    struct world *w = net->ctx;
    mvpn_addr other = net_addr(OTHER);
    w->to_other += mvpn_addr_eq(&d->to, &other);
    if (w->is_capturing && mvpn_addr_eq(&d->from, &net->node[HOME].addr)) {
        w->is_capturing = false;
        w->kept = *d;
        return false;
    }
    return true;
}

static void send_message(struct world *w, size_t from, unsigned command, const uint8_t *body,
                         size_t n)
{
    mvpn_packet *p = mvpn_packet_new(&w->net->node[from].pool);
    assert_non_null(p);
    memcpy(mvpn_packet_append(p, (uint32_t)n), body, n);
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n};
    assert_int_equal(mvpn_link_send(w->link[from], p, &header, true, w->net->now), 0);
}

static void send_raw(struct world *w, const mvpn_addr *from, const mvpn_connection_id *to)
{
    struct net_datagram d = {.from = *from, .to = net_addr(RELAY), .len = RAW_LEN};
    d.bytes[0] = 0x45;
    memcpy(d.bytes + 1, to->b, sizeof(to->b));
    d.bytes[RAW_LEN - 1] = MARK;
    (void)net_inject(w->net, &d);
    net_for(w->net, MVPN_MS(30));
}

/* Both at the relay, a session between them. */
static void start(struct world *w, uint32_t loss)
{
    uint8_t body[MVPN_NAT_OPEN_LEN];
    *w = (struct world){.net = net_standard(3, false)};
    struct net *net = w->net;
    net->ctx = w;
    for (size_t i = 0; i < 3; i += 2) { /* the caller, and the one at home */
        w->link[i] = net_joined(net, i, RELAY, &w->at_relay[i]);
        mvpn_link_hold(w->link[i]);
    }
    const mvpn_nat_relay_config config = {.rng = &net->node[RELAY].rng,
                                          .pool = &net->node[RELAY].pool,
                                          .links = net->node[RELAY].links};
    assert_int_equal(mvpn_nat_relay_new(&config, net->now, &w->relay), 0);
    net->datagram = on_datagram;
    net->message = on_message;
    net->filter = on_send;
    net->loss = loss;
    mvpn_nat_register_encode(body, 600);
    send_message(w, HOME, MVPN_CMD_NAT_REGISTER, body, MVPN_NAT_REGISTER_LEN);
    net_for(net, MVPN_S(5));
    assert_int_equal(w->registered.lifetime_s, 600);
    mvpn_nat_open_encode(body, &(mvpn_nat_open){1, w->registered.rendezvous, 8});
    send_message(w, CALLER, MVPN_CMD_NAT_OPEN, body, MVPN_NAT_OPEN_LEN);
    net_for(net, MVPN_S(5));
    assert_int_equal(w->opened.ids.count, 8);
    assert_memory_equal(w->incoming.own, w->opened.ids.peer, sizeof(w->incoming.own));
    net->loss = 0;
}

static void stop(struct world *w)
{
    mvpn_nat_relay_free(w->relay);
    net_free(w->net);
}

static void test_session_over_a_bad_network(void **state)
{
    (void)state;
    struct world w;
    start(&w, 20);
    const mvpn_addr caller = net_addr(CALLER), home = net_addr(HOME), other = net_addr(OTHER);
    send_raw(&w, &caller, &w.opened.ids.peer[0]);
    send_raw(&w, &home, &w.opened.ids.own[0]);
    assert_int_equal(w.raw[HOME], 1);
    assert_int_equal(w.raw[CALLER], 1);
    /* Whoever saw one of them knows an id, and can do nothing with it. */
    send_raw(&w, &other, &w.opened.ids.peer[0]);
    send_raw(&w, &other, &w.opened.ids.own[0]);
    assert_int_equal(w.raw[HOME] + w.raw[CALLER], 2);
    assert_int_equal(w.raw[OTHER], 0);
    assert_int_equal(w.to_other, 0);
    /* Not even with the session's name, from a link of its own. */
    w.link[OTHER] = net_joined(w.net, OTHER, RELAY, &w.at_relay[OTHER]);
    w.to_other = 0;
    mvpn_nat_more_encode(w.kept.bytes, &(mvpn_nat_more){w.opened.ids.session, 8});
    mvpn_nat_ids before = w.incoming;
    send_message(&w, OTHER, MVPN_CMD_NAT_MORE, w.kept.bytes, MVPN_NAT_MORE_LEN);
    net_for(w.net, MVPN_S(1));
    assert_int_not_equal(w.opened.status, 0);
    assert_memory_equal(&before, &w.incoming, sizeof(before));
    send_raw(&w, &caller, &before.own[0]);
    assert_int_equal(w.raw[HOME], 2);
    stop(&w);
}

static void test_follows_a_link_that_roams(void **state)
{
    (void)state;
    struct world w;
    start(&w, 0);
    const mvpn_addr caller = net_addr(CALLER), old = net_addr(HOME);
    mvpn_addr moved = {.family = 4, .port = 4711, .ip = {192, 0, 2, 99}};
    w.net->node[HOME].addr = moved;
    mvpn_links_local_changed(w.net->node[HOME].links, w.net->now);
    assert_int_equal(net_send(w.net, HOME, w.link[HOME], MVPN_CMD_NAT_CLOSE, 8, 1, false), 0);
    w.net->message = NULL;
    net_for(w.net, MVPN_S(1));
    assert_true(mvpn_addr_eq(mvpn_link_peer_addr(w.at_relay[HOME]), &moved));
    send_raw(&w, &caller, &w.opened.ids.peer[0]);
    send_raw(&w, &moved, &w.opened.ids.own[0]);
    assert_int_equal(w.raw[HOME], 1);
    assert_int_equal(w.raw[CALLER], 1);
    send_raw(&w, &old, &w.opened.ids.own[0]);
    assert_int_equal(w.raw[CALLER], 1);
    stop(&w);
}

/* One genuine packet of the relay at home, sent from a victim's address before it arrives: the
 * victim gets the challenges of §4.6 and nothing of what is forwarded. */
static void test_a_victim_gets_nothing(void **state)
{
    (void)state;
    struct world w;
    start(&w, 0);
    const mvpn_addr caller = net_addr(CALLER), victim = net_addr(OTHER);
    w.is_capturing = true;
    assert_int_equal(net_send(w.net, HOME, w.link[HOME], MVPN_CMD_NAT_CLOSE, 8, 1, false), 0);
    w.net->message = NULL;
    net_for(w.net, MVPN_MS(1));
    assert_false(w.is_capturing);
    w.kept.from = victim;
    assert_int_equal(net_inject(w.net, &w.kept), 1); /* it verifies */
    for (unsigned i = 0; i < 100; i++) {
        send_raw(&w, &caller, &w.opened.ids.peer[i % 8]);
    }
    assert_int_equal(w.raw[HOME], 100);
    assert_int_equal(w.raw[OTHER], 0);
    assert_in_range(w.to_other, 1, 3);
    send_raw(&w, &victim, &w.opened.ids.own[0]);
    assert_int_equal(w.raw[CALLER], 0);
    stop(&w);
}

static void test_ends_with_a_link(void **state)
{
    (void)state;
    struct world w;
    start(&w, 0);
    const mvpn_addr caller = net_addr(CALLER), home = net_addr(HOME);
    mvpn_link_close(w.link[CALLER], 6, w.net->now);
    w.net->node[RELAY].event_count = 0;
    net_for(w.net, MVPN_MS(100));
    const mvpn_link_event *e = net_event(&w.net->node[RELAY], MVPN_LINK_CLOSED);
    assert_non_null(e);
    mvpn_nat_relay_link_closed(w.relay, e->link, w.net->now);
    net_for(w.net, MVPN_MS(100));
    assert_int_equal(w.closes[HOME], 1);
    send_raw(&w, &caller, &w.opened.ids.peer[0]);
    send_raw(&w, &home, &w.opened.ids.own[0]);
    assert_int_equal(w.raw[HOME] + w.raw[CALLER], 0);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_session_over_a_bad_network),
        cmocka_unit_test(test_follows_a_link_that_roams),
        cmocka_unit_test(test_a_victim_gets_nothing),
        cmocka_unit_test(test_ends_with_a_link),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
