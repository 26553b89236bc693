/*
 * Does the peer live, and the path to it: links over NATs (docs/protocol.md §14.4 "Doubt"), and
 * links that somebody suspects (§4.8).
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

/* ---- suspicion ---- */

static unsigned tiny; /* datagrams of the size of a ping */
static bool count_pings(struct net *net, struct net_datagram *d)
{
    (void)net;
    tiny += d->len == TRANSPORT_OVERHEAD + MVPN_LINK_TOKEN_LEN;
    return true;
}

static void test_a_suspect_that_is_silent_is_left(void **state)
{
    (void)state;
    static const struct {
        mvpn_time delay, end;
    } rows[] = {{MVPN_MS(10), MVPN_MS(600)}, {MVPN_MS(150), MVPN_MS(1800)}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_new(i);
        net->delay = rows[i].delay;
        net_start(net, 0, false, false, NULL);
        net_start(net, 1, true, false, NULL);
        mvpn_link *other, *link = net_joined(net, 0, 1, &other);
        net->loss = 100;
        net->filter = count_pings;
        tiny = 0;
        mvpn_time start = net->now;
        while (net->now - start < rows[i].end - MVPN_MS(1)) {
            /* Neither this nor holding it makes it longer or shorter. */
            mvpn_link_suspect(link, net->now);
            mvpn_link_hold(link);
            mvpn_link_release(link, net->now);
            net_for(net, MVPN_MS(1));
            assert_true(mvpn_link_is_open(link));
        }
        assert_int_equal(tiny, 6);
        net_for(net, MVPN_MS(2));
        assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
        /* A new one can be made at once. */
        net->loss = 0;
        assert_true(net_until_open(net, net_open(net, 0, 1), MVPN_S(1)));
        net_free(net);
    }
}

