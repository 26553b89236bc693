#include "dht_world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "dht_foe.h"
#include "wire/message.h"

#define START MVPN_S(1000)
#define IP_UDP_LEN(family) ((size_t)((family) == 4 ? 28 : 48))
/* Of messages 1 and 2 of Noise NK: an ephemeral key and the tag of the payload. */
#define NOISE_LEN 48
#define ASK_LEN 3
#define CLAIM_LEN 52
/* Tokens that a node remembers at most; those it asks in 5 min. */
#define TOKENS_MAX 1024
#define TOKEN_S 300
#define RECORD_LIFE_S 10800
#define PORT 443
/* Growth of the network while nodes join, a second. */
#define JOIN_SHARE 0.05
#define JOIN_LEAST 2.0
/* Time for the last lookups to end. */
#define LAST_LOOKUPS MVPN_S(15)
/* Between a withdrawal and the end of who withdraws. */
#define LEAVING MVPN_S(3)

enum timer_kind {
    TIMER_CORE,
    TIMER_LIFE,
    TIMER_RESIGN,
    TIMER_JOIN,
    TIMER_ASK,
    TIMER_REQUEST,
    TIMER_REPLY,
};

struct dht_lookup {
    dht_lookup *next;
    uint32_t op;
    uint64_t sequence; /* the record found must be this new at least */
};

/* A datagram under way, as far as somebody looks at it. */
typedef struct packet {
    mvpn_timer timer;
    uint64_t transaction;
    mvpn_dht_contact from;
    uint32_t to_slot, to_serial, from_serial;
    uint16_t command, len, record_len;
    bool is_proven, has_claim, has_certificate; /* certificate: wanted, or brought */
    bool more;
    uint8_t side, bits, type, status, count; /* count: keys of Fetch, contacts, listed */
    uint32_t total;
    uint64_t time;
    mvpn_addr observed;
    mvpn_dht_id target;
    _Alignas(8) uint8_t tail[]; /* contacts, listed or keys; then the record */
} packet;

static void *need(void *p)
{
    MVPN_ASSERT(p != NULL);
    return p;
}

/* ---- chance ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t dht_random(dht_world *w)
{
    w->random += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    return mix(w->random);
}

double dht_random_unit(dht_world *w)
{
    return (double)(dht_random(w) >> 11) * 0x1p-53;
}

static mvpn_time random_time(dht_world *w, mvpn_time span)
{
    return (mvpn_time)(dht_random_unit(w) * (double)span);
}

void dht_random_address(dht_world *w, bool is_v6, mvpn_addr *ret)
{
    mvpn_addr a = {.family = is_v6 ? 6 : 4, .port = PORT};
    do {
        mvpn_store64(a.ip, dht_random(w));
        if (is_v6) {
            a.ip[0] = (uint8_t)(0x20 | (a.ip[0] & 0x1f));
            mvpn_store64(a.ip + 8, dht_random(w));
        } else {
            memset(a.ip + 4, 0, 12);
        }
    } while (!mvpn_addr_is_public(&a) || mvpn_addr_is_mapped(&a));
    *ret = a;
}

int dht_nearer(const mvpn_dht_id *target, const mvpn_dht_id *a, const mvpn_dht_id *b)
{
    for (size_t i = 0; i < MVPN_DHT_ID_LEN; i++) {
        int d = (a->b[i] ^ target->b[i]) - (b->b[i] ^ target->b[i]);
        if (d != 0) {
            return d;
        }
    }
    return 0;
}

/* ---- records ---- */

static void key_of(const dht_world *w, uint32_t serial, mvpn_dht_id *ret)
{
    uint8_t in[5];
    uint8_t out[24];
    mvpn_store32(in, serial);
    for (uint8_t i = 0; i < 3; i++) {
        in[4] = i;
        mvpn_store64(out + (size_t)8 * i, mvpn_siphash(&w->key, in, sizeof(in)));
    }
    memcpy(ret->b, out, sizeof(ret->b));
}

void dht_world_record(const dht_world *w, uint32_t serial, uint64_t sequence, uint64_t expires,
                      uint8_t out[static DHT_RECORD_LEN])
{
    mvpn_store32(out, 0);
    mvpn_store32(out + 4, serial);
    mvpn_store64(out + 8, sequence);
    mvpn_store64(out + 16, expires);
    mvpn_store64(out + 24, mvpn_siphash(&w->key, out, 24));
}

