#include "bin/options_tables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const option_program *const programs[] = {
    &options_meshvpn,   &options_bootstrap,     &options_client,    &options_relay,
    &options_exit_node, &options_dht_bootstrap, &options_discovery,
};

#define ARGS_MAX 12

typedef struct outcome {
    int status;
    char said[8192]; /* on both streams */
    options_given given;
    char *argv[ARGS_MAX + 2];
    char words[512];
} outcome;

/* Parse "a b c"; a word "''" is empty. What is printed is caught. */
static void parse(const option_program *program, const char *line, outcome *o)
{
    static char name[] = "program";
    int argc = 1;
    FILE *file = tmpfile();
    assert_non_null(file);
    *o = (outcome){.argv = {name}};
    (void)snprintf(o->words, sizeof(o->words), "%s", line);
    for (char *w = strtok(o->words, " "); w != NULL; w = strtok(NULL, " ")) {
        assert_true(argc <= ARGS_MAX);
        o->argv[argc++] = strcmp(w, "''") == 0 ? w + 2 : w;
    }
    (void)fflush(NULL);
    int out = dup(1), err = dup(2);
    (void)dup2(fileno(file), 1);
    (void)dup2(fileno(file), 2);
    o->status = options_parse(program, argc, o->argv, &o->given);
    (void)fflush(NULL);
    (void)dup2(out, 1);
    (void)dup2(err, 2);
    (void)close(out);
    (void)close(err);
    rewind(file);
    size_t n = fread(o->said, 1, sizeof(o->said) - 1, file);
    o->said[n] = '\0';
    (void)fclose(file);
}

static void test_tables(void **state)
{
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(programs); i++) {
        const char *fault = options_check(programs[i]);
        if (fault != NULL) {
            fail_msg("%s: %s", programs[i]->name, fault);
        }
    }
}

/* Everything has a help that names all its options and fits a terminal. */
static void test_help(void **state)
{
    outcome o;
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(programs); i++) {
        for (const option_verb *v = programs[i]->verbs; v->name != NULL; v++) {
            char line[64];
            (void)snprintf(line, sizeof(line), "%s --help", v->name);
            parse(programs[i], line, &o);
            assert_int_equal(o.status, 0);
            for (const option_row *r = v->options; r != NULL && r->name != NULL; r++) {
                assert_non_null(strstr(o.said, r->name));
            }
            const char *examples = strstr(o.said, "\nExamples:");
            for (const char *c = o.said; *c != '\0'; c += strcspn(c, "\n") + 1) {
                assert_true(strcspn(c, "\n") <= 80 || (examples != NULL && c > examples));
            }
        }
    }
}

static void test_refusals(void **state)
{
    static const struct {
        const option_program *program;
        const char *line, *text;
    } rows[] = {
        {&options_meshvpn, "", "Usage: meshvpn COMMAND"},
        {&options_meshvpn, "stauts",
         "'stauts' is no command. Did you mean 'status'?\nTry 'meshvpn help'."},
        {&options_meshvpn, "xyzzy", "'xyzzy' is no command\nTry"},
        {&options_meshvpn, "''", "'' is no command\nTry"},
        {&options_meshvpn, "--vresion",
         "there is no option '--vresion'. Did you mean '--version'?"},
        {&options_meshvpn, "circuit", "circuit needs one word more: 'meshvpn circuit list'"},
        {&options_meshvpn, "circuit --json", "circuit needs one word more: 'meshvpn circuit list'"},
        {&options_meshvpn, "circuit nwe", "'circuit nwe' is no command. Did you mean 'new'?"},
        {&options_meshvpn, "help status now", "'now' is one word too many behind 'status'"},
        {&options_meshvpn, "help frobnicate", "'frobnicate' is no command"},
        {&options_meshvpn, "status --jsn",
         "meshvpn: status has no option '--jsn'. Did you mean '--json'?\nTry 'meshvpn help "
         "status'.\n"},
        {&options_meshvpn, "status -j", "status has no option '-j'\n"},
        {&options_meshvpn, "status --json=yes", "--json takes no value"},
        {&options_meshvpn, "status --control",
         "--control: a value is missing: write --control SOCKET"},
        {&options_meshvpn, "status now",
         "'now' is one argument too many: status takes options alone"},
        {&options_meshvpn, "ping", "ping whom?"},
        {&options_meshvpn, "ping a b", "'b' is one argument too many: ping takes one NODE"},
        {&options_meshvpn, "ping a --count 0", "--count takes a number from 1 to 1000000, not '0'"},
        {&options_meshvpn, "ping a --count=1000001", "not '1000001'"},
        {&options_meshvpn, "ping a --count -1", "not '-1'"},
        {&options_meshvpn, "ping a --count 1x", "not '1x'"},
        {&options_meshvpn, "ping a --count ''", "not ''"},
        {&options_meshvpn, "ping a --count 99999999999999999999", "--count takes"},
        {&options_meshvpn, "ping a --interval 60001",
         "--interval takes milliseconds (a number from 1 to 60000)"},
        {&options_meshvpn, "netcheck --server a --server b --server c --server d --server e",
         "--server can be given 4 times; one too many is 'e'"},
        {&options_meshvpn, "config",
         "config needs one word more: 'meshvpn config check', 'meshvpn config show'"},
        {&options_meshvpn, "config check rely x",
         "KIND is one of: relay exit client bootstrap discovery; not 'rely'"},
        {&options_bootstrap, "deploy net alder", "deploy needs DIR, NAME and HOST"},
        {&options_bootstrap, "init net --relax same", "--relax is one of: same-16"},
        {&options_relay, "--cleanup",
         "there is no option '--cleanup'\nTry 'meshvpn-relay --help'."},
        {&options_relay, "-x", "there is no option '-x'"},
        {&options_relay, "--config", "--config: a value is missing"},
        {&options_client, "status", "'status' is one argument too many"},
    };
    outcome o;
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        parse(rows[i].program, rows[i].line, &o);
        if (o.status != OPTIONS_USAGE || strstr(o.said, rows[i].text) == NULL) {
            fail_msg("'%s': status %d, said: %s", rows[i].line, o.status, o.said);
        }
    }
}

