/* Snapshots in a view: whose count, what they say of relays, those that contradict each other or
 * leave relays out, and how many there may be. */
#include "core/view_fixture.h"

/* Discovery node i's snapshot of these relays. */
static void snapshot_of(test_snapshot *s, unsigned i, const mvpn_descriptor *d, size_t count)
{
    *s = (test_snapshot){0};
    for (size_t k = 0; k < count; k++) {
        (void)test_snapshot_add(&net, s, &d[k]);
    }
    test_snapshot_sign(&net, s, i, now / 3600);
}

static void test_snapshot_needs_its_head(void **state)
{
    (void)state;
    static test_snapshot s, other;
    mvpn_descriptor d = test_relay(&net, 1, 1);
    mvpn_key digest;
    snapshot_of(&s, 200, &d, 1);
    snapshot_of(&other, 201, &d, 1);
    assert_int_equal(put_snapshot(&s), MVPN_E_UNKNOWN);
    assert_null(mvpn_view_head_wanted(view, TEST_NOW));
    assert_int_equal(put_head(&s, source(1)), 0);
    assert_int_equal(put_head(&s, source(1)), MVPN_E_EXPIRED);
    assert_int_equal(mvpn_view_head_count(view), 1);
    assert_memory_equal(&mvpn_view_head_wanted(view, TEST_NOW)->digest, &s.head.digest, 32);
    assert_int_equal(put_snapshot(&other), MVPN_E_UNKNOWN);
    for (size_t i = 0; i < s.len; i++) {
        s.bytes[i] ^= 0x10;
        assert_int_not_equal(put_snapshot(&s), 0);
        s.bytes[i] ^= 0x10;
        assert_int_not_equal(mvpn_view_put_snapshot(view, mvpn_bytes_of(s.bytes, i), TEST_NOW), 0);
    }
    digest = s.head.digest;
    assert_int_equal(mvpn_view_snapshot(view, &digest).n, 0);
    assert_int_equal(put_snapshot(&s), 0);
    assert_int_equal(mvpn_view_snapshot(view, &digest).n, s.len);
    assert_memory_equal(mvpn_view_snapshot(view, &digest).p, s.bytes, s.len);
    assert_null(mvpn_view_head_wanted(view, TEST_NOW));
    free(s.bytes);
    free(other.bytes);
}

static void test_heads_of_the_vouched_only(void **state)
{
    (void)state;
    static test_snapshot s;
    mvpn_descriptor d = test_relay(&net, 1, 1);
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret;
    snapshot_of(&s, 200, &d, 1);
    test_key_pair(200, &pub, &secret);
    test_membership(&net, 200, TEST_ROLES & ~MVPN_ROLE_DISCOVERY, s.head.membership);
    assert_int_equal(mvpn_snapshot_head_sign(&s.head, &secret, &net.trust.network_id), 0);
    assert_int_equal(put_head(&s, source(1)), MVPN_E_POLICY);
    s.head.has_membership = false;
    assert_int_equal(mvpn_snapshot_head_sign(&s.head, &secret, &net.trust.network_id), 0);
    assert_int_equal(put_head(&s, source(1)), MVPN_E_POLICY);
    free(s.bytes);
    /* Revoked later: head and snapshot go. */
    snapshot_of(&s, 200, &d, 1);
    assert_int_equal(put_head(&s, source(1)), 0);
    assert_int_equal(put_snapshot(&s), 0);
    mvpn_revocations list = test_revocations(&net, 3, test_serial(200));
    assert_int_equal(mvpn_view_put(view, MVPN_RECORD_REVOCATIONS,
                                   mvpn_bytes_of(list.encoded, list.encoded_len), 0, TEST_NOW),
                     0);
    assert_int_equal(mvpn_view_head_count(view), 0);
    assert_int_equal(mvpn_view_snapshot(view, &s.head.digest).n, 0);
    assert_int_equal(put_head(&s, source(1)), MVPN_E_POLICY);
    free(s.bytes);
    /* An open network has its anchors instead. */
    net.trust.closed = false;
    net.trust.anchor_count = 1;
    test_key_pair(201, &net.trust.anchors[0], &secret);
    for (unsigned i = 201; i <= 202; i++) {
        snapshot_of(&s, i, &d, 1);
        test_key_pair(i, &pub, &secret);
        s.head.has_membership = false;
        assert_int_equal(mvpn_snapshot_head_sign(&s.head, &secret, &net.trust.network_id), 0);
        assert_int_equal(put_head(&s, source(1)), i == 201 ? 0 : MVPN_E_POLICY);
        free(s.bytes);
    }
}

