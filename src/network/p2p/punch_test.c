/*
 * Rounds of punching between two links: which addresses are tried, which sockets are open.
 * (docs/protocol.md §14.5)
 */
#include <string.h>

#include "network/p2p/reachnet.h"
#include "wire/natmsg.h"

/* ---- where punches go ---- */

static bool is_target(const struct round *r, const mvpn_addr *a)
{
    for (size_t i = 0; i < r->target_count; i++) {
        if (mvpn_addr_eq(&r->target[i].addr, a)) {
            return true;
        }
    }
    return false;
}

/* B's round as the peer's candidates make it. */
static const struct round *round_of(struct reachnet *w, const mvpn_link_candidates *m)
{
    reach_send_candidates(w, w->link, m);
    return &w->latest[B]->connection->round;
}

static mvpn_addr at(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
    return (mvpn_addr){.family = 4, .port = port, .ip = {a, b, c, d}};
}

static void test_targets(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 31, 1, false);
    net_for(w.net, MVPN_S(3));
    const mvpn_addr seen = reach_addr(A);
    mvpn_addr port = seen;
    port.port = 4000;
    mvpn_link_candidates m = {.round = 90,
                              .flags = MVPN_CANDIDATES_ASK,
                              .id_count = 1,
                              .ids = {{{1, 2, 3}}},
                              .candidate_count = 6,
                              .candidates = {{MVPN_CANDIDATE_REFLEXIVE, at(9, 9, 9, 9, 53)},
                                             {MVPN_CANDIDATE_MAPPED, at(9, 9, 9, 9, 54)},
                                             {MVPN_CANDIDATE_HOST, at(192, 168, 0, 7, 7000)},
                                             {MVPN_CANDIDATE_HOST, at(9, 9, 9, 9, 55)},
                                             {MVPN_CANDIDATE_MAPPED, port},
                                             {MVPN_CANDIDATE_REFLEXIVE, seen}}};
    const struct round *r = round_of(&w, &m);
    assert_int_equal(r->phase, ROUND_PUNCHING);
    assert_int_equal(r->target_count, 2); /* nobody's ip but the one seen */
    assert_true(is_target(r, &seen) && is_target(r, &port));
    assert_false(r->target[0].is_guessed);
    net_for(w.net, MVPN_S(3));
    assert_int_equal(w.strange, 0);

    /* One home: host addresses as well, of the private ones, and not our own. */
    struct binding *b = &w.connector[B]->binding[0];
    b->link->observed.ip[0] = seen.ip[0];
    w.connector[B]->config.own[0] = at(192, 168, 0, 8, 7000);
    m.round++;
    m.candidate_count = 4;
    m.candidates[0] = (mvpn_candidate){MVPN_CANDIDATE_HOST, at(192, 168, 0, 8, 22)};
    m.candidates[1] = (mvpn_candidate){MVPN_CANDIDATE_REFLEXIVE, at(192, 168, 0, 9, 7000)};
    r = round_of(&w, &m);
    assert_int_equal(r->phase, ROUND_PUNCHING);
    assert_int_equal(r->target_count, 2);
    assert_true(is_target(r, &m.candidates[2].addr));
    net_for(w.net, MVPN_S(3));
    assert_true(w.strange > 0);
    /* The same by what observers have seen of us; the observed address may not be known. */
    b->link->observed = (mvpn_addr){0};
    m.round++;
    r = round_of(&w, &m);
    assert_int_equal(r->target_count, 1);
    net_for(w.net, MVPN_S(3));
    w.connector[B]->nat.seen_count = 1;
    w.connector[B]->nat.seen[0] = port;
    m.round++;
    r = round_of(&w, &m);
    assert_int_equal(r->target_count, 2);
    net_for(w.net, MVPN_S(3));

    /* Ports told: three at most; guesses from the step: never more than 16 in all. */
    m.round++;
    m.mapping = MVPN_NAT_DEPENDS_PORT;
    m.port_step = 2;
    m.candidate_count = 8;
    for (uint16_t i = 0; i < 8; i++) {
        m.candidates[i] = (mvpn_candidate){MVPN_CANDIDATE_REFLEXIVE, seen};
        m.candidates[i].addr.port = (uint16_t)(100 + i);
    }
    r = round_of(&w, &m);
    assert_int_equal(r->target_count, 1 + 3 + 11);
    assert_true(is_target(r, &m.candidates[2].addr));
    assert_false(is_target(r, &m.candidates[3].addr));
    for (uint16_t i = 1; i <= 11; i++) {
        port.port = (uint16_t)(seen.port + 2 * i);
        assert_true(is_target(r, &port));
    }
    assert_true(r->target_count <= PUNCH_TARGETS);
    reach_stop(&w);
}

