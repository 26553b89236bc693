/*
 * The parts of netcheck that need no network: names of servers, a gateway's answers, and TCP on
 * loopback. (The rest: tests/netns/netcheck.sh.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/error.h"
#include "io/netcheck.h"
#include "io/sockaddr.h"
#include "io/tcp_reach.h"
#include "wire/portmap.h"

static void test_servers(void **state)
{
    static const struct {
        const char *text, *host; /* NULL: refused */
        uint16_t port;
    } rows[] = {
        {"stun.example.org", "stun.example.org", 0},
        {"stun.example.org:3479", "stun.example.org", 3479},
        {"12.3.4.5", "12.3.4.5", 0},
        {"12.3.4.5:65535", "12.3.4.5", 65535},
        {"[2a11::9]:4478", "2a11::9", 4478},
        {"2a11::9", "2a11::9", 0},
        {"localhost:1", "localhost", 1},
        {"", NULL, 0},
        {":3478", NULL, 0},
        {"host:", NULL, 0},
        {"host:0", NULL, 0},
        {"host:65536", NULL, 0},
        {"host:99999999999999999999", NULL, 0},
        {"host:+5", NULL, 0},
        {"host: 5", NULL, 0},
        {"host:5x", NULL, 0},
        {"[2a11::9]", NULL, 0},
        {"-", NULL, 0},
        {"--json", NULL, 0},
        {"a b", NULL, 0},
        {"a/b", NULL, 0},
        {"a..b", NULL, 0},
    };
    char host[256], longest[400];
    uint16_t port;
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        port = 7;
        (void)snprintf(host, sizeof(host), "untouched");
        int r = mvpn_netcheck_split(rows[i].text, host, &port);
        if ((r == 0) != (rows[i].host != NULL)) {
            fail_msg("'%s': %d", rows[i].text, r);
        }
        assert_string_equal(host, rows[i].host != NULL ? rows[i].host : "untouched");
        assert_int_equal(port, rows[i].host != NULL ? rows[i].port : 7);
    }
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(mvpn_netcheck_split(longest, host, &port), MVPN_E_FORMAT);
}

/* ---- the gateway ---- */

static void take_pcp(mvpn_gateway_found *found, uint8_t version, uint8_t opcode, uint8_t result)
{
    uint8_t bytes[MVPN_PCP_HEADER_LEN] = {version, opcode, 0, result};
    mvpn_gateway_found_take(found, MVPN_BYTES_ARRAY(bytes));
}

static void take_natpmp(mvpn_gateway_found *found, uint8_t opcode, uint8_t result)
{
    uint8_t bytes[MVPN_NATPMP_ADDRESS_ANSWER_LEN] = {0, opcode, 0,  result, 0,   0,
                                                     0, 1,      12, 3,      140, 9};
    mvpn_gateway_found_take(found, MVPN_BYTES_ARRAY(bytes));
}

static void test_gateway_answers(void **state)
{
    mvpn_gateway_found f = {.is_done = false};
    (void)state;
    mvpn_gateway_found_take(&f, MVPN_BYTES_NONE);
    take_pcp(&f, 2, 0, 0);   /* a request */
    take_pcp(&f, 1, 128, 1); /* "I know version 1 alone" */
    take_natpmp(&f, 0, 0);   /* a request */
    take_natpmp(&f, 128, MVPN_NATPMP_UNSUPPORTED_VERSION);
    assert_false(f.has_pcp || f.has_natpmp || f.has_upnp || f.external.family != 0);
    take_natpmp(&f, 128, MVPN_NATPMP_NETWORK_FAILURE); /* not connected just now */
    assert_true(f.has_natpmp && f.external.family == 0);
    take_natpmp(&f, 128, MVPN_NATPMP_SUCCESS);
    assert_true(f.external.family == 4 && f.external.ip[0] == 12 && f.external.ip[3] == 9);
    assert_false(f.has_pcp);
    take_pcp(&f, 2, 128, MVPN_PCP_SUCCESS);
    assert_true(f.has_pcp && !f.has_upnp);
}

/* ---- TCP ---- */

static void ended(void *ctx)
{
    mvpn_loop_stop(ctx);
}

/* A listening port, or one that nobody has. */
static mvpn_addr open_port(bool listens, int *ret_fd)
{
    struct sockaddr_storage sa;
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse("127.0.0.1", &a), 0);
    socklen_t n = mvpn_sockaddr_from_addr(&a, &sa);
    *ret_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(*ret_fd >= 0);
    assert_int_equal(bind(*ret_fd, (struct sockaddr *)&sa, n), 0);
    assert_int_equal(listens ? listen(*ret_fd, 1) : 0, 0);
    assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)&sa, &n), 0);
    return mvpn_sockaddr_to_addr(&sa);
}

static void test_tcp(void **state)
{
    mvpn_loop *loop;
    mvpn_tcp_reach *t;
    unsigned asked, reached;
    int listening, closed;
    (void)state;
    assert_int_equal(mvpn_loop_new(&loop), 0);
    assert_int_equal(mvpn_tcp_reach_new(loop, 0, ended, loop, &t), 0);
    mvpn_addr one = open_port(true, &listening), two = open_port(false, &closed), none = one;
    assert_int_equal(mvpn_addr_parse("255.255.255.255:443", &none), 0); /* connect fails at once */
    mvpn_tcp_reach_add(t, &one);
    mvpn_tcp_reach_add(t, &two); /* refused: it was reached */
    mvpn_tcp_reach_add(t, &none);
    mvpn_tcp_reach_add(t, &one); /* the same again */
    mvpn_tcp_reach_finish(t, 5000);
    assert_int_equal(mvpn_loop_run(loop), 0);
    mvpn_tcp_reach_result(t, &asked, &reached);
    assert_int_equal(asked, 3);
    assert_int_equal(reached, 2);
    mvpn_tcp_reach_free(t);

    /* Nobody at all, and more than there is room for. */
    assert_int_equal(mvpn_tcp_reach_new(loop, 0, ended, loop, &t), 0);
    mvpn_tcp_reach_finish(t, 60000);
    assert_int_equal(mvpn_loop_run(loop), 0);
    for (uint16_t i = 0; i < MVPN_TCP_REACH_MAX + 2; i++) {
        two.port = (uint16_t)(1 + i);
        mvpn_tcp_reach_add(t, &two);
    }
    mvpn_tcp_reach_result(t, &asked, &reached);
    assert_int_equal(asked, MVPN_TCP_REACH_MAX);
    mvpn_tcp_reach_free(t); /* with some under way */
    mvpn_tcp_reach_free(NULL);
    mvpn_loop_free(loop);
    (void)close(listening);
    (void)close(closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_servers),
        cmocka_unit_test(test_gateway_answers),
        cmocka_unit_test(test_tcp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
