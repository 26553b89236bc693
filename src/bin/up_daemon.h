/*
 * Starting meshvpn-client for `meshvpn up`: by systemd where that runs the system and has the unit,
 * else in the background, with its words in RUN_DIR/client.log. One that dies at its start is
 * noticed, and what it said is shown.
 */
#ifndef MVPN_BIN_UP_DAEMON_H
#define MVPN_BIN_UP_DAEMON_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "bin/options.h"
#include "io/config.h"
#include "io/fault.h"

typedef struct up_daemon {
    pid_t pid; /* -1: systemd has it, or it ran before */
    char log[PATH_MAX];
} up_daemon;

/**
 * Start it. `path` is its configuration, `is_default` whether that is the one of the unit.
 * MVPN_E_SYSTEM: `fault` says why; MVPN_E_CLOSED: it died at once, all is said, `*ret_exit` is the
 * exit status to end with.
 */
MVPN_WUR int up_daemon_start(up_daemon *ret, const mvpn_config *config, const char *path,
                             bool is_default, const options_given *given, int *ret_exit,
                             mvpn_fault *fault);

/** Has it ended? Then what it said is shown, and `*ret_exit` is the exit status to end with. */
bool up_daemon_has_died(up_daemon *daemon, int *ret_exit);

/** Run a program beside this one, or of the PATH, and wait; its exit status, or -1. */
int up_daemon_run(char *const argv[]);

#endif
