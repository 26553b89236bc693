/* Path selection: over many draws no rule is ever broken, and the weights are what they say. */
#include "core/testing.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/path.h"

#define ALL_ROLES (MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT)
#define NOW 1500000u

static mvpn_view *view;
static const mvpn_trust trust;
static mvpn_rng rng;

static int setup(void **state)
{
    (void)state;
    mvpn_rng_init_test(&rng, 3);
    const mvpn_view_config config = {.trust = &trust};
    return mvpn_view_new(&config, &view);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_view_free(view);
    view = NULL;
    return 0;
}

static mvpn_ed25519_pub id_of(unsigned i)
{
    return (mvpn_ed25519_pub){{0xd0, (uint8_t)(i >> 8), (uint8_t)i}};
}

static unsigned index_of(const mvpn_ed25519_pub *id)
{
    return (unsigned)id->b[1] << 8 | id->b[2];
}

/* Relay i in a block of its own, with all roles. */
static mvpn_descriptor relay(unsigned i)
{
    mvpn_descriptor d = {.sequence = 1, .published = NOW - 1000, .expires = NOW + 1000};
    d.identity = id_of(i);
    d.roles = ALL_ROLES;
    d.address_count = 1;
    d.addresses[0] = (mvpn_descriptor_address){
        MVPN_CARRIER_PLAIN,
        {.family = 4, .port = 443, .ip = {(uint8_t)(11 + i / 256), (uint8_t)i, 1, 1}}};
    return d;
}

static void add(const mvpn_descriptor *d)
{
    assert_int_equal(mvpn_view_add(view, d), 0);
}

static void add_plain(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mvpn_descriptor d = relay(i);
        add(&d);
    }
}

static const mvpn_descriptor *hop_of(const mvpn_path *path, unsigned i)
{
    const mvpn_descriptor *d = mvpn_view_find(view, &path->hop[i]);
    assert_non_null(d);
    return d;
}

static mvpn_path draw(const mvpn_path_constraints *wish)
{
    mvpn_path path = {0};
    assert_int_equal(mvpn_path_select(view, wish, &rng, &path), MVPN_PATH_OK);
    assert_int_equal(path.count, wish->hops);
    return path;
}

static bool is_mutual_family(const mvpn_descriptor *a, const mvpn_descriptor *b)
{
    unsigned named = 0;
    for (unsigned i = 0; i < a->family_count; i++) {
        named |= memcmp(&a->family[i], &b->identity, 32) == 0 ? 1u : 0;
    }
    for (unsigned i = 0; i < b->family_count; i++) {
        named |= memcmp(&b->family[i], &a->identity, 32) == 0 ? 2u : 0;
    }
    return named == 3;
}

/* Written anew here, from the rules as the protocol's users know them. */
static void check_rules(const mvpn_path *path, unsigned relax)
{
    for (unsigned i = 0; i < path->count; i++) {
        const mvpn_descriptor *a = hop_of(path, i);
        uint16_t roles = 0;
        roles |= i == 0 ? MVPN_ROLE_GUARD : 0;
        roles |= i + 1 == path->count ? MVPN_ROLE_EXIT : 0;
        roles |= i > 0 && i + 1 < path->count ? MVPN_ROLE_MIDDLE : 0;
        assert_int_equal(a->roles & roles, roles);
        for (unsigned j = 0; j < i; j++) {
            const mvpn_descriptor *b = hop_of(path, j);
            assert_memory_not_equal(a->identity.b, b->identity.b, 32);
            for (unsigned x = 0; x < a->address_count && !(relax & MVPN_RELAX_BLOCK); x++) {
                for (unsigned y = 0; y < b->address_count; y++) {
                    const mvpn_addr *p = &a->addresses[x].addr, *q = &b->addresses[y].addr;
                    size_t same = p->family == 4 ? 2 : 4; /* /16 and /32 */
                    assert_true(p->family != q->family || memcmp(p->ip, q->ip, same) != 0);
                }
            }
            if (!(relax & MVPN_RELAX_PROVIDER)) {
                assert_true(a->provider[0] == '\0' || strcmp(a->provider, b->provider) != 0);
            }
            if (!(relax & MVPN_RELAX_FAMILY)) {
                assert_false(is_mutual_family(a, b));
            }
        }
    }
}

