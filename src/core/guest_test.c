/*
 * Choosing NAT relays, keeping them, telling of them; connector and finder are played by the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/guest.h"
#include "core/path.h"
#include "core/testview.h"

#define NOW UINT64_C(1800000000)
#define SELF 200u

/* ---- what the test plays ---- */

static struct world {
    mvpn_rng rng;
    mvpn_view *view;
    mvpn_guest *guest;
    mvpn_time now;
    mvpn_publisher publisher; /* of the finder: its descriptor is the template */
    mvpn_link_target registered[MVPN_CONNECTOR_BINDINGS];
    size_t registered_count;
    unsigned registrations;
    bool is_deaf[256]; /* NAT relays that do not answer, by number */
    bool is_deaf6;     /* nothing that goes by IPv6 arrives */
    bool has_changed;
    /* What the finder was told last. */
    unsigned told;
    mvpn_time told_at;
    size_t count, seen_count;
    mvpn_descriptor_nat_relay said[MVPN_DESCRIPTOR_NAT_RELAYS_MAX];
    mvpn_addr seen[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    uint16_t port; /* ours, as it is seen */
} w;

static mvpn_ed25519_pub id_of(unsigned i)
{
    return (mvpn_ed25519_pub){{0xd0, (uint8_t)i}};
}

static unsigned number_of(const mvpn_ed25519_pub *id)
{
    return id->b[1];
}

void mvpn_connector_register(mvpn_connector *connector, const mvpn_link_target *relays,
                             size_t count, mvpn_time now)
{
    (void)connector;
    (void)now;
    assert_in_range(count, 0, MVPN_CONNECTOR_BINDINGS);
    memcpy(w.registered, relays, count * sizeof(*relays));
    w.registered_count = count;
    w.registrations++;
}

size_t mvpn_connector_bindings(const mvpn_connector *connector,
                               mvpn_connector_binding ret[static MVPN_CONNECTOR_BINDINGS])
{
    (void)connector;
    for (size_t i = 0; i < w.registered_count; i++) {
        const mvpn_link_target *t = &w.registered[i];
        ret[i] = (mvpn_connector_binding){.identity = t->identity, .relay = t->addr};
        if (!w.is_deaf[number_of(&t->identity)] && !(w.is_deaf6 && t->addr.family == 6)) {
            ret[i].is_registered = true;
            ret[i].rendezvous.b[0] = (uint8_t)number_of(&t->identity);
            ret[i].seen = t->addr.family == 4
                              ? (mvpn_addr){.family = 4, .port = w.port, .ip = {99, 1, 1, 1}}
                              : (mvpn_addr){.family = 6, .port = w.port, .ip = {0x2a, 9}};
        }
    }
    return w.registered_count;
}

bool mvpn_connector_take_binding_change(mvpn_connector *connector)
{
    (void)connector;
    bool had = w.has_changed;
    w.has_changed = false;
    return had;
}

const mvpn_publisher *mvpn_finder_publisher(const mvpn_finder *finder)
{
    (void)finder;
    return &w.publisher;
}

void mvpn_finder_set_nat_relays(mvpn_finder *finder, const mvpn_descriptor_nat_relay *relays,
                                size_t count, const mvpn_addr *seen, size_t seen_count)
{
    (void)finder;
    w.told++;
    w.told_at = w.now;
    w.count = count;
    w.seen_count = seen_count;
    memcpy(w.said, relays, count * sizeof(*relays));
    memcpy(w.seen, seen, seen_count * sizeof(*seen));
}

/* NAT relay i in a block of its own, by IPv4. */
static mvpn_descriptor relay(unsigned i)
{
    mvpn_descriptor d = {.sequence = 1, .published = NOW - 1000, .expires = NOW + 1000000};
    d.identity = id_of(i);
    d.roles = MVPN_ROLE_MIDDLE | MVPN_ROLE_NAT_RELAY;
    d.address_count = 1;
    d.addresses[0] = (mvpn_descriptor_address){
        MVPN_CARRIER_PLAIN, {.family = 4, .port = 443, .ip = {11, (uint8_t)i, 1, 1}}};
    return d;
}

static mvpn_view_info *add(const mvpn_descriptor *d)
{
    return test_view_add(w.view, d);
}

static void add_plain(unsigned from, unsigned count)
{
    for (unsigned i = from; i < from + count; i++) {
        mvpn_descriptor d = relay(i);
        add(&d);
    }
}

static void take_away(unsigned i)
{
    mvpn_ed25519_pub id = id_of(i);
    test_view_remove(w.view, &id);
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof(w));
    mvpn_rng_init_test(&w.rng, 3);
    w.view = test_view_new();
    w.view->is_confirmed = true;
    w.now = MVPN_S(1000);
    w.port = 40000;
    w.publisher.descriptor.identity = id_of(SELF);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_guest_free(w.guest);
    test_view_free(w.view);
    return 0;
}

