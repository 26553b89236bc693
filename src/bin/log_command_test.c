/* Which lines of a log are the last ones, and of which level each is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/macros.h"
#include "bin/log_command.h"

static void test_levels(void **state)
{
    (void)state;
    assert_int_equal(log_level_of("error: no"), MVPN_LOG_ERROR);
    assert_int_equal(log_level_of("warning: hm"), MVPN_LOG_WARN);
    assert_int_equal(log_level_of("connected"), MVPN_LOG_INFO);
    assert_int_equal(log_level_of("errors: none"), MVPN_LOG_INFO);
    assert_int_equal(log_level_of("debug: x"), MVPN_LOG_DEBUG);
}

static void test_last(void **state)
{
    static const char text[] = "one\nerror: two\nthree\ndebug: four\nfive\n";
    static const struct {
        unsigned long lines;
        enum mvpn_log_level level;
        const char *wanted;
    } rows[] = {
        {1, MVPN_LOG_DEBUG, "five\n"},
        {2, MVPN_LOG_DEBUG, "debug: four\nfive\n"},
        {2, MVPN_LOG_INFO, "three\ndebug: four\nfive\n"},
        {1, MVPN_LOG_ERROR, "error: two\nthree\ndebug: four\nfive\n"},
        {2, MVPN_LOG_ERROR, text},
        {5, MVPN_LOG_DEBUG, text},
        {99, MVPN_LOG_DEBUG, text},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_string_equal(log_last(text, strlen(text), rows[i].lines, rows[i].level),
                            rows[i].wanted);
    }
    assert_string_equal(log_last("", 0, 5, MVPN_LOG_DEBUG), "");
    assert_string_equal(log_last("\n\n", 2, 1, MVPN_LOG_DEBUG), "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels), cmocka_unit_test(test_last)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
