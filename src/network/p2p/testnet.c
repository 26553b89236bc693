#include "network/p2p/testnet.h"

#include <stdlib.h>

#include "base/assert.h"
#include "crypto/x25519.h"
#include "wire/cell.h"

#define POOL 1024

struct net *net_new(uint64_t seed)
{
    struct net *net = calloc(1, sizeof(*net));
    MVPN_ASSERT(net != NULL);
    net->flight = calloc(NET_FLIGHT, sizeof(*net->flight));
    MVPN_ASSERT(net->flight != NULL);
    mvpn_rng_init_test(&net->rng, seed);
    int err = mvpn_aead_new(MVPN_AEAD_AUTO, &net->aead);
    MVPN_ASSERT(err == 0);
    mvpn_ed25519_generate(&net->network_pub, &net->network_key, &net->rng);
    net->now = MVPN_S(1000);
    net->delay = MVPN_MS(10);
    net->mtu = 1500;
    return net;
}

mvpn_addr net_addr(size_t i)
{
    return (mvpn_addr){.family = 4, .port = 7000, .ip = {192, 0, 2, (uint8_t)(i + 1)}};
}

void net_start(struct net *net, size_t i, bool is_relay, bool closed,
               void (*tune)(mvpn_links_config *c))
{
    struct net_node *n = &net->node[i];
    mvpn_links_config *c = &n->config;
    bool is_known = n->net != NULL; /* a restart keeps keys and address */
    int err = mvpn_packet_pool_init(&n->pool, POOL);
    MVPN_ASSERT(err == 0);
    if (!is_known) {
        n->net = net;
        n->addr = net_addr(i);
        *c = (mvpn_links_config){.aead = net->aead, .is_relay = is_relay, .closed = closed};
        mvpn_network_id(&c->network_id, &net->network_pub);
        c->network_pub = net->network_pub;
        memset(c->network_secret.b, 0x5a, sizeof(c->network_secret.b));
        mvpn_ed25519_generate(&c->identity, &n->secret, &net->rng);
        mvpn_x25519_generate(&c->link_key, &net->rng);
        mvpn_link_certificate_make(n->certificate, &n->secret, &c->identity, &c->link_key.pub,
                                   NET_UNIX - 1000, NET_UNIX + 100000, &c->network_id);
        mvpn_membership_make(n->membership, &net->network_key, &c->identity, MVPN_ROLE_MIDDLE,
                             NET_UNIX - 1000, NET_UNIX + 100000, 1, &c->network_id);
        c->link_certificate = MVPN_BYTES_ARRAY(n->certificate);
        c->membership_certificate = closed ? MVPN_BYTES_ARRAY(n->membership) : MVPN_BYTES_NONE;
        c->unix_offset_us = (int64_t)NET_UNIX * 1000000 - (int64_t)net->now;
        n->target = (mvpn_link_target){c->identity, c->link_key.pub, n->addr};
    }
    mvpn_rng_init_test(&n->rng, mvpn_rng_u64(&net->rng));
    c->rng = &n->rng;
    c->pool = &n->pool;
    if (tune != NULL) {
        tune(c);
    }
    n->event_count = 0;
    n->messages = 0;
    err = mvpn_links_new(c, net->now, &n->links);
    MVPN_ASSERT(err == 0);
}

void net_stop(struct net *net, size_t i)
{
    struct net_node *n = &net->node[i];
    if (n->links == NULL) {
        return;
    }
    mvpn_links_free(n->links);
    n->links = NULL;
    MVPN_ASSERT(n->pool.free_count == n->pool.size); /* no packet was lost */
    mvpn_packet_pool_done(&n->pool);
}

void net_free(struct net *net)
{
    for (size_t i = 0; i < NET_NODES; i++) {
        net_stop(net, i);
    }
    mvpn_aead_free(net->aead);
    free(net->flight);
    free(net);
}

