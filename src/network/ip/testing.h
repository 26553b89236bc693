/*
 * Packets for unit tests, built byte by byte, and a slow checksum that shares no code with the fast
 * one. Only included by tests.
 */
#ifndef MVPN_NETWORK_IP_TESTING_H
#define MVPN_NETWORK_IP_TESTING_H

#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/macros.h"

static const uint8_t test_v6_a[16] = {0xfd, 0x6d, 0x76, 0x70, 0x6e, 0, 0, 0,
                                      0,    0,    0,    0,    0,    0, 0, 2};
static const uint8_t test_v6_b[16] = {0x2a, 0x10, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};

/* RFC 1071 §4.1, as printed there: 16-bit words, then the carries. */
static inline uint16_t slow_sum(const uint8_t *p, size_t n, uint32_t start)
{
    uint32_t sum = start;
    for (size_t i = 0; i < n; i++) {
        sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

/* Header and transport checksum of a whole packet without extension headers are right. */
static inline bool slow_ok(const uint8_t *p, size_t n)
{
    bool v4 = p[0] >> 4 == 4;
    size_t l4 = v4 ? (size_t)(p[0] & 15) * 4 : 40;
    uint8_t proto = v4 ? p[9] : p[6];
    size_t len = n - l4;
    uint32_t pseudo = 0;
    if (v4 && slow_sum(p, l4, 0) != 0xffff) {
        return false;
    }
    if (proto == 17 && p[l4 + 6] == 0 && p[l4 + 7] == 0) {
        return v4;
    }
    if (proto != 6 && proto != 17 && proto != 58 && proto != 1) {
        return true;
    }
    if (proto != 1) {
        pseudo = slow_sum(p + (v4 ? 12 : 8), v4 ? 8 : 32, (uint32_t)len + proto);
    }
    return slow_sum(p + l4, len, pseudo) == 0xffff;
}

/* Write the checksums by the slow function. */
static inline void slow_fix(uint8_t *p, size_t n)
{
    bool v4 = p[0] >> 4 == 4;
    size_t l4 = v4 ? (size_t)(p[0] & 15) * 4 : 40;
    uint8_t proto = v4 ? p[9] : p[6];
    size_t at = proto == 6 ? 16 : proto == 17 ? 6 : proto == 1 || proto == 58 ? 2 : 0;
    if (v4) {
        mvpn_store16(p + 10, 0);
        mvpn_store16(p + 10, (uint16_t)~slow_sum(p, l4, 0));
    }
    if (at == 0) {
        return;
    }
    uint32_t pseudo =
        proto == 1 ? 0 : slow_sum(p + (v4 ? 12 : 8), v4 ? 8 : 32, (uint32_t)(n - l4) + proto);
    mvpn_store16(p + l4 + at, 0);
    uint16_t check = (uint16_t)~slow_sum(p + l4, n - l4, pseudo);
    mvpn_store16(p + l4 + at, check == 0 && proto == 17 ? 0xffff : check);
}

/* IP header for `l4_len` bytes of transport; returns the offset of the transport. */
static inline size_t build_ip(uint8_t *p, unsigned version, uint8_t proto, const void *src,
                              const void *dst, size_t l4_len)
{
    if (version == 4) {
        memset(p, 0, 20);
        p[0] = 0x45;
        mvpn_store16(p + 2, (uint16_t)(20 + l4_len));
        mvpn_store16(p + 4, 0x1234);
        mvpn_store16(p + 6, 0x4000);
        p[8] = 57;
        p[9] = proto;
        memcpy(p + 12, src, 4);
        memcpy(p + 16, dst, 4);
        return 20;
    }
    memset(p, 0, 40);
    p[0] = 0x60;
    mvpn_store16(p + 4, (uint16_t)l4_len);
    p[6] = proto;
    p[7] = 57;
    memcpy(p + 8, src, 16);
    memcpy(p + 24, dst, 16);
    return 40;
}

static inline void fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
    }
}

/* Whole UDP packet; returns its length. */
static inline size_t build_udp(uint8_t *p, unsigned version, const void *src, uint16_t sport,
                               const void *dst, uint16_t dport, size_t payload)
{
    size_t l4 = build_ip(p, version, 17, src, dst, 8 + payload);
    mvpn_store16(p + l4, sport);
    mvpn_store16(p + l4 + 2, dport);
    mvpn_store16(p + l4 + 4, (uint16_t)(8 + payload));
    fill(p + l4 + 8, payload, sport);
    slow_fix(p, l4 + 8 + payload);
    return l4 + 8 + payload;
}

/* Whole TCP packet without options; returns its length. */
static inline size_t build_tcp(uint8_t *p, unsigned version, const void *src, uint16_t sport,
                               const void *dst, uint16_t dport, uint8_t flags, uint32_t seq,
                               size_t payload)
{
    size_t l4 = build_ip(p, version, 6, src, dst, 20 + payload);
    memset(p + l4, 0, 20);
    mvpn_store16(p + l4, sport);
    mvpn_store16(p + l4 + 2, dport);
    mvpn_store32(p + l4 + 4, seq);
    mvpn_store32(p + l4 + 8, 77);
    p[l4 + 12] = 0x50;
    p[l4 + 13] = flags;
    mvpn_store16(p + l4 + 14, 1000);
    fill(p + l4 + 20, payload, seq);
    slow_fix(p, l4 + 20 + payload);
    return l4 + 20 + payload;
}

/* TCP SYN with an MSS option, `shift` NOPs before it (0 to 3); returns its length. */
static inline size_t build_syn(uint8_t *p, unsigned version, const void *src, uint16_t sport,
                               const void *dst, uint16_t dport, uint8_t flags, uint16_t mss,
                               unsigned shift)
{
    size_t n = build_tcp(p, version, src, sport, dst, dport, flags, 1, 8);
    uint8_t *opt = p + n - 8;
    memset(opt, 1, 8);
    opt[shift] = 2;
    opt[shift + 1] = 4;
    mvpn_store16(opt + shift + 2, mss);
    p[n - 28 + 12] = 0x70;
    slow_fix(p, n);
    return n;
}

/* Whole ICMP echo request or other message without quoted packet; returns its length. */
static inline size_t build_icmp(uint8_t *p, unsigned version, const void *src, const void *dst,
                                uint8_t type, uint8_t code, size_t payload)
{
    size_t l4 = build_ip(p, version, version == 4 ? 1 : 58, src, dst, 8 + payload);
    memset(p + l4, 0, 8);
    p[l4] = type;
    p[l4 + 1] = code;
    mvpn_store32(p + l4 + 4, 0x00070001);
    fill(p + l4 + 8, payload, type);
    slow_fix(p, l4 + 8 + payload);
    return l4 + 8 + payload;
}

/* ICMP error quoting `quoted` bytes; returns its length. */
static inline size_t build_icmp_error(uint8_t *p, unsigned version, const void *src,
                                      const void *dst, uint8_t type, uint8_t code,
                                      const uint8_t *quote, size_t quoted)
{
    size_t n = build_icmp(p, version, src, dst, type, code, quoted);
    memcpy(p + n - quoted, quote, quoted);
    mvpn_store32(p + n - quoted - 4, 0);
    slow_fix(p, n);
    return n;
}

#endif