/* The place of mvpn_record_verify. */
static int verify_record(void *ctx, unsigned type, mvpn_bytes record, uint64_t unix_now,
                         mvpn_record_info *ret)
{
    const dht_world *w = ctx;
    if (type != MVPN_RECORD_DESCRIPTOR) {
        return MVPN_E_UNKNOWN;
    }
    if (record.n != DHT_RECORD_LEN) {
        return MVPN_E_FORMAT;
    }
    if (mvpn_load64(record.p + 24) != mvpn_siphash(&w->key, record.p, 24)) {
        return MVPN_E_AUTH;
    }
    uint64_t expires = mvpn_load64(record.p + 16);
    if (expires <= unix_now) {
        return MVPN_E_EXPIRED;
    }
    mvpn_record_info info = {.sequence = mvpn_load64(record.p + 8), .expires = expires};
    key_of(w, mvpn_load32(record.p + 4), &info.key);
    *ret = info;
    return 0;
}

/* ---- who is who ---- */

static uint64_t unix_of(mvpn_time now)
{
    return DHT_UNIX + (now - START) / MVPN_US_PER_S;
}

void dht_world_place(dht_node *n, const mvpn_addr *addr, const mvpn_ed25519_pub *identity)
{
    n->identity = *identity;
    n->self.addr = *addr;
    key_of(n->world, n->serial, &n->key);
    mvpn_dht_node_id(&n->self.id, identity, addr);
    mvpn_store32(n->self.link_key.b, n->slot);
    mvpn_store32(n->self.link_key.b + 4, n->serial);
    for (size_t i = 8; i < 32; i += 8) {
        mvpn_store64(n->self.link_key.b + i, mix(((uint64_t)n->serial << 8) + i));
    }
}

static dht_node *node_at(dht_world *w, uint32_t slot, uint32_t serial)
{
    return slot < w->alive && w->node[slot].serial == serial ? &w->node[slot] : NULL;
}

dht_node *dht_world_node_of(dht_world *w, const mvpn_dht_contact *contact)
{
    return node_at(w, mvpn_load32(contact->link_key.b), mvpn_load32(contact->link_key.b + 4));
}

/* ---- tokens ---- */

static dht_token *token_at(const dht_node *n, uint32_t serial)
{
    return &n->tokens[mix(serial) & n->token_mask];
}

static bool token_is_known(const dht_node *n, uint32_t serial)
{
    if (n->tokens == NULL) {
        return false;
    }
    const dht_token *t = token_at(n, serial);
    return t->serial == serial && t->until_s >= n->world->now / MVPN_US_PER_S;
}

/* One place a token; the table grows while a place is contended, then forgets. */
static void token_keep(dht_node *n, uint32_t serial)
{
    uint32_t now_s = (uint32_t)(n->world->now / MVPN_US_PER_S);
    if (n->tokens == NULL) {
        n->token_mask = 63;
        n->tokens = need(calloc(n->token_mask + 1, sizeof(*n->tokens)));
    }
    const dht_token *t = token_at(n, serial);
    while (t->serial != serial && t->until_s >= now_s && n->token_mask + 1 < TOKENS_MAX) {
        dht_token *old = n->tokens;
        size_t count = n->token_mask + 1;
        n->token_mask = 2 * count - 1;
        n->tokens = need(calloc(2 * count, sizeof(*n->tokens)));
        for (size_t i = 0; i < count; i++) {
            if (old[i].until_s >= now_s) {
                *token_at(n, old[i].serial) = old[i];
            }
        }
        free(old);
        t = token_at(n, serial);
    }
    *token_at(n, serial) = (dht_token){serial, now_s + TOKEN_S};
}

/* ---- datagrams ---- */

static size_t datagram_max(const mvpn_addr *to)
{
    return to->family == 4 ? MVPN_DHT_DATAGRAM4_MAX : MVPN_DHT_DATAGRAM6_MAX;
}

/* As the exchange: as long as the longest answer that is of use. */
static size_t padded_len(const mvpn_addr *to, bool wants_certificate, size_t reply_room)
{
    size_t len = MVPN_DHT_REPLY_HEADER_LEN + NOISE_LEN +
                 mvpn_dht_answer_overhead(wants_certificate, wants_certificate) + reply_room;
    return MVPN_MIN(len, datagram_max(to));
}

/* What a record of the world's own kind is short of a descriptor. */
static size_t record_lacks(size_t len)
{
    return len == DHT_RECORD_LEN ? DHT_RECORD_WIRE_LEN - DHT_RECORD_LEN : 0;
}

