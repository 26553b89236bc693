/* What a NAT relay gives at most, to one, to those of a block and to all: registrations, calls,
 * sessions, ids, bytes, memory. */
#include <malloc.h>

#include "network/p2p/testrelay.h"

static struct fake relay_at(unsigned block, unsigned identity)
{
    return (struct fake){.addr = addr(block, 1),
                         .has_identity = true,
                         .identity = {{(uint8_t)identity, (uint8_t)(identity >> 8), 9}}};
}

static void test_registrations_are_bounded(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 25; i++) {
        do_register(&w->home, 600);
        assert_int_equal(w->home.registered.status, i < 20 ? 0 : MVPN_REASON_BUSY);
    }
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->refused, 5);
    w->now += MVPN_S(1);
    do_register(&w->home, 600);
    assert_int_equal(w->home.registered.status, 0);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->registered, 1);
    do_register(&w->caller, 600);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->refused, 6);
}

static void test_opens_of_one_link(void **state)
{
    (void)state;
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
    }
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    assert_int_equal(w->home.incoming_count, 20); /* the one called hears of no more */
    for (unsigned i = 20; i < 64; i++) {
        w->now += MVPN_MS(200);
        assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
        /* All are answered: none gives way. */
        assert_true(goes(&w->home.addr, &w->caller.opened.ids.own[0], &w->caller.addr));
    }
    w->now += MVPN_S(1);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    /* A new guest at once after a closed link begins anew, but it is a new link too. */
    assert_int_equal(do_open(&w->stranger, &w->home, 2), 0);
}

/* `count` links of one block, each with as many sessions to home as it gets, all answered or not.
 * Returns the sessions. */
static size_t flood(struct fake *links, unsigned count, unsigned block, bool is_answered)
{
    size_t opened = 0;
    for (unsigned i = 0; i < count; i++) {
        links[i] = (struct fake){.addr = addr(block, i + 1)};
        for (unsigned k = 0; k < 20; k++) {
            w->now += MVPN_MS(50); /* the one called takes 20 a second */
            if (do_open(&links[i], &w->home, 2) != 0) {
                continue;
            }
            opened++;
            if (is_answered) {
                (void)goes(&w->home.addr, &links[i].opened.ids.own[0], &links[i].addr);
            }
        }
    }
    return opened;
}

/* With several to call, too. */
static void test_sessions_of_one_caller(void **state)
{
    (void)state;
    struct fake second = {.addr = addr(8, 8), .has_identity = true, .identity = {{8}}};
    size_t opened = 0;
    do_register(&w->home, 3600);
    do_register(&second, 3600);
    for (unsigned i = 0; i < 80; i++) {
        w->now += MVPN_MS(200);
        opened += do_open(&w->caller, i % 2 == 0 ? &w->home : &second, 2) == 0;
    }
    assert_int_equal(opened, 64);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 64);
}

/* Many callers who open and close at once: the one called hears of 256, then of 20 a second. */
static void test_calls_are_bounded(void **state)
{
    (void)state;
    static struct fake links[20];
    join();
    size_t first = w->home.incoming_count;
    w->now += MVPN_S(1);
    for (unsigned second = 0; second < 2; second++) {
        for (unsigned i = 0; i < 20; i++) {
            if (second == 0) {
                links[i] = (struct fake){.addr = addr(300 + i, 1)};
            }
            for (unsigned k = 0; k < 20; k++) {
                if (do_open(&links[i], &w->home, 2) == 0) {
                    const mvpn_nat_id id = links[i].opened.ids.session;
                    assert_true(message(&links[i], MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b)));
                }
            }
        }
        assert_int_equal(w->home.incoming_count - first, second == 0 ? 256 : 276);
        /* The one called may ask for itself all the time. */
        assert_int_equal(do_more(&w->home, &w->ids.session, 1), 0);
        w->now += MVPN_S(1);
    }
}

/* Callers of one block, of many links, cannot use up what the one called listens to: neither by
 * calling nor by asking for ids. */
static void test_calls_of_one_block(void **state)
{
    (void)state;
    static struct fake links[20];
    size_t opened = 0, before = 0;
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 20; i++) {
        links[i] = (struct fake){.addr = addr(300, i)};
        for (unsigned k = 0; k < 20; k++) {
            if (do_open(&links[i], &w->home, 2) == 0) {
                const mvpn_nat_id id = links[i].opened.ids.session;
                assert_true(message(&links[i], MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b)));
                opened++;
            }
        }
    }
    assert_int_equal(opened, 64);
    w->now += MVPN_S(1);
    for (unsigned i = 0; i < 20; i++) {
        opened += do_open(&links[i], &w->home, 2) == 0;
    }
    assert_int_equal(opened, 69);
    /* Others are served. */
    before = w->home.incoming_count;
    join();
    for (unsigned i = 0; i < 19; i++) {
        assert_int_equal(do_more(&w->caller, &w->ids.session, 1), 0);
    }
    assert_int_equal(w->home.incoming_count, before + 20);
    w->now += MVPN_S(60);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(do_open(&links[i], &w->home, 2), 0);
    }
    size_t more = 20;
    for (unsigned i = 0; i < 20; i++) {
        const mvpn_nat_id id = links[i].opened.ids.session;
        for (unsigned k = 0; k < 19; k++) {
            more += do_more(&links[i], &id, 1) == 0;
        }
    }
    assert_int_equal(more, 64);
}

