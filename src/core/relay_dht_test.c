/* The relay as a directory: on links and inside circuits, and what it refuses. */
#include "core/testing.h"

#include "core/directory.h"
#include "core/relay_internal.h"
#include "core/testlab.h"
#include "crypto/x25519.h"

#define RECORDS 40

static lab *l;
static mvpn_link *link0;
static mvpn_dht_id keys[RECORDS];

/* Fill the node's view with relays, and remember their keys. */
static void fill(void)
{
    for (unsigned i = 0; i < RECORDS; i++) {
        mvpn_ed25519_secret secret;
        mvpn_x25519_pair link;
        mvpn_descriptor d = {.sequence = 5, .published = LAB_UNIX - 10, .expires = LAB_UNIX + 1000};
        mvpn_ed25519_generate(&d.identity, &secret, &l->rng);
        mvpn_x25519_generate(&link, &l->rng);
        mvpn_link_certificate_make(d.link_certificate, &secret, &d.identity, &link.pub, d.published,
                                   d.expires, &l->realm.network_id);
        d.onion_key_count = 1;
        d.onion_keys[0] = (mvpn_onion_key){1, link.pub};
        d.address_count = 1;
        d.addresses[0] = (mvpn_descriptor_address){
            MVPN_CARRIER_PLAIN, {.family = 4, .port = 443, .ip = {45, (uint8_t)i, 0, 1}}};
        d.roles = MVPN_ROLE_MIDDLE;
        assert_int_equal(mvpn_descriptor_sign(&d, &secret, &l->realm.network_id), 0);
        assert_int_equal(mvpn_view_put(mvpn_engine_view(l->engine), MVPN_RECORD_DESCRIPTOR,
                                       mvpn_bytes_of(d.encoded, d.encoded_len), MVPN_VIEW_LOCAL,
                                       LAB_UNIX),
                         0);
        mvpn_record_key(keys[i].b, &l->realm.network_id, &d.identity);
    }
}

static int setup(void **state)
{
    (void)state;
    l = lab_new(LAB_RELAY, 1, NULL);
    link0 = lab_join(l, 0);
    fill();
    return 0;
}

static void refuse_circuits(mvpn_engine_config *c)
{
    c->no_circuits = true;
}

