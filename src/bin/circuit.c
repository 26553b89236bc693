#include "bin/circuit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "bin/ask.h"
#include "bin/format.h"

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = OPTIONS_USAGE,
};

/* --- asking --- */

/* What the client says to `cmd`, with `key` in it; NULL after saying why not. */
static json_t *ask_client(const options_given *given, const char *cmd, const char *key,
                          int *ret_exit)
{
    char found[PATH_MAX];
    const char *socket = ask_socket(given, found);
    if (socket == NULL) {
        *ret_exit = EXIT_USAGE;
        return NULL;
    }
    json_t *reply = ask_daemon(socket, json_pack("{s:s}", "cmd", cmd), ret_exit);
    if (reply != NULL && json_object_get(reply, key) == NULL) {
        (void)fprintf(stderr,
                      "meshvpn: the daemon at %s is not meshvpn-client: it has no circuits of its "
                      "own. Name the client's control_socket with --control\n",
                      socket);
        json_decref(reply);
        *ret_exit = EXIT_FAILED;
        return NULL;
    }
    return reply;
}

/* --- showing --- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* "guard-1 (CH)"; a relay without a name by the beginning of its identity. */
static void print_hop(const json_t *hop)
{
    const char *name = text_of(hop, "name"), *country = text_of(hop, "country");
    if (name[0] != '\0') {
        (void)printf("%s", name);
    } else {
        (void)printf("%.8s", text_of(hop, "identity"));
    }
    if (country[0] != '\0') {
        (void)printf(" (%s)", country);
    }
}

static void print_path(const json_t *circuit)
{
    const json_t *path = json_object_get(circuit, "path"), *hop;
    size_t i;
    json_array_foreach(path, i, hop)
    {
        (void)fputs(i > 0 ? " > " : "", stdout);
        print_hop(hop);
    }
    (void)putchar('\n');
}

static const char *milliseconds(const json_t *circuit, const char *key, char out[static 32])
{
    const json_t *value = json_object_get(circuit, key);
    (void)snprintf(out, 32, json_is_number(value) ? "%.1f ms" : "-", json_number_value(value));
    return out;
}

static void print_row(const json_t *circuit)
{
    char age[48], rtt[32], bytes[32];
    (void)printf("%2.0f %c %-8s  %-13s  %9s  %8s  ", number_of(circuit, "number"),
                 json_is_true(json_object_get(circuit, "is_current")) ? '*' : ' ',
                 text_of(circuit, "state"), format_duration(number_of(circuit, "age_s"), age),
                 milliseconds(circuit, "rtt_ms", rtt),
                 format_bytes(number_of(circuit, "bytes"), bytes));
    if (json_is_integer(json_object_get(circuit, "group"))) {
        (void)printf("user %.0f: ", number_of(circuit, "group"));
    }
    print_path(circuit);
}

static void print_circuit(const json_t *circuit)
{
    char text[48], ms[32];
    const json_t *path = json_object_get(circuit, "path"), *hop;
    size_t i;
    (void)printf("circuit   %.0f, %s%s\n", number_of(circuit, "number"), text_of(circuit, "state"),
                 json_is_true(json_object_get(circuit, "is_current")) ? ": new connections use it"
                                                                      : "");
    if (json_is_integer(json_object_get(circuit, "group"))) {
        (void)printf("user      %.0f, of the proxy\n", number_of(circuit, "group"));
    }
    (void)printf("age       %s\n", format_duration(number_of(circuit, "age_s"), text));
    (void)printf("built in  %s\n", milliseconds(circuit, "build_ms", ms));
    (void)printf("rtt       %s\n", milliseconds(circuit, "rtt_ms", ms));
    (void)printf("traffic   %s in cells\n", format_bytes(number_of(circuit, "bytes"), ms));
    json_array_foreach(path, i, hop)
    {
        (void)printf("%-9s ", text_of(hop, "role"));
        print_hop(hop);
        (void)printf("  %s\n", text_of(hop, "identity"));
    }
}

static void print_json(const json_t *object)
{
    (void)json_dumpf(object, stdout, JSON_COMPACT);
    (void)putchar('\n');
}

/* --- the commands --- */

int circuit_list_command(const options_given *given)
{
    int exit_status = EXIT_DONE;
    size_t i;
    const json_t *circuit;
    json_t *reply = ask_client(given, "circuits", "circuits", &exit_status);
    if (reply == NULL) {
        return exit_status;
    }
    const json_t *list = json_object_get(reply, "circuits");
    if (options_has(given, "--json")) {
        print_json(reply);
    } else if (json_array_size(list) == 0) {
        (void)puts("There is no circuit.");
    }
    json_array_foreach(list, i, circuit)
    {
        if (!options_has(given, "--json")) {
            print_row(circuit);
        }
    }
    json_decref(reply);
    return EXIT_DONE;
}

static json_t *choose(const json_t *list, const char *number)
{
    size_t i;
    json_t *circuit;
    json_array_foreach(list, i, circuit)
    {
        if (number == NULL ? json_is_true(json_object_get(circuit, "is_current"))
                           : json_integer_value(json_object_get(circuit, "number")) ==
                                 strtol(number, NULL, 10)) {
            return circuit;
        }
    }
    return NULL;
}

int circuit_show_command(const options_given *given)
{
    int exit_status = EXIT_DONE;
    const char *number = given->operands[0];
    json_t *reply = ask_client(given, "circuits", "circuits", &exit_status);
    if (reply == NULL) {
        return exit_status;
    }
    json_t *circuit = choose(json_object_get(reply, "circuits"), number);
    if (circuit == NULL && number != NULL) {
        (void)fprintf(stderr, "meshvpn: there is no circuit %s. See meshvpn circuit list\n",
                      number);
    } else if (circuit == NULL) {
        (void)fputs("meshvpn: no circuit is in use. See meshvpn circuit list, meshvpn status\n",
                    stderr);
    } else if (options_has(given, "--json")) {
        json_t *object = json_pack("{s:s}", "schema", "meshvpn.circuit/1");
        (void)json_object_update(object, circuit);
        print_json(object);
        json_decref(object);
    } else {
        print_circuit(circuit);
    }
    exit_status = circuit != NULL ? EXIT_DONE : EXIT_FAILED;
    json_decref(reply);
    return exit_status;
}

int circuit_new_command(const options_given *given)
{
    int exit_status = EXIT_DONE;
    json_t *reply = ask_client(given, "new-identity", "ok", &exit_status);
    if (reply != NULL) {
        (void)puts("New connections get a new identity; open ones keep theirs until they end.");
        json_decref(reply);
    }
    return exit_status;
}
