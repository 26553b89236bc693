/*
 * How a relay finds the others, before a DHT that the test plays: servers that list what they do
 * not have, records of others and of our own, revocations, publishing and withdrawing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/error.h"
#include "core/finder.h"
#include "core/testrecords.h"

#define SELF 300   /* our own number among the test's relays */
#define MS 1000ull /* of sequences, in a second */

/* ---- the DHT ---- */

static struct world {
    mvpn_rng rng;
    test_network net;
    mvpn_trust trust;
    mvpn_view *view;
    mvpn_finder *f;
    mvpn_time now;
    mvpn_dht_event events[128];
    size_t event_count, event_next;
    unsigned fetches, publishes, stores, rechecks, contacts_added;
    uint32_t op;
    mvpn_dht_id fetched[256];
    int fetch_result;
    size_t contacts;
    uint8_t record[MVPN_DESCRIPTOR_MAX]; /* published last */
    size_t record_len;
    unsigned record_type;
    mvpn_packet_queue out;
    mvpn_dht_contact self, others[MVPN_DHT_OWN_MAX]; /* the core's, and the exchange's further */
    size_t other_count;
    unsigned selves;
} w;

int mvpn_dht_new(const mvpn_dht_config *config, mvpn_time now, mvpn_dht **ret)
{
    (void)now;
    w.self = config->self;
    *ret = NULL;
    return 0;
}

void mvpn_dht_free(mvpn_dht *dht)
{
    (void)dht;
}

void mvpn_dht_add_contact(mvpn_dht *dht, const mvpn_dht_contact *contact, mvpn_time now)
{
    (void)dht;
    (void)contact;
    (void)now;
    w.contacts_added++;
}

void mvpn_dht_recheck(mvpn_dht *dht, mvpn_time now)
{
    (void)dht;
    (void)now;
    w.rechecks++;
}

int mvpn_dht_store(mvpn_dht *dht, unsigned type, mvpn_bytes record, mvpn_time now, uint32_t *ret_op)
{
    (void)dht;
    (void)now;
    w.stores++;
    w.record_type = type;
    w.record_len = record.n;
    memcpy(w.record, record.p, record.n);
    *ret_op = ++w.op;
    return 0;
}

int mvpn_dht_fetch(mvpn_dht *dht, const mvpn_dht_contact *from, const mvpn_dht_id *key,
                   mvpn_time now, uint32_t *ret_op)
{
    (void)dht;
    (void)from;
    (void)now;
    if (w.fetch_result != 0) {
        return w.fetch_result;
    }
    w.fetched[w.fetches++ % MVPN_ARRAY_LEN(w.fetched)] = *key;
    *ret_op = ++w.op;
    return 0;
}

int mvpn_dht_publish(mvpn_dht *dht, unsigned type, mvpn_bytes record, mvpn_time now)
{
    (void)dht;
    (void)now;
    w.publishes++;
    w.record_type = type;
    w.record_len = record.n;
    memcpy(w.record, record.p, MVPN_MIN(record.n, sizeof(w.record)));
    return 0;
}

bool mvpn_dht_pull_event(mvpn_dht *dht, mvpn_dht_event *ret)
{
    (void)dht;
    if (w.event_next == w.event_count) {
        w.event_next = w.event_count = 0;
        return false;
    }
    *ret = w.events[w.event_next++];
    return true;
}

void mvpn_dht_get_status(const mvpn_dht *dht, mvpn_dht_status *ret)
{
    (void)dht;
    *ret = (mvpn_dht_status){.contacts = w.contacts};
}

void mvpn_dht_set_unix_offset(mvpn_dht *dht, int64_t unix_offset_us)
{
    (void)dht;
    (void)unix_offset_us;
}

int mvpn_dht_set_self(mvpn_dht *dht, const mvpn_dht_contact *self, mvpn_time now)
{
    (void)dht;
    (void)now;
    w.self = *self;
    w.selves++;
    return 0;
}

void mvpn_dht_tick(mvpn_dht *dht, mvpn_time now)
{
    (void)dht;
    (void)now;
}

