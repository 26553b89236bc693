/*
 * An exit's sockets in place of a TUN: packets of sessions in, servers on loopback outside. In a
 * network namespace of its own: whether there are ping sockets must not depend on the machine.
 */
#include "io/user_nat.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/sockaddr.h"
#include "network/ip/checksum.h"
#include "network/ip/icmp.h"
#include "network/ip/ip.h"

#define PACKETS 4096
#define WAIT_MS 5000
#define OUTSIDE "11.1.2.3" /* stands for the server, nat_map says */
/* This kernel answers for them, though they are no addresses of the host (enter_namespace). */
#define FAR4 "11.9.9.9"
#define STRANGER4 "11.9.9.10"
#define FAR6 "2a10:9::9"
#define DATA "what a ping carries"

typedef struct world {
    mvpn_loop *loop;
    mvpn_packet_pool pool;
    mvpn_user_nat *nat;
    mvpn_packet_queue out;
    int tcp, udp; /* servers */
    bool is_over;
} world;

static mvpn_addr address(const char *ip, uint16_t port)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(ip, &a), 0);
    a.port = port;
    return a;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    return fd < 0 || close(fd) == 0 ? ok : false;
}

static bool allow_ping(void)
{
    return write_file("/proc/sys/net/ipv4/ping_group_range", "0 0");
}

/* Who is not root, is it in a user namespace. */
static int group_set_up(void **state)
{
    char uid_map[32], gid_map[32];
    (void)state;
    (void)snprintf(uid_map, sizeof(uid_map), "0 %u 1", (unsigned)geteuid());
    (void)snprintf(gid_map, sizeof(gid_map), "0 %u 1", (unsigned)getegid());
    bool ok = geteuid() == 0
                  ? setegid(0) == 0
                  : unshare(CLONE_NEWUSER) == 0 && write_file("/proc/self/setgroups", "deny") &&
                        write_file("/proc/self/uid_map", uid_map) &&
                        write_file("/proc/self/gid_map", gid_map);
    if (!ok) {
        print_error("this test makes network namespaces: it needs root or a user namespace\n");
    }
    return ok ? 0 : -1;
}

/* Nobody has ping sockets in a new one. (ip-sysctl, ping_group_range) */
static void enter_namespace(void)
{
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    assert_int_equal(system("ip link set lo up && ip route add local 11.9.9.0/24 dev lo && "
                            "ip -6 route add local 2a10:9::/64 dev lo"),
                     0);
}

static int open_server(int type, uint16_t *ret_port)
{
    struct sockaddr_storage sa;
    mvpn_addr any = address("127.0.0.1", 0);
    socklen_t len = mvpn_sockaddr_from_addr(&any, &sa);
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&sa, len) == 0);
    assert_true(type == SOCK_DGRAM || listen(fd, 8) == 0);
    len = sizeof(sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *ret_port = mvpn_sockaddr_to_addr(&sa).port;
    return fd;
}

static void on_time(void *ctx)
{
    mvpn_loop_stop(ctx);
}

static int set_up_without_ping(void **state)
{
    world *w = calloc(1, sizeof(*w));
    mvpn_fault fault = {.text = ""};
    uint16_t tcp_port, udp_port, closed_port;
    enter_namespace();
    mvpn_packet_queue_init(&w->out);
    assert_int_equal(mvpn_packet_pool_init(&w->pool, PACKETS), 0);
    assert_int_equal(mvpn_loop_new(&w->loop), 0);
    assert_int_equal(mvpn_loop_every(w->loop, 10, on_time, w->loop), 0);
    w->tcp = open_server(SOCK_STREAM, &tcp_port);
    w->udp = open_server(SOCK_DGRAM, &udp_port);
    int closed = open_server(SOCK_STREAM, &closed_port);
    (void)close(closed);
    const mvpn_config_nat_map map[] = {
        {address(OUTSIDE, 80), address("127.0.0.1", tcp_port)},
        {address(OUTSIDE, 7), address("127.0.0.1", udp_port)},
        {address(OUTSIDE, 81), address("127.0.0.1", closed_port)},
        {address(OUTSIDE, 9), address("127.0.0.1", 9)}, /* nobody's, in here */
    };
    const mvpn_user_nat_options options = {
        .loop = w->loop, .pool = &w->pool, .map = map, .map_count = MVPN_ARRAY_LEN(map)};
    if (mvpn_user_nat_new(&options, &w->nat, &fault) != 0) {
        fail_msg("%s", fault.text);
    }
    *state = w;
    return 0;
}

