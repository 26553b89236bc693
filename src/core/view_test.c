/* The view: what it takes, from how many sources, what it forgets, and what the disk does to it. */
#include "core/testing.h"

#include <time.h>

#include "core/path.h"
#include "core/testrecords.h"
#include "core/view.h"

static test_network net;
static mvpn_view *view;
static uint64_t now;

static mvpn_view *view_make(size_t max, uint8_t key)
{
    mvpn_view *v;
    const mvpn_view_config config = {.trust = &net.trust, .max = max, .sample_key = {key}};
    assert_int_equal(mvpn_view_new(&config, &v), 0);
    return v;
}

static int setup(void **state)
{
    (void)state;
    test_network_make(&net, 1);
    view = view_make(0, 9);
    now = TEST_NOW;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_view_free(view);
    view = NULL;
    return 0;
}

/* A directory in a /16 of its own. */
static mvpn_view_source source(unsigned i)
{
    mvpn_addr a = {.family = 4, .port = 443, .ip = {(uint8_t)(120 + i / 256), (uint8_t)i, 1, 1}};
    return mvpn_view_source_of(view, NULL, &a);
}

static int put(const mvpn_descriptor *d, mvpn_view_source from)
{
    return mvpn_view_put(view, MVPN_RECORD_DESCRIPTOR, test_record(d), from, now);
}

static mvpn_view_info info_of(const mvpn_descriptor *d)
{
    mvpn_view_info info = {0};
    assert_true(mvpn_view_find_info(view, &d->identity, &info));
    return info;
}

static mvpn_dht_id key_of(const mvpn_descriptor *d)
{
    mvpn_dht_id key;
    mvpn_record_key(key.b, &net.trust.network_id, &d->identity);
    return key;
}

/* ---- records ---- */

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

/* ---- sources ---- */

static void test_two_sources_confirm(void **state)
{
    (void)state;
    mvpn_descriptor d = test_relay(&net, 1, 5), same = test_relay_draft(&net, 1, 5);
    mvpn_dht_id key = key_of(&d);
    assert_int_equal(put(&d, source(1)), 0);
    assert_int_equal(put(&d, source(1)), MVPN_E_EXPIRED);
    assert_false(info_of(&d).is_confirmed);
    assert_int_equal(put(&d, 0), MVPN_E_EXPIRED);
    assert_false(info_of(&d).is_confirmed);
    /* Another record of the same sequence is not what we hold, and shows nothing. */
    same.onion_keys[0].id = 9;
    test_relay_sign(&net, 1, &same);
    assert_int_equal(put(&same, source(2)), MVPN_E_EXPIRED);
    assert_false(info_of(&d).is_confirmed);
    /* Nor does a list of another sequence. */
    assert_false(mvpn_view_listed(view, &key, 4, source(2), TEST_NOW));
    assert_true(mvpn_view_listed(view, &key, 6, source(2), TEST_NOW));
    assert_false(info_of(&d).is_confirmed);
    assert_false(mvpn_view_listed(view, &key, 5, source(2), TEST_NOW + 9));
    assert_true(info_of(&d).is_confirmed);
    assert_int_equal(info_of(&d).first_seen, TEST_NOW);
    assert_int_equal(info_of(&d).last_shown, TEST_NOW + 9);

    mvpn_descriptor other = test_relay(&net, 2, 1), local = test_relay(&net, 3, 1);
    assert_int_equal(put(&other, source(1)), 0);
    assert_int_equal(put(&other, source(2)), MVPN_E_EXPIRED);
    assert_true(info_of(&other).is_confirmed);
    assert_int_equal(mvpn_view_add(view, &local), 0);
    assert_true(info_of(&local).is_confirmed);
    /* The network file lists it: with whichever of its descriptors. */
    mvpn_descriptor third = test_relay(&net, 4, 7), listed = test_relay(&net, 4, 2);
    assert_int_equal(put(&third, source(1)), 0);
    assert_int_equal(mvpn_view_add(view, &listed), MVPN_E_EXPIRED);
    assert_true(info_of(&third).is_confirmed);
    assert_int_equal(mvpn_view_find(view, &third.identity)->sequence, 7);
}

/* Do these two directories, by descriptor or address, confirm a relay? */
static bool confirm(mvpn_view_source a, mvpn_view_source b)
{
    static unsigned number = 100;
    mvpn_descriptor d = test_relay(&net, number++, 1);
    assert_int_equal(put(&d, a), 0);
    assert_int_equal(put(&d, b), MVPN_E_EXPIRED);
    return info_of(&d).is_confirmed;
}