mvpn_time mvpn_dht_deadline(const mvpn_dht *dht)
{
    (void)dht;
    return MVPN_TIME_NEVER;
}

int mvpn_dht_exchange_new(const mvpn_dht_exchange_config *config, mvpn_time now,
                          mvpn_dht_exchange **ret)
{
    (void)now;
    memcpy(w.others, config->others, config->other_count * sizeof(w.others[0]));
    w.other_count = config->other_count;
    *ret = NULL;
    return 0;
}

void mvpn_dht_exchange_free(mvpn_dht_exchange *x)
{
    (void)x;
}

void mvpn_dht_exchange_set_unix_offset(mvpn_dht_exchange *x, int64_t unix_offset_us)
{
    (void)x;
    (void)unix_offset_us;
}

void mvpn_dht_exchange_set_self(mvpn_dht_exchange *x, const mvpn_dht_contact *self,
                                const mvpn_dht_contact *others, size_t other_count, mvpn_time now)
{
    (void)x;
    (void)now;
    assert_true(mvpn_addr_eq(&self->addr, &w.self.addr));
    memcpy(w.others, others, other_count * sizeof(*others));
    w.other_count = other_count;
}

int mvpn_dht_exchange_recv(mvpn_dht_exchange *x, mvpn_packet *packet, mvpn_time now)
{
    (void)x;
    (void)packet;
    (void)now;
    return 0;
}

mvpn_packet_queue *mvpn_dht_exchange_out(mvpn_dht_exchange *x)
{
    (void)x;
    return &w.out;
}

void mvpn_dht_exchange_tick(mvpn_dht_exchange *x, mvpn_time now)
{
    (void)x;
    (void)now;
}

void mvpn_dht_exchange_flush(mvpn_dht_exchange *x, mvpn_time now)
{
    (void)x;
    (void)now;
}

mvpn_time mvpn_dht_exchange_deadline(const mvpn_dht_exchange *x)
{
    (void)x;
    return MVPN_TIME_NEVER;
}

/* ---- the relay ---- */

static mvpn_dht_contact server(unsigned i)
{
    return (mvpn_dht_contact){
        .addr = {.family = 4, .port = 443, .ip = {70, (uint8_t)(i >> 8), (uint8_t)i, 1}}};
}

/* With this template, or as one that publishes nothing. */
static void start_with(const mvpn_descriptor *template)
{
    mvpn_ed25519_secret secret;
    mvpn_ed25519_pub identity;
    mvpn_addr own[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    bool is_behind_nat = template != NULL && template->address_count == 0;
    for (size_t i = 0; template != NULL && i < template->address_count; i++) {
        own[i] = template->addresses[i].addr;
    }
    test_key_pair(SELF, &identity, &secret);
    mvpn_finder_config c = {
        .rng = &w.rng,
        .view = w.view,
        .trust = &w.trust,
        .exchange = {.identity = identity},
        .is_server = !is_behind_nat,
        .address = template == NULL || is_behind_nat ? (mvpn_addr){0} : template->addresses[0].addr,
        .own_addresses = own,
        .own_address_count = template == NULL ? 0 : template->address_count,
        .has_ipv4 = true,
        .unix_offset_us = (int64_t)(TEST_NOW * MVPN_US_PER_S) - (int64_t)w.now,
        .publish = template,
        .identity_secret = &secret,
    };
    assert_int_equal(mvpn_finder_new(&c, w.now, &w.f), 0);
}

static void start(bool publishes)
{
    const mvpn_descriptor template = test_relay_draft(&w.net, SELF, 0);
    start_with(publishes ? &template : NULL);
}

static void start_behind_nat(void)
{
    mvpn_descriptor template = test_relay_draft(&w.net, SELF, 0);
    template.address_count = 0;
    template.roles = MVPN_ROLE_MIDDLE;
    start_with(&template);
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof(w));
    mvpn_rng_init_test(&w.rng, 5);
    test_network_make(&w.net, 1);
    w.trust = w.net.trust;
    w.now = MVPN_S(1000);
    w.contacts = 5;
    mvpn_view_config vc = {.trust = &w.trust, .sample_key = {1}, .max = 40};
    int r = mvpn_view_new(&vc, &w.view);
    start(true);
    return r;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_finder_free(w.f);
    mvpn_view_free(w.view);
    return 0;
}

