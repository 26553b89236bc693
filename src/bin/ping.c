#include "bin/ping.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "base/error.h"
#include "bin/daemon_socket.h"
#include "bin/output.h"
#include "io/clock.h"
#include "io/control.h"

enum {
    EXIT_ANSWERED = 0,
    EXIT_NO_ANSWER = 1,
    EXIT_USAGE = 2,
    EXIT_NO_DAEMON = 4,
};

#define COUNT_DEFAULT 10
#define INTERVAL_DEFAULT_MS 1000
#define ASK_TIMEOUT_MS 3000
/* How often the daemon is asked what came of it; the round trip is measured there. */
#define POLL_MS 20
/* For an answer; and for the link to open, handshakes with a NAT relay included. */
#define ANSWER_MS 2000
#define OPEN_MS 9000 /* the daemon forgets a ping after MVPN_PINGER_HOLD */

typedef struct ping {
    const char *node;
    const char *socket;
    unsigned count; /* 0: COUNT_DEFAULT, or until the link is direct */
    unsigned interval_ms;
    bool wants_json;
    bool was_relayed;
    unsigned answers;
} ping;

/* The daemon's answer; NULL after saying why not. */
static json_t *ask(const ping *p, bool is_start, int *ret_exit)
{
    mvpn_fault fault = {""};
    json_t *reply = NULL;
    json_t *request =
        json_pack("{s:s, s:s, s:b}", "cmd", "ping", "node", p->node, "start", is_start);
    if (request == NULL) {
        (void)fprintf(stderr, "meshvpn: that is no name: %s\n", p->node);
        *ret_exit = EXIT_USAGE;
        return NULL;
    }
    int rc = mvpn_control_ask(p->socket, request, ASK_TIMEOUT_MS, &reply, &fault);
    json_decref(request);
    if (rc != 0) {
        *ret_exit = rc == MVPN_E_CLOSED ? EXIT_NO_DAEMON : EXIT_NO_ANSWER;
        (void)fprintf(
            stderr, "meshvpn: %s\n%s", fault.text,
            rc == MVPN_E_CLOSED ? "No daemon runs here. Start the client: sudo meshvpn up\n" : "");
        return NULL;
    }
    const char *error = json_string_value(json_object_get(reply, "error"));
    if (error != NULL || !json_is_integer(json_object_get(reply, "seq"))) {
        (void)fprintf(stderr, "meshvpn: %s\n", error != NULL ? error : "that is no ping's answer");
        json_decref(reply);
        *ret_exit = EXIT_NO_ANSWER;
        return NULL;
    }
    return reply;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static bool is_direct(const json_t *reply)
{
    return strcmp(text_of(reply, "type"), "direct") == 0 &&
           json_is_true(json_object_get(reply, "open"));
}

static void print_json(const json_t *reply)
{
    static const char *const keys[] = {
        "schema", "node",   "seq", "rtt_ms",          "type",
        "state",  "reason", "via", "opened_after_ms", "direct_after_ms"};
    json_t *line = json_object();
    for (size_t i = 0; i < MVPN_ARRAY_LEN(keys); i++) {
        json_t *value = json_object_get(reply, keys[i]);
        (void)json_object_set(line, keys[i], value);
    }
    (void)json_dumpf(line, stdout, JSON_COMPACT);
    (void)putchar('\n');
    (void)fflush(stdout);
    json_decref(line);
}

/* A relayed link that became direct, or the other way round. */
static void note_change(ping *p, const json_t *reply)
{
    bool is_relayed = json_is_string(json_object_get(reply, "via"));
    if (p->wants_json) {
        p->was_relayed = is_relayed;
        return;
    }
    const json_t *after = json_object_get(reply, "direct_after_ms");
    if (p->was_relayed && is_direct(reply)) {
        (void)printf("now direct after %.2f s\n", json_number_value(after) / 1000.0);
        p->was_relayed = false;
    } else if (!p->was_relayed && is_relayed && p->answers > 0) {
        (void)printf("now relayed by %s: %s\n", text_of(reply, "via"), text_of(reply, "reason"));
    }
    p->was_relayed |= is_relayed;
    (void)fflush(stdout);
}

static void print_answer(const json_t *reply)
{
    const char *via = json_string_value(json_object_get(reply, "via"));
    (void)printf("pong from %s: %.1f ms, %s%s\n", text_of(reply, "node"),
                 json_number_value(json_object_get(reply, "rtt_ms")),
                 via != NULL ? "relayed by " : "direct", via != NULL ? via : "");
}

static void print_silence(const json_t *reply)
{
    const char *reason = text_of(reply, "reason");
    if (json_is_true(json_object_get(reply, "open"))) {
        (void)printf("no answer from %s within %d s\n", text_of(reply, "node"), ANSWER_MS / 1000);
    } else {
        (void)printf("no link with %s%s%s\n", text_of(reply, "node"), reason[0] != '\0' ? ": " : "",
                     reason);
    }
}

static void sleep_ms(unsigned ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* One ping: the daemon's last word on it, the caller's; NULL after saying why not. */
static json_t *ping_once(ping *p, int *ret_exit)
{
    mvpn_time began = mvpn_clock_now();
    json_t *reply = ask(p, true, ret_exit);
    while (reply != NULL && !json_is_true(json_object_get(reply, "done"))) {
        bool is_open = json_is_true(json_object_get(reply, "open"));
        if (mvpn_clock_now() - began >= MVPN_MS(is_open ? ANSWER_MS : OPEN_MS)) {
            break;
        }
        json_decref(reply);
        sleep_ms(POLL_MS);
        reply = ask(p, false, ret_exit);
    }
    return reply;
}

/* Until the next ping is due; a change is told when it happens. */
static bool wait_between(ping *p, mvpn_time until, int *ret_exit)
{
    for (mvpn_time now = mvpn_clock_now(); now < until; now = mvpn_clock_now()) {
        unsigned left = (unsigned)((until - now) / MVPN_US_PER_MS) + 1;
        sleep_ms(MVPN_MIN(left, 5u * POLL_MS));
        json_t *reply = p->was_relayed ? ask(p, false, ret_exit) : NULL;
        if (p->was_relayed && reply == NULL) {
            return false;
        }
        if (reply != NULL) {
            note_change(p, reply);
            json_decref(reply);
        }
    }
    return true;
}

static int run(ping *p)
{
    int exit_status = EXIT_NO_ANSWER;
    unsigned count = p->count != 0 ? p->count : COUNT_DEFAULT;
    for (unsigned i = 0; i < count; i++) {
        mvpn_time next = mvpn_clock_now() + MVPN_MS(p->interval_ms);
        json_t *reply = ping_once(p, &exit_status);
        if (reply == NULL) {
            return p->answers > 0 ? EXIT_ANSWERED : exit_status;
        }
        bool is_answered = json_is_real(json_object_get(reply, "rtt_ms"));
        bool is_over = p->count == 0 && is_answered && is_direct(reply);
        if (p->wants_json) {
            print_json(reply);
        } else if (is_answered) {
            note_change(p, reply);
            print_answer(reply);
        } else {
            print_silence(reply);
        }
        p->answers += is_answered;
        json_decref(reply);
        if (is_over || !output_is_sound() ||
            (i + 1 < count && !wait_between(p, next, &exit_status))) {
            break;
        }
    }
    return p->answers > 0 ? EXIT_ANSWERED : EXIT_NO_ANSWER;
}

int ping_command(const options_given *given)
{
    char found[PATH_MAX];
    ping p = {
        .node = given->operands[0],
        .socket = options_text(given, "--control"),
        .count = (unsigned)options_number(given, "--count", 0),
        .interval_ms = (unsigned)options_number(given, "--interval", INTERVAL_DEFAULT_MS),
        .wants_json = options_has(given, "--json"),
    };
    if (p.socket == NULL) {
        if (!daemon_socket_find(found)) {
            return EXIT_USAGE;
        }
        p.socket = found;
    }
    return run(&p);
}