static packet *packet_new(dht_node *from, uint32_t slot, uint32_t serial, size_t tail)
{
    packet *p = need(malloc(sizeof(*p) + tail));
    *p = (packet){
        .from = from->self,
        .from_serial = from->serial,
        .to_slot = slot,
        .to_serial = serial,
        .side = from->side,
    };
    return p;
}

static void packet_send(dht_node *from, packet *p, enum timer_kind kind, uint8_t family,
                        bool is_lookup)
{
    dht_world *w = from->world;
    uint64_t bytes = p->len + IP_UDP_LEN(family);
    if (from->mind == DHT_HONEST) {
        from->sent_bytes += bytes;
        w->stats.bytes += bytes;
        w->stats.bytes_of[p->command & 31] += bytes;
        w->stats.lookup_bytes += is_lookup ? bytes : 0;
        w->stats.datagrams++;
    }
    if (dht_random_unit(w) < w->config.loss || p->to_slot >= w->slots) {
        w->stats.lost++;
        free(p);
        return;
    }
    /* Each pair has its own distance, and each datagram its own luck. */
    uint64_t low = MVPN_MIN(from->slot, p->to_slot), high = MVPN_MAX(from->slot, p->to_slot);
    uint64_t pair = mix(w->config.seed ^ mix(low << 32 | high));
    double part = 0.5 + (double)(pair >> 11) * 0x1p-53 + 0.1 * (dht_random_unit(w) - 0.5);
    p->timer.kind = (int)kind;
    mvpn_timer_set(&w->timers, &p->timer,
                   w->now + 1 + from->lag + w->node[p->to_slot].lag +
                       (mvpn_time)(part * (double)w->config.rtt / 2));
    w->packets++;
}

static void request_send(dht_node *from, const mvpn_dht_contact *to, uint64_t transaction,
                         const mvpn_dht_request *r, bool wants_certificate, bool has_claim,
                         size_t reply_room)
{
    uint8_t body[MVPN_DHT_BODY_MAX];
    uint32_t slot = mvpn_load32(to->link_key.b), serial = mvpn_load32(to->link_key.b + 4);
    size_t keys = (size_t)r->key_count * sizeof(mvpn_dht_id);
    size_t record = r->command == MVPN_CMD_DHT_STORE ? r->record.n : 0;
    packet *p = packet_new(from, slot, serial, keys + record);
    size_t len = MVPN_DHT_REQUEST_HEADER_LEN + MVPN_DHT_MAC_LEN + NOISE_LEN + ASK_LEN;
    len += mvpn_dht_request_encode(body, sizeof(body), r);
    len += has_claim ? CLAIM_LEN : 0;
    len += r->command == MVPN_CMD_DHT_STORE ? record_lacks(record) : 0;
    p->transaction = transaction;
    p->command = r->command;
    p->target = r->target;
    p->bits = r->bits;
    p->type = r->type;
    p->count = r->key_count;
    p->record_len = (uint16_t)record;
    memcpy(p->tail, r->keys, keys);
    if (record > 0) {
        memcpy(p->tail + keys, r->record.p, record);
    }
    p->is_proven = from->mind != DHT_HONEST || token_is_known(from, serial);
    p->has_claim = has_claim;
    p->has_certificate = wants_certificate;
    MVPN_ASSERT(len <= datagram_max(&to->addr));
    p->len = (uint16_t)(p->is_proven
                            ? len
                            : MVPN_MAX(len, padded_len(&to->addr, wants_certificate, reply_room)));
    packet_send(from, p, TIMER_REQUEST, to->addr.family, r->command == MVPN_CMD_DHT_FIND_VALUE);
}

void dht_world_send(dht_node *from, const mvpn_dht_contact *to, const mvpn_dht_request *request,
                    bool has_claim)
{
    request_send(from, to, dht_random(from->world), request, false, has_claim, MVPN_DHT_BODY_MAX);
}

/* How many of the contacts a body of this length holds. */
static size_t contacts_in(const mvpn_dht_reply *r, size_t len)
{
    size_t count = 0, used = 2;
    while (count < r->contact_count) {
        used += r->contacts[count].addr.family == 4 ? MVPN_DHT_CONTACT4_LEN : MVPN_DHT_CONTACT6_LEN;
        if (used > len) {
            break;
        }
        count++;
    }
    return count;
}

