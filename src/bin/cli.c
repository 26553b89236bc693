#include "bin/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "io/client_exits.h"
#include "io/clock.h"
#include "io/file.h"
#include "io/logger.h"
#include "io/notify.h"

int cli_fail(const cli *c, const mvpn_fault *fault)
{
    (void)fprintf(stderr, "%s: %s\n", c->program, fault->text);
    return CLI_FAILED;
}

/* "IP:PORT", or a port of 127.0.0.1; NULL: none. Returns -1 to go on. */
static int take_address(const options_given *given, const char *text, mvpn_addr *ret)
{
    char full[MVPN_ADDR_STRLEN];
    if (text == NULL) {
        return -1;
    }
    bool is_port = strspn(text, "0123456789") == strlen(text);
    int n = snprintf(full, sizeof(full), "%s%s", is_port ? "127.0.0.1:" : "", text);
    if (n >= (int)sizeof(full) || mvpn_addr_parse(full, ret) != 0 || ret->port == 0) {
        return options_fail(given, "'%s' is no address to listen on: write IP:PORT, or a port",
                            text);
    }
    return -1;
}

/* Of a client. Returns -1 to go on. */
static int take_exit(cli *c, const options_given *given)
{
    mvpn_fault fault = {.text = ""};
    c->exit = options_text(given, "--exit");
    return c->exit == NULL || mvpn_client_exits_word(c->exit, &fault) == 0
               ? -1
               : options_fail(given, "--exit: %s", fault.text);
}

/* Of a client. Returns -1 to go on. */
static int take_proxy(cli *c, const options_given *given)
{
    const char *socks = options_text(given, "--socks"), *http = options_text(given, "--http");
    c->is_proxy = options_has(given, "--proxy") || socks != NULL || http != NULL;
    if (c->is_proxy && socks == NULL && http == NULL) {
        socks = "1080";
    }
    int code = take_address(given, socks, &c->proxy_socks);
    return code != -1 ? code : take_address(given, http, &c->proxy_http);
}

/* A client beside the host's: whatever it would change in the host is off. */
static int take_tun(cli *c, const options_given *given)
{
    mvpn_config_client *client = &c->config.client;
    const char *dir = options_text(given, "--own-dir");
    client->has_tun = options_has(given, "--tun-fd");
    if (client->has_tun != (dir != NULL) || (client->has_tun && c->is_proxy)) {
        return options_fail(given, "--tun-fd and --own-dir belong together, and not to --proxy");
    }
    if (!client->has_tun) {
        return -1;
    }
    client->tun_fd = (int)options_number(given, "--tun-fd", 0);
    client->routes_all = client->kill_switch = client->lockdown = false;
    client->dns = MVPN_DNS_NONE;
    client->split = (mvpn_config_split){0};
    (void)snprintf(c->config.run_dir, sizeof(c->config.run_dir), "%s", dir);
    (void)snprintf(c->config.state_dir, sizeof(c->config.state_dir), "%s", dir);
    int n = snprintf(c->config.control_socket, sizeof(c->config.control_socket), "%s/control.sock",
                     dir);
    return n < (int)sizeof(c->config.control_socket) ? -1
                                                     : options_fail(given, "%s is too long", dir);
}

/* Options of exits and clients alone are not in the tables of the others. -1: go on. */
static int take_arguments(cli *c, const options_given *given, enum mvpn_config_kind kind)
{
    c->check = options_has(given, "--check");
    c->cleanup =
        (kind == MVPN_CONFIG_EXIT || kind == MVPN_CONFIG_CLIENT) && options_has(given, "--cleanup");
    c->lockdown = kind == MVPN_CONFIG_CLIENT && options_has(given, "--lockdown");
    if (kind == MVPN_CONFIG_EXIT) {
        c->check_policy = options_text(given, "--check-policy");
        c->destination = given->operands[0];
    }
    return kind != MVPN_CONFIG_CLIENT  ? -1
           : take_exit(c, given) != -1 ? OPTIONS_USAGE
                                       : take_proxy(c, given);
}

