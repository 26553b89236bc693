/* Guards: few, drawn by weight, kept for months, asked again before new ones are drawn, and none
 * kept that only a first liar showed. */
#include "core/testing.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/guard.h"
#include "core/testview.h"

#define NOW UINT64_C(1800000000)
#define HOUR UINT64_C(3600)
#define DAY (24 * HOUR)
#define RELAYS 60

static mvpn_view *view;
static mvpn_rng rng;
static mvpn_guards guards;
static uint64_t now;

static mvpn_ed25519_pub id_of(unsigned i)
{
    return (mvpn_ed25519_pub){{0xd0, (uint8_t)(i >> 8), (uint8_t)i}};
}

static unsigned index_of(const mvpn_ed25519_pub *id)
{
    return (unsigned)id->b[1] << 8 | id->b[2];
}

static mvpn_view_info *add(unsigned i)
{
    mvpn_descriptor d = {.sequence = 1, .published = 1, .expires = UINT64_MAX / 2};
    d.identity = id_of(i);
    d.roles = MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE;
    d.address_count = 1;
    d.addresses[0] = (mvpn_descriptor_address){
        MVPN_CARRIER_PLAIN,
        {.family = 4, .port = 443, .ip = {(uint8_t)(11 + i / 256), (uint8_t)i, 1, 1}}};
    return test_view_add(view, &d);
}

static void take_away(unsigned i)
{
    mvpn_ed25519_pub id = id_of(i);
    test_view_remove(view, &id);
}

static void empty_view(void)
{
    while (view->count > 0) {
        mvpn_ed25519_pub id = view->relay[0]->identity;
        test_view_remove(view, &id);
    }
}

static int setup(void **state)
{
    (void)state;
    view = test_view_new();
    view->is_confirmed = true;
    mvpn_rng_init_test(&rng, 4);
    now = NOW;
    mvpn_guards_init(&guards, &rng);
    for (unsigned i = 0; i < RELAYS; i++) {
        add(i);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_view_free(view);
    return 0;
}

static mvpn_path_constraints wish_now(void)
{
    return (mvpn_path_constraints){.hops = 3, .unix_now = now};
}

static void update(void)
{
    mvpn_path_constraints wish = wish_now();
    mvpn_guards_update(&guards, view, &wish, &rng);
}

static int draw(mvpn_ed25519_pub *ret)
{
    mvpn_path_constraints wish = wish_now();
    return mvpn_guards_draw(&guards, view, &wish, &rng, ret);
}

/* The n-th guard to try, or -1. */
static int to_try(size_t n, bool any)
{
    mvpn_ed25519_pub order[MVPN_GUARDS_MAX];
    size_t count = mvpn_guards_order(&guards, now, any, order);
    return n < count ? (int)index_of(&order[n]) : -1;
}

static void succeed(int i)
{
    mvpn_ed25519_pub id = id_of((unsigned)i);
    mvpn_guards_succeeded(&guards, &id, &rng, now);
}

static void fail_at(int i)
{
    mvpn_ed25519_pub id = id_of((unsigned)i);
    mvpn_guards_failed(&guards, &id, &rng, now);
}

static const mvpn_guard *guard_of(int i)
{
    mvpn_ed25519_pub id = id_of((unsigned)i);
    return mvpn_guards_find(&guards, &id);
}

/* ---- the sample ---- */

static void test_three_are_drawn_and_stay(void **state)
{
    (void)state;
    update();
    assert_int_equal(guards.count, MVPN_GUARDS_PRIMARY);
    mvpn_guards before = guards;
    for (unsigned i = 0; i < 100; i++) {
        now += 600;
        update();
        assert_true(guards.guard[i % 3].is_primary && guards.guard[i % 3].is_usable);
    }
    assert_int_equal(guards.count, MVPN_GUARDS_PRIMARY);
    assert_memory_equal(&guards.guard[0].identity, &before.guard[0].identity, 32);
    assert_int_equal(guards.generation, before.generation);
}

/* First draws of many clients are by bandwidth times stability. */
static void test_draw_is_weighted(void **state)
{
    (void)state;
    const struct {
        uint32_t kbit;
        uint8_t cap;
        uint16_t uptime_h;
        uint64_t known_s;
        unsigned weight;
    } rows[] = {
        {0, 255, 0, 0, 1},           {65536, 20, 0, 0, 8},        {UINT32_MAX, 14, 0, 0, 2},
        {0, 20, 23, 7 * DAY - 1, 1}, {0, 20, 24, 0, 2},           {0, 20, 7 * 24, 0, 3},
        {0, 20, 0, 7 * DAY, 2},      {0, 20, 65535, 30 * DAY, 5}, {65536, 20, 65535, 30 * DAY, 40},
    };
    const unsigned draws = 20000;
    unsigned seen[MVPN_ARRAY_LEN(rows)] = {0}, total = 0;
    empty_view();
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_view_info *info = add(i);
        info->cap_log2 = rows[i].cap;
        info->uptime_h = rows[i].uptime_h;
        info->first_seen = NOW - rows[i].known_s;
        view->relay[i]->has_bandwidth = true;
        view->relay[i]->bandwidth_kbit = rows[i].kbit;
        total += rows[i].weight;
    }
    for (unsigned i = 0; i < draws; i++) {
        mvpn_ed25519_pub id;
        mvpn_guards_init(&guards, &rng);
        assert_int_equal(draw(&id), 0);
        seen[index_of(&id)]++;
    }
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        double p = (double)rows[i].weight / total, diff = seen[i] - draws * p;
        assert_true(diff * diff <= 12.25 * draws * p * (1 - p)); /* 3.5 sigma */
    }
}

