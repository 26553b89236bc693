#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "network/ip/ecn.h"
#include "network/ip/ip.h"
#include "network/ip/testing.h"

static const uint8_t a4[4] = {10, 8, 0, 2}, b4[4] = {11, 1, 2, 3};

static size_t build(uint8_t *p, unsigned v, uint8_t tos)
{
    size_t n = build_udp(p, v, v == 4 ? a4 : test_v6_a, 1, v == 4 ? b4 : test_v6_b, 2, 33);
    if (v == 4) {
        p[1] = tos;
        slow_fix(p, n);
    } else {
        p[0] = (uint8_t)(0x60 | tos >> 4);
        p[1] = (uint8_t)(tos << 4 | 0x0a); /* the low half is the flow label's */
    }
    return n;
}

static void marks(void **state)
{
    (void)state;
    for (unsigned v = 4; v <= 6; v += 2) {
        for (unsigned tos = 0; tos < 256; tos++) {
            uint8_t p[200], before[200];
            mvpn_ip ip;
            size_t n = build(p, v, (uint8_t)tos);
            bool is_capable = (tos & 3) != 0;
            memcpy(before, p, n);
            assert_int_equal(mvpn_ecn_is_capable(p, n), is_capable);
            mvpn_ecn_mark(p, n);
            assert_int_equal(mvpn_ip_parse(p, n, &ip), 0);
            assert_int_equal(ip.tos, is_capable ? tos | 3 : tos);
            assert_true(slow_ok(p, n));
            /* And nothing else. */
            n = build(before, v, ip.tos);
            assert_memory_equal(p, before, n);
        }
    }
}

static void no_ip_packet(void **state)
{
    (void)state;
    uint8_t p[200];
    for (unsigned v = 4; v <= 6; v += 2) {
        (void)build(p, v, 1);
        for (size_t n = 0; n < (v == 4 ? 20 : 40); n++) {
            assert_false(mvpn_ecn_is_capable(p, n));
        }
        p[0] = 0x50;
        assert_false(mvpn_ecn_is_capable(p, 100));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks),
        cmocka_unit_test(no_ip_packet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
