#include "network/ip/rewrite.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "network/ip/checksum.h"

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_MSS_LEN 4

/* ICMPv4 alone is not covered by a pseudo header. */
static bool checksum_covers_addresses(const mvpn_ip *ip)
{
    return ip->protocol == MVPN_IP_TCP || ip->protocol == MVPN_IP_UDP ||
           (ip->protocol == MVPN_IP_ICMPV6 && ip->version == 6);
}

/* Correct the field at `field` for `old` -> `new`; a UDP checksum of zero means none and stays. */
static void fix_field(uint8_t *field, bool udp, const uint8_t *old, const uint8_t *new, size_t n)
{
    uint16_t check = mvpn_load16(field);
    if (udp && check == 0) {
        return;
    }
    check = mvpn_csum_update(check, old, new, n);
    if (udp && check == 0) {
        check = 0xffff;
    }
    mvpn_store16(field, check);
}

/*
 * Replace the address at `at` of the packet described by `ip` and correct the checksums that are
 * there. `n` bytes of the packet exist (a quoted packet is cut).
 */
static void replace(uint8_t *p, size_t n, const mvpn_ip *ip, size_t at, const uint8_t *addr)
{
    size_t addr_len = mvpn_ip_addr_len(ip);
    size_t l4_check = ip->l4 + mvpn_csum_l4_at(ip->version, ip->protocol);
    if (ip->version == 4) {
        fix_field(p + 10, false, p + at, addr, addr_len);
    }
    if (ip->has_l4 && checksum_covers_addresses(ip) && l4_check + 2 <= n) {
        fix_field(p + l4_check, ip->protocol == MVPN_IP_UDP, p + at, addr, addr_len);
    }
    memcpy(p + at, addr, addr_len);
}

/* All bytes that `replace` may touch in a quoted packet lie in this many of its first bytes. */
#define QUOTE_MAX (8 * 264 + MVPN_IPV6_HEADER + MVPN_TCP_HEADER)

/*
 * Replace the address in the packet that an ICMP error quotes, and correct the error's own checksum
 * for every byte changed.
 */
static int rewrite_quoted(uint8_t *p, const mvpn_ip *ip, bool quoted_src, const uint8_t *old,
                          const uint8_t *addr)
{
    mvpn_ip q;
    uint8_t *quote = p + ip->l4 + MVPN_ICMP_HEADER;
    size_t n = (size_t)ip->l4_len - MVPN_ICMP_HEADER;
    size_t addr_len = mvpn_ip_addr_len(ip);
    if (mvpn_ip_parse_quoted(quote, n, &q) != 0 || q.version != ip->version ||
        memcmp(quoted_src ? q.src : q.dst, old, addr_len) != 0) {
        return MVPN_E_FORMAT;
    }
    size_t at = mvpn_ip_src_at(&q) + (quoted_src ? 0 : addr_len);
    uint8_t before[QUOTE_MAX];
    size_t covered = MVPN_MIN(n, (size_t)q.l4 + MVPN_TCP_HEADER) & ~(size_t)1;
    if (covered > sizeof(before)) {
        return MVPN_E_FORMAT;
    }
    memcpy(before, quote, covered);
    replace(quote, covered, &q, at, addr);
    fix_field(p + ip->l4 + 2, false, before, quote, covered);
    return 0;
}

static int rewrite(uint8_t *p, mvpn_ip *ip, bool src, const uint8_t *addr)
{
    size_t addr_len = mvpn_ip_addr_len(ip);
    uint8_t *mine = src ? ip->src : ip->dst;
    if (mvpn_ip_is_icmp_error(ip)) {
        int r = rewrite_quoted(p, ip, !src, mine, addr);
        if (r != 0) {
            return r;
        }
    }
    replace(p, ip->total_len, ip, mvpn_ip_src_at(ip) + (src ? 0 : addr_len), addr);
    memcpy(mine, addr, addr_len);
    return 0;
}

int mvpn_ip_rewrite_src(uint8_t *packet, mvpn_ip *ip, const uint8_t *addr)
{
    return rewrite(packet, ip, true, addr);
}

int mvpn_ip_rewrite_dst(uint8_t *packet, mvpn_ip *ip, const uint8_t *addr)
{
    return rewrite(packet, ip, false, addr);
}