static void test_only_fit_relays_are_drawn(void **state)
{
    (void)state;
    for (unsigned i = 0; i < RELAYS; i++) {
        switch (i % 6) {
        case 0:
            view->info[i].is_dead = true;
            break;
        case 1:
            view->relay[i]->roles = MVPN_ROLE_MIDDLE;
            break;
        case 2:
            view->relay[i]->expires = 2;
            break;
        case 3:
            view->relay[i]->addresses[0].addr.ip[0] = 10;
            break;
        case 4:
            view->info[i].is_confirmed = false;
            break;
        default:
            break;
        }
    }
    mvpn_ed25519_pub id;
    for (unsigned n = 0; n < 10; n++) {
        now += DAY;
        assert_int_equal(draw(&id), 0);
        assert_int_equal(index_of(&id) % 6, 5);
    }
    assert_int_equal(draw(&id), MVPN_E_UNKNOWN);
}

static void test_wishes_of_a_draw(void **state)
{
    (void)state;
    mvpn_ed25519_pub id, exit = id_of(7);
    mvpn_path_constraints wish = wish_now();
    wish.exit = &exit;
    for (unsigned i = 0; i < 16; i++) {
        wish.excluded[wish.excluded_count++] = id_of(i + 20);
    }
    for (unsigned i = 40; i < RELAYS; i++) {
        memcpy(view->relay[i]->provider, "hoster", 7);
    }
    memcpy(view->relay[7]->provider, "hoster", 7);
    for (unsigned n = 0; n < 200; n++) {
        mvpn_guards_init(&guards, &rng);
        assert_int_equal(mvpn_guards_draw(&guards, view, &wish, &rng, &id), 0);
        assert_true(index_of(&id) != 7 && (index_of(&id) < 20 || index_of(&id) > 35) &&
                    index_of(&id) < 40);
    }
}

/* Guards of one operator count once, as long as there are others. */
/* The wanted exit is behind a NAT: what stands between it and its callers is no guard. */
static void test_no_guard_is_the_exits_nat_relay(void **state)
{
    (void)state;
    empty_view();
    (void)add(1);
    mvpn_descriptor exit = *view->relay[0];
    mvpn_path_constraints wish = {.unix_now = now, .exit = &exit.identity};
    mvpn_ed25519_pub drawn;
    exit.identity = id_of(2);
    exit.addresses[0].addr.ip[1] = 2;
    exit.nat_relay_count = 1;
    exit.nat_relays[0] = (mvpn_descriptor_nat_relay){id_of(1), {{1}}, 4};
    (void)test_view_add(view, &exit);
    assert_int_equal(mvpn_guards_draw(&guards, view, &wish, &rng, &drawn), MVPN_E_UNKNOWN);
    wish.exit = NULL; /* and it is no guard itself: the only one is 1 */
    assert_int_equal(mvpn_guards_draw(&guards, view, &wish, &rng, &drawn), 0);
    assert_memory_equal(drawn.b, id_of(1).b, 32);
    assert_int_equal(mvpn_guards_draw(&guards, view, &wish, &rng, &drawn), MVPN_E_UNKNOWN);
}

