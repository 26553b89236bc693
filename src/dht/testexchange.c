#include "dht/testexchange.h"

#include "crypto/x25519.h"

#define FROM (UNIX_START - 86400 * 30)

bool mvpn_dht_pull_request(mvpn_dht *dht, mvpn_dht_outgoing *ret)
{
    if (dht->pulled == dht->queue_count) {
        return false;
    }
    *ret = dht->queue[dht->pulled++];
    ret->request.record.p = ret->record;
    return true;
}

int mvpn_dht_request_in(mvpn_dht *dht, const mvpn_dht_asker *asker, const mvpn_dht_request *request,
                        mvpn_time now, mvpn_dht_reply *ret)
{
    (void)now;
    dht->requests++;
    dht->asker = *asker;
    dht->request = *request;
    if (request->record.n > 0) {
        memcpy(dht->record, request->record.p, request->record.n);
    }
    *ret = dht->reply;
    return dht->reply_rc;
}

void mvpn_dht_reply_in(mvpn_dht *dht, uint64_t transaction, const mvpn_dht_reply *reply,
                       bool is_certified, mvpn_time now)
{
    (void)now;
    dht->replies++;
    dht->transaction = transaction;
    dht->got = *reply;
    dht->is_certified = is_certified;
}

void mvpn_dht_reply_failed(mvpn_dht *dht, uint64_t transaction, mvpn_time now)
{
    (void)now;
    dht->failures++;
    dht->transaction = transaction;
}

mvpn_addr addr_of(bool is_v6, uint8_t n)
{
    mvpn_addr a = {.family = is_v6 ? 6 : 4, .port = (uint16_t)(1000 + n)};
    a.ip[0] = is_v6 ? 0x2a : 11;
    a.ip[1] = is_v6 ? 0x10 : n;
    a.ip[2] = n;
    a.ip[3] = n;
    a.ip[15] = is_v6 ? n : 0;
    return a;
}

void certify_link(struct net *net, struct node *n, const mvpn_key *key, uint64_t until)
{
    mvpn_link_certificate_make(n->link_certificate, &n->secret, &n->identity, key, FROM, until,
                               &net->trust.network_id);
}

void certify(struct net *net, struct node *n, uint16_t roles, uint64_t until)
{
    mvpn_membership_make(n->membership, &net->network_key, &n->identity, roles, FROM, until, SERIAL,
                         &net->trust.network_id);
}

static void node_init(struct net *net, struct node *n, uint8_t number, bool is_v6)
{
    mvpn_rng_init_test(&n->rng, number);
    mvpn_ed25519_generate(&n->identity, &n->secret, &n->rng);
    mvpn_x25519_generate(&n->link_key, &n->rng);
    n->self.link_key = n->link_key.pub;
    n->self.addr = addr_of(is_v6, number);
    mvpn_dht_node_id(&n->self.id, &n->identity, &n->self.addr);
    certify_link(net, n, &n->link_key.pub, UNTIL);
    certify(net, n, ROLES, UNTIL);
    n->core.reply =
        (mvpn_dht_reply){.command = MVPN_CMD_DHT_PONG, .time = 77, .observed = addr_of(is_v6, 9)};
}

void node_start(struct net *net, struct node *n, bool is_server)
{
    const mvpn_dht_exchange_config config = {
        .aead = net->aead,
        .rng = &n->rng,
        .pool = &net->pool,
        .dht = is_server ? &n->core : NULL,
        .trust = &net->trust,
        .network_secret = net->secret,
        .unix_offset_us = OFFSET,
        .is_server = is_server,
        .self = n->self,
        .identity = n->identity,
        .link_key = n->link_key,
        .link_certificate = MVPN_BYTES_ARRAY(n->link_certificate),
        .membership_certificate =
            net->trust.closed ? MVPN_BYTES_ARRAY(n->membership) : MVPN_BYTES_NONE,
    };
    assert_int_equal(mvpn_dht_exchange_new(&config, net->now, &n->x), 0);
}

