/* meshvpn run: a command that goes another way than the rest of this computer. */
#ifndef MVPN_BIN_RUN_H
#define MVPN_BIN_RUN_H

#include "bin/options.h"

int run_command(const options_given *given);
/** Become `command`; returns the exit status if that is not possible, which has been said. */
int run_execute(char **command);

#endif
