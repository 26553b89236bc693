#include "dht/routing.h"
#include "dht/testing.h"

static mvpn_rng rng;
static mvpn_dht_routing r;

static int setup(void **state)
{
    (void)state;
    mvpn_dht_id self = test_id(0);
    mvpn_dht_routing_init(&r, &self);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_dht_routing_done(&r);
    return 0;
}

static bool prove(uint64_t top, uint32_t ip)
{
    mvpn_dht_contact c = test_contact(top, ip);
    return mvpn_dht_routing_prove(&r, &c, MVPN_MS(20), 1);
}

static mvpn_dht_contact random_contact(void)
{
    mvpn_dht_contact c = test_contact(mvpn_rng_u64(&rng), mvpn_rng_u32(&rng));
    return c;
}

static void closest_as_a_sorted_list(void **state)
{
    (void)state;
    mvpn_dht_id all[MVPN_DHT_TABLE_MAX];
    size_t count = 0;
    for (int i = 0; i < 5000; i++) {
        mvpn_dht_contact c = random_contact();
        c.id.b[0] = (uint8_t)(c.id.b[0] >> mvpn_rng_below(&rng, 8)); /* more near us */
        if (mvpn_dht_routing_prove(&r, &c, 1, 1)) {
            all[count++] = c.id;
        }
    }
    assert_int_equal(count, r.count);
    assert_true(count > 100);
    for (int i = 0; i < 200; i++) {
        mvpn_dht_id target;
        const mvpn_dht_peer *near[MVPN_DHT_K];
        mvpn_dht_id_random(&target, &rng, &r.self, mvpn_rng_below(&rng, 12), false);
        if (i == 0) {
            target = r.self;
        }
        size_t n = mvpn_dht_routing_closest(&r, &target, NULL, false, MVPN_DHT_K, near);
        assert_int_equal(n, MVPN_DHT_K);
        for (size_t k = 1; k < n; k++) {
            assert_true(mvpn_dht_compare(&target, &near[k - 1]->contact.id, &near[k]->contact.id) <
                        0);
        }
        size_t nearer = 0; /* nobody nearer was left out, but for the quotas */
        for (size_t k = 0; k < count; k++) {
            nearer += mvpn_dht_compare(&target, &all[k], &near[n - 1]->contact.id) < 0;
        }
        assert_in_range(nearer, n - 1, n + 1);
        size_t m = mvpn_dht_routing_closest(&r, &target, &near[0]->contact.id, false, 5, near);
        assert_int_equal(m, 5);
    }
}

/* §11.1: whatever an attacker owns in a few blocks, or in one /16, it gets a small share. */
static void blocks_have_their_share(void **state)
{
    (void)state;
    static const struct {
        uint32_t blocks, from, step; /* /24 blocks; the first; to the next */
        size_t max;
    } rows[] = {
        {1, 0x0b0b0b00, 0, MVPN_DHT_TABLE_PER_BLOCK},
        {4, 0x0b0b0b00, 0x01000000, 4 * MVPN_DHT_TABLE_PER_BLOCK},
        {256, 0x0b0b0000, 0x100, MVPN_DHT_TABLE_PER_WIDE},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        (void)teardown(NULL);
        (void)setup(NULL);
        size_t foes = 0;
        for (uint32_t n = 0; n < 4000; n++) {
            /* ground keys: anywhere in the key space */
            uint64_t top = mvpn_rng_u64(&rng) >> mvpn_rng_below(&rng, 40);
            foes += prove(top, rows[i].from + n % rows[i].blocks * rows[i].step + n / 256 % 200);
        }
        assert_in_range(foes, 1, rows[i].max);
        for (unsigned b = 0; b < MVPN_DHT_ID_BITS; b++) {
            const mvpn_dht_kbucket *bucket = r.buckets[b];
            assert_true(bucket == NULL ||
                        bucket->count <= rows[i].blocks * (size_t)MVPN_DHT_PER_BLOCK);
            assert_true(bucket == NULL || rows[i].blocks != 256 ||
                        bucket->count <= MVPN_DHT_PER_WIDE);
        }
    }
}

/* In one bucket 2 of a block and 3 of a /16, though the table would take more. */
static void buckets_have_their_quota(void **state)
{
    (void)state;
    static const struct {
        uint32_t ip;
        bool is_taken;
    } rows[] = {
        {0x0b000001, true}, {0x0b000002, true},  {0x0b000003, false},
        {0x0b000101, true}, {0x0b000201, false}, {0x0b010001, true},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(prove(0x8000000000000000u + i, rows[i].ip), rows[i].is_taken);
    }
    assert_true(prove(0x4000000000000000u, 0x0b000003)); /* another bucket */
}

