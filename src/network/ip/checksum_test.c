#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "network/ip/checksum.h"
#include "network/ip/ip.h"
#include "network/ip/testing.h"

static const uint8_t a4[4] = {10, 8, 0, 2}, b4[4] = {11, 1, 2, 3};

/* RFC 1071 §3: the worked example. */
static void rfc1071_example(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    assert_int_equal(mvpn_csum_fold(mvpn_csum_add(0, bytes, 8)), 0xddf2);
}

static void equals_slow_sum_at_every_length(void **state)
{
    (void)state;
    uint8_t buf[1600];
    srandom(1);
    for (size_t i = 0; i < sizeof(buf); i++) {
        buf[i] = (uint8_t)random();
    }
    for (size_t n = 0; n < 1500; n++) {
        size_t at = n % 9;
        assert_int_equal(mvpn_csum_fold(mvpn_csum_add(0, buf + at, n)), slow_sum(buf + at, n, 0));
    }
    memset(buf, 0xff, sizeof(buf));
    assert_int_equal(mvpn_csum_fold(mvpn_csum_add(0, buf, 1500)), 0xffff);
    /* In two pieces, with the carry of the first alive. */
    assert_int_equal(mvpn_csum_fold(mvpn_csum_add(mvpn_csum_add(0, buf, 64), buf, 3)),
                     slow_sum(buf, 67, 0));
    assert_int_equal(mvpn_csum_fold(mvpn_csum_add16(mvpn_csum_add(0, buf, 2), 0x1234)), 0x1234);
}

static void incremental_equals_full(void **state)
{
    (void)state;
    uint8_t buf[64];
    srandom(2);
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof(buf); i++) {
            buf[i] = (uint8_t)(round % 3 == 0 ? 0xff * (random() & 1) : random());
        }
        buf[63] = 1; /* a sum of zero has two writings; packets are never all zero */
        uint16_t check = mvpn_csum_finish(mvpn_csum_add(0, buf, 64));
        uint8_t old[16];
        size_t at = (size_t)(random() % 20) * 2, n = (size_t)(random() % 9) * 2;
        memcpy(old, buf + at, n);
        for (size_t i = 0; i < n; i++) {
            buf[at + i] = (uint8_t)random();
        }
        check = mvpn_csum_update(check, old, buf + at, n);
        uint16_t full = (uint16_t)~slow_sum(buf, 64, 0);
        assert_int_equal(check, full);
    }
    /* RFC 1624 §4: the example whose older method gives 0xffff. */
    assert_int_equal(mvpn_csum_update16(0xdd2f, 0x5555, 0x3285), 0x0000);
}

static void transport_rows(void **state)
{
    (void)state;
    static const struct {
        unsigned version;
        uint8_t proto;
    } rows[] = {{4, 6}, {4, 17}, {4, 1}, {6, 6}, {6, 17}, {6, 58}};
    uint8_t p[1600];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        unsigned v = rows[i].version;
        const void *src = v == 4 ? a4 : test_v6_a, *dst = v == 4 ? b4 : test_v6_b;
        for (size_t payload = 0; payload < 70; payload++) {
            mvpn_ip ip;
            size_t n = rows[i].proto == 6    ? build_tcp(p, v, src, 1, dst, 2, 16, 9, payload)
                       : rows[i].proto == 17 ? build_udp(p, v, src, 1, dst, 2, payload)
                                             : build_icmp(p, v, src, dst, 8, 0, payload);
            assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
            assert_true(mvpn_csum_transport_ok(p, &ip));
            size_t at = ip.l4 + mvpn_csum_l4_at(v, rows[i].proto);
            uint16_t right = mvpn_load16(p + at);
            p[n - 1] ^= 0x40;
            assert_false(mvpn_csum_transport_ok(p, &ip));
            p[n - 1] ^= 0x40;
            mvpn_store16(p + at, 0x5a5a);
            mvpn_csum_transport_set(p, &ip);
            assert_int_equal(mvpn_load16(p + at), right);
        }
    }
}

static void udp_zero(void **state)
{
    (void)state;
    uint8_t p[100];
    mvpn_ip ip;
    size_t n = build_udp(p, 4, a4, 1, b4, 2, 10);
    mvpn_store16(p + 26, 0);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_true(mvpn_csum_transport_ok(p, &ip)); /* none, IPv4 */
    n = build_udp(p, 6, test_v6_a, 1, test_v6_b, 2, 10);
    mvpn_store16(p + 46, 0);
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    assert_false(mvpn_csum_transport_ok(p, &ip)); /* none, IPv6 */

    /* A sum whose checksum is zero is written as ffff. */
    n = build_udp(p, 4, a4, 1, b4, 2, 2);
    mvpn_store16(p + 28, (uint16_t)slow_sum((uint8_t[]){p[28], p[29], p[26], p[27]}, 4, 0));
    assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
    mvpn_csum_transport_set(p, &ip);
    assert_int_equal(mvpn_load16(p + 26), 0xffff);
    assert_true(mvpn_csum_transport_ok(p, &ip));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc1071_example),
        cmocka_unit_test(equals_slow_sum_at_every_length),
        cmocka_unit_test(incremental_equals_full),
        cmocka_unit_test(transport_rows),
        cmocka_unit_test(udp_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
