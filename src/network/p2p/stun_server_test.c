/*
 * The STUN service: what is answered, from where, how long, and how often.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "network/p2p/stun_server.h"

static const uint8_t id[MVPN_STUN_TRANSACTION_LEN] = {9, 8, 7, 6, 5, 4, 3, 2, 1};
static mvpn_stun_server *server;
static mvpn_stun_answer answer;
static mvpn_stun_message reply;
static uint8_t request[MVPN_STUN_MAX];
static mvpn_stun_writer w;

static mvpn_addr addr(const char *text)
{
    mvpn_addr a = {0};
    if (text != NULL) {
        assert_int_equal(mvpn_addr_parse(text, &a), 0);
    }
    return a;
}

static int make(const char *primary, const char *alternate, bool is_strict)
{
    mvpn_stun_server_config c = {addr(primary), addr(alternate), is_strict};
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 1);
    mvpn_stun_server_free(server);
    server = NULL;
    return mvpn_stun_server_new(&server, &c, &rng);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_stun_server_free(server);
    server = NULL;
    return 0;
}

static void begin(void)
{
    mvpn_stun_begin(&w, request, sizeof(request), MVPN_STUN_REQUEST, MVPN_STUN_BINDING, id);
}

/* Bring the request to `n` bytes. */
static void pad(size_t n)
{
    static const uint8_t spaces[MVPN_STUN_SOFTWARE_MAX];
    size_t has = mvpn_stun_end(&w);
    if (n > has) {
        mvpn_stun_put_bytes(&w, MVPN_STUN_SOFTWARE, mvpn_bytes_of(spaces, n - has - 4));
        assert_int_equal(mvpn_stun_end(&w), n);
    }
}

static int ask(unsigned socket, const char *from, mvpn_time now)
{
    mvpn_addr a = addr(from);
    memset(&answer, 0, sizeof(answer));
    int err = mvpn_stun_server_recv(server, socket, &a, mvpn_bytes_of(request, mvpn_stun_end(&w)),
                                    now, &answer);
    if (err == 0) {
        assert_true(mvpn_addr_eq(&answer.to, &a)); /* never anybody else */
        assert_int_equal(mvpn_stun_decode(&reply, mvpn_bytes_of(answer.bytes, answer.length)), 0);
        assert_memory_equal(reply.transaction, id, sizeof(id));
    }
    return err;
}

static void is_addr(const mvpn_addr *a, const char *text)
{
    mvpn_addr b = addr(text);
    assert_true(mvpn_addr_eq(a, &b));
}

#define CLIENT4 "198.18.7.9:4000"
#define CLIENT6 "[2001:db8:9::9]:4000"

/* Which addresses go together. */
static void test_config(void **state)
{
    (void)state;
    static const struct {
        const char *primary, *alternate;
        int err;
    } rows[] = {
        {"192.0.2.1:3478", NULL, 0},
        {"0.0.0.0:3478", NULL, 0},
        {"[::]:3478", NULL, 0},
        {"192.0.2.1:3478", "192.0.2.2:3479", 0},
        {"192.0.2.1:3478", "192.0.2.2:3478", MVPN_E_INVAL}, /* same port */
        {"192.0.2.1:3478", "192.0.2.1:3479", MVPN_E_INVAL}, /* same address */
        {"192.0.2.1:3478", "[2001:db8::1]:3479", MVPN_E_INVAL},
        {"0.0.0.0:3478", "192.0.2.2:3479", MVPN_E_INVAL},
        {"192.0.2.1:3478", "0.0.0.0:3479", MVPN_E_INVAL},
        {"192.0.2.1:0", NULL, MVPN_E_INVAL},
        {"192.0.2.1:3478", "192.0.2.2:0", MVPN_E_INVAL},
        {NULL, NULL, MVPN_E_INVAL},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(make(rows[i].primary, rows[i].alternate, true), rows[i].err);
    }
    assert_int_equal(make("192.0.2.1:3478", "192.0.2.2:3479", true), 0);
    static const char *const addresses[] = {"192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478",
                                            "192.0.2.2:3479"};
    for (unsigned i = 0; i < MVPN_STUN_SOCKETS; i++) {
        mvpn_addr a = mvpn_stun_server_address(server, i);
        is_addr(&a, addresses[i]);
    }
    assert_int_equal(make("192.0.2.1:3478", NULL, true), 0);
    assert_int_equal(mvpn_stun_server_address(server, 1).family, 0);
}

