#include "dht/exchange.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/cursor.h"
#include "base/hash.h"
#include "dht/responder.h"
#include "dht/token.h"
#include "wire/handshake.h"
#include "wire/message.h"

#define KEY_LEN 32
#define NOISE_LEN (KEY_LEN + MVPN_AEAD_TAG)
#define S_PER_HOUR 3600
/* A request of the core is forgotten after its time-out and the 4 s in which its reply is still
 * welcome. */
#define PENDING_LIFE MVPN_S(8)
#define ASK_LIFE MVPN_S(3)
static const mvpn_time ask_resend_at[] = {MVPN_MS(500), MVPN_MS(1500)};
/* Of a client: as many servers as it asks itself. */
#define CLIENT_TOKENS 64
/* Requests sent in one flush: what the core has under way. The others wait for the next. */
#define FLUSH_MAX MVPN_DHT_PENDING_MAX
/* Longest Pong's body. */
#define PONG_ROOM (8 + 1 + 2 + 16)

/* A request of ours under way. */
struct pending {
    mvpn_hash_node node;
    mvpn_list link; /* oldest first, or free */
    uint64_t transaction;
    mvpn_dht_contact to;
    mvpn_time sent;
    mvpn_noise hs; /* waits for message 2 */
    uint16_t command;
    bool wants_certificate;
    struct ask *ask; /* NULL: of the core */
};

enum ask_state {
    ASK_FREE,
    ASK_WAITING,
    ASK_DONE, /* to be pulled */
};

struct ask {
    enum ask_state state;
    struct pending pending;
    unsigned resends;
    int error;
    bool is_unsure, is_by_its_clock, is_pinned;
    mvpn_ed25519_pub identity;
    uint16_t reply_command;
    size_t len;
    uint8_t bytes[MVPN_DHT_DATAGRAM4_MAX]; /* the request's datagram; then the reply's body */
};

struct mvpn_dht_exchange {
    mvpn_dht_exchange_config config;
    mvpn_dht_noise_keys keys;
    mvpn_dht_responder *responder;          /* NULL: no server */
    mvpn_dht_contact own[MVPN_DHT_OWN_MAX]; /* the first is where the core stands */
    size_t own_count;
    mvpn_dht_token_cache *tokens;
    mvpn_hash by_transaction;
    mvpn_list sent, free;
    struct pending *pendings; /* NULL: no core */
    struct ask asks[MVPN_DHT_ASKS_MAX];
    mvpn_packet_queue out;
    mvpn_dht_exchange_counters counters;
};

int mvpn_dht_exchange_new(const mvpn_dht_exchange_config *config, mvpn_time now,
                          mvpn_dht_exchange **ret)
{
    mvpn_dht_exchange *x = calloc(1, sizeof(*x));
    if (x == NULL) {
        return MVPN_E_NOMEM;
    }
    x->config = *config;
    x->config.others = NULL;
    mvpn_list_init(&x->sent);
    mvpn_list_init(&x->free);
    mvpn_packet_queue_init(&x->out);
    mvpn_dht_noise_keys_init(&x->keys, config);
    bool has_core = config->dht != NULL;
    int rc =
        mvpn_hash_init(&x->by_transaction, has_core ? MVPN_DHT_PENDING_MAX : MVPN_DHT_ASKS_MAX);
    if (rc == 0) {
        rc = mvpn_dht_token_cache_new(has_core ? MVPN_DHT_TOKENS_MAX : CLIENT_TOKENS, config->rng,
                                      &x->tokens);
    }
    if (rc == 0 && has_core) {
        x->pendings = calloc(MVPN_DHT_PENDING_MAX, sizeof(*x->pendings));
        rc = x->pendings != NULL ? 0 : MVPN_E_NOMEM;
    }
    for (size_t i = 0; rc == 0 && has_core && i < MVPN_DHT_PENDING_MAX; i++) {
        mvpn_list_append(&x->free, &x->pendings[i].link);
    }
    if (rc == 0 && config->is_server) {
        MVPN_ASSERT(has_core && config->link_certificate.n == MVPN_LINK_CERTIFICATE_LEN);
        rc = mvpn_dht_responder_new(config, &x->keys, now, &x->responder);
    }
    if (rc != 0) {
        mvpn_dht_exchange_free(x);
        return rc;
    }
    mvpn_dht_exchange_set_self(x, &config->self, config->others, config->other_count, now);
    *ret = x;
    return 0;
}

