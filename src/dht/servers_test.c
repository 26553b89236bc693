/* Servers, cores and exchanges together, exchange datagrams in memory: they find each other, prove
 * themselves, and keep records; who is no DHT server is in nobody's table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "crypto/x25519.h"
#include "dht/exchange.h"

#define SERVERS 9
#define STRANGER (SERVERS - 1) /* a member without the role */
#define UNIX_START 1700000000u
#define STEP MVPN_MS(10)

struct server {
    mvpn_dht *core;
    mvpn_dht_exchange *x;
    mvpn_rng rng;
    mvpn_dht_contact self;
    mvpn_ed25519_pub identity;
    mvpn_ed25519_secret secret;
    mvpn_x25519_pair link_key;
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_dht_event last; /* of the operations */
    unsigned stored, values;
};

struct net {
    mvpn_aead *aead;
    mvpn_packet_pool pool;
    mvpn_packet_queue wire;
    mvpn_ed25519_secret network_key;
    mvpn_trust trust;
    mvpn_time now;
    struct server s[SERVERS];
};

static int verify(void *ctx, unsigned type, mvpn_bytes record, uint64_t unix_now,
                  mvpn_record_info *ret)
{
    return mvpn_record_verify(ctx, type, record, unix_now, ret, NULL);
}

static void start(struct net *net, unsigned i)
{
    struct server *s = &net->s[i];
    const int64_t offset = (int64_t)(UNIX_START * MVPN_US_PER_S - net->now);
    mvpn_rng_init_test(&s->rng, i + 1);
    mvpn_ed25519_generate(&s->identity, &s->secret, &s->rng);
    mvpn_x25519_generate(&s->link_key, &s->rng);
    s->self.link_key = s->link_key.pub;
    s->self.addr = (mvpn_addr){4, 443, {11, (uint8_t)(i + 1), 2, 3}};
    mvpn_dht_node_id(&s->self.id, &s->identity, &s->self.addr);
    mvpn_link_certificate_make(s->link_certificate, &s->secret, &s->identity, &s->link_key.pub,
                               UNIX_START - 9, UNIX_START + 86400, &net->trust.network_id);
    mvpn_membership_make(s->membership, &net->network_key, &s->identity,
                         i == STRANGER ? MVPN_ROLE_MIDDLE : MVPN_ROLE_MIDDLE | MVPN_ROLE_DHT_SERVER,
                         UNIX_START - 9, UNIX_START + 86400, i, &net->trust.network_id);
    const mvpn_dht_config core = {.rng = &s->rng,
                                  .verify = verify,
                                  .verify_ctx = &net->trust,
                                  .unix_offset_us = offset,
                                  .is_server = true,
                                  .self = s->self};
    assert_int_equal(mvpn_dht_new(&core, net->now, &s->core), 0);
    const mvpn_dht_exchange_config exchange = {
        .aead = net->aead,
        .rng = &s->rng,
        .pool = &net->pool,
        .dht = s->core,
        .trust = &net->trust,
        .network_secret = {{5}},
        .unix_offset_us = offset,
        .is_server = true,
        .self = s->self,
        .identity = s->identity,
        .link_key = s->link_key,
        .link_certificate = MVPN_BYTES_ARRAY(s->link_certificate),
        .membership_certificate = MVPN_BYTES_ARRAY(s->membership),
    };
    assert_int_equal(mvpn_dht_exchange_new(&exchange, net->now, &s->x), 0);
}

static struct net *net_new(void)
{
    struct net *net = calloc(1, sizeof(*net));
    mvpn_rng rng;
    assert_non_null(net);
    mvpn_rng_init_test(&rng, 99);
    mvpn_ed25519_generate(&net->trust.network_pub, &net->network_key, &rng);
    mvpn_network_id(&net->trust.network_id, &net->trust.network_pub);
    net->trust.closed = true;
    net->now = MVPN_S(1000);
    assert_int_equal(mvpn_aead_new(MVPN_AEAD_OPENSSL, &net->aead), 0);
    assert_int_equal(mvpn_packet_pool_init(&net->pool, 512), 0);
    mvpn_packet_queue_init(&net->wire);
    for (unsigned i = 0; i < SERVERS; i++) {
        start(net, i);
    }
    return net;
}

static void net_free(struct net *net)
{
    mvpn_packet_queue_clear(&net->wire, &net->pool);
    for (unsigned i = 0; i < SERVERS; i++) {
        mvpn_dht_exchange_free(net->s[i].x);
        mvpn_dht_free(net->s[i].core);
    }
    assert_int_equal(net->pool.free_count, net->pool.size);
    mvpn_packet_pool_done(&net->pool);
    mvpn_aead_free(net->aead);
    free(net);
}

static void pull_events(struct server *s)
{
    static mvpn_dht_event e;
    while (mvpn_dht_pull_event(s->core, &e)) {
        s->stored += e.type == MVPN_DHT_EVENT_STORED;
        s->values += e.type == MVPN_DHT_EVENT_VALUE;
        if (e.type == MVPN_DHT_EVENT_STORED || e.type == MVPN_DHT_EVENT_VALUE ||
            e.type == MVPN_DHT_EVENT_NOT_FOUND) {
            s->last = e;
        }
    }
}

