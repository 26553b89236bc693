/*
 * meshvpn ping NODE: round trips of the daemon's own link with a relay, and how it runs.
 */
#ifndef MVPN_BIN_PING_H
#define MVPN_BIN_PING_H

#include "bin/options.h"

/** Returns the exit status: 0 with at least one answer, 1 without or refused, 2 wrong usage, 4 no
 * daemon. */
int ping_command(const options_given *given);

#endif
