/* A relay among neighbours that do not behave: creating, extending, cells, limits. */
#include "core/testing.h"

#include "core/testlab.h"
#include "core/relay_internal.h"
#include "crypto/x25519.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"

static lab *l;
static mvpn_link *link0; /* of the client to the relay */

static int setup(void **state)
{
    (void)state;
    l = lab_new(LAB_RELAY, 1, NULL);
    link0 = lab_join(l, 0);
    return 0;
}

static int setup_exit(void **state)
{
    (void)state;
    l = lab_new(LAB_EXIT, 1, NULL);
    link0 = lab_join(l, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return lab_free(l) ? 0 : -1;
}

static const mvpn_relay_counters *counters(void)
{
    return mvpn_relay_get_counters(mvpn_engine_relay(l->engine));
}

static size_t circuits(void)
{
    return mvpn_relay_circuit_count(mvpn_engine_relay(l->engine));
}

/* The oldest message of a peer is this command; nothing else came. */
static lab_message only(size_t peer, unsigned command)
{
    lab_message m;
    assert_true(lab_next(l, peer, &m));
    assert_int_equal(m.header.command, command);
    assert_int_equal(l->peer[peer].inbox_count, 0);
    return m;
}

static void assert_silence(size_t peer)
{
    lab_for(l, MVPN_MS(50));
    assert_int_equal(l->peer[peer].inbox_count, 0);
}

static void assert_destroyed(size_t peer, const mvpn_circuit_id *id, unsigned reason)
{
    lab_for(l, MVPN_MS(5));
    lab_message m = only(peer, MVPN_CMD_DESTROY);
    assert_memory_equal(m.header.circuit.b, id->b, 16);
    assert_int_equal(m.len, 1);
    assert_int_equal(m.bytes[0], reason);
}

static lab_circuit open_circuit(void)
{
    lab_circuit c;
    assert_true(lab_circuit_open(l, &c, 0, link0));
    return c;
}

/* The answer in the oldest cell that came back to the client. */
static int answer_of(lab_circuit *c, uint8_t *out, size_t *ret_len)
{
    lab_for(l, MVPN_MS(5));
    lab_message m = only(c->peer, MVPN_CMD_RELAY);
    assert_memory_equal(m.header.circuit.b, c->in.b, 16);
    return lab_open(l, c, &m, out, ret_len);
}

static unsigned extended_status(lab_circuit *c)
{
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    mvpn_extended m;
    assert_int_equal(answer_of(c, out, &n), MVPN_CMD_EXTENDED);
    assert_int_equal(mvpn_extended_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.request_id, c->request_id);
    return m.status;
}

/* Extend to a peer and let it answer as a relay should; what it got in `*ret_create`. */
static mvpn_hop_keys extend(lab_circuit *c, size_t to, lab_message *ret_create,
                            mvpn_circuit_id *ret_back)
{
    uint8_t body[MVPN_ASSEMBLY_MAX], out[MVPN_BODY_MAX];
    mvpn_hop_keys relay_keys, keys;
    mvpn_extended m;
    size_t n = lab_extend_body(l, c, to, true, body, sizeof(body));
    lab_send_extend(l, c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(20));
    *ret_create = only(to, MVPN_CMD_CREATE);
    n = lab_answer(l, to, ret_create, body, sizeof(body), &relay_keys, ret_back);
    assert_true(n > 0);
    mvpn_header h = {.circuit = *ret_back, .command = MVPN_CMD_CREATED, .length = (uint16_t)n};
    assert_int_equal(lab_send(l, to, ret_create->link, &h, mvpn_bytes_of(body, n), true), 0);
    assert_int_equal(answer_of(c, out, &n), MVPN_CMD_EXTENDED);
    assert_int_equal(mvpn_extended_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.status, 0);
    assert_int_equal(mvpn_handshake_finish(&c->noise, m.part.bytes, &keys), 0);
    assert_memory_equal(&keys, &relay_keys, sizeof(keys));
    mvpn_onion_add(&c->onion, &keys.forward, &keys.backward);
    return keys;
}

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

static void test_extend_and_cells_both_ways(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_message create, m;
    mvpn_circuit_id back, forward;
    mvpn_hop_keys keys = extend(&c, 1, &create, &back);
    forward = create.header.circuit;
    assert_memory_not_equal(forward.b, c.out.b, 16); /* ids do not cross hops */
    assert_int_equal(counters()->extended, 1);
    mvpn_layer_rx rx;
    mvpn_layer_tx tx;
    mvpn_layer_rx_init(&rx, &keys.forward);
    mvpn_layer_tx_init(&tx, &keys.backward);

    for (unsigned early = 0; early < 2; early++) {
        mvpn_layer_header layer;
        lab_cell(l, &c, MVPN_CMD_RELAY_PING, early, MVPN_BYTES_LITERAL("12345678"));
        lab_for(l, MVPN_MS(5));
        m = only(1, early ? MVPN_CMD_RELAY_EARLY : MVPN_CMD_RELAY);
        assert_memory_equal(m.header.circuit.b, forward.b, 16);
        assert_int_equal(m.len, MVPN_CELL_SMALL);
        assert_int_equal(m.header.link_seq != 0, early);
        mvpn_packet *p = test_packet_of(&l->peer[1].pool, m.bytes, m.len);
        assert_int_equal(
            mvpn_layer_open(l->aead, &rx, p, m.header.length, m.header.counter, &layer), 0);
        assert_int_equal(layer.command, MVPN_CMD_RELAY_PING);
        assert_memory_equal(p->data, "12345678", 8);
        mvpn_packet_free(&l->peer[1].pool, p);
    }
    for (unsigned i = 0; i < 20; i++) {
        uint8_t out[MVPN_BODY_MAX];
        size_t n;
        mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, 0, MVPN_SIZE_CLASSES};
        mvpn_header h;
        mvpn_packet *p = test_packet(&l->peer[1].pool, 300, i);
        mvpn_packet *want = test_packet(&l->peer[1].pool, 300, i);
        assert_int_equal(mvpn_onion_answer(&tx, l->aead, &kind, p, &h), 0);
        h.circuit = back;
        assert_int_equal(mvpn_link_send(create.link, p, &h, false, l->now), 0);
        lab_for(l, MVPN_MS(5));
        m = only(0, MVPN_CMD_RELAY);
        assert_int_equal(m.header.link_seq != 0, i < 15); /* 16 with Extended (§4.5) */
        assert_int_equal(lab_open(l, &c, &m, out, &n), MVPN_CMD_RELAY_DATA);
        assert_int_equal(n, 300);
        assert_memory_equal(out, want->data, n);
        mvpn_packet_free(&l->peer[1].pool, want);
    }
    assert_int_equal(counters()->cells_forward, 2);
    assert_int_equal(counters()->cells_backward, 20);
}

