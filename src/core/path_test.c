/* Path selection: over many draws no rule is ever broken, and the weights are what they say. */
#include "core/testing.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/path.h"
#include "core/testview.h"

#define ALL_ROLES (MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT)
#define NOW 1500000u

static mvpn_view *view;
static mvpn_rng rng;

static int setup(void **state)
{
    (void)state;
    mvpn_rng_init_test(&rng, 3);
    view = test_view_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_view_free(view);
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

static mvpn_view_info *add(const mvpn_descriptor *d)
{
    return test_view_add(view, d);
}

static void add_plain(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mvpn_descriptor d = relay(i);
        add(&d);
    }
}

static mvpn_path_countries countries(const char *text)
{
    mvpn_path_countries c;
    assert_int_equal(mvpn_path_countries_parse(text, &c), 0);
    return c;
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
static void check_two(const mvpn_descriptor *a, const mvpn_descriptor *b, unsigned relax)
{
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

/* The relay (0) and its NAT relays, as the view has them; NULL: it has not, or there are no more */
static const mvpn_descriptor *member(const mvpn_descriptor *d, unsigned i)
{
    return i == 0                   ? d
           : i > d->nat_relay_count ? NULL
                                    : mvpn_view_find(view, &d->nat_relays[i - 1].identity);
}

static void check_apart(const mvpn_descriptor *a, const mvpn_descriptor *b, unsigned relax)
{
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < 3; j++) {
            if (member(a, i) != NULL && member(b, j) != NULL) {
                check_two(member(a, i), member(b, j), relax);
            }
        }
    }
    for (unsigned i = 0; i < a->nat_relay_count; i++) { /* whether it is known or not */
        for (unsigned j = 0; j < b->nat_relay_count; j++) {
            assert_memory_not_equal(&a->nat_relays[i].identity, &b->nat_relays[j].identity, 32);
        }
    }
}