/* 60 relays with everything that may relate them. */
static void add_tangle(void)
{
    for (unsigned i = 0; i < 60; i++) {
        mvpn_descriptor d = relay(i);
        d.addresses[0].addr.ip[1] = (uint8_t)(i % 20); /* three to a /16 */
        d.roles = (uint16_t)(1 + i % 7);               /* every mix of the three roles */
        if (i % 4 == 0) {
            d.address_count = 2;
            d.addresses[1] = (mvpn_descriptor_address){
                MVPN_CARRIER_PLAIN,
                {.family = 6, .port = 443, .ip = {0x2a, 0x10, 0, (uint8_t)(i % 8), (uint8_t)i}}};
        }
        if (i % 3 == 0) {
            (void)snprintf(d.provider, sizeof(d.provider), "hoster %u", i % 9);
        }
        d.family_count = 2; /* mutual with one neighbour, one-sided with another */
        d.family[0] = id_of(i ^ 1u);
        d.family[1] = id_of((i + 7) % 60);
        (void)snprintf(d.country, sizeof(d.country), "%s", i % 2 ? "CH" : "IS");
        d.has_bandwidth = true;
        d.bandwidth_kbit = i * 3000;
        add(&d);
    }
}

static void test_no_rule_is_broken_in_many_draws(void **state)
{
    (void)state;
    add_tangle();
    for (unsigned i = 0; i < 100000; i++) {
        mvpn_path_constraints wish = {.hops = 1 + i % 5, .unix_now = NOW};
        wish.relax = i % 3 == 0 ? i / 3 % 8 : 0;
        mvpn_path path = draw(&wish);
        check_rules(&path, wish.relax);
    }
}

static void test_wishes_are_kept(void **state)
{
    (void)state;
    add_tangle();
    mvpn_ed25519_pub exit = id_of(6), guard = id_of(14); /* both have all three roles */
    for (unsigned i = 0; i < 20000; i++) {
        mvpn_path_constraints wish = {.hops = 2 + i % 4, .unix_now = NOW};
        wish.exit = i & 1 ? &exit : NULL;
        wish.guard = i & 2 ? &guard : NULL;
        if (i & 4 && wish.exit == NULL) {
            memcpy(wish.exit_country, "CH", 3);
        }
        for (unsigned j = 0; j < MVPN_PATH_EXCLUDED_MAX && i & 8; j++) {
            wish.excluded[wish.excluded_count++] = id_of(20 + j);
        }
        mvpn_path path = draw(&wish);
        check_rules(&path, 0);
        if (wish.exit != NULL) {
            assert_memory_equal(path.hop[path.count - 1].b, exit.b, 32);
        }
        if (wish.guard != NULL) {
            assert_memory_equal(path.hop[0].b, guard.b, 32);
        }
        if (wish.exit_country[0] != '\0') {
            assert_string_equal(hop_of(&path, path.count - 1)->country, "CH");
        }
        for (unsigned j = 0; j < path.count && i & 8; j++) {
            assert_false(index_of(&path.hop[j]) >= 20 && index_of(&path.hop[j]) < 36);
        }
    }
}

static void test_single_hop_is_guard_and_exit(void **state)
{
    (void)state;
    const uint16_t roles[] = {MVPN_ROLE_GUARD, MVPN_ROLE_EXIT, MVPN_ROLE_EXIT | MVPN_ROLE_MIDDLE,
                              MVPN_ROLE_EXIT | MVPN_ROLE_GUARD};
    mvpn_path_constraints wish = {.hops = 1, .unix_now = NOW};
    mvpn_path path;
    for (unsigned i = 0; i < 3; i++) {
        mvpn_descriptor d = relay(i);
        d.roles = roles[i];
        add(&d);
        assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_EXIT);
    }
    mvpn_descriptor d = relay(3);
    d.roles = roles[3];
    add(&d);
    path = draw(&wish);
    assert_int_equal(index_of(&path.hop[0]), 3);
}

static void test_what_blocks_is_told(void **state)
{
    (void)state;
    mvpn_path_constraints wish = {.hops = 3, .unix_now = NOW};
    mvpn_path path = {.count = 77};
    const uint16_t exit_only = MVPN_ROLE_EXIT, guard_only = MVPN_ROLE_GUARD;
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_EXIT);
    mvpn_descriptor d = relay(0);
    d.roles = exit_only;
    add(&d);
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_GUARD);
    d = relay(1);
    d.roles = guard_only;
    add(&d);
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_MIDDLE);
    d = relay(2);
    d.roles = MVPN_ROLE_MIDDLE;
    d.addresses[0].addr.ip[1] = 1; /* in the guard's /16 */
    add(&d);
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_RELATED);
    assert_int_equal(path.count, 77); /* untouched so far */
    wish.relax = MVPN_RELAX_BLOCK;
    path = draw(&wish);
    assert_int_equal(index_of(&path.hop[1]), 2);
    wish.relax = 0;
    memcpy(wish.exit_country, "CH", 3);
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_EXIT);
    for (int i = MVPN_PATH_OK; i <= MVPN_PATH_RELATED; i++) {
        assert_true(strlen(mvpn_path_block_text((enum mvpn_path_block)i)) > 10);
    }
}