static void test_a_block_cannot_take_all(void **state)
{
    (void)state;
    struct fake links[6];
    do_register(&w->home, 3600);
    assert_int_equal(flood(links, 6, 77, true), 64); /* a quarter of 256 */
    assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
    /* What ends makes room. */
    const mvpn_nat_id id = links[0].opened.ids.session;
    w->now += MVPN_S(1);
    assert_int_equal(do_open(&links[1], &w->home, 2), MVPN_REASON_BUSY);
    assert_true(message(&links[0], MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b)));
    assert_int_equal(do_open(&links[1], &w->home, 2), 0);
}

/* Of IPv6 a block is a /48: whoever rents one has 65,536 networks. */
static void test_a_block_of_v6(void **state)
{
    (void)state;
    mvpn_nat_relay_config limits = {.sessions_max = 8};
    struct fake links[4];
    relay_start(&limits);
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 4; i++) {
        links[i] = (struct fake){.addr = {.family = 6, .port = 1, .ip = {0x2a, 1, 2, 3, 4, 5}}};
        links[i].addr.ip[i < 3 ? 6 : 5] = (uint8_t)(i + 1);
        assert_int_equal(do_open(&links[i], &w->home, 2), i == 2 ? MVPN_REASON_BUSY : 0);
    }
    /* It makes room when it ends, also in all. */
    const mvpn_nat_id id = links[0].opened.ids.session;
    assert_true(message(&links[0], MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b)));
    assert_int_equal(do_open(&links[2], &w->home, 2), 0);
    (void)relay_teardown(NULL);
}

static void test_a_rendezvous_is_bounded(void **state)
{
    (void)state;
    static struct fake links[5][4];
    size_t sum = 0;
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 5; i++) {
        sum += flood(links[i], 4, 100 + i, true);
    }
    assert_int_equal(sum, 256);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 256);
    w->now += MVPN_S(10);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
}

/* Sessions opened for nothing do not keep out a caller who comes later. */
static void test_the_unanswered_give_way(void **state)
{
    (void)state;
    static struct fake links[5][4];
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(flood(links[i], 4, 100 + i, false), 64);
    }
    size_t count = mvpn_nat_relay_session_count(w->relay);
    assert_int_equal(count, 256);
    w->now += MVPN_S(6);
    assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), count);
    assert_int_equal(links[0][0].close_count, 1); /* the oldest, and it is told */
}

static void test_all_sessions_are_bounded(void **state)
{
    (void)state;
    mvpn_nat_relay_config limits = {.sessions_max = 8};
    mvpn_connection_id opened[2];
    struct fake a = {.addr = addr(50, 1)}, b[4] = {[3] = {.addr = addr(70, 1)}};
    relay_start(&limits);
    do_register(&w->home, 3600);
    assert_int_equal(do_open(&a, &w->home, 2), 0);
    assert_int_equal(do_open(&a, &w->home, 2), 0);
    assert_int_equal(do_open(&a, &w->home, 2), MVPN_REASON_BUSY); /* a quarter, of one block */
    for (unsigned i = 0; i < 6; i++) {
        b[i % 3] = i < 3 ? (struct fake){.addr = addr(60 + i, 1)} : b[i % 3];
        assert_int_equal(do_open(&b[i % 3], &w->home, 2), 0);
        assert_true(goes(&w->home.addr, &b[i % 3].opened.ids.own[0], &b[i % 3].addr));
    }
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 8);
    w->now += MVPN_S(4);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    w->now += MVPN_S(2); /* two were never answered */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(do_open(&b[3], &w->home, 2), i < 2 ? 0 : MVPN_REASON_BUSY);
        if (i < 2) {
            opened[i] = b[3].opened.ids.own[0];
        }
    }
    assert_int_equal(a.close_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(goes(&w->home.addr, &opened[i], &b[3].addr));
    }
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 8);
    w->now += MVPN_S(6); /* they are in use */
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    (void)relay_teardown(NULL);
}