static void test_one_operator_is_one_source(void **state)
{
    (void)state;
    mvpn_descriptor a = test_relay_draft(&net, 1, 1), b = test_relay_draft(&net, 2, 1);
#define SOURCE(d) mvpn_view_source_of(view, &(d), NULL)
    assert_true(confirm(SOURCE(a), SOURCE(b)));
    assert_false(confirm(SOURCE(a), SOURCE(a)));
    /* One block, whatever they say else. */
    b.addresses[0].addr.ip[1] = a.addresses[0].addr.ip[1];
    strcpy(a.provider, "one");
    strcpy(b.provider, "two");
    assert_false(confirm(SOURCE(a), SOURCE(b)));
    b = test_relay_draft(&net, 2, 1);
    strcpy(b.provider, "one");
    assert_false(confirm(SOURCE(a), SOURCE(b)));
    b.provider[0] = a.provider[0] = '\0';
    /* A family: each names the other. */
    a.family_count = b.family_count = 1;
    a.family[0] = b.identity;
    b.family[0] = a.identity;
    assert_false(confirm(SOURCE(a), SOURCE(b)));
    /* By its address first, by its descriptor later: one directory. */
    mvpn_descriptor c = test_relay_draft(&net, 3, 1);
    assert_false(confirm(mvpn_view_source_of(view, NULL, &c.addresses[0].addr), SOURCE(c)));
    /* The address where it answers counts, not the one that it declares. */
    mvpn_addr real = a.addresses[0].addr;
    real.ip[3] = 99;
    a.family_count = 0;
    assert_false(confirm(SOURCE(a), mvpn_view_source_of(view, &c, &real)));
    /* With both families of addresses: one directory over either. */
    c.address_count = 2;
    c.addresses[1] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, {6, 443, {0x2a, 0x10, 1, 2}}};
    mvpn_addr near6 = {6, 1, {0x2a, 0x10, 1, 2, 5}}, far6 = {6, 1, {0x2a, 0x10, 1, 3}};
    assert_false(confirm(SOURCE(c), mvpn_view_source_of(view, NULL, &near6)));
    assert_true(confirm(SOURCE(c), mvpn_view_source_of(view, NULL, &far6)));
#undef SOURCE
    assert_true(mvpn_view_source_of(view, NULL, NULL) == 0);
}

static void test_relaxed_rules(void **state)
{
    (void)state;
    mvpn_view *strict = view;
    const mvpn_view_config config = {
        .trust = &net.trust, .relax = MVPN_RELAX_BLOCK | MVPN_RELAX_PROVIDER | MVPN_RELAX_FAMILY};
    mvpn_descriptor a = test_relay_draft(&net, 1, 1), b = test_relay_draft(&net, 2, 1);
    assert_int_equal(mvpn_view_new(&config, &view), 0);
    b.addresses[0].addr.ip[1] = a.addresses[0].addr.ip[1];
    b.addresses[0].addr.port = 444;
    strcpy(a.provider, "one");
    strcpy(b.provider, "one");
    a.family_count = 1;
    a.family[0] = b.identity;
    assert_true(confirm(mvpn_view_source_of(view, &a, NULL), mvpn_view_source_of(view, &b, NULL)));
    assert_false(confirm(mvpn_view_source_of(view, &a, NULL), mvpn_view_source_of(view, &a, NULL)));
    mvpn_view_free(view);
    view = strict;
}

static void test_whole_view_confirmed(void **state)
{
    (void)state;
    mvpn_descriptor d[3], near[3];
    for (unsigned i = 0; i < 3; i++) {
        near[i] = test_relay_draft(&net, 50 + i, 1);
        memcpy(near[i].addresses[0].addr.ip, (uint8_t[]){90, 1}, 2);
        test_relay_sign(&net, 50 + i, &near[i]);
        assert_int_equal(put(&near[i], source(1)), 0);
        assert_int_equal(put(&near[i], source(2)), MVPN_E_EXPIRED);
    }
    assert_false(mvpn_view_is_confirmed(view)); /* three of one block are no path */
    for (unsigned i = 0; i < 3; i++) {
        d[i] = test_relay(&net, i, 1);
        assert_int_equal(put(&d[i], source(1)), 0);
    }
    assert_false(mvpn_view_is_confirmed(view));
    assert_int_equal(put(&d[0], source(2)), MVPN_E_EXPIRED);
    assert_false(mvpn_view_is_confirmed(view));
    assert_int_equal(put(&d[1], source(2)), MVPN_E_EXPIRED);
    assert_true(mvpn_view_is_confirmed(view)); /* these two and one of the block */
}

