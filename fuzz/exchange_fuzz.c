/*
 * Two nodes' exchanges over real cores, and everything that can happen to their datagrams:
 * ([op 1] ...)*. First byte of the input: is the network closed, is A a client. A hostile peer is
 * one of the two saying what it likes under the right keys.
 */
#include "crypto/x25519.h"
#include "dht/responder.h"
#include "fuzz/fuzz.h"
#include "wire/handshake.h"
#include "wire/message.h"

#define POOL 64
#define FLIGHT 64
#define UNIX_NOW 1800000000

struct node {
    mvpn_dht *core; /* NULL: client */
    mvpn_dht_exchange *x;
    mvpn_packet_pool pool;
    mvpn_rng rng;
    mvpn_dht_contact self;
    mvpn_ed25519_pub identity;
    mvpn_x25519_pair key;
    uint8_t certificate[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    struct {
        mvpn_addr to;
        size_t len;
        uint8_t bytes[MVPN_DHT_DATAGRAM4_MAX];
    } flight[FLIGHT]; /* what it sent and nobody got yet */
    size_t first, count;
};

static mvpn_aead *aead;
static mvpn_time now;
static struct node node[2];
static mvpn_trust trust;
static const mvpn_key network_secret = {{7}};

static void make_keys(void)
{
    mvpn_rng rng;
    mvpn_ed25519_secret secret, network_key;
    mvpn_rng_init_test(&rng, 8);
    FUZZ_CHECK(mvpn_aead_new(MVPN_AEAD_OPENSSL, &aead) == 0);
    mvpn_ed25519_generate(&trust.network_pub, &network_key, &rng);
    mvpn_network_id(&trust.network_id, &trust.network_pub);
    for (uint8_t i = 0; i < 2; i++) {
        struct node *n = &node[i];
        mvpn_ed25519_generate(&n->identity, &secret, &rng);
        mvpn_x25519_generate(&n->key, &rng);
        mvpn_link_certificate_make(n->certificate, &secret, &n->identity, &n->key.pub,
                                   UNIX_NOW - 1000, UNIX_NOW + 1000000, &trust.network_id);
        mvpn_membership_make(n->membership, &network_key, &n->identity, MVPN_ROLE_DHT_SERVER,
                             UNIX_NOW - 1000, UNIX_NOW + 1000000, 1, &trust.network_id);
        n->self.addr = (mvpn_addr){4, 7000, {11, i, 2, 1}};
        n->self.link_key = n->key.pub;
        mvpn_dht_node_id(&n->self.id, &n->identity, &n->self.addr);
    }
    trust.anchor_count = 1;
    trust.anchors[0] = node[1].identity;
}

static int verify(void *ctx, unsigned type, mvpn_bytes record, uint64_t unix_now,
                  mvpn_record_info *ret)
{
    (void)ctx;
    return mvpn_record_verify(&trust, type, record, unix_now, ret, NULL);
}

static void start(struct node *n, bool is_server)
{
    const int64_t offset = (int64_t)UNIX_NOW * 1000000 - (int64_t)now;
    mvpn_rng_init_test(&n->rng, 1);
    n->first = n->count = 0;
    n->core = NULL;
    FUZZ_CHECK(mvpn_packet_pool_init(&n->pool, POOL) == 0);
    if (is_server) {
        const mvpn_dht_config config = {.rng = &n->rng,
                                        .verify = verify,
                                        .unix_offset_us = offset,
                                        .is_server = true,
                                        .self = n->self,
                                        .records_max = 16,
                                        .records_bytes = 16384};
        FUZZ_CHECK(mvpn_dht_new(&config, now, &n->core) == 0);
    }
    const mvpn_dht_exchange_config config = {
        .aead = aead,
        .rng = &n->rng,
        .pool = &n->pool,
        .dht = n->core,
        .trust = &trust,
        .network_secret = network_secret,
        .unix_offset_us = offset,
        .is_server = is_server,
        .self = n->self,
        .identity = n->identity,
        .link_key = n->key,
        .link_certificate = MVPN_BYTES_ARRAY(n->certificate),
        .membership_certificate = trust.closed ? MVPN_BYTES_ARRAY(n->membership) : MVPN_BYTES_NONE,
    };
    FUZZ_CHECK(mvpn_dht_exchange_new(&config, now, &n->x) == 0);
}

static void stop(struct node *n)
{
    mvpn_dht_exchange_free(n->x);
    mvpn_dht_free(n->core);
    FUZZ_CHECK(n->pool.free_count == n->pool.size);
    mvpn_packet_pool_done(&n->pool);
}

static void collect(struct node *n)
{
    mvpn_packet *p;
    static mvpn_dht_exchange_answer answer;
    static mvpn_dht_event event;
    if (n->core != NULL) {
        mvpn_dht_tick(n->core, now);
    }
    mvpn_dht_exchange_flush(n->x, now);
    mvpn_dht_exchange_tick(n->x, now);
    while ((p = mvpn_packet_queue_pop(mvpn_dht_exchange_out(n->x))) != NULL) {
        FUZZ_CHECK(p->len > 0 && p->len <= MVPN_DHT_DATAGRAM4_MAX);
        FUZZ_CHECK(mvpn_dht_is_datagram(mvpn_bytes_of(p->data, p->len)));
        if (n->count < FLIGHT) {
            size_t at = (n->first + n->count++) % FLIGHT;
            n->flight[at].to = p->remote;
            n->flight[at].len = p->len;
            memcpy(n->flight[at].bytes, p->data, p->len);
        }
        mvpn_packet_free(&n->pool, p);
    }
    while (mvpn_dht_exchange_pull_answer(n->x, &answer)) {
    }
    while (n->core != NULL && mvpn_dht_pull_event(n->core, &event)) {
    }
}

static int receive(struct node *n, const uint8_t *bytes, size_t len, const mvpn_addr *from)
{
    int rc = MVPN_E_NOMEM;
    mvpn_packet *p = mvpn_packet_new(&n->pool);
    if (p == NULL) {
        return rc;
    }
    memcpy(mvpn_packet_append(p, (uint32_t)len), bytes, len);
    p->remote = *from;
    if (mvpn_dht_is_datagram(mvpn_bytes_of(p->data, p->len))) {
        rc = mvpn_dht_exchange_recv(n->x, p, now);
    } else {
        mvpn_packet_free(&n->pool, p);
    }
    return rc;
}

static bool is_to(const struct node *n, const mvpn_addr *addr)
{
    return mvpn_addr_eq(&n->self.addr, addr);
}

/* The oldest datagram of `n` reaches the other; with `change` a byte of it is another. */
static void deliver(struct node *n, mvpn_reader *in, bool change)
{
    struct node *other = n == &node[0] ? &node[1] : &node[0];
    if (n->count == 0) {
        return;
    }
    size_t at = n->first;
    n->first = (n->first + 1) % FLIGHT;
    n->count--;
    if (change) {
        size_t i = mvpn_read16(in) % n->flight[at].len;
        n->flight[at].bytes[i] ^= mvpn_read8(in);
    }
    if (is_to(other, &n->flight[at].to)) {
        (void)receive(other, n->flight[at].bytes, n->flight[at].len, &n->self.addr);
    }
}

/* A request with any payload under the right keys, without a token: its reply is not longer. */
static void forge_request(mvpn_reader *in, const mvpn_dht_noise_keys *keys)
{
    uint8_t b[MVPN_DHT_DATAGRAM4_MAX];
    mvpn_addr from = {4, 9, {11, mvpn_read8(in), 3, 1}};
    size_t padding = mvpn_read16(in), len = 0;
    mvpn_bytes payload = fuzz_chunk(in, 1100);
    mvpn_noise hs;
    mvpn_key key;
    struct node *to = &node[1];
    mvpn_writer w = mvpn_writer_init(b, sizeof(b));
    mvpn_write8(&w, 0xff);
    mvpn_write32(&w, MVPN_DHT_VERSION_REQUEST);
    mvpn_write_zero(&w, 8 + 16);
    mvpn_write16(&w, (uint16_t)(payload.n + 48));
    mvpn_dht_noise_start(&hs, keys, &to->self, NULL);
    FUZZ_CHECK(mvpn_noise_write(&hs, w.p, (size_t)(w.end - w.p), &len, payload, &node[0].rng) == 0);
    mvpn_noise_done(&hs);
    w.p += len;
    mvpn_mac1_key(&key, &to->self.link_key, &keys->token, MVPN_PATTERN_DHT, UNIX_NOW / 3600);
    mvpn_mac1_make(w.p, &key, mvpn_bytes_of(b, mvpn_writer_len(&w)));
    w.p += MVPN_DHT_MAC_LEN;
    mvpn_write_zero(&w, padding % ((size_t)(w.end - w.p) + 1));
    collect(to);
    if (receive(to, b, mvpn_writer_len(&w), &from) == 0) {
        mvpn_packet *p = mvpn_packet_queue_pop(mvpn_dht_exchange_out(to->x));
        FUZZ_CHECK(p != NULL && p->len <= mvpn_writer_len(&w) && mvpn_addr_eq(&p->remote, &from));
        mvpn_packet_free(&to->pool, p);
    }
}

/* B answers A's oldest request with any payload. */
static void forge_reply(mvpn_reader *in, const mvpn_dht_noise_keys *keys)
{
    uint8_t plain[MVPN_DHT_DATAGRAM4_MAX], b[MVPN_DHT_DATAGRAM4_MAX];
    mvpn_dht_request_packet request;
    struct node *a = &node[0];
    size_t len, at = a->first;
    mvpn_bytes payload = fuzz_chunk(in, MVPN_DHT_DATAGRAM4_MAX - 13 - 48);
    if (a->count == 0 ||
        mvpn_dht_request_packet_decode(
            &request, mvpn_bytes_of(a->flight[at].bytes, a->flight[at].len)) != 0) {
        return;
    }
    a->first = (a->first + 1) % FLIGHT;
    a->count--;
    mvpn_noise hs;
    mvpn_dht_noise_start(&hs, keys, &node[1].self, &node[1].key);
    if (mvpn_noise_read(&hs, plain, sizeof(plain), &len, request.noise) == 0) {
        mvpn_writer w = mvpn_writer_init(b, sizeof(b));
        mvpn_write8(&w, 0xc0);
        mvpn_write32(&w, MVPN_DHT_VERSION_REPLY);
        mvpn_write64(&w, request.transaction);
        FUZZ_CHECK(mvpn_noise_write(&hs, w.p, (size_t)(w.end - w.p), &len, payload, &node[1].rng) ==
                   0);
        (void)receive(a, b, mvpn_writer_len(&w) + len, &node[1].self.addr);
    }
    mvpn_noise_done(&hs);
}

/* Bytes from anywhere, under the head of a datagram. */
static void raw(mvpn_reader *in)
{
    uint8_t b[1500] = {0xc0, 0x6d, 0x76, 0x0d};
    uint8_t to = mvpn_read8(in);
    mvpn_bytes chunk = fuzz_chunk(in, sizeof(b) - 5);
    b[4] = (uint8_t)(1 + (to >> 1 & 1));
    memcpy(b + 5, chunk.n > 0 ? chunk.p : b, chunk.n);
    (void)receive(&node[to & 1], b, chunk.n + 5, &node[!(to & 1)].self.addr);
}

static void use_core(mvpn_reader *in)
{
    struct node *a = &node[0];
    uint8_t what = mvpn_read8(in);
    mvpn_dht_id id = {{mvpn_read8(in)}};
    uint32_t op;
    if (a->core == NULL) {
        return;
    }
    switch (what % 3) {
    case 0:
        mvpn_dht_add_contact(a->core, &node[1].self, now);
        break;
    case 1:
        MVPN_IGNORE(mvpn_dht_find_node(a->core, &id, now, &op)); /* too many: none */
        break;
    default:
        MVPN_IGNORE(mvpn_dht_fetch(a->core, &node[1].self, &id, now, &op));
        break;
    }
}

static void ask(mvpn_reader *in)
{
    uint64_t transaction;
    const mvpn_dht_request request = {.command =
                                          (uint16_t)(MVPN_CMD_DHT_PING + (mvpn_read8(in) & 1))};
    MVPN_IGNORE(
        mvpn_dht_exchange_ask(node[0].x, &node[1].self, false, &request, now, &transaction));
}

static void step(mvpn_reader *in, const mvpn_dht_noise_keys *keys)
{
    uint8_t op = mvpn_read8(in);
    struct node *n = &node[op >> 7];
    switch (op & 15) {
    case 0:
    case 1:
        deliver(n, in, op & 1);
        break;
    case 2:
        for (unsigned i = 0; i < 16; i++) {
            deliver(&node[i & 1], in, false);
            collect(&node[0]);
            collect(&node[1]);
        }
        break;
    case 3:
        raw(in);
        break;
    case 4:
        forge_request(in, keys);
        break;
    case 5:
        forge_reply(in, keys);
        break;
    case 6:
        use_core(in);
        break;
    case 7:
        ask(in);
        break;
    case 8:
        mvpn_dht_exchange_set_self(n->x, &n->self, NULL, 0, now);
        break;
    default:
        now += MVPN_MS(100) << (op & 7);
        break;
    }
    collect(&node[0]);
    collect(&node[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (aead == NULL) {
        make_keys();
    }
    if (size < 1) {
        return 0;
    }
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    uint8_t mode = mvpn_read8(&in);
    mvpn_dht_noise_keys keys;
    const mvpn_dht_exchange_config config = {
        .aead = aead, .trust = &trust, .network_secret = network_secret};
    now = MVPN_S(1000);
    trust.closed = mode & 1;
    mvpn_dht_noise_keys_init(&keys, &config);
    start(&node[0], !(mode & 2));
    start(&node[1], true);
    for (unsigned i = 0; i < 200 && fuzz_more(&in); i++) {
        step(&in, &keys);
    }
    stop(&node[0]);
    stop(&node[1]);
    return 0;
}
