#include "bin/down.h"

#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/error.h"
#include "bin/up_daemon.h"
#include "bin/up_trouble.h"
#include "io/clock.h"
#include "io/control.h"
#include "io/host_dns_file.h"
#include "io/host_look.h"
#include "io/kill_switch.h"

#define CONFIG_FILE "/etc/meshvpn/client.conf"
#define ANSWER_MS 3000
/* The helper takes 10 s at most (io/helper.h); a goodbye before that. */
#define END_MS 15000
#define POLL_MS 20

bool down_is_blocked(const mvpn_config *config)
{
    mvpn_host_view view;
    mvpn_host_look(config->client.table, MVPN_KILL_SWITCH_TABLE, &view);
    return view.has_filter ? view.has_table : view.has_refusal;
}

static int load(const options_given *given, mvpn_config *config, const char **ret_path)
{
    mvpn_fault fault = {.text = ""};
    const char *path = options_text(given, "--config");
    *ret_path = path != NULL ? path : CONFIG_FILE;
    mvpn_config_init(config, MVPN_CONFIG_CLIENT);
    int r = mvpn_config_load(*ret_path, MVPN_CONFIG_CLIENT, config, &fault);
    if (r == MVPN_E_UNKNOWN && path == NULL) {
        mvpn_config_init(config, MVPN_CONFIG_CLIENT); /* one with other words may run */
        return 0;
    }
    if (r != 0) {
        (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
        return r == MVPN_E_SYSTEM ? UP_NO_RIGHTS : UP_USAGE;
    }
    return 0;
}

/* The reply, the caller's; NULL after saying why not. `*ret_is_down`: nobody is there. */
static json_t *ask(const mvpn_config *config, const char *cmd, bool *ret_is_down, int *ret_exit)
{
    mvpn_fault fault = {.text = ""};
    json_t *request = json_pack("{s:s}", "cmd", cmd), *reply = NULL;
    int r = request == NULL
                ? MVPN_E_NOMEM
                : mvpn_control_ask(config->control_socket, request, ANSWER_MS, &reply, &fault);
    json_decref(request);
    *ret_is_down = r == MVPN_E_CLOSED;
    const char *error = json_string_value(json_object_get(reply, "error"));
    const char *code = json_string_value(json_object_get(reply, "code"));
    if (r == 0 && error == NULL) {
        return reply;
    }
    bool is_refused = r == MVPN_E_SYSTEM || (code != NULL && strcmp(code, "refused") == 0);
    *ret_exit = *ret_is_down ? UP_NO_NETWORK : is_refused ? UP_NO_RIGHTS : UP_FAILED;
    if (!*ret_is_down) {
        (void)fprintf(stderr, "meshvpn: %s\n", error != NULL ? error : fault.text);
    }
    json_decref(reply);
    return NULL;
}

/* As above, by what the command line names. */
static json_t *load_and_ask(const options_given *given, const char *cmd, mvpn_config *config,
                            const char **ret_path, bool *ret_is_down, int *ret_exit)
{
    *ret_is_down = false;
    *ret_exit = load(given, config, ret_path);
    return *ret_exit == 0 ? ask(config, cmd, ret_is_down, ret_exit) : NULL;
}

/* ---- down ---- */

/* Its process takes everything back before it ends. */
static bool await_end(pid_t pid, const mvpn_config *config)
{
    static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    mvpn_time limit = mvpn_clock_now() + MVPN_MS(END_MS);
    while (mvpn_clock_now() < limit) {
        bool is_gone = pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH);
        if (is_gone && if_nametoindex(config->client.tun_name) == 0) {
            return true;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* No client runs: what one left is taken back. */
static int clean_up(const mvpn_config *config, const char *path)
{
    static char program[] = "meshvpn-client", option[] = "--config", cleanup[] = "--cleanup";
    char *const argv[] = {program, option, (char *)path, cleanup, NULL}; /* execv changes nothing */
    if (!down_is_blocked(config) && !mvpn_dns_file_is_left(MVPN_DNS_FILE_DIR)) {
        (void)puts("No client runs here, and none has left anything.");
        return UP_CONNECTED;
    }
    if (config->client.lockdown) {
        (void)puts("No client runs here. Lockdown is on: nothing leaves this computer until sudo "
                   "meshvpn up. (sudo meshvpn-client --cleanup opens it.)");
        return UP_CONNECTED;
    }
    if (geteuid() != 0) {
        (void)fputs("meshvpn: a client that fell has left its kill switch, and you may not take it "
                    "away.\n  Use sudo meshvpn down.\n",
                    stderr);
        return UP_NO_RIGHTS;
    }
    if (up_daemon_run(argv) != 0) {
        return UP_FAILED; /* it has said why */
    }
    (void)puts("Down: what a client that fell had left is taken back.");
    return UP_CONNECTED;
}

int down_command(const options_given *given)
{
    mvpn_config config;
    const char *path = NULL;
    bool is_down = false;
    int exit_status = UP_FAILED;
    json_t *reply = load_and_ask(given, "down", &config, &path, &is_down, &exit_status);
    if (reply == NULL) {
        return is_down ? clean_up(&config, path) : exit_status;
    }
    pid_t pid = (pid_t)json_integer_value(json_object_get(reply, "pid"));
    bool lockdown = json_is_true(json_object_get(reply, "lockdown"));
    json_decref(reply);
    if (!await_end(pid, &config)) {
        (void)fputs("meshvpn: the client has not ended after 15 s.\n  See meshvpn log.\n", stderr);
        return UP_FAILED;
    }
    (void)puts(lockdown
                   ? "Down. Lockdown is on: nothing leaves this computer until sudo meshvpn up."
                   : "Down. This computer's network is as it was before.");
    return UP_CONNECTED;
}

/* ---- reconnect ---- */

int reconnect_command(const options_given *given)
{
    mvpn_config config;
    const char *path = NULL;
    bool is_down = false;
    int exit_status = UP_FAILED;
    json_t *reply = load_and_ask(given, "reconnect", &config, &path, &is_down, &exit_status);
    if (is_down) {
        (void)fputs("meshvpn: no client runs here.\n  Start it: sudo meshvpn up.\n", stderr);
    }
    if (reply != NULL) {
        (void)puts("All circuits are built anew; open connections stay.");
        json_decref(reply);
    }
    return exit_status;
}