static void check_rules(const mvpn_path *path, unsigned relax)
{
    for (unsigned i = 0; i < path->count; i++) {
        const mvpn_descriptor *a = hop_of(path, i);
        uint16_t roles = 0;
        roles |= i == 0 ? MVPN_ROLE_GUARD : 0;
        roles |= i + 1 == path->count ? MVPN_ROLE_EXIT : 0;
        roles |= i > 0 && i + 1 < path->count ? MVPN_ROLE_MIDDLE : 0;
        assert_int_equal(a->roles & roles, roles);
        if (a->nat_relay_count > 0) {
            assert_true(i > 0);
            assert_true(member(a, 1) != NULL || member(a, 2) != NULL);
        }
        for (unsigned j = 0; j < i; j++) {
            check_apart(a, hop_of(path, j), relax);
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

static void put_behind_nat(mvpn_descriptor *d, unsigned first, unsigned second)
{
    d->nat_relay_count = 2;
    d->nat_relays[0] = (mvpn_descriptor_nat_relay){id_of(first), {{1}}, 4};
    d->nat_relays[1] = (mvpn_descriptor_nat_relay){id_of(second), {{2}}, 4};
}

/* A third of them behind NATs: their NAT relays are others of the tangle, some unknown. */
static void test_no_rule_is_broken_with_relays_behind_nats(void **state)
{
    (void)state;
    unsigned middles = 0, exits = 0;
    add_tangle();
    for (unsigned i = 0; i < 60; i++) {
        mvpn_descriptor d = *view->relay[i];
        if (i % 3 == 0) {
            d.roles |= MVPN_ROLE_NAT_RELAY;
        } else if (i % 3 == 1) {
            unsigned first = i * 6 % 60, second = (i * 9 + 3) % 60;
            put_behind_nat(&d, i % 7 == 0 ? 700 + i % 2 : first,
                           i % 11 == 0  ? 702
                           : i % 5 == 0 ? 701
                                        : second);
        }
        add(&d);
    }
    for (unsigned i = 0; i < 100000; i++) {
        mvpn_path_constraints wish = {.hops = 1 + i % 4, .unix_now = NOW};
        wish.relax = i % 3 == 0 ? i / 3 % 8 : 0;
        mvpn_path path = draw(&wish);
        check_rules(&path, wish.relax);
        exits += hop_of(&path, path.count - 1)->nat_relay_count > 0;
        for (unsigned j = 1; j + 1 < path.count; j++) {
            middles += hop_of(&path, j)->nat_relay_count > 0;
        }
    }
    assert_true(exits > 5000 && middles > 5000);
}

static bool is_blocked(const mvpn_path_constraints *wish, enum mvpn_path_block block)
{
    mvpn_path path;
    return mvpn_path_select(view, wish, &rng, &path) == block;
}

/* One path is possible: 0 guard, 1 middle, 2 exit behind a NAT, served by 3. What keeps 3 from
 * serving keeps 2 out of it. */
static void test_a_relay_behind_a_nat_needs_its_nat_relay(void **state)
{
    (void)state;
    mvpn_path_constraints wish = {.hops = 3, .unix_now = NOW};
    const uint16_t roles[] = {MVPN_ROLE_GUARD, MVPN_ROLE_MIDDLE, MVPN_ROLE_EXIT};
    for (unsigned i = 0; i < 3; i++) {
        mvpn_descriptor d = relay(i);
        d.roles = roles[i];
        if (i == 2) {
            put_behind_nat(&d, 3, 4);
        }
        add(&d);
    }
    assert_true(is_blocked(&wish, MVPN_PATH_NO_EXIT)); /* the view knows neither */
    mvpn_descriptor good = relay(3);
    good.roles = MVPN_ROLE_NAT_RELAY;
    for (unsigned i = 0; i < 7; i++) {
        mvpn_descriptor d = good;
        mvpn_view_info *info = add(&d);
        (void)draw(&wish);
        enum mvpn_path_block expected = MVPN_PATH_NO_EXIT;
        switch (i) {
        case 0:
            d.roles = MVPN_ROLE_MIDDLE;
            break;
        case 1:
            put_behind_nat(&d, 5, 6);
            break;
        case 2:
            d.expires = NOW - MVPN_VALIDITY_TOLERANCE_S - 1;
            break;
        case 3:
            d.addresses[0].addr.ip[0] = 10;
            break;
        case 4: /* nobody speaks both */
            d.addresses[0].addr = (mvpn_addr){.family = 6, .port = 1, .ip = {0x2a, 0x10}};
            expected = MVPN_PATH_NO_GUARD;
            break;
        case 5: /* in the guard's block */
            d.addresses[0].addr.ip[1] = 0;
            expected = MVPN_PATH_RELATED;
            break;
        default:
            info->is_dead = true;
            break;
        }
        add(&d);
        assert_true(is_blocked(&wish, expected));
        info->is_dead = false;
    }
    add(&good);
    (void)draw(&wish);
    /* A NAT relay that we do not know, but that is named, is no other hop, nor another's. */
    mvpn_descriptor middle = relay(1);
    middle.roles = MVPN_ROLE_MIDDLE;
    put_behind_nat(&middle, 4, 7);
    add(&middle);
    mvpn_descriptor seven = relay(7);
    seven.roles = MVPN_ROLE_NAT_RELAY;
    add(&seven);
    assert_true(is_blocked(&wish, MVPN_PATH_RELATED));
    put_behind_nat(&middle, 8, 7);
    add(&middle);
    (void)draw(&wish);
}

static void test_a_relay_behind_a_nat_is_no_first_hop(void **state)
{
    (void)state;
    mvpn_descriptor d = relay(0), n = relay(1);
    mvpn_path_constraints wish = {.hops = 2, .unix_now = NOW};
    mvpn_view_info *info = add(&n);
    assert_true(mvpn_path_fits_guard(&n, info, &wish));
    n.roles = MVPN_ROLE_NAT_RELAY;
    add(&n);
    put_behind_nat(&d, 1, 2);
    info = add(&d);
    assert_false(mvpn_path_fits_guard(&d, info, &wish));
    wish.hops = 1;
    assert_true(is_blocked(&wish, MVPN_PATH_NO_EXIT));
    mvpn_descriptor exit = relay(3);
    exit.roles = MVPN_ROLE_EXIT;
    add(&exit);
    wish.hops = 2;
    assert_true(is_blocked(&wish, MVPN_PATH_NO_GUARD));
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
            wish.exit_countries = countries("CH");
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
        if (wish.exit_countries.count > 0) {
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
    wish.exit_countries = countries("CH");
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_EXIT_COUNTRY);
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
            assert_int_equal(mvpn_path_are_distinct(view, &a, rows[i].b, relax), want);
            assert_int_equal(mvpn_path_are_distinct(view, rows[i].b, &a, relax), want);
        }
    }
    assert_false(mvpn_path_are_distinct(view, &a, &a, 7)); /* nothing lifts that */
    family.family_count = 0;                               /* one alone names no family */
    assert_true(mvpn_path_are_distinct(view, &a, &family, 0));
    mvpn_descriptor nobody = relay(5), also = relay(6); /* no provider is no common one */
    assert_true(mvpn_path_are_distinct(view, &nobody, &also, 0));
}

static void test_blocks_of_ipv6(void **state)
{
    (void)state;
    mvpn_descriptor a = relay(1), b = relay(2);
    a.addresses[0].addr = (mvpn_addr){.family = 6, .port = 1, .ip = {0x2a, 0x10, 0, 5, 1}};
    b.addresses[0].addr = (mvpn_addr){.family = 6, .port = 1, .ip = {0x2a, 0x10, 0, 5, 2}};
    assert_false(mvpn_path_are_distinct(view, &a, &b, 0));
    b.addresses[0].addr.ip[3] = 4;
    assert_true(mvpn_path_are_distinct(view, &a, &b, 0));
    b.address_count = 2; /* any of the addresses counts */
    b.addresses[1] = a.addresses[0];
    assert_false(mvpn_path_are_distinct(view, &a, &b, 0));
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

/* Each relay as often as its weight says: within 3.5 sigma for all, of draws that repeat
 * themselves.
 */
static void expect_shares(const uint32_t *weight, size_t count)
{
    const unsigned draws = 60000;
    unsigned seen[32] = {0};
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        total += weight[i];
    }
    mvpn_path_constraints wish = {.hops = 1, .unix_now = NOW};
    for (unsigned i = 0; i < draws; i++) {
        mvpn_path path = draw(&wish);
        seen[index_of(&path.hop[0])]++;
    }
    for (size_t i = 0; i < count; i++) {
        double p = weight[i] / total, mean = draws * p;
        double diff = seen[i] - mean;
        assert_true(diff * diff <= 12.25 * draws * p * (1 - p)); /* variance of the binomial */
    }
}

/* min(declared, cap) in powers of two from 8 Mbit/s to 8 Gbit/s. */
static void test_weights(void **state)
{
    (void)state;
    const struct {
        uint32_t kbit;
        uint8_t cap;
        uint32_t weight;
    } rows[] = {
        {0, 20, 1},          {8000, 20, 1},          {16383, 20, 1},         {16384, 20, 2},
        {32768, 20, 4},      {65535, 20, 4},         {65536, 20, 8},         {1048576, 20, 128},
        {UINT32_MAX, 15, 4}, {UINT32_MAX, 23, 1024}, {UINT32_MAX, 30, 1024}, {UINT32_MAX, 0, 1},
        {65536, 13, 1},      {65536, 254, 8}};
    uint32_t weight[MVPN_ARRAY_LEN(rows)];
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_descriptor d = relay(i);
        d.has_bandwidth = i > 0;
        d.bandwidth_kbit = rows[i].kbit;
        mvpn_view_info *info = add(&d);
        info->cap_log2 = rows[i].cap;
        weight[i] = rows[i].weight;
        assert_int_equal(mvpn_path_weight(&d, info, 3), rows[i].weight);
    }
    expect_shares(weight, MVPN_ARRAY_LEN(rows));
}

