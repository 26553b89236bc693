/*
 * Processes that a program starts and waits for.
 */
#ifndef MVPN_BIN_CHILD_H
#define MVPN_BIN_CHILD_H

#include <sys/types.h>

/** Wait for the end of `pid`, a child: its exit status, or 128 + the signal that ended it; -1 if it
 * is none. */
int child_wait(pid_t pid);

#endif
