#include "dht/publish.h"
#include "dht/testing.h"

static void records_come_due(void **state)
{
    (void)state;
    mvpn_rng rng;
    mvpn_dht_publish_list p = {0};
    mvpn_rng_init_test(&rng, 1);
    for (uint64_t i = 0; i < 5; i++) {
        mvpn_dht_id key = test_id(i);
        assert_int_equal(mvpn_dht_publish_set(&p, 1, &key, MVPN_BYTES_LITERAL("old"), 10),
                         i < MVPN_DHT_PUBLISH_MAX ? 0 : MVPN_E_LIMIT);
    }
    mvpn_dht_id key = test_id(2);
    assert_int_equal(mvpn_dht_publish_set(&p, 1, &key, MVPN_BYTES_LITERAL("newer"), 20), 0);
    mvpn_dht_own *own = mvpn_dht_publish_find(&p, &key);
    assert_int_equal(own->len, 5);
    assert_int_equal(mvpn_dht_publish_set(&p, 1, &key, MVPN_BYTES_NONE, 20), MVPN_E_INVAL);
    unsigned due = 0;
    while ((own = mvpn_dht_publish_next(&p, 20)) != NULL) {
        own->is_busy = true;
        due++;
    }
    assert_int_equal(due, 4);
    own = mvpn_dht_publish_find(&p, &key);
    mvpn_dht_publish_stored(own, MVPN_DHT_K, 99, &rng, MVPN_S(1));
    assert_in_range(own->due, MVPN_S(1) + MVPN_S(17 * 60), MVPN_S(1) + MVPN_S(23 * 60));
    assert_int_equal(own->radius, 99);
    /* Few keep it: soon again, less and less often. */
    mvpn_time last = 0;
    for (int i = 0; i < 6; i++) {
        mvpn_dht_publish_stored(own, MVPN_DHT_PUBLISH_FEW - 1, 99, &rng, 0);
        assert_true(own->due > last && own->due < MVPN_S(600));
        last = own->due;
    }
    assert_null(mvpn_dht_publish_next(&p, last - 1));
    assert_ptr_equal(mvpn_dht_publish_next(&p, last), own);
    mvpn_dht_publish_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(records_come_due)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
