/*
 * Who changed a client's routes, in a network namespace of the test's own: another program, which
 * is told and counted, or the client itself at its end, which is not. Needs root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>

#include "base/error.h"
#include "io/host_client.h"

#define QUIET_MS 20

typedef struct life {
    mvpn_config config;
    mvpn_host_client host;
} life;

static void run(const char *command)
{
    int status = system(command);
    if (status != 0) {
        print_error("%s: status %d\n", command, status);
    }
    assert_int_equal(status, 0);
}

static int group_setup(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNET) != 0) {
        print_error("this test needs root: it makes a network namespace\n");
        return -1;
    }
    return system("ip link set lo up");
}

static void begin_as_is(life *l, bool kill_switch)
{
    mvpn_fault fault = {.text = ""};
    l->config.client.routes_all = true;
    l->config.client.table = 51820;
    l->config.client.kill_switch = kill_switch;
    int r = mvpn_host_client_setup(&l->host, &l->config.client, &fault);
    if (r != 0) {
        print_error("%s\n", fault.text);
    }
    assert_int_equal(r, 0);
}

static void begin(life *l, bool kill_switch)
{
    mvpn_config_init(&l->config, MVPN_CONFIG_CLIENT);
    begin_as_is(l, kill_switch);
}

static void end(life *l)
{
    mvpn_host_client_remove(&l->host, MVPN_HOST_ENDED);
    if (l->config.client.kill_switch) {
        mvpn_fault fault = {.text = ""};
        assert_int_equal(mvpn_host_client_cleanup(&l->config.client, &fault), 0);
    }
}

/* As the helper does, until nothing more comes: what was told in between? */
static const char *tend(life *l)
{
    const char *told = NULL;
    struct pollfd p[MVPN_HOST_CLIENT_FDS];
    int fds[MVPN_HOST_CLIENT_FDS];
    mvpn_host_client_fds(&l->host, fds);
    for (size_t i = 0; i < MVPN_HOST_CLIENT_FDS; i++) {
        p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    while (poll(p, MVPN_HOST_CLIENT_FDS, QUIET_MS) > 0) {
        const char *what = NULL;
        assert_int_equal(mvpn_host_client_tend(&l->host, &what), 0);
        told = what != NULL ? what : told;
    }
    return told;
}

/* The worker has the device's only descriptor, and closes it. */
static void close_device(life *l)
{
    mvpn_tun_close(l->host.tun);
    l->host.tun = NULL;
}

static void test_others_are_told(void **state)
{
    static const struct {
        const char *command, *what;
    } doings[] = {
        {"ip rule del priority 32001", "routes"},
        {"ip -6 rule flush", "routes"},
        {"ip route flush table 51820", "routes"},
        {"ip route replace default dev lo table 51820", "routes"},
        {"ip addr flush dev mvpn0 scope global", "routes"},
        {"ip link set mvpn0 down", "routes"},
        {"nft flush ruleset", "the kill switch"},
    };
    life l;
    (void)state;
    begin(&l, true);
    assert_null(tend(&l)); /* nor does its own beginning tell anything */
    for (size_t i = 0; i < MVPN_ARRAY_LEN(doings); i++) {
        uint32_t before = l.host.repaired;
        run(doings[i].command);
        const char *told = tend(&l);
        assert_non_null(told);
        assert_string_equal(told, doings[i].what);
        assert_true(l.host.repaired > before);
    }
    run("ip rule show priority 32001 | grep -q 51820 && ip route show table 51820 | grep -q mvpn0 "
        "&& "
        "ip addr show mvpn0 | grep -q 10.8.0.2");
    close_device(&l);
    end(&l);
}

static void test_end_blames_nobody(void **state)
{
    static const struct {
        bool kill_switch, is_asked;
    } ends[] = {{true, true}, {true, false}, {false, true}, {false, false}};
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(ends); i++) {
        mvpn_fault fault = {.text = ""};
        life l;
        begin(&l, ends[i].kill_switch);
        assert_int_equal(mvpn_host_client_event(&l.host, MVPN_PROTECT_ESTABLISHED, &fault), 0);
        if (ends[i].is_asked) {
            assert_int_equal(mvpn_host_client_event(&l.host, MVPN_PROTECT_DOWN, &fault), 0);
        }
        close_device(&l);
        assert_null(tend(&l));
        assert_int_equal(l.host.repaired, 0);
        end(&l);
    }
}

