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

static int ask(mvpn_dns *dns, const mvpn_dns_client *client, mvpn_dns_session *session, uint8_t *p,
               uint32_t *len, mvpn_time now, mvpn_addr *to)
{
    return mvpn_dns_query(dns, &rng, client, session, true, p, len, 600, now, to);
}

static int answered(mvpn_dns *dns, const mvpn_addr *from, uint8_t *p, uint32_t len,
                    mvpn_dns_client *got)
{
    return mvpn_dns_answer(dns, from, false, p, &len, 0, got);
}

static void round_trip(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client asks = {7, 4000, 6, false}, got;
    mvpn_addr to;
    mvpn_dns_session open;
    mvpn_dns_session_init(&open);
    uint32_t last_id = 0x1111;
    for (int i = 0; i < 50; i++) {
        uint8_t p[600];
        uint32_t len = build(p), before = len;
        assert_int_equal(ask(dns, &asks, &open, p, &len, MVPN_S(61) * (unsigned)i, &to), 0);
        assert_int_equal(len, before);
        assert_int_equal(open.open_count, 1);
        assert_true(mvpn_addr_eq(&to, &up[0]));
        assert_int_not_equal(mvpn_load16(p), last_id);
        last_id = mvpn_load16(p);
        assert_memory_equal(p + 12, question, sizeof(question) - 1);
        len = answer(p, len);
        p[13] = 'W'; /* resolvers may change case */
        assert_int_equal(answered(dns, &to, p, len, &got), 0);
        assert_int_equal(mvpn_load16(p), 0x1111);
        assert_int_equal(got.session, 7);
        assert_int_equal(got.port, 4000);
        assert_int_equal(got.version, 6);
        /* Only once. */
        mvpn_store16(p, (uint16_t)last_id);
        assert_int_equal(answered(dns, &to, p, len, &got), MVPN_E_UNKNOWN);
    }
    assert_int_equal(mvpn_dns_open_count(dns), 0);
    mvpn_dns_free(dns);
}

static void forged_answers(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client asks = {7, 4000, 4, false}, got;
    mvpn_addr to, other;
    mvpn_dns_session open;
    mvpn_dns_session_init(&open);
    uint8_t p[600], good[600];
    uint32_t len = build(p);
    assert_int_equal(ask(dns, &asks, &open, p, &len, 0, &to), 0);
    len = answer(p, len);
    memcpy(good, p, len);
    other = to;
    other.port++;
    assert_int_equal(answered(dns, &other, p, len, &got), MVPN_E_UNKNOWN);
    assert_int_equal(answered(dns, &up[1], p, len, &got), MVPN_E_UNKNOWN);
    /* Each bit of id and question matters, but for the case bit of letters. */
    for (uint32_t bit = 0; bit < (12 + (uint32_t)sizeof(question) - 1) * 8; bit++) {
        uint32_t at = bit / 8;
        bool letter = at >= 12 && ((good[at] | 32) >= 'a' && (good[at] | 32) <= 'z');
        if ((at >= 2 && at < 12) || (letter && bit % 8 == 5)) {
            continue;
        }
        memcpy(p, good, len);
        p[at] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(answered(dns, &to, p, len, &got), 0);
    }
    static const struct {
        uint32_t at;
        uint8_t value;
    } rows[] = {{2, 0x01}, {2, 0x89}, {5, 0}, {5, 2}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        memcpy(p, good, len);
        p[rows[i].at] = rows[i].value;
        assert_int_equal(answered(dns, &to, p, len, &got), MVPN_E_FORMAT);
    }
    for (uint32_t n = 0; n < 12 + sizeof(question) - 1; n++) {
        uint8_t *cut = malloc(n + 1);
        memcpy(cut, good, n);
        assert_int_equal(answered(dns, &to, cut, n, &got), MVPN_E_FORMAT);
        free(cut);
    }
    assert_int_equal(answered(dns, &to, good, len, &got), 0);
    mvpn_dns_free(dns);
}

static void query_rows(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client asks = {7, 4000, 4, false};
    mvpn_addr to;
    mvpn_dns_session open;
    mvpn_dns_session_init(&open);
    uint8_t p[600];
    uint32_t full = build(p);
    for (uint32_t n = 0; n < full; n++) {
        uint8_t *cut = malloc(n + 1);
        uint32_t len = n;
        (void)build(p);
        memcpy(cut, p, n);
        assert_int_equal(ask(dns, &asks, &open, cut, &len, 0, &to), MVPN_E_FORMAT);
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
        if (ask(dns, &asks, &open, p, &len, 0, &to) != MVPN_E_FORMAT) {
            fail_msg("%s", rows[i].what);
        }
    }
    uint32_t len = build(p);
    p[len++] = 0; /* a byte left over */
    assert_int_equal(ask(dns, &asks, &open, p, &len, 0, &to), MVPN_E_FORMAT);
    assert_int_equal(open.open_count, 0);
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
        assert_int_equal(ask(dns, &asks, &open, p, &len, 0, &to), last == 61 ? 0 : MVPN_E_FORMAT);
    }
    /* The root has a name too. */
    memcpy(p, "\x11\x11\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\0\0\2\0\1", 17);
    len = 17;
    assert_int_equal(ask(dns, &asks, &open, p, &len, 0, &to), 0);
    mvpn_dns_free(dns);
}

