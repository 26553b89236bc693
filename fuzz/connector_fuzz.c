/*
 * A whole connector with its links: a relay at home, registered at one NAT relay, that calls others
 * by it and by a second one. The input is ([op 1] ...)*: what a hostile NAT relay and a hostile
 * peer say under the right keys, datagrams from anywhere, time. First byte: what is known of our
 * own NAT.
 *
 *   us (0) --link-- NAT relay (1), hostile --forwards-- peer (2), hostile
 */
#include "crypto/x25519.h"
#include "fuzz/fuzz.h"
#include "network/p2p/connection.h"
#include "wire/natmsg.h"

#define POOL 1024
#define FLIGHT 128
#define UNIX_NOW 1800000000

enum { US, NAT_RELAY, PEER, NODES };

struct node {
    mvpn_links *links;
    mvpn_packet_pool pool;
    mvpn_rng rng;
    mvpn_addr addr;
    mvpn_ed25519_pub identity;
    mvpn_x25519_pair key;
    uint8_t certificate[MVPN_LINK_CERTIFICATE_LEN];
};

static struct datagram {
    mvpn_addr from, to;
    size_t len;
    uint8_t bytes[MVPN_PACKET_ROOM];
} flight[FLIGHT];
static size_t flight_first, flight_count;

static mvpn_aead *aead;
static mvpn_time now;
static struct node node[NODES];
static mvpn_connector *connector, *peers;
static mvpn_ed25519_pub network_pub;
static mvpn_key network_id;
/* Ids of the session that the NAT relay forwards, ours and the peer's; [0] for first packets. */
static mvpn_nat_ids ids;
static mvpn_link *called; /* by us; NULL: none */

static void make_keys(void)
{
    mvpn_rng rng;
    mvpn_ed25519_secret secret, network_key;
    mvpn_rng_init_test(&rng, 9);
    FUZZ_CHECK(mvpn_aead_new(MVPN_AEAD_OPENSSL, &aead) == 0);
    mvpn_ed25519_generate(&network_pub, &network_key, &rng);
    mvpn_network_id(&network_id, &network_pub);
    for (uint8_t i = 0; i < NODES; i++) {
        struct node *n = &node[i];
        mvpn_ed25519_generate(&n->identity, &secret, &rng);
        mvpn_x25519_generate(&n->key, &rng);
        mvpn_link_certificate_make(n->certificate, &secret, &n->identity, &n->key.pub,
                                   UNIX_NOW - 1000, UNIX_NOW + 1000000, &network_id);
        n->addr = (mvpn_addr){4, 7000, {(uint8_t)(51 + i), 1, 1, 1}};
    }
}

static void start(struct node *n)
{
    const mvpn_links_config c = {
        .aead = aead,
        .rng = &n->rng,
        .pool = &n->pool,
        .network_id = network_id,
        .network_pub = network_pub,
        .unix_offset_us = (int64_t)UNIX_NOW * 1000000 - (int64_t)now,
        .is_relay = true,
        .identity = n->identity,
        .link_key = n->key,
        .link_certificate = MVPN_BYTES_ARRAY(n->certificate),
        .links_max = 8,
        .half_open_max = 8,
        .rekey_packets = 60,
    };
    mvpn_rng_init_test(&n->rng, 1);
    FUZZ_CHECK(mvpn_packet_pool_init(&n->pool, POOL) == 0);
    FUZZ_CHECK(mvpn_links_new(&c, now, &n->links) == 0);
}

static mvpn_connector *connector_start(struct node *n)
{
    const mvpn_connector_config c = {.rng = &n->rng,
                                     .pool = &n->pool,
                                     .links = n->links,
                                     .tells_host_addresses = true,
                                     .own = {n->addr, {4, 7000, {10, 0, 0, 7}}},
                                     .own_count = 2};
    mvpn_connector *ret;
    FUZZ_CHECK(mvpn_connector_new(&c, now, &ret) == 0);
    return ret;
}