int cli_start(cli *c, int argc, char **argv, enum mvpn_config_kind kind,
              const option_program *program)
{
    mvpn_fault fault = {.text = ""};
    options_given given;
    *c = (cli){.program = program->name, .notify = {.fd = -1}};
    int code = options_parse(program, argc, argv, &given);
    if (code != -1) {
        return code;
    }
    code = take_arguments(c, &given, kind);
    if (code != -1) {
        return code;
    }
    if (c->destination != NULL && c->check_policy == NULL) {
        return options_fail(&given, "'%s' is one argument too many without --check-policy",
                            c->destination);
    }
    const char *path = options_text(&given, "--config");
    mvpn_config_init(&c->config, kind);
    if (path != NULL && mvpn_config_load(path, kind, &c->config, &fault) != 0) {
        (void)cli_fail(c, &fault);
        return CLI_USAGE;
    }
    if (kind == MVPN_CONFIG_CLIENT) {
        unsigned *hops = &c->config.client.hops;
        *hops = (unsigned)options_number(&given, "--hops", *hops);
        if (c->config.client.path_count > 0 && c->config.client.path_count != *hops) {
            return options_fail(&given, "--hops: the configuration's path has %u",
                                c->config.client.path_count);
        }
    }
    code = kind == MVPN_CONFIG_CLIENT ? take_tun(c, &given) : -1;
    if (code != -1) {
        return code;
    }
    mvpn_logger_init(&c->log, c->config.log_level);
    if (mvpn_sandbox_find_user(c->config.user, &c->user, &fault) != 0) {
        (void)cli_fail(c, &fault);
        return CLI_USAGE;
    }
    mvpn_file_trust_owner(c->user.uid);
    mvpn_file_trust_owner(MVPN_SANDBOX_UNUSED_UID); /* of a time before there was that user */
    if (c->cleanup || c->lockdown || c->check_policy != NULL) {
        return -1; /* needs no network */
    }
    if (mvpn_network_file_load(c->config.network_file, mvpn_clock_unix(), &c->network, &fault) !=
        0) {
        (void)cli_fail(c, &fault);
        return CLI_USAGE;
    }
    if (c->network.expired_count > 0) {
        mvpn_logf(&c->log, MVPN_LOG_WARN,
                  "%zu relays of the network file are outside their time (the first is '%s'): "
                  "renew them with meshvpn-bootstrap renew, or set this host's clock",
                  c->network.expired_count, c->network.expired_name);
    }
    return -1;
}

void cli_fill_network(const cli *c, mvpn_engine_config *ret)
{
    mvpn_node_fill_network(&c->network, ret);
}

void cli_done(cli *c)
{
    mvpn_network_file_done(&c->network);
}

/* ---- privileges ---- */

static void forget_network(void *ctx)
{
    mvpn_network_file_done(ctx);
}

static bool is_user_nat(const cli *c)
{
    return c->config.kind == MVPN_CONFIG_EXIT && c->config.exit.user_nat;
}

int cli_start_helper(cli *c)
{
    mvpn_fault fault = {.text = ""};
    if (c->check || c->cleanup || c->lockdown || c->is_proxy || is_user_nat(c)) {
        return -1;
    }
    return mvpn_helper_start(&c->config, forget_network, &c->network, &c->helper, &fault) == 0
               ? -1
               : cli_fail(c, &fault);
}

void cli_end_helper(cli *c)
{
    c->marker.ask = NULL;
    mvpn_helper_finish(c->helper);
    c->helper = NULL;
}

void cli_lock(const cli *c, const void *secret, size_t size)
{
    if (!mvpn_sandbox_lock(secret, size) && c->config.sandbox) {
        mvpn_logf(&c->log, MVPN_LOG_WARN,
                  "keys may be written to swap: raise the limit of locked memory "
                  "(LimitMEMLOCK, ulimit -l)");
    }
}

