/*
 * Notice when an address of this host comes or goes: then links take fresh connection ids before
 * they send from the new one, and prove their paths anew. (docs/protocol.md §4.3; routing netlink's
 * multicast groups)
 */
#ifndef MVPN_IO_ADDRWATCH_H
#define MVPN_IO_ADDRWATCH_H

#include <stdbool.h>

#include "base/macros.h"

/** Descriptor to poll for reading, non-blocking, the caller's to close; -1 with errno. */
MVPN_WUR int mvpn_addrwatch_open(void);

/** Read all that is there. True if an address was added or removed, or if we may have missed it. */
bool mvpn_addrwatch_read(int fd);

#endif
