/* The HTTP server over loopback: limits, time, pipelining, slow and broken clients. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "io/http.h"
#include "io/sockaddr.h"

#define BIG_SIZE (3u << 20)

static mvpn_loop *loop;
static mvpn_http *http;
static uint16_t port;
static mvpn_http_blob *big;
static unsigned handled;
static char seen_target[128];

static void handle(void *ctx, const mvpn_http_request *r, mvpn_http_response *ret)
{
    (void)ctx;
    handled++;
    (void)snprintf(seen_target, sizeof(seen_target), "%s", r->target);
    if (strcmp(r->target, "/stop") == 0) {
        mvpn_loop_stop(loop);
    }
    bool is_big = strcmp(r->target, "/big") == 0;
    *ret = (mvpn_http_response){
        .status = 200,
        .type = "text/plain",
        .etag = "\"abc\"",
        .body = is_big ? mvpn_http_blob_hold(big) : mvpn_http_blob_copy("hello\n", 6),
    };
}

static void *serve(void *arg)
{
    (void)arg;
    return mvpn_loop_run(loop) == 0 ? NULL : loop;
}

static int start(void **state, unsigned life_ms)
{
    static pthread_t thread;
    mvpn_fault fault;
    handled = 0;
    big = mvpn_http_blob_new(calloc(1, BIG_SIZE), BIG_SIZE);
    mvpn_http_options o = {
        .listen = {.family = 4, .ip = {127, 0, 0, 1}}, .handler = handle, .life_ms = life_ms};
    if (big == NULL || mvpn_loop_new(&loop) != 0) {
        return -1;
    }
    memset(big->bytes, 'x', BIG_SIZE);
    o.loop = loop;
    if (mvpn_http_open(&http, &o, &fault) != 0) {
        return -1;
    }
    port = mvpn_http_port(http);
    *state = &thread;
    return pthread_create(&thread, NULL, serve, NULL);
}

static int setup(void **state)
{
    return start(state, 0);
}

static int setup_short(void **state)
{
    return start(state, 400);
}

static int dial(void)
{
    struct sockaddr_storage sa;
    struct timeval patience = {.tv_sec = 5};
    mvpn_addr a = {.family = 4, .port = port, .ip = {127, 0, 0, 1}};
    socklen_t n = mvpn_sockaddr_from_addr(&a, &sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, n), 0);
    return fd;
}

/* Send; read until the end of the connection or `size` bytes. The length. */
static size_t talk_on(int fd, const char *text, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n;
    (void)send(fd, text, strlen(text), MSG_NOSIGNAL);
    while (len + 1 < size && (n = recv(fd, out + len, size - 1 - len, 0)) > 0) {
        len += (size_t)n;
    }
    out[len] = '\0';
    return len;
}

static unsigned ask(const char *text, char *out, size_t size)
{
    int fd = dial();
    (void)talk_on(fd, text, out, size);
    assert_int_equal(close(fd), 0);
    return strncmp(out, "HTTP/1.1 ", 9) == 0 ? (unsigned)atoi(out + 9) : 0;
}

static int teardown(void **state)
{
    char out[4096];
    void *result;
    (void)ask("GET /stop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", out, sizeof(out));
    if (pthread_join(*(pthread_t *)*state, &result) != 0 || result != NULL) {
        return -1;
    }
    mvpn_http_close(http);
    mvpn_loop_free(loop);
    bool is_alone = big->refs == 1;
    mvpn_http_blob_release(big);
    return is_alone ? 0 : -1;
}

