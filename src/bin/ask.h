/*
 * How the commands of meshvpn ask the daemon. What goes wrong is said on stderr.
 */
#ifndef MVPN_BIN_ASK_H
#define MVPN_BIN_ASK_H

#include <limits.h>

#include <jansson.h>

#include "bin/options.h"

#define ASK_FAILED 1
#define ASK_NO_DAEMON 4

/** The socket of --control, else the one that is there (in `found`); NULL: it must be chosen. */
const char *ask_socket(const options_given *given, char found[static PATH_MAX]);

/** The reply to `request` (taken), the caller's; NULL: `*ret_exit` is the exit status. An "error"
 * is no reply. */
json_t *ask_daemon(const char *socket, json_t *request, int *ret_exit);

#endif