static void test_a_repeated_extend_is_answered_again(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    uint8_t body[MVPN_ASSEMBLY_MAX], created[256];
    mvpn_hop_keys keys;
    mvpn_circuit_id back;
    size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(20));
    lab_message create = only(1, MVPN_CMD_CREATE);
    lab_send_extend(l, &c, mvpn_bytes_of(body, n)); /* being done */
    assert_silence(1);
    size_t len = lab_answer(l, 1, &create, created, sizeof(created), &keys, &back);
    mvpn_header h = {.circuit = back, .command = MVPN_CMD_CREATED, .length = (uint16_t)len};
    assert_int_equal(lab_send(l, 1, create.link, &h, mvpn_bytes_of(created, len), true), 0);
    assert_int_equal(extended_status(&c), 0);
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    assert_int_equal(extended_status(&c), 0);
    assert_silence(1);
    c.request_id++; /* a second next hop */
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
    assert_destroyed(1, &create.header.circuit, MVPN_REASON_NONE);
    assert_int_equal(circuits(), 0);
}

static void test_extend_needs_an_early_cell(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    uint8_t body[MVPN_ASSEMBLY_MAX], data[MVPN_BODY_MAX];
    size_t n = lab_extend_body(l, &c, 1, false, body, sizeof(body));
    mvpn_extend m = {c.request_id, {(uint16_t)n, 0, {body, n}}};
    n = mvpn_extend_encode(data, sizeof(data), &m);
    lab_cell(l, &c, MVPN_CMD_EXTEND, false, mvpn_bytes_of(data, n));
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
    c = open_circuit();
    lab_cell(l, &c, MVPN_CMD_EXTEND, true, MVPN_BYTES_LITERAL("malformed"));
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
}

static void test_refused_extends(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    uint8_t body[MVPN_ASSEMBLY_MAX];
    size_t n = lab_extend_body(l, &c, 1, false, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n)); /* nobody knows it */
    assert_int_equal(extended_status(&c), MVPN_REASON_RELAY_UNKNOWN);
    n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    body[n - 1] ^= 1; /* its signature is wrong */
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    assert_int_equal(extended_status(&c), MVPN_REASON_RELAY_UNKNOWN);
    n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    memcpy(body, l->peer[2].descriptor.identity.b, 32); /* of someone else */
    c.request_id++;
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    assert_int_equal(extended_status(&c), MVPN_REASON_RELAY_UNKNOWN);
    n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    memcpy(body, l->self.descriptor.identity.b, 32); /* to itself */
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    assert_int_equal(extended_status(&c), MVPN_REASON_REFUSED);
    n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n - 1)); /* malformed */
    assert_int_equal(extended_status(&c), MVPN_REASON_PROTOCOL);
    assert_int_equal(counters()->extend_failed, 5);
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back); /* none of this harmed the circuit */
}

/* A relay that is reached otherwise than we know: what is signed later counts. */
static void test_a_later_descriptor_counts(void **state)
{
    (void)state;
    static const struct {
        int64_t sequence; /* of what the relay holds, which leads nowhere; the client's is 0 */
        bool is_forged;
        bool is_reached;
    } rows[] = {{-1, false, true}, {1, false, false}, {-1, true, false}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        teardown(state);
        setup(state);
        lab_circuit c = open_circuit();
        mvpn_descriptor held = l->peer[1].descriptor;
        held.sequence = (uint64_t)((int64_t)held.sequence + rows[i].sequence);
        held.addresses[0].addr.port++;
        assert_int_equal(mvpn_descriptor_sign(&held, &l->peer[1].secret, &l->realm.network_id), 0);
        assert_int_equal(mvpn_view_add(mvpn_engine_view(l->engine), &held), 0);
        uint8_t body[MVPN_ASSEMBLY_MAX];
        size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
        body[n - 1] ^= rows[i].is_forged;
        lab_send_extend(l, &c, mvpn_bytes_of(body, n));
        lab_for(l, MVPN_MS(200));
        lab_message m;
        bool is_reached = lab_next(l, 1, &m) && m.header.command == MVPN_CMD_CREATE;
        assert_int_equal(is_reached, rows[i].is_reached);
    }
}