static void test_measurements(void **state)
{
    (void)state;
    enum { RELAYS = 8, NODES = 4 };
    static test_snapshot s[NODES];
    mvpn_descriptor d[RELAYS];
    for (unsigned i = 0; i < RELAYS; i++) {
        d[i] = test_relay(&net, i, 1);
        assert_int_equal(put(&d[i], source(1)), 0);
        assert_int_equal(info_of(&d[i]).cap_log2, MVPN_SNAPSHOT_UNMEASURED);
    }
    for (unsigned n = 0; n < NODES; n++) {
        s[n] = (test_snapshot){0};
        for (unsigned i = 0; i < RELAYS - 1; i++) { /* nobody knows the last */
            mvpn_snapshot_entry *e = test_snapshot_add(&net, &s[n], &d[i]);
            e->bandwidth_log2 = (uint8_t)(n == 3 ? 200 : 10 + i + n); /* the fourth exaggerates */
            e->uptime_h = (uint16_t)(n == 3 ? 60000 : 100 * i + n);
            if (i == 1 && n >= 2) { /* two have measured it */
                e->bandwidth_log2 = MVPN_SNAPSHOT_UNMEASURED;
            }
            if (i == 2 && n == 0) {
                e->flags = 0;
            }
            if (i == 3 && n <= 1) {
                e->flags = 0;
            }
            if (i == 4 && n == 1) {
                e->flags |= MVPN_SNAPSHOT_COUNTRY_WRONG;
            }
        }
        test_snapshot_sign(&net, &s[n], 200 + n, TEST_HOUR);
        assert_int_equal(put_head(&s[n], source(1)), 0);
        assert_int_equal(put_snapshot(&s[n]), 0);
        if (n == 0) {
            assert_true(info_of(&d[2]).is_dead); /* the only one there is says so */
            /* One measurement of each, 10 to 16: the quarter below is 11. */
            assert_int_equal(info_of(&d[5]).cap_log2, 11);
        }
    }
    /* Medians of four are the lower middle: 10 + i + 1; the exaggeration moves nothing. */
    assert_int_equal(info_of(&d[0]).cap_log2, 11);
    assert_int_equal(info_of(&d[5]).cap_log2, 16);
    assert_int_equal(info_of(&d[5]).uptime_h, 501);
    /* 11 11 13 14 15 16 17: a quarter of them is at most 11. */
    assert_int_equal(info_of(&d[1]).cap_log2, 11); /* two measurements only */
    assert_int_equal(info_of(&d[7]).cap_log2, 11); /* none */
    assert_int_equal(info_of(&d[7]).uptime_h, 0);
    assert_false(info_of(&d[2]).is_dead); /* one of four */
    assert_true(info_of(&d[3]).is_dead);
    assert_true(info_of(&d[4]).country_wrong);
    assert_false(info_of(&d[5]).country_wrong);
    /* It lives: it has published since. */
    mvpn_descriptor back = test_relay(&net, 3, 2);
    assert_int_equal(put(&back, source(1)), 0);
    assert_false(info_of(&d[3]).is_dead);
    assert_int_equal(info_of(&d[3]).cap_log2, 14);
    /* Measurements stay for a day. */
    mvpn_view_expire(view, TEST_NOW + 4 * 3600);
    assert_int_equal(info_of(&d[5]).cap_log2, 16);
    for (unsigned n = 0; n < NODES; n++) {
        free(s[n].bytes);
    }
}

static void test_death_is_news_for_hours(void **state)
{
    (void)state;
    static test_snapshot s;
    mvpn_descriptor d = test_relay(&net, 1, 1);
    s = (test_snapshot){0};
    assert_int_equal(put(&d, source(1)), 0);
    test_snapshot_add(&net, &s, &d)->flags = 0;
    test_snapshot_sign(&net, &s, 200, TEST_HOUR);
    assert_int_equal(put_head(&s, source(1)), 0);
    assert_int_equal(put_snapshot(&s), 0);
    assert_true(info_of(&d).is_dead);
    mvpn_view_expire(view, TEST_NOW + 2 * 3600);
    assert_true(info_of(&d).is_dead);
    mvpn_view_expire(view, TEST_NOW + 3 * 3600);
    assert_false(info_of(&d).is_dead);
    free(s.bytes);
}

