#include "network/proxy/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

#define B(text) (const uint8_t *)(text), sizeof(text) - 1

typedef struct row {
    const char *what;
    enum mvpn_proxy_kind kind;
    const uint8_t *in;
    size_t n;
    enum mvpn_proxy_state state;
    const char *name; /* asked for; NULL: an address */
    const char *addr; /* as text, with its port */
    const uint8_t *reply;
    size_t reply_len;
    size_t left;
} row;

/* 255 bytes of each, whatever they are. */
static const uint8_t long_user[3 + 2 + 255 + 1 + 255 + 8] = {
    [0] = 5, 1, 2, [3] = 1, 255, [5 + 255] = 255, [5 + 255 + 1 + 255] = 5, 1, 0, 3, 1, 'a', 0, 80,
};

static const row rows[] = {
    {"name", MVPN_PROXY_SOCKS, B("\5\1\0\5\1\0\3\7a.b-c.d\1\273"), MVPN_PROXY_ASKED, "a.b-c.d",
     NULL, B("\5\0"), 0},
    {"v4 and early data", MVPN_PROXY_SOCKS, B("\5\2\1\0\5\1\0\1\1\2\3\4\0\120GET"),
     MVPN_PROXY_ASKED, NULL, "1.2.3.4:80", B("\5\0"), 3},
    {"v6", MVPN_PROXY_SOCKS, B("\5\1\0\5\1\0\4\52\20\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\120"),
     MVPN_PROXY_ASKED, NULL, "[2a10::1]:80", B("\5\0"), 0},
    {"an address as a name", MVPN_PROXY_SOCKS,
     B("\5\1\0\5\1\0\3\7"
       "1.2.3.4\0\120"),
     MVPN_PROXY_ASKED, NULL, "1.2.3.4:80", B("\5\0"), 0},
    {"user first", MVPN_PROXY_SOCKS, B("\5\2\0\2\1\2ab\1c\5\1\0\3\1a\0\120"), MVPN_PROXY_ASKED, "a",
     NULL, B("\5\2\1\0"), 0},
    {"associate", MVPN_PROXY_SOCKS, B("\5\1\0\5\3\0\1\0\0\0\0\0\0"), MVPN_PROXY_ASKED, NULL,
     "0.0.0.0:0", B("\5\0"), 0},
    {"no method", MVPN_PROXY_SOCKS, B("\5\1\1"), MVPN_PROXY_REFUSED, NULL, NULL, B("\5\377"), 0},
    {"SOCKS4", MVPN_PROXY_SOCKS, B("\4\1\0\120\1\2\3\4"), MVPN_PROXY_REFUSED, NULL, NULL, B(""), 8},
    {"version of user", MVPN_PROXY_SOCKS, B("\5\1\2\5"), MVPN_PROXY_REFUSED, NULL, NULL,
     B("\5\2\1\1"), 1},
    {"no user name", MVPN_PROXY_SOCKS, B("\5\1\2\1\0\1x"), MVPN_PROXY_REFUSED, NULL, NULL,
     B("\5\2\1\1"), 4},
    {"no password", MVPN_PROXY_SOCKS, B("\5\1\2\1\1a\0\5\1\0\3\1a\0\120"), MVPN_PROXY_ASKED, "a",
     NULL, B("\5\2\1\0"), 0},
    {"the longest user", MVPN_PROXY_SOCKS, long_user, sizeof(long_user), MVPN_PROXY_ASKED, "a",
     NULL, B("\5\2\1\0"), 0},
    {"methods that we do not have", MVPN_PROXY_SOCKS, B("\5\3\1\3\200"), MVPN_PROXY_REFUSED, NULL,
     NULL, B("\5\377"), 0},
    {"no methods at all", MVPN_PROXY_SOCKS, B("\5\0"), MVPN_PROXY_REFUSED, NULL, NULL, B("\5\377"),
     0},
    {"bind", MVPN_PROXY_SOCKS, B("\5\1\0\5\2\0\1\1\2\3\4\0\120"), MVPN_PROXY_REFUSED, NULL, NULL,
     B("\5\0\5\7\0\1\0\0\0\0\0\0"), 10},
    {"type", MVPN_PROXY_SOCKS, B("\5\1\0\5\1\0\2\1\2\3\4\0\120"), MVPN_PROXY_REFUSED, NULL, NULL,
     B("\5\0\5\10\0\1\0\0\0\0\0\0"), 10},
    {"empty name", MVPN_PROXY_SOCKS, B("\5\1\0\5\1\0\3\0\0\120"), MVPN_PROXY_REFUSED, NULL, NULL,
     B("\5\0\5\1\0\1\0\0\0\0\0\0"), 7},
    {"name with a zero", MVPN_PROXY_SOCKS, B("\5\1\0\5\1\0\3\3a\0b\0\120"), MVPN_PROXY_REFUSED,
     NULL, NULL, B("\5\0\5\1\0\1\0\0\0\0\0\0"), 10},
    {"port 0", MVPN_PROXY_SOCKS, B("\5\1\0\5\1\0\1\1\2\3\4\0\0"), MVPN_PROXY_REFUSED, NULL, NULL,
     B("\5\0\5\1\0\1\0\0\0\0\0\0"), 10},
    {"CONNECT", MVPN_PROXY_HTTP, B("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\nxy"),
     MVPN_PROXY_ASKED, "a.b", NULL, B(""), 2},
    {"CONNECT v6", MVPN_PROXY_HTTP, B("CONNECT [2a10::1]:443 HTTP/1.0\r\n\r\n"), MVPN_PROXY_ASKED,
     NULL, "[2a10::1]:443", B(""), 0},
    {"CONNECT v4", MVPN_PROXY_HTTP, B("CONNECT 1.2.3.4:1 HTTP/1.1\r\n\r\n"), MVPN_PROXY_ASKED, NULL,
     "1.2.3.4:1", B(""), 0},
};

