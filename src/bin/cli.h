/*
 * What the three daemons share: their command line, the control socket, and the wait for a signal.
 */
#ifndef MVPN_BIN_CLI_H
#define MVPN_BIN_CLI_H

#include "base/log.h"
#include "bin/options_tables.h"
#include "io/config.h"
#include "io/control.h"
#include "io/helper.h"
#include "io/mark.h"
#include "io/network_file.h"
#include "io/node.h"
#include "io/notify.h"
#include "io/sandbox.h"

/* Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration. */
#define CLI_FAILED 1
#define CLI_USAGE 2

typedef struct cli {
    const char *program;
    bool check;               /* --check: look, and start nothing */
    bool cleanup;             /* --cleanup (exit, client): take back what a crashed run left */
    bool lockdown;            /* --lockdown (client): close the host, and end */
    const char *check_policy; /* --check-policy (exit): a file of rules, or the destination */
    const char *destination;  /* behind a file of rules; else NULL */
    bool is_proxy;            /* --proxy (client): neither TUN nor helper (bin/client_proxy.h) */
    mvpn_addr proxy_socks, proxy_http; /* where it listens; family 0: not */
    const char *exit; /* --exit (client): as of meshvpn exit use; NULL: what was remembered */
    mvpn_config config;
    mvpn_network_file network;
    mvpn_log log;
    mvpn_sandbox_user user; /* whom the program becomes */
    mvpn_helper *helper;    /* NULL: nothing is to be set up */
    mvpn_notify notify;     /* systemd, while cli_run runs */
    mvpn_marker marker;     /* a client's; for all of its sockets */
    mvpn_control *control;  /* while it runs */
} cli;

/**
 * Read the arguments by the table, the configuration and the network file. Returns -1 to go on,
 * else the code to exit with (all has been said). Free with cli_done.
 */
int cli_start(cli *cli, int argc, char **argv, enum mvpn_config_kind kind,
              const option_program *program);
void cli_done(cli *cli);

/** What the network file says, for the engine. Entries are borrowed from `cli`. */
void cli_fill_network(const cli *cli, mvpn_engine_config *ret);

/**
 * Split off the helper, which holds the configuration and nothing else; before keys are read. With
 * --check and --cleanup there is none. Returns -1 to go on, else the code to exit with.
 */
int cli_start_helper(cli *cli);
/** Have the helper take back what it set up. Before mvpn_loop_free; the TUN is closed. */
void cli_end_helper(cli *cli);

/** Keep a secret out of swap and core files, or warn. */
void cli_lock(const cli *cli, const void *secret, size_t size);

/** Say `fault` on stderr; returns CLI_FAILED. */
int cli_fail(const cli *cli, const mvpn_fault *fault);

/**
 * Open the control socket, give up privileges (docs/architecture.md), tell systemd, run until a
 * signal, and close. A relay withdraws its descriptor before it ends. Returns the exit code: 0 only
 * if somebody asked for the end.
 */
int cli_run(cli *cli, mvpn_loop *loop, mvpn_node *node, mvpn_control_fn *status, void *ctx);

#endif
