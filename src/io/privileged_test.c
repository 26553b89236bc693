#include "io/privileged.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "core/protect.h"

static const mvpn_addr pool_address4 = {.family = 4, .ip = {10, 64, 1, 2}};
static const mvpn_addr pool_address6 = {.family = 6,
                                        .ip = {0xfd, 0x6d, 0x76, 0x70, 0, 0xe, [15] = 9}};
static const mvpn_privileged_limits exit_limits = {
    .is_exit = true,
    .pool_v4 = {{.family = 4, .ip = {10, 64}}, 16},
    .pool_v6 = {{.family = 6, .ip = {0xfd, 0x6d, 0x76, 0x70, 0, 0xe}}, 64},
};
static const mvpn_privileged_limits client_limits = {.is_client = true};
static const mvpn_privileged_limits relay_limits = {.is_exit = false};

enum { PAIRS = 3 };
static uint8_t sample_pairs[PAIRS][MVPN_PRIVILEGED_PAIR_LEN];

static mvpn_privileged_request sample(enum mvpn_privileged_op op)
{
    mvpn_privileged_request m = {.op = op, .serial = 0x01020304};
    static const mvpn_addr none = {.family = 0};
    mvpn_privileged_pair_encode(&pool_address4, &pool_address6, sample_pairs[0]);
    mvpn_privileged_pair_encode(&none, &pool_address6, sample_pairs[1]);
    mvpn_privileged_pair_encode(&pool_address4, &none, sample_pairs[2]);
    m.event = op == MVPN_PRIVILEGED_PROTECT ? MVPN_PROTECT_LOST : 0;
    if (op == MVPN_PRIVILEGED_RELEASE || op == MVPN_PRIVILEGED_OPEN) {
        m.pairs = MVPN_BYTES_ARRAY(sample_pairs);
    }
    return m;
}

static void test_request_round_trip(void **state)
{
    (void)state;
    for (unsigned op = 1; op <= MVPN_PRIVILEGED_OP_LAST; op++) {
        static uint8_t bytes[MVPN_PRIVILEGED_REQUEST_MAX];
        mvpn_privileged_request in = sample((enum mvpn_privileged_op)op), out;
        size_t n = mvpn_privileged_request_encode(&in, bytes);
        assert_int_equal(n, MVPN_PRIVILEGED_HEAD_LEN + in.pairs.n);
        assert_int_equal(mvpn_privileged_request_decode(mvpn_bytes_of(bytes, n), &out), 0);
        assert_int_equal(out.op, in.op);
        assert_int_equal(out.serial, in.serial);
        assert_int_equal(out.event, in.event);
        assert_int_equal(out.pairs.n, in.pairs.n);
        assert_memory_equal(out.pairs.p, sample_pairs, out.pairs.n);
    }
}

static void test_pairs(void **state)
{
    static const mvpn_addr none = {.family = 0};
    const struct {
        mvpn_addr v4, v6;
    } rows[] = {{pool_address4, pool_address6}, {none, pool_address6}, {pool_address4, none}};
    (void)state;
    for (size_t i = 0; i < PAIRS; i++) {
        uint8_t bytes[MVPN_PRIVILEGED_PAIR_LEN];
        mvpn_addr v4, v6;
        mvpn_privileged_pair_encode(&rows[i].v4, &rows[i].v6, bytes);
        mvpn_privileged_pair_decode(bytes, &v4, &v6);
        assert_true(mvpn_addr_eq(&v4, &rows[i].v4) && mvpn_addr_eq(&v6, &rows[i].v6));
    }
}

