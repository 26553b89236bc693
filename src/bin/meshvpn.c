/*
 * meshvpn: the person's command. Data go to stdout, talk to stderr.
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/error.h"
#include "bin/ask.h"
#include "bin/circuit.h"
#include "bin/down.h"
#include "bin/config_command.h"
#include "bin/config_set.h"
#include "bin/doctor.h"
#include "bin/exit_choice.h"
#include "bin/exit_list.h"
#include "bin/format.h"
#include "bin/join.h"
#include "bin/log_command.h"
#include "bin/ping.h"
#include "bin/programs.h"
#include "bin/proxy.h"
#include "bin/relay_enable.h"
#include "bin/relay_status.h"
#include "bin/report.h"
#include "bin/run.h"
#include "bin/show_links.h"
#include "bin/show_protection.h"
#include "bin/netcheck.h"
#include "bin/options_tables.h"
#include "bin/output.h"
#include "bin/programs.h"
#include "bin/stage_view.h"
#include "bin/top.h"
#include "bin/up.h"

/* Exit status, as docs and scripts know it. */
enum {
    EXIT_CONNECTED = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = OPTIONS_USAGE,
    EXIT_CONNECTING = 3,
    EXIT_DOWN = 4,
    EXIT_BLOCKED = 5,
};

/* Between the two questions from which rates are computed. */
#define RATE_INTERVAL_MS 300

/* --- status: asking --- */

/* The daemon's status, the caller's; NULL after saying why not, `*ret_exit` is the exit status. */
static json_t *ask_status(const char *socket, int *ret_exit)
{
    json_t *status = ask_daemon(socket, json_pack("{s:s}", "cmd", "status"), ret_exit);
    if (status != NULL && json_object_get(status, "schema") == NULL) {
        (void)fprintf(stderr, "meshvpn: the daemon at %s answered something that is no status\n",
                      socket);
        json_decref(status);
        *ret_exit = EXIT_FAILED;
        return NULL;
    }
    return status;
}

static int exit_status_of(const json_t *status)
{
    static const struct {
        const char *state;
        int exit_status;
    } rows[] = {
        {"connected", EXIT_CONNECTED}, {"running", EXIT_CONNECTED}, {"connecting", EXIT_CONNECTING},
        {"blocked", EXIT_BLOCKED},     {"down", EXIT_DOWN},
    };
    const char *state = json_string_value(json_object_get(status, "state"));
    bool is_connected = state != NULL && strcmp(state, "connected") == 0;
    if (!is_connected && json_is_string(json_object_get(status, "blocked_by"))) {
        return EXIT_BLOCKED;
    }
    for (size_t i = 0; state != NULL && i < MVPN_ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].state, state) == 0) {
            return rows[i].exit_status;
        }
    }
    return EXIT_FAILED;
}

/* --- status: showing --- */

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void print_number(const json_t *status, const char *key, const char *label, const char *unit)
{
    const json_t *v = json_object_get(status, key);
    if (json_is_integer(v)) {
        (void)printf("%s%lld%s\n", label, (long long)json_integer_value(v), unit);
    } else if (json_is_real(v)) {
        (void)printf("%s%.1f%s\n", label, json_real_value(v), unit);
    }
}

/* "you > guard-1 (CH) > middle-2 (SE) > exit-1 (JP) > internet" */
static void print_path(const json_t *status)
{
    const json_t *path = json_object_get(status, "path"), *hop;
    size_t i;
    if (json_array_size(path) == 0) {
        return;
    }
    (void)printf("path      you");
    json_array_foreach(path, i, hop)
    {
        const char *name = text_of(hop, "name"), *country = text_of(hop, "country");
        const char *identity = text_of(hop, "identity");
        if (name != NULL && name[0] != '\0') {
            (void)printf(" > %s", name);
        } else {
            (void)printf(" > %.8s", identity != NULL ? identity : "?");
        }
        if (country != NULL && country[0] != '\0') {
            (void)printf(" (%s)", country);
        }
    }
    (void)printf(" > internet\n");
}

static double number_of(const json_t *status, const char *key)
{
    return json_number_value(json_object_get(status, key));
}

