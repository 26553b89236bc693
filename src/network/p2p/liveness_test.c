/*
 * Does the peer live, and the path to it: links over NATs. (docs/protocol.md §14.4 "Doubt")
 * A's link with B by R0, relayed or direct; the round trip is 40 ms relayed, 20 ms direct.
 */
#include <string.h>

#include "network/p2p/reachnet.h"

/* Datagrams that A has sent. */
static uint64_t sent(const struct reachnet *w)
{
    return w->net->node[A].sent;
}

static void data(struct reachnet *w, size_t from, mvpn_link *link)
{
    assert_int_equal(net_send(w->net, from, link, MVPN_CMD_DHT_PING, 8, 1, false), 0);
}

/* When the peer has been asked so often. */
static mvpn_time asked(struct reachnet *w, const struct session *s, unsigned doubts)
{
    mvpn_time from = w->net->now;
    while (s->doubts < doubts && w->net->now - from < MVPN_S(30)) {
        net_for(w->net, MVPN_MS(1));
    }
    return w->net->now - from;
}

/* A calm link, relayed alone, without the NAT relay's pings of its own. */
static struct session *calm(struct reachnet *w, uint64_t seed)
{
    reach_joined(w, seed, 1, true);
    net_for(w->net, MVPN_S(120));
    struct session *s = w->link->session;
    assert_true(s->is_calm);
    return s;
}

static void test_silence_after_data(void **state)
{
    (void)state;
    struct reachnet w;
    struct session *s = calm(&w, 1);
    uint32_t rtt = w.link->srtt_us;
    assert_in_range(rtt, 39000, 41000);
    w.is_cut[A] = true;
    data(&w, A, w.link);
    net_for(w.net, 0);
    assert_false(s->is_calm);
    assert_in_range(asked(&w, s, 1), MVPN_MS(375), MVPN_MS(385)); /* 300 ms + 2 RTT */
    /* Then each 200 ms, three in all; then, without another route, each second. */
    assert_in_range(asked(&w, s, 2), MVPN_MS(199), MVPN_MS(202));
    assert_in_range(asked(&w, s, 3), MVPN_MS(199), MVPN_MS(202));
    assert_in_range(asked(&w, s, 4), MVPN_MS(199), MVPN_MS(202));
    assert_in_range(asked(&w, s, 5), MVPN_MS(999), MVPN_MS(1002));
    assert_true(mvpn_link_is_open(w.link));
    w.is_cut[A] = false;
    net_for(w.net, MVPN_S(2));
    assert_true(s->doubts <= 1 && s->last_recv > w.net->now - MVPN_S(1));
    assert_true(mvpn_link_is_open(w.link));
    reach_stop(&w);
}

/* Silence means nothing while nothing is said: pauses double up to a keepalive. */
static void test_pauses_double(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 2, 1, true);
    struct session *s = w.link->session;
    net_for(w.net, MVPN_S(3));
    mvpn_time at[16], longest = 0;
    size_t count = 0;
    uint32_t rtt = w.link->srtt_us;
    mvpn_time last = s->doubt_after;
    assert_true(last <= 16 * (MVPN_MS(300) + 2 * (mvpn_time)rtt));
    for (mvpn_time end = w.net->now + MVPN_S(120); w.net->now < end;) {
        net_for(w.net, MVPN_MS(10));
        if (s->doubt_after != last) {
            assert_true(count < MVPN_ARRAY_LEN(at));
            assert_true(s->doubt_after == 2 * last || s->doubt_after <= MVPN_S(18));
            at[count++] = last = s->doubt_after;
            longest = MVPN_MAX(longest, last);
        }
    }
    assert_true(count >= 3);
    assert_in_range(longest, MVPN_S(15), MVPN_S(18)); /* 15 s +- 20 %, not less than 15 */
    /* A calm link costs a keepalive: some 8 pings in two minutes, with their answers. */
    uint64_t before = sent(&w);
    net_for(w.net, MVPN_S(120));
    assert_in_range(sent(&w) - before, 8, 60); /* rekeys, and the NAT relay's link as well */
    /* The measured lifetime of mappings makes it longer. */
    mvpn_links_set_keepalive(w.net->node[A].links, MVPN_S(60));
    mvpn_links_set_keepalive(w.net->node[B].links, MVPN_S(60));
    net_for(w.net, MVPN_S(400));
    assert_in_range(s->doubt_after, MVPN_S(48), MVPN_S(72));
    assert_in_range(s->alive_after, MVPN_S(48), MVPN_S(72));
    reach_stop(&w);
}

/* The first message after a pause does not wait for the keepalive. */
static void test_calm_link_reacts_at_once(void **state)
{
    (void)state;
    struct reachnet w;
    struct session *s = calm(&w, 3);
    net_for(w.net, MVPN_S(1));
    assert_true(s->is_calm && s->doubt_after > MVPN_S(5));
    /* Data of the peer count like ours. */
    data(&w, B, w.latest[B]);
    net_for(w.net, MVPN_MS(30));
    assert_false(s->is_calm);
    assert_true(s->doubt_after < MVPN_MS(500));
    net_for(w.net, MVPN_S(60));
    assert_true(s->is_calm);
    /* What was silent before does not count. */
    data(&w, A, w.link);
    net_for(w.net, MVPN_MS(300));
    assert_int_equal(s->doubts, 0);
    reach_stop(&w);
}

