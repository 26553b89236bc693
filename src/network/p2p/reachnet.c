#include "network/p2p/reachnet.h"

#include <string.h>

#include "wire/circuit.h"
#include "wire/natmsg.h"

static size_t index_of(const struct net *net, const struct net_node *node)
{
    return (size_t)(node - net->node);
}

static bool is_relay(size_t i)
{
    return i == R0 || i == R1;
}

mvpn_addr reach_addr(size_t i)
{
    return (mvpn_addr){.family = 4, .port = 7000, .ip = {(uint8_t)(51 + i), 1, 1, 1}};
}

static size_t node_at(const mvpn_addr *a)
{
    for (size_t i = 0; i < NET_NODES; i++) {
        mvpn_addr own = reach_addr(i);
        if (memcmp(own.ip, a->ip, 3) == 0) {
            return i;
        }
    }
    return NET_NODES;
}

static bool on_send(struct net *net, struct net_datagram *d)
{
    struct reachnet *w = net->ctx;
    size_t from = node_at(&d->from), to = node_at(&d->to);
    if (to == NET_NODES) {
        w->strange++;
        return false;
    }
    bool is_cut = w->is_cut[from] || w->is_cut[to];
    if (!is_relay(from) && !is_relay(to)) {
        w->direct++;
        return w->is_direct && !is_cut;
    }
    return !is_cut;
}

static bool on_datagram(struct net *net, struct net_node *node, mvpn_packet *packet)
{
    struct reachnet *w = net->ctx;
    size_t i = index_of(net, node);
    if (w->relay[i] == NULL) {
        return false;
    }
    return mvpn_nat_relay_forward(w->relay[i], packet, net->now);
}

static void on_message(struct net *net, struct net_node *node, mvpn_link *link,
                       const mvpn_header *header, const mvpn_packet *packet)
{
    struct reachnet *w = net->ctx;
    size_t i = index_of(net, node);
    mvpn_bytes body = mvpn_bytes_of(packet->data, packet->len);
    if (header->command < MVPN_CMD_NAT_REGISTER) {
        w->pings[i]++;
        return;
    }
    w->got[i][header->command & 15]++;
    if (w->relay[i] != NULL) {
        MVPN_IGNORE(mvpn_nat_relay_message(w->relay[i], link, header, body, net->now));
    } else if (header->command != MVPN_CMD_NAT_INCOMING || !w->drops_incoming) {
        MVPN_IGNORE(mvpn_connector_message(w->connector[i], link, header, body, net->now));
    }
}

static mvpn_time on_turn(struct net *net, struct net_node *node)
{
    struct reachnet *w = net->ctx;
    size_t i = index_of(net, node);
    mvpn_time next = MVPN_TIME_NEVER;
    mvpn_link_event e;
    if (w->connector[i] != NULL) {
        mvpn_connector_tick(w->connector[i], net->now);
    }
    while (mvpn_links_pull_event(node->links, &e)) {
        bool is_closed = e.type == MVPN_LINK_CLOSED;
        w->opened[i] += !is_closed;
        w->closed[i] += is_closed;
        if (!is_closed && !mvpn_link_is_initiator(e.link)) {
            w->latest[i] = e.link;
        }
        if (is_closed && i == A && e.link == w->link) {
            w->link = NULL;
        }
        if (is_closed && e.link == w->latest[i]) {
            w->latest[i] = NULL;
        }
        if (w->relay[i] != NULL && is_closed) {
            mvpn_nat_relay_link_closed(w->relay[i], e.link, net->now);
        } else if (w->connector[i] != NULL && is_closed) {
            mvpn_connector_link_closed(w->connector[i], e.link, net->now);
        } else if (w->connector[i] != NULL) {
            mvpn_connector_link_opened(w->connector[i], e.link, net->now);
        }
    }
    if (w->connector[i] != NULL) {
        mvpn_connector_tick(w->connector[i], net->now);
        next = mvpn_connector_deadline(w->connector[i]);
    }
    if (w->relay[i] != NULL) {
        mvpn_nat_relay_tick(w->relay[i], net->now);
        mvpn_packet_queue_splice(mvpn_links_out(node->links), mvpn_nat_relay_out(w->relay[i]));
        next = mvpn_nat_relay_deadline(w->relay[i]);
    }
    return next;
}