static void test_one_guard_of_an_operator(void **state)
{
    (void)state;
    for (unsigned i = 0; i < RELAYS - 2; i++) {
        memcpy(view->relay[i]->provider, "hoster", 7);
    }
    for (unsigned n = 0; n < 50; n++) {
        mvpn_guards_init(&guards, &rng);
        update();
        unsigned of_it = 0;
        assert_int_equal(guards.count, 3);
        for (unsigned i = 0; i < 3; i++) {
            of_it += index_of(&guards.guard[i].identity) < RELAYS - 2 ? 1 : 0;
        }
        assert_int_equal(of_it, 1);
    }
    take_away(RELAYS - 1);
    take_away(RELAYS - 2);
    mvpn_guards_init(&guards, &rng);
    update();
    assert_int_equal(guards.count, 3); /* better than too few */
}

static void test_new_guards_are_limited(void **state)
{
    (void)state;
    mvpn_ed25519_pub id;
    update();
    for (unsigned i = 3; i < MVPN_GUARDS_PER_HOUR; i++) {
        assert_int_equal(draw(&id), 0);
    }
    assert_int_equal(draw(&id), MVPN_E_LIMIT);
    now += HOUR - 1;
    assert_int_equal(draw(&id), MVPN_E_LIMIT);
    now += 1;
    for (unsigned i = MVPN_GUARDS_PER_HOUR; i < MVPN_GUARDS_PER_DAY; i++) {
        assert_int_equal(draw(&id), 0);
    }
    now += HOUR;
    assert_int_equal(draw(&id), MVPN_E_LIMIT);
    now += DAY;
    for (unsigned i = MVPN_GUARDS_PER_DAY; i < MVPN_GUARDS_MAX; i++) {
        assert_int_equal(draw(&id), 0);
    }
    now += 30 * DAY;
    assert_int_equal(draw(&id), MVPN_E_LIMIT); /* the sample is full, and all are there */
    assert_int_equal(guards.count, MVPN_GUARDS_MAX);
}

static void test_a_full_sample_gives_way_for_gone_guards(void **state)
{
    (void)state;
    mvpn_ed25519_pub id;
    for (unsigned i = 0; i < MVPN_GUARDS_MAX; i++) {
        now += DAY;
        assert_int_equal(draw(&id), 0);
    }
    update();
    mvpn_ed25519_pub first = guards.guard[4].identity, second = guards.guard[9].identity;
    test_view_remove(view, &first);
    update();
    now += 3 * DAY;
    test_view_remove(view, &second);
    update();
    assert_int_equal(guards.count, MVPN_GUARDS_MAX);
    assert_int_equal(draw(&id), 0);
    assert_null(mvpn_guards_find(&guards, &first));
    assert_non_null(mvpn_guards_find(&guards, &second));
    assert_int_equal(draw(&id), 0);
    assert_null(mvpn_guards_find(&guards, &second));
    assert_int_equal(draw(&id), MVPN_E_LIMIT);
}

/* ---- order, failures ---- */

static void test_order(void **state)
{
    (void)state;
    mvpn_ed25519_pub id;
    update();
    assert_int_equal(draw(&id), 0);
    update();
    int a = to_try(0, false), b = to_try(1, false), c = to_try(2, false), d = to_try(3, false);
    assert_false(guard_of(d)->is_primary);
    succeed(c);
    succeed(b);
    succeed(b);
    assert_int_equal(to_try(0, false), c); /* in order of the first success, */
    assert_int_equal(to_try(1, false), b);
    assert_int_equal(to_try(2, false), a); /* then as drawn */
    assert_int_equal(to_try(3, false), d);
    succeed(d);
    assert_int_equal(to_try(2, false), d);
    assert_true(guard_of(d)->is_primary && !guard_of(a)->is_primary);
    id = id_of((unsigned)d);
    assert_int_equal(mvpn_guards_place(&guards, &id), 2);
    take_away((unsigned)c); /* gone: not to be tried; the others move up */
    update();
    assert_int_equal(to_try(0, false), b);
    assert_int_equal(to_try(2, false), a);
    assert_true(guard_of(a)->is_primary);
    add((unsigned)c);
    update();
    assert_int_equal(to_try(0, false), c); /* back in its place */
}