void mvpn_dht_exchange_free(mvpn_dht_exchange *x)
{
    if (x == NULL) {
        return;
    }
    if (x->out.head.next != NULL) {
        mvpn_packet_queue_clear(&x->out, x->config.pool);
    }
    mvpn_dht_responder_free(x->responder);
    mvpn_dht_token_cache_free(x->tokens);
    mvpn_hash_done(&x->by_transaction);
    if (x->pendings != NULL) {
        mvpn_wipe(x->pendings, MVPN_DHT_PENDING_MAX * sizeof(*x->pendings));
        free(x->pendings);
    }
    mvpn_wipe(x, sizeof(*x));
    free(x);
}

void mvpn_dht_exchange_set_unix_offset(mvpn_dht_exchange *x, int64_t unix_offset_us)
{
    x->config.unix_offset_us = unix_offset_us;
}

void mvpn_dht_exchange_set_clock_unsure(mvpn_dht_exchange *x, bool is_unsure)
{
    x->config.clock_is_unsure = is_unsure;
}

void mvpn_dht_exchange_set_self(mvpn_dht_exchange *x, const mvpn_dht_contact *self,
                                const mvpn_dht_contact *others, size_t other_count, mvpn_time now)
{
    x->own[0] = *self;
    x->own_count = 1;
    for (size_t i = 0; i < other_count && x->own_count < MVPN_DHT_OWN_MAX; i++) {
        x->own[x->own_count++] = others[i];
    }
    if (x->responder != NULL) {
        mvpn_dht_responder_set_own(x->responder, x->own, x->own_count, now);
    }
}

mvpn_packet_queue *mvpn_dht_exchange_out(mvpn_dht_exchange *x)
{
    return &x->out;
}

const mvpn_dht_exchange_counters *mvpn_dht_exchange_get_counters(const mvpn_dht_exchange *x)
{
    return &x->counters;
}

/* --- sending --- */

static void send_packet(mvpn_dht_exchange *x, mvpn_packet *packet)
{
    x->counters.bytes_out += packet->len;
    mvpn_packet_queue_push(&x->out, packet);
}

static bool send_bytes(mvpn_dht_exchange *x, const mvpn_addr *to, const uint8_t *bytes, size_t len)
{
    mvpn_packet *packet = mvpn_packet_new(x->config.pool);
    if (packet == NULL) {
        return false;
    }
    memcpy(mvpn_packet_append(packet, (uint32_t)len), bytes, len);
    packet->remote = *to;
    send_packet(x, packet);
    return true;
}

/* Up to where a request without a token is padded: as long as its longest answer that is of use. */
static size_t padded_len(const struct pending *p, size_t reply_room)
{
    size_t len = MVPN_DHT_REPLY_HEADER_LEN + NOISE_LEN +
                 mvpn_dht_answer_overhead(p->wants_certificate, p->wants_certificate) + reply_room;
    return MVPN_MIN(len, mvpn_dht_datagram_max(&p->to.addr));
}

/* What we say that we are to somebody of this family: a claim of an id that does not fit the
 * address that it comes from counts for nothing. NULL: we have no address of it. */
static const mvpn_dht_contact *claim_for(const mvpn_dht_exchange *x, uint8_t family)
{
    for (size_t i = 0; i < x->own_count; i++) {
        if (x->own[i].addr.family == family) {
            return &x->own[i];
        }
    }
    return NULL;
}

/* Payload of message 1. `claim` may be NULL. Returns its length, 0 if it does not fit. */
static size_t make_payload(uint8_t *out, size_t size, const mvpn_dht_request *request,
                           bool wants_certificate, const mvpn_dht_contact *claim)
{
    uint8_t body[MVPN_DHT_DATAGRAM4_MAX];
    size_t len = mvpn_dht_request_encode(body, sizeof(body), request);
    mvpn_dht_ask ask = {.command = request->command,
                        .wants_certificate = wants_certificate,
                        .has_claim = claim != NULL,
                        .body = {body, len}};
    if (claim != NULL) {
        ask.claim_id = claim->id;
        ask.claim_link_key = claim->link_key;
    }
    return mvpn_dht_ask_encode(out, size, &ask);
}