static void print_traffic(const json_t *status, const json_t *later, double seconds)
{
    char a[32], b[32];
    if (json_object_get(status, "bytes_up") == NULL) {
        return;
    }
    (void)printf("traffic   %s up, %s down\n", format_bytes(number_of(status, "bytes_up"), a),
                 format_bytes(number_of(status, "bytes_down"), b));
    if (later != NULL) {
        double up = number_of(later, "bytes_up") - number_of(status, "bytes_up");
        double down = number_of(later, "bytes_down") - number_of(status, "bytes_down");
        (void)printf("rate      %s up, %s down\n", format_rate(MVPN_MAX(up, 0) * 8 / seconds, a),
                     format_rate(MVPN_MAX(down, 0) * 8 / seconds, b));
    }
}

static void print_connections(double count)
{
    (void)printf("%.0f connection%s", count, count > 0.5 && count < 1.5 ? "" : "s");
}

/* "session   12 min 3 s old, 4 connections; a new one in 7 h 40 min" */
static void print_session(const json_t *status)
{
    const json_t *session = json_object_get(status, "session");
    char text[48];
    if (!json_is_object(session)) {
        return;
    }
    (void)printf("session   %s old, ", format_duration(number_of(session, "age_s"), text));
    print_connections(number_of(session, "flows"));
    (void)printf("; a new one in %s", format_duration(number_of(session, "expires_in_s"), text));
    if (json_is_true(json_object_get(session, "draining"))) {
        (void)printf("; the last one keeps ");
        print_connections(number_of(session, "draining_flows"));
    }
    (void)putchar('\n');
}

/* What is known of the network, and whether that can be trusted. */
static void print_view(const json_t *status)
{
    const json_t *view = json_object_get(status, "view");
    const json_t *clock = json_object_get(status, "clock");
    if (view != NULL) {
        (void)printf("relays    %.0f known, %.0f shown by two operators\n",
                     number_of(view, "relays"), number_of(view, "relays_confirmed"));
        if (number_of(view, "equivocations") > 0) {
            (void)printf("warning   %.0f discovery nodes show different lists to different people; "
                         "they count no more\n",
                         number_of(view, "equivocations"));
        }
    }
    if (json_is_true(json_object_get(clock, "is_wrong"))) {
        double off = number_of(clock, "offset_s");
        (void)printf("clock     %.0f s %s: set it; MeshVPN corrects it for itself alone\n",
                     off < 0 ? -off : off, off < 0 ? "fast" : "slow");
    }
}

/* What the node is in the DHT. */
static void print_dht(const json_t *status)
{
    const json_t *dht = json_object_get(status, "dht");
    if (dht == NULL) {
        return;
    }
    (void)printf(
        "dht       %.0f contacts, %.0f records, about %.0f servers in all; %s\n",
        number_of(dht, "contacts"), number_of(dht, "records"), number_of(dht, "nodes_estimated"),
        json_is_true(json_object_get(dht, "is_published")) ? "published" : "not published");
}

static void print_client(const json_t *status, const json_t *later, double seconds)
{
    const json_t *missing = json_object_get(status, "missing_protections"), *item;
    const char *exit_address = text_of(status, "exit_address");
    size_t i;
    show_protection(status);
    show_proof(status);
    show_names(status);
    show_split(status);
    print_path(status);
    if (exit_address != NULL) {
        (void)printf("exit      %s\n", exit_address);
    }
    exit_choice_print(status);
    /* Without a path there is no exit to speak of. */
    if (json_is_boolean(json_object_get(status, "ipv6")) &&
        json_array_size(json_object_get(status, "path")) > 0) {
        (void)printf("ipv6      %s\n", json_is_true(json_object_get(status, "ipv6"))
                                           ? "carried"
                                           : "not carried by this exit");
    }
    print_number(status, "rtt_ms", "rtt       ", " ms");
    print_number(status, "circuit_build_ms", "built in  ", " ms");
    print_session(status);
    print_traffic(status, later, seconds);
    show_links(status, true);
    show_nat(status);
    if (json_is_boolean(json_object_get(status, "spare"))) {
        (void)printf("spare     %s\n", json_is_true(json_object_get(status, "spare"))
                                           ? "a second circuit is ready"
                                           : "none");
    }
    print_view(status);
    json_array_foreach(missing, i, item)
    {
        if (json_is_string(item)) {
            (void)printf("missing   %s\n", json_string_value(item));
        }
    }
}

