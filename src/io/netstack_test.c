/*
 * The IP stack of the proxy against one of the other kind (an exit's) in a process of its own,
 * since lwIP's state is global: whole connections, with loss; and against packets that a script
 * sends.
 */
#include "io/netstack.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "io/clock.h"
#include "network/ip/checksum.h"
#include "network/ip/icmp.h"
#include "network/ip/inner.h"
#include "network/ip/ip.h"

#define PACKETS 4096
#define WAIT_MS 20000
#define MEMORY (8u << 20)

static mvpn_packet_pool pool;
static mvpn_netstack *stack;
static mvpn_packet_queue out;

static mvpn_addr address(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static int set_up(void **state)
{
    (void)state;
    mvpn_packet_queue_init(&out);
    return mvpn_packet_pool_init(&pool, PACKETS) == 0 &&
                   mvpn_netstack_new(&pool, MEMORY, mvpn_clock_now(), &stack) == 0
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    mvpn_netstack_free(stack);
    mvpn_packet_queue_clear(&out, &pool);
    bool is_whole = pool.free_count == pool.size; /* no packet was lost on the way */
    mvpn_packet_pool_done(&pool);
    return is_whole ? 0 : -1;
}

/* ---- a script as the other end ---- */

typedef struct events {
    unsigned seen;
    unsigned calls;
} events;

static void note(void *ctx, unsigned what)
{
    events *e = ctx;
    e->seen |= what;
    e->calls++;
}

/* What the stack sends now, or NULL. */
static mvpn_packet *next_packet(mvpn_ip *ip)
{
    mvpn_packet_queue none;
    mvpn_packet_queue_init(&none);
    mvpn_netstack_exchange(stack, &none, &out, mvpn_clock_now());
    mvpn_packet *p = mvpn_packet_queue_pop(&out);
    if (p != NULL) {
        assert_int_equal(mvpn_ip_parse(p->data, p->len, ip), 0);
        assert_true(mvpn_csum_transport_ok(p->data, ip));
    }
    return p;
}

/* A TCP segment that answers `to`. */
static void answer_tcp(const mvpn_ip *to, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t lane,
                       size_t data)
{
    mvpn_packet_queue in;
    mvpn_packet *p = mvpn_packet_new(&pool);
    static const uint8_t scale[4] = {3, 3, 7, 1}; /* RFC 7323 §2.2, and a NOP: as hosts do */
    size_t options = (flags & MVPN_TCP_SYN) != 0 ? sizeof(scale) : 0;
    size_t total = MVPN_IPV4_HEADER + MVPN_TCP_HEADER + options + data;
    mvpn_ip ip;
    assert_non_null(p);
    uint8_t *at = mvpn_packet_append(p, (uint32_t)total), *tcp = at + MVPN_IPV4_HEADER;
    memset(at, 0, total);
    at[0] = 0x45;
    mvpn_store16(at + 2, (uint16_t)total);
    at[8] = 64;
    at[9] = MVPN_IP_TCP;
    memcpy(at + 12, to->dst, 4);
    memcpy(at + 16, to->src, 4);
    mvpn_store16(tcp, to->dst_port);
    mvpn_store16(tcp + 2, to->src_port);
    mvpn_store32(tcp + 4, seq);
    mvpn_store32(tcp + 8, ack);
    tcp[12] = (uint8_t)((MVPN_TCP_HEADER + options) / 4 << 4);
    tcp[13] = flags;
    mvpn_store16(tcp + 14, 60000);
    memcpy(tcp + MVPN_TCP_HEADER, scale, options);
    mvpn_csum_ipv4_set(at);
    assert_int_equal(mvpn_ip_parse(at, total, &ip), 0);
    mvpn_csum_transport_set(at, &ip);
    p->local = lane;
    mvpn_packet_queue_init(&in);
    mvpn_packet_queue_push(&in, p);
    mvpn_netstack_exchange(stack, &in, &out, mvpn_clock_now());
}

static uint32_t seq_of(const mvpn_packet *p, const mvpn_ip *ip)
{
    return mvpn_load32(p->data + ip->l4 + 4);
}

static mvpn_stream *connect_by(unsigned lane, const char *to, events *e, mvpn_ip *syn,
                               uint32_t *ret_seq)
{
    mvpn_addr addr = address(to);
    mvpn_stream *s = NULL;
    assert_int_equal(mvpn_stream_connect(stack, lane, &addr, note, e, &s), 0);
    mvpn_packet *p = next_packet(syn);
    assert_non_null(p);
    assert_int_equal(p->local, lane);
    assert_int_equal(syn->tcp_flags & (MVPN_TCP_SYN | MVPN_TCP_ACK), MVPN_TCP_SYN);
    *ret_seq = seq_of(p, syn);
    mvpn_packet_free(&pool, p);
    return s;
}

static void drop_all(void)
{
    mvpn_packet *p;
    mvpn_ip ip;
    while ((p = next_packet(&ip)) != NULL) {
        mvpn_packet_free(&pool, p);
    }
}

static void test_refused(void **state)
{
    (void)state;
    events e = {0};
    mvpn_ip syn;
    uint32_t seq;
    mvpn_stream *s = connect_by(0, "11.1.2.3:80", &e, &syn, &seq);
    answer_tcp(&syn, MVPN_TCP_RST | MVPN_TCP_ACK, 0, seq + 1, 0, 0);
    assert_int_equal(e.seen, MVPN_STREAM_FAILED);
    assert_int_equal(mvpn_stream_error(s), MVPN_E_REFUSED);
    mvpn_stream_free(s, true);
}

static void test_reset_when_open(void **state)
{
    (void)state;
    events e = {0};
    mvpn_ip syn;
    uint32_t seq;
    struct iovec piece;
    mvpn_stream *s = connect_by(0, "11.1.2.3:80", &e, &syn, &seq);
    answer_tcp(&syn, MVPN_TCP_SYN | MVPN_TCP_ACK, 1000, seq + 1, 0, 0);
    assert_int_equal(e.seen, MVPN_STREAM_CONNECTED);
    answer_tcp(&syn, MVPN_TCP_ACK | MVPN_TCP_PSH, 1001, seq + 1, 0, 10);
    answer_tcp(&syn, MVPN_TCP_RST | MVPN_TCP_ACK, 1011, seq + 1, 0, 0);
    assert_true(e.seen & MVPN_STREAM_FAILED);
    assert_int_equal(mvpn_stream_error(s), MVPN_E_CLOSED);
    assert_int_equal(mvpn_stream_peek(s, &piece, 1), 1); /* what came before may still be read */
    assert_int_equal(piece.iov_len, 10);
    assert_int_equal(mvpn_stream_room(s), 0);
    mvpn_stream_free(s, true);
    drop_all();
}

/* What a router says counts while a connection is made, by its own lane alone. */
static void test_unreachable(void **state)
{
    (void)state;
    static const struct {
        uint8_t code;
        int error;
    } rows[] = {{MVPN_ICMP_PORT, MVPN_E_REFUSED}, {MVPN_ICMP_HOST, MVPN_E_UNKNOWN}};
    mvpn_addr to = address("11.1.2.3:80");
    mvpn_netstack_open_lane(stack, 1);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        for (uint16_t lane = 0; lane < 2; lane++) {
            events e = {0};
            mvpn_stream *s = NULL;
            mvpn_ip ip;
            mvpn_packet_queue in;
            assert_int_equal(mvpn_stream_connect(stack, 1, &to, note, &e, &s), 0);
            mvpn_packet *syn = next_packet(&ip), *icmp = mvpn_packet_new(&pool);
            assert_int_equal(mvpn_icmp_unreachable(icmp, syn, &ip, ip.dst, rows[i].code), 0);
            icmp->local = lane;
            mvpn_packet_queue_init(&in);
            mvpn_packet_queue_push(&in, icmp);
            mvpn_netstack_exchange(stack, &in, &out, mvpn_clock_now());
            assert_int_equal(mvpn_stream_error(s), lane == 1 ? rows[i].error : 0);
            mvpn_packet_free(&pool, syn);
            mvpn_stream_free(s, true);
            drop_all();
        }
    }
    mvpn_netstack_close_lane(stack, 1);
}