/* Extends that name a relay with a false descriptor take nothing from its share: who sends them
 * could keep others from it for nothing. */
static void test_bad_descriptors_do_not_block_a_relay(void **state)
{
    (void)state;
    enum { CIRCUITS = (EXTEND_BURST + EXTEND_RATE) / MVPN_EARLY_MAX + 1 };
    lab_circuit honest = open_circuit();
    unsigned unknown = 0;
    for (unsigned i = 0; i < CIRCUITS; i++) {
        lab_circuit c = open_circuit();
        for (unsigned k = 0; k < MVPN_EARLY_MAX; k++) {
            uint8_t body[MVPN_ASSEMBLY_MAX], out[MVPN_BODY_MAX];
            lab_message m;
            mvpn_extended e;
            size_t n = lab_extend_body(l, &c, 1, k % 2 == 0, body, sizeof(body));
            body[n - 1] ^= k % 2 == 0; /* a wrong signature, or no descriptor at all */
            lab_send_extend(l, &c, mvpn_bytes_of(body, n));
            lab_settle(l); /* no time passes */
            assert_true(lab_next(l, 0, &m));
            assert_int_equal(lab_open(l, &c, &m, out, &n), MVPN_CMD_EXTENDED);
            assert_int_equal(mvpn_extended_decode(&e, mvpn_bytes_of(out, n)), 0);
            unknown += e.status == MVPN_REASON_RELAY_UNKNOWN;
        }
    }
    assert_int_equal(unknown, CIRCUITS * MVPN_EARLY_MAX);
    assert_true(unknown > EXTEND_BURST + EXTEND_RATE);
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&honest, 1, &create, &back);
}

static void test_no_extend_to_the_predecessor(void **state)
{
    (void)state;
    uint8_t body[MVPN_ASSEMBLY_MAX];
    lab_circuit c;
    mvpn_link *link1 = lab_join(l, 1);
    assert_true(lab_circuit_open(l, &c, 1, link1));
    size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    assert_int_equal(extended_status(&c), MVPN_REASON_REFUSED);
    n = lab_extend_body(l, &c, 2, true, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(20));
    (void)only(2, MVPN_CMD_CREATE);
}

/* Peer 2 says that it is behind a NAT, and forwarded to by these. */
static void put_behind_nat(const mvpn_ed25519_pub *relays, size_t count)
{
    mvpn_descriptor *d = &l->peer[2].descriptor;
    d->nat_relay_count = (uint8_t)count;
    for (size_t i = 0; i < count; i++) {
        d->nat_relays[i] = (mvpn_descriptor_nat_relay){relays[i], {{(uint8_t)i, 1}}, 4};
    }
    assert_int_equal(mvpn_descriptor_sign(d, &l->peer[2].secret, &l->realm.network_id), 0);
}

static unsigned extend_status_of(lab_circuit *c, size_t to)
{
    uint8_t body[MVPN_ASSEMBLY_MAX];
    size_t n = lab_extend_body(l, c, to, true, body, sizeof(body));
    lab_send_extend(l, c, mvpn_bytes_of(body, n));
    return extended_status(c);
}

static void test_no_extend_to_whom_a_neighbour_forwards(void **state)
{
    (void)state;
    const mvpn_ed25519_pub other = {{1, 2, 3}};
    const mvpn_ed25519_pub ours[] = {other, l->self.descriptor.identity};
    const mvpn_ed25519_pub of_previous[] = {other, l->peer[1].descriptor.identity};
    lab_circuit c;
    mvpn_link *link1 = lab_join(l, 1);
    assert_true(lab_circuit_open(l, &c, 1, link1));
    put_behind_nat(ours, 2);
    assert_int_equal(extend_status_of(&c, 2), MVPN_REASON_REFUSED);
    put_behind_nat(of_previous, 2);
    assert_int_equal(extend_status_of(&c, 2), MVPN_REASON_REFUSED);
    /* Its addresses are not those to send to: without its NAT relays it cannot be reached. */
    put_behind_nat(&other, 1);
    assert_int_equal(extend_status_of(&c, 2), MVPN_REASON_UNREACHABLE);
    assert_int_equal(l->peer[2].datagrams, 0);
}

/* A relay of an attacker's making that is said to be at the address of peer 1. */
static void describe_anew(mvpn_descriptor *d, mvpn_ed25519_secret *secret)
{
    mvpn_ed25519_generate(&d->identity, secret, &l->rng);
    mvpn_link_certificate_make(d->link_certificate, secret, &d->identity, &d->link_key,
                               d->published, d->expires, &l->realm.network_id);
}