static void test_retry_schedule(void **state)
{
    (void)state;
    const struct {
        uint64_t silent, primary, other;
    } rows[] = {{0, 10, 30},
                {59, 10, 30},
                {60, 60, 300},
                {599, 60, 300},
                {600, HOUR / 6, HOUR},
                {5 * HOUR, HOUR / 6, HOUR},
                {6 * HOUR, 90 * 60, 4 * HOUR},
                {3 * DAY, 90 * 60, 4 * HOUR},
                {4 * DAY, 4 * HOUR, 18 * HOUR},
                {8 * DAY, 9 * HOUR, 36 * HOUR},
                {300 * DAY, 9 * HOUR, 36 * HOUR}};
    mvpn_ed25519_pub id;
    update();
    assert_int_equal(draw(&id), 0);
    update();
    int first = to_try(0, false), other = to_try(3, false);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        now = NOW + rows[i].silent;
        fail_at(first);
        fail_at(other);
        uint64_t primary = guard_of(first)->retry - now, later = guard_of(other)->retry - now;
        assert_in_range(primary, rows[i].primary * 9 / 10, rows[i].primary * 11 / 10);
        assert_in_range(later, rows[i].other * 9 / 10, rows[i].other * 11 / 10);
        assert_int_not_equal(to_try(0, false), first);
        now = guard_of(first)->retry - 1;
        assert_int_not_equal(to_try(0, false), first);
        now += 1;
        assert_int_equal(to_try(0, false), first);
    }
    succeed(first); /* and the schedule begins anew */
    fail_at(first);
    assert_true(guard_of(first)->retry - now <= 11);
}

static void test_when_nothing_else_is_left(void **state)
{
    (void)state;
    update();
    int a = to_try(0, false), b = to_try(1, false), c = to_try(2, false);
    fail_at(b);
    now += 1;
    fail_at(a);
    now += 1;
    fail_at(c);
    assert_int_equal(to_try(0, false), -1);
    assert_int_equal(to_try(0, true), b); /* the one asked longest ago */
    assert_int_equal(to_try(1, true), a);
    assert_int_equal(to_try(2, true), c);
}

/* The network is away: all fail, none to blame. */
static void test_an_outage_is_nobodys_fault(void **state)
{
    (void)state;
    update();
    int a = to_try(0, false), b = to_try(1, false), c = to_try(2, false);
    succeed(a);
    now += 100;
    fail_at(a);
    fail_at(b);
    fail_at(c);
    now += 30;
    succeed(b); /* it failed as well, a moment ago: so it was the network */
    assert_int_equal(to_try(0, false), a);
    assert_int_equal(to_try(2, false), c);
    now += 60;
    fail_at(a); /* but b answers now: this is a's own */
    now += 10;
    succeed(b);
    assert_int_equal(to_try(0, false), b);
    assert_int_equal(guard_of(a)->reach, MVPN_GUARD_NO);
    now = guard_of(a)->retry + 1;
    succeed(a);
    now += 2 * HOUR; /* long silence */
    fail_at(a);
    now += 1;
    succeed(c);
    assert_int_equal(guard_of(a)->reach, MVPN_GUARD_MAYBE);
}

/* Who drops all packets for a year but those to hostile relays. */
static void test_an_attacker_who_drops_packets(void **state)
{
    (void)state;
    bool tried[RELAYS] = {false};
    unsigned count = 0, first_day = 0;
    for (unsigned hour = 0; hour < 100 * 24; hour++) {
        now = NOW + hour * HOUR;
        update();
        mvpn_ed25519_pub order[MVPN_GUARDS_MAX];
        size_t n = mvpn_guards_order(&guards, now, true, order);
        if (n == 0 || hour % 2 == 0) {
            n += draw(&order[n % MVPN_GUARDS_MAX]) == 0 && n < MVPN_GUARDS_MAX ? 1 : 0;
        }
        for (size_t i = 0; i < n; i++) {
            count += tried[index_of(&order[i])] ? 0 : 1;
            tried[index_of(&order[i])] = true;
            mvpn_guards_failed(&guards, &order[i], &rng, now);
        }
        first_day = hour == 23 ? count : first_day;
    }
    assert_int_equal(first_day, MVPN_GUARDS_PER_DAY);
    assert_int_equal(count, MVPN_GUARDS_MAX); /* of 60, in 100 days */
}

