/* `meshvpn exit list`: the exits that the client knows. */
#ifndef MVPN_BIN_EXIT_LIST_H
#define MVPN_BIN_EXIT_LIST_H

#include "bin/options.h"

/** Returns the exit status. */
int exit_list_command(const options_given *given);
int exit_suggest_command(const options_given *given);

#endif