static int set_up(void **state)
{
    int r = set_up_without_ping(state);
    assert_true(allow_ping());
    return r;
}

static int tear_down(void **state)
{
    world *w = *state;
    mvpn_user_nat_free(w->nat);
    mvpn_packet_queue_clear(&w->out, &w->pool);
    bool is_whole = w->pool.free_count == w->pool.size;
    mvpn_loop_free(w->loop);
    mvpn_packet_pool_done(&w->pool);
    (void)close(w->tcp);
    (void)close(w->udp);
    free(w);
    return is_whole ? 0 : -1;
}

/* A packet of a session; TCP with `flags`, UDP with 4 bytes of data. */
static void send_from(world *w, const char *client, uint16_t port, const char *to, uint16_t to_port,
                      uint8_t protocol, uint8_t flags, uint32_t seq, uint32_t ack)
{
    mvpn_packet *p = mvpn_packet_new(&w->pool);
    mvpn_packet_queue in;
    mvpn_ip ip;
    mvpn_addr from = address(client, port), dst = address(to, to_port);
    bool is_tcp = protocol == MVPN_IP_TCP;
    size_t total = MVPN_IPV4_HEADER + (is_tcp ? MVPN_TCP_HEADER : MVPN_UDP_HEADER + 4);
    assert_non_null(p);
    uint8_t *at = mvpn_packet_append(p, (uint32_t)total), *l4 = at + MVPN_IPV4_HEADER;
    memset(at, 0, total);
    at[0] = 0x45;
    mvpn_store16(at + 2, (uint16_t)total);
    at[8] = 64;
    at[9] = protocol;
    memcpy(at + 12, from.ip, 4);
    memcpy(at + 16, dst.ip, 4);
    mvpn_store16(l4, port);
    mvpn_store16(l4 + 2, to_port);
    if (is_tcp) {
        mvpn_store32(l4 + 4, seq);
        mvpn_store32(l4 + 8, ack);
        l4[12] = 5 << 4;
        l4[13] = flags;
        mvpn_store16(l4 + 14, 60000);
    } else {
        mvpn_store16(l4 + 4, MVPN_UDP_HEADER + 4);
        memcpy(l4 + MVPN_UDP_HEADER, "ping", 4);
    }
    mvpn_csum_ipv4_set(at);
    assert_int_equal(mvpn_ip_parse(at, total, &ip), 0);
    mvpn_csum_transport_set(at, &ip);
    mvpn_packet_queue_init(&in);
    mvpn_packet_queue_push(&in, p);
    mvpn_user_nat_exchange(w->nat, &in, &w->out, mvpn_clock_now());
}

/* One turn of the loop, at most 10 ms. */
static void turn(world *w)
{
    mvpn_packet_queue none;
    mvpn_packet_queue_init(&none);
    assert_int_equal(mvpn_loop_run(w->loop), 0);
    mvpn_user_nat_exchange(w->nat, &none, &w->out, mvpn_clock_now());
}

/* The next packet for sessions; NULL: none came. */
static mvpn_packet *receive(world *w, mvpn_ip *ip)
{
    mvpn_time until = mvpn_clock_now() + MVPN_MS(WAIT_MS);
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(&w->out)) == NULL && mvpn_clock_now() < until) {
        turn(w);
    }
    if (p != NULL) {
        assert_int_equal(mvpn_ip_parse(p->data, p->len, ip), 0);
        assert_true(mvpn_csum_transport_ok(p->data, ip));
    }
    return p;
}

static void is_error(world *w, mvpn_packet *p, mvpn_ip ip, uint8_t code)
{
    assert_non_null(p);
    assert_int_equal(ip.protocol, MVPN_IP_ICMP);
    assert_int_equal(ip.icmp_type, MVPN_ICMP_UNREACHABLE);
    assert_int_equal(ip.icmp_code, code);
    mvpn_packet_free(&w->pool, p);
}