/* Who describes relays behind NAT relays, and those at a victim's address, gains nothing either. */
static void test_links_opened_to_nat_relays_are_limited(void **state)
{
    (void)state;
    unsigned busy = 0;
    mvpn_descriptor nat_relay = l->peer[1].descriptor;
    nat_relay.roles |= MVPN_ROLE_NAT_RELAY;
    for (unsigned i = 0; i < OPEN_BURST + 5; i++) {
        mvpn_ed25519_secret secret;
        lab_message m;
        describe_anew(&nat_relay, &secret);
        assert_int_equal(mvpn_descriptor_sign(&nat_relay, &secret, &l->realm.network_id), 0);
        assert_int_equal(mvpn_view_add(mvpn_engine_view(l->engine), &nat_relay), 0);
        describe_anew(&l->peer[2].descriptor, &l->peer[2].secret);
        put_behind_nat(&nat_relay.identity, 1);
        lab_circuit c = open_circuit();
        uint8_t body[MVPN_ASSEMBLY_MAX];
        size_t n = lab_extend_body(l, &c, 2, true, body, sizeof(body));
        lab_send_extend(l, &c, mvpn_bytes_of(body, n));
        lab_settle(l);
        if (lab_next(l, 0, &m)) {
            uint8_t out[MVPN_BODY_MAX];
            mvpn_extended e;
            assert_int_equal(lab_open(l, &c, &m, out, &n), MVPN_CMD_EXTENDED);
            assert_int_equal(mvpn_extended_decode(&e, mvpn_bytes_of(out, n)), 0);
            busy += e.status == MVPN_REASON_BUSY;
        }
    }
    assert_in_range(busy, 3, 5);
}

static void public_only(mvpn_engine_config *config)
{
    config->allow_private = false;
}

static void own_address(mvpn_engine_config *config)
{
    config->own_addresses[1] = (mvpn_addr){.family = 4, .port = 1, .ip = {192, 0, 2, 2}};
    config->own_address_count = 2;
}

static void test_no_extend_to_addresses_that_are_not_public_or_our_own(void **state)
{
    (void)state;
    void (*const tunes[])(mvpn_engine_config *) = {public_only, own_address};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(tunes); i++) {
        uint8_t body[MVPN_ASSEMBLY_MAX];
        assert_true(lab_free(l));
        l = lab_new(LAB_RELAY, 1, tunes[i]);
        link0 = lab_join(l, 0);
        lab_circuit c = open_circuit();
        size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
        lab_send_extend(l, &c, mvpn_bytes_of(body, n));
        assert_int_equal(extended_status(&c), MVPN_REASON_REFUSED);
        assert_int_equal(l->peer[1].datagrams, 0);
    }
}

/* What a router maps to us is our own as long as it does. */
static void test_no_extend_to_what_is_mapped_to_us(void **state)
{
    (void)state;
    static const mvpn_addr at_peer = {.family = 4, .port = 1, .ip = {192, 0, 2, 2}};
    for (unsigned i = 0; i < 2; i++) {
        uint8_t body[MVPN_ASSEMBLY_MAX];
        mvpn_engine_set_mapped(l->engine, &at_peer, i == 0);
        lab_circuit c = open_circuit();
        size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
        lab_send_extend(l, &c, mvpn_bytes_of(body, n));
        if (i == 0) {
            assert_int_equal(extended_status(&c), MVPN_REASON_REFUSED);
        }
        lab_settle(l);
        assert_int_equal(l->peer[1].datagrams > 0, i == 1);
    }
}

/* Relays that an attacker describes at a victim's address: their number buys him nothing. */
static void test_links_opened_to_one_address_are_limited(void **state)
{
    (void)state;
    unsigned busy = 0;
    mvpn_descriptor *d = &l->peer[2].descriptor;
    for (unsigned i = 0; i < OPEN_BURST + 5; i++) {
        uint8_t body[MVPN_ASSEMBLY_MAX];
        mvpn_ed25519_secret secret;
        lab_message m;
        mvpn_ed25519_generate(&d->identity, &secret, &l->rng);
        mvpn_link_certificate_make(d->link_certificate, &secret, &d->identity, &d->link_key,
                                   d->published, d->expires, &l->realm.network_id);
        assert_int_equal(mvpn_descriptor_sign(d, &secret, &l->realm.network_id), 0);
        lab_circuit c = open_circuit();
        size_t n = lab_extend_body(l, &c, 2, true, body, sizeof(body));
        lab_send_extend(l, &c, mvpn_bytes_of(body, n));
        lab_settle(l);
        if (lab_next(l, 0, &m)) {
            uint8_t out[MVPN_BODY_MAX];
            mvpn_extended e;
            assert_int_equal(lab_open(l, &c, &m, out, &n), MVPN_CMD_EXTENDED);
            assert_int_equal(mvpn_extended_decode(&e, mvpn_bytes_of(out, n)), 0);
            busy += e.status == MVPN_REASON_BUSY;
        }
    }
    assert_in_range(busy, 3, 5); /* one a second comes back */
    lab_circuit c = open_circuit();
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back); /* another address is not concerned */
}

/* Over a link that is there no packet goes to anybody new: as many circuits as come. */
static void test_a_link_that_is_there_takes_any_number(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * OPEN_BURST; i++) {
        lab_circuit c = open_circuit();
        lab_message create;
        mvpn_circuit_id back;
        (void)extend(&c, 1, &create, &back);
    }
    assert_int_equal(circuits(), 2 * OPEN_BURST);
}