/* Where nothing was measured, the quartile of what is declared caps: a liar gains little. */
static void test_unmeasured_claims_are_capped(void **state)
{
    (void)state;
    uint32_t weight[16];
    for (unsigned i = 0; i < 16; i++) {
        mvpn_descriptor d = relay(i);
        d.has_bandwidth = true;
        d.bandwidth_kbit = i < 4 ? 16384 : i < 15 ? 65536 : UINT32_MAX;
        add(&d);
        weight[i] = i < 4 ? 2 : 8;
    }
    assert_int_equal(mvpn_path_declared_quartile(view), 16); /* 4 of 16 are below 2^16 */
    expect_shares(weight, 16);
    mvpn_descriptor d = relay(5);
    d.has_bandwidth = true;
    d.bandwidth_kbit = 16384;
    add(&d);
    assert_int_equal(mvpn_path_declared_quartile(view), 14);
    for (unsigned i = 0; i < 16; i++) {
        weight[i] = 2;
    }
    expect_shares(weight, 16);
}

static void test_load_over_equal_relays(void **state)
{
    (void)state;
    unsigned seen[100] = {0};
    for (unsigned i = 0; i < 100; i++) {
        mvpn_descriptor d = relay(i);
        d.has_bandwidth = true;
        d.bandwidth_kbit = 70000 + i * 500; /* one power of two */
        add(&d);
    }
    for (unsigned i = 0; i < 20000; i++) {
        mvpn_path_constraints wish = {.hops = 3, .unix_now = NOW};
        mvpn_path path = draw(&wish);
        for (unsigned j = 0; j < 3; j++) {
            seen[index_of(&path.hop[j])]++;
        }
    }
    unsigned least = UINT32_MAX, most = 0;
    for (unsigned i = 0; i < 100; i++) {
        least = MVPN_MIN(least, seen[i]);
        most = MVPN_MAX(most, seen[i]);
    }
    assert_true(least > 0 && most <= 2 * least);
}

