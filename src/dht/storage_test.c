#include "dht/storage.h"
#include "dht/testing.h"

#define UNIX 1000000u

static mvpn_rng rng;
static mvpn_dht_storage s;

static void begin(uint64_t self, size_t count, size_t bytes)
{
    mvpn_dht_id id = test_id(self);
    mvpn_dht_storage_done(&s);
    mvpn_dht_storage_init(&s, &id, count, bytes);
}

static enum mvpn_dht_stored put(uint64_t key, uint64_t sequence, size_t len, mvpn_time now)
{
    static const uint8_t bytes[MVPN_DHT_RECORD_MAX + 1];
    mvpn_record_info info = {test_id(key), sequence, UNIX + 100000};
    mvpn_dht_record *held;
    return mvpn_dht_storage_put(&s, MVPN_RECORD_DESCRIPTOR, &info, mvpn_bytes_of(bytes, len), now,
                                &held);
}

static mvpn_dht_record *get(uint64_t key)
{
    mvpn_dht_id id = test_id(key);
    return mvpn_dht_storage_get(&s, &id, UNIX);
}

static void newer_replaces_older(void **state)
{
    (void)state;
    static const struct {
        uint64_t sequence;
        enum mvpn_dht_stored result;
        uint64_t held;
    } rows[] = {
        {5, MVPN_DHT_STORED, 5}, {5, MVPN_DHT_STORED_OLD, 5}, {4, MVPN_DHT_STORED_OLD, 5},
        {6, MVPN_DHT_STORED, 6}, {5, MVPN_DHT_STORED_OLD, 6},
    };
    begin(0, 0, 0);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(put(1, rows[i].sequence, 100, 10 + i), rows[i].result);
        assert_int_equal(get(1)->sequence, rows[i].held);
    }
    assert_int_equal(get(1)->stored, 13); /* stores of older ones do not prolong it */
    assert_int_equal(s.count, 1);
    assert_int_equal(s.bytes, 100);
    assert_int_equal(put(2, 1, 0, 1), MVPN_DHT_STORED_REFUSED);
    assert_int_equal(put(2, 1, MVPN_DHT_RECORD_MAX + 1, 1), MVPN_DHT_STORED_REFUSED);
}

/* §11.4: when full, the farthest gives way to a nearer one. */
static void the_farthest_gives_way(void **state)
{
    (void)state;
    begin(0x7000000000000000, 4, 0);
    static const struct {
        uint64_t key;
        enum mvpn_dht_stored result;
    } rows[] = {
        {0x7000000000000001, MVPN_DHT_STORED},      {0x6000000000000000, MVPN_DHT_STORED},
        {0xf000000000000000, MVPN_DHT_STORED},      {0x0000000000000000, MVPN_DHT_STORED},
        {0xffff000000000000, MVPN_DHT_STORED_FULL}, /* farther than all */
        {0x7000000000000002, MVPN_DHT_STORED},      /* for 0xf.. */
        {0x7000000000000003, MVPN_DHT_STORED},      /* for 0x0.. */
        {0x0000000000000000, MVPN_DHT_STORED_FULL},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(put(rows[i].key, 1, 10, 1), rows[i].result);
        assert_true(s.count <= 4);
    }
    assert_null(get(0xf000000000000000));
    assert_null(get(0));
    assert_non_null(get(0x6000000000000000));
    assert_int_equal(s.evicted, 2);
    begin(0, 100, 1000); /* by bytes */
    assert_int_equal(put(8, 1, 500, 1), MVPN_DHT_STORED);
    assert_int_equal(put(9, 1, 500, 1), MVPN_DHT_STORED);
    assert_int_equal(put(10, 1, 1, 1), MVPN_DHT_STORED_FULL);
    assert_int_equal(put(1, 1, 600, 1), MVPN_DHT_STORED);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.bytes, 600);
}

