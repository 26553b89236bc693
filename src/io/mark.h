/*
 * The firewall mark of a socket (SO_MARK): what carries it uses the main routing table, not the
 * tunnel. Setting it needs CAP_NET_ADMIN, which a sandboxed program has given up: then it asks its
 * helper (io/helper.h).
 */
#ifndef MVPN_IO_MARK_H
#define MVPN_IO_MARK_H

#include <stdint.h>

#include "base/macros.h"

/** Sets the mark of `fd` to the configured one; 0, or -1 with errno. */
typedef int mvpn_mark_fn(void *ctx, int fd);

/** Mark the socket `fd`; `mark` 0 = leave it. 0, or -1 with errno (EPERM: no rights). */
MVPN_WUR int mvpn_mark_socket(int fd, uint32_t mark);

/** Whom to ask when this process may not do it itself, for the whole process; `fn` NULL: nobody. */
void mvpn_mark_ask(mvpn_mark_fn *fn, void *ctx);

#endif