/* However long the request, the answer is not longer; what is missed least goes first. */
static void test_never_longer(void **state)
{
    (void)state;
    static const struct {
        const char *primary, *alternate, *client;
        bool fingerprint;
        /* Shortest requests that get: an answer, OTHER-ADDRESS, RESPONSE-ORIGIN, MAPPED-ADDRESS */
        size_t least, other, origin, mapped;
    } rows[] = {
        {"192.0.2.1:3478", "192.0.2.2:3479", CLIENT4, false, 32, 44, 56, 68},
        {"192.0.2.1:3478", "192.0.2.2:3479", CLIENT4, true, 32, 52, 64, 76},
        {"[2001:db8::1]:3478", "[2001:db8::2]:3479", CLIENT6, false, 44, 68, 92, 116},
        {"[2001:db8::1]:3478", "[2001:db8::2]:3479", CLIENT6, true, 44, 76, 100, 124},
        {"192.0.2.1:3478", NULL, CLIENT4, false, 32, SIZE_MAX, 44, 56},
        {"0.0.0.0:3478", NULL, CLIENT4, false, 32, SIZE_MAX, SIZE_MAX, 44},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(make(rows[i].primary, rows[i].alternate, true), 0);
        mvpn_time now = 0;
        for (size_t n = 20; n <= 132; n += 4) {
            size_t tail = rows[i].fingerprint ? 8 : 0;
            if (n < 20 + tail) {
                continue;
            }
            begin();
            pad(n - tail);
            if (rows[i].fingerprint) {
                mvpn_stun_put_fingerprint(&w);
            }
            int err = ask(0, rows[i].client, now += MVPN_S(1));
            assert_int_equal(err, n >= rows[i].least ? 0 : MVPN_E_TOO_BIG);
            if (err != 0) {
                continue;
            }
            assert_true(answer.length <= n);
            is_addr(&reply.xor_mapped, rows[i].client);
            assert_int_equal(reply.other.family != 0, n >= rows[i].other);
            assert_int_equal(reply.response_origin.family != 0, n >= rows[i].origin);
            assert_int_equal(reply.mapped.family != 0, n >= rows[i].mapped);
            assert_int_equal(reply.has_fingerprint, rows[i].fingerprint && n >= rows[i].least + 8);
        }
        assert_true(mvpn_stun_server_get_stats(server)->too_short > 0);
    }
}

static void test_bare_request(void **state)
{
    (void)state;
    assert_int_equal(make("192.0.2.1:3478", "192.0.2.2:3479", false), 0);
    begin();
    assert_int_equal(ask(0, CLIENT4, 0), 0);
    assert_int_equal(answer.length, 56);
    is_addr(&reply.xor_mapped, CLIENT4);
    assert_int_equal(reply.mapped.family, 0);
    is_addr(&reply.response_origin, "192.0.2.1:3478");
    is_addr(&reply.other, "192.0.2.2:3479");
    assert_int_equal(make("[2001:db8::1]:3478", "[2001:db8::2]:3479", false), 0);
    assert_int_equal(ask(0, CLIENT6, 0), 0);
    assert_int_equal(answer.length, 92);
    mvpn_stun_put_fingerprint(&w);
    assert_int_equal(ask(0, CLIENT6, 0), 0);
    assert_int_equal(answer.length, 100);
    /* A request for 1500 bytes of padding does not get them. */
    static const uint8_t padding[1500];
    begin();
    mvpn_stun_put_bytes(&w, MVPN_STUN_PADDING, MVPN_BYTES_ARRAY(padding));
    assert_int_equal(ask(0, CLIENT6, 0), 0);
    assert_int_equal(answer.length, 116);
    is_addr(&reply.mapped, CLIENT6);
}

/* CHANGE-REQUEST: from the other address, port, or both; to the source. */
static void test_change(void **state)
{
    (void)state;
    assert_int_equal(make("192.0.2.1:3478", "192.0.2.2:3479", true), 0);
    for (unsigned socket = 0; socket < MVPN_STUN_SOCKETS; socket++) {
        for (unsigned change = 0; change < 4; change++) {
            begin();
            mvpn_stun_put_change(&w, change & 2, change & 1);
            pad(128);
            assert_int_equal(ask(socket, CLIENT4, MVPN_S(10 * (4 * socket + change))), 0);
            assert_int_equal(answer.socket, socket ^ change);
            mvpn_addr a = mvpn_stun_server_address(server, answer.socket);
            assert_true(mvpn_addr_eq(&reply.response_origin, &a));
            is_addr(&reply.other, "192.0.2.2:3479");
        }
    }
    /* A server that has none says so. */
    assert_int_equal(make("192.0.2.1:3478", NULL, true), 0);
    begin();
    mvpn_stun_put_change(&w, true, false);
    pad(36);
    assert_int_equal(ask(0, CLIENT4, 0), 0);
    assert_int_equal(reply.error_code, 420);
    assert_int_equal(answer.socket, 0);
    assert_int_equal(answer.length, 36);
    begin();
    mvpn_stun_put_change(&w, true, false);
    assert_int_equal(ask(0, CLIENT4, 0), MVPN_E_TOO_BIG);
    assert_int_equal(mvpn_stun_server_get_stats(server)->refused, 1);
}