/* ---- age ---- */

static void test_lifetimes(void **state)
{
    (void)state;
    update();
    int a = to_try(0, false), b = to_try(1, false), c = to_try(2, false);
    succeed(a);
    now = NOW + 107 * DAY; /* dates are set back by up to 12 days, and 6 */
    update();
    assert_non_null(guard_of(a));
    assert_non_null(guard_of(c));
    succeed(b);
    for (; now <= NOW + 125 * DAY; now += 8 * HOUR) {
        update();
    }
    assert_null(guard_of(a));
    assert_null(guard_of(c));
    assert_non_null(guard_of(b)); /* since its first success no 60 days went by */
    for (; now <= NOW + 169 * DAY; now += 8 * HOUR) {
        update();
    }
    assert_null(guard_of(b));
    assert_int_equal(guards.count, 3);
}

/* Dates do not tell the day, and do not lie in the future. */
static void test_dates_are_blurred(void **state)
{
    (void)state;
    unsigned days[13] = {0};
    for (unsigned i = 0; i < 300; i++) {
        mvpn_guards_init(&guards, &rng);
        update();
        uint64_t age = now - guards.guard[0].added;
        assert_true(guards.guard[0].added <= now && age < 12 * DAY);
        days[age / DAY]++;
        succeed(to_try(0, false));
        age = now - guards.guard[0].confirmed;
        assert_true(guards.guard[0].confirmed <= now && age < 6 * DAY);
    }
    for (unsigned i = 0; i < 12; i++) {
        assert_in_range(days[i], 5, 60);
    }
}

static void test_a_wrong_clock_costs_one_guard(void **state)
{
    (void)state;
    update();
    mvpn_guards before = guards;
    now = NOW + 365 * DAY;
    update();
    now += HOUR;
    update();
    mvpn_guards future = guards;
    for (now = NOW + 1; now < NOW + 30 * DAY; now += DAY) {
        update();
    }
    for (size_t i = 0; i < future.count; i++) {
        assert_non_null(mvpn_guards_find(&guards, &future.guard[i].identity));
    }
    unsigned kept = 0;
    for (size_t i = 0; i < before.count; i++) {
        kept += mvpn_guards_find(&guards, &before.guard[i].identity) != NULL ? 1 : 0;
    }
    assert_int_equal(kept, 2);
    for (; now < NOW + 100 * DAY; now += DAY) { /* and what was drawn in 'the future' ages */
        update();
    }
    for (; now < NOW + 130 * DAY; now += DAY) {
        update();
    }
    for (size_t i = 0; i < guards.count; i++) {
        assert_true(guards.guard[i].added > NOW);
        assert_null(mvpn_guards_find(&before, &guards.guard[i].identity));
    }
}

static void test_unlisted_guards_leave(void **state)
{
    (void)state;
    update();
    int a = to_try(0, false), b = to_try(1, false);
    take_away((unsigned)a);
    take_away((unsigned)b);
    view->is_confirmed = false; /* half a view says nothing of who is gone */
    now += 30 * DAY;
    update();
    now += 30 * DAY;
    update();
    assert_non_null(guard_of(a));
    assert_int_equal(guard_of(a)->unlisted, 0);
    view->is_confirmed = true;
    update();
    assert_true(guard_of(a)->unlisted > now - 2 * DAY && guard_of(a)->unlisted <= now);
    now += 17 * DAY;
    add((unsigned)b);
    update();
    assert_non_null(guard_of(a));
    now += 3 * DAY;
    update();
    assert_null(guard_of(a));
    assert_non_null(guard_of(b));
    assert_int_equal(guard_of(b)->unlisted, 0);
}

/* ---- a first run ---- */

