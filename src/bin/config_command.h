/* `meshvpn config`: configuration files. Each returns the exit status. */
#ifndef MVPN_BIN_CONFIG_COMMAND_H
#define MVPN_BIN_CONFIG_COMMAND_H

#include <limits.h>

#include "bin/options.h"
#include "io/config.h"

int config_check_command(const options_given *given);
int config_show_command(const options_given *given);
int config_docs_command(const options_given *given);

/** The operands KIND and FILE; without them those of the client, and where the file is usually. */
enum mvpn_config_kind config_kind_and_file(const options_given *given, char file[static PATH_MAX]);
/** The configuration that this host has; that of a client if it has none or several. */
enum mvpn_config_kind config_find(char file[static PATH_MAX]);

#endif