struct net *net_new(struct shape shape)
{
    struct net *net = calloc(1, sizeof(*net));
    mvpn_rng rng;
    assert_non_null(net);
    mvpn_rng_init_test(&rng, 99);
    mvpn_ed25519_generate(&net->trust.network_pub, &net->network_key, &rng);
    mvpn_network_id(&net->trust.network_id, &net->trust.network_pub);
    net->trust.closed = shape.closed;
    net->secret = (mvpn_key){{5}};
    net->now = START;
    assert_int_equal(mvpn_aead_new(MVPN_AEAD_OPENSSL, &net->aead), 0);
    assert_int_equal(mvpn_packet_pool_init(&net->pool, 64), 0);
    node_init(net, &net->a, 1, shape.is_v6);
    node_init(net, &net->b, 2, shape.is_v6);
    net->trust.anchor_count = 1;
    net->trust.anchors[0] = net->b.identity;
    node_start(net, &net->a, !shape.client);
    node_start(net, &net->b, true);
    return net;
}

void net_free(struct net *net)
{
    mvpn_dht_exchange_free(net->a.x);
    mvpn_dht_exchange_free(net->b.x);
    assert_int_equal(net->pool.free_count, net->pool.size); /* every packet came back */
    mvpn_packet_pool_done(&net->pool);
    mvpn_aead_free(net->aead);
    free(net);
}

const struct shape closed_v4 = {.closed = true};

bool net_take(struct net *net, struct node *from, struct datagram *ret)
{
    mvpn_packet *p = mvpn_packet_queue_pop(mvpn_dht_exchange_out(from->x));
    if (p == NULL) {
        return false;
    }
    memcpy(ret->bytes, p->data, p->len);
    ret->n = p->len;
    mvpn_packet_free(&net->pool, p);
    return true;
}

int net_give_from(struct net *net, struct node *to, const mvpn_addr *from, const struct datagram *d)
{
    mvpn_packet *p = mvpn_packet_new(&net->pool);
    assert_non_null(p);
    memcpy(mvpn_packet_append(p, (uint32_t)d->n), d->bytes, d->n);
    p->remote = *from;
    if (!mvpn_dht_is_datagram(mvpn_bytes_of(p->data, p->len))) {
        mvpn_packet_free(&net->pool, p);
        return MVPN_E_FORMAT;
    }
    return mvpn_dht_exchange_recv(to->x, p, net->now);
}

int net_give(struct net *net, struct node *to, const struct node *from, const struct datagram *d)
{
    return net_give_from(net, to, &from->self.addr, d);
}

void net_send(struct net *net, mvpn_dht_request request, bool wants_certificate,
              struct datagram *ret)
{
    mvpn_dht *core = &net->a.core;
    mvpn_dht_outgoing *o = &core->queue[0];
    *o = (mvpn_dht_outgoing){.transaction = mvpn_rng_u64(&net->a.rng),
                             .reply_room =
                                 request.command == MVPN_CMD_DHT_PING ? 32 : MVPN_DHT_BODY_MAX,
                             .to = net->b.self,
                             .wants_certificate = wants_certificate,
                             .has_claim = true,
                             .request = request};
    if (request.record.n > 0) {
        memcpy(o->record, request.record.p, request.record.n);
    }
    core->queue_count = 1;
    core->pulled = 0;
    mvpn_dht_exchange_flush(net->a.x, net->now);
    assert_true(net_take(net, &net->a, ret));
}

const mvpn_dht_request ping = {.command = MVPN_CMD_DHT_PING};

int net_exchange(struct net *net, mvpn_dht_request request, bool wants_certificate)
{
    struct datagram d = {.n = 0};
    net_send(net, request, wants_certificate, &d);
    int rc = net_give(net, &net->b, &net->a, &d);
    if (rc == 0) {
        assert_true(net_take(net, &net->b, &d));
        assert_int_equal(net_give(net, &net->a, &net->b, &d), 0);
    }
    return rc;
}