static void test_an_extend_times_out(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    uint8_t body[MVPN_ASSEMBLY_MAX], out[MVPN_BODY_MAX];
    mvpn_extended m;
    size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(20));
    lab_message create = only(1, MVPN_CMD_CREATE); /* and says nothing */
    lab_for(l, MVPN_S(9));
    assert_silence(0);
    lab_for(l, MVPN_S(2));
    lab_message cell = only(0, MVPN_CMD_RELAY);
    assert_int_equal(lab_open(l, &c, &cell, out, &n), MVPN_CMD_EXTENDED);
    assert_int_equal(mvpn_extended_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.status, MVPN_REASON_TIMEOUT);
    assert_destroyed(1, &create.header.circuit, MVPN_REASON_NONE);
    mvpn_circuit_id back;
    (void)extend(&c, 2, &create, &back); /* another may be tried */
    assert_int_equal(circuits(), 1);
    lab_for(l, MVPN_S(60));
    assert_int_equal(circuits(), 1);
}

static void test_what_the_next_relay_says_of_a_refusal(void **state)
{
    (void)state;
    const uint8_t said[] = {MVPN_REASON_BUSY, MVPN_REASON_KEY_UNKNOWN};
    const uint8_t told[] = {MVPN_REASON_REFUSED, MVPN_REASON_KEY_UNKNOWN};
    for (size_t i = 0; i < 2; i++) {
        lab_circuit c = open_circuit();
        uint8_t body[MVPN_ASSEMBLY_MAX];
        mvpn_create m;
        size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
        lab_send_extend(l, &c, mvpn_bytes_of(body, n));
        lab_for(l, MVPN_MS(20));
        lab_message create = only(1, MVPN_CMD_CREATE);
        assert_int_equal(mvpn_create_decode(&m, mvpn_bytes_of(create.bytes, create.len)), 0);
        mvpn_header h = {.circuit = m.back, .command = MVPN_CMD_DESTROY, .length = 1};
        assert_int_equal(lab_send(l, 1, create.link, &h, mvpn_bytes_of(&said[i], 1), true), 0);
        assert_int_equal(extended_status(&c), told[i]);
    }
}

static void test_destroy_is_passed_on_without_its_reason(void **state)
{
    (void)state;
    for (unsigned from_client = 0; from_client < 2; from_client++) {
        lab_circuit c = open_circuit();
        lab_message create;
        mvpn_circuit_id back;
        (void)extend(&c, 1, &create, &back);
        mvpn_header h = {
            .circuit = from_client ? c.out : back, .command = MVPN_CMD_DESTROY, .length = 1};
        assert_int_equal(lab_send(l, from_client ? 0 : 1, from_client ? link0 : create.link, &h,
                                  MVPN_BYTES_LITERAL("\2"), true),
                         0);
        assert_destroyed(from_client ? 1 : 0, from_client ? &create.header.circuit : &c.in,
                         MVPN_REASON_NONE);
        assert_int_equal(circuits(), 0);
    }
    mvpn_header h = {.circuit = {{5}}, .command = MVPN_CMD_DESTROY, .length = 1};
    assert_int_equal(lab_send(l, 0, link0, &h, MVPN_BYTES_LITERAL("\2"), true), 0); /* of no one */
    assert_silence(0);
}

static void test_a_lost_link_ends_its_circuits(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    mvpn_link_close(create.link, MVPN_REASON_FINISHED, l->now);
    assert_destroyed(0, &c.in, MVPN_REASON_NONE);
    assert_int_equal(circuits(), 0);

    c = open_circuit();
    uint8_t body[MVPN_ASSEMBLY_MAX]; /* while extending the circuit lives on */
    size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(20));
    create = only(1, MVPN_CMD_CREATE);
    mvpn_link_close(create.link, MVPN_REASON_FINISHED, l->now);
    assert_int_equal(extended_status(&c), MVPN_REASON_UNREACHABLE);
    assert_int_equal(circuits(), 1);
    mvpn_link_close(link0, MVPN_REASON_FINISHED, l->now);
    lab_for(l, MVPN_MS(5));
    assert_int_equal(circuits(), 0);
}

static void test_early_cells_are_counted(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    for (unsigned i = 0; i < MVPN_EARLY_MAX; i++) {
        lab_cell(l, &c, MVPN_CMD_RELAY_DROP, true, MVPN_BYTES_NONE);
    }
    assert_silence(0);
    for (unsigned i = 0; i < 20; i++) { /* the others are free */
        lab_cell(l, &c, MVPN_CMD_RELAY_DROP, false, MVPN_BYTES_NONE);
    }
    assert_silence(0);
    assert_int_equal(circuits(), 1);
    lab_cell(l, &c, MVPN_CMD_RELAY_DROP, true, MVPN_BYTES_NONE);
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
    assert_int_equal(circuits(), 0);
}

static void test_early_cells_do_not_come_back(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    uint8_t body[MVPN_CELL_SMALL] = {0};
    mvpn_header h = {.circuit = back, .command = MVPN_CMD_RELAY_EARLY, .length = 100};
    assert_int_equal(lab_send(l, 1, create.link, &h, MVPN_BYTES_ARRAY(body), true), 0);
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
}

