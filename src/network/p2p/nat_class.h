/*
 * What is known of the NATs before us. (docs/protocol.md §14.6; RFC 4787 for the terms)
 * Made by nat_probe inside links; read by the connector, which decides by it how to punch.
 */
#ifndef MVPN_NETWORK_P2P_NAT_CLASS_H
#define MVPN_NETWORK_P2P_NAT_CLASS_H

#include "network/p2p/stun_client.h"

/* Addresses of ours that different observers have seen. */
#define MVPN_NAT_SEEN_MAX 4

typedef struct mvpn_nat_class {
    bool is_known;  /* mapping was measured: two observers agree or differ */
    bool is_public; /* what they see is an address of this host */
    enum mvpn_stun_mapping mapping;
    enum mvpn_stun_filtering filtering;
    enum mvpn_stun_hairpin hairpin;
    enum mvpn_stun_ports ports;
    int port_step; /* of sequential ports, else 0 */
    uint32_t
        lifetime_s; /* of a mapping, as far as measured: it lives at least so long; 0: unknown */
    size_t seen_count;
    mvpn_addr seen[MVPN_NAT_SEEN_MAX]; /* of the main socket, the latest observer first */
} mvpn_nat_class;

/** The name that is shown: none, full cone, restricted, port-restricted, symmetric, unknown. */
enum mvpn_stun_nat mvpn_nat_class_name(const mvpn_nat_class *c);

#endif
