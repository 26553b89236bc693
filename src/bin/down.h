/* meshvpn down and reconnect; and what is left of a client that fell. */
#ifndef MVPN_BIN_DOWN_H
#define MVPN_BIN_DOWN_H

#include "bin/options.h"
#include "io/config.h"

int down_command(const options_given *given);
int reconnect_command(const options_given *given);

/** Does a kill switch hold this host, though no client runs? Seen by the packet filter, where one
 * may look, else by the routes. */
bool down_is_blocked(const mvpn_config *config);

#endif