static void expect_error(world *w, uint8_t code)
{
    mvpn_ip ip = {0};
    mvpn_packet *p = receive(w, &ip);
    is_error(w, p, ip, code);
}

/* An ICMP message of a session, DATA behind its header. */
static void send_icmp(world *w, const char *client, const char *to, uint8_t type, uint16_t id,
                      uint16_t seq, uint8_t ttl)
{
    mvpn_packet *p = mvpn_packet_new(&w->pool);
    mvpn_packet_queue in;
    mvpn_ip ip;
    mvpn_addr from = address(client, 0), dst = address(to, 0);
    bool v4 = from.family == 4;
    size_t header = v4 ? MVPN_IPV4_HEADER : MVPN_IPV6_HEADER, n = v4 ? 4 : 16;
    size_t total = header + MVPN_ICMP_HEADER + strlen(DATA);
    assert_non_null(p);
    uint8_t *at = mvpn_packet_append(p, (uint32_t)total);
    memset(at, 0, total);
    at[0] = v4 ? 0x45 : 0x60;
    mvpn_store16(at + (v4 ? 2 : 4), (uint16_t)(v4 ? total : total - header));
    at[v4 ? 8 : 7] = ttl;
    at[v4 ? 9 : 6] = v4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6;
    memcpy(at + header - 2 * n, from.ip, n);
    memcpy(at + header - n, dst.ip, n);
    at[header] = type;
    mvpn_store16(at + header + 4, id);
    mvpn_store16(at + header + 6, seq);
    memcpy(at + header + MVPN_ICMP_HEADER, DATA, strlen(DATA));
    if (v4) {
        mvpn_csum_ipv4_set(at);
    }
    assert_int_equal(mvpn_ip_parse(at, total, &ip), 0);
    mvpn_csum_transport_set(at, &ip);
    mvpn_packet_queue_init(&in);
    mvpn_packet_queue_push(&in, p);
    mvpn_user_nat_exchange(w->nat, &in, &w->out, mvpn_clock_now());
}

static void expect_reply(world *w, const char *from, const char *to, uint16_t id, uint16_t seq)
{
    mvpn_ip ip = {0};
    mvpn_packet *p = receive(w, &ip);
    assert_non_null(p);
    mvpn_addr src = mvpn_ip_src_addr(&ip), dst = mvpn_ip_dst_addr(&ip);
    mvpn_addr far = address(from, 0), client = address(to, 0);
    assert_true(mvpn_addr_ip_eq(&src, &far) && mvpn_addr_ip_eq(&dst, &client));
    assert_int_equal(ip.protocol, ip.version == 4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6);
    assert_int_equal(ip.icmp_type, ip.version == 4 ? MVPN_ICMP_ECHO_REPLY : MVPN_ICMPV6_ECHO_REPLY);
    assert_int_equal(mvpn_load16(p->data + ip.l4 + 4), id);
    assert_int_equal(mvpn_load16(p->data + ip.l4 + 6), seq);
    assert_int_equal(ip.l4_len, MVPN_ICMP_HEADER + strlen(DATA));
    assert_memory_equal(p->data + ip.l4 + MVPN_ICMP_HEADER, DATA, strlen(DATA));
    mvpn_packet_free(&w->pool, p);
}

