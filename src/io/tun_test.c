/*
 * The TUN device in a network namespace of the test's own: packets of the host's stack come out
 * whole and with right checksums, packets written go in, large transfers are split and joined.
 * Needs root.
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
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "io/netlink.h"
#include "io/tun.h"

#define POOL 4096

static mvpn_packet_pool pool;
static mvpn_netlink *nl;

static int group_setup(void **state)
{
    (void)state;
    mvpn_fault fault;
    if (unshare(CLONE_NEWNET) != 0) {
        print_error("this test needs root: it makes a network namespace\n");
        return -1;
    }
    return mvpn_packet_pool_init(&pool, POOL) != 0 || mvpn_netlink_open(&nl, &fault) != 0;
}

static int group_teardown(void **state)
{
    (void)state;
    mvpn_netlink_close(nl);
    assert_int_equal(pool.free_count, POOL);
    mvpn_packet_pool_done(&pool);
    return 0;
}

static mvpn_tun *open_up(const mvpn_tun_options *options)
{
    mvpn_tun *tun = NULL;
    mvpn_fault fault = {{0}};
    uint32_t index = 0;
    mvpn_prefix four, six;
    assert_int_equal(mvpn_prefix_parse("10.8.0.2/24", &four), 0);
    assert_int_equal(mvpn_prefix_parse("fd6d:7670:6e00::2/64", &six), 0);
    int rc = mvpn_tun_open(&tun, options, &fault);
    if (rc != 0) {
        print_error("%s\n", fault.text);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(mvpn_netlink_index(nl, mvpn_tun_name(tun), &index, &fault), 0);
    assert_int_equal(mvpn_netlink_link_up(nl, index, 1420, &fault), 0);
    assert_int_equal(mvpn_netlink_addr_add(nl, index, &four, &fault), 0);
    assert_int_equal(mvpn_netlink_addr_add(nl, index, &six, &fault), 0);
    return tun;
}

/* Internet checksum over pseudo-header and segment; 0xffff or 0 means right. (RFC 1071) */
static uint32_t sum(const uint8_t *p, size_t n)
{
    uint32_t s = 0;
    for (size_t i = 0; i < n; i++) {
        s += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
    }
    return s;
}

static bool checksum_is_right(const mvpn_packet *p)
{
    bool is_v6 = p->data[0] >> 4 == 6;
    size_t header = is_v6 ? 40 : (size_t)(p->data[0] & 15) * 4;
    size_t addresses = is_v6 ? 8 : 12;
    uint32_t protocol = is_v6 ? p->data[6] : p->data[9];
    uint64_t s = sum(p->data + addresses, header - addresses) +
                 sum(p->data + header, p->len - header) + protocol + (p->len - header);
    while (s >> 16 != 0) {
        s = (s & 0xffff) + (s >> 16);
    }
    return s == 0xffff;
}

/* Wait for packets and read them; what the kernel says on its own (IPv6 neighbours) is thrown away.
 */
static void read_some(mvpn_tun *tun, mvpn_packet_queue *queue, unsigned want, uint8_t protocol)
{
    mvpn_packet_queue all;
    mvpn_packet_queue_init(&all);
    while (queue->count < want) {
        struct pollfd pfd = {mvpn_tun_fd(tun), POLLIN, 0};
        mvpn_packet *p;
        assert_int_equal(poll(&pfd, 1, 3000), 1);
        assert_true(mvpn_tun_read(tun, &pool, &all, 1024) >= 0);
        while ((p = mvpn_packet_queue_pop(&all)) != NULL) {
            uint8_t got = p->data[0] >> 4 == 6 ? p->data[6] : p->data[9];
            if (got == protocol) {
                mvpn_packet_queue_push(queue, p);
            } else {
                mvpn_packet_free(&pool, p);
            }
        }
    }
}