static void edns_options_are_removed(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_client asks = {7, 4000, 4, false};
    mvpn_addr to;
    mvpn_dns_session open;
    mvpn_dns_session_init(&open);
    uint8_t p[600];
    uint32_t len = build(p), at = len;
    p[11] = 1;
    /* OPT, size 4096, DO, with client subnet 11.22.33.0/24. */
    memcpy(p + len, "\0\0\x29\x10\0\0\0\x80\0\0\x0b\0\x08\0\x07\0\1\x18\0\x0b\x16\x21", 22);
    len += 22;
    uint8_t sent[600];
    memcpy(sent, p, len);
    assert_int_equal(ask(dns, &asks, &open, p, &len, 0, &to), 0);
    assert_int_equal(len, at + 11);
    assert_memory_equal(p + at, "\0\0\x29\x04\xd0\0\0\x80\0\0\0", 11);
    for (uint32_t cut = 1; cut < 22; cut++) {
        uint32_t n = at + 22 - cut;
        memcpy(p, sent, n);
        assert_int_equal(ask(dns, &asks, &open, p, &n, 0, &to), MVPN_E_FORMAT);
    }
    memcpy(p, sent, at + 22);
    p[at + 2] = 0xfa; /* TSIG */
    len = at + 22;
    assert_int_equal(ask(dns, &asks, &open, p, &len, 0, &to), MVPN_E_FORMAT);
    mvpn_dns_free(dns);
}

static void bounds_and_time(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_addr to;
    uint8_t p[600];
    mvpn_dns_session open[70];
    uint32_t len;
    mvpn_dns_client c = {0, 1, 4, false}, got;
    for (size_t i = 0; i < 70; i++) {
        mvpn_dns_session_init(&open[i]);
    }
    for (uint32_t s = 0; s < 64; s++) {
        c.session = s;
        for (uint32_t i = 0; i < 64; i++) {
            len = build(p);
            assert_int_equal(ask(dns, &c, &open[s], p, &len, MVPN_S(1) + s, &to), 0);
        }
        len = build(p);
        assert_int_equal(ask(dns, &c, &open[s], p, &len, MVPN_S(1) + s, &to), MVPN_E_LIMIT);
    }
    assert_int_equal(mvpn_dns_open_count(dns), MVPN_DNS_OPEN_MAX);
    c.session = 65;
    len = build(p);
    assert_int_equal(ask(dns, &c, &open[65], p, &len, MVPN_S(2), &to), MVPN_E_LIMIT);
    assert_int_equal(open[65].open_count, 0);
    mvpn_dns_forget(dns, &open[0]);
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
    assert_int_equal(ask(dns, &c, &open[65], p, &len, MVPN_S(7), &to), 0);
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
    mvpn_dns_client c = {0, 1, 4, false}, got;
    mvpn_addr to;
    uint8_t p[600];
    mvpn_dns_session open;
    mvpn_dns_session_init(&open);
    uint32_t len = build(p);
    assert_int_equal(ask(dns, &c, &open, p, &len, 0, &to), 0);
    assert_true(mvpn_addr_eq(&to, &up[0]));
    assert_true(mvpn_dns_pull_expired(dns, MVPN_S(5), &got));
    len = build(p);
    assert_int_equal(ask(dns, &c, &open, p, &len, 0, &to), 0);
    assert_true(mvpn_addr_eq(&to, &up[1]));
    mvpn_dns_free(dns);
    assert_int_equal(mvpn_dns_new(up, 0, &dns), MVPN_E_INVAL);
}

/* Ask as `session` at `now`; true if it was answered from what is kept. The answer has records with
 * `ttl`, unless 0. */
static bool ask_and_answer(mvpn_dns *dns, mvpn_dns_session *session, uint8_t kind, uint32_t ttl,
                           mvpn_time now, uint8_t p[static 600], uint32_t *ret_len)
{
    mvpn_dns_client asks = {7, 4000, 4, false}, got;
    mvpn_addr to;
    uint32_t len = build(p);
    p[13] = kind; /* instead of the first w */
    int r = mvpn_dns_query(dns, &rng, &asks, session, true, p, &len, 600, now, &to);
    *ret_len = len;
    if (r == MVPN_DNS_ANSWERED) {
        return true;
    }
    assert_int_equal(r, 0);
    len = answer(p, len);
    mvpn_store32(p + len - 10, ttl);
    assert_int_equal(mvpn_dns_answer(dns, &to, false, p, &len, now, &got), 0);
    *ret_len = len;
    return false;
}