static void test_too_many_options(void **state)
{
    static char program[] = "meshvpn", verb[] = "status", option[] = "--json";
    char *argv[OPTIONS_GIVEN_MAX + 4] = {program, verb};
    options_given given;
    (void)state;
    for (size_t i = 2; i < OPTIONS_GIVEN_MAX + 3; i++) {
        argv[i] = option;
    }
    assert_int_equal(options_parse(&options_meshvpn, OPTIONS_GIVEN_MAX + 2, argv, &given), -1);
    assert_int_equal(options_parse(&options_meshvpn, OPTIONS_GIVEN_MAX + 3, argv, &given),
                     OPTIONS_USAGE);
}

static void test_values(void **state)
{
    outcome o;
    (void)state;
    parse(&options_meshvpn, "ping --count 3 alder --control=/a=b --count=7", &o);
    assert_int_equal(o.status, -1);
    assert_int_equal(o.given.verb->id, VERB_PING);
    assert_string_equal(o.given.operands[0], "alder");
    assert_int_equal(options_number(&o.given, "--count", 1), 7); /* the last one holds */
    assert_int_equal(options_number(&o.given, "--interval", 1000), 1000);
    assert_string_equal(options_text(&o.given, "--control"), "/a=b");
    assert_false(options_has(&o.given, "--json"));
    assert_int_equal(o.given.rest_count, 5);

    parse(&options_meshvpn, "circuit new", &o);
    assert_int_equal(o.status, -1);
    assert_int_equal(o.given.verb->id, VERB_CIRCUIT_NEW);
    assert_int_equal(o.given.rest_count, 0);

    parse(&options_meshvpn, "join - --force", &o);
    assert_int_equal(o.status, -1);
    assert_string_equal(o.given.operands[0], "-");
    assert_true(options_has(&o.given, "--force"));

    parse(&options_bootstrap, "deploy net alder -- -h", &o); /* behind -- nothing is an option */
    assert_int_equal(o.status, -1);
    assert_string_equal(o.given.operands[2], "-h");

    parse(&options_exit_node, "-c a.conf --check-policy rules 192.0.2.1:25", &o);
    assert_int_equal(o.status, -1);
    assert_string_equal(options_text(&o.given, "--config"), "a.conf");
    assert_string_equal(o.given.operands[0], "192.0.2.1:25");
}

static void test_version(void **state)
{
    outcome o;
    (void)state;
    parse(&options_relay, "--version", &o);
    assert_int_equal(o.status, 0);
    assert_string_equal(o.said, "meshvpn-relay " MVPN_VERSION "\n");
    parse(&options_meshvpn, "help circuit", &o);
    assert_int_equal(o.status, 0);
    assert_non_null(strstr(o.said, "Usage: meshvpn circuit new"));
    parse(&options_meshvpn, "help circuit new", &o);
    assert_int_equal(o.status, 0);
    parse(&options_meshvpn, "circuit --help", &o);
    assert_int_equal(o.status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),   cmocka_unit_test(test_help),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_too_many_options),
        cmocka_unit_test(test_values),   cmocka_unit_test(test_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
