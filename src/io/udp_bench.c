/*
 * What a datagram costs at the system edge: bursts of cells over a veth pair between two network
 * namespaces, sent and received by io/udp, with and without the kernel's offloads. The sender's
 * time holds the way through both stacks up to the receiving socket, as it runs on the same core.
 * Needs root.
 *
 *   ns A: va 10.77.0.1 ---- veth ---- vb 10.77.0.2 :ns B
 */
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "io/udp.h"

#define CELL 1424u
#define POOL 2048
#define BURST 360u
#define ROUNDS 400u

static void fail(const char *what)
{
    (void)fprintf(stderr, "udp_bench: %s\n", what);
    exit(1);
}

static void run(const char *command)
{
    if (system(command) != 0) {
        fail(command);
    }
}

static double now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int this_namespace(void)
{
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fail("no network namespaces");
    }
    return fd;
}

static void enter(int ns)
{
    if (setns(ns, CLONE_NEWNET) != 0) {
        fail("cannot enter a namespace");
    }
}

static mvpn_udp *open_in(int ns, const char *address, const mvpn_udp_options *options)
{
    mvpn_addr addr;
    mvpn_udp *udp = NULL;
    mvpn_fault fault;
    enter(ns);
    if (mvpn_addr_parse(address, &addr) != 0 ||
        mvpn_udp_open(&udp, &addr, 1, options, &fault) != 0) {
        fail(fault.text);
    }
    return udp;
}

static void burst(mvpn_packet_queue *queue, mvpn_packet_pool *pool, const mvpn_addr *to,
                  unsigned targets)
{
    for (unsigned i = 0; i < BURST; i++) {
        mvpn_packet *p = mvpn_packet_new(pool);
        memset(mvpn_packet_append(p, CELL), (int)i, CELL);
        p->remote = *to;
        p->remote.port = (uint16_t)(to->port + i % targets); /* as cells to several neighbours */
        mvpn_packet_queue_push(queue, p);
    }
}

static void measure(int ns_a, int ns_b, mvpn_packet_pool *pool, bool gso, bool gro,
                    unsigned targets)
{
    const mvpn_udp_options options_a = {.no_gso = !gso}, options_b = {.no_gro = !gro};
    mvpn_udp *a = open_in(ns_a, "10.77.0.1:0", &options_a);
    mvpn_udp *b[8] = {NULL};
    mvpn_addr to;
    mvpn_packet_queue queue;
    double send_ns = 0, recv_ns = 0;
    unsigned received = 0;
    for (unsigned t = 0; t < targets; t++) {
        char address[32];
        (void)snprintf(address, sizeof(address), "10.77.0.2:%u", 7000 + t);
        b[t] = open_in(ns_b, address, &options_b);
    }
    to = mvpn_udp_local(b[0], MVPN_UDP_V4);
    mvpn_packet_queue_init(&queue);
    for (unsigned round = 0; round < ROUNDS; round++) {
        burst(&queue, pool, &to, targets);
        double start = now_ns();
        while (mvpn_udp_send(a, &queue, pool) == MVPN_E_AGAIN) {
        }
        send_ns += now_ns() - start;
        start = now_ns();
        for (unsigned t = 0; t < targets; t++) {
            int n = mvpn_udp_recv(b[t], MVPN_UDP_V4, pool, &queue, 4096);
            received += n > 0 ? (unsigned)n : 0;
        }
        recv_ns += now_ns() - start;
        mvpn_packet_queue_clear(&queue, pool);
    }
    (void)printf("gso %d gro %d destinations %u: send %5.0f ns, recv %5.0f ns a datagram of %u; "
                 "%.1f %% arrived\n",
                 gso, gro, targets, send_ns / (BURST * ROUNDS),
                 recv_ns / (received > 0 ? received : 1), CELL,
                 100.0 * received / (BURST * ROUNDS));
    for (unsigned t = 0; t < targets; t++) {
        mvpn_udp_free(b[t]);
    }
    mvpn_udp_free(a);
}

int main(void)
{
    char command[160];
    mvpn_packet_pool pool;
    if (unshare(CLONE_NEWNET) != 0) {
        fail("run it as root");
    }
    int ns_a = this_namespace();
    if (unshare(CLONE_NEWNET) != 0) {
        fail("run it as root");
    }
    int ns_b = this_namespace();
    run("ip link add vb type veth peer name va");
    (void)snprintf(command, sizeof(command), "ip link set va netns /proc/%d/fd/%d", (int)getpid(),
                   ns_a);
    run(command);
    run("ip addr add 10.77.0.2/24 dev vb && ip link set vb mtu 1500 up && ip link set lo up");
    enter(ns_a);
    run("ip addr add 10.77.0.1/24 dev va && ip link set va mtu 1500 up && ip link set lo up");
    if (mvpn_packet_pool_init(&pool, POOL) != 0) {
        fail("no memory");
    }
    for (unsigned repeat = 0; repeat < 2; repeat++) {
        measure(ns_a, ns_b, &pool, false, false, 1);
        measure(ns_a, ns_b, &pool, true, false, 1);
        measure(ns_a, ns_b, &pool, true, true, 1);
        measure(ns_a, ns_b, &pool, true, true, 4);
    }
    mvpn_packet_pool_done(&pool);
    return 0;
}