/* The same ends and ports by another lane are another connection's. */
static void test_lanes(void **state)
{
    (void)state;
    events e = {0};
    mvpn_ip syn, stolen;
    uint32_t seq;
    mvpn_netstack_open_lane(stack, 1);
    mvpn_netstack_open_lane(stack, 2);
    mvpn_stream *s = connect_by(2, "11.1.2.3:80", &e, &syn, &seq);
    assert_int_equal(syn.src[3], mvpn_inner_lane_addr(4, 2).ip[3]);
    answer_tcp(&syn, MVPN_TCP_SYN | MVPN_TCP_ACK, 1000, seq + 1, 1, 0);
    answer_tcp(&syn, MVPN_TCP_SYN | MVPN_TCP_ACK, 1000, seq + 1, 0, 0);
    answer_tcp(&syn, MVPN_TCP_SYN | MVPN_TCP_ACK, 1000, seq + 1, 3, 0); /* not open */
    stolen = syn;
    stolen.src[3] = mvpn_inner_lane_addr(4, 1).ip[3];
    answer_tcp(&stolen, MVPN_TCP_SYN | MVPN_TCP_ACK, 1000, seq + 1, 2, 0);
    assert_int_equal(e.seen, 0);
    drop_all();
    answer_tcp(&syn, MVPN_TCP_SYN | MVPN_TCP_ACK, 1000, seq + 1, 2, 0);
    assert_int_equal(e.seen, MVPN_STREAM_CONNECTED);
    /* A lane that is closed says nothing more, whoever has its number next. */
    uint8_t data[5000] = {0};
    assert_int_equal(mvpn_stream_write(s, data, sizeof(data)), sizeof(data));
    mvpn_stream_free(s, false);
    mvpn_netstack_close_lane(stack, 2);
    mvpn_netstack_open_lane(stack, 2);
    mvpn_packet_queue none;
    mvpn_packet_queue_init(&none);
    mvpn_packet_queue_clear(&out, &pool);
    mvpn_netstack_exchange(stack, &none, &out, mvpn_clock_now() + MVPN_S(5));
    assert_int_equal(out.count, 0);
    mvpn_netstack_close_lane(stack, 1);
    mvpn_netstack_close_lane(stack, 2);
}

