/* `meshvpn relay status`: the relays that run on this host. Returns the exit status. */
#ifndef MVPN_BIN_RELAY_STATUS_H
#define MVPN_BIN_RELAY_STATUS_H

#include "bin/options.h"

int relay_status_command(const options_given *given);

#endif