static void test_bytes_are_bounded(void **state)
{
    (void)state;
    mvpn_nat_relay_config limits = {.session_bytes_s = 10000, .total_bytes_s = 250000};
    bool is_ours;
    relay_start(&limits);
    join();
    mvpn_nat_ids first = w->ids;
    assert_int_equal(do_open(&w->stranger, &w->home, 2), 0);
    mvpn_nat_ids second = w->stranger.opened.ids;
    size_t through = 0;
    for (unsigned i = 0; i < 100; i++) { /* twice the rate at once */
        through += send_from(&w->caller.addr, &first.peer[0], 1000, false, &is_ours).family != 0;
    }
    assert_int_equal(through, 20);
    /* The other session has its own share, and both keep within all: 25,000 at once. */
    for (unsigned i = 0; i < 100; i++) {
        through += send_from(&w->home.addr, &second.own[0], 1000, false, &is_ours).family != 0;
    }
    assert_int_equal(through, 25);
    w->now += MVPN_S(1);
    through = 0;
    for (unsigned i = 0; i < 100; i++) {
        through += send_from(&w->caller.addr, &first.peer[0], 1000, false, &is_ours).family != 0;
    }
    assert_int_equal(through, 10);
    w->now += MVPN_S(10);
    uint64_t before = mvpn_nat_relay_get_counters(w->relay)->dropped_limit;
    assert_int_equal(before, 80 + 95 + 90);
    assert_int_equal(send_from(&w->caller.addr, &first.peer[0], 1473, false, &is_ours).family, 0);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->dropped_limit, before + 1);
    assert_int_equal(send_from(&w->caller.addr, &first.peer[0], 1472, false, &is_ours).family, 4);
    (void)relay_teardown(NULL);
}

/* Unless configured otherwise: 4 MB of a session at once, a tenth of 1 Gbit of all. (§14.2) */
static void test_bytes_by_default(void **state)
{
    (void)state;
    size_t through = 0;
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
        size_t before = through;
        bool is_ours;
        for (unsigned k = 0; k < 3000; k++) {
            through +=
                send_from(&w->caller.addr, &w->caller.opened.ids.peer[0], 1472, false, &is_ours)
                    .family != 0;
        }
        assert_true(i == 3 || through - before == 4000000 / 1472);
    }
    assert_int_equal(through, 12500000 / 1472);
}

/* 10,000 sessions with 32 + 32 ids in 64 MB, each of them usable. */
static void test_memory(void **state)
{
    (void)state;
    enum { HOMES = 50, LINKS = 200, EACH = 50, ROUNDS = 4 };
    static struct fake homes[HOMES], links[LINKS];
    static mvpn_connection_id to[LINKS * EACH];
    static mvpn_nat_id sessions[LINKS * EACH];
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (unsigned i = 0; i < HOMES; i++) {
        homes[i] = relay_at(1000 + i, i);
        do_register(&homes[i], 3600);
    }
    for (unsigned i = 0; i < LINKS; i++) {
        links[i] = (struct fake){.addr = addr(2000 + i, 1)};
    }
    for (unsigned k = 0; k < EACH; k++) {
        w->now += MVPN_MS(1500); /* each home takes 20 a second, and 4 links ask it */
        for (unsigned i = 0; i < LINKS; i++) {
            assert_int_equal(do_open(&links[i], &homes[i % HOMES], 8), 0);
            to[k * LINKS + i] = links[i].opened.ids.peer[7];
            sessions[k * LINKS + i] = links[i].opened.ids.session;
        }
        mvpn_nat_relay_tick(w->relay, w->now);
    }
    for (unsigned k = 0; k < EACH * (ROUNDS - 1); k++) {
        w->now += MVPN_MS(450);
        for (unsigned i = 0; i < LINKS; i++) {
            assert_int_equal(do_more(&links[i], &sessions[k % EACH * LINKS + i], 8), 0);
        }
    }
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 10000);
    size_t used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    print_message("10,000 sessions: %zu KiB\n", used >> 10);
    assert_true(used <= (64u << 20));
    for (unsigned i = 0; i < LINKS * EACH; i++) {
        bool is_ours;
        const struct fake *from = &links[i % LINKS], *home = &homes[i % LINKS % HOMES];
        w->now += MVPN_MS(1);
        mvpn_addr at = send_from(&from->addr, &to[i], 100, false, &is_ours);
        assert_true(mvpn_addr_eq(&at, &home->addr));
    }
    w->now += MVPN_S(130);
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
    assert_int_equal(links[3].holds, 0);
    assert_int_equal(links[3].close_count, EACH);
}

/*
 * As many links as a node has, of 200 blocks, all with an identity, each saying all it can at
 * once, again and again: memory and what is told to others are bounded, and those who were there go
 * on, and others are served once the flood's sessions have had their time.
 */
