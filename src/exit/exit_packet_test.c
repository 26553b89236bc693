/* Packets through an exit, out and back: what is rewritten, what is refused and with which answer,
 * what is dropped; and random traffic, which leaks nothing. (docs/protocol.md §7.3) */
#include <malloc.h>
#include <stdlib.h>

#include "exit/testing.h"
#include "network/ip/icmp.h"

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
    exit_stop();
    mvpn_exit_config c = exit_config();
    c.uplink_v6 = false;
    exit_start(&c);
    uint32_t id = open_session(1289, true);
    assert_false(mvpn_exit_session_has_v6(ex, id));
    assert_int_equal(mvpn_exit_from_session(ex, id, udp(6, in6, 1, test_v6_b, 2, 5), 0),
                     MVPN_E_POLICY);
    assert_true(pull(id, &out));
    assert_int_equal(out.data[41], 0);
    assert_int_equal(mvpn_exit_get_counters(ex)->refused_no_v6, 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(out_and_back),
        TEST(refused_rows),
        TEST(malformed_and_unwanted),
        TEST(fragments_follow_their_first),
        TEST(icmp_error_both_ways),
        TEST(mss_is_clamped_both_ways),
        TEST(no_traffic_between_sessions),
        TEST(too_big_rows),
        TEST(echo_of_the_gateway),
        TEST(without_v6),
        TEST(never_answered),
        TEST(random_traffic),
    };
    return cmocka_run_group_tests(tests, exit_group_setup, exit_group_teardown);
}
