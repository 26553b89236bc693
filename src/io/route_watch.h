/*
 * Notice when another program touches what leads this host's packets into the tunnel: the policy
 * rules, the routes of our table, the device's addresses. `ip rule flush`, a network manager that
 * tidies up. What is missing then is put back by io/host_client. (rtnetlink's multicast groups)
 */
#ifndef MVPN_IO_ROUTE_WATCH_H
#define MVPN_IO_ROUTE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/* What is ours. */
typedef struct mvpn_route_watch_ours {
    uint32_t port;  /* of the netlink socket by which we change things ourselves */
    uint32_t table; /* its routes, and rules that lead there */
    uint32_t index; /* of the device */
    uint32_t priority_first, priority_last; /* of rules */
} mvpn_route_watch_ours;

/** Descriptor to poll for reading, non-blocking, the caller's to close; -1 with errno. */
MVPN_WUR int mvpn_route_watch_open(void);
/** Read all that is there: did somebody else take or replace what is ours, or may he have? */
bool mvpn_route_watch_read(int fd, const mvpn_route_watch_ours *ours);

#endif
