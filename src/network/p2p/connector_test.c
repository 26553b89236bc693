/*
 * The connector on real links with real NAT relays: registration, calls, sessions, what ends, what
 * changes. (docs/protocol.md §14.1, §14.4)
 */
#include <string.h>

#include "network/p2p/reachnet.h"
#include "wire/circuit.h"
#include "wire/natmsg.h"

/* Two round trips of 10 ms hops, each over the NAT relay. */
#define CALL_TIME MVPN_MS(81)

/* ---- registration ---- */

static void test_registers_and_renews(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 1, false);
    assert_false(mvpn_connector_take_binding_change(w.connector[B]));
    reach_bind(&w, B, 2);
    for (size_t i = 0; i < 2; i++) {
        mvpn_connector_binding b = *reach_binding(&w, B, i);
        const struct net_node *r = &w.net->node[i == 0 ? R0 : R1];
        assert_true(b.is_registered);
        assert_memory_equal(&b.identity, &r->config.identity, sizeof(b.identity));
        assert_true(mvpn_addr_eq(&b.relay, &r->addr));
        assert_true(mvpn_addr_eq(&b.seen, &w.net->node[B].addr));
        assert_int_equal(b.failing_since, 0);
        assert_int_equal(w.got[i == 0 ? R0 : R1][0], 1);
    }
    assert_true(mvpn_connector_take_binding_change(w.connector[B]));
    assert_false(mvpn_connector_take_binding_change(w.connector[B]));
    mvpn_nat_id id = reach_binding(&w, B, 0)->rendezvous;
    net_for(w.net, MVPN_S(3600 / 2 - 2));
    assert_int_equal(w.got[R0][0], 1);
    net_for(w.net, MVPN_S(4)); /* half of the time that was granted */
    assert_int_equal(w.got[R0][0], 2);
    assert_int_equal(w.got[R1][0], 2);
    assert_memory_equal(&id, &reach_binding(&w, B, 0)->rendezvous, sizeof(id));
    assert_false(mvpn_connector_take_binding_change(w.connector[B])); /* nothing new */

    /* Fewer: the other one's link is let go, this one stays as it is. */
    const mvpn_link_target *r1 = &w.net->node[R1].target;
    mvpn_connector_register(w.connector[B], r1, 1, w.net->now);
    assert_true(mvpn_connector_take_binding_change(w.connector[B]));
    mvpn_connector_binding left[MVPN_CONNECTOR_BINDINGS];
    assert_int_equal(mvpn_connector_bindings(w.connector[B], left), 1);
    assert_true(left[0].is_registered);
    assert_memory_equal(&left[0].identity, &r1->identity, sizeof(r1->identity));
    assert_false(mvpn_link_is_held(reach_link(&w, B, R0)));
    assert_true(mvpn_link_is_held(reach_link(&w, B, R1)));
    mvpn_connector_register(w.connector[B], r1, 1, w.net->now);
    assert_false(mvpn_connector_take_binding_change(w.connector[B]));
    reach_stop(&w);
}

/* An answer that never comes, and one that says no. */
static void test_registration_is_repeated(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 2, false);
    mvpn_nat_relay *relay = w.relay[R0];
    mvpn_connector *own = w.connector[B];
    reach_start_connector(&w, R0, false); /* not a NAT relay: it takes no notice */
    w.relay[R0] = NULL;
    reach_bind(&w, B, 1);
    assert_int_equal(w.got[R0][0], 1);
    assert_false(reach_binding(&w, B, 0)->is_registered);
    assert_int_not_equal(reach_binding(&w, B, 0)->failing_since, 0);
    net_for(w.net, MVPN_S(5));
    assert_int_equal(w.got[R0][0], 2);
    mvpn_link *link = reach_link(&w, R0, B);
    uint8_t no[MVPN_NAT_REGISTERED_LEN];
    mvpn_nat_registered_encode(no, &(mvpn_nat_registered){.status = MVPN_REASON_BUSY});
    reach_say(&w, R0, link, MVPN_CMD_NAT_REGISTERED, no, sizeof(no));
    net_for(w.net, MVPN_MS(700));
    assert_int_equal(w.got[R0][0], 2); /* a second, to begin with */
    net_for(w.net, MVPN_MS(550));
    assert_int_equal(w.got[R0][0], 3);
    reach_say(&w, R0, link, MVPN_CMD_NAT_REGISTERED, no, sizeof(no));
    net_for(w.net, MVPN_MS(1500));
    assert_int_equal(w.got[R0][0], 3); /* twice as long each time */
    net_for(w.net, MVPN_MS(1000));
    assert_int_equal(w.got[R0][0], 4);
    assert_int_equal(reach_binding(&w, B, 0)->failing_since, MVPN_S(1000));
    for (unsigned i = 0; i < 10; i++) {
        reach_say(&w, R0, link, MVPN_CMD_NAT_REGISTERED, no, sizeof(no));
    }
    unsigned before = w.got[R0][0];
    net_for(w.net, MVPN_S(73)); /* a minute at most */
    assert_true(w.got[R0][0] > before);
    assert_false(mvpn_connector_take_binding_change(own));
    mvpn_connector_free(w.connector[R0]);
    w.connector[R0] = NULL;
    w.relay[R0] = relay;
    net_for(w.net, MVPN_S(6));
    assert_true(reach_binding(&w, B, 0)->is_registered);
    assert_int_equal(reach_binding(&w, B, 0)->failing_since, 0);
    assert_true(mvpn_connector_take_binding_change(own));
    /* Taken back: it counts as lost. */
    reach_say(&w, R0, link, MVPN_CMD_NAT_REGISTERED, no, sizeof(no));
    assert_false(reach_binding(&w, B, 0)->is_registered);
    assert_true(mvpn_connector_take_binding_change(own));
    reach_stop(&w);
}

