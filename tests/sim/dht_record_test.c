/*
 * What a server of the DHT lets in: real descriptors judged by mvpn_record_verify. Every bad record
 * is offered to every node, by strangers with a valid token. (docs/protocol.md §8, §11.4)
 */
#include <string.h>

#include "crypto/x25519.h"
#include "dht_world.h"
#include "scenario.h"
#include "wire/message.h"

#define NODES 30
#define ROLES (MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_DHT_SERVER)
#define HOUR 3600
/* Bytes that a record may have in a request, and some more. */
#define RECORD_ROOM 1200

typedef struct realm {
    mvpn_rng rng;
    mvpn_trust trust;
    mvpn_ed25519_secret secret;
} realm;

typedef struct person {
    mvpn_ed25519_pub identity;
    mvpn_ed25519_secret secret;
    mvpn_x25519_pair link, onion;
} person;

static void person_make(realm *r, person *ret)
{
    mvpn_ed25519_generate(&ret->identity, &ret->secret, &r->rng);
    mvpn_x25519_generate(&ret->link, &r->rng);
    mvpn_x25519_generate(&ret->onion, &r->rng);
}

static void realm_make(realm *r, uint64_t seed)
{
    memset(r, 0, sizeof(*r));
    mvpn_rng_init_test(&r->rng, seed);
    mvpn_ed25519_generate(&r->trust.network_pub, &r->secret, &r->rng);
    mvpn_network_id(&r->trust.network_id, &r->trust.network_pub);
    r->trust.closed = true;
}

static int judge(void *ctx, unsigned type, mvpn_bytes record, uint64_t unix_now,
                 mvpn_record_info *ret)
{
    const realm *r = ctx;
    return mvpn_record_verify(&r->trust, type, record, unix_now, ret, NULL);
}

/* What may be wrong with a descriptor. */
enum flaw {
    FLAW_NONE,
    FLAW_EXPIRED,
    FLAW_NOT_YET,
    FLAW_UNCERTIFIED,
    FLAW_OTHER_NETWORK_KEY,
    FLAW_OTHERS_MEMBERSHIP,
    FLAW_MORE_ROLES,
    FLAW_MEMBERSHIP_EXPIRED,
    FLAW_REVOKED,
    FLAW_OTHERS_SIGNATURE,
    FLAW_OTHERS_LINK_CERTIFICATE,
    FLAW_OTHER_NETWORK,
    FLAWS,
};

static const char *const flaw_names[FLAWS] = {
    "good",
    "expired",
    "not valid yet",
    "without a membership certificate",
    "a membership certificate by another key",
    "a membership certificate of somebody else",
    "more roles than certified",
    "an expired membership certificate",
    "revoked",
    "signed by somebody else",
    "a link certificate of somebody else",
    "of another network",
};

#define SERIAL_REVOKED 666

static void make(realm *r, const person *p, const person *other, enum flaw flaw, uint64_t sequence,
                 mvpn_descriptor *ret)
{
    uint64_t now = DHT_UNIX;
    uint64_t serial = flaw == FLAW_REVOKED ? SERIAL_REVOKED : 1;
    uint16_t certified = flaw == FLAW_MORE_ROLES ? MVPN_ROLE_MIDDLE : ROLES;
    const person *certified_for = flaw == FLAW_OTHERS_MEMBERSHIP ? other : p;
    const person *link_of = flaw == FLAW_OTHERS_LINK_CERTIFICATE ? other : p;
    mvpn_key network_id = r->trust.network_id;
    if (flaw == FLAW_OTHER_NETWORK) {
        network_id.b[0] ^= 1;
    }
    *ret = (mvpn_descriptor){
        .identity = p->identity,
        .sequence = sequence,
        .published = flaw == FLAW_NOT_YET ? now + HOUR : now - 2 * HOUR,
        .expires = flaw == FLAW_EXPIRED ? now - HOUR : now + 4 * HOUR,
        .onion_key_count = 1,
        .onion_keys = {{1, p->onion.pub}},
        .address_count = 1,
        .addresses = {{MVPN_CARRIER_PLAIN, {.family = 4, .port = 443, .ip = {45, 10, 7, 1}}}},
        .roles = ROLES,
        .has_membership = flaw != FLAW_UNCERTIFIED,
    };
    mvpn_link_certificate_make(ret->link_certificate, &link_of->secret, &link_of->identity,
                               &p->link.pub, now - 10 * HOUR, now + 10 * HOUR, &network_id);
    mvpn_membership_make(
        ret->membership, flaw == FLAW_OTHER_NETWORK_KEY ? &other->secret : &r->secret,
        &certified_for->identity, certified, now - 10 * HOUR,
        flaw == FLAW_MEMBERSHIP_EXPIRED ? now - HOUR : now + 10 * HOUR, serial, &network_id);
    /* The certificates stand in the record without their identity: whose they are is for the
     * reader to see. */
    memcpy(ret->link_certificate, p->identity.b, sizeof(p->identity.b));
    memcpy(ret->membership, p->identity.b, sizeof(p->identity.b));
    CHECK(mvpn_descriptor_sign(ret, flaw == FLAW_OTHERS_SIGNATURE ? &other->secret : &p->secret,
                               &network_id) == 0);
}