/* As many pairs as there may be, and one more; the right message with a wrong number of them. */
static void test_request_bounds(void **state)
{
    static uint8_t pairs[MVPN_PRIVILEGED_PAIRS_MAX + 1][MVPN_PRIVILEGED_PAIR_LEN];
    static uint8_t bytes[MVPN_PRIVILEGED_REQUEST_MAX + MVPN_PRIVILEGED_PAIR_LEN];
    mvpn_privileged_request in = sample(MVPN_PRIVILEGED_RELEASE), out;
    (void)state;
    memset(pairs, 1, sizeof(pairs));
    in.pairs = mvpn_bytes_of(pairs, sizeof(pairs) - MVPN_PRIVILEGED_PAIR_LEN);
    size_t n = mvpn_privileged_request_encode(&in, bytes);
    assert_int_equal(n, MVPN_PRIVILEGED_REQUEST_MAX);
    assert_int_equal(mvpn_privileged_request_decode(mvpn_bytes_of(bytes, n), &out), 0);
    assert_int_equal(out.pairs.n, in.pairs.n);
    memset(bytes + n, 1, MVPN_PRIVILEGED_PAIR_LEN);
    bytes[6] = (MVPN_PRIVILEGED_PAIRS_MAX + 1) >> 8;
    bytes[7] = (MVPN_PRIVILEGED_PAIRS_MAX + 1) & 0xff;
    assert_int_equal(mvpn_privileged_request_decode(MVPN_BYTES_ARRAY(bytes), &out), MVPN_E_FORMAT);
    for (unsigned count = 0; count <= 2; count++) {
        bytes[6] = 0;
        bytes[7] = (uint8_t)count;
        mvpn_bytes one = mvpn_bytes_of(bytes, MVPN_PRIVILEGED_HEAD_LEN + MVPN_PRIVILEGED_PAIR_LEN);
        assert_int_equal(mvpn_privileged_request_decode(one, &out), count == 1 ? 0 : MVPN_E_FORMAT);
    }
    /* Pairs belong to a release alone, and each of them names an address. */
    bytes[7] = 1;
    mvpn_bytes one = mvpn_bytes_of(bytes, MVPN_PRIVILEGED_HEAD_LEN + MVPN_PRIVILEGED_PAIR_LEN);
    bytes[4] = MVPN_PRIVILEGED_SEAL;
    assert_int_equal(mvpn_privileged_request_decode(one, &out), MVPN_E_FORMAT);
    bytes[4] = MVPN_PRIVILEGED_RELEASE;
    memset(bytes + MVPN_PRIVILEGED_HEAD_LEN, 0, MVPN_PRIVILEGED_PAIR_LEN);
    assert_int_equal(mvpn_privileged_request_decode(one, &out), MVPN_E_FORMAT);
}

/* What the helper sees for itself the worker cannot say: that it starts, is done, or has fallen. */
static void test_request_events(void **state)
{
    static uint8_t bytes[MVPN_PRIVILEGED_REQUEST_MAX];
    (void)state;
    for (unsigned op = 1; op <= MVPN_PRIVILEGED_OP_LAST; op++) {
        for (unsigned event = 0; event < 256; event++) {
            mvpn_privileged_request in = sample((enum mvpn_privileged_op)op), out;
            bool fits = op == MVPN_PRIVILEGED_PROTECT
                            ? event == MVPN_PROTECT_ESTABLISHED || event == MVPN_PROTECT_LOST ||
                                  event == MVPN_PROTECT_DOWN
                            : event == 0;
            in.event = (uint8_t)event;
            size_t n = mvpn_privileged_request_encode(&in, bytes);
            int r = mvpn_privileged_request_decode(mvpn_bytes_of(bytes, n), &out);
            assert_int_equal(r, fits ? 0 : MVPN_E_FORMAT);
        }
    }
}

