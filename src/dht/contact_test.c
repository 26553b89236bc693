#include "dht/testing.h"

static mvpn_rng rng;

static void distances(void **state)
{
    (void)state;
    static const struct {
        uint64_t target, a, b;
        int sign;
        unsigned common; /* of a and b */
    } rows[] = {
        {0, 1, 2, -1, 62},
        {0, 2, 1, 1, 62},
        {0xf000000000000000, 0xe000000000000000, 0x7000000000000000, -1, 0},
        {5, 5, 5, 0, 160},
        {3, 1, 2, 1, 62},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_dht_id t = test_id(rows[i].target), a = test_id(rows[i].a), b = test_id(rows[i].b);
        int r = mvpn_dht_compare(&t, &a, &b);
        assert_int_equal((r > 0) - (r < 0), rows[i].sign);
        assert_int_equal(mvpn_dht_common_bits(&a, &b), rows[i].common);
    }
    mvpn_dht_id t = test_id(1), a = test_id(1), b = test_id(1);
    a.b[19] = 1;
    b.b[18] = 1; /* beyond the first 64 bits */
    assert_true(mvpn_dht_compare(&t, &a, &b) < 0);
    assert_int_equal(mvpn_dht_common_bits(&t, &a), 159);
}

static void random_ids_keep_their_prefix(void **state)
{
    (void)state;
    mvpn_dht_id base, id;
    mvpn_rng_bytes(&rng, base.b, sizeof(base.b));
    for (unsigned bits = 0; bits < MVPN_DHT_ID_BITS; bits++) {
        mvpn_dht_id_random(&id, &rng, &base, bits, true);
        assert_int_equal(mvpn_dht_common_bits(&id, &base), bits);
        mvpn_dht_id_random(&id, &rng, &base, bits, false);
        assert_true(mvpn_dht_common_bits(&id, &base) >= bits);
    }
}

/* The names of blocks tell the same as the questions about addresses. */
static void blocks_as_addresses(void **state)
{
    (void)state;
    static const char *const text[] = {
        "11.1.2.3:1",    "11.1.2.200:9",       "11.1.3.3:1",    "11.2.2.3:1",
        "[2a00:1::1]:1", "[2a00:1:ffff::9]:2", "[2a00:2::1]:1", "[0b01:0203::]:1",
    };
    mvpn_addr a, b;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(text); i++) {
        for (size_t k = 0; k < MVPN_ARRAY_LEN(text); k++) {
            assert_int_equal(mvpn_addr_parse(text[i], &a), 0);
            assert_int_equal(mvpn_addr_parse(text[k], &b), 0);
            assert_int_equal(mvpn_dht_block_of(&a) == mvpn_dht_block_of(&b),
                             mvpn_dht_same_block(&a, &b));
            assert_int_equal(mvpn_dht_wide_of(&a) == mvpn_dht_wide_of(&b),
                             mvpn_addr_same_block(&a, &b));
        }
    }
}

static void quotas(void **state)
{
    (void)state;
    static const struct {
        uint32_t ip;
        bool is_taken;
    } rows[] = {
        {0x0b000001, true}, {0x0b000002, true},  {0x0b000003, false}, /* the third of a /24 */
        {0x0b000101, true}, {0x0b000201, false},                      /* the fourth of a /16 */
        {0x0b010001, true},
    };
    mvpn_dht_quota q = {.count = 0};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_dht_contact c = test_contact(0, rows[i].ip);
        assert_int_equal(
            mvpn_dht_quota_take(&q, mvpn_dht_block_of(&c.addr), mvpn_dht_wide_of(&c.addr)),
            rows[i].is_taken);
    }
    for (uint32_t i = 0; i < 40; i++) {
        mvpn_dht_contact c = test_contact(0, test_ip(i + 10));
        bool is_taken =
            mvpn_dht_quota_take(&q, mvpn_dht_block_of(&c.addr), mvpn_dht_wide_of(&c.addr));
        assert_int_equal(is_taken, i + 4 < MVPN_DHT_K);
    }
}

static void who_is_usable(void **state)
{
    (void)state;
    static const struct {
        const char *addr;
        uint8_t family;
        bool allow_private, is_usable;
    } rows[] = {
        {"11.1.2.3:4", 0, false, true},          {"11.1.2.3:4", 4, false, true},
        {"11.1.2.3:4", 6, false, false},         {"10.1.2.3:4", 0, false, false},
        {"10.1.2.3:4", 0, true, true},           {"11.1.2.3:0", 0, false, false},
        {"[2a00::1]:4", 6, false, true},         {"[2a00::1]:4", 4, false, false},
        {"[::ffff:11.1.2.3]:4", 0, true, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_dht_contact c = {.addr = {.family = 0}};
        assert_int_equal(mvpn_addr_parse(rows[i].addr, &c.addr), 0);
        assert_int_equal(mvpn_dht_contact_is_usable(&c, rows[i].family, rows[i].allow_private),
                         rows[i].is_usable);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances),           cmocka_unit_test(random_ids_keep_their_prefix),
        cmocka_unit_test(blocks_as_addresses), cmocka_unit_test(quotas),
        cmocka_unit_test(who_is_usable),
    };
    mvpn_rng_init_test(&rng, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
