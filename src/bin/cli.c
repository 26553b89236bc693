#include "bin/cli.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/logger.h"
#include "io/notify.h"

static void print_usage(const cli *c, const char *summary, bool is_exit)
{
    (void)printf(
        "%s: %s\n\nUsage: %s --config FILE [--check]%s\n\n"
        "  --config FILE   configuration; every key is described in docs/configuration.md\n"
        "  --check         check configuration, keys and network file, and start nothing\n"
        "%s"
        "  --help, --version\n\n"
        "Exit status: 0 ended by a signal, 1 failed, 2 wrong usage or configuration.\n",
        c->program, summary, c->program, is_exit ? " [--cleanup | --check-policy DEST:PORT]" : "",
        is_exit
            ? "  --cleanup       take back what a crashed run left in this host\n"
              "  --check-policy DEST:PORT[/udp], or DEST/icmp\n"
              "                  may a session go there, and what decides? With a file of rules\n"
              "                  before the destination: by these rules. Exit status 0: yes, 1: "
              "no\n"
            : "");
}

int cli_fail(const cli *c, const mvpn_fault *fault)
{
    (void)fprintf(stderr, "%s: %s\n", c->program, fault->text);
    return CLI_FAILED;
}

/* -1: go on. */
static int parse_arguments(cli *c, int argc, char **argv, enum mvpn_config_kind kind,
                           const char *summary, const char **ret_path)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"cleanup", no_argument, NULL, 'u'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {"check-policy", required_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    int o;
    while ((o = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (o) {
        case 'c':
            *ret_path = optarg;
            break;
        case 'k':
            c->check = true;
            break;
        case 'h':
            print_usage(c, summary, kind == MVPN_CONFIG_EXIT);
            return 0;
        case 'v':
            (void)printf("%s %s\n", c->program, MVPN_VERSION);
            return 0;
        case 'u':
            if (kind == MVPN_CONFIG_EXIT) {
                c->cleanup = true;
                break;
            }
            (void)fprintf(stderr, "%s: --cleanup is for exits\n", c->program);
            return CLI_USAGE;
        case 'p':
            if (kind == MVPN_CONFIG_EXIT) {
                c->check_policy = optarg;
                break;
            }
            (void)fprintf(stderr, "%s: --check-policy is for exits\n", c->program);
            return CLI_USAGE;
        default:
            (void)fprintf(stderr, "%s: see %s --help\n", c->program, c->program);
            return CLI_USAGE;
        }
    }
    if (c->check_policy != NULL && optind < argc) {
        c->destination = argv[optind++];
    }
    if (optind < argc) {
        (void)fprintf(stderr, "%s: unexpected argument '%s'; see %s --help\n", c->program,
                      argv[optind], c->program);
        return CLI_USAGE;
    }
    return -1;
}

int cli_start(cli *c, int argc, char **argv, enum mvpn_config_kind kind, const char *summary)
{
    mvpn_fault fault = {.text = ""};
    const char *path = NULL;
    *c = (cli){.program = argv[0]};
    const char *slash = strrchr(argv[0], '/');
    c->program = slash == NULL ? argv[0] : slash + 1;
    int code = parse_arguments(c, argc, argv, kind, summary, &path);
    if (code != -1) {
        return code;
    }
    mvpn_config_init(&c->config, kind);
    if (path != NULL && mvpn_config_load(path, kind, &c->config, &fault) != 0) {
        (void)cli_fail(c, &fault);
        return CLI_USAGE;
    }
    mvpn_logger_init(&c->log, c->config.log_level);
    if (c->cleanup || c->check_policy != NULL) {
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
    const mvpn_network_file *n = &c->network;
    ret->network_pub = n->network_pub;
    ret->closed = n->is_closed;
    ret->network_secret = n->network_secret;
    ret->allow_private = n->allow_private;
    ret->relax = n->relax;
    ret->anchor_count = n->anchor_count;
    memcpy(ret->anchors, n->anchors, sizeof(ret->anchors));
    ret->revocations = &n->revocations;
    ret->entries = n->entries;
    ret->entry_count = n->entry_count;
    ret->finds = true;
}

void cli_done(cli *c)
{
    mvpn_network_file_done(&c->network);
}

/* How long a relay may take to withdraw its descriptor before it ends. */
#define GOODBYE_MS 2000

typedef struct stopper {
    mvpn_loop *loop;
    mvpn_node *node;
    const cli *cli;
    bool is_ending;
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
    if (s->is_ending || s->node == NULL || !mvpn_node_withdraw(s->node, on_goodbye_over, s) ||
        mvpn_loop_every(s->loop, GOODBYE_MS, on_goodbye_over, s) != 0) {
        mvpn_loop_stop(s->loop);
    }
    s->is_ending = true;
}

static void on_watchdog(void *ctx)
{
    mvpn_notify_send(ctx, "WATCHDOG=1");
}

int cli_run(cli *c, mvpn_loop *loop, mvpn_node *node, mvpn_control_fn *status, void *ctx)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    mvpn_fault fault = {.text = ""};
    mvpn_control *control = NULL;
    mvpn_notify notify;
    stopper s = {loop, node, c, false};
    int r = 0;
    for (size_t i = 0; r == 0 && i < MVPN_ARRAY_LEN(signals); i++) {
        r = mvpn_loop_on_signal(loop, signals[i], on_signal, &s);
    }
    if (r != 0) {
        (void)fprintf(stderr, "%s: cannot handle signals: %s\n", c->program, mvpn_strerror(r));
        return CLI_FAILED;
    }
    (void)mkdir(c->config.run_dir, 0755); /* the control socket's own error tells if this failed */
    if (mvpn_control_open(&control, loop, c->config.control_socket, status, ctx, &fault) != 0) {
        return cli_fail(c, &fault);
    }
    mvpn_notify_init(&notify);
    if (mvpn_notify_watchdog_ms() > 0) {
        MVPN_IGNORE(mvpn_loop_every(loop, mvpn_notify_watchdog_ms(), on_watchdog, &notify));
    }
    mvpn_notify_send(&notify, "READY=1");
    mvpn_logf(&c->log, MVPN_LOG_INFO, "running in network '%s' (%zu relays known)", c->network.name,
              c->network.relay_count);
    r = mvpn_loop_run(loop);
    mvpn_notify_send(&notify, "STOPPING=1");
    mvpn_notify_done(&notify);
    mvpn_control_close(control);
    return r == 0 ? 0 : CLI_FAILED;
}