static mvpn_link *link_of(unsigned a, unsigned b)
{
    return mvpn_links_find(node[a].links, &node[b].identity);
}

/* What went to the NAT relay by an id of the session goes to the other side in its name. */
static void forward(struct datagram *d)
{
    size_t at = d->bytes[0] >> 6 == 1 ? 1 : 6;
    for (size_t i = 0; i < ids.count; i++) {
        if (memcmp(d->bytes + at, ids.own[i].b, MVPN_CONNECTION_ID_LEN) == 0) {
            d->to = node[US].addr;
            d->from = node[NAT_RELAY].addr;
        } else if (memcmp(d->bytes + at, ids.peer[i].b, MVPN_CONNECTION_ID_LEN) == 0) {
            d->to = node[PEER].addr;
            d->from = node[NAT_RELAY].addr;
        }
    }
}

static void collect(void)
{
    mvpn_packet *p;
    mvpn_link_event e;
    for (unsigned i = 0; i < NODES; i++) {
        struct node *n = &node[i];
        mvpn_connector *c = i == US ? connector : i == PEER ? peers : NULL;
        mvpn_links_tick(n->links, now);
        while (mvpn_links_pull_event(n->links, &e)) {
            bool is_open = e.type == MVPN_LINK_OPENED;
            if (e.link == called && i == US && !is_open) {
                called = NULL;
            }
            if (c != NULL && is_open) {
                mvpn_connector_link_opened(c, e.link, now);
            } else if (c != NULL) {
                mvpn_connector_link_closed(c, e.link, now);
            }
        }
        if (c != NULL) {
            mvpn_connector_tick(c, now);
        }
        while ((p = mvpn_packet_queue_pop(mvpn_links_out(n->links))) != NULL) {
            FUZZ_CHECK(p->len > 0 && p->len <= 1472);
            FUZZ_CHECK(p->remote.family == 4 && p->remote.port != 0);
            if (flight_count < FLIGHT) {
                struct datagram *d = &flight[(flight_first + flight_count++) % FLIGHT];
                *d = (struct datagram){.from = n->addr, .to = p->remote, .len = p->len};
                d->from.port = (uint16_t)(d->from.port + p->local);
                memcpy(d->bytes, p->data, p->len);
            }
            mvpn_packet_free(&n->pool, p);
        }
    }
}

static void receive(unsigned i, const struct datagram *d)
{
    mvpn_link *link;
    mvpn_header h;
    mvpn_packet *p = mvpn_packet_new(&node[i].pool);
    if (p == NULL) {
        return;
    }
    memcpy(mvpn_packet_append(p, (uint32_t)d->len), d->bytes, d->len);
    p->remote = d->from;
    if (mvpn_links_recv(node[i].links, p, now, &link, &h) == 1) {
        mvpn_connector *c = i == US ? connector : i == PEER ? peers : NULL;
        if (c != NULL) {
            MVPN_IGNORE(mvpn_connector_message(c, link, &h, mvpn_bytes_of(p->data, p->len), now));
        }
        mvpn_packet_free(&node[i].pool, p);
    }
}

/* The oldest one arrives, or is lost. `is_direct`: it passes the NATs. */
static void deliver(bool is_lost, bool is_direct)
{
    if (flight_count == 0) {
        return;
    }
    struct datagram d = flight[flight_first];
    flight_first = (flight_first + 1) % FLIGHT;
    flight_count--;
    if (mvpn_addr_eq(&d.to, &node[NAT_RELAY].addr) && d.len >= 14) {
        forward(&d);
    } else if (!is_direct && !mvpn_addr_ip_eq(&d.from, &node[NAT_RELAY].addr)) {
        return;
    }
    for (unsigned i = 0; i < NODES && !is_lost; i++) {
        if (mvpn_addr_ip_eq(&d.to, &node[i].addr)) {
            receive(i, &d);
        }
    }
}

static void settle(bool is_direct)
{
    for (unsigned i = 0; i < 300 && flight_count > 0; i++) {
        deliver(false, is_direct);
        collect();
    }
}

