/*
 * Changes to a parsed packet in place: 1:1 address translation, TCP MSS clamp, and the
 * normalisation that an exit applies to what leaves it. Checksums are corrected incrementally (RFC
 * 1624), so a packet that came with a wrong transport checksum keeps a wrong one.
 */
#ifndef MVPN_NETWORK_IP_REWRITE_H
#define MVPN_NETWORK_IP_REWRITE_H

#include "network/ip/ip.h"

/**
 * Replace the source address (4 or 16 bytes by version) and correct all checksums that cover it,
 * also in fragments (only a first fragment holds a transport checksum).
 *
 * An ICMP error quotes a packet that was sent *to* its sender: there the quoted destination is
 * replaced too (RFC 5508 §4.2). `ip->src` is updated.
 * Returns 0, or MVPN_E_FORMAT (drop; the packet is unchanged) if an ICMP error's quoted packet is
 * malformed or was not sent to the address replaced: a forged error about someone else's traffic.
 */
MVPN_WUR int mvpn_ip_rewrite_src(uint8_t *packet, mvpn_ip *ip, const uint8_t *addr);

/** The same for the destination; an ICMP error quotes a packet *from* its receiver. */
MVPN_WUR int mvpn_ip_rewrite_dst(uint8_t *packet, mvpn_ip *ip, const uint8_t *addr);

/**
 * Lower the MSS option of a TCP SYN or SYN-ACK to what fits `mtu` (IPv4: mtu - 40, IPv6: mtu - 60).
 * Packets without the option are left alone: the peer then assumes 536 or 1220 (RFC 9293 §3.7.1).
 * Returns true if the packet changed.
 */
bool mvpn_ip_clamp_mss(uint8_t *packet, const mvpn_ip *ip, uint32_t mtu);

typedef struct mvpn_ip_norm {
    uint8_t ttl;           /* new TTL or hop limit */
    uint16_t random_id;    /* fresh random number for each packet */
    uint64_t fragment_key; /* secret, constant for a session */
} mvpn_ip_norm;

/**
 * Make the header fields that tell one host or operating system from another the same for all who
 * use this exit: TTL, DSCP, IPv6 flow label, IP identification. ECN bits stay: they are live
 * congestion signals of the two ends (RFC 3168).
 */
void mvpn_ip_normalise(uint8_t *packet, mvpn_ip *ip, const mvpn_ip_norm *norm);

#endif