static void random_use_against_model(void **state)
{
    (void)state;
    uint64_t keys[64];
    for (int round = 0; round < 20; round++) {
        uint64_t self = mvpn_rng_u64(&rng);
        size_t count = 0;
        begin(self, 32, 0);
        for (int i = 0; i < 300; i++) {
            uint64_t key = mvpn_rng_u64(&rng) >> mvpn_rng_below(&rng, 60);
            size_t far = 0, same = 0;
            for (size_t k = 0; k < count; k++) {
                far = (keys[k] ^ self) > (keys[far] ^ self) ? k : far;
                same += keys[k] == key;
            }
            enum mvpn_dht_stored r = put(key, 1, 10, 1);
            if (same > 0) {
                assert_int_equal(r, MVPN_DHT_STORED_OLD);
            } else if (count < 32) {
                keys[count++] = key;
            } else if ((key ^ self) < (keys[far] ^ self)) {
                keys[far] = key;
                assert_int_equal(r, MVPN_DHT_STORED);
            } else {
                assert_int_equal(r, MVPN_DHT_STORED_FULL);
            }
            assert_int_equal(s.count, count);
        }
        for (size_t k = 0; k < count; k++) {
            assert_non_null(get(keys[k]));
        }
    }
}

static void lists_by_prefix(void **state)
{
    (void)state;
    mvpn_dht_listed out[8];
    bool more;
    begin(0, 0, 0);
    for (uint64_t i = 0; i < 16; i++) {
        assert_int_equal(put(i << 60, i, 10, 1), MVPN_DHT_STORED);
    }
    static const struct {
        uint64_t cursor;
        unsigned bits;
        size_t max, count;
        bool more;
    } rows[] = {
        {0, 0, 8, 8, true},
        {0x8000000000000000, 0, 8, 8, false},
        {0x8000000000000000, 1, 8, 8, false},
        {0x4000000000000000, 2, 8, 4, false},
        {0x5000000000000001, 2, 8, 2, false}, /* from 0x6 to 0x7 */
        {0x4000000000000000, 2, 3, 3, true},
        {0x4000000000000000, 160, 8, 1, false},
        {0x4100000000000000, 8, 8, 0, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_dht_id cursor = test_id(rows[i].cursor);
        size_t n = mvpn_dht_storage_list(&s, &cursor, rows[i].bits, UNIX, out, rows[i].max, &more);
        assert_int_equal(n, rows[i].count);
        assert_int_equal(more, rows[i].more);
        for (size_t k = 1; k < n; k++) {
            assert_true(memcmp(out[k - 1].key.b, out[k].key.b, MVPN_DHT_ID_LEN) < 0);
        }
    }
}

struct at {
    mvpn_time now;
    uint64_t unix_now;
};

static bool is_over(void *ctx, const mvpn_dht_record *r)
{
    const struct at *at = ctx;
    return mvpn_dht_record_is_over(r, at->now, at->unix_now);
}

static void records_end(void **state)
{
    (void)state;
    static const struct {
        unsigned type;
        mvpn_time now;
        uint64_t unix_now;
        size_t left;
    } rows[] = {
        {MVPN_RECORD_DESCRIPTOR, MVPN_S(7199), UNIX, 1},
        {MVPN_RECORD_DESCRIPTOR, MVPN_S(7200), UNIX, 0},
        {MVPN_RECORD_REVOCATIONS, MVPN_S(7200), UNIX, 1},
        {MVPN_RECORD_REVOCATIONS, MVPN_S(26 * 3600), UNIX, 0},
        {MVPN_RECORD_DESCRIPTOR, 0, UNIX + 9, 1},
        {MVPN_RECORD_DESCRIPTOR, 0, UNIX + 10, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct at at = {rows[i].now, rows[i].unix_now};
        mvpn_record_info info = {test_id(1), 1, UNIX + 10};
        mvpn_dht_record *held;
        begin(0, 0, 0);
        assert_int_equal(
            mvpn_dht_storage_put(&s, rows[i].type, &info, MVPN_BYTES_LITERAL("x"), 0, &held),
            MVPN_DHT_STORED);
        mvpn_dht_id id = test_id(1);
        assert_int_equal(mvpn_dht_storage_get(&s, &id, rows[i].unix_now) != NULL,
                         rows[i].unix_now < UNIX + 10); /* never given out after its time */
        mvpn_dht_storage_sweep(&s, is_over, &at);
        assert_int_equal(s.count, rows[i].left);
        assert_int_equal(s.bytes, rows[i].left);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newer_replaces_older),
        cmocka_unit_test(the_farthest_gives_way),
        cmocka_unit_test(random_use_against_model),
        cmocka_unit_test(lists_by_prefix),
        cmocka_unit_test(records_end),
    };
    mvpn_rng_init_test(&rng, 1);
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    mvpn_dht_storage_done(&s);
    return r;
}