static void say(mvpn_link *link, mvpn_packet_pool *pool, unsigned command, const uint8_t *body,
                size_t n)
{
    mvpn_packet *p = link == NULL ? NULL : mvpn_packet_new(pool);
    if (p == NULL) {
        return;
    }
    if (n > 0) {
        memcpy(mvpn_packet_append(p, (uint32_t)n), body, n);
    }
    const mvpn_header h = {.command = (uint16_t)command, .length = (uint16_t)n};
    MVPN_IGNORE(mvpn_link_send(link, p, &h, true, now)); /* closed, full: all the same */
}

/* Ids of the NAT relay's choice: fresh ones, or of ours, or the same again. */
static void choose_ids(mvpn_nat_ids *m, uint8_t how)
{
    *m = ids;
    m->session.b[0] = (uint8_t)(how & 3);
    if ((how & 4) == 0) {
        m->count = (uint8_t)(1 + (how >> 4) % MVPN_NAT_IDS_MAX);
        for (uint8_t i = 0; i < m->count; i++) {
            m->own[i] = (mvpn_connection_id){{0xa, how, i}};
            m->peer[i] = (mvpn_connection_id){{0xb, how, i}};
        }
    }
    if (how & 8) {
        const mvpn_link *link = link_of(US, NAT_RELAY);
        for (uint8_t i = 0; link != NULL && link->session != NULL && i < m->count; i++) {
            /* Known to it: those of its own link. */
            m->own[i] = connid_at(link->session, i % LOCAL_IDS_FEW)->id;
        }
    }
}

static void relay_says(mvpn_reader *in)
{
    uint8_t body[MVPN_NAT_OPENED_LEN_MAX], how = mvpn_read8(in);
    mvpn_link *link = link_of(NAT_RELAY, US);
    mvpn_packet_pool *pool = &node[NAT_RELAY].pool;
    mvpn_nat_ids m;
    choose_ids(&m, mvpn_read8(in));
    uint32_t request = how & 0x80 ? 0 : connector->next_request - (how >> 4 & 1);
    size_t n;
    switch (how & 7) {
    case 0:
        mvpn_nat_registered_encode(
            body, &(mvpn_nat_registered){.rendezvous = m.session, .lifetime_s = 60});
        say(link, pool, MVPN_CMD_NAT_REGISTERED, body, MVPN_NAT_REGISTERED_LEN);
        break;
    case 1:
        ids = m;
        n = mvpn_nat_opened_encode(body, &(mvpn_nat_opened){.request = request, .ids = m});
        say(link, pool, MVPN_CMD_NAT_OPENED, body, n);
        break;
    case 2:
        ids = m;
        n = mvpn_nat_incoming_encode(body, &m);
        say(link, pool, MVPN_CMD_NAT_INCOMING, body, n);
        break;
    case 3:
        say(link, pool, MVPN_CMD_NAT_CLOSE, m.session.b, sizeof(m.session.b));
        break;
    case 4: {
        mvpn_nat_addressed a = {.session = m.session, .addr = node[PEER].addr};
        a.addr.port = (uint16_t)(a.addr.port + (how >> 5));
        a.addr.ip[0] = how & 8 ? 192 : a.addr.ip[0];
        mvpn_nat_addressed_encode(body, &a);
        say(link, pool, MVPN_CMD_NAT_ADDRESSED, body, MVPN_NAT_ADDRESSED_LEN);
        break;
    }
    case 5: /* to the peer: it is called by us */
        memcpy(m.own, ids.peer, sizeof(m.own));
        memcpy(m.peer, ids.own, sizeof(m.peer));
        n = mvpn_nat_incoming_encode(body, &m);
        say(link_of(NAT_RELAY, PEER), pool, MVPN_CMD_NAT_INCOMING, body, n);
        break;
    default: { /* anything */
        unsigned command = MVPN_CMD_NAT_REGISTER + (how >> 3 & 15);
        mvpn_bytes chunk = fuzz_chunk(in, MVPN_BODY_MAX);
        say(link, pool, command, chunk.p, chunk.n);
        break;
    }
    }
}

