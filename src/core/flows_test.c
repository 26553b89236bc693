/* Which session a flow belongs to, what an exit may bring, and resets when a session is gone. */
#include "core/testing.h"

#include <stdlib.h>

#include "base/model_random.h"
#include "core/flows.h"
#include "network/ip/icmp.h"
#include "network/ip/inner.h"
#include "network/ip/ip.h"
#include "network/ip/testing.h"

#define SYN MVPN_TCP_SYN
#define ACK MVPN_TCP_ACK
#define FIN MVPN_TCP_FIN
#define RST MVPN_TCP_RST

static mvpn_packet_pool pool;
static mvpn_packet_queue out;
static mvpn_flows *flows;
static mvpn_time now;
static uint8_t b[2000];
static size_t len;

static void make_flows(size_t max)
{
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 7);
    mvpn_flows_free(flows);
    assert_int_equal(mvpn_flows_new(max, &rng, &flows), 0);
}

static int setup(void **state)
{
    (void)state;
    int r = mvpn_packet_pool_init(&pool, 400);
    mvpn_packet_queue_init(&out);
    flows = NULL;
    make_flows(64);
    now = MVPN_S(1000);
    return r + mvpn_flows_open_session(flows, 1) + mvpn_flows_open_session(flows, 2);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_flows_free(flows);
    mvpn_packet_queue_clear(&out, &pool);
    bool is_whole = pool.free_count == pool.size;
    mvpn_packet_pool_done(&pool);
    return is_whole ? 0 : -1;
}

/* Two hosts of each version, and remote port 443. */
static const void *remote(unsigned version, unsigned host)
{
    static uint8_t v4[4] = {93, 184, 216, 0}, v6[16] = {0x2a, 0x10, [4] = 9};
    v4[3] = (uint8_t)(34 + host);
    v6[15] = (uint8_t)(1 + host);
    return version == 4 ? v4 : v6;
}

struct tuple {
    unsigned version, host, port;
};

static void tcp(struct tuple t, bool outward, unsigned flags, uint32_t seq, uint32_t ack,
                size_t payload)
{
    const void *us = mvpn_inner_client(t.version), *it = remote(t.version, t.host);
    len = build_tcp(b, t.version, outward ? us : it, outward ? (uint16_t)t.port : 443,
                    outward ? it : us, outward ? 443 : (uint16_t)t.port, (uint8_t)flags, seq,
                    payload);
    mvpn_store32(b + (t.version == 4 ? 20 : 40) + 8, ack);
    slow_fix(b, len);
}

static void udp(struct tuple t, bool outward)
{
    const void *us = mvpn_inner_client(t.version), *it = remote(t.version, t.host);
    len = build_udp(b, t.version, outward ? us : it, outward ? (uint16_t)t.port : 443,
                    outward ? it : us, outward ? 443 : (uint16_t)t.port, 20);
}

/* `port` is the identifier. */
static void echo(struct tuple t, bool outward)
{
    const void *us = mvpn_inner_client(t.version), *it = remote(t.version, t.host);
    const uint8_t types[2][2] = {{MVPN_ICMP_ECHO_REPLY, MVPN_ICMP_ECHO},
                                 {MVPN_ICMPV6_ECHO_REPLY, MVPN_ICMPV6_ECHO}};
    len = build_icmp(b, t.version, outward ? us : it, outward ? it : us,
                     types[t.version == 6][outward], 0, 20);
    mvpn_store16(b + len - 24, (uint16_t)t.port);
    slow_fix(b, len);
}

static void gre(struct tuple t, bool outward)
{
    const void *us = mvpn_inner_client(t.version), *it = remote(t.version, t.host);
    len = build_ip(b, t.version, 47, outward ? us : it, outward ? it : us, 20) + 20;
    slow_fix(b, len);
}

static uint32_t goes(uint32_t current)
{
    return mvpn_flows_out(flows, b, len, current, now);
}

static bool comes(uint32_t session)
{
    return mvpn_flows_in(flows, b, len, session, now);
}

/* A connection opened by `session`; the host expects 501, the other end 101. */
static void connect_tcp(struct tuple t, uint32_t session)
{
    tcp(t, true, SYN, 100, 0, 0);
    assert_int_equal(goes(session), session);
    tcp(t, false, SYN | ACK, 500, 101, 0);
    assert_true(comes(session));
    tcp(t, true, ACK, 101, 501, 0);
    assert_int_equal(goes(session), session);
}

/* The next packet in `out` is a reset of this connection; its numbers. */
static void expect_reset(struct tuple t, unsigned flags, uint32_t seq, uint32_t ack)
{
    mvpn_packet *p = mvpn_packet_queue_pop(&out);
    mvpn_ip ip;
    assert_non_null(p);
    assert_int_equal(mvpn_ip_parse(p->data, p->len, &ip), 0);
    assert_true(slow_ok(p->data, p->len));
    assert_int_equal(p->flags, MVPN_PACKET_CSUM_OK);
    assert_int_equal(ip.version, t.version);
    assert_int_equal(ip.protocol, MVPN_IP_TCP);
    assert_int_equal(ip.tcp_flags, flags);
    assert_int_equal(ip.l4_len, 20);
    assert_int_equal(ip.ttl, 64);
    assert_memory_equal(ip.dst, mvpn_inner_client(t.version), t.version == 4 ? 4 : 16);
    assert_memory_equal(ip.src, remote(t.version, t.host), t.version == 4 ? 4 : 16);
    assert_int_equal(ip.src_port, 443);
    assert_int_equal(ip.dst_port, t.port);
    assert_int_equal(mvpn_load32(p->data + ip.l4 + 4), seq);
    assert_int_equal(mvpn_load32(p->data + ip.l4 + 8), ack);
    mvpn_packet_free(&pool, p);
}