/* Of three confirmed relays one is behind a NAT: with its NAT relay known they are a path, but not
 * with that one in another's block. */
static void test_confirmed_with_a_relay_behind_a_nat(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        mvpn_descriptor d = test_relay_draft(&net, i, 1);
        if (i == 2) {
            d.nat_relay_count = 1;
            d.nat_relays[0] =
                (mvpn_descriptor_nat_relay){test_relay(&net, 3, 1).identity, {{1}}, 4};
        }
        test_relay_sign(&net, i, &d);
        assert_int_equal(put(&d, source(1)), 0);
        assert_int_equal(put(&d, source(2)), MVPN_E_EXPIRED);
    }
    assert_false(mvpn_view_is_confirmed(view));
    for (uint64_t sequence = 1; sequence <= 2; sequence++) {
        mvpn_descriptor d = test_relay_draft(&net, 3, sequence);
        d.addresses[0].addr.ip[1] = sequence == 1 ? 200 : 1; /* then with relay 1 */
        test_relay_sign(&net, 3, &d);
        assert_int_equal(put(&d, source(1)), 0);
        assert_int_equal(mvpn_view_is_confirmed(view), sequence == 1);
    }
}

/* ---- the sample ---- */

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

/* ---- expiry, withdrawal, revocation ---- */

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

/* ---- snapshots ---- */

static int put_head(const test_snapshot *s, mvpn_view_source from)
{
    return mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD, test_head_record(s), from, now);
}

static int put_snapshot(const test_snapshot *s)
{
    return mvpn_view_put_snapshot(view, test_snapshot_bytes(s), now);
}

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

/* ---- the cache ---- */

typedef struct saved_view {
    uint8_t *bytes;
    size_t n;
    unsigned count;
    mvpn_descriptor d[6];
    test_snapshot *s;
} saved_view;

/* A small view with everything in it, as it lies on the disk. */
static saved_view save_some(unsigned count)
{
    saved_view saved = {.count = count, .s = calloc(1, sizeof(*saved.s))};
    assert_non_null(saved.s);
    for (unsigned i = 0; i < count; i++) {
        saved.d[i] = test_relay(&net, i, 1);
        assert_int_equal(put(&saved.d[i], source(1)), 0);
        if (i % 2 == 0) {
            assert_int_equal(put(&saved.d[i], source(2)), MVPN_E_EXPIRED);
        }
        test_snapshot_add(&net, saved.s, &saved.d[i])->bandwidth_log2 = 20;
    }
    test_snapshot_sign(&net, saved.s, 200, TEST_HOUR);
    assert_int_equal(put_head(saved.s, source(1)), 0);
    assert_int_equal(put_snapshot(saved.s), 0);
    mvpn_revocations list = test_revocations(&net, 3, test_serial(77));
    assert_int_equal(mvpn_view_put(view, MVPN_RECORD_REVOCATIONS,
                                   mvpn_bytes_of(list.encoded, list.encoded_len), 0, TEST_NOW),
                     0);
    size_t size = mvpn_view_save_size(view);
    saved.bytes = malloc(size);
    assert_non_null(saved.bytes);
    saved.n = mvpn_view_save(view, saved.bytes, size);
    assert_in_range(saved.n, 1, size);
    return saved;
}

static void saved_done(saved_view *saved)
{
    free(saved->bytes);
    free(saved->s->bytes);
    free(saved->s);
}

/* Whatever it holds is what was saved: nothing else can come out of a damaged file. */
static void check_subset(const saved_view *saved)
{
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        bool is_known = false;
        for (unsigned k = 0; k < saved->count; k++) {
            is_known |= d->encoded_len == saved->d[k].encoded_len &&
                        memcmp(d->encoded, saved->d[k].encoded, d->encoded_len) == 0;
        }
        assert_true(is_known);
    }
}

