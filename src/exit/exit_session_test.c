/* Sessions of an exit: how many, when closing one gives room, addresses that rest; and
 * configurations that cannot be. (docs/protocol.md §7.1) */
#include "exit/testing.h"
#include "exit/pool.h"

static void detached_sessions_are_counted(void **state)
{
    (void)state;
    uint32_t id[3];
    for (size_t i = 0; i < 3; i++) {
        id[i] = open_session(1289, false);
        mvpn_exit_session_detach(ex, id[i]);
        mvpn_exit_session_detach(ex, id[i]); /* once */
        assert_int_equal(mvpn_exit_session_detached_count(ex), i + 1);
    }
    assert_int_equal(mvpn_exit_session_attach(ex, id[1], 1289), 0);
    assert_int_equal(mvpn_exit_session_detached_count(ex), 2);
    mvpn_exit_session_close(ex, id[0], 0);
    assert_int_equal(mvpn_exit_session_detached_count(ex), 1);
    mvpn_exit_session_detach(ex, id[0]); /* unknown now */
    assert_int_equal(mvpn_exit_session_detached_count(ex), 1);
    assert_int_equal(mvpn_exit_get_counters(ex)->sessions_moved, 1);
}

/* When does it help a newcomer that a session is closed? */
static void who_wants_room(void **state)
{
    (void)state;
    uint32_t id[8], unused;
    mvpn_exit_event event;
    assert_int_equal(mvpn_exit_sessions_max(ex), 100);
    exit_stop();
    mvpn_exit_config c = exit_config();
    c.sessions_max = 2;
    exit_start(&c);
    id[0] = open_session(1289, false);
    assert_false(mvpn_exit_wants_room(ex));
    id[1] = open_session(1289, false);
    assert_true(mvpn_exit_wants_room(ex)); /* a number */
    mvpn_exit_set_quota(ex, 100, 100);
    assert_false(mvpn_exit_wants_room(ex)); /* nobody can give that */
    exit_stop();
    c.sessions_max = 100;
    c.pool_v4_bits = 29; /* five addresses */
    exit_start(&c);
    for (size_t i = 0; i < 5; i++) {
        assert_false(mvpn_exit_wants_room(ex));
        id[i] = open_session(1289, false);
    }
    assert_true(mvpn_exit_wants_room(ex)); /* an address, later */
    mvpn_exit_session_close(ex, id[2], 0);
    assert_false(mvpn_exit_wants_room(ex)); /* one rests already */
    assert_int_equal(mvpn_exit_session_open(ex, 1289, false, 1, &unused), MVPN_E_LIMIT);
    assert_true(mvpn_exit_pull_event(ex, &event));
    mvpn_exit_tick(ex, MVPN_ADDR_POOL_REST);
    assert_false(mvpn_exit_wants_room(ex)); /* there is room */
    (void)open_session(1289, false);
    assert_true(mvpn_exit_wants_room(ex));
}

static void addresses_rest(void **state)
{
    (void)state;
    exit_stop();
    mvpn_exit_config c = exit_config();
    c.pool_v4_bits = 29; /* five addresses */
    exit_start(&c);
    uint32_t id[5], other;
    mvpn_exit_event event;
    mvpn_addr pool4, pool6, new4, new6;
    for (int i = 0; i < 5; i++) {
        id[i] = open_session(1289, true);
    }
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &other), MVPN_E_LIMIT);
    assert_int_equal(mvpn_exit_session_addrs(ex, id[3], &pool4, &pool6), 0);
    /* What waits for a session that closes is dropped. */
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, pool4.ip, 2, 5), 0), 0);
    mvpn_exit_session_close(ex, id[3], MVPN_S(50));
    mvpn_exit_session_close(ex, id[3], MVPN_S(50)); /* twice is once */
    assert_true(silent());
    assert_int_equal(mvpn_exit_session_count(ex), 4);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, pool4.ip, 2, 5), MVPN_S(51)),
                     MVPN_E_UNKNOWN);
    assert_true(mvpn_exit_pull_event(ex, &event));
    assert_true(mvpn_addr_eq(&event.pool_v4, &pool4) && mvpn_addr_eq(&event.pool_v6, &pool6));
    assert_false(mvpn_exit_pull_event(ex, &event));
    assert_true(mvpn_exit_deadline(ex) == MVPN_S(350));
    mvpn_exit_tick(ex, MVPN_S(349));
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, MVPN_S(350) - 1, &other), MVPN_E_LIMIT);
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, MVPN_S(350), &other), 0);
    assert_int_equal(mvpn_exit_session_addrs(ex, other, &new4, &new6), 0);
    assert_true(mvpn_addr_eq(&new4, &pool4));
    assert_false(mvpn_addr_eq(&new6, &pool6)); /* its random part is fresh */
    assert_int_not_equal(other, id[3]);        /* same slot, other generation */
    assert_int_equal(other & 0xffff, id[3] & 0xffff);
    assert_int_equal(mvpn_exit_from_session(ex, id[3], udp(4, in4, 1, far4, 2, 9), MVPN_S(350)),
                     MVPN_E_UNKNOWN);
}

static void sessions_are_bounded(void **state)
{
    (void)state;
    uint32_t id, first = open_session(1289, true);
    for (int i = 1; i < 100; i++) {
        (void)open_session(1289, true);
    }
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &id), MVPN_E_LIMIT);
    assert_int_equal(mvpn_exit_session_count(ex), 100);
    mvpn_exit_session_close(ex, first, 0);
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &id), 0);
    assert_int_equal(mvpn_exit_session_open(ex, 100, true, 0, &id), MVPN_E_INVAL);
    assert_int_equal(mvpn_exit_session_open(ex, 1421, true, 0, &id), MVPN_E_INVAL);
}

static void bad_configurations(void **state)
{
    (void)state;
    mvpn_policy_error e = {0};
    mvpn_exit *none = NULL;
    mvpn_exit_config c = exit_config();
    c.policy = "accept tcp * 80\nreject nothing";
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_CONFIG);
    assert_int_equal(e.line, 2);
    assert_int_equal(e.column, 8);
    c = exit_config();
    c.pool_v4_bits = 8;
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_INVAL);
    c = exit_config();
    c.dns_count = 0;
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_INVAL);
    c = exit_config();
    c.sessions_max = 65536;
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_INVAL);
    c = exit_config();
    c.own_count = 1000;
    mvpn_addr many[1000];
    for (size_t i = 0; i < 1000; i++) {
        many[i] = own_addr;
    }
    c.own = many;
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_LIMIT);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(detached_sessions_are_counted),
        TEST(who_wants_room),
        TEST(addresses_rest),
        TEST(sessions_are_bounded),
        cmocka_unit_test(bad_configurations),
    };
    return cmocka_run_group_tests(tests, exit_group_setup, exit_group_teardown);
}
