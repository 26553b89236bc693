/* What a measurement believes of the relay that it measures. The trains themselves:
 * tests/sim/survey_test.c. */
#include "core/testing.h"

#include "core/measure.h"

static mvpn_aead *aead;
static mvpn_rng rng;
static mvpn_packet_pool pool;
static mvpn_circuit_env env;
static mvpn_measure m;
static mvpn_layer_tx back;
static mvpn_time now;

/* A train whose first eight pings were sent; no link carries anything here. */
static int setup(void **state)
{
    mvpn_key keys[2];
    (void)state;
    mvpn_rng_init_test(&rng, 7);
    int r = mvpn_packet_pool_init(&pool, 16);
    r = r != 0 ? r : mvpn_aead_new(MVPN_AEAD_AUTO, &aead);
    env = (mvpn_circuit_env){.aead = aead, .rng = &rng, .pool = &pool};
    now = MVPN_S(100);
    m = (mvpn_measure){
        .state = MVPN_MEASURE_TRAIN,
        .env = &env,
        .next_at = now,
        .pings = 8,
        .cells = 64,
        .sent = 16,
        .train_began = now,
        .token_key = {"a key for a test"},
        .circuit = {.env = &env, .state = MVPN_CIRCUIT_READY, .path = {.count = 1}},
    };
    mvpn_rng_bytes(&rng, keys[0].b, 32);
    mvpn_rng_bytes(&rng, keys[1].b, 32);
    mvpn_onion_add(&m.circuit.onion, &keys[0], &keys[1]);
    mvpn_layer_tx_init(&back, &keys[1]);
    return r;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_measure_stop(&m, now);
    bool is_whole = pool.free_count == pool.size;
    mvpn_aead_free(aead);
    mvpn_packet_pool_done(&pool);
    return is_whole ? 0 : -1;
}

/* A Pong of the relay. */
static void pong(uint64_t token)
{
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_PONG, 1, MVPN_SIZE_CLASSES};
    mvpn_header h;
    uint8_t bytes[8];
    mvpn_store64(bytes, token);
    mvpn_packet *p = test_packet_of(&pool, bytes, sizeof(bytes));
    assert_int_equal(mvpn_onion_answer(&back, aead, &kind, p, &h), 0);
    mvpn_measure_message(&m, &h, p, ++now);
}

/* As docs/protocol.md has no word on tokens: the number in front, 48 bits of a keyed hash behind.
 */
static uint64_t token(uint32_t number)
{
    uint8_t in[4];
    mvpn_store32(in, number);
    return (uint64_t)(number + 1) << 48 | mvpn_siphash(&m.token_key, in, sizeof(in)) >> 16;
}

static void test_pongs(void **state)
{
    (void)state;
    pong(token(0));
    assert_int_equal(m.answered, 1);
    assert_int_equal(m.last_pong, now);
    mvpn_time last = m.last_pong;
    pong(token(0));                     /* twice */
    pong(token(1) ^ 1);                 /* guessed */
    pong(token(1) ^ (uint64_t)3 << 48); /* of another number */
    pong(token(8));                     /* not sent yet */
    pong(0);
    pong(UINT64_MAX);
    assert_int_equal(m.answered, 1);
    assert_int_equal(m.last_pong, last);
    for (uint32_t i = 7; i > 0; i--) { /* in any order */
        pong(token(i));
    }
    assert_int_equal(m.answered, 8);
    assert_int_equal(m.state, MVPN_MEASURE_TRAIN);
}

/* Answers held back, or all at once, bring no more than what was sent in the time. */
static void test_no_gain(void **state)
{
    (void)state;
    m.sent = m.cells = 64;
    m.pings = 8;
    m.kbit = 2000;
    m.rtt_us = 1000000; /* a round trip that it made look long */
    m.last_sent = m.train_began + MVPN_MS(372);
    now = m.last_sent;
    for (uint32_t i = 0; i < 8; i++) {
        pong(token(i));
    }
    mvpn_measure_tick(&m, now);
    assert_in_range(m.result_kbit, 1900, 2100); /* 64 cells in 372 ms */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pongs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_gain, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
