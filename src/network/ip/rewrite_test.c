#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "network/ip/rewrite.h"
#include "network/ip/testing.h"

static const uint8_t a4[4] = {10, 8, 0, 2}, b4[4] = {11, 1, 2, 3}, c4[4] = {10, 64, 200, 9};
static const uint8_t c6[16] = {0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static size_t build(uint8_t *p, unsigned v, uint8_t proto, size_t payload)
{
    const void *s = v == 4 ? a4 : test_v6_a, *d = v == 4 ? b4 : test_v6_b;
    return proto == 6    ? build_tcp(p, v, s, 1, d, 2, 16, 9, payload)
           : proto == 17 ? build_udp(p, v, s, 1, d, 2, payload)
                         : build_icmp(p, v, s, d, v == 4 ? 8 : 128, 0, payload);
}

static void addresses(void **state)
{
    (void)state;
    static const struct {
        unsigned version;
        uint8_t proto;
    } rows[] = {{4, 6}, {4, 17}, {4, 1}, {6, 6}, {6, 17}, {6, 58}};
    uint8_t p[1600];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        for (size_t payload = 0; payload < 60; payload++) {
            unsigned v = rows[i].version;
            const uint8_t *to = v == 4 ? c4 : c6;
            size_t len = v == 4 ? 4 : 16, at = v == 4 ? 12 : 8;
            size_t n = build(p, v, rows[i].proto, payload);
            mvpn_ip ip;
            assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
            assert_int_equal(mvpn_ip_rewrite_src(p, &ip, to), 0);
            assert_memory_equal(p + at, to, len);
            assert_memory_equal(ip.src, to, len);
            assert_true(slow_ok(p, n));
            assert_int_equal(mvpn_ip_rewrite_dst(p, &ip, to), 0);
            assert_memory_equal(p + at + len, to, len);
            assert_memory_equal(ip.dst, to, len);
            assert_true(slow_ok(p, n));
            /* A wrong checksum stays wrong. */
            n = build(p, v, rows[i].proto, payload);
            p[n - 1] ^= 1;
            assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
            assert_int_equal(mvpn_ip_rewrite_src(p, &ip, to), 0);
            assert_false(slow_ok(p, n));
        }
    }
}

static void udp_without_checksum(void **state)
{
    (void)state;
    uint8_t p[100];
    mvpn_ip ip;
    size_t n = build(p, 4, 17, 9);
    mvpn_store16(p + 26, 0);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(mvpn_ip_rewrite_src(p, &ip, c4), 0);
    assert_int_equal(mvpn_load16(p + 26), 0);
    assert_true(slow_ok(p, n));
}

/* The new address brings the UDP checksum to zero: it must be written ffff, not "none". */
static void udp_checksum_becomes_zero(void **state)
{
    (void)state;
    uint8_t p[100];
    mvpn_ip ip;
    bool seen = false;
    for (unsigned x = 0; x < 65536; x++) {
        uint8_t to[4] = {10, 64, (uint8_t)(x >> 8), (uint8_t)x};
        size_t n = build(p, 4, 17, 9);
        assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
        assert_int_equal(mvpn_ip_rewrite_src(p, &ip, to), 0);
        assert_int_not_equal(mvpn_load16(p + 26), 0);
        assert_true(slow_ok(p, n));
        seen = seen || mvpn_load16(p + 26) == 0xffff;
    }
    assert_true(seen);
}

static void fragments(void **state)
{
    (void)state;
    uint8_t p[200], q[200];
    mvpn_ip ip;
    /* First fragment: checksum is corrected for the address, though the rest is elsewhere. */
    size_t n = build(p, 4, 17, 24);
    memcpy(q, p, n);
    mvpn_store16(p + 6, 0x2000);
    mvpn_store16(p + 10, 0);
    mvpn_store16(p + 10, (uint16_t)~slow_sum(p, 20, 0));
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(mvpn_ip_rewrite_src(p, &ip, c4), 0);
    mvpn_store16(p + 6, 0x4000);
    mvpn_store16(p + 10, 0);
    mvpn_store16(p + 10, (uint16_t)~slow_sum(p, 20, 0));
    assert_true(slow_ok(p, n));
    /* A later fragment: only the header changes. */
    memcpy(p, q, n);
    mvpn_store16(p + 6, 0x0004);
    mvpn_store16(p + 10, 0);
    mvpn_store16(p + 10, (uint16_t)~slow_sum(p, 20, 0));
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(mvpn_ip_rewrite_src(p, &ip, c4), 0);
    assert_memory_equal(p + 20, q + 20, n - 20);
    assert_memory_equal(p + 12, c4, 4);
    assert_int_equal(slow_sum(p, 20, 0), 0xffff);
}

