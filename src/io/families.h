/*
 * Which internets this host reaches, by its routing table; nothing is sent. `marker`, or NULL: as
 * sockets see it that go around the tunnel.
 */
#ifndef MVPN_IO_FAMILIES_H
#define MVPN_IO_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "io/mark.h"

/** True if this host has a route to the IPv6 internet. */
bool mvpn_host_has_ipv6(const mvpn_marker *marker);
/** True on a host that has a way to the IPv6 internet and none to that of IPv4. */
bool mvpn_host_lacks_ipv4(const mvpn_marker *marker);
/** The addresses that packets to the internets would leave from, one per family; returns how many.
 */
size_t mvpn_host_sources(const mvpn_marker *marker, mvpn_addr ret[static 2]);

#endif