static void peer_says(mvpn_reader *in)
{
    mvpn_link *link = link_of(PEER, US);
    uint8_t body[MVPN_LINK_CANDIDATES_LEN_MAX], how = mvpn_read8(in);
    if (link == NULL || link->state != LINK_OPEN) {
        return;
    }
    if (how & 0x80) {
        static const unsigned commands[] = {MVPN_CMD_LINK_NEW_IDS, MVPN_CMD_LINK_RELAY_IDS,
                                            MVPN_CMD_LINK_CANDIDATES, MVPN_CMD_PATH_CHALLENGE};
        mvpn_bytes chunk = fuzz_chunk(in, 300);
        MVPN_IGNORE(reliable_command(link, commands[how & 3], chunk, now));
        return;
    }
    const struct connection *conn = called != NULL ? called->connection : NULL;
    mvpn_link_candidates m = {.round = conn != NULL ? conn->round.number : how,
                              .flags = mvpn_read8(in),
                              .mapping = how & 3,
                              .filtering = how >> 2 & 3,
                              .port_step = (int16_t)mvpn_read16(in),
                              .id_count = (uint8_t)(1 + (how >> 4 & 3)),
                              .candidate_count = mvpn_read8(in) % (MVPN_CANDIDATES_MAX + 1)};
    mvpn_rng_bytes(&node[PEER].rng, m.ids[0].b, sizeof(m.ids));
    for (size_t i = 0; i < m.candidate_count; i++) {
        uint8_t kind = mvpn_read8(in);
        m.candidates[i] = (mvpn_candidate){kind & 3, node[kind >> 2 & 1 ? US : PEER].addr};
        m.candidates[i].addr.ip[3] = kind >> 3 & 1;
        m.candidates[i].addr.port = (uint16_t)(1 + kind);
    }
    size_t n = mvpn_link_candidates_encode(body, &m);
    MVPN_IGNORE(reliable_command(link, MVPN_CMD_LINK_CANDIDATES, mvpn_bytes_of(body, n), now));
}

static void call(void)
{
    mvpn_link_target t = {.identity = node[PEER].identity, .link_key = node[PEER].key.pub};
    t.via_count = 1;
    t.via[0] = (mvpn_link_via){.identity = node[NAT_RELAY].identity,
                               .link_key = node[NAT_RELAY].key.pub,
                               .addr = node[NAT_RELAY].addr,
                               .rendezvous = {{1}}};
    mvpn_link *link;
    if (called == NULL && mvpn_links_open(node[US].links, &t, now, &link) == 0) {
        called = link;
        mvpn_link_hold(link);
    }
}

static void strange_datagram(mvpn_reader *in)
{
    struct datagram d = {.from = node[PEER].addr};
    uint8_t how = mvpn_read8(in);
    mvpn_bytes chunk = fuzz_chunk(in, 1400);
    if (how & 1) {
        d.from = node[NAT_RELAY].addr;
    }
    d.from.port = (uint16_t)(d.from.port + (how >> 2));
    if ((how & 2) && flight_count > 0) {
        d = flight[flight_first];
        d.from.port = (uint16_t)(d.from.port + (how >> 2)); /* a copy, from elsewhere */
    } else if (chunk.n > 0) {
        d.len = chunk.n;
        memcpy(d.bytes, chunk.p, chunk.n);
    } else {
        return;
    }
    receive(US, &d);
}