struct net *net_standard(uint64_t seed, bool closed)
{
    struct net *net = net_new(seed);
    net_start(net, 0, false, closed, NULL);
    for (size_t i = 1; i < NET_NODES; i++) {
        net_start(net, i, true, closed, NULL);
    }
    return net;
}

static void post(struct net *net, const struct net_datagram *d)
{
    if (net->flight_count == NET_FLIGHT || mvpn_rng_below(&net->rng, 100) < net->loss) {
        return;
    }
    struct net_datagram *f = &net->flight[net->flight_count++];
    *f = *d;
    f->order = net->order++;
    f->due = net->now + net->delay;
    if (net->jitter > 0) {
        f->due += mvpn_rng_below(&net->rng, (uint32_t)net->jitter);
    }
    if (mvpn_rng_below(&net->rng, 100) < net->corrupt) {
        f->bytes[mvpn_rng_below(&net->rng, (uint32_t)f->len)] ^=
            (uint8_t)(1u << mvpn_rng_below(&net->rng, 8));
    }
}

mvpn_addr net_local(const struct net_node *n, uint16_t local)
{
    mvpn_addr a = n->addr;
    a.port = (uint16_t)(a.port + local);
    return a;
}

static void collect(struct net *net, struct net_node *n)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(mvpn_links_out(n->links))) != NULL) {
        struct net_datagram d = {
            .from = net_local(n, p->local), .to = p->remote, .flags = p->flags, .len = p->len};
        MVPN_ASSERT(p->len <= sizeof(d.bytes));
        memcpy(d.bytes, p->data, p->len);
        mvpn_packet_free(&n->pool, p);
        n->sent++;
        n->sent_bytes += d.len;
        if (d.len > net->mtu || (net->filter != NULL && !net->filter(net, &d))) {
            continue;
        }
        post(net, &d);
        if (mvpn_rng_below(&net->rng, 100) < net->dup) {
            post(net, &d);
        }
    }
    mvpn_link_event e;
    while (mvpn_links_pull_event(n->links, &e)) {
        if (net->event != NULL) {
            net->event(net, n, &e);
            continue;
        }
        MVPN_ASSERT(n->event_count < NET_EVENTS);
        n->events[n->event_count++] = e;
    }
}

int net_inject(struct net *net, const struct net_datagram *d)
{
    for (size_t i = 0; i < NET_NODES; i++) {
        struct net_node *n = &net->node[i];
        unsigned local = (unsigned)d->to.port - n->addr.port;
        bool is_there = mvpn_addr_ip_eq(&n->addr, &d->to) && local < NET_LOCALS &&
                        (local == MVPN_LOCAL_MAIN || local >= MVPN_LOCAL_PROBE);
        if (n->links == NULL || !is_there) {
            continue;
        }
        mvpn_packet *p = mvpn_packet_new(&n->pool);
        MVPN_ASSERT(p != NULL);
        memcpy(mvpn_packet_append(p, (uint32_t)d->len), d->bytes, d->len);
        p->remote = d->from;
        p->local = (uint16_t)local;
        if (net->datagram != NULL && net->datagram(net, n, p)) {
            return 0;
        }
        mvpn_link *link = NULL;
        mvpn_header header;
        int err = mvpn_links_recv(n->links, p, net->now, &link, &header);
        if (err == 1) {
            n->messages++;
            n->last_link = link;
            if (net->message != NULL) {
                net->message(net, n, link, &header, p);
            }
            mvpn_packet_free(&n->pool, p);
        }
        return err;
    }
    return MVPN_E_UNKNOWN;
}

static size_t first_due(const struct net *net)
{
    size_t best = 0;
    for (size_t i = 1; i < net->flight_count; i++) {
        const struct net_datagram *a = &net->flight[i], *b = &net->flight[best];
        if (a->due < b->due || (a->due == b->due && a->order < b->order)) {
            best = i;
        }
    }
    return best;
}

