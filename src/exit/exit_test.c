#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "exit/exit.h"
#include "exit/pool.h"
#include "network/ip/icmp.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"

#define PACKETS 4096

static const uint8_t far4[4] = {11, 1, 2, 3};
static const uint8_t *in4, *gw4, *in6, *gw6;

static mvpn_packet_pool packets;
static mvpn_rng rng;
static mvpn_addr dns_addr, own_addr, relay_addr;
static mvpn_exit *ex;

static mvpn_exit_config config(void)
{
    mvpn_exit_config c = {.packets = &packets,
                          .rng = &rng,
                          .pool_v4_bits = 24,
                          .uplink_v6 = true,
                          .policy = "reject udp * 9999",
                          .own = &own_addr,
                          .own_count = 1,
                          .relays = &relay_addr,
                          .relay_count = 1,
                          .dns = &dns_addr,
                          .dns_count = 1,
                          .sessions_max = 100};
    assert_int_equal(mvpn_addr_parse("10.64.0.0", &c.pool_v4), 0);
    assert_int_equal(mvpn_addr_parse("fd01:2:3:4::", &c.pool_v6), 0);
    return c;
}

static void start(const mvpn_exit_config *c)
{
    mvpn_policy_error e;
    mvpn_rng_init_test(&rng, 1);
    assert_int_equal(mvpn_exit_new(c, &ex, &e), 0);
}

/* Every packet must be back in the pool at the end of every test. */
static void stop(void)
{
    mvpn_exit_free(ex);
    ex = NULL;
    assert_int_equal(packets.free_count, PACKETS);
}

static int setup(void **state)
{
    (void)state;
    mvpn_exit_config c = config();
    start(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stop();
    return 0;
}

static uint32_t open_session(uint32_t mtu, bool v6)
{
    uint32_t id = 0;
    assert_int_equal(mvpn_exit_session_open(ex, mtu, v6, 0, &id), 0);
    return id;
}

static mvpn_packet *new_packet(void)
{
    mvpn_packet *p = mvpn_packet_new(&packets);
    assert_non_null(p);
    return p;
}

static mvpn_packet *udp(unsigned v, const void *src, uint16_t sport, const void *dst,
                        uint16_t dport, size_t payload)
{
    mvpn_packet *p = new_packet();
    p->len = (uint32_t)build_udp(p->data, v, src, sport, dst, dport, payload);
    return p;
}

/* The next packet for session `id`, or NULL; copied out, so that nothing is kept. */
static bool pull(uint32_t id, mvpn_packet *ret)
{
    mvpn_packet *p;
    uint32_t got;
    if (!mvpn_exit_pull_to_session(ex, &got, &p)) {
        return false;
    }
    assert_int_equal(got, id);
    *ret = *p;
    ret->data = ret->buf + (p->data - p->buf);
    mvpn_packet_free(&packets, p);
    return true;
}

static bool pop(mvpn_packet_queue *q, mvpn_packet *ret)
{
    mvpn_packet *p = mvpn_packet_queue_pop(q);
    if (p == NULL) {
        return false;
    }
    *ret = *p;
    ret->data = ret->buf + (p->data - p->buf);
    mvpn_packet_free(&packets, p);
    return true;
}

static bool silent(void)
{
    mvpn_packet out;
    uint32_t id;
    mvpn_packet *p;
    return !pop(mvpn_exit_tun_out(ex), &out) && !pop(mvpn_exit_dns_out(ex), &out) &&
           !mvpn_exit_pull_to_session(ex, &id, &p);
}

static void out_and_back(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true);
    mvpn_addr pool4, pool6;
    assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool4, &pool6), 0);
    for (unsigned v = 4; v <= 6; v += 2) {
        const uint8_t *in = v == 4 ? in4 : in6, *far = v == 4 ? far4 : test_v6_b;
        const uint8_t *pool = v == 4 ? pool4.ip : pool6.ip;
        size_t at = v == 4 ? 12 : 8, len = v == 4 ? 4 : 16, l4 = v == 4 ? 20 : 40;
        for (unsigned kind = 0; kind < 3; kind++) {
            mvpn_packet *p = new_packet();
            p->len =
                (uint32_t)(kind == 0   ? build_udp(p->data, v, in, 5, far, 6, 33)
                           : kind == 1 ? build_tcp(p->data, v, in, 5, far, 6, 24, 1, 33)
                                       : build_icmp(p->data, v, in, far, v == 4 ? 8 : 128, 0, 33));
            mvpn_packet sent = *p, out;
            assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), 0);
            assert_true(pop(mvpn_exit_tun_out(ex), &out));
            assert_int_equal(out.len, sent.len);
            assert_true(slow_ok(out.data, out.len));
            assert_memory_equal(out.data + at, pool, len);
            assert_memory_equal(out.data + at + len, far, len);
            assert_int_equal(out.data[v == 4 ? 8 : 7], 64);
            assert_memory_equal(out.data + out.len - 33,
                                sent.buf + MVPN_PACKET_HEADROOM + sent.len - 33, 33);
            assert_true(v == 6 || mvpn_load16(out.data + 4) == 0); /* atomic: id 0 */

            p = new_packet();
            p->len = (uint32_t)(kind == 0 ? build_udp(p->data, v, far, 6, pool, 5, 40)
                                : kind == 1
                                    ? build_tcp(p->data, v, far, 6, pool, 5, 24, 1, 40)
                                    : build_icmp(p->data, v, far, pool, v == 4 ? 0 : 129, 0, 40));
            assert_int_equal(mvpn_exit_from_tun(ex, p, 0), 0);
            assert_true(pull(id, &out));
            assert_true(slow_ok(out.data, out.len));
            assert_memory_equal(out.data + at, far, len);
            assert_memory_equal(out.data + at + len, in, len);
            assert_int_equal(mvpn_load16(out.data + l4 + (kind == 2 ? 4 : 2)), kind == 2 ? 7 : 5);
        }
    }
    const mvpn_exit_counters *c = mvpn_exit_get_counters(ex);
    assert_int_equal(c->out_packets, 6);
    assert_int_equal(c->in_packets, 6);
    assert_int_equal(c->out_bytes, 61 + 73 + 61 + 81 + 93 + 81);
    assert_true(silent());
}

