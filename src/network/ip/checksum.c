#include "network/ip/checksum.h"

#include <string.h>

#include "base/bytes.h"
#include "network/ip/ip.h"

/* One's complement addition: the carry goes round. Compiles to add and adc. */
static inline uint64_t add64(uint64_t a, uint64_t b)
{
    a += b;
    return a + (a < b);
}

static inline uint64_t native64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

uint64_t mvpn_csum_add(uint64_t sum, const uint8_t *p, size_t n)
{
    /* Four sums that do not wait for each other. The order of 16-bit words does not matter to the
     * result, and byte order only swaps it (RFC 1071 §2), so whole machine words are added. */
    uint64_t a = sum, b = 0, c = 0, d = 0;
    while (n >= 32) {
        a = add64(a, native64(p));
        b = add64(b, native64(p + 8));
        c = add64(c, native64(p + 16));
        d = add64(d, native64(p + 24));
        p += 32;
        n -= 32;
    }
    a = add64(add64(a, b), add64(c, d));
    while (n >= 8) {
        a = add64(a, native64(p));
        p += 8;
        n -= 8;
    }
    if (n >= 4) {
        uint32_t v;
        memcpy(&v, p, 4);
        a = add64(a, v);
        p += 4;
        n -= 4;
    }
    if (n >= 2) {
        uint16_t v;
        memcpy(&v, p, 2);
        a = add64(a, v);
        p += 2;
        n -= 2;
    }
    if (n > 0) {
        uint8_t last[2] = {p[0], 0};
        uint16_t v;
        memcpy(&v, last, 2);
        a = add64(a, v);
    }
    return a;
}

uint64_t mvpn_csum_add16(uint64_t sum, uint16_t v)
{
    uint8_t b[2];
    mvpn_store16(b, v);
    return mvpn_csum_add(sum, b, 2);
}

uint16_t mvpn_csum_fold(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    uint16_t native = (uint16_t)sum;
    uint8_t b[2];
    memcpy(b, &native, 2);
    return mvpn_load16(b);
}

uint16_t mvpn_csum_update16(uint16_t check, uint16_t old, uint16_t new)
{
    uint32_t sum = (uint32_t)(uint16_t)~check + (uint16_t)~old + new;
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)~sum;
}

uint16_t mvpn_csum_update(uint16_t check, const uint8_t *old, const uint8_t *new, size_t n)
{
    uint16_t before = mvpn_csum_fold(mvpn_csum_add(0, old, n));
    uint16_t after = mvpn_csum_fold(mvpn_csum_add(0, new, n));
    return mvpn_csum_update16(check, before, after);
}

uint64_t mvpn_csum_pseudo(unsigned version, const uint8_t *addrs, uint8_t protocol, uint32_t l4_len)
{
    uint8_t tail[8] = {0};
    mvpn_store32(tail, l4_len);
    tail[7] = protocol;
    return mvpn_csum_add(mvpn_csum_add(0, addrs, version == 4 ? 8 : 32), tail, sizeof(tail));
}

size_t mvpn_csum_l4_at(unsigned version, uint8_t protocol)
{
    if (protocol == MVPN_IP_TCP) {
        return 16;
    }
    if (protocol == MVPN_IP_UDP) {
        return 6;
    }
    if ((protocol == MVPN_IP_ICMP && version == 4) ||
        (protocol == MVPN_IP_ICMPV6 && version == 6)) {
        return 2;
    }
    return 0;
}

static uint64_t transport_sum(const uint8_t *packet, const mvpn_ip *ip)
{
    uint64_t sum = 0;
    if (ip->protocol != MVPN_IP_ICMP) { /* ICMPv4 alone has no pseudo header */
        sum = mvpn_csum_pseudo(ip->version, packet + mvpn_ip_src_at(ip), ip->protocol, ip->l4_len);
    }
    return mvpn_csum_add(sum, packet + ip->l4, ip->l4_len);
}

bool mvpn_csum_transport_ok(const uint8_t *packet, const mvpn_ip *ip)
{
    size_t at = mvpn_csum_l4_at(ip->version, ip->protocol);
    if (ip->fragment || at == 0) {
        return true;
    }
    if (ip->protocol == MVPN_IP_UDP && mvpn_load16(packet + ip->l4 + at) == 0) {
        return ip->version == 4; /* RFC 768; RFC 8200 §8.1 */
    }
    return mvpn_csum_fold(transport_sum(packet, ip)) == 0xffff;
}

void mvpn_csum_transport_set(uint8_t *packet, const mvpn_ip *ip)
{
    size_t at = mvpn_csum_l4_at(ip->version, ip->protocol);
    if (ip->fragment || at == 0) {
        return;
    }
    uint8_t *field = packet + ip->l4 + at;
    mvpn_store16(field, 0);
    uint16_t check = mvpn_csum_finish(transport_sum(packet, ip));
    if (check == 0 && ip->protocol == MVPN_IP_UDP) {
        check = 0xffff; /* zero means "none" (RFC 768) */
    }
    mvpn_store16(field, check);
}

void mvpn_csum_ipv4_set(uint8_t *packet)
{
    mvpn_store16(packet + 10, 0);
    mvpn_store16(packet + 10,
                 mvpn_csum_finish(mvpn_csum_add(0, packet, (size_t)(packet[0] & 15) * 4)));
}
