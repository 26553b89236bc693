/* The exchange between two nodes in memory, before a core that only writes down what it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cursor.h"
#include "base/error.h"
#include "crypto/x25519.h"
#include "dht/responder.h"
#include "dht/token.h"
#include "wire/handshake.h"
#include "wire/message.h"

#define START MVPN_S(1000)
#define UNIX_START 1700000000u
#define OFFSET ((int64_t)(UNIX_START * MVPN_US_PER_S - START))
#define FROM (UNIX_START - 86400 * 30)
#define UNTIL (UNIX_START + 86400 * 30)
#define SERIAL 40
#define ROLES (MVPN_ROLE_DHT_SERVER | MVPN_ROLE_MIDDLE)

/* --- a core for tests --- */

struct mvpn_dht {
    /* to be sent */
    mvpn_dht_outgoing queue[8];
    size_t queue_count, pulled;
    /* what came */
    unsigned requests;
    mvpn_dht_asker asker;
    mvpn_dht_request request;
    uint8_t record[1000];
    /* what it answers */
    mvpn_dht_reply reply;
    int reply_rc;
    /* what became of what was sent */
    unsigned replies, failures;
    uint64_t transaction;
    mvpn_dht_reply got;
    bool is_certified;
};

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

/* --- two nodes --- */

struct node {
    mvpn_dht core;
    mvpn_dht_exchange *x;
    mvpn_dht_contact self;
    mvpn_ed25519_pub identity;
    mvpn_ed25519_secret secret;
    mvpn_x25519_pair link_key;
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_rng rng;
};

struct net {
    mvpn_aead *aead;
    mvpn_packet_pool pool;
    mvpn_ed25519_secret network_key;
    mvpn_trust trust;
    mvpn_key secret;
    mvpn_time now;
    struct node a, b; /* A asks, B answers */
};

struct shape {
    bool closed, is_v6, client;
};

static mvpn_addr addr_of(bool is_v6, uint8_t n)
{
    mvpn_addr a = {.family = is_v6 ? 6 : 4, .port = (uint16_t)(1000 + n)};
    a.ip[0] = is_v6 ? 0x2a : 11;
    a.ip[1] = is_v6 ? 0x10 : n;
    a.ip[2] = n;
    a.ip[3] = n;
    a.ip[15] = is_v6 ? n : 0;
    return a;
}

static void certify_link(struct net *net, struct node *n, const mvpn_key *key, uint64_t until)
{
    mvpn_link_certificate_make(n->link_certificate, &n->secret, &n->identity, key, FROM, until,
                               &net->trust.network_id);
}

static void certify(struct net *net, struct node *n, uint16_t roles, uint64_t until)
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

static void node_start(struct net *net, struct node *n, bool is_server)
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

static struct net *net_new(struct shape shape)
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

static void net_free(struct net *net)
{
    mvpn_dht_exchange_free(net->a.x);
    mvpn_dht_exchange_free(net->b.x);
    assert_int_equal(net->pool.free_count, net->pool.size); /* every packet came back */
    mvpn_packet_pool_done(&net->pool);
    mvpn_aead_free(net->aead);
    free(net);
}

static const struct shape closed_v4 = {.closed = true};

/* A datagram in the hands of the test. */
struct datagram {
    uint8_t bytes[1500];
    size_t n;
};

static bool take(struct net *net, struct node *from, struct datagram *ret)
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

static int give_from(struct net *net, struct node *to, const mvpn_addr *from,
                     const struct datagram *d)
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

static int give(struct net *net, struct node *to, const struct node *from, const struct datagram *d)
{
    return give_from(net, to, &from->self.addr, d);
}

/* A's core asks B; what is sent is in `ret`. */
static void send(struct net *net, mvpn_dht_request request, bool wants_certificate,
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
    assert_true(take(net, &net->a, ret));
}

static const mvpn_dht_request ping = {.command = MVPN_CMD_DHT_PING};
static const mvpn_dht_request find_node = {.command = MVPN_CMD_DHT_FIND_NODE, .target = {{7}}};

/* There and back again; what B's exchange said of the request. */
static int exchange(struct net *net, mvpn_dht_request request, bool wants_certificate)
{
    struct datagram d;
    send(net, request, wants_certificate, &d);
    int rc = give(net, &net->b, &net->a, &d);
    if (rc == 0) {
        assert_true(take(net, &net->b, &d));
        assert_int_equal(give(net, &net->a, &net->b, &d), 0);
    }
    return rc;
}

static void reply_with_nodes(struct net *net)
{
    mvpn_dht_reply *r = &net->b.core.reply;
    *r = (mvpn_dht_reply){.command = MVPN_CMD_DHT_NODES, .contact_count = MVPN_DHT_K};
    for (uint8_t i = 0; i < MVPN_DHT_K; i++) {
        mvpn_ed25519_pub identity = {{i}};
        r->contacts[i].addr = addr_of(false, (uint8_t)(i + 1));
        mvpn_dht_node_id(&r->contacts[i].id, &identity, &r->contacts[i].addr);
    }
}

/* --- there and back --- */