/* Both directions, both versions, quotes of every length. */
static void icmp_errors(void **state)
{
    (void)state;
    uint8_t p[400], quote[200];
    mvpn_ip ip, q;
    for (unsigned v = 4; v <= 6; v += 2) {
        const void *in = v == 4 ? a4 : test_v6_a, *far = v == 4 ? b4 : test_v6_b;
        const uint8_t *pool = v == 4 ? c4 : c6;
        size_t len = v == 4 ? 4 : 16, at = v == 4 ? 12 : 8, head = v == 4 ? 20 : 40;
        static const uint8_t protos[] = {6, 17, 1};
        for (size_t k = 0; k < 3; k++) {
            uint8_t proto = protos[k] == 1 && v == 6 ? 58 : protos[k];
            for (size_t cut = head; cut <= head + 40; cut++) {
                /* Outbound: the inner host reports an error about a packet sent to it. */
                size_t whole = proto == 6 ? build_tcp(quote, v, far, 1, in, 2, 16, 9, 20)
                               : proto == 17
                                   ? build_udp(quote, v, far, 1, in, 2, 32)
                                   : build_icmp(quote, v, far, in, v == 4 ? 8 : 128, 0, 32);
                size_t n = build_icmp_error(p, v, in, far, v == 4 ? 3 : 1, 3, quote, cut);
                assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
                assert_int_equal(mvpn_ip_rewrite_src(p, &ip, pool), 0);
                assert_true(slow_ok(p, n));
                assert_memory_equal(p + at, pool, len);
                const uint8_t *inner = p + n - cut;
                assert_memory_equal(inner + at + len, pool, len);
                assert_memory_equal(inner + at, far, len);
                if (cut == whole) {
                    assert_true(slow_ok(inner, cut));
                }
                /* Inbound: a router reports an error about a packet from the pool address. */
                whole = proto == 6    ? build_tcp(quote, v, pool, 1, far, 2, 16, 9, 20)
                        : proto == 17 ? build_udp(quote, v, pool, 1, far, 2, 32)
                                      : build_icmp(quote, v, pool, far, v == 4 ? 8 : 128, 0, 32);
                n = build_icmp_error(p, v, far, pool, v == 4 ? 11 : 3, 0, quote, cut);
                assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
                assert_int_equal(mvpn_ip_rewrite_dst(p, &ip, in), 0);
                assert_true(slow_ok(p, n));
                assert_int_equal(mvpn_ip_parse_quoted(p + n - cut, cut, &q), 0);
                assert_memory_equal(q.src, in, len);
                assert_memory_equal(q.dst, far, len);
                assert_true(v == 6 || slow_sum(p + n - cut, 20, 0) == 0xffff);
            }
        }
    }
}

static void forged_icmp_errors(void **state)
{
    (void)state;
    uint8_t p[400], before[400], quote[200];
    mvpn_ip ip;
    /* Quotes a packet sent to someone else. */
    (void)build_tcp(quote, 4, b4, 1, c4, 2, 16, 9, 20);
    size_t n = build_icmp_error(p, 4, a4, b4, 3, 3, quote, 28);
    memcpy(before, p, n);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(mvpn_ip_rewrite_src(p, &ip, c4), MVPN_E_FORMAT);
    assert_memory_equal(p, before, n);
    /* Quotes nothing, quotes half a header, quotes the other version. */
    n = build_icmp_error(p, 4, a4, b4, 3, 3, quote, 0);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(mvpn_ip_rewrite_src(p, &ip, c4), MVPN_E_FORMAT);
    n = build_icmp_error(p, 4, a4, b4, 3, 3, quote, 19);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(mvpn_ip_rewrite_src(p, &ip, c4), MVPN_E_FORMAT);
    (void)build_tcp(quote, 6, test_v6_b, 1, test_v6_a, 2, 16, 9, 20);
    n = build_icmp_error(p, 4, a4, b4, 3, 3, quote, 60);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_int_equal(mvpn_ip_rewrite_src(p, &ip, c4), MVPN_E_FORMAT);
}

static void mss(void **state)
{
    (void)state;
    static const struct {
        unsigned version;
        uint8_t flags;
        uint16_t mss;
        unsigned shift;
        uint32_t mtu;
        uint16_t expect;
    } rows[] = {
        {4, 0x02, 1460, 0, 1289, 1249},  {4, 0x12, 1460, 0, 1289, 1249},
        {6, 0x02, 1440, 0, 1289, 1229},  {4, 0x02, 1460, 1, 1289, 1249},
        {4, 0x02, 1460, 2, 1289, 1249},  {6, 0x12, 1440, 3, 1289, 1229},
        {4, 0x02, 1249, 0, 1289, 1249},  {4, 0x02, 536, 0, 1289, 536},
        {4, 0x10, 1460, 0, 1289, 1460},  {4, 0x02, 1460, 0, 40, 1460},
        {6, 0x02, 65535, 1, 1241, 1181}, {4, 0x02, 1460, 0, 0, 1460},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t p[200];
        mvpn_ip ip;
        unsigned v = rows[i].version;
        size_t n = build_syn(p, v, v == 4 ? a4 : test_v6_a, 1, v == 4 ? b4 : test_v6_b, 2,
                             rows[i].flags, rows[i].mss, rows[i].shift);
        assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
        assert_int_equal(mvpn_ip_clamp_mss(p, &ip, rows[i].mtu), rows[i].mss != rows[i].expect);
        assert_int_equal(mvpn_load16(p + n - 8 + rows[i].shift + 2), rows[i].expect);
        assert_true(slow_ok(p, n));
    }
}

