/*
 * UDP batches over loopback: every datagram arrives once, whole and, per destination, in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "io/udp.h"

#define POOL 4096
#define CELL 1424u

static mvpn_packet_pool pool;

static int setup(void **state)
{
    (void)state;
    return mvpn_packet_pool_init(&pool, POOL);
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(pool.free_count, POOL); /* no packet was lost by any test */
    mvpn_packet_pool_done(&pool);
    return 0;
}

static mvpn_udp *open_on(const char *address, const mvpn_udp_options *options)
{
    mvpn_addr addr;
    mvpn_udp *udp = NULL;
    mvpn_fault fault = {{0}};
    assert_int_equal(mvpn_addr_parse(address, &addr), 0);
    int rc = mvpn_udp_open(&udp, &addr, 1, options, &fault);
    if (rc != 0) {
        print_error("%s\n", fault.text);
    }
    assert_int_equal(rc, 0);
    return udp;
}

/* First 4 bytes: number; the rest follows from it. */
static void push(mvpn_packet_queue *queue, const mvpn_addr *to, uint32_t number, uint32_t len)
{
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    uint8_t *at = mvpn_packet_append(p, len);
    memset(at, (int)(number & 0xff), len);
    mvpn_store32(at, number);
    p->remote = *to;
    mvpn_packet_queue_push(queue, p);
}

static void collect(mvpn_udp *udp, enum mvpn_udp_family family, mvpn_packet_queue *queue,
                    uint32_t want)
{
    while (queue->count < want) {
        struct pollfd pfd = {mvpn_udp_fd(udp, family), POLLIN, 0};
        assert_int_equal(poll(&pfd, 1, 2000), 1);
        assert_true(mvpn_udp_recv(udp, family, &pool, queue, 256) >= 0);
    }
    assert_int_equal(queue->count, want);
    assert_int_equal(mvpn_udp_recv(udp, family, &pool, queue, 256), 0);
}

static void check_next(mvpn_packet_queue *queue, const mvpn_addr *from, uint32_t number,
                       uint32_t len)
{
    mvpn_packet *p = mvpn_packet_queue_pop(queue);
    assert_non_null(p);
    assert_int_equal(p->len, len);
    assert_int_equal(mvpn_load32(p->data), number);
    assert_int_equal(p->data[len - 1], number & 0xff);
    assert_true(mvpn_addr_eq(&p->remote, from));
    mvpn_packet_free(&pool, p);
}

static const uint32_t mixed_lengths[] = {1424, 1424, 1424, 500,  1424, 1424, 100, 100, 100, 1424,
                                         64,   1200, 1424, 1424, 1424, 1424, 5,   6,   7,   1536};

static void run_mixed(const char *address, enum mvpn_udp_family family,
                      const mvpn_udp_options *options)
{
    mvpn_udp *a = open_on(address, options);
    mvpn_udp *b[3];
    mvpn_addr b_addr[3];
    mvpn_addr a_addr = mvpn_udp_local(a, family);
    mvpn_packet_queue queue;
    const uint32_t rounds = 10, rows = MVPN_ARRAY_LEN(mixed_lengths);
    mvpn_packet_queue_init(&queue);
    for (unsigned i = 0; i < 3; i++) {
        b[i] = open_on(address, options);
        b_addr[i] = mvpn_udp_local(b[i], family);
    }
    for (uint32_t n = 0; n < rounds * rows; n++) {
        for (unsigned i = 0; i < 3; i++) {
            push(&queue, &b_addr[i], n, mixed_lengths[n % rows]);
        }
    }
    assert_int_equal(mvpn_udp_send(a, &queue, &pool), 0);
    assert_int_equal(queue.count, 0);
    assert_int_equal(mvpn_udp_get_stats(a)->sent, 3 * rounds * rows);
    for (unsigned i = 0; i < 3; i++) {
        collect(b[i], family, &queue, rounds * rows);
        for (uint32_t n = 0; n < rounds * rows; n++) {
            check_next(&queue, &a_addr, n, mixed_lengths[n % rows]);
        }
        mvpn_udp_free(b[i]);
    }
    mvpn_udp_free(a);
}

static void test_mixed(void **state)
{
    (void)state;
    const mvpn_udp_options plain = {.no_gso = true, .no_gro = true};
    const mvpn_udp_options no_gro = {.no_gro = true};
    run_mixed("127.0.0.1:0", MVPN_UDP_V4, NULL);
    run_mixed("127.0.0.1:0", MVPN_UDP_V4, &plain);
    run_mixed("127.0.0.1:0", MVPN_UDP_V4, &no_gro);
    run_mixed("[::1]:0", MVPN_UDP_V6, NULL);
    run_mixed("[::1]:0", MVPN_UDP_V6, &plain);
}

