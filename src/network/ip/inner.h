/*
 * Addresses inside a circuit. They are the same for every client, so that an inner address names
 * nobody; the exit maps each session to an address of its own pool. (docs/protocol.md)
 */
#ifndef MVPN_NETWORK_IP_INNER_H
#define MVPN_NETWORK_IP_INNER_H

#include <stdint.h>
#include <string.h>

#include "base/addr.h"

/* clang-format off */
#define MVPN_INNER_CLIENT_V4 {10, 8, 0, 2}
#define MVPN_INNER_GATEWAY_V4 {10, 8, 0, 1}
#define MVPN_INNER_CLIENT_V6 {0xfd, 0x6d, 0x76, 0x70, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}
#define MVPN_INNER_GATEWAY_V6 {0xfd, 0x6d, 0x76, 0x70, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
/* clang-format on */

/** The client's (gateway's) inner address of an IP version: 4 or 16 bytes, constant. */
static inline const uint8_t *mvpn_inner_client(unsigned version)
{
    static const uint8_t v4[16] = MVPN_INNER_CLIENT_V4, v6[16] = MVPN_INNER_CLIENT_V6;
    return version == 4 ? v4 : v6;
}

static inline const uint8_t *mvpn_inner_gateway(unsigned version)
{
    static const uint8_t v4[16] = MVPN_INNER_GATEWAY_V4, v6[16] = MVPN_INNER_GATEWAY_V6;
    return version == 4 ? v4 : v6;
}

/** The same as addresses. */
static inline mvpn_addr mvpn_inner_client_addr(uint8_t version)
{
    mvpn_addr a = {.family = version};
    memcpy(a.ip, mvpn_inner_client(version), mvpn_addr_ip_len(&a));
    return a;
}

static inline mvpn_addr mvpn_inner_gateway_addr(uint8_t version)
{
    mvpn_addr a = {.family = version};
    memcpy(a.ip, mvpn_inner_gateway(version), mvpn_addr_ip_len(&a));
    return a;
}

/**
 * A client without a TUN can have several lanes, each with circuits of its own (core/engine.h
 * "group"): the address of one on this host. Lane 0 has the inner address itself; inside a circuit
 * there is no other.
 */
static inline mvpn_addr mvpn_inner_lane_addr(uint8_t version, unsigned lane)
{
    mvpn_addr a = mvpn_inner_client_addr(version);
    uint8_t *last = &a.ip[version == 4 ? 3 : 15];
    *last = (uint8_t)(*last + lane);
    return a;
}

#endif