/* Guesses stay within the ports that there are. */
static void test_guesses_at_the_edge(void **state)
{
    (void)state;
    static const struct {
        int16_t step;
        uint16_t port;
        size_t count;
    } cases[] = {{1, 65530, 5}, {-3, 10, 3}, {0, 7000, 0}, {32767, 1, 2}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(cases); i++) {
        struct reachnet w;
        reach_joined(&w, 32, 1, false);
        net_for(w.net, MVPN_S(3));
        struct connection *conn = w.latest[B]->connection;
        mvpn_link_candidates m = {.round = 90,
                                  .flags = MVPN_CANDIDATES_ASK,
                                  .mapping = MVPN_NAT_DEPENDS_PORT,
                                  .port_step = cases[i].step,
                                  .id_count = 1};
        punch_candidates(conn, &m, w.net->now);
        assert_int_equal(conn->round.phase, ROUND_PREPARING);
        mvpn_addr seen = reach_addr(A);
        seen.port = cases[i].port;
        punch_seen(conn, &seen, w.net->now);
        assert_int_equal(conn->round.phase, ROUND_PUNCHING);
        assert_int_equal(conn->round.target_count, 1 + cases[i].count);
        for (size_t k = 0; k < conn->round.target_count; k++) {
            assert_int_not_equal(conn->round.target[k].addr.port, 0);
            assert_int_equal(conn->round.target[k].is_guessed, k > 0);
        }
        /* A second answer of the NAT relay changes nothing. */
        seen.port = 9999;
        punch_seen(conn, &seen, w.net->now);
        assert_int_equal(conn->round.seen.port, cases[i].port);
        reach_stop(&w);
    }
}

/* ---- sockets of a birthday ---- */

static bool uses_any(const struct reachnet *w, size_t i)
{
    bool is_any = false;
    for (unsigned k = 0; k < MVPN_LOCAL_PUNCH_MAX; k++) {
        is_any =
            is_any || mvpn_connector_uses_socket(w->connector[i], (uint16_t)(MVPN_LOCAL_PUNCH + k));
    }
    return is_any;
}

static unsigned probes_of(const mvpn_connector *c)
{
    unsigned probes = 0;
    for (size_t i = 0; i < BUDGET_BLOCKS; i++) {
        probes += c->budget[i].probes;
    }
    return probes;
}