static void test_udp(void **state)
{
    world *w = *state;
    char data[16];
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    mvpn_ip ip;
    send_from(w, "10.64.0.5", 1000, OUTSIDE, 7, MVPN_IP_UDP, 0, 0, 0);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 1);
    assert_int_equal(recvfrom(w->udp, data, sizeof(data), 0, (struct sockaddr *)&sa, &len), 4);
    assert_int_equal(sendto(w->udp, "answer", 6, 0, (struct sockaddr *)&sa, len), 6);
    mvpn_packet *p = receive(w, &ip);
    assert_non_null(p);
    mvpn_addr from = mvpn_ip_src_addr(&ip), to = mvpn_ip_dst_addr(&ip);
    mvpn_addr server = address(OUTSIDE, 7), client = address("10.64.0.5", 1000);
    assert_true(mvpn_addr_eq(&from, &server) && mvpn_addr_eq(&to, &client));
    assert_int_equal(ip.l4_len, MVPN_UDP_HEADER + 6);
    assert_memory_equal(p->data + ip.l4 + MVPN_UDP_HEADER, "answer", 6);
    mvpn_packet_free(&w->pool, p);
    /* Another session's is another socket; and what is released is gone. */
    send_from(w, "10.64.0.6", 1000, OUTSIDE, 7, MVPN_IP_UDP, 0, 0, 0);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 2);
    mvpn_user_nat_release(w->nat, &client);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 1);
}

static void test_tcp(void **state)
{
    world *w = *state;
    mvpn_ip ip;
    char data[16];
    send_from(w, "10.64.0.5", 1000, OUTSIDE, 80, MVPN_IP_TCP, MVPN_TCP_SYN, 500, 0);
    send_from(w, "10.64.0.5", 1000, OUTSIDE, 80, MVPN_IP_TCP, MVPN_TCP_SYN, 500, 0); /* again */
    mvpn_packet *p = receive(w, &ip);
    assert_non_null(p);
    assert_int_equal(ip.tcp_flags & (MVPN_TCP_SYN | MVPN_TCP_ACK), MVPN_TCP_SYN | MVPN_TCP_ACK);
    uint32_t seq = mvpn_load32(p->data + ip.l4 + 4);
    mvpn_packet_free(&w->pool, p);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 1);
    int fd = accept(w->tcp, NULL, NULL);
    assert_true(fd >= 0); /* once */
    assert_true(accept(w->tcp, NULL, NULL) < 0);
    send_from(w, "10.64.0.5", 1000, OUTSIDE, 80, MVPN_IP_TCP, MVPN_TCP_ACK, 501, seq + 1);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).opened, 1);
    assert_int_equal(send(fd, "hello", 5, 0), 5);
    do {
        p = receive(w, &ip);
        assert_non_null(p);
        if (ip.l4_len == MVPN_TCP_HEADER + 5) {
            break;
        }
        mvpn_packet_free(&w->pool, p);
    } while (true);
    assert_memory_equal(p->data + ip.l4 + MVPN_TCP_HEADER, "hello", 5);
    mvpn_packet_free(&w->pool, p);
    /* A reset from the tunnel is one outside. */
    send_from(w, "10.64.0.5", 1000, OUTSIDE, 80, MVPN_IP_TCP, MVPN_TCP_RST, 501, 0);
    for (unsigned i = 0; i < 100 && mvpn_user_nat_get_stats(w->nat).flows > 0; i++) {
        turn(w);
    }
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 0);
    assert_true(recv(fd, data, sizeof(data), 0) < 0);
    (void)close(fd);
}

static void test_nobody_there(void **state)
{
    world *w = *state;
    send_from(w, "10.64.0.5", 1000, OUTSIDE, 81, MVPN_IP_TCP, MVPN_TCP_SYN, 500, 0);
    expect_error(w, MVPN_ICMP_PORT);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 0);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).failed, 1);
    /* Of no connection: a reset, and no flow. */
    mvpn_ip ip;
    send_from(w, "10.64.0.5", 1000, OUTSIDE, 80, MVPN_IP_TCP, MVPN_TCP_ACK, 500, 1);
    mvpn_packet *p = receive(w, &ip);
    assert_non_null(p);
    assert_true(ip.tcp_flags & MVPN_TCP_RST);
    mvpn_packet_free(&w->pool, p);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 0);
}