/* What is written later: lists and guards in one directory, the weekly onion key in another. */
static void hand_over_dirs(const cli *c, mvpn_sandbox_options *options)
{
    mvpn_fault why = {.text = ""};
    bool has_keys = c->config.kind != MVPN_CONFIG_CLIENT;
    bool is_one = strcmp(c->config.state_dir, c->config.key_dir) == 0;
    if (c->user.changes && access(c->config.state_dir, F_OK) == 0 &&
        mvpn_sandbox_give_dir(c->config.state_dir, &c->user, &why) != 0) {
        mvpn_logf(&c->log, MVPN_LOG_WARN, "nothing will be remembered: %s", why.text);
    }
    if (c->user.changes && has_keys && !is_one &&
        mvpn_sandbox_share_dir(c->config.key_dir, "onion.key", &c->user, &why) != 0) {
        mvpn_logf(&c->log, MVPN_LOG_WARN, "the onion key cannot be renewed: %s", why.text);
    }
    if (mvpn_file_pin_dir(c->config.state_dir) >= 0) {
        options->write_dirs[0] = c->config.state_dir;
    }
    if (has_keys && mvpn_file_pin_dir(c->config.key_dir) >= 0) {
        options->write_dirs[1] = c->config.key_dir;
    }
    if (!has_keys && c->config.client.geoip_dir[0] != '\0') {
        options->read_dir = c->config.client.geoip_dir;
    }
}

static void tell_sandbox(const cli *c, const mvpn_sandbox_state *state)
{
    bool has_rights = c->config.kind == MVPN_CONFIG_EXIT || c->config.kind == MVPN_CONFIG_CLIENT;
    mvpn_logf(
        &c->log, MVPN_LOG_INFO,
        "sandbox: uid %u%s%s%s, no capabilities, system calls filtered%s; its helper keeps %s",
        (unsigned)geteuid(), c->user.name[0] != '\0' ? " (" : "", c->user.name,
        c->user.name[0] != '\0' ? ")" : "", state->landlock_abi > 0 ? ", landlock" : "",
        c->helper == NULL ? "nothing, as there is none"
        : has_rights      ? "CAP_NET_ADMIN"
                          : "none");
    if (geteuid() == 0) {
        mvpn_logf(
            &c->log, MVPN_LOG_WARN,
            "this program stays root, though without capabilities: set user to one of its own");
    } else if (c->user.changes && c->config.user[0] == '\0' &&
               strcmp(c->user.name, MVPN_SANDBOX_USER) != 0) {
        mvpn_logf(&c->log, MVPN_LOG_WARN,
                  "there is no user '%s': uid %u stands in for it. Make it with useradd --system "
                  "--user-group --no-create-home %s",
                  MVPN_SANDBOX_USER, (unsigned)c->user.uid, MVPN_SANDBOX_USER);
    }
    if (state->landlock_abi == 0) {
        mvpn_logf(&c->log, MVPN_LOG_WARN,
                  "this kernel has no landlock: files are protected by their owners alone");
    }
}

/* Everything is open: from here on this process needs no rights. */
static int give_up_rights(cli *c, mvpn_fault *fault)
{
    mvpn_sandbox_options options = {
        .role = MVPN_SANDBOX_WORKER, .user = &c->user, .ping_sockets = is_user_nat(c)};
    mvpn_sandbox_state state;
    int r = c->helper != NULL ? mvpn_helper_control(c->helper, fault) : 0;
    if (r == 0 && c->config.sandbox) {
        hand_over_dirs(c, &options);
    }
    if (r == 0 && c->helper != NULL) {
        r = mvpn_helper_seal(c->helper, fault);
    }
    if (r != 0) {
        return r;
    }
    if (c->config.kind == MVPN_CONFIG_CLIENT && c->helper != NULL) {
        c->marker.ask = mvpn_helper_mark;
        c->marker.ctx = c->helper;
    }
    if (!c->config.sandbox) {
        mvpn_logf(&c->log, MVPN_LOG_WARN, "sandbox = off: this program keeps all its rights");
        return 0;
    }
    r = mvpn_sandbox_enter(&options, &state, fault);
    if (r == 0) {
        tell_sandbox(c, &state);
    }
    return r;
}

/* ---- running ---- */

/* How long a relay may take to withdraw its descriptor before it ends. */
#define GOODBYE_MS 2000

typedef struct stopper {
    mvpn_loop *loop;
    mvpn_node *node;
    const cli *cli;
    bool is_ending;
    bool has_failed;
} stopper;

static void on_goodbye_over(void *ctx)
{
    const stopper *s = ctx;
    mvpn_loop_stop(s->loop);
}