static size_t holders(const dht_world *w, const mvpn_dht_id *key, mvpn_bytes record)
{
    size_t count = 0;
    for (size_t i = 0; i < w->alive; i++) {
        uint8_t type = 0;
        mvpn_bytes held;
        if (mvpn_dht_stored(w->node[i].dht, key, &type, &held) && held.n == record.n &&
            memcmp(held.p, record.p, record.n) == 0) {
            count++;
        }
    }
    return count;
}

static size_t records(const dht_world *w)
{
    size_t count = 0;
    for (size_t i = 0; i < w->alive; i++) {
        mvpn_dht_status s;
        mvpn_dht_get_status(w->node[i].dht, &s);
        count += s.records;
    }
    return count;
}

/* The status that one node answers a Store with, from a fresh address; -1: something else. */
static int offer(dht_world *w, dht_node *n, unsigned type, mvpn_bytes record, bool is_proven)
{
    mvpn_dht_asker asker = {.is_proven = is_proven};
    mvpn_dht_request r = {.command = MVPN_CMD_DHT_STORE, .type = (uint8_t)type, .record = record};
    mvpn_dht_reply reply;
    dht_random_address(w, false, &asker.addr);
    if (mvpn_dht_request_in(n->dht, &asker, &r, w->now, &reply) != 0 ||
        reply.command != MVPN_CMD_DHT_STORED) {
        return -1;
    }
    return reply.status;
}

