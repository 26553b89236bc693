/* Names asked at the gateway of an exit, by UDP and TCP: to its resolver and back, and how many. */
#include "exit/testing.h"

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
    exit_stop();
    mvpn_exit_config c = exit_config();
    c.dns_stream = true;
    exit_start(&c);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(dns_through_the_gateway),
        TEST(dns_by_tcp),
        TEST(dns_limits),
    };
    return cmocka_run_group_tests(tests, exit_group_setup, exit_group_teardown);
}
