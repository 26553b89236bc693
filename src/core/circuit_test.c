/* What a client's circuit believes of cells that come back, by the hop that sent them. */
#include "core/testing.h"

#include "core/circuit.h"
#include "crypto/rng.h"
#include "network/ip/testing.h"

#define HOPS 3

static mvpn_aead *aead;
static mvpn_rng rng;
static mvpn_packet_pool pool;
static mvpn_circuit_env env;
static mvpn_circuit c;
static mvpn_layer_tx back[HOPS]; /* the hops' own layers */
static mvpn_time now;

/* A circuit in use; its link is nobody's concern here. */
static int setup(void **state)
{
    (void)state;
    mvpn_rng_init_test(&rng, 7);
    int r = mvpn_packet_pool_init(&pool, 16);
    r = r != 0 ? r : mvpn_aead_new(MVPN_AEAD_AUTO, &aead);
    env = (mvpn_circuit_env){.aead = aead, .rng = &rng, .pool = &pool};
    now = MVPN_S(100);
    c = (mvpn_circuit){.env = &env, .state = MVPN_CIRCUIT_RELAY, .last_in = now};
    c.path.count = HOPS;
    mvpn_packer_init(&c.packer, 0);
    for (unsigned i = 0; i < HOPS; i++) {
        mvpn_key keys[2];
        mvpn_rng_bytes(&rng, keys[0].b, 32);
        mvpn_rng_bytes(&rng, keys[1].b, 32);
        mvpn_onion_add(&c.onion, &keys[0], &keys[1]);
        mvpn_layer_tx_init(&back[i], &keys[1]);
    }
    return r;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_circuit_close(&c, 0, MVPN_REASON_NONE, 0, now);
    bool is_whole = pool.free_count == pool.size;
    mvpn_aead_free(aead);
    mvpn_packet_pool_done(&pool);
    return is_whole ? 0 : -1;
}

/* A cell that hop `from` (1 = guard) makes, as it comes to us through those before it. */
static void answer(unsigned from, unsigned command, mvpn_bytes data)
{
    mvpn_cell_kind kind = {(uint16_t)command, 0, MVPN_SIZE_CLASSES};
    mvpn_packet_queue to_tun;
    mvpn_header h;
    mvpn_packet *p = test_packet_of(&pool, data.p, data.n);
    mvpn_packet_queue_init(&to_tun);
    assert_int_equal(mvpn_onion_answer(&back[from - 1], aead, &kind, p, &h), 0);
    for (unsigned i = from - 1; i-- > 0;) {
        mvpn_layer_header layer = {.size_class = h.size_class,
                                   .command = MVPN_CMD_RELAY,
                                   .length = h.length,
                                   .next_counter = (uint32_t)h.counter};
        mvpn_packet_truncate(p, h.length);
        assert_int_equal(mvpn_layer_seal(aead, &back[i], p, &layer, &h.counter), 0);
        h.length = (uint16_t)p->len;
        mvpn_onion_fill(p, h.size_class);
    }
    mvpn_circuit_message(&c, &h, p, now, &to_tun);
    mvpn_packet_queue_clear(&to_tun, &pool);
}

/* A hop that swallows our data must not keep us waiting with cells of its own. */
static void test_only_the_last_hop_shows_that_a_circuit_lives(void **state)
{
    (void)state;
    static const unsigned commands[] = {MVPN_CMD_RELAY_DROP, MVPN_CMD_RELAY_PONG, 0x2f};
    for (unsigned from = 1; from <= HOPS; from++) {
        for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
            const mvpn_time before = c.last_in;
            const uint64_t cells = c.cells_in;
            now += MVPN_S(1);
            answer(from, commands[i], MVPN_BYTES_LITERAL("12345678"));
            assert_int_equal(c.cells_in, cells + 1);
            assert_int_equal(c.last_in, from == HOPS ? now : before);
            assert_int_equal(c.state, MVPN_CIRCUIT_RELAY);
        }
    }
}

/* Not even by answering a ping that was meant for it. */
static void test_a_pong_from_the_middle_shows_nothing(void **state)
{
    (void)state;
    for (unsigned hop = 1; hop <= HOPS; hop++) {
        const mvpn_time before = c.last_in;
        uint8_t token[8];
        c.pings[0] = (mvpn_circuit_ping_out){0x1122334455667788, now, hop};
        c.pings_out = 1;
        mvpn_store64(token, c.pings[0].token);
        now += MVPN_MS(40);
        answer(hop, MVPN_CMD_RELAY_PONG, MVPN_BYTES_ARRAY(token));
        assert_int_equal(c.pings_out, 0);
        assert_int_equal(c.last_in, hop == HOPS ? now : before);
        assert_int_equal(c.rtt_us, hop == HOPS ? MVPN_MS(40) : 0);
    }
}