/* Who holds a tenth of the guards and a tenth of the exits sees both ends of one path in a hundred,
 * not more: neither draw follows from the other. */
static void test_hostile_at_both_ends(void **state)
{
    (void)state;
    const unsigned draws = 100000;
    unsigned both = 0;
    for (unsigned i = 0; i < 100; i++) {
        mvpn_descriptor d = relay(i);
        d.roles = i < 50 ? MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE : MVPN_ROLE_EXIT;
        add(&d);
    }
    for (unsigned i = 0; i < draws; i++) {
        mvpn_path_constraints wish = {.hops = 3, .unix_now = NOW};
        mvpn_path path = draw(&wish);
        both += index_of(&path.hop[0]) < 5 && index_of(&path.hop[2]) < 55 ? 1 : 0;
    }
    double p = 0.01, mean = draws * p, diff = both - mean;
    assert_true(diff * diff <= 9 * draws * p * (1 - p));
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

static bool is_in(const mvpn_path *path, unsigned relay)
{
    for (unsigned i = 0; i < path->count; i++) {
        if (index_of(&path->hop[i]) == relay) {
            return true;
        }
    }
    return false;
}

static void test_dead_and_withdrawn_are_left_out(void **state)
{
    (void)state;
    add_plain(8);
    mvpn_descriptor d = relay(3);
    d.roles = 0;
    add(&d);
    view->info[5].is_dead = true;
    for (unsigned i = 0; i < 3000; i++) {
        mvpn_path_constraints wish = {.hops = 1 + i % 5, .unix_now = NOW};
        mvpn_path path = draw(&wish);
        assert_false(is_in(&path, 3) || is_in(&path, 5));
    }
    for (unsigned i = 0; i < 8; i++) {
        view->info[i].is_dead = true;
    }
    mvpn_path_constraints wish = {.hops = 3, .unix_now = NOW};
    mvpn_path path;
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_EXIT);
}

static void test_confirmed_relays_come_first(void **state)
{
    (void)state;
    mvpn_path_constraints wish = {.hops = 3, .unix_now = NOW};
    bool seen[10] = {false};
    mvpn_path path;
    add_plain(10);
    for (unsigned i = 0; i < 10; i++) {
        view->info[i].is_confirmed = i < 2; /* too few for a path */
    }
    for (unsigned i = 0; i < 2000; i++) {
        path = draw(&wish);
        for (unsigned j = 0; j < 3; j++) {
            seen[index_of(&path.hop[j])] = true;
        }
    }
    for (unsigned i = 0; i < 10; i++) {
        assert_true(seen[i]);
    }
    view->info[2].is_confirmed = true; /* enough */
    for (unsigned i = 0; i < 2000; i++) {
        path = draw(&wish);
        assert_false(index_of(&path.hop[0]) > 2 || index_of(&path.hop[1]) > 2 ||
                     index_of(&path.hop[2]) > 2);
    }
    wish.hops = 4; /* not for this, as long as the view is young */
    (void)draw(&wish);
    view->is_confirmed = true;
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_MIDDLE);
}

