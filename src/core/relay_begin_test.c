/* Sessions asked for at a relay: none at a middle one; at an exit one a circuit, so many a link.
 * What becomes of sessions over several circuits: relay_session_test.c. (docs/protocol.md §7.1) */
#include "core/testrelay.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"

static int setup_exit(void **state)
{
    (void)state;
    l = lab_new(LAB_EXIT, 1, NULL);
    link0 = lab_join(l, 0);
    return 0;
}

static void test_a_middle_relay_opens_no_session(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    uint8_t body[64], out[MVPN_BODY_MAX];
    mvpn_begin begin = {.request_id = 77, .flags = MVPN_BEGIN_IPV6};
    mvpn_connected m;
    size_t n = mvpn_begin_encode(body, sizeof(body), &begin);
    lab_cell(l, &c, MVPN_CMD_RELAY_BEGIN, false, mvpn_bytes_of(body, n));
    assert_int_equal(answer_of(&c, out, &n), MVPN_CMD_RELAY_CONNECTED);
    assert_int_equal(mvpn_connected_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.request_id, 77);
    assert_int_equal(m.status, MVPN_REASON_REFUSED);
    lab_cell(l, &c, MVPN_CMD_RELAY_DATA, false, MVPN_BYTES_LITERAL("\0\1x"));
    lab_cell(l, &c, MVPN_CMD_RELAY_END, false, MVPN_BYTES_LITERAL("\0"));
    assert_silence(0);
    assert_int_equal(circuits(), 1);
}

static void begin_session(lab_circuit *c, uint32_t request_id, unsigned status)
{
    uint8_t body[64], out[MVPN_BODY_MAX];
    mvpn_begin begin = {.request_id = request_id, .flags = MVPN_BEGIN_IPV6};
    mvpn_connected m;
    size_t n = mvpn_begin_encode(body, sizeof(body), &begin);
    lab_cell(l, c, MVPN_CMD_RELAY_BEGIN, false, mvpn_bytes_of(body, n));
    assert_int_equal(answer_of(c, out, &n), MVPN_CMD_RELAY_CONNECTED);
    assert_int_equal(mvpn_connected_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.request_id, request_id);
    assert_int_equal(m.status, status);
    assert_int_equal(m.flags, status == 0 ? MVPN_CONNECTED_IPV4 | MVPN_CONNECTED_IPV6 : 0);
}

/* A ping to the gateway in a RelayData body: answered by the exit itself. */
static void ping_gateway(lab_circuit *c, unsigned count)
{
    uint8_t body[1200], out[MVPN_BODY_MAX];
    size_t at = 0, n;
    for (unsigned i = 0; i < count; i++) {
        size_t len =
            build_icmp(body + at + 2, 4, mvpn_inner_client(4), mvpn_inner_gateway(4), 8, 0, 20 + i);
        mvpn_store16(body + at, (uint16_t)len);
        at += 2 + len;
    }
    lab_cell(l, c, MVPN_CMD_RELAY_DATA, false, mvpn_bytes_of(body, at));
    assert_int_equal(answer_of(c, out, &n), MVPN_CMD_RELAY_DATA);
    assert_int_equal(n, at); /* as many answers, packed into one cell again */
    for (size_t i = 0; i < n; i += 2u + mvpn_load16(out + i)) {
        assert_int_equal(out[i + 2 + 20], 0); /* echo reply */
    }
}

static void test_sessions_of_an_exit(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    mvpn_exit *exit = mvpn_engine_exit(l->engine);
    begin_session(&c, 77, 0);
    begin_session(&c, 77, 0); /* asked again, answered again */
    assert_int_equal(mvpn_exit_session_count(exit), 1);
    ping_gateway(&c, 1);
    ping_gateway(&c, 5);
    uint8_t body[64];
    mvpn_begin begin = {.request_id = 78};
    size_t n = mvpn_begin_encode(body, sizeof(body), &begin);
    lab_cell(l, &c, MVPN_CMD_RELAY_BEGIN, false, mvpn_bytes_of(body, n)); /* one a circuit */
    assert_silence(0);
    lab_cell(l, &c, MVPN_CMD_RELAY_END, false, MVPN_BYTES_LITERAL("\0"));
    lab_for(l, MVPN_MS(5));
    assert_int_equal(mvpn_exit_session_count(exit), 0);
    lab_cell(l, &c, MVPN_CMD_RELAY_DATA, false, MVPN_BYTES_LITERAL("\0\1x"));
    assert_silence(0);
    begin_session(&c, 79, 0); /* and anew */
    ping_gateway(&c, 2);
    mvpn_link_close(link0, MVPN_REASON_FINISHED, l->now);
    lab_for(l, MVPN_MS(5));
    assert_int_equal(circuits(), 0);
    assert_int_equal(mvpn_exit_session_count(exit), 1); /* waits for its owner */
    assert_int_equal(mvpn_exit_session_detached_count(exit), 1);
}

