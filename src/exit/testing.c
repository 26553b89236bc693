#include "exit/testing.h"

#include "network/ip/inner.h"

const uint8_t far4[4] = {11, 1, 2, 3};
const uint8_t *in4, *gw4, *in6, *gw6;

mvpn_packet_pool packets;
static mvpn_rng rng;
mvpn_addr dns_addr, own_addr, relay_addr;
mvpn_exit *ex;

mvpn_exit_config exit_config(void)
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

void exit_start(const mvpn_exit_config *c)
{
    mvpn_policy_error e;
    mvpn_rng_init_test(&rng, 1);
    assert_int_equal(mvpn_exit_new(c, &ex, &e), 0);
}

void exit_stop(void)
{
    mvpn_exit_free(ex);
    ex = NULL;
    assert_int_equal(packets.free_count, PACKETS);
}

int exit_setup(void **state)
{
    (void)state;
    mvpn_exit_config c = exit_config();
    exit_start(&c);
    return 0;
}

int exit_teardown(void **state)
{
    (void)state;
    exit_stop();
    return 0;
}

uint32_t open_session(uint32_t mtu, bool v6)
{
    uint32_t id = 0;
    assert_int_equal(mvpn_exit_session_open(ex, mtu, v6, 0, &id), 0);
    return id;
}

mvpn_packet *new_packet(void)
{
    mvpn_packet *p = mvpn_packet_new(&packets);
    assert_non_null(p);
    return p;
}

mvpn_packet *udp(unsigned v, const void *src, uint16_t sport, const void *dst, uint16_t dport,
                 size_t payload)
{
    mvpn_packet *p = new_packet();
    p->len = (uint32_t)build_udp(p->data, v, src, sport, dst, dport, payload);
    return p;
}

bool pull(uint32_t id, mvpn_packet *ret)
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

bool pop(mvpn_packet_queue *q, mvpn_packet *ret)
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

bool silent(void)
{
    mvpn_packet out;
    uint32_t id;
    mvpn_packet *p;
    return !pop(mvpn_exit_tun_out(ex), &out) && !pop(mvpn_exit_dns_out(ex), &out) &&
           !mvpn_exit_pull_to_session(ex, &id, &p);
}

int exit_group_setup(void **state)
{
    (void)state;
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
    return 0;
}

int exit_group_teardown(void **state)
{
    (void)state;
    mvpn_packet_pool_done(&packets);
    return 0;
}
