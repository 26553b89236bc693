/*
 * Programs that are installed together run each other.
 */
#ifndef MVPN_BIN_BESIDE_H
#define MVPN_BIN_BESIDE_H

/** Become `name`: the one beside this program, else that of the PATH. Returns only if there is
 * none, with errno. */
void exec_beside(const char *name, char **argv);

#endif
