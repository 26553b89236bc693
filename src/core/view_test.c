/* The view's records: which it takes and in what order, the sample that it keeps, and what expires,
 * is withdrawn or revoked. */
#include "core/view_fixture.h"

#include <time.h>

static void test_takes_records(void **state)
{
    (void)state;
    mvpn_descriptor a = test_relay(&net, 1, 5), b = test_relay(&net, 2, 5);
    mvpn_descriptor older = test_relay(&net, 1, 4), newer = test_relay(&net, 1, 6);
    assert_int_equal(put(&a, source(1)), 0);
    assert_int_equal(put(&b, source(1)), 0);
    assert_int_equal(mvpn_view_count(view), 2);
    assert_int_equal(put(&a, source(1)), MVPN_E_EXPIRED);
    assert_int_equal(put(&older, source(1)), MVPN_E_EXPIRED);
    assert_int_equal(mvpn_view_find(view, &a.identity)->sequence, 5);
    assert_int_equal(put(&newer, source(1)), 0);
    assert_int_equal(mvpn_view_find(view, &a.identity)->sequence, 6);
    assert_int_equal(mvpn_view_count(view), 2);
    assert_null(mvpn_view_find(view, &net.trust.network_pub));
}

static void test_refuses(void **state)
{
    (void)state;
    mvpn_descriptor d = test_relay(&net, 1, 5), alien, late = test_relay_draft(&net, 2, 1);
    mvpn_descriptor bare = test_relay_draft(&net, 3, 1);
    test_network other;
    test_network_make(&other, 2);
    alien = test_relay(&other, 1, 9);
    assert_int_equal(put(&alien, source(1)), MVPN_E_AUTH);
    late.published = TEST_NOW - 90000;
    late.expires = TEST_NOW - 4000;
    test_relay_sign(&net, 2, &late);
    assert_int_equal(put(&late, source(1)), MVPN_E_EXPIRED);
    bare.has_membership = false;
    test_relay_sign(&net, 3, &bare);
    assert_int_equal(put(&bare, source(1)), MVPN_E_POLICY);
    for (unsigned i = 0; i < d.encoded_len * 8u; i += 13) {
        d.encoded[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_not_equal(put(&d, source(1)), 0);
        d.encoded[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    assert_int_equal(mvpn_view_put(view, 9, test_record(&d), source(1), TEST_NOW), MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_view_count(view), 0);
    assert_int_equal(put(&d, source(1)), 0);
}

static void test_order_and_lists(void **state)
{
    (void)state;
    mvpn_descriptor d[60];
    mvpn_dht_listed listed[64];
    mvpn_dht_id cursor = {{0}};
    bool more;
    for (unsigned i = 0; i < 60; i++) {
        d[i] = test_relay(&net, i, 1);
        assert_int_equal(put(&d[i], source(1)), 0);
    }
    mvpn_revocations list = test_revocations(&net, 3, 1);
    assert_int_equal(mvpn_view_put(view, MVPN_RECORD_REVOCATIONS,
                                   mvpn_bytes_of(list.encoded, list.encoded_len), 0, TEST_NOW),
                     0);
    assert_int_equal(mvpn_view_record_count(view), 61);
    assert_int_equal(mvpn_view_list(view, &cursor, 0, listed, 64, &more), 61);
    assert_false(more);
    for (unsigned i = 1; i < 61; i++) {
        assert_true(memcmp(listed[i - 1].key.b, listed[i].key.b, 20) < 0);
    }
    /* In pieces, from a cursor on. */
    size_t seen = 0;
    for (unsigned turn = 0; turn < 20; turn++) {
        mvpn_dht_listed part[7];
        size_t n = mvpn_view_list(view, &cursor, 0, part, 7, &more);
        assert_memory_equal(part, listed + seen, n * sizeof(part[0]));
        seen += n;
        if (!more) {
            break;
        }
        cursor = part[n - 1].key;
        assert_int_not_equal(++cursor.b[19], 0);
    }
    assert_int_equal(seen, 61);
    /* By prefix: the four quarters are the whole. */
    size_t sum = 0;
    for (unsigned quarter = 0; quarter < 4; quarter++) {
        mvpn_dht_id from = {{(uint8_t)(quarter << 6)}};
        mvpn_dht_listed part[64];
        size_t n = mvpn_view_list(view, &from, 2, part, 64, &more);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(part[i].key.b[0] >> 6, quarter);
        }
        sum += n;
    }
    assert_int_equal(sum, 61);
    /* By key. */
    uint8_t type;
    mvpn_bytes record;
    for (unsigned i = 0; i < 60; i++) {
        mvpn_dht_id key = key_of(&d[i]);
        assert_true(mvpn_view_record(view, &key, &type, &record));
        assert_int_equal(type, MVPN_RECORD_DESCRIPTOR);
        assert_int_equal(record.n, d[i].encoded_len);
        assert_memory_equal(record.p, d[i].encoded, record.n);
    }
    mvpn_dht_id key;
    mvpn_revocations_key(&key, &net.trust.network_id);
    assert_true(mvpn_view_record(view, &key, &type, &record));
    assert_int_equal(type, MVPN_RECORD_REVOCATIONS);
    key.b[0] ^= 1;
    assert_false(mvpn_view_record(view, &key, &type, &record));
}

static void test_sample(void **state)
{
    (void)state;
    enum { ALL = 120, MAX = 30 };
    unsigned kept[ALL] = {0}, of_file = 0;
    mvpn_descriptor d[ALL];
    mvpn_view *whole = view;
    for (unsigned i = 0; i < ALL; i++) {
        d[i] = test_relay(&net, i, 1);
    }
    for (uint8_t key = 1; key <= 12; key++) {
        bool first[ALL];
        for (unsigned order = 0; order < 2; order++) {
            view = view_make(MAX, key);
            assert_int_equal(mvpn_view_add(view, &d[7]), 0);
            for (unsigned i = 0; i < ALL; i++) {
                const mvpn_descriptor *one = &d[order == 0 ? i : ALL - 1 - i];
                mvpn_dht_id id = key_of(one);
                bool wanted = mvpn_view_listed(view, &id, 1, source(1), TEST_NOW);
                int r = put(one, source(1));
                assert_true(r == 0 || r == MVPN_E_LIMIT || one == &d[7]);
                assert_true(one == &d[7] || wanted == (r == 0));
            }
            assert_int_equal(mvpn_view_count(view), MAX);
            for (unsigned i = 0; i < ALL; i++) {
                bool held = mvpn_view_find(view, &d[i].identity) != NULL;
                assert_true(order == 0 || held == first[i]); /* whatever came first */
                first[i] = held;
                kept[i] += order == 0 && held;
            }
            mvpn_view_free(view);
        }
    }
    of_file = kept[7];
    assert_int_equal(of_file, 12);
    /* 12 draws of a quarter each: nobody is always in or out but the network file's. */
    for (unsigned i = 0; i < ALL; i++) {
        assert_in_range(kept[i], 0, i == 7 ? 12 : 10);
    }
    view = whole;
}

/* What the network file lists has a place in a full view, whatever its hash. */
static void test_sample_keeps_the_network_file(void **state)
{
    (void)state;
    mvpn_view *whole = view;
    view = view_make(4, 3);
    for (unsigned i = 0; i < 20; i++) {
        mvpn_descriptor d = test_relay(&net, i, 1);
        int r = put(&d, source(1));
        assert_true(r == 0 || r == MVPN_E_LIMIT);
    }
    for (unsigned i = 100; i < 104; i++) {
        mvpn_descriptor d = test_relay(&net, i, 1);
        assert_int_equal(mvpn_view_add(view, &d), 0);
    }
    for (unsigned i = 100; i < 104; i++) {
        mvpn_descriptor d = test_relay(&net, i, 1);
        assert_non_null(mvpn_view_find(view, &d.identity));
    }
    mvpn_view_free(view);
    view = whole;
}

static void test_five_thousand(void **state)
{
    (void)state;
    mvpn_descriptor d = test_relay(&net, 0, 1);
    clock_t began = clock();
    for (unsigned i = 0; i < MVPN_VIEW_MAX; i++) {
        memcpy(d.identity.b, &i, sizeof(i));
        assert_int_equal(mvpn_view_add(view, &d), 0);
    }
    for (unsigned i = 0; i < MVPN_VIEW_MAX; i++) {
        memcpy(d.identity.b, &i, sizeof(i));
        assert_non_null(mvpn_view_find(view, &d.identity));
    }
    double took = (double)(clock() - began) / CLOCKS_PER_SEC;
    assert_true(took < 1.0); /* 0.03 s without a sanitizer */
    assert_int_equal(mvpn_view_count(view), MVPN_VIEW_MAX);
    d.identity.b[0] ^= 1;
    d.identity.b[31] ^= 1;
    assert_int_equal(mvpn_view_add(view, &d), MVPN_E_LIMIT); /* all are the network file's */
}

/* In an open network anybody signs relays; one that no source has shown is marked. */
static void test_unshown(void **state)
{
    (void)state;
    for (unsigned closed = 0; closed < 2; closed++) {
        test_network open;
        mvpn_view *v;
        mvpn_view_info info;
        test_network_make(&open, 1);
        open.trust.closed = closed;
        const mvpn_view_config config = {.trust = &open.trust, .sample_key = {1}};
        assert_int_equal(mvpn_view_new(&config, &v), 0);
        mvpn_descriptor d = test_relay(&open, 1, 1), own = test_relay(&open, 2, 1);
        const mvpn_addr addr = {.family = 4, .port = 1, .ip = {9, 9, 9, 9}};
        assert_int_equal(mvpn_view_put(v, MVPN_RECORD_DESCRIPTOR, test_record(&d), 0, TEST_NOW), 0);
        assert_int_equal(mvpn_view_add(v, &own), 0);
        assert_true(mvpn_view_find_info(v, &d.identity, &info));
        assert_int_equal(info.is_unshown, !closed);
        assert_true(mvpn_view_find_info(v, &own.identity, &info));
        assert_false(info.is_unshown);
        assert_int_equal(mvpn_view_put(v, MVPN_RECORD_DESCRIPTOR, test_record(&d),
                                       mvpn_view_source_of(v, NULL, &addr), TEST_NOW),
                         MVPN_E_EXPIRED);
        assert_true(mvpn_view_find_info(v, &d.identity, &info));
        assert_false(info.is_unshown);
        mvpn_view_free(v);
    }
}

static void test_expiry_and_withdrawal(void **state)
{
    (void)state;
    mvpn_descriptor d = test_relay(&net, 1, 5), gone = test_relay_draft(&net, 1, 6);
    mvpn_descriptor other = test_relay(&net, 2, 1);
    assert_int_equal(put(&d, source(1)), 0);
    assert_int_equal(put(&d, source(2)), MVPN_E_EXPIRED);
    assert_int_equal(put(&other, source(1)), 0);
    gone.roles = 0;
    gone.expires = TEST_NOW + 600;
    test_relay_sign(&net, 1, &gone);
    assert_int_equal(put(&gone, source(1)), 0);
    assert_int_equal(mvpn_view_find(view, &d.identity)->roles, 0);
    /* The descriptor before does not bring it back. */
    assert_int_equal(put(&d, source(3)), MVPN_E_EXPIRED);
    assert_int_equal(mvpn_view_find(view, &d.identity)->roles, 0);
    mvpn_view_expire(view, TEST_NOW + 600 + MVPN_VALIDITY_TOLERANCE_S);
    assert_int_equal(mvpn_view_count(view), 2);
    mvpn_view_expire(view, TEST_NOW + 601 + MVPN_VALIDITY_TOLERANCE_S);
    assert_int_equal(mvpn_view_count(view), 1);
    assert_null(mvpn_view_find(view, &d.identity));
    assert_non_null(mvpn_view_find(view, &other.identity));
    mvpn_view_expire(view, TEST_NOW + 90000);
    assert_int_equal(mvpn_view_count(view), 0);
    assert_int_equal(mvpn_view_record_count(view), 0);
}

static void test_revocation(void **state)
{
    (void)state;
    mvpn_descriptor a = test_relay(&net, 1, 5), b = test_relay(&net, 2, 5);
    mvpn_descriptor again = test_relay(&net, 1, 6);
    test_network other;
    test_network_make(&other, 2);
    mvpn_revocations forged = test_revocations(&other, 9, test_serial(2));
    mvpn_revocations list = test_revocations(&net, 3, test_serial(1));
    mvpn_revocations before = test_revocations(&net, 2, test_serial(2));
#define PUT_LIST(l)                                                                                \
    mvpn_view_put(view, MVPN_RECORD_REVOCATIONS, mvpn_bytes_of((l).encoded, (l).encoded_len),      \
                  source(1), TEST_NOW)
    assert_int_equal(put(&a, source(1)), 0);
    assert_int_equal(put(&b, source(1)), 0);
    assert_int_equal(mvpn_view_revocations(view)->sequence, 0);
    assert_int_equal(PUT_LIST(forged), MVPN_E_AUTH);
    assert_int_equal(mvpn_view_count(view), 2);
    assert_int_equal(PUT_LIST(list), 0);
    assert_int_equal(mvpn_view_revocations(view)->sequence, 3);
    assert_null(mvpn_view_find(view, &a.identity));
    assert_non_null(mvpn_view_find(view, &b.identity));
    /* The owner's copy is older still: it does not come back by that. */
    assert_int_equal(put(&again, source(1)), MVPN_E_POLICY);
    assert_int_equal(mvpn_view_add(view, &again), MVPN_E_POLICY);
    assert_int_equal(PUT_LIST(list), MVPN_E_EXPIRED);
    assert_int_equal(PUT_LIST(before), MVPN_E_EXPIRED);
    assert_int_equal(mvpn_view_count(view), 1);
#undef PUT_LIST
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, view_setup, view_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_takes_records),
        TEST(test_refuses),
        TEST(test_order_and_lists),
        TEST(test_sample),
        TEST(test_sample_keeps_the_network_file),
        TEST(test_five_thousand),
        TEST(test_expiry_and_withdrawal),
        TEST(test_revocation),
        TEST(test_unshown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
