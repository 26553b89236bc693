/* Messages about probes, and probes: round trips of every field, every wrong length and value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/error.h"
#include "wire/natprobe.h"

static const mvpn_probe_token a_token = {{1, 2, 3, 4, 5, 6, 7, 8}};
static const mvpn_addr a_v4 = {.family = 4, .port = 0xbeef, .ip = {9, 8, 7, 6}};
static const mvpn_addr a_v6 = {.family = 6, .port = 1, .ip = {0x2a, 1, [15] = 9}};

static void test_probe(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 256; kind++) {
        for (unsigned delay = 0; delay < 256; delay++) {
            uint8_t body[MVPN_NAT_PROBE_LEN + 1] = {0};
            mvpn_nat_probe_ask got = {0}, in = {a_token, (uint8_t)kind, (uint8_t)delay};
            bool is_valid = ((kind == 1 || kind == 2) && delay == 0) || (kind == 3 && delay <= 250);
            mvpn_nat_probe_encode(body, &in);
            assert_memory_equal(body, a_token.b, 8);
            for (size_t n = 0; n <= sizeof(body); n++) {
                int err = mvpn_nat_probe_decode(&got, mvpn_bytes_of(body, n));
                assert_int_equal(err, n == 10 && is_valid ? 0 : MVPN_E_FORMAT);
            }
            if (is_valid) {
                assert_memory_equal(&got, &in, sizeof(in));
            } else {
                assert_int_equal(got.kind, 0); /* untouched */
            }
        }
    }
}

/* What of an address at `at` decides: every bit of it. */
static bool is_address(const uint8_t *at)
{
    static const uint8_t zero[16];
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool has_port = at[1] != 0 || at[2] != 0;
    return has_port && ((at[0] == 4 && memcmp(at + 7, zero, 12) == 0) ||
                        (at[0] == 6 && memcmp(at + 3, mapped, 12) != 0));
}

static void test_probe_for(void **state)
{
    (void)state;
    const mvpn_addr rows[] = {a_v4, a_v6};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t body[MVPN_NAT_PROBE_FOR_LEN + 1] = {0}, again[MVPN_NAT_PROBE_FOR_LEN];
        mvpn_nat_probe_for got = {0}, in = {a_token, rows[i]};
        mvpn_nat_probe_for_encode(body, &in);
        for (size_t n = 0; n <= sizeof(body); n++) {
            int err = mvpn_nat_probe_for_decode(&got, mvpn_bytes_of(body, n));
            assert_int_equal(err, n == 27 ? 0 : MVPN_E_FORMAT);
        }
        assert_memory_equal(got.token.b, a_token.b, 8);
        assert_true(mvpn_addr_eq(&got.to, &rows[i]));
        for (size_t bit = 0; bit < 8 * sizeof(again); bit++) {
            body[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int err = mvpn_nat_probe_for_decode(&got, mvpn_bytes_of(body, sizeof(again)));
            assert_int_equal(err == 0, is_address(body + 8));
            if (err == 0) {
                mvpn_nat_probe_for_encode(again, &got);
                assert_memory_equal(again, body, sizeof(again));
            }
            body[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void test_probed(void **state)
{
    (void)state;
    static const mvpn_addr none;
    const struct {
        mvpn_nat_probed m;
        bool is_valid;
    } rows[] = {
        {{a_token, 0, 0x1234, a_v4}, true}, {{a_token, 0, 0, a_v6}, true},
        {{a_token, 2, 0, none}, true},      {{a_token, 0, 0x1234, none}, false},
        {{a_token, 2, 1, none}, false},     {{a_token, 2, 0, a_v4}, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t body[MVPN_NAT_PROBED_LEN + 1] = {0}, again[MVPN_NAT_PROBED_LEN];
        mvpn_nat_probed got = {0};
        mvpn_nat_probed_encode(body, &rows[i].m);
        for (size_t n = 0; n <= sizeof(body); n++) {
            int err = mvpn_nat_probed_decode(&got, mvpn_bytes_of(body, n));
            assert_int_equal(err, n == 30 && rows[i].is_valid ? 0 : MVPN_E_FORMAT);
        }
        if (!rows[i].is_valid) {
            continue;
        }
        assert_memory_equal(got.token.b, a_token.b, 8);
        assert_int_equal(got.status, rows[i].m.status);
        assert_int_equal(got.other_port, rows[i].m.other_port);
        assert_true(mvpn_addr_eq(&got.seen, &rows[i].m.seen));
        for (size_t bit = 0; bit < 8 * sizeof(again); bit++) {
            static const uint8_t zero[21];
            body[bit / 8] ^= (uint8_t)(1u << bit % 8);
            bool is_valid =
                body[8] == 0 ? is_address(body + 11) : memcmp(body + 9, zero, sizeof(zero)) == 0;
            int err = mvpn_nat_probed_decode(&got, mvpn_bytes_of(body, sizeof(again)));
            assert_int_equal(err == 0, is_valid);
            if (err == 0) {
                mvpn_nat_probed_encode(again, &got);
                assert_memory_equal(again, body, sizeof(again));
            }
            body[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void test_datagram(void **state)
{
    (void)state;
    uint8_t random[MVPN_PROBE_LEN], out[MVPN_PROBE_LEN + 1] = {0};
    for (unsigned first = 0; first < 256; first++) {
        mvpn_probe_token got;
        memset(random, 0x3c, sizeof(random));
        random[0] = (uint8_t)first;
        mvpn_probe_encode(out, &a_token, random);
        assert_int_equal(out[0] & 0x3f, first & 0x3f); /* the six bits stay random */
        assert_int_equal(out[0] >> 6, 1);
        for (size_t n = 0; n <= sizeof(out); n++) {
            int err = mvpn_probe_decode(&got, mvpn_bytes_of(out, n));
            assert_int_equal(err, n == 72 ? 0 : MVPN_E_FORMAT);
        }
        assert_memory_equal(got.b, a_token.b, 8);
        assert_memory_equal(out + 9, random + 9, MVPN_PROBE_LEN - 9);
        mvpn_probe_encode(random, &a_token, random); /* in place */
        assert_memory_equal(random, out, MVPN_PROBE_LEN);
        out[0] = (uint8_t)first;
        assert_int_equal(mvpn_probe_decode(&got, mvpn_bytes_of(out, 72)) == 0, first >> 6 == 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_probe_for),
        cmocka_unit_test(test_probed),
        cmocka_unit_test(test_datagram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
