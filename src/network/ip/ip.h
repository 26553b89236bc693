/*
 * One IPv4 or IPv6 packet, parsed once into plain values (RFC 791, RFC 8200). Everything after the
 * parse (policy, rewrite, checksums, ICMP answers, coalescing) works from these values and the same
 * bytes, and need not look at lengths again.
 *
 * Strict on purpose: both sides of a tunnel are hosts, so a packet that no host sends is an attack
 * or a bug, and is dropped.
 */
#ifndef MVPN_NETWORK_IP_IP_H
#define MVPN_NETWORK_IP_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/macros.h"

#define MVPN_IPV4_HEADER 20
#define MVPN_IPV6_HEADER 40
#define MVPN_TCP_HEADER 20
#define MVPN_UDP_HEADER 8
#define MVPN_ICMP_HEADER 8
#define MVPN_IPV6_MIN_MTU 1280

/* IANA protocol numbers. */
#define MVPN_IP_ICMP 1
#define MVPN_IP_TCP 6
#define MVPN_IP_UDP 17
#define MVPN_IP_ICMPV6 58
#define MVPN_IP_NO_NEXT 59

#define MVPN_TCP_FIN 0x01
#define MVPN_TCP_SYN 0x02
#define MVPN_TCP_RST 0x04
#define MVPN_TCP_PSH 0x08
#define MVPN_TCP_ACK 0x10
#define MVPN_TCP_URG 0x20
#define MVPN_TCP_ECE 0x40
#define MVPN_TCP_CWR 0x80

typedef struct mvpn_ip {
    uint8_t version;  /* 4 or 6 */
    uint8_t protocol; /* of the upper layer, behind all extension headers */
    uint8_t tos;      /* DSCP and ECN */
    uint8_t ttl;      /* or hop limit */
    bool df;          /* routers may not fragment: IPv4 DF; IPv6 always */
    bool fragment;    /* any fragment, first or not */
    bool more;        /* more fragments follow */
    bool options;     /* IPv4 options or IPv6 extension headers other than Fragment */
    /*
     * The transport header is inside this packet: unfragmented or first fragment. Then TCP, UDP and
     * ICMP headers are complete and their own lengths are sane (but for quoted packets).
     */
    bool has_l4;
    uint8_t icmp_type;    /* ICMP and ICMPv6 with has_l4, else 0 */
    uint8_t icmp_code;    /* likewise */
    uint8_t tcp_flags;    /* TCP with has_l4 */
    uint16_t src_port;    /* TCP and UDP with has_l4, else 0; host order */
    uint16_t dst_port;    /* likewise */
    uint16_t l4;          /* offset of what follows the IP headers */
    uint16_t l4_len;      /* bytes from there to the end of the packet */
    uint16_t frag_header; /* offset of the IPv6 Fragment header, 0 if there is none */
    uint16_t frag_offset; /* bytes, multiple of 8 */
    uint32_t total_len;   /* whole packet, bytes */
    uint8_t src[16];      /* network order; IPv4 in the first four bytes, the rest zero */
    uint8_t dst[16];
} mvpn_ip;

/**
 * Parse the one packet that fills exactly `n` bytes at `p`. (RFC 791 §3.1, RFC 8200 §3 and §4)
 *
 * Returns 0, or MVPN_E_FORMAT (drop): length field differs from `n`, header checksum wrong, source
 * route or malformed option, extension header chain too long, malformed, or with a Routing header
 * that has segments left, tiny or overlapping fragment (RFC 1858, RFC 7112), cut transport header,
 * multicast or broadcast source, IPv4-mapped address on the wire.
 */
MVPN_WUR int mvpn_ip_parse(const uint8_t *p, size_t n, mvpn_ip *ret);

/**
 * Parse the packet that an ICMP error quotes: only its beginning need be there, header checksum and
 * transport lengths are not looked at. `l4_len` is what is there; ports are 0 if they are not.
 * MVPN_E_FORMAT if the addresses or the header chain are cut or malformed.
 */
MVPN_WUR int mvpn_ip_parse_quoted(const uint8_t *p, size_t n, mvpn_ip *ret);

static inline size_t mvpn_ip_addr_len(const mvpn_ip *ip)
{
    return ip->version == 4 ? 4 : 16;
}

/** Offset of the source (destination: + mvpn_ip_addr_len) address in the packet. */
static inline size_t mvpn_ip_src_at(const mvpn_ip *ip)
{
    return ip->version == 4 ? 12 : 8;
}

/** True for ICMP and ICMPv6 messages that report an error and quote a packet. */
bool mvpn_ip_is_icmp_error(const mvpn_ip *ip);

/** True for IPv4 multicast, IPv4 limited broadcast and IPv6 multicast addresses. */
bool mvpn_ip_is_multicast(unsigned version, const uint8_t *addr);

/** Source and destination as addresses with their ports. */
mvpn_addr mvpn_ip_src_addr(const mvpn_ip *ip);
mvpn_addr mvpn_ip_dst_addr(const mvpn_ip *ip);

#endif