static void pass(mvpn_time span)
{
    w.now += span;
    mvpn_finder_tick(w.f, w.now);
}

static mvpn_dht_event *event(enum mvpn_dht_event_type type)
{
    mvpn_dht_event *e = &w.events[w.event_count++];
    memset(e, 0, sizeof(*e));
    e->type = type;
    return e;
}

static void key_of(unsigned relay, mvpn_dht_id *ret)
{
    mvpn_descriptor d = test_relay_draft(&w.net, relay, 1);
    mvpn_record_key(ret->b, &w.net.trust.network_id, &d.identity);
}

static void listed(unsigned from, unsigned relay, uint64_t sequence)
{
    mvpn_dht_event *e = event(MVPN_DHT_EVENT_LISTED);
    e->from = server(from);
    e->sequence = sequence;
    key_of(relay, &e->key);
}

static void record(enum mvpn_dht_event_type type, uint32_t op, unsigned from,
                   const mvpn_descriptor *d)
{
    mvpn_dht_event *e = event(type);
    e->op = op;
    if (type == MVPN_DHT_EVENT_VALUE) {
        e->from = server(from);
    }
    mvpn_record_key(e->key.b, &w.net.trust.network_id, &d->identity);
    e->sequence = d->sequence;
    e->record_type = MVPN_RECORD_DESCRIPTOR;
    e->record_len = (uint16_t)d->encoded_len;
    memcpy(e->record, d->encoded, d->encoded_len);
}

static uint64_t published_sequence(void)
{
    mvpn_descriptor d;
    assert_int_equal(w.record_type, MVPN_RECORD_DESCRIPTOR);
    assert_int_equal(mvpn_descriptor_decode(&d, mvpn_bytes_of(w.record, w.record_len)), 0);
    return d.sequence;
}

/* ---- our own descriptor ---- */

/* Whoever lists our key with a number that is not ours only makes us look. */
static void test_listed_numbers_of_our_own(void **state)
{
    (void)state;
    pass(MVPN_S(1));
    assert_int_equal(w.publishes, 1);
    uint64_t sequence = published_sequence();
    assert_int_equal(sequence, (TEST_NOW + 1) * MS);
    listed(1, SELF, UINT64_MAX - 1);
    listed(2, SELF, UINT64_MAX);
    pass(MVPN_S(60));
    pass(MVPN_S(60));
    assert_int_equal(w.publishes, 1);
    assert_int_equal(w.fetches, 1); /* one at a time */
    listed(3, SELF, sequence);
    event(MVPN_DHT_EVENT_NOT_FOUND)->op = w.op;
    pass(MVPN_S(60));
    assert_int_equal(w.fetches, 1); /* that is the one we have */
    mvpn_finder_set_mapped(w.f, &(mvpn_addr){.family = 4, .port = 443, .ip = {99, 1, 1, 1}}, w.now);
    pass(MVPN_S(60));
    assert_int_equal(published_sequence(), (TEST_NOW + 241) * MS);

    /* One that we did sign, in an earlier life with another clock, is gone past. */
    mvpn_descriptor d = test_relay(&w.net, SELF, (TEST_NOW + 5000) * MS);
    listed(1, SELF, d.sequence);
    pass(MVPN_S(1));
    assert_int_equal(w.fetches, 2);
    record(MVPN_DHT_EVENT_VALUE, w.op, 1, &d);
    pass(MVPN_S(20));
    assert_int_equal(mvpn_view_at(w.view, 0)->sequence,
                     (TEST_NOW + 241) * MS); /* not the old one */
    pass(MVPN_S(20));
    assert_int_equal(published_sequence(), (TEST_NOW + 5000) * MS + 1);
    assert_int_equal(mvpn_view_count(w.view), 1);
}