static void test_relay_is_lost_and_back(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 3, false);
    reach_bind(&w, B, 1);
    MVPN_IGNORE(mvpn_connector_take_binding_change(w.connector[B]));
    mvpn_nat_id id = reach_binding(&w, B, 0)->rendezvous;
    mvpn_link_close(reach_link(&w, R0, B), MVPN_REASON_FINISHED, w.net->now);
    net_for(w.net, MVPN_MS(50));
    assert_false(reach_binding(&w, B, 0)->is_registered);
    assert_true(mvpn_connector_take_binding_change(w.connector[B]));
    assert_int_not_equal(reach_binding(&w, B, 0)->failing_since, 0);
    net_for(w.net, MVPN_MS(1300));
    assert_true(reach_binding(&w, B, 0)->is_registered);
    assert_true(mvpn_connector_take_binding_change(w.connector[B]));
    assert_memory_equal(&id, &reach_binding(&w, B, 0)->rendezvous, sizeof(id));
    w.is_cut[R0] = true;
    net_for(w.net, MVPN_S(25));
    assert_false(reach_binding(&w, B, 0)->is_registered);
    net_for(w.net, MVPN_S(60));
    w.is_cut[R0] = false;
    net_for(w.net, MVPN_S(80));
    assert_true(reach_binding(&w, B, 0)->is_registered);
    /* None from now on. */
    mvpn_connector_register(w.connector[B], NULL, 0, w.net->now);
    assert_true(mvpn_connector_take_binding_change(w.connector[B]));
    mvpn_connector_binding none[MVPN_CONNECTOR_BINDINGS];
    assert_int_equal(mvpn_connector_bindings(w.connector[B], none), 0);
    assert_int_equal(mvpn_connector_deadline(w.connector[B]), MVPN_TIME_NEVER);
    reach_stop(&w);
}

/* What observers see, if they do, is newer than what the handshake said. */
static void test_seen_address_follows_the_class(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 4, false);
    reach_bind(&w, B, 1);
    MVPN_IGNORE(mvpn_connector_take_binding_change(w.connector[B]));
    mvpn_nat_class c = {.seen_count = 2};
    c.seen[0] = (mvpn_addr){.family = 6, .port = 9, .ip = {0x26, 1}};
    c.seen[1] = reach_addr(B);
    c.seen[1].port = 4444;
    mvpn_connector_set_class(w.connector[B], &c, w.net->now);
    assert_true(mvpn_addr_eq(&reach_binding(&w, B, 0)->seen, &c.seen[1]));
    assert_false(mvpn_connector_take_binding_change(w.connector[B])); /* the same ip */
    c.seen[1].ip[3] = 77;
    mvpn_connector_set_class(w.connector[B], &c, w.net->now);
    assert_true(mvpn_addr_eq(&reach_binding(&w, B, 0)->seen, &c.seen[1]));
    assert_true(mvpn_connector_take_binding_change(w.connector[B]));
    reach_stop(&w);
}

/* ---- calling ---- */

static void test_call_through_a_relay(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 5, true);
    reach_bind(&w, B, 1);
    assert_int_equal(reach_info(&w, B, reach_link(&w, B, R0)).type, MVPN_CONNECTION_DIRECT);
    assert_int_equal(reach_info(&w, B, reach_link(&w, B, R0)).state, MVPN_CONNECTION_ESTABLISHED);
    assert_false(reach_info(&w, B, reach_link(&w, B, R0)).is_over_nat);
    assert_true(reach_info(&w, B, reach_link(&w, B, R0)).is_caller);
    assert_false(reach_info(&w, B, reach_link(&w, B, R0)).opened_after != 0);
    mvpn_time from = w.net->now;
    w.link = reach_call(&w, A, B);
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_INIT, MVPN_CONNECTION_CALLING);
    net_for(w.net, MVPN_MS(25));
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_STUN, MVPN_CONNECTION_RELAY_READY);
    assert_int_equal(reach_info(&w, A, w.link).opened_after, 0);
    assert_int_equal(reach_info(&w, A, w.link).type, MVPN_CONNECTION_RELAY);
    net_for(w.net, MVPN_MS(60));
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_LINK_OPEN);
    mvpn_connection_info i = reach_info(&w, A, w.link);
    assert_true(i.is_over_nat && i.is_caller);
    assert_int_equal(i.type, MVPN_CONNECTION_RELAY);
    assert_in_range(i.opened_after, MVPN_MS(79), CALL_TIME);
    assert_int_equal(i.since, from + i.opened_after);
    assert_int_equal(i.direct_after, 0);
    assert_memory_equal(&i.relay, &w.net->node[R0].config.identity, sizeof(i.relay));
    net_for(w.net, MVPN_MS(50));
    i = reach_info(&w, B, w.latest[B]);
    assert_true(i.is_over_nat && !i.is_caller);
    assert_int_equal(i.opened_after, 0);
    assert_memory_equal(&i.relay, &w.net->node[R0].config.identity, sizeof(i.relay));
    assert_true(mvpn_link_is_relayed(w.link) && mvpn_link_is_relayed(w.latest[B]));
    assert_true(reach_has_event(&w, B, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_CALLED));
    /* Only by the relay: nobody punches, nobody asks for addresses. */
    w.is_direct = true;
    w.direct = 0;
    net_for(w.net, MVPN_S(100));
    assert_int_equal(w.direct, 0);
    assert_int_equal(w.got[R0][7], 0);
    assert_int_equal(reach_info(&w, A, w.link).rounds, 0);
    assert_true(mvpn_link_is_open(w.link));
    /* Ids: a session serves two lots. */
    assert_int_equal(w.got[A][3], 1);
    reach_stop(&w);
}

static void test_second_relay(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 6, true);
    reach_bind(&w, B, 2);
    mvpn_link_target t = reach_target(&w, B);
    t.via[0].rendezvous.b[0] ^= 1; /* R0 knows nobody of that name */
    assert_int_equal(mvpn_links_open(w.net->node[A].links, &t, w.net->now, &w.link), 0);
    mvpn_link_hold(w.link);
    net_for(w.net, MVPN_MS(200));
    assert_true(mvpn_link_is_open(w.link));
    mvpn_connection_info i = reach_info(&w, A, w.link);
    assert_memory_equal(&i.relay, &w.net->node[R1].config.identity, sizeof(i.relay));
    /* The link with R0 is of no more use. */
    assert_false(mvpn_link_is_held(reach_link(&w, A, R0)));
    assert_true(mvpn_link_is_held(reach_link(&w, A, R1)));
    reach_stop(&w);

    reach_start(&w, 6, true);
    reach_bind(&w, B, 2);
    w.is_cut[R0] = true;
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(3490));
    assert_false(mvpn_link_is_open(w.link));
    assert_int_equal(w.got[R1][2], 0);
    net_for(w.net, MVPN_MS(200));
    assert_true(mvpn_link_is_open(w.link));
    reach_stop(&w);

    /* Both are silent: it fails, and says so. */
    reach_start(&w, 6, true);
    reach_bind(&w, B, 2);
    w.is_cut[R0] = w.is_cut[R1] = true;
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(6900));
    assert_non_null(w.link);
    net_for(w.net, MVPN_MS(200));
    assert_null(w.link);
    assert_true(reach_has_event(&w, A, MVPN_CONNECTION_FAILED_STATE, MVPN_CONNECTION_NO_RELAY));
    assert_int_equal(w.connector[A]->connection_count, 0);
    assert_int_equal(w.connector[A]->call_count, 0);
    reach_stop(&w);

    /* The first one's link ends while it is asked. */
    reach_start(&w, 6, true);
    reach_bind(&w, B, 2);
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(25));
    assert_true(mvpn_link_is_open(reach_link(&w, A, R0)));
    mvpn_link_close(reach_link(&w, A, R0), MVPN_REASON_FINISHED, w.net->now);
    net_for(w.net, MVPN_MS(200));
    assert_true(mvpn_link_is_open(w.link));
    i = reach_info(&w, A, w.link);
    assert_memory_equal(&i.relay, &w.net->node[R1].config.identity, sizeof(i.relay));
    reach_stop(&w);
}