/* Write the datagram of a request; begins p->hs. MVPN_E_TOO_BIG; MVPN_E_AUTH: its key is no key. */
static int make_datagram(mvpn_dht_exchange *x, struct pending *p, const mvpn_dht_request *request,
                         bool has_claim, size_t reply_room, mvpn_time now,
                         uint8_t out[static MVPN_DHT_DATAGRAM4_MAX], size_t *ret_len)
{
    uint8_t payload[MVPN_DHT_DATAGRAM4_MAX], token[MVPN_DHT_TOKEN_LEN];
    mvpn_rng *rng = x->config.rng;
    size_t max = mvpn_dht_datagram_max(&p->to.addr);
    size_t room = max - MVPN_DHT_REQUEST_HEADER_LEN - NOISE_LEN - MVPN_DHT_MAC_LEN;
    const mvpn_dht_contact *claim = has_claim ? claim_for(x, p->to.addr.family) : NULL;
    size_t len = make_payload(payload, room, request, p->wants_certificate, claim);
    if (len == 0) {
        return MVPN_E_TOO_BIG;
    }
    bool has_token = mvpn_dht_token_cache_get(x->tokens, &p->to.addr, now, token);
    if (!has_token) {
        mvpn_rng_bytes(rng, token, sizeof(token));
    }
    mvpn_writer w = mvpn_writer_init(out, max);
    mvpn_write8(&w, (uint8_t)(0xc0 | mvpn_rng_below(rng, 64)));
    mvpn_write32(&w, MVPN_DHT_VERSION_REQUEST);
    mvpn_write64(&w, p->transaction);
    mvpn_write_bytes(&w, token, sizeof(token));
    mvpn_write16(&w, (uint16_t)(NOISE_LEN + len));
    uint8_t *noise = mvpn_write_raw(&w, NOISE_LEN + len);
    MVPN_ASSERT(noise != NULL);
    mvpn_dht_noise_start(&p->hs, &x->keys, &p->to, NULL);
    int rc =
        mvpn_noise_write(&p->hs, noise, NOISE_LEN + len, &len, mvpn_bytes_of(payload, len), rng);
    if (rc != 0) {
        mvpn_noise_done(&p->hs);
        return rc;
    }
    mvpn_key key;
    uint8_t mac[MVPN_DHT_MAC_LEN];
    mvpn_mac1_key(&key, &p->to.link_key, &x->keys.token, MVPN_PATTERN_DHT,
                  mvpn_dht_unix_now(now, x->config.unix_offset_us) / S_PER_HOUR);
    mvpn_mac1_make(mac, &key, mvpn_bytes_of(out, mvpn_writer_len(&w)));
    mvpn_write_bytes(&w, mac, sizeof(mac));
    mvpn_wipe(&key, sizeof(key));
    size_t padded = has_token ? 0 : padded_len(p, reply_room);
    if (mvpn_writer_len(&w) < padded) {
        mvpn_write_zero(&w, padded - mvpn_writer_len(&w));
    }
    MVPN_ASSERT(!w.failed);
    *ret_len = mvpn_writer_len(&w);
    return 0;
}

/* --- requests under way --- */

static void pending_start(mvpn_dht_exchange *x, struct pending *p, mvpn_time now)
{
    p->sent = now;
    mvpn_hash_insert(&x->by_transaction, &p->node, p->transaction);
    x->counters.requests_out++;
}

/* Its answer came or never will: nothing of its keys stays. */
static void pending_end(mvpn_dht_exchange *x, struct pending *p)
{
    mvpn_hash_remove(&x->by_transaction, &p->node);
    mvpn_noise_done(&p->hs);
    if (p->ask == NULL) {
        mvpn_list_remove(&p->link);
        mvpn_list_append(&x->free, &p->link);
    }
}