static void test_publishing(void **state)
{
    (void)state;
    pass(0);
    assert_int_equal(w.publishes, 1);
    for (unsigned i = 0; i < 100; i++) { /* an address that flaps */
        mvpn_finder_set_mapped(
            w.f, &(mvpn_addr){.family = 4, .port = 443, .ip = {99, 1, (uint8_t)i, 1}}, w.now);
        pass(MVPN_S(1));
    }
    assert_in_range(w.publishes, 8, 11);
    unsigned before = w.publishes;
    for (unsigned i = 0; i < 24 * 60; i++) {
        pass(MVPN_S(60));
    }
    assert_in_range(w.publishes - before, 3, 6);
}

/* A relay behind a NAT is no server. Nothing is published before it has a NAT relay, then what it
 * is reached by, renewed like any other; when it has had none for a while, it is withdrawn. */
static void test_publishing_behind_a_nat(void **state)
{
    (void)state;
    const mvpn_descriptor_nat_relay relay = {{{7}}, {{1, 2}}, 4};
    const mvpn_addr seen = {.family = 4, .port = 40001, .ip = {99, 2, 3, 4}};
    mvpn_descriptor d;
    mvpn_finder_free(w.f);
    start_behind_nat();
    for (unsigned i = 0; i < 24 * 60; i++) {
        pass(MVPN_S(60));
    }
    assert_int_equal(w.publishes, 0);
    assert_false(mvpn_finder_withdraw(w.f, w.now));
    mvpn_finder_set_nat_relays(w.f, &relay, 1, &seen, 1);
    pass(MVPN_S(1));
    assert_int_equal(w.publishes, 1);
    for (unsigned i = 0; i < 24 * 60; i++) {
        pass(MVPN_S(60));
    }
    assert_in_range(w.publishes, 4, 7);
    assert_int_equal(mvpn_descriptor_decode(&d, mvpn_bytes_of(w.record, w.record_len)), 0);
    assert_int_equal(d.nat_relay_count, 1);
    assert_true(mvpn_addr_eq(&d.addresses[0].addr, &seen));
    unsigned before = w.publishes;
    mvpn_finder_set_nat_relays(w.f, NULL, 0, NULL, 0);
    for (unsigned i = 0; i < 24 * 60; i++) {
        pass(MVPN_S(60));
    }
    assert_int_equal(w.publishes, before + 1);
    assert_int_equal(mvpn_descriptor_decode(&d, mvpn_bytes_of(w.record, w.record_len)), 0);
    assert_int_equal(d.roles, 0);
    assert_false(mvpn_finder_withdraw(w.f, w.now)); /* it is */
}

static void published(mvpn_descriptor *ret)
{
    assert_int_equal(mvpn_descriptor_decode(ret, mvpn_bytes_of(w.record, w.record_len)), 0);
}

/* What the exchange answers by beside the first address: the node id of this one alone. */
static void also_answers_by(const mvpn_addr *addr)
{
    mvpn_ed25519_secret secret;
    mvpn_ed25519_pub identity;
    test_key_pair(SELF, &identity, &secret);
    assert_int_equal(w.other_count, 1);
    assert_true(mvpn_addr_eq(&w.others[0].addr, addr));
    assert_true(mvpn_dht_id_is_of(&w.others[0].id, &identity, addr));
}

/* A router's address takes the place of the configured one of its family, as long as it is there.
 */
