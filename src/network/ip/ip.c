#include "network/ip/ip.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "network/ip/checksum.h"

/* Extension headers in one packet. Hosts send one or two; more only costs us time. */
#define EXTENSION_MAX 8

#define IPV4_MORE 0x2000
#define IPV4_DF 0x4000
#define IPV4_OFFSET 0x1fff

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_LSRR 131
#define OPTION_SSRR 137

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTH 51
#define NEXT_DESTINATION 60

bool mvpn_ip_is_multicast(unsigned version, const uint8_t *addr)
{
    if (version == 6) {
        return addr[0] == 0xff;
    }
    return (addr[0] & 0xf0) == 0xe0 || mvpn_load32(addr) == 0xffffffff;
}

bool mvpn_ip_is_icmp_error(const mvpn_ip *ip)
{
    if (!ip->has_l4) {
        return false;
    }
    if (ip->version == 6) {
        return ip->protocol == MVPN_IP_ICMPV6 && ip->icmp_type < 128;
    }
    if (ip->protocol != MVPN_IP_ICMP) {
        return false;
    }
    /* Unreachable, source quench, redirect, time exceeded, parameter problem. */
    return ip->icmp_type == 3 || ip->icmp_type == 4 || ip->icmp_type == 5 || ip->icmp_type == 11 ||
           ip->icmp_type == 12;
}

static mvpn_addr addr_of(const mvpn_ip *ip, const uint8_t *bytes, uint16_t port)
{
    mvpn_addr a = {.family = ip->version, .port = port};
    memcpy(a.ip, bytes, 16);
    return a;
}

mvpn_addr mvpn_ip_src_addr(const mvpn_ip *ip)
{
    return addr_of(ip, ip->src, ip->src_port);
}

mvpn_addr mvpn_ip_dst_addr(const mvpn_ip *ip)
{
    return addr_of(ip, ip->dst, ip->dst_port);
}

/* Source routes let the sender choose a destination that policy does not see (RFC 7126 §4.3). */
static int check_options(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n && p[i] != OPTION_END) {
        if (p[i] == OPTION_NOP) {
            i++;
            continue;
        }
        if (n - i < 2 || p[i + 1] < 2 || p[i + 1] > n - i || p[i] == OPTION_LSRR ||
            p[i] == OPTION_SSRR) {
            return MVPN_E_FORMAT;
        }
        i += p[i + 1];
    }
    return 0;
}

static int parse_v4(const uint8_t *p, size_t n, bool quoted, mvpn_ip *ip)
{
    if (n < MVPN_IPV4_HEADER) {
        return MVPN_E_FORMAT;
    }
    size_t ihl = (size_t)(p[0] & 15) * 4;
    size_t total = mvpn_load16(p + 2);
    unsigned frag = mvpn_load16(p + 6);
    if (ihl < MVPN_IPV4_HEADER || ihl > n || total < ihl || (!quoted && total != n)) {
        return MVPN_E_FORMAT;
    }
    if (!quoted && (mvpn_csum_fold(mvpn_csum_add(0, p, ihl)) != 0xffff ||
                    check_options(p + MVPN_IPV4_HEADER, ihl - MVPN_IPV4_HEADER) != 0)) {
        return MVPN_E_FORMAT;
    }
    ip->protocol = p[9];
    ip->tos = p[1];
    ip->ttl = p[8];
    ip->df = (frag & IPV4_DF) != 0;
    ip->more = (frag & IPV4_MORE) != 0;
    ip->frag_offset = (uint16_t)((frag & IPV4_OFFSET) * 8);
    ip->fragment = ip->more || ip->frag_offset != 0;
    ip->options = ihl > MVPN_IPV4_HEADER;
    ip->l4 = (uint16_t)ihl;
    ip->l4_len = (uint16_t)(MVPN_MIN(n, total) - ihl);
    ip->total_len = (uint32_t)total;
    memcpy(ip->src, p + 12, 4);
    memcpy(ip->dst, p + 16, 4);
    return 0;
}

static int check_fragment(mvpn_ip *ip, const uint8_t *p, size_t at)
{
    unsigned field = mvpn_load16(p + at + 2);
    if (ip->frag_header != 0) {
        return MVPN_E_FORMAT;
    }
    ip->frag_header = (uint16_t)at;
    ip->frag_offset = (uint16_t)(field & 0xfff8);
    ip->more = (field & 1) != 0;
    /* An atomic fragment (offset 0, none follow) stands for a whole packet (RFC 6946). */
    ip->fragment = ip->more || ip->frag_offset != 0;
    return 0;
}

/* Walk the chain to the upper layer; on return `ip->l4` and `ip->protocol` name it. */
static int walk_extensions(const uint8_t *p, size_t n, mvpn_ip *ip)
{
    size_t at = MVPN_IPV6_HEADER;
    uint8_t next = p[6];
    for (unsigned count = 0; count < EXTENSION_MAX; count++) {
        size_t len;
        bool known = next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
                     next == NEXT_DESTINATION || next == NEXT_AUTH;
        /* Behind a fragment that is not the first nothing can be read (RFC 8200 §4.5). */
        if (!known || ip->frag_offset != 0) {
            ip->protocol = next;
            ip->l4 = (uint16_t)at;
            return 0;
        }
        if (n - at < 8) {
            return MVPN_E_FORMAT;
        }
        if (next == NEXT_FRAGMENT) {
            len = 8;
            if (check_fragment(ip, p, at) != 0) {
                return MVPN_E_FORMAT;
            }
        } else {
            len = next == NEXT_AUTH ? ((size_t)p[at + 1] + 2) * 4 : ((size_t)p[at + 1] + 1) * 8;
            ip->options = true;
        }
        /* Hop-by-hop only first (§4.1); a source route would hide the real destination (RFC 5095).
         */
        if ((next == NEXT_HOP_BY_HOP && at != MVPN_IPV6_HEADER) ||
            (next == NEXT_ROUTING && p[at + 3] != 0) || len < 8 || len > n - at) {
            return MVPN_E_FORMAT;
        }
        next = p[at];
        at += len;
    }
    return MVPN_E_FORMAT;
}

