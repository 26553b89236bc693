#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"
#include "dht/token.h"

static mvpn_addr addr_of(uint8_t family, uint8_t n, uint16_t port)
{
    return (mvpn_addr){family, port, {11, n, n, n}};
}

static void test_token(void **state)
{
    (void)state;
    const mvpn_key secret = {{1}}, other = {{2}};
    const mvpn_time made = 10 * MVPN_DHT_TOKEN_PERIOD + 5;
    mvpn_addr a = addr_of(4, 1, 443);
    uint8_t token[MVPN_DHT_TOKEN_LEN];
    mvpn_dht_token_make(token, &secret, &a, made);
    static const struct {
        uint8_t family, n;
        uint16_t port;
        mvpn_time at;
        bool is_valid;
    } rows[] = {
        {4, 1, 443, 10 * MVPN_DHT_TOKEN_PERIOD, true},
        {4, 1, 443, 12 * MVPN_DHT_TOKEN_PERIOD - 1, true},
        {4, 1, 443, 12 * MVPN_DHT_TOKEN_PERIOD, false}, /* too old */
        {4, 1, 443, 10 * MVPN_DHT_TOKEN_PERIOD - 1, false},
        {4, 1, 443, 0, false},
        {4, 1, 444, made, false}, /* another port, address, family */
        {4, 2, 443, made, false},
        {6, 1, 443, made, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr b = addr_of(rows[i].family, rows[i].n, rows[i].port);
        assert_int_equal(mvpn_dht_token_is_valid(token, &secret, &b, rows[i].at), rows[i].is_valid);
    }
    assert_false(mvpn_dht_token_is_valid(token, &other, &a, made));
    for (size_t bit = 0; bit < sizeof(token) * 8; bit++) {
        token[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(mvpn_dht_token_is_valid(token, &secret, &a, made));
        token[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_cache(void **state)
{
    (void)state;
    mvpn_rng rng;
    mvpn_dht_token_cache *c;
    uint8_t token[MVPN_DHT_TOKEN_LEN] = {0}, out[MVPN_DHT_TOKEN_LEN];
    mvpn_rng_init_test(&rng, 1);
    assert_int_equal(mvpn_dht_token_cache_new(64, &rng, &c), 0);
    mvpn_addr a = addr_of(4, 1, 1), b = addr_of(6, 1, 1), d = addr_of(4, 1, 2);
    assert_false(mvpn_dht_token_cache_get(c, &a, 0, out));
    token[0] = 1;
    mvpn_dht_token_cache_put(c, &a, token, MVPN_S(1));
    token[0] = 2;
    mvpn_dht_token_cache_put(c, &b, token, MVPN_S(1));
    assert_true(mvpn_dht_token_cache_get(c, &a, MVPN_S(1), out));
    assert_int_equal(out[0], 1);
    assert_true(mvpn_dht_token_cache_get(c, &b, MVPN_S(1), out));
    assert_int_equal(out[0], 2);
    assert_false(mvpn_dht_token_cache_get(c, &d, MVPN_S(1), out));
    token[0] = 3; /* replaced, not doubled */
    mvpn_dht_token_cache_put(c, &a, token, MVPN_S(2));
    assert_true(mvpn_dht_token_cache_get(c, &a, MVPN_S(2), out));
    assert_int_equal(out[0], 3);
    assert_true(mvpn_dht_token_cache_get(c, &a, MVPN_S(2) + MVPN_DHT_TOKEN_SURE - 1, out));
    assert_false(mvpn_dht_token_cache_get(c, &a, MVPN_S(2) + MVPN_DHT_TOKEN_SURE, out));
    mvpn_dht_token_cache_drop(c, &a);
    assert_false(mvpn_dht_token_cache_get(c, &a, MVPN_S(2), out));
    mvpn_dht_token_cache_drop(c, &a);
    mvpn_dht_token_cache_free(c);
}

/* With four places in all the oldest gives way. */
static void test_cache_full(void **state)
{
    (void)state;
    mvpn_rng rng;
    mvpn_dht_token_cache *c;
    uint8_t token[MVPN_DHT_TOKEN_LEN] = {0};
    mvpn_rng_init_test(&rng, 1);
    assert_int_equal(mvpn_dht_token_cache_new(4, &rng, &c), 0);
    for (uint8_t i = 0; i < 10; i++) {
        mvpn_addr a = addr_of(4, i, 1);
        mvpn_dht_token_cache_put(c, &a, token, MVPN_S(i));
        for (uint8_t j = 0; j <= i; j++) {
            mvpn_addr b = addr_of(4, j, 1);
            assert_int_equal(mvpn_dht_token_cache_get(c, &b, MVPN_S(i), token), j + 4 > i);
        }
    }
    mvpn_dht_token_cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