static void test_mapped(void **state)
{
    (void)state;
    static const mvpn_addr mapped = {.family = 4, .port = 20001, .ip = {99, 1, 1, 1}};
    static const mvpn_addr six = {.family = 6, .port = 443, .ip = {0x2a, 9, 9, [15] = 1}};
    mvpn_descriptor template = test_relay_draft(&w.net, SELF, 0), d;
    const mvpn_addr four = template.addresses[0].addr;
    template.addresses[1] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, six};
    template.address_count = 2;
    mvpn_finder_free(w.f);
    start_with(&template);
    also_answers_by(&six);
    pass(0);
    published(&d);
    assert_int_equal(d.address_count, 2);
    mvpn_finder_set_mapped(w.f, &mapped, w.now);
    also_answers_by(&six);
    pass(MVPN_S(20));
    published(&d);
    assert_int_equal(d.address_count, 2);
    assert_true(mvpn_addr_eq(&d.addresses[0].addr, &mapped));
    assert_true(mvpn_addr_eq(&d.addresses[1].addr, &six));
    assert_true(mvpn_addr_eq(&w.self.addr, &mapped));
    mvpn_finder_set_mapped(w.f, NULL, w.now);
    pass(MVPN_S(20));
    published(&d);
    assert_int_equal(d.address_count, 2);
    assert_true(mvpn_addr_eq(&d.addresses[0].addr, &four));
    assert_true(mvpn_addr_eq(&d.addresses[1].addr, &six));
    assert_true(mvpn_addr_eq(&w.self.addr, &four));
    mvpn_finder_set_mapped(w.f, NULL, w.now);
    assert_int_equal(w.selves, 2); /* a new id costs a server its place */
    also_answers_by(&six);

    template.addresses[0].addr = six; /* who knows it by that goes on */
    template.addresses[1].addr = four;
    mvpn_finder_free(w.f);
    start_with(&template);
    also_answers_by(&four);
    mvpn_finder_set_mapped(w.f, &mapped, w.now);
    also_answers_by(&mapped);
    pass(MVPN_S(20));
    published(&d);
    assert_true(mvpn_addr_eq(&d.addresses[0].addr, &mapped));
    assert_true(mvpn_addr_eq(&d.addresses[1].addr, &six));
    assert_int_equal(w.selves, 2);
    mvpn_finder_set_mapped(w.f, NULL, w.now);
    also_answers_by(&four);
}

/* It has no other address: when the mapping has been lost for two minutes, nobody should try. */
static void test_mapped_and_lost(void **state)
{
    (void)state;
    static const mvpn_addr mapped = {.family = 4, .port = 20001, .ip = {99, 1, 1, 1}};
    mvpn_descriptor template = test_relay_draft(&w.net, SELF, 0), d;
    template.address_count = 0;
    mvpn_finder_free(w.f);
    start_with(&template);
    pass(MVPN_S(20));
    assert_int_equal(w.publishes, 0);
    for (unsigned i = 0; i < 2; i++) {
        mvpn_finder_set_mapped(w.f, &mapped, w.now);
        pass(MVPN_S(20));
        assert_int_equal(w.publishes, 1 + 2 * i);
        published(&d);
        assert_true(mvpn_addr_eq(&d.addresses[0].addr, &mapped));
        assert_int_equal(d.roles, template.roles);
        mvpn_finder_set_mapped(w.f, NULL, w.now);
        pass(MVPN_S(100));
        pass(MVPN_S(10));
        assert_int_equal(w.publishes, 1 + 2 * i);
        pass(MVPN_S(120));
        assert_int_equal(w.publishes, 2 + 2 * i);
        published(&d);
        assert_int_equal(d.roles, 0);
        for (unsigned k = 0; k < 1000; k++) {
            pass(MVPN_S(60));
        }
        assert_int_equal(w.publishes, 2 + 2 * i);
    }
    /* A gateway that restarts is no reason. */
    mvpn_finder_set_mapped(w.f, &mapped, w.now);
    pass(MVPN_S(20));
    mvpn_finder_set_mapped(w.f, NULL, w.now);
    pass(MVPN_S(60));
    mvpn_finder_set_mapped(w.f, &mapped, w.now);
    pass(MVPN_S(300));
    published(&d);
    assert_int_equal(d.roles, template.roles);
    assert_int_equal(w.selves, 0); /* no server */
}

