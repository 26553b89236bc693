#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "exit/dns.h"

static mvpn_rng rng;
static mvpn_addr up[2];

static mvpn_dns *make(void)
{
    mvpn_dns *dns = NULL;
    assert_int_equal(mvpn_addr_parse("11.0.0.53:5300", &up[0]), 0);
    assert_int_equal(mvpn_addr_parse("2a10::53", &up[1]), 0);
    assert_int_equal(mvpn_dns_new(up, 2, &dns), 0);
    up[1].port = 53;
    return dns;
}

static const char question[] = "\x03www\x07"
                               "Example\x03org\x00\x00\x01\x00\x01";

/* A query with id 0x1111 for www.example.org A; returns its length. */
static uint32_t build(uint8_t *p)
{
    memcpy(p, "\x11\x11\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
    memcpy(p + 12, question, sizeof(question) - 1);
    return 12 + (uint32_t)sizeof(question) - 1;
}

/* The answer to a query as it went out. */
static uint32_t answer(uint8_t *p, uint32_t len)
{
    p[2] |= 0x80;
    p[7] = 1;
    memcpy(p + len, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0b\x01\x02\x03", 16);
    return len + 16;
}

static void round_trip(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client asks = {7, 4000, 6}, got;
    mvpn_addr to;
    uint32_t open = 0, last_id = 0x1111;
    for (int i = 0; i < 50; i++) {
        uint8_t p[300];
        uint32_t len = build(p), before = len;
        assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, p, &len, 0, &to), 0);
        assert_int_equal(len, before);
        assert_int_equal(open, i + 1);
        assert_true(mvpn_addr_eq(&to, &up[0]));
        assert_int_not_equal(mvpn_load16(p), last_id);
        last_id = mvpn_load16(p);
        assert_memory_equal(p + 12, question, sizeof(question) - 1);
        len = answer(p, len);
        p[13] = 'W'; /* resolvers may change case */
        assert_int_equal(mvpn_dns_answer(dns, &to, p, len, &got), 0);
        assert_int_equal(mvpn_load16(p), 0x1111);
        assert_int_equal(got.session, 7);
        assert_int_equal(got.port, 4000);
        assert_int_equal(got.version, 6);
        /* Only once. */
        mvpn_store16(p, (uint16_t)last_id);
        assert_int_equal(mvpn_dns_answer(dns, &to, p, len, &got), MVPN_E_UNKNOWN);
    }
    assert_int_equal(mvpn_dns_open_count(dns), 0);
    mvpn_dns_free(dns);
}

static void forged_answers(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client asks = {7, 4000, 4}, got;
    mvpn_addr to, other;
    uint32_t open = 0;
    uint8_t p[300], good[300];
    uint32_t len = build(p);
    assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, p, &len, 0, &to), 0);
    len = answer(p, len);
    memcpy(good, p, len);
    other = to;
    other.port++;
    assert_int_equal(mvpn_dns_answer(dns, &other, p, len, &got), MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_dns_answer(dns, &up[1], p, len, &got), MVPN_E_UNKNOWN);
    /* Each bit of id and question matters, but for the case bit of letters. */
    for (uint32_t bit = 0; bit < (12 + (uint32_t)sizeof(question) - 1) * 8; bit++) {
        uint32_t at = bit / 8;
        bool letter = at >= 12 && ((good[at] | 32) >= 'a' && (good[at] | 32) <= 'z');
        if ((at >= 2 && at < 12) || (letter && bit % 8 == 5)) {
            continue;
        }
        memcpy(p, good, len);
        p[at] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(mvpn_dns_answer(dns, &to, p, len, &got), 0);
    }
    static const struct {
        uint32_t at;
        uint8_t value;
    } rows[] = {{2, 0x01}, {2, 0x89}, {5, 0}, {5, 2}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        memcpy(p, good, len);
        p[rows[i].at] = rows[i].value;
        assert_int_equal(mvpn_dns_answer(dns, &to, p, len, &got), MVPN_E_FORMAT);
    }
    for (uint32_t n = 0; n < 12 + sizeof(question) - 1; n++) {
        uint8_t *cut = malloc(n + 1);
        memcpy(cut, good, n);
        assert_int_equal(mvpn_dns_answer(dns, &to, cut, n, &got), MVPN_E_FORMAT);
        free(cut);
    }
    assert_int_equal(mvpn_dns_answer(dns, &to, good, len, &got), 0);
    mvpn_dns_free(dns);
}

static void query_rows(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client asks = {7, 4000, 4};
    mvpn_addr to;
    uint32_t open = 0;
    uint8_t p[600];
    uint32_t full = build(p);
    for (uint32_t n = 0; n < full; n++) {
        uint8_t *cut = malloc(n + 1);
        uint32_t len = n;
        (void)build(p);
        memcpy(cut, p, n);
        assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, cut, &len, 0, &to), MVPN_E_FORMAT);
        free(cut);
    }
    static const struct {
        const char *what;
        uint32_t at;
        uint8_t value;
    } rows[] = {
        {"answer bit", 2, 0x81},    {"opcode", 2, 0x29},
        {"no question", 5, 0},      {"two questions", 5, 2},
        {"an answer record", 7, 1}, {"an authority record", 9, 1},
        {"two additional", 11, 2},  {"one additional, not there", 11, 1},
        {"compressed", 12, 0xc0},   {"long label", 12, 64},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint32_t len = build(p);
        p[rows[i].at] = rows[i].value;
        if (mvpn_dns_query(dns, &rng, &asks, &open, p, &len, 0, &to) != MVPN_E_FORMAT) {
            fail_msg("%s", rows[i].what);
        }
    }
    uint32_t len = build(p);
    p[len++] = 0; /* a byte left over */
    assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, p, &len, 0, &to), MVPN_E_FORMAT);
    assert_int_equal(open, 0);
    assert_int_equal(mvpn_dns_open_count(dns), 0);
    /* Names of 255 bytes are the longest (with the final zero). */
    for (unsigned last = 61; last <= 62; last++) {
        memcpy(p, "\x11\x11\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
        len = 12;
        for (int i = 0; i < 3; i++) {
            p[len++] = 63;
            memset(p + len, 'a', 63);
            len += 63;
        }
        p[len++] = (uint8_t)last;
        memset(p + len, 'a', last);
        len += last;
        memcpy(p + len, "\0\0\1\0\1", 5);
        len += 5;
        assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, p, &len, 0, &to),
                         last == 61 ? 0 : MVPN_E_FORMAT);
    }
    /* The root has a name too. */
    memcpy(p, "\x11\x11\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\0\0\2\0\1", 17);
    len = 17;
    assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, p, &len, 0, &to), 0);
    mvpn_dns_free(dns);
}

