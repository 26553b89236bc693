/* An exit's sockets in place of a TUN: packets of sessions in, servers on loopback outside. */
#include "io/user_nat.h"

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

static int set_up(void **state)
{
    world *w = calloc(1, sizeof(*w));
    mvpn_fault fault = {.text = ""};
    uint16_t tcp_port, udp_port, closed_port;
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
    };
    const mvpn_user_nat_options options = {
        .loop = w->loop, .pool = &w->pool, .map = map, .map_count = MVPN_ARRAY_LEN(map)};
    if (mvpn_user_nat_new(&options, &w->nat, &fault) != 0) {
        fail_msg("%s", fault.text);
    }
    *state = w;
    return 0;
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

static void expect_error(world *w, uint8_t code)
{
    mvpn_ip ip;
    mvpn_packet *p = receive(w, &ip);
    assert_non_null(p);
    assert_int_equal(ip.protocol, MVPN_IP_ICMP);
    assert_int_equal(ip.icmp_type, MVPN_ICMP_UNREACHABLE);
    assert_int_equal(ip.icmp_code, code);
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

/* Whatever the policy says: this host's own services are none of the network's. */
static void test_own_host(void **state)
{
    world *w = *state;
    send_from(w, "10.64.0.5", 1000, "127.0.0.1", 80, MVPN_IP_TCP, MVPN_TCP_SYN, 500, 0);
    expect_error(w, MVPN_ICMP_PROHIBITED);
    send_from(w, "10.64.0.5", 1000, "127.0.0.1", 53, MVPN_IP_UDP, 0, 0, 0);
    expect_error(w, MVPN_ICMP_PROHIBITED);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 0);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).refused, 2);
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
    mvpn_addr greedy = address("10.64.0.5", 0);
    mvpn_user_nat_release(w->nat, &greedy);
    assert_int_equal(mvpn_user_nat_get_stats(w->nat).flows, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_udp),      TEST(test_tcp),   TEST(test_nobody_there),
        TEST(test_own_host), TEST(test_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