static void test_sockets(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 33, false);
    reach_bind(&w, B, 1);
    const mvpn_nat_class hard = {.is_known = true,
                                 .mapping = MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT},
                         easy = {.is_known = true,
                                 .mapping = MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT,
                                 .filtering = MVPN_STUN_FILTERING_ADDRESS_AND_PORT_DEPENDENT};
    mvpn_connector_set_class(w.connector[A], &hard, w.net->now);
    mvpn_connector_set_class(w.connector[B], &easy, w.net->now);
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(200));
    assert_false(uses_any(&w, A));
    net_for(w.net, MVPN_MS(1200));
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_HOLE_PUNCH, MVPN_CONNECTION_BIRTHDAY);
    assert_true(mvpn_connector_uses_socket(w.connector[A], MVPN_LOCAL_PUNCH));
    assert_true(mvpn_connector_uses_socket(w.connector[A], MVPN_LOCAL_PUNCH + 319));
    assert_false(uses_any(&w, B)); /* its part is many ports */
    /* Only one at a time: a second link's round waits. */
    assert_ptr_equal(w.connector[A]->birthday, w.link->connection);
    net_for(w.net, MVPN_S(7));
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_ROUND_FAILED);
    assert_int_equal(probes_of(w.connector[A]), 320);
    assert_int_equal(probes_of(w.connector[B]), BUDGET_PROBES);
    net_for(w.net, MVPN_S(6));
    assert_false(uses_any(&w, A)); /* 5 s after the end of the round */
    assert_null(w.connector[A]->birthday);
    /* Nor is it done again within the hour. */
    net_for(w.net, MVPN_S(300));
    assert_int_equal(reach_info(&w, A, w.link).rounds, 3);
    assert_int_equal(probes_of(w.connector[A]), 320);
    assert_int_equal(probes_of(w.connector[B]), BUDGET_PROBES);
    /* That through which the link goes stays. */
    struct session *s = w.link->session;
    s->routes[ROUTE_DIRECT].live = true;
    s->routes[ROUTE_DIRECT].socket = MVPN_LOCAL_PUNCH + 5;
    assert_true(mvpn_connector_uses_socket(w.connector[A], MVPN_LOCAL_PUNCH + 5));
    assert_false(mvpn_connector_uses_socket(w.connector[A], MVPN_LOCAL_PUNCH + 6));
    s->routes[ROUTE_DIRECT].live = false;
    assert_false(uses_any(&w, A));
    s->check.active = true;
    s->check.local = MVPN_LOCAL_PUNCH + 9;
    assert_true(mvpn_connector_uses_socket(w.connector[A], MVPN_LOCAL_PUNCH + 9));
    assert_false(mvpn_connector_uses_socket(w.connector[A], MVPN_LOCAL_PUNCH + 5));
    s->check.active = false;
    assert_false(uses_any(&w, A));
    s->routes[ROUTE_DIRECT].live = true;
    assert_true(mvpn_connector_uses_socket(w.connector[A], MVPN_LOCAL_PUNCH + 5));
    link_fail(w.link, MVPN_E_TIMEOUT);
    net_for(w.net, MVPN_MS(100));
    assert_int_equal(w.connector[A]->connection_count, 0);
    assert_null(w.connector[A]->socket_users[MVPN_LOCAL_PUNCH + 5]);
    assert_false(uses_any(&w, A));
    reach_stop(&w);
}

/* Who has random ports opens sockets, who has a fixed one and looks at ports tries them; in all
 * other cases nothing more is sent. */
static void test_whose_birthday(void **state)
{
    (void)state;
    enum { U, I, AD, PD };
    static const struct {
        uint8_t mapping, filtering;
        int step;
        uint8_t their_mapping, their_filtering;
        int16_t their_step;
        enum round_phase phase;
    } cases[] = {
        {PD, PD, 0, I, PD, 0, ROUND_MANY_SOCKETS}, {AD, PD, 0, I, U, 0, ROUND_MANY_SOCKETS},
        {PD, PD, 0, I, AD, 0, ROUND_WAITING},      {PD, PD, 0, PD, PD, 0, ROUND_WAITING},
        {PD, PD, 0, U, PD, 0, ROUND_WAITING},      {PD, PD, 2, I, PD, 0, ROUND_WAITING},
        {I, PD, 0, PD, PD, 0, ROUND_MANY_PORTS},   {I, U, 0, AD, PD, 0, ROUND_MANY_PORTS},
        {I, AD, 0, PD, PD, 0, ROUND_WAITING},      {I, PD, 0, I, PD, 0, ROUND_WAITING},
        {I, PD, 0, PD, PD, 2, ROUND_MANY_PORTS},   {U, PD, 0, PD, PD, 0, ROUND_WAITING},
        {I, PD, 0, I, PD, 2, ROUND_WAITING},
    };
    struct reachnet w;
    reach_joined(&w, 34, 1, false);
    net_for(w.net, MVPN_S(3));
    struct connection *conn = w.latest[B]->connection;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(cases); i++) {
        w.connector[B]->nat = (mvpn_nat_class){.mapping = cases[i].mapping,
                                               .filtering = cases[i].filtering,
                                               .port_step = cases[i].step};
        conn->next_punch = 0;
        conn->round = (struct round){.phase = ROUND_PUNCHING, .seen = reach_addr(A), .step = 6};
        conn->round.theirs.mapping = cases[i].their_mapping;
        conn->round.theirs.filtering = cases[i].their_filtering;
        conn->round.theirs.port_step = cases[i].their_step;
        (void)punch_tick(conn, w.net->now);
        assert_int_equal(conn->round.phase, cases[i].phase);
        /* Another link's birthday: ours has to wait. */
        w.connector[B]->birthday = w.link->connection;
        conn->round.phase = ROUND_PUNCHING;
        conn->next_punch = 0;
        (void)punch_tick(conn, w.net->now);
        assert_int_equal(conn->round.phase,
                         cases[i].phase == ROUND_MANY_SOCKETS ? ROUND_WAITING : cases[i].phase);
        w.connector[B]->birthday = NULL;
    }
    reach_stop(&w);
}

