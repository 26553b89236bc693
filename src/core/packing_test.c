/* RelayData bodies: packing, fragments, reassembly, and that no packet is ever lost to the pool. */
#include "core/testing.h"

#include "base/model_random.h"
#include "core/packing.h"
#include "wire/cell.h"

#define POOL 256

static mvpn_packet_pool pool;
static mvpn_packer packer;
static mvpn_unpacker unpacker;
static mvpn_packet_queue cells, packets;

static int setup(void **state)
{
    (void)state;
    mvpn_packet_queue_init(&cells);
    mvpn_packet_queue_init(&packets);
    mvpn_packer_init(&packer, 0);
    unpacker = (mvpn_unpacker){0};
    return mvpn_packet_pool_init(&pool, POOL);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_packet_queue_clear(&cells, &pool);
    mvpn_packet_queue_clear(&packets, &pool);
    mvpn_packer_done(&packer, &pool);
    mvpn_unpacker_done(&unpacker, &pool);
    bool is_whole = pool.free_count == POOL;
    mvpn_packet_pool_done(&pool);
    return is_whole ? 0 : -1;
}

static void add(size_t n, unsigned tag)
{
    assert_int_equal(mvpn_packer_add(&packer, &pool, test_packet(&pool, n, tag), &cells), 0);
}

/* Unpack the next body. */
static int take(mvpn_time now)
{
    mvpn_packet *body = mvpn_packet_queue_pop(&cells);
    assert_non_null(body);
    assert_in_range(body->len, 1, packer.room);
    return mvpn_unpacker_take(&unpacker, &pool, body, now, &packets);
}

static int take_bytes(const uint8_t *bytes, size_t n, mvpn_time now)
{
    return mvpn_unpacker_take(&unpacker, &pool, test_packet_of(&pool, bytes, n), now, &packets);
}

/* One fragment by hand: bytes [from, to) of the packet test_packet(total, tag). */
static int take_fragment(unsigned id, unsigned total, unsigned from, unsigned to, unsigned tag,
                         mvpn_time now)
{
    uint8_t whole[1420], body[6 + 1420];
    test_fill(whole, sizeof(whole), tag);
    mvpn_store16(body, (uint16_t)(0x8000u | total));
    mvpn_store16(body + 2, (uint16_t)id);
    mvpn_store16(body + 4, (uint16_t)from);
    memcpy(body + 6, whole + from, to - from);
    return take_bytes(body, 6 + to - from, now);
}

static void test_small_packets_share_a_cell(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        add(60 + i, i);
    }
    assert_int_equal(cells.count, 0); /* they wait for more */
    mvpn_packer_flush(&packer, &cells);
    assert_int_equal(cells.count, 1);
    assert_int_equal(take(0), 0);
    assert_int_equal(packets.count, 10);
    for (unsigned i = 0; i < 10; i++) {
        test_expect(&pool, &packets, 60 + i, i);
    }
    mvpn_packer_flush(&packer, &cells);
    assert_int_equal(cells.count, 0);
}

static void test_exactly_full(void **state)
{
    (void)state;
    for (unsigned profile = 0; profile < 2; profile++) {
        const size_t room = profile == 0 ? MVPN_ROOM_PROFILE0 : MVPN_ROOM_PROFILE1;
        mvpn_packer_init(&packer, profile);
        assert_int_equal(packer.room, room);
        add(room - 2, 1); /* one packet, one cell */
        mvpn_packer_flush(&packer, &cells);
        assert_int_equal(cells.count, 1);
        assert_int_equal(take(0), 0);
        test_expect(&pool, &packets, room - 2, 1);

        add(100, 2); /* two that fill it to the last byte */
        add(room - 104, 3);
        mvpn_packer_flush(&packer, &cells);
        assert_int_equal(cells.count, 1);
        assert_int_equal(take(0), 0);
        test_expect(&pool, &packets, 100, 2);
        test_expect(&pool, &packets, room - 104, 3);

        add(100, 4); /* one byte more opens a second cell */
        add(room - 103, 5);
        assert_int_equal(cells.count, 1);
        mvpn_packer_flush(&packer, &cells);
        assert_int_equal(cells.count, 2);
        assert_int_equal(take(0) + take(0), 0);
        test_expect(&pool, &packets, 100, 4);
        test_expect(&pool, &packets, room - 103, 5);
        test_pool_is_whole(&pool);
    }
}