/* The request that a reply from there can be to. */
static struct pending *pending_find(const mvpn_dht_exchange *x, uint64_t transaction,
                                    const mvpn_addr *from)
{
    mvpn_hash_node *n = mvpn_hash_first(&x->by_transaction, transaction);
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct pending *p = MVPN_CONTAINER_OF(n, struct pending, node);
        if (mvpn_addr_eq(&p->to.addr, from)) {
            return p;
        }
    }
    return NULL;
}

static struct pending *pending_take(mvpn_dht_exchange *x)
{
    if (mvpn_list_is_empty(&x->free)) {
        /* Overdue in the core, which counts fewer. */
        pending_end(x, MVPN_CONTAINER_OF(x->sent.next, struct pending, link));
    }
    return MVPN_CONTAINER_OF(mvpn_list_pop(&x->free), struct pending, link);
}

static void send_request(mvpn_dht_exchange *x, const mvpn_dht_outgoing *o, mvpn_time now)
{
    uint8_t bytes[MVPN_DHT_DATAGRAM4_MAX];
    size_t len;
    struct pending *p = pending_take(x);
    p->transaction = o->transaction;
    p->to = o->to;
    p->command = o->request.command;
    p->wants_certificate = o->wants_certificate;
    p->ask = NULL;
    int rc = make_datagram(x, p, &o->request, o->has_claim && x->config.is_server, o->reply_room,
                           now, bytes, &len);
    if (rc != 0) {
        mvpn_list_append(&x->free, &p->link);
        mvpn_dht_reply_failed(x->config.dht, o->transaction, now);
        return;
    }
    mvpn_list_append(&x->sent, &p->link);
    pending_start(x, p, now);
    /* Without a packet it is as if it were lost on the way: the core sends it again. */
    (void)send_bytes(x, &o->to.addr, bytes, len);
}

void mvpn_dht_exchange_flush(mvpn_dht_exchange *x, mvpn_time now)
{
    mvpn_dht_outgoing o;
    if (x->config.dht == NULL) {
        return;
    }
    for (size_t i = 0; i < FLUSH_MAX && mvpn_dht_pull_request(x->config.dht, &o); i++) {
        send_request(x, &o, now);
    }
}

/* --- replies --- */

/* What a request can be answered with. (§11.3) */
static bool is_answer_to(unsigned request, unsigned reply)
{
    switch (request) {
    case MVPN_CMD_DHT_PING:
        return reply == MVPN_CMD_DHT_PONG || reply == MVPN_CMD_DHT_ERROR;
    case MVPN_CMD_DHT_FIND_NODE:
        return reply == MVPN_CMD_DHT_NODES || reply == MVPN_CMD_DHT_ERROR;
    case MVPN_CMD_DHT_FIND_VALUE:
        return reply == MVPN_CMD_DHT_VALUE || reply == MVPN_CMD_DHT_NODES ||
               reply == MVPN_CMD_DHT_ERROR;
    case MVPN_CMD_DHT_STORE:
        return reply == MVPN_CMD_DHT_STORED || reply == MVPN_CMD_DHT_ERROR;
    case MVPN_CMD_DHT_LIST:
        return reply == MVPN_CMD_DHT_LISTED || reply == MVPN_CMD_DHT_ERROR;
    case MVPN_CMD_DHT_FETCH:
        return reply == MVPN_CMD_DHT_FETCHED || reply == MVPN_CMD_DHT_ERROR;
    default:
        return reply == MVPN_CMD_DHT_BLOB_PART || reply == MVPN_CMD_DHT_ERROR;
    }
}

/*
 * Is the contact who it says? The handshake has proven its link key; here that an identity
 * certifies that key, that the node id is this identity's at this address, and that the network
 * vouches for the identity. (§11.2)
 */