/* The owner gives up an opening link while the NAT relay's answer is under way. */
static void test_call_given_up(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 7, true);
    reach_bind(&w, B, 1);
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(25));
    uint8_t body[MVPN_NAT_OPENED_LEN_MAX];
    mvpn_nat_opened m = {.request = w.link->connection->request, .ids = reach_ids(1)};
    size_t n = mvpn_nat_opened_encode(body, &m);
    mvpn_link_close(w.link, MVPN_REASON_FINISHED, w.net->now);
    const mvpn_header header = {.command = MVPN_CMD_NAT_OPENED, .length = (uint16_t)n};
    assert_true(mvpn_connector_message(w.connector[A], reach_link(&w, A, R0), &header,
                                       mvpn_bytes_of(body, n), w.net->now));
    assert_null(w.link->session); /* what has ended stays so */
    net_for(w.net, MVPN_S(1));
    assert_null(w.link);
    assert_int_equal(w.connector[A]->connection_count, 0);
    assert_null(reach_link(&w, A, B));

    /* Likewise when it is the NAT relay's link that ends, or opens, meanwhile. */
    for (unsigned is_late = 0; is_late < 2; is_late++) {
        w.link = reach_call(&w, A, B);
        net_for(w.net, MVPN_MS(1));
        mvpn_link *relay = reach_link(&w, A, R0);
        if (is_late) {
            mvpn_link_close(w.link, MVPN_REASON_FINISHED, w.net->now);
            mvpn_link_close(relay, MVPN_REASON_FINISHED, w.net->now);
        } else {
            mvpn_link_close(relay, MVPN_REASON_FINISHED, w.net->now);
            mvpn_link_close(w.link, MVPN_REASON_FINISHED, w.net->now);
        }
        net_for(w.net, MVPN_S(1));
        assert_null(w.link);
        assert_int_equal(w.connector[A]->connection_count, 0);
        net_for(w.net, MVPN_S(1));
    }
    reach_stop(&w);
}

/* Who has no connector cannot; nor is there room for any number. */
static void test_calls_are_bounded(void **state)
{
    (void)state;
    struct reachnet w;
    mvpn_link *link;
    reach_start(&w, 8, true);
    reach_bind(&w, B, 1);
    mvpn_link_target t = reach_target(&w, B);
    assert_int_equal(mvpn_links_open(w.net->node[R1].links, &t, w.net->now, &link), MVPN_E_STATE);
    w.connector[A]->connection_count = CONNECTIONS_MAX;
    assert_int_equal(mvpn_links_open(w.net->node[A].links, &t, w.net->now, &link), MVPN_E_LIMIT);
    assert_null(reach_link(&w, A, B));
    w.connector[A]->connection_count = 0;
    reach_stop(&w);
}

/* Sessions that a NAT relay tells of: the oldest that nobody came for gives way; one with a link
 * does not. */
static void test_sessions_are_bounded(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 9, 1, true);
    mvpn_connector *c = w.connector[B];
    struct nat_call *used = reach_first_call(&w, B);
    assert_non_null(used->connection);
    mvpn_link *at = reach_link(&w, B, R0);
    uint8_t body[MVPN_NAT_INCOMING_LEN_MAX];
    size_t n = 0;
    for (unsigned i = 0; i < CALLS_MAX + 3; i++) {
        mvpn_nat_ids ids = reach_ids(1);
        mvpn_store32(ids.session.b + 4, i);
        n = mvpn_nat_incoming_encode(body, &ids);
        const mvpn_header header = {.command = MVPN_CMD_NAT_INCOMING, .length = (uint16_t)n};
        assert_true(mvpn_connector_message(c, at, &header, mvpn_bytes_of(body, n), w.net->now));
    }
    assert_int_equal(c->call_count, CALLS_MAX);
    assert_ptr_equal(reach_first_call(&w, B), used);
    const struct nat_call *second =
        MVPN_CONTAINER_OF(c->calls.next->next, struct nat_call, in_calls);
    assert_int_equal(mvpn_load32(second->id.b + 4), 4); /* 0 to 3 have gone */
    /* Nobody comes: they end after 150 s, the NAT relay is told. */
    net_for(w.net, MVPN_S(149));
    assert_int_equal(c->call_count, CALLS_MAX);
    net_for(w.net, MVPN_S(2));
    assert_int_equal(c->call_count, 1);
    assert_true(mvpn_link_is_open(w.link));
    net_for(w.net, MVPN_S(60));
    assert_true(w.got[R0][6] > 0);
    reach_stop(&w);
}

/* ---- called ---- */

static void test_strangers_announce_nothing(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 10, 1, true);
    size_t before = w.connector[B]->call_count;
    mvpn_nat_ids ids = reach_ids(1);
    /* R1: we have a link with it, and are not registered there. */
    mvpn_link *link = net_open(w.net, B, R1);
    net_for(w.net, MVPN_MS(100));
    assert_true(mvpn_link_is_open(link));
    reach_send_incoming(&w, R1, B, &ids);
    assert_int_equal(w.got[B][4], 2);
    assert_int_equal(w.connector[B]->call_count, before);
    /* Nor may the one called's NAT relay speak before it has said yes. */
    w.connector[B]->binding[0].is_registered = false;
    reach_send_incoming(&w, R0, B, &ids);
    assert_int_equal(w.connector[B]->call_count, before);
    w.connector[B]->binding[0].is_registered = true;
    reach_send_incoming(&w, R0, B, &ids);
    assert_int_equal(w.connector[B]->call_count, before + 1);
    /* Another NAT relay cannot close, or add to, that session. */
    reach_say(&w, R1, reach_link(&w, R1, B), MVPN_CMD_NAT_CLOSE, ids.session.b, 8);
    assert_int_equal(w.connector[B]->call_count, before + 1);
    reach_say(&w, R0, reach_link(&w, R0, B), MVPN_CMD_NAT_CLOSE, ids.session.b, 8);
    assert_int_equal(w.connector[B]->call_count, before);
    reach_stop(&w);
}

