#include "bin/up.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/error.h"
#include "bin/stage_view.h"
#include "bin/up_daemon.h"
#include "bin/up_proof.h"
#include "bin/up_trouble.h"
#include "io/clock.h"
#include "io/control.h"

#define CONFIG_FILE "/etc/meshvpn/client.conf"
#define TIMEOUT_S 60
/* How often the daemon is asked, and how long it may take for an answer. */
#define POLL_MS 40
#define ANSWER_MS 3000
/* The host is looked at only so often: it costs a dozen system calls. */
#define LOOK_MS 500
/* Nothing that changes from one moment to the next is a failure, unless its cause has no patience.
 */
#define SURE_MS 2000
/* A daemon that was started opens its socket within this, or says why not. */
#define OPEN_MS 15000

typedef struct up_run {
    const options_given *given;
    mvpn_config config;
    up_daemon daemon;
    stage_view view;
    bool is_json, is_quiet;
    mvpn_time began;
} up_run;

static volatile sig_atomic_t is_interrupted;

static void on_interrupt(int signo)
{
    (void)signo;
    is_interrupted = 1;
}

static void pause_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static unsigned elapsed_ms(mvpn_time since)
{
    return (unsigned)((mvpn_clock_now() - since) / MVPN_US_PER_MS);
}

/* ---- asking ---- */

/* The reply, the caller's; NULL: `*ret_error` is why. */
static json_t *ask(const up_run *u, json_t *request, int *ret_error, mvpn_fault *fault)
{
    json_t *reply = NULL;
    *ret_error = request == NULL ? MVPN_E_NOMEM
                                 : mvpn_control_ask(u->config.control_socket, request, ANSWER_MS,
                                                    &reply, fault);
    json_decref(request);
    return reply;
}

static json_t *ask_status(const up_run *u, int *ret_error)
{
    mvpn_fault fault = {.text = ""};
    return ask(u, json_pack("{s:s}", "cmd", "status"), ret_error, &fault);
}

static bool is_connected(const json_t *status)
{
    const char *state = json_string_value(json_object_get(status, "state"));
    return state != NULL && strcmp(state, "connected") == 0;
}

static unsigned long wished_hops(const up_run *u)
{
    return options_number(u->given, "--hops", 0);
}

/* Its stages tell of the first connection, at whatever exit: the circuit in use may have been built
 * before the wish was told, and what was proven be of the exit before. */
static bool is_done(const up_run *u, const json_t *status)
{
    unsigned long hops = wished_hops(u);
    return is_connected(status) && stage_view_is_over(status) &&
           (hops == 0 || json_array_size(json_object_get(status, "path")) == hops) &&
           up_exit_lacks(status) == NULL;
}

/* ---- the end ---- */

