/*
 * The body of meshvpn-relay and meshvpn-exit-node: an exit is a relay with a door.
 */
#ifndef MVPN_BIN_RELAY_MAIN_H
#define MVPN_BIN_RELAY_MAIN_H

#include "io/config.h"

int relay_main(int argc, char **argv, enum mvpn_config_kind kind, const char *summary);

#endif