static int setup_no_circuits(void **state)
{
    (void)state;
    l = lab_new(LAB_RELAY, 1, refuse_circuits);
    link0 = lab_join(l, 0);
    fill();
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

static size_t encode(uint8_t *out, size_t size, unsigned command, unsigned key_count)
{
    mvpn_dht_request q = {.command = (uint16_t)command, .key_count = (uint8_t)key_count};
    memcpy(q.keys, keys, key_count * sizeof(keys[0]));
    q.target = keys[0];
    if (command == MVPN_CMD_DHT_LIST) {
        memset(&q.target, 0, sizeof(q.target));
    }
    return mvpn_dht_request_encode(out, size, &q);
}

static void ask_on_link(mvpn_link *link, size_t peer, uint32_t id, unsigned command,
                        mvpn_bytes body)
{
    mvpn_header h = {.command = (uint16_t)command, .length = (uint16_t)body.n};
    mvpn_store32(h.circuit.b, id);
    assert_int_equal(lab_send(l, peer, link, &h, body, false), 0);
}

/* Messages that came to a peer with this request id; all others fail the test. */
static unsigned replies_on_link(size_t peer, uint32_t id, unsigned command, size_t *ret_bytes)
{
    unsigned count = 0;
    lab_message m;
    while (lab_next(l, peer, &m)) {
        assert_int_equal(mvpn_load32(m.header.circuit.b), id);
        assert_int_equal(m.header.command, command);
        count++;
        *ret_bytes += m.len;
    }
    return count;
}

static void test_answers_on_a_link(void **state)
{
    (void)state;
    uint8_t body[MVPN_DHT_BODY_MAX];
    size_t bytes = 0;
    ask_on_link(link0, 0, 77, MVPN_CMD_DHT_LIST,
                mvpn_bytes_of(body, encode(body, sizeof(body), MVPN_CMD_DHT_LIST, 0)));
    lab_for(l, MVPN_MS(20));
    assert_int_equal(replies_on_link(0, 77, MVPN_CMD_DHT_LISTED, &bytes), 1);
    ask_on_link(link0, 0, 78, MVPN_CMD_DHT_FIND_VALUE,
                mvpn_bytes_of(body, encode(body, sizeof(body), MVPN_CMD_DHT_FIND_VALUE, 0)));
    lab_for(l, MVPN_MS(20));
    assert_int_equal(replies_on_link(0, 78, MVPN_CMD_DHT_VALUE, &bytes), 1);
    /* The longest answer there is stays within what the contract says. */
    bytes = 0;
    size_t n = encode(body, sizeof(body), MVPN_CMD_DHT_FETCH, MVPN_DHT_FETCH_MAX);
    ask_on_link(link0, 0, 79, MVPN_CMD_DHT_FETCH, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(20));
    assert_in_range(replies_on_link(0, 79, MVPN_CMD_DHT_FETCHED, &bytes), 6,
                    MVPN_DIRECTORY_REPLIES_MAX);
    assert_int_equal(counters()->directory_answered, 3);
}

static void test_answers_malformed(void **state)
{
    (void)state;
    static const unsigned commands[] = {MVPN_CMD_DHT_LIST, MVPN_CMD_DHT_FETCH, MVPN_CMD_DHT_BLOB,
                                        MVPN_CMD_DHT_FIND_VALUE};
    lab_circuit c;
    assert_true(lab_circuit_open(l, &c, 0, link0));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        size_t bytes = 0;
        ask_on_link(link0, 0, 5, commands[i], MVPN_BYTES_LITERAL("xy"));
        lab_for(l, MVPN_MS(5));
        assert_int_equal(replies_on_link(0, 5, MVPN_CMD_DHT_ERROR, &bytes), 1);
    }
    /* Replies sent to a relay that asked nothing, and what is not for directories: no answer. */
    size_t bytes = 0;
    for (unsigned command = MVPN_CMD_DHT_PONG; command <= MVPN_CMD_DHT_ERROR; command++) {
        ask_on_link(link0, 0, 6, command, MVPN_BYTES_LITERAL("xyz"));
    }
    lab_for(l, MVPN_MS(5));
    lab_message m;
    while (lab_next(l, 0, &m)) {
        assert_true(m.header.command < MVPN_CMD_DHT_PING || m.header.command > MVPN_CMD_DHT_ERROR);
    }
    (void)bytes;
    /* In a circuit: without its fixed part nothing, with an unknown command an error. */
    lab_cell(l, &c, MVPN_CMD_RELAY_DHT, false, MVPN_BYTES_LITERAL("\1\2\3\4\0"));
    lab_for(l, MVPN_MS(5));
    assert_false(lab_next(l, 0, &m));
    assert_int_equal(counters()->directory_refused, 1);
    lab_cell(l, &c, MVPN_CMD_RELAY_DHT, false, MVPN_BYTES_LITERAL("\1\2\3\4\xff\xff"));
    lab_for(l, MVPN_MS(5));
    assert_true(lab_next(l, 0, &m));
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    assert_int_equal(lab_open(l, &c, &m, out, &n), MVPN_CMD_RELAY_DHT);
    assert_memory_equal(out, "\1\2\3\4\0\x1f", 6);
}

static size_t cell_request(uint8_t *out, size_t size, uint32_t id, unsigned command,
                           unsigned key_count)
{
    mvpn_store32(out, id);
    mvpn_store16(out + 4, (uint16_t)command);
    return 6 + encode(out + 6, size - 6, command, key_count);
}

static void test_answers_in_a_circuit(void **state)
{
    (void)state;
    uint8_t body[MVPN_DHT_BODY_MAX + 6], out[MVPN_BODY_MAX];
    lab_circuit c;
    lab_message m;
    size_t n;
    assert_true(lab_circuit_open(l, &c, 0, link0));
    n = cell_request(body, sizeof(body), 0xabcd, MVPN_CMD_DHT_FETCH, MVPN_DHT_FETCH_MAX);
    lab_cell(l, &c, MVPN_CMD_RELAY_DHT, false, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(20));
    unsigned cells = 0, records = 0;
    bool more = true;
    while (lab_next(l, 0, &m)) {
        mvpn_dht_reply reply;
        uint8_t type;
        mvpn_bytes record;
        cells++;
        assert_int_equal(lab_open(l, &c, &m, out, &n), MVPN_CMD_RELAY_DHT);
        assert_int_equal(mvpn_load32(out), 0xabcd);
        assert_int_equal(mvpn_load16(out + 4), MVPN_CMD_DHT_FETCHED);
        assert_int_equal(
            mvpn_dht_reply_decode(&reply, MVPN_CMD_DHT_FETCHED, mvpn_bytes_of(out + 6, n - 6)), 0);
        more = reply.more;
        while (mvpn_dht_fetched_next(&reply.record, &type, &record) == 0) {
            records++;
        }
    }
    assert_int_equal(records, MVPN_DHT_FETCH_MAX);
    assert_in_range(cells, 6, MVPN_DIRECTORY_REPLIES_MAX);
    assert_false(more);
}