static void test_relax_bits_lift_their_rule_and_no_other(void **state)
{
    (void)state;
    mvpn_descriptor a = relay(1), block = relay(2), provider = relay(3), family = relay(4);
    block.addresses[0].addr.ip[1] = 1;
    memcpy(a.provider, "hoster", 7);
    memcpy(provider.provider, "hoster", 7);
    a.family_count = family.family_count = 1;
    a.family[0] = family.identity;
    family.family[0] = a.identity;
    const struct {
        const mvpn_descriptor *b;
        unsigned bit;
    } rows[] = {
        {&block, MVPN_RELAX_BLOCK}, {&provider, MVPN_RELAX_PROVIDER}, {&family, MVPN_RELAX_FAMILY}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        for (unsigned relax = 0; relax < 8; relax++) {
            bool want = (relax & rows[i].bit) != 0;
            assert_int_equal(mvpn_path_are_distinct(&a, rows[i].b, relax), want);
            assert_int_equal(mvpn_path_are_distinct(rows[i].b, &a, relax), want);
        }
    }
    assert_false(mvpn_path_are_distinct(&a, &a, 7)); /* nothing lifts that */
    family.family_count = 0;                         /* one alone names no family */
    assert_true(mvpn_path_are_distinct(&a, &family, 0));
    mvpn_descriptor nobody = relay(5), also = relay(6); /* no provider is no common one */
    assert_true(mvpn_path_are_distinct(&nobody, &also, 0));
}

static void test_blocks_of_ipv6(void **state)
{
    (void)state;
    mvpn_descriptor a = relay(1), b = relay(2);
    a.addresses[0].addr = (mvpn_addr){.family = 6, .port = 1, .ip = {0x2a, 0x10, 0, 5, 1}};
    b.addresses[0].addr = (mvpn_addr){.family = 6, .port = 1, .ip = {0x2a, 0x10, 0, 5, 2}};
    assert_false(mvpn_path_are_distinct(&a, &b, 0));
    b.addresses[0].addr.ip[3] = 4;
    assert_true(mvpn_path_are_distinct(&a, &b, 0));
    b.address_count = 2; /* any of the addresses counts */
    b.addresses[1] = a.addresses[0];
    assert_false(mvpn_path_are_distinct(&a, &b, 0));
}

static void test_unusable_relays_are_left_out(void **state)
{
    (void)state;
    add_plain(3);
    mvpn_descriptor old = relay(3), early = relay(4), private = relay(5);
    old.published = NOW - 5000;
    old.expires = NOW - MVPN_VALIDITY_TOLERANCE_S - 1;
    early.published = NOW + MVPN_VALIDITY_TOLERANCE_S + 1;
    early.expires = NOW + 5000;
    private.addresses[0].addr.ip[0] = 10;
    add(&old);
    add(&early);
    add(&private);
    bool seen[6] = {false};
    for (unsigned i = 0; i < 1000; i++) {
        mvpn_path_constraints wish = {.hops = 3, .unix_now = NOW};
        mvpn_path path = draw(&wish);
        for (unsigned j = 0; j < 3; j++) {
            assert_in_range(index_of(&path.hop[j]), 0, 2);
        }
        wish.unix_now = 0;
        wish.allow_private = true;
        path = draw(&wish);
        for (unsigned j = 0; j < 3; j++) {
            seen[index_of(&path.hop[j])] = true;
        }
    }
    for (unsigned i = 0; i < 6; i++) {
        assert_true(seen[i]);
    }
}

static void test_the_guard_has_an_address_for_us(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        mvpn_descriptor d = relay(i);
        if (i % 2 == 1) {
            d.addresses[0].addr =
                (mvpn_addr){.family = 6, .port = 443, .ip = {0x2a, 0x10, 0, (uint8_t)i}};
        }
        add(&d);
    }
    for (unsigned i = 0; i < 2000; i++) {
        mvpn_path_constraints wish = {.hops = 1 + i % 3, .unix_now = NOW};
        wish.family = (uint8_t)(i & 1 ? 4 : 6);
        mvpn_path path = draw(&wish);
        assert_int_equal(index_of(&path.hop[0]) % 2, wish.family == 6);
    }
}

/* Each relay as often as its weight says: within 3 sigma for all, of draws that repeat themselves.
 */
