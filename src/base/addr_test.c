#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/addr.h"
#include "base/error.h"

struct parse_row {
    const char *text;
    uint8_t family; /* 0: refused */
    uint16_t port;
    const char *formatted; /* NULL: as written */
};

static const struct parse_row parse_rows[] = {
    {"1.2.3.4:443", 4, 443, NULL},
    {"1.2.3.4", 4, 0, NULL},
    {"255.255.255.255:65535", 4, 65535, NULL},
    {"0.0.0.0:1", 4, 1, NULL},
    {"1.2.3.4:0", 4, 0, "1.2.3.4"},
    {"[2a10::1]:443", 6, 443, NULL},
    {"2a10::1", 6, 0, NULL},
    {"::", 6, 0, NULL},
    {"[::]:7", 6, 7, NULL},
    {"::ffff:1.2.3.4", 6, 0, NULL},
    {"[2A10:0:0:0:0:0:0:1]:1", 6, 1, "[2a10::1]:1"},
    {"[1111:2222:3333:4444:5555:6666:7777:8888]:65535", 6, 65535, NULL},
    {"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535", 6, 65535,
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
    {"", 0, 0, NULL},
    {":", 0, 0, NULL},
    {":443", 0, 0, NULL},
    {"1.2.3", 0, 0, NULL},
    {"1.2.3.4.5", 0, 0, NULL},
    {"1.2.3.256", 0, 0, NULL},
    {"1.2.3.4:", 0, 0, NULL},
    {"1.2.3.4:65536", 0, 0, NULL},
    {"1.2.3.4:000443", 0, 0, NULL},
    {"1.2.3.4:-1", 0, 0, NULL},
    {"1.2.3.4:+1", 0, 0, NULL},
    {"1.2.3.4: 1", 0, 0, NULL},
    {"1.2.3.4:1x", 0, 0, NULL},
    {" 1.2.3.4", 0, 0, NULL},
    {"1.2.3.4 ", 0, 0, NULL},
    {"[2a10::1]", 0, 0, NULL},
    {"[2a10::1]:", 0, 0, NULL},
    {"[2a10::1", 0, 0, NULL},
    {"2a10::1]:1", 0, 0, NULL},
    {"[1.2.3.4]:1", 0, 0, NULL},
    {"[]:1", 0, 0, NULL},
    {"2a10:::1", 0, 0, NULL},
    {"fe80::1%eth0", 0, 0, NULL},
    {"example.org:443", 0, 0, NULL},
    {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd", 0, 0, NULL},
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(parse_rows); i++) {
        const struct parse_row *row = &parse_rows[i];
        mvpn_addr a;
        mvpn_addr untouched;
        char text[MVPN_ADDR_STRLEN];
        memset(&a, 0x5a, sizeof(a));
        untouched = a;
        int err = mvpn_addr_parse(row->text, &a);
        if (row->family == 0) {
            if (err != MVPN_E_FORMAT || memcmp(&a, &untouched, sizeof(a)) != 0) {
                fail_msg("accepted: %s", row->text);
            }
            continue;
        }
        if (err != 0) {
            fail_msg("refused: %s", row->text);
        }
        assert_int_equal(a.family, row->family);
        assert_int_equal(a.port, row->port);
        assert_string_equal(mvpn_addr_format(&a, text),
                            row->formatted != NULL ? row->formatted : row->text);
        mvpn_addr again;
        assert_int_equal(mvpn_addr_parse(text, &again), 0);
        assert_true(mvpn_addr_eq(&a, &again));
    }
}

static mvpn_addr addr(const char *text)
{
    mvpn_addr a = {0};
    if (mvpn_addr_parse(text, &a) != 0) {
        fail_msg("bad test row: %s", text);
    }
    return a;
}

static void test_format_none(void **state)
{
    (void)state;
    mvpn_addr none = {0};
    char text[MVPN_ADDR_STRLEN];
    assert_string_equal(mvpn_addr_format(&none, text), "none");
    assert_int_equal(mvpn_addr_ip_len(&none), 0);
}

static void test_scrub(void **state)
{
    (void)state;
    mvpn_addr v4 = addr("1.2.3.4:5");
    mvpn_addr v6 = addr("[2a10::1]:5");
    mvpn_addr none = {0};
    assert_string_equal(mvpn_addr_scrub(&v4), "[IPv4 address]");
    assert_string_equal(mvpn_addr_scrub(&v6), "[IPv6 address]");
    assert_string_equal(mvpn_addr_scrub(&none), "[no address]");
}

static void test_equal(void **state)
{
    (void)state;
    mvpn_addr a = addr("1.2.3.4:5");
    mvpn_addr b = addr("1.2.3.4:6");
    mvpn_addr c = addr("1.2.3.5:5");
    mvpn_addr d = addr("[102:304::]:5"); /* the same first bytes */
    assert_true(mvpn_addr_eq(&a, &a));
    assert_false(mvpn_addr_eq(&a, &b));
    assert_true(mvpn_addr_ip_eq(&a, &b));
    assert_false(mvpn_addr_ip_eq(&a, &c));
    assert_false(mvpn_addr_ip_eq(&a, &d));
    assert_false(mvpn_addr_eq(&a, &d));
}

/* The first and last address of each range that is not public, and their neighbours. */
static const char *const public_rows[] = {
    "1.0.0.0",         "9.255.255.255", "11.0.0.0",        "100.63.255.255",  "100.128.0.0",
    "126.255.255.255", "128.0.0.0",     "169.253.255.255", "169.255.0.0",     "172.15.255.255",
    "172.32.0.0",      "192.0.1.0",     "192.0.3.0",       "192.88.98.255",   "192.88.100.0",
    "192.167.255.255", "192.169.0.0",   "198.17.255.255",  "198.20.0.0",      "198.51.99.255",
    "198.51.101.0",    "203.0.112.255", "203.0.114.0",     "223.255.255.255", "8.8.8.8",
    "2a10::1",         "2000::",        "2001:200::",      "2001:db7:ffff::", "2001:db9::",
    "2003::1",         "3ffe:ffff::1",  "3fff:1000::",     "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8",
    "2002:808:808::1",
};

static const char *const hidden_rows[] = {
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.255",
    "192.88.99.1",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.255",
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "::8.8.8.8",
    "100::1",
    "1fff:ffff::1",
    "2001::1",
    "2001:1ff:ffff::",
    "2001:db8::",
    "2001:db8:ffff::",
    "3fff::",
    "3fff:fff:ffff::",
    "4000::",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2002:a00:1::1",
    "2002:7f00:1::1",
    "2002:c0a8:101::",
};

static void test_public(void **state)
{
    (void)state;
    mvpn_addr none = {0};
    assert_false(mvpn_addr_is_public(&none));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(public_rows); i++) {
        mvpn_addr a = addr(public_rows[i]);
        if (!mvpn_addr_is_public(&a)) {
            fail_msg("should be public: %s", public_rows[i]);
        }
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(hidden_rows); i++) {
        mvpn_addr a = addr(hidden_rows[i]);
        if (mvpn_addr_is_public(&a)) {
            fail_msg("should not be public: %s", hidden_rows[i]);
        }
    }
}

