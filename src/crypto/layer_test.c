/* One onion layer: seal and open in place, counters, replay, what is cut off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/layer.h"

static mvpn_aead *aead;
static mvpn_packet_pool pool;
static const mvpn_key key = {{1, 2, 3, 4, 5}};
static const mvpn_layer_header header = {
    .size_class = 2, .command = 0x3f07, .length = 100, .next_counter = 0xfedcba98};

static int setup(void **state)
{
    (void)state;
    int r = mvpn_packet_pool_init(&pool, 4);
    return r != 0 ? r : mvpn_aead_new(MVPN_AEAD_AUTO, &aead);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_aead_free(aead);
    size_t free_count = pool.free_count;
    mvpn_packet_pool_done(&pool);
    return free_count == 4 ? 0 : -1;
}

/* `n` bytes counting up. */
static mvpn_packet *packet_of(size_t n)
{
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    uint8_t *at = mvpn_packet_append(p, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        at[i] = (uint8_t)(i * 7 + 1);
    }
    return p;
}

static mvpn_packet *copy_of(const mvpn_packet *p)
{
    mvpn_packet *copy = mvpn_packet_new(&pool);
    assert_non_null(copy);
    memcpy(mvpn_packet_append(copy, p->len), p->data, p->len);
    return copy;
}

static mvpn_packet *sealed(mvpn_layer_tx *tx, size_t n, uint64_t *ret_counter)
{
    mvpn_packet *p = packet_of(n);
    mvpn_layer_header h = header;
    h.length = (uint16_t)MVPN_MIN(n, (size_t)header.length);
    assert_int_equal(mvpn_layer_seal(aead, tx, p, &h, ret_counter), 0);
    assert_int_equal(p->len, n + MVPN_LAYER_OVERHEAD);
    return p;
}

static int open_one(mvpn_layer_tx *tx, mvpn_layer_rx *rx, uint64_t at)
{
    uint64_t counter;
    mvpn_layer_header h;
    tx->next = at;
    mvpn_packet *p = sealed(tx, 20, &counter);
    int r = mvpn_layer_open(aead, rx, p, p->len, counter, &h);
    mvpn_packet_free(&pool, p);
    return r;
}

static void test_opens_what_was_sealed(void **state)
{
    (void)state;
    mvpn_layer_tx tx;
    mvpn_layer_rx rx;
    mvpn_layer_tx_init(&tx, &key);
    mvpn_layer_rx_init(&rx, &key);
    const size_t lengths[] = {100, 101, 136, 1291}; /* 100 are data, the rest is padding */
    for (size_t i = 0; i < MVPN_ARRAY_LEN(lengths); i++) {
        uint64_t counter, first = tx.next;
        mvpn_layer_header h;
        mvpn_packet *want = packet_of(100), *p = sealed(&tx, lengths[i], &counter);
        assert_true(counter == first && tx.next == first + 1);
        uint32_t live = p->len;
        memset(mvpn_packet_append(p, 33), 0xee, 33); /* filler */
        assert_int_equal(mvpn_layer_open(aead, &rx, p, live, counter, &h), 0);
        assert_int_equal(p->len, 100);
        assert_memory_equal(p->data, want->data, 100);
        assert_int_equal(h.size_class, header.size_class);
        assert_int_equal(h.command, header.command);
        assert_int_equal(h.length, 100);
        assert_int_equal(h.next_counter, header.next_counter);
        mvpn_packet_free(&pool, p);
        mvpn_packet_free(&pool, want);
    }
}

static void test_each_flipped_bit_is_refused(void **state)
{
    (void)state;
    mvpn_layer_tx tx;
    mvpn_layer_rx rx;
    uint64_t counter;
    mvpn_layer_header h;
    mvpn_layer_tx_init(&tx, &key);
    mvpn_layer_rx_init(&rx, &key);
    mvpn_packet *p = sealed(&tx, 20, &counter);
    for (size_t bit = 0; bit < p->len * 8; bit++) {
        mvpn_packet *bad = copy_of(p);
        bad->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mvpn_layer_open(aead, &rx, bad, bad->len, counter, &h), MVPN_E_AUTH);
        mvpn_packet_free(&pool, bad);
    }
    for (size_t live = 0; live < p->len; live++) { /* cut short */
        mvpn_packet *bad = copy_of(p);
        assert_int_equal(mvpn_layer_open(aead, &rx, bad, live, counter, &h),
                         live < MVPN_LAYER_OVERHEAD ? MVPN_E_FORMAT : MVPN_E_AUTH);
        mvpn_packet_free(&pool, bad);
    }
    mvpn_packet *bad = copy_of(p);
    assert_int_equal(mvpn_layer_open(aead, &rx, bad, bad->len + 1, counter, &h), MVPN_E_FORMAT);
    assert_int_equal(mvpn_layer_open(aead, &rx, bad, bad->len, counter + 1, &h), MVPN_E_AUTH);
    mvpn_packet_free(&pool, bad);
    /* Nothing of this advanced the window. */
    assert_int_equal(mvpn_layer_open(aead, &rx, p, p->len, counter, &h), 0);
    mvpn_packet_free(&pool, p);
}

static void test_another_key_is_refused(void **state)
{
    (void)state;
    mvpn_key other = key;
    mvpn_layer_tx tx;
    mvpn_layer_rx rx;
    uint64_t counter;
    mvpn_layer_header h;
    other.b[31] ^= 1;
    mvpn_layer_tx_init(&tx, &key);
    mvpn_layer_rx_init(&rx, &other);
    rx.first = tx.next; /* only the key differs */
    mvpn_packet *p = sealed(&tx, 20, &counter);
    assert_int_equal(mvpn_layer_open(aead, &rx, p, p->len, counter, &h), MVPN_E_AUTH);
    mvpn_packet_free(&pool, p);
}