/* A snapshot is a source too: of the discovery node, once its operator is known. */
static void test_snapshot_is_a_source(void **state)
{
    (void)state;
    static test_snapshot s;
    mvpn_descriptor d[3], node = test_relay(&net, 200, 1);
    for (unsigned i = 0; i < 3; i++) {
        d[i] = test_relay(&net, i, 1);
        assert_int_equal(put(&d[i], source(1)), 0);
    }
    mvpn_descriptor other = test_relay(&net, 2, 2); /* it lists another descriptor of relay 2 */
    s = (test_snapshot){0};
    (void)test_snapshot_add(&net, &s, &d[0]);
    (void)test_snapshot_add(&net, &s, &d[1]);
    (void)test_snapshot_add(&net, &s, &other);
    test_snapshot_sign(&net, &s, 200, TEST_HOUR);
    assert_int_equal(put_head(&s, source(1)), 0);
    assert_int_equal(put_snapshot(&s), 0);
    assert_false(info_of(&d[0]).is_confirmed);
    assert_int_equal(put(&node, source(1)), 0);
    assert_true(info_of(&d[0]).is_confirmed);
    assert_true(info_of(&d[1]).is_confirmed);
    assert_false(info_of(&d[2]).is_confirmed);
    /* What comes later is looked up as well. */
    assert_int_equal(put(&other, source(1)), 0);
    assert_true(info_of(&other).is_confirmed);
    free(s.bytes);
}

/* Two clients, one discovery node, two lists for one hour: whoever hears of both notices, and no
 * word of that node counts any more. */
static void test_equivocation(void **state)
{
    (void)state;
    static test_snapshot mine, theirs, next;
    mvpn_descriptor d[6], node = test_relay(&net, 200, 1);
    mvpn_dht_id key;
    for (unsigned i = 0; i < 6; i++) {
        d[i] = test_relay(&net, i, 1);
        assert_int_equal(put(&d[i], source(1)), 0);
    }
    assert_int_equal(put(&node, source(1)), 0);
    snapshot_of(&mine, 200, d, 4);       /* without 4 and 5 */
    snapshot_of(&theirs, 200, d + 2, 4); /* without 0 and 1 */
    snapshot_of(&next, 200, d, 6);
    free(next.bytes);
    test_snapshot_sign(&net, &next, 200, TEST_HOUR + 1);
    now += 600;
    assert_int_equal(put_head(&mine, source(1)), 0);
    assert_int_equal(put_snapshot(&mine), 0);
    assert_true(info_of(&d[0]).is_confirmed);
    assert_int_equal(mvpn_view_equivocations(view), 0);
    /* Another directory lists the key with the same hour: that is worth asking it for. */
    mvpn_snapshot_head_key(&key, &net.trust.network_id, &mine.head.identity);
    assert_false(mvpn_view_listed(view, &key, TEST_HOUR, source(1), TEST_NOW));
    assert_true(mvpn_view_listed(view, &key, TEST_HOUR, source(2), TEST_NOW));
    assert_int_equal(put_head(&theirs, source(2)), MVPN_E_POLICY);
    assert_int_equal(mvpn_view_equivocations(view), 1);
    assert_int_equal(mvpn_view_head_count(view), 0);
    assert_null(mvpn_view_head_wanted(view, TEST_NOW));
    assert_int_equal(mvpn_view_snapshot(view, &mine.head.digest).n, 0);
    assert_false(info_of(&d[0]).is_confirmed); /* its source is gone */
    assert_int_equal(put_snapshot(&mine), MVPN_E_UNKNOWN);
    now += 3600;
    assert_int_equal(put_head(&next, source(1)), MVPN_E_POLICY);
    /* As a directory it does not count either. */
    assert_int_equal(put(&d[0], mvpn_view_source_of(view, &node, NULL)), MVPN_E_EXPIRED);
    assert_false(info_of(&d[0]).is_confirmed);
    assert_int_equal(put(&d[0], source(2)), MVPN_E_EXPIRED);
    assert_true(info_of(&d[0]).is_confirmed);
    assert_int_equal(mvpn_view_equivocations(view), 1);
    /* It stays so over a restart, even when the heads have long expired. */
    size_t size = mvpn_view_save_size(view), lost;
    uint8_t *saved = malloc(size);
    assert_non_null(saved);
    size_t n = mvpn_view_save(view, saved, size);
    mvpn_view *before = view;
    view = view_make(0, 4);
    (void)mvpn_view_load(view, mvpn_bytes_of(saved, n), TEST_NOW + 500000, &lost);
    assert_int_equal(mvpn_view_equivocations(view), 1);
    assert_int_equal(put_head(&next, source(1)), MVPN_E_POLICY);
    mvpn_view_free(before);
    free(saved);
    free(mine.bytes);
    free(theirs.bytes);
    free(next.bytes);
}

