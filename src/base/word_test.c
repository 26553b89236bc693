/* The distance of words, by pairs of which it is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/word.h"

static void test_distances(void **state)
{
    static const struct {
        const char *a, *b;
        size_t distance;
    } rows[] = {
        {"", "", 0},
        {"", "abc", 3},
        {"maple", "maple", 0},
        {"mapel", "maple", 1},
        {"mple", "maple", 1},
        {"mapple", "maple", 1},
        {"naple", "maple", 1},
        {"kitten", "sitting", 3},
        {"flaw", "lawn", 2},
        {"abcd", "badc", 2},
        {"a", "b", 1},
        {"oak", "rowan", 3},
        {"0123456789012345678901234567890123", "01234567890123456789012345678901xx", 0},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(mvpn_word_distance(rows[i].a, rows[i].b), rows[i].distance);
        assert_int_equal(mvpn_word_distance(rows[i].b, rows[i].a), rows[i].distance);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
