/*
 * Keeps a UDP port of the home gateway open for this node: PCP or NAT-PMP by network/p2p/portmap,
 * UPnP by io/upnp if the gateway knows neither. Watches the default route, and starts anew on
 * another network. IPv4 only: IPv6 has no address translation, and pinholes are not asked for.
 */
#ifndef MVPN_IO_PORTMAPPER_H
#define MVPN_IO_PORTMAPPER_H

#include "io/fault.h"
#include "io/loop.h"
#include "network/p2p/portmap.h"

typedef struct mvpn_portmapper mvpn_portmapper;

/** Called from the loop, and from _free for nothing. FAILED comes once for each change of reason.
 */
typedef void mvpn_portmapper_fn(void *ctx, const mvpn_portmap_event *event);

typedef struct mvpn_portmapper_options {
    mvpn_loop *loop;        /* borrowed */
    uint16_t internal_port; /* of the node's IPv4 socket; wanted outside too */
    mvpn_portmapper_fn *fn; /* `event->why` is borrowed for the call */
    void *ctx;
} mvpn_portmapper_options;

/** MVPN_E_NOMEM, MVPN_E_SYSTEM. Whether there is a gateway at all shows later. */
MVPN_WUR int mvpn_portmapper_new(const mvpn_portmapper_options *options, mvpn_portmapper **ret,
                                 mvpn_fault *fault);
/**
 * Remove the mapping and end. Waits for the gateway: 2 s at most with PCP and NAT-PMP, 6 s with
 * UPnP. NULL is allowed.
 */
void mvpn_portmapper_free(mvpn_portmapper *portmapper);

/** True, and `*ret` set, while there is a mapping. */
bool mvpn_portmapper_get(const mvpn_portmapper *portmapper, mvpn_portmap_mapping *ret);

#endif