static void test_bodies_that_do_not_decode(void **state)
{
    (void)state;
    static const unsigned commands[] = {MVPN_CMD_NAT_REGISTERED, MVPN_CMD_NAT_OPENED,
                                        MVPN_CMD_NAT_INCOMING, MVPN_CMD_NAT_CLOSE,
                                        MVPN_CMD_NAT_ADDRESSED};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        struct reachnet w;
        reach_start(&w, 11, true);
        reach_bind(&w, B, 1);
        const uint8_t body[] = {1, 2, 3};
        reach_say(&w, R0, reach_link(&w, R0, B), commands[i], body, sizeof(body));
        assert_int_equal(w.closed[B], 1);
        net_for(w.net, MVPN_MS(50));
        assert_int_equal(w.closed[R0], 1);
        /* What is not ours is left to others. */
        const mvpn_header header = {.command = MVPN_CMD_NAT_OPEN, .length = 3};
        assert_false(mvpn_connector_message(w.connector[B], NULL, &header, MVPN_BYTES_ARRAY(body),
                                            w.net->now));
        reach_stop(&w);
    }
}

/* A first packet that overtakes NatIncoming would get ids that the NAT relay does not know. */
static void test_first_packet_comes_too_early(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 12, true);
    reach_bind(&w, B, 1);
    w.drops_incoming = true;
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_S(2));
    assert_false(mvpn_link_is_open(w.link));
    assert_int_equal(w.net->node[B].links->half_open_count, 0);
    assert_int_equal(w.got[B][4], 1);
    assert_true(w.net->node[B].links->counters.dropped_unknown > 0);
    /* Directly, from an address that is no NAT relay's, is as ever. */
    mvpn_link *direct = net_open(w.net, R1, B);
    net_for(w.net, MVPN_MS(100));
    assert_true(mvpn_link_is_open(direct));
    reach_stop(&w);
}

/* The NAT relay gives ids that are ours already: those are left out, the link is made. */
static void test_assigned_ids_that_are_taken(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 13, true);
    reach_bind(&w, B, 1);
    struct session *at = reach_link(&w, B, R0)->session;
    mvpn_nat_ids ids = reach_ids(1);
    mvpn_connection_id taken[2];
    size_t count = 0;
    for (size_t i = 0; connid_at(at, i) != NULL && count < 2; i++) {
        if (connid_at(at, i)->live) {
            taken[count++] = connid_at(at, i)->id;
        }
    }
    assert_int_equal(count, 2);
    ids.own[1] = taken[0];
    ids.own[2] = ids.own[3] = ids.own[4];
    ids.own[6] = taken[1];
    reach_send_incoming(&w, R0, B, &ids);
    struct session *s = session_new(w.net->node[B].links, w.net->now);
    connector_called(s, ids.own[0].b, &w.net->node[R0].addr);
    assert_ptr_equal(s->route, &s->routes[ROUTE_RELAYED]);
    assert_int_equal(s->assigned_count, 7); /* all but that for first packets */
    mvpn_connection_id got;
    assert_int_equal(connid_give(s, ROUTE_RELAYED, &got), 0);
    assert_memory_equal(&got, &ids.own[4], sizeof(got)); /* 2, which is the same */
    assert_int_equal(connid_give(s, ROUTE_RELAYED, &got), 0);
    assert_memory_equal(&got, &ids.own[5], sizeof(got));
    assert_int_equal(connid_give(s, ROUTE_RELAYED, &got), 0);
    assert_memory_equal(&got, &ids.own[7], sizeof(got));
    assert_int_equal(connid_give(s, ROUTE_RELAYED, &got), MVPN_E_LIMIT);
    assert_ptr_equal(connid_find(w.net->node[B].links, taken[0].b)->session, at);
    session_free(s);
    /* Not for another id, nor from elsewhere. */
    s = session_new(w.net->node[B].links, w.net->now);
    connector_called(s, ids.own[1].b, &w.net->node[R0].addr);
    assert_ptr_equal(s->route, &s->routes[ROUTE_DIRECT]);
    connector_called(s, ids.own[0].b, &w.net->node[R1].addr);
    assert_ptr_equal(s->route, &s->routes[ROUTE_DIRECT]);
    session_free(s);
    assert_true(connector_admits(w.net->node[B].links, ids.own[0].b, &w.net->node[R0].addr));
    assert_false(connector_admits(w.net->node[B].links, ids.own[1].b, &w.net->node[R0].addr));
    assert_true(connector_admits(w.net->node[B].links, ids.own[1].b, &w.net->node[R1].addr));
    assert_true(connector_admits(w.net->node[R1].links, ids.own[1].b, &w.net->node[R0].addr));
    reach_stop(&w);
}

/* At once, and one a little later: one link in the end, whoever has the lower identity. */
static void test_both_call(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct reachnet w;
        reach_start(&w, 100 + seed, true);
        reach_bind(&w, A, 1);
        reach_bind(&w, B, 1);
        w.link = reach_call(&w, A, B);
        net_for(w.net, (seed / 4) * MVPN_MS(10));
        mvpn_link *other = reach_call(&w, B, A);
        net_for(w.net, MVPN_S(3));
        assert_ptr_equal(reach_link(&w, A, B), w.link);
        assert_ptr_equal(reach_link(&w, B, A), other);
        assert_true(mvpn_link_is_open(w.link) && mvpn_link_is_open(other));
        mvpn_connection_info a = reach_info(&w, A, w.link), b = reach_info(&w, B, other);
        assert_true(a.is_over_nat && b.is_over_nat);
        assert_true(a.is_caller != b.is_caller);
        assert_int_equal(a.state, MVPN_CONNECTION_RELAYED);
        assert_int_equal(b.state, MVPN_CONNECTION_RELAYED);
        assert_non_null(w.link->connection->call);
        assert_non_null(other->connection->call);
        assert_memory_equal(&w.link->connection->call->id, &other->connection->call->id, 8);
        assert_null(w.link->connection->relay);
        assert_null(other->connection->relay);
        for (unsigned i = 0; i < 20; i++) {
            unsigned before = w.pings[B];
            assert_int_equal(net_send(w.net, A, w.link, MVPN_CMD_DHT_PING, 8, i, true), 0);
            net_for(w.net, MVPN_S(10)); /* through rekeys and further ids */
            assert_int_equal(w.pings[B], before + 1);
        }
        reach_stop(&w);
    }
}