static void test_countries_are_parsed(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int result;
        unsigned count;
        bool is_exclusion;
    } rows[] = {
        {"", 0, 0, false},
        {"CH", 0, 1, false},
        {"CH,IS,SE", 0, 3, false},
        {"!US,GB", 0, 2, true},
        {"!", MVPN_E_FORMAT, 0, false},
        {"ch", MVPN_E_FORMAT, 0, false},
        {"CH,", MVPN_E_FORMAT, 0, false},
        {",CH", MVPN_E_FORMAT, 0, false},
        {"C", MVPN_E_FORMAT, 0, false},
        {"CHE", MVPN_E_FORMAT, 0, false},
        {"CH IS", MVPN_E_FORMAT, 0, false},
        {"CH,!IS", MVPN_E_FORMAT, 0, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_path_countries c = {.count = 99};
        assert_int_equal(mvpn_path_countries_parse(rows[i].text, &c), rows[i].result);
        assert_int_equal(c.count, rows[i].result == 0 ? rows[i].count : 99);
        assert_true(rows[i].result != 0 || c.is_exclusion == rows[i].is_exclusion);
    }
    char many[3 * (MVPN_PATH_COUNTRIES_MAX + 1) + 1] = "";
    for (size_t i = 0; i <= MVPN_PATH_COUNTRIES_MAX; i++) {
        (void)strcat(many, i == 0 ? "CH" : ",CH");
    }
    mvpn_path_countries c;
    assert_int_equal(mvpn_path_countries_parse(many, &c), MVPN_E_FORMAT);
    many[3 * MVPN_PATH_COUNTRIES_MAX - 1] = '\0';
    assert_int_equal(mvpn_path_countries_parse(many, &c), 0);
}

/* A table of addresses: 11.5.0.0/16 is in Germany, 11.6.0.0/16 unknown, all else in Switzerland. */
static bool locate(const void *ctx, const mvpn_addr *addr, char ret[3])
{
    *(unsigned *)(uintptr_t)ctx += 1;
    if (addr->family != 4 || addr->ip[1] == 6) {
        return false;
    }
    memcpy(ret, addr->ip[1] == 5 ? "DE" : "CH", 3);
    return true;
}

static void test_exits_by_country(void **state)
{
    (void)state;
    const char *const declared[] = {"CH", "IS", "", "US", "CH", "CH", "CH"};
    /* 4: a discovery node says it lies; 5: its address does; 6: nothing is known of its address */
    const struct {
        const char *wish;
        bool has_table;
        unsigned exits; /* bit n: relay n */
    } rows[] = {
        {"", false, 0x7f},       {"", true, 0x7f},      {"CH", false, 0x61},  {"CH", true, 0x41},
        {"CH,US", false, 0x69},  {"CH,US", true, 0x41}, {"!CH", false, 0x0a}, {"!US", false, 0x63},
        {"!US,IS", false, 0x61}, {"!US", true, 0x41},
    };
    unsigned asked = 0;
    for (unsigned i = 0; i < 7; i++) {
        mvpn_descriptor d = relay(i);
        memcpy(d.country, declared[i], strlen(declared[i]) + 1);
        add(&d)->country_wrong = i == 4;
    }
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        unsigned seen = 0;
        for (unsigned i = 0; i < 1500; i++) {
            mvpn_path_constraints wish = {.hops = 2, .unix_now = NOW};
            wish.exit_countries = countries(rows[r].wish);
            wish.country_of = rows[r].has_table ? locate : NULL;
            wish.country_ctx = &asked;
            mvpn_path path = draw(&wish);
            seen |= 1u << index_of(&path.hop[1]);
        }
        assert_int_equal(seen, rows[r].exits);
    }
    assert_true(asked > 0);
    mvpn_path_constraints wish = {.hops = 2, .unix_now = NOW, .country_of = locate};
    mvpn_path path;
    wish.country_ctx = &asked;
    wish.exit_countries = countries("IS"); /* 1 says so, and lies in CH */
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_EXIT_COUNTRY);
    wish.exit_countries = countries("FR");
    assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), MVPN_PATH_NO_EXIT_COUNTRY);
}