/* ---- the choice ---- */

static mvpn_guest_wish wish_of(bool has_ipv6)
{
    return (mvpn_guest_wish){
        .view = w.view,
        .self = &w.publisher.descriptor,
        .has_ipv4 = true,
        .has_ipv6 = has_ipv6,
        .unix_now = NOW,
    };
}

/* How often each is drawn of `draws`. */
static void draw_many(const mvpn_guest_wish *wish, const mvpn_link_target *other, unsigned draws,
                      unsigned seen[static 256])
{
    memset(seen, 0, 256 * sizeof(seen[0]));
    for (unsigned i = 0; i < draws; i++) {
        mvpn_link_target t;
        assert_int_equal(mvpn_guest_choose(wish, other, &w.rng, &t), 0);
        seen[number_of(&t.identity)]++;
    }
}

static void test_only_those_that_can_serve(void **state)
{
    (void)state;
    mvpn_guest_wish wish = wish_of(false);
    mvpn_link_target t;
    for (unsigned i = 0; i < 9; i++) {
        mvpn_descriptor d = relay(i);
        switch (i) {
        case 0:
            d.roles = MVPN_ROLE_MIDDLE;
            break;
        case 1:
            d.roles = 0; /* withdrawn */
            break;
        case 2:
            d.nat_relay_count = 1; /* behind a NAT itself */
            d.nat_relays[0] = (mvpn_descriptor_nat_relay){id_of(8), {{1}}, 4};
            break;
        case 3:
            d.expires = NOW - 1000;
            break;
        case 4:
            d.addresses[0].addr.ip[0] = 10;
            break;
        case 5:
            d.addresses[0].addr = (mvpn_addr){.family = 6, .port = 1, .ip = {0x2a, 1}};
            break;
        case 6:
            d.identity = id_of(SELF);
            break;
        default:
            break;
        }
        mvpn_view_info *info = add(&d);
        info->is_dead = i == 7;
        info->is_confirmed = i != 8;
        assert_int_equal(mvpn_guest_choose(&wish, NULL, &w.rng, &t), MVPN_E_UNKNOWN);
        assert_int_not_equal(mvpn_guest_target(&wish, &d.identity, 0, &t), 0);
    }
    w.view->is_confirmed = false; /* there is nobody better yet */
    assert_int_equal(mvpn_guest_choose(&wish, NULL, &w.rng, &t), 0);
    assert_int_equal(number_of(&t.identity), 8);
    const mvpn_ed25519_pub eight = id_of(8);
    assert_int_equal(mvpn_guest_target(&wish, &eight, 0, &t), 0);
    wish.avoided = &eight;
    wish.avoided_count = 1;
    assert_int_equal(mvpn_guest_choose(&wish, NULL, &w.rng, &t), MVPN_E_UNKNOWN);
}