/* Opened directly by the peer while we were calling it. */
static void test_peer_comes_directly(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 14, false);
    reach_bind(&w, B, 1);
    w.is_direct = true;
    w.is_cut[R0] = true;
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(5));
    mvpn_link *other = net_open(w.net, B, A);
    net_for(w.net, MVPN_MS(100));
    assert_true(mvpn_link_is_open(w.link) && mvpn_link_is_open(other));
    assert_null(w.link->connection);
    assert_int_equal(w.connector[A]->connection_count, 0);
    mvpn_connection_info i = reach_info(&w, A, w.link);
    assert_int_equal(i.type, MVPN_CONNECTION_DIRECT);
    assert_false(i.is_over_nat);
    assert_false(i.is_caller);
    net_for(w.net, MVPN_S(20));
    assert_true(mvpn_link_is_open(w.link));
    reach_stop(&w);
}

/* ---- sessions that outlive their links ---- */

static void test_session_is_used_again(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 15, 1, true);
    mvpn_link_close(w.link, MVPN_REASON_FINISHED, w.net->now);
    net_for(w.net, MVPN_S(90));
    assert_null(w.link);
    assert_int_equal(w.connector[A]->call_count, 1);
    assert_int_equal(w.got[R0][2], 1);
    mvpn_time from = w.net->now;
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(150));
    assert_true(mvpn_link_is_open(w.link));
    assert_int_equal(w.got[R0][2], 1); /* no new one */
    assert_true(reach_info(&w, A, w.link).since - from <= MVPN_MS(41));
    assert_non_null(reach_first_call(&w, B)->connection);
    net_for(w.net, MVPN_S(150)); /* in use: no time ends it */
    assert_true(mvpn_link_is_open(w.link));
    assert_int_equal(w.connector[B]->call_count, 1);

    /* Too late: it has been closed. */
    mvpn_link_close(w.link, MVPN_REASON_FINISHED, w.net->now);
    net_for(w.net, MVPN_S(102));
    assert_int_equal(w.connector[A]->call_count, 0);
    assert_int_equal(w.connector[B]->call_count, 0);
    assert_int_equal(mvpn_nat_relay_session_count(w.relay[R0]), 0);
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(150));
    assert_true(mvpn_link_is_open(w.link));
    assert_int_equal(w.got[R0][2], 2);

    /* Worn: NatMore ends the first ids. */
    reach_first_call(&w, A)->is_worn = true;
    mvpn_link_close(w.link, MVPN_REASON_FINISHED, w.net->now);
    net_for(w.net, MVPN_S(1));
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(150));
    assert_true(mvpn_link_is_open(w.link));
    assert_int_equal(w.got[R0][2], 3);
    reach_stop(&w);
}

/* The peer has lost its end: its new link in the same session takes the place of the old. */
static void test_peer_comes_again_in_the_same_session(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 16, 1, true);
    link_fail(w.link, MVPN_E_TIMEOUT); /* nobody is told */
    net_for(w.net, MVPN_MS(1));
    mvpn_link *old = w.latest[B];
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_MS(200));
    assert_true(mvpn_link_is_open(w.link));
    assert_int_equal(w.got[R0][2], 1);
    assert_ptr_not_equal(w.latest[B], old);
    assert_non_null(w.latest[B]);
    assert_int_equal(w.connector[B]->connection_count, 1);
    assert_ptr_equal(reach_first_call(&w, B)->connection, w.latest[B]->connection);
    net_for(w.net, MVPN_S(120));
    assert_true(mvpn_link_is_open(w.link));
    reach_stop(&w);
}

static void test_more_ids(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 17, 1, true);
    net_for(w.net, MVPN_MS(500));
    struct session *s = w.link->session;
    assert_int_equal(w.got[R0][5], 0);
    s->assigned_count = 0;
    net_for(w.net, MVPN_S(31));
    assert_int_equal(w.got[R0][5], 1);
    assert_true(s->assigned_count > 0);
    assert_true(reach_first_call(&w, A)->is_worn);
    assert_true(reach_first_call(&w, B)->is_worn); /* by NatIncoming once more: the same session */
    assert_int_equal(w.connector[B]->call_count, 1);
    assert_true(w.latest[B]->session->assigned_count > 8);
    /* Not more often than every 30 s, whatever comes of it. */
    for (unsigned i = 0; i < 10; i++) {
        s->assigned_count = 0;
        connection_wake(w.link->connection, w.net->now);
        net_for(w.net, MVPN_S(1));
    }
    assert_in_range(w.got[R0][5], 1, 2);
    reach_stop(&w);
}

/* ---- sessions and NAT relays end ---- */

static void test_close_by_the_relay(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 18, 1, true);
    mvpn_nat_id id = reach_first_call(&w, A)->id;
    /* With a link: it goes on as long as a route answers; the session serves no other. */
    reach_say(&w, R0, reach_link(&w, R0, A), MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b));
    assert_true(mvpn_link_is_open(w.link));
    assert_true(reach_first_call(&w, A)->is_worn);
    /* Without: it is forgotten. */
    mvpn_link_close(w.link, MVPN_REASON_FINISHED, w.net->now);
    net_for(w.net, MVPN_MS(100));
    assert_int_equal(w.connector[B]->call_count, 1);
    reach_say(&w, R0, reach_link(&w, R0, B), MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b));
    assert_int_equal(w.connector[B]->call_count, 0);
    reach_stop(&w);
}

static void test_relay_goes(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 19, 1, true);
    mvpn_link_close(reach_link(&w, R0, A), MVPN_REASON_FINISHED, w.net->now);
    net_for(w.net, MVPN_MS(100));
    assert_null(w.link); /* there is no other way */
    assert_true(reach_has_event(&w, A, MVPN_CONNECTION_FAILED_STATE, MVPN_CONNECTION_NO_RELAY));
    assert_int_equal(w.connector[A]->call_count, 0);
    assert_int_equal(w.connector[A]->connection_count, 0);
    reach_stop(&w);

    reach_joined_directly(&w, 20);
    mvpn_link *other = w.latest[B];
    reach_stop_node(&w, R0);
    net_for(w.net, MVPN_S(60));
    assert_true(w.link != NULL && mvpn_link_is_open(w.link));
    assert_ptr_equal(w.latest[B], other);
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN);
    assert_null(w.link->connection->call);
    assert_int_equal(w.connector[A]->call_count, 0);
    /* Then the direct path, too: the link ends. */
    w.is_direct = false;
    net_for(w.net, MVPN_S(25));
    assert_null(w.link);
    assert_null(w.latest[B]);
    assert_true(reach_has_event(&w, A, MVPN_CONNECTION_FAILED_STATE, MVPN_CONNECTION_LINK_CLOSED));
    reach_stop(&w);
}

