/* meshvpn run --exit: a command that leaves by another exit than the rest of this computer. */
#ifndef MVPN_BIN_RUN_EXIT_H
#define MVPN_BIN_RUN_EXIT_H

#include "bin/options.h"

int run_exit(const options_given *given, const char *exit);

#endif