static void test_withdrawal(void **state)
{
    (void)state;
    mvpn_descriptor d;
    assert_false(mvpn_finder_withdraw(w.f, w.now)); /* nothing was published */
    pass(0);
    w.contacts = 0;
    assert_false(mvpn_finder_withdraw(w.f, w.now)); /* nobody would keep it */
    w.contacts = 5;
    assert_true(mvpn_finder_withdraw(w.f, w.now));
    assert_false(mvpn_finder_withdraw(w.f, w.now));
    assert_int_equal(w.stores, 1);
    assert_int_equal(mvpn_descriptor_decode(&d, mvpn_bytes_of(w.record, w.record_len)), 0);
    assert_int_equal(d.roles, 0);
    assert_false(mvpn_finder_is_withdrawn(w.f));
    /* Nothing brings it back. */
    unsigned publishes = w.publishes;
    mvpn_finder_set_mapped(w.f, &(mvpn_addr){.family = 4, .port = 443, .ip = {99, 1, 1, 1}}, w.now);
    mvpn_descriptor mine = test_relay(&w.net, SELF, (TEST_NOW + 9999) * MS);
    listed(1, SELF, (TEST_NOW + 9999) * MS);
    record(MVPN_DHT_EVENT_VALUE, 99, 1, &mine);
    event(MVPN_DHT_EVENT_STORED)->op = w.op + 1;
    pass(MVPN_S(60));
    assert_int_equal(w.publishes, publishes);
    assert_int_equal(w.fetches, 0);
    assert_false(mvpn_finder_is_withdrawn(w.f));
    event(MVPN_DHT_EVENT_STORED)->op = w.op;
    pass(MVPN_S(1));
    assert_true(mvpn_finder_is_withdrawn(w.f));
}

/* ---- others' records ---- */

/* A server that lists what it never hands out has a few places; others keep theirs. */
static void test_lists_of_one(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        listed(1, 1000 + i, 5);
    }
    pass(MVPN_S(1));
    assert_int_equal(w.fetches, 8);
    for (unsigned i = 0; i < 100; i++) {
        listed(2 + i % 20, 2000 + i, 5);
    }
    pass(MVPN_S(1));
    assert_int_equal(w.fetches, 32);
    /* What is being fetched is not fetched twice, and a place that was freed is used. */
    event(MVPN_DHT_EVENT_NOT_FOUND)->op = 1;
    listed(50, 1001, 5);
    listed(50, 3000, 5);
    pass(MVPN_S(1));
    assert_int_equal(w.fetches, 33);
    /* No place is lost for ever, not even if its end is never heard of. */
    for (unsigned i = 0; i < 64; i++) {
        listed(100 + i, 4000 + i, 5);
    }
    pass(MVPN_S(61));
    assert_int_equal(w.fetches, 33 + 32);
}

static void test_a_fetch_that_cannot_begin(void **state)
{
    (void)state;
    w.fetch_result = MVPN_E_LIMIT;
    for (unsigned i = 0; i < 40; i++) {
        listed(i, 1000 + i, 5);
    }
    pass(MVPN_S(1));
    w.fetch_result = 0;
    for (unsigned i = 0; i < 40; i++) {
        listed(i, 1000 + i, 5);
    }
    pass(MVPN_S(1));
    assert_int_equal(w.fetches, 32);
}

/* Anybody can store a record here: it is in the view, but nobody has vouched for it, and it gives
 * way like any other when the view is full. */
