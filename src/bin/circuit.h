/*
 * `meshvpn circuit`: what a person can ask of the client's circuits.
 */
#ifndef MVPN_BIN_CIRCUIT_H
#define MVPN_BIN_CIRCUIT_H

/** `argv`: what follows "circuit". Returns the exit status. */
int circuit_command(int argc, char **argv);

#endif