/* 900 cells to 9 interleaved destinations: 100 each in 3 messages of at most 45, not 900 messages.
 */
static void test_grouping(void **state)
{
    (void)state;
    mvpn_udp *a = open_on("127.0.0.1:0", NULL);
    mvpn_udp *b = open_on("127.0.0.1:0", NULL);
    mvpn_addr to = mvpn_udp_local(b, MVPN_UDP_V4);
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    assert_true(mvpn_udp_has_gso(a, MVPN_UDP_V4));
    for (uint32_t n = 0; n < 800; n++) {
        mvpn_addr other = to;
        other.ip[3] = (uint8_t)(1 + n % 8); /* nobody listens on the others */
        push(&queue, &other, n, CELL);
    }
    assert_int_equal(mvpn_udp_send(a, &queue, &pool), 0);
    assert_int_equal(mvpn_udp_get_stats(a)->sent, 800);
    assert_in_range(mvpn_udp_get_stats(a)->send_messages, 8 * 3, 8 * 4);
    assert_true(mvpn_udp_has_gso(a, MVPN_UDP_V4));
    collect(b, MVPN_UDP_V4, &queue, 100);
    assert_true(mvpn_udp_get_stats(b)->recv_calls <= 4);
    mvpn_packet_queue_clear(&queue, &pool);
    mvpn_udp_free(a);
    mvpn_udp_free(b);
}

static void test_dual(void **state)
{
    (void)state;
    mvpn_addr addrs[2];
    mvpn_udp *a = NULL, *b = NULL;
    mvpn_fault fault;
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    assert_int_equal(mvpn_addr_parse("127.0.0.1:0", &addrs[0]), 0);
    assert_int_equal(mvpn_addr_parse("[::1]:0", &addrs[1]), 0);
    const mvpn_udp_options options = {.local = 7};
    assert_int_equal(mvpn_udp_open(&a, addrs, 2, &options, &fault), 0);
    assert_int_equal(mvpn_udp_open(&b, addrs, 2, &options, &fault), 0);
    mvpn_addr to[2] = {mvpn_udp_local(b, MVPN_UDP_V4), mvpn_udp_local(b, MVPN_UDP_V6)};
    for (uint32_t n = 0; n < 100; n++) {
        push(&queue, &to[n % 2], n, CELL);
    }
    mvpn_addr nowhere = {0};
    push(&queue, &nowhere, 100, CELL);
    assert_int_equal(mvpn_udp_send(a, &queue, &pool), 0);
    assert_int_equal(mvpn_udp_get_stats(a)->sent_unreachable, 1);
    for (uint32_t family = 0; family < 2; family++) {
        mvpn_addr from = mvpn_udp_local(a, (enum mvpn_udp_family)family);
        collect(b, (enum mvpn_udp_family)family, &queue, 50);
        assert_int_equal(MVPN_CONTAINER_OF(queue.head.next, mvpn_packet, link)->local, 7);
        for (uint32_t n = family; n < 100; n += 2) {
            check_next(&queue, &from, n, CELL);
        }
    }
    /* Two addresses of one family are refused; so is none of either. */
    mvpn_udp *c = NULL;
    addrs[1] = addrs[0];
    assert_int_equal(mvpn_udp_open(&c, addrs, 2, NULL, &fault), MVPN_E_INVAL);
    assert_int_equal(mvpn_udp_open(&c, &nowhere, 1, NULL, &fault), MVPN_E_INVAL);
    assert_null(c);
    mvpn_udp_free(a);
    mvpn_udp_free(b);
}

static void test_no_packets_left(void **state)
{
    (void)state;
    mvpn_udp *a = open_on("127.0.0.1:0", NULL);
    mvpn_udp *b = open_on("127.0.0.1:0", NULL);
    mvpn_addr to = mvpn_udp_local(b, MVPN_UDP_V4);
    mvpn_packet_pool small;
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    assert_int_equal(mvpn_packet_pool_init(&small, 10), 0);
    for (uint32_t n = 0; n < 30; n++) {
        push(&queue, &to, n, CELL);
    }
    assert_int_equal(mvpn_udp_send(a, &queue, &pool), 0);
    struct pollfd pfd = {mvpn_udp_fd(b, MVPN_UDP_V4), POLLIN, 0};
    assert_int_equal(poll(&pfd, 1, 2000), 1);
    assert_int_equal(mvpn_udp_recv(b, MVPN_UDP_V4, &small, &queue, 100), 10);
    assert_int_equal(mvpn_udp_get_stats(b)->received_no_packet, 20);
    mvpn_packet_queue_clear(&queue, &small);
    mvpn_packet_pool_done(&small);
    mvpn_udp_free(a);
    mvpn_udp_free(b);
}