static void refused_rows(void **state)
{
    (void)state;
    static const struct {
        const char *what, *src, *dst;
        uint8_t protocol;
        uint16_t port;
        int code;
        int icmp_code; /* -1: silence */
    } rows[] = {
        {"spoofed other client", "10.8.0.3", "11.1.1.1", 17, 1, MVPN_E_POLICY, -1},
        {"spoofed gateway", "10.8.0.1", "11.1.1.1", 17, 1, MVPN_E_POLICY, -1},
        {"spoofed pool", "10.64.0.5", "11.1.1.1", 17, 1, MVPN_E_POLICY, -1},
        {"spoofed public", "11.9.9.9", "11.1.1.1", 17, 1, MVPN_E_POLICY, -1},
        {"spoofed v6", "fd6d:7670:6e00::3", "2a10::1", 17, 1, MVPN_E_POLICY, -1},
        {"private", "10.8.0.2", "192.168.1.1", 17, 1, MVPN_E_POLICY, 13},
        {"itself", "10.8.0.2", "10.8.0.2", 17, 1, MVPN_E_POLICY, 13},
        {"pool", "10.8.0.2", "10.64.0.7", 17, 1, MVPN_E_POLICY, 13},
        {"loopback", "10.8.0.2", "127.0.0.1", 6, 80, MVPN_E_POLICY, 13},
        {"metadata", "10.8.0.2", "169.254.169.254", 6, 80, MVPN_E_POLICY, 13},
        {"multicast", "10.8.0.2", "224.0.0.251", 17, 5353, MVPN_E_POLICY, -1},
        {"own address", "10.8.0.2", "11.200.0.1", 6, 22, MVPN_E_POLICY, 13},
        {"relay", "10.8.0.2", "11.201.0.1", 17, 443, MVPN_E_POLICY, 13},
        {"smtp", "10.8.0.2", "11.1.1.1", 6, 25, MVPN_E_POLICY, 13},
        {"operator", "10.8.0.2", "11.1.1.1", 17, 9999, MVPN_E_POLICY, 13},
        {"gateway tcp 53", "10.8.0.2", "10.8.0.1", 6, 53, MVPN_E_POLICY, 3},
        {"gateway tcp 80", "10.8.0.2", "10.8.0.1", 6, 80, MVPN_E_POLICY, 3},
        {"gateway udp 123", "10.8.0.2", "10.8.0.1", 17, 123, MVPN_E_POLICY, 3},
        {"ula", "fd6d:7670:6e00::2", "fd00::1", 6, 80, MVPN_E_POLICY, 1},
        {"pool v6", "fd6d:7670:6e00::2", "fd01:2:3:4::5", 6, 80, MVPN_E_POLICY, 1},
        {"6to4 private", "fd6d:7670:6e00::2", "2002:a00:1::1", 6, 80, MVPN_E_POLICY, 1},
        {"v6 smtp", "fd6d:7670:6e00::2", "2a10::1", 6, 25, MVPN_E_POLICY, 1},
        {"v6 gateway tcp 53", "fd6d:7670:6e00::2", "fd6d:7670:6e00::1", 6, 53, MVPN_E_POLICY, 4},
        {"v6 multicast", "fd6d:7670:6e00::2", "ff02::1", 17, 1, MVPN_E_POLICY, -1},
    };
    uint32_t id = open_session(1289, true);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr s, d;
        mvpn_packet answer;
        assert_int_equal(mvpn_addr_parse(rows[i].src, &s), 0);
        assert_int_equal(mvpn_addr_parse(rows[i].dst, &d), 0);
        mvpn_packet *p = new_packet();
        p->len = (uint32_t)(rows[i].protocol == 6
                                ? build_tcp(p->data, s.family, s.ip, 5, d.ip, rows[i].port, 2, 1, 0)
                                : build_udp(p->data, s.family, s.ip, 5, d.ip, rows[i].port, 9));
        uint8_t sent[200];
        uint32_t len = p->len;
        memcpy(sent, p->data, len);
        int r = mvpn_exit_from_session(ex, id, p, MVPN_S(i));
        bool answered = pull(id, &answer);
        if (r != rows[i].code || answered != (rows[i].icmp_code >= 0)) {
            fail_msg("%s: %d, %s", rows[i].what, r, answered ? "answered" : "silent");
        }
        if (answered) {
            bool v4 = s.family == 4;
            size_t head = v4 ? 20 : 40;
            assert_true(slow_ok(answer.data, answer.len));
            assert_memory_equal(answer.data + (v4 ? 12 : 8), v4 ? gw4 : gw6, v4 ? 4 : 16);
            assert_memory_equal(answer.data + (v4 ? 16 : 24), v4 ? in4 : in6, v4 ? 4 : 16);
            assert_int_equal(answer.data[head], v4 ? 3 : 1);
            assert_int_equal(answer.data[head + 1], rows[i].icmp_code);
            assert_memory_equal(answer.data + head + 8, sent, len); /* as the client sent it */
        }
        assert_true(silent());
    }
    assert_int_equal(mvpn_exit_get_counters(ex)->refused_source, 5);
}

static void malformed_and_unwanted(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true);
    static const struct {
        unsigned version;
        uint8_t type;
        int code;
    } rows[] = {
        {4, 8, 0},
        {4, 0, 0},
        {4, 5, MVPN_E_POLICY},
        {4, 9, MVPN_E_POLICY},
        {4, 13, MVPN_E_POLICY},
        {6, 128, 0},
        {6, 129, 0},
        {6, 137, MVPN_E_POLICY},
        {6, 135, MVPN_E_POLICY},
        {4, 3, MVPN_E_FORMAT},
        {6, 1, MVPN_E_FORMAT}, /* errors that quote nothing of ours */
    };
    mvpn_packet out;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        unsigned v = rows[i].version;
        mvpn_packet *p = new_packet();
        p->len = (uint32_t)build_icmp(p->data, v, v == 4 ? in4 : in6, v == 4 ? far4 : test_v6_b,
                                      rows[i].type, 0, 40);
        if (mvpn_exit_from_session(ex, id, p, 0) != rows[i].code) {
            fail_msg("v%u type %u", v, rows[i].type);
        }
        assert_true(pop(mvpn_exit_tun_out(ex), &out) == (rows[i].code == 0));
        (void)pull(id, &out);
    }
    mvpn_packet *p = new_packet(); /* empty */
    assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), MVPN_E_FORMAT);
    p = udp(4, in4, 1, far4, 2, 9);
    p->len--; /* cut */
    assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), MVPN_E_FORMAT);
    p = udp(4, in4, 1, far4, 2, 9); /* with an option */
    memmove(p->data + 24, p->data + 20, p->len - 20);
    memset(p->data + 20, 1, 4);
    p->len += 4;
    p->data[0] = 0x46;
    mvpn_store16(p->data + 2, (uint16_t)p->len);
    slow_fix(p->data, p->len);
    assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), MVPN_E_FORMAT);
    p = udp(4, in4, 1, far4, 2, 9); /* other protocol */
    p->data[9] = 47;
    slow_fix(p->data, p->len);
    assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), MVPN_E_POLICY);
    (void)pull(id, &out);
    assert_int_equal(mvpn_exit_from_session(ex, id + 1, udp(4, in4, 1, far4, 2, 9), 0),
                     MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_exit_from_session(ex, UINT32_MAX, udp(4, in4, 1, far4, 2, 9), 0),
                     MVPN_E_UNKNOWN);
    assert_true(silent());
}

/* IPv4 UDP fragment of datagram `n` to `port` (first) or of what follows it. */
static mvpn_packet *fragment(const uint8_t *dst, uint16_t n, bool first, uint16_t port)
{
    mvpn_packet *p = udp(4, in4, 1, dst, port, 40);
    mvpn_store16(p->data + 4, n);
    mvpn_store16(p->data + 6, first ? 0x2000 : 6);
    if (first) {
        mvpn_store16(p->data + 24, 200);
    }
    mvpn_store16(p->data + 10, 0);
    mvpn_store16(p->data + 10, (uint16_t)~slow_sum(p->data, 20, 0));
    return p;
}

