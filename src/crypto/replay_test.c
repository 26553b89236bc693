#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "crypto/replay.h"
#include "crypto/rng.h"

#define WORDS_MAX MVPN_REPLAY_WORDS(2048)

static int arrive(mvpn_replay *w, uint64_t *words, size_t count, uint64_t counter)
{
    int err = mvpn_replay_check(w, words, count, counter);
    if (err == 0) {
        mvpn_replay_commit(w, words, count, counter);
    }
    return err;
}

static void test_words(void **state)
{
    (void)state;
    static const size_t rows[][2] = {{64, 2}, {2048, 33}, {8192, 129}, {65, 3}, {1, 2}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(MVPN_REPLAY_WORDS(rows[i][0]), rows[i][1]);
        /* The documented reach, (W - 1) * 64, is no less than asked. */
        assert_true((rows[i][1] - 1) * 64 >= rows[i][0]);
    }
}

/* The exact edge, with the highest counter at each place within a word. */
static void test_edge(void **state)
{
    (void)state;
    for (uint64_t highest = 1000; highest < 1130; highest++) {
        uint64_t words[MVPN_REPLAY_WORDS(128)] = {0};
        mvpn_replay w = {0};
        assert_int_equal(arrive(&w, words, 3, highest), 0);
        for (uint64_t back = 1; back <= 300; back++) {
            assert_int_equal(mvpn_replay_check(&w, words, 3, highest - back),
                             back <= 128 ? 0 : MVPN_E_REPLAY);
        }
        assert_int_equal(arrive(&w, words, 3, highest - 128), 0);
        assert_int_equal(arrive(&w, words, 3, highest - 128), MVPN_E_REPLAY);
    }
}

static void test_check_changes_nothing(void **state)
{
    (void)state;
    uint64_t words[2];
    mvpn_replay w = {0};
    memset(words, 0xff, sizeof(words)); /* the first commit initializes them */
    assert_int_equal(mvpn_replay_check(&w, words, 2, 5), 0);
    assert_int_equal(mvpn_replay_check(&w, words, 2, 5), 0);
    assert_int_equal(w.next, 0);
    mvpn_replay_commit(&w, words, 2, 5);
    assert_int_equal(mvpn_replay_check(&w, words, 2, 5), MVPN_E_REPLAY);
    assert_int_equal(mvpn_replay_check(&w, words, 2, 4), 0);
    mvpn_replay_commit(&w, words, 2, 5000);
    mvpn_replay before = w;
    uint64_t copy[2] = {words[0], words[1]};
    mvpn_replay_commit(&w, words, 2, 4); /* too old by now */
    assert_memory_equal(&w, &before, sizeof(w));
    assert_memory_equal(words, copy, sizeof(words));
}

static void test_last_counter(void **state)
{
    (void)state;
    uint64_t words[2] = {0};
    mvpn_replay w = {0};
    assert_int_equal(arrive(&w, words, 2, UINT64_MAX), MVPN_E_REPLAY);
    assert_int_equal(arrive(&w, words, 2, UINT64_MAX - 1), 0);
    assert_int_equal(arrive(&w, words, 2, UINT64_MAX - 1), MVPN_E_REPLAY);
    assert_int_equal(arrive(&w, words, 2, UINT64_MAX), MVPN_E_REPLAY);
    assert_int_equal(arrive(&w, words, 2, UINT64_MAX - 65), 0);
    assert_int_equal(arrive(&w, words, 2, UINT64_MAX - 66), MVPN_E_REPLAY);
}

/* The slow model: everything that was ever accepted, relative to `base`. */
#define MODEL_SPAN 200000
static bool seen[MODEL_SPAN];