static void test_get(void **state)
{
    char out[4096];
    (void)state;
    assert_int_equal(ask("GET /a%20b?c=%41+1#x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                         out, sizeof(out)),
                     200);
    assert_string_equal(seen_target, "/a%20b?c=%41+1#x"); /* as it came */
    assert_non_null(strstr(out, "\r\n\r\nhello\n"));
    assert_non_null(strstr(out, "Content-Security-Policy: default-src 'none';"));
    assert_non_null(strstr(out, "X-Content-Type-Options: nosniff"));
    assert_non_null(strstr(out, "Cache-Control: no-store"));
    assert_non_null(strstr(out, "ETag: \"abc\""));
    assert_int_equal(
        ask("HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", out, sizeof(out)), 200);
    assert_non_null(strstr(out, "Content-Length: 6"));
    assert_null(strstr(out, "hello"));
    assert_int_equal(handled, 2);
}

static void test_refusals(void **state)
{
    static char long_target[MVPN_HTTP_TARGET_MAX + 200], long_header[MVPN_HTTP_REQUEST_MAX + 2000];
    static const struct {
        const char *text;
        unsigned status;
    } rows[] = {
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 405},
        {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 405},
        {"TRACE / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 405},
        {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 413},
        {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n", 413},
        {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
        {long_target, 414},
        {long_header, 431},
        {"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400}, /* no Host */
        {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400},
    };
    char out[4096];
    (void)state;
    memset(long_target, 'a', sizeof(long_target) - 1);
    memcpy(long_target, "GET /", 5);
    const char tail[] = " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    memcpy(long_target + sizeof(long_target) - sizeof(tail), tail, sizeof(tail));
    memset(long_header, 'a', sizeof(long_header) - 1);
    memcpy(long_header, "GET / HTTP/1.1\r\nHost: h\r\nX: ", 28);
    memcpy(long_header + sizeof(long_header) - 5, "\r\n\r\n", 5);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        unsigned status = ask(rows[i].text, out, sizeof(out));
        if (status != rows[i].status) {
            fail_msg("row %zu: %u, not %u: %.200s", i, status, rows[i].status, out);
        }
        if (status == 405 || status == 413 || status == 414) {
            assert_non_null(strstr(out, "{\"schema\":\"meshvpn.error/1\""));
        }
    }
    assert_int_equal(handled, 0);
    (void)ask("\x16\x03\x01garbage\r\n\r\n", out, sizeof(out)); /* TLS on a plain port */
    assert_int_equal(
        ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", out, sizeof(out)), 200);
}

/* Many requests of one connection, one byte at a time. */
static void test_slow_and_many(void **state)
{
    static const char text[] = "GET /one HTTP/1.1\r\nHost: h\r\n\r\n";
    char out[2048];
    (void)state;
    int fd = dial();
    for (unsigned k = 0; k < 3; k++) {
        for (size_t i = 0; i + 1 < sizeof(text); i++) {
            assert_int_equal(send(fd, text + i, 1, MSG_NOSIGNAL), 1);
        }
        size_t len = 0;
        do {
            ssize_t n = recv(fd, out + len, sizeof(out) - 1 - len, 0);
            assert_true(n > 0);
            len += (size_t)n;
            out[len] = '\0';
        } while (strstr(out, "hello\n") == NULL);
    }
    assert_int_equal(close(fd), 0);
    assert_int_equal(handled, 3);
}

/* A big body to several at once, some of whom leave early: nothing leaks (see teardown). */
static void test_big(void **state)
{
    static char out[BIG_SIZE + 4096];
    int fds[4];
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(fds); i++) {
        fds[i] = dial();
        const char *text = "GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        assert_int_equal(send(fds[i], text, strlen(text), MSG_NOSIGNAL), strlen(text));
    }
    assert_int_equal(close(fds[0]), 0);
    for (size_t i = 1; i < MVPN_ARRAY_LEN(fds); i++) {
        size_t n = talk_on(fds[i], "", out, sizeof(out));
        assert_true(n > BIG_SIZE && n < BIG_SIZE + 1000);
        assert_int_equal(close(fds[i]), 0);
    }
}

/* More connections of one address than it may have: the first ones go on working. */
static void test_too_many(void **state)
{
    int fds[MVPN_HTTP_PER_ADDRESS + 8];
    char out[2048];
    unsigned served = 0;
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(fds); i++) {
        fds[i] = dial();
    }
    (void)usleep(300000); /* all are accepted or refused */
    for (size_t i = 0; i < MVPN_ARRAY_LEN(fds); i++) {
        const char *text = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        served += talk_on(fds[i], text, out, sizeof(out)) > 0;
        assert_int_equal(close(fds[i]), 0);
    }
    assert_int_equal(served, MVPN_HTTP_PER_ADDRESS);
}

static void test_rate(void **state)
{
    char out[2048];
    unsigned refused = 0;
    (void)state;
    int fd = dial();
    for (unsigned i = 0; i < MVPN_HTTP_BURST * 3 && refused == 0; i++) {
        const char *text = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
        size_t len = 0;
        do {
            ssize_t n = recv(fd, out + len, sizeof(out) - 1 - len, 0);
            assert_true(n > 0);
            len += (size_t)n;
            out[len] = '\0';
        } while (strstr(out, "hello\n") == NULL && strstr(out, "again soon") == NULL);
        refused += strncmp(out, "HTTP/1.1 429", 12) == 0;
    }
    assert_int_equal(close(fd), 0);
    assert_int_equal(refused, 1);
    assert_true(handled >= MVPN_HTTP_BURST);
    (void)usleep(100000); /* the bucket fills: teardown asks too */
}

/* A byte now and then, for ever: the connection ends all the same. */
static void test_drip(void **state)
{
    (void)state;
    int fd = dial();
    unsigned i = 0;
    for (; i < 100 && send(fd, "G", 1, MSG_NOSIGNAL) == 1; i++) {
        (void)usleep(50000);
    }
    assert_in_range(i, 4, 30);
    assert_int_equal(close(fd), 0);
}

static void test_port_in_use(void **state)
{
    mvpn_http *second = NULL;
    mvpn_fault fault = {.text = ""};
    mvpn_loop *other;
    (void)state;
    assert_int_equal(mvpn_loop_new(&other), 0);
    mvpn_http_options o = {.loop = other,
                           .listen = {.family = 4, .port = port, .ip = {127, 0, 0, 1}},
                           .handler = handle};
    assert_int_equal(mvpn_http_open(&second, &o, &fault), MVPN_E_SYSTEM);
    assert_non_null(strstr(fault.text, "http_listen"));
    mvpn_loop_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_and_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_big, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drip, setup_short, teardown),
        cmocka_unit_test_setup_teardown(test_port_in_use, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
