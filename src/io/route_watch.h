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

enum mvpn_route_watch_finding {
    MVPN_ROUTE_WATCH_NOTHING,
    /* Something of ours went or changed, and the kernel names no program: so it is when a device
     * goes down or ends, also by its own program; or more happened than could be noted. */
    MVPN_ROUTE_WATCH_CHANGE,
    MVPN_ROUTE_WATCH_PROGRAM, /* another program did it */
};

/** Descriptor to poll for reading, non-blocking, the caller's to close; -1 with errno. */
MVPN_WUR int mvpn_route_watch_open(void);
/**
 * Read all that is there: who took or replaced what is ours, or may have? `*ret_filters`: reverse
 * path filters changed, or interfaces that have one came.
 */
enum mvpn_route_watch_finding mvpn_route_watch_read(int fd, const mvpn_route_watch_ours *ours,
                                                    bool *ret_filters);

#endif
