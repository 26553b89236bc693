#include "network/ip/icmp.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "network/ip/checksum.h"

/* Every host takes a packet of this size (RFC 1812 §4.3.2.3; RFC 4443 §2.4 c). */
#define ERROR_MAX_V4 576
#define ERROR_MAX_V6 MVPN_IPV6_MIN_MTU
#define ANSWER_TTL 64
#define ICMPV6_REDIRECT 137

static bool is_loopback_or_none(unsigned version, const uint8_t *addr)
{
    static const uint8_t zero[15] = {0};
    if (version == 4) {
        return addr[0] == 127 || addr[0] == 0;
    }
    return memcmp(addr, zero, sizeof(zero)) == 0 && addr[15] <= 1;
}

bool mvpn_icmp_may_answer(const mvpn_ip *ip)
{
    bool redirect =
        ip->version == 6 && ip->protocol == MVPN_IP_ICMPV6 && ip->icmp_type == ICMPV6_REDIRECT;
    return ip->has_l4 && !redirect && !mvpn_ip_is_icmp_error(ip) &&
           !mvpn_ip_is_multicast(ip->version, ip->dst) &&
           !mvpn_ip_is_multicast(ip->version, ip->src) &&
           !is_loopback_or_none(ip->version, ip->src);
}

static void write_v4_header(uint8_t *p, size_t total, const uint8_t *from, const uint8_t *to)
{
    memset(p, 0, MVPN_IPV4_HEADER);
    p[0] = 0x45;
    mvpn_store16(p + 2, (uint16_t)total);
    p[8] = ANSWER_TTL;
    p[9] = MVPN_IP_ICMP;
    memcpy(p + 12, from, 4);
    memcpy(p + 16, to, 4);
    mvpn_csum_ipv4_set(p);
}

static void write_v6_header(uint8_t *p, size_t total, const uint8_t *from, const uint8_t *to)
{
    memset(p, 0, MVPN_IPV6_HEADER);
    p[0] = 0x60;
    mvpn_store16(p + 4, (uint16_t)(total - MVPN_IPV6_HEADER));
    p[6] = MVPN_IP_ICMPV6;
    p[7] = ANSWER_TTL;
    memcpy(p + 8, from, 16);
    memcpy(p + 24, to, 16);
}

static int write_error(mvpn_packet *out, const mvpn_packet *bad, const mvpn_ip *ip,
                       const uint8_t *from, uint8_t type, uint8_t code, uint32_t word)
{
    if (!mvpn_icmp_may_answer(ip)) {
        return MVPN_E_STATE;
    }
    size_t header = ip->version == 4 ? MVPN_IPV4_HEADER : MVPN_IPV6_HEADER;
    size_t room = (ip->version == 4 ? ERROR_MAX_V4 : ERROR_MAX_V6) - header - MVPN_ICMP_HEADER;
    size_t quoted = MVPN_MIN(room, (size_t)bad->len);
    size_t total = header + MVPN_ICMP_HEADER + quoted;
    uint8_t *p = mvpn_packet_append(out, (uint32_t)total);
    uint8_t *icmp = p + header;
    uint64_t sum = 0;
    if (ip->version == 4) {
        write_v4_header(p, total, from, ip->src);
    } else {
        write_v6_header(p, total, from, ip->src);
        sum = mvpn_csum_pseudo(6, p + 8, MVPN_IP_ICMPV6, (uint32_t)(MVPN_ICMP_HEADER + quoted));
    }
    icmp[0] = type;
    icmp[1] = code;
    mvpn_store16(icmp + 2, 0);
    mvpn_store32(icmp + 4, word);
    memcpy(icmp + MVPN_ICMP_HEADER, bad->data, quoted);
    mvpn_store16(icmp + 2, mvpn_csum_finish(mvpn_csum_add(sum, icmp, MVPN_ICMP_HEADER + quoted)));
    out->flags |= MVPN_PACKET_CSUM_OK;
    return 0;
}

int mvpn_icmp_unreachable(mvpn_packet *out, const mvpn_packet *bad, const mvpn_ip *ip,
                          const uint8_t *from, uint8_t code)
{
    uint8_t type = ip->version == 4 ? MVPN_ICMP_UNREACHABLE : MVPN_ICMPV6_UNREACHABLE;
    return write_error(out, bad, ip, from, type, code, 0);
}

int mvpn_icmp_too_big(mvpn_packet *out, const mvpn_packet *bad, const mvpn_ip *ip,
                      const uint8_t *from, uint32_t mtu)
{
    if (ip->version == 4) {
        return write_error(out, bad, ip, from, MVPN_ICMP_UNREACHABLE, MVPN_ICMP_FRAG_NEEDED,
                           MVPN_MIN(mtu, 0xffffu));
    }
    return write_error(out, bad, ip, from, MVPN_ICMPV6_TOO_BIG, 0,
                       MVPN_MAX(mtu, (uint32_t)MVPN_IPV6_MIN_MTU));
}

int mvpn_icmp_echo_reply(mvpn_packet *packet, mvpn_ip *ip)
{
    bool v4 = ip->version == 4;
    size_t n = mvpn_ip_addr_len(ip);
    uint8_t *p = packet->data;
    uint8_t *src = p + mvpn_ip_src_at(ip);
    uint8_t *icmp = p + ip->l4;
    if (ip->fragment || !ip->has_l4 || ip->protocol != (v4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6) ||
        ip->icmp_type != (v4 ? MVPN_ICMP_ECHO : MVPN_ICMPV6_ECHO) || !mvpn_icmp_may_answer(ip)) {
        return MVPN_E_STATE;
    }
    if ((packet->flags & MVPN_PACKET_CSUM_OK) == 0 && !mvpn_csum_transport_ok(p, ip)) {
        return MVPN_E_FORMAT;
    }
    memcpy(src, ip->dst, n);
    memcpy(src + n, ip->src, n);
    memcpy(ip->src, src, n);
    memcpy(ip->dst, src + n, n);
    uint16_t old = mvpn_load16(icmp);
    icmp[0] = v4 ? MVPN_ICMP_ECHO_REPLY : MVPN_ICMPV6_ECHO_REPLY;
    ip->icmp_type = icmp[0];
    /* The swap of the addresses does not change the sum; the type does. */
    uint16_t check = mvpn_csum_update16(mvpn_load16(icmp + 2), old, mvpn_load16(icmp));
    /* Over nothing but zeros only 0xffff is right; elsewhere it is as good as 0. (RFC 1624 §3) */
    mvpn_store16(icmp + 2, check == 0 ? 0xffff : check);
    ip->ttl = ANSWER_TTL;
    if (v4) {
        p[8] = ANSWER_TTL;
        mvpn_csum_ipv4_set(p);
    } else {
        p[7] = ANSWER_TTL;
    }
    return 0;
}