static void test_any_sound_ends_suspicion(void **state)
{
    (void)state;
    struct net *net = net_standard(3, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    mvpn_link_hold(link);
    net->loss = 100;
    mvpn_link_suspect(link, net->now);
    mvpn_link_suspect(link, net->now); /* the same one */
    net_for(net, MVPN_MS(580));
    net->loss = 0;
    assert_int_equal(net_send(net, 1, other, MVPN_CMD_DHT_PING, 8, 1, false), 0);
    net_for(net, MVPN_MS(15));
    assert_int_equal(net->node[0].messages, 1);
    net->loss = 100;
    net_for(net, MVPN_S(10));
    assert_true(mvpn_link_is_open(link));
    net_for(net, MVPN_S(13)); /* the keepalive's turn */
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
    net_free(net);
}

/* Neither loss nor a long way is death. */
static void test_suspicion_of_the_living(void **state)
{
    (void)state;
    static const struct {
        uint32_t loss;
        mvpn_time delay;
        bool by_owner;
    } rows[] = {
        {10, MVPN_MS(10), true},   {10, MVPN_MS(150), true},  {30, MVPN_MS(10), false},
        {30, MVPN_MS(150), false}, {20, MVPN_MS(150), false}, {0, MVPN_MS(280), true},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_standard(i, false);
        mvpn_link *other, *link = net_joined(net, 1, 2, &other);
        net->delay = rows[i].delay; /* longer than it was measured */
        net->loss = rows[i].loss;
        for (unsigned k = 0; k < 100; k++) {
            assert_int_equal(net_send(net, 1, link, MVPN_CMD_CREATE, 400, k, true), 0);
            if (rows[i].by_owner) {
                mvpn_link_suspect(link, net->now);
            }
            net_for(net, MVPN_S(2));
            assert_true(mvpn_link_is_open(link));
        }
        net_free(net);
    }
}

/* A relay that began anew is found out by the next message that it must acknowledge. */
static void test_a_silent_relay_is_suspected(void **state)
{
    (void)state;
    enum { CLIENT, GUARD, MIDDLE };
    static const struct {
        size_t from, to;
        bool at_once;
    } rows[] = {
        {GUARD, MIDDLE, true},
        {MIDDLE, GUARD, true},  /* whoever began the link */
        {CLIENT, GUARD, false}, /* it has means of its own */
        {GUARD, CLIENT, false}, /* which may have changed networks */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        size_t from = rows[i].from, to = rows[i].to;
        struct net *net = net_standard(i, false);
        mvpn_link *end[NET_NODES];
        size_t first = MVPN_MIN(from, to), second = MVPN_MAX(from, to);
        end[first] = net_joined(net, first, second, &end[second]);
        mvpn_link_hold(end[from]);
        if (to != CLIENT) {
            net_stop(net, to);
            net_start(net, to, true, false, NULL);
        } else {
            net->loss = 100;
        }
        mvpn_time start = net->now;
        assert_int_equal(net_send(net, from, end[from], MVPN_CMD_CREATE, 400, 1, true), 0);
        while (net_event(&net->node[from], MVPN_LINK_CLOSED) == NULL) {
            net_for(net, MVPN_MS(1));
        }
        mvpn_time after = net->now - start;
        assert_int_equal(net_event(&net->node[from], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
        assert_in_range(after, rows[i].at_once ? MVPN_MS(740) : MVPN_S(10),
                        rows[i].at_once ? MVPN_MS(760) : MVPN_S(13));
        net_free(net);
    }
}

/* Who was not called for a while has to look before it judges. */
static void test_our_own_pause_is_no_silence(void **state)
{
    (void)state;
    struct net *net = net_standard(4, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->loss = 100;
    mvpn_link_suspect(link, net->now);
    net_for(net, MVPN_MS(590));
    assert_int_equal(link->session->pings, 6);
    net->loss = 0;
    assert_int_equal(net_send(net, 1, other, MVPN_CMD_DHT_PING, 8, 1, false), 0);
    net_for(net, 0);
    net->now += MVPN_S(1); /* it waits in the socket */
    net_for(net, MVPN_S(1));
    assert_int_equal(net->node[0].messages, 1);
    assert_true(mvpn_link_is_open(link));
    net_free(net);
}

/* Nor is what we had no packet to ask with. */
static void test_our_own_shortage_is_no_silence(void **state)
{
    (void)state;
    struct net *net = net_standard(5, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    mvpn_packet_pool *pool = &net->node[0].pool;
    mvpn_packet_queue held;
    mvpn_packet_queue_init(&held);
    while (pool->free_count > 0) {
        mvpn_packet_queue_push(&held, mvpn_packet_new(pool));
    }
    net->loss = 100;
    mvpn_link_suspect(link, net->now);
    net_for(net, MVPN_S(3));
    assert_true(mvpn_link_is_open(link));
    mvpn_packet_queue_clear(&held, pool);
    net_for(net, MVPN_MS(660));
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
    net_free(net);
}

/* Over NATs each route is asked, and the relayed one taken if it answers. */
static void test_suspicion_over_nats(void **state)
{
    (void)state;
    for (unsigned has_relay = 0; has_relay < 2; has_relay++) {
        struct reachnet w;
        reach_joined_directly(&w, 10);
        net_for(w.net, MVPN_S(60));
        struct session *s = w.link->session;
        assert_true(s->is_calm);
        w.is_direct = false;
        w.is_cut[B] = !has_relay;
        mvpn_time from = w.net->now;
        mvpn_link_suspect(w.link, from);
        net_for(w.net, MVPN_MS(500));
        assert_true(s->route == &s->routes[ROUTE_DIRECT]);
        net_for(w.net, MVPN_MS(150));
        assert_true(s->route == &s->routes[ROUTE_RELAYED]);
        while (w.link != NULL && w.net->now - from < MVPN_S(10)) {
            net_for(w.net, MVPN_MS(50));
        }
        assert_int_equal(w.link != NULL, has_relay);
        if (has_relay) {
            assert_int_equal(s->suspected_at, 0);
        } else {
            assert_in_range(w.net->now - from, MVPN_S(2), MVPN_S(3));
        }
        reach_stop(&w);
    }
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
        cmocka_unit_test(test_a_suspect_that_is_silent_is_left),
        cmocka_unit_test(test_any_sound_ends_suspicion),
        cmocka_unit_test(test_suspicion_of_the_living),
        cmocka_unit_test(test_a_silent_relay_is_suspected),
        cmocka_unit_test(test_our_own_pause_is_no_silence),
        cmocka_unit_test(test_our_own_shortage_is_no_silence),
        cmocka_unit_test(test_suspicion_over_nats),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