/* While data flow both ways nobody is asked anything. */
static void test_no_pings_in_traffic(void **state)
{
    (void)state;
    struct reachnet w;
    struct session *s = calm(&w, 4);
    for (unsigned i = 0; i < 500; i++) {
        data(&w, A, w.link);
        data(&w, B, w.latest[B]);
        net_for(w.net, MVPN_MS(100));
        if (i > 0) {
            assert_int_equal(s->doubts, 0);
            assert_int_equal(w.link->ping_at, 0);
        }
    }
    reach_stop(&w);
}

/* NATs are kept open by what goes out: who only receives sends all the same. */
static void test_keepalive_when_only_receiving(void **state)
{
    (void)state;
    struct reachnet w;
    struct session *s = calm(&w, 5);
    mvpn_link_release(w.latest[B], w.net->now); /* it asks nothing */
    mvpn_time longest = 0;
    for (unsigned i = 0; i < 600; i++) {
        data(&w, B, w.latest[B]);
        net_for(w.net, MVPN_MS(100));
        longest = MVPN_MAX(longest, w.net->now - s->route->last_sent);
    }
    assert_in_range(longest, MVPN_S(5), MVPN_S(18));
    reach_stop(&w);
}

static void test_silent_relayed_link_ends(void **state)
{
    (void)state;
    for (unsigned has_data = 0; has_data < 2; has_data++) {
        struct reachnet w;
        struct session *s = calm(&w, 6);
        if (has_data) {
            data(&w, A, w.link);
            net_for(w.net, MVPN_MS(100));
        }
        w.is_cut[B] = true; /* the NAT relay answers, the peer does not */
        mvpn_time from = s->last_recv;
        net_for(w.net, MVPN_S(17));
        assert_non_null(w.link);
        while (w.link != NULL && w.net->now - from < MVPN_S(60)) {
            net_for(w.net, MVPN_MS(50));
        }
        assert_null(w.link);
        /* 18 s; the pause of a calm link may be that long, and asking takes three more. */
        assert_in_range(w.net->now - from, MVPN_S(18), has_data ? MVPN_S(20) : MVPN_S(23));
        assert_true(
            reach_has_event(&w, A, MVPN_CONNECTION_FAILED_STATE, MVPN_CONNECTION_LINK_CLOSED));
        reach_stop(&w);
    }
}

/* Of two routes, silence of that in use counts; what comes by the other does not. */
static void test_silent_direct_route(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined_directly(&w, 7);
    struct session *s = w.link->session;
    net_for(w.net, MVPN_S(60));
    assert_true(s->is_calm);
    w.is_direct = false;
    mvpn_time from = w.net->now;
    data(&w, A, w.link);
    while (s->route == &s->routes[ROUTE_DIRECT] && w.net->now - from < MVPN_S(30)) {
        (void)transport_token(w.latest[B]->session, MVPN_CMD_LINK_PING, 1,
                              &w.latest[B]->session->routes[ROUTE_RELAYED], w.net->now);
        net_for(w.net, MVPN_MS(10));
    }
    /* 300 ms + 2 RTT, and three pings 200 ms apart. */
    assert_in_range(w.net->now - from, MVPN_MS(900), MVPN_MS(1000));
    assert_true(mvpn_link_is_open(w.link));
    assert_int_equal(s->doubts, 0);
    net_for(w.net, MVPN_S(1));
    assert_in_range(w.link->srtt_us, 35000, 45000); /* another path, another round trip */
    reach_stop(&w);

    /* Without data: within a keepalive and the asking. */
    reach_joined_directly(&w, 8);
    s = w.link->session;
    net_for(w.net, MVPN_S(60));
    w.is_direct = false;
    from = w.net->now;
    while (s->route == &s->routes[ROUTE_DIRECT] && w.net->now - from < MVPN_S(60)) {
        net_for(w.net, MVPN_MS(10));
    }
    assert_in_range(w.net->now - from, MVPN_S(1), MVPN_S(19));
    net_for(w.net, MVPN_S(1));
    assert_true(mvpn_link_is_open(w.link));
    reach_stop(&w);
}

/* Nobody holds it: it is not asked, and ends. */
static void test_idle_link_ends(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 9, 1, true);
    mvpn_link_release(w.link, w.net->now);
    mvpn_link_release(w.latest[B], w.net->now);
    net_for(w.net, MVPN_S(299));
    assert_non_null(w.link);
    net_for(w.net, MVPN_S(3));
    assert_null(w.link);
    assert_null(w.latest[B]);
    reach_stop(&w);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_silence_after_data),
        cmocka_unit_test(test_pauses_double),
        cmocka_unit_test(test_calm_link_reacts_at_once),
        cmocka_unit_test(test_no_pings_in_traffic),
        cmocka_unit_test(test_keepalive_when_only_receiving),
        cmocka_unit_test(test_silent_relayed_link_ends),
        cmocka_unit_test(test_silent_direct_route),
        cmocka_unit_test(test_idle_link_ends),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
