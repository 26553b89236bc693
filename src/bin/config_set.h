/* `meshvpn config set` and `unset`: one key of a configuration, in place. The exit status. */
#ifndef MVPN_BIN_CONFIG_SET_H
#define MVPN_BIN_CONFIG_SET_H

#include "bin/options.h"

int config_set_command(const options_given *given);
int config_unset_command(const options_given *given);

#endif
