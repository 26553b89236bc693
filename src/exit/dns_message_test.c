#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "exit/dns_message.h"

/* An answer to "a." with records given as bytes; `counts`: answer, authority, additional. */
static uint32_t build(uint8_t *p, uint16_t flags, const char *counts, uint16_t type,
                      const char *records, size_t n)
{
    memcpy(p, "\x12\x34\0\0\0\1\0\0\0\0\0\0\1a\0\0\0\0\1", 19);
    mvpn_store16(p + 2, flags);
    mvpn_store16(p + 15, type);
    p[7] = (uint8_t)(counts[0] - '0');
    p[9] = (uint8_t)(counts[1] - '0');
    p[11] = (uint8_t)(counts[2] - '0');
    memcpy(p + 19, records, n);
    return 19 + (uint32_t)n;
}

#define RR(name, type, ttl, len, data) name "\0" type "\0\1" ttl "\0" len data
#define A(data) RR("\xc0\x0c", "\1", "\0\0\1\0", "\4", data)
#define AAAA(data) RR("\xc0\x0c", "\x1c", "\0\0\0\x80", "\x10", data)
#define CNAME RR("\xc0\x0c", "\5", "\0\0\2\0", "\4", "\1b\xc0\x0c")
#define SOA RR("\0", "\6", "\0\0\1\0", "\x16", "\0\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\x40")
#define OPT "\0\0\x29\4\xd0\0\0\0\0\0\0"
#define PUBLIC4 "\x0b\1\2\3"
#define PUBLIC6 "\x2a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\1"