static void expect_no_reset(void)
{
    assert_int_equal(out.count, 0);
    assert_int_equal(mvpn_flows_resets(flows, &pool, &out), 0);
    assert_int_equal(out.count, 0);
}

static const struct tuple a4 = {4, 0, 4000}, c4 = {4, 0, 4001}, a6 = {6, 0, 4000};

/* ---- binding ---- */

static void test_flows_stay_with_their_session(void **state)
{
    (void)state;
    void (*const datagrams[])(struct tuple, bool) = {udp, echo, gre};
    for (unsigned version = 4; version <= 6; version += 2) {
        struct tuple t = {version, 0, 4000}, other = {version, 1, 4001};
        for (size_t i = 0; i < MVPN_ARRAY_LEN(datagrams); i++) {
            datagrams[i](t, true);
            assert_int_equal(goes(1), 1);
            assert_int_equal(goes(2), 1);
            datagrams[i](other, true);
            assert_int_equal(goes(2), 2);
            datagrams[i](t, false);
            assert_true(comes(1));
            assert_false(comes(2));
            datagrams[i](other, false);
            assert_true(comes(2));
            assert_false(comes(1));
        }
        connect_tcp(t, 1);
        tcp(t, true, ACK, 101, 501, 1000);
        assert_int_equal(goes(2), 1);
        tcp(t, false, ACK, 501, 1101, 1000);
        assert_true(comes(1));
        assert_false(comes(2));
        tcp(other, true, ACK, 1, 1, 10); /* one that began before we did */
        assert_int_equal(goes(2), 2);
    }
}

/* Each part of the tuple tells flows apart. */
static void test_each_part_of_the_tuple_counts(void **state)
{
    (void)state;
    for (unsigned version = 4; version <= 6; version += 2) {
        struct tuple t = {version, 0, 4000};
        uint8_t first[sizeof(b)];
        udp(t, true);
        memcpy(first, b, len);
        assert_int_equal(goes(1), 1);
        const size_t l4 = version == 4 ? 20 : 40, src = version == 4 ? 12 : 8;
        const size_t at[] = {
            src,   src + (l4 - src) / 2 - 1, src + (l4 - src) / 2, l4 - 1, l4, l4 + 1, l4 + 2,
            l4 + 3};
        for (size_t i = 0; i < MVPN_ARRAY_LEN(at); i++) {
            memcpy(b, first, len);
            b[at[i]] ^= 1;
            slow_fix(b, len);
            assert_int_equal(goes(2), 2);
        }
        memcpy(b, first, len);
        b[version == 4 ? 9 : 6] = 6; /* another protocol, same ports */
        b[l4 + 12] = 0x50;
        b[l4 + 13] = ACK;
        slow_fix(b, len);
        assert_int_equal(goes(2), 2);
        memcpy(b, first, len);
        assert_int_equal(goes(2), 1);
    }
}

/* Options and extension headers do not make another flow. */
static void test_a_packet_with_options_is_of_the_same_flow(void **state)
{
    (void)state;
    connect_tcp(a4, 1);
    tcp(a4, true, ACK, 101, 900, 50);
    memmove(b + 24, b + 20, len - 20);
    memset(b + 20, 1, 4); /* NOP */
    b[0] = 0x46;
    len += 4;
    mvpn_store16(b + 2, (uint16_t)len);
    slow_fix(b, len);
    assert_int_equal(goes(2), 1);
    connect_tcp(a6, 1);
    tcp(a6, true, ACK, 101, 900, 50);
    memmove(b + 48, b + 40, len - 40);
    memcpy(b + 40, (uint8_t[8]){6, 0, 1, 4}, 8); /* destination options: PadN */
    b[6] = 60;
    len += 8;
    mvpn_store16(b + 4, (uint16_t)(len - 40));
    assert_int_equal(goes(2), 1);
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), 0);
    expect_reset(a4, RST, 900, 0);
    expect_reset(a6, RST, 900, 0);
}

static void test_a_syn_takes_the_current_session(void **state)
{
    (void)state;
    connect_tcp(a4, 1);
    tcp(a4, true, SYN, 9000, 0, 0);
    assert_int_equal(goes(2), 2);
    tcp(a4, false, SYN | ACK, 1, 9001, 0);
    assert_false(comes(1));
    assert_true(comes(2));
    tcp(c4, true, SYN | ACK, 9000, 1, 0); /* an answer: not a new connection of ours */
    assert_int_equal(goes(1), 1);
    assert_int_equal(goes(2), 1);
}

static void test_no_current_session(void **state)
{
    (void)state;
    udp(a4, true);
    assert_int_equal(goes(0), 0);
    assert_int_equal(goes(77), 0);
    assert_int_equal(mvpn_flows_size(flows), 0);
    assert_int_equal(goes(1), 1);
    assert_int_equal(goes(0), 1);
    connect_tcp(c4, 1);
    tcp(c4, true, SYN, 5, 0, 0);
    assert_int_equal(goes(0), 0);
    tcp(c4, true, ACK, 101, 501, 0); /* the refused SYN changed nothing */
    assert_int_equal(goes(0), 1);
}