static void test_flood(void **state)
{
    (void)state;
    enum { LINKS = 4000, ROUNDS = 4 };
    static struct fake links[LINKS];
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd, told = 0;
    join();
    assert_true(goes(&w->home.addr, &w->ids.own[0], &w->caller.addr));
    struct fake late = relay_at(900, 65000), victim = relay_at(901, 65001);
    do_register(&victim, 3600);
    for (unsigned i = 0; i < LINKS; i++) {
        links[i] = relay_at(500 + i % 200, i);
        links[i].addr.port = (uint16_t)i;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < LINKS; i++) {
            do_register(&links[i], 3600);
            for (unsigned k = 0; k < 8; k++) {
                struct fake *to = k == 0 ? &victim : &links[(i * 7 + k) % (i + 1)];
                (void)do_open(&links[i], to, 8);
            }
            (void)do_more(&links[i], &links[i].opened.ids.session, 8);
            (void)do_more(&links[i], &w->ids.session, 8);
            (void)ask_address(&links[i], &links[i].opened.ids.session);
            assert_int_not_equal(ask_address(&links[i], &w->ids.session), 0);
        }
        for (unsigned i = 0; i < LINKS; i++) {
            told = MVPN_MAX(told, links[i].incoming_count);
        }
        w->now += MVPN_S(1);
        mvpn_nat_relay_tick(w->relay, w->now);
    }
    size_t used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    const mvpn_nat_relay_counters *c = mvpn_nat_relay_get_counters(w->relay);
    print_message("%d links: %zu KiB, %zu sessions, %zu refused\n", LINKS, used >> 10,
                  mvpn_nat_relay_session_count(w->relay), (size_t)c->refused);
    assert_true(used <= (64u << 20));
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 10000);
    assert_in_range(victim.incoming_count, 64, 256 + ROUNDS * 20);
    assert_in_range(told, 1, 256 + ROUNDS * 20);
    /* No harm to those who were there, */
    assert_int_equal(w->home.incoming_count, 1);
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_int_equal(do_more(&w->caller, &w->ids.session, 1), 0);
    assert_int_equal(ask_address(&w->home, &w->ids.session), 0);
    /* nor to whoever calls another, or the one they all called, a moment later. */
    w->now += MVPN_S(6);
    assert_int_equal(do_open(&late, &w->home, 2), 0);
    assert_int_equal(do_open(&late, &victim, 2), 0);
    for (unsigned i = 0; i < LINKS; i++) {
        mvpn_nat_relay_link_closed(w->relay, link_of(&links[i]), w->now);
    }
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 3);
    assert_int_equal(late.close_count + w->home.close_count, 0);
}

/* A flood is a line an hour, whatever it floods with; a few refusals are none. */
static void test_flood_is_told_once(void **state)
{
    (void)state;
    mvpn_nat_relay_flood flood = {0};
    bool is_ours;
    unsigned told = 0;
    join();
    for (unsigned i = 0; i < 999; i++) {
        (void)ask_address(&w->stranger, &w->ids.session);
        assert_false(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
    }
    for (unsigned i = 0; i < 6 * 3600; i++) {
        w->now += MVPN_MS(500);
        (void)ask_address(&w->stranger, &w->ids.session);
        if (mvpn_nat_relay_flood_look(&flood, w->relay, w->now)) {
            assert_int_equal(flood.refused, told == 0 ? 1000 : 7200);
            assert_int_equal(flood.dropped, 0);
            told++;
        }
    }
    assert_int_equal(told, 3);
    flood.refused_then = mvpn_nat_relay_get_counters(w->relay)->refused;
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    for (unsigned i = 0; i < 100000; i++) {
        assert_false(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
        (void)send_from(i % 2 == 0 ? &w->stranger.addr : &w->caller.addr, &w->ids.peer[0],
                        i % 2 == 0 ? 100 : 1473, false, &is_ours);
    }
    assert_false(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
    w->now += MVPN_S(3600);
    assert_true(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
    assert_int_equal(flood.dropped, 100000);
    w->now += MVPN_S(3600);
    assert_false(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
}

int main(void)
{
#define UNIT(t) cmocka_unit_test_setup_teardown(t, relay_setup, relay_teardown)
    const struct CMUnitTest all[] = {
        UNIT(test_registrations_are_bounded),
        UNIT(test_opens_of_one_link),
        UNIT(test_sessions_of_one_caller),
        UNIT(test_calls_are_bounded),
        UNIT(test_calls_of_one_block),
        UNIT(test_a_block_cannot_take_all),
        cmocka_unit_test(test_a_block_of_v6),
        UNIT(test_a_rendezvous_is_bounded),
        UNIT(test_the_unanswered_give_way),
        cmocka_unit_test(test_all_sessions_are_bounded),
        cmocka_unit_test(test_bytes_are_bounded),
        UNIT(test_bytes_by_default),
        UNIT(test_memory),
        UNIT(test_flood),
        UNIT(test_flood_is_told_once),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
