/* Joining the parts of a handshake message. */
#include "core/testing.h"

#include "core/assembly.h"

static uint8_t whole[MVPN_ASSEMBLY_MAX];
static mvpn_assembly *assembly;

static int setup(void **state)
{
    (void)state;
    test_fill(whole, sizeof(whole), 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_assembly_free(&assembly);
    return 0;
}

static int add(uint32_t id, unsigned total, unsigned from, unsigned to, mvpn_time now,
               mvpn_bytes *ret)
{
    mvpn_part part = {(uint16_t)total, (uint16_t)from, mvpn_bytes_of(whole + from, to - from)};
    return mvpn_assembly_add(&assembly, id, &part, now, ret);
}

static void assert_whole(mvpn_bytes got, size_t total)
{
    assert_int_equal(got.n, total);
    assert_memory_equal(got.p, whole, total);
}

static void test_one_part_is_borrowed_as_it_is(void **state)
{
    (void)state;
    mvpn_bytes got;
    assert_int_equal(add(1, 48, 0, 48, 0, &got), 0);
    assert_ptr_equal(got.p, whole);
    assert_int_equal(got.n, 48);
    assert_null(assembly); /* nothing was allocated */
    assert_int_equal(add(1, MVPN_ASSEMBLY_MAX, 0, MVPN_ASSEMBLY_MAX, 0, &got), 0);
    assert_whole(got, MVPN_ASSEMBLY_MAX);
}

static void test_all_orders(void **state)
{
    (void)state;
    const unsigned cut[] = {0, 1, 600, 2047, 2048};
    for (unsigned order = 0; order < 24; order++) {
        unsigned left[4] = {0, 1, 2, 3}, n = 4, code = order;
        mvpn_bytes got;
        for (unsigned i = 0; i < 4; i++) {
            unsigned at = code % n;
            unsigned part = left[at];
            code /= n;
            left[at] = left[--n];
            int r = add(order, 2048, cut[part], cut[part + 1], 0, &got);
            assert_int_equal(r, i < 3 ? MVPN_E_AGAIN : 0);
        }
        assert_whole(got, 2048);
    }
}

static void test_repeated_parts_are_ignored(void **state)
{
    (void)state;
    mvpn_bytes got;
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(add(1, 100, 50, 100, 0, &got), MVPN_E_AGAIN);
    }
    assert_int_equal(add(1, 100, 0, 50, 0, &got), 0);
    assert_whole(got, 100);
}

static void test_overlap_and_contradiction(void **state)
{
    (void)state;
    const struct {
        unsigned total, from, to; /* after [20, 40) of 100 */
        int r;
    } rows[] = {
        {100, 0, 21, MVPN_E_FORMAT},  {100, 39, 50, MVPN_E_FORMAT}, {100, 0, 90, MVPN_E_FORMAT},
        {100, 25, 30, MVPN_E_FORMAT}, {100, 20, 39, MVPN_E_FORMAT}, {101, 40, 50, MVPN_E_FORMAT},
        {99, 0, 20, MVPN_E_FORMAT},   {100, 20, 40, MVPN_E_AGAIN},  {100, 0, 20, MVPN_E_AGAIN},
        {100, 40, 100, MVPN_E_AGAIN},
    };
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_bytes got = {whole, 7};
        assert_int_equal(add(i, 100, 20, 40, 0, &got), MVPN_E_AGAIN);
        assert_int_equal(add(i, rows[i].total, rows[i].from, rows[i].to, 0, &got), rows[i].r);
        assert_int_equal(got.n, 7); /* untouched */
    }
}

static void test_four_parts_and_no_more(void **state)
{
    (void)state;
    mvpn_bytes got;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(add(1, 100, i * 10, i * 10 + 10, 0, &got), MVPN_E_AGAIN);
    }
    assert_int_equal(add(1, 100, 40, 50, 0, &got), MVPN_E_FORMAT);
    assert_int_equal(add(1, 100, 40, 100, 0, &got), MVPN_E_FORMAT);
}

static void test_another_request_starts_anew(void **state)
{
    (void)state;
    mvpn_bytes got;
    assert_int_equal(add(1, 100, 0, 50, 0, &got), MVPN_E_AGAIN);
    assert_int_equal(add(2, 90, 50, 90, 0, &got), MVPN_E_AGAIN);
    assert_int_equal(add(2, 90, 0, 50, 0, &got), 0);
    assert_whole(got, 90);
}

static void test_stale_parts_are_forgotten(void **state)
{
    (void)state;
    mvpn_bytes got;
    const mvpn_time t = MVPN_S(50);
    assert_int_equal(add(1, 100, 0, 50, t, &got), MVPN_E_AGAIN);
    assert_int_equal(add(1, 100, 50, 100, t + MVPN_S(5), &got), 0);
    assert_int_equal(add(2, 100, 0, 50, t, &got), MVPN_E_AGAIN);
    assert_int_equal(add(2, 100, 50, 100, t + MVPN_S(5) + 1, &got), MVPN_E_AGAIN);
    assert_int_equal(add(2, 100, 0, 50, t + MVPN_S(6), &got), 0);
    assert_whole(got, 100);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_one_part_is_borrowed_as_it_is), TEST(test_all_orders),
        TEST(test_repeated_parts_are_ignored),    TEST(test_overlap_and_contradiction),
        TEST(test_four_parts_and_no_more),        TEST(test_another_request_starts_anew),
        TEST(test_stale_parts_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