/* An answer to a port that did not ask is what RESPONSE-PORT wants. */
static void test_unknown(void **state)
{
    (void)state;
    assert_int_equal(make("192.0.2.1:3478", "192.0.2.2:3479", true), 0);
    begin();
    mvpn_stun_put_bytes(&w, MVPN_STUN_RESPONSE_PORT, mvpn_bytes_of("\0\x35\0\0", 4));
    mvpn_stun_put_bytes(&w, 0x7abc, MVPN_BYTES_NONE);
    pad(128);
    assert_int_equal(ask(0, CLIENT4, 0), 0);
    assert_int_equal(reply.class, MVPN_STUN_ERROR);
    assert_int_equal(reply.error_code, 420);
    assert_int_equal(reply.xor_mapped.family, 0);
    /* Both are named, and the error is not longer than its request either. */
    assert_int_equal(answer.length, 36);
    assert_int_equal(mvpn_load16(answer.bytes + 28), MVPN_STUN_UNKNOWN_ATTRIBUTES);
    assert_int_equal(mvpn_load16(answer.bytes + 32), MVPN_STUN_RESPONSE_PORT);
    assert_int_equal(mvpn_load16(answer.bytes + 34), 0x7abc);
    begin();
    mvpn_stun_put_bytes(&w, MVPN_STUN_RESPONSE_PORT, mvpn_bytes_of("\0\x35\0\0", 4));
    assert_int_equal(ask(0, CLIENT4, 0), MVPN_E_TOO_BIG);
}

/* No request: no answer. Two servers do not keep each other busy. */
static void test_not_answered(void **state)
{
    (void)state;
    assert_int_equal(make("192.0.2.1:3478", "192.0.2.2:3479", false), 0);
    for (unsigned class = 0; class < 4; class ++) {
        mvpn_stun_begin(&w, request, sizeof(request), (enum mvpn_stun_class) class,
                        MVPN_STUN_BINDING, id);
        if (class == MVPN_STUN_ERROR) {
            mvpn_stun_put_error(&w, 420);
        }
        assert_int_equal(ask(0, CLIENT4, 0), class == MVPN_STUN_REQUEST ? 0 : MVPN_E_UNKNOWN);
    }
    mvpn_stun_begin(&w, request, sizeof(request), MVPN_STUN_REQUEST, 3, id); /* TURN Allocate */
    assert_int_equal(ask(0, CLIENT4, 0), MVPN_E_UNKNOWN);
    begin();
    request[4] ^= 1;
    assert_int_equal(ask(0, CLIENT4, 0), MVPN_E_FORMAT);
    begin();
    static const char *const nobody[] = {"192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478",
                                         "192.0.2.2:3479", "198.18.7.9:0",   "0.0.0.0:4000",
                                         CLIENT6};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(nobody); i++) {
        assert_int_equal(ask(1, nobody[i], 0), MVPN_E_STATE);
    }
    assert_int_equal(mvpn_stun_server_get_stats(server)->answered, 1);
}

static unsigned flood(const char *format, unsigned sources, mvpn_time now)
{
    unsigned answered = 0;
    for (unsigned i = 0; i < sources; i++) {
        char text[MVPN_ADDR_STRLEN];
        (void)snprintf(text, sizeof(text), format, i % 256, i % 60000 + 1);
        answered += ask(0, text, now) == 0;
    }
    return answered;
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(make("192.0.2.1:3478", NULL, true), 0);
    begin();
    pad(128);
    /* A block: whichever of its addresses and ports. */
    assert_int_equal(flood("198.18.7.%u:%u", 500, 0), MVPN_STUN_BLOCK_BURST);
    assert_int_equal(flood("198.18.7.%u:%u", 500, MVPN_S(1)), MVPN_STUN_BLOCK_RATE);
    assert_int_equal(flood("198.18.8.%u:%u", 500, MVPN_S(1)), MVPN_STUN_BLOCK_BURST);
    assert_int_equal(flood("198.18.7.%u:%u", 500, MVPN_S(100)), MVPN_STUN_BLOCK_BURST);
    assert_int_equal(make("[2001:db8::1]:3478", NULL, true), 0);
    assert_int_equal(flood("[2001:db8:9:%x::1]:%u", 500, 0), MVPN_STUN_BLOCK_BURST);
    assert_int_equal(flood("[2001:db8:a:%x::1]:%u", 500, 0), MVPN_STUN_BLOCK_BURST);
    /* All of them. */
    assert_int_equal(make("192.0.2.1:3478", NULL, true), 0);
    unsigned answered = 0;
    for (unsigned block = 0; block < 10000; block++) {
        char text[MVPN_ADDR_STRLEN];
        (void)snprintf(text, sizeof(text), "198.%u.%u.1:99", block / 256, block % 256);
        answered += ask(0, text, MVPN_S(1)) == 0;
    }
    assert_int_equal(answered, MVPN_STUN_TOTAL_BURST);
    assert_int_equal(mvpn_stun_server_get_stats(server)->limited, 10000 - answered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_config, teardown),
        cmocka_unit_test_teardown(test_never_longer, teardown),
        cmocka_unit_test_teardown(test_bare_request, teardown),
        cmocka_unit_test_teardown(test_change, teardown),
        cmocka_unit_test_teardown(test_unknown, teardown),
        cmocka_unit_test_teardown(test_not_answered, teardown),
        cmocka_unit_test_teardown(test_limits, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
