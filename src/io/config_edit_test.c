/* A key changed in place: nothing else moves, and what comes out says what was wanted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/macros.h"
#include "io/config.h"
#include "io/config_edit.h"

static void check(const char *text, const char *key, const char *value, const char *wanted,
                  unsigned wanted_line)
{
    size_t size = 0;
    unsigned line = 99;
    char *got = mvpn_config_edit(text, strlen(text), key, value, &size, &line);
    assert_non_null(got);
    assert_string_equal(got, wanted);
    assert_int_equal(size, strlen(wanted));
    assert_int_equal(line, wanted_line);
    free(got);
}

static void test_set(void **state)
{
    (void)state;
    check("", "hops", "4", "hops = 4\n", 1);
    check("# hops = 2\n", "hops", "4", "# hops = 2\nhops = 4\n", 2);
    check("a = 1", "hops", "4", "a = 1\nhops = 4\n", 2);
    check("hops = 2\n", "hops", "4", "hops = 4\n", 1);
    check("\n\thops=2 # why\nb = 1\n", "hops", "4", "\n\thops=4 # why\nb = 1\n", 2);
    check("hops = \"2\"\r\n", "hops", "4", "hops = 4\r\n", 1);
    check("hops = 2", "hops", "4", "hops = 4", 1);
    check("/* hops = 1\n */ hops = 2\n", "hops", "4", "/* hops = 1\n */ hops = 4\n", 2);
    check("// hops = 1\nhops =\n  2\n", "hops", "4", "// hops = 1\nhops =\n  4\n", 2);
    check("name = \"hops = 1\"\nhops = 2\n", "hops", "4", "name = \"hops = 1\"\nhops = 4\n", 2);
    check("name = 'it\\'s # no comment'\nhops = 2\n", "hops", "4",
          "name = 'it\\'s # no comment'\nhops = 4\n", 2);
    check("list = {\"a\", # hops = 3\n \"}\"}\nhops = 2\n", "hops", "4",
          "list = {\"a\", # hops = 3\n \"}\"}\nhops = 4\n", 3);
    check("list = {\"a\", // }\n \"b\"} # end\nhops = 2\n", "list", "{\"c\"}",
          "list = {\"c\"} # end\nhops = 2\n", 1);
    check("list += {a, b}\n", "list", "{\"c\"}", "list += {\"c\"}\n", 1);
    check("hops_not = 2\nnot_hops = 3\n", "hops", "4", "hops_not = 2\nnot_hops = 3\nhops = 4\n", 3);
    check("path = /a//b\nhops = 2\n", "hops", "4", "path = /a//b\nhops = 4\n", 2);
    check("a = 1 hops = 2 b = 3\n", "hops", "4", "a = 1 hops = 4 b = 3\n", 1);
}

static void test_unset(void **state)
{
    (void)state;
    check("a = 1\nhops = 2\nb = 3\n", "hops", NULL, "a = 1\nb = 3\n", 2);
    check("hops = 2 # why\n", "hops", NULL, "# why\n", 1);
    check("  hops = 2", "hops", NULL, "", 1);
    check("a = 1 hops = 2 b = 3\n", "hops", NULL, "a = 1 b = 3\n", 1);
    check("list = {\n  a, # x\n  b }\nc = 1\n", "list", NULL, "c = 1\n", 1);
    check("# hops = 2\n", "hops", NULL, "# hops = 2\n", 0);
}

/* Texts that no parser takes end somewhere too. */
static void test_broken(void **state)
{
    static const char *const texts[] = {"hops",        "hops =",     "= 2",        "hops = {",
                                        "hops = \"",   "{ hops = 2", "hops = '\\", "/* hops",
                                        "a b c = = =", "hops = }",   "+",          "\"\""};
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(texts); i++) {
        for (int is_unset = 0; is_unset <= 1; is_unset++) {
            size_t size;
            unsigned line;
            char *got = mvpn_config_edit(texts[i], strlen(texts[i]), "hops", is_unset ? NULL : "4",
                                         &size, &line);
            assert_non_null(got);
            assert_int_equal(strlen(got), size);
            free(got);
        }
    }
}

