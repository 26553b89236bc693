/*
 * The firewall mark of a socket (SO_MARK): what carries it uses the main routing table, not the
 * tunnel. Setting it needs CAP_NET_ADMIN, which a sandboxed program has given up: then it asks its
 * helper (io/helper.h). A program that embeds a client has its own way to keep sockets out of the
 * tunnel, and is asked too.
 */
#ifndef MVPN_IO_MARK_H
#define MVPN_IO_MARK_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

/** Sees to it that what `fd` sends goes around the tunnel; 0, or -1 with errno. */
typedef int mvpn_mark_fn(void *ctx, int fd);

/* How the sockets of one node are marked; each is, before anything is sent on it. */
typedef struct mvpn_marker {
    uint32_t mark;     /* 0 = none */
    mvpn_mark_fn *ask; /* asked where there is no mark, or this process may not set it; or NULL */
    void *ctx;
} mvpn_marker;

/** Mark the socket `fd`; `marker` NULL: leave it. 0, or -1 with errno (EPERM: no rights). */
MVPN_WUR int mvpn_mark_socket(int fd, const mvpn_marker *marker);

/** The mark for questions about routes; 0 = none. */
static inline uint32_t mvpn_marker_mark(const mvpn_marker *marker)
{
    return marker != NULL ? marker->mark : 0;
}

#endif