static void edns_options_are_removed(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client asks = {7, 4000, 4};
    mvpn_addr to;
    uint32_t open = 0;
    uint8_t p[300];
    uint32_t len = build(p), at = len;
    p[11] = 1;
    /* OPT, size 4096, DO, with client subnet 11.22.33.0/24. */
    memcpy(p + len, "\0\0\x29\x10\0\0\0\x80\0\0\x0b\0\x08\0\x07\0\1\x18\0\x0b\x16\x21", 22);
    len += 22;
    uint8_t sent[300];
    memcpy(sent, p, len);
    assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, p, &len, 0, &to), 0);
    assert_int_equal(len, at + 11);
    assert_memory_equal(p + at, "\0\0\x29\x04\xd0\0\0\x80\0\0\0", 11);
    for (uint32_t cut = 1; cut < 22; cut++) {
        uint32_t n = at + 22 - cut;
        memcpy(p, sent, n);
        assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, p, &n, 0, &to), MVPN_E_FORMAT);
    }
    memcpy(p, sent, at + 22);
    p[at + 2] = 0xfa; /* TSIG */
    len = at + 22;
    assert_int_equal(mvpn_dns_query(dns, &rng, &asks, &open, p, &len, 0, &to), MVPN_E_FORMAT);
    mvpn_dns_free(dns);
}

static void bounds_and_time(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_addr to;
    uint8_t p[300];
    uint32_t open[70] = {0}, len;
    mvpn_dns_client c = {0, 1, 4}, got;
    for (uint32_t s = 0; s < 64; s++) {
        c.session = s;
        for (uint32_t i = 0; i < 64; i++) {
            len = build(p);
            assert_int_equal(mvpn_dns_query(dns, &rng, &c, &open[s], p, &len, MVPN_S(1) + s, &to),
                             0);
        }
        len = build(p);
        assert_int_equal(mvpn_dns_query(dns, &rng, &c, &open[s], p, &len, MVPN_S(1) + s, &to),
                         MVPN_E_LIMIT);
    }
    assert_int_equal(mvpn_dns_open_count(dns), MVPN_DNS_OPEN_MAX);
    c.session = 65;
    len = build(p);
    assert_int_equal(mvpn_dns_query(dns, &rng, &c, &open[65], p, &len, MVPN_S(2), &to),
                     MVPN_E_LIMIT);
    assert_int_equal(open[65], 0);
    mvpn_dns_forget(dns, 0);
    assert_int_equal(mvpn_dns_open_count(dns), MVPN_DNS_OPEN_MAX - 64);
    assert_true(mvpn_dns_deadline(dns) == MVPN_S(6) + 1);
    assert_false(mvpn_dns_pull_expired(dns, MVPN_S(6), &got));
    unsigned expired = 0;
    while (mvpn_dns_pull_expired(dns, MVPN_S(6) + 1, &got)) {
        assert_int_equal(got.session, 1);
        expired++;
    }
    assert_int_equal(expired, 64);
    /* The silent upstream is left for the other. */
    len = build(p);
    assert_int_equal(mvpn_dns_query(dns, &rng, &c, &open[65], p, &len, MVPN_S(7), &to), 0);
    while (mvpn_dns_pull_expired(dns, MVPN_S(100), &got)) {
    }
    assert_int_equal(mvpn_dns_open_count(dns), 0);
    assert_true(mvpn_dns_deadline(dns) == MVPN_TIME_NEVER);
    mvpn_dns_free(dns);
}

static void silent_upstream_is_changed(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client c = {0, 1, 4}, got;
    mvpn_addr to;
    uint8_t p[300];
    uint32_t open = 0, len = build(p);
    assert_int_equal(mvpn_dns_query(dns, &rng, &c, &open, p, &len, 0, &to), 0);
    assert_true(mvpn_addr_eq(&to, &up[0]));
    assert_true(mvpn_dns_pull_expired(dns, MVPN_S(5), &got));
    len = build(p);
    assert_int_equal(mvpn_dns_query(dns, &rng, &c, &open, p, &len, 0, &to), 0);
    assert_true(mvpn_addr_eq(&to, &up[1]));
    mvpn_dns_free(dns);
    assert_int_equal(mvpn_dns_new(up, 0, &dns), MVPN_E_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),      cmocka_unit_test(forged_answers),
        cmocka_unit_test(query_rows),      cmocka_unit_test(edns_options_are_removed),
        cmocka_unit_test(bounds_and_time), cmocka_unit_test(silent_upstream_is_changed),
    };
    mvpn_rng_init_test(&rng, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
