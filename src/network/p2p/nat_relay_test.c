/* The NAT relay's registrations and sessions: how they begin, whose they are, how they end. */
#include "network/p2p/testrelay.h"

static void test_register(void **state)
{
    (void)state;
    do_register(&w->caller, 600); /* a client */
    assert_int_equal(w->caller.registered.status, MVPN_REASON_REFUSED);
    assert_int_equal(w->caller.holds, 0);
    do_register(&w->home, 600);
    assert_int_equal(w->home.registered.status, 0);
    assert_int_equal(w->home.registered.lifetime_s, 600);
    assert_int_equal(w->home.holds, 1);
    mvpn_nat_id id = w->home.registered.rendezvous;
    w->now += MVPN_S(500);
    do_register(&w->home, 1);
    assert_memory_equal(id.b, w->home.registered.rendezvous.b, sizeof(id.b));
    assert_int_equal(w->home.registered.lifetime_s, 60);
    do_register(&w->stranger, 65535);
    assert_int_equal(w->stranger.registered.lifetime_s, 3600);
    assert_memory_not_equal(id.b, w->stranger.registered.rendezvous.b, sizeof(id.b));
    assert_int_equal(mvpn_nat_relay_deadline(w->relay), w->now + MVPN_S(60));
    w->now += MVPN_S(60);
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(w->home.holds, 0);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_UNREACHABLE);
    assert_int_equal(do_open(&w->caller, &w->stranger, 2), 0);
    assert_int_equal(do_open(&w->stranger, &w->stranger, 2), MVPN_REASON_REFUSED);
}

/* Descriptors name it: it must not depend on the link, nor on this relay's having run all along. */
static void test_rendezvous_ids_stay(void **state)
{
    (void)state;
    static const mvpn_nat_relay_config keyed = {.id_key = {{1, 2, 3}}};
    static const mvpn_nat_relay_config other = {.id_key = {{1, 2, 4}}}, random;
    static const mvpn_nat_relay_config *const configs[] = {&keyed, &keyed, &other, &random};
    mvpn_nat_id home[4], stranger[4];
    for (unsigned i = 0; i < 4; i++) {
        relay_start(configs[i]);
        w->home.addr = addr(50 + i, 1);
        if (i == 1) {
            do_register(&w->stranger, 600); /* nor on the order */
        }
        do_register(&w->home, 600);
        do_register(&w->stranger, 600);
        home[i] = w->home.registered.rendezvous;
        stranger[i] = w->stranger.registered.rendezvous;
        assert_memory_not_equal(home[i].b, stranger[i].b, sizeof(home[i].b));
        (void)relay_teardown(NULL);
    }
    assert_memory_equal(home[0].b, home[1].b, sizeof(home[0].b));
    assert_memory_equal(stranger[0].b, stranger[1].b, sizeof(home[0].b));
    assert_memory_not_equal(home[0].b, home[2].b, sizeof(home[0].b));
    assert_memory_not_equal(home[0].b, home[3].b, sizeof(home[0].b));
    /* A zero key is none: what it would give is not what is given. */
    static const mvpn_siphash_key zero;
    uint8_t guess[8];
    mvpn_store64(guess, mvpn_siphash(&zero, (uint8_t[32]){1}, 32));
    assert_memory_not_equal(home[3].b, guess, sizeof(guess));
}

static void test_a_newer_link_takes_over(void **state)
{
    (void)state;
    join();
    struct fake again = w->home;
    again.addr = addr(9, 1);
    again.holds = 0;
    again.incoming_count = 0;
    do_register(&again, 600);
    assert_memory_equal(again.registered.rendezvous.b, w->home.registered.rendezvous.b, 8);
    assert_int_equal(again.holds, 1);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->moved, 1);
    /* What is under way on the older link goes on, */
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_int_equal(w->home.holds, 1);
    /* but calls go to the newer one, also when the older one's time is over. */
    w->now += MVPN_S(590);
    do_register(&again, 600);
    w->now += MVPN_S(11);
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_int_equal(do_open(&w->caller, &again, 2), 0);
    assert_int_equal(again.incoming_count, 1);
    assert_int_equal(w->home.incoming_count, 1);
    mvpn_nat_ids late = w->caller.opened.ids;
    w->home.holds = 0;
    mvpn_nat_relay_link_closed(w->relay, link_of(&w->home), w->now);
    assert_true(goes(&w->caller.addr, &late.peer[0], &again.addr));
    assert_int_equal(do_open(&w->caller, &again, 2), 0);
    /* The other link, if it lives after all, has only to ask. */
    do_register(&w->home, 600);
    assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
    assert_int_equal(w->home.incoming_count, 2);
    assert_int_equal(again.holds, 1); /* two sessions */
}

/* Of a relay that has restarted nothing is left on the older link: it is held no longer. */
static void test_an_older_link_is_let_go(void **state)
{
    (void)state;
    do_register(&w->home, 600);
    struct fake again = w->home;
    again.holds = 0;
    w->now += MVPN_S(60);
    do_register(&again, 600);
    assert_int_equal(w->home.holds, 0);
    assert_int_equal(again.holds, 1);
    assert_int_equal(mvpn_nat_relay_deadline(w->relay), w->now + MVPN_S(600));
    w->now += MVPN_S(540); /* the older one's time */
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(do_open(&w->caller, &again, 2), 0);
    mvpn_nat_relay_link_closed(w->relay, link_of(&w->home), w->now);
    assert_int_equal(do_open(&w->caller, &again, 2), 0);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->registered, 2);
}

