/* What a NAT relay forwards: datagrams from the proven addresses of a session, to the other side's,
 * under its ids; all others go nowhere. */
#include "network/p2p/testrelay.h"

static void test_address_of_the_other_side(void **state)
{
    (void)state;
    join();
    const mvpn_nat_id session = w->ids.session;
    assert_int_equal(ask_address(&w->caller, &session), 0);
    assert_true(mvpn_addr_eq(&w->caller.addressed.addr, &w->home.addr));
    assert_int_equal(ask_address(&w->home, &session), 0);
    assert_true(mvpn_addr_eq(&w->home.addressed.addr, &w->caller.addr));
    w->home.addr = addr(9, 9); /* as of now */
    assert_int_equal(ask_address(&w->caller, &session), 0);
    assert_true(mvpn_addr_eq(&w->caller.addressed.addr, &w->home.addr));
    /* Nobody else learns where a relay or its caller is. */
    assert_int_equal(ask_address(&w->stranger, &session), MVPN_REASON_UNREACHABLE);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->refused, 1);
    assert_int_equal(w->stranger.addressed.addr.family, 0);
    for (unsigned i = 0; i < 17; i++) { /* 20 with the open and those above */
        assert_int_equal(ask_address(&w->caller, &session), 0);
    }
    assert_int_equal(ask_address(&w->caller, &session), MVPN_REASON_BUSY);
    assert_int_equal(w->caller.addressed.addr.family, 0);
    assert_int_equal(ask_address(&w->home, &session), 0);
    w->now += MVPN_MS(200);
    assert_int_equal(ask_address(&w->caller, &session), 0);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    assert_true(message(&w->home, MVPN_CMD_NAT_CLOSE, session.b, 8));
    w->now += MVPN_S(1);
    assert_int_equal(ask_address(&w->caller, &session), MVPN_REASON_UNREACHABLE);
}

static void test_forwards_both_ways(void **state)
{
    (void)state;
    join();
    const mvpn_addr *home = &w->home.addr, *caller = &w->caller.addr;
    assert_int_equal(w->home.incoming_count, 1);
    assert_int_equal(w->ids.count, 8);
    assert_int_equal(w->home.incoming.count, 8);
    assert_memory_equal(w->home.incoming.own, w->ids.peer, sizeof(w->ids.peer));
    assert_memory_equal(w->home.incoming.peer, w->ids.own, sizeof(w->ids.own));
    assert_int_equal(w->caller.holds, 1);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(goes(caller, &w->ids.peer[i], home));
        assert_true(goes(home, &w->ids.own[i], caller));
    }
    const mvpn_nat_relay_counters *c = mvpn_nat_relay_get_counters(w->relay);
    assert_int_equal(c->forwarded, 32);
    assert_int_equal(c->forwarded_bytes, 16 * (1424 + 1232));
    assert_int_equal(c->dropped_source + c->dropped_limit, 0);
}

static void test_others_go_nowhere(void **state)
{
    (void)state;
    join();
    bool is_ours;
    mvpn_addr same_ip = w->caller.addr, none;
    same_ip.port++; /* whoever stands behind the same NAT */
    const mvpn_addr *strangers[] = {&w->stranger.addr, &same_ip, &w->home.addr};
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(strangers); i++) {
        /* the last: a side cannot send to its own ids either */
        assert_false(goes(strangers[i], &w->ids.peer[3], &w->home.addr));
    }
    assert_false(goes(&w->stranger.addr, &w->ids.own[0], &w->caller.addr));
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->dropped_source, 8);
    mvpn_connection_id unknown = w->ids.peer[0];
    unknown.b[7] ^= 1;
    none = send_from(&w->caller.addr, &unknown, 1424, false, &is_ours);
    assert_int_equal(none.family, 0);
    assert_false(is_ours);
    /* Too short for a destination, or of another kind. */
    for (uint32_t len = 0; len < 15; len++) {
        for (unsigned first = 0; first < 256; first += 0x15) {
            mvpn_packet *p = mvpn_packet_new(&w->pool);
            uint8_t *b = mvpn_packet_append(p, 14);
            memset(b, 0, 14);
            b[0] = (uint8_t)first;
            memcpy(b + 1, w->ids.peer[0].b, 8);
            p->len = len;
            p->remote = w->caller.addr;
            bool is_transport = first >> 6 == 1 && len == 14;
            assert_int_equal(mvpn_nat_relay_forward(w->relay, p, w->now), is_transport);
            if (!is_transport) {
                mvpn_packet_free(&w->pool, p);
            }
        }
    }
    mvpn_packet_queue_clear(mvpn_nat_relay_out(w->relay), &w->pool);
    /* What is no first packet, but has an id where one would. */
    for (unsigned first = 0; first < 256; first++) {
        mvpn_packet *p = mvpn_packet_new(&w->pool);
        uint8_t *b = mvpn_packet_append(p, 1232);
        memset(b, 0xc5, 1232);
        b[0] = (uint8_t)first;
        b[5] = 8;
        memcpy(b + 6, w->ids.peer[0].b, 8);
        p->remote = w->caller.addr;
        bool is_taken = mvpn_nat_relay_forward(w->relay, p, w->now);
        assert_int_equal(is_taken, mvpn_is_handshake_flags((uint8_t)first));
        if (!is_taken) {
            mvpn_packet_free(&w->pool, p);
        }
    }
    mvpn_packet_queue_clear(mvpn_nat_relay_out(w->relay), &w->pool);
}