static void reply_send(dht_node *from, const packet *request, const mvpn_dht_reply *r)
{
    uint8_t body[MVPN_DHT_BODY_MAX];
    bool is_vouched = from->mind == DHT_HONEST || !from->world->config.is_closed;
    bool has_certificate = request->has_certificate && is_vouched;
    size_t room = datagram_max(&request->from.addr);
    if (!request->is_proven) {
        room = MVPN_MIN(room, request->len);
    }
    size_t lacks = r->command == MVPN_CMD_DHT_VALUE ? record_lacks(r->record.n) : 0;
    size_t fixed = 0, len = 0;
    do {
        fixed = MVPN_DHT_REPLY_HEADER_LEN + NOISE_LEN + lacks +
                mvpn_dht_answer_overhead(has_certificate, has_certificate);
        len =
            room > fixed ? mvpn_dht_reply_encode(body, MVPN_MIN(room - fixed, sizeof(body)), r) : 0;
        if (len > 0 || !has_certificate) {
            break;
        }
        has_certificate = false; /* the answer matters more than who gave it */
    } while (true);
    if (len == 0) { /* it is asked for again, with the token that comes along */
        static const mvpn_dht_reply come_again = {.command = MVPN_CMD_DHT_ERROR,
                                                  .status = MVPN_DHT_ERROR_TOKEN};
        r = &come_again;
        len = 1;
        fixed = MVPN_DHT_REPLY_HEADER_LEN + NOISE_LEN + mvpn_dht_answer_overhead(false, false);
    }
    bool is_nodes = r->command == MVPN_CMD_DHT_NODES, is_listed = r->command == MVPN_CMD_DHT_LISTED;
    size_t count = is_nodes ? contacts_in(r, len) : is_listed ? (len - 5) / 28 : 0;
    size_t list = is_nodes    ? count * sizeof(r->contacts[0])
                  : is_listed ? count * sizeof(r->listed[0])
                              : 0;
    size_t record =
        r->command == MVPN_CMD_DHT_VALUE || r->command == MVPN_CMD_DHT_FETCHED ? r->record.n : 0;
    packet *p = packet_new(from, mvpn_load32(request->from.link_key.b), request->from_serial,
                           list + record);
    p->transaction = request->transaction;
    p->command = r->command;
    p->len = (uint16_t)(fixed + len);
    p->has_certificate = has_certificate;
    p->time = r->time;
    p->observed = r->observed;
    p->status = r->status;
    p->type = r->type;
    p->more = r->more || (is_listed && count < r->listed_count);
    p->total = r->total;
    p->count = (uint8_t)count;
    p->record_len = (uint16_t)record;
    if (list > 0) {
        memcpy(p->tail, is_nodes ? (const void *)r->contacts : (const void *)r->listed, list);
    }
    if (record > 0) {
        memcpy(p->tail + list, r->record.p, record);
    }
    packet_send(from, p, TIMER_REPLY, request->from.addr.family,
                request->command == MVPN_CMD_DHT_FIND_VALUE);
}

static void request_arrived(dht_world *w, dht_node *to, const packet *p)
{
    mvpn_dht_asker asker = {
        .addr = p->from.addr, .is_proven = p->is_proven, .has_claim = p->has_claim && p->is_proven};
    mvpn_dht_request *r = &w->request;
    mvpn_dht_reply *reply = &w->reply;
    size_t keys = p->count * sizeof(mvpn_dht_id);
    if (asker.has_claim) {
        asker.claim = p->from;
    }
    r->command = p->command;
    r->target = p->target;
    r->bits = p->bits;
    r->type = p->type;
    r->key_count = p->count;
    memcpy(r->keys, p->tail, keys);
    r->record = mvpn_bytes_of(p->tail + keys, p->record_len);
    if (to->mind != DHT_HONEST) {
        if (dht_foe_answer(to, p->from_serial, &asker, r, reply)) {
            reply_send(to, p, reply);
        }
        return;
    }
    if (to->dht == NULL) {
        return;
    }
    if (mvpn_dht_request_in(to->dht, &asker, r, w->now, reply) == 0) {
        reply_send(to, p, reply);
    }
    dht_world_touch(to);
}

