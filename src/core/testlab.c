#include "core/testlab.h"

#include <stdlib.h>

#include "base/assert.h"
#include "crypto/x25519.h"

#define POOL 256

static mvpn_addr addr_of(size_t i)
{
    return (mvpn_addr){.family = 4, .port = 7000, .ip = {192, 0, 2, (uint8_t)(i + 1)}};
}

static void make_keys(lab *l, lab_peer *p, size_t i)
{
    mvpn_descriptor *d = &p->descriptor;
    p->addr = addr_of(i);
    mvpn_rng_init_test(&p->rng, mvpn_rng_u64(&l->rng));
    mvpn_ed25519_generate(&d->identity, &p->secret, &l->rng);
    mvpn_x25519_generate(&p->link_key, &l->rng);
    mvpn_x25519_generate(&p->onion_pair, &l->rng);
    d->sequence = 1;
    d->published = LAB_UNIX - 1000;
    d->expires = LAB_UNIX + 100000;
    mvpn_link_certificate_make(d->link_certificate, &p->secret, &d->identity, &p->link_key.pub,
                               d->published, d->expires, &l->realm.network_id);
    d->onion_key_count = 1;
    d->onion_keys[0] = (mvpn_onion_key){(uint8_t)(i + 1), p->onion_pair.pub};
    d->address_count = 1;
    d->addresses[0] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, p->addr};
    d->roles = MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT;
    int err = mvpn_descriptor_sign(d, &p->secret, &l->realm.network_id);
    MVPN_ASSERT(err == 0);
    d->link_key = p->link_key.pub;
}

/* A peer comes into being with its first link: most tests need one or two. */
static void start_peer(lab *l, size_t i)
{
    lab_peer *p = &l->peer[i];
    if (p->links != NULL) {
        return;
    }
    mvpn_links_config c = {
        .aead = l->aead,
        .rng = &p->rng,
        .pool = &p->pool,
        .network_id = l->realm.network_id,
        .network_pub = l->network_pub,
        .unix_offset_us = (int64_t)LAB_UNIX * 1000000 - (int64_t)l->now,
        .is_relay = i > 0,
        .identity = p->descriptor.identity,
        .link_key = p->link_key,
        .link_certificate = MVPN_BYTES_ARRAY(p->descriptor.link_certificate),
    };
    int err = mvpn_packet_pool_init(&p->pool, POOL);
    MVPN_ASSERT(err == 0);
    err = mvpn_links_new(&c, l->now, &p->links);
    MVPN_ASSERT(err == 0);
}

static void configure(lab *l, mvpn_engine_config *c)
{
    *c = (mvpn_engine_config){
        .seed = {7},
        .backend = MVPN_AEAD_AUTO,
        .packet_count = POOL,
        .unix_offset_us = (int64_t)LAB_UNIX * 1000000 - (int64_t)l->now,
        .network_pub = l->network_pub,
        .allow_private = true,
        .allow_test_suite = true,
        .is_relay = l->kind != LAB_CLIENT,
        .identity = l->self.descriptor.identity,
        .link_key = l->self.link_key,
        .onion_keys = {{l->self.descriptor.onion_keys[0].id, l->self.onion_pair}},
        .onion_key_count = 1,
        .own_addresses = {l->self.addr},
        .own_address_count = 1,
        .has_ipv4 = true,
        .has_ipv6 = true,
    };
    memcpy(c->link_certificate, l->self.descriptor.link_certificate, sizeof(c->link_certificate));
}

static void start_engine(lab *l, void (*tune)(mvpn_engine_config *config))
{
    static const mvpn_addr dns = {.family = 4, .port = 53, .ip = {9, 9, 9, 9}};
    static const mvpn_exit_config exit_config = {
        .pool_v4 = {.family = 4, .ip = {10, 64, 0, 0}},
        .pool_v4_bits = 24,
        .pool_v6 = {.family = 6, .ip = {0xfd, 1}},
        .uplink_v6 = true,
        .dns = &dns,
        .dns_count = 1,
        .sessions_max = 100,
    };
    mvpn_client_config client_config = {
        .env = {.size_policy = MVPN_SIZE_CLASSES},
        .hops = 1,
        .relax = MVPN_RELAX_BLOCK,
        .fixed_path = {1, {l->peer[1].descriptor.identity}},
    };
    mvpn_policy_error error;
    configure(l, &l->config);
    l->config.exit = l->kind == LAB_EXIT ? &exit_config : NULL;
    l->config.client = l->kind == LAB_CLIENT ? &client_config : NULL;
    if (tune != NULL) {
        tune(&l->config);
    }
    int err = mvpn_engine_new(&l->config, l->now, &l->engine, &error);
    MVPN_ASSERT(err == 0);
    l->config.client = NULL;
    if (l->kind == LAB_CLIENT) {
        err = mvpn_view_add(mvpn_engine_view(l->engine), &l->peer[1].descriptor);
        MVPN_ASSERT(err == 0);
    }
}