static int check_certificate(const mvpn_dht_exchange *x, const struct pending *p,
                             const mvpn_dht_answer *answer, uint64_t unix_now,
                             mvpn_ed25519_pub *ret_identity)
{
    const mvpn_trust *trust = x->config.trust;
    mvpn_link_certificate c;
    if (!answer->has_certificate) {
        return MVPN_E_AUTH;
    }
    int rc = mvpn_link_certificate_verify(MVPN_BYTES_ARRAY(answer->link_certificate),
                                          &trust->network_id, unix_now, &c);
    if (rc != 0) {
        return rc;
    }
    if (!mvpn_key_eq(&c.link_key, &p->to.link_key) ||
        !mvpn_dht_id_is_of(&p->to.id, &c.identity, &p->to.addr)) {
        return MVPN_E_AUTH;
    }
    mvpn_bytes membership =
        answer->has_membership ? MVPN_BYTES_ARRAY(answer->membership) : MVPN_BYTES_NONE;
    rc = mvpn_trust_vouches(trust, &c.identity, membership, MVPN_ROLE_DHT_SERVER,
                            p->ask != NULL && !p->ask->is_pinned, unix_now);
    if (rc == 0) {
        *ret_identity = c.identity;
    }
    return rc;
}

static void finish_ask(mvpn_dht_exchange *x, struct ask *ask, int error)
{
    pending_end(x, &ask->pending);
    ask->error = error;
    ask->state = ASK_DONE;
}

/* By our clock; or, if that says it is too late or too early and we do not trust it, by the clock
 * of the one that holds the key we asked for. (§11.2) */
static int check_ask(const mvpn_dht_exchange *x, struct ask *ask, const mvpn_dht_answer *answer,
                     const mvpn_dht_reply *reply, mvpn_time now)
{
    uint64_t unix_now = mvpn_dht_unix_now(now, x->config.unix_offset_us);
    int rc = check_certificate(x, &ask->pending, answer, unix_now, &ask->identity);
    bool is_unsure = ask->is_unsure || x->config.clock_is_unsure;
    if (rc == MVPN_E_EXPIRED && is_unsure && reply->command == MVPN_CMD_DHT_PONG) {
        rc = check_certificate(x, &ask->pending, answer, MVPN_MAX(reply->time, 1u), &ask->identity);
        ask->is_by_its_clock = rc == 0;
    }
    return rc;
}

/* The reply of an ask: kept until it is pulled. */
static void answer_ask(mvpn_dht_exchange *x, struct ask *ask, const mvpn_dht_answer *answer,
                       const mvpn_dht_reply *reply, int rc, mvpn_time now)
{
    if (rc == 0) {
        rc = check_ask(x, ask, answer, reply, now);
        x->counters.uncertified += rc != 0;
    }
    if (rc == 0) {
        ask->reply_command = answer->command;
        ask->len = answer->body.n;
        memcpy(ask->bytes, answer->body.p, answer->body.n);
    }
    finish_ask(x, ask, rc);
}

static void answer_core(mvpn_dht_exchange *x, struct pending *p, const mvpn_dht_answer *answer,
                        const mvpn_dht_reply *reply, int rc, mvpn_time now)
{
    mvpn_ed25519_pub identity;
    uint64_t transaction = p->transaction;
    bool is_certified = false;
    if (rc == 0 && p->wants_certificate && answer->has_certificate) {
        rc = check_certificate(x, p, answer, mvpn_dht_unix_now(now, x->config.unix_offset_us),
                               &identity);
        x->counters.uncertified += rc != 0;
        is_certified = rc == 0;
    }
    pending_end(x, p);
    if (rc == 0) {
        mvpn_dht_reply_in(x->config.dht, transaction, reply, is_certified, now);
    } else {
        mvpn_dht_reply_failed(x->config.dht, transaction, now);
    }
}

/* Message 2 opened: what it says comes from whom we asked, sense or nonsense. */
static int handle_reply(mvpn_dht_exchange *x, struct pending *p, mvpn_bytes plain, mvpn_time now)
{
    mvpn_dht_answer answer = {0};
    mvpn_dht_reply reply;
    x->counters.replies_in++;
    int rc = mvpn_dht_answer_decode(&answer, plain);
    if (rc == 0) {
        mvpn_dht_token_cache_put(x->tokens, &p->to.addr, answer.token, now);
        rc = mvpn_dht_reply_decode(&reply, answer.command, answer.body);
    }
    if (rc == 0 && !is_answer_to(p->command, reply.command)) {
        rc = MVPN_E_FORMAT;
    }
    if (rc != 0) {
        x->counters.dropped_format++;
        rc = MVPN_E_FORMAT;
    }
    if (p->ask != NULL) {
        answer_ask(x, p->ask, &answer, &reply, rc, now);
    } else {
        answer_core(x, p, &answer, &reply, rc, now);
    }
    return rc;
}

