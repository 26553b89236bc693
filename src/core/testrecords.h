/*
 * A closed network on paper, for tests and fuzzers of view and directory: relays, discovery nodes
 * and everything they sign. All keys follow from numbers.
 */
#ifndef MVPN_CORE_TESTRECORDS_H
#define MVPN_CORE_TESTRECORDS_H

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "crypto/x25519.h"
#include "wire/record.h"

/* The clock of these tests: a full hour. */
#define TEST_HOUR 490000u
#define TEST_NOW (TEST_HOUR * 3600ull)
#define TEST_ROLES                                                                                 \
    (MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT | MVPN_ROLE_DHT_SERVER |                  \
     MVPN_ROLE_DISCOVERY)

typedef struct test_network {
    mvpn_ed25519_secret secret;
    mvpn_trust trust;
} test_network;

static inline void test_key_pair(unsigned i, mvpn_ed25519_pub *pub, mvpn_ed25519_secret *secret)
{
    uint8_t seed[32] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i, 77};
    mvpn_ed25519_from_seed(pub, secret, seed);
}

static inline void test_network_make(test_network *net, unsigned number)
{
    *net = (test_network){.trust = {.closed = true}};
    test_key_pair(0x80000000u + number, &net->trust.network_pub, &net->secret);
    mvpn_network_id(&net->trust.network_id, &net->trust.network_pub);
}

/* Serial of relay i's certificate. */
static inline uint64_t test_serial(unsigned i)
{
    return 1000 + i;
}

static inline void test_membership(const test_network *net, unsigned i, uint16_t roles,
                                   uint8_t out[static MVPN_MEMBERSHIP_LEN])
{
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret;
    test_key_pair(i, &pub, &secret);
    mvpn_membership_make(out, &net->secret, &pub, roles, TEST_NOW - 1000000, TEST_NOW + 1000000,
                         test_serial(i), &net->trust.network_id);
}

/* Relay i, unsigned yet: a /16 of its own, all roles, valid for a day. */
static inline mvpn_descriptor test_relay_draft(const test_network *net, unsigned i,
                                               uint64_t sequence)
{
    mvpn_descriptor d = {.sequence = sequence, .roles = TEST_ROLES, .onion_key_count = 1};
    mvpn_ed25519_secret secret;
    mvpn_key link_key = {{(uint8_t)i, (uint8_t)(i >> 8), 3}};
    test_key_pair(i, &d.identity, &secret);
    d.published = TEST_NOW - 100;
    d.expires = TEST_NOW + 86400;
    d.onion_keys[0] = (mvpn_onion_key){1, {{5, (uint8_t)i, (uint8_t)(i >> 8)}}};
    mvpn_link_certificate_make(d.link_certificate, &secret, &d.identity, &link_key, d.published,
                               d.expires, &net->trust.network_id);
    d.address_count = 1;
    d.addresses[0] = (mvpn_descriptor_address){
        MVPN_CARRIER_PLAIN,
        {.family = 4, .port = 443, .ip = {(uint8_t)(20 + i / 256), (uint8_t)i, 1, 1}}};
    d.has_membership = true;
    test_membership(net, i, TEST_ROLES, d.membership);
    return d;
}

static inline void test_relay_sign(const test_network *net, unsigned i, mvpn_descriptor *d)
{
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret;
    test_key_pair(i, &pub, &secret);
    int r = mvpn_descriptor_sign(d, &secret, &net->trust.network_id);
    MVPN_ASSERT(r == 0);
}

static inline mvpn_descriptor test_relay(const test_network *net, unsigned i, uint64_t sequence)
{
    mvpn_descriptor d = test_relay_draft(net, i, sequence);
    test_relay_sign(net, i, &d);
    return d;
}

static inline mvpn_bytes test_record(const mvpn_descriptor *d)
{
    return mvpn_bytes_of(d->encoded, d->encoded_len);
}

static inline mvpn_revocations test_revocations(const test_network *net, uint64_t sequence,
                                                uint64_t serial)
{
    mvpn_revocations list = {.sequence = sequence, .published = TEST_NOW, .count = 1};
    list.serials[0] = serial;
    int r = mvpn_revocations_sign(&list, &net->secret, &net->trust.network_id);
    MVPN_ASSERT(r == 0);
    return list;
}

/* A snapshot under way: entries in any order. */
#define TEST_ENTRIES_MAX 512
typedef struct test_snapshot {
    size_t count;
    mvpn_snapshot_entry entry[TEST_ENTRIES_MAX];
    uint8_t *bytes;
    size_t len;
    mvpn_snapshot_head head;
} test_snapshot;

static inline mvpn_snapshot_entry *test_snapshot_add(const test_network *net, test_snapshot *s,
                                                     const mvpn_descriptor *d)
{
    mvpn_key digest;
    MVPN_ASSERT(s->count < TEST_ENTRIES_MAX);
    mvpn_snapshot_entry *e = &s->entry[s->count++];
    *e = (mvpn_snapshot_entry){.bandwidth_log2 = MVPN_SNAPSHOT_UNMEASURED,
                               .flags = MVPN_SNAPSHOT_ALIVE};
    mvpn_record_key(e->key.b, &net->trust.network_id, &d->identity);
    mvpn_descriptor_digest(&digest, d);
    memcpy(e->digest, digest.b, sizeof(e->digest));
    return e;
}

static inline int test_entry_order(const void *a, const void *b)
{
    return memcmp(a, b, MVPN_DHT_ID_LEN); /* the key comes first */
}

/* Put it in order and sign it as discovery node i. `bytes` is the caller's to free. */
static inline void test_snapshot_sign(const test_network *net, test_snapshot *s, unsigned i,
                                      uint64_t hour)
{
    mvpn_ed25519_secret secret;
    s->head = (mvpn_snapshot_head){.hour = hour, .entries = (uint32_t)s->count};
    test_key_pair(i, &s->head.identity, &secret);
    s->len = MVPN_SNAPSHOT_FIXED + s->count * MVPN_SNAPSHOT_ENTRY_LEN;
    s->bytes = malloc(s->len);
    MVPN_ASSERT(s->bytes != NULL);
    qsort(s->entry, s->count, sizeof(s->entry[0]), test_entry_order);
    mvpn_snapshot_begin(s->bytes, &s->head.identity, hour, (uint32_t)s->count);
    for (size_t k = 0; k < s->count; k++) {
        mvpn_snapshot_entry_encode(s->bytes + MVPN_SNAPSHOT_FIXED + k * MVPN_SNAPSHOT_ENTRY_LEN,
                                   &s->entry[k]);
    }
    s->head.size = (uint32_t)s->len;
    mvpn_snapshot_digest(&s->head.digest, mvpn_bytes_of(s->bytes, s->len));
    s->head.has_membership = true;
    test_membership(net, i, TEST_ROLES, s->head.membership);
    int r = mvpn_snapshot_head_sign(&s->head, &secret, &net->trust.network_id);
    MVPN_ASSERT(r == 0);
}

static inline mvpn_bytes test_head_record(const test_snapshot *s)
{
    return mvpn_bytes_of(s->head.encoded, s->head.encoded_len);
}

static inline mvpn_bytes test_snapshot_bytes(const test_snapshot *s)
{
    return mvpn_bytes_of(s->bytes, s->len);
}

#endif
