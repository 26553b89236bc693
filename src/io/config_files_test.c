/* FILE and FILE.d: what a later file says stands for what an earlier one said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "io/config_files.h"
#include "io/config_show.h"

static char dir[] = "/tmp/meshvpn-config-files.XXXXXX";
static char main_file[64];
static mvpn_config config;
static mvpn_fault fault;

static void put(const char *name, const char *text)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

static int load(void)
{
    fault.text[0] = '\0';
    return mvpn_config_load(main_file, MVPN_CONFIG_CLIENT, &config, &fault);
}

static int setup(void **state)
{
    char parts[80];
    (void)state;
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(main_file, sizeof(main_file), "%s/client.conf", dir);
    (void)snprintf(parts, sizeof(parts), "%s.d", main_file);
    return mkdir(parts, 0700);
}

static int teardown(void **state)
{
    char command[64];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static void test_order(void **state)
{
    (void)state;
    put("client.conf", "hops = 2\ntun_name = main0\nexit_ports = {80, 8080}\nallow_lan = true\n");
    put("client.conf.d/20-b.conf", "hops = 5\nnetwork_file = \"n.conf\"\n");
    put("client.conf.d/10-a.conf", "hops = 4\nexit_ports = {443}\n");
    put("client.conf.d/30-c.conf.dpkg-old", "hops = wrong\n");
    put("client.conf.d/.hidden.conf", "hops = wrong\n");
    assert_int_equal(load(), 0);
    assert_int_equal(config.client.hops, 5);
    assert_string_equal(config.client.tun_name, "main0");
    assert_int_equal(config.client.exit_port_count, 1); /* a list as a whole */
    assert_int_equal(config.client.exit_ports[0], 443);
    assert_true(config.client.allow_lan);
    assert_memory_equal(config.network_file, dir, strlen(dir)); /* the main file's directory */
    assert_string_equal(config.network_file + strlen(dir), "/n.conf");
}

static const json_t *shown(const json_t *object, const char *key)
{
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(object, "settings"), i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "key")), key) == 0) {
            return row;
        }
    }
    fail_msg("%s is not shown", key);
    return NULL;
}

static void check_origin(const json_t *object, const char *key, const char *file, int line)
{
    const json_t *row = shown(object, key);
    const char *path = json_string_value(json_object_get(row, "file"));
    assert_non_null(path);
    assert_non_null(strstr(path, file));
    assert_int_equal(json_integer_value(json_object_get(row, "line")), line);
}

static void test_origins(void **state)
{
    json_t *object = NULL;
    (void)state;
    put("client.conf", "# one\nhops = 2\ntun_name = main0\nexit_ports = {80, 8080}\n");
    put("client.conf.d/10-a.conf", "\n\nhops = 4\n");
    put("client.conf.d/20-b.conf", "exit_ports = {443}\n");
    assert_int_equal(mvpn_config_show(main_file, MVPN_CONFIG_CLIENT, true, &object, &fault), 0);
    check_origin(object, "hops", "client.conf.d/10-a.conf", 3);
    check_origin(object, "exit_ports", "client.conf.d/20-b.conf", 1);
    check_origin(object, "tun_name", "/client.conf", 3);
    assert_int_equal(json_integer_value(json_object_get(shown(object, "hops"), "value")), 4);
    assert_int_equal(json_array_size(json_object_get(shown(object, "exit_ports"), "value")), 1);
    assert_true(json_is_null(json_object_get(shown(object, "log_level"), "file")));
    json_decref(object);
}

/* Also in what does not count in the end. */
static void test_mistakes(void **state)
{
    (void)state;
    put("client.conf", "hops = 2\n");
    put("client.conf.d/20-b.conf", "");
    put("client.conf.d/10-a.conf", "hopps = 4\n");
    assert_int_equal(load(), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "10-a.conf:1: unknown key 'hopps'. Did you mean 'hops'?"));
    put("client.conf.d/10-a.conf", "\nhops = 9\n");
    put("client.conf.d/20-b.conf", "hops = 3\n");
    assert_int_equal(load(), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "10-a.conf:2: hops"));
    put("client.conf.d/10-a.conf", "hops = 4\nhops = 4\n");
    assert_int_equal(load(), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "given in line 1 already"));
    put("client.conf.d/10-a.conf", "lockdown = true\n");
    put("client.conf.d/20-b.conf", "kill_switch = false\n");
    assert_int_equal(load(), MVPN_E_CONFIG); /* rules between keys hold for the whole */
    assert_non_null(strstr(fault.text, "lockdown needs kill_switch"));
    put("client.conf.d/10-a.conf", "");
    put("client.conf.d/20-b.conf", "");
    assert_int_equal(load(), 0);
}

static void test_too_many(void **state)
{
    char name[64];
    (void)state;
    for (int i = 0; i < MVPN_CONFIG_FILES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "client.conf.d/x%02d.conf", i);
        put(name, "");
    }
    assert_int_equal(load(), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "at most 32 are read"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