static void check(const row *r, const mvpn_proxy_request *q, const uint8_t *reply, size_t reply_len)
{
    mvpn_addr addr;
    assert_int_equal(q->state, r->state);
    assert_int_equal(reply_len, r->reply_len);
    assert_memory_equal(reply, r->reply, reply_len);
    if (r->name != NULL) {
        assert_string_equal(q->target.name, r->name);
        assert_int_equal(q->target.addr.family, 0);
    }
    if (r->addr != NULL && strcmp(r->addr, "0.0.0.0:0") != 0) {
        assert_int_equal(mvpn_addr_parse(r->addr, &addr), 0);
        assert_true(mvpn_addr_eq(&addr, &q->target.addr));
        assert_string_equal(q->target.name, "");
    }
}

/* All at once, and byte by byte: as TCP cuts it. */
static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        const row *r = &rows[i];
        for (size_t step = 1; step <= r->n; step = step == 1 ? r->n : r->n + 1) {
            mvpn_proxy_request q;
            size_t at = 0, room;
            mvpn_proxy_request_init(&q, r->kind);
            while (q.state == MVPN_PROXY_READING && at < r->n) {
                size_t n = MVPN_MIN(step, r->n - at);
                uint8_t *to = mvpn_proxy_request_room(&q, &room);
                assert_true(n <= room);
                memcpy(to, r->in + at, n);
                mvpn_proxy_request_filled(&q, n);
                at += n;
            }
            if (q.state == MVPN_PROXY_READING) {
                fail_msg("%s: waits for more", r->what);
            }
            check(r, &q, q.reply, q.reply_len);
            assert_int_equal(q.len + (r->n - at), r->left);
        }
    }
}

static void test_user(void **state)
{
    (void)state;
    mvpn_proxy_request q;
    size_t room;
    mvpn_proxy_request_init(&q, MVPN_PROXY_SOCKS);
    memcpy(mvpn_proxy_request_room(&q, &room), "\5\1\2\1\2ab\3cde", 11);
    mvpn_proxy_request_filled(&q, 11);
    assert_int_equal(q.state, MVPN_PROXY_READING);
    assert_true(q.user.is_set);
    assert_int_equal(q.user.name_len, 2);
    assert_int_equal(q.user.password_len, 3);
    assert_memory_equal(q.user.name, "ab", 2);
    assert_memory_equal(q.user.password, "cde", 3);
}

static void ask_http(mvpn_proxy_request *q, const char *text)
{
    size_t room;
    mvpn_proxy_request_init(q, MVPN_PROXY_HTTP);
    uint8_t *to = mvpn_proxy_request_room(q, &room);
    size_t n = MVPN_MIN(strlen(text), room);
    memcpy(to, text, n);
    mvpn_proxy_request_filled(q, n);
}