static void reply_arrived(dht_world *w, dht_node *to, const packet *p)
{
    mvpn_dht_reply *r = &w->reply;
    size_t list = 0;
    if (to->dht == NULL) {
        return;
    }
    r->command = p->command;
    r->time = p->time;
    r->observed = p->observed;
    r->contact_count = 0;
    r->listed_count = 0;
    if (p->command == MVPN_CMD_DHT_NODES) {
        r->contact_count = p->count;
        list = p->count * sizeof(r->contacts[0]);
        memcpy(r->contacts, p->tail, list);
    } else if (p->command == MVPN_CMD_DHT_LISTED) {
        r->listed_count = p->count;
        list = p->count * sizeof(r->listed[0]);
        memcpy(r->listed, p->tail, list);
    }
    r->status = p->status;
    r->type = p->type;
    r->more = p->more;
    r->total = p->total;
    r->record = mvpn_bytes_of(p->tail + list, p->record_len);
    token_keep(to, p->from_serial);
    mvpn_dht_reply_in(to->dht, p->transaction, r, p->has_certificate, w->now);
    dht_world_touch(to);
}

static void packet_arrived(dht_world *w, packet *p)
{
    dht_node *to = node_at(w, p->to_slot, p->to_serial);
    w->packets--;
    if (to != NULL && !(w->is_split && p->side != to->side)) {
        if (p->timer.kind == TIMER_REQUEST) {
            request_arrived(w, to, p);
        } else {
            reply_arrived(w, to, p);
        }
    }
    free(p);
}

/* ---- nodes ---- */

static void lookup_ended(dht_node *n, const mvpn_dht_event *e)
{
    dht_stats *s = &n->world->stats;
    dht_lookup **at = &n->lookups;
    while (*at != NULL && (*at)->op != e->op) {
        at = &(*at)->next;
    }
    if (*at == NULL) {
        return;
    }
    dht_lookup *l = *at;
    *at = l->next;
    if (e->type != MVPN_DHT_EVENT_VALUE) {
        s->missing++;
    } else if (e->sequence < l->sequence) {
        s->stale++;
    } else {
        if (s->succeeded == s->hops_size) {
            s->hops_size = s->hops_size == 0 ? 4096 : 2 * s->hops_size;
            s->hops = need(realloc(s->hops, s->hops_size * sizeof(*s->hops)));
            s->took_us = need(realloc(s->took_us, s->hops_size * sizeof(*s->took_us)));
        }
        s->hops[s->succeeded] = (uint8_t)MVPN_MIN(e->hops, 255u);
        s->took_us[s->succeeded] = (uint32_t)MVPN_MIN(e->took, UINT32_MAX);
        s->succeeded++;
    }
    free(l);
}

static void event_handle(dht_node *n, const mvpn_dht_event *e)
{
    dht_world *w = n->world;
    if (e->type == MVPN_DHT_EVENT_JOINED) {
        n->has_joined = true;
        if (w->is_churning && n->published == 0) {
            dht_world_publish(n);
        }
    } else if (e->type == MVPN_DHT_EVENT_VALUE || e->type == MVPN_DHT_EVENT_NOT_FOUND) {
        lookup_ended(n, e);
    }
    if (w->on_event != NULL) {
        w->on_event(w, n, e);
    }
}

void dht_world_touch(dht_node *n)
{
    dht_world *w = n->world;
    if (n->dht == NULL) {
        return;
    }
    while (mvpn_dht_pull_request(n->dht, &w->out)) {
        if (w->out.request.command == MVPN_CMD_DHT_STORE) {
            MVPN_ASSERT(w->out.request.record.p == w->out.record);
        }
        request_send(n, &w->out.to, w->out.transaction, &w->out.request, w->out.wants_certificate,
                     w->out.has_claim, w->out.reply_room);
    }
    while (mvpn_dht_pull_event(n->dht, &w->event)) {
        event_handle(n, &w->event);
    }
    mvpn_time at = mvpn_dht_deadline(n->dht);
    mvpn_timer_set(&w->timers, &n->timer, at == MVPN_TIME_NEVER ? at : MVPN_MAX(at, w->now + 1));
}

static void life_begin(dht_node *n)
{
    dht_world *w = n->world;
    if (n->is_immortal || w->config.session_min <= 0 || n->mind != DHT_HONEST) {
        return;
    }
    double mean_us = w->config.session_min * 60e6 / log(2);
    double span = -log(1 - dht_random_unit(w)) * mean_us;
    mvpn_timer_set(&w->timers, &n->life, w->now + (mvpn_time)span + 1);
}

static void resign_begin(dht_node *n)
{
    dht_world *w = n->world;
    mvpn_time span = w->config.resign;
    if (span > 0) {
        mvpn_timer_set(&w->timers, &n->resign, w->now + span / 2 + random_time(w, span));
    }
}