static int reply_in(mvpn_dht_exchange *x, const mvpn_packet *packet, mvpn_time now)
{
    uint8_t plain[MVPN_DHT_DATAGRAM4_MAX];
    size_t len;
    if (packet->len < MVPN_DHT_REPLY_HEADER_LEN + NOISE_LEN ||
        packet->len > MVPN_DHT_DATAGRAM4_MAX) {
        x->counters.dropped_format++;
        return MVPN_E_FORMAT;
    }
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(packet->data, packet->len));
    (void)mvpn_read8(&r);  /* flags and */
    (void)mvpn_read32(&r); /* version are what led here */
    struct pending *p = pending_find(x, mvpn_read64(&r), &packet->remote);
    if (p == NULL) {
        x->counters.dropped_unknown++;
        return MVPN_E_UNKNOWN;
    }
    /* Into a copy: after a forged reply the genuine one must still be readable. */
    mvpn_noise hs = p->hs;
    int rc = mvpn_noise_read(&hs, plain, sizeof(plain), &len, mvpn_read_rest(&r));
    mvpn_noise_done(&hs);
    if (rc != 0) {
        x->counters.dropped_auth++;
        return MVPN_E_AUTH;
    }
    return handle_reply(x, p, mvpn_bytes_of(plain, len), now);
}

int mvpn_dht_exchange_recv(mvpn_dht_exchange *x, mvpn_packet *packet, mvpn_time now)
{
    x->counters.bytes_in += packet->len;
    MVPN_ASSERT(mvpn_dht_is_datagram(mvpn_bytes_of(packet->data, packet->len)));
    int rc;
    if (mvpn_load32(packet->data + 1) == MVPN_DHT_VERSION_REPLY) {
        rc = reply_in(x, packet, now);
    } else if (x->responder == NULL) {
        x->counters.dropped_unknown++;
        rc = MVPN_E_UNKNOWN;
    } else {
        rc = mvpn_dht_responder_answer(x->responder, packet, x->config.unix_offset_us, now,
                                       &x->counters);
        if (rc == 0) {
            x->counters.replies_out++;
            send_packet(x, packet);
            return 0;
        }
    }
    mvpn_packet_free(x->config.pool, packet);
    return rc;
}

/* --- asks --- */

int mvpn_dht_exchange_ask(mvpn_dht_exchange *x, const mvpn_dht_contact *contact, bool is_pinned,
                          const mvpn_dht_request *request, mvpn_time now, uint64_t *ret_transaction)
{
    struct ask *ask = NULL;
    for (size_t i = 0; i < MVPN_DHT_ASKS_MAX && ask == NULL; i++) {
        ask = x->asks[i].state == ASK_FREE ? &x->asks[i] : NULL;
    }
    if (ask == NULL) {
        return MVPN_E_LIMIT;
    }
    struct pending *p = &ask->pending;
    p->transaction = mvpn_rng_u64(x->config.rng);
    p->to = *contact;
    p->command = request->command;
    p->wants_certificate = true;
    p->ask = ask;
    size_t room = request->command == MVPN_CMD_DHT_PING ? PONG_ROOM : MVPN_DHT_BODY_MAX;
    int rc = make_datagram(x, p, request, false, room, now, ask->bytes, &ask->len);
    if (rc != 0) {
        return rc;
    }
    ask->state = ASK_WAITING;
    ask->resends = 0;
    ask->is_unsure = ask->is_by_its_clock = false;
    ask->is_pinned = is_pinned;
    pending_start(x, p, now);
    (void)send_bytes(x, &contact->addr, ask->bytes, ask->len); /* else the resends are left */
    *ret_transaction = p->transaction;
    return 0;
}

void mvpn_dht_exchange_forget(mvpn_dht_exchange *x, uint64_t transaction)
{
    for (size_t i = 0; i < MVPN_DHT_ASKS_MAX; i++) {
        struct ask *ask = &x->asks[i];
        if (ask->state == ASK_FREE || ask->pending.transaction != transaction) {
            continue;
        }
        if (ask->state == ASK_WAITING) {
            pending_end(x, &ask->pending);
        }
        ask->state = ASK_FREE;
    }
}

