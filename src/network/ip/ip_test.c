#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "network/ip/ip.h"
#include "network/ip/testing.h"

static const uint8_t a4[4] = {10, 8, 0, 2}, b4[4] = {11, 1, 2, 3};

static void every_field(void **state)
{
    (void)state;
    uint8_t p[200];
    mvpn_ip ip;
    size_t n = build_tcp(p, 4, a4, 1111, b4, 443, 0x12, 5, 30);
    p[1] = 0xb9;
    slow_fix(p, n);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(ip.version, 4);
    assert_int_equal(ip.protocol, 6);
    assert_int_equal(ip.tos, 0xb9);
    assert_int_equal(ip.ttl, 57);
    assert_true(ip.df && ip.has_l4 && !ip.fragment && !ip.more && !ip.options);
    assert_int_equal(ip.l4, 20);
    assert_int_equal(ip.l4_len, 50);
    assert_int_equal(ip.total_len, 70);
    assert_int_equal(ip.src_port, 1111);
    assert_int_equal(ip.dst_port, 443);
    assert_int_equal(ip.tcp_flags, 0x12);
    mvpn_addr src = mvpn_ip_src_addr(&ip), dst = mvpn_ip_dst_addr(&ip);
    char text[MVPN_ADDR_STRLEN];
    assert_string_equal(mvpn_addr_format(&src, text), "10.8.0.2:1111");
    assert_string_equal(mvpn_addr_format(&dst, text), "11.1.2.3:443");

    n = build_udp(p, 6, test_v6_a, 53, test_v6_b, 5353, 7);
    mvpn_store32(p, 0x6b912345); /* traffic class b9, some label */
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(ip.version, 6);
    assert_int_equal(ip.tos, 0xb9);
    assert_int_equal(ip.protocol, 17);
    assert_int_equal(ip.l4, 40);
    assert_int_equal(ip.l4_len, 15);
    assert_int_equal(ip.src_port, 53);
    assert_int_equal(ip.dst_port, 5353);
    assert_memory_equal(ip.src, test_v6_a, 16);
    assert_memory_equal(ip.dst, test_v6_b, 16);

    n = build_icmp(p, 4, a4, b4, 3, 4, 28);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(ip.icmp_type, 3);
    assert_int_equal(ip.icmp_code, 4);
    assert_true(mvpn_ip_is_icmp_error(&ip));
    n = build_icmp(p, 6, test_v6_a, test_v6_b, 128, 0, 3);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_false(mvpn_ip_is_icmp_error(&ip));
}

static void every_truncation_fails(void **state)
{
    (void)state;
    uint8_t p[200];
    mvpn_ip ip;
    for (unsigned v = 4; v <= 6; v += 2) {
        const void *s = v == 4 ? a4 : test_v6_a, *d = v == 4 ? b4 : test_v6_b;
        size_t n = build_tcp(p, v, s, 1, d, 2, 2, 5, 30);
        for (size_t i = 0; i < n; i++) {
            uint8_t *cut = malloc(i + 1); /* exact size: a sanitizer sees any read behind it */
            memcpy(cut, p, i);
            assert_int_equal(mvpn_ip_parse(cut, i, &ip), MVPN_E_FORMAT);
            free(cut);
        }
        assert_int_equal(mvpn_ip_parse(p, n + 1, &ip), MVPN_E_FORMAT);
    }
}

/* One edit of a good 4-byte-payload packet; IPv4 header checksum is fixed after it. */
static void bad_v4_rows(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t proto;
        size_t at;
        uint16_t value; /* 16 bits stored at `at` */
        bool ok;
    } rows[] = {
        {"good udp", 17, 4, 0x1234, true},
        {"version 5", 17, 0, 0x5500, false},
        {"ihl 4", 17, 0, 0x4400, false},
        {"ihl beyond", 17, 0, 0x4f00, false},
        {"total short", 17, 2, 31, false},
        {"total long", 17, 2, 33, false},
        {"udp length 7", 17, 24, 7, false},
        {"udp length long", 17, 24, 13, false},
        {"udp length short", 17, 24, 11, false},
        {"multicast source", 17, 12, 0xe000, false},
        {"more fragments, odd size", 17, 6, 0x2000, false},
        {"tail fragment", 17, 6, 0x0010, true},
        {"ping of death", 17, 6, 0x1fff, false},
        {"tcp data offset 4", 6, 32, 0x4010, false},
        {"tcp data offset 15", 6, 32, 0xf010, false},
        {"tcp good", 6, 32, 0x5010, true},
        {"tcp fragment at 8 (RFC 1858)", 6, 6, 0x0001, false},
        {"tcp fragment at 16", 6, 6, 0x0002, true},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t p[100];
        mvpn_ip ip;
        size_t n = rows[i].proto == 6 ? build_tcp(p, 4, a4, 1, b4, 2, 16, 1, 4)
                                      : build_udp(p, 4, a4, 1, b4, 2, 4);
        mvpn_store16(p + rows[i].at, rows[i].value);
        if ((p[0] & 15) == 5) {
            mvpn_store16(p + 10, 0);
            mvpn_store16(p + 10, (uint16_t)~slow_sum(p, 20, 0));
        }
        int r = mvpn_ip_parse(p, n, &ip);
        if ((r == 0) != rows[i].ok) {
            fail_msg("%s: %d", rows[i].what, r);
        }
    }
}

