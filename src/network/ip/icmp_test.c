#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "network/ip/icmp.h"
#include "network/ip/testing.h"

static const uint8_t a4[4] = {10, 8, 0, 2}, b4[4] = {11, 1, 2, 3}, gw4[4] = {10, 8, 0, 1};
static const uint8_t gw6[16] = {0xfd, 0x6d, 0x76, 0x70, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

static mvpn_packet_pool pool;

static mvpn_packet *new_packet(void)
{
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    return p;
}

static const uint8_t *gw(unsigned v)
{
    return v == 4 ? gw4 : gw6;
}

static void errors(void **state)
{
    (void)state;
    for (unsigned v = 4; v <= 6; v += 2) {
        const void *s = v == 4 ? a4 : test_v6_a, *d = v == 4 ? b4 : test_v6_b;
        size_t head = v == 4 ? 20 : 40, limit = v == 4 ? 576 : 1280;
        for (size_t payload = 0; payload < 1400; payload += 13) {
            mvpn_packet *bad = new_packet(), *out = new_packet();
            mvpn_ip ip, err, quoted;
            bad->len = (uint32_t)build_udp(bad->data, v, s, 5, d, 6, payload);
            assert_int_equal(mvpn_ip_parse(bad->data, bad->len, &ip), 0);
            assert_int_equal(mvpn_icmp_unreachable(out, bad, &ip, gw(v), 3), 0);
            assert_true(out->len <= limit);
            assert_int_equal(out->len, MVPN_MIN(limit, bad->len + head + 8));
            assert_true(slow_ok(out->data, out->len));
            assert_int_equal(mvpn_ip_parse(out->data, out->len, &err), 0);
            assert_true(mvpn_ip_is_icmp_error(&err));
            assert_int_equal(err.icmp_type, v == 4 ? 3 : 1);
            assert_int_equal(err.icmp_code, 3);
            assert_memory_equal(err.src, gw(v), v == 4 ? 4 : 16);
            assert_memory_equal(err.dst, s, v == 4 ? 4 : 16);
            assert_memory_equal(out->data + head + 8, bad->data, out->len - head - 8);
            assert_int_equal(
                mvpn_ip_parse_quoted(out->data + head + 8, out->len - head - 8, &quoted), 0);
            assert_int_equal(quoted.dst_port, 6);

            mvpn_packet_truncate(out, 0);
            assert_int_equal(mvpn_icmp_too_big(out, bad, &ip, gw(v), 1289), 0);
            assert_true(slow_ok(out->data, out->len));
            assert_int_equal(out->data[head], v == 4 ? 3 : 2);
            assert_int_equal(out->data[head + 1], v == 4 ? 4 : 0);
            assert_int_equal(mvpn_load32(out->data + head + 4), 1289);
            mvpn_packet_truncate(out, 0);
            assert_int_equal(mvpn_icmp_too_big(out, bad, &ip, gw(v), 900), 0);
            assert_int_equal(mvpn_load32(out->data + head + 4), v == 4 ? 900 : 1280);
            mvpn_packet_free(&pool, bad);
            mvpn_packet_free(&pool, out);
        }
    }
}

static void never_answered(void **state)
{
    (void)state;
    static const struct {
        unsigned version;
        uint8_t src[16], dst[16];
        uint8_t icmp_type; /* 0: UDP */
        bool fragment, answered;
    } rows[] = {
        {4, {10, 8, 0, 2}, {11, 1, 1, 1}, 0, false, true},
        {4, {10, 8, 0, 2}, {11, 1, 1, 1}, 0, true, false},
        {4, {10, 8, 0, 2}, {224, 0, 0, 251}, 0, false, false},
        {4, {10, 8, 0, 2}, {255, 255, 255, 255}, 0, false, false},
        {4, {127, 0, 0, 1}, {11, 1, 1, 1}, 0, false, false},
        {4, {0}, {11, 1, 1, 1}, 0, false, false},
        {4, {10, 8, 0, 2}, {11, 1, 1, 1}, 3, false, false},
        {4, {10, 8, 0, 2}, {11, 1, 1, 1}, 5, false, false},
        {4, {10, 8, 0, 2}, {11, 1, 1, 1}, 11, false, false},
        {4, {10, 8, 0, 2}, {11, 1, 1, 1}, 12, false, false},
        {4, {10, 8, 0, 2}, {11, 1, 1, 1}, 8, false, true},
        {6, {0x2a, 1}, {0x2a, 2}, 0, false, true},
        {6, {0x2a, 1}, {0xff, 2}, 0, false, false},
        {6, {0}, {0x2a, 2}, 0, false, false},
        {6, {0x2a, 1}, {0x2a, 2}, 2, false, false},
        {6, {0x2a, 1}, {0x2a, 2}, 137, false, false},
        {6, {0x2a, 1}, {0x2a, 2}, 128, false, true},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_packet *bad = new_packet(), *out = new_packet();
        mvpn_ip ip;
        bad->len =
            (uint32_t)(rows[i].icmp_type == 0 ? build_udp(bad->data, rows[i].version, rows[i].src,
                                                          1, rows[i].dst, 2, 24)
                                              : build_icmp(bad->data, rows[i].version, rows[i].src,
                                                           rows[i].dst, rows[i].icmp_type, 0, 24));
        if (rows[i].fragment) {
            mvpn_store16(bad->data + 6, 3);
            mvpn_store16(bad->data + 10, 0);
            mvpn_store16(bad->data + 10, (uint16_t)~slow_sum(bad->data, 20, 0));
        }
        assert_int_equal(mvpn_ip_parse(bad->data, bad->len, &ip), 0);
        int r = mvpn_icmp_unreachable(out, bad, &ip, gw(rows[i].version), 1);
        if (r != (rows[i].answered ? 0 : MVPN_E_STATE)) {
            fail_msg("row %zu: %d", i, r);
        }
        assert_true(rows[i].answered == (out->len > 0));
        mvpn_packet_free(&pool, bad);
        mvpn_packet_free(&pool, out);
    }
}

static void echo(void **state)
{
    (void)state;
    for (unsigned v = 4; v <= 6; v += 2) {
        const void *s = v == 4 ? a4 : test_v6_a;
        size_t head = v == 4 ? 20 : 40, len = v == 4 ? 4 : 16;
        for (size_t payload = 0; payload < 100; payload++) {
            mvpn_packet *p = new_packet();
            mvpn_ip ip;
            uint8_t sent[300];
            p->len = (uint32_t)build_icmp(p->data, v, s, gw(v), v == 4 ? 8 : 128, 0, payload);
            memcpy(sent, p->data, p->len);
            assert_int_equal(mvpn_ip_parse(p->data, p->len, &ip), 0);
            assert_int_equal(mvpn_icmp_echo_reply(p, &ip), 0);
            assert_true(slow_ok(p->data, p->len));
            assert_int_equal(p->data[head], v == 4 ? 0 : 129);
            assert_memory_equal(p->data + (v == 4 ? 12 : 8), gw(v), len);
            assert_memory_equal(p->data + (v == 4 ? 16 : 24), s, len);
            assert_memory_equal(p->data + head + 4, sent + head + 4, 4 + payload);
            assert_int_equal(mvpn_icmp_echo_reply(p, &ip), MVPN_E_STATE); /* no reply to a reply */
            /* A wrong checksum is not answered. */
            memcpy(p->data, sent, p->len);
            p->data[p->len - 1] ^= 1;
            assert_int_equal(mvpn_ip_parse(p->data, p->len, &ip), 0);
            assert_int_equal(mvpn_icmp_echo_reply(p, &ip), MVPN_E_FORMAT);
            mvpn_packet_free(&pool, p);
        }
    }
}

/* The reply is zeros only: the checksum that correcting gives would be wrong. */
static void echo_of_zeros(void **state)
{
    (void)state;
    static const uint8_t a[4] = {10, 8, 0, 2}, b[4] = {10, 8, 0, 1};
    mvpn_packet p = {0};
    mvpn_ip ip;
    p.data = p.buf + MVPN_PACKET_HEADROOM;
    p.len = (uint32_t)build_icmp(p.data, 4, a, b, 8, 0, 4);
    memset(p.data + 24, 0, 8);
    slow_fix(p.data, p.len);
    assert_int_equal(mvpn_ip_parse(p.data, p.len, &ip), 0);
    assert_int_equal(mvpn_icmp_echo_reply(&p, &ip), 0);
    assert_int_equal(p.data[20], 0);
    assert_true(slow_ok(p.data, p.len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),
        cmocka_unit_test(never_answered),
        cmocka_unit_test(echo),
        cmocka_unit_test(echo_of_zeros),
    };
    if (mvpn_packet_pool_init(&pool, 4) != 0) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mvpn_packet_pool_done(&pool);
    return failed;
}