static void test_round_trip(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct net *net = net_new((struct shape){.closed = i & 1, .is_v6 = i >> 1 & 1});
        bool wants = i >> 2;
        assert_int_equal(exchange(net, ping, wants), 0);
        const mvpn_dht *b = &net->b.core, *a = &net->a.core;
        assert_int_equal(b->requests, 1);
        assert_int_equal(b->request.command, MVPN_CMD_DHT_PING);
        assert_true(mvpn_addr_eq(&b->asker.addr, &net->a.self.addr));
        assert_false(b->asker.is_proven);
        assert_int_equal(a->replies, 1);
        assert_int_equal(a->failures, 0);
        assert_true(a->transaction == a->queue[0].transaction);
        assert_int_equal(a->is_certified, wants);
        assert_int_equal(a->got.command, MVPN_CMD_DHT_PONG);
        assert_int_equal(a->got.time, 77);

        reply_with_nodes(net);
        assert_int_equal(exchange(net, find_node, false), 0);
        assert_int_equal(b->request.target.b[0], 7);
        assert_true(b->asker.is_proven);
        assert_int_equal(a->got.command, MVPN_CMD_DHT_NODES);
        assert_int_equal(a->got.contact_count, net->a.self.addr.family == 4 ? 20 : 19);
        assert_false(a->is_certified);

        uint8_t record[1000] = {1, [999] = 9};
        mvpn_dht_request store = {
            .command = MVPN_CMD_DHT_STORE, .type = 1, .record = MVPN_BYTES_ARRAY(record)};
        net->b.core.reply = (mvpn_dht_reply){.command = MVPN_CMD_DHT_STORED, .status = 1};
        assert_int_equal(exchange(net, store, false), 0);
        assert_memory_equal(b->record, record, sizeof(record));
        assert_int_equal(a->got.status, 1);

        net->b.core.reply = (mvpn_dht_reply){
            .command = MVPN_CMD_DHT_VALUE, .type = 2, .record = MVPN_BYTES_ARRAY(record)};
        assert_int_equal(
            exchange(net, (mvpn_dht_request){.command = MVPN_CMD_DHT_FIND_VALUE}, true), 0);
        assert_int_equal(a->got.command, MVPN_CMD_DHT_VALUE);
        assert_false(a->is_certified); /* no room for both: the record goes first */
        net_free(net);
    }
}

/* Padded until a token is there, and again when it no longer counts for sure. */
static void test_tokens(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    reply_with_nodes(net);
    send(net, find_node, false, &d);
    assert_int_equal(d.n, MVPN_DHT_DATAGRAM4_MAX);
    assert_int_equal(exchange(net, find_node, false), 0);
    assert_false(net->b.core.asker.is_proven);
    assert_int_equal(net->a.core.got.contact_count, 20);
    send(net, find_node, false, &d);
    assert_int_equal(d.n, 31 + 48 + 3 + 52 + 20 + 16);
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_true(net->b.core.asker.is_proven);
    assert_true(take(net, &net->b, &d));
    assert_int_equal(d.n, 13 + 48 + 19 + 2 + 20 * 58);
    net->now += MVPN_DHT_TOKEN_SURE;
    send(net, find_node, false, &d);
    assert_int_equal(d.n, MVPN_DHT_DATAGRAM4_MAX);
    net_free(net);
}