/* What counts for a second one, in its order; the worst are taken where there is nothing better. */
static void test_preferences(void **state)
{
    (void)state;
    unsigned seen[256];
    mvpn_link_target first;
    mvpn_guest_wish wish = wish_of(true);
    mvpn_descriptor *self = &w.publisher.descriptor;
    w.view->is_confirmed = false;
    add_plain(0, 1);
    assert_int_equal(mvpn_guest_choose(&wish, NULL, &w.rng, &first), 0);

    mvpn_descriptor ours = relay(1), block = relay(2), v4 = relay(3), v6 = relay(4);
    mvpn_descriptor unconfirmed = relay(5);
    const mvpn_addr addr6 = {.family = 6, .port = 443, .ip = {0x2a, 0x10, 0, 1}};
    v6.address_count = 2;
    v6.addresses[1] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, addr6};
    unconfirmed.addresses[0].addr = (mvpn_addr){.family = 6, .port = 1, .ip = {0x2a, 0x11}};
    block.addresses[0].addr.ip[1] = 0; /* the first one's */
    ours.family_count = self->family_count = 1;
    ours.family[0] = self->identity;
    self->family[0] = ours.identity;

    add(&unconfirmed)->is_confirmed = false;
    draw_many(&wish, &first, 50, seen);
    assert_int_equal(seen[5], 50);
    add(&block);
    draw_many(&wish, &first, 50, seen);
    assert_int_equal(seen[2], 50);
    add(&ours);
    draw_many(&wish, &first, 50, seen);
    assert_int_equal(seen[1], 50);
    add(&v4);
    draw_many(&wish, &first, 50, seen);
    assert_int_equal(seen[3], 50);
    add(&v6);
    draw_many(&wish, &first, 50, seen);
    assert_int_equal(seen[4], 50);

    self->nat_relay_count = 1; /* that it serves us already is nothing against it */
    self->nat_relays[0] = (mvpn_descriptor_nat_relay){id_of(4), {{1}}, 4};
    draw_many(&wish, &first, 50, seen);
    assert_int_equal(seen[4], 50);

    /* By that address, since the first is used by IPv4. */
    mvpn_link_target second;
    assert_int_equal(mvpn_guest_choose(&wish, &first, &w.rng, &second), 0);
    assert_true(mvpn_addr_eq(&second.addr, &addr6));
    wish.has_ipv6 = false;
    assert_int_equal(mvpn_guest_choose(&wish, &first, &w.rng, &second), 0);
    assert_int_equal(second.addr.family, 4);
    draw_many(&wish, &first, 200, seen);
    assert_true(seen[3] > 50 && seen[4] > 50 && seen[3] + seen[4] == 200);
    /* A rule that the network relaxes does not count. */
    wish.relax = MVPN_RELAX_BLOCK | MVPN_RELAX_FAMILY;
    draw_many(&wish, &first, 400, seen);
    assert_true(seen[1] > 50 && seen[2] > 50 && seen[3] > 50 && seen[4] > 50);
}

static void test_weights(void **state)
{
    (void)state;
    unsigned seen[256];
    mvpn_guest_wish wish = wish_of(false);
    for (unsigned i = 0; i < 10; i++) {
        mvpn_descriptor d = relay(i);
        d.has_bandwidth = true;
        d.bandwidth_kbit = i == 4 ? 65536 : 8000;
        add(&d)->cap_log2 = 20;
    }
    draw_many(&wish, NULL, 1700, seen);
    assert_in_range(seen[4], 700, 900); /* 8 of 17 */
    for (unsigned i = 0; i < 10; i++) {
        assert_true(i == 4 || (seen[i] > 60 && seen[i] < 150));
    }
}

/* ---- keeping two ---- */

static void start(bool has_ipv6)
{
    const mvpn_guest_config c = {
        .rng = &w.rng,
        .view = w.view,
        .finder = (mvpn_finder *)&w, /* never looked into: its functions are above */
        .identity = id_of(SELF),
        .has_ipv4 = true,
        .has_ipv6 = has_ipv6,
        .unix_offset_us = (int64_t)(NOW * MVPN_US_PER_S) - (int64_t)w.now,
    };
    assert_int_equal(mvpn_guest_new(&c, w.now, &w.guest), 0);
}