static void print_relay(const json_t *status)
{
    const json_t *value;
    const char *key;
    show_links(status, false);
    print_number(status, "circuits", "circuits  ", "");
    print_number(status, "sessions", "sessions  ", "");
    show_nat(status);
    print_dht(status);
    print_view(status);
    json_object_foreach(json_object_get(status, "counters"), key, value)
    {
        if (json_is_integer(value)) {
            (void)printf("  %-32s %lld\n", key, (long long)json_integer_value(value));
        }
    }
}

static void print_status(const json_t *status, const json_t *later, double seconds,
                         const terminal *term)
{
    char stage[512];
    const char *role = text_of(status, "role"), *state = text_of(status, "state");
    const char *reason = text_of(status, "blocked_by");
    const json_t *since = json_object_get(status, "since_s");
    (void)printf("%s    %s%s%s\n",
                 role != NULL && strcmp(role, "client") == 0 ? "client" : "node  ",
                 state != NULL ? state : "unknown", reason != NULL ? ": " : "",
                 reason != NULL ? reason : "");
    if (since != NULL) {
        char text[48];
        (void)printf("since     %s\n", format_duration(json_number_value(since), text));
    }
    if (role != NULL && strcmp(role, "client") == 0) {
        stage_view_line(term, status, stage, sizeof(stage));
        if (stage[0] != '\0') {
            (void)printf("stage     %s\n", stage);
        }
        print_client(status, later, seconds);
    } else {
        (void)printf("role      %s\n", role != NULL ? role : "unknown");
        print_relay(status);
    }
}