/* A token of another address, or of another server, is none. */
static void test_token_is_bound(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    assert_int_equal(exchange(net, ping, false), 0);
    send(net, ping, false, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_true(net->b.core.asker.is_proven);
    assert_true(take(net, &net->b, &d));
    send(net, ping, false, &d);
    mvpn_addr other = net->a.self.addr;
    other.port++;
    assert_int_equal(give_from(net, &net->b, &other, &d), 0);
    assert_false(net->b.core.asker.is_proven);
    net->now += 2 * MVPN_DHT_TOKEN_PERIOD;
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_false(net->b.core.asker.is_proven);
    net_free(net);
}

/* Whatever the core says, without a token nothing grows; what does not fit is an error with which a
 * token comes. */
static void test_no_amplification(void **state)
{
    (void)state;
    uint8_t record[1000] = {0};
    for (unsigned kind = 0; kind < 6; kind++) {
        struct net *net = net_new((struct shape){.closed = kind & 1, .is_v6 = kind == 5});
        struct datagram d, cut, out;
        mvpn_dht_request request = kind < 3 ? find_node : ping;
        if (kind == 0 || kind == 3) {
            reply_with_nodes(net);
        }
        if (kind == 1) {
            request.command = MVPN_CMD_DHT_FIND_VALUE;
            net->b.core.reply = (mvpn_dht_reply){
                .command = MVPN_CMD_DHT_VALUE, .type = 1, .record = MVPN_BYTES_ARRAY(record)};
        }
        if (kind == 2) {
            request = (mvpn_dht_request){.command = MVPN_CMD_DHT_LIST};
            net->b.core.reply =
                (mvpn_dht_reply){.command = MVPN_CMD_DHT_LISTED, .listed_count = 41};
            for (uint8_t i = 0; i < 41; i++) {
                net->b.core.reply.listed[i].key.b[0] = i;
            }
        }
        send(net, request, true, &d);
        size_t least = 31 + 2u + mvpn_load16(d.bytes + 29) + 16 - 2;
        for (size_t n = least; n <= d.n; n += n + 7 < d.n ? 7 : 1) {
            cut = d;
            cut.n = n;
            net->now += MVPN_MS(20);
            assert_int_equal(give(net, &net->b, &net->a, &cut), 0);
            assert_true(take(net, &net->b, &out));
            assert_true(out.n <= n);
            assert_false(take(net, &net->b, &out));
        }
        net_free(net);
    }
}

/* A short request whose token is out of date is told so, rather than given half an answer. */
static void test_come_again(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    reply_with_nodes(net);
    assert_int_equal(exchange(net, find_node, false), 0);
    mvpn_dht_exchange_free(net->b.x); /* a new start: B's secret is another */
    node_start(net, &net->b, true);
    assert_int_equal(exchange(net, find_node, false), 0);
    assert_int_equal(net->a.core.got.command, MVPN_CMD_DHT_ERROR);
    assert_int_equal(net->a.core.got.status, MVPN_DHT_ERROR_TOKEN);
    assert_int_equal(exchange(net, find_node, false), 0);
    assert_int_equal(net->a.core.got.contact_count, 20);
    net_free(net);
}

/* A claim counts with a token, and from an address where the node id belongs. */
static void test_claim(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    const mvpn_dht_asker *asker = &net->b.core.asker;
    struct datagram d;
    assert_int_equal(exchange(net, ping, false), 0);
    assert_false(asker->has_claim);
    assert_int_equal(exchange(net, ping, false), 0);
    assert_true(asker->has_claim);
    assert_memory_equal(asker->claim.id.b, net->a.self.id.b, 20);
    assert_memory_equal(asker->claim.link_key.b, net->a.self.link_key.b, 32);
    assert_true(mvpn_addr_eq(&asker->claim.addr, &net->a.self.addr));
    /* The same from another block, with a token of that block. */
    mvpn_addr elsewhere = addr_of(false, 50);
    net->a.self.addr = elsewhere;
    send(net, ping, false, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_true(take(net, &net->b, &d));
    assert_int_equal(give(net, &net->a, &net->b, &d), 0);
    send(net, ping, false, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_true(asker->is_proven);
    assert_false(asker->has_claim);
    net_free(net);
}

/* --- what is dropped --- */

static void test_request_bits(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    send(net, ping, true, &d);
    for (size_t bit = 0; bit < d.n * 8; bit++) {
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = give(net, &net->b, &net->a, &d);
        assert_true(rc == MVPN_E_FORMAT || rc == MVPN_E_AUTH || rc == MVPN_E_UNKNOWN);
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < 31 + 48 + 3 + 52 + 16; n++) {
        struct datagram cut = d;
        cut.n = n;
        assert_int_equal(give(net, &net->b, &net->a, &cut), MVPN_E_FORMAT);
    }
    assert_int_equal(net->b.core.requests, 0);
    assert_int_equal(mvpn_dht_exchange_get_counters(net->b.x)->dropped_auth, 0);
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    net_free(net);
}

static void test_hours(void **state)
{
    (void)state;
    static const struct {
        int hours, expected;
    } rows[] = {{-2, MVPN_E_AUTH}, {-1, 0}, {0, 0}, {1, 0}, {2, MVPN_E_AUTH}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_new(closed_v4);
        struct datagram d;
        mvpn_dht_exchange_set_unix_offset(net->a.x, OFFSET + rows[i].hours * (int64_t)MVPN_S(3600));
        send(net, ping, false, &d);
        assert_int_equal(give(net, &net->b, &net->a, &d), rows[i].expected);
        assert_int_equal(mvpn_dht_exchange_get_counters(net->b.x)->dropped_mac,
                         rows[i].expected != 0);
        net_free(net);
    }
}

/* Another network, or another network secret: no answer. */
static void test_strangers(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        struct net *net = net_new(closed_v4);
        struct datagram d;
        mvpn_trust other = net->trust;
        mvpn_dht_exchange_free(net->a.x);
        mvpn_key secret = net->secret;
        if (kind == 0) {
            net->secret.b[3] ^= 1;
        } else {
            net->trust.network_id.b[3] ^= 1;
        }
        node_start(net, &net->a, true);
        net->trust = other;
        net->secret = secret;
        send(net, ping, false, &d);
        assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
        net_free(net);
    }
}

/* The prologue binds the node id: who asks for another node at our address gets nothing. */
static void test_other_node_id(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    net->b.self.id.b[10] ^= 1;
    send(net, ping, false, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
    assert_int_equal(mvpn_dht_exchange_get_counters(net->b.x)->dropped_auth, 1);
    net_free(net);
}

static void test_rates(void **state)
{
    (void)state;
    static const unsigned limits[] = {MVPN_DHT_UNPROVEN_PER_S, MVPN_DHT_PROVEN_PER_S};
    for (unsigned proven = 0; proven < 2; proven++) {
        struct net *net = net_new(closed_v4);
        struct datagram d, out;
        if (proven) {
            assert_int_equal(exchange(net, ping, false), 0);
        }
        net->now += MVPN_S(2);
        send(net, ping, false, &d);
        /* Where Noise fails the work was done all the same. */
        for (unsigned i = 0; i < limits[proven]; i++) {
            assert_int_equal(give(net, &net->b, &net->a, &d), 0);
            assert_true(take(net, &net->b, &out));
        }
        assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_LIMIT);
        assert_int_equal(mvpn_dht_exchange_get_counters(net->b.x)->dropped_limit, 1);
        net->now += MVPN_S(1) / limits[proven] + 1;
        assert_int_equal(give(net, &net->b, &net->a, &d), 0);
        net_free(net);
    }
}

static void test_core_says_nothing(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    net->b.core.reply_rc = MVPN_E_LIMIT;
    send(net, ping, false, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_LIMIT);
    assert_false(take(net, &net->b, &d));
    net_free(net);
}

/* A request made by hand: any command and body, flags and all. */
static void forge(struct net *net, mvpn_bytes payload, mvpn_noise *hs, struct datagram *ret)
{
    const mvpn_dht_exchange_config config = {
        .aead = net->aead, .trust = &net->trust, .network_secret = net->secret};
    mvpn_dht_noise_keys keys;
    mvpn_key key;
    mvpn_dht_noise_keys_init(&keys, &config);
    mvpn_dht_noise_start(hs, &keys, &net->b.self, NULL);
    mvpn_writer w = mvpn_writer_init(ret->bytes, sizeof(ret->bytes));
    mvpn_write8(&w, 0xc0);
    mvpn_write32(&w, MVPN_DHT_VERSION_REQUEST);
    mvpn_write64(&w, 1);
    mvpn_write_zero(&w, 16);
    mvpn_write16(&w, (uint16_t)(payload.n + 48));
    size_t len;
    assert_int_equal(mvpn_noise_write(hs, w.p, 1000, &len, payload, &net->a.rng), 0);
    w.p += len;
    mvpn_mac1_key(&key, &net->b.self.link_key, &keys.token, MVPN_PATTERN_DHT, UNIX_START / 3600);
    mvpn_mac1_make(w.p, &key, mvpn_bytes_of(ret->bytes, mvpn_writer_len(&w)));
    w.p += 16;
    ret->n = mvpn_writer_len(&w);
}

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        uint8_t payload[8];
        size_t n;
        int expected;
        uint8_t reason;
    } rows[] = {
        {{0}, 0, MVPN_E_FORMAT, 0},                                   /* nothing */
        {{0, 0x10}, 2, MVPN_E_FORMAT, 0},                             /* no flags */
        {{0, 0x10, 4}, 3, MVPN_E_FORMAT, 0},                          /* unknown flag */
        {{0, 0x10, 2, 1}, 4, MVPN_E_FORMAT, 0},                       /* half a claim */
        {{0, 0x10, 0, 9}, 4, 0, MVPN_DHT_ERROR_MALFORMED},            /* a Ping with a body */
        {{0, 0x11, 0}, 3, 0, MVPN_DHT_ERROR_MALFORMED},               /* no target */
        {{0, 0x17, 0}, 3, 0, MVPN_DHT_ERROR_NOT_SERVED},              /* no such request */
        {{0, MVPN_CMD_DHT_PONG, 0}, 3, 0, MVPN_DHT_ERROR_NOT_SERVED}, /* a reply */
    };
    struct net *net = net_new(closed_v4);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct datagram d;
        mvpn_noise hs;
        uint8_t plain[1300];
        size_t len;
        forge(net, mvpn_bytes_of(rows[i].payload, rows[i].n), &hs, &d);
        assert_int_equal(give(net, &net->b, &net->a, &d), rows[i].expected);
        if (rows[i].expected == 0) {
            mvpn_dht_answer answer;
            assert_true(take(net, &net->b, &d));
            assert_int_equal(mvpn_noise_read(&hs, plain, sizeof(plain), &len,
                                             mvpn_bytes_of(d.bytes + 13, d.n - 13)),
                             0);
            assert_int_equal(mvpn_dht_answer_decode(&answer, mvpn_bytes_of(plain, len)), 0);
            assert_int_equal(answer.command, MVPN_CMD_DHT_ERROR);
            assert_int_equal(answer.body.p[0], rows[i].reason);
        }
        mvpn_noise_done(&hs);
    }
    assert_int_equal(net->b.core.requests, 0);
    net_free(net);
}

