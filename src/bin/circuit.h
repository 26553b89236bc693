/*
 * `meshvpn circuit`: what a person can ask of the client's circuits. Each returns the exit status.
 */
#ifndef MVPN_BIN_CIRCUIT_H
#define MVPN_BIN_CIRCUIT_H

#include "bin/options.h"

int circuit_list_command(const options_given *given);
/** One of them: that of the number, else the one that new connections use. */
int circuit_show_command(const options_given *given);
/** New connections get a new identity. */
int circuit_new_command(const options_given *given);

#endif
