/* What of the TUN may enter a circuit, and what of a circuit reaches the TUN. */
#include "core/testing.h"

#include "core/client_ip.h"
#include "network/ip/inner.h"
#include "network/ip/ip.h"
#include "network/ip/testing.h"
#include "wire/cell.h"

static mvpn_packet_pool pool;
static client_ip ip;
static mvpn_packet_queue out; /* answers, or what reached the TUN */
static const mvpn_addr none;
static const uint8_t server4[4] = {93, 184, 216, 34};
static const uint8_t gateway4[4] = MVPN_INNER_GATEWAY_V4;
static const uint8_t client4[4] = MVPN_INNER_CLIENT_V4;
static const uint8_t client6[16] = MVPN_INNER_CLIENT_V6;

static int setup(void **state)
{
    (void)state;
    int r = mvpn_packet_pool_init(&pool, 16);
    client_ip_init(&ip, &pool, &none, &none, &none);
    mvpn_packet_queue_init(&out);
    return r;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_packet_queue_clear(&out, &pool);
    bool is_whole = pool.free_count == pool.size;
    mvpn_packet_pool_done(&pool);
    return is_whole ? 0 : -1;
}

static const void *server(unsigned version)
{
    return version == 4 ? (const void *)server4 : test_v6_b;
}

/* A packet of the TUN: NULL if it was dropped or answered. */
static mvpn_packet *up(const uint8_t *bytes, size_t n)
{
    mvpn_packet *p = test_packet_of(&pool, bytes, n);
    return client_ip_from_tun(&ip, p, &out) ? p : NULL;
}

static bool goes_up(const uint8_t *bytes, size_t n)
{
    mvpn_packet *p = up(bytes, n);
    mvpn_packet_free(&pool, p);
    return p != NULL;
}

/* A packet of the circuit: NULL if it was dropped. */
static mvpn_packet *down(const uint8_t *bytes, size_t n)
{
    client_ip_to_tun(&ip, test_packet_of(&pool, bytes, n), &out);
    return mvpn_packet_queue_pop(&out);
}

static bool goes_down(const uint8_t *bytes, size_t n)
{
    mvpn_packet *p = down(bytes, n);
    mvpn_packet_free(&pool, p);
    return p != NULL;
}

static size_t udp(uint8_t *b, unsigned version, const void *src, const void *dst, size_t payload)
{
    return build_udp(b, version, src, 4000, dst, 53, payload);
}

static void test_only_our_own_source_goes_up(void **state)
{
    (void)state;
    uint8_t b[1500], other4[4] = {10, 8, 0, 3}, other6[16];
    memcpy(other6, client6, 16);
    other6[15] = 3;
    assert_true(goes_up(b, udp(b, 4, client4, server4, 100)));
    assert_true(goes_up(b, udp(b, 6, client6, test_v6_b, 100)));
    assert_false(goes_up(b, udp(b, 4, other4, server4, 100)));
    assert_false(goes_up(b, udp(b, 6, other6, test_v6_b, 100)));
    assert_false(goes_up(b, udp(b, 4, gateway4, server4, 100)));
    assert_int_equal(out.count, 0); /* no answer to what is not ours */
}

static void test_chatter_of_the_local_net_stays(void **state)
{
    (void)state;
    const uint8_t v4[][4] = {{224, 0, 0, 251}, {239, 255, 255, 250}, {255, 255, 255, 255},
                             {169, 254, 1, 1}, {127, 0, 0, 1},       {0, 0, 0, 0}};
    const uint8_t v6[][16] = {{0xff, 2, [15] = 0xfb},
                              {0xff, 5, [15] = 2},
                              {0xfe, 0x80, [15] = 1},
                              {0xfe, 0xbf, [15] = 1}};
    uint8_t b[1500];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(v4); i++) {
        assert_false(goes_up(b, udp(b, 4, client4, v4[i], 10)));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(v6); i++) {
        assert_false(goes_up(b, udp(b, 6, client6, v6[i], 10)));
    }
    assert_int_equal(out.count, 0);
    const uint8_t unique_local[16] = {0xfd, 1, [15] = 1}; /* the exit's policy judges that */
    assert_true(goes_up(b, udp(b, 6, client6, unique_local, 10)));
}