static void test_weights(void **state)
{
    (void)state;
    const struct {
        uint32_t kbit;
        uint32_t weight;
    } rows[] = {{0, 1},          {9999, 1},        {10000, 2},        {20000, 4},
                {39999, 4},      {40000, 8},       {100000, 16},      {1000000, 128},
                {5120000, 1024}, {10240000, 1024}, {UINT32_MAX, 1024}};
    const size_t count = MVPN_ARRAY_LEN(rows);
    const unsigned draws = 100000;
    unsigned seen[MVPN_ARRAY_LEN(rows)] = {0};
    double total = 0;
    for (unsigned i = 0; i < count; i++) {
        mvpn_descriptor d = relay(i);
        d.has_bandwidth = i > 0;
        d.bandwidth_kbit = rows[i].kbit;
        add(&d);
        total += rows[i].weight;
    }
    mvpn_path_constraints wish = {.hops = 1, .unix_now = NOW};
    for (unsigned i = 0; i < draws; i++) {
        mvpn_path path = draw(&wish);
        seen[index_of(&path.hop[0])]++;
    }
    for (unsigned i = 0; i < count; i++) {
        double p = rows[i].weight / total, mean = draws * p;
        double diff = seen[i] - mean;
        assert_true(diff * diff <= 9 * draws * p * (1 - p)); /* variance of the binomial */
    }
}

static void test_all_places_are_reached(void **state)
{
    (void)state;
    add_plain(5);
    unsigned seen[5][5] = {{0}};
    for (unsigned i = 0; i < 25000; i++) {
        mvpn_path_constraints wish = {.hops = 5, .unix_now = NOW};
        mvpn_path path = draw(&wish);
        for (unsigned j = 0; j < 5; j++) {
            seen[j][index_of(&path.hop[j])]++;
        }
    }
    for (unsigned i = 0; i < 25; i++) { /* 5000 ± 3.5 sigma */
        assert_in_range(seen[i / 5][i % 5], 5000 - 222, 5000 + 222);
    }
}

static void test_view(void **state)
{
    (void)state;
    add_plain(100);
    mvpn_descriptor d = relay(50);
    assert_int_equal(mvpn_view_count(view), 100);
    assert_int_equal(mvpn_view_add(view, &d), MVPN_E_EXPIRED); /* same sequence */
    d.sequence = 2;
    memcpy(d.name, "fifty", 6);
    add(&d);
    assert_int_equal(mvpn_view_count(view), 100);
    assert_string_equal(mvpn_view_find(view, &d.identity)->name, "fifty");
    d.sequence = 1;
    assert_int_equal(mvpn_view_add(view, &d), MVPN_E_EXPIRED);
    d.identity = id_of(1000);
    assert_null(mvpn_view_find(view, &d.identity));
    for (unsigned i = 100; i < MVPN_VIEW_MAX; i++) {
        d.identity = id_of(i);
        assert_int_equal(mvpn_view_add(view, &d), 0);
    }
    d.identity = id_of(MVPN_VIEW_MAX);
    assert_int_equal(mvpn_view_add(view, &d), MVPN_E_LIMIT);
    d.identity = id_of(7);
    d.sequence = 9;
    assert_int_equal(mvpn_view_add(view, &d), 0); /* news of a known one still fit */
}

/* Neighbours meet in one address family; a relay with both joins either kind, but not one with the
 * other. */
static void test_hops_can_reach_each_other(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        mvpn_descriptor d = relay(i);
        mvpn_descriptor_address v6 = {
            MVPN_CARRIER_PLAIN, {.family = 6, .port = 443, .ip = {0x2a, 0x10, 0, (uint8_t)i, 1}}};
        if (i % 3 == 1) {
            d.addresses[0] = v6;
        } else if (i % 3 == 2) {
            d.addresses[d.address_count++] = v6;
        }
        add(&d);
    }
    for (unsigned n = 0; n < 5000; n++) {
        mvpn_path_constraints wish = {.hops = 2 + n % 4, .unix_now = NOW};
        mvpn_path path;
        assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_OK);
        for (unsigned i = 1; i < path.count; i++) {
            const mvpn_descriptor *a = hop_of(&path, i - 1), *b = hop_of(&path, i);
            bool v4 = mvpn_descriptor_find_address(a, 4) && mvpn_descriptor_find_address(b, 4);
            bool v6 = mvpn_descriptor_find_address(a, 6) && mvpn_descriptor_find_address(b, 6);
            assert_true(v4 || v6);
        }
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_no_rule_is_broken_in_many_draws),
        TEST(test_wishes_are_kept),
        TEST(test_hops_can_reach_each_other),
        TEST(test_single_hop_is_guard_and_exit),
        TEST(test_what_blocks_is_told),
        TEST(test_relax_bits_lift_their_rule_and_no_other),
        TEST(test_blocks_of_ipv6),
        TEST(test_unusable_relays_are_left_out),
        TEST(test_the_guard_has_an_address_for_us),
        TEST(test_weights),
        TEST(test_all_places_are_reached),
        TEST(test_view),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
