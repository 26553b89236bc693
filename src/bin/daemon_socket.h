/*
 * Which daemon the command meshvpn talks to.
 */
#ifndef MVPN_BIN_DAEMON_SOCKET_H
#define MVPN_BIN_DAEMON_SOCKET_H

#include <limits.h>
#include <stdbool.h>

/** The default control socket, else the only one of the run directory. False after saying why not:
 * several daemons run here. */
bool daemon_socket_find(char out[static PATH_MAX]);

#endif
