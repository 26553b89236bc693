/* `meshvpn relay enable`: this computer becomes a relay of its network. Returns the exit status. */
#ifndef MVPN_BIN_RELAY_ENABLE_H
#define MVPN_BIN_RELAY_ENABLE_H

#include <stdbool.h>

#include "bin/options.h"

/** "50mbit", "1gbit" or "50" in Mbit/s; false if it is none, or below 1. */
bool relay_parse_rate(const char *text, unsigned long *ret_mbit);
/** "1T/month", "500G" or "500" in GB; false if it is none. */
bool relay_parse_quota(const char *text, unsigned long *ret_gb);

int relay_enable_command(const options_given *given);

#endif
