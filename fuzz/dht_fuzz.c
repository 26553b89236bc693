/*
 * The Kademlia core: bytes become requests, replies to what it asks, operations of its owner, and
 * time: ([op 1] ...)*.
 */
#include "crypto/rng.h"
#include "dht/dht.h"
#include "fuzz/fuzz.h"
#include "wire/message.h"

#define OUT_MAX 64
#define UNIX 1800000000u

struct run {
    mvpn_dht *dht;
    mvpn_rng rng;
    mvpn_time now;
    uint64_t asked[OUT_MAX]; /* transactions */
    size_t asked_count;
};

/* A record is good if its first byte is even: [flag 1] [key 1] [sequence 1] ... */
static int verify(void *ctx, unsigned type, mvpn_bytes record, uint64_t unix_now,
                  mvpn_record_info *ret)
{
    (void)ctx;
    if (type == 0 || type > MVPN_RECORD_SNAPSHOT_HEAD || record.n < 3 || record.p[0] & 1) {
        return MVPN_E_AUTH;
    }
    memset(ret, 0, sizeof(*ret));
    memset(ret->key.b, record.p[1], sizeof(ret->key.b));
    ret->sequence = record.p[2];
    ret->expires = unix_now + 3600;
    return 0;
}

/* One of 65,536 contacts whose ids fit. */
static mvpn_dht_contact contact(mvpn_reader *in)
{
    uint16_t which = mvpn_read16(in);
    mvpn_ed25519_pub identity = {{0}};
    mvpn_dht_contact c = {.addr = {.family = 4, .port = 7}};
    identity.b[0] = (uint8_t)which;
    identity.b[1] = (uint8_t)(which >> 8);
    mvpn_store32(c.addr.ip, 0x0b000001u + ((uint32_t)which << 9));
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

static void id(mvpn_reader *in, mvpn_dht_id *ret)
{
    memset(ret->b, mvpn_read8(in), sizeof(ret->b));
}

static void request_in(struct run *r, mvpn_reader *in)
{
    static mvpn_dht_request request;
    static mvpn_dht_reply reply;
    static uint8_t body[MVPN_DHT_BODY_MAX];
    uint8_t flags = mvpn_read8(in);
    mvpn_dht_contact from = contact(in);
    uint16_t command = (uint16_t)(MVPN_CMD_DHT_PING + mvpn_read8(in) % 7);
    mvpn_bytes bytes = fuzz_chunk(in, 1100);
    mvpn_dht_asker asker = {.addr = from.addr,
                            .is_proven = flags & 1,
                            .has_claim = flags & 2,
                            .claim = flags & 4 ? contact(in) : from};
    if (mvpn_dht_request_decode(&request, command, bytes) != 0 ||
        mvpn_dht_request_in(r->dht, &asker, &request, r->now, &reply) != 0) {
        return;
    }
    FUZZ_CHECK(reply.contact_count <= MVPN_DHT_K && reply.listed_count <= MVPN_DHT_LISTED_MAX);
    FUZZ_CHECK(command != MVPN_CMD_DHT_STORE || asker.is_proven ||
               reply.command == MVPN_CMD_DHT_ERROR);
    (void)mvpn_dht_reply_encode(body, sizeof(body), &reply);
}

/* A reply as bytes, or built from contacts that fit so that lookups go somewhere. */
static void reply_in(struct run *r, mvpn_reader *in)
{
    static mvpn_dht_reply reply;
    uint8_t flags = mvpn_read8(in), at = mvpn_read8(in);
    if (r->asked_count == 0) {
        return;
    }
    size_t which = at % r->asked_count;
    memset(&reply, 0, sizeof(reply));
    if (flags & 1) {
        uint16_t command = (uint16_t)(MVPN_CMD_DHT_PONG + mvpn_read8(in) % 8);
        mvpn_bytes bytes = fuzz_chunk(in, MVPN_DHT_BODY_MAX);
        if (mvpn_dht_reply_decode(&reply, command, bytes) != 0) {
            return;
        }
    } else if (flags & 2) {
        reply.command = MVPN_CMD_DHT_PONG;
    } else {
        reply.command = MVPN_CMD_DHT_NODES;
        reply.contact_count = mvpn_read8(in) % (MVPN_DHT_K + 1);
        for (size_t i = 0; i < reply.contact_count; i++) {
            reply.contacts[i] = contact(in);
        }
    }
    if (flags & 8) {
        mvpn_dht_reply_failed(r->dht, r->asked[which], r->now);
    } else {
        mvpn_dht_reply_in(r->dht, r->asked[which], &reply, flags & 4, r->now);
    }
    if (!(flags & 16)) { /* else it may be answered again */
        r->asked[which] = r->asked[--r->asked_count];
    }
}

static void operate(struct run *r, mvpn_reader *in)
{
    uint8_t what = mvpn_read8(in) % 8;
    mvpn_dht_contact c = contact(in);
    mvpn_dht_id key;
    uint32_t op;
    id(in, &key);
    switch (what) {
    case 0:
        MVPN_IGNORE(mvpn_dht_find_node(r->dht, &key, r->now, &op)); /* may be too many */
        break;
    case 1:
        MVPN_IGNORE(mvpn_dht_lookup(r->dht, &key, r->now, &op));
        break;
    case 2:
        MVPN_IGNORE(mvpn_dht_store(r->dht, 1, fuzz_chunk(in, 64), r->now, &op));
        break;
    case 3:
        MVPN_IGNORE(mvpn_dht_fetch(r->dht, &c, &key, r->now, &op));
        break;
    case 4:
        MVPN_IGNORE(mvpn_dht_publish(r->dht, 1, fuzz_chunk(in, 64), r->now));
        break;
    case 5:
        mvpn_dht_add_contact(r->dht, &c, r->now);
        break;
    case 6:
        mvpn_dht_forget(r->dht, &c.id);
        break;
    default:
        MVPN_IGNORE(mvpn_dht_set_self(r->dht, &c, r->now));
        break;
    }
}

static void drain(struct run *r, bool pulls_events)
{
    static mvpn_dht_outgoing out;
    static mvpn_dht_event e;
    static uint8_t body[2048];
    while (mvpn_dht_pull_request(r->dht, &out)) {
        FUZZ_CHECK(out.request.command == MVPN_CMD_DHT_PING ||
                   mvpn_dht_request_encode(body, sizeof(body), &out.request) > 0);
        size_t at = r->asked_count < OUT_MAX ? r->asked_count++ : mvpn_rng_below(&r->rng, OUT_MAX);
        r->asked[at] = out.transaction;
    }
    while (pulls_events && mvpn_dht_pull_event(r->dht, &e)) {
        FUZZ_CHECK(e.type != MVPN_DHT_EVENT_NODES || e.count <= MVPN_DHT_K);
        FUZZ_CHECK(e.type != MVPN_DHT_EVENT_VALUE || (e.record[0] & 1) == 0);
    }
}

static void pass(struct run *r, mvpn_time span)
{
    mvpn_time end = r->now + span;
    for (unsigned turns = 0; turns < 2000 && mvpn_dht_deadline(r->dht) <= end; turns++) {
        r->now = mvpn_dht_deadline(r->dht) > r->now ? mvpn_dht_deadline(r->dht) : r->now;
        mvpn_dht_tick(r->dht, r->now);
        drain(r, true);
    }
    r->now = end;
    mvpn_dht_tick(r->dht, r->now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run r;
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    uint8_t kind = mvpn_read8(&in);
    r = (struct run){.now = MVPN_S(1)};
    mvpn_rng_init_test(&r.rng, kind);
    mvpn_dht_config config = {.rng = &r.rng,
                              .verify = verify,
                              .unix_offset_us = (int64_t)UNIX * 1000000,
                              .is_server = kind & 1,
                              .is_walker = kind & 2,
                              .records_max = kind & 4 ? 8 : 0,
                              .self = contact(&in)};
    FUZZ_CHECK(mvpn_dht_new(&config, r.now, &r.dht) == 0);
    for (unsigned steps = 0; fuzz_more(&in) && steps < 400; steps++) {
        uint8_t op = mvpn_read8(&in);
        if (op % 8 < 2) {
            request_in(&r, &in);
        } else if (op % 8 < 5) {
            reply_in(&r, &in);
        } else if (op % 8 < 7) {
            operate(&r, &in);
        } else {
            pass(&r, MVPN_MS(1) << mvpn_read8(&in) % 22);
        }
        drain(&r, op & 0x80);
    }
    mvpn_dht_status s;
    mvpn_dht_get_status(r.dht, &s);
    FUZZ_CHECK(s.memory < 2u << 20); /* everything is bounded */
    mvpn_dht_free(r.dht);
    return 0;
}