/* Hostile relays first, the honest ones (and those) from two sources later. */
static void test_hostile_first_run(void **state)
{
    unsigned total = 0;
    (void)state;
    for (unsigned run = 0; run < 50; run++) {
        for (unsigned known = 0; known < 2; known++) {
            empty_view();
            view->is_confirmed = false;
            mvpn_guards_init(&guards, &rng);
            now = NOW;
            for (unsigned i = 500; i < 520; i++) {
                add(i)->is_confirmed = false;
            }
            update();
            for (unsigned i = 0; i < 3; i++) {
                assert_true(guards.guard[i].is_provisional);
                succeed(to_try(i, false));
            }
            now += run % 2 == 0 ? 10 : 3 * DAY;
            for (unsigned i = 0; i < 400; i++) {
                add(i);
            }
            for (unsigned i = 500; i < 520 && known == 1; i++) {
                add(i)->is_confirmed = true; /* the network knows them too: 5 % of it */
            }
            update(); /* not confirmed yet: nothing changes */
            assert_true(index_of(&guards.guard[0].identity) >= 500);
            view->is_confirmed = true;
            update();
            assert_int_equal(guards.count, 3);
            unsigned hostile = 0;
            for (unsigned i = 0; i < 3; i++) {
                assert_false(guards.guard[i].is_provisional);
                hostile += index_of(&guards.guard[i].identity) >= 500 ? 1 : 0;
            }
            assert_true(hostile <= (known == 0 ? 0 : 2));
            total += hostile;
        }
    }
    assert_true(total <= 18); /* their share and no more: of 150, 1 in 21 on average */
}

/* Two liars confirm each other's relays: a view of those alone settles nothing for long. */
static void test_liars_who_confirm_each_other(void **state)
{
    unsigned same = 0;
    (void)state;
    for (unsigned run = 0; run < 50; run++) {
        empty_view();
        mvpn_guards_init(&guards, &rng);
        now = NOW;
        for (unsigned i = 500; i < 520; i++) {
            add(i);
        }
        update();
        assert_false(guards.guard[0].is_provisional);
        mvpn_guards hostile = guards;
        now += 10;
        for (unsigned i = 0; i < 400; i++) {
            add(i);
        }
        update();
        assert_int_equal(guards.count, 3);
        for (unsigned i = 0; i < 3; i++) {
            same += mvpn_guards_find(&hostile, &guards.guard[i].identity) != NULL ? 1 : 0;
        }
    }
    assert_true(same <= 18); /* by chance: of 150, 1 in 21 on average */
    /* On the second day it is over: nobody changes guards by showing many relays. */
    mvpn_guards old = guards;
    now += DAY;
    for (unsigned i = 1000; i < 2000; i++) {
        add(i);
    }
    update();
    for (unsigned i = 0; i < 3; i++) {
        assert_non_null(mvpn_guards_find(&old, &guards.guard[i].identity));
    }
}

/* An honest early view leads to the same guards, in the same order, with what is known of them. */
static void test_honest_first_run(void **state)
{
    (void)state;
    unsigned same = 0;
    for (unsigned run = 0; run < 50; run++) {
        empty_view();
        view->is_confirmed = false;
        mvpn_guards_init(&guards, &rng);
        for (unsigned i = 0; i < 200; i++) {
            add(i);
        }
        update();
        mvpn_guards before = guards;
        succeed(to_try(0, false));
        for (unsigned i = 200; i < 210; i++) {
            add(i);
        }
        view->is_confirmed = true;
        update();
        if (memcmp(&before.guard[0].identity, &guards.guard[0].identity, 32) == 0) {
            assert_int_equal(guards.guard[0].reach, MVPN_GUARD_YES);
            assert_int_equal(guards.guard[0].rank, 1);
            assert_int_equal(guards.guard[0].added, before.guard[0].added);
            same++;
        }
    }
    assert_true(same >= 40);
}

/* Unconfirmed ones go even when the limits would let none in for them. */
static void test_provisional_guards_beyond_the_limit(void **state)
{
    (void)state;
    mvpn_ed25519_pub id;
    view->is_confirmed = false;
    update();
    while (draw(&id) == 0) {
    }
    assert_int_equal(guards.count, MVPN_GUARDS_PER_HOUR);
    for (unsigned i = 0; i < RELAYS; i++) {
        view->info[i].is_confirmed = mvpn_guards_find(&guards, &view->relay[i]->identity) == NULL;
    }
    mvpn_guards before = guards;
    view->is_confirmed = true;
    update();
    assert_int_equal(guards.count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_null(mvpn_guards_find(&before, &guards.guard[i].identity));
    }
}

/* ---- the state file ---- */

static void make_state(void)
{
    mvpn_ed25519_pub id;
    update();
    assert_int_equal(draw(&id), 0);
    assert_int_equal(draw(&id), 0);
    succeed(to_try(2, false));
    succeed(to_try(1, false));
    take_away((unsigned)to_try(3, false));
    update();
    guards.guard[4].is_provisional = true;
}