static void put_table(struct mnl_nlmsg_batch *batch, unsigned type, uint32_t flags)
{
    struct nlmsghdr *msg = mnl_nlmsg_put_header(mnl_nlmsg_batch_current(batch));
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    bool is_frame = type == NFNL_MSG_BATCH_BEGIN || type == NFNL_MSG_BATCH_END;
    msg->nlmsg_type = (uint16_t)(is_frame ? type : NFNL_SUBSYS_NFTABLES << 8 | type);
    msg->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | (is_frame ? 0 : NLM_F_CREATE | NLM_F_ACK));
    gen->nfgen_family = is_frame ? 0 : NFPROTO_INET;
    gen->res_id = htons(is_frame ? NFNL_SUBSYS_NFTABLES : 0);
    if (!is_frame) {
        mnl_attr_put_strz(msg, NFTA_TABLE_NAME, MVPN_KILL_SWITCH_TABLE);
        mnl_attr_put_u32(msg, NFTA_TABLE_FLAGS, htonl(flags));
    }
    assert_true(mnl_nlmsg_batch_next(batch));
}

/* Somebody else has the table, so that every transaction of ours fails, until the socket ends. */
static struct mnl_socket *take_table(void)
{
    char bytes[1024];
    struct mnl_socket *owner = mnl_socket_open(NETLINK_NETFILTER);
    struct mnl_nlmsg_batch *batch = mnl_nlmsg_batch_start(bytes, sizeof(bytes));
    assert_non_null(owner);
    assert_int_equal(mnl_socket_bind(owner, 0, MNL_SOCKET_AUTOPID), 0);
    run("nft delete table inet " MVPN_KILL_SWITCH_TABLE);
    put_table(batch, NFNL_MSG_BATCH_BEGIN, 0);
    put_table(batch, NFT_MSG_NEWTABLE, NFT_TABLE_F_OWNER);
    put_table(batch, NFNL_MSG_BATCH_END, 0);
    size_t len = mnl_nlmsg_batch_size(batch);
    assert_int_equal(mnl_socket_sendto(owner, mnl_nlmsg_batch_head(batch), len), len);
    mnl_nlmsg_batch_stop(batch);
    ssize_t n = mnl_socket_recvfrom(owner, bytes, sizeof(bytes));
    assert_int_equal(mnl_cb_run(bytes, (size_t)n, 0, mnl_socket_get_portid(owner), NULL, NULL),
                     MNL_CB_STOP);
    return owner;
}

/* A name's address is inside or outside in every way, or in none. */
static void test_address_is_not_half_there(void **state)
{
    const mvpn_addr addr = {.family = 4, .ip = {198, 51, 100, 7}};
    (void)state;
    for (unsigned is_inside = 0; is_inside < 2; is_inside++) {
        mvpn_fault fault = {.text = ""};
        life l;
        mvpn_config_init(&l.config, MVPN_CONFIG_CLIENT);
        l.config.client.split.is_inside = is_inside;
        l.config.client.split.domains.count = 1;
        begin_as_is(&l, true);
        assert_null(tend(&l));
        struct mnl_socket *owner = take_table();
        assert_int_equal(mvpn_host_client_open(&l.host, &addr, 1, 1, &fault), MVPN_E_SYSTEM);
        assert_int_equal(l.host.leases.count, 0);
        run("! ip rule | grep -F 198.51.100.7");
        assert_int_equal(mnl_socket_close(owner), 0);
        assert_string_equal(tend(&l), "the kill switch");
        run("nft list table inet " MVPN_KILL_SWITCH_TABLE " | grep -q . && "
            "! nft list table inet " MVPN_KILL_SWITCH_TABLE " | grep -F 198.51.100.7");
        assert_int_equal(mvpn_host_client_open(&l.host, &addr, 1, 1, &fault), 0);
        run("ip rule | grep -qF 198.51.100.7 && "
            "nft list table inet " MVPN_KILL_SWITCH_TABLE " | grep -qF 198.51.100.7");
        close_device(&l);
        end(&l);
    }
}

/* The device's end hides nobody. */
static void test_others_are_told_at_the_end(void **state)
{
    life l;
    (void)state;
    begin(&l, true);
    close_device(&l);
    run("ip rule flush");
    assert_string_equal(tend(&l), "routes");
    assert_true(l.host.repaired > 0);
    run("ip rule show priority 32001 | grep -q 51820");
    end(&l);
}

/* Also without kill switch. */
static void test_answers_come_in(void **state)
{
    life l;
    (void)state;
    run("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter && ip tuntap add tap0 mode tap");
    begin(&l, false);
    run("grep -q 1 /proc/sys/net/ipv4/conf/tap0/src_valid_mark");
    assert_null(tend(&l));
    run("nft delete table inet meshvpn_answers");
    assert_string_equal(tend(&l), "what lets answers in");
    assert_int_equal(l.host.repaired, 1);
    run("nft list table inet meshvpn_answers | grep -q 'socket mark'");
    close_device(&l);
    end(&l);
    run("grep -q 0 /proc/sys/net/ipv4/conf/tap0/src_valid_mark && ! nft list ruleset | grep -q . "
        "&& "
        "ip link del tap0 && echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_come_in),
        cmocka_unit_test(test_others_are_told),
        cmocka_unit_test(test_address_is_not_half_there),
        cmocka_unit_test(test_end_blames_nobody),
        cmocka_unit_test(test_others_are_told_at_the_end),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