static void test_not_carried(void **state)
{
    (void)state;
    static const char *const bad[] = {"127.0.0.1:80",
                                      "0.0.0.0:80",
                                      "169.254.1.1:80",
                                      "224.0.0.1:80",
                                      "10.8.0.2:80",
                                      "10.8.0.9:80",
                                      "1.2.3.4:0",
                                      "[::1]:80",
                                      "[fe80::1]:80",
                                      "[ff02::1]:80",
                                      "[fd6d:7670:6e00::2]:80",
                                      "[fd6d:7670:6e00::5]:80"};
    events e = {0};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad); i++) {
        mvpn_addr to = address(bad[i]);
        mvpn_stream *s = NULL;
        assert_int_equal(mvpn_stream_connect(stack, 0, &to, note, &e, &s), MVPN_E_POLICY);
        assert_null(s);
    }
}

/* Whoever sends without being read fills his share, and no more; what is freed is all given back.
 */
static void test_memory(void **state)
{
    (void)state;
    events e = {0};
    mvpn_ip syn;
    uint32_t seq, next = 1001;
    size_t before = mvpn_netstack_memory(stack);
    mvpn_stream *s = connect_by(0, "11.1.2.3:80", &e, &syn, &seq);
    answer_tcp(&syn, MVPN_TCP_SYN | MVPN_TCP_ACK, 1000, seq + 1, 0, 0);
    for (unsigned i = 0; i < 20000; i++) {
        answer_tcp(&syn, MVPN_TCP_ACK, next, seq + 1, 0, 1000);
        next += 1000;
        mvpn_packet_queue_clear(&out, &pool);
    }
    size_t full = mvpn_netstack_memory(stack);
    assert_true(full > 16384 && full < MEMORY);
    assert_true(full < (256u << 10)); /* the first window, and what is around it */
    mvpn_stream_free(s, true);
    drop_all();
    mvpn_packet_queue none;
    mvpn_packet_queue_init(&none);
    mvpn_netstack_exchange(stack, &none, &out, mvpn_clock_now() + MVPN_S(60));
    assert_true(mvpn_netstack_memory(stack) <= before + 4096);
}

static void count_datagram(void *ctx, const mvpn_addr *from, mvpn_bytes data)
{
    unsigned *count = ctx;
    (void)from;
    *count += (unsigned)data.n;
}