/* A second head that comes an hour late is found out too. */
static void test_equivocation_of_the_hour_before(void **state)
{
    (void)state;
    static test_snapshot mine, theirs, next;
    mvpn_descriptor d[2] = {test_relay(&net, 1, 1), test_relay(&net, 2, 1)};
    snapshot_of(&mine, 200, d, 1);
    snapshot_of(&theirs, 200, d + 1, 1);
    snapshot_of(&next, 200, d, 2);
    free(next.bytes);
    test_snapshot_sign(&net, &next, 200, TEST_HOUR + 1);
    assert_int_equal(put_head(&mine, source(1)), 0);
    now += 3600;
    assert_int_equal(put_head(&next, source(1)), 0);
    assert_int_equal(put_head(&mine, source(2)), MVPN_E_EXPIRED);
    assert_int_equal(mvpn_view_equivocations(view), 0);
    assert_int_equal(put_head(&theirs, source(2)), MVPN_E_POLICY);
    assert_int_equal(mvpn_view_equivocations(view), 1);
    free(mine.bytes);
    free(theirs.bytes);
    free(next.bytes);
}

/* Given a partial list that nobody contradicts by a head, other sources show what is missing. */
static void test_partial_snapshots_are_noticed(void **state)
{
    (void)state;
    enum { RELAYS = 40 };
    static test_snapshot s[3];
    mvpn_descriptor d[RELAYS];
    size_t expected;
    mvpn_view *first = view;
    for (unsigned i = 0; i < RELAYS; i++) {
        d[i] = test_relay(&net, i, 1);
    }
    now = TEST_NOW + 3 * 3600;
    /* The node shows the first client all but 0 to 9, the second all but 30 to 39. */
    snapshot_of(&s[0], 200, d + 10, RELAYS - 10);
    snapshot_of(&s[1], 200, d, RELAYS - 10);
    for (unsigned client = 0; client < 2; client++) {
        view = client == 0 ? first : view_make(0, 5);
        for (unsigned i = 0; i < RELAYS; i++) {
            now = TEST_NOW;
            assert_int_equal(put(&d[i], source(1)), 0);
        }
        now = TEST_NOW + 3 * 3600;
        assert_int_equal(put_head(&s[client], source(1)), 0);
        assert_int_equal(put_snapshot(&s[client]), 0);
        /* One source alone says nothing against it: it might have invented them. */
        const mvpn_ed25519_pub *node = &s[client].head.identity;
        assert_int_equal(mvpn_view_snapshot_misses(view, node, &expected), 0);
        assert_false(mvpn_view_snapshot_is_partial(view, node));
        for (unsigned i = 0; i < RELAYS; i++) {
            assert_int_equal(put(&d[i], source(2)), MVPN_E_EXPIRED);
        }
        assert_int_equal(mvpn_view_snapshot_misses(view, node, &expected), 10);
        assert_int_equal(expected, RELAYS);
        assert_true(mvpn_view_snapshot_is_partial(view, node));
        /* New relays, and ones withdrawn, are no reason. */
        for (unsigned i = 0; i < 20; i++) {
            mvpn_descriptor fresh = test_relay(&net, 300 + i, 1);
            assert_int_equal(put(&fresh, source(1)), 0);
            assert_int_equal(put(&fresh, source(2)), MVPN_E_EXPIRED);
        }
        assert_int_equal(mvpn_view_snapshot_misses(view, node, &expected), 10);
        assert_int_equal(expected, RELAYS);
    }
    mvpn_view_free(view);
    view = first;
    /* An honest node beside it: it misses one in forty. */
    snapshot_of(&s[2], 201, d + 1, RELAYS - 1);
    assert_int_equal(put_head(&s[2], source(1)), 0);
    assert_int_equal(put_snapshot(&s[2]), 0);
    assert_int_equal(mvpn_view_snapshot_misses(view, &s[2].head.identity, &expected), 1);
    assert_false(mvpn_view_snapshot_is_partial(view, &s[2].head.identity));
    for (unsigned i = 0; i < 3; i++) {
        free(s[i].bytes);
    }
}