static void test_fragments_in_both_orders(void **state)
{
    (void)state;
    for (unsigned profile = 0; profile < 2; profile++) {
        mvpn_packer_init(&packer, profile);
        for (size_t n = packer.room - 1u; n <= 1420; n++) {
            bool is_swapped = n & 1;
            add(n, (unsigned)n);
            assert_int_equal(cells.count, 2);
            if (is_swapped) {
                mvpn_packet_queue_push(&cells, mvpn_packet_queue_pop(&cells));
            }
            assert_int_equal(take(0), 0);
            assert_int_equal(packets.count, 0);
            assert_int_equal(take(0), 0);
            test_expect(&pool, &packets, n, (unsigned)n);
        }
        test_pool_is_whole(&pool);
    }
}

static void test_order_is_kept_around_a_large_packet(void **state)
{
    (void)state;
    add(50, 1);
    add(1400, 2);
    add(60, 3);
    mvpn_packer_flush(&packer, &cells);
    assert_int_equal(cells.count, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(take(0), 0);
    }
    test_expect(&pool, &packets, 50, 1);
    test_expect(&pool, &packets, 1400, 2);
    test_expect(&pool, &packets, 60, 3);
}

static void test_what_two_cells_do_not_hold_is_refused(void **state)
{
    (void)state;
    packer.room = 500;
    mvpn_packet *p = test_packet(&pool, 2 * (500 - 6) + 1, 1);
    assert_int_equal(mvpn_packer_add(&packer, &pool, p, &cells), MVPN_E_TOO_BIG);
    assert_int_equal(cells.count, 0);
    test_pool_is_whole(&pool);
    add(2 * (500 - 6), 1);
    assert_int_equal(take(0) + take(0), 0);
    test_expect(&pool, &packets, 2 * (500 - 6), 1);
}

static void test_overlap_and_contradiction_discard_the_packet(void **state)
{
    (void)state;
    const struct {
        unsigned total, from, to; /* after [0, 700) and [1000, 1400) of 1400 */
    } rows[] = {
        {1400, 0, 700},     {1400, 699, 1000}, {1400, 700, 1001}, {1400, 100, 200},
        {1400, 1399, 1400}, {1399, 700, 1000}, {1420, 700, 1000}, {1400, 0, 1400},
    };
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(take_fragment(i, 1400, 0, 700, 1, 0), 0);
        assert_int_equal(take_fragment(i, 1400, 1000, 1400, 1, 0), 0);
        assert_int_equal(take_fragment(i, rows[i].total, rows[i].from, rows[i].to, 1, 0),
                         MVPN_E_FORMAT);
        test_pool_is_whole(&pool);
        assert_int_equal(take_fragment(i, 1400, 700, 1000, 1, 0), 0); /* starts a new one */
        assert_int_equal(packets.count, 0);
        assert_int_equal(pool.free_count, POOL - 1);
        assert_int_equal(take_fragment(i, 1400, 0, 700, 1, 0), 0);
        assert_int_equal(take_fragment(i, 1400, 1000, 1400, 1, 0), 0);
        test_expect(&pool, &packets, 1400, 1);
    }
}

static void test_eight_parts_and_no_more(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(take_fragment(1, 800, i * 100, i * 100 + 100, 5, 0), 0);
    }
    test_expect(&pool, &packets, 800, 5);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(take_fragment(1, 801, i * 100, i * 100 + 100, 5, 0), 0);
    }
    assert_int_equal(take_fragment(1, 801, 800, 801, 5, 0), MVPN_E_FORMAT);
    test_pool_is_whole(&pool);
}

static void test_larger_than_the_inner_mtu_is_refused(void **state)
{
    (void)state;
    assert_int_equal(take_fragment(1, 1421, 0, 100, 1, 0), MVPN_E_FORMAT);
    assert_int_equal(take_fragment(1, 0x7fff, 0, 100, 1, 0), MVPN_E_FORMAT);
    test_pool_is_whole(&pool);
    assert_int_equal(take_fragment(1, 1420, 0, 100, 1, 0), 0);
}