/* What was sent in one step arrives in the next. */
static void run(struct net *net, mvpn_time time)
{
    for (mvpn_time end = net->now + time; net->now < end; net->now += STEP) {
        for (uint32_t n = net->wire.count; n > 0; n--) {
            mvpn_packet *p = mvpn_packet_queue_pop(&net->wire);
            unsigned to = p->local;
            assert_true(mvpn_dht_is_datagram(mvpn_bytes_of(p->data, p->len)));
            (void)mvpn_dht_exchange_recv(net->s[to].x, p, net->now);
        }
        for (unsigned i = 0; i < SERVERS; i++) {
            struct server *s = &net->s[i];
            mvpn_packet *p;
            mvpn_dht_tick(s->core, net->now);
            mvpn_dht_exchange_flush(s->x, net->now);
            mvpn_dht_exchange_tick(s->x, net->now);
            pull_events(s);
            while ((p = mvpn_packet_queue_pop(mvpn_dht_exchange_out(s->x))) != NULL) {
                unsigned to = p->remote.ip[1] - 1u;
                assert_true(to < SERVERS);
                p->remote = s->self.addr;
                p->local = (uint8_t)to;
                mvpn_packet_queue_push(&net->wire, p);
            }
        }
    }
}

static size_t contacts(const struct server *s)
{
    mvpn_dht_status status;
    mvpn_dht_get_status(s->core, &status);
    return status.contacts;
}

/* One after the other, by the first. */
static void join(struct net *net)
{
    for (unsigned i = 1; i < SERVERS; i++) {
        mvpn_dht_add_contact(net->s[i].core, &net->s[0].self, net->now);
        run(net, MVPN_S(1));
    }
    run(net, MVPN_S(5));
}

static void make_record(struct net *net, mvpn_descriptor *d)
{
    const struct server *s = &net->s[0];
    *d = (mvpn_descriptor){.identity = s->identity,
                           .sequence = 7,
                           .published = UNIX_START - 5,
                           .expires = UNIX_START + 80000,
                           .onion_key_count = 1,
                           .address_count = 1,
                           .roles = MVPN_ROLE_MIDDLE,
                           .has_membership = true};
    d->addresses[0] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, s->self.addr};
    memcpy(d->link_certificate, s->link_certificate, sizeof(d->link_certificate));
    memcpy(d->membership, s->membership, sizeof(d->membership));
    assert_int_equal(mvpn_descriptor_sign(d, &s->secret, &net->trust.network_id), 0);
}

static void test_join_store_lookup(void **state)
{
    (void)state;
    struct net *net = net_new();
    mvpn_descriptor d;
    mvpn_dht_id key;
    uint32_t op;
    join(net);
    for (unsigned i = 0; i < SERVERS; i++) {
        mvpn_dht_contact known[MVPN_DHT_K];
        size_t n = mvpn_dht_sample_contacts(net->s[i].core, known, MVPN_DHT_K);
        assert_true(n >= 2 && contacts(&net->s[i]) == n);
        while (n > 0) { /* proven ones alone */
            assert_false(mvpn_addr_eq(&known[--n].addr, &net->s[STRANGER].self.addr));
        }
    }
    assert_true(mvpn_dht_exchange_get_counters(net->s[0].x)->uncertified > 0);

    make_record(net, &d);
    mvpn_record_key(key.b, &net->trust.network_id, &d.identity);
    assert_int_equal(mvpn_dht_store(net->s[2].core, MVPN_RECORD_DESCRIPTOR,
                                    mvpn_bytes_of(d.encoded, d.encoded_len), net->now, &op),
                     0);
    run(net, MVPN_S(5));
    assert_int_equal(net->s[2].stored, 1);
    assert_true(net->s[2].last.count >= 5);
    for (unsigned i = 0; i < SERVERS; i++) {
        struct server *s = &net->s[i];
        assert_int_equal(mvpn_dht_lookup(s->core, &key, net->now, &op), 0);
        run(net, MVPN_S(2));
        assert_int_equal(s->values, 1);
        assert_int_equal(s->last.sequence, 7);
        assert_int_equal(s->last.record_len, d.encoded_len);
        assert_memory_equal(s->last.record, d.encoded, d.encoded_len);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        const mvpn_dht_exchange_counters *c = mvpn_dht_exchange_get_counters(net->s[i].x);
        assert_int_equal(c->dropped_format + c->dropped_mac + c->dropped_auth, 0);
    }
    net_free(net);
}

static unsigned holders(const struct net *net, const mvpn_dht_id *key)
{
    unsigned count = 0;
    for (unsigned i = 0; i < SERVERS; i++) {
        uint8_t type;
        mvpn_bytes record;
        count += mvpn_dht_stored(net->s[i].core, key, &type, &record);
    }
    return count;
}

/* The record of one who is revoked is dropped by all, and taken by nobody again. */
static void test_revoked_record(void **state)
{
    (void)state;
    struct net *net = net_new();
    mvpn_descriptor d;
    mvpn_dht_id key;
    uint32_t op;
    join(net);
    make_record(net, &d);
    const mvpn_bytes record = mvpn_bytes_of(d.encoded, d.encoded_len);
    mvpn_record_key(key.b, &net->trust.network_id, &d.identity);
    assert_int_equal(mvpn_dht_store(net->s[2].core, MVPN_RECORD_DESCRIPTOR, record, net->now, &op),
                     0);
    run(net, MVPN_S(5));
    assert_true(holders(net, &key) >= 5);
    net->trust.revocations = (mvpn_revocations){.sequence = 1, .count = 1, .serials = {0}};
    for (unsigned i = 0; i < SERVERS; i++) {
        mvpn_dht_recheck(net->s[i].core, net->now);
    }
    assert_int_equal(holders(net, &key), 0);
    net->s[2].last.count = 0;
    /* Here already, or by those asked. */
    MVPN_IGNORE(mvpn_dht_store(net->s[2].core, MVPN_RECORD_DESCRIPTOR, record, net->now, &op));
    run(net, MVPN_S(5));
    assert_int_equal(net->s[2].last.count, 0);
    assert_int_equal(holders(net, &key), 0);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join_store_lookup),
        cmocka_unit_test(test_revoked_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