static void test_close(void **state)
{
    (void)state;
    join();
    assert_false(message(&w->stranger, MVPN_CMD_NAT_CLOSE, w->ids.session.b, 8));
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_true(message(&w->home, MVPN_CMD_NAT_CLOSE, w->ids.session.b, 8));
    assert_int_equal(w->caller.close_count, 1);
    assert_int_equal(w->home.close_count, 0);
    assert_int_equal(w->caller.holds, 0);
    assert_int_equal(w->home.holds, 1); /* still registered */
    assert_false(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_false(message(&w->home, MVPN_CMD_NAT_CLOSE, w->ids.session.b, 8));
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->opened, 1);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->closed, 1);
}

/* A session outlives the registration, and its end lets go of both links. */
static void test_close_after_registration(void **state)
{
    (void)state;
    join();
    for (unsigned i = 0; i < 6; i++) {
        w->now += MVPN_S(100);
        assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
        mvpn_nat_relay_tick(w->relay, w->now);
    }
    assert_int_equal(do_open(&w->stranger, &w->home, 2), MVPN_REASON_UNREACHABLE);
    assert_int_equal(w->home.holds, 1);
    assert_true(message(&w->caller, MVPN_CMD_NAT_CLOSE, w->ids.session.b, 8));
    assert_int_equal(w->home.holds, 0);
    assert_int_equal(w->caller.holds, 0);
}

/* One who cannot be told of a call cannot be called. */
static void test_called_is_deaf(void **state)
{
    (void)state;
    do_register(&w->home, 600);
    w->home.refuses = true;
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_UNREACHABLE);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
    assert_int_equal(w->caller.close_count, 0);
    assert_int_equal(w->caller.holds, 0);
    w->home.refuses = false;
    assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
}

static void test_link_closed(void **state)
{
    (void)state;
    for (unsigned who = 0; who < 2; who++) {
        join();
        struct fake *gone = who == 0 ? &w->caller : &w->home;
        struct fake *left = who == 0 ? &w->home : &w->caller;
        size_t closes = left->close_count;
        gone->holds = 0; /* the link is no more */
        mvpn_nat_relay_link_closed(w->relay, link_of(gone), w->now);
        assert_int_equal(left->close_count, closes + 1);
        assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
        assert_false(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
        assert_false(goes(&w->home.addr, &w->ids.own[0], &w->caller.addr));
        assert_int_equal(left->holds, who == 0 ? 1 : 0);
    }
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_UNREACHABLE);
    mvpn_nat_relay_link_closed(w->relay, link_of(&w->stranger), w->now);
}

static void test_idle(void **state)
{
    (void)state;
    join();
    w->now += MVPN_S(100);
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_false(goes(&w->stranger.addr, &w->ids.peer[0], &w->home.addr));
    w->now += MVPN_S(119);
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 1);
    assert_int_equal(mvpn_nat_relay_deadline(w->relay), w->now + MVPN_S(1));
    /* What a stranger sends keeps nothing open. */
    assert_false(goes(&w->stranger.addr, &w->ids.peer[0], &w->home.addr));
    w->now += MVPN_S(1);
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
    assert_int_equal(w->home.close_count, 1);
    assert_int_equal(w->caller.close_count, 1);
}

static void test_malformed_closes_the_link(void **state)
{
    (void)state;
    static const unsigned commands[] = {MVPN_CMD_NAT_REGISTER, MVPN_CMD_NAT_OPEN, MVPN_CMD_NAT_MORE,
                                        MVPN_CMD_NAT_CLOSE, MVPN_CMD_NAT_ADDRESS};
    static const uint8_t zeros[64];
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        w->stranger.is_closed = false;
        assert_true(message(&w->stranger, commands[i], zeros, sizeof(zeros)));
        assert_true(w->stranger.is_closed);
    }
    /* What a NAT relay says is for the node as another one's guest. */
    static const unsigned others[] = {MVPN_CMD_NAT_REGISTERED, MVPN_CMD_NAT_OPENED,
                                      MVPN_CMD_NAT_INCOMING, MVPN_CMD_NAT_ADDRESSED,
                                      MVPN_CMD_CREATE};
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(others); i++) {
        assert_false(message(&w->caller, others[i], zeros, 1));
    }
    assert_false(w->caller.is_closed);
}

int main(void)
{
#define UNIT(t) cmocka_unit_test_setup_teardown(t, relay_setup, relay_teardown)
    const struct CMUnitTest all[] = {
        UNIT(test_register),
        cmocka_unit_test(test_rendezvous_ids_stay),
        UNIT(test_a_newer_link_takes_over),
        UNIT(test_an_older_link_is_let_go),
        UNIT(test_close),
        UNIT(test_close_after_registration),
        UNIT(test_called_is_deaf),
        UNIT(test_link_closed),
        UNIT(test_idle),
        UNIT(test_malformed_closes_the_link),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