/* A circuit asks 200 times at once and then 3 times a second; another one has its own share. */
static void test_rate_of_a_circuit(void **state)
{
    (void)state;
    uint8_t body[64];
    lab_circuit c, d;
    lab_message m;
    assert_true(lab_circuit_open(l, &c, 0, link0));
    assert_true(lab_circuit_open(l, &d, 0, link0));
    size_t n = cell_request(body, sizeof(body), 1, MVPN_CMD_DHT_FIND_VALUE, 0);
    for (unsigned i = 0; i < 260; i++) {
        lab_cell(l, &c, MVPN_CMD_RELAY_DHT, false, mvpn_bytes_of(body, n));
        lab_settle(l);
        while (lab_next(l, 0, &m)) {
        }
    }
    assert_in_range(counters()->directory_answered, 200, 202);
    assert_in_range(counters()->directory_refused, 58, 60);
    lab_cell(l, &d, MVPN_CMD_RELAY_DHT, false, mvpn_bytes_of(body, n));
    lab_settle(l);
    assert_true(lab_next(l, 0, &m));
    uint64_t before = counters()->directory_answered;
    l->now += MVPN_S(10);
    for (unsigned i = 0; i < 60; i++) {
        lab_cell(l, &c, MVPN_CMD_RELAY_DHT, false, mvpn_bytes_of(body, n));
        lab_settle(l);
        while (lab_next(l, 0, &m)) {
        }
    }
    assert_in_range(counters()->directory_answered - before, 29, 32);
}

static uint64_t flood(mvpn_link *link, size_t peer, unsigned count)
{
    uint8_t body[64];
    lab_message m;
    size_t n = encode(body, sizeof(body), MVPN_CMD_DHT_FIND_VALUE, 0);
    uint64_t before = counters()->directory_answered;
    for (unsigned i = 0; i < count; i++) {
        ask_on_link(link, peer, i, MVPN_CMD_DHT_FIND_VALUE, mvpn_bytes_of(body, n));
        lab_settle(l);
        while (lab_next(l, peer, &m)) {
        }
    }
    return counters()->directory_answered - before;
}

static void test_rate_of_a_link(void **state)
{
    (void)state;
    assert_in_range(flood(link0, 0, 300), 200, 203);
    l->now += MVPN_S(3);
    assert_in_range(flood(link0, 0, 100), 59, 63);
}

/* New links from the same addresses do not begin anew for ever. */
static void test_rate_of_a_block(void **state)
{
    (void)state;
    uint64_t answered = flood(link0, 0, 200);
    for (unsigned i = 0; i < 12; i++) {
        size_t peer = 1 + i % 2; /* relays: the same block, other identities */
        mvpn_link *link = lab_join(l, peer);
        answered += flood(link, peer, 200);
        mvpn_link_close(link, 0, l->now);
        lab_for(l, MVPN_MS(10));
        l->peer[peer].inbox_count = 0;
    }
    assert_in_range(answered, DIRECTORY_BLOCK_BURST, DIRECTORY_BLOCK_BURST + 40);
}

/* A bootstrap node is a directory and nothing else. */
static void test_no_circuits(void **state)
{
    (void)state;
    lab_circuit c;
    lab_message m;
    uint8_t body[MVPN_BODY_MAX];
    size_t n = lab_create_body(l, &c, 0, link0, body, sizeof(body));
    lab_send_create(l, &c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(5));
    assert_true(lab_next(l, 0, &m));
    assert_int_equal(m.header.command, MVPN_CMD_DESTROY);
    assert_memory_equal(m.header.circuit.b, c.in.b, 16);
    assert_int_equal(m.bytes[0], MVPN_REASON_REFUSED);
    assert_int_equal(mvpn_relay_circuit_count(mvpn_engine_relay(l->engine)), 0);
    size_t bytes = 0;
    ask_on_link(link0, 0, 3, MVPN_CMD_DHT_FIND_VALUE,
                mvpn_bytes_of(body, encode(body, sizeof(body), MVPN_CMD_DHT_FIND_VALUE, 0)));
    lab_for(l, MVPN_MS(5));
    assert_int_equal(replies_on_link(0, 3, MVPN_CMD_DHT_VALUE, &bytes), 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_answers_on_a_link),
        TEST(test_answers_malformed),
        TEST(test_answers_in_a_circuit),
        TEST(test_rate_of_a_circuit),
        TEST(test_rate_of_a_link),
        TEST(test_rate_of_a_block),
        cmocka_unit_test_setup_teardown(test_no_circuits, setup_no_circuits, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