/* Lower one option value; `odd`: it stands at an odd offset, where its bytes belong to two words.
 */
static bool lower_mss(uint8_t *tcp, size_t at, uint16_t limit)
{
    uint16_t old = mvpn_load16(tcp + at);
    if (old <= limit) {
        return false;
    }
    mvpn_store16(tcp + at, limit);
    uint16_t check = mvpn_load16(tcp + 16);
    if (at % 2 != 0) {
        /* The sum of byte-swapped words is the byte-swapped sum (RFC 1071 §2 B). */
        old = (uint16_t)(old << 8 | old >> 8);
        limit = (uint16_t)(limit << 8 | limit >> 8);
    }
    mvpn_store16(tcp + 16, mvpn_csum_update16(check, old, limit));
    return true;
}

bool mvpn_ip_clamp_mss(uint8_t *packet, const mvpn_ip *ip, uint32_t mtu)
{
    uint32_t headers = ip->version == 4 ? 40 : 60;
    if (ip->protocol != MVPN_IP_TCP || !ip->has_l4 || (ip->tcp_flags & MVPN_TCP_SYN) == 0 ||
        mtu <= headers || mtu - headers > 65535) {
        return false;
    }
    uint8_t *tcp = packet + ip->l4;
    size_t end = (size_t)(tcp[12] >> 4) * 4;
    size_t i = MVPN_TCP_HEADER;
    while (i < end && tcp[i] != TCP_OPTION_END) {
        if (tcp[i] == TCP_OPTION_NOP) {
            i++;
            continue;
        }
        if (end - i < 2 || tcp[i + 1] < 2 || tcp[i + 1] > end - i) {
            return false;
        }
        if (tcp[i] == TCP_OPTION_MSS && tcp[i + 1] == TCP_OPTION_MSS_LEN) {
            return lower_mss(tcp, i + 2, (uint16_t)(mtu - headers));
        }
        i += tcp[i + 1];
    }
    return false;
}

/* Mix a fragment's identification with the session's secret (a finaliser of 64 to 64 bits). */
static uint64_t mix(uint64_t v)
{
    v = (v ^ (v >> 32)) * 0xd6e8feb86659fd93u;
    v = (v ^ (v >> 32)) * 0xd6e8feb86659fd93u;
    return v ^ (v >> 32);
}

/*
 * Identification (RFC 6864). Operating systems count it, globally or per destination, so that it
 * links flows of one host and tells how many packets it sends elsewhere.
 * - Atomic datagram (DF, not a fragment): the field has no meaning (§4.1); zero.
 * - May be fragmented later: random.
 * - Fragment: all pieces of a datagram need one value, and each packet is seen alone here; so a
 * keyed function of the old value, which hides the counter and keeps equal values equal.
 */
static uint16_t new_id_v4(const uint8_t *p, const mvpn_ip *ip, const mvpn_ip_norm *norm)
{
    if (ip->fragment) {
        return (uint16_t)mix(norm->fragment_key ^ mvpn_load16(p + 4));
    }
    return ip->df ? 0 : norm->random_id;
}

void mvpn_ip_normalise(uint8_t *p, mvpn_ip *ip, const mvpn_ip_norm *norm)
{
    /*
     * TTL: the initial value tells the system (64, 128, 255), the rest how far the host is behind
     * the tunnel (a phone behind a laptop). Traceroute through the exit shows the destination only.
     * DSCP: set by applications and access networks; no network behind the exit honours it anyway.
     */
    ip->ttl = norm->ttl;
    ip->tos &= 3;
    if (ip->version == 4) {
        p[1] = ip->tos;
        p[8] = norm->ttl;
        mvpn_store16(p + 4, new_id_v4(p, ip, norm));
        p[6] &= 0x7f; /* reserved bit, must be zero */
        mvpn_csum_ipv4_set(p);
        return;
    }
    /* Flow label: chosen by a per-host secret, with patterns per system; zero is always allowed,
     * and this is the "compelling operational security reason" of RFC 6437 §6.1. */
    mvpn_store32(p, 0x60000000u | (uint32_t)ip->tos << 20);
    p[7] = norm->ttl;
    if (ip->frag_header != 0) {
        uint8_t *id = p + ip->frag_header + 4;
        mvpn_store32(id, (uint32_t)mix(norm->fragment_key ^ mvpn_load32(id)));
    }
}