static void step(mvpn_reader *in)
{
    uint8_t op = mvpn_read8(in);
    switch (op & 15) {
    case 0:
    case 1:
        deliver(op >> 4 & 1, op >> 5 & 1);
        break;
    case 2:
    case 3:
    case 4:
        settle(op >> 5 & 1);
        break;
    case 5:
    case 6:
        now += MVPN_MS(1) << mvpn_read8(in) % 18;
        break;
    case 7:
    case 8:
    case 9:
        relay_says(in);
        break;
    case 10:
    case 11:
        peer_says(in);
        break;
    case 12:
        call();
        break;
    case 13:
        strange_datagram(in);
        break;
    case 14:
        if (op & 16) {
            mvpn_connector_network_changed(connector, &node[US].addr, 1, now);
            mvpn_links_local_changed(node[US].links, now);
        } else {
            mvpn_link *link = link_of(US, op & 32 ? PEER : NAT_RELAY);
            if (link != NULL) {
                mvpn_link_close(link, 6, now);
            }
        }
        break;
    default: {
        mvpn_nat_class c = {.is_known = true,
                            .mapping = op >> 4 & 3,
                            .filtering = op >> 6 & 3,
                            .port_step = mvpn_read8(in) % 3};
        mvpn_connector_set_class(connector, &c, now);
        break;
    }
    }
    collect();
}

static void check(void)
{
    mvpn_connection_event e[MVPN_CONNECTOR_HISTORY], one;
    size_t n = mvpn_connector_history(connector, e);
    FUZZ_CHECK(n <= MVPN_CONNECTOR_HISTORY);
    while (mvpn_connector_pull_event(connector, &one)) {
        FUZZ_CHECK(mvpn_connection_state_text(one.state) != NULL);
    }
    for (size_t i = 0; i < BUDGET_BLOCKS; i++) {
        FUZZ_CHECK(connector->budget[i].punches <= BUDGET_PUNCHES);
        FUZZ_CHECK(connector->budget[i].probes <= BUDGET_PROBES);
    }
    size_t count = 0;
    MVPN_LIST_FOREACH(it, &connector->connections)
    {
        const struct connection *c = MVPN_CONTAINER_OF(it, struct connection, in_connections);
        FUZZ_CHECK(c->link->connection == c && (c->call == NULL || c->call->connection == c));
        FUZZ_CHECK(c->round.target_count <= PUNCH_TARGETS);
        count++;
    }
    FUZZ_CHECK(count == connector->connection_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    if (aead == NULL) {
        make_keys();
    }
    uint8_t mode = mvpn_read8(&in);
    now = MVPN_S(1000);
    flight_first = flight_count = 0;
    called = NULL;
    ids = (mvpn_nat_ids){.count = MVPN_NAT_IDS_MAX};
    for (uint8_t i = 0; i < MVPN_NAT_IDS_MAX; i++) {
        ids.own[i] = (mvpn_connection_id){{1, i}};
        ids.peer[i] = (mvpn_connection_id){{2, i}};
    }
    for (unsigned i = 0; i < NODES; i++) {
        start(&node[i]);
    }
    connector = connector_start(&node[US]);
    peers = connector_start(&node[PEER]);
    const mvpn_link_target relay = {node[NAT_RELAY].identity, node[NAT_RELAY].key.pub,
                                    node[NAT_RELAY].addr};
    mvpn_connector_register(connector, &relay, mode & 1, now);
    mvpn_connector_register(peers, &relay, 1, now);
    const mvpn_nat_class c = {
        .is_known = mode >> 1 & 1, .mapping = mode >> 2 & 3, .filtering = mode >> 4 & 3};
    mvpn_connector_set_class(connector, &c, now);
    collect();
    settle(false);
    uint8_t yes[MVPN_NAT_REGISTERED_LEN];
    mvpn_nat_registered_encode(yes, &(mvpn_nat_registered){.rendezvous = {{1}}, .lifetime_s = 600});
    say(link_of(NAT_RELAY, PEER), &node[NAT_RELAY].pool, MVPN_CMD_NAT_REGISTERED, yes, sizeof(yes));
    collect();
    settle(false);
    for (unsigned steps = 0; fuzz_more(&in) && steps < 100; steps++) {
        step(&in);
        check();
    }
    mvpn_connector_free(connector);
    mvpn_connector_free(peers);
    for (unsigned i = 0; i < NODES; i++) {
        mvpn_links_free(node[i].links);
        FUZZ_CHECK(node[i].pool.free_count == POOL);
        mvpn_packet_pool_done(&node[i].pool);
    }
    return 0;
}