static void answer_rows(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const char *counts;
        uint16_t flags;
        const char *records;
        size_t n;
        bool is_private;
        uint32_t ttl;
    } rows[] = {
#define ROW(what, counts, flags, records, private, ttl)                                            \
    {what, counts, flags, records, sizeof(records) - 1, private, ttl}
        ROW("public", "100", 0x8180, A(PUBLIC4), false, 256),
        ROW("public v6", "100", 0x8180, AAAA(PUBLIC6), false, 128),
        ROW("both", "200", 0x8180, A(PUBLIC4) AAAA(PUBLIC6), false, 128),
        ROW("chain", "200", 0x8180, CNAME A(PUBLIC4), false, 256),
        ROW("with EDNS", "101", 0x8180, A(PUBLIC4) OPT, false, 256),
        ROW("private 10", "100", 0x8180, A("\x0a\1\2\3"), true, 256),
        ROW("private 192.168", "100", 0x8180, A("\xc0\xa8\1\1"), true, 256),
        ROW("loopback", "100", 0x8180, A("\x7f\0\0\1"), true, 256),
        ROW("link-local", "100", 0x8180, A("\xa9\xfe\xa9\xfe"), true, 256),
        ROW("zero", "100", 0x8180, A("\0\0\0\0"), true, 256),
        ROW("second of two", "200", 0x8180, A(PUBLIC4) A("\x7f\0\0\1"), true, 256),
        ROW("behind a chain", "300", 0x8180, CNAME CNAME A("\x0a\0\0\1"), true, 256),
        ROW("in authority", "110", 0x8180, A(PUBLIC4) A("\x0a\0\0\1"), true, 256),
        ROW("in additional", "101", 0x8180, A(PUBLIC4) A("\x0a\0\0\1"), true, 256),
        ROW("v6 loopback", "100", 0x8180, AAAA("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"), true, 128),
        ROW("ULA", "100", 0x8180, AAAA("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"), true, 128),
        ROW("v6 link-local", "100", 0x8180, AAAA("\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\1"), true,
            128),
        ROW("mapped", "100", 0x8180, AAAA("\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1"), true, 128),
        ROW("6to4", "100", 0x8180, AAAA("\x20\2\x0a\0\0\1\0\0\0\0\0\0\0\0\0\1"), true, 128),
        ROW("NAT64", "100", 0x8180, AAAA("\0\x64\xff\x9b\0\0\0\0\0\0\0\0\x0a\0\0\1"), true, 128),
        ROW("odd length", "100", 0x8180, RR("\0", "\1", "\0\0\0\1", "\5", "\x0b\1\2\3\4"), true, 1),
        ROW("A6", "100", 0x8180, RR("\0", "\x26", "\0\0\0\1", "\1", "\x80"), true, 1),
        ROW("HTTPS", "100", 0x8180, RR("\0", "\x41", "\0\0\0\1", "\3", "\0\1\0"), false, 1),
        ROW("HTTPS hint", "100", 0x8180,
            RR("\0", "\x41", "\0\0\0\1", "\x0f",
               "\0\1\0"
               "\0\4\0\10" PUBLIC4 "\x0b\1\2\4"),
            false, 1),
        ROW("HTTPS private hint", "100", 0x8180,
            RR("\0", "\x41", "\0\0\0\1", "\x0f",
               "\0\1\0"
               "\0\4\0\10" PUBLIC4 "\x0a\1\2\4"),
            true, 1),
        ROW("SVCB private v6 hint", "100", 0x8180,
            RR("\0", "\x40", "\0\0\0\1", "\x17",
               "\0\1\0"
               "\0\6\0\x10"
               "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"),
            true, 1),
        ROW("HTTPS cut", "100", 0x8180, RR("\0", "\x41", "\0\0\0\1", "\5", "\0\1\0\0\4"), true, 1),
        ROW("no such name", "010", 0x8183, SOA, false, 64),
        ROW("no such type", "010", 0x8180, SOA, false, 64),
        ROW("no SOA", "000", 0x8183, "", false, 0),
        ROW("server failure", "000", 0x8182, "", false, 0),
        ROW("refused with SOA", "010", 0x8185, SOA, false, 0),
        ROW("TTL 0", "200", 0x8180, A(PUBLIC4) RR("\0", "\1", "\0\0\0\0", "\4", PUBLIC4), false, 0),
        ROW("TTL with top bit", "100", 0x8180, RR("\0", "\1", "\x80\0\0\1", "\4", PUBLIC4), false,
            0),
        ROW("TTL of a day", "100", 0x8180, RR("\0", "\1", "\0\1\x51\x80", "\4", PUBLIC4), false,
            MVPN_DNS_TTL_MAX),
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t p[256];
        mvpn_dns_answer_info info;
        uint32_t n = build(p, rows[i].flags, rows[i].counts, 1, rows[i].records, rows[i].n);
        int r = mvpn_dns_answer_read(p, n, &info);
        if (r != 0 || info.has_private != rows[i].is_private || info.ttl != rows[i].ttl) {
            fail_msg("%s: %d, private %d, %u s", rows[i].what, r, info.has_private, info.ttl);
        }
        /* Cut anywhere, or with a byte more: refused. */
        for (uint32_t cut = 0; cut < n; cut++) {
            uint8_t *copy = malloc(cut + 1);
            memcpy(copy, p, cut);
            assert_int_equal(mvpn_dns_answer_read(copy, cut, &info), MVPN_E_FORMAT);
            free(copy);
        }
        p[n] = 0;
        assert_int_equal(mvpn_dns_answer_read(p, n + 1, &info), MVPN_E_FORMAT);
        /* Truncated: nothing of it is read. */
        p[2] |= 2;
        assert_int_equal(mvpn_dns_answer_read(p, 19, &info), 0);
        assert_int_equal(info.ttl, 0);
    }
}

static void refused_rows(void **state)
{
    (void)state;
    static const struct {
        uint16_t type;
        int code;
    } rows[] = {{1, 0}, {28, 0}, {255, 0}, {251, MVPN_E_FORMAT}, {252, MVPN_E_FORMAT}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t p[64];
        mvpn_dns_query_info info;
        uint32_t n = build(p, 0x0100, "000", rows[i].type, "", 0);
        assert_int_equal(mvpn_dns_query_read(p, &n, 1232, &info), rows[i].code);
        if (rows[i].code == 0) {
            assert_int_equal(info.question.type, rows[i].type);
            assert_int_equal(mvpn_dns_make_empty(p, &info.question), 19);
            assert_memory_equal(p, "\x12\x34\x81\x80\0\1\0\0\0\0\0\0", 12);
        }
    }
    /* Names that lead nowhere, and labels of a reserved kind. */
    static const char *const names[] = {"\x40", "\x80", "\xbf", "\x3f"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        uint8_t p[64];
        char record[16] = {0};
        mvpn_dns_answer_info info;
        record[0] = names[i][0];
        uint32_t n = build(p, 0x8180, "100", 1, record, sizeof(record));
        assert_int_equal(mvpn_dns_answer_read(p, n, &info), MVPN_E_FORMAT);
    }
}