/* The kernel may leave out an error, not many: so often that one is told. */
static void test_no_server(void **state)
{
    world *w = *state;
    mvpn_packet *p = NULL;
    mvpn_ip ip, sent;
    mvpn_time until = mvpn_clock_now() + MVPN_MS(WAIT_MS);
    mvpn_addr client = address("10.64.0.5", 1000), to = address(OUTSIDE, 9);
    while (p == NULL && mvpn_clock_now() < until) {
        send_from(w, "10.64.0.5", 1000, OUTSIDE, 9, MVPN_IP_UDP, 0, 0, 0);
        turn(w);
        p = mvpn_packet_queue_pop(&w->out);
    }
    assert_non_null(p);
    assert_int_equal(mvpn_ip_parse(p->data, p->len, &ip), 0);
    assert_true(mvpn_csum_transport_ok(p->data, &ip));
    assert_int_equal(mvpn_ip_parse_quoted(p->data + ip.l4 + MVPN_ICMP_HEADER,
                                          ip.l4_len - (size_t)MVPN_ICMP_HEADER, &sent),
                     0);
    mvpn_addr src = mvpn_ip_src_addr(&sent), dst = mvpn_ip_dst_addr(&sent);
    assert_int_equal(sent.protocol, MVPN_IP_UDP);
    assert_true(mvpn_addr_eq(&src, &client) && mvpn_addr_eq(&dst, &to));
    is_error(w, p, ip, MVPN_ICMP_PORT);
}

static void test_ping(void **state)
{
    world *w = *state;
    static const struct {
        const char *client, *other, *far;
        uint8_t request, reply;
    } rows[] = {
        {"10.64.0.5", "10.64.0.6", FAR4, MVPN_ICMP_ECHO, MVPN_ICMP_ECHO_REPLY},
        {"fd64::5", "fd64::6", FAR6, MVPN_ICMPV6_ECHO, MVPN_ICMPV6_ECHO_REPLY},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr client = address(rows[i].client, 0), other = address(rows[i].other, 0);
        send_icmp(w, rows[i].client, rows[i].far, rows[i].request, 77, 1, 64);
        expect_reply(w, rows[i].far, rows[i].client, 77, 1);
        send_icmp(w, rows[i].client, rows[i].far, rows[i].request, 77, 500, 64);
        expect_reply(w, rows[i].far, rows[i].client, 77, 500);
        assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 1);
        /* Another identifier, and another session's, are other flows. */
        send_icmp(w, rows[i].client, rows[i].far, rows[i].request, 0, 2, 64);
        expect_reply(w, rows[i].far, rows[i].client, 0, 2);
        send_icmp(w, rows[i].other, rows[i].far, rows[i].request, 77, 3, 64);
        expect_reply(w, rows[i].far, rows[i].other, 77, 3);
        assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 3);
        mvpn_user_nat_release(w->nat, &client);
        mvpn_user_nat_release(w->nat, &other);
        assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 0);
        /* Only requests leave, and only those that may go one hop further. */
        send_icmp(w, rows[i].client, rows[i].far, rows[i].reply, 77, 4, 64);
        send_icmp(w, rows[i].client, rows[i].far, rows[i].request, 77, 4, 1);
        assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 0);
    }
}

/* The next request that arrives at `raw`: its identifier; its hop limit is as expected. */
static uint16_t take_request(int raw, uint8_t ttl)
{
    uint8_t packet[256];
    do {
        ssize_t n = recv(raw, packet, sizeof(packet), 0);
        assert_true(n >= MVPN_IPV4_HEADER + MVPN_ICMP_HEADER);
    } while (packet[MVPN_IPV4_HEADER] != MVPN_ICMP_ECHO);
    assert_int_equal(packet[8], ttl);
    return mvpn_load16(packet + MVPN_IPV4_HEADER + 4);
}

static void reply_from(const char *from, uint16_t id, uint16_t seq)
{
    uint8_t icmp[MVPN_ICMP_HEADER + sizeof(DATA) - 1] = {MVPN_ICMP_ECHO_REPLY};
    struct sockaddr_storage sa;
    mvpn_addr own = address(from, 0), to = address(FAR4, 0);
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    socklen_t len = mvpn_sockaddr_from_addr(&own, &sa);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&sa, len) == 0);
    mvpn_store16(icmp + 4, id);
    mvpn_store16(icmp + 6, seq);
    memcpy(icmp + MVPN_ICMP_HEADER, DATA, strlen(DATA));
    mvpn_store16(icmp + 2, mvpn_csum_finish(mvpn_csum_add(0, icmp, sizeof(icmp))));
    len = mvpn_sockaddr_from_addr(&to, &sa);
    assert_int_equal(sendto(fd, icmp, sizeof(icmp), 0, (struct sockaddr *)&sa, len), sizeof(icmp));
    (void)close(fd);
}

