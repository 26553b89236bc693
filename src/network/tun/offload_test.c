#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "network/ip/ip.h"
#include "network/ip/testing.h"
#include "network/tun/offload.h"

#define PACKETS 1024
#define GROUPS 256

static const uint8_t a4[4] = {10, 8, 0, 2}, b4[4] = {11, 1, 2, 3};

static mvpn_packet_pool pool;
static mvpn_packet_queue queue;
static mvpn_tun_group groups[GROUPS];
static uint8_t buf[MVPN_VNET_HEADER + 65536 + 100];

static int teardown(void **state)
{
    (void)state;
    mvpn_packet_queue_clear(&queue, &pool);
    return pool.free_count == PACKETS ? 0 : -1; /* a leak */
}

static void put_vnet(uint8_t flags, uint8_t type, uint16_t gso, size_t start, size_t offset)
{
    mvpn_vnet h = {flags, type, 54, gso, (uint16_t)start, (uint16_t)offset};
    mvpn_vnet_encode(&h, buf);
}

/* Put the sum of the pseudo header into the checksum field, as the kernel leaves it. */
static void make_partial(uint8_t *p, size_t n)
{
    bool v4 = p[0] >> 4 == 4;
    size_t l4 = v4 ? 20 : 40;
    uint8_t proto = v4 ? p[9] : p[6];
    mvpn_store16(p + l4 + (proto == 6 ? 16 : 6),
                 slow_sum(p + (v4 ? 12 : 8), v4 ? 8 : 32, (uint32_t)(n - l4) + proto));
}

/* A super-packet in `buf`; returns its length with the vnet header. */
static size_t build_super(unsigned v, uint8_t proto, uint8_t flags, size_t payload, uint16_t gso)
{
    uint8_t *p = buf + MVPN_VNET_HEADER;
    const void *s = v == 4 ? a4 : test_v6_a, *d = v == 4 ? b4 : test_v6_b;
    size_t n = proto == 6 ? build_tcp(p, v, s, 1000, d, 80, flags, 0xfffffff0, payload)
                          : build_udp(p, v, s, 1000, d, 80, payload);
    make_partial(p, n);
    put_vnet(MVPN_VNET_NEEDS_CSUM,
             proto == 17 ? 5
             : v == 4    ? 1
                         : 4,
             gso, v == 4 ? 20 : 40, proto == 6 ? 16 : 6);
    return MVPN_VNET_HEADER + n;
}

static int split(size_t n, uint32_t *dropped)
{
    *dropped = 77;
    uint8_t *exact = malloc(n + 1); /* a sanitizer sees any read behind the end */
    memcpy(exact, buf, n);
    int r = mvpn_tun_split(&pool, exact, n, &queue, dropped);
    free(exact);
    return r;
}

static void header_layout(void **state)
{
    (void)state;
    const uint8_t bytes[10] = {1, 0x84, 54, 0, 0x64, 5, 34, 0, 16, 0};
    uint8_t out[10];
    mvpn_vnet h = mvpn_vnet_decode(bytes);
    assert_int_equal(h.flags, 1);
    assert_int_equal(h.gso_type, 0x84);
    /* The kernel's own byte order; this test runs on little-endian machines. */
    assert_int_equal(h.hdr_len, 54);
    assert_int_equal(h.gso_size, 1380);
    assert_int_equal(h.csum_start, 34);
    assert_int_equal(h.csum_offset, 16);
    mvpn_vnet_encode(&h, out);
    assert_memory_equal(out, bytes, 10);
}