void net_run(struct net *net, mvpn_time until)
{
    for (;;) {
        mvpn_time next = MVPN_TIME_NEVER;
        for (size_t i = 0; i < NET_NODES; i++) {
            struct net_node *n = &net->node[i];
            if (n->links != NULL) {
                mvpn_links_tick(n->links, net->now);
                if (net->turn != NULL) {
                    next = mvpn_time_min(next, net->turn(net, n));
                }
                collect(net, n);
                next = mvpn_time_min(next, mvpn_links_deadline(n->links));
            }
        }
        size_t at = first_due(net);
        if (net->flight_count > 0) {
            next = mvpn_time_min(next, net->flight[at].due);
        }
        if (next > until) {
            break;
        }
        net->now = MVPN_MAX(net->now, next);
        if (net->flight_count > 0 && net->flight[at].due <= net->now) {
            struct net_datagram d = net->flight[at];
            net->flight[at] = net->flight[--net->flight_count];
            (void)net_inject(net, &d);
        }
    }
    net->now = MVPN_MAX(net->now, until);
}

void net_for(struct net *net, mvpn_time span)
{
    net_run(net, net->now + span);
}

bool net_until_open(struct net *net, const mvpn_link *link, mvpn_time span)
{
    for (mvpn_time end = net->now + span; net->now < end;) {
        net_for(net, MVPN_MS(1));
        bool is_there = false;
        for (size_t i = 0; i < NET_NODES && net->node[i].links != NULL; i++) {
            MVPN_LIST_FOREACH(it, &net->node[i].links->links)
            {
                is_there = is_there || it == &link->in_links;
            }
        }
        if (!is_there || mvpn_link_is_open(link)) {
            return is_there;
        }
    }
    return false;
}

mvpn_link *net_open(struct net *net, size_t from, size_t to)
{
    mvpn_link *link = NULL;
    int err = mvpn_links_open(net->node[from].links, &net->node[to].target, net->now, &link);
    MVPN_ASSERT(err == 0);
    return link;
}

mvpn_link *net_joined(struct net *net, size_t from, size_t to, mvpn_link **ret_other)
{
    mvpn_link *link = net_open(net, from, to);
    bool is_open = net_until_open(net, link, MVPN_S(1));
    MVPN_ASSERT(is_open);
    net_for(net, MVPN_S(1));
    const mvpn_link_event *e = net_event(&net->node[to], MVPN_LINK_OPENED);
    MVPN_ASSERT(e != NULL);
    *ret_other = e->link;
    net->node[from].event_count = net->node[to].event_count = 0;
    net->node[from].sent = net->node[to].sent = 0;
    return link;
}

int net_send(struct net *net, size_t from, mvpn_link *link, unsigned command, size_t len,
             uint64_t tag, bool acked)
{
    mvpn_packet *p = mvpn_packet_new(&net->node[from].pool);
    MVPN_ASSERT(p != NULL && len >= 8);
    uint8_t *body = mvpn_packet_append(p, (uint32_t)len);
    memset(body, 0xa5, len);
    mvpn_store64(body, tag);
    mvpn_header h = {.circuit = {{1}}, .command = (uint16_t)command, .length = (uint16_t)len};
    if (mvpn_command_is_relay(command)) {
        h.size_class = len == MVPN_CELL_FULL ? MVPN_CLASS_FULL : MVPN_CLASS_EXACT;
        h.counter = tag;
    }
    return mvpn_link_send(link, p, &h, acked, net->now);
}

const mvpn_link_event *net_event(const struct net_node *node, enum mvpn_link_event_type type)
{
    for (size_t i = node->event_count; i-- > 0;) {
        if (node->events[i].type == type) {
            return &node->events[i];
        }
    }
    return NULL;
}

size_t net_event_count(const struct net_node *node, enum mvpn_link_event_type type)
{
    size_t count = 0;
    for (size_t i = 0; i < node->event_count; i++) {
        count += node->events[i].type == type;
    }
    return count;
}