static void header_checksum(void **state)
{
    (void)state;
    uint8_t p[100];
    mvpn_ip ip;
    size_t n = build_udp(p, 4, a4, 1, b4, 2, 4);
    for (size_t bit = 0; bit < 160; bit++) {
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(mvpn_ip_parse(p, n, &ip), MVPN_E_FORMAT);
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
}

static void v4_options(void **state)
{
    (void)state;
    static const struct {
        uint8_t option[4];
        bool ok;
    } rows[] = {
        {{1, 1, 1, 1}, true},    {{148, 4, 0, 0}, true},  {{0, 9, 9, 9}, true},
        {{148, 5, 0, 0}, false}, {{148, 1, 0, 0}, false}, {{1, 1, 1, 148}, false},
        {{131, 3, 4, 0}, false}, {{137, 3, 4, 0}, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t p[100];
        mvpn_ip ip;
        size_t n = build_udp(p, 4, a4, 1, b4, 2, 4);
        memmove(p + 24, p + 20, n - 20);
        memcpy(p + 20, rows[i].option, 4);
        n += 4;
        p[0] = 0x46;
        mvpn_store16(p + 2, (uint16_t)n);
        slow_fix(p, n);
        assert_int_equal(mvpn_ip_parse(p, n, &ip), rows[i].ok ? 0 : MVPN_E_FORMAT);
        if (rows[i].ok) {
            assert_true(ip.options);
            assert_int_equal(ip.l4, 24);
            assert_int_equal(ip.dst_port, 2);
        }
    }
}

/* A chain of extension headers, "<type><length/8-1>" pairs, before 16 bytes of UDP. */
static size_t build_chain(uint8_t *p, const uint8_t *types, size_t count, uint8_t last)
{
    uint8_t udp[16] = {0, 1, 0, 2, 0, 16};
    size_t at = build_ip(p, 6, count > 0 ? types[0] : last, test_v6_a, test_v6_b, count * 8 + 16);
    for (size_t i = 0; i < count; i++) {
        memset(p + at, 0, 8);
        p[at] = i + 1 < count ? types[i + 1] : last;
        if (types[i] == 51) {
            p[at + 1] = 0; /* (0 + 2) * 4 = 8 bytes */
        }
        at += 8;
    }
    memcpy(p + at, udp, 16);
    return at + 16;
}

static void v6_extensions(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t types[10];
        size_t count;
        bool ok, options;
    } rows[] = {
        {"none", {0}, 0, true, false},
        {"hop by hop", {0}, 1, true, true},
        {"destination", {60}, 1, true, true},
        {"hop, dest, routing, fragment, auth, dest", {0, 60, 43, 44, 51, 60}, 6, true, true},
        {"hop by hop second", {60, 0}, 2, false, false},
        {"fragment twice", {44, 44}, 2, false, false},
        {"atomic fragment", {44}, 1, true, false},
        {"seven", {60, 60, 60, 60, 60, 60, 60}, 7, true, true},
        {"eight", {60, 60, 60, 60, 60, 60, 60, 60}, 8, false, false},
    };
    uint8_t p[300];
    mvpn_ip ip;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        size_t n = build_chain(p, rows[i].types, rows[i].count, 17);
        int r = mvpn_ip_parse(p, n, &ip);
        if ((r == 0) != rows[i].ok) {
            fail_msg("%s: %d", rows[i].what, r);
        }
        if (r == 0) {
            assert_int_equal(ip.l4, 40 + 8 * rows[i].count);
            assert_int_equal(ip.protocol, 17);
            assert_int_equal(ip.dst_port, 2);
            assert_int_equal(ip.options, rows[i].options);
            assert_false(ip.fragment);
        }
    }
    /* Segments left; header longer than the packet; unknown upper layer; no next header. */
    size_t n = build_chain(p, (uint8_t[]){43}, 1, 17);
    p[43] = 1;
    assert_int_equal(mvpn_ip_parse(p, n, &ip), MVPN_E_FORMAT);
    n = build_chain(p, (uint8_t[]){60}, 1, 17);
    p[41] = 3;
    assert_int_equal(mvpn_ip_parse(p, n, &ip), MVPN_E_FORMAT);
    n = build_chain(p, (uint8_t[]){60}, 1, 132);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(ip.protocol, 132);
    assert_int_equal(ip.dst_port, 0);
    n = build_chain(p, NULL, 0, 59);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(ip.protocol, MVPN_IP_NO_NEXT);
}