static void single_packets(void **state)
{
    (void)state;
    uint32_t dropped;
    for (unsigned v = 4; v <= 6; v += 2) {
        for (unsigned kind = 0; kind < 3; kind++) {
            uint8_t *p = buf + MVPN_VNET_HEADER;
            const void *s = v == 4 ? a4 : test_v6_a, *d = v == 4 ? b4 : test_v6_b;
            size_t n = kind == 0 ? build_tcp(p, v, s, 1, d, 2, 24, 9, 101)
                                 : build_udp(p, v, s, 1, d, 2, 101);
            uint8_t whole[200];
            memcpy(whole, p, n);
            put_vnet(0, 0, 0, 0, 0);
            if (kind < 2) {
                make_partial(p, n);
                put_vnet(MVPN_VNET_NEEDS_CSUM, 0, 0, v == 4 ? 20 : 40, kind == 0 ? 16 : 6);
            }
            assert_int_equal(split(MVPN_VNET_HEADER + n, &dropped), 0);
            assert_int_equal(dropped, 0);
            mvpn_packet *got = mvpn_packet_queue_pop(&queue);
            assert_int_equal(got->len, n);
            assert_memory_equal(got->data, whole, n);
            assert_int_equal(got->flags, kind < 2 ? MVPN_PACKET_CSUM_OK : 0);
            assert_int_equal(mvpn_packet_headroom(got), MVPN_PACKET_HEADROOM);
            mvpn_packet_free(&pool, got);
        }
    }
}

/* Segments against a slow reading of what the kernel's segmentation does. */
static void super_packets(void **state)
{
    (void)state;
    static const struct {
        unsigned version;
        uint8_t proto;
        size_t payload;
        uint16_t gso;
    } rows[] = {
        {4, 6, 65495, 1380}, {4, 6, 2760, 1380},  {4, 6, 2761, 1380}, {4, 6, 1, 1380},
        {4, 6, 30, 1},       {6, 6, 65000, 1340}, {6, 6, 1341, 1340}, {4, 17, 65000, 1200},
        {6, 17, 3601, 1200}, {4, 17, 1200, 1200}, {6, 6, 1340, 1340},
    };
    uint32_t dropped;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        bool tcp = rows[i].proto == 6, v4 = rows[i].version == 4;
        size_t n = build_super(rows[i].version, rows[i].proto, 0xd9, rows[i].payload, rows[i].gso);
        size_t head = (v4 ? 20u : 40u) + (tcp ? 20 : 8), l4 = v4 ? 20 : 40, offset = 0;
        const uint8_t *super = buf + MVPN_VNET_HEADER;
        assert_int_equal(split(n, &dropped), 0);
        assert_int_equal(dropped, 0);
        assert_int_equal(queue.count, (rows[i].payload + rows[i].gso - 1) / rows[i].gso);
        for (unsigned k = 0; queue.count > 0; k++) {
            mvpn_packet *got = mvpn_packet_queue_pop(&queue);
            bool last = queue.count == 0;
            size_t part = last ? rows[i].payload - offset : rows[i].gso;
            mvpn_ip ip;
            assert_int_equal(got->len, head + part);
            assert_true(slow_ok(got->data, got->len));
            assert_int_equal(mvpn_ip_parse(got->data, got->len, &ip), 0);
            assert_memory_equal(got->data + head, super + head + offset, part);
            assert_true(!v4 || mvpn_load16(got->data + 4) == 0x1234 + k);
            if (tcp) {
                assert_int_equal(mvpn_load32(got->data + l4 + 4), (uint32_t)(0xfffffff0 + offset));
                /* d9 = CWR ECE ACK PSH FIN */
                assert_int_equal(ip.tcp_flags, 0x50 | (k == 0 ? 0x80 : 0) | (last ? 0x09 : 0));
            }
            assert_int_equal(got->flags, MVPN_PACKET_CSUM_OK);
            offset += part;
            mvpn_packet_free(&pool, got);
        }
        assert_int_equal(offset, rows[i].payload);
    }
}