static void test_values(void **state)
{
    static const struct {
        enum mvpn_setting_type type;
        const char *words, *wanted; /* NULL: refused */
    } rows[] = {
        {MVPN_SETTING_NUMBER, "4", "4"},
        {MVPN_SETTING_BOOL, "true", "true"},
        {MVPN_SETTING_TEXT, "CH", "CH"},
        {MVPN_SETTING_TEXT, "CH,SE", "\"CH,SE\""},
        {MVPN_SETTING_TEXT, "", "\"\""},
        {MVPN_SETTING_TEXT, "a \"b\" \\c", "\"a \\\"b\\\" \\\\c\""},
        {MVPN_SETTING_TEXT, "a\nhops = 5", NULL},
        {MVPN_SETTING_TEXT, "${HOME}", NULL},
        {MVPN_SETTING_NUMBER, "4 kill_switch = false", "\"4 kill_switch = false\""},
        {MVPN_SETTING_LIST, "443,80", "{\"443\", \"80\"}"},
        {MVPN_SETTING_LIST, "{ 443 , \"80\" }", "{\"443\", \"80\"}"},
        {MVPN_SETTING_LIST, "0.0.0.0:443", "{\"0.0.0.0:443\"}"},
        {MVPN_SETTING_LIST, "\"reject tcp * 25,465\",accept any *",
         "{\"reject tcp * 25,465\", \"accept any *\"}"},
        {MVPN_SETTING_LIST, "", "{}"},
        {MVPN_SETTING_LIST, "{}", "{}"},
        {MVPN_SETTING_LIST, "a}\nb = {c", NULL},
    };
    char out[MVPN_CONFIG_VALUE_MAX], *big = malloc(MVPN_CONFIG_VALUE_MAX + 1);
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        bool ok = mvpn_config_value_of(rows[i].type, rows[i].words, out);
        assert_int_equal(ok, rows[i].wanted != NULL);
        if (ok) {
            assert_string_equal(out, rows[i].wanted);
        }
    }
    assert_non_null(big);
    memset(big, 'a', MVPN_CONFIG_VALUE_MAX);
    big[MVPN_CONFIG_VALUE_MAX] = '\0';
    assert_false(mvpn_config_value_of(MVPN_SETTING_TEXT, big, out));
    free(big);
}

/* Whatever stands around it, the parser reads what was set, and the rest is as it was. */
static void test_parser_agrees(void **state)
{
    static const char *const around[] = {
        "# c\n",
        "tun_name = \"x\" // y\n",
        "/* hops = 2 */\n",
        "exit_ports = {80, # 1\n 81}\n",
        "allow_lan = true # hops\n",
        "geoip_dir = '/a//b#c'\n",
        "\n\n",
        "path = { }\n",
    };
    static mvpn_config config;
    (void)state;
    for (unsigned mask = 0; mask < 1u << MVPN_ARRAY_LEN(around); mask++) {
        for (int had = 0; had <= 1; had++) {
            char text[512] = "", out[MVPN_CONFIG_VALUE_MAX];
            mvpn_fault fault = {""};
            unsigned line;
            size_t size;
            for (size_t i = 0; i < MVPN_ARRAY_LEN(around); i++) {
                (void)strcat(text, mask >> i & 1 ? around[i] : "");
                (void)strcat(text, had && i == 4 ? "hops = 2 # before\n" : "");
            }
            assert_true(mvpn_config_value_of(MVPN_SETTING_NUMBER, "4", out));
            char *got = mvpn_config_edit(text, strlen(text), "hops", out, &size, &line);
            assert_non_null(got);
            if (mvpn_config_parse("F", got, size, MVPN_CONFIG_CLIENT, &config, &fault) != 0) {
                fail_msg("%s\n%s", fault.text, got);
            }
            assert_int_equal(config.client.hops, 4);
            char *back = mvpn_config_edit(got, size, "hops", had ? "2" : NULL, &size, &line);
            assert_string_equal(back, text);
            free(back);
            free(got);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),           cmocka_unit_test(test_unset),
        cmocka_unit_test(test_broken),        cmocka_unit_test(test_values),
        cmocka_unit_test(test_parser_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