static void v6_fragments(void **state)
{
    (void)state;
    uint8_t p[300];
    mvpn_ip ip;
    size_t n = build_chain(p, (uint8_t[]){44}, 1, 17);
    mvpn_store16(p + 42, 1); /* first, more */
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_true(ip.fragment && ip.more && ip.has_l4);
    assert_int_equal(ip.frag_header, 40);
    assert_int_equal(ip.dst_port, 2);
    mvpn_store16(p + 42, 80); /* offset 80, last */
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_true(ip.fragment && !ip.more && !ip.has_l4);
    assert_int_equal(ip.frag_offset, 80);
    assert_int_equal(ip.dst_port, 0);
    /* Behind a later fragment even an extension header type is only data. */
    p[40] = 60;
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(ip.protocol, 60);
    mvpn_store16(p + 42, 0xfff8);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), MVPN_E_FORMAT); /* beyond 65535 */
}

static void mapped_addresses(void **state)
{
    (void)state;
    static const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1};
    uint8_t p[100];
    mvpn_ip ip;
    size_t n = build_udp(p, 6, mapped, 1, test_v6_b, 2, 4);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), MVPN_E_FORMAT);
    n = build_udp(p, 6, test_v6_a, 1, mapped, 2, 4);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), MVPN_E_FORMAT);
}

static void quoted_packets(void **state)
{
    (void)state;
    uint8_t p[200];
    mvpn_ip ip;
    for (unsigned v = 4; v <= 6; v += 2) {
        const void *s = v == 4 ? a4 : test_v6_a, *d = v == 4 ? b4 : test_v6_b;
        size_t n = build_tcp(p, v, s, 7, d, 9, 16, 5, 30), head = v == 4 ? 20 : 40;
        for (size_t i = 0; i <= n; i++) {
            uint8_t *cut = malloc(i + 1);
            memcpy(cut, p, i);
            int r = mvpn_ip_parse_quoted(cut, i, &ip);
            free(cut);
            assert_int_equal(r, i < head ? MVPN_E_FORMAT : 0);
            if (r == 0) {
                assert_int_equal(ip.l4_len, i - head);
                assert_int_equal(ip.dst_port, i >= head + 4 ? 9 : 0);
            }
        }
    }
}

/* Random bytes and random edits: only the sanitizers judge. */
static void random_bytes(void **state)
{
    (void)state;
    srandom(3);
    for (int round = 0; round < 200000; round++) {
        uint8_t p[120];
        mvpn_ip ip = {0};
        size_t n = 1 + (size_t)(random() % 119);
        for (size_t i = 0; i < n; i++) {
            p[i] = (uint8_t)random();
        }
        p[0] = round % 2 ? 0x60 : (uint8_t)(0x45 + random() % 3);
        if (round % 2) {
            static const uint8_t kinds[] = {0, 6, 17, 43, 44, 51, 58, 60};
            mvpn_store16(p + 4, (uint16_t)(n - 40));
            p[6] = kinds[random() % 8];
            p[8] = 0x2a;
            for (size_t i = 40; i + 1 < n; i += 8) {
                p[i] = kinds[random() % 8];
                p[i + 1] = (uint8_t)(random() % 3);
            }
        }
        if (mvpn_ip_parse(p, n, &ip) == 0) {
            assert_true((size_t)ip.l4 + ip.l4_len == n);
        }
        if (mvpn_ip_parse_quoted(p, n, &ip) == 0) {
            assert_true((size_t)ip.l4 + ip.l4_len <= n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field),    cmocka_unit_test(every_truncation_fails),
        cmocka_unit_test(bad_v4_rows),    cmocka_unit_test(header_checksum),
        cmocka_unit_test(v4_options),     cmocka_unit_test(v6_extensions),
        cmocka_unit_test(v6_fragments),   cmocka_unit_test(mapped_addresses),
        cmocka_unit_test(quoted_packets), cmocka_unit_test(random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