static void test_garbage(void **state)
{
    (void)state;
    udp(a4, true);
    for (size_t n = 0; n < len; n++) {
        assert_int_equal(mvpn_flows_out(flows, b, n, 1, now), 0);
        assert_false(mvpn_flows_in(flows, b, n, 1, now));
    }
    assert_int_equal(mvpn_flows_size(flows), 0);
}

/* What comes from the network for no flow goes through, and makes none; for no session, it does
 * not. */
static void test_the_network_opens_nothing(void **state)
{
    (void)state;
    udp(a4, false);
    assert_true(comes(1));
    tcp(c4, false, SYN, 1, 0, 0);
    assert_true(comes(2));
    assert_false(comes(3));
    assert_false(comes(0));
    assert_int_equal(mvpn_flows_size(flows), 0);
    tcp(c4, true, RST | ACK, 0, 2, 0); /* nor does the host's answer */
    assert_int_equal(goes(2), 2);
    assert_int_equal(mvpn_flows_size(flows), 0);
    udp(a4, true);
    assert_int_equal(goes(2), 2); /* not of 1, who was first */
}

static void test_quiet_flows_are_new_again(void **state)
{
    (void)state;
    const struct {
        void (*build)(struct tuple, bool);
        mvpn_time life;
    } rows[] = {
        {udp, MVPN_FLOWS_UDP_HOLD}, {gre, MVPN_FLOWS_UDP_HOLD}, {echo, MVPN_FLOWS_ICMP_HOLD}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        rows[i].build(a4, true);
        assert_int_equal(goes(1), 1);
        now += rows[i].life - 1;
        assert_int_equal(goes(2), 1);
        now += rows[i].life - 1; /* an answer is life, too */
        rows[i].build(a4, false);
        assert_true(comes(1));
        now += rows[i].life - 1;
        assert_false(comes(2));
        now += 1;
        assert_true(comes(2));
        rows[i].build(a4, true);
        assert_int_equal(goes(2), 2);
    }
    connect_tcp(c4, 1); /* not so TCP */
    now += MVPN_S(86400);
    tcp(c4, true, ACK, 101, 501, 0);
    assert_int_equal(goes(2), 1);
}

/* ---- fragments and errors ---- */

/* Turn the packet in `b` into a fragment of it. */
static void cut(uint16_t id, bool first)
{
    if (b[0] >> 4 == 4) {
        if (!first) {
            memmove(b + 20, b + 36, len - 36);
            len -= 16;
        } else {
            len = 36;
        }
        mvpn_store16(b + 2, (uint16_t)len);
        mvpn_store16(b + 4, id);
        mvpn_store16(b + 6, first ? 0x2000 : 2);
        mvpn_store16(b + 10, 0);
        mvpn_store16(b + 10, (uint16_t)~slow_sum(b, 20, 0));
        return;
    }
    memmove(b + 48, b + (first ? 40 : 56), len - 56);
    len = first ? 64 : len - 8;
    b[40] = b[6];
    b[41] = 0;
    mvpn_store16(b + 42, first ? 1 : 16);
    mvpn_store32(b + 44, id);
    b[6] = 44;
    mvpn_store16(b + 4, (uint16_t)(len - 40));
}

static void test_fragments_follow_the_first(void **state)
{
    (void)state;
    for (unsigned version = 4; version <= 6; version += 2) {
        struct tuple t = {version, 0, 4000};
        udp(t, true);
        assert_int_equal(goes(1), 1);
        udp(t, true), cut(5, true);
        assert_int_equal(goes(2), 1);
        udp(t, true), cut(5, false);
        assert_int_equal(goes(2), 1);
        udp(t, true), cut(6, false); /* another datagram's */
        assert_int_equal(goes(2), 2);
        udp(t, true), cut(5, false);
        now += MVPN_S(2);
        assert_int_equal(goes(2), 2);

        udp(t, false), cut(5, true);
        assert_false(comes(2));
        udp(t, false), cut(5, false);
        assert_false(comes(2)); /* its first fragment was refused */
        assert_false(comes(1)); /* and was not seen here */
        udp(t, false), cut(5, true);
        assert_true(comes(1));
        udp(t, false), cut(5, false);
        assert_true(comes(1));
        assert_false(comes(2)); /* may not join the other's datagram */
        now += MVPN_S(2);
        assert_false(comes(1));
    }
    assert_int_equal(mvpn_flows_end_session(flows, 2, &pool, &out), 0);
    udp(a4, false), cut(99, false);
    assert_true(comes(1)); /* nobody else is there */
}

static void test_errors_belong_to_the_flow_they_quote(void **state)
{
    (void)state;
    void (*const builders[])(struct tuple, bool) = {udp, echo, gre};
    for (unsigned version = 4; version <= 6; version += 2) {
        struct tuple t = {version, 0, 4000};
        const void *us = mvpn_inner_client(version), *router = remote(version, 1);
        const uint8_t type = version == 4 ? 3 : 1;
        uint8_t quote[2000];
        for (size_t i = 0; i <= MVPN_ARRAY_LEN(builders); i++) {
            if (i < MVPN_ARRAY_LEN(builders)) {
                builders[i](t, true);
                assert_int_equal(goes(1), 1);
            } else {
                connect_tcp(t, 1);
            }
            size_t n = len;
            memcpy(quote, b, n);
            const size_t head = version == 4 ? 20 : 40;
            len = build_icmp_error(b, version, router, us, type, 1, quote,
                                   MVPN_MIN(n, head + 8)); /* RFC 792: 8 bytes are enough */
            assert_true(comes(1));
            assert_false(comes(2));
            if (version == 4) { /* Linux reads ports though the quote is a later fragment */
                mvpn_store16(quote + 6, 2);
                len = build_icmp_error(b, version, router, us, type, 1, quote, n);
                assert_false(comes(2));
            }
        }
        udp(t, false); /* what the host answers by an error goes back where it came from */
        memcpy(quote, b, len);
        len = build_icmp_error(b, version, us, remote(version, 0), type, 1, quote, len);
        assert_int_equal(goes(2), 1);
        len = build_icmp_error(b, version, us, router, type, 1, quote, 3); /* quotes nothing */
        assert_int_equal(goes(2), 2);
        assert_true(comes(2));
        size_t size = mvpn_flows_size(flows);
        udp((struct tuple){version, 1, 9}, true);
        memcpy(quote, b, len);
        len = build_icmp_error(b, version, router, us, type, 1, quote, len);
        assert_true(comes(2)); /* about a flow that nobody knows */
        assert_int_equal(mvpn_flows_size(flows), size);
    }
}

