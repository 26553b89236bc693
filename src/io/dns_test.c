/*
 * The exit's ways to its resolver, on loopback: a port for each question by UDP; and questions by
 * TCP from sessions' addresses through the exit core.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "exit/dns.h"
#include "io/clock.h"
#include "io/dns_sockets.h"
#include "io/dns_tcp.h"

#define PACKETS 2048
#define MANY 600

static mvpn_packet_pool pool;
static mvpn_packet_queue received, queue;
static mvpn_loop *loop;

static int setup(void **state)
{
    (void)state;
    mvpn_packet_queue_init(&received);
    mvpn_packet_queue_init(&queue);
    return mvpn_packet_pool_init(&pool, PACKETS) != 0 || mvpn_loop_new(&loop) != 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_loop_free(loop);
    mvpn_packet_queue_clear(&received, &pool);
    bool whole = pool.free_count == PACKETS;
    mvpn_packet_pool_done(&pool);
    return !whole;
}

static void stop_loop(void *ctx)
{
    (void)ctx;
    mvpn_loop_stop(loop);
}

static void run_ms(unsigned ms)
{
    mvpn_loop_timer *timer = NULL;
    assert_int_equal(mvpn_loop_timer_new(loop, stop_loop, NULL, &timer), 0);
    mvpn_loop_timer_set(timer, ms);
    assert_int_equal(mvpn_loop_run(loop), 0);
    mvpn_loop_timer_free(timer);
}

/* A socket on loopback and its address. */
static int serve(int type, mvpn_addr *ret)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, type, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *ret = (mvpn_addr){.family = 4, .port = ntohs(at.sin_port), .ip = {127, 0, 0, 1}};
    return fd;
}

static void push(const mvpn_addr *to, uint16_t id)
{
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    memset(mvpn_packet_append(p, 17), 0, 17);
    mvpn_store16(p->data, id);
    p->remote = *to;
    mvpn_packet_queue_push(&queue, p);
}

