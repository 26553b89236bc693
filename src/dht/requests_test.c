#include "dht/requests.h"
#include "dht/testing.h"

static void bounded_and_found(void **state)
{
    (void)state;
    mvpn_rng rng;
    mvpn_timers timers;
    mvpn_dht_requests r;
    mvpn_dht_pending *p[MVPN_DHT_REQUESTS_MAX];
    mvpn_rng_init_test(&rng, 1);
    assert_int_equal(mvpn_timers_init(&timers, 1), 0);
    assert_int_equal(mvpn_dht_requests_init(&r, &timers, 3, &rng), 0);
    for (size_t i = 0; i < MVPN_DHT_REQUESTS_MAX; i++) {
        p[i] = mvpn_dht_requests_add(&r, 100 + i, 0);
        assert_non_null(p[i]);
    }
    assert_null(mvpn_dht_requests_add(&r, 1, 0));
    for (size_t i = 0; i < MVPN_DHT_REQUESTS_MAX; i++) {
        assert_ptr_equal(mvpn_dht_requests_find(&r, p[i]->transaction), p[i]);
        assert_ptr_equal(mvpn_dht_requests_pull(&r), p[i]); /* first in, first out */
    }
    assert_null(mvpn_dht_requests_pull(&r));
    assert_int_equal(mvpn_timers_deadline(&timers), 100);
    /* Those that linger give way, the oldest first. */
    uint64_t first = p[7]->transaction, second = p[3]->transaction;
    mvpn_dht_requests_linger(&r, p[7], 200);
    mvpn_dht_requests_linger(&r, p[3], 200);
    assert_ptr_equal(mvpn_dht_requests_find(&r, first), p[7]); /* still welcome */
    assert_non_null(mvpn_dht_requests_add(&r, 1, 0));
    assert_null(mvpn_dht_requests_find(&r, first));
    assert_non_null(mvpn_dht_requests_find(&r, second));
    for (size_t i = 0; i < MVPN_DHT_REQUESTS_MAX; i++) {
        mvpn_dht_requests_remove(&r, p[i]); /* p[7] is in use again */
    }
    assert_int_equal(r.count, 0);
    assert_int_equal(mvpn_timers_deadline(&timers), MVPN_TIME_NEVER);
    mvpn_dht_requests_trim(&r);
    assert_int_equal(r.slab_count, 0);
    assert_non_null(mvpn_dht_requests_add(&r, 1, 0));
    mvpn_dht_requests_done(&r);
    mvpn_timers_done(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bounded_and_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
