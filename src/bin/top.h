/* meshvpn top: the client at work on a terminal's screen. */
#ifndef MVPN_BIN_TOP_H
#define MVPN_BIN_TOP_H

#include "bin/options.h"

int top_command(const options_given *given);

#endif
