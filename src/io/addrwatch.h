/*
 * Notice when this host's network changes: addresses that come and go, interfaces that lose their
 * carrier, another default route. Then links take fresh connection ids before they send from the
 * new place, and prove their paths anew, and a client knows that it has no network at all.
 * (docs/protocol.md §4.3, §7.2; routing netlink's multicast groups)
 */
#ifndef MVPN_IO_ADDRWATCH_H
#define MVPN_IO_ADDRWATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "base/macros.h"
#include "io/netlink.h"

/* Of this host that are looked at: more than any host has that is not a router. */
#define MVPN_ADDRWATCH_MAX 64

/* What the network of a host is, as far as others can tell. */
typedef struct mvpn_addrwatch_network {
    size_t count;
    mvpn_addr addrs[MVPN_ADDRWATCH_MAX]; /* without ports, in no order */
    mvpn_netlink_way way[2];             /* IPv4's, IPv6's */
} mvpn_addrwatch_network;

enum mvpn_addrwatch_word {
    MVPN_ADDRWATCH_NOTHING,
    MVPN_ADDRWATCH_LOOK, /* something may be different now, or we missed it */
    MVPN_ADDRWATCH_GONE, /* an address went: a change, even if the same one is back already */
};

/** Descriptor to poll for reading, non-blocking, the caller's to close; -1 with errno. */
MVPN_WUR int mvpn_addrwatch_open(void);

/** Read all that is there. Routes count if they are default ones, or nearly. */
enum mvpn_addrwatch_word mvpn_addrwatch_read(int fd);

/**
 * This host's network now: addresses of interfaces that are up and have a carrier, neither loopback
 * nor link-local ones, nor those of `except` (an interface's name, or NULL); ways of packets with
 * the firewall mark `mark`. `routes` is an open socket, as a sandboxed program opens none.
 * MVPN_E_SYSTEM; `*ret` is undefined then.
 */
MVPN_WUR int mvpn_addrwatch_look(mvpn_netlink *routes, const char *except, uint32_t mark,
                                 mvpn_addrwatch_network *ret);

bool mvpn_addrwatch_same(const mvpn_addrwatch_network *a, const mvpn_addrwatch_network *b);

#endif
