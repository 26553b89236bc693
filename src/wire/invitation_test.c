#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/error.h"
#include "crypto/hash.h"
#include "wire/invitation.h"

#define EXPIRES 1800000000u

/* Computed in Python with the BLAKE3 of dht_test.c: network key 32..63, secret 64..95, link key of
 * the entry 96..127, its identity 0..31. */
static const char open_link[] = "meshvpn:AQABycOAICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj_"
                                "4TBbv6lMixNmYbQZoCngTkvmmQmBhYmNkZWZnaG"
                                "lqa2xtbm9wcXJzdHV2d3h5ent8fX5_CwECAwG7OjE";
static const char closed_link[] =
    "meshvpn:"
    "AQEBycOAICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9AQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF"
    "1eX016Au_qUyLE2ZhtBmgKeBOS-"
    "aZCYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn8qEAAAAAUAAAAAAAAAAAAJ___5"
    "vg";

static mvpn_invitation make(bool closed)
{
    mvpn_invitation inv = {.closed = closed, .expires = EXPIRES};
    mvpn_ed25519_pub identity;
    for (unsigned i = 0; i < 32; i++) {
        identity.b[i] = (uint8_t)i;
        inv.network_pub.b[i] = (uint8_t)(32 + i);
        inv.network_secret.b[i] = closed ? (uint8_t)(64 + i) : 0;
        inv.entry.link_key.b[i] = (uint8_t)(96 + i);
    }
    assert_int_equal(
        mvpn_addr_parse(closed ? "[2a10:0:5::9]:65535" : "11.1.2.3:443", &inv.entry.addr), 0);
    mvpn_dht_node_id(&inv.entry.id, &identity, &inv.entry.addr);
    return inv;
}

static void assert_same(const mvpn_invitation *a, const mvpn_invitation *b)
{
    assert_int_equal(a->closed, b->closed);
    assert_int_equal(a->relax, b->relax);
    assert_int_equal(a->allow_private, b->allow_private);
    assert_true(a->expires == b->expires);
    assert_memory_equal(a->network_pub.b, b->network_pub.b, 32);
    assert_memory_equal(a->network_secret.b, b->network_secret.b, 32);
    assert_memory_equal(a->entry.id.b, b->entry.id.b, 20);
    assert_memory_equal(a->entry.link_key.b, b->entry.link_key.b, 32);
    assert_true(mvpn_addr_eq(&a->entry.addr, &b->entry.addr));
}

static void test_vectors(void **state)
{
    (void)state;
    for (unsigned closed = 0; closed < 2; closed++) {
        const mvpn_invitation inv = make(closed);
        char link[MVPN_INVITATION_MAX + 1];
        mvpn_invitation out;
        mvpn_invitation_format(link, &inv);
        assert_string_equal(link, closed ? closed_link : open_link);
        assert_int_equal(mvpn_invitation_parse(&out, link, EXPIRES), 0);
        assert_same(&out, &inv);
    }
    assert_int_equal(strlen(closed_link), 198); /* the longest one */
}

/* All lengths of the base64 tail come by. */
static void test_round_trip(void **state)
{
    (void)state;
    for (unsigned relax = 0; relax < 8; relax++) {
        mvpn_invitation inv = make(true), out;
        char link[MVPN_INVITATION_MAX + 1];
        inv.relax = (uint8_t)relax;
        inv.allow_private = relax % 2 == 0;
        mvpn_invitation_format(link, &inv);
        assert_int_equal(mvpn_invitation_parse(&out, link, EXPIRES), 0);
        assert_same(&out, &inv);
    }
    for (unsigned i = 0; i < 4; i++) {
        mvpn_invitation inv = make(i & 1), out;
        mvpn_ed25519_pub identity = {{(uint8_t)i}};
        char link[MVPN_INVITATION_MAX + 1];
        assert_int_equal(mvpn_addr_parse(i & 2 ? "[2a10:9::1]:1" : "11.9.2.3:1", &inv.entry.addr),
                         0);
        mvpn_dht_node_id(&inv.entry.id, &identity, &inv.entry.addr);
        inv.expires = EXPIRES + 59;
        mvpn_invitation_format(link, &inv);
        assert_int_equal(mvpn_invitation_parse(&out, link, 0), 0);
        inv.expires = EXPIRES; /* kept to the minute */
        assert_same(&out, &inv);
    }
}

static void test_expiry(void **state)
{
    (void)state;
    mvpn_invitation out;
    assert_int_equal(mvpn_invitation_parse(&out, open_link, EXPIRES), 0);
    memset(&out, 0, sizeof(out));
    assert_int_equal(mvpn_invitation_parse(&out, open_link, EXPIRES + 1), MVPN_E_EXPIRED);
    assert_int_equal(out.expires, EXPIRES); /* so that it can be told */
    assert_int_equal(mvpn_invitation_parse(&out, open_link, 0), 0);
    mvpn_invitation inv = make(false);
    char link[MVPN_INVITATION_MAX + 1];
    inv.expires = UINT64_MAX;
    mvpn_invitation_format(link, &inv);
    assert_int_equal(mvpn_invitation_parse(&out, link, EXPIRES), 0);
    assert_true(out.expires == (uint64_t)UINT32_MAX * 60);
}