/* All links end at one instant, in either order: at a shutdown, after a machine has slept. */
static void test_links_end_together(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct reachnet w;
        if (i % 2 == 0) {
            reach_joined(&w, 21, 1, true);
        } else {
            reach_joined_directly(&w, 21);
        }
        mvpn_link *relay = reach_link(&w, A, R0), *link = w.link;
        link_fail(i < 2 ? relay : link, MVPN_E_TIMEOUT);
        link_fail(i < 2 ? link : relay, MVPN_E_TIMEOUT);
        net_for(w.net, MVPN_MS(100));
        assert_null(w.link);
        assert_int_equal(w.connector[A]->connection_count, 0);
        assert_int_equal(w.connector[A]->call_count, 0);
        reach_stop(&w);
    }
}

/* ---- direct ---- */

static void test_upgrade(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 22, false);
    reach_bind(&w, B, 1);
    w.is_direct = true;
    w.link = reach_call(&w, A, B);
    net_for(w.net, MVPN_S(1));
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN);
    reach_check_state(&w, B, w.latest[B], MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN);
    mvpn_connection_info i = reach_info(&w, A, w.link);
    assert_int_equal(i.type, MVPN_CONNECTION_DIRECT);
    assert_int_equal(i.rounds, 1);
    assert_int_equal(i.upgrades, 1);
    assert_int_equal(i.fallbacks, 0);
    assert_in_range(i.direct_after, 1, MVPN_MS(200));
    assert_true(i.is_over_nat);
    static const enum mvpn_connection_state way[] = {
        MVPN_CONNECTION_INIT,       MVPN_CONNECTION_STUN,       MVPN_CONNECTION_STUN,
        MVPN_CONNECTION_RELAYED,    MVPN_CONNECTION_HOLE_PUNCH, MVPN_CONNECTION_UPGRADE,
        MVPN_CONNECTION_ESTABLISHED};
    mvpn_connection_event e[MVPN_CONNECTOR_HISTORY], pulled;
    size_t n = mvpn_connector_history(w.connector[A], e);
    assert_int_equal(n, MVPN_ARRAY_LEN(way));
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(e[k].state, way[k]);
        assert_int_equal(e[k].type, k + 1 < n ? MVPN_CONNECTION_RELAY : MVPN_CONNECTION_DIRECT);
        assert_true(e[k].has_identity);
        assert_memory_equal(&e[k].identity, &w.net->node[B].config.identity, 32);
        assert_true(k == 0 || e[k].at >= e[k - 1].at);
        assert_true(mvpn_connector_pull_event(w.connector[A], &pulled));
        assert_memory_equal(&pulled, &e[k], sizeof(pulled));
    }
    assert_false(mvpn_connector_pull_event(w.connector[A], &pulled));
    assert_true(mvpn_addr_eq(mvpn_link_peer_addr(w.link), &w.net->node[B].addr));
    /* What was punched to the address that answered does not count. */
    for (size_t k = 0; k < BUDGET_BLOCKS; k++) {
        assert_int_equal(w.connector[A]->budget[k].punches, 0);
    }
    /* The relayed route is kept open by the caller: every 50 s. */
    uint64_t before = mvpn_nat_relay_get_counters(w.relay[R0])->forwarded;
    net_for(w.net, MVPN_S(300));
    uint64_t pings = (mvpn_nat_relay_get_counters(w.relay[R0])->forwarded - before) / 2;
    assert_in_range(pings, 5, 8);
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN);
    reach_stop(&w);
}

/* More changes than are kept. */
static void test_history_is_bounded(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 23, 1, true);
    mvpn_connection_event e[MVPN_CONNECTOR_HISTORY], pulled;
    for (unsigned i = 0; i < MVPN_CONNECTOR_HISTORY + 10; i++) {
        connection_enter(w.link->connection, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_SILENT,
                         MVPN_S(5000) + i);
    }
    assert_int_equal(mvpn_connector_history(w.connector[A], e), MVPN_CONNECTOR_HISTORY);
    assert_int_equal(e[0].at, MVPN_S(5000) + 10);
    assert_int_equal(e[MVPN_CONNECTOR_HISTORY - 1].at, MVPN_S(5000) + MVPN_CONNECTOR_HISTORY + 9);
    unsigned count = 0;
    while (mvpn_connector_pull_event(w.connector[A], &pulled)) {
        assert_int_equal(pulled.at, MVPN_S(5000) + 10 + count);
        count++;
    }
    assert_int_equal(count, MVPN_CONNECTOR_HISTORY);
    reach_stop(&w);
}

static void test_rounds_that_fail(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 24, 1, false);
    net_for(w.net, MVPN_MS(100));
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_HOLE_PUNCH, MVPN_CONNECTION_ROUND);
    net_for(w.net, MVPN_S(2));
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_ROUND_FAILED);
    reach_check_state(&w, B, w.latest[B], MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_ROUND_FAILED);
    assert_int_equal(reach_info(&w, A, w.link).rounds, 1);
    assert_int_equal(w.direct, 12); /* six each */
    net_for(w.net, MVPN_S(7));
    assert_int_equal(reach_info(&w, A, w.link).rounds, 2); /* after 5 s +- 20 % */
    net_for(w.net, MVPN_S(46));
    assert_int_equal(reach_info(&w, A, w.link).rounds, 2);
    net_for(w.net, MVPN_S(29));
    assert_int_equal(reach_info(&w, A, w.link).rounds, 3); /* a minute */
    net_for(w.net, MVPN_S(450));
    assert_int_equal(reach_info(&w, A, w.link).rounds, 3);
    net_for(w.net, MVPN_S(290));
    assert_int_equal(reach_info(&w, A, w.link).rounds, 4); /* ten minutes */
    assert_int_equal(reach_info(&w, B, w.latest[B]).rounds, 4);
    net_for(w.net, MVPN_S(600));
    assert_in_range(w.direct, 36, 40); /* twenty an hour, each */
    /* What we are told of our NAT is a reason to try again at once. */
    unsigned before = reach_info(&w, A, w.link).rounds;
    const mvpn_nat_class c = {.is_known = true};
    net_for(w.net, MVPN_S(3));
    mvpn_connector_set_class(w.connector[A], &c, w.net->now);
    net_for(w.net, MVPN_MS(10));
    assert_int_equal(reach_info(&w, A, w.link).rounds, before + 1);
    net_for(w.net, MVPN_S(3));
    mvpn_connector_set_class(w.connector[A], &c, w.net->now); /* not twice */
    net_for(w.net, MVPN_S(3));
    assert_int_equal(reach_info(&w, A, w.link).rounds, before + 1);
    reach_stop(&w);
}

