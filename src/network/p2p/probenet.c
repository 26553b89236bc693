#include "network/p2p/probenet.h"

static size_t index_of(const struct net *net, const struct net_node *node)
{
    return (size_t)(node - net->node);
}

/* What the node's nat_probe wants to send goes with what its links send. */
static void drain(struct probenet *w, size_t i)
{
    struct net_node *n = &w->net->node[i];
    mvpn_packet_queue *out = mvpn_nat_probe_out(w->probe[i]);
    w->probes[i] += out->count;
    mvpn_packet_queue_splice(mvpn_links_out(n->links), out);
}

static bool on_datagram(struct net *net, struct net_node *node, mvpn_packet *packet)
{
    struct probenet *w = net->ctx;
    size_t i = index_of(net, node);
    bool is_taken = mvpn_nat_probe_datagram(w->probe[i], packet, net->now);
    drain(w, i);
    return is_taken;
}

static void on_message(struct net *net, struct net_node *node, mvpn_link *link,
                       const mvpn_header *header, const mvpn_packet *packet)
{
    struct probenet *w = net->ctx;
    size_t i = index_of(net, node);
    mvpn_bytes bytes = mvpn_bytes_of(packet->data, packet->len);
    w->messages[i]++;
    if (w->message != NULL && w->message(w, i, link, header, bytes)) {
        return;
    }
    assert_true(mvpn_nat_probe_message(w->probe[i], link, header, bytes, net->now));
    drain(w, i);
}

/* The latest relay whose address that is. */
static size_t relay_at(const struct net *net, const mvpn_addr *addr)
{
    size_t i = LAST_RELAY;
    while (i > 0 && !mvpn_addr_eq(&net->node[i].addr, addr)) {
        i--;
    }
    return i;
}

static void on_event(struct net *net, struct net_node *node, const mvpn_link_event *event)
{
    struct probenet *w = net->ctx;
    size_t i = index_of(net, node);
    bool is_closed = event->type == MVPN_LINK_CLOSED;
    if (i == ASKER) {
        w->link[relay_at(net, mvpn_link_peer_addr(event->link))] = is_closed ? NULL : event->link;
    } else if (!mvpn_link_is_initiator(event->link)) {
        w->at_relay[i] = is_closed ? NULL : event->link;
    }
    if (is_closed) {
        mvpn_nat_probe_link_closed(w->probe[i], event->link, net->now);
    } else {
        mvpn_nat_probe_link_opened(w->probe[i], event->link, net->now);
    }
    drain(w, i);
}

static mvpn_time on_turn(struct net *net, struct net_node *node)
{
    struct probenet *w = net->ctx;
    size_t i = index_of(net, node);
    mvpn_nat_probe_tick(w->probe[i], net->now);
    drain(w, i);
    if (i == ASKER) {
        w->changes += mvpn_nat_probe_take_change(w->probe[i]);
        w->used_socket = mvpn_nat_probe_uses_socket(w->probe[i]);
    }
    return mvpn_nat_probe_deadline(w->probe[i]);
}

static bool on_send(struct net *net, struct net_datagram *d)
{
    struct probenet *w = net->ctx;
    return w->way == NULL || w->way(w, d);
}

void probenet_start(struct probenet *w, const struct probenet_config *config)
{
    *w = (struct probenet){.net = net_new(config->seed)};
    struct net *net = w->net;
    net->ctx = w;
    net->datagram = on_datagram;
    net->message = on_message;
    net->event = on_event;
    net->turn = on_turn;
    net->filter = on_send;
    for (size_t i = 0; i < NET_NODES; i++) {
        struct net_node *n = &net->node[i];
        net_start(net, i, i != ASKER || config->is_relay, false, NULL);
        if (i == ASKER && config->asker.family != 0) {
            n->addr = n->target.addr = config->asker;
        }
        const mvpn_nat_probe_config c = {
            .rng = &n->rng,
            .pool = &n->pool,
            .links = n->links,
            .is_relay = i != ASKER || config->is_relay,
            .allow_private = !config->is_public,
            .own = {n->addr},
            .own_count = 1,
            .measures_lifetime = i == ASKER && config->measures_lifetime,
        };
        assert_int_equal(mvpn_nat_probe_new(&c, net->now, &w->probe[i]), 0);
    }
}

void probenet_stop(struct probenet *w)
{
    for (size_t i = 0; i < NET_NODES; i++) {
        mvpn_nat_probe_free(w->probe[i]);
    }
    net_free(w->net);
}

void probenet_open_loose(struct probenet *w, size_t relay)
{
    assert_true(net_until_open(w->net, net_open(w->net, ASKER, relay), MVPN_S(1)));
}

void probenet_open(struct probenet *w, size_t relay)
{
    mvpn_link *link = net_open(w->net, ASKER, relay);
    mvpn_link_hold(link);
    assert_true(net_until_open(w->net, link, MVPN_S(1)));
}

void probenet_join_relays(struct probenet *w)
{
    for (size_t i = FIRST_RELAY; i <= LAST_RELAY; i++) {
        for (size_t k = FIRST_RELAY; k < i; k++) {
            mvpn_link *link = net_open(w->net, i, k);
            mvpn_link_hold(link);
            assert_true(net_until_open(w->net, link, MVPN_S(1)));
        }
    }
    net_for(w->net, MVPN_S(1));
}

const mvpn_nat_class *probenet_class(const struct probenet *w)
{
    return mvpn_nat_probe_class(w->probe[ASKER]);
}

mvpn_time probenet_measure(struct probenet *w)
{
    mvpn_time begin = w->net->now;
    do {
        net_for(w->net, MVPN_MS(10));
    } while (w->used_socket && w->net->now < begin + MVPN_S(10));
    return w->net->now - begin;
}

void probenet_send(struct probenet *w, size_t from, mvpn_link *link, unsigned command,
                   const uint8_t *body, size_t n)
{
    mvpn_packet *p = mvpn_packet_new(&w->net->node[from].pool);
    assert_non_null(p);
    memcpy(mvpn_packet_append(p, (uint32_t)n), body, n);
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n};
    int err = mvpn_link_send(link, p, &header, true, w->net->now);
    assert_true(err == 0 || err == MVPN_E_LIMIT || err == MVPN_E_STATE);
}