static void test_spaces(void **state)
{
    (void)state;
    mvpn_invitation out;
    char text[300];
    (void)snprintf(text, sizeof(text), " \t%s\r\n ", closed_link);
    assert_int_equal(mvpn_invitation_parse(&out, text, 0), 0);
    (void)snprintf(text, sizeof(text), "%.50s %s", closed_link, closed_link + 50);
    assert_int_equal(mvpn_invitation_parse(&out, text, 0), MVPN_E_FORMAT);
}

static void test_truncated(void **state)
{
    (void)state;
    const char *links[] = {open_link, closed_link};
    for (size_t i = 0; i < 2; i++) {
        for (size_t n = 0; n < strlen(links[i]); n++) {
            char text[300];
            mvpn_invitation out = {.expires = 7};
            (void)snprintf(text, sizeof(text), "%.*s", (int)n, links[i]);
            assert_int_equal(mvpn_invitation_parse(&out, text, 0), MVPN_E_FORMAT);
            assert_int_equal(out.expires, 7);
            (void)snprintf(text, sizeof(text), "%s%.*s", links[i], (int)n + 1, links[i]);
            assert_int_equal(mvpn_invitation_parse(&out, text, 0), MVPN_E_FORMAT);
        }
    }
}

/* Every other character in every place. A check of 16 bits lets one in 65,536 typing errors
 * through; what gets through is an invitation of its own, with one text. */
static void test_typing_errors(void **state)
{
    (void)state;
    size_t accepted = 0;
    char text[sizeof(closed_link)], again[MVPN_INVITATION_MAX + 1];
    memcpy(text, closed_link, sizeof(text));
    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        for (int c = 1; c < 256; c++) {
            mvpn_invitation out;
            if ((char)c == closed_link[i]) {
                continue;
            }
            text[i] = (char)c;
            int rc = mvpn_invitation_parse(&out, text, 0);
            if (rc == 0) {
                accepted++;
                mvpn_invitation_format(again, &out);
                assert_string_equal(again, text);
            }
            text[i] = closed_link[i];
        }
    }
    assert_int_equal(accepted, 0);
}

/* [offset] of the invitation's bytes is changed, and the check made anew. */
static void forge(char *out, const uint8_t *in, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t b[300] = {0};
    memcpy(b, in, n);
    mvpn_blake3(b + n, 2, mvpn_bytes_of(in, n));
    n += 2;
    char *p = out + sprintf(out, "meshvpn:");
    for (size_t bit = 0; bit < n * 8; bit += 6) {
        unsigned v = (unsigned)(b[bit / 8] << 8 | b[bit / 8 + 1]) >> (10 - bit % 8);
        *p++ = digits[v & 63];
    }
    *p = '\0';
}

static void test_rules(void **state)
{
    (void)state;
    uint8_t b[300];
    char text[500];
    mvpn_invitation out;
    static const struct {
        size_t at;
        uint8_t value;
        int expected;
    } rows[] = {
        {0, 1, 0},
        {0, 2, MVPN_E_UNKNOWN}, /* version */
        {0, 0, MVPN_E_UNKNOWN},
        {1, 2, 0},                /* a rule that does not hold */
        {1, 0x10, 0},             /* private addresses */
        {1, 0x20, MVPN_E_FORMAT}, /* unknown flags */
        {1, 0x80, MVPN_E_FORMAT},
        {1, 1, MVPN_E_FORMAT},  /* closed, and no secret */
        {40, 9, MVPN_E_POLICY}, /* the entry's id */
        {92, 9, MVPN_E_POLICY}, /* its block: not 11.1.9.x */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        const mvpn_invitation inv = make(false);
        size_t n = 0;
        b[n++] = 1;
        b[n++] = 0;
        mvpn_store32(b + n, EXPIRES / 60);
        n += 4;
        memcpy(b + n, inv.network_pub.b, 32);
        n += 32;
        n += mvpn_dht_contact_encode(b + n, 70, &inv.entry);
        b[rows[i].at] = rows[i].value;
        forge(text, b, n);
        assert_int_equal(mvpn_invitation_parse(&out, text, 0), rows[i].expected);
        b[n] = 0; /* one byte more */
        forge(text, b, n + 1);
        assert_int_equal(mvpn_invitation_parse(&out, text, 0),
                         rows[i].expected == MVPN_E_UNKNOWN ? MVPN_E_UNKNOWN : MVPN_E_FORMAT);
    }
    /* A later version, longer than any of ours; and one without end. */
    memset(b, 2, sizeof(b));
    forge(text, b, 250);
    assert_int_equal(mvpn_invitation_parse(&out, text, 0), MVPN_E_UNKNOWN);
    static char endless[100000] = "meshvpn:";
    memset(endless + 8, 'A', sizeof(endless) - 9);
    assert_int_equal(mvpn_invitation_parse(&out, endless, 0), MVPN_E_FORMAT);
}

static void test_not_a_link(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",          " ",         "meshvpn",      "meshvpn:",     "MESHVPN:AQAB",
        "http://x/", "meshvpn:A", "meshvpn:AQ==", "meshvpn:AQ+/", "meshvpn:AR"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_invitation out;
        assert_int_equal(mvpn_invitation_parse(&out, rows[i], 0), MVPN_E_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),   cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_expiry),    cmocka_unit_test(test_spaces),
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_typing_errors),
        cmocka_unit_test(test_rules),     cmocka_unit_test(test_not_a_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