/* ---- counting ---- */

static void test_count(void **state)
{
    (void)state;
    assert_int_equal(mvpn_flows_count(flows, 1, now), 0);
    assert_int_equal(mvpn_flows_count(flows, 9, now), 0);
    connect_tcp(a4, 1);
    connect_tcp(a6, 1);
    udp(a4, true);
    assert_int_equal(goes(1), 1);
    echo(a4, true);
    assert_int_equal(goes(1), 1);
    tcp(c4, true, SYN, 1, 0, 0);
    assert_int_equal(goes(1), 1);
    connect_tcp((struct tuple){4, 1, 1}, 2);
    const struct {
        mvpn_time at;
        uint32_t count;
    } rows[] = {{0, 5},          {MVPN_S(10) - 1, 5}, {MVPN_S(10), 4}, {MVPN_S(60) - 1, 4},
                {MVPN_S(60), 3}, {MVPN_S(75) - 1, 3}, {MVPN_S(75), 2}, {MVPN_S(200), 2}};
    assert_int_equal(mvpn_flows_count(flows, 1, now - MVPN_MS(90)), 5); /* as of the last tick */
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(mvpn_flows_count(flows, 1, now + rows[i].at), rows[i].count);
    }
    now += MVPN_S(200);
    tcp(a4, false, ACK, 501, 101, 100);
    assert_true(comes(1));
    assert_int_equal(mvpn_flows_count(flows, 1, now + MVPN_S(100) - 1), 2);
    assert_int_equal(mvpn_flows_count(flows, 1, now + MVPN_S(100)), 1);
    assert_int_equal(mvpn_flows_count(flows, 1, now + MVPN_S(300) - 1), 1);
    assert_int_equal(mvpn_flows_count(flows, 1, now + MVPN_S(300)), 0);
    now += MVPN_S(400);
    assert_int_equal(mvpn_flows_count(flows, 2, now), 0);
    tcp(a6, true, ACK, 101, 501, 1); /* a quiet connection wakes */
    assert_int_equal(goes(2), 1);
    assert_int_equal(mvpn_flows_count(flows, 1, now), 1);
    assert_int_equal(mvpn_flows_count(flows, 2, now), 0);
}

static void close_both(struct tuple t)
{
    tcp(t, true, FIN | ACK, 101, 501, 0);
    assert_int_equal(goes(1), 1);
    tcp(t, false, FIN | ACK, 501, 102, 0);
    assert_true(comes(1));
}

static void test_closed_connections_hold_nothing(void **state)
{
    (void)state;
    connect_tcp(a4, 1);
    close_both(a4);
    assert_int_equal(mvpn_flows_count(flows, 1, now), 1); /* its FIN may not have arrived */
    tcp(a4, true, ACK, 102, 502, 0);
    assert_int_equal(goes(1), 1);
    assert_int_equal(mvpn_flows_count(flows, 1, now), 0);
    tcp(a4, true, ACK, 102, 502, 0); /* resent: by the same session, and still closed */
    assert_int_equal(goes(2), 1);
    assert_int_equal(mvpn_flows_count(flows, 1, now), 0);
    now += MVPN_FLOWS_CLOSED_KEEP;
    assert_int_equal(goes(2), 2);

    connect_tcp(c4, 1);
    tcp(c4, true, FIN | ACK, 101, 501, 0); /* half closed holds: answers are to come */
    assert_int_equal(goes(1), 1);
    assert_int_equal(mvpn_flows_count(flows, 1, now), 1);
    tcp(c4, true, RST, 102, 0, 0);
    assert_int_equal(goes(1), 1);
    assert_int_equal(mvpn_flows_count(flows, 1, now), 0);
}

/* A reset from the network closes only if the host takes it. */
static void test_resets_from_the_network(void **state)
{
    (void)state;
    const struct {
        uint32_t seq;
        bool closes;
    } rows[] = {{501, true}, {500, false}, {502, false}, {0, false}, {601, true}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        connect_tcp(a4, 1);
        if (rows[i].seq == 601) { /* the acknowledgement of these is on its way */
            tcp(a4, false, ACK, 501, 101, 100);
            assert_true(comes(1));
        }
        tcp(a4, false, RST, rows[i].seq, 0, 0);
        assert_true(comes(1));
        assert_int_equal(mvpn_flows_count(flows, 1, now), !rows[i].closes);
        tcp(a4, true, ACK, 101, 501, 1); /* it goes on all the same */
        assert_int_equal(goes(1), 1);
        assert_int_equal(mvpn_flows_count(flows, 1, now), 1);
    }
    const struct {
        unsigned flags;
        uint32_t ack;
        bool closes;
    } refusals[] = {{RST | ACK, 101, true},
                    {RST | ACK, 100, false},
                    {RST | ACK, 102, false},
                    {RST, 101, false}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(refusals); i++) {
        tcp(a4, true, SYN, 100, 0, 0);
        assert_int_equal(goes(1), 1);
        tcp(a4, false, refusals[i].flags, 0, refusals[i].ack, 0);
        assert_true(comes(1));
        assert_int_equal(mvpn_flows_count(flows, 1, now), !refusals[i].closes);
    }
}