static void cache_of_a_session(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_session a, b;
    uint8_t p[600], first[600];
    uint32_t len, first_len;
    mvpn_dns_session_init(&a);
    mvpn_dns_session_init(&b);
    assert_false(ask_and_answer(dns, &a, 'w', 60, MVPN_S(10), first, &first_len));
    assert_true(ask_and_answer(dns, &a, 'W', 60, MVPN_S(25), p, &len)); /* however it is spelled */
    assert_int_equal(len, first_len);
    assert_int_equal(p[13], 'W'); /* as asked */
    assert_int_equal(mvpn_load16(p), 0x1111);
    assert_int_equal(mvpn_load32(p + len - 10), 45);
    p[13] = 'w';
    mvpn_store32(p + len - 10, 60);
    assert_memory_equal(p, first, len);
    assert_int_equal(mvpn_dns_open_count(dns), 0);
    /* Nobody else's question is answered by it. */
    assert_false(ask_and_answer(dns, &b, 'w', 0, MVPN_S(25), p, &len));
    assert_int_equal(b.cached_count, 0); /* 0 seconds are not kept */
    /* Other names, and after its time. */
    assert_false(ask_and_answer(dns, &a, 'x', 60, MVPN_S(25), p, &len));
    assert_true(ask_and_answer(dns, &a, 'w', 60, MVPN_S(70) - 1, p, &len));
    assert_false(ask_and_answer(dns, &a, 'w', 0, MVPN_S(70), p, &len));
    assert_int_equal(a.cached_count, 1);
    mvpn_dns_forget(dns, &a);
    assert_int_equal(a.cached_count, 0);
    assert_false(ask_and_answer(dns, &a, 'x', 60, MVPN_S(26), p, &len));
    mvpn_dns_free(dns);
}

/* A session keeps 64 at most, all of them MVPN_DNS_CACHE_MAX: the oldest go. */
static void cache_is_bounded(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    static mvpn_dns_session many[80];
    uint8_t p[600];
    uint32_t len;
    for (size_t s = 0; s < 80; s++) {
        mvpn_dns_session_init(&many[s]);
        for (unsigned i = 0; i < 70; i++) {
            assert_false(
                ask_and_answer(dns, &many[s], (uint8_t)(128 + i), 3000, MVPN_S(s), p, &len));
        }
    }
    uint32_t kept = 0;
    for (size_t s = 0; s < 80; s++) {
        kept += many[s].cached_count;
    }
    assert_int_equal(kept, MVPN_DNS_CACHE_MAX);
    assert_int_equal(many[0].cached_count, 0);
    assert_int_equal(many[79].cached_count, MVPN_DNS_CACHE_SESSION_MAX);
    assert_true(ask_and_answer(dns, &many[79], 128 + 69, 0, MVPN_S(80), p, &len));
    assert_true(ask_and_answer(dns, &many[79], 128 + 6, 0, MVPN_S(80), p, &len));
    assert_false(ask_and_answer(dns, &many[79], 128 + 5, 0, MVPN_S(80), p, &len));
    for (size_t s = 0; s < 80; s++) {
        mvpn_dns_forget(dns, &many[s]);
    }
    mvpn_dns_free(dns);
}