static void test_fall_back_and_again(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined_directly(&w, 25);
    struct session *s = w.link->session, *other = w.latest[B]->session;
    w.is_direct = false;
    mvpn_time from = w.net->now;
    while (s->route == &s->routes[ROUTE_DIRECT] && w.net->now - from < MVPN_S(3)) {
        MVPN_IGNORE(net_send(w.net, A, w.link, MVPN_CMD_DHT_PING, 8, 1, false));
        net_for(w.net, MVPN_MS(20));
    }
    assert_true(w.net->now - from <= MVPN_S(2));
    net_for(w.net, MVPN_MS(30));
    assert_ptr_equal(s->route, &s->routes[ROUTE_RELAYED]);
    assert_ptr_equal(other->route, &other->routes[ROUTE_RELAYED]);
    mvpn_connection_info a = reach_info(&w, A, w.link), b = reach_info(&w, B, w.latest[B]);
    assert_int_equal(a.type, MVPN_CONNECTION_RELAY);
    assert_int_equal(a.fallbacks, 1);
    assert_int_equal(b.fallbacks, 1);
    /* One of the two noticed, the other was told. */
    assert_true((a.reason == MVPN_CONNECTION_SILENT && b.reason == MVPN_CONNECTION_PEER_GAVE_UP) ||
                (b.reason == MVPN_CONNECTION_SILENT && a.reason == MVPN_CONNECTION_PEER_GAVE_UP));
    assert_int_equal(a.state, MVPN_CONNECTION_RELAYED);
    w.is_direct = true;
    net_for(w.net, MVPN_S(12));
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN);
    a = reach_info(&w, A, w.link);
    assert_int_equal(a.upgrades, 2);
    assert_true(a.direct_after < MVPN_S(8)); /* the first */
    reach_stop(&w);
}

static void test_peer_gives_up(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined_directly(&w, 26);
    const mvpn_link_candidates m = {
        .flags = MVPN_CANDIDATES_GAVE_UP, .id_count = 1, .ids = {{{1, 2, 3}}}};
    reach_send_candidates(&w, w.latest[B], &m);
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_PEER_GAVE_UP);
    assert_int_equal(reach_info(&w, A, w.link).fallbacks, 1);
    assert_ptr_equal(w.link->session->route, &w.link->session->routes[ROUTE_RELAYED]);
    /* A round begins a second later; of a link that has no direct route, likewise. */
    unsigned rounds = reach_info(&w, A, w.link).rounds;
    net_for(w.net, MVPN_MS(900));
    assert_int_equal(reach_info(&w, A, w.link).rounds, rounds);
    net_for(w.net, MVPN_MS(100));
    assert_int_equal(reach_info(&w, A, w.link).rounds, rounds + 1);
    reach_stop(&w);

    reach_joined(&w, 27, 1, false);
    net_for(w.net, MVPN_S(12)); /* two rounds failed: the next is a minute away */
    rounds = reach_info(&w, A, w.link).rounds;
    assert_int_equal(rounds, 2);
    reach_send_candidates(&w, w.latest[B], &m);
    net_for(w.net, MVPN_MS(1000));
    assert_int_equal(reach_info(&w, A, w.link).rounds, rounds + 1);
    /* The called one does not begin rounds. */
    rounds = reach_info(&w, B, w.latest[B]).rounds;
    net_for(w.net, MVPN_S(4));
    reach_send_candidates(&w, w.link, &m);
    net_for(w.net, MVPN_MS(1200));
    assert_int_equal(reach_info(&w, B, w.latest[B]).rounds, rounds);
    assert_int_equal(reach_info(&w, A, w.link).fallbacks, 0);
    reach_stop(&w);
}

static void test_candidates_on_an_ordinary_link(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 28, false);
    mvpn_link *link = net_open(w.net, A, R0);
    net_for(w.net, MVPN_MS(100));
    mvpn_link_candidates m = {.flags = MVPN_CANDIDATES_ASK | MVPN_CANDIDATES_GAVE_UP,
                              .id_count = 1,
                              .ids = {{{1, 2, 3}}},
                              .candidate_count = 1,
                              .candidates = {{MVPN_CANDIDATE_HOST, reach_addr(B)}}};
    const mvpn_connection_id before = link->session->route->remote;
    reach_send_candidates(&w, reach_link(&w, R0, A), &m);
    net_for(w.net, MVPN_S(2));
    assert_true(mvpn_link_is_open(link));
    assert_memory_equal(&before, &link->session->route->remote, sizeof(before));
    assert_int_equal(w.direct, 0);
    assert_int_equal(w.connector[A]->history_count, 0);
    reach_stop(&w);
}

/* Rounds that the peer asks for are bounded, and one that is direct already does not begin one. */
static void test_peer_asks_too_often(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined(&w, 29, 1, false);
    net_for(w.net, MVPN_S(3));
    unsigned rounds = reach_info(&w, B, w.latest[B]).rounds;
    mvpn_link_candidates m = {.flags = MVPN_CANDIDATES_ASK, .id_count = 1, .ids = {{{1, 2, 3}}}};
    for (unsigned i = 0; i < 50; i++) {
        m.round = (uint8_t)(100 + i);
        reach_send_candidates(&w, w.link, &m);
    }
    unsigned more = reach_info(&w, B, w.latest[B]).rounds - rounds;
    assert_in_range(more, 4, 7); /* 4 at once, 1 a second */
    assert_true(w.direct <= 40);
    /* The caller is never asked. */
    rounds = reach_info(&w, A, w.link).rounds;
    reach_send_candidates(&w, w.latest[B], &m);
    assert_int_equal(reach_info(&w, A, w.link).rounds, rounds);
    reach_stop(&w);

    reach_joined_directly(&w, 29);
    rounds = reach_info(&w, B, w.latest[B]).rounds;
    reach_send_candidates(&w, w.link, &m);
    assert_int_equal(reach_info(&w, B, w.latest[B]).rounds, rounds);
    reach_check_state(&w, B, w.latest[B], MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN);
    reach_stop(&w);
}

