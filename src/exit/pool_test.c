#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "exit/pool.h"

static mvpn_rng rng;

static mvpn_addr_pool *make(const char *v4, unsigned bits)
{
    mvpn_addr a, b;
    mvpn_addr_pool *pool = NULL;
    assert_int_equal(mvpn_addr_parse(v4, &a), 0);
    assert_int_equal(mvpn_addr_parse("fd00:1:2:3::", &b), 0);
    assert_int_equal(mvpn_addr_pool_new(&a, bits, &b, &pool), 0);
    return pool;
}

static void every_address_once(void **state)
{
    (void)state;
    mvpn_addr_pool *pool = make("10.64.7.0", 24);
    bool seen[256] = {false};
    bool ordered = true;
    uint32_t host, last = 0;
    assert_int_equal(mvpn_addr_pool_size(pool), 256);
    for (int i = 0; i < 253; i++) {
        assert_int_equal(mvpn_addr_pool_take(pool, &rng, &host), 0);
        mvpn_addr v4 = mvpn_addr_pool_v4(pool, host), v6 = mvpn_addr_pool_v6(pool, host);
        assert_int_equal(mvpn_load32(v4.ip) >> 8, 0x0a4007);
        assert_in_range(v4.ip[3], 2, 254);
        assert_false(seen[v4.ip[3]]);
        seen[v4.ip[3]] = true;
        assert_memory_equal(v6.ip, "\xfd\x00\x00\x01\x00\x02\x00\x03", 8);
        uint32_t found = 0;
        assert_true(mvpn_addr_pool_find(pool, 4, v4.ip, &found));
        assert_int_equal(found, host);
        assert_true(mvpn_addr_pool_find(pool, 6, v6.ip, &found));
        assert_int_equal(found, host);
        v6.ip[9] ^= 1; /* right host, wrong tag */
        assert_false(mvpn_addr_pool_find(pool, 6, v6.ip, &found));
        ordered = ordered && host > last;
        last = host;
    }
    assert_false(ordered);
    assert_int_equal(mvpn_addr_pool_take(pool, &rng, &host), MVPN_E_LIMIT);
    assert_false(mvpn_addr_pool_find(pool, 4, (uint8_t[]){10, 64, 7, 1}, &host));
    assert_false(mvpn_addr_pool_find(pool, 4, (uint8_t[]){10, 64, 8, 5}, &host));
    assert_true(mvpn_addr_pool_covers(pool, 4, (uint8_t[]){10, 64, 7, 1}));
    assert_false(mvpn_addr_pool_covers(pool, 4, (uint8_t[]){10, 64, 8, 1}));
    mvpn_addr_pool_free(pool);
}

static void rests_and_waits_for_report(void **state)
{
    (void)state;
    mvpn_addr_pool *pool = make("10.64.0.0", 29); /* five addresses */
    uint32_t host[5], got;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(mvpn_addr_pool_take(pool, &rng, &host[i]), 0);
    }
    mvpn_addr v4 = mvpn_addr_pool_v4(pool, host[2]);
    mvpn_addr_pool_release(pool, host[2], MVPN_S(10));
    assert_false(mvpn_addr_pool_find(pool, 4, v4.ip, &got));
    /* Not reported: never free, no deadline. */
    mvpn_addr_pool_tick(pool, MVPN_S(10000));
    assert_int_equal(mvpn_addr_pool_take(pool, &rng, &got), MVPN_E_LIMIT);
    assert_true(mvpn_addr_pool_deadline(pool) == MVPN_TIME_NEVER);
    assert_true(mvpn_addr_pool_pull_released(pool, &got));
    assert_int_equal(got, host[2]);
    assert_false(mvpn_addr_pool_pull_released(pool, &got));
    assert_true(mvpn_addr_pool_deadline(pool) == MVPN_S(310));
    /* Reported: free at 5 minutes, not a microsecond before. */
    mvpn_addr_pool_tick(pool, MVPN_S(310) - 1);
    assert_int_equal(mvpn_addr_pool_take(pool, &rng, &got), MVPN_E_LIMIT);
    mvpn_addr_pool_tick(pool, MVPN_S(310));
    assert_int_equal(mvpn_addr_pool_take(pool, &rng, &got), 0);
    assert_int_equal(got, host[2]);
    mvpn_addr_pool_free(pool);
}

static void random_use_against_model(void **state)
{
    (void)state;
    mvpn_addr_pool *pool = make("10.65.0.0", 26);
    enum { N = 64 };
    mvpn_time free_at[N] = {0};
    bool taken[N] = {false};
    uint32_t host;
    srandom(5);
    mvpn_time now = MVPN_S(1000);
    for (int i = 0; i < 100000; i++) {
        now += (mvpn_time)(random() % 8000000);
        mvpn_addr_pool_tick(pool, now);
        if (random() % 2) {
            unsigned available = 0;
            for (uint32_t h = 2; h < N - 1; h++) {
                available += !taken[h] && free_at[h] <= now;
            }
            assert_int_equal(mvpn_addr_pool_free_count(pool), available);
            if (mvpn_addr_pool_take(pool, &rng, &host) == 0) {
                assert_true(host >= 2 && host < N - 1 && !taken[host] && free_at[host] <= now);
                taken[host] = true;
            } else {
                assert_int_equal(available, 0);
            }
        } else {
            host = (uint32_t)(random() % N);
            if (taken[host]) {
                taken[host] = false;
                mvpn_addr_pool_release(pool, host, now);
                free_at[host] = now + MVPN_ADDR_POOL_REST;
                assert_true(mvpn_addr_pool_pull_released(pool, &host));
            }
        }
    }
    mvpn_addr_pool_free(pool);
}

static void bad_networks(void **state)
{
    (void)state;
    static const struct {
        const char *v4;
        unsigned bits;
        const char *v6;
    } rows[] = {
        {"10.64.0.0", 15, "fd00::"},  {"10.64.0.0", 30, "fd00::"}, {"10.64.0.1", 24, "fd00::"},
        {"10.64.0.0", 24, "fd00::1"}, {"fd00::", 24, "fd00::"},    {"10.64.0.0", 24, "10.0.0.0"},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr a, b;
        mvpn_addr_pool *pool = NULL;
        assert_int_equal(mvpn_addr_parse(rows[i].v4, &a), 0);
        assert_int_equal(mvpn_addr_parse(rows[i].v6, &b), 0);
        assert_int_equal(mvpn_addr_pool_new(&a, rows[i].bits, &b, &pool), MVPN_E_INVAL);
        assert_null(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_address_once),
        cmocka_unit_test(rests_and_waits_for_report),
        cmocka_unit_test(random_use_against_model),
        cmocka_unit_test(bad_networks),
    };
    mvpn_rng_init_test(&rng, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
