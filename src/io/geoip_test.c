/* Countries of addresses: the tables of tor-geoipdb, and texts that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/macros.h"
#include "io/geoip.h"

static const char v4[] = "# comment\n\n16777216,16777471,AU\n16777472,16777727,AU\n"
                         "16777728,16778239,CN\n16778496,16778751,??\n16778752,16778752,EU\n"
                         "4278190080,4294967295,CH\n";
static const char v6[] = "# comment\n2001::,2001:0:ffff:ffff:ffff:ffff:ffff:ffff,??\n"
                         "2001:200::,2001:200:134:ffff:ffff:ffff:ffff:ffff,JP\n"
                         "2001:200:135::,2001:200:135:0:7fff:ffff:ffff:ffff,US\n"
                         "2001:200:135:0:8000::,2001:200:135:0:ffff:ffff:ffff:ffff,DE\n"
                         "2001:200:135:1::,2001:200:135:1:ffff:ffff:ffff:ffff,SE";

static mvpn_geoip *geoip;
static mvpn_fault fault;

static int parse(uint8_t family, const char *text, size_t n)
{
    return mvpn_geoip_parse(geoip, family, "table", (mvpn_bytes){(const uint8_t *)text, n}, &fault);
}

static int setup(void **state)
{
    (void)state;
    return mvpn_geoip_new(&geoip);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_geoip_free(geoip);
    return 0;
}

static void expect(const char *address, const char *country)
{
    mvpn_addr a;
    char found[3] = "";
    assert_int_equal(mvpn_addr_parse(address, &a), 0);
    assert_int_equal(mvpn_geoip_country(geoip, &a, found), country[0] != '\0');
    assert_string_equal(found, country);
}

static void test_lookups(void **state)
{
    (void)state;
    const struct {
        const char *address, *country;
    } rows[] = {
        {"0.255.255.255", ""},
        {"1.0.0.0", "AU"},
        {"1.0.1.255", "AU"},
        {"1.0.2.0", "CN"},
        {"1.0.3.255", "CN"},
        {"1.0.4.0", ""}, /* between two ranges */
        {"1.0.5.1", ""}, /* ?? */
        {"1.0.6.0", ""}, /* a region */
        {"254.255.255.255", ""},
        {"255.0.0.0", "CH"},
        {"255.255.255.255", "CH"},
        {"::1", ""},
        {"2001::1", ""},
        {"2001:200::", "JP"},
        {"2001:200:134:ffff:ffff:ffff:ffff:ffff", "JP"},
        {"2001:200:135::1", "US"},
        {"2001:200:135:0:8000::1", "US"}, /* parts of a /64 are not told apart */
        {"2001:200:135:1::1", "SE"},
        {"2001:200:135:2::", ""},
        {"ffff::", ""},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        expect(rows[i].address, "");
    }
    assert_int_equal(mvpn_geoip_count(geoip), 0);
    assert_int_equal(parse(4, v4, sizeof(v4) - 1), 0);
    assert_int_equal(parse(6, v6, sizeof(v6) - 1), 0);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        expect(rows[i].address, rows[i].country);
    }
    mvpn_addr none = {.family = 0};
    char country[3];
    assert_false(mvpn_geoip_country(geoip, &none, country));
}

static void test_bad_tables(void **state)
{
    (void)state;
    const struct {
        uint8_t family;
        const char *text;
        const char *line;
    } rows[] = {
        {4, "1,2\n", "table:1:"},
        {4, "1,2,CH\n\n2,3,CH\n", "table:3:"}, /* overlaps */
        {4, "5,6,CH\n1,2,CH\n", "table:2:"},
        {4, "3,2,CH\n", "table:1:"},
        {4, "1,4294967296,CH\n", "table:1:"},
        {4, "99999999999999999999999,2,CH\n", "table:1:"},
        {4, "-1,2,CH\n", "table:1:"},
        {4, "1,2,C\n", "table:1:"},
        {4, "1,2,CHE\n", "table:1:"},
        {4, "1,2,\n", "table:1:"},
        {4, "1.2.3.4,1.2.3.5,CH\n", "table:1:"},
        {6, "2001::,x,CH\n", "table:1:"},
        {6, "2002::,2001::,CH\n", "table:1:"},
        {6, "2001::,2002::,CH\n2001::5,2003::,CH\n", "table:2:"},
        {6, "::,ffff:ffff:ffff:ffff::,CH\n", "table:1:"},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(parse(rows[i].family, rows[i].text, strlen(rows[i].text)), MVPN_E_FORMAT);
        assert_int_equal(strncmp(fault.text, rows[i].line, strlen(rows[i].line)), 0);
        assert_int_equal(mvpn_geoip_count(geoip), 0); /* nothing of it is kept */
    }
    char line[200];
    memset(line, '1', sizeof(line));
    assert_int_equal(parse(4, line, sizeof(line)), MVPN_E_FORMAT);
    assert_int_equal(parse(4, "1,2,CH\0\n", 8), MVPN_E_FORMAT);
}

/* Cut off anywhere it is read or refused, never half. */
static void test_truncation(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof(v4); n++) {
        int r = parse(4, v4, n);
        assert_true(r == 0 || (r == MVPN_E_FORMAT && mvpn_geoip_count(geoip) == 0));
    }
    assert_int_equal(parse(4, "", 0), 0);
    for (size_t n = 0; n < sizeof(v6); n++) {
        int r = parse(6, v6, n);
        assert_true(r == 0 || (r == MVPN_E_FORMAT && mvpn_geoip_count(geoip) == 0));
    }
}

static void test_files(void **state)
{
    (void)state;
    mvpn_geoip *g = NULL;
    assert_int_equal(mvpn_geoip_load("/nonexistent", &g, &fault), 0); /* nothing is known */
    assert_int_equal(mvpn_geoip_count(g), 0);
    mvpn_geoip_free(g);
    g = NULL;
    assert_int_equal(mvpn_geoip_load(MVPN_GEOIP_DIR, &g, &fault), 0);
    if (mvpn_geoip_count(g) == 0) {
        mvpn_geoip_free(g);
        skip(); /* the package is not installed */
    }
    const struct {
        const char *address, *country;
    } rows[] = {{"8.8.8.8", "US"},
                {"193.0.6.139", "NL"},
                {"2001:67c:2e8:22::c100:68b", "NL"},
                {"10.0.0.1", ""},
                {"fd00::1", ""}};
    mvpn_geoip *empty = geoip;
    geoip = g;
    assert_true(mvpn_geoip_count(g) > 100000);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        expect(rows[i].address, rows[i].country);
    }
    geoip = empty;
    mvpn_geoip_free(g);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_lookups),
        TEST(test_bad_tables),
        TEST(test_truncation),
        TEST(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