/* As an engine does: at deadlines, and the connector says at once what has changed. */
static void pass(mvpn_time span)
{
    for (mvpn_time until = w.now + span;;) {
        mvpn_guest_tick(w.guest, w.now);
        if (w.now >= until) {
            return;
        }
        mvpn_time next = mvpn_guest_deadline(w.guest);
        assert_true(next > w.now);
        w.now = mvpn_time_min(next, until);
    }
}

static void set_deaf(unsigned i, bool is_deaf)
{
    w.is_deaf[i] = is_deaf;
    w.has_changed = true;
}

static unsigned at(size_t i)
{
    assert_true(i < w.registered_count);
    return number_of(&w.registered[i].identity);
}

static void test_two_are_kept_while_they_serve(void **state)
{
    (void)state;
    start(false);
    pass(MVPN_S(30));
    assert_int_equal(w.registrations, 0); /* nobody is there */
    assert_int_equal(w.told, 0);
    add_plain(0, 1);
    pass(MVPN_S(10));
    assert_int_equal(w.registered_count, 1);
    add_plain(1, 1);
    pass(MVPN_S(10));
    assert_int_equal(w.registered_count, 2);
    assert_true(at(0) == 0 && at(1) == 1);
    unsigned before = w.registrations;
    for (unsigned i = 2; i < 60; i++) { /* better ones */
        mvpn_descriptor d = relay(i);
        d.has_bandwidth = true;
        d.bandwidth_kbit = 1000000;
        add(&d);
        pass(MVPN_S(60));
        w.port++; /* a NAT that forgets */
        w.has_changed = true;
    }
    assert_int_equal(w.registrations, before);
    assert_true(at(0) == 0 && at(1) == 1);
    assert_in_range(w.told, 1, 2);
}

static void test_one_that_leaves_the_view_is_replaced_at_once(void **state)
{
    (void)state;
    add_plain(0, 3);
    start(false);
    pass(MVPN_S(1));
    unsigned gone = at(0), kept = at(1);
    take_away(gone);
    pass(MVPN_S(6));
    assert_int_equal(w.registered_count, 2);
    assert_int_equal(at(0), 3 - gone - kept);
    assert_int_equal(at(1), kept);
    /* Moved: the connector is told where. */
    mvpn_descriptor d = relay(kept);
    d.addresses[0].addr.port = 444;
    add(&d);
    pass(MVPN_S(6));
    assert_int_equal(w.registered[1].addr.port, 444);
}

static void test_one_that_fails_is_replaced_after_a_minute(void **state)
{
    (void)state;
    add_plain(0, 2);
    start(false);
    pass(MVPN_S(10));
    unsigned bad = at(0);
    set_deaf(bad, true);
    pass(MVPN_S(600));
    assert_int_equal(at(0), bad); /* there is nobody else */
    add_plain(2, 1);
    pass(MVPN_S(6));
    assert_int_equal(at(0), 2);
    /* And does not come back to it, whatever happens to the other, before its time. */
    set_deaf(bad, false);
    set_deaf(2, true);
    pass(MVPN_S(30));
    set_deaf(2, false); /* a short loss is none */
    pass(MVPN_S(60));
    assert_int_equal(at(0), 2);
    set_deaf(2, true);
    pass(MVPN_S(55));
    assert_int_equal(at(0), 2);
    pass(MVPN_S(60));
    assert_int_equal(at(0), bad);
}

/* Once it serves, what was is forgotten: the next time it is left alone for a minute again. */
static void test_who_serves_is_forgiven(void **state)
{
    (void)state;
    add_plain(0, 3);
    start(false);
    pass(MVPN_S(1));
    unsigned a = at(0), c = 3 - a - at(1);
    set_deaf(a, true);
    set_deaf(c, true);
    pass(MVPN_S(4 * 3600)); /* by turns, and each for half an hour at the end */
    if (at(0) != a) {
        unsigned other = a;
        a = c;
        c = other;
    }
    set_deaf(a, false);
    pass(MVPN_S(10));
    set_deaf(a, true);
    set_deaf(c, false);
    pass(MVPN_S(2400)); /* the other's time is over */
    assert_int_equal(at(0), c);
    set_deaf(c, true);
    pass(MVPN_S(80));
    assert_int_equal(at(0), a);
}