/* ---- a session's end ---- */

static void test_reset_of_an_open_connection(void **state)
{
    (void)state;
    connect_tcp(a4, 1);
    connect_tcp(a6, 1);
    connect_tcp(c4, 2);
    tcp(a4, false, ACK, 501, 101, 1000);
    assert_true(comes(1));
    tcp(a4, true, ACK, 101, 1501, 300);
    assert_int_equal(goes(2), 1);
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), 0);
    expect_reset(a6, RST, 501, 0);
    expect_reset(a4, RST, 1501, 0);
    expect_no_reset();
    assert_int_equal(mvpn_flows_count(flows, 1, now), 0);
    assert_int_equal(mvpn_flows_count(flows, 2, now), 1);
    tcp(c4, true, ACK, 101, 501, 0);
    assert_int_equal(goes(2), 2);
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), 0); /* again: nothing */
    expect_no_reset();
}

static void test_reset_before_the_first_acknowledgement(void **state)
{
    (void)state;
    tcp(a4, true, SYN, 0xffffffff, 0, 0);
    assert_int_equal(goes(1), 1);
    tcp(a6, true, SYN, 100, 0, 0);
    assert_int_equal(goes(1), 1);
    tcp(a6, false, SYN | ACK, 500, 101, 0);
    assert_true(comes(1));
    tcp(c4, true, SYN, 100, 0, 50); /* fast open: the SYN alone need be acknowledged */
    assert_int_equal(goes(1), 1);
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), 0);
    expect_reset(a4, RST | ACK, 0, 0);
    expect_reset(a6, RST | ACK, 501, 101); /* right for a host that has taken the SYN-ACK */
    expect_reset(c4, RST | ACK, 0, 101);
    expect_no_reset();
}

/* A host that does not take the reset, since it has more to acknowledge or lost it, says so. */
static void test_what_is_dead_is_answered(void **state)
{
    (void)state;
    connect_tcp(a4, 1);
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), 0);
    expect_reset(a4, RST, 501, 0);
    tcp(a4, true, ACK, 101, 901, 0);
    assert_int_equal(goes(2), 0);
    assert_int_equal(goes(2), 0); /* one reset for both */
    tcp(a4, false, ACK, 901, 101, 10);
    assert_false(comes(2));
    assert_int_equal(mvpn_flows_resets(flows, &pool, &out), 0);
    expect_reset(a4, RST, 901, 0);
    expect_no_reset();
    tcp(a4, true, SYN, 3000, 0, 0); /* the application tries again */
    assert_int_equal(goes(2), 2);
    tcp(a4, false, SYN | ACK, 1, 3001, 0);
    assert_true(comes(2));
    expect_no_reset();

    connect_tcp(c4, 2);
    assert_int_equal(mvpn_flows_end_session(flows, 2, &pool, &out), 0);
    mvpn_packet_queue_clear(&out, &pool);
    tcp(c4, true, RST, 101, 0, 0); /* the host gave up: it is over */
    size_t size = mvpn_flows_size(flows);
    assert_int_equal(goes(0), 0);
    assert_int_equal(mvpn_flows_size(flows), size - 1);
    expect_no_reset();
}

static void test_what_is_not_reset(void **state)
{
    (void)state;
    void (*const builders[])(struct tuple, bool) = {udp, echo, gre};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(builders); i++) {
        builders[i](a4, true);
        assert_int_equal(goes(1), 1);
    }
    connect_tcp(a4, 1);
    close_both(a4);
    tcp(a4, true, ACK, 102, 502, 0);
    assert_int_equal(goes(1), 1);
    connect_tcp(c4, 1);
    tcp(c4, true, RST, 101, 0, 0);
    assert_int_equal(goes(1), 1);
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), 0);
    expect_no_reset();
    assert_int_equal(mvpn_flows_size(flows), 0);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(builders); i++) {
        builders[i](a4, false);
        assert_false(comes(1));
        builders[i](a4, true);
        assert_int_equal(goes(2), 2);
    }
}

static void test_resets_wait_for_buffers(void **state)
{
    (void)state;
    enum { COUNT = MVPN_FLOWS_RESETS_MAX * 2 + 5 };
    mvpn_packet_queue held;
    mvpn_packet_queue_init(&held);
    make_flows(COUNT);
    assert_int_equal(mvpn_flows_open_session(flows, 1), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        connect_tcp((struct tuple){i % 2 ? 4 : 6, 0, 1000 + i}, 1);
    }
    while (pool.free_count > 3) {
        mvpn_packet_queue_push(&held, mvpn_packet_new(&pool));
    }
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), COUNT - 3);
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), COUNT - 3);
    for (unsigned i = 0; i < 3; i++) {
        expect_reset((struct tuple){i % 2 ? 4 : 6, 0, 1000 + i}, RST, 501, 0);
    }
    mvpn_packet_queue_clear(&held, &pool);
    assert_int_equal(mvpn_flows_resets(flows, &pool, &out), COUNT - 3 - MVPN_FLOWS_RESETS_MAX);
    assert_int_equal(mvpn_flows_resets(flows, &pool, &out), COUNT - 3 - 2 * MVPN_FLOWS_RESETS_MAX);
    assert_int_equal(mvpn_flows_end_session(flows, 1, &pool, &out), 0);
    for (unsigned i = 3; i < COUNT; i++) {
        expect_reset((struct tuple){i % 2 ? 4 : 6, 0, 1000 + i}, RST, 501, 0);
    }
    expect_no_reset();
}

