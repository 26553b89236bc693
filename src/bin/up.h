/* meshvpn up, down, reconnect. */
#ifndef MVPN_BIN_UP_H
#define MVPN_BIN_UP_H

#include "bin/options.h"

int up_command(const options_given *given);

#endif