static void test_datagrams(void **state)
{
    (void)state;
    uint8_t data[MVPN_NETSTACK_DATAGRAM_MAX + 1] = {0};
    mvpn_addr to = address("11.1.2.3:53"), six = address("[2a10::1]:53");
    mvpn_datagrams *d = NULL;
    unsigned count = 0;
    mvpn_ip ip;
    assert_int_equal(mvpn_datagrams_open(stack, 0, 4, count_datagram, &count, &d), 0);
    assert_true(mvpn_datagrams_send(d, &to, (mvpn_bytes){data, 100}));
    assert_false(mvpn_datagrams_send(d, &six, (mvpn_bytes){data, 100}));
    assert_false(mvpn_datagrams_send(d, &to, (mvpn_bytes){data, sizeof(data)}));
    mvpn_packet *p = next_packet(&ip);
    assert_non_null(p);
    assert_int_equal(ip.protocol, MVPN_IP_UDP);
    assert_in_range(ip.src_port, 16384, 65535); /* not to be guessed */
    mvpn_packet_free(&pool, p);
    mvpn_datagrams_free(d);
    drop_all();
}

/* ---- two stacks ---- */

/* The other process: every connection gets back what it sends, until it ends. */
typedef struct echo {
    mvpn_stream *stream;
} echo;

static void on_echo(void *ctx, unsigned what)
{
    echo *e = ctx;
    struct iovec piece;
    (void)what;
    while (mvpn_stream_peek(e->stream, &piece, 1) == 1) {
        size_t n = mvpn_stream_write(e->stream, piece.iov_base, piece.iov_len);
        if (n == 0) {
            break;
        }
        mvpn_stream_consume(e->stream, n);
    }
    if (mvpn_stream_error(e->stream) != 0) {
        mvpn_stream_free(e->stream, true);
        free(e);
    } else if (mvpn_stream_has_ended(e->stream)) {
        mvpn_stream_shutdown(e->stream);
        mvpn_stream_free(e->stream, false);
        free(e);
    }
}

static bool accept_echo(void *ctx, const mvpn_addr *from, const mvpn_addr *to, mvpn_stream *stream)
{
    echo *e = malloc(sizeof(*e));
    (void)ctx;
    (void)from;
    if (e == NULL || to->port == 7777) { /* not wanted */
        free(e);
        return false;
    }
    e->stream = stream;
    mvpn_stream_set_handler(stream, on_echo, e);
    return true;
}

typedef struct wire {
    int fd;
    unsigned lose_every; /* 0: nothing is lost */
    unsigned count;
} wire;

static void send_all(wire *w)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(&out)) != NULL) {
        bool is_lost = w->lose_every != 0 && ++w->count % w->lose_every == 0;
        if (!is_lost) {
            (void)send(w->fd, p->data, p->len, MSG_DONTWAIT); /* full: lost too */
        }
        mvpn_packet_free(&pool, p);
    }
}

static mvpn_packet *take(const wire *w)
{
    mvpn_packet *p = mvpn_packet_new(&pool);
    ssize_t n = p == NULL ? -1 : recv(w->fd, p->data, MVPN_PACKET_ROOM, MSG_DONTWAIT);
    if (n <= 0) {
        mvpn_packet_free(&pool, p);
        return NULL;
    }
    (void)mvpn_packet_append(p, (uint32_t)n);
    return p;
}

static void wait_for(const wire *w)
{
    struct pollfd fd = {.fd = w->fd, .events = POLLIN};
    (void)poll(&fd, 1, 10);
}

static void be_the_exit(wire *w)
{
    mvpn_packet_queue none;
    mvpn_packet *p;
    mvpn_ip ip;
    mvpn_packet_queue_init(&none);
    if (mvpn_netstack_accept(stack, accept_echo, NULL) != 0) {
        _exit(1);
    }
    for (;;) { /* until it is killed */
        while ((p = take(w)) != NULL) {
            bool opens = mvpn_ip_parse(p->data, p->len, &ip) == 0 && ip.tcp_flags == MVPN_TCP_SYN &&
                         ip.dst_port != 9999;
            mvpn_netstack_deliver(stack, p, opens);
            mvpn_packet_free(&pool, p);
        }
        mvpn_netstack_exchange(stack, &none, &out, mvpn_clock_now());
        send_all(w);
        wait_for(w);
    }
}

typedef struct talk {
    wire w;
    pid_t other;
} talk;

static talk begin_talk(unsigned lose_every)
{
    int fds[2];
    talk t = {.w.lose_every = lose_every};
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    t.other = fork();
    assert_true(t.other >= 0);
    if (t.other == 0) {
        wire w = {.fd = fds[1], .lose_every = lose_every};
        (void)alarm(60); /* if the test is killed */
        (void)close(fds[0]);
        be_the_exit(&w);
    }
    (void)close(fds[1]);
    t.w.fd = fds[0];
    return t;
}