static mvpn_time ask_deadline(const struct ask *ask)
{
    if (ask->state != ASK_WAITING) {
        return MVPN_TIME_NEVER;
    }
    return ask->pending.sent +
           (ask->resends < MVPN_ARRAY_LEN(ask_resend_at) ? ask_resend_at[ask->resends] : ASK_LIFE);
}

/* Nobody answered: perhaps because our hour is not theirs. mac1 is not part of the handshake, so
 * that the answer to either sending is welcome. */
static void make_unsure(mvpn_dht_exchange *x, struct ask *ask)
{
    mvpn_dht_request_packet p;
    mvpn_key key;
    int rc = mvpn_dht_request_packet_decode(&p, mvpn_bytes_of(ask->bytes, ask->len));
    MVPN_ASSERT(rc == 0); /* our own */
    mvpn_mac1_key(&key, &ask->pending.to.link_key, &x->keys.token, MVPN_PATTERN_DHT,
                  MVPN_HOUR_UNSURE);
    mvpn_mac1_make(ask->bytes + p.before.n, &key, p.before);
    mvpn_wipe(&key, sizeof(key));
    ask->is_unsure = true;
}

static void ask_tick(mvpn_dht_exchange *x, struct ask *ask, mvpn_time now)
{
    if (ask->state != ASK_WAITING) {
        return;
    }
    if (now - ask->pending.sent >= ASK_LIFE) {
        finish_ask(x, ask, MVPN_E_TIMEOUT);
    } else if (ask_deadline(ask) <= now) {
        ask->resends++;
        if (x->config.clock_is_unsure && ask->resends == MVPN_ARRAY_LEN(ask_resend_at) &&
            ask->pending.command == MVPN_CMD_DHT_PING) {
            make_unsure(x, ask);
        }
        (void)send_bytes(x, &ask->pending.to.addr, ask->bytes, ask->len);
    }
}

bool mvpn_dht_exchange_pull_answer(mvpn_dht_exchange *x, mvpn_dht_exchange_answer *ret)
{
    for (size_t i = 0; i < MVPN_DHT_ASKS_MAX; i++) {
        struct ask *ask = &x->asks[i];
        if (ask->state != ASK_DONE) {
            continue;
        }
        *ret = (mvpn_dht_exchange_answer){.transaction = ask->pending.transaction,
                                          .error = ask->error,
                                          .contact = ask->pending.to};
        if (ask->error == 0) {
            ret->identity = ask->identity;
            ret->is_by_its_clock = ask->is_by_its_clock;
            int rc = mvpn_dht_reply_decode(&ret->reply, ask->reply_command,
                                           mvpn_bytes_of(ask->bytes, ask->len));
            MVPN_ASSERT(rc == 0); /* it was decoded when it came */
        }
        ask->state = ASK_FREE;
        return true;
    }
    return false;
}

/* --- time --- */

void mvpn_dht_exchange_tick(mvpn_dht_exchange *x, mvpn_time now)
{
    while (!mvpn_list_is_empty(&x->sent)) {
        struct pending *p = MVPN_CONTAINER_OF(x->sent.next, struct pending, link);
        if (now - p->sent < PENDING_LIFE) {
            break;
        }
        pending_end(x, p); /* the core has its own clock for it */
    }
    for (size_t i = 0; i < MVPN_DHT_ASKS_MAX; i++) {
        ask_tick(x, &x->asks[i], now);
    }
}

mvpn_time mvpn_dht_exchange_deadline(const mvpn_dht_exchange *x)
{
    mvpn_time deadline = MVPN_TIME_NEVER;
    if (!mvpn_list_is_empty(&x->sent)) {
        deadline = MVPN_CONTAINER_OF(x->sent.next, struct pending, link)->sent + PENDING_LIFE;
    }
    for (size_t i = 0; i < MVPN_DHT_ASKS_MAX; i++) {
        deadline = mvpn_time_min(deadline, ask_deadline(&x->asks[i]));
    }
    return deadline;
}