static void test_an_assembly_lives_two_seconds(void **state)
{
    (void)state;
    const mvpn_time t = MVPN_S(100);
    assert_int_equal(take_fragment(1, 1400, 0, 700, 1, t), 0);
    assert_int_equal(take_fragment(1, 1400, 700, 1400, 1, t + MVPN_S(2)), 0);
    test_expect(&pool, &packets, 1400, 1);
    assert_int_equal(take_fragment(2, 1400, 0, 700, 1, t), 0);
    assert_int_equal(take_fragment(2, 1400, 700, 1400, 1, t + MVPN_S(2) + 1), 0);
    assert_int_equal(packets.count, 0); /* the head was too old */
    assert_int_equal(take_fragment(2, 1400, 0, 700, 1, t + MVPN_S(3)), 0);
    test_expect(&pool, &packets, 1400, 1);
    test_pool_is_whole(&pool);
}

static void test_at_most_64_in_assembly(void **state)
{
    (void)state;
    for (unsigned id = 0; id < 64; id++) {
        assert_int_equal(take_fragment(id, 1400, 0, 700, id, id), 0);
    }
    assert_int_equal(pool.free_count, POOL - 64);
    assert_int_equal(take_fragment(64, 1400, 0, 700, 64, 64), 0); /* the oldest gives way */
    assert_int_equal(pool.free_count, POOL - 64);
    for (unsigned id = 1; id <= 64; id++) {
        assert_int_equal(take_fragment(id, 1400, 700, 1400, id, 100), 0);
        test_expect(&pool, &packets, 1400, id);
    }
    assert_int_equal(take_fragment(0, 1400, 700, 1400, 0, 100), 0);
    assert_int_equal(packets.count, 0);
}

static void test_a_silent_sender_keeps_no_packets(void **state)
{
    (void)state;
    for (unsigned id = 0; id < 10; id++) {
        assert_int_equal(take_fragment(id, 1400, 0, 700, id, id), 0);
    }
    assert_int_equal(unpacker.held, 10);
    mvpn_unpacker_expire(&unpacker, &pool, MVPN_S(2) + 5);
    assert_int_equal(unpacker.held, 5);
    assert_int_equal(pool.free_count, POOL - 5);
    mvpn_unpacker_expire(&unpacker, &pool, MVPN_S(3));
    assert_int_equal(unpacker.held, 0);
    test_pool_is_whole(&pool);
}

static void test_fragments_do_not_take_the_last_half_of_the_pool(void **state)
{
    (void)state;
    mvpn_packet_queue held;
    mvpn_packet_queue_init(&held);
    assert_int_equal(take_fragment(1, 1400, 0, 700, 1, 0), 0);
    while (pool.free_count >= POOL / 2) {
        mvpn_packet_queue_push(&held, mvpn_packet_new(&pool));
    }
    size_t before = pool.free_count;
    assert_int_equal(take_fragment(2, 1400, 0, 700, 2, 1), 0); /* its own oldest gives way */
    assert_int_equal(pool.free_count, before);
    assert_int_equal(take_fragment(2, 1400, 700, 1400, 2, 2), 0);
    test_expect(&pool, &packets, 1400, 2);
    assert_int_equal(pool.free_count, before + 1);
    mvpn_packet_queue_push(&held, mvpn_packet_new(&pool));
    assert_int_equal(take_fragment(3, 1400, 0, 700, 3, 3), MVPN_E_NOMEM);
    assert_int_equal(pool.free_count, before);
    mvpn_packet_queue_clear(&held, &pool);
    test_pool_is_whole(&pool);
}