void reach_start_relay(struct reachnet *w, size_t i)
{
    const mvpn_nat_relay_config config = {
        .rng = &w->net->node[i].rng, .pool = &w->net->node[i].pool, .links = w->net->node[i].links};
    assert_int_equal(mvpn_nat_relay_new(&config, w->net->now, &w->relay[i]), 0);
}

void reach_stop_node(struct reachnet *w, size_t i)
{
    mvpn_connector_free(w->connector[i]);
    mvpn_nat_relay_free(w->relay[i]);
    w->connector[i] = NULL;
    w->relay[i] = NULL;
    net_stop(w->net, i);
}

void reach_start_connector(struct reachnet *w, size_t i, bool is_relayed_only)
{
    mvpn_connector_config config = {.rng = &w->net->node[i].rng,
                                    .pool = &w->net->node[i].pool,
                                    .links = w->net->node[i].links,
                                    .is_relayed_only = is_relayed_only,
                                    .tells_host_addresses = true,
                                    .own = {reach_addr(i)},
                                    .own_count = 1};
    assert_int_equal(mvpn_connector_new(&config, w->net->now, &w->connector[i]), 0);
}

void reach_start(struct reachnet *w, uint64_t seed, bool is_relayed_only)
{
    *w = (struct reachnet){.net = net_new(seed)};
    struct net *net = w->net;
    net->ctx = w;
    net->filter = on_send;
    net->datagram = on_datagram;
    net->message = on_message;
    net->turn = on_turn;
    for (size_t i = 0; i < NET_NODES; i++) {
        net_start(net, i, true, false, NULL);
        net->node[i].addr = net->node[i].target.addr = reach_addr(i);
        if (is_relay(i)) {
            reach_start_relay(w, i);
        } else {
            reach_start_connector(w, i, is_relayed_only);
        }
    }
}

void reach_stop(struct reachnet *w)
{
    for (size_t i = 0; i < NET_NODES; i++) {
        if (w->net->node[i].links != NULL) {
            reach_stop_node(w, i);
        }
    }
    net_free(w->net);
}

void reach_bind(struct reachnet *w, size_t who, size_t count)
{
    const mvpn_link_target relays[] = {w->net->node[R0].target, w->net->node[R1].target};
    mvpn_connector_register(w->connector[who], relays, count, w->net->now);
    net_for(w->net, MVPN_MS(200));
}

const mvpn_connector_binding *reach_binding(const struct reachnet *w, size_t who, size_t i)
{
    static mvpn_connector_binding b[MVPN_CONNECTOR_BINDINGS];
    assert_true(mvpn_connector_bindings(w->connector[who], b) > i);
    return &b[i];
}

mvpn_link_target reach_target(const struct reachnet *w, size_t who)
{
    mvpn_link_target t = w->net->node[who].target;
    mvpn_connector_binding b[MVPN_CONNECTOR_BINDINGS];
    size_t n = mvpn_connector_bindings(w->connector[who], b);
    t.addr = (mvpn_addr){0};
    for (size_t i = 0; i < n; i++) {
        const mvpn_link_target *relay = &w->net->node[i == 0 ? R0 : R1].target;
        t.via[t.via_count++] = (mvpn_link_via){.identity = relay->identity,
                                               .link_key = relay->link_key,
                                               .addr = relay->addr,
                                               .rendezvous = b[i].rendezvous};
    }
    return t;
}

mvpn_link *reach_call(struct reachnet *w, size_t from, size_t to)
{
    mvpn_link_target t = reach_target(w, to);
    mvpn_link *link;
    assert_int_equal(mvpn_links_open(w->net->node[from].links, &t, w->net->now, &link), 0);
    mvpn_link_hold(link);
    return link;
}

