/*
 * One UDP association of the proxy (RFC 1928 §7): a socket on this computer, whose datagrams are
 * sent and received in the tunnel. Lives as long as the connection that asked for it.
 */
#ifndef MVPN_IO_PROXY_UDP_H
#define MVPN_IO_PROXY_UDP_H

#include "io/loop.h"
#include "io/netstack.h"

typedef struct mvpn_proxy_udp mvpn_proxy_udp;

/**
 * `local` is the proxy's own address on that connection, `peer` the program's: nobody else's
 * datagrams are taken, and of the program's only those from the port that sent first.
 * `*ret_bound` is where it is to send them. MVPN_E_NOMEM, MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_proxy_udp_new(mvpn_loop *loop, mvpn_netstack *stack, unsigned lane,
                                const mvpn_addr *local, const mvpn_addr *peer, mvpn_proxy_udp **ret,
                                mvpn_addr *ret_bound);
/** Every 100 ms or so: names are asked for again. */
void mvpn_proxy_udp_tick(mvpn_proxy_udp *udp, mvpn_time now);
/** NULL is allowed. */
void mvpn_proxy_udp_free(mvpn_proxy_udp *udp);

#endif
