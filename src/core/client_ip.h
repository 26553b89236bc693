/*
 * The client's side of IP: what of the TUN may enter a circuit, and in what form. (docs/protocol.md
 * §7)
 */
#ifndef MVPN_CORE_CLIENT_IP_H
#define MVPN_CORE_CLIENT_IP_H

#include "base/packet.h"

typedef struct client_ip {
    mvpn_packet_pool *pool;
    mvpn_addr inner_v4, inner_v6, inner_gateway_v4; /* inside every circuit */
    mvpn_addr tun_v4, tun_v6, tun_gateway_v4;       /* on this host */
    mvpn_addr gateway_v6;
    uint32_t cell_mtu; /* one packet, one cell */
    bool has_v6;       /* the session carries IPv6 */
} client_ip;

/** Addresses of family 0 mean the inner constants. */
void client_ip_init(client_ip *ip, mvpn_packet_pool *pool, const mvpn_addr *tun_v4,
                    const mvpn_addr *tun_v6, const mvpn_addr *gateway_v4);
void client_ip_set_session(client_ip *ip, unsigned profile, bool has_v6);

/**
 * Check and prepare one packet of the TUN for the circuit: true, and it is changed in place. False:
 * it was taken, dropped or answered by an ICMP error in `answers`.
 */
bool client_ip_from_tun(client_ip *ip, mvpn_packet *packet, mvpn_packet_queue *answers);
/** Check and prepare one packet of the circuit for the TUN (taken). */
void client_ip_to_tun(client_ip *ip, mvpn_packet *packet, mvpn_packet_queue *tun_out);

#endif