void dht_world_publish(dht_node *n)
{
    dht_world *w = n->world;
    uint8_t record[DHT_RECORD_LEN];
    if (n->dht == NULL || w->config.verify != NULL) {
        return;
    }
    n->sequence++;
    n->published_before = n->published;
    n->published = w->now;
    dht_world_record(w, n->serial, n->sequence, unix_of(w->now) + RECORD_LIFE_S, record);
    MVPN_ASSERT(
        mvpn_dht_publish(n->dht, MVPN_RECORD_DESCRIPTOR, MVPN_BYTES_ARRAY(record), w->now) == 0);
    resign_begin(n);
    dht_world_touch(n);
}

static void core_begin(dht_node *n)
{
    dht_world *w = n->world;
    mvpn_dht_config c = {
        .rng = &w->rng,
        .verify = w->config.verify != NULL ? w->config.verify : verify_record,
        .verify_ctx = w->config.verify != NULL ? w->config.verify_ctx : w,
        .unix_offset_us = (int64_t)(DHT_UNIX * MVPN_US_PER_S) - (int64_t)START,
        .is_server = true,
        .self = n->self,
    };
    MVPN_ASSERT(mvpn_dht_new(&c, w->now, &n->dht) == 0);
    for (size_t i = 0; i < MVPN_MIN(w->entries, (size_t)3); i++) {
        size_t slot = dht_random(w) % MVPN_MIN(w->entries, w->alive);
        if (slot != n->slot) {
            mvpn_dht_add_contact(n->dht, &w->node[slot].self, w->now);
        }
    }
    dht_world_touch(n);
}

/* A new node in a slot that is empty, or beyond the last. */
static void node_begin(dht_world *w, size_t slot, bool is_foe)
{
    dht_node *n = &w->node[slot];
    mvpn_addr addr;
    mvpn_ed25519_pub identity;
    *n = (dht_node){
        .timer.kind = TIMER_CORE,
        .life.kind = TIMER_LIFE,
        .resign.kind = TIMER_RESIGN,
        .world = w,
        .slot = (uint32_t)slot,
        .serial = ++w->serials,
        .sequence = 1,
        .born = w->now,
        .side = n->side,
        .is_immortal = slot < w->entries,
    };
    w->alive = MVPN_MAX(w->alive, slot + 1);
    w->stats.joins++;
    for (size_t i = 0; i < sizeof(identity.b); i += 8) {
        mvpn_store64(identity.b + i, dht_random(w));
    }
    dht_random_address(w, dht_random_unit(w) < w->config.v6, &addr);
    n->lag = slot >= w->entries && dht_random_unit(w) < w->config.lagging ? w->config.lag : 0;
    dht_world_place(n, &addr, &identity);
    if (is_foe) {
        dht_foe_begin(n, (enum dht_mind)(DHT_HONEST + 1 + slot % (DHT_MINDS - 1)));
        return;
    }
    core_begin(n);
    if (w->is_churning) {
        life_begin(n);
    }
}

static void node_end(dht_node *n)
{
    dht_world *w = n->world;
    while (n->lookups != NULL) {
        dht_lookup *l = n->lookups;
        n->lookups = l->next;
        free(l);
        w->stats.gone++;
    }
    mvpn_timer_clear(&w->timers, &n->timer);
    mvpn_timer_clear(&w->timers, &n->life);
    mvpn_timer_clear(&w->timers, &n->resign);
    mvpn_dht_free(n->dht);
    free(n->tokens);
    n->dht = NULL;
    n->tokens = NULL;
    w->stats.leaves++;
}

void dht_world_replace(dht_world *w, size_t slot)
{
    node_end(&w->node[slot]);
    node_begin(w, slot, false);
}

static void life_ended(dht_node *n)
{
    dht_world *w = n->world;
    uint8_t record[DHT_RECORD_LEN];
    uint32_t op = 0;
    if (n->is_leaving || n->published == 0 || dht_random_unit(w) >= w->config.clean) {
        dht_world_replace(w, n->slot);
        return;
    }
    n->is_leaving = true;
    dht_world_record(w, n->serial, n->sequence + 1, unix_of(w->now) + RECORD_LIFE_S, record);
    (void)!mvpn_dht_store(n->dht, MVPN_RECORD_DESCRIPTOR, MVPN_BYTES_ARRAY(record), w->now, &op);
    mvpn_timer_set(&w->timers, &n->life, w->now + LEAVING);
    dht_world_touch(n);
}

