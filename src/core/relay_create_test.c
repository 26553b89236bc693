/* Circuits that neighbours create at a relay: Create whole and in parts, who may how often, and how
 * long one that is not used lives. (docs/protocol.md §6.1) */
#include "core/testrelay.h"

static void test_create(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    assert_int_equal(circuits(), 1);
    assert_int_equal(counters()->created, 1);
    lab_cell(l, &c, MVPN_CMD_RELAY_PING, false, MVPN_BYTES_LITERAL("12345678"));
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    assert_int_equal(answer_of(&c, out, &n), MVPN_CMD_RELAY_PONG);
    assert_int_equal(n, 8);
    assert_memory_equal(out, "12345678", 8);
    lab_cell(l, &c, MVPN_CMD_RELAY_PING, false, MVPN_BYTES_LITERAL("1234567")); /* no token */
    lab_cell(l, &c, MVPN_CMD_RELAY_DROP, false, MVPN_BYTES_LITERAL("x"));
    lab_cell(l, &c, 0x2f, false, MVPN_BYTES_LITERAL("unknown"));
    lab_cell(l, &c, 0x2f, true, MVPN_BYTES_LITERAL("unknown"));
    assert_silence(0);
    assert_int_equal(circuits(), 1);
}

static void test_create_in_parts(void **state)
{
    (void)state;
    uint8_t body[256], part[256];
    lab_circuit c;
    mvpn_create m;
    size_t n = lab_create_body(l, &c, 0, link0, body, sizeof(body));
    assert_int_equal(mvpn_create_decode(&m, mvpn_bytes_of(body, n)), 0);
    const mvpn_bytes whole = m.part.bytes;
    for (unsigned i = 3; i-- > 0;) { /* 16 bytes each, the last first */
        m.part.offset = (uint16_t)(i * 16);
        m.part.bytes = mvpn_bytes_of(whole.p + i * 16, 16);
        assert_silence(0);
        lab_send_create(l, &c, mvpn_bytes_of(part, mvpn_create_encode(part, sizeof(part), &m)));
        lab_for(l, MVPN_MS(5));
    }
    (void)only(0, MVPN_CMD_CREATED);
}

/* A part, then the whole again in one: the message that counts lies in the second packet. */
static void test_create_in_part_and_whole(void **state)
{
    (void)state;
    uint8_t body[256], part[256];
    lab_circuit before, c;
    mvpn_create m;
    mvpn_created created;
    mvpn_hop_keys keys;
    lab_message got;
    size_t n = lab_create_body(l, &before, 0, link0, body, sizeof(body));
    lab_send_create(l, &before, mvpn_bytes_of(body, n)); /* its answer takes buffers */
    n = lab_create_body(l, &c, 0, link0, body, sizeof(body));
    assert_int_equal(mvpn_create_decode(&m, mvpn_bytes_of(body, n)), 0);
    m.part.bytes.n = 16;
    lab_send_create(l, &c, mvpn_bytes_of(part, mvpn_create_encode(part, sizeof(part), &m)));
    lab_send_create(l, &c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(5));
    assert_true(lab_next(l, 0, &got));
    got = only(0, MVPN_CMD_CREATED);
    assert_memory_equal(got.header.circuit.b, c.in.b, 16);
    assert_int_equal(mvpn_created_decode(&created, mvpn_bytes_of(got.bytes, got.len)), 0);
    assert_int_equal(mvpn_handshake_finish(&c.noise, created.part.bytes, &keys), 0);
}

static void test_contradictory_parts_end_it(void **state)
{
    (void)state;
    uint8_t body[256], part[256];
    lab_circuit c;
    mvpn_create m;
    size_t n = lab_create_body(l, &c, 0, link0, body, sizeof(body));
    assert_int_equal(mvpn_create_decode(&m, mvpn_bytes_of(body, n)), 0);
    m.part.bytes.n = 16;
    lab_send_create(l, &c, mvpn_bytes_of(part, mvpn_create_encode(part, sizeof(part), &m)));
    m.part.offset = 8;
    lab_send_create(l, &c, mvpn_bytes_of(part, mvpn_create_encode(part, sizeof(part), &m)));
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
    assert_int_equal(circuits(), 0);
}

