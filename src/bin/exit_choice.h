/* meshvpn exit use, block and unblock. */
#ifndef MVPN_BIN_EXIT_CHOICE_H
#define MVPN_BIN_EXIT_CHOICE_H

#include <jansson.h>

#include "bin/options.h"

/** The line of a status that says what was chosen; nothing if nothing was. */
void exit_choice_print(const json_t *status);

int exit_use_command(const options_given *given);
int exit_block_command(const options_given *given);
int exit_unblock_command(const options_given *given);

#endif