/* A session holds its circuit, and what is left of one goes like any other that leads nowhere. */
static void test_a_session_is_no_idle_circuit(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    begin_session(&c, 5, 0);
    ping_gateway(&c, 1);
    lab_for(l, MVPN_S(200));
    assert_int_equal(mvpn_exit_session_count(mvpn_engine_exit(l->engine)), 1);
    ping_gateway(&c, 1);
    lab_cell(l, &c, MVPN_CMD_RELAY_END, false, MVPN_BYTES_LITERAL("\0"));
    lab_for(l, MVPN_S(119));
    assert_int_equal(circuits(), 1);
    lab_for(l, MVPN_S(2));
    assert_destroyed(0, &c.in, MVPN_REASON_TIMEOUT);
    assert_int_equal(circuits(), 0);
}

/* Ask for a session and end it again, without time passing; the status told. */
static unsigned begin_and_end(lab_circuit *c, uint32_t request_id)
{
    uint8_t body[64], out[MVPN_BODY_MAX];
    mvpn_begin begin = {.request_id = request_id};
    mvpn_connected connected;
    lab_message m;
    size_t n = mvpn_begin_encode(body, sizeof(body), &begin);
    lab_cell(l, c, MVPN_CMD_RELAY_BEGIN, false, mvpn_bytes_of(body, n));
    lab_settle(l);
    assert_true(lab_next(l, c->peer, &m));
    assert_int_equal(lab_open(l, c, &m, out, &n), MVPN_CMD_RELAY_CONNECTED);
    assert_int_equal(mvpn_connected_decode(&connected, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(connected.request_id, request_id);
    lab_cell(l, c, MVPN_CMD_RELAY_END, false, MVPN_BYTES_LITERAL("\0"));
    lab_settle(l);
    return connected.status;
}

/* Addresses of the pool rest for minutes: one link must not use them up. */
static void test_sessions_of_a_link_are_limited(void **state)
{
    (void)state;
    mvpn_link *link1 = lab_join(l, 1);
    lab_circuit c[2] = {open_circuit(), open_circuit()}, other;
    assert_true(lab_circuit_open(l, &other, 1, link1));
    uint32_t id = 0;
    for (unsigned i = 0; i < SESSION_BURST; i++) {
        assert_int_equal(begin_and_end(&c[i % 2], ++id), 0);
    }
    for (unsigned i = 0; i < 2; i++) { /* another circuit has no share of its own */
        assert_int_equal(begin_and_end(&c[i], ++id), MVPN_REASON_BUSY);
    }
    assert_int_equal(begin_and_end(&other, ++id), 0);
    assert_int_equal(mvpn_exit_session_count(mvpn_engine_exit(l->engine)), 0);
    lab_for(l, MVPN_S(1));
    unsigned opened = 0;
    for (unsigned i = 0; i < 30; i++) {
        opened += begin_and_end(&c[0], ++id) == 0;
    }
    assert_int_equal(opened, SESSION_RATE);
}

/* Whoever has a session here is the end: a circuit cannot be both. */
static void test_no_extend_with_an_open_session(void **state)
{
    (void)state;
    uint8_t body[MVPN_ASSEMBLY_MAX];
    lab_circuit c = open_circuit();
    begin_session(&c, 5, 0);
    size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
    assert_int_equal(circuits(), 0);
    assert_int_equal(mvpn_exit_session_detached_count(mvpn_engine_exit(l->engine)), 1);
    assert_int_equal(l->peer[1].datagrams, 0);
}

static void test_a_circuit_that_goes_on_has_no_session(void **state)
{
    (void)state;
    lab_circuit c = open_circuit(), first;
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    first = c;
    first.onion.count = 1;
    begin_session(&first, 5, MVPN_REASON_REFUSED);
    assert_int_equal(mvpn_exit_session_count(mvpn_engine_exit(l->engine)), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, relay_setup, relay_teardown)
#define EXIT_TEST(f) cmocka_unit_test_setup_teardown(f, setup_exit, relay_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_middle_relay_opens_no_session),
        EXIT_TEST(test_sessions_of_an_exit),
        EXIT_TEST(test_a_session_is_no_idle_circuit),
        EXIT_TEST(test_sessions_of_a_link_are_limited),
        EXIT_TEST(test_no_extend_with_an_open_session),
        EXIT_TEST(test_a_circuit_that_goes_on_has_no_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