static void only_good_records_are_kept(uint64_t seed)
{
    static realm r;
    static person owner, other;
    static mvpn_descriptor good, newer, bad;
    static uint8_t altered[RECORD_ROOM];
    dht_world_config c;
    mvpn_dht_id key;
    uint32_t op = 0;
    size_t offered = 0;
    realm_make(&r, seed);
    person_make(&r, &owner);
    person_make(&r, &other);
    r.trust.revocations = (mvpn_revocations){
        .sequence = 1, .published = DHT_UNIX - HOUR, .count = 1, .serials = {SERIAL_REVOKED}};
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = NODES;
    c.session_min = 0;
    c.warm = MVPN_S(30);
    c.verify = judge;
    c.verify_ctx = &r;
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);

    make(&r, &owner, &other, FLAW_NONE, 10, &good);
    make(&r, &owner, &other, FLAW_NONE, 11, &newer);
    mvpn_bytes record = mvpn_bytes_of(good.encoded, good.encoded_len);
    mvpn_record_key(key.b, &r.trust.network_id, &owner.identity);
    REQUIRE(mvpn_dht_store(w->node[1].dht, MVPN_RECORD_DESCRIPTOR, record, w->now, &op) == 0,
            return );
    dht_world_touch(&w->node[1]);
    dht_world_for(w, MVPN_S(10));
    size_t held = holders(w, &key, record), all = records(w);
    say("a good record of %zu bytes is held by %zu of %d nodes", record.n, held, NODES);
    CHECK(held >= 15 && all == held);

    for (enum flaw flaw = FLAW_NONE + 1; flaw < FLAWS; flaw++) {
        check_context("%s", flaw_names[flaw]);
        make(&r, &owner, &other, flaw, 12, &bad);
        for (size_t i = 0; i < w->alive; i++, offered++) {
            CHECK(offer(w, &w->node[i], MVPN_RECORD_DESCRIPTOR,
                        mvpn_bytes_of(bad.encoded, bad.encoded_len),
                        true) == MVPN_DHT_STORED_REFUSED);
        }
    }
    for (size_t bit = 0; bit < (size_t)newer.encoded_len * 8; bit++, offered++) {
        check_context("bit %zu", bit);
        memcpy(altered, newer.encoded, newer.encoded_len);
        altered[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(offer(w, &w->node[bit % w->alive], MVPN_RECORD_DESCRIPTOR,
                    mvpn_bytes_of(altered, newer.encoded_len), true) == MVPN_DHT_STORED_REFUSED);
    }
    memset(altered, 0, sizeof(altered));
    memcpy(altered, newer.encoded, newer.encoded_len);
    for (size_t n = 0; n <= RECORD_ROOM; n++, offered++) {
        check_context("%zu bytes", n);
        if (n != newer.encoded_len) {
            CHECK(offer(w, &w->node[n % w->alive], MVPN_RECORD_DESCRIPTOR,
                        mvpn_bytes_of(altered, n), true) != MVPN_DHT_STORED);
        }
    }
    for (unsigned type = 0; type < 256; type++, offered++) {
        check_context("type %u", type);
        if (type != MVPN_RECORD_DESCRIPTOR) {
            CHECK(offer(w, &w->node[type % w->alive], type,
                        mvpn_bytes_of(newer.encoded, newer.encoded_len), true) != MVPN_DHT_STORED);
        }
    }
    check_context("without a token, and older");
    make(&r, &owner, &other, FLAW_NONE, 9, &bad);
    for (size_t i = 0; i < w->alive; i++, offered += 2) {
        CHECK(offer(w, &w->node[i], MVPN_RECORD_DESCRIPTOR,
                    mvpn_bytes_of(newer.encoded, newer.encoded_len), false) == -1);
        mvpn_dht_status s;
        mvpn_dht_get_status(w->node[i].dht, &s);
        if (s.records > 0) {
            CHECK(offer(w, &w->node[i], MVPN_RECORD_DESCRIPTOR,
                        mvpn_bytes_of(bad.encoded, bad.encoded_len), true) == MVPN_DHT_STORED_OLD);
        }
    }
    say("%zu bad offers, none of them kept", offered);
    CHECK(holders(w, &key, record) == held && records(w) == all);

    /* What was altered above is welcome as it is: the offers failed for their flaws alone. */
    check_context("the unaltered one");
    for (size_t i = 0; i < w->alive; i++) {
        CHECK(offer(w, &w->node[i], MVPN_RECORD_DESCRIPTOR,
                    mvpn_bytes_of(newer.encoded, newer.encoded_len), true) == MVPN_DHT_STORED);
    }
    dht_world_free(w);
}

/* Whoever was revoked after its record was stored is stored no longer. */
static void a_revocation_removes(uint64_t seed)
{
    static realm r;
    static person owner, other;
    static mvpn_descriptor d;
    dht_world_config c;
    uint32_t op = 0;
    realm_make(&r, seed);
    person_make(&r, &owner);
    person_make(&r, &other);
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = NODES;
    c.session_min = 0;
    c.warm = MVPN_S(30);
    c.verify = judge;
    c.verify_ctx = &r;
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);
    make(&r, &owner, &other, FLAW_REVOKED, 1, &d);
    REQUIRE(mvpn_dht_store(w->node[1].dht, MVPN_RECORD_DESCRIPTOR,
                           mvpn_bytes_of(d.encoded, d.encoded_len), w->now, &op) == 0,
            return );
    dht_world_touch(&w->node[1]);
    dht_world_for(w, MVPN_S(10));
    CHECK(records(w) >= 15);
    r.trust.revocations = (mvpn_revocations){
        .sequence = 1, .published = DHT_UNIX - HOUR, .count = 1, .serials = {SERIAL_REVOKED}};
    for (size_t i = 0; i < w->alive; i++) {
        mvpn_dht_recheck(w->node[i].dht, w->now);
    }
    CHECK(records(w) == 0);
    dht_world_free(w);
}

static const scenario scenarios[] = {
    {"only_good_records_are_kept", only_good_records_are_kept},
    {"a_revocation_removes", a_revocation_removes},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