/* What a person chose goes before the configuration; what is blocked is no exit, but may stand
 * elsewhere in a path. */
static void test_exits_by_choice(void **state)
{
    (void)state;
    static const char *const country[] = {"CH", "CH", "SE", "SE", ""};
    for (unsigned i = 0; i < 20; i++) {
        mvpn_descriptor d = relay(i);
        d.roles = i < 5 ? ALL_ROLES : MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE;
        memcpy(d.country, i < 5 ? country[i] : "", strlen(i < 5 ? country[i] : "") + 1);
        add(&d);
    }
    mvpn_ed25519_pub first = id_of(0), third = id_of(2), unknown = id_of(99), middle = id_of(7);
    mvpn_exit_choice of_exit = {.has_exit = true, .exit = third};
    mvpn_exit_choice of_unknown = {.has_exit = true, .exit = unknown};
    mvpn_exit_choice of_middle = {.has_exit = true, .exit = middle};
    mvpn_exit_choice of_country = {.countries = countries("SE")};
    mvpn_exit_choice of_nowhere = {.countries = countries("JP")};
    mvpn_exit_choice not_open = {.is_open = true};
    mvpn_exit_choice blocked_exits = {.blocked_count = 2, .blocked = {first, third}};
    mvpn_exit_choice blocked_country = {.blocked_countries = countries("!CH")};
    mvpn_exit_choice both = {.countries = countries("CH"), .blocked_count = 1, .blocked = {first}};
    mvpn_exit_choice against = {.countries = countries("CH"),
                                .blocked_countries = countries("!CH")};
    mvpn_exit_choice exit_blocked = {
        .has_exit = true, .exit = third, .blocked_count = 1, .blocked = {third}};
    const struct {
        const mvpn_exit_choice *choice;
        const char *configured;
        uint16_t port;  /* that the configuration asks for; no exit says that it has any */
        unsigned exits; /* bits of those that fit */
        enum mvpn_path_block block; /* if none */
    } rows[] = {
        {NULL, "", 0, 0x1f, MVPN_PATH_OK},
        {&of_exit, "", 0, 0x04, MVPN_PATH_OK},
        {&of_exit, "CH", 443, 0x04, MVPN_PATH_OK},
        {&of_unknown, "", 0, 0, MVPN_PATH_NO_EXIT_CHOSEN},
        {&of_middle, "", 0, 0, MVPN_PATH_NO_EXIT_CHOSEN},
        {&not_open, "", 0, 0, MVPN_PATH_NO_EXIT_CHOSEN},
        {&of_country, "", 0, 0x0c, MVPN_PATH_OK},
        {&of_country, "CH", 0, 0x0c, MVPN_PATH_OK},
        {&of_country, "", 443, 0, MVPN_PATH_NO_EXIT_PORT},
        {&of_nowhere, "", 0, 0, MVPN_PATH_NO_EXIT_COUNTRY},
        {&blocked_exits, "", 0, 0x1a, MVPN_PATH_OK},
        {&blocked_exits, "CH", 0, 0x02, MVPN_PATH_OK},
        {&blocked_country, "", 0, 0x0c, MVPN_PATH_OK}, /* who says none may be there */
        {&both, "SE", 0, 0x02, MVPN_PATH_OK},
        {&against, "", 0, 0, MVPN_PATH_NO_EXIT_BLOCKED},
        {&exit_blocked, "", 0, 0, MVPN_PATH_NO_EXIT_BLOCKED},
    };
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        mvpn_path_constraints wish = {.hops = 3, .unix_now = NOW, .choice = rows[r].choice};
        wish.exit_countries = countries(rows[r].configured);
        wish.exit_ports[0] = rows[r].port;
        wish.exit_port_count = rows[r].port != 0;
        unsigned seen = 0, judged = 0, elsewhere = 0;
        mvpn_path path;
        for (unsigned i = 0; i < 400; i++) {
            if (rows[r].exits == 0) {
                assert_int_equal(mvpn_path_select(view, &wish, &rng, &path), rows[r].block);
                continue;
            }
            path = draw(&wish);
            check_rules(&path, 0);
            seen |= 1u << index_of(&path.hop[2]);
            elsewhere |= 1u << index_of(&path.hop[0]) | 1u << index_of(&path.hop[1]);
        }
        assert_int_equal(seen, rows[r].exits);
        assert_true(rows[r].exits == 0 || (elsewhere & 0x01) != 0);
        for (unsigned i = 0; i < 20; i++) {
            mvpn_view_info info;
            mvpn_view_get_info(view, i, &info);
            if (mvpn_path_judge_exit(mvpn_view_at(view, i), &info, &wish) == MVPN_PATH_OK) {
                judged |= 1u << i;
            }
        }
        assert_int_equal(judged, rows[r].exits);
    }
}

