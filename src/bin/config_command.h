/* `meshvpn config`: configuration files. Each returns the exit status. */
#ifndef MVPN_BIN_CONFIG_COMMAND_H
#define MVPN_BIN_CONFIG_COMMAND_H

#include "bin/options.h"

int config_check_command(const options_given *given);
int config_show_command(const options_given *given);
int config_docs_command(const options_given *given);

#endif