static void bad_super_packets(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t at; /* in the buffer: vnet header, IPv4 at 10, TCP at 30 */
        uint8_t value;
        int code;
    } rows[] = {
        {"good", 13, 0, 0},
        {"gso type of v6", 1, 4, MVPN_E_FORMAT},
        {"gso type of udp", 1, 5, MVPN_E_FORMAT},
        {"gso type UFO", 1, 3, MVPN_E_FORMAT},
        {"gso type unknown", 1, 9, MVPN_E_FORMAT},
        {"ecn bit", 1, 0x81, 0},
        {"ecn bit alone", 1, 0x80, MVPN_E_FORMAT},
        {"hint of header length is not believed", 2, 255, 0},
        {"csum start", 6, 21, MVPN_E_FORMAT},
        {"csum start far", 7, 255, MVPN_E_FORMAT},
        {"csum offset", 8, 6, MVPN_E_FORMAT},
        {"version", 10, 0x65, MVPN_E_FORMAT},
        {"total length", 13, 99, MVPN_E_FORMAT},
        {"data offset", 42, 0x40, MVPN_E_FORMAT},
        {"SYN", 43, 0x12, MVPN_E_FORMAT},
        {"RST", 43, 0x14, MVPN_E_FORMAT},
    };
    uint32_t dropped;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        size_t n = build_super(4, 6, 0x10, 3000, 1000);
        if (rows[i].code != 0 || rows[i].at < 10) {
            buf[rows[i].at] = rows[i].value;
        }
        if (rows[i].at >= 10 && rows[i].at != 13) {
            mvpn_store16(buf + 20, 0);
            mvpn_store16(buf + 20, (uint16_t)~slow_sum(buf + 10, 20, 0));
        }
        int r = split(n, &dropped);
        if (r != rows[i].code || queue.count != (r == 0 ? 3 : 0)) {
            fail_msg("%s: %d, %u packets", rows[i].what, r, queue.count);
        }
        mvpn_packet_queue_clear(&queue, &pool);
    }
    /* Zero segment size, segments too large, no payload, every truncation. */
    size_t n = build_super(4, 6, 0x10, 3000, 0);
    assert_int_equal(split(n, &dropped), MVPN_E_FORMAT);
    n = build_super(4, 6, 0x10, 3000, MVPN_PACKET_ROOM - 39);
    assert_int_equal(split(n, &dropped), MVPN_E_TOO_BIG);
    n = build_super(4, 6, 0x10, 3000, MVPN_PACKET_ROOM - 40);
    assert_int_equal(split(n, &dropped), 0);
    mvpn_packet_queue_clear(&queue, &pool);
    n = build_super(4, 6, 0x10, 0, 1000);
    assert_int_equal(split(n, &dropped), MVPN_E_FORMAT);
    n = build_super(4, 6, 0x10, 2000, 1000);
    for (size_t cut = 0; cut < n; cut += cut < 60 ? 1 : 37) {
        assert_int_equal(split(cut, &dropped), MVPN_E_FORMAT);
    }
    n = build_super(4, 6, 0x10, 2000, 1000);
    put_vnet(0, 0, 0, 0, 0); /* large, but not to be cut */
    assert_int_equal(split(n, &dropped), MVPN_E_TOO_BIG);
    /* Checksum request outside the packet. */
    n = build_super(4, 17, 0, 100, 100);
    put_vnet(MVPN_VNET_NEEDS_CSUM, 0, 0, 126, 1);
    assert_int_equal(split(n, &dropped), MVPN_E_FORMAT);
    put_vnet(MVPN_VNET_NEEDS_CSUM, 0, 0, 20, 65535);
    assert_int_equal(split(n, &dropped), MVPN_E_FORMAT);
    assert_int_equal(queue.count, 0);
}