static void test_what_is_stored_here(void **state)
{
    (void)state;
    mvpn_view_info info;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 60; i++) {
            mvpn_descriptor d = test_relay(&w.net, round * 60 + i, 1);
            record(MVPN_DHT_EVENT_KEPT, 0, 0, &d);
        }
        pass(MVPN_S(1));
    }
    unsigned late = 0;
    for (unsigned i = 0; i < 120; i++) {
        mvpn_descriptor d = test_relay_draft(&w.net, i, 1);
        if (mvpn_view_find_info(w.view, &d.identity, &info)) {
            assert_false(info.is_confirmed);
            late += i >= 60;
        }
    }
    assert_true(late > 5);
    /* Two servers that show the same one do confirm it. */
    mvpn_descriptor d = test_relay(&w.net, 500, 2);
    for (unsigned i = 0; i < 500; i++) { /* one that the sample takes */
        d = test_relay(&w.net, 500 + i, 2);
        record(MVPN_DHT_EVENT_VALUE, 99, 256, &d);
        pass(MVPN_S(1));
        if (mvpn_view_find_info(w.view, &d.identity, &info)) {
            break;
        }
    }
    assert_false(info.is_confirmed);
    record(MVPN_DHT_EVENT_VALUE, 99, 257, &d); /* the same /16 */
    pass(MVPN_S(1));
    assert_true(mvpn_view_find_info(w.view, &d.identity, &info) && !info.is_confirmed);
    record(MVPN_DHT_EVENT_VALUE, 99, 512, &d);
    pass(MVPN_S(1));
    assert_true(mvpn_view_find_info(w.view, &d.identity, &info) && info.is_confirmed);
}

/* ---- revocation ---- */

static void test_revocations_from_anywhere(void **state)
{
    (void)state;
    mvpn_revocations old = test_revocations(&w.net, 3, 7), list = test_revocations(&w.net, 5, 8);
    assert_false(mvpn_finder_pull_revocations(w.f));
    assert_int_equal(mvpn_view_put(w.view, MVPN_RECORD_REVOCATIONS,
                                   mvpn_bytes_of(list.encoded, list.encoded_len), 9, TEST_NOW),
                     0); /* a sweep brought it */
    pass(MVPN_S(1));
    assert_int_equal(w.trust.revocations.sequence, 5);
    assert_int_equal(w.rechecks, 1);
    assert_true(mvpn_finder_pull_revocations(w.f));
    assert_false(mvpn_finder_pull_revocations(w.f));
    /* An old list once more changes nothing. */
    mvpn_dht_event *e = event(MVPN_DHT_EVENT_VALUE);
    e->record_type = MVPN_RECORD_REVOCATIONS;
    e->record_len = old.encoded_len;
    memcpy(e->record, old.encoded, old.encoded_len);
    pass(MVPN_S(1));
    assert_int_equal(w.trust.revocations.sequence, 5);
    assert_false(mvpn_finder_pull_revocations(w.f));
    assert_int_equal(w.rechecks, 1);
}

/* What the network file has is passed on from the start. */
static void test_revocations_are_passed_on(void **state)
{
    (void)state;
    mvpn_finder_free(w.f);
    w.publishes = 0;
    w.trust.revocations = test_revocations(&w.net, 5, test_serial(4));
    start(false);
    assert_int_equal(w.publishes, 1);
    assert_int_equal(w.record_type, MVPN_RECORD_REVOCATIONS);
    mvpn_descriptor d = test_relay(&w.net, 4, 1);
    record(MVPN_DHT_EVENT_VALUE, 99, 1, &d);
    pass(MVPN_S(1));
    assert_int_equal(mvpn_view_count(w.view), 0);
}

/* ---- alone ---- */

static void test_the_view_helps_who_is_alone(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        mvpn_descriptor d = test_relay(&w.net, i, 1);
        record(MVPN_DHT_EVENT_VALUE, 99, 1, &d);
    }
    pass(MVPN_S(61));
    pass(MVPN_S(61));
    assert_int_equal(w.contacts_added, 0);
    w.contacts = 0;
    pass(MVPN_S(61));
    assert_int_equal(w.contacts_added, MVPN_DHT_K);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_listed_numbers_of_our_own),
        TEST(test_publishing),
        TEST(test_publishing_behind_a_nat),
        TEST(test_mapped),
        TEST(test_mapped_and_lost),
        TEST(test_withdrawal),
        TEST(test_lists_of_one),
        TEST(test_a_fetch_that_cannot_begin),
        TEST(test_what_is_stored_here),
        TEST(test_revocations_from_anywhere),
        TEST(test_revocations_are_passed_on),
        TEST(test_the_view_helps_who_is_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