static void queries_differ_by_flags(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_session a;
    mvpn_addr to;
    mvpn_dns_client asks = {7, 4000, 4, false};
    uint8_t p[600];
    uint32_t len;
    mvpn_dns_session_init(&a);
    assert_false(ask_and_answer(dns, &a, 'w', 60, 0, p, &len));
    for (unsigned row = 0; row < 4; row++) {
        len = build(p);
        p[3] = row == 0 ? 0x10 : 0; /* checking disabled */
        p[2] = row == 1 ? 0 : 1;    /* no recursion */
        if (row == 2) {             /* DNSSEC wanted */
            p[11] = 1;
            memcpy(p + len, "\0\0\x29\x10\0\0\0\x80\0\0\0", 11);
            len += 11;
        }
        if (row == 3) { /* with EDNS; its answer is kept, too */
            p[11] = 1;
            memcpy(p + len, "\0\0\x29\x10\0\0\0\0\0\0\0", 11);
            len += 11;
        }
        assert_int_equal(ask(dns, &asks, &a, p, &len, 0, &to), 0);
    }
    mvpn_dns_client got;
    p[2] |= 0x80;
    p[7] = 1;
    p[11] = 0;
    memcpy(p + len - 11, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0b\1\2\3", 16);
    assert_int_equal(answered(dns, &to, p, len + 5, &got), 0);
    assert_int_equal(a.cached_count, 2);
    for (unsigned wants_dnssec = 0; wants_dnssec < 2; wants_dnssec++) {
        len = build(p);
        p[11] = 1;
        memcpy(p + len, "\0\0\x29\x10\0\0\0\0\0\0\0", 11);
        p[len + 7] = wants_dnssec ? 0x80 : 0;
        len += 11;
        assert_int_equal(ask(dns, &asks, &a, p, &len, 0, &to),
                         wants_dnssec ? 0 : MVPN_DNS_ANSWERED);
    }
    mvpn_dns_forget(dns, &a);
    assert_int_equal(mvpn_dns_open_count(dns), 0);
    mvpn_dns_free(dns);
}

static void without_v6_there_are_no_v6_addresses(void **state)
{
    (void)state;
    mvpn_dns *dns = make();
    mvpn_dns_session a;
    mvpn_addr to;
    mvpn_dns_client asks = {7, 4000, 4, false};
    uint8_t p[600];
    mvpn_dns_session_init(&a);
    for (unsigned has_v6 = 0; has_v6 < 2; has_v6++) {
        uint32_t len = build(p), before = len;
        p[len - 3] = 28;
        p[11] = 1; /* with EDNS */
        memcpy(p + len, "\0\0\x29\x10\0\0\0\0\0\0\0", 11);
        len += 11;
        int r = mvpn_dns_query(dns, &rng, &asks, &a, has_v6, p, &len, 600, 0, &to);
        assert_int_equal(r, has_v6 ? 0 : MVPN_DNS_ANSWERED);
        if (!has_v6) {
            assert_int_equal(len, before);
            assert_memory_equal(p, "\x11\x11\x81\x80\0\1\0\0\0\0\0\0\3www", 16);
        }
    }
    mvpn_dns_forget(dns, &a);
    mvpn_dns_free(dns);
}

/* Answers to TCP and UDP do not stand for one another; private and cut ones lose their records. */
static void answers_of_each_kind(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        bool asked_by_stream, answered_by_stream, is_private, is_cut;
        int code;
        uint8_t flags;
    } rows[] = {
        {"by UDP", false, false, false, false, 0, 0x81},
        {"by TCP", true, true, false, false, 0, 0x81},
        {"TCP for UDP", false, true, false, false, MVPN_E_UNKNOWN, 0},
        {"UDP for TCP", true, false, false, false, MVPN_E_UNKNOWN, 0},
        {"private", false, false, true, false, MVPN_DNS_EMPTIED, 0x81},
        {"private by TCP", true, true, true, false, MVPN_DNS_EMPTIED, 0x81},
        {"cut", false, false, false, true, 0, 0x83},
        {"cut and private", false, false, true, true, 0, 0x83},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_dns *dns = make();
        mvpn_dns_session a;
        mvpn_addr to;
        mvpn_dns_client asks = {7, 4000, 4, rows[i].asked_by_stream}, got;
        uint8_t p[600];
        uint32_t len = build(p), asked = len;
        mvpn_dns_session_init(&a);
        assert_int_equal(ask(dns, &asks, &a, p, &len, 0, &to), 0);
        len = answer(p, len);
        if (rows[i].is_private) {
            memcpy(p + len - 4, "\xc0\xa8\1\1", 4);
        }
        p[2] |= rows[i].is_cut ? 2 : 0;
        int r = mvpn_dns_answer(dns, &to, rows[i].answered_by_stream, p, &len, 0, &got);
        if (r != rows[i].code) {
            fail_msg("%s: %d", rows[i].what, r);
        }
        if (r >= 0) {
            bool is_empty = rows[i].is_private || rows[i].is_cut;
            assert_int_equal(p[2], rows[i].flags);
            assert_int_equal(p[3] & 15, 0);
            assert_int_equal(len, is_empty ? asked : asked + 16);
            assert_int_equal(p[7], !is_empty);
            assert_int_equal(a.cached_count, !is_empty);
            assert_int_equal(got.is_stream, rows[i].asked_by_stream);
        }
        mvpn_dns_forget(dns, &a);
        mvpn_dns_free(dns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(forged_answers),
        cmocka_unit_test(query_rows),
        cmocka_unit_test(edns_options_are_removed),
        cmocka_unit_test(bounds_and_time),
        cmocka_unit_test(silent_upstream_is_changed),
        cmocka_unit_test(cache_of_a_session),
        cmocka_unit_test(cache_is_bounded),
        cmocka_unit_test(queries_differ_by_flags),
        cmocka_unit_test(without_v6_there_are_no_v6_addresses),
        cmocka_unit_test(answers_of_each_kind),
    };
    mvpn_rng_init_test(&rng, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
