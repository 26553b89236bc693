/*
 * meshvpn proxy: the whole client for programs that are told to use it, without root.
 */
#ifndef MVPN_BIN_PROXY_H
#define MVPN_BIN_PROXY_H

#include "bin/options.h"

/** Becomes meshvpn-client --proxy; returns the exit status if it cannot. */
int proxy_command(const options_given *given);

#endif