static int udp_socket(const char *address, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, address, &sa.sin_addr), 1);
    assert_int_equal(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
    sa.sin_port = htons(5000);
    assert_int_equal(inet_pton(AF_INET, "10.8.0.9", &sa.sin_addr), 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

/* Turn a packet round: addresses and ports swapped leave all checksums right. */
static void turn_round(mvpn_packet *p)
{
    uint8_t tmp[4];
    memcpy(tmp, p->data + 12, 4);
    memcpy(p->data + 12, p->data + 16, 4);
    memcpy(p->data + 16, tmp, 4);
    memcpy(tmp, p->data + 20, 2);
    memcpy(p->data + 20, p->data + 22, 2);
    memcpy(p->data + 22, tmp, 2);
}

/* Datagrams out of the host's stack and, turned round, back into it. */
static void run_udp(const mvpn_tun_options *options)
{
    mvpn_tun *tun = open_up(options);
    mvpn_packet_queue queue;
    uint8_t data[1392];
    const size_t lengths[] = {1392, 1392, 1, 700, 1392};
    mvpn_packet_queue_init(&queue);
    int fd = udp_socket("10.8.0.2", 4000);
    for (unsigned i = 0; i < 50; i++) {
        memset(data, (int)i, sizeof(data));
        assert_int_equal(send(fd, data, lengths[i % 5], 0), (ssize_t)lengths[i % 5]);
    }
    read_some(tun, &queue, 50, IPPROTO_UDP);
    unsigned i = 0;
    MVPN_LIST_FOREACH(it, &queue.head)
    {
        mvpn_packet *p = MVPN_CONTAINER_OF(it, mvpn_packet, link);
        assert_int_equal(p->len, 28 + lengths[i % 5]);
        assert_int_equal(p->data[p->len - 1], i);
        assert_true(checksum_is_right(p));
        assert_int_equal(mvpn_packet_headroom(p), MVPN_PACKET_HEADROOM);
        turn_round(p);
        i++;
    }
    assert_int_equal(mvpn_tun_write(tun, &queue, &pool), 0);
    assert_int_equal(queue.count, 0);
    for (i = 0; i < 50; i++) {
        assert_int_equal(recv(fd, data, sizeof(data), 0), (ssize_t)lengths[i % 5]);
        assert_int_equal(data[lengths[i % 5] - 1], i);
    }
    assert_int_equal(recv(fd, data, sizeof(data), 0), -1);
    /* The kernel refuses what is no IP packet: counted, not fatal. */
    mvpn_packet *junk = mvpn_packet_new(&pool);
    memset(mvpn_packet_append(junk, 40), 0xff, 40);
    mvpn_packet_queue_push(&queue, junk);
    assert_int_equal(mvpn_tun_write(tun, &queue, &pool), 0);
    assert_int_equal(mvpn_tun_get_stats(tun)->write_failed, 1);
    (void)close(fd);
    mvpn_tun_close(tun);
}

static void test_udp(void **state)
{
    (void)state;
    run_udp(&(mvpn_tun_options){.name = "mvpn%d"});
    run_udp(&(mvpn_tun_options){.name = "mvpn%d", .no_offload = true});
}

static void test_no_packets_left(void **state)
{
    (void)state;
    mvpn_tun *tun = open_up(&(mvpn_tun_options){.name = "mvpn%d"});
    mvpn_packet_pool small;
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    assert_int_equal(mvpn_packet_pool_init(&small, 5), 0);
    int fd = udp_socket("10.8.0.2", 4000);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(send(fd, "x", 1, 0), 1);
    }
    assert_int_equal(mvpn_tun_read(tun, &small, &queue, 100), 5);
    assert_true(mvpn_tun_get_stats(tun)->read_no_packet >= 15);
    mvpn_packet_queue_clear(&queue, &small);
    mvpn_packet_pool_done(&small);
    (void)close(fd);
    mvpn_tun_close(tun);
}

/* A descriptor from elsewhere, as an app hands it over: with a header or without. */
static void test_given_fd(void **state)
{
    (void)state;
    static const short flags[] = {IFF_TUN | IFF_NO_PI, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    for (unsigned i = 0; i < 2; i++) {
        struct ifreq ifr = {0};
        int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        (void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "app0");
        ifr.ifr_flags = flags[i];
        assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
        run_udp(&(mvpn_tun_options){.use_fd = true, .fd = fd});
    }
    mvpn_tun *tun = NULL;
    mvpn_fault fault;
    assert_int_equal(mvpn_tun_open(&tun, &(mvpn_tun_options){.use_fd = true, .fd = 9999}, &fault),
                     MVPN_E_CONFIG);
    assert_null(tun);
}

static void test_refusals(void **state)
{
    (void)state;
    mvpn_fault fault;
    mvpn_tun *tun = open_up(&(mvpn_tun_options){.name = "taken"});
    mvpn_tun *other = NULL;
    static const char *const bad[] = {"", "a/b", "1234567890123456", "a b", "x%d%d", "%s", "a\"b"};
    assert_int_equal(mvpn_tun_open(&other, &(mvpn_tun_options){.name = "taken"}, &fault),
                     MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "in use by another program"));
    assert_int_equal(mvpn_tun_open(&other, &(mvpn_tun_options){.name = "lo"}, &fault),
                     MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "no TUN device"));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad); i++) {
        assert_int_equal(mvpn_tun_open(&other, &(mvpn_tun_options){.name = bad[i]}, &fault),
                         MVPN_E_CONFIG);
        assert_non_null(strstr(fault.text, "bad interface name"));
    }
    assert_null(other);
    mvpn_tun_close(tun);
}