/* What only the last hop may say ends the circuit, and the one that said it is to blame. */
static void test_a_hop_that_speaks_for_the_exit_is_blamed(void **state)
{
    (void)state;
    static const unsigned commands[] = {MVPN_CMD_RELAY_DATA, MVPN_CMD_RELAY_END,
                                        MVPN_CMD_RELAY_CONNECTED, MVPN_CMD_EXTENDED};
    for (unsigned from = 1; from < HOPS; from++) {
        for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
            answer(from, commands[i], MVPN_BYTES_LITERAL("\0\1x"));
            assert_int_equal(c.state, MVPN_CIRCUIT_CLOSED);
            assert_int_equal(c.error, MVPN_E_PROTOCOL);
            assert_int_equal(c.failed_hop, from);
            assert_int_equal(teardown(state), 0);
            assert_int_equal(setup(state), 0);
        }
    }
}

static mvpn_packet *request(void)
{
    return test_packet_of(&pool, (const uint8_t *)"body", 4);
}

/* Nothing that needs a link goes out here; what is asked is remembered all the same. */
static void ask(unsigned hop)
{
    c.link = NULL;
    c.dht_asked |= (uint8_t)(1u << (hop - 1));
}

/* A directory's answer comes only from a hop that was asked. */
static void test_only_a_hop_that_was_asked_may_answer(void **state)
{
    (void)state;
    static const enum mvpn_circuit_state states[] = {MVPN_CIRCUIT_READY, MVPN_CIRCUIT_BEGIN,
                                                     MVPN_CIRCUIT_RELAY};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(states); i++) {
        for (unsigned asked = 1; asked <= HOPS; asked++) {
            for (unsigned from = 1; from <= HOPS; from++) {
                c.state = states[i];
                ask(asked);
                answer(from, MVPN_CMD_RELAY_DHT,
                       MVPN_BYTES_LITERAL("\1\2\3\4\0\x1c"
                                          "body"));
                assert_int_equal(c.state, from == asked ? states[i] : MVPN_CIRCUIT_CLOSED);
                if (from != asked) {
                    assert_int_equal(c.error, MVPN_E_PROTOCOL);
                    assert_int_equal(c.failed_hop, from);
                    assert_null(c.dht_answer);
                }
                assert_int_equal(teardown(state), 0);
                assert_int_equal(setup(state), 0);
            }
        }
    }
}

/* The answer says whose it is, and to which request; one at a time is kept. */
static void test_answers_are_told_apart(void **state)
{
    (void)state;
    unsigned hop, command;
    uint32_t id;
    ask(2);
    ask(3);
    assert_null(mvpn_circuit_take_answer(&c, &hop, &id, &command));
    answer(2, MVPN_CMD_RELAY_DHT,
           MVPN_BYTES_LITERAL("\1\2\3\4\0\x1c"
                              "body"));
    mvpn_packet *p = mvpn_circuit_take_answer(&c, &hop, &id, &command);
    assert_non_null(p);
    assert_int_equal(hop, 2);
    assert_int_equal(id, 0x01020304);
    assert_int_equal(command, MVPN_CMD_DHT_LISTED);
    assert_int_equal(p->len, 4);
    assert_memory_equal(p->data, "body", 4);
    mvpn_packet_free(&pool, p);
    assert_null(mvpn_circuit_take_answer(&c, &hop, &id, &command));

    /* Shorter than its fixed part: nothing. */
    answer(3, MVPN_CMD_RELAY_DHT, MVPN_BYTES_LITERAL("\1\2\3\4\0"));
    assert_null(mvpn_circuit_take_answer(&c, &hop, &id, &command));
    assert_int_equal(c.state, MVPN_CIRCUIT_RELAY);

    /* A flood that nobody takes holds one packet. */
    size_t before = pool.free_count;
    for (unsigned i = 0; i < 100; i++) {
        answer(3, MVPN_CMD_RELAY_DHT,
               MVPN_BYTES_LITERAL("\1\2\3\5\0\x1c"
                                  "flood"));
        assert_true(pool.free_count + 1 >= before);
    }
    assert_int_equal(before - pool.free_count, 1);
}

/* Questions go out of a finished circuit, to hops that it has. */
static void test_whom_it_can_ask(void **state)
{
    (void)state;
    static const struct {
        enum mvpn_circuit_state state;
        unsigned hop;
    } rows[] = {
        {MVPN_CIRCUIT_BUILD, 1}, {MVPN_CIRCUIT_EXTEND, 1},       {MVPN_CIRCUIT_CLOSED, 1},
        {MVPN_CIRCUIT_RELAY, 0}, {MVPN_CIRCUIT_RELAY, HOPS + 1}, {MVPN_CIRCUIT_READY, 8},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        size_t before = pool.free_count;
        c.state = rows[i].state;
        assert_int_equal(mvpn_circuit_ask(&c, rows[i].hop, 1, MVPN_CMD_DHT_LIST, request(), now),
                         MVPN_E_STATE);
        assert_int_equal(pool.free_count, before);
        assert_int_equal(c.dht_asked, 0);
    }
    c.state = MVPN_CIRCUIT_RELAY;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_only_the_last_hop_shows_that_a_circuit_lives),
        TEST(test_a_pong_from_the_middle_shows_nothing),
        TEST(test_a_hop_that_speaks_for_the_exit_is_blamed),
        TEST(test_only_a_hop_that_was_asked_may_answer),
        TEST(test_answers_are_told_apart),
        TEST(test_whom_it_can_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