/* ---- the world ---- */

void dht_world_defaults(dht_world_config *config)
{
    *config = (dht_world_config){
        .seed = 1,
        .nodes = 1000,
        .session_min = 60,
        .clean = 0.2,
        .v6 = 0.1,
        .rtt = MVPN_MS(50),
        .resign = MVPN_S(3600),
        .warm = MVPN_S(300),
    };
}

dht_world *dht_world_new(const dht_world_config *config, size_t foes)
{
    dht_world *w = need(calloc(1, sizeof(*w)));
    w->config = *config;
    w->now = START;
    w->random = mix(config->seed + 1);
    mvpn_rng_init_test(&w->rng, config->seed);
    mvpn_rng_bytes(&w->rng, w->key.b, sizeof(w->key.b));
    MVPN_ASSERT(mvpn_timers_init(&w->timers, 4096) == 0);
    w->nodes_target = config->nodes;
    w->slots = config->nodes + foes;
    w->node = need(calloc(w->slots, sizeof(*w->node)));
    w->foe = need(calloc(w->slots, sizeof(*w->foe)));
    w->join.kind = TIMER_JOIN;
    w->ask.kind = TIMER_ASK;
    w->entries = MVPN_MIN(config->nodes, 3 + config->nodes / 1000);
    w->stats.since = w->now;
    return w;
}

void dht_world_free(dht_world *w)
{
    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < w->alive; i++) {
        node_end(&w->node[i]);
    }
    mvpn_timer *t = NULL;
    while ((t = mvpn_timers_pop(&w->timers, MVPN_TIME_NEVER - 1)) != NULL) {
        if (t->kind == TIMER_REQUEST || t->kind == TIMER_REPLY) {
            free(MVPN_CONTAINER_OF(t, packet, timer));
        }
    }
    mvpn_timers_done(&w->timers);
    free(w->stats.took_us);
    free(w->stats.hops);
    free(w->foe);
    free(w->node);
    free(w);
}

static void join_next(dht_world *w)
{
    if (w->alive >= w->nodes_target) {
        return;
    }
    bool is_foe = w->alive >= w->entries && dht_random_unit(w) < w->config.hostile;
    node_begin(w, w->alive, is_foe);
    double rate = MVPN_MAX(JOIN_LEAST, (double)w->alive * JOIN_SHARE);
    mvpn_timer_set(&w->timers, &w->join, w->now + (mvpn_time)(1e6 / rate) + 1);
}

static void ask_next(dht_world *w)
{
    dht_node *asker = dht_world_pick(w, false);
    const dht_node *owner = dht_world_pick(w, true);
    if (asker != NULL && owner != NULL && asker != owner && dht_world_lookup(w, asker, owner)) {
        w->asks_left--;
    }
    if (w->asks_left > 0) {
        mvpn_timer_set(&w->timers, &w->ask, w->now + w->ask_every);
    }
}

static void timer_fired(dht_world *w, mvpn_timer *t)
{
    dht_node *n = NULL;
    w->stats.events++;
    switch ((enum timer_kind)t->kind) {
    case TIMER_REQUEST:
    case TIMER_REPLY:
        packet_arrived(w, MVPN_CONTAINER_OF(t, packet, timer));
        break;
    case TIMER_CORE:
        n = MVPN_CONTAINER_OF(t, dht_node, timer);
        if (n->mind != DHT_HONEST) {
            dht_foe_push(n);
        } else {
            mvpn_dht_tick(n->dht, w->now);
            dht_world_touch(n);
        }
        break;
    case TIMER_LIFE:
        life_ended(MVPN_CONTAINER_OF(t, dht_node, life));
        break;
    case TIMER_RESIGN:
        n = MVPN_CONTAINER_OF(t, dht_node, resign);
        if (!n->is_leaving) {
            dht_world_publish(n);
        }
        break;
    case TIMER_JOIN:
        join_next(w);
        break;
    case TIMER_ASK:
        ask_next(w);
        break;
    }
}

void dht_world_run(dht_world *w, mvpn_time until)
{
    while (mvpn_timers_deadline(&w->timers) <= until) {
        w->now = MVPN_MAX(w->now, mvpn_timers_deadline(&w->timers));
        timer_fired(w, mvpn_timers_pop(&w->timers, w->now));
    }
    w->now = until;
}

void dht_world_for(dht_world *w, mvpn_time span)
{
    dht_world_run(w, w->now + span);
}

