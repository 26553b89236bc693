#include "bench/load/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static load_options o;

/* The words of one line, as the shell would split them. */
static const char *parse(const char *line)
{
    static char text[512];
    char *argv[64], *rest = text;
    int argc = 0;
    memset(&o, 0, sizeof(o));
    (void)strncat(memset(text, 0, sizeof(text)), line, sizeof(text) - 1);
    for (char *word = strtok_r(text, " ", &rest); word != NULL && argc < 64;
         word = strtok_r(NULL, " ", &rest)) {
        argv[argc++] = word;
    }
    return load_options_parse(argc, argv, &o);
}

static void defaults(void **state)
{
    (void)state;
    assert_null(parse("--network n.conf --server 1.2.3.4:5"));
    assert_string_equal(o.network_file, "n.conf");
    assert_int_equal(o.server.port, 5);
    assert_int_equal(load_options_total(&o), 50);
    assert_int_equal(o.clients[LOAD_BULK], 5);
    assert_int_equal(o.clients[LOAD_INTERACTIVE], 20);
    assert_int_equal(o.clients[LOAD_IDLE], 25);
    assert_int_equal(o.hops, 3);
    assert_int_equal(o.seconds, 10);
    assert_int_equal(o.bind_count, 1);
    assert_int_equal(o.bind[0].family, 4);
    assert_int_equal(o.direction, LOAD_UP);
    assert_int_equal(o.kbit, 0);
    assert_false(o.wants_json);
}

static void everything(void **state)
{
    (void)state;
    assert_null(parse("--network n --server 1.2.3.4:5 --mode bulk=3,flood=1 --rate 7 --seconds 8 "
                      "--hops 2 --direction both --kbit 9 --flood-kbit 10 --size 26 --json "
                      "--path a,bc --path d --relay-pid 11 --build-seconds 12 --bind 127.0.0.1:0 "
                      "--bind 127.0.1.1:0"));
    assert_int_equal(o.clients[LOAD_BULK], 3);
    assert_int_equal(o.clients[LOAD_FLOOD], 1);
    assert_int_equal(load_options_total(&o), 4);
    assert_int_equal(o.rate, 7);
    assert_int_equal(o.seconds, 8);
    assert_int_equal(o.hops, 2);
    assert_int_equal(o.direction, LOAD_BOTH);
    assert_int_equal(o.kbit, 9);
    assert_int_equal(o.flood_kbit, 10);
    assert_int_equal(o.size, 26);
    assert_int_equal(o.relay_pid, 11);
    assert_int_equal(o.build_seconds, 12);
    assert_int_equal(o.bind_count, 2);
    assert_int_equal(o.bind[1].ip[2], 1);
    assert_true(o.wants_json);
    assert_int_equal(o.path_count, 2);
    assert_int_equal(o.paths[0].count, 2);
    assert_int_equal(o.paths[0].length[1], 2);
    assert_memory_equal(o.paths[0].hop[1], "bc", 2);
    assert_int_equal(o.paths[1].count, 1);
}

static void kinds(void **state)
{
    (void)state;
    static const struct {
        const char *mode;
        enum load_kind kind;
    } rows[] = {
        {"bulk", LOAD_BULK},
        {"interactive", LOAD_INTERACTIVE},
        {"idle", LOAD_IDLE},
        {"flood", LOAD_FLOOD},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char line[128] = "--network n --server 1.2.3.4:5 --clients 7 --mode ";
        assert_null(parse(strcat(line, rows[i].mode)));
        assert_int_equal(o.clients[rows[i].kind], 7);
        assert_int_equal(load_options_total(&o), 7);
    }
}

static void servers(void **state)
{
    (void)state;
    assert_null(parse("--echo 1.2.3.4:5"));
    assert_true(o.is_echo);
    assert_int_equal(o.echo.port, 5);
    assert_null(parse("--network n --clients 3 --mode idle")); /* they send nothing */
    assert_null(parse("--help"));
    assert_true(o.wants_help);
}

static void wrong(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "--server 1.2.3.4:5",
        "--network n",
        "--network n --mode bulk --clients 2",
        "--network n --server 1.2.3.4:5 --clients 0",
        "--network n --server 1.2.3.4:5 --clients 20001",
        "--network n --server 1.2.3.4:5 --clients -1",
        "--network n --server 1.2.3.4:5 --clients 1x",
        "--network n --server 1.2.3.4:5 --clients 99999999999999999999999",
        "--network n --server 1.2.3.4:5 --clients",
        "--network n --server 1.2.3.4:5 --clients 5 --mode bulk=5",
        "--network n --server 1.2.3.4:5 --mode bulk=15000,idle=15000",
        "--network n --server 1.2.3.4:5 --mode bulk=",
        "--network n --server 1.2.3.4:5 --mode bulk=0",
        "--network n --server 1.2.3.4:5 --mode bulky=1",
        "--network n --server 1.2.3.4:5 --mode bul=1",
        "--network n --server 1.2.3.4:5 --mode heavy",
        "--network n --server 1.2.3.4:5 --direction left",
        "--network n --server 1.2.3.4:5 --size 25",
        "--network n --server 1.2.3.4:5 --size 1201",
        "--network n --server 1.2.3.4:5 --rate 0",
        "--network n --server 1.2.3.4:5 --hops 6",
        "--network n --server 1.2.3.4:5 --path a,,b",
        "--network n --server 1.2.3.4:5 --path a,b,c,d,e,f",
        "--network n --server [::1]:5",
        "--network n --server nowhere",
        "--network n --server 1.2.3.4:5 --fast 1",
        "--network n --server 1.2.3.4:5 fast",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (parse(rows[i]) == NULL) {
            fail_msg("accepted: %s", rows[i]);
        }
        assert_null(o.network_file); /* untouched */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(everything), cmocka_unit_test(kinds),
        cmocka_unit_test(servers),  cmocka_unit_test(wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