static void test_port_in_use(void **state)
{
    (void)state;
    mvpn_udp *a = open_on("127.0.0.1:0", NULL);
    mvpn_udp *b = NULL;
    mvpn_addr addr = mvpn_udp_local(a, MVPN_UDP_V4);
    mvpn_fault fault;
    char port[16];
    (void)snprintf(port, sizeof(port), "port %u", (unsigned)addr.port);
    assert_int_equal(mvpn_udp_open(&b, &addr, 1, NULL, &fault), MVPN_E_CONFIG);
    assert_null(b);
    assert_non_null(strstr(fault.text, port));
    assert_non_null(strstr(fault.text, "another program uses"));
    assert_int_equal(mvpn_addr_parse("192.0.2.1:0", &addr), 0);
    assert_int_equal(mvpn_udp_open(&b, &addr, 1, NULL, &fault), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "does not have that address"));
    mvpn_udp_free(a);
}

/* Datagrams longer than a packet are counted, not cut; those around them arrive. */
static void test_too_long(void **state)
{
    (void)state;
    static uint8_t big[9000];
    mvpn_udp *b = open_on("127.0.0.1:0", NULL);
    mvpn_addr to = mvpn_udp_local(b, MVPN_UDP_V4);
    struct sockaddr_in {
        uint16_t family;
        uint8_t port[2];
        uint8_t ip[4];
        uint8_t zero[8];
    } sin = {AF_INET, {0}, {127, 0, 0, 1}, {0}};
    mvpn_store16(sin.port, to.port);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const size_t lengths[] = {20, sizeof(big), MVPN_PACKET_ROOM, MVPN_PACKET_ROOM + 1, 20};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(lengths); i++) {
        assert_int_equal(
            sendto(fd, big, lengths[i], 0, (const struct sockaddr *)(void *)&sin, sizeof(sin)),
            lengths[i]);
    }
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    collect(b, MVPN_UDP_V4, &queue, 3);
    assert_int_equal(mvpn_udp_get_stats(b)->received_too_long, 2);
    mvpn_packet_queue_clear(&queue, &pool);
    (void)close(fd);
    mvpn_udp_free(b);
}

/* In a namespace of its own: loopback with a small MTU, no route elsewhere. Returns an exit code.
 */
static int small_mtu_child(bool gso)
{
    const mvpn_udp_options options = {.no_gso = !gso};
    struct ifreq ifr = {0};
    if (unshare(CLONE_NEWNET) != 0) {
        return 10;
    }
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    (void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "lo");
    ifr.ifr_flags = IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &ifr) != 0) {
        return 11;
    }
    ifr.ifr_mtu = 1300;
    if (ioctl(fd, SIOCSIFMTU, &ifr) != 0) {
        return 12;
    }
    (void)close(fd);
    mvpn_udp *a = open_on("127.0.0.1:0", &options);
    mvpn_udp *b = open_on("127.0.0.1:0", NULL);
    mvpn_addr to = mvpn_udp_local(b, MVPN_UDP_V4), reported, far;
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    for (uint32_t n = 0; n < 40; n++) { /* too big together and alone */
        push(&queue, &to, n, CELL);
    }
    for (uint32_t n = 40; n < 60; n++) {
        push(&queue, &to, n, 1200);
    }
    push(&queue, &to, 60, CELL); /* an MTU probe: lost without a report */
    MVPN_CONTAINER_OF(queue.head.prev, mvpn_packet, link)->flags |= MVPN_PACKET_PROBE;
    if (mvpn_addr_parse("203.0.113.5:1", &far) != 0) {
        return 13;
    }
    push(&queue, &far, 61, 100);
    push(&queue, &far, 62, 100);
    if (mvpn_udp_send(a, &queue, &pool) != 0) {
        return 14;
    }
    const mvpn_udp_stats *stats = mvpn_udp_get_stats(a);
    if (stats->sent_too_big != 41 || stats->sent != 20 || stats->sent_unreachable != 2) {
        return 15;
    }
    if (!mvpn_udp_pull_too_big(a, &reported) || !mvpn_addr_eq(&reported, &to) ||
        mvpn_udp_pull_too_big(a, &reported)) {
        return 16;
    }
    if (mvpn_udp_has_gso(a, MVPN_UDP_V4) != gso) {
        return 17; /* the size was at fault, not the offload */
    }
    collect(b, MVPN_UDP_V4, &queue, 20);
    mvpn_packet_queue_clear(&queue, &pool);
    mvpn_udp_free(a);
    mvpn_udp_free(b);
    return pool.free_count == POOL ? 0 : 18;
}

/*
 * In a namespace of its own: loopback at 200 Mbit/s and a small send buffer. Sending stops in the
 * middle, goes on when the socket is writable, and nothing is lost or out of order. Returns an exit
 * code.
 */