/* Within the TUN's own /24 there is the gateway alone. */
static void test_neighbours_on_the_tun_are_nobody(void **state)
{
    (void)state;
    const uint8_t tun4[4] = {172, 30, 5, 2}, tun_gateway[4] = {172, 30, 5, 1};
    const uint8_t nobody[][4] = {
        {172, 30, 5, 255}, {172, 30, 5, 0}, {172, 30, 5, 3}, {172, 30, 5, 2}};
    const uint8_t nobody_inner[][4] = {{10, 8, 0, 255}, {10, 8, 0, 0}, {10, 8, 0, 77}};
    const uint8_t beyond[][4] = {{172, 30, 4, 255}, {172, 30, 6, 3}};
    mvpn_addr a4 = {.family = 4}, g4 = {.family = 4};
    uint8_t b[1500];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(nobody_inner); i++) {
        assert_false(goes_up(b, udp(b, 4, client4, nobody_inner[i], 10)));
    }
    assert_true(goes_up(b, udp(b, 4, client4, gateway4, 10)));
    memcpy(a4.ip, tun4, 4);
    memcpy(g4.ip, tun_gateway, 4);
    client_ip_init(&ip, &pool, &a4, &none, &g4);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(nobody); i++) {
        assert_false(goes_up(b, udp(b, 4, tun4, nobody[i], 10)));
    }
    assert_true(goes_up(b, udp(b, 4, tun4, tun_gateway, 10)));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(beyond); i++) {
        assert_true(goes_up(b, udp(b, 4, tun4, beyond[i], 10)));
    }
    assert_int_equal(out.count, 0);
}

static void test_garbage_is_dropped(void **state)
{
    (void)state;
    uint8_t b[1500];
    size_t n = udp(b, 4, client4, server4, 100);
    assert_false(goes_up(b, 0));
    assert_false(goes_up(b, n - 1));
    assert_false(goes_down(b, 0));
    b[10] ^= 1; /* header checksum */
    assert_false(goes_up(b, n));
    assert_false(goes_down(b, n));
}

static void test_too_big_is_answered_where_it_may_not_be_cut(void **state)
{
    (void)state;
    for (unsigned profile = 0; profile < 2; profile++) {
        client_ip_set_session(&ip, profile, true);
        const size_t cell = mvpn_cell_room(MVPN_CLASS_FULL, profile) - 2;
        const size_t limit = MVPN_MAX(cell, (size_t)1280); /* §7 */
        for (unsigned version = 4; version <= 6; version += 2) {
            uint8_t b[1500];
            size_t head = version == 4 ? 28 : 48;
            const void *us = version == 4 ? (const void *)client4 : client6;
            assert_true(goes_up(b, udp(b, version, us, server(version), limit - head)));
            assert_int_equal(out.count, 0);
            assert_false(goes_up(b, udp(b, version, us, server(version), limit + 1 - head)));
            mvpn_packet *icmp = mvpn_packet_queue_pop(&out);
            mvpn_ip p;
            assert_non_null(icmp);
            assert_int_equal(mvpn_ip_parse(icmp->data, icmp->len, &p), 0);
            assert_true(slow_ok(icmp->data, icmp->len));
            assert_int_equal(p.icmp_type, version == 4 ? 3 : 2);
            assert_int_equal(p.icmp_code, version == 4 ? 4 : 0);
            assert_int_equal(version == 4 ? mvpn_load16(icmp->data + p.l4 + 6)
                                          : mvpn_load32(icmp->data + p.l4 + 4),
                             limit);
            assert_memory_equal(p.dst, us, version == 4 ? 4 : 16);
            assert_memory_equal(p.src, mvpn_inner_gateway(version), version == 4 ? 4 : 16);
            mvpn_packet_free(&pool, icmp);
        }
        uint8_t b[1500]; /* IPv4 without DF travels in fragments of RelayData */
        size_t n = udp(b, 4, client4, server4, 1420 - 28);
        b[6] = 0;
        slow_fix(b, n);
        assert_true(goes_up(b, n));
    }
}