struct block_row {
    const char *a, *b;
    bool is_same;
};

static const struct block_row block_rows[] = {
    {"1.2.3.4", "1.2.255.255", true},    {"1.2.3.4", "1.3.3.4", false},
    {"2a10:1::", "2a10:1:ffff::", true}, {"2a10:1::", "2a10:2::", false},
    {"1.2.3.4", "102:304::", false},
};

static void test_same_block(void **state)
{
    (void)state;
    mvpn_addr none = {0};
    assert_false(mvpn_addr_same_block(&none, &none));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(block_rows); i++) {
        mvpn_addr a = addr(block_rows[i].a);
        mvpn_addr b = addr(block_rows[i].b);
        assert_int_equal(mvpn_addr_same_block(&a, &b), block_rows[i].is_same);
        assert_int_equal(mvpn_addr_same_block(&b, &a), block_rows[i].is_same);
    }
}

static void test_mapped(void **state)
{
    (void)state;
    static const char *const yes[] = {"::ffff:0.0.0.0", "::ffff:8.8.8.8", "[::ffff:10.0.0.1]:443",
                                      "::ffff:ffff:ffff"};
    static const char *const no[] = {"8.8.8.8",          "0.0.0.0",         "::",
                                     "::8.8.8.8",        "::fffe:8.8.8.8",  "::feff:8.8.8.8",
                                     "::1:ffff:8.8.8.8", "1::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
                                     "::ffff:0:8.8.8.8", "2002:808:808::1"};
    mvpn_addr none = {0};
    assert_false(mvpn_addr_is_mapped(&none));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(yes); i++) {
        mvpn_addr a = addr(yes[i]);
        if (!mvpn_addr_is_mapped(&a)) {
            fail_msg("should be mapped: %s", yes[i]);
        }
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(no); i++) {
        mvpn_addr a = addr(no[i]);
        if (mvpn_addr_is_mapped(&a)) {
            fail_msg("should not be mapped: %s", no[i]);
        }
    }
}

/* With one differing bit at each place, exactly the prefixes up to it match. */
static void test_prefix(void **state)
{
    (void)state;
    static const size_t lengths[] = {4, 16};
    for (size_t l = 0; l < 2; l++) {
        size_t n = lengths[l];
        uint8_t ip[16] = {0};
        uint8_t net[16] = {0};
        for (unsigned bit = 0; bit < 8 * n; bit++) {
            ip[bit / 8] = (uint8_t)(0x80u >> bit % 8);
            for (unsigned bits = 0; bits <= 8 * n; bits++) {
                assert_int_equal(mvpn_ip_in_prefix(ip, net, n, bits), bits <= bit);
            }
            ip[bit / 8] = 0;
        }
        assert_true(mvpn_ip_in_prefix(ip, net, n, (unsigned)(8 * n)));
        assert_false(mvpn_ip_in_prefix(ip, net, n, (unsigned)(8 * n) + 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),  cmocka_unit_test(test_format_none),
        cmocka_unit_test(test_scrub),  cmocka_unit_test(test_equal),
        cmocka_unit_test(test_public), cmocka_unit_test(test_same_block),
        cmocka_unit_test(test_mapped), cmocka_unit_test(test_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