static void mss_bad_options(void **state)
{
    (void)state;
    static const uint8_t rows[][8] = {
        {2, 5, 9, 9, 1, 1, 1, 1},  {2, 0, 9, 9, 1, 1, 1, 1}, {2, 1, 9, 9, 1, 1, 1, 1},
        {1, 1, 1, 1, 1, 1, 2, 4},  {1, 1, 1, 1, 1, 1, 1, 2}, {0, 2, 4, 9, 9, 9, 9, 9},
        {8, 10, 2, 4, 9, 9, 9, 9},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t p[200], before[200];
        mvpn_ip ip;
        size_t n = build_syn(p, 4, a4, 1, b4, 2, 2, 1460, 0);
        memcpy(p + n - 8, rows[i], 8);
        slow_fix(p, n);
        uint8_t *exact = malloc(n); /* a sanitizer sees a read behind the end */
        memcpy(exact, p, n);
        memcpy(before, p, n);
        assert_int_equal(mvpn_ip_parse(exact, n, &ip), 0);
        assert_false(mvpn_ip_clamp_mss(exact, &ip, 1289));
        assert_memory_equal(exact, before, n);
        free(exact);
    }
}

static void normalise(void **state)
{
    (void)state;
    const mvpn_ip_norm norm = {.ttl = 64, .random_id = 0xbeef, .fragment_key = 12345};
    uint8_t p[200];
    mvpn_ip ip;
    static const struct {
        uint16_t frag;
        int id; /* -1: some other than before, the same for equal ones */
    } rows[] = {{0x4000, 0},  {0x0000, 0xbeef}, {0x2000, -1},
                {0x0004, -1}, {0x6000, -1},     {0x8000, 0xbeef}};
    int fragment_id = -1;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        size_t n = build_udp(p, 4, a4, 1, b4, 2, 24);
        p[1] = 0xba; /* EF + ECT(0) */
        mvpn_store16(p + 6, rows[i].frag);
        mvpn_store16(p + 10, 0);
        mvpn_store16(p + 10, (uint16_t)~slow_sum(p, 20, 0));
        assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
        mvpn_ip_normalise(p, &ip, &norm);
        assert_int_equal(p[1], 2);
        assert_int_equal(p[8], 64);
        assert_int_equal(p[6] & 0x80, 0);
        assert_int_equal(mvpn_load16(p + 6), rows[i].frag & 0x7fff);
        assert_int_equal(slow_sum(p, 20, 0), 0xffff);
        int id = mvpn_load16(p + 4);
        if (rows[i].id >= 0) {
            assert_int_equal(id, rows[i].id);
        } else {
            assert_int_not_equal(id, 0x1234);
            assert_true(fragment_id < 0 || id == fragment_id);
            fragment_id = id;
        }
    }
    size_t n = build_udp(p, 6, test_v6_a, 1, test_v6_b, 2, 24);
    mvpn_store32(p, 0x6b912345);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    mvpn_ip_normalise(p, &ip, &norm);
    assert_int_equal(mvpn_load32(p), 0x60100000); /* ECT(1) stays */
    assert_int_equal(p[7], 64);
    assert_true(slow_ok(p, n));
}

/* Different counters, or another session's key, give different fragment ids: mostly. */
static void fragment_ids_spread(void **state)
{
    (void)state;
    static bool used[65536];
    unsigned distinct = 0;
    for (unsigned id = 0; id < 4096; id++) {
        uint8_t p[100];
        mvpn_ip ip;
        size_t n = build_udp(p, 4, a4, 1, b4, 2, 24);
        mvpn_store16(p + 4, (uint16_t)id);
        mvpn_store16(p + 6, 0x2000);
        mvpn_store16(p + 10, 0);
        mvpn_store16(p + 10, (uint16_t)~slow_sum(p, 20, 0));
        assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
        mvpn_ip_normalise(p, &ip, &(mvpn_ip_norm){64, 0, 0x1234567890abcdefull});
        distinct += !used[mvpn_load16(p + 4)];
        used[mvpn_load16(p + 4)] = true;
    }
    assert_true(distinct > 3700); /* a random function gives about 3970 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(udp_without_checksum),
        cmocka_unit_test(udp_checksum_becomes_zero),
        cmocka_unit_test(fragments),
        cmocka_unit_test(icmp_errors),
        cmocka_unit_test(forged_icmp_errors),
        cmocka_unit_test(mss),
        cmocka_unit_test(mss_bad_options),
        cmocka_unit_test(normalise),
        cmocka_unit_test(fragment_ids_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