static void expect_same(const mvpn_guard *a, const mvpn_guard *b)
{
    assert_memory_equal(&a->identity, &b->identity, 32);
    assert_int_equal(a->added, b->added);
    assert_int_equal(a->confirmed, b->confirmed);
    assert_int_equal(a->unlisted, b->unlisted);
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->is_provisional, b->is_provisional);
}

static void test_save_and_load(void **state)
{
    (void)state;
    uint8_t saved[MVPN_GUARDS_SAVED_MAX];
    mvpn_guards back;
    make_state();
    assert_int_equal(mvpn_guards_save(&guards, saved, sizeof(saved) - 1), 0);
    size_t n = mvpn_guards_save(&guards, saved, sizeof(saved));
    assert_int_equal(n, 72 + 5 * 65);
    mvpn_guards_init(&back, &rng);
    assert_int_equal(mvpn_guards_load(&back, (mvpn_bytes){saved, n}), 0);
    assert_int_equal(back.count, 5);
    for (size_t i = 0; i < 5; i++) {
        expect_same(&back.guard[i], &guards.guard[i]);
    }
    assert_memory_equal(back.key.b, guards.key.b, sizeof(back.key.b));
    assert_int_equal(back.rank_last, guards.rank_last);
    assert_int_equal(back.hour, guards.hour);
    assert_int_equal(back.day, guards.day);
    assert_int_equal(back.hour_draws, guards.hour_draws);
    assert_int_equal(back.day_draws, guards.day_draws);
    assert_int_equal(back.born, guards.born);
    assert_int_equal(back.settled, guards.settled);
    int first = to_try(0, false);
    guards = back;
    update();
    assert_int_equal(to_try(0, false), first);
    /* Draws are counted over restarts. */
    mvpn_ed25519_pub id;
    assert_int_equal(draw(&id), 0);
    assert_int_equal(draw(&id), MVPN_E_LIMIT);
}

static void test_truncated_and_damaged_state(void **state)
{
    (void)state;
    uint8_t saved[MVPN_GUARDS_SAVED_MAX], bad[MVPN_GUARDS_SAVED_MAX];
    make_state();
    size_t n = mvpn_guards_save(&guards, saved, sizeof(saved));
    for (size_t len = 0; len <= n; len++) {
        mvpn_guards back;
        mvpn_guards_init(&back, &rng);
        int r = mvpn_guards_load(&back, (mvpn_bytes){saved, len});
        assert_int_equal(r, len < 72 ? MVPN_E_FORMAT : 0);
        assert_int_equal(back.count, len < 72 ? 0 : (len - 72) / 65);
    }
    for (size_t at = 0; at < n; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            mvpn_guards back;
            memcpy(bad, saved, n);
            bad[at] ^= (uint8_t)(1u << bit);
            mvpn_guards_init(&back, &rng);
            int r = mvpn_guards_load(&back, (mvpn_bytes){bad, n});
            if (at < 8) {
                assert_int_equal(r, MVPN_E_FORMAT);
                assert_int_equal(back.count, 0);
                continue;
            }
            assert_int_equal(r, 0);
            assert_int_equal(back.count, at < 72 ? 5 : 4); /* the one it hit */
            for (size_t i = 0; i < back.count; i++) {
                expect_same(&back.guard[i], mvpn_guards_find(&guards, &back.guard[i].identity));
            }
        }
    }
}

static void test_hostile_state(void **state)
{
    (void)state;
    uint8_t saved[72 + 100 * 65];
    make_state();
    size_t n = mvpn_guards_save(&guards, saved, sizeof(saved));
    for (size_t i = 5; i < 100; i++) { /* the same again and again, and more than fit */
        memcpy(saved + n, saved + n - 65, 65);
        n += 65;
    }
    mvpn_guards back;
    mvpn_guards_init(&back, &rng);
    assert_int_equal(mvpn_guards_load(&back, (mvpn_bytes){saved, n}), 0);
    assert_int_equal(back.count, 5);
    assert_int_equal(mvpn_guards_load(&back, (mvpn_bytes){NULL, 0}), MVPN_E_FORMAT);
}

/* ---- a year ---- */

#define YEAR_RELAYS 300
#define YEAR_CLIENTS 8
/*
 * Guards that circuits of a year went through, the bound that is held here: three at a time, each
 * for 108 to 120 days, are 12 or 13; a few more while those were away.
 */