static void test_cache_round_trip(void **state)
{
    (void)state;
    saved_view saved = save_some(6);
    mvpn_view *before = view;
    mvpn_view_source same = source(1), other = source(2);
    size_t lost = 99;
    view = view_make(0, 77); /* another key: the cache's is taken */
    assert_int_equal(
        mvpn_view_load(view, mvpn_bytes_of(saved.bytes, saved.n), TEST_NOW + 100, &lost), 9);
    assert_int_equal(lost, 0);
    assert_int_equal(mvpn_view_count(view), 6);
    assert_true(source(1) == same && source(2) == other);
    for (unsigned i = 0; i < 6; i++) {
        mvpn_view_info info = info_of(&saved.d[i]);
        assert_int_equal(info.is_confirmed, i % 2 == 0);
        assert_int_equal(info.first_seen, TEST_NOW);
        assert_int_equal(info.last_shown, TEST_NOW);
        assert_int_equal(info.cap_log2, 20);
    }
    assert_int_equal(mvpn_view_revocations(view)->sequence, 3);
    assert_int_equal(mvpn_view_snapshot(view, &saved.s->head.digest).n, saved.s->len);
    /* The source before is the same operator now, another one confirms. */
    assert_int_equal(put(&saved.d[1], same), MVPN_E_EXPIRED);
    assert_false(info_of(&saved.d[1]).is_confirmed);
    assert_int_equal(put(&saved.d[1], other), MVPN_E_EXPIRED);
    assert_true(info_of(&saved.d[1]).is_confirmed);
    /* And saved again it is the same file. */
    mvpn_view_free(view);
    view = view_make(0, 77);
    (void)mvpn_view_load(view, mvpn_bytes_of(saved.bytes, saved.n), TEST_NOW, &lost);
    size_t size = mvpn_view_save_size(view);
    uint8_t *again = malloc(size);
    assert_non_null(again);
    assert_int_equal(mvpn_view_save(view, again, size), saved.n);
    assert_memory_equal(again, saved.bytes, saved.n);
    /* What does not fit is left out; what is written is whole. */
    assert_int_equal(mvpn_view_save(view, again, 10), 0);
    size_t half = mvpn_view_save(view, again, saved.n / 2);
    mvpn_view_free(view);
    view = view_make(0, 1);
    assert_in_range(mvpn_view_load(view, mvpn_bytes_of(again, half), TEST_NOW, &lost), 1, 6);
    assert_int_equal(lost, 0);
    free(again);
    mvpn_view_free(before);
    saved_done(&saved);
}

/* The snapshot of the hour before comes back although its head is no longer the latest. */
static void test_cache_keeps_the_older_snapshot(void **state)
{
    (void)state;
    static test_snapshot next;
    saved_view saved = save_some(2);
    size_t size = mvpn_view_save_size(view) + 1000, lost; /* a later head is no more than that */
    next = (test_snapshot){0};
    test_snapshot_sign(&net, &next, 200, TEST_HOUR + 1);
    now += 3600;
    assert_int_equal(put_head(&next, source(1)), 0);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    size_t n = mvpn_view_save(view, bytes, mvpn_view_save_size(view));
    mvpn_view *before = view;
    view = view_make(0, 1);
    assert_int_equal(mvpn_view_load(view, mvpn_bytes_of(bytes, n), now, &lost), 6);
    assert_int_equal(mvpn_view_snapshot(view, &saved.s->head.digest).n, saved.s->len);
    assert_int_equal(mvpn_view_head_at(view, 0)->hour, TEST_HOUR + 1);
    assert_non_null(mvpn_view_head_wanted(view, now));
    assert_int_equal(info_of(&saved.d[0]).cap_log2, 20);
    mvpn_view_free(before);
    free(bytes);
    free(next.bytes);
    saved_done(&saved);
}

static void test_cache_is_verified(void **state)
{
    (void)state;
    saved_view saved = save_some(6);
    size_t lost;
    mvpn_view *before = view;
    /* Of another network: nothing. */
    test_network_make(&net, 2);
    view = view_make(0, 1);
    assert_int_equal(mvpn_view_load(view, mvpn_bytes_of(saved.bytes, saved.n), TEST_NOW, &lost), 0);
    assert_int_equal(lost, saved.n);
    assert_int_equal(mvpn_view_record_count(view), 0);
    mvpn_view_free(view);
    /* Days later: what has expired is not taken. */
    test_network_make(&net, 1);
    view = view_make(0, 1);
    assert_int_equal(
        mvpn_view_load(view, mvpn_bytes_of(saved.bytes, saved.n), TEST_NOW + 200000, &lost), 1);
    assert_int_equal(mvpn_view_count(view), 0);
    mvpn_view_free(view);
    /* Revoked meanwhile: the owner knows by the network file. */
    net.trust.revocations = test_revocations(&net, 4, test_serial(3));
    view = view_make(0, 1);
    (void)mvpn_view_load(view, mvpn_bytes_of(saved.bytes, saved.n), TEST_NOW, &lost);
    assert_int_equal(mvpn_view_count(view), 5);
    assert_int_equal(mvpn_view_revocations(view)->sequence, 4);
    assert_null(mvpn_view_find(view, &saved.d[3].identity));
    mvpn_view_free(before);
    saved_done(&saved);
}

