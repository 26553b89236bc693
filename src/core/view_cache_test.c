/* The view on the disk: what is saved comes back, and from a file that is damaged or forged nothing
 * else. */
#include "core/view_fixture.h"

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
#define TEST(f) cmocka_unit_test_setup_teardown(f, view_setup, view_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_cache_round_trip),   TEST(test_cache_keeps_the_older_snapshot),
        TEST(test_cache_is_verified),  TEST(test_cache_forged),
        TEST(test_cache_cut_anywhere), TEST(test_cache_damaged_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
