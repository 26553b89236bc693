#include "core/testrelay.h"

lab *l;
mvpn_link *link0;

int relay_setup(void **state)
{
    (void)state;
    l = lab_new(LAB_RELAY, 1, NULL);
    link0 = lab_join(l, 0);
    return 0;
}

int relay_teardown(void **state)
{
    (void)state;
    return lab_free(l) ? 0 : -1;
}

const mvpn_relay_counters *counters(void)
{
    return mvpn_relay_get_counters(mvpn_engine_relay(l->engine));
}

size_t circuits(void)
{
    return mvpn_relay_circuit_count(mvpn_engine_relay(l->engine));
}

lab_message only(size_t peer, unsigned command)
{
    lab_message m;
    assert_true(lab_next(l, peer, &m));
    assert_int_equal(m.header.command, command);
    assert_int_equal(l->peer[peer].inbox_count, 0);
    return m;
}

void assert_silence(size_t peer)
{
    lab_for(l, MVPN_MS(50));
    assert_int_equal(l->peer[peer].inbox_count, 0);
}

void assert_destroyed(size_t peer, const mvpn_circuit_id *id, unsigned reason)
{
    lab_for(l, MVPN_MS(5));
    lab_message m = only(peer, MVPN_CMD_DESTROY);
    assert_memory_equal(m.header.circuit.b, id->b, 16);
    assert_int_equal(m.len, 1);
    assert_int_equal(m.bytes[0], reason);
}

lab_circuit open_circuit(void)
{
    lab_circuit c;
    assert_true(lab_circuit_open(l, &c, 0, link0));
    return c;
}

int answer_of(lab_circuit *c, uint8_t *out, size_t *ret_len)
{
    lab_for(l, MVPN_MS(5));
    lab_message m = only(c->peer, MVPN_CMD_RELAY);
    assert_memory_equal(m.header.circuit.b, c->in.b, 16);
    return lab_open(l, c, &m, out, ret_len);
}

unsigned extended_status(lab_circuit *c)
{
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    mvpn_extended m;
    assert_int_equal(answer_of(c, out, &n), MVPN_CMD_EXTENDED);
    assert_int_equal(mvpn_extended_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.request_id, c->request_id);
    return m.status;
}

mvpn_hop_keys extend(lab_circuit *c, size_t to, lab_message *ret_create, mvpn_circuit_id *ret_back)
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
