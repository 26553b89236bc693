/*
 * meshvpn-exit-node --check-policy: may a session go there, and what decides?
 */
#ifndef MVPN_BIN_CHECK_POLICY_H
#define MVPN_BIN_CHECK_POLICY_H

#include "bin/cli.h"

/** Print the verdict. Returns the exit code: 0 it may, 1 it may not, 2 wrong usage. */
int check_policy(cli *cli);

#endif
