/*
 * Which internets this host reaches, by its routing table; nothing is sent.
 */
#ifndef MVPN_IO_FAMILIES_H
#define MVPN_IO_FAMILIES_H

#include <stdbool.h>

/** True if this host has a route to the IPv6 internet. */
bool mvpn_host_has_ipv6(void);
/** True on a host that has a way to the IPv6 internet and none to that of IPv4. */
bool mvpn_host_lacks_ipv4(void);

#endif