static void test_sessions_are_few(void **state)
{
    (void)state;
    mvpn_rng rng;
    mvpn_flows *none = NULL;
    mvpn_rng_init_test(&rng, 1);
    assert_int_equal(mvpn_flows_new(0, &rng, &none), MVPN_E_INVAL);
    assert_int_equal(mvpn_flows_new(MVPN_FLOWS_MAX + 1, &rng, &none), MVPN_E_INVAL);
    mvpn_flows_free(none);
    assert_int_equal(mvpn_flows_open_session(flows, 0), MVPN_E_INVAL);
    for (uint32_t i = 1; i <= MVPN_FLOWS_SESSIONS_MAX; i++) {
        assert_int_equal(mvpn_flows_open_session(flows, i), 0);
    }
    assert_int_equal(mvpn_flows_open_session(flows, 100), MVPN_E_LIMIT);
    assert_int_equal(mvpn_flows_open_session(flows, 1), 0);
    assert_int_equal(mvpn_flows_end_session(flows, 3, &pool, &out), 0);
    assert_int_equal(mvpn_flows_open_session(flows, 100), 0);
}

static void test_a_full_table(void **state)
{
    (void)state;
    make_flows(4);
    assert_int_equal(mvpn_flows_open_session(flows, 1) + mvpn_flows_open_session(flows, 2), 0);
    struct tuple u = {4, 1, 1}, v = {4, 1, 2}, w = {4, 1, 3};
    connect_tcp(a4, 1);
    udp(u, true), assert_int_equal(goes(1), 1);
    udp(v, true), assert_int_equal(goes(1), 1);
    connect_tcp(c4, 1);
    udp(u, false), assert_true(comes(1)); /* used since */
    udp(w, true), assert_int_equal(goes(2), 2);
    assert_int_equal(mvpn_flows_size(flows), 4);
    udp(u, true), assert_int_equal(goes(2), 1);
    tcp(a4, true, ACK, 101, 501, 0), assert_int_equal(goes(2), 1);
    udp(v, true), assert_int_equal(goes(2), 2); /* v went for w; now w goes */
    udp(w, false), assert_true(comes(1));
    connect_tcp((struct tuple){4, 1, 5}, 2);
    connect_tcp((struct tuple){4, 1, 6}, 2); /* all are open connections now */
    assert_int_equal(mvpn_flows_count(flows, 1, now), 2);
    udp(w, true), assert_int_equal(goes(2), 2); /* c4 is the oldest */
    tcp(c4, true, ACK, 101, 501, 0), assert_int_equal(goes(2), 2);
    assert_int_equal(mvpn_flows_size(flows), 4);
    assert_int_equal(mvpn_flows_count(flows, 1, now), 1);
}

/* ---- the model: the whole past of each flow, looked through each time ---- */

#define MODEL_MAX 8    /* flows in the table */
#define MODEL_KINDS 14 /* flows that the host uses */
#define MODEL_STEPS 400

struct past {
    bool outward;
    unsigned flags;
    uint32_t seq, ack, next;
};

struct entry {
    bool used;
    unsigned what; /* which of the flows */
    uint32_t session;
    mvpn_time last;
    uint64_t turn; /* of its last packet; of a dead one: order of its death or its last reset */
    bool due;
    struct past past[MODEL_STEPS];
    size_t past_len;
};

static struct entry entries[MODEL_MAX];
static uint64_t turn;
static uint32_t open_sessions[3];
static uint32_t next_session;

static bool is_tcp(unsigned what)
{
    return what % 4 < 2;
}

static struct tuple tuple_of(unsigned what)
{
    return (struct tuple){what & 1 ? 6 : 4, what % 3, 2000 + what};
}

/* What the host expects next after the first `n`: false if it never acknowledged. */
static bool past_ack(const struct entry *e, size_t n, uint32_t *ret)
{
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        if (e->past[i].outward && (e->past[i].flags & (ACK | RST)) == ACK) {
            *ret = e->past[i].ack;
            found = true;
        }
    }
    return found;
}

/* The end of what came from the network: false if nothing did. */
static bool past_in(const struct entry *e, size_t n, uint32_t *ret)
{
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        const struct past *p = &e->past[i];
        if (!p->outward && (p->flags & RST) == 0 &&
            (!found || (p->flags & SYN) != 0 || (int32_t)(p->next - *ret) > 0)) {
            *ret = p->next;
            found = true;
        }
    }
    return found;
}

static bool past_reset_counts(const struct entry *e, size_t i)
{
    const struct past *p = &e->past[i];
    uint32_t ack = 0, in = 0;
    if (past_ack(e, i, &ack)) {
        return p->seq == ack || (past_in(e, i, &in) && p->seq == in);
    }
    return (p->flags & ACK) != 0 && p->ack == e->past[0].seq + 1; /* SYNs here carry nothing */
}

