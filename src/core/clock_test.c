/* What our clock's error is taken for, by what peers say. (docs/protocol.md §12) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"
#include "core/clock.h"
#include "crypto/rng.h"

static mvpn_ed25519_pub peer(size_t i)
{
    return (mvpn_ed25519_pub){{(uint8_t)(i >> 8), (uint8_t)i}};
}

static mvpn_clock_reading reading_of(const int64_t *said, size_t count)
{
    mvpn_clock clock;
    mvpn_clock_reading r;
    mvpn_clock_init(&clock);
    for (size_t i = 0; i < count; i++) {
        mvpn_ed25519_pub p = peer(i);
        assert_true(mvpn_clock_put(&clock, &p, said[i]));
    }
    mvpn_clock_read(&clock, &r);
    assert_int_equal(r.peers, count);
    return r;
}

static void test_rows(void **state)
{
    (void)state;
    const struct {
        size_t count;
        int64_t said[6];
        int64_t offset_s;
        enum mvpn_clock_trust trust;
        bool should_tell;
    } rows[] = {
        {0, {0}, 0, MVPN_CLOCK_ALONE, false},
        {1, {86400}, 86400, MVPN_CLOCK_WEAK, true},
        {1, {-31622400}, -31622400, MVPN_CLOCK_WEAK, true},
        {1, {29}, 0, MVPN_CLOCK_WEAK, false},
        {1, {-29}, 0, MVPN_CLOCK_WEAK, false},
        {1, {30}, 30, MVPN_CLOCK_WEAK, false},
        {1, {-30}, -30, MVPN_CLOCK_WEAK, false},
        {1, {300}, 300, MVPN_CLOCK_WEAK, false},
        {1, {-301}, -301, MVPN_CLOCK_WEAK, true},
        {2, {3600, 3605}, 3600, MVPN_CLOCK_WEAK, true},      /* they agree */
        {2, {1, 999999}, 0, MVPN_CLOCK_WEAK, false},         /* one of them is wrong, not we */
        {2, {-999999, 999999}, 0, MVPN_CLOCK_WEAK, false},   /* nobody agrees */
        {2, {-3600, -999999}, -3600, MVPN_CLOCK_WEAK, true}, /* never beyond the honest one */
        {3, {3600, 3601, 3602}, 3601, MVPN_CLOCK_MEDIAN, true},
        {3, {0, 2, 999999999}, 0, MVPN_CLOCK_MEDIAN, false}, /* one liar in three */
        {3, {3600, 3602, -999999999}, 3600, MVPN_CLOCK_MEDIAN, true},
        {4, {-5, 0, 999999, 999999}, 0, MVPN_CLOCK_MEDIAN, false}, /* two in four */
        {5, {7200, 7201, 7202, -1, -1}, 7200, MVPN_CLOCK_MEDIAN, true},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_clock_reading r = reading_of(rows[i].said, rows[i].count);
        assert_int_equal(r.offset_s, rows[i].offset_s);
        assert_int_equal(r.trust, rows[i].trust);
        assert_int_equal(r.should_tell, rows[i].should_tell);
    }
}

/* A peer has one voice, and its latest word counts. */
static void test_one_voice_each(void **state)
{
    (void)state;
    mvpn_clock clock;
    mvpn_clock_reading r;
    mvpn_ed25519_pub liar = peer(0), honest = peer(1), other = peer(2);
    mvpn_clock_init(&clock);
    for (size_t i = 0; i < 100; i++) {
        assert_true(mvpn_clock_put(&clock, &liar, 999999));
    }
    assert_true(mvpn_clock_put(&clock, &honest, 1));
    assert_true(mvpn_clock_put(&clock, &other, 2));
    mvpn_clock_read(&clock, &r);
    assert_int_equal(r.peers, 3);
    assert_int_equal(r.measured_s, 2);
    assert_true(mvpn_clock_put(&clock, &liar, 0));
    mvpn_clock_read(&clock, &r);
    assert_int_equal(r.measured_s, 1);
    mvpn_clock_forget(&clock);
    mvpn_clock_read(&clock, &r);
    assert_int_equal(r.trust, MVPN_CLOCK_ALONE);
}

static void test_bounded(void **state)
{
    (void)state;
    mvpn_clock clock;
    mvpn_clock_reading r;
    mvpn_clock_init(&clock);
    for (size_t i = 0; i < 1000; i++) {
        mvpn_ed25519_pub p = peer(i);
        assert_true(mvpn_clock_put(&clock, &p, (int64_t)i * 1000));
        mvpn_clock_read(&clock, &r);
        assert_int_equal(r.peers, MVPN_MIN(i + 1, (size_t)MVPN_CLOCK_PEERS));
    }
    /* Of the newest 16 alone (984000 to 999000), our own clock being the lowest of 17. */
    assert_int_equal(r.measured_s, 991000);
}

/* Times that no clock shows must not overflow anything, nor count. */
static void test_absurd_times(void **state)
{
    (void)state;
    const int64_t absurd[] = {INT64_MAX, INT64_MIN, INT64_MIN + 1, MVPN_CLOCK_OFFSET_MAX_S + 1,
                              -MVPN_CLOCK_OFFSET_MAX_S - 1};
    mvpn_clock clock;
    mvpn_clock_reading r;
    mvpn_ed25519_pub p = peer(1);
    mvpn_clock_init(&clock);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(absurd); i++) {
        assert_false(mvpn_clock_put(&clock, &p, absurd[i]));
    }
    mvpn_clock_read(&clock, &r);
    assert_int_equal(r.trust, MVPN_CLOCK_ALONE);
    assert_true(mvpn_clock_put(&clock, &p, MVPN_CLOCK_OFFSET_MAX_S));
}

/* Whatever a minority says, the result stays within what the others say. */
static void test_minority_moves_nothing(void **state)
{
    (void)state;
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 1);
    for (unsigned round = 0; round < 2000; round++) {
        int64_t said[MVPN_CLOCK_PEERS];
        size_t count = 3 + mvpn_rng_below(&rng, MVPN_CLOCK_PEERS - 2);
        size_t liars = mvpn_rng_below(&rng, (uint32_t)(count + 1) / 2);
        for (size_t i = 0; i < count; i++) {
            said[i] = i < liars ? (int64_t)mvpn_rng_u32(&rng) - INT32_MAX
                                : 7200 + (int64_t)mvpn_rng_below(&rng, 10);
        }
        int64_t measured = reading_of(said, count).measured_s;
        bool own_votes = count % 2 == 0; /* with half of them lying it may be our own clock's */
        assert_true((measured >= 7200 && measured < 7210) ||
                    (own_votes && 2 * (liars + 1) > count));
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_one_voice_each),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_absurd_times),
        cmocka_unit_test(test_minority_moves_nothing),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