/* A later fragment goes where its first one went; port 9999 is refused, so ports matter. */
static void fragments_follow_their_first(void **state)
{
    (void)state;
    static const uint8_t other[4] = {11, 1, 2, 4};
    uint32_t id = open_session(1289, true), id2 = open_session(1289, true);
    mvpn_packet out;
    static const struct {
        const char *what;
        bool first;
        uint16_t n, port;
        bool other_host, other_session;
        mvpn_time at;
        int code;
    } rows[] = {
        {"later without first", false, 1, 0, false, false, 0, MVPN_E_POLICY},
        {"first, allowed", true, 1, 80, false, false, 0, 0},
        {"its later one", false, 1, 0, false, false, 0, 0},
        {"and another", false, 1, 0, false, false, MVPN_S(1), 0},
        {"of another datagram", false, 2, 0, false, false, MVPN_S(1), MVPN_E_POLICY},
        {"to another host", false, 1, 0, true, false, MVPN_S(1), MVPN_E_POLICY},
        {"of another session", false, 1, 0, false, true, MVPN_S(1), MVPN_E_POLICY},
        {"first, refused", true, 3, 9999, false, false, MVPN_S(1), MVPN_E_POLICY},
        {"its later one", false, 3, 0, false, false, MVPN_S(1), MVPN_E_POLICY},
        {"refused with an id that passed", true, 1, 9999, false, false, MVPN_S(2), MVPN_E_POLICY},
        {"and what follows it", false, 1, 0, false, false, MVPN_S(2), MVPN_E_POLICY},
        {"allowed again", true, 1, 80, false, false, MVPN_S(2), 0},
        {"too late", false, 1, 0, false, false, MVPN_S(62) + 1, MVPN_E_POLICY},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        const uint8_t *dst = rows[i].other_host ? other : far4;
        mvpn_packet *p = fragment(dst, rows[i].n, rows[i].first, rows[i].port);
        uint32_t s = rows[i].other_session ? id2 : id;
        if (mvpn_exit_from_session(ex, s, p, rows[i].at) != rows[i].code) {
            fail_msg("%zu: %s", i, rows[i].what);
        }
        assert_true(pop(mvpn_exit_tun_out(ex), &out) == (rows[i].code == 0));
        /* A refused first fragment is answered, a later one never is. */
        assert_true(pull(s, &out) == (rows[i].first && rows[i].code != 0));
    }
}

static void icmp_error_both_ways(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true);
    mvpn_addr pool4, pool6;
    mvpn_packet out;
    uint8_t quote[100];
    assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool4, &pool6), 0);
    size_t n = build_udp(quote, 4, pool4.ip, 5, far4, 6, 20);
    mvpn_packet *p = new_packet();
    const uint8_t router[4] = {11, 7, 7, 7};
    p->len = (uint32_t)build_icmp_error(p->data, 4, router, pool4.ip, 11, 0, quote, n);
    assert_int_equal(mvpn_exit_from_tun(ex, p, 0), 0);
    assert_true(pull(id, &out));
    assert_true(slow_ok(out.data, out.len));
    assert_memory_equal(out.data + 28 + 12, in4, 4);
    assert_true(slow_ok(out.data + 28, n));
    /* About another session's packet: dropped. */
    (void)build_udp(quote, 4, (uint8_t[]){10, 64, 0, 250}, 5, far4, 6, 20);
    p = new_packet();
    p->len = (uint32_t)build_icmp_error(p->data, 4, router, pool4.ip, 11, 0, quote, n);
    assert_int_equal(mvpn_exit_from_tun(ex, p, 0), MVPN_E_FORMAT);
    /* The client reports a closed port. */
    n = build_udp(quote, 4, far4, 6, in4, 5, 20);
    p = new_packet();
    p->len = (uint32_t)build_icmp_error(p->data, 4, in4, far4, 3, 3, quote, n);
    assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), 0);
    assert_true(pop(mvpn_exit_tun_out(ex), &out));
    assert_true(slow_ok(out.data, out.len));
    assert_memory_equal(out.data + 28 + 16, pool4.ip, 4);
    assert_true(silent());
}

static void mss_is_clamped_both_ways(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true);
    mvpn_addr pool4, pool6;
    mvpn_packet out;
    assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool4, &pool6), 0);
    mvpn_packet *p = new_packet();
    p->len = (uint32_t)build_syn(p->data, 4, in4, 5, far4, 80, 2, 1460, 0);
    assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), 0);
    assert_true(pop(mvpn_exit_tun_out(ex), &out));
    assert_int_equal(mvpn_load16(out.data + 42), 1249);
    assert_true(slow_ok(out.data, out.len));
    assert_int_equal(mvpn_exit_session_attach(ex, id, 1241), 0);
    p = new_packet();
    p->len = (uint32_t)build_syn(p->data, 6, test_v6_b, 80, pool6.ip, 5, 0x12, 1440, 1);
    assert_int_equal(mvpn_exit_from_tun(ex, p, 0), 0);
    assert_true(pull(id, &out));
    assert_int_equal(mvpn_load16(out.data + 63), 1181);
    assert_true(slow_ok(out.data, out.len));
    assert_int_equal(mvpn_exit_session_attach(ex, id, 500), MVPN_E_INVAL);
    assert_int_equal(mvpn_exit_session_attach(ex, id + 1, 1289), MVPN_E_UNKNOWN);
}

static void detached_sessions_are_counted(void **state)
{
    (void)state;
    uint32_t id[3];
    for (size_t i = 0; i < 3; i++) {
        id[i] = open_session(1289, false);
        mvpn_exit_session_detach(ex, id[i]);
        mvpn_exit_session_detach(ex, id[i]); /* once */
        assert_int_equal(mvpn_exit_session_detached_count(ex), i + 1);
    }
    assert_int_equal(mvpn_exit_session_attach(ex, id[1], 1289), 0);
    assert_int_equal(mvpn_exit_session_detached_count(ex), 2);
    mvpn_exit_session_close(ex, id[0], 0);
    assert_int_equal(mvpn_exit_session_detached_count(ex), 1);
    mvpn_exit_session_detach(ex, id[0]); /* unknown now */
    assert_int_equal(mvpn_exit_session_detached_count(ex), 1);
    assert_int_equal(mvpn_exit_get_counters(ex)->sessions_moved, 1);
}

/* When does it help a newcomer that a session is closed? */
static void who_wants_room(void **state)
{
    (void)state;
    uint32_t id[8], unused;
    mvpn_exit_event event;
    assert_int_equal(mvpn_exit_sessions_max(ex), 100);
    stop();
    mvpn_exit_config c = config();
    c.sessions_max = 2;
    start(&c);
    id[0] = open_session(1289, false);
    assert_false(mvpn_exit_wants_room(ex));
    id[1] = open_session(1289, false);
    assert_true(mvpn_exit_wants_room(ex)); /* a number */
    mvpn_exit_set_quota(ex, 100, 100);
    assert_false(mvpn_exit_wants_room(ex)); /* nobody can give that */
    stop();
    c.sessions_max = 100;
    c.pool_v4_bits = 29; /* five addresses */
    start(&c);
    for (size_t i = 0; i < 5; i++) {
        assert_false(mvpn_exit_wants_room(ex));
        id[i] = open_session(1289, false);
    }
    assert_true(mvpn_exit_wants_room(ex)); /* an address, later */
    mvpn_exit_session_close(ex, id[2], 0);
    assert_false(mvpn_exit_wants_room(ex)); /* one rests already */
    assert_int_equal(mvpn_exit_session_open(ex, 1289, false, 1, &unused), MVPN_E_LIMIT);
    assert_true(mvpn_exit_pull_event(ex, &event));
    mvpn_exit_tick(ex, MVPN_ADDR_POOL_REST);
    assert_false(mvpn_exit_wants_room(ex)); /* there is room */
    (void)open_session(1289, false);
    assert_true(mvpn_exit_wants_room(ex));
}

