#include "bin/exit_list.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "bin/ask.h"

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = OPTIONS_USAGE,
};

static const char *text_of(const json_t *o, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : otherwise;
}

/* "80, 443, 9000-9100" */
static void print_ports(const json_t *ports)
{
    const json_t *range;
    size_t i;
    if (!json_is_array(ports)) {
        (void)printf("not said");
    }
    json_array_foreach(ports, i, range)
    {
        json_int_t first = json_integer_value(json_array_get(range, 0));
        json_int_t last = json_integer_value(json_array_get(range, 1));
        (void)printf(i > 0 ? ", %lld" : "%lld", (long long)first);
        if (last != first) {
            (void)printf("-%lld", (long long)last);
        }
    }
}

/* In use, chosen and blocked, and why it is not used; the last words of a row. */
static void print_marks(const json_t *exit)
{
    const char *reason = text_of(exit, "reason", "");
    const char *marks[] = {
        json_is_true(json_object_get(exit, "is_in_use")) ? "in use" : "",
        json_is_true(json_object_get(exit, "is_chosen")) ? "chosen" : "",
        json_is_true(json_object_get(exit, "is_confirmed")) ? "" : "not confirmed",
        json_is_true(json_object_get(exit, "is_blocked")) && strcmp(reason, "blocked") != 0
            ? "blocked"
            : "",
        reason,
    };
    size_t count = 0;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(marks); i++) {
        if (marks[i][0] != '\0') {
            (void)printf("%s%s", count++ == 0 ? "  (" : ", ", marks[i]);
        }
    }
    (void)puts(count > 0 ? ")" : "");
}

static void print_name(const json_t *exit)
{
    const json_t *bandwidth = json_object_get(exit, "bandwidth_mbit");
    char name[25], rate[32] = "-";
    (void)snprintf(name, sizeof(name), "%.24s", text_of(exit, "name", ""));
    if (name[0] == '\0') {
        (void)snprintf(name, sizeof(name), "%.8s", text_of(exit, "identity", "?"));
    }
    if (json_is_number(bandwidth)) {
        (void)snprintf(rate, sizeof(rate), "%.0f", json_number_value(bandwidth));
    }
    (void)printf("%-24s  %-7s  %6s  %-4s  ", name, text_of(exit, "country", "-"), rate,
                 json_is_true(json_object_get(exit, "ipv6")) ? "yes" : "no");
}

static void print_row(const json_t *exit)
{
    print_name(exit);
    print_ports(json_object_get(exit, "ports"));
    print_marks(exit);
}

static void print_list(const json_t *reply)
{
    const json_t *list = json_object_get(reply, "exits"), *exit;
    json_int_t total = json_integer_value(json_object_get(reply, "total"));
    size_t i;
    if (json_array_size(list) == 0) {
        (void)puts("No exit is known that fits.");
        return;
    }
    (void)printf("%-24s  %-7s  %6s  %-4s  %s\n", "name", "country", "Mbit/s", "ipv6", "ports");
    json_array_foreach(list, i, exit)
    {
        print_row(exit);
    }
    if ((json_int_t)json_array_size(list) < total) {
        (void)printf("The %zu fastest of %lld: narrow it with --country, --port or "
                     "--min-mbit.\n",
                     json_array_size(list), (long long)total);
    }
}

static json_t *request_of(const options_given *given, const char *cmd)
{
    const char *country = options_text(given, "--country");
    unsigned long port = options_number(given, "--port", 0);
    unsigned long min_mbit = options_number(given, "--min-mbit", 0);
    json_t *request = json_pack("{s:s}", "cmd", cmd);
    if (country != NULL) {
        (void)json_object_set_new(request, "country", json_string(country));
    }
    if (port != 0) {
        (void)json_object_set_new(request, "port", json_integer((json_int_t)port));
    }
    if (min_mbit != 0) {
        (void)json_object_set_new(request, "min_mbit", json_integer((json_int_t)min_mbit));
    }
    return request;
}

static void print_suggestions(const json_t *reply)
{
    const json_t *list = json_object_get(reply, "suggestions"), *exit;
    json_int_t total = json_integer_value(json_object_get(reply, "total"));
    size_t i;
    json_array_foreach(list, i, exit)
    {
        char name[25];
        (void)snprintf(name, sizeof(name), "%.24s", text_of(exit, "name", ""));
        (void)printf("%zu  %-24s  %-2s  %s\n", i + 1,
                     name[0] != '\0' ? name : text_of(exit, "identity", "?"),
                     text_of(exit, "country", "-"), text_of(exit, "reason", ""));
    }
    if (json_array_size(list) == 0) {
        (void)puts("No exit is known that fits.");
    } else {
        (void)fprintf(stderr,
                      "The best of %lld that could be used. To leave by one: meshvpn exit "
                      "use NAME\n",
                      (long long)total);
    }
}

/* Ask `cmd`, and print the array `key` of the answer. */
static int show(const options_given *given, const char *cmd, const char *key,
                void (*print)(const json_t *reply))
{
    char found[PATH_MAX];
    int exit_status = EXIT_DONE;
    const char *socket = ask_socket(given, found);
    if (socket == NULL) {
        return EXIT_USAGE;
    }
    json_t *reply = ask_daemon(socket, request_of(given, cmd), &exit_status);
    if (reply == NULL) {
        return exit_status;
    }
    if (!json_is_array(json_object_get(reply, key))) {
        (void)fprintf(stderr, "meshvpn: the daemon at %s answered something that is no list\n",
                      socket);
        exit_status = EXIT_FAILED;
    } else if (options_has(given, "--json")) {
        (void)json_dumpf(reply, stdout, JSON_COMPACT);
        (void)putchar('\n');
    } else {
        print(reply);
    }
    json_decref(reply);
    return exit_status;
}

int exit_list_command(const options_given *given)
{
    return show(given, "exits", "exits", print_list);
}

int exit_suggest_command(const options_given *given)
{
    return show(given, "exit-suggest", "suggestions", print_suggestions);
}