#define YEAR_GUARDS_MAX 15

static unsigned below(unsigned n)
{
    return mvpn_rng_below(&rng, n);
}

/* One hour of a client: circuits through the first guard that answers. True if one did. */
static int hour_of_client(const bool *is_up, bool has_network, bool *used)
{
    for (unsigned attempt = 0; attempt < 20; attempt++) {
        mvpn_ed25519_pub id;
        update();
        int i = to_try(0, false);
        if (i < 0) {
            i = draw(&id) == 0 ? (int)index_of(&id) : to_try(0, true);
        }
        now += 10;
        if (i >= 0 && has_network && is_up[i]) {
            used[i] = true;
            succeed(i);
            return i;
        }
        if (i >= 0) {
            fail_at(i);
        }
    }
    return -1;
}

static void test_a_year(void **state)
{
    (void)state;
    unsigned worst = 0, connected = 0, hours = 0, same = 0;
    for (unsigned client = 0; client < YEAR_CLIENTS; client++) {
        bool used[65536 / 8] = {false}, is_up[65536 / 8] = {false};
        unsigned next = YEAR_RELAYS, count = 0;
        int last = -1;
        empty_view();
        mvpn_guards_init(&guards, &rng);
        for (unsigned i = 0; i < YEAR_RELAYS; i++) {
            add(i);
            is_up[i] = true;
        }
        for (unsigned day = 0; day < 365; day++) {
            /* One relay of 300 leaves for good and another comes; 3 % are down for the day, and a
             * third of those is not even listed. */
            unsigned gone = below((unsigned)view->count);
            is_up[index_of(&view->relay[gone]->identity)] = false;
            mvpn_ed25519_pub gone_id = view->relay[gone]->identity;
            test_view_remove(view, &gone_id);
            add(next);
            is_up[next++] = true;
            for (unsigned i = 0; i < view->count; i++) {
                is_up[index_of(&view->relay[i]->identity)] = below(100) >= 3;
                view->info[i].is_dead =
                    !is_up[index_of(&view->relay[i]->identity)] && below(3) == 0;
            }
            if ((day >= 90 && day < 115) || (day >= 200 && day < 221)) {
                continue; /* weeks without it */
            }
            for (unsigned hour = 8; hour < 24; hour += 4) {
                now = NOW + day * DAY + hour * HOUR;
                bool has_network = below(20) != 0;
                int with = hour_of_client(is_up, has_network, used);
                hours += has_network ? 1 : 0;
                connected += with >= 0 ? 1 : 0;
                same += with >= 0 && with == last ? 1 : 0;
                last = with >= 0 ? with : last;
            }
        }
        for (unsigned i = 0; i < next; i++) {
            count += used[i] ? 1 : 0;
        }
        worst = MVPN_MAX(worst, count);
    }
    print_message("guards used in a year: at most %u; the same as last time in %u of %u hours\n",
                  worst, same, connected);
    assert_true(worst <= YEAR_GUARDS_MAX);
    assert_true(same >= connected * 9 / 10);
    assert_true(connected >= hours * 999 / 1000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_three_are_drawn_and_stay),
        TEST(test_draw_is_weighted),
        TEST(test_only_fit_relays_are_drawn),
        TEST(test_wishes_of_a_draw),
        TEST(test_no_guard_is_the_exits_nat_relay),
        TEST(test_one_guard_of_an_operator),
        TEST(test_new_guards_are_limited),
        TEST(test_a_full_sample_gives_way_for_gone_guards),
        TEST(test_order),
        TEST(test_retry_schedule),
        TEST(test_when_nothing_else_is_left),
        TEST(test_an_outage_is_nobodys_fault),
        TEST(test_an_attacker_who_drops_packets),
        TEST(test_lifetimes),
        TEST(test_dates_are_blurred),
        TEST(test_a_wrong_clock_costs_one_guard),
        TEST(test_unlisted_guards_leave),
        TEST(test_hostile_first_run),
        TEST(test_liars_who_confirm_each_other),
        TEST(test_honest_first_run),
        TEST(test_provisional_guards_beyond_the_limit),
        TEST(test_save_and_load),
        TEST(test_truncated_and_damaged_state),
        TEST(test_hostile_state),
        TEST(test_a_year),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