/* Cells that lie about class or kind, replays, garbage: dropped, and the circuit lives. */
static void test_bad_cells_are_dropped(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    uint64_t dropped = counters()->cells_dropped;
    for (unsigned i = 0; i < 7; i++) {
        mvpn_cell_kind kind = {MVPN_CMD_RELAY_DROP, 0, MVPN_SIZE_CLASSES};
        mvpn_header h;
        mvpn_packet *p = test_packet(&l->peer[0].pool, 10, i), *copy = NULL;
        assert_int_equal(mvpn_onion_seal(&c.onion, l->aead, 2, &kind, i == 1, p, &h), 0);
        h.circuit = c.out;
        switch (i) {
        case 0: /* the layer says Relay, the cell RelayEarly */
            h.command = MVPN_CMD_RELAY_EARLY;
            break;
        case 1:
            h.command = MVPN_CMD_RELAY;
            break;
        case 2: /* another class outside */
            h.size_class = MVPN_CLASS_MEDIUM;
            mvpn_packet_truncate(p, h.length);
            mvpn_onion_fill(p, MVPN_CLASS_MEDIUM);
            break;
        case 3:
            p->data[20] ^= 1;
            break;
        case 4:
            h.counter++;
            break;
        case 5:
            h.circuit.b[0] ^= 1; /* of no circuit */
            break;
        default:
            copy = test_packet_of(&l->peer[0].pool, p->data, p->len); /* sent twice */
            break;
        }
        assert_int_equal(mvpn_link_send(link0, p, &h, i == 0, l->now), 0);
        if (copy != NULL) {
            assert_int_equal(mvpn_link_send(link0, copy, &h, false, l->now), 0);
        }
        lab_for(l, MVPN_MS(5));
        assert_int_equal(counters()->cells_dropped, dropped + i + 1);
    }
    (void)only(1, MVPN_CMD_RELAY); /* the one that was sent twice */
    assert_int_equal(circuits(), 1);
    mvpn_header h = {.circuit = back, .command = MVPN_CMD_RELAY, .length = 200};
    uint8_t body[MVPN_CELL_SMALL] = {0}; /* from behind: no room for our layer */
    assert_int_equal(lab_send(l, 1, create.link, &h, MVPN_BYTES_ARRAY(body), false), 0);
    h.length = 100;
    h.counter = 1ull << 32; /* nor for such a counter */
    assert_int_equal(lab_send(l, 1, create.link, &h, MVPN_BYTES_ARRAY(body), false), 0);
    assert_silence(0);
    assert_int_equal(counters()->cells_dropped, dropped + 9);
}

/*
 * On the way back the class is all that a length may tell: else a hostile exit could signal to a
 * hostile guard. (§5.3)
 */
static void test_lengths_that_tell_something_do_not_come_back(void **state)
{
    (void)state;
    static const unsigned classes[] = {MVPN_CLASS_SMALL, MVPN_CLASS_MEDIUM, MVPN_CLASS_FULL,
                                       MVPN_CLASS_EXACT};
    lab_circuit c = open_circuit();
    lab_message create, m;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(classes); i++) {
        size_t size = mvpn_cell_body_len(classes[i], MVPN_CELL_SMALL);
        for (size_t length = size - 5 * MVPN_LAYER_OVERHEAD; length <= size; length++) {
            static const uint8_t body[MVPN_CELL_FULL];
            const uint64_t dropped = counters()->cells_dropped;
            bool is_honest = classes[i] != MVPN_CLASS_EXACT && length < size &&
                             (size - length) % MVPN_LAYER_OVERHEAD == 0;
            mvpn_header h = {.circuit = back,
                             .command = MVPN_CMD_RELAY,
                             .length = (uint16_t)length,
                             .size_class = (uint8_t)classes[i]};
            size_t n = mvpn_cell_body_len(classes[i], length);
            assert_int_equal(lab_send(l, 1, create.link, &h, mvpn_bytes_of(body, n), false), 0);
            lab_for(l, MVPN_MS(1));
            assert_int_equal(l->peer[0].inbox_count, is_honest);
            assert_int_equal(counters()->cells_dropped, dropped + !is_honest);
            if (is_honest) {
                m = only(0, MVPN_CMD_RELAY);
                assert_int_equal(m.header.size_class, classes[i]);
                assert_int_equal(m.header.length, length + MVPN_LAYER_OVERHEAD);
            }
        }
    }
    assert_int_equal(circuits(), 1);
}

/* An id belongs to one link: a neighbour cannot speak in circuits of another. */
static void test_ids_of_another_link_mean_nothing(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    mvpn_link *link1 = lab_join(l, 1);
    mvpn_header h = {.circuit = c.out, .command = MVPN_CMD_DESTROY, .length = 1};
    assert_int_equal(lab_send(l, 1, link1, &h, MVPN_BYTES_LITERAL("\0"), true), 0);
    lab_for(l, MVPN_MS(5));
    assert_int_equal(circuits(), 1);
}

