#include "dht/kbucket.h"
#include "dht/testing.h"

static void fills_and_empties(void **state)
{
    (void)state;
    mvpn_dht_kbucket b = {0};
    for (uint32_t i = 0; i < MVPN_DHT_K + 5; i++) {
        mvpn_dht_contact c = test_contact(i, test_ip(i));
        assert_int_equal(mvpn_dht_kbucket_add(&b, &c, i) != NULL, i < MVPN_DHT_K);
    }
    for (uint32_t i = 0; i < MVPN_DHT_K; i += 2) {
        mvpn_dht_id id = test_id(i);
        mvpn_dht_kbucket_remove(&b, mvpn_dht_kbucket_find(&b, &id));
        assert_null(mvpn_dht_kbucket_find(&b, &id));
        id = test_id(i + 1);
        assert_int_equal(mvpn_dht_kbucket_find(&b, &id)->heard, i + 1);
    }
    assert_int_equal(b.count, MVPN_DHT_K / 2);
    mvpn_dht_kbucket_done(&b);
}

/* Who waits, in what order they come: proven ones first, the quickest of them, then the latest. */
static void who_waits_is_taken_in_order(void **state)
{
    (void)state;
    mvpn_dht_kbucket b = {0};
    mvpn_dht_contact c, got;
    static const struct {
        uint16_t rtt_ms;
        bool is_proven;
    } rows[] = {{0, false}, {50, true}, {10, true}, {0, false}, {90, true}};
    static const uint32_t order[] = {2, 1, 4, 3, 0};
    for (uint32_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        c = test_contact(i, test_ip(i));
        mvpn_dht_kbucket_wait(&b, &c, rows[i].is_proven, rows[i].rtt_ms, 100 + i);
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(order); i++) {
        c = test_contact(order[i], test_ip(order[i]));
        assert_true(mvpn_dht_kbucket_take_waiting(&b, &got));
        assert_true(mvpn_dht_contact_eq(&c, &got));
    }
    assert_false(mvpn_dht_kbucket_take_waiting(&b, &got));
    mvpn_dht_kbucket_done(&b);
}

/* Nobody can push out those that have proven themselves by naming many. */
static void the_proven_keep_waiting(void **state)
{
    (void)state;
    mvpn_dht_kbucket b = {0};
    mvpn_dht_contact c, got;
    for (uint32_t i = 0; i < MVPN_DHT_WAITING_MAX; i++) {
        c = test_contact(i, test_ip(i));
        mvpn_dht_kbucket_wait(&b, &c, true, 20, i);
    }
    for (uint32_t i = 0; i < 100; i++) {
        c = test_contact(100 + i, test_ip(100 + i));
        mvpn_dht_kbucket_wait(&b, &c, false, 0, 100 + i);
        c.id = test_id(200); /* of a waiting one's block */
        mvpn_store32(c.addr.ip, test_ip(0) + 7);
        mvpn_dht_kbucket_wait(&b, &c, false, 0, 100 + i);
    }
    for (uint32_t i = 0; i < MVPN_DHT_WAITING_MAX; i++) {
        assert_true(mvpn_dht_kbucket_take_waiting(&b, &got));
        assert_true(mvpn_load64(got.id.b) < MVPN_DHT_WAITING_MAX);
    }
    mvpn_dht_kbucket_done(&b);
}

static void one_block_waits_once(void **state)
{
    (void)state;
    mvpn_dht_kbucket b = {0};
    mvpn_dht_contact c;
    for (uint32_t i = 0; i < 5; i++) {
        c = test_contact(i, test_ip(0) + i);
        mvpn_dht_kbucket_wait(&b, &c, false, 0, i);
    }
    assert_int_equal(b.waiting_count, 1);
    mvpn_dht_kbucket_forget_waiting(&b, &c.id);
    assert_int_equal(b.waiting_count, 0);
    mvpn_dht_kbucket_done(&b);
}

static void rtt_is_smoothed(void **state)
{
    (void)state;
    mvpn_dht_peer p = {.failures = 2};
    mvpn_dht_peer_answered(&p, MVPN_MS(40), 5);
    assert_int_equal(p.failures, 0);
    assert_int_equal(p.heard, 5);
    assert_in_range(p.rtt_ms, 40, 41);
    for (int i = 0; i < 50; i++) {
        mvpn_dht_peer_answered(&p, MVPN_MS(80), 6);
    }
    assert_in_range(p.rtt_ms, 77, 82);
    assert_true(p.deviation_ms < 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_and_empties),       cmocka_unit_test(who_waits_is_taken_in_order),
        cmocka_unit_test(the_proven_keep_waiting), cmocka_unit_test(one_block_waits_once),
        cmocka_unit_test(rtt_is_smoothed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