static void test_one_that_failed_is_better_than_none(void **state)
{
    (void)state;
    add_plain(0, 3);
    start(false);
    pass(MVPN_S(1));
    unsigned failed = at(0), third = 3 - failed - at(1);
    set_deaf(failed, true);
    pass(MVPN_S(70));
    assert_int_equal(at(0), third);
    take_away(third);
    pass(MVPN_S(6));
    assert_int_equal(at(0), failed);
}

/* A network that gives out addresses of IPv6 and carries none: the other one is used by IPv4 as
 * well, not one after another tried by IPv6. */
static void test_a_family_that_is_not_there(void **state)
{
    (void)state;
    add_plain(0, 1);
    for (unsigned i = 1; i < 10; i++) {
        mvpn_descriptor d = relay(i);
        d.address_count = 2;
        d.addresses[1] = (mvpn_descriptor_address){
            MVPN_CARRIER_PLAIN, {.family = 6, .port = 443, .ip = {0x2a, 0x10, 0, (uint8_t)i}}};
        add(&d);
    }
    w.is_deaf6 = true;
    start(true);
    pass(MVPN_S(135));
    assert_true(w.registered[0].addr.family == 4 && w.registered[1].addr.family == 4);
    assert_int_equal(w.count, 2);
    /* Later it is tried again, if there is need for another one. */
    w.is_deaf6 = false;
    set_deaf(at(1), true);
    pass(MVPN_S(1900));
    set_deaf(at(1), true);
    pass(MVPN_S(70));
    assert_true(w.registered[0].addr.family == 6 || w.registered[1].addr.family == 6);
}

/* Offline for a while: that is no family's fault. */
static void test_an_outage_is_no_familys_fault(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        mvpn_descriptor d = relay(i);
        if (i % 2 == 1) {
            d.addresses[0].addr =
                (mvpn_addr){.family = 6, .port = 443, .ip = {0x2a, 0x10, 0, (uint8_t)i}};
        }
        add(&d);
    }
    start(true);
    pass(MVPN_S(10));
    memset(w.is_deaf, 1, sizeof(w.is_deaf));
    w.has_changed = true;
    pass(MVPN_S(300));
    assert_int_equal(w.registered_count, 2);
    memset(w.is_deaf, 0, sizeof(w.is_deaf));
    w.has_changed = true;
    pass(MVPN_S(1));
    assert_int_equal(w.count, 2);
}

/* Nobody answers: each is given its minute, and those that fail again and again are left alone
 * longer. */
static void test_back_off(void **state)
{
    (void)state;
    unsigned turns[256] = {0};
    add_plain(0, 8);
    memset(w.is_deaf, 1, sizeof(w.is_deaf));
    start(false);
    pass(MVPN_S(1));
    for (unsigned i = 0; i < 4 * 60; i++) {
        unsigned before[2] = {at(0), at(1)};
        pass(MVPN_S(60));
        assert_int_equal(w.registered_count, 2);
        assert_true(at(0) != at(1));
        for (unsigned k = 0; k < 2; k++) {
            turns[at(k)] += at(k) != before[k];
        }
    }
    assert_int_equal(w.told, 0);
    for (unsigned i = 0; i < 8; i++) {
        assert_in_range(turns[i], 4, 20); /* of 60 without the pauses */
    }
    /* One of them answers: it is found. */
    set_deaf(5, false);
    pass(MVPN_S(45 * 60));
    assert_true(at(0) == 5 || at(1) == 5);
    assert_int_equal(w.count, 1);
}

/* ---- what is said ---- */