static void pool_used_up(void **state)
{
    (void)state;
    mvpn_packet_queue held;
    uint32_t dropped;
    mvpn_packet_queue_init(&held);
    while (pool.free_count > 3) {
        mvpn_packet_queue_push(&held, mvpn_packet_new(&pool));
    }
    size_t n = build_super(4, 6, 0x19, 10000, 1000);
    assert_int_equal(split(n, &dropped), 0);
    assert_int_equal(queue.count, 3);
    assert_int_equal(dropped, 7);
    n = build_super(4, 17, 0, 10, 10);
    put_vnet(0, 0, 0, 0, 0);
    slow_fix(buf + 10, n - 10);
    assert_int_equal(split(n, &dropped), 0);
    assert_int_equal(dropped, 1);
    mvpn_packet_queue_clear(&held, &pool);
}

/* The bytes that one write would hand over. */
static size_t gather(const mvpn_tun_group *g, uint8_t *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < g->range_count; i++) {
        memcpy(out + n, g->ranges[i].p, g->ranges[i].n);
        n += g->ranges[i].n;
    }
    assert_int_equal(n, MVPN_VNET_HEADER + g->len);
    return n;
}

static void done(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mvpn_tun_group_done(&groups[i], &pool);
    }
}

/* What was split comes together to the very same bytes, partial checksum and vnet header included.
 */
static void round_trip(void **state)
{
    (void)state;
    static const struct {
        unsigned version;
        uint8_t proto;
        size_t payload;
        uint16_t gso;
    } rows[] = {
        {4, 6, 64 * 1000, 1000}, {4, 6, 2761, 1380},   {6, 6, 64 * 1000, 1000}, {6, 6, 40001, 1340},
        {4, 17, 30000, 1200},    {6, 17, 30001, 1200}, {4, 6, 65495, 1249},     {6, 6, 65475, 1249},
    };
    static uint8_t super[sizeof(buf)], out[sizeof(buf)];
    uint32_t dropped;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        for (int verified = 0; verified < 2; verified++) {
            size_t n =
                build_super(rows[i].version, rows[i].proto, 0x19, rows[i].payload, rows[i].gso);
            size_t head = (rows[i].version == 4 ? 20u : 40u) + (rows[i].proto == 6 ? 20 : 8);
            mvpn_store16(buf + 2, 0);
            mvpn_vnet h = mvpn_vnet_decode(buf);
            h.hdr_len = (uint16_t)head;
            mvpn_vnet_encode(&h, buf);
            memcpy(super, buf, n);
            assert_int_equal(split(n, &dropped), 0);
            if (!verified) {
                MVPN_LIST_FOREACH(it, &queue.head)
                {
                    MVPN_CONTAINER_OF(it, mvpn_packet, link)->flags = 0;
                }
            }
            assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 1);
            assert_int_equal(gather(&groups[0], out), n);
            assert_memory_equal(out, super, n);
            done(1);
        }
    }
}

static mvpn_packet *push(unsigned v, uint8_t proto, uint16_t sport, uint8_t flags, uint32_t seq,
                         size_t payload)
{
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    const void *s = v == 4 ? a4 : test_v6_a, *d = v == 4 ? b4 : test_v6_b;
    p->len = (uint32_t)(proto == 6 ? build_tcp(p->data, v, s, sport, d, 80, flags, seq, payload)
                                   : build_udp(p->data, v, s, sport, d, 80, payload));
    mvpn_packet_queue_push(&queue, p);
    return p;
}