static void no_traffic_between_sessions(void **state)
{
    (void)state;
    uint32_t a = open_session(1289, true), b = open_session(1289, true);
    mvpn_addr a4, a6, b4, b6;
    mvpn_packet answer;
    assert_int_equal(mvpn_exit_session_addrs(ex, a, &a4, &a6), 0);
    assert_int_equal(mvpn_exit_session_addrs(ex, b, &b4, &b6), 0);
    assert_int_equal(mvpn_exit_from_session(ex, a, udp(4, in4, 1, b4.ip, 2, 5), 0), MVPN_E_POLICY);
    assert_true(pull(a, &answer));
    assert_int_equal(mvpn_exit_from_session(ex, a, udp(6, in6, 1, b6.ip, 2, 5), 0), MVPN_E_POLICY);
    assert_true(pull(a, &answer));
    /* Nor by a detour through the kernel, nor from inner addresses. */
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, a4.ip, 1, b4.ip, 2, 5), 0), MVPN_E_POLICY);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(6, a6.ip, 1, b6.ip, 2, 5), 0), MVPN_E_POLICY);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, gw4, 53, b4.ip, 2, 5), 0), MVPN_E_POLICY);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(6, in6, 53, b6.ip, 2, 5), 0), MVPN_E_POLICY);
    /* An answer reaches the session whose address it has, and only it. */
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, b4.ip, 2, 5), 0), 0);
    assert_true(pull(b, &answer));
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, (uint8_t[]){10, 64, 0, 1}, 2, 5), 0),
                     MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, far4, 2, 5), 0), MVPN_E_UNKNOWN);
    b6.ip[10] ^= 1;
    assert_int_equal(mvpn_exit_from_tun(ex, udp(6, test_v6_b, 1, b6.ip, 2, 5), 0), MVPN_E_UNKNOWN);
    assert_true(silent());
}

static void too_big_rows(void **state)
{
    (void)state;
    static const struct {
        unsigned version;
        uint32_t mtu, size;
        bool df, passes;
        uint32_t told;
    } rows[] = {
        {4, 1289, 1289, true, true, 0},     {4, 1289, 1290, true, false, 1289},
        {4, 1289, 1400, false, true, 0},    {6, 1289, 1289, true, true, 0},
        {6, 1289, 1290, true, false, 1289}, {4, 1241, 1280, true, true, 0},
        {6, 1241, 1280, true, true, 0},     {6, 1241, 1281, true, false, 1280},
        {4, 1241, 1281, true, false, 1280}, {4, 600, 1280, true, true, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        unsigned v = rows[i].version;
        uint32_t id = open_session(rows[i].mtu, true);
        size_t head = v == 4 ? 20 : 40, len = v == 4 ? 4 : 16, at = v == 4 ? 12 : 8;
        mvpn_addr pool4, pool6;
        mvpn_packet out;
        assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool4, &pool6), 0);
        const uint8_t *pool = v == 4 ? pool4.ip : pool6.ip, *far = v == 4 ? far4 : test_v6_b;
        mvpn_packet *p = udp(v, far, 6, pool, 5, rows[i].size - head - 8);
        if (!rows[i].df) {
            mvpn_store16(p->data + 6, 0);
            slow_fix(p->data, p->len);
        }
        int r = mvpn_exit_from_tun(ex, p, 0);
        assert_int_equal(r, rows[i].passes ? 0 : MVPN_E_TOO_BIG);
        assert_true(pull(id, &out) == rows[i].passes);
        assert_true(pop(mvpn_exit_tun_out(ex), &out) == !rows[i].passes);
        if (!rows[i].passes) {
            assert_true(slow_ok(out.data, out.len));
            assert_memory_equal(out.data + at, pool, len);
            assert_memory_equal(out.data + at + len, far, len);
            assert_int_equal(out.data[head], v == 4 ? 3 : 2);
            assert_int_equal(mvpn_load32(out.data + head + 4), rows[i].told);
        }
        mvpn_exit_session_close(ex, id, 0);
    }
}

static void echo_of_the_gateway(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, false); /* v6 gateway answers even without v6 uplink */
    mvpn_packet out;
    for (unsigned v = 4; v <= 6; v += 2) {
        mvpn_packet *p = new_packet();
        p->len = (uint32_t)build_icmp(p->data, v, v == 4 ? in4 : in6, v == 4 ? gw4 : gw6,
                                      v == 4 ? 8 : 128, 0, 56);
        assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), 0);
        assert_true(pull(id, &out));
        assert_true(slow_ok(out.data, out.len));
        assert_int_equal(out.data[v == 4 ? 20 : 40], v == 4 ? 0 : 129);
        assert_memory_equal(out.data + (v == 4 ? 16 : 24), v == 4 ? in4 : in6, v == 4 ? 4 : 16);
    }
    assert_true(silent());
}

static uint32_t dns_query(uint8_t *p)
{
    memcpy(p,
           "\x11\x11\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01"
           "a\x02"
           "eu\x00\x00\x01\x00\x01",
           22);
    return 22;
}

static mvpn_packet *dns_packet(unsigned v, uint16_t port)
{
    mvpn_packet *p = udp(v, v == 4 ? in4 : in6, port, v == 4 ? gw4 : gw6, 53, 22);
    (void)dns_query(p->data + p->len - 22);
    slow_fix(p->data, p->len);
    return p;
}

static void dns_through_the_gateway(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, false);
    for (unsigned v = 4; v <= 6; v += 2) {
        mvpn_packet out, answer;
        size_t head = v == 4 ? 20 : 40, len = v == 4 ? 4 : 16, at = v == 4 ? 12 : 8;
        assert_int_equal(mvpn_exit_from_session(ex, id, dns_packet(v, 4567), MVPN_S(1)), 0);
        assert_true(pop(mvpn_exit_dns_out(ex), &out));
        assert_int_equal(out.local, MVPN_EXIT_LOCAL_DNS);
        assert_true(mvpn_addr_eq(&out.remote, &dns_addr));
        assert_int_equal(out.len, 22);
        assert_true(mvpn_exit_deadline(ex) == MVPN_S(6));
        mvpn_packet *p = new_packet();
        memcpy(mvpn_packet_append(p, 22), out.data, 22);
        p->data[2] |= 0x80;
        p->remote = dns_addr;
        p->local = 1;
        assert_int_equal(mvpn_exit_from_dns(ex, p, MVPN_S(2)), 0);
        assert_true(pull(id, &answer));
        assert_int_equal(answer.len, head + 8 + 22);
        assert_true(slow_ok(answer.data, answer.len));
        assert_memory_equal(answer.data + at, v == 4 ? gw4 : gw6, len);
        assert_memory_equal(answer.data + at + len, v == 4 ? in4 : in6, len);
        assert_int_equal(mvpn_load16(answer.data + head), 53);
        assert_int_equal(mvpn_load16(answer.data + head + 2), 4567);
        assert_int_equal(mvpn_load16(answer.data + head + 8), 0x1111);
        /* The same answer again, and one from elsewhere. */
        p = new_packet();
        memcpy(mvpn_packet_append(p, 22), out.data, 22);
        p->data[2] |= 0x80;
        p->remote = dns_addr;
        assert_int_equal(mvpn_exit_from_dns(ex, p, MVPN_S(2)), MVPN_E_UNKNOWN);
    }
    assert_true(silent());
    const mvpn_exit_counters *c = mvpn_exit_get_counters(ex);
    assert_int_equal(c->dns_queries, 2);
    assert_int_equal(c->dns_answers, 2);
    assert_int_equal(c->dns_refused, 2);
}

