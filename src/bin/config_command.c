#include "bin/config_command.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/assert.h"
#include "io/config_show.h"
#include "io/network_file.h"

/* Where the comments begin. */
#define COLUMN 40

enum mvpn_config_kind config_find(char file[static PATH_MAX])
{
    static const enum mvpn_config_kind kinds[] = {MVPN_CONFIG_CLIENT, MVPN_CONFIG_EXIT,
                                                  MVPN_CONFIG_RELAY, MVPN_CONFIG_BOOTSTRAP,
                                                  MVPN_CONFIG_DISCOVERY};
    size_t i = 0;
    do {
        (void)snprintf(file, PATH_MAX, MVPN_CONFIG_KEY_DIR "/%s.conf",
                       mvpn_config_kind_name(kinds[i]));
    } while (access(file, F_OK) != 0 && ++i < MVPN_ARRAY_LEN(kinds));
    if (i == MVPN_ARRAY_LEN(kinds)) {
        (void)snprintf(file, PATH_MAX, MVPN_CONFIG_KEY_DIR "/client.conf");
        return MVPN_CONFIG_CLIENT;
    }
    return kinds[i];
}

enum mvpn_config_kind config_kind_and_file(const options_given *given, char file[static PATH_MAX])
{
    const char *name = given->operands[0] != NULL ? given->operands[0] : "client";
    unsigned bit = 0; /* the parser knows the names */
    while (strcmp(name, mvpn_config_kind_name((enum mvpn_config_kind)(1u << bit))) != 0) {
        bit++;
        MVPN_ASSERT(bit < MVPN_CONFIG_KINDS);
    }
    if (given->operands[1] != NULL) {
        (void)snprintf(file, PATH_MAX, "%s", given->operands[1]);
    } else {
        (void)snprintf(file, PATH_MAX, "/etc/meshvpn/%s.conf", name);
    }
    return (enum mvpn_config_kind)(1u << bit);
}

/* --- check --- */

static int check_config(enum mvpn_config_kind kind, const char *file)
{
    static mvpn_config config; /* 20 KB */
    mvpn_network_file network;
    mvpn_fault fault;
    if (mvpn_config_load(file, kind, &config, &fault) != 0 ||
        mvpn_network_file_load(config.network_file, (uint64_t)time(NULL), &network, &fault) != 0) {
        (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
        return EXIT_FAILURE;
    }
    (void)printf("%s: good. Network \"%s\" with %zu relays\n", file, network.name,
                 network.relay_count);
    if (network.expired_count > 0) {
        (void)fprintf(stderr,
                      "%s: %zu relays are outside their time, %s among them. Renew them with "
                      "meshvpn-bootstrap renew, or set the clock\n",
                      config.network_file, network.expired_count, network.expired_name);
    }
    mvpn_network_file_done(&network);
    return EXIT_SUCCESS;
}

int config_check_command(const options_given *given)
{
    char file[PATH_MAX];
    enum mvpn_config_kind kind = config_kind_and_file(given, file);
    return check_config(kind, file);
}

/* --- show --- */

static int print_text(const char *text)
{
    int n = putchar('"') != EOF;
    for (; *text != '\0'; text++) {
        if (strchr("\"\\", *text) != NULL) {
            n += putchar('\\') != EOF;
        }
        n += putchar(*text) != EOF;
    }
    return n + (putchar('"') != EOF);
}

/* As it would stand in a file; returns the columns that it takes. */
static int print_value(const json_t *value)
{
    const json_t *element;
    size_t i;
    int n = 0;
    if (json_is_string(value)) {
        return print_text(json_string_value(value));
    }
    if (json_is_integer(value)) {
        return printf("%lld", (long long)json_integer_value(value));
    }
    if (json_is_boolean(value)) {
        return printf("%s", json_is_true(value) ? "true" : "false");
    }
    n += printf("{");
    json_array_foreach(value, i, element)
    {
        n += printf("%s", i > 0 ? ", " : "");
        n += print_text(json_string_value(element));
    }
    return n + printf("}");
}

static void print_setting(const json_t *setting)
{
    const json_t *value = json_object_get(setting, "value");
    const char *key = json_string_value(json_object_get(setting, "key"));
    if (json_is_null(value)) { /* the default is said in words: no line of a file */
        int n = printf("# %s: %s", key, json_string_value(json_object_get(setting, "default")));
        (void)printf("%*s# default\n", n < COLUMN ? COLUMN - n : 1, "");
        return;
    }
    int n = printf("%s = ", key) + print_value(value);
    (void)printf("%*s# %s:%lld\n", n < COLUMN ? COLUMN - n : 1, "",
                 json_string_value(json_object_get(setting, "file")),
                 (long long)json_integer_value(json_object_get(setting, "line")));
}

int config_show_command(const options_given *given)
{
    char file[PATH_MAX];
    mvpn_fault fault = {""};
    json_t *shown = NULL;
    const json_t *setting;
    size_t i;
    enum mvpn_config_kind kind = config_kind_and_file(given, file);
    if (mvpn_config_show(file, kind, options_has(given, "--effective"), &shown, &fault) != 0) {
        (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
        return EXIT_FAILURE;
    }
    if (options_has(given, "--json")) {
        (void)json_dumpf(shown, stdout, JSON_COMPACT);
        (void)putchar('\n');
    } else {
        json_array_foreach(json_object_get(shown, "settings"), i, setting)
        {
            print_setting(setting);
        }
    }
    json_decref(shown);
    return EXIT_SUCCESS;
}

/* --- docs --- */

int config_docs_command(const options_given *given)
{
    (void)given;
    mvpn_config_write_docs(stdout);
    return EXIT_SUCCESS;
}