static int full_socket_child(bool gso)
{
    const uint32_t total = 2000;
    const mvpn_udp_options options = {.no_gso = !gso};
    mvpn_packet_queue out, in[2];
    uint32_t blocked = 0;
    /* On one processor: what others' timers let out of the queue would overtake. */
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof(one), &one) != 0 || unshare(CLONE_NEWNET) != 0 ||
        system(
            "ip link set lo up && tc qdisc add dev lo root tbf rate 200mbit burst 200k limit 4m") !=
            0) {
        return 10;
    }
    mvpn_udp *a = open_on("127.0.0.1:0", &options);
    mvpn_udp *b[2] = {open_on("127.0.0.1:0", NULL), open_on("127.0.0.1:0", NULL)};
    mvpn_addr a_addr = mvpn_udp_local(a, MVPN_UDP_V4);
    int size = 100000;
    if (setsockopt(mvpn_udp_fd(a, MVPN_UDP_V4), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) != 0) {
        return 11;
    }
    mvpn_packet_queue_init(&out);
    mvpn_packet_queue_init(&in[0]);
    mvpn_packet_queue_init(&in[1]);
    for (uint32_t n = 0; n < total; n++) {
        mvpn_addr to = mvpn_udp_local(b[n % 2], MVPN_UDP_V4);
        push(&out, &to, n, n % 7 == 0 ? 900 : CELL);
    }
    while (mvpn_udp_send(a, &out, &pool) == MVPN_E_AGAIN) {
        struct pollfd pfd = {mvpn_udp_fd(a, MVPN_UDP_V4), POLLOUT, 0};
        if (out.count == 0 || !mvpn_udp_is_blocked(a, MVPN_UDP_V4) ||
            mvpn_udp_is_blocked(a, MVPN_UDP_V6) || poll(&pfd, 1, 3000) != 1) {
            return 12;
        }
        blocked++;
    }
    if (blocked == 0 || out.count != 0 || mvpn_udp_is_blocked(a, MVPN_UDP_V4)) {
        return 13;
    }
    if (mvpn_udp_get_stats(a)->sent != total || mvpn_udp_has_gso(a, MVPN_UDP_V4) != gso) {
        return 14;
    }
    for (uint32_t i = 0; i < 2; i++) {
        collect(b[i], MVPN_UDP_V4, &in[i], total / 2);
        for (uint32_t n = i; n < total; n += 2) {
            check_next(&in[i], &a_addr, n, n % 7 == 0 ? 900 : CELL);
        }
        mvpn_udp_free(b[i]);
    }
    mvpn_udp_free(a);
    return pool.free_count == POOL ? 0 : 15;
}

/* Run `child` apart, as it leaves this network namespace. */
static void run_apart(int (*child)(bool), bool arg)
{
    int status = 0;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(child(arg));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_small_mtu(void **state)
{
    (void)state;
    run_apart(small_mtu_child, true);
    run_apart(small_mtu_child, false);
}

static void test_full_socket(void **state)
{
    (void)state;
    run_apart(full_socket_child, true);
    run_apart(full_socket_child, false);
}

/* A socket that must not compute checksums cannot do UDP_SEGMENT: found out with the first batch.
 */
static void test_gso_refused(void **state)
{
    (void)state;
    mvpn_udp *a = open_on("127.0.0.1:0", NULL);
    mvpn_udp *b = open_on("127.0.0.1:0", NULL);
    mvpn_addr from = mvpn_udp_local(a, MVPN_UDP_V4), to = mvpn_udp_local(b, MVPN_UDP_V4);
    mvpn_packet_queue queue;
    int on = 1;
    mvpn_packet_queue_init(&queue);
    assert_int_equal(
        setsockopt(mvpn_udp_fd(a, MVPN_UDP_V4), SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
    for (uint32_t n = 0; n < 200; n++) {
        push(&queue, &to, n, CELL);
    }
    assert_int_equal(mvpn_udp_send(a, &queue, &pool), 0);
    assert_int_equal(mvpn_udp_get_stats(a)->sent, 200);
    assert_false(mvpn_udp_has_gso(a, MVPN_UDP_V4));
    collect(b, MVPN_UDP_V4, &queue, 200);
    for (uint32_t n = 0; n < 200; n++) {
        check_next(&queue, &from, n, CELL);
    }
    mvpn_udp_free(a);
    mvpn_udp_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixed),       cmocka_unit_test(test_grouping),
        cmocka_unit_test(test_dual),        cmocka_unit_test(test_no_packets_left),
        cmocka_unit_test(test_port_in_use), cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_small_mtu),   cmocka_unit_test(test_full_socket),
        cmocka_unit_test(test_gso_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
