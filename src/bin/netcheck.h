/*
 * `meshvpn netcheck`: what is between this computer and the network, in less than five seconds.
 * Needs neither a daemon nor root.
 */
#ifndef MVPN_BIN_NETCHECK_H
#define MVPN_BIN_NETCHECK_H

/** The command, without its name. Returns the exit status of docs/netcheck.md. */
int netcheck_command(int argc, char **argv);

#endif