static void test_network_changes(void **state)
{
    (void)state;
    struct reachnet w;
    reach_joined_directly(&w, 30);
    const mvpn_addr own = reach_addr(A);
    unsigned rounds = reach_info(&w, A, w.link).rounds;
    mvpn_connector_network_changed(w.connector[A], &own, 1, w.net->now);
    mvpn_links_local_changed(w.net->node[A].links, w.net->now);
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_MIGRATE, MVPN_CONNECTION_NETWORK_CHANGED);
    assert_int_equal(reach_info(&w, A, w.link).type, MVPN_CONNECTION_RELAY);
    net_for(w.net, MVPN_MS(100));
    reach_check_state(&w, B, w.latest[B], MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_PEER_GAVE_UP);
    net_for(w.net, MVPN_MS(850));
    assert_int_equal(reach_info(&w, A, w.link).rounds, rounds);
    net_for(w.net, MVPN_MS(500));
    assert_int_equal(reach_info(&w, A, w.link).rounds, rounds + 1);
    reach_check_state(&w, A, w.link, MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN);
    /* That of the called: the caller begins. */
    const mvpn_addr there = reach_addr(B);
    mvpn_connector_network_changed(w.connector[B], &there, 1, w.net->now);
    mvpn_links_local_changed(w.net->node[B].links, w.net->now);
    net_for(w.net, MVPN_MS(1500));
    assert_int_equal(reach_info(&w, A, w.link).rounds, rounds + 2);
    reach_check_state(&w, B, w.latest[B], MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN);
    reach_stop(&w);
}

static void test_texts(void **state)
{
    (void)state;
    assert_string_equal(mvpn_connection_type_text(MVPN_CONNECTION_DIRECT), "direct");
    assert_string_equal(mvpn_connection_type_text(MVPN_CONNECTION_RELAY), "relay");
    assert_string_equal(mvpn_connection_type_text(MVPN_CONNECTION_FAILED), "failed");
    assert_string_equal(mvpn_connection_state_text(MVPN_CONNECTION_INIT), "init");
    assert_string_equal(mvpn_connection_state_text(MVPN_CONNECTION_RELAYED), "relay");
    assert_string_equal(mvpn_connection_state_text(MVPN_CONNECTION_FAILED_STATE), "failed");
    for (int i = 0; i <= MVPN_CONNECTION_LINK_CLOSED; i++) {
        const char *text = mvpn_connection_reason_text((enum mvpn_connection_reason)i);
        assert_non_null(text);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(text,
                                    mvpn_connection_reason_text((enum mvpn_connection_reason)k));
        }
    }
}

/* Another NAT relay tells of a session of the same name, before the link is made. */
static void test_two_sessions_of_one_name(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 40, true);
    reach_bind(&w, B, 2);
    w.link = reach_call(&w, A, B);
    while (w.connector[B]->call_count == 0) {
        net_for(w.net, MVPN_MS(1));
    }
    mvpn_nat_ids ids = reach_ids(1);
    ids.session = reach_first_call(&w, B)->id;
    uint8_t body[MVPN_NAT_INCOMING_LEN_MAX];
    size_t n = mvpn_nat_incoming_encode(body, &ids);
    const mvpn_header header = {.command = MVPN_CMD_NAT_INCOMING, .length = (uint16_t)n};
    assert_true(mvpn_connector_message(w.connector[B], reach_link(&w, B, R1), &header,
                                       mvpn_bytes_of(body, n), w.net->now));
    assert_int_equal(w.connector[B]->call_count, 2);
    net_for(w.net, MVPN_MS(200));
    assert_true(mvpn_link_is_open(w.link) && w.latest[B] != NULL);
    assert_ptr_equal(w.latest[B]->connection->call->relay, reach_link(&w, B, R0));
    reach_stop(&w);
}

/* The session is gone when the first packet of its link confirms it: nothing more is called. */
static void test_session_ends_before_the_link_opens(void **state)
{
    (void)state;
    struct reachnet w;
    reach_start(&w, 41, true);
    reach_bind(&w, B, 1);
    w.link = reach_call(&w, A, B);
    while (w.net->node[B].links->half_open_count == 0) {
        net_for(w.net, MVPN_MS(1));
    }
    mvpn_nat_id id = reach_first_call(&w, B)->id;
    const mvpn_header header = {.command = MVPN_CMD_NAT_CLOSE, .length = sizeof(id.b)};
    assert_true(mvpn_connector_message(w.connector[B], reach_link(&w, B, R0), &header,
                                       MVPN_BYTES_ARRAY(id.b), w.net->now));
    assert_int_equal(w.connector[B]->call_count, 0);
    net_for(w.net, MVPN_S(20));
    assert_true(mvpn_link_is_open(w.link) && w.latest[B] != NULL);
    reach_check_state(&w, B, w.latest[B], MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_LINK_OPEN);
    assert_null(w.latest[B]->connection->call);
    assert_true(mvpn_link_is_open(w.latest[B]));
    reach_stop(&w);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_registers_and_renews),
        cmocka_unit_test(test_registration_is_repeated),
        cmocka_unit_test(test_relay_is_lost_and_back),
        cmocka_unit_test(test_seen_address_follows_the_class),
        cmocka_unit_test(test_call_through_a_relay),
        cmocka_unit_test(test_second_relay),
        cmocka_unit_test(test_call_given_up),
        cmocka_unit_test(test_calls_are_bounded),
        cmocka_unit_test(test_sessions_are_bounded),
        cmocka_unit_test(test_strangers_announce_nothing),
        cmocka_unit_test(test_bodies_that_do_not_decode),
        cmocka_unit_test(test_first_packet_comes_too_early),
        cmocka_unit_test(test_assigned_ids_that_are_taken),
        cmocka_unit_test(test_both_call),
        cmocka_unit_test(test_peer_comes_directly),
        cmocka_unit_test(test_session_is_used_again),
        cmocka_unit_test(test_peer_comes_again_in_the_same_session),
        cmocka_unit_test(test_more_ids),
        cmocka_unit_test(test_close_by_the_relay),
        cmocka_unit_test(test_relay_goes),
        cmocka_unit_test(test_links_end_together),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_history_is_bounded),
        cmocka_unit_test(test_rounds_that_fail),
        cmocka_unit_test(test_fall_back_and_again),
        cmocka_unit_test(test_peer_gives_up),
        cmocka_unit_test(test_candidates_on_an_ordinary_link),
        cmocka_unit_test(test_peer_asks_too_often),
        cmocka_unit_test(test_network_changes),
        cmocka_unit_test(test_two_sessions_of_one_name),
        cmocka_unit_test(test_session_ends_before_the_link_opens),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