static void on_signal(void *ctx, int signo)
{
    stopper *s = ctx;
    if (signo == SIGHUP) {
        return;
    }
    mvpn_logf(&s->cli->log, MVPN_LOG_INFO, "ending: signal %d", signo);
    /* A second signal does not wait. */
    if (s->is_ending || !mvpn_node_withdraw(s->node, on_goodbye_over, s) ||
        mvpn_loop_every(s->loop, GOODBYE_MS, on_goodbye_over, s) != 0) {
        mvpn_loop_stop(s->loop);
    }
    s->is_ending = true;
}

static void on_helper_lost(void *ctx)
{
    stopper *s = ctx;
    mvpn_logf(&s->cli->log, MVPN_LOG_ERROR,
              "ending: the helper process ended; what it had set up is mended by the next start%s",
              s->cli->config.kind == MVPN_CONFIG_EXIT || s->cli->config.kind == MVPN_CONFIG_CLIENT
                  ? " or by --cleanup"
                  : "");
    s->has_failed = true;
    mvpn_loop_stop(s->loop);
}

/* Who started us is gone. */
static void on_input(void *ctx, unsigned events)
{
    stopper *s = ctx;
    char byte;
    (void)events;
    if (read(STDIN_FILENO, &byte, 1) <= 0) {
        on_signal(s, SIGTERM);
    }
}

static void on_watchdog(void *ctx)
{
    mvpn_notify_send(ctx, "WATCHDOG=1");
}

int cli_run(cli *c, mvpn_loop *loop, mvpn_node *node, mvpn_control_fn *status, void *ctx)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    mvpn_fault fault = {.text = ""};
    stopper s = {.loop = loop, .node = node, .cli = c};
    int r = 0;
    for (size_t i = 0; r == 0 && i < MVPN_ARRAY_LEN(signals); i++) {
        r = mvpn_loop_on_signal(loop, signals[i], on_signal, &s);
    }
    if (r != 0) {
        (void)fprintf(stderr, "%s: cannot handle signals: %s\n", c->program, mvpn_strerror(r));
        return CLI_FAILED;
    }
    (void)signal(SIGPIPE, SIG_IGN);       /* of a server that hangs up early (io/source_url.h) */
    (void)mkdir(c->config.run_dir, 0755); /* the control socket's own error tells if this failed */
    if (mvpn_control_open(&c->control, loop, c->config.control_socket, status, ctx, &fault) != 0) {
        return cli_fail(c, &fault);
    }
    mvpn_notify_init(&c->notify);
    if (c->config.client.has_tun) {
        mvpn_loop_watch *input;
        r = mvpn_loop_watch_fd(loop, STDIN_FILENO, MVPN_LOOP_READABLE, on_input, &s, &input);
    }
    r = c->helper != NULL && r == 0 ? mvpn_helper_watch(c->helper, loop, on_helper_lost, &s) : 0;
    if (r != 0) {
        (void)mvpn_fault_set(&fault, r, "cannot watch the helper: %s", mvpn_strerror(r));
    }
    r = r != 0 ? r : give_up_rights(c, &fault);
    if (r != 0) {
        mvpn_notify_done(&c->notify);
        mvpn_control_close(c->control);
        return cli_fail(c, &fault);
    }
    if (mvpn_notify_watchdog_ms() > 0) {
        MVPN_IGNORE(mvpn_loop_every(loop, mvpn_notify_watchdog_ms(), on_watchdog, &c->notify));
    }
    mvpn_notify_send(&c->notify, "READY=1");
    mvpn_logf(&c->log, MVPN_LOG_INFO, "running in network '%s' (%zu relays known)", c->network.name,
              c->network.relay_count);
    r = mvpn_loop_run(loop);
    if (mvpn_node_is_broken(node)) { /* nobody asked for this end: what protects stays */
        mvpn_logf(&c->log, MVPN_LOG_ERROR, "ending: the TUN device or a socket is gone");
        s.has_failed = true;
    }
    mvpn_notify_send(&c->notify, "STOPPING=1");
    mvpn_notify_done(&c->notify);
    mvpn_control_close(c->control);
    return r == 0 && !s.has_failed ? 0 : CLI_FAILED;
}