static void test_commands_in_the_wrong_place_close_the_link(void **state)
{
    (void)state;
    const uint16_t commands[] = {0x03, 0x04, 0x07, 0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        mvpn_link *link = i == 0 ? link0 : lab_join(l, 0);
        lab_circuit c;
        assert_true(lab_circuit_open(l, &c, 0, link));
        size_t closed = l->peer[0].closed;
        mvpn_header h = {.circuit = c.out, .command = commands[i], .length = 2};
        assert_int_equal(lab_send(l, 0, link, &h, MVPN_BYTES_LITERAL("ab"), false), 0);
        lab_for(l, MVPN_MS(5));
        assert_int_equal(l->peer[0].closed, closed + 1);
        assert_int_equal(circuits(), 0);
        l->peer[0].inbox_count = 0;
    }
}

static void test_unknown_commands_are_answered_once(void **state)
{
    (void)state;
    lab_for(l, MVPN_S(1));
    uint64_t before = l->peer[0].datagrams;
    for (unsigned i = 0; i < 5; i++) {
        mvpn_header h = {.command = 0x45, .length = 2};
        assert_int_equal(lab_send(l, 0, link0, &h, MVPN_BYTES_LITERAL("ab"), false), 0);
        lab_for(l, MVPN_MS(5));
    }
    assert_int_equal(l->peer[0].datagrams, before + 1); /* VersionList, which the link takes */
    assert_true(mvpn_link_is_open(link0));
    mvpn_header h = {.command = 0x12, .length = 2}; /* of the DHT, which we do not serve */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(lab_send(l, 0, link0, &h, MVPN_BYTES_LITERAL("ab"), false), 0);
        lab_for(l, MVPN_MS(5));
    }
    assert_int_equal(l->peer[0].datagrams, before + 1);
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

/* ---- queues (§6.5) ---- */

#define LIMIT 250000 /* bytes per second */

static void limited(mvpn_engine_config *config)
{
    config->relay_rate = LIMIT;
}

static void few_packets(mvpn_engine_config *config)
{
    config->relay_rate = LIMIT;
    config->packet_count = 256;
}

static int setup_limited(void **state)
{
    (void)state;
    l = lab_new(LAB_RELAY, 1, limited);
    link0 = lab_join(l, 0);
    return 0;
}

static int setup_few_packets(void **state)
{
    (void)state;
    l = lab_new(LAB_RELAY, 1, few_packets);
    link0 = lab_join(l, 0);
    return 0;
}

static void fill_queue(lab_circuit *c, unsigned cells)
{
    uint8_t data[1200] = {0};
    for (unsigned i = 0; i < cells; i++) {
        lab_cell(l, c, MVPN_CMD_RELAY_DROP, false, MVPN_BYTES_ARRAY(data));
        lab_settle(l);
    }
}

static uint32_t waiting(void)
{
    return mvpn_relay_waiting(mvpn_engine_relay(l->engine));
}

static void test_cells_leave_at_the_rate(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_for(l, MVPN_S(1));
    fill_queue(&c, 100);
    uint32_t before = waiting();
    assert_in_range(before, 90, 97); /* the burst is four cells */
    lab_for(l, MVPN_MS(100));
    assert_in_range(before - waiting(), 16, 19); /* of 1,452 bytes */
    lab_for(l, MVPN_S(1));
    assert_int_equal(waiting(), 0);
}

/* A light circuit beside one that stands in its queue. */
static void test_a_light_circuit_is_not_behind_others(void **state)
{
    (void)state;
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    lab_circuit heavy = open_circuit(), light = open_circuit();
    lab_for(l, MVPN_S(1));
    fill_queue(&heavy, 100);
    assert_true(waiting() > 90);
    lab_cell(l, &light, MVPN_CMD_RELAY_PING, false, MVPN_BYTES_LITERAL("12345678"));
    lab_for(l, MVPN_MS(10)); /* the queue is of half a second */
    assert_int_equal(answer_of(&light, out, &n), MVPN_CMD_RELAY_PONG);
    assert_true(waiting() > 80);
}

static void test_the_oldest_ends_when_packets_run_low(void **state)
{
    (void)state;
    lab_circuit c[9], fresh = open_circuit();
    for (size_t i = 0; i < 9; i++) {
        c[i] = open_circuit();
    }
    lab_for(l, MVPN_S(1));
    /* All flows together hold half of the packets at most... */
    for (size_t i = 0; i < 9; i++) {
        fill_queue(&c[i], 30);
        lab_for(l, 10);
    }
    assert_true(waiting() <= 128);
    assert_int_equal(counters()->killed, 0);
    /* ... and if other uses take the rest, who has waited longest has to go. */
    mvpn_packet_pool *pool = mvpn_engine_pool(l->engine);
    mvpn_packet_queue held;
    mvpn_packet_queue_init(&held);
    size_t before = circuits();
    while (pool->free_count > pool->size / RESERVE_PART) {
        mvpn_packet_queue_push(&held, mvpn_packet_new(pool));
    }
    fill_queue(&fresh, 1);
    assert_int_equal(counters()->killed, 1);
    assert_int_equal(circuits(), before - 1);
    assert_destroyed(0, &c[0].in, MVPN_REASON_BUSY);
    mvpn_packet_queue_clear(&held, pool);
}