static void test_countries_are_checked(void **state)
{
    (void)state;
    unsigned asked = 0;
    mvpn_view_info info = {.country_wrong = false};
    mvpn_descriptor d = relay(1);
    assert_int_equal(mvpn_path_check_country(&d, &info, locate, &asked), MVPN_PATH_COUNTRY_UNKNOWN);
    memcpy(d.country, "CH", 3);
    assert_int_equal(mvpn_path_check_country(&d, &info, NULL, NULL), MVPN_PATH_COUNTRY_UNKNOWN);
    assert_int_equal(mvpn_path_check_country(&d, &info, locate, &asked), MVPN_PATH_COUNTRY_PROVEN);
    d.addresses[1] = d.addresses[0]; /* one address elsewhere is enough */
    d.addresses[1].addr.ip[1] = 5;
    d.address_count = 2;
    assert_int_equal(mvpn_path_check_country(&d, &info, locate, &asked), MVPN_PATH_COUNTRY_WRONG);
    d = relay(6);
    memcpy(d.country, "CH", 3);
    assert_int_equal(mvpn_path_check_country(&d, &info, locate, &asked), MVPN_PATH_COUNTRY_UNKNOWN);
    info.country_wrong = true;
    assert_int_equal(mvpn_path_check_country(&d, &info, NULL, NULL), MVPN_PATH_COUNTRY_WRONG);
}

static void test_exits_by_policy(void **state)
{
    (void)state;
    mvpn_path path;
    mvpn_descriptor d = relay(0); /* says nothing */
    add(&d);
    d = relay(1);
    d.has_policy = true;
    d.policy_flags = MVPN_EXIT_IPV4;
    d.policy_range_count = 2;
    d.policy_ranges[0] = (mvpn_port_range){80, 80};
    d.policy_ranges[1] = (mvpn_port_range){443, 9000};
    add(&d);
    d = relay(2);
    d.has_policy = true;
    d.policy_flags = MVPN_EXIT_IPV4 | MVPN_EXIT_IPV6;
    d.policy_range_count = 1;
    d.policy_ranges[0] = (mvpn_port_range){1, 1000};
    add(&d);
    const struct {
        uint16_t ports[2];
        size_t count;
        uint8_t family;
        unsigned exits;
    } rows[] = {
        {{0}, 0, 0, 7},       {{80}, 1, 0, 6},     {{79}, 1, 0, 4},       {{1000}, 1, 0, 6},
        {{1001}, 1, 0, 2},    {{9000}, 1, 0, 2},   {{9001}, 1, 0, 0},     {{442}, 1, 0, 4},
        {{80, 443}, 2, 0, 6}, {{80, 22}, 2, 0, 4}, {{22, 8000}, 2, 0, 0}, {{0}, 0, 4, 6},
        {{0}, 0, 6, 4},       {{8000}, 1, 6, 0},   {{80}, 1, 6, 4},
    };
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        mvpn_path_constraints wish = {.hops = 1, .unix_now = NOW};
        memcpy(wish.exit_ports, rows[r].ports, sizeof(rows[r].ports));
        wish.exit_port_count = rows[r].count;
        wish.exit_family = rows[r].family;
        unsigned seen = 0;
        for (unsigned i = 0; i < 200; i++) {
            enum mvpn_path_block block = mvpn_path_select(view, &wish, &rng, &path);
            assert_int_equal(block, rows[r].exits == 0 ? MVPN_PATH_NO_EXIT_PORT : MVPN_PATH_OK);
            seen |= block == MVPN_PATH_OK ? 1u << index_of(&path.hop[0]) : 0;
        }
        assert_int_equal(seen, rows[r].exits);
    }
}