void reach_joined(struct reachnet *w, uint64_t seed, size_t count, bool is_relayed_only)
{
    reach_start(w, seed, is_relayed_only);
    reach_bind(w, B, count);
    w->link = reach_call(w, A, B);
    net_for(w->net, MVPN_MS(150));
    assert_true(mvpn_link_is_open(w->link));
    assert_non_null(w->latest[B]);
    mvpn_link_hold(w->latest[B]);
}

void reach_joined_directly(struct reachnet *w, uint64_t seed)
{
    reach_joined(w, seed, 1, false);
    w->is_direct = true;
    net_for(w->net, MVPN_S(8));
    assert_true(w->link->session->route == &w->link->session->routes[ROUTE_DIRECT]);
    struct session *s = w->latest[B]->session;
    assert_true(s->route == &s->routes[ROUTE_DIRECT]);
}

mvpn_connection_info reach_info(const struct reachnet *w, size_t i, const mvpn_link *link)
{
    mvpn_connection_info info;
    mvpn_connector_info(w->connector[i], link, &info);
    return info;
}

void reach_check_state(const struct reachnet *w, size_t i, const mvpn_link *link,
                       enum mvpn_connection_state state, enum mvpn_connection_reason reason)
{
    mvpn_connection_info info = reach_info(w, i, link);
    assert_string_equal(mvpn_connection_state_text(info.state), mvpn_connection_state_text(state));
    assert_string_equal(mvpn_connection_reason_text(info.reason),
                        mvpn_connection_reason_text(reason));
}

bool reach_has_event(const struct reachnet *w, size_t i, enum mvpn_connection_state state,
                     enum mvpn_connection_reason reason)
{
    mvpn_connection_event e[MVPN_CONNECTOR_HISTORY];
    size_t n = mvpn_connector_history(w->connector[i], e);
    for (size_t k = 0; k < n; k++) {
        if (e[k].state == state && e[k].reason == reason) {
            return true;
        }
    }
    return false;
}

void reach_say(struct reachnet *w, size_t i, mvpn_link *link, unsigned command, const uint8_t *body,
               size_t n)
{
    mvpn_packet *p = mvpn_packet_new(&w->net->node[i].pool);
    assert_non_null(p);
    memcpy(mvpn_packet_append(p, (uint32_t)n), body, n);
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n};
    assert_int_equal(mvpn_link_send(link, p, &header, true, w->net->now), 0);
    net_for(w->net, MVPN_MS(30));
}

mvpn_link *reach_link(const struct reachnet *w, size_t i, size_t with)
{
    return mvpn_links_find(w->net->node[i].links, &w->net->node[with].config.identity);
}

void reach_send_incoming(struct reachnet *w, size_t from, size_t to, const mvpn_nat_ids *ids)
{
    uint8_t body[MVPN_NAT_INCOMING_LEN_MAX];
    size_t n = mvpn_nat_incoming_encode(body, ids);
    reach_say(w, from, reach_link(w, from, to), MVPN_CMD_NAT_INCOMING, body, n);
}

mvpn_nat_ids reach_ids(uint8_t tag)
{
    mvpn_nat_ids ids = {.session = {{0xee, tag}}, .count = 8};
    for (uint8_t i = 0; i < 8; i++) {
        ids.own[i] = (mvpn_connection_id){{0xaa, tag, i}};
        ids.peer[i] = (mvpn_connection_id){{0xbb, tag, i}};
    }
    return ids;
}

struct nat_call *reach_first_call(const struct reachnet *w, size_t i)
{
    const mvpn_list *calls = &w->connector[i]->calls;
    return mvpn_list_is_empty(calls) ? NULL
                                     : MVPN_CONTAINER_OF(calls->next, struct nat_call, in_calls);
}

void reach_send_candidates(struct reachnet *w, mvpn_link *link, const mvpn_link_candidates *m)
{
    uint8_t body[MVPN_LINK_CANDIDATES_LEN_MAX];
    size_t n = mvpn_link_candidates_encode(body, m);
    assert_int_equal(
        reliable_command(link, MVPN_CMD_LINK_CANDIDATES, mvpn_bytes_of(body, n), w->net->now), 0);
    net_for(w->net, MVPN_MS(45));
}