/* Two packets of one flow, the second with one difference: are they joined? */
static void join_rows(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        unsigned version;
        uint8_t proto;
        uint8_t flags1, flags2;
        uint32_t seq2;
        size_t payload1, payload2;
        size_t at; /* byte of the second packet, 0 none */
        uint8_t value;
        size_t groups;
    } rows[] = {
        {"plain", 4, 6, 16, 16, 1100, 100, 100, 0, 0, 1},
        {"plain v6", 6, 6, 16, 16, 1100, 100, 100, 0, 0, 1},
        {"shorter last", 4, 6, 16, 16, 1100, 100, 1, 0, 0, 1},
        {"longer", 4, 6, 16, 16, 1100, 100, 101, 0, 0, 2},
        {"gap", 4, 6, 16, 16, 1101, 100, 100, 0, 0, 2},
        {"retransmission", 4, 6, 16, 16, 1000, 100, 100, 0, 0, 2},
        {"reordered", 4, 6, 16, 16, 900, 100, 100, 0, 0, 2},
        {"pure ack second", 4, 6, 16, 16, 1100, 100, 0, 0, 0, 2},
        {"pure acks", 4, 6, 16, 16, 1000, 0, 0, 0, 0, 2},
        {"psh last", 4, 6, 16, 24, 1100, 100, 100, 0, 0, 1},
        {"psh first", 4, 6, 24, 16, 1100, 100, 100, 0, 0, 2},
        {"fin last", 4, 6, 16, 17, 1100, 100, 100, 0, 0, 1},
        {"fin first", 4, 6, 17, 16, 1100, 100, 100, 0, 0, 2},
        {"syn", 4, 6, 18, 18, 1100, 100, 100, 0, 0, 2},
        {"rst", 4, 6, 16, 20, 1100, 100, 100, 0, 0, 2},
        {"urg", 4, 6, 16, 48, 1100, 100, 100, 0, 0, 2},
        {"no ack", 4, 6, 0, 0, 1100, 100, 100, 0, 0, 2},
        {"ece both", 4, 6, 80, 80, 1100, 100, 100, 0, 0, 1},
        {"ece one", 4, 6, 16, 80, 1100, 100, 100, 0, 0, 2},
        {"cwr", 4, 6, 16, 144, 1100, 100, 100, 0, 0, 2},
        {"tos", 4, 6, 16, 16, 1100, 100, 100, 1, 1, 2},
        {"ttl", 4, 6, 16, 16, 1100, 100, 100, 8, 9, 2},
        {"id, with DF", 4, 6, 16, 16, 1100, 100, 100, 4, 9, 1},
        {"DF off", 4, 6, 16, 16, 1100, 100, 100, 6, 0, 2},
        {"source", 4, 6, 16, 16, 1100, 100, 100, 15, 9, 2},
        {"source port", 4, 6, 16, 16, 1100, 100, 100, 21, 9, 2},
        {"ack number", 4, 6, 16, 16, 1100, 100, 100, 31, 9, 2},
        {"window", 4, 6, 16, 16, 1100, 100, 100, 35, 9, 2},
        {"option", 4, 6, 16, 16, 1100, 100, 100, 32, 0x60, 2},
        {"traffic class", 6, 6, 16, 16, 1100, 100, 100, 1, 0x10, 2},
        {"flow label", 6, 6, 16, 16, 1100, 100, 100, 3, 1, 2},
        {"hop limit", 6, 6, 16, 16, 1100, 100, 100, 7, 1, 2},
        {"destination v6", 6, 6, 16, 16, 1100, 100, 100, 39, 1, 2},
        {"udp", 4, 17, 0, 0, 0, 100, 100, 0, 0, 1},
        {"udp v6", 6, 17, 0, 0, 0, 100, 100, 0, 0, 1},
        {"udp shorter", 4, 17, 0, 0, 0, 100, 99, 0, 0, 1},
        {"udp longer", 4, 17, 0, 0, 0, 100, 101, 0, 0, 2},
        {"udp empty", 4, 17, 0, 0, 0, 100, 0, 0, 0, 2},
        {"udp port", 4, 17, 0, 0, 0, 100, 100, 23, 9, 2},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        (void)push(rows[i].version, rows[i].proto, 1000, rows[i].flags1, 1000, rows[i].payload1);
        mvpn_packet *p = push(rows[i].version, rows[i].proto, 1000, rows[i].flags2, rows[i].seq2,
                              rows[i].payload2);
        if (rows[i].at != 0) {
            p->data[rows[i].at] = rows[i].value;
            slow_fix(p->data, p->len);
        }
        size_t count = mvpn_tun_coalesce(&queue, true, groups, GROUPS);
        if (count != rows[i].groups) {
            fail_msg("%s: %zu groups", rows[i].what, count);
        }
        uint8_t out[500];
        for (size_t k = 0; k < count; k++) {
            (void)gather(&groups[k], out);
            assert_true(count == 1 || memcmp(out, (uint8_t[10]){0}, 10) == 0);
            assert_true(count == 1 || slow_ok(out + 10, groups[k].len));
        }
        done(count);
    }
}

