/*
 * Notice when an address of this host comes or goes: then links take fresh connection ids before
 * they send from the new one, and prove their paths anew. (docs/protocol.md §4.3; routing netlink's
 * multicast groups)
 */
#ifndef MVPN_IO_ADDRWATCH_H
#define MVPN_IO_ADDRWATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "base/macros.h"
#include "io/netlink.h"

/** Descriptor to poll for reading, non-blocking, the caller's to close; -1 with errno. */
MVPN_WUR int mvpn_addrwatch_open(void);

/** Read all that is there. True if an address was added or removed, or if we may have missed it. */
bool mvpn_addrwatch_read(int fd);

/** This host's addresses now, without ports: of interfaces that are up, neither loopback nor
 * link-local ones, nor those of `except` (an interface's name, or NULL). `routes` is an open
 * socket, as a sandboxed program opens none. Returns how many. */
size_t mvpn_addrwatch_list(mvpn_netlink *routes, const char *except, mvpn_addr *ret, size_t max);

#endif