static void test_a_repeated_request_is_answered_again(void **state)
{
    (void)state;
    uint8_t body[256];
    lab_circuit c;
    size_t n = lab_create_body(l, &c, 0, link0, body, sizeof(body));
    lab_send_create(l, &c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(5));
    lab_message first = only(0, MVPN_CMD_CREATED);
    for (unsigned i = 0; i < 3; i++) {
        lab_send_create(l, &c, mvpn_bytes_of(body, n));
        lab_for(l, MVPN_MS(5));
        lab_message again = only(0, MVPN_CMD_CREATED);
        assert_int_equal(again.len, first.len);
        assert_memory_equal(again.bytes, first.bytes, first.len);
    }
    assert_int_equal(circuits(), 1);
    assert_int_equal(counters()->created, 1);
    body[16] ^= 1; /* another request for an id that is taken */
    lab_send_create(l, &c, mvpn_bytes_of(body, n));
    assert_silence(0);
    body[16] ^= 1;
    mvpn_created created; /* the first cell shows that the client has its answer */
    mvpn_hop_keys keys;
    uint8_t out[MVPN_BODY_MAX];
    assert_int_equal(mvpn_created_decode(&created, mvpn_bytes_of(first.bytes, first.len)), 0);
    assert_int_equal(mvpn_handshake_finish(&c.noise, created.part.bytes, &keys), 0);
    mvpn_onion_add(&c.onion, &keys.forward, &keys.backward);
    lab_cell(l, &c, MVPN_CMD_RELAY_PING, false, MVPN_BYTES_LITERAL("12345678"));
    size_t len;
    assert_int_equal(answer_of(&c, out, &len), MVPN_CMD_RELAY_PONG);
    lab_send_create(l, &c, mvpn_bytes_of(body, n));
    assert_silence(0);
}

static void test_refused_handshakes(void **state)
{
    (void)state;
    const struct {
        size_t at;
        uint8_t value;
        unsigned reason;
    } rows[] = {
        {20, 2, MVPN_REASON_PROTOCOL},     /* suite not spoken */
        {20, 0x7f, MVPN_REASON_PROTOCOL},  /* test suite: not what the message is of */
        {21, 99, MVPN_REASON_KEY_UNKNOWN}, /* key id */
        {30, 0xff, MVPN_REASON_PROTOCOL},  /* a byte of the message */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t body[256];
        lab_circuit c;
        size_t n = lab_create_body(l, &c, 0, link0, body, sizeof(body));
        body[rows[i].at] = rows[i].value;
        lab_send_create(l, &c, mvpn_bytes_of(body, n));
        assert_destroyed(0, &c.in, rows[i].reason);
    }
    assert_int_equal(circuits(), 0);
    mvpn_header h = {.circuit = {{1}}, .command = MVPN_CMD_CREATE, .length = 3};
    assert_int_equal(lab_send(l, 0, link0, &h, MVPN_BYTES_LITERAL("abc"), true), 0);
    assert_silence(0); /* malformed: ignored, the link lives */
    assert_true(mvpn_link_is_open(link0));
}

static void test_creates_per_link_are_limited(void **state)
{
    (void)state;
    unsigned created = 0, busy = 0;
    for (unsigned i = 0; i < CREATE_BURST + 30; i++) {
        uint8_t body[256];
        lab_circuit c;
        lab_message m;
        size_t n = lab_create_body(l, &c, 0, link0, body, sizeof(body));
        lab_send_create(l, &c, mvpn_bytes_of(body, n));
        lab_settle(l); /* no time passes */
        while (lab_next(l, 0, &m)) {
            created += m.header.command == MVPN_CMD_CREATED;
            busy += m.header.command == MVPN_CMD_DESTROY && m.bytes[0] == MVPN_REASON_BUSY;
        }
    }
    assert_int_equal(created, CREATE_BURST);
    assert_int_equal(busy, 30);
    for (unsigned i = 0; i < 2 * REFUSAL_BURST; i++) { /* a flood is not answered for ever */
        uint8_t body[256];
        lab_circuit c;
        lab_message m;
        size_t n = lab_create_body(l, &c, 0, link0, body, sizeof(body));
        lab_send_create(l, &c, mvpn_bytes_of(body, n));
        lab_settle(l);
        busy += lab_next(l, 0, &m) && m.header.command == MVPN_CMD_DESTROY;
    }
    assert_int_equal(busy, REFUSAL_BURST);
    assert_int_equal(circuits(), CREATE_BURST);
    mvpn_link *other = lab_join(l, 1); /* another link has a bucket of its own */
    lab_circuit c;
    assert_true(lab_circuit_open(l, &c, 1, other));
    lab_for(l, MVPN_S(1));
    for (unsigned i = 0; i < 30; i++) { /* 20/s */
        created += lab_circuit_open(l, &c, 0, link0);
    }
    assert_in_range(created, CREATE_BURST + 20, CREATE_BURST + 24);
}

static void few_circuits(mvpn_engine_config *config)
{
    config->circuits_max = 3;
}

static void test_circuits_of_a_node_are_limited(void **state)
{
    (void)state;
    lab_free(l);
    l = lab_new(LAB_RELAY, 1, few_circuits);
    link0 = lab_join(l, 0);
    lab_circuit c[4];
    for (unsigned i = 0; i < 3; i++) {
        c[i] = open_circuit();
    }
    assert_false(lab_circuit_open(l, &c[3], 0, link0));
    mvpn_header h = {.circuit = c[0].out, .command = MVPN_CMD_DESTROY, .length = 1};
    assert_int_equal(lab_send(l, 0, link0, &h, MVPN_BYTES_LITERAL("\6"), true), 0);
    lab_for(l, MVPN_MS(5));
    (void)open_circuit();
    assert_int_equal(circuits(), 3);
}