static void test_malformed_bodies(void **state)
{
    (void)state;
    const struct {
        uint8_t bytes[12];
        size_t n;
        unsigned delivered;
    } rows[] = {
        {{0}, 1, 0},
        {{0, 0}, 2, 0},
        {{0, 5, 1, 2}, 4, 0},
        {{0, 1, 9, 0, 2, 9}, 6, 1}, /* what came before the fault has been delivered */
        {{0, 1, 9, 0, 0}, 5, 1},
        {{0, 1, 9, 0x80, 9, 0, 0, 0, 0, 7}, 10, 1}, /* a fragment behind a packet */
        {{0x80, 0, 0, 0, 0, 0, 7}, 7, 0},
        {{0x80, 9, 0, 0, 0, 0}, 6, 0},
        {{0x80, 9, 0, 0, 0, 9, 7}, 7, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(take_bytes(rows[i].bytes, rows[i].n, 0), MVPN_E_FORMAT);
        assert_int_equal(packets.count, rows[i].delivered);
        mvpn_packet_queue_clear(&packets, &pool);
        test_pool_is_whole(&pool);
    }
    assert_int_equal(take_bytes(rows[0].bytes, 0, 0), 0); /* an empty body holds no packet */
    assert_int_equal(packets.count, 0);
    test_pool_is_whole(&pool);
}

static void test_an_empty_pool_loses_nothing(void **state)
{
    (void)state;
    mvpn_packet_queue held;
    mvpn_packet_queue_init(&held);
    mvpn_packet *large = test_packet(&pool, 1400, 1);
    mvpn_packet *body = mvpn_packet_new(&pool), *fragment = mvpn_packet_new(&pool);
    memcpy(mvpn_packet_append(body, 6), (const uint8_t[]){0, 1, 8, 0, 1, 9}, 6);
    memcpy(mvpn_packet_append(fragment, 7), (const uint8_t[]){0x80, 9, 0, 0, 0, 0, 7}, 7);
    mvpn_packet *p;
    while ((p = mvpn_packet_new(&pool)) != NULL) {
        mvpn_packet_queue_push(&held, p);
    }
    assert_int_equal(mvpn_packer_add(&packer, &pool, large, &cells), MVPN_E_NOMEM);
    assert_int_equal(pool.free_count, 1);
    mvpn_packet_queue_push(&held, mvpn_packet_new(&pool));
    assert_int_equal(mvpn_unpacker_take(&unpacker, &pool, fragment, 0, &packets), MVPN_E_NOMEM);
    assert_int_equal(pool.free_count, 1);
    mvpn_packet_queue_push(&held, mvpn_packet_new(&pool));
    assert_int_equal(mvpn_unpacker_take(&unpacker, &pool, body, 0, &packets), MVPN_E_NOMEM);
    assert_int_equal(packets.count, 0);
    assert_int_equal(pool.free_count, 1);
    mvpn_packet_queue_clear(&held, &pool);
    test_pool_is_whole(&pool);
}

/* Whatever comes, in whatever order: whole packets are right, and no buffer is lost. */
static void test_model(void **state)
{
    (void)state;
    struct model_random r = model_random_init();
    for (unsigned round = 0; round < 3000; round++) {
        size_t lens[20], n = 1 + model_random_below(&r, 20);
        mvpn_packer_init(&packer, (unsigned)model_random_below(&r, 2));
        for (unsigned i = 0; i < n; i++) {
            lens[i] = 1 + model_random_below(&r, model_random_below(&r, 3) == 0 ? 1420 : 200);
            add(lens[i], i);
        }
        mvpn_packer_flush(&packer, &cells);
        while (cells.count > 0) {
            assert_int_equal(take(round), 0);
        }
        for (unsigned i = 0; i < n; i++) {
            test_expect(&pool, &packets, lens[i], i);
        }
        test_pool_is_whole(&pool);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_small_packets_share_a_cell),
        TEST(test_exactly_full),
        TEST(test_fragments_in_both_orders),
        TEST(test_order_is_kept_around_a_large_packet),
        TEST(test_what_two_cells_do_not_hold_is_refused),
        TEST(test_overlap_and_contradiction_discard_the_packet),
        TEST(test_eight_parts_and_no_more),
        TEST(test_larger_than_the_inner_mtu_is_refused),
        TEST(test_an_assembly_lives_two_seconds),
        TEST(test_at_most_64_in_assembly),
        TEST(test_a_silent_sender_keeps_no_packets),
        TEST(test_fragments_do_not_take_the_last_half_of_the_pool),
        TEST(test_malformed_bodies),
        TEST(test_an_empty_pool_loses_nothing),
        TEST(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