static void test_mss_is_clamped_both_ways(void **state)
{
    (void)state;
    for (unsigned profile = 0; profile < 2; profile++) {
        client_ip_set_session(&ip, profile, true);
        const unsigned cell = (unsigned)mvpn_cell_room(MVPN_CLASS_FULL, profile) - 2;
        for (unsigned version = 4; version <= 6; version += 2) {
            const unsigned fits = cell - (version == 4 ? 40 : 60);
            const struct {
                unsigned mss, want;
            } rows[] = {{1460, fits}, {fits + 1, fits}, {fits, fits}, {536, 536}};
            const void *us = version == 4 ? (const void *)client4 : client6;
            for (size_t i = 0; i < MVPN_ARRAY_LEN(rows) * 2; i++) {
                uint8_t b[200];
                bool is_up = i & 1;
                unsigned flags = is_up ? MVPN_TCP_SYN : MVPN_TCP_SYN | MVPN_TCP_ACK;
                size_t n = build_syn(b, version, is_up ? us : server(version), 1000,
                                     is_up ? server(version) : us, 443, (uint8_t)flags,
                                     (uint16_t)rows[i / 2].mss, 0);
                mvpn_packet *p = is_up ? up(b, n) : down(b, n);
                assert_non_null(p);
                assert_int_equal(p->len, n);
                assert_int_equal(mvpn_load16(p->data + n - 8 + 2), rows[i / 2].want);
                assert_true(slow_ok(p->data, n));
                mvpn_packet_free(&pool, p);
            }
        }
    }
}

static void test_a_session_without_ipv6_says_so(void **state)
{
    (void)state;
    uint8_t b[1500];
    client_ip_set_session(&ip, 0, false);
    assert_false(goes_up(b, udp(b, 6, client6, test_v6_b, 100)));
    mvpn_packet *icmp = mvpn_packet_queue_pop(&out);
    mvpn_ip p;
    assert_non_null(icmp);
    assert_int_equal(mvpn_ip_parse(icmp->data, icmp->len, &p), 0);
    assert_int_equal(p.icmp_type, 1);
    assert_int_equal(p.icmp_code, 0); /* no route */
    assert_memory_equal(p.dst, client6, 16);
    mvpn_packet_free(&pool, icmp);
    assert_true(goes_up(b, udp(b, 4, client4, server4, 100)));
}

static void test_only_what_is_for_us_comes_down(void **state)
{
    (void)state;
    uint8_t b[1500], other4[4] = {10, 8, 0, 3}, other6[16];
    memcpy(other6, client6, 16);
    other6[0] = 0xfc;
    assert_true(goes_down(b, udp(b, 4, server4, client4, 100)));
    assert_true(goes_down(b, udp(b, 6, test_v6_b, client6, 100)));
    assert_false(goes_down(b, udp(b, 4, server4, other4, 100)));
    assert_false(goes_down(b, udp(b, 6, test_v6_b, other6, 100)));
}

/* An exit's packets never seem to come from this host or its link. */
static void test_sources_of_this_host_do_not_come_down(void **state)
{
    (void)state;
    const uint8_t bad4[][4] = {MVPN_INNER_CLIENT_V4, {127, 0, 0, 1}, {127, 255, 255, 255},
                               {169, 254, 0, 1},     {0, 0, 0, 0},   {0, 1, 2, 3}};
    const uint8_t good4[][4] = {MVPN_INNER_GATEWAY_V4,
                                {93, 184, 216, 34},
                                {169, 253, 0, 1},
                                {128, 0, 0, 1},
                                {126, 0, 0, 1}};
    const uint8_t bad6[][16] = {
        MVPN_INNER_CLIENT_V6, {[15] = 1}, {0xfe, 0x80, [15] = 1}, {0xfe, 0xbf, [15] = 1}};
    const uint8_t good6[][16] = {MVPN_INNER_GATEWAY_V6, {0x2a, 0x10, [15] = 1}, {[15] = 2}};
    uint8_t b[1500];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad4); i++) {
        assert_false(goes_down(b, udp(b, 4, bad4[i], client4, 10)));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(good4); i++) {
        assert_true(goes_down(b, udp(b, 4, good4[i], client4, 10)));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad6); i++) {
        assert_false(goes_down(b, udp(b, 6, bad6[i], client6, 10)));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(good6); i++) {
        assert_true(goes_down(b, udp(b, 6, good6[i], client6, 10)));
    }
}

