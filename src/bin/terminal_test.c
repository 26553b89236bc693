/*
 * When escape codes and characters beyond ASCII are written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "bin/terminal.h"

static void test_escapes(void **state)
{
    static const struct {
        terminal_facts facts;
        bool has_escapes;
    } rows[] = {
        {{.is_terminal = true, .term = "xterm"}, true},
        {{.is_terminal = true, .term = "xterm", .no_color = ""}, true},
        {{.is_terminal = true, .term = "xterm", .no_color = "0"}, false},
        {{.is_terminal = true, .term = "xterm", .wants_plain = true}, false},
        {{.is_terminal = true, .term = "dumb"}, false},
        {{.is_terminal = true, .term = ""}, false},
        {{.is_terminal = true}, false},
        {{.term = "xterm"}, false},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        terminal t;
        terminal_decide(&rows[i].facts, stdout, &t);
        assert_int_equal(t.has_escapes, rows[i].has_escapes);
        for (int style = TERMINAL_PLAIN; style <= TERMINAL_RED; style++) {
            const char *code = terminal_style_code(&t, (enum terminal_style)style);
            assert_int_equal(code[0] == '\033', rows[i].has_escapes);
        }
    }
}

static void test_characters(void **state)
{
    static const char *const codesets[] = {"UTF-8", "ANSI_X3.4-1968", "", NULL};
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(codesets); i++) {
        const terminal_facts facts = {.is_terminal = true, .codeset = codesets[i]};
        terminal t;
        terminal_decide(&facts, stdout, &t);
        assert_int_equal(t.is_utf8, i == 0);
        assert_int_equal((terminal_mark(&t, true)[0] & 0x80) != 0, i == 0);
        assert_int_equal((terminal_mark(&t, false)[0] & 0x80) != 0, i == 0);
        assert_int_equal((terminal_ellipsis(&t)[0] & 0x80) != 0, i == 0);
        assert_string_not_equal(terminal_mark(&t, true), terminal_mark(&t, false));
    }
}

static void test_size(void **state)
{
    static const struct {
        unsigned columns, rows, want_columns, want_rows;
    } rows[] = {{120, 40, 120, 40}, {0, 0, 80, 24}, {65535, 1, 80, 1}};
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        const terminal_facts facts = {.columns = rows[i].columns, .rows = rows[i].rows};
        terminal t;
        terminal_decide(&facts, stdout, &t);
        assert_int_equal(t.columns, rows[i].want_columns);
        assert_int_equal(t.rows, rows[i].want_rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