static void carry(mvpn_tun *from, mvpn_tun *to)
{
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    assert_true(mvpn_tun_read(from, &pool, &queue, 1024) >= 0);
    MVPN_LIST_FOREACH(it, &queue.head)
    {
        mvpn_packet *p = MVPN_CONTAINER_OF(it, mvpn_packet, link);
        assert_true(p->len <= 1420);
        assert_true(checksum_is_right(p) || p->data[9] != IPPROTO_TCP || p->data[0] != 0x45);
        p->flags = 0; /* as after a journey */
    }
    assert_int_equal(mvpn_tun_write(to, &queue, &pool), 0);
}

/*
 * 16 MB of TCP between two namespaces over two TUN devices with this test as the wire: whole, in
 * super-packets both ways, and no segment refused.
 */
static void test_tcp(void **state)
{
    (void)state;
    enum { TOTAL = 16 << 20 };
    static uint8_t out[65536], in[65536];
    mvpn_fault fault = {{0}};
    uint32_t index = 0;
    mvpn_prefix far;
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    mvpn_tun *a = open_up(&(mvpn_tun_options){.name = "near0"});
    mvpn_tun *b = NULL;
    mvpn_netlink *far_nl = NULL;
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    assert_int_equal(mvpn_prefix_parse("10.8.0.9/24", &far), 0);
    assert_int_equal(mvpn_netlink_open(&far_nl, &fault), 0);
    assert_int_equal(mvpn_tun_open(&b, &(mvpn_tun_options){.name = "far0"}, &fault), 0);
    assert_int_equal(mvpn_netlink_index(far_nl, "far0", &index, &fault), 0);
    assert_int_equal(mvpn_netlink_link_up(far_nl, index, 1420, &fault), 0);
    assert_int_equal(mvpn_netlink_addr_add(far_nl, index, &far, &fault), 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(80)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), server = -1;
    assert_int_equal(inet_pton(AF_INET, "10.8.0.9", &sa.sin_addr), 1);
    assert_int_equal(connect(client, (const struct sockaddr *)&sa, sizeof(sa)), -1);

    uint32_t sent = 0, received = 0;
    for (unsigned idle = 0; received < TOTAL && idle < 3000;) {
        for (uint32_t i = 0; i < sizeof(out); i++) {
            out[i] = (uint8_t)((sent + i) / 251 + (sent + i) % 251);
        }
        ssize_t n = sent < TOTAL ? send(client, out, sizeof(out), MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (uint32_t)n : 0;
        carry(a, b);
        carry(b, a);
        if (server < 0) {
            server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        }
        n = server >= 0 ? recv(server, in, sizeof(in), 0) : 0;
        for (ssize_t i = 0; i < n; i++, received++) {
            assert_int_equal(in[i], (uint8_t)(received / 251 + received % 251));
        }
        if (n <= 0) {
            idle++;
            (void)usleep(1000);
        }
    }
    assert_true(received >= TOTAL);
    const mvpn_tun_stats *sa_stats = mvpn_tun_get_stats(a), *sb_stats = mvpn_tun_get_stats(b);
    print_message("near: %llu packets in %llu reads; far: %llu packets in %llu writes; uso %d\n",
                  (unsigned long long)sa_stats->read, (unsigned long long)sa_stats->read_calls,
                  (unsigned long long)sb_stats->written, (unsigned long long)sb_stats->write_calls,
                  mvpn_tun_has_uso(a));
    assert_true(mvpn_tun_has_tso(a));
    assert_true(sa_stats->read > 5 * sa_stats->read_calls);
    assert_true(sb_stats->written > 5 * sb_stats->write_calls);
    assert_int_equal(sb_stats->write_failed + sa_stats->write_failed + sa_stats->read_bad, 0);
    (void)close(client);
    (void)close(server);
    (void)close(listener);
    (void)close(home);
    mvpn_netlink_close(far_nl);
    mvpn_tun_close(a);
    mvpn_tun_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_udp),      cmocka_unit_test(test_no_packets_left),
        cmocka_unit_test(test_given_fd), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_tcp),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
