/*
 * `meshvpn netcheck`: what is between this computer and the network, in less than five seconds.
 * Needs neither a daemon nor root.
 */
#ifndef MVPN_BIN_NETCHECK_H
#define MVPN_BIN_NETCHECK_H

#include "bin/options.h"

/** Returns the exit status of docs/netcheck.md. */
int netcheck_command(const options_given *given);

#endif
