/*
 * meshvpn join and meshvpn invite: how somebody becomes a member. (docs/protocol.md §13.1)
 */
#ifndef MVPN_BIN_JOIN_H
#define MVPN_BIN_JOIN_H

#include "bin/options.h"

/** LINK "-" is read from standard input. Returns the exit status: 0 joined, 1 failed, 2 wrong
 * usage. */
int join_command(const options_given *given);

/** `invite DIR ...`: hands over to meshvpn-bootstrap, or says that inviting is the operator's. */
int invite_command(const options_given *given);

#endif