static double seconds_now(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void show(json_t *status, const char *socket, const terminal *term)
{
    static const struct timespec pause = {.tv_nsec = RATE_INTERVAL_MS * 1000000};
    json_t *later = NULL;
    double began = seconds_now();
    int ignored = 0;
    if (exit_status_of(status) == EXIT_CONNECTED && json_object_get(status, "bytes_up") != NULL) {
        (void)nanosleep(&pause, NULL);
        later = ask_status(socket, &ignored);
    }
    print_status(status, later, seconds_now() - began, term);
    json_decref(later);
}

/* No daemon, but a kill switch: 0 if there is none. */
static int show_blocked(const options_given *given, const char *socket)
{
    static const char reason[] = "blocked by the kill switch of a client that fell, or by lockdown";
    mvpn_config config;
    mvpn_config_init(&config, MVPN_CONFIG_CLIENT);
    if (!down_is_blocked(&config) || program_is_running(socket)) {
        return 0;
    }
    if (options_has(given, "--json")) {
        (void)printf("{\"schema\":\"meshvpn.status/1\",\"role\":\"client\",\"state\":\"blocked\","
                     "\"blocked_by\":\"%s\"}\n",
                     reason);
    } else {
        (void)printf("client    down; %s\n          sudo meshvpn up connects, sudo meshvpn down "
                     "opens it\n",
                     reason);
    }
    return EXIT_BLOCKED;
}

static int status_once(const options_given *given, const char *socket, const terminal *term)
{
    int exit_status = show_blocked(given, socket);
    json_t *status = exit_status == 0 ? ask_status(socket, &exit_status) : NULL;
    if (status == NULL) {
        return exit_status;
    }
    exit_status = exit_status_of(status);
    if (options_has(given, "--json")) {
        (void)json_dumpf(status, stdout, JSON_COMPACT);
        (void)putchar('\n');
    } else {
        show(status, socket, term);
    }
    json_decref(status);
    return exit_status;
}

static volatile sig_atomic_t is_over;

static void on_signal(int signo)
{
    (void)signo;
    is_over = 1;
}

/* Drawn over on a terminal; elsewhere one below the other. */
static int status_watch(const options_given *given, const char *socket, const terminal *term)
{
    static const struct timespec pause = {.tv_nsec = 700000000};
    const struct sigaction action = {.sa_handler = on_signal};
    bool draws = term->has_escapes && !options_has(given, "--json");
    int exit_status = EXIT_FAILED;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    for (bool is_first = true; !is_over; is_first = false) {
        if (draws) {
            (void)fputs("\033[H\033[2J", stdout);
        } else if (!is_first && !options_has(given, "--json")) {
            (void)putchar('\n');
        }
        exit_status = status_once(given, socket, term);
        if (!output_is_sound()) {
            break;
        }
        (void)nanosleep(&pause, NULL);
    }
    return exit_status;
}

/* Have the client look again whether it protects, and wait for what it finds: four seconds of its
 * own, and some for a slow host. Not connected, there is nothing to wait for. */
static void prove(const char *socket)
{
    static const struct timespec pause = {.tv_nsec = 250 * 1000000};
    int ignored = 0;
    bool goes_on = true;
    json_decref(ask_daemon(socket, json_pack("{s:s}", "cmd", "prove"), &ignored));
    for (unsigned i = 0; goes_on && i < 28; i++) {
        (void)nanosleep(&pause, NULL);
        json_t *status = ask_status(socket, &ignored);
        const json_t *proof = json_object_get(status, "proof");
        const char *state = text_of(status, "state");
        goes_on = state != NULL && strcmp(state, "connected") == 0 &&
                  (!json_is_object(proof) || json_is_true(json_object_get(proof, "checking")));
        json_decref(status);
    }
}

static int command_status(const options_given *given)
{
    char found[PATH_MAX];
    terminal term;
    const char *socket = ask_socket(given, found);
    if (socket == NULL) {
        return EXIT_USAGE;
    }
    terminal_init(&term, stdout, options_has(given, "--no-color"));
    if (options_has(given, "--prove")) {
        prove(socket);
    }
    return options_has(given, "--watch") ? status_watch(given, socket, &term)
                                         : status_once(given, socket, &term);
}

/* --- version --- */

static int command_version(const options_given *given)
{
    if (options_has(given, "--json")) {
        (void)puts("{\"schema\":\"meshvpn.version/1\",\"version\":\"" MVPN_VERSION "\"}");
    } else {
        (void)puts("meshvpn " MVPN_VERSION);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static int (*const commands[])(const options_given *given) = {
        [VERB_JOIN] = join_command,
        [VERB_INVITE] = invite_command,
        [VERB_STATUS] = command_status,
        [VERB_UP] = up_command,
        [VERB_DOWN] = down_command,
        [VERB_RECONNECT] = reconnect_command,
        [VERB_CIRCUIT_LIST] = circuit_list_command,
        [VERB_CIRCUIT_SHOW] = circuit_show_command,
        [VERB_CIRCUIT_NEW] = circuit_new_command,
        [VERB_PROXY] = proxy_command,
        [VERB_EXIT_LIST] = exit_list_command,
        [VERB_EXIT_SUGGEST] = exit_suggest_command,
        [VERB_EXIT_USE] = exit_use_command,
        [VERB_EXIT_BLOCK] = exit_block_command,
        [VERB_EXIT_UNBLOCK] = exit_unblock_command,
        [VERB_RELAY_ENABLE] = relay_enable_command,
        [VERB_RELAY_STATUS] = relay_status_command,
        [VERB_DOCTOR] = doctor_command,
        [VERB_REPORT] = report_command,
        [VERB_NETCHECK] = netcheck_command,
        [VERB_PING] = ping_command,
        [VERB_CONFIG_CHECK] = config_check_command,
        [VERB_CONFIG_SHOW] = config_show_command,
        [VERB_CONFIG_SET] = config_set_command,
        [VERB_CONFIG_UNSET] = config_unset_command,
        [VERB_TOP] = top_command,
        [VERB_LOG] = log_command,
        [VERB_CONFIG_DOCS] = config_docs_command,
        [VERB_RUN] = run_command,
        [VERB_VERSION] = command_version,
    };
    options_given given;
    output_begin();
    int exit_status = options_parse(&options_meshvpn, argc, argv, &given);
    program_trust_user();
    return output_end(exit_status != -1 ? exit_status : commands[given.verb->id](&given));
}