static void checksums_decide(void **state)
{
    (void)state;
    uint8_t out[500];
    /* Wrong: alone and unchanged, and the flow goes on behind it. */
    (void)push(4, 6, 1, 16, 1000, 100);
    mvpn_packet *bad = push(4, 6, 1, 16, 1100, 100);
    bad->data[60] ^= 1;
    (void)push(4, 6, 1, 16, 1200, 100);
    (void)push(4, 6, 1, 16, 1300, 100);
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 3);
    (void)gather(&groups[1], out);
    assert_false(slow_ok(out + 10, groups[1].len));
    assert_int_equal(groups[2].packets.count, 2);
    done(3);
    /* Said to be right: joined without a look. */
    (void)push(4, 6, 1, 16, 1000, 100);
    bad = push(4, 6, 1, 16, 1100, 100);
    bad->data[60] ^= 1;
    bad->flags |= MVPN_PACKET_CSUM_OK;
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 1);
    done(1);
    /* UDP without USO in the kernel, and UDP without a checksum. */
    (void)push(4, 17, 1, 0, 0, 100);
    (void)push(4, 17, 1, 0, 0, 100);
    assert_int_equal(mvpn_tun_coalesce(&queue, false, groups, GROUPS), 2);
    done(2);
    for (int i = 0; i < 2; i++) {
        mvpn_store16(push(4, 17, 1, 0, 0, 100)->data + 26, 0);
    }
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 2);
    done(2);
}

static void limits(void **state)
{
    (void)state;
    /* 64 packets a group. */
    for (uint32_t i = 0; i < 130; i++) {
        (void)push(4, 6, 1, 16, 1000 + i * 100, 100);
    }
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 3);
    assert_int_equal(groups[0].packets.count, 64);
    assert_int_equal(groups[1].packets.count, 64);
    assert_int_equal(groups[2].packets.count, 2);
    done(3);
    /* 65535 bytes a group: 40 + 45 * 1440 = 64840, one more does not fit. */
    for (uint32_t i = 0; i < 50; i++) {
        (void)push(4, 6, 1, 16, 1000 + i * 1440, 1440);
    }
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 2);
    assert_int_equal(groups[0].packets.count, 45);
    done(2);
    /* Eight flows at a time; more are only gathered less well. */
    for (uint32_t i = 0; i < 10; i++) {
        for (uint16_t f = 0; f < 8; f++) {
            (void)push(f % 2 ? 4 : 6, 6, (uint16_t)(100 + f), 16, 1000 + i * 100, 100);
        }
    }
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(groups[i].packets.count, 10);
    }
    done(8);
    /* No more groups than asked for; the rest stays. */
    for (uint16_t f = 0; f < 10; f++) {
        (void)push(4, 6, f, 16, 1, 10);
    }
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, 4), 4);
    assert_int_equal(queue.count, 6);
    done(4);
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 6);
    assert_int_equal(queue.count, 0);
    done(6);
}

/* A fragment stays where it was among its flow's packets. */
static void fragments_are_not_passed(void **state)
{
    (void)state;
    (void)push(4, 17, 1, 0, 0, 104);
    mvpn_packet *p = push(4, 17, 1, 0, 0, 104);
    mvpn_store16(p->data + 6, 0x2000);
    mvpn_store16(p->data + 10, 0);
    mvpn_store16(p->data + 10, (uint16_t)~slow_sum(p->data, 20, 0));
    (void)push(4, 17, 1, 0, 0, 104);
    assert_int_equal(mvpn_tun_coalesce(&queue, true, groups, GROUPS), 3);
    done(3);
}