static void test_half_built_circuits_die(void **state)
{
    (void)state;
    lab_circuit silent = open_circuit(), used = open_circuit(), parts;
    uint8_t body[256], part[256], out[MVPN_BODY_MAX];
    mvpn_create m;
    size_t n;
    lab_cell(l, &used, MVPN_CMD_RELAY_PING, false, MVPN_BYTES_LITERAL("12345678"));
    assert_int_equal(answer_of(&used, out, &n), MVPN_CMD_RELAY_PONG);
    n = lab_create_body(l, &parts, 0, link0, body, sizeof(body));
    assert_int_equal(mvpn_create_decode(&m, mvpn_bytes_of(body, n)), 0);
    m.part.bytes.n = 16;
    lab_send_create(l, &parts, mvpn_bytes_of(part, mvpn_create_encode(part, sizeof(part), &m)));
    lab_for(l, MVPN_S(4));
    assert_int_equal(circuits(), 3);
    lab_for(l, MVPN_S(2));
    assert_destroyed(0, &parts.in, MVPN_REASON_TIMEOUT); /* parts have 5 s */
    lab_for(l, MVPN_S(23));
    assert_int_equal(circuits(), 2);
    lab_for(l, MVPN_S(2));
    assert_destroyed(0, &silent.in, MVPN_REASON_TIMEOUT);
    assert_int_equal(circuits(), 1);
    lab_for(l, MVPN_S(60));
    assert_int_equal(circuits(), 1); /* the used one lives */
}

static void ping_relay(lab_circuit *c)
{
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    lab_cell(l, c, MVPN_CMD_RELAY_PING, false, MVPN_BYTES_LITERAL("12345678"));
    assert_int_equal(answer_of(c, out, &n), MVPN_CMD_RELAY_PONG);
}

/* A circuit that leads nowhere ends 120 s after its last cell; a spare one is pinged and stays. */
static void test_idle_circuits_that_lead_nowhere_end(void **state)
{
    (void)state;
    lab_circuit spare = open_circuit(), idle = open_circuit(), far = open_circuit();
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&far, 1, &create, &back);
    lab_cell(l, &far, MVPN_CMD_RELAY_DROP, false, MVPN_BYTES_NONE);
    for (unsigned i = 0; i < 6; i++) {
        ping_relay(&spare);
        if (i < 3) { /* its last one at 180 s */
            ping_relay(&idle);
        }
        lab_for(l, MVPN_S(90) - MVPN_MS(10));
        if (i == 3) { /* now at 360 s */
            assert_destroyed(0, &idle.in, MVPN_REASON_TIMEOUT);
        }
        assert_int_equal(l->peer[0].inbox_count, 0);
        assert_int_equal(circuits(), i < 3 ? 3 : 2); /* the one that goes on is the next hop's */
    }
    lab_for(l, MVPN_S(29));
    assert_int_equal(circuits(), 2);
    lab_for(l, MVPN_S(2));
    assert_destroyed(0, &spare.in, MVPN_REASON_TIMEOUT);
    assert_int_equal(circuits(), 1);
}

/* A guard builds for all its clients: a neighbour that has proven to be a relay of the view has
 * other bounds than a client. */
static void test_relays_may_build_more(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_message create, m;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    for (unsigned known = 0; known < 2; known++) {
        unsigned opened = 0;
        assert_true(!known ||
                    mvpn_view_add(mvpn_engine_view(l->engine), &l->peer[1].descriptor) == 0);
        for (unsigned i = 0; i < CREATE_BURST + 50; i++) {
            uint8_t body[256];
            lab_circuit more;
            size_t n = lab_create_body(l, &more, 1, create.link, body, sizeof(body));
            lab_send_create(l, &more, mvpn_bytes_of(body, n));
            lab_settle(l); /* no time passes */
            while (lab_next(l, 1, &m)) {
                opened += m.header.command == MVPN_CMD_CREATED;
            }
        }
        assert_in_range(opened, known ? CREATE_BURST + 50 : CREATE_BURST - 1,
                        known ? CREATE_BURST + 50 : CREATE_BURST + 1);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, relay_setup, relay_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_create),
        TEST(test_create_in_parts),
        TEST(test_create_in_part_and_whole),
        TEST(test_contradictory_parts_end_it),
        TEST(test_a_repeated_request_is_answered_again),
        TEST(test_refused_handshakes),
        TEST(test_creates_per_link_are_limited),
        TEST(test_circuits_of_a_node_are_limited),
        TEST(test_half_built_circuits_die),
        TEST(test_idle_circuits_that_lead_nowhere_end),
        cmocka_unit_test_setup_teardown(test_relays_may_build_more, relay_setup, relay_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