/* Each address once; host addresses only of private networks; that we open sockets. */
static void test_what_is_told(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 35, 1, false);
    net_for(w.net, MVPN_S(3));
    mvpn_connector *c = w.connector[A];
    const mvpn_addr mapped[] = {at(9, 9, 9, 9, 1), at(9, 9, 9, 9, 2)};
    c->nat = (mvpn_nat_class){.mapping = MVPN_STUN_MAPPING_ADDRESS_DEPENDENT, .seen_count = 1};
    c->nat.seen[0] = mapped[0];
    mvpn_connector_set_mapped(c, mapped, 2);
    c->config.own_count = 3; /* the first is public */
    c->config.own[1] = at(192, 168, 0, 7, 7000);
    c->config.own[2] = (mvpn_addr){.family = 6, .port = 7000, .ip = {0xfd, 1}};
    punch_begin(w.link->connection, w.net->now);
    net_for(w.net, MVPN_MS(45));
    const mvpn_link_candidates *m = &w.latest[B]->connection->round.theirs;
    assert_int_equal(m->candidate_count, 3);
    assert_true(mvpn_addr_eq(&m->candidates[0].addr, &mapped[0]));
    assert_int_equal(m->candidates[0].kind, MVPN_CANDIDATE_REFLEXIVE);
    assert_true(mvpn_addr_eq(&m->candidates[1].addr, &mapped[1]));
    assert_true(mvpn_addr_eq(&m->candidates[2].addr, &c->config.own[1]));
    assert_true((m->flags & MVPN_CANDIDATES_SOCKETS) != 0);
    net_for(w.net, MVPN_S(3));
    c->nat.port_step = 2;
    c->config.tells_host_addresses = false;
    punch_begin(w.link->connection, w.net->now);
    net_for(w.net, MVPN_MS(45));
    assert_int_equal(m->candidate_count, 2);
    assert_int_equal(m->flags & MVPN_CANDIDATES_SOCKETS, 0);
    /* A NAT relay that sees the peer at a private address is not believed. */
    struct connection *conn = w.latest[B]->connection;
    const mvpn_addr lie = at(192, 168, 0, 1, 80);
    conn->round = (struct round){.phase = ROUND_PREPARING};
    punch_seen(conn, &lie, w.net->now);
    assert_false(conn->round.has_seen);
    reach_stop(&w);
}

/* Ids for a direct route are not even kept. */
static void test_relayed_only(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 36, 1, true);
    const mvpn_link_candidates m = {.flags = MVPN_CANDIDATES_ASK, .id_count = 1};
    reach_send_candidates(&w, w.link, &m);
    assert_false(w.latest[B]->session->routes[ROUTE_DIRECT].has_remote);
    assert_int_equal(reach_info(&w, B, w.latest[B]).rounds, 0);
    reach_stop(&w);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_targets),      cmocka_unit_test(test_guesses_at_the_edge),
        cmocka_unit_test(test_sockets),      cmocka_unit_test(test_whose_birthday),
        cmocka_unit_test(test_what_is_told), cmocka_unit_test(test_relayed_only),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