static void test_cache_forged(void **state)
{
    (void)state;
    mvpn_descriptor d = test_relay(&net, 1, 1);
    size_t lost, size, n;
    /* A file with good checksums and a bad record: written by a view that trusts another network
     * of the same id. */
    mvpn_view *before = view;
    d.encoded[d.encoded_len - 1] ^= 1;
    assert_int_equal(mvpn_view_add(view, &d), 0);
    size = mvpn_view_save_size(view);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    n = mvpn_view_save(view, bytes, size);
    view = view_make(0, 1);
    assert_int_equal(mvpn_view_load(view, mvpn_bytes_of(bytes, n), TEST_NOW, &lost), 0);
    assert_int_equal(lost, 0);
    assert_int_equal(mvpn_view_count(view), 0);
    free(bytes);
    mvpn_view_free(before);
}

static void test_cache_cut_anywhere(void **state)
{
    (void)state;
    saved_view saved = save_some(2);
    mvpn_view *before = view;
    size_t last = 0;
    /* Each cut brings a prefix of what was there. */
    for (size_t n = 0; n <= saved.n; n++) {
        size_t lost;
        uint8_t *exact = malloc(n > 0 ? n : 1);
        assert_non_null(exact);
        memcpy(exact, saved.bytes, n);
        view = view_make(0, 1);
        size_t taken = mvpn_view_load(view, mvpn_bytes_of(exact, n), TEST_NOW, &lost);
        assert_true(taken == last || taken == last + 1);
        assert_true(lost <= n);
        assert_true(n == saved.n ? lost == 0 : true);
        last = taken;
        check_subset(&saved);
        mvpn_view_free(view);
        free(exact);
    }
    assert_int_equal(last, 5);
    view = before;
    saved_done(&saved);
}

static void test_cache_damaged_anywhere(void **state)
{
    (void)state;
    saved_view saved = save_some(2);
    mvpn_view *before = view;
    size_t skipped = 0, lost;
    for (size_t bit = 0; bit < saved.n * 8; bit++) {
        saved.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        /* Every bit is found; here what is not damaged is held already and need not be verified. */
        (void)mvpn_view_load(view, mvpn_bytes_of(saved.bytes, saved.n), TEST_NOW, &lost);
        assert_int_not_equal(lost, 0);
        if (bit % 8 == bit / 8 % 8) { /* into an empty view, one bit of each byte */
            view = view_make(0, 1);
            size_t n = mvpn_view_load(view, mvpn_bytes_of(saved.bytes, saved.n), TEST_NOW, &lost);
            assert_in_range(n, 0, 4);
            assert_int_not_equal(lost, 0);
            skipped += n == 4;
            check_subset(&saved);
            mvpn_view_free(view);
            view = before;
        }
        saved.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(skipped > saved.n / 2); /* mostly one record is lost, and nothing that follows */
    check_subset(&saved);
    view = before;
    saved_done(&saved);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_takes_records),
        TEST(test_refuses),
        TEST(test_order_and_lists),
        TEST(test_two_sources_confirm),
        TEST(test_one_operator_is_one_source),
        TEST(test_relaxed_rules),
        TEST(test_whole_view_confirmed),
        TEST(test_confirmed_with_a_relay_behind_a_nat),
        TEST(test_sample),
        TEST(test_sample_keeps_the_network_file),
        TEST(test_five_thousand),
        TEST(test_expiry_and_withdrawal),
        TEST(test_revocation),
        TEST(test_unshown),
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
        TEST(test_cache_round_trip),
        TEST(test_cache_keeps_the_older_snapshot),
        TEST(test_cache_is_verified),
        TEST(test_cache_forged),
        TEST(test_cache_cut_anywhere),
        TEST(test_cache_damaged_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