/* DNS by TCP goes to the device's own address and back, and nothing else does. */
static void dns_by_tcp(void **state)
{
    (void)state;
    stop();
    mvpn_exit_config c = config();
    c.dns_stream = true;
    start(&c);
    uint32_t id = open_session(1289, true), no_v6 = open_session(1289, false);
    mvpn_addr pool[2], other[2];
    mvpn_packet out;
    assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool[0], &pool[1]), 0);
    assert_int_equal(mvpn_exit_session_addrs(ex, no_v6, &other[0], &other[1]), 0);
    static const uint8_t device4[4] = {10, 64, 0, 1},
                         device6[16] = {0xfd, 1, 0, 2, 0, 3, 0, 4, [15] = 1};
    for (unsigned v = 4; v <= 6; v += 2) {
        bool v4 = v == 4;
        size_t at = v4 ? 12 : 8, n = v4 ? 4 : 16;
        const uint8_t *in = v4 ? in4 : in6, *gw = v4 ? gw4 : gw6, *dev = v4 ? device4 : device6;
        const uint8_t *mine = pool[v4 ? 0 : 1].ip;
        mvpn_packet *p = new_packet();
        p->len = (uint32_t)build_syn(p->data, v, in, 4567, gw, 53, 2, 1460, 0);
        assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), 0);
        assert_true(pop(mvpn_exit_tun_out(ex), &out));
        assert_true(slow_ok(out.data, out.len));
        assert_memory_equal(out.data + at, mine, n);
        assert_memory_equal(out.data + at + n, dev, n);
        assert_true(mvpn_load16(out.data + out.len - 8 + 2) <= 1289 - 40); /* MSS */
        p = new_packet();
        p->len = (uint32_t)build_tcp(p->data, v, dev, 53, mine, 4567, 0x12, 1, 20);
        assert_int_equal(mvpn_exit_from_tun(ex, p, 0), 0);
        assert_true(pull(id, &out));
        assert_true(slow_ok(out.data, out.len));
        assert_memory_equal(out.data + at, gw, n);
        assert_memory_equal(out.data + at + n, in, n);
        /* Another port or protocol of the device, and other pool addresses, are as before. */
        p = new_packet();
        p->len = (uint32_t)build_tcp(p->data, v, dev, 54, mine, 4567, 0x12, 1, 20);
        assert_int_equal(mvpn_exit_from_tun(ex, p, 0), MVPN_E_POLICY);
        assert_int_equal(mvpn_exit_from_tun(ex, udp(v, dev, 53, mine, 9, 30), 0), MVPN_E_POLICY);
        p = new_packet();
        p->len = (uint32_t)build_tcp(p->data, v, other[v4 ? 0 : 1].ip, 53, mine, 4567, 2, 1, 0);
        assert_int_equal(mvpn_exit_from_tun(ex, p, 0), MVPN_E_POLICY);
        p = new_packet();
        p->len = (uint32_t)build_tcp(p->data, v, in, 4567, dev, 53, 2, 1, 0);
        assert_int_equal(mvpn_exit_from_session(ex, id, p, MVPN_S(v)), MVPN_E_POLICY);
        assert_true(pull(id, &out));
        p = new_packet();
        p->len = (uint32_t)build_tcp(p->data, v, in, 4567, gw, 22, 2, 1, 0);
        assert_int_equal(mvpn_exit_from_session(ex, id, p, MVPN_S(v)), MVPN_E_POLICY);
        assert_true(pull(id, &out));
        p = new_packet();
        p->len = (uint32_t)build_tcp(p->data, v, in, 4567, gw, 53, 2, 1, 0);
        assert_int_equal(mvpn_exit_from_session(ex, no_v6, p, MVPN_S(v)), v4 ? 0 : MVPN_E_POLICY);
        assert_true(pop(mvpn_exit_tun_out(ex), &out) == v4);
        assert_true(pull(no_v6, &out) == !v4);
        assert_true(silent());
    }
    /* What the listener then asks: as the session of that pool address. */
    uint8_t query[600] = "\x11\x11\1\0\0\1\0\0\0\0\0\0\4name\0\0\1\0\1", sent[600];
    uint32_t len = 22;
    uint16_t connection = 0;
    mvpn_addr to, nobody = {.family = 4, .ip = {10, 64, 0, 1}};
    assert_int_equal(mvpn_exit_stream_query(ex, &nobody, 7, query, &len, sizeof(query), 0, &to),
                     MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_exit_stream_query(ex, &pool[0], 7, query, &len, sizeof(query), 0, &to),
                     0);
    assert_true(mvpn_addr_eq(&to, &dns_addr));
    memcpy(sent, query, len);
    query[2] |= 0x80;
    query[7] = 1;
    memcpy(query + len, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0b\1\2\3", 16);
    len += 16;
    assert_int_equal(mvpn_exit_stream_answer(ex, &own_addr, query, &len, 0, &connection),
                     MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_exit_stream_answer(ex, &to, query, &len, 0, &connection), 0);
    assert_int_equal(connection, 7);
    assert_int_equal(mvpn_load16(query), 0x1111);
    /* Asked by UDP then: from the session's cache. */
    mvpn_packet *p = new_packet();
    p->len = (uint32_t)build_udp(p->data, 4, in4, 99, gw4, 53, 22);
    memcpy(p->data + 28, "\x22\x22\1\0\0\1\0\0\0\0\0\0\4NAME\0\0\1\0\1", 22);
    slow_fix(p->data, p->len);
    mvpn_packet again = *p;
    assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), 0);
    assert_true(pull(id, &out));
    assert_true(slow_ok(out.data, out.len));
    assert_int_equal(out.len, 28 + 38);
    assert_memory_equal(out.data + 28 + 12, "\4NAME", 5);
    assert_true(silent());
    /* The next session in the same place knows nothing of it. */
    mvpn_exit_session_close(ex, id, 0);
    mvpn_exit_event event;
    while (mvpn_exit_pull_event(ex, &event)) {
    }
    id = open_session(1289, true);
    p = new_packet();
    memcpy(mvpn_packet_append(p, again.len), again.buf + MVPN_PACKET_HEADROOM, again.len);
    assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), 0);
    assert_true(pop(mvpn_exit_dns_out(ex), &out));
    assert_true(silent());
}