lab *lab_new(enum lab_kind kind, uint64_t seed, void (*tune)(mvpn_engine_config *config))
{
    lab *l = calloc(1, sizeof(*l));
    MVPN_ASSERT(l != NULL);
    l->kind = kind;
    l->now = MVPN_S(1000);
    mvpn_rng_init_test(&l->rng, seed);
    int err = mvpn_aead_new(MVPN_AEAD_AUTO, &l->aead);
    MVPN_ASSERT(err == 0);
    mvpn_ed25519_generate(&l->network_pub, &l->network_key, &l->rng);
    l->realm.network_pub = l->network_pub;
    l->realm.allow_test_suite = true;
    mvpn_network_id(&l->realm.network_id, &l->network_pub);
    make_keys(l, &l->self, 9);
    for (size_t i = 0; i < LAB_PEERS; i++) {
        make_keys(l, &l->peer[i], i);
    }
    start_engine(l, tune);
    return l;
}

bool lab_free(lab *l)
{
    lab_settle(l); /* what was sent to the node's outputs is given back */
    mvpn_packet_pool *pool = mvpn_engine_pool(l->engine);
    mvpn_packet_queue *outs[] = {mvpn_engine_datagrams_out(l->engine),
                                 mvpn_engine_dns_out(l->engine), mvpn_engine_tun_out(l->engine)};
    mvpn_link_event event;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(outs); i++) {
        if (outs[i] != NULL) {
            mvpn_packet_queue_clear(outs[i], pool);
        }
    }
    mvpn_engine_shutdown(l->engine, l->now);
    mvpn_packet_queue_clear(mvpn_engine_datagrams_out(l->engine), pool);
    while (mvpn_links_pull_event(mvpn_engine_links(l->engine), &event)) {
    }
    bool is_whole = l->kind == LAB_EXIT || pool->free_count == pool->size;
    mvpn_engine_free(l->engine);
    for (size_t i = 0; i < LAB_PEERS; i++) {
        if (l->peer[i].links != NULL) {
            mvpn_links_free(l->peer[i].links);
            mvpn_packet_pool_done(&l->peer[i].pool);
        }
    }
    mvpn_aead_free(l->aead);
    free(l);
    return is_whole;
}

static mvpn_packet *carry(mvpn_packet *p, mvpn_packet_pool *from, mvpn_packet_pool *to,
                          const mvpn_addr *sender)
{
    mvpn_packet *copy = mvpn_packet_new(to);
    if (copy != NULL) { /* else lost, like any datagram */
        memcpy(mvpn_packet_append(copy, p->len), p->data, p->len);
        copy->remote = *sender;
    }
    mvpn_packet_free(from, p);
    return copy;
}

static bool from_engine(lab *l)
{
    bool any = false;
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(mvpn_engine_datagrams_out(l->engine))) != NULL) {
        size_t i = 0;
        any = true;
        while (i < LAB_PEERS && !mvpn_addr_eq(&l->peer[i].addr, &p->remote)) {
            i++;
        }
        if (i == LAB_PEERS) {
            mvpn_packet_free(mvpn_engine_pool(l->engine), p);
            continue;
        }
        start_peer(l, i);
        lab_peer *to = &l->peer[i];
        p = carry(p, mvpn_engine_pool(l->engine), &to->pool, &l->self.addr);
        lab_message m;
        to->datagrams++;
        if (p == NULL || mvpn_links_recv(to->links, p, l->now, &m.link, &m.header) != 1) {
            continue;
        }
        m.len = p->len;
        memcpy(m.bytes, p->data, p->len);
        mvpn_packet_free(&to->pool, p);
        if (m.header.command == MVPN_CMD_NAT_PROBE) {
            continue; /* a node asks for them in the background; here nobody answers */
        }
        if (to->inbox_count < LAB_INBOX) {
            to->inbox[to->inbox_count++] = m;
        }
    }
    return any;
}