/* A network of few rented machines may say that they share blocks: addresses count then. */
static void relaxed_quotas_count_addresses(void **state)
{
    (void)state;
    mvpn_dht_id near_us = test_id(0);
    const mvpn_dht_peer *near[MVPN_DHT_K];
    r.is_relaxed = true;
    for (uint32_t i = 0; i < 12; i++) {
        assert_true(prove(0x8000000000000000u + i, 0x0b000001 + i));
    }
    assert_true(prove(0x8000000000000100u, 0x0b000001));
    assert_false(prove(0x8000000000000200u, 0x0b000001)); /* a third of one address */
    assert_int_equal(mvpn_dht_routing_closest(&r, &near_us, NULL, false, MVPN_DHT_K, near), 13);
    mvpn_dht_routing_set_self(&r, &near_us, 1);
    assert_true(r.is_relaxed);
    assert_int_equal(r.count, 13);
}

static void good_contacts_stay(void **state)
{
    (void)state;
    mvpn_dht_contact next;
    bool has_next;
    for (uint32_t i = 0; i < MVPN_DHT_K; i++) {
        assert_true(prove(0x8000000000000000u + i, test_ip(i)));
    }
    assert_false(prove(0x9000000000000000u, test_ip(100))); /* it waits */
    assert_int_equal(r.count, MVPN_DHT_K);
    mvpn_dht_id id = test_id(0x8000000000000003u);
    assert_false(mvpn_dht_routing_failed(&r, &id, &next, &has_next));
    mvpn_dht_contact c = test_contact(0x8000000000000003u, test_ip(3));
    mvpn_dht_routing_answered(&r, &c, 1, 2); /* it only lost a packet */
    assert_false(mvpn_dht_routing_failed(&r, &id, &next, &has_next));
    assert_non_null(mvpn_dht_routing_find(&r, &id));
    assert_true(mvpn_dht_routing_failed(&r, &id, &next, &has_next));
    assert_true(has_next);
    assert_int_equal(mvpn_load64(next.id.b), 0x9000000000000000u);
    /* Nobody waits: one more try. */
    id = test_id(0x8000000000000004u);
    assert_false(mvpn_dht_routing_failed(&r, &id, &next, &has_next));
    assert_false(mvpn_dht_routing_failed(&r, &id, &next, &has_next));
    assert_true(mvpn_dht_routing_failed(&r, &id, &next, &has_next));
    assert_false(has_next);
}

static void failing_contacts_are_not_handed_out(void **state)
{
    (void)state;
    const mvpn_dht_peer *near[MVPN_DHT_K];
    mvpn_dht_contact next;
    bool has_next;
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(prove(0x8000000000000000u + i, test_ip(i)));
    }
    mvpn_dht_id id = test_id(0x8000000000000000u);
    assert_false(mvpn_dht_routing_failed(&r, &id, &next, &has_next));
    assert_int_equal(mvpn_dht_routing_closest(&r, &id, NULL, true, MVPN_DHT_K, near), 4);
    assert_int_equal(mvpn_dht_routing_closest(&r, &id, NULL, false, MVPN_DHT_K, near), 5);
}

static void a_new_id_deals_anew(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 60; i++) {
        (void)prove((uint64_t)i << 58, test_ip(i));
    }
    size_t before = r.count;
    mvpn_dht_id self = test_id(0xffff000000000000u);
    mvpn_dht_routing_set_self(&r, &self, 5);
    assert_true(r.count > 20 && r.count <= before);
    for (unsigned b = 0; b < MVPN_DHT_ID_BITS; b++) {
        for (size_t k = 0; r.buckets[b] != NULL && k < r.buckets[b]->count; k++) {
            assert_int_equal(mvpn_dht_common_bits(&self, &r.buckets[b]->peers[k].contact.id), b);
        }
    }
}

static void the_network_is_measured(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        mvpn_dht_contact c = random_contact();
        (void)mvpn_dht_routing_prove(&r, &c, 1, 1);
    }
    assert_in_range(mvpn_dht_routing_estimate(&r), 400, 2500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(closest_as_a_sorted_list, setup, teardown),
        cmocka_unit_test_setup_teardown(blocks_have_their_share, setup, teardown),
        cmocka_unit_test_setup_teardown(buckets_have_their_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(relaxed_quotas_count_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(good_contacts_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(failing_contacts_are_not_handed_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_id_deals_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(the_network_is_measured, setup, teardown),
    };
    mvpn_rng_init_test(&rng, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