/* The TUN has other addresses than the circuit: all of them change, with their checksums. */
static void test_another_range_on_this_host(void **state)
{
    (void)state;
    const uint8_t tun4[4] = {172, 30, 5, 2}, tun_gateway[4] = {172, 30, 5, 1};
    const uint8_t tun6[16] = {0xfd, 0x99, [15] = 7};
    mvpn_addr a4 = {.family = 4}, a6 = {.family = 6}, g4 = {.family = 4};
    memcpy(a4.ip, tun4, 4);
    memcpy(a6.ip, tun6, 16);
    memcpy(g4.ip, tun_gateway, 4);
    client_ip_init(&ip, &pool, &a4, &a6, &g4);
    const struct {
        unsigned version;
        const void *tun_src, *tun_dst;     /* on this host */
        const void *inner_src, *inner_dst; /* in the circuit */
    } rows[] = {
        {4, tun4, server4, client4, server4},
        {4, tun4, tun_gateway, client4, gateway4},
        {6, tun6, test_v6_b, client6, test_v6_b},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t b[1500], want[1500];
        unsigned v = rows[i].version;
        size_t n = udp(b, v, rows[i].tun_src, rows[i].tun_dst, 100);
        assert_int_equal(udp(want, v, rows[i].inner_src, rows[i].inner_dst, 100), n);
        mvpn_packet *p = up(b, n);
        assert_non_null(p);
        assert_memory_equal(p->data, want, n);
        mvpn_packet_free(&pool, p);
        n = udp(b, v, rows[i].inner_dst, rows[i].inner_src, 100);
        assert_int_equal(udp(want, v, rows[i].tun_dst, rows[i].tun_src, 100), n);
        p = down(b, n);
        assert_non_null(p);
        assert_memory_equal(p->data, want, n);
        mvpn_packet_free(&pool, p);
    }
    uint8_t b[1500];
    assert_false(goes_up(b, udp(b, 4, client4, server4, 100))); /* the inner one is not ours here */
    assert_false(goes_up(b, udp(b, 4, tun4, server4, 1400 - 28)));
    mvpn_packet *icmp = mvpn_packet_queue_pop(&out); /* too big, told by our gateway to us */
    mvpn_ip parsed;
    assert_non_null(icmp);
    assert_int_equal(mvpn_ip_parse(icmp->data, icmp->len, &parsed), 0);
    assert_memory_equal(parsed.src, tun_gateway, 4);
    assert_memory_equal(parsed.dst, tun4, 4);
    mvpn_packet_free(&pool, icmp);
}

static void test_icmp_errors_quote_the_address_of_this_host(void **state)
{
    (void)state;
    const uint8_t tun4[4] = {172, 30, 5, 2};
    mvpn_addr a4 = {.family = 4};
    memcpy(a4.ip, tun4, 4);
    client_ip_init(&ip, &pool, &a4, &none, &none);
    uint8_t quote[1500], b[1500];
    size_t n = udp(quote, 4, client4, server4, 100);
    n = build_icmp_error(b, 4, server4, client4, 3, 3, quote, n);
    mvpn_packet *p = down(b, n);
    assert_non_null(p);
    assert_memory_equal(p->data + 16, tun4, 4);
    assert_memory_equal(p->data + 28 + 12, tun4, 4); /* the quoted source */
    assert_true(slow_ok(p->data, p->len));
    mvpn_packet_free(&pool, p);
    n = udp(quote, 4, server4, server4, 100); /* about someone else's traffic: forged */
    n = build_icmp_error(b, 4, server4, client4, 3, 3, quote, n);
    assert_null(down(b, n));
}

static void test_no_buffer_for_an_answer(void **state)
{
    (void)state;
    uint8_t b[1500];
    mvpn_packet_queue held;
    mvpn_packet_queue_init(&held);
    client_ip_set_session(&ip, 0, false);
    size_t n = udp(b, 6, client6, test_v6_b, 100);
    mvpn_packet *p = test_packet_of(&pool, b, n), *q;
    while ((q = mvpn_packet_new(&pool)) != NULL) {
        mvpn_packet_queue_push(&held, q);
    }
    assert_false(client_ip_from_tun(&ip, p, &out));
    assert_int_equal(out.count, 0);
    assert_int_equal(pool.free_count, 1);
    mvpn_packet_queue_clear(&held, &pool);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_only_our_own_source_goes_up),
        TEST(test_chatter_of_the_local_net_stays),
        TEST(test_neighbours_on_the_tun_are_nobody),
        TEST(test_garbage_is_dropped),
        TEST(test_too_big_is_answered_where_it_may_not_be_cut),
        TEST(test_mss_is_clamped_both_ways),
        TEST(test_a_session_without_ipv6_says_so),
        TEST(test_only_what_is_for_us_comes_down),
        TEST(test_sources_of_this_host_do_not_come_down),
        TEST(test_another_range_on_this_host),
        TEST(test_icmp_errors_quote_the_address_of_this_host),
        TEST(test_no_buffer_for_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