static void test_length_beyond_the_seal_is_refused(void **state)
{
    (void)state;
    for (unsigned over = 0; over < 2; over++) {
        mvpn_layer_tx tx;
        mvpn_layer_rx rx;
        mvpn_layer_header h;
        mvpn_layer_tx_init(&tx, &key);
        mvpn_layer_rx_init(&rx, &key);
        mvpn_packet *p = packet_of(MVPN_LAYER_HEADER + 20 + MVPN_AEAD_TAG);
        mvpn_store16(p->data, 0x8007); /* by hand: sealing asserts the length */
        mvpn_store16(p->data + 2, (uint16_t)(20 + over));
        mvpn_aead_seal(aead, p->data, p->data + 28, &key, tx.next, MVPN_BYTES_NONE,
                       mvpn_bytes_of(p->data, 28));
        assert_int_equal(mvpn_layer_open(aead, &rx, p, p->len, tx.next, &h),
                         over ? MVPN_E_FORMAT : 0);
        mvpn_packet_free(&pool, p);
    }
}

static void test_offset_comes_from_the_key(void **state)
{
    (void)state;
    uint64_t seen[64];
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(seen); i++) {
        mvpn_key k = {{(uint8_t)i, 9}};
        mvpn_layer_tx tx;
        mvpn_layer_rx rx;
        mvpn_layer_tx_init(&tx, &k);
        mvpn_layer_rx_init(&rx, &k);
        assert_true(tx.next == rx.first);
        assert_true(tx.next < 1ull << 31);
        assert_true(tx.end == tx.next + MVPN_LAYER_COUNTERS);
        assert_true(tx.end <= 1ull << 32); /* each counter fits the 4 bytes of §5.3 */
        for (unsigned j = 0; j < i; j++) {
            assert_true(seen[j] != tx.next);
        }
        seen[i] = tx.next;
    }
}

static void test_counters_end(void **state)
{
    (void)state;
    mvpn_layer_tx tx;
    mvpn_layer_rx rx;
    uint64_t counter = 0;
    mvpn_layer_header h;
    mvpn_layer_tx_init(&tx, &key);
    mvpn_layer_rx_init(&rx, &key);
    const uint64_t first = tx.next, end = tx.end;
    assert_int_equal(open_one(&tx, &rx, end - 1), 0); /* the last one */
    assert_true(tx.next == end);
    mvpn_packet *p = packet_of(20);
    h = header;
    h.length = 20;
    assert_int_equal(mvpn_layer_seal(aead, &tx, p, &h, &counter), MVPN_E_EXHAUSTED);
    assert_int_equal(p->len, 20); /* unchanged */
    assert_true(tx.next == end && counter == 0);
    mvpn_packet_free(&pool, p);
    /* A sender that goes on is not heard, nor one that begins too early. */
    mvpn_layer_rx_init(&rx, &key);
    tx.end = UINT64_MAX;
    assert_int_equal(open_one(&tx, &rx, end), MVPN_E_REPLAY);
    assert_int_equal(open_one(&tx, &rx, first - 1), MVPN_E_REPLAY);
    assert_int_equal(open_one(&tx, &rx, 0), MVPN_E_REPLAY);
    assert_int_equal(open_one(&tx, &rx, UINT64_MAX - 1), MVPN_E_REPLAY);
    assert_int_equal(open_one(&tx, &rx, first), 0);
}

static void test_replay_window(void **state)
{
    (void)state;
    mvpn_layer_tx tx;
    mvpn_layer_rx rx;
    mvpn_layer_tx_init(&tx, &key);
    mvpn_layer_rx_init(&rx, &key);
    const uint64_t first = tx.next;
    assert_int_equal(open_one(&tx, &rx, first + 10), 0);
    assert_int_equal(open_one(&tx, &rx, first + 10), MVPN_E_REPLAY);
    assert_int_equal(open_one(&tx, &rx, first + 9), 0);
    assert_int_equal(open_one(&tx, &rx, first), 0);
    assert_int_equal(open_one(&tx, &rx, first), MVPN_E_REPLAY);
    assert_int_equal(open_one(&tx, &rx, first + 5000), 0);
    assert_int_equal(open_one(&tx, &rx, first + 5000 - MVPN_LAYER_WINDOW), 0);
    assert_int_equal(open_one(&tx, &rx, first + 5000 - MVPN_LAYER_WINDOW), MVPN_E_REPLAY);
    assert_int_equal(open_one(&tx, &rx, first + 5000 - MVPN_LAYER_WINDOW - 1), MVPN_E_REPLAY);
    for (uint64_t i = first + 5000 - MVPN_LAYER_WINDOW + 1; i < first + 5000; i++) {
        assert_int_equal(open_one(&tx, &rx, i), 0);
    }
    for (uint64_t i = first + 5000 - MVPN_LAYER_WINDOW; i <= first + 5000; i++) {
        assert_int_equal(open_one(&tx, &rx, i), MVPN_E_REPLAY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_what_was_sealed),
        cmocka_unit_test(test_each_flipped_bit_is_refused),
        cmocka_unit_test(test_another_key_is_refused),
        cmocka_unit_test(test_length_beyond_the_seal_is_refused),
        cmocka_unit_test(test_offset_comes_from_the_key),
        cmocka_unit_test(test_counters_end),
        cmocka_unit_test(test_replay_window),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