static void refused(const char *text, const char *status)
{
    mvpn_proxy_request q;
    ask_http(&q, text);
    if (q.state != MVPN_PROXY_REFUSED || memcmp(q.reply + 9, status, 3) != 0) {
        fail_msg("%.40s: not %s", text, status);
    }
}

static void test_http_refusals(void **state)
{
    (void)state;
    char *long_head = malloc(MVPN_PROXY_HEAD_MAX + 1);
    assert_non_null(long_head);
    refused("GET http://a.b/ HTTP/1.1\r\n\r\n", "405");
    refused("CONNECT a.b HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT a.b: HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT a.b:0 HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT a.b:65536 HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT a.b:99999999 HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT a.b:-1 HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT :1 HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT 2a10::1:443 HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT [1.2.3.4]:443 HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT [a.b]:443 HTTP/1.1\r\n\r\n", "400");
    refused("CONNECT a.b:1\r\n\r\n", "400");
    refused("CONNECT a.b:1 HTTP/2.0\r\n\r\n", "400");
    refused("CONNECT a.b:1 x HTTP/1.1\r\n\r\n", "400");
    refused("\r\n\r\n", "405");
    refused("\5\1x\r\n", "405");
    memset(long_head, 'x', MVPN_PROXY_HEAD_MAX);
    memcpy(long_head, "CONNECT a.b:1 HTTP/1.1\r\n", 24);
    long_head[MVPN_PROXY_HEAD_MAX] = '\0';
    refused(long_head, "431");
    memcpy(long_head + 24, "Proxy-Authorization: Basic ", 27);
    memcpy(long_head + 24 + 27 + 700, "\r\n\r\n", 5);
    refused(long_head, "431");
    free(long_head);
}

static void test_http_user(void **state)
{
    (void)state;
    mvpn_proxy_request q;
    ask_http(&q, "CONNECT a.b:1 HTTP/1.1\r\nproxy-Authorization: bASIC  YTpi \r\nX: y\r\n\r\n");
    assert_int_equal(q.state, MVPN_PROXY_ASKED);
    assert_true(q.user.is_set);
    assert_int_equal(q.user.name_len, 1);
    assert_int_equal(q.user.password_len, 1);
    assert_int_equal(q.user.name[0], 'a');
    assert_int_equal(q.user.password[0], 'b');
    ask_http(&q, "CONNECT a.b:1 HTTP/1.1\r\n\r\n");
    assert_false(q.user.is_set);
}

/* By SOCKS5 and by HTTP it is the same user; and what is no user name and password is refused,
 * never taken for somebody else's. */
static void test_http_user_refusals(void **state)
{
    (void)state;
    static const char *const malformed[] = {
        "Basic",      "Basic ",         "Basic YTpi=",    "Basic YTp",    "Basic YT=i",
        "Basic YWI=", "Basic YTo=\t=",  "Basic Y T p i",  "Basic YTpi\v", "Basic YTp_",
        "Basic ====", "Basic YTpiYzp=", "Basic YWI6Yx==", /* bits beyond the last byte */
    };
    char text[256];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(malformed); i++) {
        (void)snprintf(text, sizeof(text),
                       "CONNECT a.b:1 HTTP/1.1\r\nProxy-Authorization: %s\r\n\r\n", malformed[i]);
        refused(text, i == 0 || i == 1 ? "407" : "400");
    }
    refused("CONNECT a.b:1 HTTP/1.1\r\nProxy-Authorization: Bearer YTpi\r\n\r\n", "407");
    refused("CONNECT a.b:1 HTTP/1.1\r\nProxy-Authorization:\r\n\r\n", "407");
    refused("CONNECT a.b:1 HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n"
            "Proxy-Authorization: Basic YzpkMDA=\r\n\r\n",
            "400");
}

/* RFC 1929: cut at each length it waits, and what has no name is turned away. */
static void test_user_cut(void **state)
{
    (void)state;
    static const uint8_t whole[] = "\5\1\2\1\3abc\2de\5\1\0\3\1a\0\120";
    for (size_t n = 1; n < sizeof(whole) - 1; n++) {
        mvpn_proxy_request q;
        size_t room;
        mvpn_proxy_request_init(&q, MVPN_PROXY_SOCKS);
        memcpy(mvpn_proxy_request_room(&q, &room), whole, n);
        mvpn_proxy_request_filled(&q, n);
        assert_int_equal(q.state, MVPN_PROXY_READING);
        assert_int_equal(q.user.is_set, n >= 11);
    }
}

