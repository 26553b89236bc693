/*
 * The question of DNS by which a client learns that its exit resolves names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "core/client_names.h"
#include "exit/dns_message.h"
#include "network/ip/checksum.h"
#include "network/ip/inner.h"
#include "network/ip/rewrite.h"

#define START MVPN_S(5)

static mvpn_packet_pool pool;
static mvpn_rng rng;
static client_names names;

static mvpn_packet *ask(mvpn_time now)
{
    const mvpn_addr from = mvpn_inner_client_addr(4), to = mvpn_inner_gateway_addr(4);
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    if (!client_names_ask(&names, &from, &to, p, now)) {
        mvpn_packet_free(&pool, p);
        return NULL;
    }
    return p;
}

/* The question turned into its answer. */
static void answer(mvpn_packet *p, uint16_t flags)
{
    mvpn_ip ip;
    assert_int_equal(mvpn_ip_parse(p->data, p->len, &ip), 0);
    uint16_t port = mvpn_load16(p->data + 20);
    assert_int_equal(mvpn_ip_rewrite_src(p->data, &ip, mvpn_inner_gateway(4)), 0);
    assert_int_equal(mvpn_ip_rewrite_dst(p->data, &ip, mvpn_inner_client(4)), 0);
    mvpn_store16(p->data + 20, 53);
    mvpn_store16(p->data + 22, port);
    mvpn_store16(p->data + 30, flags);
    mvpn_csum_transport_set(p->data, &ip);
}

static int set_up(void **state)
{
    (void)state;
    mvpn_rng_init_test(&rng, 7);
    client_names_start(&names, &rng, START);
    return mvpn_packet_pool_init(&pool, 4);
}

static int tear_down(void **state)
{
    (void)state;
    mvpn_packet_pool_done(&pool);
    mvpn_rng_done(&rng);
    return 0;
}

/* It is what an exit takes, and no port of the host's own. */
static void test_question(void **state)
{
    mvpn_dns_query_info info;
    mvpn_ip ip;
    (void)state;
    mvpn_packet *p = ask(START);
    assert_non_null(p);
    assert_int_equal(mvpn_ip_parse(p->data, p->len, &ip), 0);
    assert_true(mvpn_csum_transport_ok(p->data, &ip));
    assert_true(ip.src_port >= 61000 && ip.dst_port == 53);
    uint32_t len = p->len - 28;
    assert_int_equal(mvpn_dns_query_read(p->data + 28, &len, 1232, &info), 0);
    assert_int_equal(info.question.len, 5);
    assert_int_equal(info.question.type, 6);
    mvpn_packet_free(&pool, p);
}

static void test_answers(void **state)
{
    static const struct {
        uint16_t flags;
        enum client_names_verdict verdict;
    } rows[] = {
        {0x8180, CLIENT_NAMES_RESOLVE}, /* NOERROR */
        {0x8183, CLIENT_NAMES_RESOLVE}, /* NXDOMAIN */
        {0x8185, CLIENT_NAMES_RESOLVE}, /* REFUSED: it reaches a resolver, which is choosy */
        {0x8182, CLIENT_NAMES_FAIL},    /* SERVFAIL */
        {0x0100, CLIENT_NAMES_OTHER},   /* a question */
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        client_names_start(&names, &rng, START);
        mvpn_packet *p = ask(START);
        answer(p, rows[i].flags);
        assert_int_equal(client_names_look(&names, p), rows[i].verdict);
        assert_int_equal(names.is_asking, rows[i].verdict != CLIENT_NAMES_RESOLVE);
        mvpn_packet_free(&pool, p);
    }
}

/* What is not the answer stays the host's. */
static void test_others(void **state)
{
    (void)state;
    mvpn_packet *p = ask(START);
    assert_int_equal(client_names_look(&names, p), CLIENT_NAMES_OTHER); /* as it was sent */
    answer(p, 0x8180);
    client_names same = names;
    for (unsigned at = 12; at < 30; at++) { /* source, ports, id */
        bool is_checked = (at < 16 || at >= 20) && (at < 24 || at >= 28);
        p->data[at] ^= 1;
        mvpn_csum_ipv4_set(p->data);
        if (is_checked) {
            assert_int_equal(client_names_look(&names, p), CLIENT_NAMES_OTHER);
            assert_memory_equal(&names, &same, sizeof(names));
        }
        p->data[at] ^= 1;
        mvpn_csum_ipv4_set(p->data);
    }
    assert_int_equal(client_names_look(&names, p), CLIENT_NAMES_RESOLVE);
    assert_int_equal(client_names_look(&names, p), CLIENT_NAMES_OTHER); /* once */
    mvpn_packet_free(&pool, p);
}

static void test_asked_again(void **state)
{
    unsigned count = 0;
    (void)state;
    for (mvpn_time now = START; now < START + MVPN_S(600); now += MVPN_MS(50)) {
        mvpn_packet *p = ask(now);
        count += p != NULL;
        mvpn_packet_free(&pool, p);
        if (now < START + MVPN_S(2)) {
            assert_false(client_names_is_unanswered(&names));
        } else if (now > START + MVPN_S(6)) {
            assert_true(client_names_is_unanswered(&names));
        }
    }
    assert_in_range(count, 20, 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_question, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_asked_again, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