static void test_follows_the_proven_address(void **state)
{
    (void)state;
    join();
    mvpn_addr old = w->home.addr, new_addr = addr(9, 9);
    assert_false(goes(&new_addr, &w->ids.own[0], &w->caller.addr));
    w->home.addr = new_addr; /* the link has proven it */
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &new_addr));
    assert_true(goes(&new_addr, &w->ids.own[0], &w->caller.addr));
    assert_false(goes(&old, &w->ids.own[0], &w->caller.addr));
    w->home.is_closed = true; /* failed, and its event not yet pulled */
    assert_false(goes(&w->caller.addr, &w->ids.peer[0], &new_addr));
}

static void test_more_ids(void **state)
{
    (void)state;
    join();
    mvpn_nat_ids before = w->ids;
    assert_int_equal(do_more(&w->caller, &before.session, 8), 0);
    assert_int_equal(w->caller.opened.ids.count, 8);
    assert_memory_equal(w->home.incoming.peer, w->caller.opened.ids.own, 64);
    mvpn_nat_ids more = w->caller.opened.ids;
    assert_true(goes(&w->caller.addr, &before.peer[0], &w->home.addr));
    assert_true(goes(&w->caller.addr, &more.peer[7], &w->home.addr));
    /* Both at once, twice: what was in use before is good yet. */
    assert_int_equal(do_more(&w->home, &before.session, 8), 0);
    assert_int_equal(do_more(&w->caller, &before.session, 8), 0);
    assert_true(goes(&w->caller.addr, &before.peer[0], &w->home.addr));
    assert_true(goes(&w->home.addr, &before.own[0], &w->caller.addr));
    assert_int_equal(do_more(&w->home, &before.session, 3), 0); /* by the other side: 35 */
    assert_int_equal(w->caller.incoming.count, 3);
    assert_true(goes(&w->caller.addr, &w->caller.incoming.peer[2], &w->home.addr));
    for (unsigned i = 0; i < 8; i++) { /* the three oldest have ended */
        bool is_ours;
        mvpn_addr at = send_from(&w->caller.addr, &before.peer[i], 100, false, &is_ours);
        assert_int_equal(is_ours, i >= 3);
        assert_int_equal(at.family != 0, i >= 3);
    }
    size_t told = w->home.incoming_count;
    assert_int_equal(do_more(&w->stranger, &before.session, 8), MVPN_REASON_UNREACHABLE);
    assert_int_equal(w->stranger.opened.ids.count, 0);
    assert_memory_equal(w->stranger.opened.ids.session.b, before.session.b, 8);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->refused, 1);
    assert_int_equal(w->home.incoming_count, told);
    for (unsigned i = 0; i < 17; i++) { /* 20 with the open and those above */
        assert_int_equal(do_more(&w->caller, &before.session, 1), 0);
    }
    assert_int_equal(do_more(&w->caller, &before.session, 1), MVPN_REASON_BUSY);
    w->home.refuses = true;
    w->now += MVPN_S(1);
    uint8_t body[MVPN_NAT_MORE_LEN];
    mvpn_nat_more_encode(body, &(mvpn_nat_more){before.session, 1});
    assert_true(message(&w->caller, MVPN_CMD_NAT_MORE, body, sizeof(body)));
    assert_int_equal(w->caller.close_count, 1); /* half told is of no use */
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
}

int main(void)
{
#define UNIT(t) cmocka_unit_test_setup_teardown(t, relay_setup, relay_teardown)
    const struct CMUnitTest all[] = {
        UNIT(test_address_of_the_other_side),
        UNIT(test_forwards_both_ways),
        UNIT(test_others_go_nowhere),
        UNIT(test_follows_the_proven_address),
        UNIT(test_more_ids),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