static int say_end(const up_run *u, const char *result, const up_trouble *t, const json_t *status)
{
    int exit_status = t != NULL ? (int)t->exit : UP_CONNECTED;
    if (u->is_json) {
        json_t *o = json_pack("{s:s, s:s, s:s, s:i, s:I}", "schema", "meshvpn.up/1", "event", "end",
                              "result", result, "exit_status", exit_status, "ms",
                              (json_int_t)elapsed_ms(u->began));
        if (t != NULL) {
            (void)json_object_set_new(o, "code", json_string(t->code));
            (void)json_object_set_new(o, "cause", json_string(t->cause));
            (void)json_object_set_new(o, "remedy", json_string(t->remedy));
        }
        if (status != NULL && t == NULL) {
            (void)json_object_set_new(o, "proof", up_proof_json(status));
        }
        (void)json_dumpf(o, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(o);
    }
    return exit_status;
}

static int fail(up_run *u, const up_trouble *t, bool runs)
{
    stage_view_end(&u->view);
    size_t len = strlen(t->cause);
    bool has_stop = len > 0 && strchr(".?!", t->cause[len - 1]) != NULL;
    (void)fprintf(stderr, "meshvpn: %s%s\n  %s.\n", t->cause, has_stop ? "" : ".", t->remedy);
    if (runs) {
        (void)fprintf(stderr, "  The client goes on trying%s. sudo meshvpn down ends it.\n",
                      !u->config.client.kill_switch || !u->config.client.routes_all ? ""
                      : u->config.client.split.is_inside
                          ? ", and nothing of inside_* leaves outside the tunnel"
                          : ", and nothing leaves this computer outside the tunnel");
    }
    return say_end(u, "failed", t, NULL);
}

static int fail_with(up_run *u, enum up_exit exit_status, const char *code, const char *remedy,
                     const char *cause)
{
    up_trouble t = {.exit = exit_status, .code = code};
    (void)snprintf(t.cause, sizeof(t.cause), "%s", cause);
    (void)snprintf(t.remedy, sizeof(t.remedy), "%s", remedy);
    return fail(u, &t, false);
}

/* It has said what is wrong, and that was shown. */
static int has_ended(up_run *u, int exit_status)
{
    up_trouble t = {.exit = (enum up_exit)exit_status,
                    .code = "daemon-ended",
                    .cause = "meshvpn-client ended at its start",
                    .remedy = "Mend what it says above; meshvpn doctor looks at the rest"};
    (void)up_trouble_after(&u->config, &t);
    return fail(u, &t, false);
}

static int interrupted(up_run *u)
{
    static const up_trouble t = {
        .exit = UP_CONNECTING, .code = "interrupted", .cause = "interrupted", .remedy = ""};
    stage_view_end(&u->view);
    (void)fputs("The client goes on connecting in the background: meshvpn status --watch follows "
                "it, sudo meshvpn down ends it.\n",
                stderr);
    return say_end(u, "connecting", &t, NULL);
}

static int connected(up_run *u, const json_t *status, bool was_before)
{
    stage_view_end(&u->view);
    if (!u->is_json && !u->is_quiet) {
        if (was_before) {
            (void)puts("Already connected.");
        } else {
            (void)printf(
                "%sConnected%s after %.1f s.\n", terminal_style_code(&u->view.term, TERMINAL_BOLD),
                terminal_style_code(&u->view.term, TERMINAL_PLAIN), elapsed_ms(u->began) / 1000.0);
        }
        up_proof_show(&u->view.term, status);
    }
    return say_end(u, was_before ? "already connected" : "connected", NULL, status);
}

/* ---- following ---- */

typedef struct trouble_watch {
    up_trouble last;
    mvpn_time since, looked; /* since when it is the same; when the host was looked at */
    bool has;
} trouble_watch;

/* Has something been wrong for long enough? */
static bool is_hopeless(trouble_watch *w, const up_run *u, const json_t *status)
{
    up_trouble now;
    unsigned patience_ms = 0;
    if (elapsed_ms(w->looked) < LOOK_MS) {
        return false;
    }
    w->looked = mvpn_clock_now();
    if (!up_trouble_find(status, &u->config, &now, &patience_ms)) {
        w->has = false;
        return false;
    }
    if (!w->has || strcmp(w->last.code, now.code) != 0) {
        w->since = w->looked;
    }
    w->has = true;
    w->last = now;
    /* What was found late has waited for silence already. */
    bool has_waited = elapsed_ms(u->began) >= patience_ms && elapsed_ms(w->since) >= SURE_MS;
    return elapsed_ms(w->since) >= patience_ms || has_waited;
}

static int follow(up_run *u)
{
    mvpn_time limit =
        u->began + MVPN_S((mvpn_time)options_number(u->given, "--timeout", TIMEOUT_S));
    mvpn_time heard = mvpn_clock_now();
    trouble_watch watch = {.looked = heard};
    json_t *status = NULL;
    int exit_status = UP_FAILED, error = 0;
    for (;;) {
        json_t *later = ask_status(u, &error);
        if (later != NULL) {
            json_decref(status);
            status = later;
            heard = mvpn_clock_now();
            stage_view_show(&u->view, status);
        }
        if (is_done(u, status)) {
            exit_status = connected(u, status, false);
            break;
        }
        if (up_daemon_has_died(&u->daemon, &exit_status)) {
            exit_status = has_ended(u, exit_status);
            break;
        }
        if (status != NULL && is_hopeless(&watch, u, status)) {
            exit_status = fail(u, &watch.last, true);
            if (is_connected(status) && !u->is_json) {
                up_proof_show(&u->view.term, status);
            }
            break;
        }
        if (elapsed_ms(heard) > OPEN_MS) {
            exit_status = fail_with(u, UP_FAILED, "no-answer", "See what it says: meshvpn log",
                                    "the client does not answer at its control socket");
            break;
        }
        if (is_interrupted) {
            exit_status = interrupted(u);
            break;
        }
        if (mvpn_clock_now() >= limit) {
            up_trouble t;
            up_trouble_timeout(status, wished_hops(u), &t);
            exit_status = fail(u, watch.has ? &watch.last : &t, true);
            break;
        }
        pause_ms(POLL_MS);
    }
    json_decref(status);
    return exit_status;
}

/* ---- wishes of one that runs ---- */

/* False after saying why not. */
static bool tell(up_run *u, json_t *request, int *ret_exit)
{
    mvpn_fault fault = {.text = ""};
    int error = 0;
    json_t *reply = ask(u, request, &error, &fault);
    const char *text = json_string_value(json_object_get(reply, "error"));
    const char *code = json_string_value(json_object_get(reply, "code"));
    if (error != 0 || text != NULL) {
        (void)fprintf(stderr, "meshvpn: %s\n", text != NULL ? text : fault.text);
        *ret_exit = code != NULL && strcmp(code, "refused") == 0 ? UP_NO_RIGHTS : UP_FAILED;
    }
    json_decref(reply);
    return error == 0 && text == NULL;
}

static bool tell_wishes(up_run *u, int *ret_exit)
{
    const char *exit_wish = options_text(u->given, "--exit");
    unsigned long hops = wished_hops(u);
    if (hops > 0 &&
        !tell(u, json_pack("{s:s, s:I}", "cmd", "hops", "hops", (json_int_t)hops), ret_exit)) {
        return false;
    }
    return exit_wish == NULL ||
           tell(u, json_pack("{s:s, s:s}", "cmd", "exit-use", "exit", exit_wish), ret_exit);
}

/* ---- the beginning ---- */

/* Until its socket answers, or it has died. */
static bool await_socket(up_run *u, int *ret_exit)
{
    mvpn_time since = mvpn_clock_now();
    int error = 0;
    while (elapsed_ms(since) < OPEN_MS && !is_interrupted) {
        json_t *status = ask_status(u, &error);
        json_decref(status);
        if (status != NULL) {
            return true;
        }
        if (up_daemon_has_died(&u->daemon, ret_exit)) {
            *ret_exit = has_ended(u, *ret_exit);
            return false;
        }
        pause_ms(POLL_MS);
    }
    *ret_exit = fail_with(u, UP_FAILED, "no-answer", "See what it says: meshvpn log",
                          "the client does not answer at its control socket");
    return false;
}

static bool wants_to_wait(const up_run *u)
{
    return !options_has(u->given, "--no-wait");
}

static int left_alone(up_run *u)
{
    if (!u->is_json && !u->is_quiet) {
        (void)puts("The client runs and connects: meshvpn status --watch follows it.");
    }
    return say_end(u, "started", NULL, NULL);
}

static int start_and_follow(up_run *u, const char *path, bool is_default)
{
    mvpn_fault fault = {.text = ""};
    up_trouble trouble;
    int exit_status = UP_FAILED;
    if (up_trouble_before(&u->config, &trouble)) {
        return fail(u, &trouble, false);
    }
    int r =
        up_daemon_start(&u->daemon, &u->config, path, is_default, u->given, &exit_status, &fault);
    if (r != 0) {
        return r == MVPN_E_CLOSED
                   ? has_ended(u, exit_status)
                   : fail_with(u, UP_FAILED, "no-start", "See meshvpn doctor", fault.text);
    }
    bool by_systemd = u->daemon.pid <= 0;
    if ((by_systemd || !wants_to_wait(u)) && !await_socket(u, &exit_status)) {
        return exit_status;
    }
    if (by_systemd && !tell_wishes(u, &exit_status)) { /* else its command line has them */
        return exit_status;
    }
    return wants_to_wait(u) ? follow(u) : left_alone(u);
}

/* One runs: 0 if it may be talked to and is a client. */
static int greet(up_run *u, const json_t *status)
{
    const char *role = json_string_value(json_object_get(status, "role"));
    if (role == NULL || strcmp(role, "client") != 0) {
        return fail_with(u, UP_FAILED, "not-a-client",
                         "Name the client's configuration with --config",
                         "the daemon at this control socket is no client");
    }
    return 0;
}

static int load(up_run *u, const char *path)
{
    mvpn_fault fault = {.text = ""};
    int r = mvpn_config_load(path, MVPN_CONFIG_CLIENT, &u->config, &fault);
    if (r == 0) {
        return 0;
    }
    if (r == MVPN_E_UNKNOWN) {
        return fail_with(u, UP_USAGE, "no-config",
                         "Become a member of a network first: sudo meshvpn join - (it reads your "
                         "invitation), or name another file with --config",
                         fault.text);
    }
    return fail_with(u, r == MVPN_E_SYSTEM ? UP_NO_RIGHTS : UP_USAGE, "config",
                     "Mend that line; meshvpn config check looks again", fault.text);
}

static int run(up_run *u)
{
    const char *path = options_text(u->given, "--config");
    bool is_default = path == NULL;
    int error = 0;
    path = is_default ? CONFIG_FILE : path;
    mvpn_config_init(&u->config, MVPN_CONFIG_CLIENT);
    int exit_status = load(u, path);
    if (exit_status != 0) {
        return exit_status;
    }
    json_t *status = ask_status(u, &error);
    if (status == NULL && error != MVPN_E_CLOSED) {
        return fail_with(u, UP_NO_RIGHTS, "no-rights",
                         "Use sudo, or have root add you to the socket's group and to operators",
                         "you may not ask the client that runs here");
    }
    if (status == NULL) {
        return start_and_follow(u, path, is_default);
    }
    exit_status = greet(u, status);
    bool has_wishes = options_has(u->given, "--exit") || options_has(u->given, "--hops");
    bool was_connected = is_done(u, status);
    if (is_connected(status) && stage_view_is_over(status)) {
        stage_view_skip(&u->view, status);
    }
    if (exit_status == 0 && tell_wishes(u, &exit_status)) {
        exit_status = was_connected && !has_wishes ? connected(u, status, true)
                      : wants_to_wait(u)           ? follow(u)
                                                   : left_alone(u);
    }
    json_decref(status);
    return exit_status;
}

int up_command(const options_given *given)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    up_run *u = calloc(1, sizeof(*u));
    if (u == NULL) {
        return UP_FAILED;
    }
    u->given = given;
    u->daemon.pid = -1;
    u->began = mvpn_clock_now();
    u->is_json = options_has(given, "--json");
    u->is_quiet = options_has(given, "--quiet");
    stage_view_init(&u->view, options_has(given, "--no-color"), u->is_json, u->is_quiet);
    (void)sigaction(SIGINT, &action, NULL);
    int exit_status = run(u);
    free(u);
    return exit_status;
}