static int compare_ports(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

static void a_port_for_each_question(void **state)
{
    (void)state;
    mvpn_dns_sockets *s = NULL;
    mvpn_addr to;
    mvpn_fault fault;
    static struct sockaddr_in from[MANY];
    static uint16_t ports[MANY];
    uint8_t p[64];
    int server = serve(SOCK_DGRAM, &to), size = 4 << 20;
    (void)setsockopt(server, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_int_equal(mvpn_dns_sockets_new(loop, &pool, &received, &s, &fault), 0);
    for (uint16_t i = 0; i < MANY; i++) {
        push(&to, (uint16_t)(1000 + i));
    }
    mvpn_dns_sockets_send(s, &queue, mvpn_clock_now());
    assert_int_equal(mvpn_dns_sockets_count(s), MVPN_DNS_SOCKETS_MAX);
    for (unsigned i = 0; i < MANY; i++) {
        socklen_t len = sizeof(from[i]);
        assert_int_equal(
            recvfrom(server, p, sizeof(p), MSG_DONTWAIT, (struct sockaddr *)&from[i], &len), 17);
        assert_int_equal(mvpn_load16(p), 1000 + i);
        ports[i] = ntohs(from[i].sin_port);
    }
    /* No two of the first share one, and they do not count up. */
    unsigned next = 0, same = 0;
    for (unsigned i = 1; i < MVPN_DNS_SOCKETS_MAX; i++) {
        next += ports[i] == ports[i - 1] + 1 || ports[i] == ports[i - 1] + 2;
    }
    assert_in_range(next, 0, MVPN_DNS_SOCKETS_MAX / 4);
    qsort(ports, MVPN_DNS_SOCKETS_MAX, sizeof(ports[0]), compare_ports);
    for (unsigned i = 1; i < MVPN_DNS_SOCKETS_MAX; i++) {
        same += ports[i] == ports[i - 1];
    }
    assert_int_equal(same, 0);
    /* To the right port with a wrong id; with the right id to a wrong port; from a stranger. */
    mvpn_addr unused;
    int stranger = serve(SOCK_DGRAM, &unused);
    memset(p, 0, sizeof(p));
    mvpn_store16(p, 1001);
    (void)sendto(server, p, 17, 0, (struct sockaddr *)&from[0], sizeof(from[0]));
    (void)sendto(stranger, p, 17, 0, (struct sockaddr *)&from[1], sizeof(from[1]));
    (void)sendto(server, p, 5, 0, (struct sockaddr *)&from[1], sizeof(from[1]));
    run_ms(50);
    assert_int_equal(received.count, 0);
    for (unsigned i = 0; i < MANY; i++) {
        mvpn_store16(p, (uint16_t)(1000 + i));
        assert_int_equal(sendto(server, p, 17, 0, (struct sockaddr *)&from[i], sizeof(from[i])),
                         17);
    }
    run_ms(100);
    assert_int_equal(received.count, MANY);
    assert_int_equal(mvpn_dns_sockets_count(s), 0);
    mvpn_packet *first = mvpn_packet_queue_pop(&received);
    assert_true(mvpn_addr_eq(&first->remote, &to));
    assert_int_equal(first->local, MVPN_LOCAL_DNS);
    mvpn_packet_free(&pool, first);
    /* Unanswered ones end by themselves. */
    push(&to, 7);
    mvpn_dns_sockets_send(s, &queue, mvpn_clock_now() - MVPN_DNS_TIMEOUT);
    assert_int_equal(mvpn_dns_sockets_count(s), 1);
    run_ms(1100);
    assert_int_equal(mvpn_dns_sockets_count(s), 0);
    push(&to, 7);
    mvpn_dns_sockets_send(s, &queue, mvpn_clock_now());
    mvpn_dns_sockets_free(s);
    (void)close(server);
    (void)close(stranger);
}

/* ---- by TCP ---- */

#define LONG 30000

static const uint8_t question[] = "\x11\x11\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1";
#define QUESTION 19

struct talk {
    mvpn_addr at;     /* the listener */
    mvpn_addr source; /* a session's address */
    int stop[2];
    char failed[64]; /* what went wrong; "" */
    unsigned upstream_asked;
    int upstream;
};

static void *run_upstream(void *ctx)
{
    struct talk *t = ctx;
    static uint8_t p[2 + 65535];
    for (;;) {
        int fd = accept(t->upstream, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        if (recv(fd, p, 2 + QUESTION, MSG_WAITALL) == 2 + QUESTION) {
            t->upstream_asked++;
            size_t n = 2 + QUESTION;
            p[4] |= 0x80;
            unsigned count = p[15] == 'l' ? LONG / 16 : 1;
            mvpn_store16(p + 8, (uint16_t)count);
            for (unsigned i = 0; i < count; i++, n += 16) {
                memcpy(p + n, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0b\1\2\3", 16);
                p[n + 12] = p[15] == 'p' ? 10 : 11;
            }
            mvpn_store16(p, (uint16_t)(n - 2));
            (void)send(fd, p, n, MSG_NOSIGNAL);
        }
        (void)close(fd);
    }
}

static int connect_from(const struct talk *t)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    struct timeval limit = {.tv_sec = 5};
    memcpy(&from.sin_addr, t->source.ip, 4);
    memcpy(&to.sin_addr, t->at.ip, 4);
    to.sin_port = htons(t->at.port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Ask for a name of one letter; how long the answer is, its first record's first byte in `ret`. */
static int ask(int fd, char name, uint8_t *ret)
{
    static uint8_t p[2 + 65535];
    memcpy(p + 2, question, QUESTION);
    p[15] = (uint8_t)name;
    mvpn_store16(p, QUESTION);
    if (send(fd, p, 1, MSG_NOSIGNAL) != 1 || /* in pieces */
        send(fd, p + 1, QUESTION + 1, MSG_NOSIGNAL) != QUESTION + 1 ||
        recv(fd, p, 2, MSG_WAITALL) != 2) {
        return -1;
    }
    int n = mvpn_load16(p);
    if (recv(fd, p, (size_t)n, MSG_WAITALL) != n || mvpn_load16(p) != 0x1111) {
        return -1;
    }
    *ret = n > QUESTION ? p[QUESTION + 12] : 0;
    return n;
}

static void *run_client(void *ctx)
{
    struct talk *t = ctx;
    static const struct {
        char name;
        int len;
        uint8_t byte;
        unsigned asked; /* of the resolver, so far */
    } rows[] = {
        {'a', QUESTION + 16, 11, 1},
        {'b', QUESTION + 16, 11, 2},
        {'a', QUESTION + 16, 11, 2}, /* kept */
        {'p', QUESTION, 0, 3},       /* private */
        {'p', QUESTION, 0, 4},       /* and not kept */
        {'l', QUESTION + LONG / 16 * 16, 11, 5},
    };
    int fd = connect_from(t), more[MVPN_DNS_TCP_SESSION_MAX];
    uint8_t byte = 0, junk[4] = {0, 3, 1, 1};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows) && t->failed[0] == '\0'; i++) {
        int n = ask(fd, rows[i].name, &byte);
        if (n != rows[i].len || byte != rows[i].byte || t->upstream_asked != rows[i].asked) {
            (void)snprintf(t->failed, sizeof(t->failed), "row %zu: %d bytes, %u asked", i, n,
                           t->upstream_asked);
        }
    }
    /* A session has so many connections, and no more; what is no message ends one. */
    for (size_t i = 0; i < MVPN_ARRAY_LEN(more); i++) {
        more[i] = connect_from(t);
        int n = ask(more[i], 'a', &byte);
        if ((n > 0) != (i + 1 < MVPN_DNS_TCP_SESSION_MAX) && t->failed[0] == '\0') {
            (void)snprintf(t->failed, sizeof(t->failed), "connection %zu: %d", i + 2, n);
        }
    }
    if ((send(fd, junk, sizeof(junk), MSG_NOSIGNAL) != 4 || recv(fd, junk, 1, 0) > 0) &&
        t->failed[0] == '\0') {
        (void)snprintf(t->failed, sizeof(t->failed), "junk was not refused");
    }
    /* Nobody's address. */
    struct talk stranger = *t;
    memcpy(stranger.source.ip, (uint8_t[4]){127, 0, 0, 1}, 4);
    int other = connect_from(&stranger);
    if (ask(other, 'a', &byte) >= 0 && t->failed[0] == '\0') {
        (void)snprintf(t->failed, sizeof(t->failed), "a stranger was answered");
    }
    (void)close(other);
    (void)close(fd);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(more); i++) {
        (void)close(more[i]);
    }
    (void)!write(t->stop[1], "", 1);
    return NULL;
}

static void on_stop(void *ctx, unsigned events)
{
    (void)ctx;
    (void)events;
    mvpn_loop_stop(loop);
}

static void questions_by_tcp(void **state)
{
    (void)state;
    struct talk t = {.failed = ""};
    mvpn_addr dns, probe, unused;
    mvpn_rng rng;
    mvpn_exit *exit = NULL;
    mvpn_policy_error error;
    mvpn_dns_tcp *tcp = NULL;
    mvpn_fault fault = {.text = ""};
    mvpn_loop_watch *watch = NULL;
    uint32_t id = 0;
    pthread_t client, upstream;
    t.upstream = serve(SOCK_STREAM, &dns);
    assert_int_equal(listen(t.upstream, 16), 0);
    (void)close(serve(SOCK_STREAM, &probe)); /* a port that is free */
    mvpn_rng_init_test(&rng, 5);
    mvpn_exit_config c = {.packets = &pool,
                          .rng = &rng,
                          .pool_v4 = {.family = 4, .ip = {127}},
                          .pool_v4_bits = 16,
                          .pool_v6 = {.family = 6, .ip = {0xfd}},
                          .dns = &dns,
                          .dns_count = 1,
                          .dns_stream = true,
                          .sessions_max = 4};
    assert_int_equal(mvpn_exit_new(&c, &exit, &error), 0);
    assert_int_equal(mvpn_exit_session_open(exit, 1289, false, 0, &id), 0);
    assert_int_equal(mvpn_exit_session_addrs(exit, id, &t.source, &unused), 0);
    mvpn_dns_tcp_options o = {.loop = loop, .exit = exit, .listen = {probe}};
    if (mvpn_dns_tcp_open(&o, &tcp, &fault) != 0) {
        fail_msg("%s", fault.text);
    }
    t.at = probe;
    assert_int_equal(pipe(t.stop), 0);
    assert_int_equal(mvpn_loop_watch_fd(loop, t.stop[0], MVPN_LOOP_READABLE, on_stop, NULL, &watch),
                     0);
    assert_int_equal(pthread_create(&upstream, NULL, run_upstream, &t), 0);
    assert_int_equal(pthread_create(&client, NULL, run_client, &t), 0);
    assert_int_equal(mvpn_loop_run(loop), 0);
    (void)pthread_join(client, NULL);
    mvpn_loop_unwatch(watch);
    run_ms(50);
    assert_int_equal(mvpn_dns_tcp_count(tcp), 0);
    (void)shutdown(t.upstream, SHUT_RDWR);
    (void)pthread_join(upstream, NULL);
    mvpn_dns_tcp_close(tcp);
    assert_string_equal(t.failed, "");
    const mvpn_exit_counters *counters = mvpn_exit_get_counters(exit);
    assert_int_equal(counters->dns_private, 2);
    mvpn_exit_free(exit);
    (void)close(t.stop[0]);
    (void)close(t.stop[1]);
    (void)close(t.upstream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_port_for_each_question, setup, teardown),
        cmocka_unit_test_setup_teardown(questions_by_tcp, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