/* Every other length and every bit flipped: refused, or another message that encodes to itself. */
static void test_request_damaged(void **state)
{
    static uint8_t bytes[MVPN_PRIVILEGED_REQUEST_MAX], again[MVPN_PRIVILEGED_REQUEST_MAX];
    mvpn_privileged_request in = sample(MVPN_PRIVILEGED_RELEASE), out;
    (void)state;
    size_t size = mvpn_privileged_request_encode(&in, bytes);
    for (size_t n = 0; n <= size + 1; n++) {
        int want = n == size ? 0 : MVPN_E_FORMAT;
        assert_int_equal(mvpn_privileged_request_decode(mvpn_bytes_of(bytes, n), &out), want);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (mvpn_privileged_request_decode(mvpn_bytes_of(bytes, size), &out) == 0) {
            assert_int_equal(mvpn_privileged_request_encode(&out, again), size);
            assert_memory_equal(again, bytes, size);
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_reply_round_trip(void **state)
{
    uint8_t bytes[MVPN_PRIVILEGED_REPLY_LEN], again[MVPN_PRIVILEGED_REPLY_LEN];
    mvpn_privileged_reply out, in = {
                                   .op = MVPN_PRIVILEGED_SETUP,
                                   .serial = 7,
                                   .code = MVPN_E_CONFIG,
                                   .has_tun = true,
                                   .tun_v4 = {.family = 4, .ip = {10, 8, 0, 2}},
                                   .tun_v6 = {.family = 6, .ip = {0xfd, [15] = 2}},
                                   .gateway_v4 = {.family = 4, .ip = {10, 8, 0, 1}},
                                   .protection = {.state = MVPN_PROTECT_ERROR,
                                                  .is_in_force = true,
                                                  .allow_lan = true,
                                                  .repaired = 0x01020304},
                                   .text = "no /dev/net/tun",
                               };
    (void)state;
    mvpn_privileged_reply_encode(&in, bytes);
    assert_int_equal(mvpn_privileged_reply_decode(MVPN_BYTES_ARRAY(bytes), &out), 0);
    assert_int_equal(out.op, in.op);
    assert_int_equal(out.serial, in.serial);
    assert_int_equal(out.code, in.code);
    assert_true(out.has_tun && mvpn_addr_eq(&out.tun_v4, &in.tun_v4) &&
                mvpn_addr_eq(&out.tun_v6, &in.tun_v6) &&
                mvpn_addr_eq(&out.gateway_v4, &in.gateway_v4));
    assert_int_equal(out.protection.state, in.protection.state);
    assert_int_equal(out.protection.repaired, in.protection.repaired);
    assert_true(out.protection.is_in_force && !out.protection.lockdown && out.protection.allow_lan);
    assert_string_equal(out.text, in.text);
    for (size_t n = 0; n < sizeof(bytes); n++) {
        assert_int_equal(mvpn_privileged_reply_decode(mvpn_bytes_of(bytes, n), &out),
                         MVPN_E_FORMAT);
    }
    for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (mvpn_privileged_reply_decode(MVPN_BYTES_ARRAY(bytes), &out) == 0) {
            mvpn_privileged_reply_encode(&out, again);
            assert_memory_equal(again, bytes, sizeof(again));
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* A text cannot smuggle control characters into the log, nor run over. */
    memset(in.text, 'x', sizeof(in.text));
    memcpy(in.text, "\x1b[2J\n", 5);
    mvpn_privileged_reply_encode(&in, bytes);
    assert_int_equal(mvpn_privileged_reply_decode(MVPN_BYTES_ARRAY(bytes), &out), 0);
    assert_int_equal(strlen(out.text), MVPN_PRIVILEGED_TEXT - 1);
    assert_memory_equal(out.text, "?[2J?xx", 7);
}

/* Who may ask for what, and when. */
static void test_check(void **state)
{
    enum { E = 1, C = 2, R = 4 }; /* exit, client, relay */
    static const struct {
        enum mvpn_privileged_op op;
        unsigned when_new, when_sealed, descriptors;
    } rows[] = {
        {MVPN_PRIVILEGED_SETUP, E | C, 0, 0},
        {MVPN_PRIVILEGED_CONTROL, E | C | R, 0, 0},
        {MVPN_PRIVILEGED_SEAL, E | C | R, 0, 0},
        {MVPN_PRIVILEGED_RELEASE, 0, E, 0},
        {MVPN_PRIVILEGED_OUTSIDE, 0, C, 1},
        {MVPN_PRIVILEGED_MARK, 0, C, 1},
        {MVPN_PRIVILEGED_PROTECT, 0, C, 0},
        {MVPN_PRIVILEGED_LOOK, 0, C, 0},
        {MVPN_PRIVILEGED_FINISH, E | C | R, E | C | R, 0},
    };
    static const struct {
        unsigned who;
        const mvpn_privileged_limits *limits;
    } programs[] = {{E, &exit_limits}, {C, &client_limits}, {R, &relay_limits}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t k = 0; k < 3; k++) {
            mvpn_privileged_request m = sample(rows[i].op);
            for (unsigned n = 0; n < 3; n++) {
                bool fits = n == rows[i].descriptors;
                int new_rc = mvpn_privileged_check(programs[k].limits, MVPN_PRIVILEGED_NEW, &m, n);
                int sealed_rc =
                    mvpn_privileged_check(programs[k].limits, MVPN_PRIVILEGED_SEALED, &m, n);
                assert_int_equal(new_rc == 0, fits && (rows[i].when_new & programs[k].who) != 0);
                assert_int_equal(sealed_rc == 0,
                                 fits && (rows[i].when_sealed & programs[k].who) != 0);
            }
        }
    }
}

static void test_only_the_pool(void **state)
{
    static const struct {
        mvpn_addr v4, v6;
        int want;
    } rows[] = {
        {{.family = 4, .ip = {10, 64, 0, 2}}, {0}, 0},
        {{.family = 4, .ip = {10, 64, 255, 255}}, {0}, 0},
        {{.family = 4, .ip = {10, 64, 0, 1}}, {0}, MVPN_E_REFUSED}, /* the TUN's own */
        {{.family = 4, .ip = {10, 65, 0, 2}}, {0}, MVPN_E_REFUSED},
        {{.family = 4, .ip = {192, 168, 0, 2}}, {0}, MVPN_E_REFUSED},
        {{0}, {.family = 6, .ip = {0xfd, 0x6d, 0x76, 0x70, 0, 0xe, [15] = 2}}, 0},
        {{0}, {.family = 6, .ip = {0xfd, 0x6d, 0x76, 0x70, 0, 0xe, [15] = 1}}, MVPN_E_REFUSED},
        {{0}, {.family = 6, .ip = {0xfd, 0x6d, 0x76, 0x70, 0, 0xf, [15] = 2}}, MVPN_E_REFUSED},
        {{.family = 4, .ip = {10, 64, 0, 2}}, {.family = 6, .ip = {0x20, 1}}, MVPN_E_REFUSED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        /* Among others that are in order, wherever it stands. */
        for (size_t at = 0; at < PAIRS; at++) {
            mvpn_privileged_request m = sample(MVPN_PRIVILEGED_RELEASE);
            mvpn_privileged_pair_encode(&rows[i].v4, &rows[i].v6, sample_pairs[at]);
            assert_int_equal(mvpn_privileged_check(&exit_limits, MVPN_PRIVILEGED_SEALED, &m, 0),
                             rows[i].want);
        }
    }
}

/* A worker that somebody took over opens neither the local network nor, without domains, anything.
 */
static void test_only_public_addresses_are_opened(void **state)
{
    static const struct {
        mvpn_addr addr;
        int want;
    } rows[] = {
        {{.family = 4, .ip = {192, 0, 32, 7}}, 0},
        {{.family = 6, .ip = {0x2a, 0x10, [15] = 7}}, 0},
        {{.family = 4, .ip = {192, 168, 1, 1}}, MVPN_E_REFUSED},
        {{.family = 4, .ip = {10, 8, 0, 1}}, MVPN_E_REFUSED},
        {{.family = 4, .ip = {127, 0, 0, 1}}, MVPN_E_REFUSED},
        {{.family = 4, .ip = {224, 0, 0, 1}}, MVPN_E_REFUSED},
        {{.family = 6, .ip = {0xfe, 0x80, [15] = 7}}, MVPN_E_REFUSED},
        {{.family = 6, .ip = {0xfd, 1, [15] = 7}}, MVPN_E_REFUSED},
    };
    static const mvpn_addr none = {.family = 0};
    const mvpn_privileged_limits with_domains = {.is_client = true, .has_domains = true};
    const mvpn_privileged_limits without = {.is_client = true};
    static uint8_t bytes[MVPN_PRIVILEGED_REQUEST_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t pairs[(MVPN_SPLIT_ANSWER_MAX + 1) * MVPN_PRIVILEGED_PAIR_LEN];
        mvpn_privileged_request m = {.op = MVPN_PRIVILEGED_OPEN}, out;
        bool is_v4 = rows[i].addr.family == 4;
        for (size_t k = 0; k <= MVPN_SPLIT_ANSWER_MAX; k++) {
            mvpn_privileged_pair_encode(is_v4 ? &rows[i].addr : &none,
                                        is_v4 ? &none : &rows[i].addr,
                                        pairs + k * MVPN_PRIVILEGED_PAIR_LEN);
        }
        m.pairs = mvpn_bytes_of(pairs, sizeof(pairs) - MVPN_PRIVILEGED_PAIR_LEN);
        size_t n = mvpn_privileged_request_encode(&m, bytes);
        assert_int_equal(mvpn_privileged_request_decode(mvpn_bytes_of(bytes, n), &out), 0);
        assert_int_equal(mvpn_privileged_check(&with_domains, MVPN_PRIVILEGED_SEALED, &out, 0),
                         rows[i].want);
        assert_int_equal(mvpn_privileged_check(&without, MVPN_PRIVILEGED_SEALED, &out, 0),
                         MVPN_E_PROTOCOL);
        assert_int_equal(mvpn_privileged_check(&with_domains, MVPN_PRIVILEGED_NEW, &out, 0),
                         MVPN_E_PROTOCOL);
        m.pairs = mvpn_bytes_of(pairs, sizeof(pairs)); /* one too many */
        n = mvpn_privileged_request_encode(&m, bytes);
        assert_int_equal(mvpn_privileged_request_decode(mvpn_bytes_of(bytes, n), &out),
                         MVPN_E_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_round_trip),
        cmocka_unit_test(test_request_damaged),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_request_bounds),
        cmocka_unit_test(test_request_events),
        cmocka_unit_test(test_reply_round_trip),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_only_the_pool),
        cmocka_unit_test(test_only_public_addresses_are_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