static bool is_closed(const struct entry *e)
{
    bool reset = false, fin_out = false, fin_in = false;
    uint32_t fin = 0, ack = 0;
    for (size_t i = 0; i < e->past_len; i++) {
        const struct past *p = &e->past[i];
        if (p->flags & RST) {
            reset |= p->outward || past_reset_counts(e, i);
            continue;
        }
        reset = reset && !p->outward;
        fin_out |= p->outward && (p->flags & FIN);
        if (!p->outward && (p->flags & FIN)) {
            fin_in = true;
            fin = p->next;
        }
    }
    return reset ||
           (fin_out && fin_in && past_ack(e, e->past_len, &ack) && (int32_t)(ack - fin) >= 0);
}

static bool is_opening(const struct entry *e)
{
    for (size_t i = 0; i < e->past_len; i++) {
        if (e->past[i].outward && (e->past[i].flags & SYN) == 0) {
            return false;
        }
    }
    return true;
}

/* How long it holds its session, and how long it is known. */
static void lives(const struct entry *e, mvpn_time *hold, mvpn_time *keep)
{
    if (!is_tcp(e->what)) {
        *hold = *keep = e->what % 4 == 2 ? MVPN_S(60) : MVPN_S(10);
    } else if (is_closed(e)) {
        *hold = 0;
        *keep = MVPN_S(60);
    } else if (is_opening(e)) {
        *hold = *keep = MVPN_S(75);
    } else {
        *hold = MVPN_S(300);
        *keep = MVPN_TIME_NEVER;
    }
}

static bool is_established(const struct entry *e)
{
    return is_tcp(e->what) && !is_closed(e) && !is_opening(e);
}

static bool is_gone(const struct entry *e)
{
    mvpn_time hold, keep;
    lives(e, &hold, &keep);
    return e->session != 0 && now - e->last >= keep;
}

static struct entry *lookup(unsigned what)
{
    for (size_t i = 0; i < MODEL_MAX; i++) {
        if (entries[i].used && entries[i].what == what) {
            return &entries[i];
        }
    }
    return NULL;
}

/* The lower, the sooner it goes. */
static unsigned worth(const struct entry *e)
{
    if (e->session == 0) {
        return e->due ? 2 : 0;
    }
    return is_established(e) ? 3 : 1;
}

static struct entry *room(void)
{
    struct entry *worst = NULL;
    for (size_t i = 0; i < MODEL_MAX; i++) {
        struct entry *e = &entries[i];
        if (!e->used) {
            return e;
        }
        if (worst == NULL || worth(e) < worth(worst) ||
            (worth(e) == worth(worst) && e->turn < worst->turn)) {
            worst = e;
        }
    }
    return worst;
}

static void add_past(struct entry *e, const struct past *p)
{
    if (is_tcp(e->what)) {
        e->past[e->past_len++] = *p;
    }
}

static uint32_t model_out(unsigned what, const struct past *p, uint32_t current)
{
    struct entry *e = lookup(what);
    bool syn = is_tcp(what) && p->flags == SYN;
    if (e == NULL || is_gone(e) || syn) {
        if (current == 0 || (e == NULL && is_tcp(what) && (p->flags & RST) != 0)) {
            return current;
        }
        e = e != NULL ? e : room();
        e->used = true;
        e->what = what;
        e->session = current;
        e->due = false;
        e->past_len = 0;
    } else if (e->session == 0) {
        if (p->flags & RST) {
            e->used = false;
            return 0;
        }
        add_past(e, p);
        e->turn = e->due ? e->turn : ++turn;
        e->due = true;
        return 0;
    }
    add_past(e, p);
    e->last = now;
    e->turn = ++turn;
    return e->session;
}

static bool model_in(unsigned what, const struct past *p, uint32_t session)
{
    struct entry *e = lookup(what);
    if (e == NULL || is_gone(e)) {
        return true;
    }
    if (e->session != session) {
        return false;
    }
    add_past(e, p);
    e->last = now;
    e->turn = ++turn;
    return true;
}

static uint32_t model_count(uint32_t session)
{
    uint32_t count = 0;
    for (size_t i = 0; i < MODEL_MAX; i++) {
        mvpn_time hold, keep;
        if (entries[i].used && entries[i].session == session) {
            lives(&entries[i], &hold, &keep);
            count += now - entries[i].last < hold;
        }
    }
    return count;
}

/* The dead keep the order of their last packets, but those still opening come first. */
static void model_end(uint32_t session)
{
    for (unsigned established = 0; established < 2; established++) {
        for (;;) {
            struct entry *first = NULL;
            for (size_t i = 0; i < MODEL_MAX; i++) {
                struct entry *e = &entries[i];
                if (e->used && e->session == session && is_tcp(e->what) && !is_closed(e) &&
                    is_established(e) == established && (first == NULL || e->turn < first->turn)) {
                    first = e;
                }
            }
            if (first == NULL) {
                break;
            }
            first->session = 0;
            first->due = true;
            first->turn = ++turn;
        }
    }
    for (size_t i = 0; i < MODEL_MAX; i++) {
        entries[i].used = entries[i].used && entries[i].session != session;
    }
}

static uint32_t model_due(void)
{
    uint32_t due = 0;
    for (size_t i = 0; i < MODEL_MAX; i++) {
        due += entries[i].used && entries[i].session == 0 && entries[i].due;
    }
    return due;
}