/* The destination's answer, and nobody else's who guesses the identifier. */
static void test_stranger(void **state)
{
    world *w = *state;
    const struct timeval patience = {.tv_sec = WAIT_MS / 1000};
    int raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    assert_true(raw >= 0 && write_file("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1"));
    assert_int_equal(setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    send_icmp(w, "10.64.0.5", FAR4, MVPN_ICMP_ECHO, 77, 1, 64);
    uint16_t id = take_request(raw, 63);
    reply_from(STRANGER4, id, 1);
    reply_from(FAR4, id, 2);
    expect_reply(w, FAR4, "10.64.0.5", 77, 2);
    send_icmp(w, "10.64.0.5", FAR4, MVPN_ICMP_ECHO, 77, 3, 32);
    assert_int_equal(take_request(raw, 31), id);
    reply_from(FAR4, id, 3);
    expect_reply(w, FAR4, "10.64.0.5", 77, 3);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 1);
    (void)close(raw);
}

/* Told at once; and nothing need be started again when it is allowed. */
static void test_ping_not_allowed(void **state)
{
    world *w = *state;
    bool may = mvpn_user_nat_may_ping();
    assert_true(!may && errno == EACCES);
    send_icmp(w, "10.64.0.5", FAR4, MVPN_ICMP_ECHO, 77, 1, 64);
    expect_error(w, MVPN_ICMP_PROHIBITED);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 0);
    assert_true(allow_ping());
    assert_true(mvpn_user_nat_may_ping());
    send_icmp(w, "10.64.0.5", FAR4, MVPN_ICMP_ECHO, 77, 2, 64);
    expect_reply(w, FAR4, "10.64.0.5", 77, 2);
}

/* Whatever the policy says: this host's own services are none of the network's. */
static void test_own_host(void **state)
{
    world *w = *state;
    send_from(w, "10.64.0.5", 1000, "127.0.0.1", 80, MVPN_IP_TCP, MVPN_TCP_SYN, 500, 0);
    expect_error(w, MVPN_ICMP_PROHIBITED);
    send_from(w, "10.64.0.5", 1000, "127.0.0.1", 53, MVPN_IP_UDP, 0, 0, 0);
    expect_error(w, MVPN_ICMP_PROHIBITED);
    send_icmp(w, "10.64.0.5", "127.0.0.1", MVPN_ICMP_ECHO, 77, 1, 64);
    expect_error(w, MVPN_ICMP_PROHIBITED);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 0);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).refused, 3);
}

/* One session takes its share; its own datagrams give way, others' do not. */
static void test_share(void **state)
{
    world *w = *state;
    send_from(w, "10.64.0.6", 1, OUTSIDE, 7, MVPN_IP_UDP, 0, 0, 0);
    for (uint16_t port = 1; port <= MVPN_USER_NAT_SESSION_MAX + 50; port++) {
        send_from(w, "10.64.0.5", port, OUTSIDE, 7, MVPN_IP_UDP, 0, 0, 0);
    }
    unsigned flows = mvpn_user_nat_get_stats(w->nat).flows;
    assert_true(flows <= MVPN_USER_NAT_SESSION_MAX + 1);
    for (uint16_t id = 1; id <= MVPN_USER_NAT_SESSION_MAX + 50; id++) {
        send_icmp(w, "10.64.0.5", FAR4, MVPN_ICMP_ECHO, id, 1, 64);
    }
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, flows);
    mvpn_addr greedy = address("10.64.0.5", 0);
    mvpn_user_nat_release(w->nat, &greedy);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_udp),
        TEST(test_tcp),
        TEST(test_nobody_there),
        TEST(test_no_server),
        TEST(test_ping),
        TEST(test_stranger),
        cmocka_unit_test_setup_teardown(test_ping_not_allowed, set_up_without_ping, tear_down),
        TEST(test_own_host),
        TEST(test_share),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