static bool from_peer(lab *l, lab_peer *from)
{
    mvpn_packet *p;
    mvpn_packet_queue in;
    mvpn_packet_queue_init(&in);
    while ((p = mvpn_packet_queue_pop(mvpn_links_out(from->links))) != NULL) {
        bool is_ours = mvpn_addr_eq(&p->remote, &l->self.addr);
        p = carry(p, &from->pool, mvpn_engine_pool(l->engine), &from->addr);
        if (p != NULL && is_ours) {
            mvpn_packet_queue_push(&in, p);
        } else {
            mvpn_packet_free(mvpn_engine_pool(l->engine), p);
        }
    }
    bool any = in.count > 0;
    mvpn_engine_datagrams_in(l->engine, &in, l->now);
    return any;
}

void lab_settle(lab *l)
{
    bool any = true;
    for (unsigned turns = 0; any && turns < 1000; turns++) {
        mvpn_engine_turn(l->engine, l->now);
        any = from_engine(l);
        for (size_t i = 0; i < LAB_PEERS; i++) {
            lab_peer *p = &l->peer[i];
            mvpn_link_event e;
            if (p->links == NULL) {
                continue;
            }
            mvpn_links_tick(p->links, l->now);
            while (mvpn_links_pull_event(p->links, &e)) {
                p->closed += e.type == MVPN_LINK_CLOSED;
            }
            any = from_peer(l, p) || any;
        }
    }
}

void lab_for(lab *l, mvpn_time span)
{
    for (mvpn_time until = l->now + span;;) {
        lab_settle(l);
        if (l->now >= until) {
            return;
        }
        mvpn_time next = mvpn_engine_deadline(l->engine);
        for (size_t i = 0; i < LAB_PEERS; i++) {
            if (l->peer[i].links != NULL) {
                next = mvpn_time_min(next, mvpn_links_deadline(l->peer[i].links));
            }
        }
        next = next < l->now + MVPN_MS(1) ? l->now + MVPN_MS(1) : next;
        l->now = mvpn_time_min(next, until);
    }
}

mvpn_link *lab_join(lab *l, size_t peer)
{
    mvpn_link_target target = {l->self.descriptor.identity, l->self.link_key.pub, l->self.addr, 0};
    mvpn_link *link;
    start_peer(l, peer);
    int err = mvpn_links_open(l->peer[peer].links, &target, l->now, &link);
    MVPN_ASSERT(err == 0);
    lab_for(l, MVPN_MS(10));
    MVPN_ASSERT(mvpn_link_is_open(link));
    return link;
}

int lab_send(lab *l, size_t peer, mvpn_link *link, const mvpn_header *header, mvpn_bytes body,
             bool acked)
{
    mvpn_packet *p = mvpn_packet_new(&l->peer[peer].pool);
    if (p == NULL) {
        return MVPN_E_NOMEM;
    }
    if (body.n > 0) {
        memcpy(mvpn_packet_append(p, (uint32_t)body.n), body.p, body.n);
    }
    return mvpn_link_send(link, p, header, acked, l->now);
}

bool lab_next(lab *l, size_t peer, lab_message *ret)
{
    lab_peer *p = &l->peer[peer];
    if (p->inbox_count == 0) {
        return false;
    }
    *ret = p->inbox[0];
    memmove(p->inbox, p->inbox + 1, --p->inbox_count * sizeof(p->inbox[0]));
    return true;
}

size_t lab_create_body(lab *l, lab_circuit *c, size_t peer, mvpn_link *link, uint8_t *out,
                       size_t size)
{
    uint8_t message[MVPN_HANDSHAKE_MAX];
    size_t n = 0;
    mvpn_onion_target target = {l->self.descriptor.identity, l->self.onion_pair.pub,
                                MVPN_SUITE_X25519};
    *c = (lab_circuit){.peer = peer, .link = link, .request_id = mvpn_rng_u32(&l->rng)};
    mvpn_rng_bytes(&l->rng, c->out.b, sizeof(c->out.b));
    mvpn_rng_bytes(&l->rng, c->in.b, sizeof(c->in.b));
    int err = mvpn_handshake_begin(&c->noise, l->aead, &l->rng, &l->realm, &target, message, &n);
    MVPN_ASSERT(err == 0);
    mvpn_create m = {c->in,
                     c->request_id,
                     MVPN_SUITE_X25519,
                     l->self.descriptor.onion_keys[0].id,
                     {(uint16_t)n, 0, {message, n}}};
    return mvpn_create_encode(out, size, &m);
}

void lab_send_create(lab *l, lab_circuit *c, mvpn_bytes body)
{
    mvpn_header h = {.circuit = c->out, .command = MVPN_CMD_CREATE, .length = (uint16_t)body.n};
    MVPN_IGNORE(lab_send(l, c->peer, c->link, &h, body, true)); /* tests look at what comes of it */
}