static void run_model(mvpn_rng *rng, size_t word_count, uint64_t base)
{
    uint64_t words[WORDS_MAX];
    mvpn_replay w = {0};
    uint64_t reach = (uint64_t)(word_count - 1) * 64;
    uint64_t highest = 0;
    bool is_empty = true;
    memset(seen, 0, sizeof(seen));
    memset(words, 0xa5, sizeof(words));
    for (int i = 0; i < 20000; i++) {
        /* Mostly near the window, now and then a leap of up to several windows. */
        uint32_t span = mvpn_rng_below(rng, 50) == 0 ? 5 * 2048 : (uint32_t)reach + 70;
        int64_t step = (int64_t)mvpn_rng_below(rng, span + 8) - (int64_t)reach - 40;
        int64_t at = (int64_t)highest + step;
        if (at < 0 || at >= MODEL_SPAN) {
            continue;
        }
        uint64_t c = (uint64_t)at;
        bool is_fresh = is_empty || c > highest || (highest - c <= reach && !seen[c]);
        assert_int_equal(arrive(&w, words, word_count, base + c), is_fresh ? 0 : MVPN_E_REPLAY);
        if (is_fresh) {
            seen[c] = true;
            highest = is_empty || c > highest ? c : highest;
            is_empty = false;
        }
    }
}

static void test_model(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 3, 5, 8, WORDS_MAX};
    static const uint64_t bases[] = {0, 1, 63, (uint64_t)1 << 32, UINT64_MAX - MODEL_SPAN};
    const char *text = getenv("MVPN_TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 20240229;
    mvpn_rng rng;
    print_message("seed %llu (MVPN_TEST_SEED)\n", (unsigned long long)seed);
    mvpn_rng_init_test(&rng, seed);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (size_t k = 0; k < sizeof(bases) / sizeof(bases[0]); k++) {
            run_model(&rng, counts[i], bases[k]);
        }
    }
}

/* At each place within a word and early in a stream: neither what came nor what was too old is
 * taken after growth; what had not come yet is; and from then on the window is the large one. */
static void test_growth(void **state)
{
    (void)state;
    enum { SMALL = MVPN_REPLAY_WORDS(128), LARGE = MVPN_REPLAY_WORDS(2048), AHEAD = 5000 };
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 1);
    for (uint64_t highest = 0; highest < 700; highest++) {
        uint64_t words[SMALL], large[LARGE];
        bool came[700 + AHEAD] = {false};
        mvpn_replay w = {0};
        for (uint64_t c = 0; c <= highest; c++) {
            /* A little out of order, and with gaps. */
            uint64_t at = c == highest ? c : mvpn_rng_below(&rng, (uint32_t)(c + 1));
            came[at] = arrive(&w, words, SMALL, at) == 0 || came[at];
        }
        bool was_refused[700];
        for (uint64_t c = 0; c <= highest; c++) {
            was_refused[c] = mvpn_replay_check(&w, words, SMALL, c) != 0;
            assert_true(!came[c] || was_refused[c]);
        }
        mvpn_replay_grow(&w, large, LARGE, words, SMALL);
        for (uint64_t c = 0; c <= highest; c++) {
            assert_int_equal(mvpn_replay_check(&w, large, LARGE, c) != 0, was_refused[c]);
        }
        uint64_t top = highest;
        for (unsigned i = 0; i < 300; i++) {
            top += 1 + mvpn_rng_below(&rng, 14);
            assert_int_equal(arrive(&w, large, LARGE, top), 0);
            came[top] = true;
            for (uint64_t c = 0; i % 50 == 0 && c <= top; c++) {
                int err = mvpn_replay_check(&w, large, LARGE, c);
                bool is_old = c <= highest ? was_refused[c] : came[c];
                assert_int_equal(err != 0, is_old || top - c > 2048);
            }
        }
        assert_int_equal(arrive(&w, large, LARGE, top + 4000), 0);
        for (uint64_t c = 0; c <= top; c++) {
            assert_int_equal(mvpn_replay_check(&w, large, LARGE, c), MVPN_E_REPLAY);
        }
    }
}

static void test_growth_of_an_empty_window(void **state)
{
    (void)state;
    uint64_t words[2] = {0}, large[5];
    mvpn_replay w = {0};
    mvpn_replay_grow(&w, large, 5, words, 2);
    assert_int_equal(arrive(&w, large, 5, 100), 0);
    assert_int_equal(arrive(&w, large, 5, 100), MVPN_E_REPLAY);
    assert_int_equal(arrive(&w, large, 5, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_edge),
        cmocka_unit_test(test_check_changes_nothing),
        cmocka_unit_test(test_last_counter),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_growth_of_an_empty_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
