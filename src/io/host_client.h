/*
 * What the client changes in its host: the TUN's addresses, a routing table of its own and the
 * policy rules that lead there. (docs/architecture.md "Client routing")
 */
#ifndef MVPN_IO_HOST_CLIENT_H
#define MVPN_IO_HOST_CLIENT_H

#include "io/config.h"
#include "io/fault.h"
#include "io/netlink.h"
#include "io/tun.h"

typedef struct mvpn_host_client {
    mvpn_tun *tun;
    mvpn_addr tun_v4, tun_v6, gateway_v4; /* as set up; the inner constants unless they clashed */
    bool has_rules;
    uint32_t mark, table;
    mvpn_netlink *nl; /* open as long as there are rules to take back */
} mvpn_host_client;

/** Make the device and all routes, or leave nothing behind and say why in `fault`. */
MVPN_WUR int mvpn_host_client_setup(mvpn_host_client *ret, const mvpn_config_client *config,
                                    mvpn_fault *fault);
/** Take it all back. */
void mvpn_host_client_remove(mvpn_host_client *host);

#endif