/* On a first run all relays are new to us: how old they are, an honest node knows. */
static void test_partial_on_a_first_run(void **state)
{
    (void)state;
    static test_snapshot honest, partial;
    mvpn_descriptor d[20];
    size_t expected;
    honest = (test_snapshot){0};
    for (unsigned i = 0; i < 20; i++) {
        d[i] = test_relay(&net, i, 1);
        assert_int_equal(put(&d[i], source(1)), 0);
        assert_int_equal(put(&d[i], source(2)), MVPN_E_EXPIRED);
        test_snapshot_add(&net, &honest, &d[i])->uptime_h = 50;
    }
    test_snapshot_sign(&net, &honest, 201, TEST_HOUR);
    snapshot_of(&partial, 200, d, 15);
    assert_int_equal(put_head(&partial, source(1)), 0);
    assert_int_equal(put_snapshot(&partial), 0);
    assert_int_equal(mvpn_view_snapshot_misses(view, &partial.head.identity, &expected), 0);
    assert_int_equal(put_head(&honest, source(1)), 0);
    assert_int_equal(put_snapshot(&honest), 0);
    assert_true(mvpn_view_snapshot_misses(view, &partial.head.identity, &expected) == 5);
    assert_true(mvpn_view_snapshot_is_partial(view, &partial.head.identity));
    free(honest.bytes);
    free(partial.bytes);
}

static void test_snapshots_are_bounded(void **state)
{
    (void)state;
    static test_snapshot s;
    mvpn_descriptor d = test_relay(&net, 1, 1);
    mvpn_key digest[MVPN_VIEW_HEADS_MAX + 2];
    unsigned held = 0;
    for (unsigned n = 0; n < MVPN_VIEW_HEADS_MAX + 2; n++) {
        snapshot_of(&s, 200 + n, &d, 1);
        digest[n] = s.head.digest;
        int r = put_head(&s, source(1));
        assert_int_equal(r, n < MVPN_VIEW_HEADS_MAX ? 0 : MVPN_E_LIMIT);
        if (n < MVPN_VIEW_HEADS_MAX) {
            assert_int_equal(put_snapshot(&s), n < MVPN_VIEW_SNAPSHOTS_MAX ? 0 : MVPN_E_LIMIT);
        }
        free(s.bytes);
    }
    assert_int_equal(mvpn_view_head_count(view), MVPN_VIEW_HEADS_MAX);
    assert_null(mvpn_view_head_wanted(view, TEST_NOW)); /* enough are held */
    /* A later hour: of a node whose older one we hold, or of one that displaces a stale one. */
    s = (test_snapshot){0};
    (void)test_snapshot_add(&net, &s, &d);
    test_snapshot_sign(&net, &s, 210, TEST_HOUR + 2);
    now += 7200;
    assert_int_equal(put_head(&s, source(1)), 0);
    assert_int_equal(put_snapshot(&s), 0);
    for (unsigned n = 0; n < MVPN_VIEW_HEADS_MAX; n++) {
        held += mvpn_view_snapshot(view, &digest[n]).n > 0;
    }
    assert_int_equal(held, MVPN_VIEW_SNAPSHOTS_MAX - 1);
    assert_int_equal(mvpn_view_snapshot(view, &s.head.digest).n, s.len);
    free(s.bytes);
    mvpn_view_expire(view, TEST_NOW + 7200 + 27 * 3600);
    assert_int_equal(mvpn_view_head_count(view), 0);
    assert_int_equal(mvpn_view_snapshot(view, &s.head.digest).n, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, view_setup, view_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_snapshot_needs_its_head),
        TEST(test_heads_of_the_vouched_only),
        TEST(test_measurements),
        TEST(test_death_is_news_for_hours),
        TEST(test_snapshot_is_a_source),
        TEST(test_equivocation),
        TEST(test_equivocation_of_the_hour_before),
        TEST(test_partial_snapshots_are_noticed),
        TEST(test_partial_on_a_first_run),
        TEST(test_snapshots_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