/* --- replies --- */

static void test_reply_bits(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    send(net, ping, true, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_true(take(net, &net->b, &d));
    for (size_t bit = 6; bit < d.n * 8; bit++) { /* the first six are random */
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = give(net, &net->a, &net->b, &d);
        assert_true(rc == MVPN_E_FORMAT || rc == MVPN_E_AUTH || rc == MVPN_E_UNKNOWN);
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < d.n; n++) {
        struct datagram cut = d;
        cut.n = n;
        int rc = give(net, &net->a, &net->b, &cut);
        assert_true(rc == MVPN_E_FORMAT || rc == MVPN_E_AUTH);
    }
    /* From elsewhere, and twice. */
    assert_int_equal(give_from(net, &net->a, &net->a.self.addr, &d), MVPN_E_UNKNOWN);
    mvpn_addr other = net->b.self.addr;
    other.port++;
    assert_int_equal(give_from(net, &net->a, &other, &d), MVPN_E_UNKNOWN);
    assert_int_equal(net->a.core.replies + net->a.core.failures, 0);
    assert_int_equal(give(net, &net->a, &net->b, &d), 0);
    assert_int_equal(net->a.core.replies, 1);
    assert_int_equal(give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    assert_int_equal(net->a.core.replies, 1);
    net_free(net);
}

/* An answer to another question proves the contact faulty. */
static void test_wrong_answer(void **state)
{
    (void)state;
    static const uint16_t replies[] = {
        MVPN_CMD_DHT_PONG,   MVPN_CMD_DHT_NODES,   MVPN_CMD_DHT_STORED,    MVPN_CMD_DHT_VALUE,
        MVPN_CMD_DHT_LISTED, MVPN_CMD_DHT_FETCHED, MVPN_CMD_DHT_BLOB_PART, MVPN_CMD_DHT_ERROR,
    };
    static const struct {
        mvpn_dht_request request;
        uint16_t good[2];
    } rows[] = {
        {{.command = MVPN_CMD_DHT_PING}, {MVPN_CMD_DHT_PONG}},
        {{.command = MVPN_CMD_DHT_FIND_NODE}, {MVPN_CMD_DHT_NODES}},
        {{.command = MVPN_CMD_DHT_FIND_VALUE}, {MVPN_CMD_DHT_VALUE, MVPN_CMD_DHT_NODES}},
        {{.command = MVPN_CMD_DHT_STORE, .record = {(const uint8_t *)"r", 1}},
         {MVPN_CMD_DHT_STORED}},
        {{.command = MVPN_CMD_DHT_LIST}, {MVPN_CMD_DHT_LISTED}},
        {{.command = MVPN_CMD_DHT_FETCH, .key_count = 1}, {MVPN_CMD_DHT_FETCHED}},
        {{.command = MVPN_CMD_DHT_BLOB}, {MVPN_CMD_DHT_BLOB_PART}},
    };
    struct net *net = net_new(closed_v4);
    assert_int_equal(exchange(net, ping, false), 0);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        for (size_t j = 0; j < MVPN_ARRAY_LEN(replies); j++) {
            struct datagram d;
            bool good = replies[j] == rows[i].good[0] || replies[j] == rows[i].good[1] ||
                        replies[j] == MVPN_CMD_DHT_ERROR;
            net->b.core.reply =
                (mvpn_dht_reply){.command = replies[j], .observed = net->a.self.addr, .status = 1};
            if (replies[j] == MVPN_CMD_DHT_VALUE) {
                net->b.core.reply.record = MVPN_BYTES_LITERAL("record");
            }
            net->a.core.replies = net->a.core.failures = 0;
            send(net, rows[i].request, false, &d);
            assert_int_equal(give(net, &net->b, &net->a, &d), 0);
            assert_true(take(net, &net->b, &d));
            assert_int_equal(give(net, &net->a, &net->b, &d), good ? 0 : MVPN_E_FORMAT);
            assert_int_equal(net->a.core.replies, good);
            assert_int_equal(net->a.core.failures, !good);
        }
    }
    net_free(net);
}

enum proof {
    GOOD,
    OTHER_LINK_KEY,
    OTHER_IDENTITY,
    OTHER_ADDRESS,
    LINK_EXPIRED,
    LINK_FORGED,
    NO_ROLE,
    MEMBER_EXPIRED,
    MEMBER_FORGED,
    REVOKED,
    NO_MEMBERSHIP,
    OPEN,
    OPEN_NO_ANCHOR,
};

/* A B whose proof fails in one way; the asks are A's. */
static struct net *net_with(enum proof proof, bool client)
{
    struct net *net = net_new((struct shape){.closed = proof < OPEN, .client = client});
    struct node *b = &net->b;
    mvpn_key other = {{9}};
    switch (proof) {
    case OTHER_LINK_KEY:
        certify_link(net, b, &other, UNTIL);
        break;
    case OTHER_IDENTITY: /* a member certifies a key at a node id that is another's */
        b->identity = net->a.identity;
        b->secret = net->a.secret;
        certify_link(net, b, &b->link_key.pub, UNTIL);
        certify(net, b, ROLES, UNTIL);
        break;
    case OTHER_ADDRESS: /* its identity's, but where it is not */
        b->self.addr = addr_of(false, 88);
        mvpn_dht_node_id(&b->self.id, &b->identity, &b->self.addr);
        b->self.addr = addr_of(false, 2);
        mvpn_dht_exchange_free(b->x);
        node_start(net, b, true);
        break;
    case LINK_EXPIRED:
        certify_link(net, b, &b->link_key.pub, UNIX_START - 301);
        break;
    case LINK_FORGED:
        b->link_certificate[170] ^= 1;
        break;
    case NO_ROLE:
        certify(net, b, (uint16_t)~MVPN_ROLE_DHT_SERVER, UNTIL);
        break;
    case MEMBER_EXPIRED:
        certify(net, b, ROLES, UNIX_START - 301);
        break;
    case MEMBER_FORGED:
        b->membership[120] ^= 1;
        break;
    case REVOKED:
        net->trust.revocations = (mvpn_revocations){.sequence = 1, .count = 1, .serials = {SERIAL}};
        break;
    case NO_MEMBERSHIP: /* B takes the network for an open one, but knows its secret */
        mvpn_dht_exchange_free(b->x);
        const mvpn_dht_exchange_config config = {
            .aead = net->aead,
            .rng = &b->rng,
            .pool = &net->pool,
            .dht = &b->core,
            .trust = &net->trust,
            .network_secret = net->secret,
            .unix_offset_us = OFFSET,
            .is_server = true,
            .self = b->self,
            .identity = b->identity,
            .link_key = b->link_key,
            .link_certificate = MVPN_BYTES_ARRAY(b->link_certificate),
        };
        assert_int_equal(mvpn_dht_exchange_new(&config, net->now, &b->x), 0);
        break;
    case OPEN_NO_ANCHOR:
        net->trust.anchor_count = 0;
        break;
    case GOOD:
    case OPEN:
        break;
    }
    return net;
}

static void test_proofs(void **state)
{
    (void)state;
    static const struct {
        enum proof proof;
        int as_ask; /* error of an ask; an open network wants anchors there */
        bool is_certified;
    } rows[] = {
        {GOOD, 0, true},
        {OTHER_LINK_KEY, MVPN_E_AUTH, false},
        {OTHER_IDENTITY, MVPN_E_AUTH, false},
        {OTHER_ADDRESS, MVPN_E_AUTH, false},
        {LINK_EXPIRED, MVPN_E_EXPIRED, false},
        {LINK_FORGED, MVPN_E_AUTH, false},
        {NO_ROLE, MVPN_E_POLICY, false},
        {MEMBER_EXPIRED, MVPN_E_EXPIRED, false},
        {MEMBER_FORGED, MVPN_E_AUTH, false},
        {REVOKED, MVPN_E_POLICY, false},
        {NO_MEMBERSHIP, MVPN_E_POLICY, false},
        {OPEN, 0, true},
        {OPEN_NO_ANCHOR, MVPN_E_POLICY, true},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_with(rows[i].proof, false);
        struct datagram d;
        send(net, ping, true, &d);
        assert_int_equal(give(net, &net->b, &net->a, &d), 0);
        assert_true(take(net, &net->b, &d));
        assert_int_equal(give(net, &net->a, &net->b, &d), 0);
        assert_int_equal(net->a.core.replies, rows[i].is_certified);
        assert_int_equal(net->a.core.failures, !rows[i].is_certified);
        assert_int_equal(net->a.core.is_certified, rows[i].is_certified);
        assert_int_equal(mvpn_dht_exchange_get_counters(net->a.x)->uncertified,
                         !rows[i].is_certified);
        net_free(net);

        net = net_with(rows[i].proof, true);
        uint64_t transaction;
        mvpn_dht_exchange_answer answer;
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
        assert_false(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        assert_true(take(net, &net->a, &d));
        assert_int_equal(give(net, &net->b, &net->a, &d), 0);
        assert_false(net->b.core.asker.has_claim);
        assert_true(take(net, &net->b, &d));
        assert_int_equal(give(net, &net->a, &net->b, &d), 0);
        assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        assert_true(answer.transaction == transaction);
        assert_int_equal(answer.error, rows[i].as_ask);
        assert_memory_equal(answer.contact.id.b, net->b.self.id.b, 20);
        if (answer.error == 0) {
            assert_memory_equal(answer.identity.b, net->b.identity.b, 32);
            assert_int_equal(answer.reply.command, MVPN_CMD_DHT_PONG);
            assert_int_equal(answer.reply.time, 77);
        }
        assert_false(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        net_free(net);
    }
}

/* What an open network's own file names need be no anchor; anything else must. Being named helps
 * against nothing else. */
static void test_ask_pinned(void **state)
{
    (void)state;
    static const struct {
        enum proof proof;
        bool is_pinned;
        int error;
    } rows[] = {
        {OPEN_NO_ANCHOR, false, MVPN_E_POLICY},
        {OPEN_NO_ANCHOR, true, 0},
        {OPEN, false, 0},
        {NO_MEMBERSHIP, true, MVPN_E_POLICY},
        {NO_ROLE, true, MVPN_E_POLICY},
        {REVOKED, true, MVPN_E_POLICY},
        {OTHER_IDENTITY, true, MVPN_E_AUTH},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_with(rows[i].proof, true);
        struct datagram d;
        uint64_t transaction;
        mvpn_dht_exchange_answer answer;
        assert_int_equal(mvpn_dht_exchange_ask(net->a.x, &net->b.self, rows[i].is_pinned, &ping,
                                               net->now, &transaction),
                         0);
        assert_true(take(net, &net->a, &d));
        assert_int_equal(give(net, &net->b, &net->a, &d), 0);
        assert_true(take(net, &net->b, &d));
        assert_int_equal(give(net, &net->a, &net->b, &d), 0);
        assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        assert_int_equal(answer.error, rows[i].error);
        net_free(net);
    }
}

/* Whom nobody waits for any more is not asked again, and its answer is a stranger's. */
static void test_ask_forgotten(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    struct datagram d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    for (unsigned i = 0; i < 2 * MVPN_DHT_ASKS_MAX; i++) {
        bool is_answered = i % 2 == 1;
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
        assert_true(take(net, &net->a, &d));
        if (is_answered) {
            assert_int_equal(give(net, &net->b, &net->a, &d), 0);
            assert_true(take(net, &net->b, &d));
            assert_int_equal(give(net, &net->a, &net->b, &d), 0);
        }
        mvpn_dht_exchange_forget(net->a.x, transaction + 1); /* another one */
        assert_int_equal(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER, is_answered);
        mvpn_dht_exchange_forget(net->a.x, transaction);
        assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
        assert_false(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        mvpn_dht_exchange_tick(net->a.x, net->now + MVPN_MS(600));
        assert_int_equal(mvpn_packet_queue_pop(mvpn_dht_exchange_out(net->a.x)) != NULL, 0);
        if (!is_answered) {
            assert_int_equal(give(net, &net->b, &net->a, &d), 0);
            assert_true(take(net, &net->b, &d));
            assert_int_equal(give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
        }
        net->now += MVPN_S(1);
    }
    net_free(net);
}

/* A reply without the certificate proves nothing, and an ask is for proof. */
static void test_ask_without_certificate(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    const mvpn_dht_request find_value = {.command = MVPN_CMD_DHT_FIND_VALUE};
    uint8_t record[1000] = {0};
    struct datagram d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    net->b.core.reply = (mvpn_dht_reply){
        .command = MVPN_CMD_DHT_VALUE, .type = 1, .record = MVPN_BYTES_ARRAY(record)};
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &find_value, net->now, &transaction),
        0);
    assert_true(take(net, &net->a, &d));
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_true(take(net, &net->b, &d));
    assert_int_equal(give(net, &net->a, &net->b, &d), 0);
    assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    assert_int_equal(answer.error, MVPN_E_AUTH);
    net_free(net);
}

/* --- time --- */

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
    assert_int_equal(exchange(net, ping, true), 0);
    assert_true(net->a.core.is_certified);
    net->b.self = moved;
    assert_int_equal(exchange(net, ping, true), 0);
    assert_true(net->a.core.is_certified);
    net->now += MVPN_S(1);
    assert_int_equal(exchange(net, ping, true), 0);
    net->b.self = old;
    send(net, ping, true, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
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
        assert_int_equal(exchange(net, ping, true), 0);
        assert_true(net->a.core.is_certified);
    }
    /* Its id of the other family is asked for elsewhere; an id of nobody nowhere. */
    net->b.self = six;
    net->b.self.id = four.id;
    send(net, ping, true, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
    const mvpn_addr from = addr_of(false, 1);
    assert_int_equal(give_from(net, &net->b, &from, &d), 0);
    assert_true(take(net, &net->b, &d));
    net->b.self.id = also_at(&net->b, true, 9).id;
    send(net, ping, true, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
    assert_int_equal(give_from(net, &net->b, &from, &d), MVPN_E_AUTH);

    net->b.self = six;
    mvpn_dht_exchange_set_self(net->b.x, &four, NULL, 0, net->now);
    net->now += MVPN_S(599);
    assert_int_equal(exchange(net, ping, true), 0);
    net->now += MVPN_S(1);
    send(net, ping, true, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
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
        assert_int_equal(exchange(net, ping, false), 0);
        net->b.self = first;
        assert_int_equal(exchange(net, ping, false), 0);
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
    assert_int_equal(exchange(net, ping, true), 0); /* the token */
    assert_int_equal(exchange(net, ping, true), 0);
    assert_true(net->b.core.asker.has_claim);
    assert_memory_equal(&net->b.core.asker.claim.id, &six.id, sizeof(six.id));
    assert_true(mvpn_key_eq(&net->b.core.asker.claim.link_key, &six.link_key));
    mvpn_dht_exchange_set_self(net->a.x, &four, NULL, 0, net->now);
    assert_int_equal(exchange(net, ping, true), 0);
    assert_false(net->b.core.asker.has_claim);
    net_free(net);
}

/* Nothing of a request stays longer than its reply may take. */
static void test_pending_ends(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram d;
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
    send(net, ping, true, &d);
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_true(take(net, &net->b, &d));
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == net->now + MVPN_S(8));
    net->now += MVPN_S(8);
    mvpn_dht_exchange_tick(net->a.x, net->now);
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
    assert_int_equal(give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    assert_int_equal(net->a.core.failures, 0); /* the core has its own time-outs */
    net_free(net);
}

/* One more than there is room for: the oldest is given up, the others go on. */
static void test_pending_full(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    struct datagram first, second, d;
    send(net, ping, false, &first);
    send(net, ping, false, &second);
    for (unsigned i = 2; i <= MVPN_DHT_PENDING_MAX; i++) {
        send(net, ping, false, &d);
    }
    assert_int_equal(give(net, &net->b, &net->a, &first), 0);
    assert_true(take(net, &net->b, &d));
    assert_int_equal(give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    assert_int_equal(give(net, &net->b, &net->a, &second), 0);
    assert_true(take(net, &net->b, &d));
    assert_int_equal(give(net, &net->a, &net->b, &d), 0);
    net_free(net);
}

static void test_ask_resends(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    struct datagram first, d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    mvpn_time start = net->now;
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, start, &transaction), 0);
    assert_true(take(net, &net->a, &first));
    static const unsigned at_ms[] = {500, 1500};
    for (size_t i = 0; i < 2; i++) {
        assert_true(mvpn_dht_exchange_deadline(net->a.x) == start + MVPN_MS(at_ms[i]));
        mvpn_dht_exchange_tick(net->a.x, start + MVPN_MS(at_ms[i]) - 1);
        assert_false(take(net, &net->a, &d));
        mvpn_dht_exchange_tick(net->a.x, start + MVPN_MS(at_ms[i]));
        assert_true(take(net, &net->a, &d));
        assert_int_equal(d.n, first.n);
        assert_memory_equal(d.bytes, first.bytes, d.n);
        assert_false(take(net, &net->a, &d));
    }
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == start + MVPN_S(3));
    mvpn_dht_exchange_tick(net->a.x, start + MVPN_S(3) - 1);
    assert_false(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    mvpn_dht_exchange_tick(net->a.x, start + MVPN_S(3));
    assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    assert_int_equal(answer.error, MVPN_E_TIMEOUT);
    assert_true(answer.transaction == transaction);
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
    assert_int_equal(give(net, &net->b, &net->a, &first), 0);
    assert_true(take(net, &net->b, &d));
    assert_int_equal(give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    net_free(net);
}

/* A clock that is wrong by days: the last sending says so, and the Pong tells the time. */
static void test_unsure_clock(void **state)
{
    (void)state;
    static const struct {
        bool is_unsure;
        int64_t off_s; /* A's clock */
        int error;
        bool by_its_clock;
    } rows[] = {
        {true, 7200, 0, false}, /* certificates hold by both clocks */
        {true, -365 * 86400, 0, true},
        {true, 365 * 86400, 0, true},
        {false, 365 * 86400, MVPN_E_TIMEOUT, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_new((struct shape){.closed = true, .client = true});
        mvpn_time start = net->now;
        struct datagram d, reply;
        uint64_t transaction;
        mvpn_dht_exchange_answer answer;
        net->b.core.reply.time = UNIX_START;
        mvpn_dht_exchange_set_clock_unsure(net->a.x, rows[i].is_unsure);
        mvpn_dht_exchange_set_unix_offset(net->a.x,
                                          OFFSET + rows[i].off_s * (int64_t)MVPN_US_PER_S);
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
        assert_true(take(net, &net->a, &d));
        assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
        net->now = start + MVPN_MS(500);
        mvpn_dht_exchange_tick(net->a.x, net->now);
        assert_true(take(net, &net->a, &d));
        assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_AUTH);
        net->now = start + MVPN_MS(1500);
        mvpn_dht_exchange_tick(net->a.x, net->now);
        assert_true(take(net, &net->a, &d));
        assert_int_equal(give(net, &net->b, &net->a, &d), rows[i].is_unsure ? 0 : MVPN_E_AUTH);
        if (take(net, &net->b, &reply)) {
            assert_int_equal(give(net, &net->b, &net->a, &d), MVPN_E_LIMIT); /* not twice */
            assert_int_equal(give(net, &net->a, &net->b, &reply), 0);
        }
        mvpn_dht_exchange_tick(net->a.x, start + MVPN_S(3));
        assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
        assert_int_equal(answer.error, rows[i].error);
        assert_int_equal(answer.is_by_its_clock, rows[i].by_its_clock);
        if (answer.error == 0) {
            assert_int_equal(answer.reply.time, UNIX_START);
        }
        net_free(net);
    }
    /* Who has an old key cannot show it to a client that trusts its clock. */
    struct net *net = net_with(LINK_EXPIRED, true);
    struct datagram d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    net->b.core.reply.time = UNIX_START - 86400;
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
    assert_true(take(net, &net->a, &d));
    assert_int_equal(give(net, &net->b, &net->a, &d), 0);
    assert_true(take(net, &net->b, &d));
    assert_int_equal(give(net, &net->a, &net->b, &d), 0);
    assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    assert_int_equal(answer.error, MVPN_E_EXPIRED);
    net_free(net);
}

/* One a second of unsure clocks, and Pings alone. */
static void test_unsure_limits(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    unsigned answered = 0;
    static const uint8_t a_ping[] = {0, MVPN_CMD_DHT_PING, 0}, blob[39] = {0, MVPN_CMD_DHT_BLOB};
    for (unsigned i = 0; i < 40; i++) {
        struct datagram d;
        mvpn_noise hs;
        mvpn_key key;
        forge(net, i == 0 ? MVPN_BYTES_ARRAY(blob) : MVPN_BYTES_ARRAY(a_ping), &hs, &d);
        mvpn_noise_done(&hs);
        mvpn_mac1_key(&key, &net->b.self.link_key, &net->secret, MVPN_PATTERN_DHT,
                      MVPN_HOUR_UNSURE);
        mvpn_mac1_make(d.bytes + d.n - 16, &key, mvpn_bytes_of(d.bytes, d.n - 16));
        int rc = give(net, &net->b, &net->a, &d);
        assert_true(rc == (i == 0 ? MVPN_E_FORMAT : answered < 15 ? 0 : MVPN_E_LIMIT));
        answered += rc == 0;
        (void)take(net, &net->b, &d);
    }
    assert_int_equal(answered, 15);
    net_free(net);
}

static void test_ask_limit(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    struct datagram d;
    uint64_t transaction;
    mvpn_dht_exchange_answer answer;
    for (unsigned i = 0; i < MVPN_DHT_ASKS_MAX; i++) {
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
        assert_true(take(net, &net->a, &d));
    }
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction),
        MVPN_E_LIMIT);
    net->now += MVPN_S(3);
    mvpn_dht_exchange_tick(net->a.x, net->now);
    for (unsigned i = 0; i < MVPN_DHT_ASKS_MAX; i++) {
        assert_true(mvpn_dht_exchange_pull_answer(net->a.x, &answer));
    }
    /* A key that is none fails here, and takes no place. */
    mvpn_dht_contact zero = net->b.self;
    memset(&zero.link_key, 0, sizeof(zero.link_key));
    for (unsigned i = 0; i <= MVPN_DHT_ASKS_MAX; i++) {
        assert_int_equal(
            mvpn_dht_exchange_ask(net->a.x, &zero, false, &ping, net->now, &transaction),
            MVPN_E_AUTH);
    }
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->b.self, false, &ping, net->now, &transaction), 0);
    net_free(net);
}

/* A client answers nobody. */
static void test_client_is_silent(void **state)
{
    (void)state;
    struct net *net = net_new((struct shape){.closed = true, .client = true});
    struct datagram d;
    uint64_t transaction;
    assert_int_equal(
        mvpn_dht_exchange_ask(net->a.x, &net->a.self, false, &ping, net->now, &transaction), 0);
    assert_true(take(net, &net->a, &d));
    assert_int_equal(give(net, &net->a, &net->b, &d), MVPN_E_UNKNOWN);
    assert_false(take(net, &net->a, &d));
    net_free(net);
}

/* --- means --- */

/* A core that names a contact whose key is none hears of it, and without packets it is as if they
 * were lost. */
static void test_cannot_send(void **state)
{
    (void)state;
    struct net *net = net_new(closed_v4);
    mvpn_dht *core = &net->a.core;
    mvpn_packet *held[65];
    size_t n = 0;
    core->queue[0] = (mvpn_dht_outgoing){.transaction = 5, .to = net->b.self, .request = ping};
    memset(&core->queue[0].to.link_key, 0, 32);
    core->queue_count = 1;
    mvpn_dht_exchange_flush(net->a.x, net->now);
    assert_int_equal(core->failures, 1);
    assert_int_equal(core->transaction, 5);
    assert_true(mvpn_dht_exchange_deadline(net->a.x) == MVPN_TIME_NEVER);
    while ((held[n] = mvpn_packet_new(&net->pool)) != NULL) {
        n++;
    }
    core->queue[0].to = net->b.self;
    core->pulled = 0;
    mvpn_dht_exchange_flush(net->a.x, net->now);
    assert_int_equal(core->failures, 1);
    assert_int_equal(mvpn_dht_exchange_out(net->a.x)->count, 0);
    while (n > 0) {
        mvpn_packet_free(&net->pool, held[--n]);
    }
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_token_is_bound),
        cmocka_unit_test(test_no_amplification),
        cmocka_unit_test(test_come_again),
        cmocka_unit_test(test_claim),
        cmocka_unit_test(test_request_bits),
        cmocka_unit_test(test_hours),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_other_node_id),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_core_says_nothing),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_reply_bits),
        cmocka_unit_test(test_wrong_answer),
        cmocka_unit_test(test_proofs),
        cmocka_unit_test(test_ask_without_certificate),
        cmocka_unit_test(test_old_self),
        cmocka_unit_test(test_further_addresses),
        cmocka_unit_test(test_many_addresses),
        cmocka_unit_test(test_claim_of_family),
        cmocka_unit_test(test_pending_ends),
        cmocka_unit_test(test_pending_full),
        cmocka_unit_test(test_ask_resends),
        cmocka_unit_test(test_unsure_clock),
        cmocka_unit_test(test_unsure_limits),
        cmocka_unit_test(test_ask_pinned),
        cmocka_unit_test(test_ask_forgotten),
        cmocka_unit_test(test_ask_limit),
        cmocka_unit_test(test_client_is_silent),
        cmocka_unit_test(test_cannot_send),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