static void test_answers(void **state)
{
    (void)state;
    mvpn_proxy_request q;
    mvpn_addr bound;
    assert_int_equal(mvpn_addr_parse("[::1]:258", &bound), 0);
    mvpn_proxy_request_init(&q, MVPN_PROXY_SOCKS);
    mvpn_proxy_request_answer(&q, MVPN_PROXY_OK, &bound);
    assert_int_equal(q.reply_len, 22);
    assert_memory_equal(q.reply, "\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\1\2", 22);
    for (enum mvpn_proxy_result result = MVPN_PROXY_OK; result <= MVPN_PROXY_NO_ADDRESS_TYPE;
         result++) {
        static const char *const status[] = {"200", "503", "403", "502", "502",
                                             "502", "504", "503", "503"};
        ask_http(&q, "CONNECT a.b:1 HTTP/1.1\r\n\r\n");
        mvpn_proxy_request_answer(&q, result, &bound);
        assert_memory_equal(q.reply + 9, status[result], 3);
        assert_int_equal(q.state, result == MVPN_PROXY_OK ? MVPN_PROXY_ASKED : MVPN_PROXY_REFUSED);
    }
    ask_http(&q, "CONNECT a.b:1 HTTP/1.1\r\n\r\n");
    mvpn_proxy_request_answer(&q, MVPN_PROXY_NO_GROUP, &bound);
    assert_memory_equal(q.reply + 9, "503", 3);
    mvpn_proxy_request_init(&q, MVPN_PROXY_SOCKS);
    mvpn_proxy_request_answer(&q, MVPN_PROXY_NO_GROUP, &bound);
    assert_int_equal(q.reply[1], MVPN_PROXY_FAILED);
}

static void test_udp(void **state)
{
    (void)state;
    static const uint8_t good[] = "\0\0\0\1\1\2\3\4\0\65payload";
    uint8_t out[MVPN_PROXY_UDP_HEADER_MAX], bad[sizeof(good)];
    mvpn_proxy_target t;
    size_t at = 0;
    assert_int_equal(mvpn_proxy_udp_decode(good, sizeof(good) - 1, &t, &at), 0);
    assert_int_equal(at, 10);
    assert_int_equal(t.addr.port, 53);
    assert_int_equal(mvpn_proxy_udp_encode(out, &t.addr), at);
    assert_memory_equal(out, good, at);
    for (size_t n = 0; n < at; n++) {
        assert_int_equal(mvpn_proxy_udp_decode(good, n, &t, &at), MVPN_E_FORMAT);
    }
    for (size_t i = 0; i < 3; i++) { /* reserved, reserved, fragment */
        memcpy(bad, good, sizeof(bad));
        bad[i] = 1;
        assert_int_equal(mvpn_proxy_udp_decode(bad, sizeof(bad), &t, &at), MVPN_E_FORMAT);
    }
    assert_int_equal(mvpn_proxy_udp_decode(B("\0\0\0\3\1a\0\65x"), &t, &at), 0);
    assert_string_equal(t.name, "a");
    assert_int_equal(at, 8);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a",       "example.org",  "_x._tcp.Example.org.",
                                       "xn--a",   "1.2",          "locality",
                                       "mylocal", "localhost.org"};
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      ".a",
                                      "a..b",
                                      "a b",
                                      "a/b",
                                      "a\nb",
                                      "\303\266.de",
                                      "a:b",
                                      "localhost",
                                      "LocalHost.",
                                      "x.localhost",
                                      "printer.local",
                                      "nas.lan.",
                                      "x.home.arpa",
                                      "metadata.google.internal"};
    char label[80] = "";
    for (size_t i = 0; i < MVPN_ARRAY_LEN(good); i++) {
        assert_true(mvpn_proxy_is_name(good[i]));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad); i++) {
        assert_false(mvpn_proxy_is_name(bad[i]));
    }
    memset(label, 'a', 63);
    assert_true(mvpn_proxy_is_name(label));
    label[63] = 'a';
    assert_false(mvpn_proxy_is_name(label));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),          cmocka_unit_test(test_user),
        cmocka_unit_test(test_http_refusals), cmocka_unit_test(test_http_user),
        cmocka_unit_test(test_answers),       cmocka_unit_test(test_udp),
        cmocka_unit_test(test_names),         cmocka_unit_test(test_http_user_refusals),
        cmocka_unit_test(test_user_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