/* --- random traffic against a slow check: split again, every flow comes out as it went in --- */

struct sent {
    uint8_t bytes[1500];
    size_t len;
    bool seen;
};

static struct sent sents[400];

/* Equal but for what segmentation may change: the id of an IPv4 packet with DF. */
static bool same_packet(const struct sent *s, const uint8_t *p, size_t n)
{
    uint8_t a[1500], b[1500];
    if (s->len != n) {
        return false;
    }
    memcpy(a, s->bytes, n);
    memcpy(b, p, n);
    if (a[0] >> 4 == 4 && (a[6] & 0x40) != 0) {
        memset(a + 4, 0, 2);
        memset(b + 4, 0, 2);
        memset(a + 10, 0, 2);
        memset(b + 10, 0, 2);
    }
    return memcmp(a, b, n) == 0;
}

static bool same_five(const uint8_t *a, const uint8_t *b)
{
    if (a[0] >> 4 != b[0] >> 4) {
        return false;
    }
    bool v4 = a[0] >> 4 == 4;
    size_t at = v4 ? 12 : 8, len = v4 ? 12 : 36; /* addresses and ports stand together */
    return (v4 ? a[9] == b[9] : a[6] == b[6]) && memcmp(a + at, b + at, len) == 0;
}

static void random_traffic(void **state)
{
    (void)state;
    static uint8_t out[sizeof(buf)];
    size_t joined = 0;
    for (unsigned seed = 0; seed < 400; seed++) {
        size_t count = 0;
        uint32_t seq[12] = {0};
        uint16_t id[12] = {0};
        srandom(seed);
        unsigned noise = (unsigned)random() % 30; /* percent of odd packets */
        for (size_t i = 0; i < 300; i++) {
            unsigned f = (unsigned)random() % (1 + seed % 12), v = f % 2 ? 4 : 6;
            uint8_t proto = f % 3 == 0 ? 17 : 6;
            bool odd = (unsigned)random() % 100 < noise;
            size_t payload = odd ? (size_t)random() % 1200 : 200;
            mvpn_packet *p =
                push(v, proto, (uint16_t)(f + 1), odd ? (uint8_t)random() : 16, seq[f], payload);
            if (v == 4) {
                mvpn_store16(p->data + 4, id[f]++);
                if (f % 4 == 1) {
                    p->data[6] = 0; /* no DF: ids must go up */
                }
            }
            seq[f] += odd && random() % 3 == 0 ? (uint32_t)random() % 3000 : (uint32_t)payload;
            if (odd && random() % 2) {
                p->data[(size_t)random() % p->len] ^= (uint8_t)(1 << random() % 8);
            }
            if (!odd || random() % 2) {
                slow_fix(p->data, p->len);
            }
            struct sent *s = &sents[count++];
            memcpy(s->bytes, p->data, p->len);
            s->len = p->len;
            s->seen = false;
        }
        size_t made = mvpn_tun_coalesce(&queue, seed % 3 != 0, groups, GROUPS);
        while (made > 0) {
            for (size_t g = 0; g < made; g++) {
                mvpn_packet_queue parts;
                uint32_t dropped;
                size_t n = gather(&groups[g], out);
                uint32_t members = groups[g].packets.count;
                mvpn_packet_queue_init(&parts);
                mvpn_packet *single = NULL;
                if (members == 1) {
                    single = mvpn_packet_new(&pool);
                    memcpy(mvpn_packet_append(single, (uint32_t)(n - 10)), out + 10, n - 10);
                    mvpn_packet_queue_push(&parts, single);
                } else {
                    joined += members;
                    assert_int_equal(mvpn_tun_split(&pool, out, n, &parts, &dropped), 0);
                    assert_int_equal(parts.count, members);
                }
                mvpn_packet *p;
                while ((p = mvpn_packet_queue_pop(&parts)) != NULL) {
                    assert_true(members == 1 || slow_ok(p->data, p->len));
                    size_t k = 0;
                    while (k < count &&
                           (sents[k].seen || !same_packet(&sents[k], p->data, p->len))) {
                        /* Nothing of this flow may be overtaken. */
                        if (!sents[k].seen && same_five(sents[k].bytes, p->data)) {
                            fail_msg("seed %u: packet %zu was overtaken", seed, k);
                        }
                        k++;
                    }
                    if (k == count) {
                        fail_msg("seed %u: a packet that nobody sent", seed);
                    }
                    sents[k].seen = true;
                    mvpn_packet_free(&pool, p);
                }
            }
            done(made);
            made = mvpn_tun_coalesce(&queue, seed % 3 != 0, groups, GROUPS);
        }
        for (size_t k = 0; k < count; k++) {
            assert_true(sents[k].seen);
        }
    }
    assert_true(joined > 20000);
}