void dht_world_start(dht_world *w)
{
    join_next(w);
    while (w->alive < w->nodes_target) {
        dht_world_for(w, MVPN_S(1));
    }
    w->is_churning = true;
    for (size_t i = 0; i < w->alive; i++) {
        dht_node *n = &w->node[i];
        if (n->mind == DHT_HONEST) {
            life_begin(n);
            mvpn_timer_set(&w->timers, &n->resign,
                           w->now + MVPN_S(20) + random_time(w, w->config.warm / 2));
        }
    }
    dht_world_for(w, w->config.warm);
    dht_world_reset(w);
}

void dht_world_reset(dht_world *w)
{
    free(w->stats.took_us);
    free(w->stats.hops);
    w->stats = (dht_stats){.since = w->now};
}

dht_node *dht_world_pick(dht_world *w, bool is_owner)
{
    for (size_t tries = 0; tries < 1000; tries++) {
        dht_node *n = &w->node[dht_random(w) % w->alive];
        if (n->mind != DHT_HONEST || !n->has_joined || n->is_leaving) {
            continue;
        }
        if (!is_owner || (n->published != 0 && (n->published + DHT_PUBLISHED_AGO <= w->now ||
                                                n->published_before != 0))) {
            return n;
        }
    }
    return NULL;
}

bool dht_world_lookup(dht_world *w, dht_node *asker, const dht_node *owner)
{
    uint32_t op = 0;
    if (mvpn_dht_lookup(asker->dht, &owner->key, w->now, &op) != 0) {
        return false;
    }
    dht_lookup *l = need(malloc(sizeof(*l)));
    bool is_settled = owner->published + DHT_PUBLISHED_AGO <= w->now;
    *l = (dht_lookup){
        .next = asker->lookups,
        .op = op,
        .sequence = is_settled ? owner->sequence : owner->sequence - 1,
    };
    asker->lookups = l;
    w->stats.lookups++;
    dht_world_touch(asker);
    return true;
}

void dht_world_lookups(dht_world *w, size_t lookups, mvpn_time span)
{
    w->asks_left = lookups;
    w->ask_every = MVPN_MAX(span / MVPN_MAX(lookups, (size_t)1), (mvpn_time)1);
    if (lookups > 0) {
        mvpn_timer_set(&w->timers, &w->ask, w->now + 1);
    }
    dht_world_for(w, span + LAST_LOOKUPS);
    mvpn_timer_clear(&w->timers, &w->ask);
}

void dht_world_split(dht_world *w, bool is_split)
{
    w->is_split = is_split;
}

/* ---- figures ---- */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int compare_u8(const void *a, const void *b)
{
    return *(const uint8_t *)a - *(const uint8_t *)b;
}

void dht_world_figures(dht_world *w, dht_figures *ret)
{
    dht_stats *s = &w->stats;
    dht_figures f = {0};
    size_t honest = 0;
    uint64_t judged = s->lookups - s->gone;
    for (size_t i = 0; i < w->alive; i++) {
        if (w->node[i].dht != NULL) {
            mvpn_dht_status status;
            mvpn_dht_get_status(w->node[i].dht, &status);
            f.memory_per_node += (double)status.memory;
            f.contacts_per_node += (double)status.contacts;
            honest++;
        }
    }
    if (honest > 0) {
        f.memory_per_node /= (double)honest;
        f.contacts_per_node /= (double)honest;
        double node_s = (double)honest * (double)(w->now - s->since + 1) / 1e6;
        f.bytes_per_node_s = (double)s->bytes / node_s;
        f.upkeep_per_node_s = (double)(s->bytes - s->lookup_bytes) / node_s;
    }
    f.bytes_per_lookup = s->lookups > 0 ? (double)s->lookup_bytes / (double)s->lookups : 0;
    f.success = judged > 0 ? (double)s->succeeded / (double)judged : 0;
    if (s->succeeded > 0) {
        size_t n = s->succeeded;
        qsort(s->took_us, n, sizeof(*s->took_us), compare_u32);
        qsort(s->hops, n, sizeof(*s->hops), compare_u8);
        f.latency_ms_p50 = s->took_us[n / 2] / 1e3;
        f.latency_ms_p95 = s->took_us[n * 95 / 100] / 1e3;
        f.hops_median = s->hops[n / 2];
        for (size_t i = 0; i < n; i++) {
            f.hops_mean += s->hops[i];
        }
        f.hops_mean /= (double)n;
    }
    *ret = f;
}