static bool is_v4_mapped(const uint8_t *ip)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(ip, prefix, sizeof(prefix)) == 0;
}

static int parse_v6(const uint8_t *p, size_t n, bool quoted, mvpn_ip *ip)
{
    if (n < MVPN_IPV6_HEADER) {
        return MVPN_E_FORMAT;
    }
    size_t total = MVPN_IPV6_HEADER + (size_t)mvpn_load16(p + 4); /* jumbograms: refused */
    if (!quoted && total != n) {
        return MVPN_E_FORMAT;
    }
    n = MVPN_MIN(n, total);
    ip->tos = (uint8_t)(mvpn_load16(p) >> 4);
    ip->ttl = p[7];
    ip->df = true;
    ip->total_len = (uint32_t)total;
    memcpy(ip->src, p + 8, 16);
    memcpy(ip->dst, p + 24, 16);
    if (is_v4_mapped(ip->src) || is_v4_mapped(ip->dst) || walk_extensions(p, n, ip) != 0) {
        return MVPN_E_FORMAT;
    }
    ip->l4_len = (uint16_t)(n - ip->l4);
    return 0;
}

static size_t l4_header_min(const mvpn_ip *ip)
{
    if (ip->protocol == MVPN_IP_TCP) {
        return MVPN_TCP_HEADER;
    }
    if (ip->protocol == MVPN_IP_UDP) {
        return MVPN_UDP_HEADER;
    }
    if ((ip->protocol == MVPN_IP_ICMP && ip->version == 4) ||
        (ip->protocol == MVPN_IP_ICMPV6 && ip->version == 6)) {
        return MVPN_ICMP_HEADER;
    }
    return 0;
}

static int check_l4_lengths(const mvpn_ip *ip, const uint8_t *l4)
{
    if (ip->protocol == MVPN_IP_TCP) {
        size_t header = (size_t)(l4[12] >> 4) * 4;
        return header < MVPN_TCP_HEADER || header > ip->l4_len ? MVPN_E_FORMAT : 0;
    }
    if (ip->protocol == MVPN_IP_UDP) {
        size_t len = mvpn_load16(l4 + 4);
        if (len < MVPN_UDP_HEADER || (!ip->fragment && len != ip->l4_len)) {
            return MVPN_E_FORMAT;
        }
    }
    return 0;
}

/* Ports, types and flags; and the checks that keep the transport header in one piece. */
static int parse_l4(const uint8_t *p, bool quoted, mvpn_ip *ip)
{
    size_t need = l4_header_min(ip);
    const uint8_t *l4 = p + ip->l4;
    /* A second fragment at offset 8 would overwrite the TCP flags that policy saw (RFC 1858 §4). */
    if (!quoted && ip->protocol == MVPN_IP_TCP && ip->frag_offset == 8) {
        return MVPN_E_FORMAT;
    }
    if (!quoted && ip->more && ip->l4_len % 8 != 0) {
        return MVPN_E_FORMAT;
    }
    if (!quoted && (size_t)ip->frag_offset + ip->l4_len > 65535) {
        return MVPN_E_FORMAT; /* "ping of death" */
    }
    ip->has_l4 = ip->frag_offset == 0;
    if (!ip->has_l4 || need == 0) {
        return 0;
    }
    if (ip->l4_len < need && !quoted) {
        return MVPN_E_FORMAT;
    }
    if (!quoted && check_l4_lengths(ip, l4) != 0) {
        return MVPN_E_FORMAT;
    }
    bool ports = ip->protocol == MVPN_IP_TCP || ip->protocol == MVPN_IP_UDP;
    if (ports && ip->l4_len >= 4) {
        ip->src_port = mvpn_load16(l4);
        ip->dst_port = mvpn_load16(l4 + 2);
    }
    if (!ports && ip->l4_len >= 2) {
        ip->icmp_type = l4[0];
        ip->icmp_code = l4[1];
    }
    if (ip->protocol == MVPN_IP_TCP && ip->l4_len >= 14) {
        ip->tcp_flags = l4[13];
    }
    return 0;
}

static int parse(const uint8_t *p, size_t n, bool quoted, mvpn_ip *ret)
{
    mvpn_ip ip = {0};
    int r;
    if (n == 0 || n > 65535) {
        return MVPN_E_FORMAT;
    }
    ip.version = p[0] >> 4;
    if (ip.version == 4) {
        r = parse_v4(p, n, quoted, &ip);
    } else if (ip.version == 6) {
        r = parse_v6(p, n, quoted, &ip);
    } else {
        return MVPN_E_FORMAT;
    }
    if (r != 0 || parse_l4(p, quoted, &ip) != 0) {
        return MVPN_E_FORMAT;
    }
    if (!quoted && mvpn_ip_is_multicast(ip.version, ip.src)) {
        return MVPN_E_FORMAT;
    }
    *ret = ip;
    return 0;
}

int mvpn_ip_parse(const uint8_t *p, size_t n, mvpn_ip *ret)
{
    return parse(p, n, false, ret);
}

int mvpn_ip_parse_quoted(const uint8_t *p, size_t n, mvpn_ip *ret)
{
    return parse(p, n, true, ret);
}