static void dns_limits(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, false);
    mvpn_packet out;
    for (unsigned round = 0; round < 3; round++) {
        mvpn_time now = MVPN_S(round * 5);
        mvpn_exit_tick(ex, now); /* the former ones expire */
        for (int i = 0; i < 64; i++) {
            assert_int_equal(mvpn_exit_from_session(ex, id, dns_packet(4, 1), now), 0);
            assert_true(pop(mvpn_exit_dns_out(ex), &out));
        }
        assert_int_equal(mvpn_exit_from_session(ex, id, dns_packet(4, 1), now), MVPN_E_LIMIT);
    }
    assert_int_equal(mvpn_exit_get_counters(ex)->dns_expired, 128);
    /* An answer after the session closed is for nobody, even if the slot is used again. */
    mvpn_exit_session_close(ex, id, MVPN_S(11));
    (void)open_session(1289, false);
    mvpn_packet *p = new_packet();
    memcpy(mvpn_packet_append(p, 22), out.data, 22);
    p->data[2] |= 0x80;
    p->remote = dns_addr;
    assert_int_equal(mvpn_exit_from_dns(ex, p, MVPN_S(11)), MVPN_E_UNKNOWN);
    /* A wrong UDP checksum, a fragment, an answer too large. */
    uint32_t other = open_session(1289, false);
    p = dns_packet(4, 1);
    p->data[30] ^= 1;
    assert_int_equal(mvpn_exit_from_session(ex, other, p, MVPN_S(11)), MVPN_E_FORMAT);
    p = new_packet();
    (void)mvpn_packet_append(p, MVPN_PACKET_ROOM);
    memset(p->data, 0, p->len);
    assert_int_equal(mvpn_exit_from_dns(ex, p, MVPN_S(11)), MVPN_E_TOO_BIG);
}

static void without_v6(void **state)
{
    (void)state;
    mvpn_packet out;
    uint32_t no = open_session(1289, false);
    assert_false(mvpn_exit_session_has_v6(ex, no));
    mvpn_addr pool4, pool6;
    assert_int_equal(mvpn_exit_session_addrs(ex, no, &pool4, &pool6), 0);
    assert_int_equal(mvpn_exit_from_session(ex, no, udp(6, in6, 1, test_v6_b, 2, 5), 0),
                     MVPN_E_POLICY);
    assert_true(pull(no, &out));
    assert_int_equal(out.data[40], 1);
    assert_int_equal(out.data[41], 0);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(6, test_v6_b, 1, pool6.ip, 2, 5), 0),
                     MVPN_E_UNKNOWN);
    stop();
    mvpn_exit_config c = config();
    c.uplink_v6 = false;
    start(&c);
    uint32_t id = open_session(1289, true);
    assert_false(mvpn_exit_session_has_v6(ex, id));
    assert_int_equal(mvpn_exit_from_session(ex, id, udp(6, in6, 1, test_v6_b, 2, 5), 0),
                     MVPN_E_POLICY);
    assert_true(pull(id, &out));
    assert_int_equal(out.data[41], 0);
    assert_int_equal(mvpn_exit_get_counters(ex)->refused_no_v6, 1);
}

static void addresses_rest(void **state)
{
    (void)state;
    stop();
    mvpn_exit_config c = config();
    c.pool_v4_bits = 29; /* five addresses */
    start(&c);
    uint32_t id[5], other;
    mvpn_exit_event event;
    mvpn_addr pool4, pool6, new4, new6;
    for (int i = 0; i < 5; i++) {
        id[i] = open_session(1289, true);
    }
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &other), MVPN_E_LIMIT);
    assert_int_equal(mvpn_exit_session_addrs(ex, id[3], &pool4, &pool6), 0);
    /* What waits for a session that closes is dropped. */
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, pool4.ip, 2, 5), 0), 0);
    mvpn_exit_session_close(ex, id[3], MVPN_S(50));
    mvpn_exit_session_close(ex, id[3], MVPN_S(50)); /* twice is once */
    assert_true(silent());
    assert_int_equal(mvpn_exit_session_count(ex), 4);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, pool4.ip, 2, 5), MVPN_S(51)),
                     MVPN_E_UNKNOWN);
    assert_true(mvpn_exit_pull_event(ex, &event));
    assert_true(mvpn_addr_eq(&event.pool_v4, &pool4) && mvpn_addr_eq(&event.pool_v6, &pool6));
    assert_false(mvpn_exit_pull_event(ex, &event));
    assert_true(mvpn_exit_deadline(ex) == MVPN_S(350));
    mvpn_exit_tick(ex, MVPN_S(349));
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, MVPN_S(350) - 1, &other), MVPN_E_LIMIT);
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, MVPN_S(350), &other), 0);
    assert_int_equal(mvpn_exit_session_addrs(ex, other, &new4, &new6), 0);
    assert_true(mvpn_addr_eq(&new4, &pool4));
    assert_false(mvpn_addr_eq(&new6, &pool6)); /* its random part is fresh */
    assert_int_not_equal(other, id[3]);        /* same slot, other generation */
    assert_int_equal(other & 0xffff, id[3] & 0xffff);
    assert_int_equal(mvpn_exit_from_session(ex, id[3], udp(4, in4, 1, far4, 2, 9), MVPN_S(350)),
                     MVPN_E_UNKNOWN);
}

static void icmp_is_rate_limited(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true);
    mvpn_packet out;
    unsigned answers = 0;
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, gw4, 2, 9), MVPN_MS(i)),
                         MVPN_E_POLICY);
        answers += pull(id, &out);
    }
    assert_in_range(answers, MVPN_EXIT_ICMP_BURST, MVPN_EXIT_ICMP_BURST + MVPN_EXIT_ICMP_RATE);
}

/* Refused all the same, but never answered: answers to these would breed answers, or reach many. */
static void never_answered(void **state)
{
    (void)state;
    static const uint8_t private4[4] = {192, 168, 1, 1}, multicast[4] = {224, 0, 0, 9},
                         ula[16] = {0xfd, [15] = 1};
    uint32_t id = open_session(1289, true);
    for (unsigned v = 4; v <= 6; v += 2) {
        const uint8_t *in = v == 4 ? in4 : in6, *dst = v == 4 ? private4 : ula;
        uint8_t quote[100];
        size_t n = build_udp(quote, v, dst, 9, in, 5, 8);
        mvpn_packet *p = new_packet();
        p->len = (uint32_t)build_icmp_error(p->data, v, in, dst, v == 4 ? 3 : 1, 3, quote, n);
        assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), MVPN_E_POLICY);
        assert_true(silent());
    }
    assert_int_equal(mvpn_exit_from_session(ex, id, fragment(private4, 1, false, 0), 0),
                     MVPN_E_POLICY);
    assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, multicast, 2, 9), 0),
                     MVPN_E_POLICY);
    assert_true(silent());
    mvpn_packet out;
    assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, private4, 2, 9), 0),
                     MVPN_E_POLICY);
    assert_true(pull(id, &out)); /* while this one is */
}

