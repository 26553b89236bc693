/*
 * Who may use which command.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "bin/command_table.h"

static unsigned called;

static int read_it(void *program, const json_t *request, json_t *reply)
{
    (void)program, (void)request, (void)reply;
    called++;
    return 0;
}

static int change_it(void *program, const json_t *request, json_t *reply)
{
    (void)program, (void)request, (void)reply;
    called++;
    return MVPN_E_STATE;
}

static const command_row rows[] = {{"read", read_it, false}, {"change", change_it, true}};

static const command_owners owners = {
    .starter = 1000,
    .count = 2,
    .operators = {{.uid = 2000, .name = "alice"}, {.uid = 2001, .name = "bob"}},
};

static int ask(const command_owners *who, const char *cmd, uid_t uid, char error[static 1024])
{
    json_t *request = json_pack("{s:s}", "cmd", cmd), *reply = json_object();
    called = 0;
    int r = command_table_answer(rows, MVPN_ARRAY_LEN(rows), who, NULL, request, uid, reply);
    const char *text = json_string_value(json_object_get(reply, "error"));
    (void)snprintf(error, 1024, "%s", text != NULL ? text : "");
    json_decref(request);
    json_decref(reply);
    return r;
}

static void test_who(void **state)
{
    static const struct {
        const char *cmd;
        uid_t uid;
        int result;
        unsigned calls;
    } table[] = {
        {"read", 0, 0, 1},
        {"read", 12345, 0, 1},
        {"change", 0, MVPN_E_STATE, 1},
        {"change", 1000, MVPN_E_STATE, 1}, /* who started it */
        {"change", 2000, MVPN_E_STATE, 1},
        {"change", 2001, MVPN_E_STATE, 1},
        {"change", 2002, MVPN_E_POLICY, 0},
        {"change", (uid_t)-1, MVPN_E_POLICY, 0},
        {"changes", 0, MVPN_E_UNKNOWN, 0},
        {"", 0, MVPN_E_UNKNOWN, 0},
    };
    char error[1024];
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(table); i++) {
        assert_int_equal(ask(&owners, table[i].cmd, table[i].uid, error), table[i].result);
        assert_int_equal(called, table[i].calls);
        assert_int_equal(error[0] != '\0', table[i].result == MVPN_E_POLICY);
    }
}

static void test_refusal_names_whom_to_ask(void **state)
{
    static const command_owners roots = {.starter = 0};
    char error[1024];
    (void)state;
    (void)ask(&owners, "change", 4242, error);
    assert_non_null(strstr(error, "'change'"));
    assert_non_null(strstr(error, "uid 4242"));
    assert_non_null(strstr(error, "root, uid 1000 who started it, and its operators may"));
    assert_non_null(strstr(error, "(alice, bob)"));
    assert_non_null(strstr(error, "sudo"));
    (void)ask(&roots, "change", 4242, error);
    assert_null(strstr(error, "who started it"));
    assert_non_null(strstr(error, "(there are none)"));
}

static void test_longest_refusal_fits(void **state)
{
    command_owners many = {.starter = (uid_t)-2, .count = MVPN_CONFIG_OPERATORS_MAX};
    char error[1024];
    (void)state;
    for (unsigned i = 0; i < many.count; i++) {
        memset(many.operators[i].name, 'x', MVPN_CONFIG_USER_MAX);
    }
    (void)ask(&many, "change", 4242, error);
    assert_non_null(strstr(error, "the client's configuration"));
}

static void test_init(void **state)
{
    mvpn_config_client config = {.operator_count = 1, .operators = {{.uid = 77, .name = "carol"}}};
    command_owners made;
    (void)state;
    command_owners_init(&made, &config);
    assert_int_equal(made.starter, getuid());
    assert_true(command_is_allowed(&made, 77));
    assert_false(command_is_allowed(&made, 78));
    assert_string_equal(made.operators[0].name, "carol");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who),
        cmocka_unit_test(test_refusal_names_whom_to_ask),
        cmocka_unit_test(test_longest_refusal_fits),
        cmocka_unit_test(test_init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