static void test_no_new_circuits_while_rounds_are_long(void **state)
{
    (void)state;
    enum { ACTIVE = 80 }; /* 80 x 1,452 bytes at 250,000 a second: half a second */
    static lab_circuit c[ACTIVE];
    for (size_t i = 0; i < ACTIVE; i++) {
        c[i] = open_circuit();
        lab_for(l, MVPN_MS(60));
    }
    mvpn_relay *relay = (mvpn_relay *)(uintptr_t)mvpn_engine_relay(l->engine);
    relay->scheduler.config.rate = LIMIT / 8; /* four seconds */
    for (unsigned k = 0; k < 14; k++) {
        for (size_t i = 0; i < ACTIVE; i++) {
            fill_queue(&c[i], 2);
        }
        lab_for(l, MVPN_MS(800));
    }
    assert_true(mvpn_relay_is_overloaded(mvpn_engine_relay(l->engine), l->now));
    lab_circuit more;
    uint64_t refused = counters()->refused;
    assert_false(lab_circuit_open(l, &more, 0, link0));
    assert_int_equal(counters()->refused, refused + 1);
    assert_int_equal(circuits(), ACTIVE);
    relay->scheduler.config.rate = 0;
    lab_for(l, MVPN_S(1)); /* all has left */
    lab_message m;
    while (lab_next(l, 0, &m)) {
    }
    assert_true(lab_circuit_open(l, &more, 0, link0));
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

/* Sockets full turn after turn: reading goes before sending, and handshakes have a tenth. */
static void test_a_crowd_waits_here_and_not_in_the_socket(void **state)
{
    (void)state;
    mvpn_relay *relay = (mvpn_relay *)(uintptr_t)mvpn_engine_relay(l->engine);
    assert_int_equal(relay_creates_now(relay), CREATE_PER_TURN);
    lab_circuit c = open_circuit();
    lab_for(l, MVPN_S(1));
    fill_queue(&c, 100);
    for (mvpn_time passed = 0; passed <= CROWDED_TIME; passed += 500, l->now += 500) {
        relay->arrived = CROWDED_ARRIVALS;
        mvpn_relay_flush(relay, l->now);
        assert_false(relay->is_crowded); /* what is short is the rate */
    }
    relay->scheduler.config.rate = 0;
    relay->arrived = CROWDED_ARRIVALS;
    uint32_t before = waiting();
    assert_true(before > CROWDED_CELLS && before < 2 * CROWDED_CELLS);
    mvpn_relay_flush(relay, l->now);
    assert_int_equal(waiting(), before - CROWDED_CELLS);
    assert_int_equal(relay->create_credit, CROWDED_CELLS);
    assert_true(relay->is_crowded);
    mvpn_relay_flush(relay, l->now);
    assert_int_equal(waiting(), 0);
    assert_false(relay->is_crowded); /* nothing waits any more */
    relay->is_crowded = true;
    assert_int_equal(relay_creates_now(relay), 0);
    relay->create_credit = 3 * CREATE_COST_CELLS - 1;
    assert_int_equal(relay_creates_now(relay), 2);
    assert_int_equal(relay_creates_now(relay), 0);
    relay->is_crowded = false;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define EXIT_TEST(f) cmocka_unit_test_setup_teardown(f, setup_exit, teardown)
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
        TEST(test_extend_and_cells_both_ways),
        TEST(test_a_repeated_extend_is_answered_again),
        TEST(test_extend_needs_an_early_cell),
        TEST(test_refused_extends),
        TEST(test_a_later_descriptor_counts),
        TEST(test_bad_descriptors_do_not_block_a_relay),
        TEST(test_no_extend_to_the_predecessor),
        TEST(test_no_extend_to_whom_a_neighbour_forwards),
        TEST(test_links_opened_to_nat_relays_are_limited),
        TEST(test_no_extend_to_addresses_that_are_not_public_or_our_own),
        TEST(test_no_extend_to_what_is_mapped_to_us),
        TEST(test_links_opened_to_one_address_are_limited),
        TEST(test_a_link_that_is_there_takes_any_number),
        TEST(test_an_extend_times_out),
        TEST(test_what_the_next_relay_says_of_a_refusal),
        TEST(test_destroy_is_passed_on_without_its_reason),
        TEST(test_a_lost_link_ends_its_circuits),
        TEST(test_early_cells_are_counted),
        TEST(test_early_cells_do_not_come_back),
        TEST(test_bad_cells_are_dropped),
        TEST(test_lengths_that_tell_something_do_not_come_back),
        TEST(test_ids_of_another_link_mean_nothing),
        TEST(test_commands_in_the_wrong_place_close_the_link),
        TEST(test_unknown_commands_are_answered_once),
        TEST(test_a_middle_relay_opens_no_session),
        EXIT_TEST(test_sessions_of_an_exit),
        EXIT_TEST(test_a_session_is_no_idle_circuit),
        EXIT_TEST(test_sessions_of_a_link_are_limited),
        EXIT_TEST(test_no_extend_with_an_open_session),
        EXIT_TEST(test_a_circuit_that_goes_on_has_no_session),
        cmocka_unit_test_setup_teardown(test_cells_leave_at_the_rate, setup_limited, teardown),
        cmocka_unit_test_setup_teardown(test_a_light_circuit_is_not_behind_others, setup_limited,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_ends_when_packets_run_low,
                                        setup_few_packets, teardown),
        cmocka_unit_test_setup_teardown(test_no_new_circuits_while_rounds_are_long, setup_limited,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_relays_may_build_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_crowd_waits_here_and_not_in_the_socket,
                                        setup_limited, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