static void end_talk(talk *t)
{
    (void)kill(t->other, SIGKILL);
    (void)waitpid(t->other, NULL, 0);
    (void)close(t->w.fd);
    drop_all();
}

static void turn(talk *t)
{
    mvpn_packet_queue in;
    mvpn_packet *p;
    mvpn_packet_queue_init(&in);
    while ((p = take(&t->w)) != NULL) {
        mvpn_packet_queue_push(&in, p);
    }
    mvpn_netstack_exchange(stack, &in, &out, mvpn_clock_now());
    send_all(&t->w);
    wait_for(&t->w);
}

/* Sends `size` bytes and its end, reads as many back and the other end's. */
static void echo_through(const char *to, size_t size, unsigned lose_every)
{
    talk t = begin_talk(lose_every);
    events e = {0};
    mvpn_addr addr = address(to);
    mvpn_stream *s = NULL;
    size_t sent = 0, got = 0;
    struct iovec piece;
    mvpn_time until = mvpn_clock_now() + MVPN_MS(WAIT_MS);
    assert_int_equal(mvpn_stream_connect(stack, 0, &addr, note, &e, &s), 0);
    while (!mvpn_stream_has_ended(s) && mvpn_clock_now() < until) {
        uint8_t chunk[4096];
        while (sent < size && mvpn_stream_room(s) > 0) {
            size_t n = MVPN_MIN(sizeof(chunk), size - sent);
            for (size_t i = 0; i < n; i++) {
                chunk[i] = (uint8_t)((sent + i) * 31 >> 3);
            }
            size_t taken = mvpn_stream_write(s, chunk, n);
            sent += taken;
            if (taken < n) {
                break;
            }
            if (sent == size) {
                mvpn_stream_shutdown(s);
            }
        }
        turn(&t);
        while (mvpn_stream_peek(s, &piece, 1) == 1) {
            const uint8_t *p = piece.iov_base;
            for (size_t i = 0; i < piece.iov_len; i++) {
                assert_int_equal(p[i], (uint8_t)((got + i) * 31 >> 3));
            }
            got += piece.iov_len;
            mvpn_stream_consume(s, piece.iov_len);
        }
    }
    assert_int_equal(mvpn_stream_error(s), 0);
    assert_true(e.seen & MVPN_STREAM_CONNECTED);
    assert_int_equal(sent, size);
    assert_int_equal(got, size);
    mvpn_stream_free(s, false);
    end_talk(&t);
}

static void test_echo(void **state)
{
    (void)state;
    echo_through("11.1.2.3:80", 300000, 0);
    echo_through("[2a10::1]:80", 300000, 0);
}

static void test_echo_with_loss(void **state)
{
    (void)state;
    echo_through("11.1.2.3:80", 60000, 29);
}

/* Not let in, or not accepted: a reset, at once. */
static void test_turned_away(void **state)
{
    (void)state;
    static const struct {
        const char *to;
        int error;
    } rows[] = {{"11.1.2.3:9999", MVPN_E_REFUSED}, {"11.1.2.3:7777", MVPN_E_CLOSED}};
    talk t = begin_talk(0);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        events e = {0};
        mvpn_addr addr = address(rows[i].to);
        mvpn_stream *s = NULL;
        mvpn_time until = mvpn_clock_now() + MVPN_MS(WAIT_MS);
        assert_int_equal(mvpn_stream_connect(stack, 0, &addr, note, &e, &s), 0);
        while ((e.seen & MVPN_STREAM_FAILED) == 0 && mvpn_clock_now() < until) {
            turn(&t);
        }
        assert_int_equal(mvpn_stream_error(s), rows[i].error);
        mvpn_stream_free(s, true);
    }
    end_talk(&t);
}

static void test_one_in_a_process(void **state)
{
    (void)state;
    mvpn_netstack *second = NULL;
    assert_int_equal(mvpn_netstack_new(&pool, 0, mvpn_clock_now(), &second), MVPN_E_STATE);
    assert_null(second);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refused),          TEST(test_reset_when_open),
        TEST(test_unreachable),      TEST(test_lanes),
        TEST(test_not_carried),      TEST(test_memory),
        TEST(test_datagrams),        TEST(test_echo),
        TEST(test_echo_with_loss),   TEST(test_turned_away),
        TEST(test_one_in_a_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
