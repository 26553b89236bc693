/*
 * ICMP and ICMPv6 answers: errors about a packet, and echo replies. (RFC 792, RFC 1812 §4.3, RFC
 * 4443)
 */
#ifndef MVPN_NETWORK_IP_ICMP_H
#define MVPN_NETWORK_IP_ICMP_H

#include "base/packet.h"
#include "network/ip/ip.h"

#define MVPN_ICMP_ECHO_REPLY 0
#define MVPN_ICMP_UNREACHABLE 3
#define MVPN_ICMP_ECHO 8
#define MVPN_ICMP_TIME_EXCEEDED 11
#define MVPN_ICMP_PARAMETER 12
#define MVPN_ICMPV6_UNREACHABLE 1
#define MVPN_ICMPV6_TOO_BIG 2
#define MVPN_ICMPV6_TIME_EXCEEDED 3
#define MVPN_ICMPV6_PARAMETER 4
#define MVPN_ICMPV6_ECHO 128
#define MVPN_ICMPV6_ECHO_REPLY 129

/* Codes of ICMP unreachable. */
#define MVPN_ICMP_NET 0
#define MVPN_ICMP_HOST 1
#define MVPN_ICMP_PROTOCOL 2
#define MVPN_ICMP_PORT 3
#define MVPN_ICMP_FRAG_NEEDED 4
#define MVPN_ICMP_PROHIBITED 13
/* Codes of ICMPv6 unreachable. */
#define MVPN_ICMPV6_NO_ROUTE 0
#define MVPN_ICMPV6_PROHIBITED 1
#define MVPN_ICMPV6_ADDRESS 3
#define MVPN_ICMPV6_PORT 4

/**
 * True if an ICMP error about this packet may be sent: it is no ICMP error or redirect, no fragment
 * but a first one, not to or from multicast, broadcast, unspecified or loopback. (RFC 1812
 * §4.3.2.7, RFC 4443 §2.4 e)
 */
bool mvpn_icmp_may_answer(const mvpn_ip *ip);

/**
 * Write an unreachable error about `bad` into `out`, from address `from` (4 or 16 bytes) to bad's
 * source. It quotes what fits 576 (IPv4) or 1280 bytes (IPv6). `out` is an empty packet of the
 * pool.
 *
 * `code`   MVPN_ICMP_* or MVPN_ICMPV6_*, by the packet's version.
 * Returns 0, or MVPN_E_STATE (drop, `out` still empty) if it may not be answered.
 */
MVPN_WUR int mvpn_icmp_unreachable(mvpn_packet *out, const mvpn_packet *bad, const mvpn_ip *ip,
                                   const uint8_t *from, uint8_t code);

/**
 * Write a fragmentation-needed (RFC 1191) or packet-too-big (RFC 8201) error, as above. ICMPv6 may
 * also answer multicast here, but we do not. An IPv6 `mtu` below 1280 is told as 1280.
 */
MVPN_WUR int mvpn_icmp_too_big(mvpn_packet *out, const mvpn_packet *bad, const mvpn_ip *ip,
                               const uint8_t *from, uint32_t mtu);

/**
 * Turn an echo request into its reply, in place. MVPN_E_STATE (drop, unchanged) if it is none, is
 * a fragment, or goes to or comes from multicast; MVPN_E_FORMAT (drop) if its checksum is wrong.
 */
MVPN_WUR int mvpn_icmp_echo_reply(mvpn_packet *packet, mvpn_ip *ip);

#endif
