/*
 * `meshvpn circuit`: what a person can ask of the client's circuits.
 */
#ifndef MVPN_BIN_CIRCUIT_H
#define MVPN_BIN_CIRCUIT_H

#include "bin/options.h"

/** New connections get a new identity. Returns the exit status. */
int circuit_new_command(const options_given *given);

#endif