/* What is in `out` are the resets due, the first due first. */
static void check_resets(uint32_t left)
{
    while (out.count > 0) {
        struct entry *e = NULL;
        uint32_t ack = 0, in = 0;
        for (size_t i = 0; i < MODEL_MAX; i++) {
            struct entry *x = &entries[i];
            if (x->used && x->session == 0 && x->due && (e == NULL || x->turn < e->turn)) {
                e = x;
            }
        }
        assert_non_null(e);
        if (past_ack(e, e->past_len, &ack)) {
            expect_reset(tuple_of(e->what), RST, ack, 0);
        } else {
            expect_reset(tuple_of(e->what), RST | ACK, past_in(e, e->past_len, &in) ? in : 0,
                         e->past[0].seq + 1);
        }
        e->due = false;
        e->turn = ++turn;
    }
    assert_int_equal(model_due(), left);
}

/* A packet of this flow in `b`, and what the model must know of it. */
static void random_packet(struct model_random *r, unsigned what, struct past *p)
{
    static const unsigned out_flags[] = {SYN, ACK, ACK, ACK, FIN | ACK, ACK, RST};
    static const unsigned in_flags[] = {SYN | ACK, ACK, ACK, FIN | ACK, RST, RST | ACK};
    struct tuple t = tuple_of(what);
    if (what % 4 == 2) {
        udp(t, p->outward);
    } else if (what % 4 == 3) {
        echo(t, p->outward);
    } else {
        p->flags = p->outward ? out_flags[model_random_below(r, MVPN_ARRAY_LEN(out_flags))]
                              : in_flags[model_random_below(r, MVPN_ARRAY_LEN(in_flags))];
        p->seq = 0xfffffffcu + (uint32_t)model_random_below(r, 8);
        p->ack = p->flags & ACK ? 0xfffffffcu + (uint32_t)model_random_below(r, 8) : 0;
        size_t payload = p->flags == ACK ? model_random_below(r, 5) : 0;
        p->next = p->seq + (uint32_t)payload + ((p->flags & (SYN | FIN)) != 0);
        tcp(t, p->outward, p->flags, p->seq, p->ack, payload);
    }
}

static void model_step(struct model_random *r, mvpn_packet_pool *empty)
{
    unsigned what = (unsigned)model_random_below(r, MODEL_KINDS);
    uint32_t session = open_sessions[model_random_below(r, 3)];
    struct past p = {.outward = model_random_below(r, 2) == 0};
    switch (model_random_below(r, 40)) {
    case 0:
        now += model_random_below(r, MVPN_S(320));
        break;
    case 1:
        now += model_random_below(r, MVPN_S(40));
        break;
    case 2:
    case 3: {
        model_end(session);
        check_resets(
            mvpn_flows_end_session(flows, session, model_random_below(r, 2) ? &pool : empty, &out));
        uint32_t *slot = open_sessions;
        while (*slot != session) {
            slot++;
        }
        *slot = ++next_session;
        assert_int_equal(mvpn_flows_open_session(flows, *slot), 0);
        break;
    }
    case 4:
        check_resets(mvpn_flows_resets(flows, &pool, &out));
        break;
    default:
        now += model_random_below(r, MVPN_S(1));
        random_packet(r, what, &p);
        if (p.outward) {
            session = model_random_below(r, 10) ? session : 0;
            assert_int_equal(goes(session), model_out(what, &p, session));
        } else {
            assert_int_equal(comes(session), model_in(what, &p, session));
        }
    }
    uint32_t size = 0;
    for (size_t i = 0; i < MODEL_MAX; i++) {
        size += entries[i].used;
    }
    assert_int_equal(mvpn_flows_size(flows), size);
    for (size_t i = 0; i < 3; i++) {
        if (model_random_below(r, 4) == 0) {
            assert_int_equal(mvpn_flows_count(flows, open_sessions[i], now),
                             model_count(open_sessions[i]));
        }
    }
}

static void test_random_traffic_as_the_model_says(void **state)
{
    (void)state;
    struct model_random r = model_random_init();
    mvpn_packet_pool empty;
    assert_int_equal(mvpn_packet_pool_init(&empty, 1), 0);
    mvpn_packet *held = mvpn_packet_new(&empty);
    for (unsigned round = 0; round < 300; round++) {
        make_flows(MODEL_MAX);
        memset(entries, 0, sizeof(entries));
        for (uint32_t i = 0; i < 3; i++) {
            open_sessions[i] = ++next_session;
            assert_int_equal(mvpn_flows_open_session(flows, open_sessions[i]), 0);
        }
        for (unsigned step = 0; step < MODEL_STEPS; step++) {
            model_step(&r, &empty);
        }
    }
    mvpn_packet_free(&empty, held);
    mvpn_packet_pool_done(&empty);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_flows_stay_with_their_session),
        TEST(test_each_part_of_the_tuple_counts),
        TEST(test_a_packet_with_options_is_of_the_same_flow),
        TEST(test_a_syn_takes_the_current_session),
        TEST(test_no_current_session),
        TEST(test_garbage),
        TEST(test_the_network_opens_nothing),
        TEST(test_quiet_flows_are_new_again),
        TEST(test_fragments_follow_the_first),
        TEST(test_errors_belong_to_the_flow_they_quote),
        TEST(test_count),
        TEST(test_closed_connections_hold_nothing),
        TEST(test_resets_from_the_network),
        TEST(test_reset_of_an_open_connection),
        TEST(test_reset_before_the_first_acknowledgement),
        TEST(test_what_is_dead_is_answered),
        TEST(test_what_is_not_reset),
        TEST(test_resets_wait_for_buffers),
        TEST(test_sessions_are_few),
        TEST(test_a_full_table),
        TEST(test_random_traffic_as_the_model_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