static void rates(void **state)
{
    (void)state;
    stop();
    mvpn_exit_config c = config();
    c.session_rate = 1000000;
    c.session_burst = 100000;
    c.total_rate = 1500000;
    start(&c);
    uint32_t a = open_session(1289, true), b = open_session(1289, true);
    mvpn_packet out;
    uint64_t passed[2] = {0};
    for (int i = 0; i < 10000; i++) { /* 1 s, 10 MB/s offered by each */
        for (int k = 0; k < 2; k++) {
            if (mvpn_exit_from_session(ex, k ? b : a, udp(4, in4, 1, far4, 2, 972),
                                       (mvpn_time)i * 100) == 0) {
                passed[k] += 1000;
                assert_true(pop(mvpn_exit_tun_out(ex), &out));
            }
        }
    }
    assert_in_range(passed[0], 500000, 1100000);
    assert_in_range(passed[1], 500000, 1100000);
    assert_in_range(passed[0] + passed[1], 1900000, 2200000); /* two buckets of 1.1 MB */
    assert_true(mvpn_exit_get_counters(ex)->refused_rate > 15000);
}

#define SECONDS 30

/* Bytes that pass in SECONDS of which three times as many are offered, both ways, by two sessions.
 */
static void offer(const uint32_t ids[2], uint64_t passed[2][2], uint32_t per_packet, mvpn_time gap)
{
    mvpn_packet out;
    mvpn_addr pool[2][2];
    uint32_t id;
    mvpn_packet *p;
    for (int k = 0; k < 2; k++) {
        assert_int_equal(mvpn_exit_session_addrs(ex, ids[k], &pool[k][0], &pool[k][1]), 0);
    }
    for (mvpn_time now = 0; now < MVPN_S(SECONDS); now += gap) {
        for (int k = 0; k < 2; k++) {
            (void)mvpn_exit_from_session(ex, ids[k], udp(4, in4, 1, far4, 2, per_packet - 28), now);
            passed[k][0] += pop(mvpn_exit_tun_out(ex), &out) ? per_packet : 0;
            (void)mvpn_exit_from_tun(ex, udp(4, far4, 2, pool[k][0].ip, 1, per_packet - 28), now);
            if (mvpn_exit_pull_to_session(ex, &id, &p)) {
                assert_int_equal(id, ids[k]);
                mvpn_packet_free(&packets, p);
                passed[k][1] += per_packet;
            }
        }
    }
}

/* Within 2 % of what was configured, and of their burst. */
static void limits_are_exact(void **state)
{
    (void)state;
    static const struct {
        uint64_t session_rate, total_rate, total_burst;
        uint64_t each, all; /* bytes a second: of one session and direction; of everything */
        mvpn_time gap;
    } rows[] = {
        {100000, 0, 0, 100000, 400000, 3300},
        {300000, 0, 0, 300000, 1200000, 1100},
        {0, 300000, 0, 0, 300000, 3300},
        {0, 300000, 3000000, 0, 300000, 3300},
        {0, 300000, 65536, 0, 300000, 3300},
        {100000, 10000000, 0, 100000, 400000, 3300}, /* the total does not matter */
        {1000000, 500000, 0, 0, 500000, 3300},       /* the sessions' does not */
        {7777, 0, 0, 7777, 4 * 7777, 42000},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        stop();
        mvpn_exit_config c = config();
        c.session_rate = rows[i].session_rate;
        c.session_burst = 65536;
        c.total_rate = rows[i].total_rate;
        c.total_burst = rows[i].total_burst;
        start(&c);
        uint32_t ids[2] = {open_session(1289, true), open_session(1289, true)};
        uint64_t passed[2][2] = {{0}}, all = 0;
        offer(ids, passed, 1000, rows[i].gap);
        for (int k = 0; k < 4; k++) {
            uint64_t n = passed[k / 2][k % 2], want = rows[i].each * SECONDS + 65536;
            all += n;
            if (rows[i].each != 0 && (n < want * 98 / 100 || n > want * 102 / 100)) {
                fail_msg("row %zu: %lu bytes of %lu", i, (unsigned long)n, (unsigned long)want);
            }
        }
        uint64_t total_burst = rows[i].total_burst != 0 ? rows[i].total_burst : rows[i].total_rate;
        uint64_t burst = rows[i].each != 0 ? 4 * 65536 : total_burst;
        uint64_t want = rows[i].all * SECONDS + burst;
        if (all < want * 98 / 100 || all > want * 102 / 100) {
            fail_msg("row %zu: %lu bytes of %lu in all", i, (unsigned long)all,
                     (unsigned long)want);
        }
    }
}

/* What all together did not let pass does not cost the session its own share. */
static void total_limit_leaves_sessions_theirs(void **state)
{
    (void)state;
    stop();
    mvpn_exit_config c = config();
    mvpn_packet out;
    c.session_rate = 10;
    c.session_burst = 100000;
    c.total_rate = 100000; /* burst likewise */
    start(&c);
    uint32_t greedy = open_session(1289, true), other = open_session(1289, true);
    unsigned passed = 0;
    for (int i = 0; i < 100; i++) {
        (void)mvpn_exit_from_session(ex, greedy, udp(4, in4, 1, far4, 2, 972), 0);
        passed += pop(mvpn_exit_tun_out(ex), &out);
    }
    assert_int_equal(passed, 100);
    for (int i = 0; i < 100; i++) { /* nothing is left of the total */
        assert_int_equal(mvpn_exit_from_session(ex, other, udp(4, in4, 1, far4, 2, 972), 0),
                         MVPN_E_LIMIT);
    }
    for (int i = 0; i < 100; i++) { /* a second later there is, and the other has its burst yet */
        passed += mvpn_exit_from_session(ex, other, udp(4, in4, 1, far4, 2, 972), MVPN_S(1)) == 0;
        (void)pop(mvpn_exit_tun_out(ex), &out);
    }
    assert_int_equal(passed, 200);
}

static void quota_ends_traffic(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true), more;
    mvpn_addr pool4, pool6;
    mvpn_packet out;
    assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool4, &pool6), 0);
    mvpn_exit_set_quota(ex, 100000, 20500);
    unsigned passed = 0;
    for (int i = 0; i < 100; i++) {
        mvpn_time now = MVPN_S((unsigned)i);
        int r = i % 2 ? mvpn_exit_from_session(ex, id, udp(4, in4, 1, far4, 2, 972), now)
                      : mvpn_exit_from_tun(ex, udp(4, far4, 2, pool4.ip, 1, 972), now);
        passed += r == 0;
        assert_int_equal(r, i < 79 ? 0 : MVPN_E_LIMIT);
        bool went = pop(mvpn_exit_tun_out(ex), &out);
        assert_true(went == (i % 2 && i < 79));
        bool came = pull(id, &out);
        assert_true(came == (i % 2 == 0 ? i < 79 : i >= 79)); /* answered by ICMP behind it */
        assert_true(i % 2 == 0 || !came || out.data[20] == 3);
    }
    assert_int_equal(passed, 79);
    assert_int_equal(mvpn_exit_quota_used(ex), 99500);
    assert_int_equal(mvpn_exit_get_counters(ex)->refused_quota, 21);
    mvpn_exit_set_quota(ex, 100000, 100000);
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &more), MVPN_E_LIMIT);
    mvpn_exit_set_quota(ex, 100000, 0); /* a new month */
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &more), 0);
    assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, far4, 2, 972), MVPN_S(101)), 0);
    assert_true(pop(mvpn_exit_tun_out(ex), &out));
}

