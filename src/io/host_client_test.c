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

#include <poll.h>
#include <sched.h>
#include <stdio.h>

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

static void begin(life *l, bool kill_switch)
{
    mvpn_fault fault = {.text = ""};
    mvpn_config_init(&l->config, MVPN_CONFIG_CLIENT);
    l->config.client.routes_all = true;
    l->config.client.table = 51820;
    l->config.client.kill_switch = kill_switch;
    int r = mvpn_host_client_setup(&l->host, &l->config.client, &fault);
    if (r != 0) {
        print_error("%s\n", fault.text);
    }
    assert_int_equal(r, 0);
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
        cmocka_unit_test(test_end_blames_nobody),
        cmocka_unit_test(test_others_are_told_at_the_end),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
