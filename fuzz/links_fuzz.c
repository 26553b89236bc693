/*
 * Two nodes' links and everything that can happen to their datagrams: ([op 1] ...)*.
 * First byte of the input: what the initiator is (client or relay), whether the network is closed,
 * whether cookies are demanded early, whether the initiator's clock is a day off and it knows (§4.2
 * "Unsure clocks"). A hostile peer is one of the two saying what it likes under
 * the right keys.
 */
#include "crypto/x25519.h"
#include "fuzz/fuzz.h"
#include "network/p2p/link.h"
#include "wire/cell.h"
#include "wire/certificate.h"

#define POOL 512
#define FLIGHT 64
#define UNIX_NOW 1800000000

struct node {
    mvpn_links *links;
    mvpn_packet_pool pool;
    mvpn_rng rng;
    mvpn_addr addr;
    mvpn_ed25519_pub identity;
    mvpn_x25519_pair key;
    uint8_t certificate[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    struct {
        size_t len;
        uint8_t bytes[MVPN_PACKET_ROOM];
    } flight[FLIGHT]; /* what it sent and nobody got yet */
    size_t first, count;
    mvpn_link *link; /* latest open one, or NULL */
};

static mvpn_aead *aead;
static mvpn_time now;
static struct node node[2];
static mvpn_ed25519_pub network_pub;
static mvpn_key network_id;

static void make_keys(void)
{
    mvpn_rng rng;
    mvpn_ed25519_secret secret, network_key;
    mvpn_rng_init_test(&rng, 8);
    FUZZ_CHECK(mvpn_aead_new(MVPN_AEAD_OPENSSL, &aead) == 0);
    mvpn_ed25519_generate(&network_pub, &network_key, &rng);
    mvpn_network_id(&network_id, &network_pub);
    for (uint8_t i = 0; i < 2; i++) {
        struct node *n = &node[i];
        mvpn_ed25519_generate(&n->identity, &secret, &rng);
        mvpn_x25519_generate(&n->key, &rng);
        mvpn_link_certificate_make(n->certificate, &secret, &n->identity, &n->key.pub,
                                   UNIX_NOW - 1000, UNIX_NOW + 1000000, &network_id);
        mvpn_membership_make(n->membership, &network_key, &n->identity, MVPN_ROLE_MIDDLE,
                             UNIX_NOW - 1000, UNIX_NOW + 1000000, 1, &network_id);
        n->addr = (mvpn_addr){4, 7000, {192, 0, 2, (uint8_t)(i + 1)}};
    }
}

static void start(struct node *n, bool is_relay, bool closed, bool is_loaded)
{
    mvpn_links_config c = {
        .aead = aead,
        .rng = &n->rng,
        .pool = &n->pool,
        .network_id = network_id,
        .closed = closed,
        .network_secret = {{7}},
        .network_pub = network_pub,
        .unix_offset_us = (int64_t)UNIX_NOW * 1000000 - (int64_t)now,
        .is_relay = is_relay,
        .identity = n->identity,
        .link_key = n->key,
        .link_certificate = MVPN_BYTES_ARRAY(n->certificate),
        .membership_certificate = closed ? MVPN_BYTES_ARRAY(n->membership) : MVPN_BYTES_NONE,
        .links_max = 8,
        .half_open_max = 8,
        .load_half_open = is_loaded ? 1 : 4,
        .load_first_per_s = is_loaded ? 1 : 8,
        .rekey_packets = 40,
        .exhaust_packets = 80,
    };
    mvpn_rng_init_test(&n->rng, 1);
    n->first = n->count = 0;
    n->link = NULL;
    FUZZ_CHECK(mvpn_packet_pool_init(&n->pool, POOL) == 0);
    FUZZ_CHECK(mvpn_links_new(&c, now, &n->links) == 0);
}

static void collect(struct node *n)
{
    mvpn_packet *p;
    mvpn_link_event e;
    mvpn_links_tick(n->links, now);
    while ((p = mvpn_packet_queue_pop(mvpn_links_out(n->links))) != NULL) {
        FUZZ_CHECK(p->len > 0 && p->len <= 1472);
        if (n->count < FLIGHT) {
            size_t at = (n->first + n->count++) % FLIGHT;
            n->flight[at].len = p->len;
            memcpy(n->flight[at].bytes, p->data, p->len);
        }
        mvpn_packet_free(&n->pool, p);
    }
    while (mvpn_links_pull_event(n->links, &e)) {
        if (e.type == MVPN_LINK_OPENED) {
            n->link = e.link;
        } else if (n->link == e.link) {
            n->link = NULL;
        }
    }
}

static void receive(struct node *n, const uint8_t *bytes, size_t len, const mvpn_addr *from)
{
    mvpn_link *link;
    mvpn_header h;
    mvpn_packet *p = mvpn_packet_new(&n->pool);
    if (p == NULL) {
        return;
    }
    if (len > 0) {
        memcpy(mvpn_packet_append(p, (uint32_t)len), bytes, len);
    }
    p->remote = *from;
    if (mvpn_links_recv(n->links, p, now, &link, &h) == 1) {
        FUZZ_CHECK(p->len <= MVPN_BODY_MAX);
        FUZZ_CHECK(mvpn_command_is_relay(h.command) ? h.length <= p->len : h.length == p->len);
        mvpn_packet_free(&n->pool, p);
    }
}

/* Hand on the oldest datagram of `from`. */
static void deliver(struct node *from, struct node *to, mvpn_reader *in, unsigned how)
{
    if (from->count == 0) {
        return;
    }
    size_t at = from->first, len = from->flight[at].len;
    uint8_t *bytes = from->flight[at].bytes;
    mvpn_addr addr = from->addr;
    if (how & 1) { /* changed */
        bytes[mvpn_read16(in) % len] ^= mvpn_read8(in);
    }
    if (how & 2) { /* from elsewhere */
        addr.port = (uint16_t)(addr.port + mvpn_read8(in) % 4);
    }
    receive(to, bytes, len, &addr);
    if (!(how & 4)) { /* else it comes again */
        from->first = (from->first + 1) % FLIGHT;
        from->count--;
    }
}

static void say(struct node *n, mvpn_reader *in)
{
    uint16_t command = mvpn_read16(in);
    uint8_t how = mvpn_read8(in);
    mvpn_bytes body = fuzz_chunk(in, MVPN_BODY_MAX);
    mvpn_packet *p = n->link == NULL ? NULL : mvpn_packet_new(&n->pool);
    if (p == NULL) {
        return;
    }
    mvpn_header h = {.circuit = {{1}}, .command = command};
    if (body.n > 0) {
        memcpy(mvpn_packet_append(p, (uint32_t)body.n), body.p, body.n);
    }
    if (mvpn_command_is_relay(command)) { /* a cell has the size of its class */
        h.size_class = how >> 2 & 3;
        size_t live = MVPN_MAX(p->len, 24u);
        size_t len = mvpn_cell_body_len(h.size_class, live);
        live = len == 0 ? 24 : live;
        len = mvpn_cell_body_len(h.size_class, live);
        p->len = (uint32_t)len;
        h.length = (uint16_t)live;
    } else {
        h.length = (uint16_t)p->len;
    }
    MVPN_IGNORE(mvpn_link_send(n->link, p, &h, how & 1, now)); /* closed, full: all the same */
}

static void step(mvpn_reader *in)
{
    uint8_t op = mvpn_read8(in);
    struct node *a = &node[op >> 7], *b = &node[!(op >> 7)];
    mvpn_addr addr = a->addr;
    mvpn_bytes chunk;
    switch (op & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        deliver(a, b, in, op & 7);
        break;
    case 6: /* lost */
        if (a->count > 0) {
            a->first = (a->first + 1) % FLIGHT;
            a->count--;
        }
        break;
    case 7: /* from anybody */
        chunk = fuzz_chunk(in, 1500);
        addr.ip[3] = mvpn_read8(in);
        receive(b, chunk.p, chunk.n, &addr);
        break;
    case 8:
        now += MVPN_MS(1) << mvpn_read8(in) % 18;
        break;
    case 9:
    case 10:
        say(a, in);
        break;
    case 11:
        mvpn_links_local_changed(a->links, now);
        break;
    case 12:
        mvpn_links_message_too_big(a->links, &b->addr, now);
        break;
    case 13:
        if (a->link != NULL) {
            mvpn_link_close(a->link, 6, now);
            a->link = NULL;
        }
        break;
    case 14: /* a relay may be opened to */
        if (b == &node[1]) {
            mvpn_link *link;
            mvpn_link_target target = {b->identity, b->key.pub, b->addr};
            MVPN_IGNORE(mvpn_links_open(a->links, &target, now, &link)); /* may be full */
        }
        break;
    default: /* all that is under way, both ways, twice */
        for (unsigned i = 0; i < 4 * FLIGHT && a->count + b->count > 0; i++) {
            deliver(a, b, in, 0);
            deliver(b, a, in, 0);
            collect(a);
            collect(b);
        }
        break;
    }
    collect(a);
    collect(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_link *link;
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    if (aead == NULL) {
        make_keys();
    }
    uint8_t mode = mvpn_read8(&in);
    now = MVPN_S(1000);
    start(&node[0], mode & 1, mode & 2, mode & 4);
    start(&node[1], true, mode & 2, mode & 4);
    if (mode & 8) {
        mvpn_links_set_unix_offset(node[0].links,
                                   (int64_t)(UNIX_NOW + 86400) * 1000000 - (int64_t)now);
        mvpn_links_set_clock_unsure(node[0].links, true);
    }
    mvpn_link_target target = {node[1].identity, node[1].key.pub, node[1].addr};
    FUZZ_CHECK(mvpn_links_open(node[0].links, &target, now, &link) == 0);
    collect(&node[0]);
    for (unsigned steps = 0; fuzz_more(&in) && steps < 100; steps++) {
        step(&in);
    }
    for (unsigned i = 0; i < 2; i++) {
        mvpn_links_free(node[i].links);
        FUZZ_CHECK(node[i].pool.free_count == POOL);
        mvpn_packet_pool_done(&node[i].pool);
    }
    return 0;
}