static void outputs_are_bounded(void **state)
{
    (void)state;
    uint32_t id = open_session(1289, true);
    mvpn_addr pool4, pool6;
    assert_int_equal(mvpn_exit_session_addrs(ex, id, &pool4, &pool6), 0);
    for (int i = 0; i < MVPN_EXIT_QUEUE_MAX; i++) {
        assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, far4, 2, 5), 0), 0);
        assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, pool4.ip, 2, 5), 0), 0);
    }
    assert_int_equal(mvpn_exit_from_session(ex, id, udp(4, in4, 1, far4, 2, 5), 0), MVPN_E_LIMIT);
    assert_int_equal(mvpn_exit_from_tun(ex, udp(4, far4, 1, pool4.ip, 2, 5), 0), MVPN_E_LIMIT);
    assert_int_equal(packets.free_count, PACKETS - 2 * MVPN_EXIT_QUEUE_MAX);
    assert_int_equal(mvpn_exit_get_counters(ex)->queue_full, 2);
    stop(); /* gives them all back */
    mvpn_exit_config c = config();
    start(&c);
}

static void sessions_are_bounded(void **state)
{
    (void)state;
    uint32_t id, first = open_session(1289, true);
    for (int i = 1; i < 100; i++) {
        (void)open_session(1289, true);
    }
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &id), MVPN_E_LIMIT);
    assert_int_equal(mvpn_exit_session_count(ex), 100);
    mvpn_exit_session_close(ex, first, 0);
    assert_int_equal(mvpn_exit_session_open(ex, 1289, true, 0, &id), 0);
    assert_int_equal(mvpn_exit_session_open(ex, 100, true, 0, &id), MVPN_E_INVAL);
    assert_int_equal(mvpn_exit_session_open(ex, 1421, true, 0, &id), MVPN_E_INVAL);
}

static void bad_configurations(void **state)
{
    (void)state;
    mvpn_policy_error e = {0};
    mvpn_exit *none = NULL;
    mvpn_exit_config c = config();
    c.policy = "accept tcp * 80\nreject nothing";
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_CONFIG);
    assert_int_equal(e.line, 2);
    assert_int_equal(e.column, 8);
    c = config();
    c.pool_v4_bits = 8;
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_INVAL);
    c = config();
    c.dns_count = 0;
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_INVAL);
    c = config();
    c.sessions_max = 65536;
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_INVAL);
    c = config();
    c.own_count = 1000;
    mvpn_addr many[1000];
    for (size_t i = 0; i < 1000; i++) {
        many[i] = own_addr;
    }
    c.own = many;
    assert_int_equal(mvpn_exit_new(&c, &none, &e), MVPN_E_LIMIT);
    assert_null(none);
}

/* Random packets from both sides with sessions coming and going: bounds, no leak, no allocation. */
static void random_traffic(void **state)
{
    (void)state;
    uint32_t id[60] = {0};
    mvpn_packet out;
    mvpn_exit_event event;
    uint32_t got;
    mvpn_packet *q;
    srandom(11);
    for (int i = 0; i < 60; i++) {
        id[i] = open_session(1241 + (uint32_t)(i % 2) * 48, i % 3 != 0);
    }
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
    size_t heap = mallinfo2().uordblks;
#endif
    for (int i = 0; i < 200000; i++) {
        mvpn_time now = (mvpn_time)i * 5000;
        uint32_t s = id[random() % 60];
        mvpn_addr pool4 = {0}, pool6 = {0};
        mvpn_packet *p = new_packet();
        unsigned v = random() % 2 ? 4 : 6;
        bool outward = random() % 2;
        (void)!mvpn_exit_session_addrs(ex, s, &pool4, &pool6);
        const uint8_t *in = v == 4 ? in4 : in6, *far = v == 4 ? far4 : test_v6_b;
        const uint8_t *pool = v == 4 ? pool4.ip : pool6.ip, *gw = v == 4 ? gw4 : gw6;
        const uint8_t *src = outward ? in : far;
        const uint8_t *dst = outward ? (random() % 8 ? far : gw) : pool;
        size_t n = (size_t)(random() % 1350);
        long kind = random() % 5;
        p->len =
            (uint32_t)(kind == 0   ? build_udp(p->data, v, src, 1, dst, 53, n)
                       : kind == 1 ? build_tcp(p->data, v, src, 1, dst, 80, (uint8_t)random(), 1, n)
                       : kind == 2
                           ? build_icmp(p->data, v, src, dst, (uint8_t)(random() % 140), 0, n)
                       : kind == 3
                           ? build_syn(p->data, v, src, 1, dst, 80, 2, 9999, (unsigned)random() % 4)
                           : build_udp(p->data, v, src, 1, dst, 9999, n));
        for (long k = random() % 4; k > 0; k--) { /* most go through whole */
            p->data[(size_t)random() % p->len] ^= (uint8_t)(random() % 3 ? 0 : 1 << random() % 8);
        }
        (void)(outward ? mvpn_exit_from_session(ex, s, p, now) : mvpn_exit_from_tun(ex, p, now));
        while (pop(mvpn_exit_tun_out(ex), &out) || pop(mvpn_exit_dns_out(ex), &out)) {
        }
        while (mvpn_exit_pull_to_session(ex, &got, &q)) {
            mvpn_packet_free(&packets, q);
        }
        if (i % 100 == 0) {
            size_t k = (size_t)random() % 60;
            mvpn_exit_session_close(ex, id[k], now);
            (void)!mvpn_exit_session_open(ex, 1289, true, now, &id[k]);
        }
        while (mvpn_exit_pull_event(ex, &event)) {
        }
        mvpn_exit_tick(ex, now);
        assert_int_equal(packets.free_count, PACKETS);
    }
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
    assert_int_equal(mallinfo2().uordblks, heap);
#endif
    const mvpn_exit_counters *c = mvpn_exit_get_counters(ex);
    assert_true(c->out_packets > 1000 && c->in_packets > 1000 && c->too_big > 100 &&
                c->icmp_sent > 100);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(out_and_back),
        TEST(refused_rows),
        TEST(malformed_and_unwanted),
        TEST(fragments_follow_their_first),
        TEST(icmp_error_both_ways),
        TEST(mss_is_clamped_both_ways),
        TEST(detached_sessions_are_counted),
        TEST(who_wants_room),
        TEST(no_traffic_between_sessions),
        TEST(too_big_rows),
        TEST(echo_of_the_gateway),
        TEST(dns_through_the_gateway),
        TEST(dns_by_tcp),
        TEST(dns_limits),
        TEST(without_v6),
        TEST(addresses_rest),
        TEST(icmp_is_rate_limited),
        TEST(never_answered),
        TEST(rates),
        TEST(limits_are_exact),
        TEST(total_limit_leaves_sessions_theirs),
        TEST(quota_ends_traffic),
        TEST(outputs_are_bounded),
        TEST(sessions_are_bounded),
        TEST(random_traffic),
        cmocka_unit_test(bad_configurations),
    };
    in4 = mvpn_inner_client(4);
    in6 = mvpn_inner_client(6);
    gw4 = mvpn_inner_gateway(4);
    gw6 = mvpn_inner_gateway(6);
    if (mvpn_packet_pool_init(&packets, PACKETS) != 0 ||
        mvpn_addr_parse("11.0.0.53:53", &dns_addr) != 0 ||
        mvpn_addr_parse("11.200.0.1", &own_addr) != 0 ||
        mvpn_addr_parse("11.201.0.1:443", &relay_addr) != 0) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mvpn_packet_pool_done(&packets);
    return failed;
}