static void test_what_is_published(void **state)
{
    (void)state;
    mvpn_descriptor d = relay(1);
    d.addresses[0].addr = (mvpn_addr){.family = 6, .port = 443, .ip = {0x2a, 0x10, 0, 1}};
    add_plain(0, 1);
    add(&d);
    set_deaf(0, true);
    set_deaf(1, true);
    start(true);
    pass(MVPN_S(30));
    assert_int_equal(w.told, 0); /* not before one has registered us */
    set_deaf(0, false);
    pass(0);
    assert_int_equal(w.told, 1);
    assert_int_equal(w.count, 1);
    assert_int_equal(number_of(&w.said[0].identity), 0);
    assert_int_equal(w.said[0].rendezvous.b[0], 0);
    assert_int_equal(w.said[0].family, 4);
    assert_int_equal(w.seen_count, 1);

    /* The other a moment later: that has to wait. */
    mvpn_time first = w.now;
    set_deaf(1, false);
    pass(MVPN_S(59));
    assert_int_equal(w.told, 1);
    pass(MVPN_S(1));
    assert_int_equal(w.told, 2);
    assert_int_equal(w.told_at, first + MVPN_S(60));
    assert_int_equal(w.count, 2);
    assert_int_equal(w.seen_count, 2);
    assert_true(w.said[0].family != w.said[1].family);

    /* A short loss is not worth a word; a longer one is, once the minute is over. */
    pass(MVPN_S(60));
    set_deaf(0, true);
    pass(MVPN_S(14));
    set_deaf(0, false);
    pass(MVPN_S(60));
    assert_int_equal(w.told, 2);
    set_deaf(0, true);
    pass(MVPN_S(14));
    assert_int_equal(w.told, 2);
    pass(MVPN_S(1));
    assert_int_equal(w.told, 3);
    assert_int_equal(w.count, 1);
    assert_int_equal(number_of(&w.said[0].identity), 1);
    assert_int_equal(w.seen_count, 1);

    /* Within that minute the one that is named goes and the other comes: what is said is of no use,
     * so that it does not wait. */
    pass(MVPN_S(5));
    set_deaf(1, true);
    pass(MVPN_S(10));
    set_deaf(0, false);
    pass(MVPN_S(4));
    assert_int_equal(w.told, 3);
    pass(MVPN_S(1));
    assert_int_equal(w.told, 4);
    assert_int_equal(w.count, 1);
    assert_int_equal(number_of(&w.said[0].identity), 0);

    /* None is left. */
    set_deaf(0, true);
    pass(MVPN_S(15));
    assert_int_equal(w.told, 5);
    assert_int_equal(w.count, 0);
}

/* Both of them are in the first descriptor, if the other is not late. */
static void test_the_first_descriptor_waits_for_both(void **state)
{
    (void)state;
    add_plain(0, 2);
    set_deaf(0, true);
    set_deaf(1, true);
    start(false);
    pass(MVPN_MS(100));
    set_deaf(0, false);
    pass(MVPN_MS(300));
    assert_int_equal(w.told, 0);
    set_deaf(1, false);
    pass(0);
    assert_int_equal(w.told, 1);
    assert_int_equal(w.count, 2);
    assert_int_equal(w.seen_count, 1); /* one address, seen by both */
}

/* However one comes and goes: a descriptor a minute and no more, while the other serves. */
static void test_publishing_is_bounded(void **state)
{
    (void)state;
    add_plain(0, 20);
    start(false);
    pass(MVPN_S(5));
    for (unsigned i = 0; i < 600; i++) {
        unsigned before = w.told;
        mvpn_time last = w.told_at;
        set_deaf(at(0), i % 2 == 0);
        pass(MVPN_S(20));
        assert_true(w.told == before || (w.told == before + 1 && w.told_at >= last + MVPN_S(60)));
    }
    assert_in_range(w.told, 50, 201);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_only_those_that_can_serve),
        TEST(test_preferences),
        TEST(test_weights),
        TEST(test_two_are_kept_while_they_serve),
        TEST(test_one_that_leaves_the_view_is_replaced_at_once),
        TEST(test_one_that_fails_is_replaced_after_a_minute),
        TEST(test_who_serves_is_forgiven),
        TEST(test_one_that_failed_is_better_than_none),
        TEST(test_a_family_that_is_not_there),
        TEST(test_an_outage_is_no_familys_fault),
        TEST(test_back_off),
        TEST(test_the_first_descriptor_waits_for_both),
        TEST(test_what_is_published),
        TEST(test_publishing_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