bool lab_circuit_open(lab *l, lab_circuit *c, size_t peer, mvpn_link *link)
{
    uint8_t body[256];
    lab_message m;
    mvpn_created created;
    mvpn_hop_keys keys;
    size_t n = lab_create_body(l, c, peer, link, body, sizeof(body));
    lab_send_create(l, c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(5));
    if (!lab_next(l, peer, &m) || m.header.command != MVPN_CMD_CREATED ||
        mvpn_created_decode(&created, mvpn_bytes_of(m.bytes, m.len)) != 0 ||
        mvpn_handshake_finish(&c->noise, created.part.bytes, &keys) != 0) {
        return false;
    }
    mvpn_onion_add(&c->onion, &keys.forward, &keys.backward);
    return true;
}

void lab_cell(lab *l, lab_circuit *c, unsigned command, bool early, mvpn_bytes data)
{
    mvpn_cell_kind kind = {(uint16_t)command, 0, MVPN_SIZE_CLASSES};
    mvpn_header h;
    mvpn_packet *p = mvpn_packet_new(&l->peer[c->peer].pool);
    MVPN_ASSERT(p != NULL);
    if (data.n > 0) {
        memcpy(mvpn_packet_append(p, (uint32_t)data.n), data.p, data.n);
    }
    int err = mvpn_onion_seal(&c->onion, l->aead, c->onion.count, &kind, early, p, &h);
    MVPN_ASSERT(err == 0);
    h.circuit = c->out;
    MVPN_IGNORE(mvpn_link_send(c->link, p, &h, early, l->now)); /* a closed link is the test's */
}

int lab_open(lab *l, lab_circuit *c, const lab_message *m, uint8_t *out, size_t *ret_len)
{
    unsigned hop;
    mvpn_layer_header layer;
    mvpn_packet *p = mvpn_packet_new(&l->peer[c->peer].pool);
    MVPN_ASSERT(p != NULL);
    memcpy(mvpn_packet_append(p, (uint32_t)m->len), m->bytes, m->len);
    int r = mvpn_onion_open(&c->onion, l->aead, p, &m->header, &hop, &layer);
    if (r == 0) {
        memcpy(out, p->data, p->len);
        *ret_len = p->len;
    }
    mvpn_packet_free(&l->peer[c->peer].pool, p);
    return r == 0 ? layer.command : -1;
}

size_t lab_extend_body(lab *l, lab_circuit *c, size_t to, bool with_descriptor, uint8_t *out,
                       size_t size)
{
    uint8_t message[MVPN_HANDSHAKE_MAX];
    size_t n = 0;
    const mvpn_descriptor *d = &l->peer[to].descriptor;
    mvpn_onion_target target = {d->identity, d->onion_keys[0].key, MVPN_SUITE_X25519};
    c->request_id = mvpn_rng_u32(&l->rng);
    int err = mvpn_handshake_begin(&c->noise, l->aead, &l->rng, &l->realm, &target, message, &n);
    MVPN_ASSERT(err == 0);
    mvpn_extend_body body = {
        .identity = d->identity,
        .suite = MVPN_SUITE_X25519,
        .key_id = d->onion_keys[0].id,
        .handshake = {message, n},
        .descriptor = {d->encoded, with_descriptor ? d->encoded_len : 0u},
    };
    return mvpn_extend_body_encode(out, size, &body);
}

void lab_send_extend(lab *l, lab_circuit *c, mvpn_bytes body)
{
    uint8_t data[MVPN_BODY_MAX];
    mvpn_extend m = {c->request_id, {(uint16_t)body.n, 0, body}};
    size_t n = mvpn_extend_encode(data, sizeof(data), &m);
    lab_cell(l, c, MVPN_CMD_EXTEND, true, mvpn_bytes_of(data, n));
}

size_t lab_answer(lab *l, size_t peer, const lab_message *m, uint8_t *out, size_t size,
                  mvpn_hop_keys *ret, mvpn_circuit_id *ret_back)
{
    lab_peer *p = &l->peer[peer];
    uint8_t message[MVPN_HANDSHAKE_MAX];
    size_t n = 0;
    mvpn_create create;
    if (mvpn_create_decode(&create, mvpn_bytes_of(m->bytes, m->len)) != 0) {
        return 0;
    }
    mvpn_onion_target self = {p->descriptor.identity, p->onion_pair.pub, create.suite};
    if (mvpn_handshake_answer(l->aead, &l->rng, &l->realm, &self, &p->onion_pair, create.part.bytes,
                              message, &n, ret) != 0) {
        return 0;
    }
    *ret_back = create.back;
    mvpn_created created = {create.request_id, {(uint16_t)n, 0, {message, n}}};
    return mvpn_created_encode(out, size, &created);
}