static void test_exits_by_speed(void **state)
{
    (void)state;
    const struct {
        uint32_t kbit;
        uint8_t cap;
    } relays[] = {{0, 255}, {100000, 255}, {100000, 15}, {100000, 16}, {4000000, 31}};
    const struct {
        uint32_t min_kbit;
        unsigned exits;
    } rows[] = {{0, 0x1f},      {50000, 0x1e},  {65536, 0x1a},
                {100000, 0x1a}, {100001, 0x10}, {4000001, 0x00}};
    mvpn_path path;
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(relays); i++) {
        mvpn_descriptor d = relay(i);
        d.has_bandwidth = relays[i].kbit != 0;
        d.bandwidth_kbit = relays[i].kbit;
        add(&d)->cap_log2 = relays[i].cap;
    }
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        mvpn_path_constraints wish = {
            .hops = 1, .unix_now = NOW, .exit_min_kbit = rows[r].min_kbit};
        unsigned seen = 0;
        for (unsigned i = 0; i < 5000; i++) {
            enum mvpn_path_block block = mvpn_path_select(view, &wish, &rng, &path);
            assert_int_equal(block, rows[r].exits == 0 ? MVPN_PATH_NO_EXIT_SPEED : MVPN_PATH_OK);
            seen |= block == MVPN_PATH_OK ? 1u << index_of(&path.hop[0]) : 0;
        }
        assert_int_equal(seen, rows[r].exits);
    }
}

/* Almost all relays are related to the guard: the few that are not are found, and drawn evenly. */
static void test_the_few_that_fit_are_found(void **state)
{
    (void)state;
    unsigned seen[8] = {0};
    mvpn_ed25519_pub guard = id_of(100);
    for (unsigned i = 0; i < 200; i++) {
        mvpn_descriptor d = relay(i);
        d.roles = i == 100 ? MVPN_ROLE_GUARD : MVPN_ROLE_EXIT;
        if (i >= 8) {
            memcpy(d.provider, "hoster", 7);
        }
        add(&d);
    }
    for (unsigned i = 0; i < 8000; i++) {
        mvpn_path_constraints wish = {.hops = 2, .unix_now = NOW, .guard = &guard};
        mvpn_path path = draw(&wish);
        assert_in_range(index_of(&path.hop[1]), 0, 7);
        seen[index_of(&path.hop[1])]++;
    }
    for (unsigned i = 0; i < 8; i++) { /* 1000 +- 4 sigma */
        assert_in_range(seen[i], 1000 - 118, 1000 + 118);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_no_rule_is_broken_in_many_draws),
        TEST(test_no_rule_is_broken_with_relays_behind_nats),
        TEST(test_a_relay_behind_a_nat_needs_its_nat_relay),
        TEST(test_a_relay_behind_a_nat_is_no_first_hop),
        TEST(test_wishes_are_kept),
        TEST(test_hops_can_reach_each_other),
        TEST(test_single_hop_is_guard_and_exit),
        TEST(test_what_blocks_is_told),
        TEST(test_relax_bits_lift_their_rule_and_no_other),
        TEST(test_blocks_of_ipv6),
        TEST(test_unusable_relays_are_left_out),
        TEST(test_the_guard_has_an_address_for_us),
        TEST(test_weights),
        TEST(test_unmeasured_claims_are_capped),
        TEST(test_load_over_equal_relays),
        TEST(test_hostile_at_both_ends),
        TEST(test_dead_and_withdrawn_are_left_out),
        TEST(test_confirmed_relays_come_first),
        TEST(test_countries_are_parsed),
        TEST(test_exits_by_country),
        TEST(test_countries_are_checked),
        TEST(test_exits_by_policy),
        TEST(test_exits_by_choice),
        TEST(test_exits_by_speed),
        TEST(test_the_few_that_fit_are_found),
        TEST(test_all_places_are_reached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
