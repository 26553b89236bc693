/* Circuits that go on to another relay: to whom a relay opens a link and to whom it does not, what
 * it says of failures, and cells both ways. (docs/protocol.md §6.2) */
#include "core/testrelay.h"
#include "crypto/x25519.h"

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
        relay_teardown(state);
        relay_setup(state);
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

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, relay_setup, relay_teardown)
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