/* Damaged super-packets: what comes out has right checksums and sizes, or nothing does. */
static void random_split(void **state)
{
    (void)state;
    uint32_t dropped;
    unsigned accepted = 0;
    srandom(9);
    for (int i = 0; i < 20000; i++) {
        unsigned v = random() % 2 ? 4 : 6;
        uint8_t proto = random() % 2 ? 6 : 17;
        size_t n =
            build_super(v, proto, 0x18, (size_t)random() % 4000, (uint16_t)(1 + random() % 1400));
        for (long k = random() % 3; k > 0; k--) {
            buf[(size_t)random() % MVPN_MIN(n, 80u)] ^= (uint8_t)(1 << random() % 8);
        }
        if (random() % 2 &&
            v == 4) { /* let the damage through to the checks behind the IP header */
            mvpn_store16(buf + 20, 0);
            mvpn_store16(buf + 20, (uint16_t)~slow_sum(buf + 10, 20, 0));
        }
        mvpn_vnet h = mvpn_vnet_decode(buf);
        int r = split(random() % 10 ? n : (size_t)random() % n, &dropped);
        assert_true(r == 0 || queue.count == 0);
        accepted += r == 0;
        mvpn_packet *p;
        while ((p = mvpn_packet_queue_pop(&queue)) != NULL) {
            mvpn_ip ip;
            assert_true(p->len <= MVPN_PACKET_ROOM);
            assert_int_equal(mvpn_ip_parse(p->data, p->len, &ip), 0);
            assert_true(h.gso_type == 0 || ip.options || slow_ok(p->data, p->len));
            mvpn_packet_free(&pool, p);
        }
    }
    assert_in_range(accepted, 5000, 19000);
}

static void nothing_is_allocated(void **state)
{
    (void)state;
    uint32_t dropped;
    size_t n = build_super(4, 6, 0x18, 60000, 1249);
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
    size_t heap = mallinfo2().uordblks;
#endif
    for (int i = 0; i < 100; i++) {
        assert_int_equal(mvpn_tun_split(&pool, buf, n, &queue, &dropped), 0);
        done(mvpn_tun_coalesce(&queue, true, groups, GROUPS));
    }
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
    assert_int_equal(mallinfo2().uordblks, heap);
#endif
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(header_layout),
        TEST(single_packets),
        TEST(super_packets),
        TEST(bad_super_packets),
        TEST(pool_used_up),
        TEST(round_trip),
        TEST(join_rows),
        TEST(checksums_decide),
        TEST(limits),
        TEST(fragments_are_not_passed),
        TEST(random_traffic),
        TEST(random_split),
        TEST(nothing_is_allocated),
    };
    if (mvpn_packet_pool_init(&pool, PACKETS) != 0) {
        return 1;
    }
    mvpn_packet_queue_init(&queue);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mvpn_packet_pool_done(&pool);
    return failed;
}