static void ages_every_record_but_edns(void **state)
{
    (void)state;
    static const char records[] = A(PUBLIC4) AAAA(PUBLIC6) OPT;
    uint8_t p[128], old[128];
    uint32_t n = build(p, 0x8180, "201", 1, records, sizeof(records) - 1);
    memcpy(old, p, n);
    mvpn_dns_age(p, n, 0);
    assert_memory_equal(p, old, n);
    mvpn_dns_age(p, n, 200);
    mvpn_store32(old + 19 + 6, 56);
    mvpn_store32(old + 19 + 16 + 6, 0);
    assert_memory_equal(p, old, n);
    mvpn_dns_age(p, 5, 1); /* nothing to age */
}

static void walks_the_records(void **state)
{
    static const char records[] = CNAME A(PUBLIC4) SOA OPT;
    static const struct {
        enum mvpn_dns_section section;
        uint16_t type, class;
        uint32_t ttl;
    } rows[] = {
        {MVPN_DNS_ANSWER, 5, 1, 512},
        {MVPN_DNS_ANSWER, 1, 1, 256},
        {MVPN_DNS_AUTHORITY, 6, 1, 256},
        {MVPN_DNS_ADDITIONAL, 41, 0x4d0, 0},
    };
    uint8_t message[512];
    uint32_t len = build(message, 0x8180, "211", 1, records, sizeof(records) - 1);
    mvpn_dns_records walk;
    mvpn_dns_record rr;
    (void)state;
    mvpn_dns_records_begin(&walk, message, len);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(mvpn_dns_records_next(&walk, &rr));
        assert_int_equal(rr.section, rows[i].section);
        assert_int_equal(rr.type, rows[i].type);
        assert_int_equal(rr.class, rows[i].class);
        assert_int_equal(rr.ttl, rows[i].ttl);
    }
    assert_false(mvpn_dns_records_next(&walk, &rr));
    mvpn_dns_records_begin(&walk, message, 14);
    assert_false(mvpn_dns_records_next(&walk, &rr));
}

static void reads_names(void **state)
{
    static const uint8_t bytes[] = "\1A\1b\0\3WWW\xc0\0\xc0\x05\xc0\x0d\xc0\x0f\1x";
    static const struct {
        size_t at, n;
        const char *name;
    } rows[] = {
        {0, 5, "\1a\1b"},      {2, 3, "\1b"},          {4, 1, ""},
        {5, 9, "\3www\1a\1b"}, {11, 9, "\3www\1a\1b"}, /* by two pointers */
        {13, 0, ""},                                   /* to itself */
        {15, 0, ""},                                   /* the same */
        {17, 0, ""},                                   /* cut off */
        {99, 0, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t name[MVPN_DNS_NAME_MAX];
        size_t n = mvpn_dns_name_read(mvpn_bytes_of(bytes, sizeof(bytes) - 1), rows[i].at, name);
        assert_int_equal(n, rows[i].n);
        assert_memory_equal(name, rows[i].name, n);
    }
    uint8_t longest[300], name[MVPN_DNS_NAME_MAX];
    for (size_t i = 0; i < sizeof(longest); i++) {
        longest[i] = i % 2 == 0;
    }
    longest[254] = 0; /* 127 labels and the root */
    assert_int_equal(mvpn_dns_name_read(mvpn_bytes_of(longest, 255), 0, name), 255);
    longest[254] = 1;
    longest[256] = 0;
    assert_int_equal(mvpn_dns_name_read(mvpn_bytes_of(longest, 257), 0, name), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answer_rows),
        cmocka_unit_test(refused_rows),
        cmocka_unit_test(ages_every_record_but_edns),
        cmocka_unit_test(walks_the_records),
        cmocka_unit_test(reads_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
