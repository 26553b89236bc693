/*
 * What io changes in the kernel, in a network namespace of the test's own: links, addresses, routes
 * and rules as `ip` sees them; NAT rules set and taken back without a trace, also after a crash;
 * connection tracking. Needs root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "io/addrwatch.h"
#include "io/conntrack.h"
#include "io/helper.h"
#include "io/kill_switch.h"
#include "io/nat.h"
#include "io/netlink.h"
#include "io/nft.h"
#include "io/sockaddr.h"
#include "io/tun.h"

#define TEXT 65536
#define ENTRIES (1u << 20)

static char run_dir[64];

/* Output of a shell command, which must succeed. */
static const char *shell(const char *command, char out[static TEXT])
{
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(out, 1, TEXT - 1, pipe);
    out[n] = '\0';
    int status = pclose(pipe);
    if (status != 0) {
        print_error("%s: status %d\n", command, status);
    }
    assert_int_equal(status, 0);
    return out;
}

static void run(const char *command)
{
    static char out[TEXT];
    (void)shell(command, out);
}

static bool shows(const char *command, const char *text)
{
    static char out[TEXT];
    return strstr(shell(command, out), text) != NULL;
}

static int group_setup(void **state)
{
    (void)state;
    (void)snprintf(run_dir, sizeof(run_dir), "/tmp/mvpn-netns-test.XXXXXX");
    if (mkdtemp(run_dir) == NULL) {
        return -1;
    }
    if (unshare(CLONE_NEWNET) != 0) {
        print_error("this test needs root: it makes a network namespace\n");
        return -1;
    }
    run("ip link set lo up");
    run("ip tuntap add dev t0 mode tun");
    /* Without addresses of its own making, which come at their own time. */
    run("ip link add v0 type veth peer name v1 && ip link set v0 addrgenmode none && "
        "ip link set v1 addrgenmode none && ip link set v0 up && ip link set v1 up");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return rmdir(run_dir); /* no state file is left */
}

static mvpn_prefix prefix(const char *text)
{
    mvpn_prefix p;
    assert_int_equal(mvpn_prefix_parse(text, &p), 0);
    return p;
}

static void test_prefix(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",           "10.8.0.0/33", "10.8.0.0/", "10.8.0.0/-1",  "10.8.0/24",
        "fd00::/129", "[fd00::]/64", "x/8",       "10.0.0.1:5/8", "10.8.0.0/+8"};
    static const struct {
        const char *a, *b;
        bool overlaps;
    } rows[] = {
        {"10.8.0.0/24", "10.8.0.0/16", true},
        {"10.0.0.0/8", "10.8.0.0/24", true},
        {"10.8.0.0/24", "10.8.1.0/24", false},
        {"10.8.0.5", "10.8.0.0/24", true},
        {"fd6d:7670:6e00::/64", "fd00::/8", true},
        {"fd6d:7670:6e00::/64", "fe80::/10", false},
        {"0.0.0.0/0", "1.2.3.4", true},
        {"0.0.0.0/0", "::/0", false},
    };
    mvpn_prefix p;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad); i++) {
        assert_int_equal(mvpn_prefix_parse(bad[i], &p), MVPN_E_FORMAT);
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_prefix a = prefix(rows[i].a), b = prefix(rows[i].b);
        assert_int_equal(mvpn_prefix_overlaps(&a, &b), rows[i].overlaps);
        assert_int_equal(mvpn_prefix_overlaps(&b, &a), rows[i].overlaps);
    }
}

/* The client's whole routing, twice (all can be repeated), and taken back twice. */
static void test_client_routing(void **state)
{
    (void)state;
    mvpn_netlink *nl = NULL;
    mvpn_fault fault = {{0}};
    uint32_t index = 0;
    static char before[TEXT], after[TEXT];
    const char *all =
        "ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all | "
        "grep -v 'fe80\\|multicast'; ip -4 addr show t0; ip link show t0 | grep -o 'state.*'";
    const mvpn_prefix addrs[] = {prefix("10.8.0.2/24"), prefix("fd6d:7670:6e00::2/64")};
    const mvpn_prefix defaults[] = {prefix("0.0.0.0/0"), prefix("::/0")};
    assert_int_equal(mvpn_netlink_open(&nl, &fault), 0);
    assert_int_equal(mvpn_netlink_index(nl, "t0", &index, &fault), 0);
    assert_int_equal(mvpn_netlink_link_up(nl, index, 1420, &fault), 0);
    (void)shell(all, before);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 2; i++) {
            const uint8_t family = i == 0 ? 4 : 6;
            const mvpn_rule by_mark = {.family = family,
                                       .priority = 5201,
                                       .table = 51820,
                                       .mark = 0x4d56,
                                       .is_not_mark = true};
            const mvpn_rule specific = {
                .family = family, .priority = 5200, .table = 254, .only_specific = true};
            assert_int_equal(mvpn_netlink_addr_add(nl, index, &addrs[i], &fault), 0);
            assert_int_equal(mvpn_netlink_route_add(nl, 51820, index, &defaults[i], &fault), 0);
            assert_int_equal(mvpn_netlink_rule_add(nl, &specific, &fault), 0);
            assert_int_equal(mvpn_netlink_rule_add(nl, &by_mark, &fault), 0);
        }
    }
    assert_true(shows("ip link show t0", "mtu 1420"));
    assert_true(shows("ip addr show t0", "inet 10.8.0.2/24"));
    assert_true(shows("ip addr show t0", "inet6 fd6d:7670:6e00::2/64"));
    assert_true(shows("ip -4 route show table 51820", "default dev t0"));
    assert_true(shows("ip -6 route show table 51820", "default dev t0"));
    for (unsigned i = 0; i < 2; i++) {
        assert_true(shows(i == 0 ? "ip -4 rule" : "ip -6 rule",
                          "5200:\tfrom all lookup main suppress_prefixlength 0\n"
                          "5201:\tnot from all fwmark 0x4d56 lookup 51820\n"));
    }
    assert_true(shows("ip -4 rule | grep -c ^5201", "1\n"));
    /* The kernel's own verdict. */
    run("ip addr add 192.0.2.1/24 dev v0 && ip route add default via 192.0.2.254 dev v0");
    assert_true(shows("ip route get 198.51.100.1", "dev t0"));
    assert_true(shows("ip route get 198.51.100.1 mark 0x4d56", "via 192.0.2.254 dev v0"));
    assert_true(shows("ip route get 192.0.2.7", "dev v0"));
    /* With the kill switch no rule leads to the main table first; and a person names no device. */
    run("ip rule del pref 5200 && ip route del default && ip route add default via 192.0.2.254");
    assert_true(shows("ip route get 198.51.100.1 mark 0x4d56", "via 192.0.2.254 dev v0"));
    assert_true(shows("ip route get 192.0.2.7", "dev t0 table 51820 src 10.8.0.2"));
    run("ip route del default && ip addr del 192.0.2.1/24 dev v0");
    for (unsigned i = 0; i < 2; i++) { /* where rules lead to a table */
        const char *to[] = {i == 0 ? "192.0.2.7/32" : "2001:db8::7/128",
                            i == 0 ? "198.51.100.0/24" : "2001:db8:1::/48"};
        mvpn_rule rule = {.family = i == 0 ? 4 : 6, .priority = 5199, .table = 51820};
        const mvpn_rule like = rule;
        mvpn_prefix found[3];
        unsigned count = 9;
        for (unsigned k = 0; k < 2; k++) {
            rule.to = prefix(to[k]);
            assert_int_equal(mvpn_netlink_rule_add(nl, &rule, &fault), 0);
        }
        assert_int_equal(mvpn_netlink_rules_targets(nl, &like, found, 3, &count, &fault), 0);
        assert_int_equal(count, 2);
        for (unsigned k = 0; k < 2; k++) {
            rule.to = prefix(to[k]);
            assert_int_equal(found[k].bits, rule.to.bits);
            assert_true(mvpn_addr_ip_eq(&found[k].addr, &rule.to.addr));
        }
        assert_int_equal(mvpn_netlink_rules_targets(nl, &like, found, 1, &count, &fault), 0);
        assert_int_equal(count, 1);
        rule.table = 51821;
        assert_int_equal(mvpn_netlink_rules_targets(nl, &rule, found, 3, &count, &fault), 0);
        assert_int_equal(count, 0);
        assert_int_equal(mvpn_netlink_rules_clear(nl, &like, &fault), 0);
    }
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 2; i++) {
            const uint8_t family = i == 0 ? 4 : 6;
            const mvpn_rule by_mark = {.family = family,
                                       .priority = 5201,
                                       .table = 51820,
                                       .mark = 0x4d56,
                                       .is_not_mark = true};
            const mvpn_rule specific = {
                .family = family, .priority = 5200, .table = 254, .only_specific = true};
            assert_int_equal(mvpn_netlink_rule_del(nl, &by_mark, &fault), 0);
            assert_int_equal(mvpn_netlink_rule_del(nl, &specific, &fault), 0);
            assert_int_equal(mvpn_netlink_route_del(nl, 51820, index, &defaults[i], &fault), 0);
            assert_int_equal(mvpn_netlink_addr_del(nl, index, &addrs[i], &fault), 0);
        }
    }
    assert_string_equal(shell(all, after), before);
    assert_int_equal(mvpn_netlink_index(nl, "nothere", &index, &fault), MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_netlink_addr_add(nl, 9999, &addrs[0], &fault), MVPN_E_SYSTEM);
    assert_non_null(strstr(fault.text, "10.8.0.2/24"));
    mvpn_netlink_close(nl);
}

static void check_clash(mvpn_netlink *nl, const char *wanted, uint32_t except, const char *found)
{
    mvpn_fault fault = {{0}};
    bool clashes = false;
    const mvpn_prefix p = prefix(wanted);
    assert_int_equal(mvpn_netlink_find_clash(nl, &p, except, &clashes, &fault), 0);
    assert_int_equal(clashes, found != NULL);
    if (found != NULL) {
        assert_non_null(strstr(fault.text, found));
    }
}

static void test_clash(void **state)
{
    (void)state;
    mvpn_netlink *nl = NULL;
    mvpn_fault fault;
    uint32_t index = 0;
    assert_int_equal(mvpn_netlink_open(&nl, &fault), 0);
    check_clash(nl, "10.8.0.0/24", 0, NULL);
    run("ip addr add 10.8.0.77/25 dev v0");
    check_clash(nl, "10.8.0.0/24", 0, "on v0");
    assert_int_equal(mvpn_netlink_index(nl, "v0", &index, &fault), 0);
    check_clash(nl, "10.8.0.0/24", index, NULL);
    check_clash(nl, "10.9.0.0/24", 0, NULL);
    run("ip route add 10.9.0.0/16 dev v1");
    check_clash(nl, "10.9.0.0/24", 0, "10.9.0.0/16 on v1");
    run("ip route add default dev v1"); /* a default route clashes with nothing */
    check_clash(nl, "10.10.0.0/24", 0, NULL);
    run("ip -6 addr add fd6d:7670:6e00::9/64 dev v0 nodad");
    check_clash(nl, "fd6d:7670:6e00::/64", 0, "on v0");
    run("ip addr flush dev v0 && ip route flush dev v1 && ip -6 addr flush dev v0");
    mvpn_netlink_close(nl);
}

static mvpn_nat_options nat_options(void)
{
    return (mvpn_nat_options){.instance = "test",
                              .run_dir = run_dir,
                              .tun_name = "t0",
                              .pool_v4 = prefix("10.99.0.0/16"),
                              .pool_v6 = prefix("fd99::/64")};
}

static const char *const everything =
    "nft list ruleset; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding "
    "/proc/sys/net/ipv6/conf/*/accept_ra /proc/sys/net/ipv6/conf/*/forwarding "
    "/proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv4/conf/*/accept_redirects";

static void others_rules(void)
{
    run("nft add table ip other && nft 'add chain ip other post { type nat hook postrouting "
        "priority 100; }' "
        "&& nft add rule ip other post ip saddr 172.17.0.0/16 masquerade "
        "&& nft add table inet meshvpn_other && nft 'add set inet meshvpn_other s { type "
        "ipv4_addr; }'");
    run("echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding; "
        "echo 1 > /proc/sys/net/ipv6/conf/v0/accept_ra");
}

static void test_nat(void **state)
{
    (void)state;
    static char before[TEXT], during[TEXT], after[TEXT];
    mvpn_fault fault = {{0}};
    mvpn_nat_options options = nat_options();
    others_rules();
    (void)shell(everything, before);
    assert_int_equal(mvpn_nat_remove("test", run_dir, &fault), 0); /* nothing there */
    assert_string_equal(shell(everything, after), before);
    int rc = mvpn_nat_setup(&options, &fault);
    if (rc != 0) {
        print_error("%s\n", fault.text);
    }
    assert_int_equal(rc, 0);
    (void)shell("nft list table inet meshvpn_test", during);
    assert_non_null(strstr(during, "ip saddr 10.99.0.0/16 oifname != \"t0\" masquerade"));
    assert_non_null(strstr(during, "ip6 saddr fd99::/64 oifname != \"t0\" masquerade"));
    assert_non_null(strstr(during, "iifname \"t0\" oifname \"t0\" drop"));
    assert_true(shows("cat /proc/sys/net/ipv4/ip_forward", "1"));
    assert_true(shows("cat /proc/sys/net/ipv6/conf/all/forwarding", "1"));
    assert_true(shows("cat /proc/sys/net/ipv6/conf/v0/accept_ra", "2"));
    assert_int_equal(mvpn_nat_setup(&options, &fault), 0); /* again, over itself */
    assert_int_equal(mvpn_nat_remove("test", run_dir, &fault), 0);
    assert_string_equal(shell(everything, after), before);
    /* Forwarding that was on stays on. */
    run("echo 1 > /proc/sys/net/ipv4/ip_forward");
    assert_int_equal(mvpn_nat_setup(&options, &fault), 0);
    assert_int_equal(mvpn_nat_remove("test", run_dir, &fault), 0);
    assert_true(shows("cat /proc/sys/net/ipv4/ip_forward", "1"));
    run("nft flush ruleset");
}

static void test_nat_after_crash(void **state)
{
    (void)state;
    static char before[TEXT], after[TEXT];
    mvpn_fault fault = {{0}};
    mvpn_nat_options options = nat_options();
    char path[128];
    int status = 0;
    others_rules();
    (void)shell(everything, before);
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (mvpn_nat_setup(&options, &fault) != 0) {
            _exit(1);
        }
        abort();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    (void)snprintf(path, sizeof(path), "%s/nat_test.state", run_dir);
    assert_int_equal(access(path, F_OK), 0);
    assert_true(shows("nft list tables", "inet meshvpn_test"));
    /* The next run notes the values from before the crash, not those it finds. */
    assert_int_equal(mvpn_nat_setup(&options, &fault), 0);
    assert_int_equal(mvpn_nat_remove("test", run_dir, &fault), 0);
    assert_string_equal(shell(everything, after), before);
    assert_int_not_equal(access(path, F_OK), 0);
    /* A damaged state file is said, not guessed at; the rules go all the same. */
    assert_int_equal(mvpn_nat_setup(&options, &fault), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fprintf(file, "meshvpn-nat 1\nkernel/core_pattern 1 0\n") > 0);
    (void)fclose(file);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(mvpn_nat_remove("test", run_dir, &fault), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "damaged"));
    assert_false(shows("nft list tables", "inet meshvpn_test"));
    assert_int_equal(unlink(path), 0);
    run("nft flush ruleset");
}

static void test_nat_names(void **state)
{
    (void)state;
    mvpn_fault fault;
    mvpn_nat_options options = nat_options();
    static const char *const bad[] = {
        "", "a b", "a;b", "A", "a{", "a-b", "123456789012345678901234567890123"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad); i++) {
        options.instance = bad[i];
        assert_int_equal(mvpn_nat_setup(&options, &fault), MVPN_E_INVAL);
        assert_int_equal(mvpn_nat_remove(bad[i], run_dir, &fault), MVPN_E_INVAL);
    }
    options = nat_options();
    options.tun_name = "t0\" accept; x";
    assert_int_equal(mvpn_nat_setup(&options, &fault), MVPN_E_INVAL);
    assert_int_equal(mvpn_nft_apply("add rule inet nowhere nothing accept\n", &fault),
                     MVPN_E_SYSTEM);
    assert_non_null(strstr(fault.text, "nft refused"));
}

static unsigned tracked(void)
{
    unsigned count = 0;
    FILE *file = fopen("/proc/sys/net/netfilter/nf_conntrack_count", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%u", &count), 1);
    (void)fclose(file);
    return count;
}

/* `count` connections from a port of its own each; `from` is local, as an address or a route. */
static void open_flows_from(const mvpn_addr *from, const mvpn_addr *to, unsigned count)
{
    const int on = 1;
    for (unsigned i = 0; i < count; i++) {
        struct sockaddr_storage sa;
        mvpn_addr peer = *to;
        peer.port = (uint16_t)(20000 + i);
        int fd = socket(from->family == 6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
        socklen_t len = mvpn_sockaddr_from_addr(from, &sa);
        if (from->family == 6) { /* of IPv6, a local route is not enough */
            assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof(on)), 0);
        }
        assert_int_equal(bind(fd, (const struct sockaddr *)&sa, len), 0);
        len = mvpn_sockaddr_from_addr(&peer, &sa);
        assert_int_equal(sendto(fd, "x", 1, 0, (const struct sockaddr *)&sa, len), 1);
        (void)close(fd);
    }
}

static mvpn_addr address(const char *text)
{
    mvpn_addr addr = {.family = 0};
    assert_int_equal(mvpn_addr_parse(text, &addr), 0);
    return addr;
}

static void open_flows(const char *from, const char *to, unsigned count)
{
    const mvpn_addr a = address(from), b = address(to);
    open_flows_from(&a, &b, count);
}

/* Anything is tracked, and these are local. Nothing times out while a slow machine looks. */
static void track(void)
{
    run("echo 600 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout");
    run("nft add table inet track && nft 'add chain inet track out { type filter hook output "
        "priority 0; }' && nft add rule inet track out ct state new accept");
    run("ip route replace local 10.64.0.0/16 dev lo table local && "
        "ip -6 route replace local fd99::/64 dev lo table local");
}

static void track_no_more(void)
{
    run("nft flush ruleset && ip route del local 10.64.0.0/16 dev lo table local && "
        "ip -6 route del local fd99::/64 dev lo table local");
}

/* All entries but for their remaining time, as text; valid until the next call with this place. */
static const char *entries(char out[static ENTRIES])
{
    FILE *pipe = popen("for f in ipv4 ipv6; do conntrack -L -f $f -o id 2>/dev/null; done | "
                       "sed -E 's/^([a-z0-9]+ +[0-9]+) [0-9]+ /\\1 /' | sort",
                       "r");
    assert_non_null(pipe);
    size_t n = fread(out, 1, ENTRIES - 1, pipe);
    out[n] = '\0';
    assert_int_equal(pclose(pipe), 0);
    assert_true(n < ENTRIES - 1);
    return out;
}

/* Many entries of one address; those of its neighbours stay. */
static void test_conntrack(void **state)
{
    (void)state;
    mvpn_conntrack *ct = NULL;
    mvpn_fault fault = {{0}};
    unsigned count = 99;
    const mvpn_addr first = address("10.64.0.5"), second = address("10.64.0.6");
    const mvpn_addr third = address("10.64.0.7");
    const mvpn_addr six = address("fd99::5");
    const mvpn_addr both[] = {address("fd99::6"), second, address("10.64.0.99")};
    track();
    assert_int_equal(mvpn_conntrack_open(&ct, &fault), 0);
    unsigned before = tracked();
    open_flows("10.64.0.5", "10.64.0.7", 1500);
    open_flows("10.64.0.6", "10.64.0.7", 3);
    open_flows("10.64.0.7", "10.64.0.5", 2); /* towards it: not its own */
    open_flows("fd99::5", "fd99::7", 4);
    open_flows("fd99::6", "fd99::7", 5);
    assert_int_equal(tracked(), before + 1514);
    assert_int_equal(mvpn_conntrack_delete(ct, &first, 1, &count, &fault), 0);
    assert_int_equal(count, 1500);
    assert_int_equal(tracked(), before + 14);
    assert_int_equal(mvpn_conntrack_delete(ct, &first, 1, &count, &fault), 0);
    assert_int_equal(count, 0);
    assert_int_equal(mvpn_conntrack_delete(ct, &six, 1, &count, &fault), 0);
    assert_int_equal(count, 4);
    assert_int_equal(mvpn_conntrack_delete(ct, both, MVPN_ARRAY_LEN(both), &count, &fault), 0);
    assert_int_equal(count, 8);
    assert_int_equal(tracked(), before + 2);
    assert_int_equal(mvpn_conntrack_delete(ct, both, 0, &count, &fault), 0);
    assert_int_equal(count, 0);
    assert_int_equal(mvpn_conntrack_delete(ct, &third, 1, &count, &fault), 0);
    assert_int_equal(count, 2);
    mvpn_conntrack_close(ct);
    track_no_more();
}

/* ---- sessions that end all at once ---- */

enum { SESSIONS = 1000, FLOWS = 5, OTHERS = 2000 };

struct ending {
    mvpn_loop *loop;
    unsigned until;
    unsigned checks_left;
};

static void stop_when_gone(void *ctx)
{
    struct ending *e = ctx;
    if (tracked() <= e->until || --e->checks_left == 0) {
        mvpn_loop_stop(e->loop);
    }
}

static void helper_lost(void *ctx)
{
    (void)ctx;
    fail_msg("the helper is gone");
}

static double children_cpu_s(void)
{
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &u), 0);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* The k-th session's addresses, in several /24 of the pool. */
static void session_addresses(unsigned k, mvpn_addr *ret_v4, mvpn_addr *ret_v6)
{
    *ret_v4 = address("10.64.0.0");
    *ret_v6 = address("fd99::");
    mvpn_store16(ret_v4->ip + 2, (uint16_t)(k + 2));
    mvpn_store16(ret_v6->ip + 14, (uint16_t)(k + 2));
}

/* The helper of an exit with this pool, as the program starts it. */
static mvpn_helper *start_helper(mvpn_config *config, mvpn_loop *loop)
{
    mvpn_helper *helper = NULL;
    mvpn_helper_host host;
    mvpn_fault fault = {{0}};
    mvpn_config_init(config, MVPN_CONFIG_EXIT);
    (void)snprintf(config->exit.tun_name, sizeof(config->exit.tun_name), "exit1");
    (void)snprintf(config->run_dir, sizeof(config->run_dir), "%s", run_dir);
    assert_int_equal(mvpn_prefix_parse("10.64.0.0/16", &config->exit.pool_v4), 0);
    assert_int_equal(mvpn_prefix_parse("fd99::/64", &config->exit.pool_v6), 0);
    assert_int_equal(mvpn_helper_start(config, NULL, NULL, &helper, &fault), 0);
    assert_int_equal(mvpn_helper_setup(helper, &host, &fault), 0);
    assert_int_equal(mvpn_helper_seal(helper, &fault), 0);
    assert_int_equal(mvpn_helper_watch(helper, loop, helper_lost, NULL), 0);
    mvpn_tun_close(host.tun);
    return helper;
}

/*
 * 1,000 sessions of one exit end in one turn: their 10,000 entries go within seconds, for less than
 * a second of CPU (a pass over the table for each of them took more than ten), and the entries of
 * others are what they were.
 */
static void test_sessions_end_together(void **state)
{
    static mvpn_config config;
    static char before[ENTRIES], after[ENTRIES];
    const mvpn_addr other = address("10.64.250.1"), server = address("10.64.251.1");
    const mvpn_addr server6 = address("fd99::fb01");
    struct ending ending = {.checks_left = 600};
    (void)state;
    track();
    run("ip addr flush dev v0");
    open_flows_from(&other, &server, OTHERS);
    open_flows("10.64.250.1", "10.64.0.9", 3); /* towards a session's */
    entries(before);
    ending.until = tracked();
    assert_true(ending.until >= OTHERS);
    for (unsigned k = 0; k < SESSIONS; k++) {
        mvpn_addr v4, v6;
        session_addresses(k, &v4, &v6);
        open_flows_from(&v4, &server, FLOWS);
        open_flows_from(&v6, &server6, FLOWS);
    }
    assert_int_equal(tracked(), ending.until + 2 * SESSIONS * FLOWS);

    double cpu_s = children_cpu_s();
    assert_int_equal(mvpn_loop_new(&ending.loop), 0);
    mvpn_helper *helper = start_helper(&config, ending.loop);
    assert_int_equal(mvpn_loop_every(ending.loop, 50, stop_when_gone, &ending), 0);
    for (unsigned k = 0; k < SESSIONS; k++) {
        mvpn_addr v4, v6;
        session_addresses(k, &v4, &v6);
        assert_int_equal(mvpn_helper_release(helper, &v4, &v6), 0);
    }
    assert_int_equal(mvpn_loop_run(ending.loop), 0);
    assert_true(ending.checks_left > 0);
    mvpn_helper_finish(helper);
    while (waitpid(-1, NULL, 0) > 0) {
    }
    cpu_s = children_cpu_s() - cpu_s;
    print_message("%u sessions: %.3f s of CPU\n", (unsigned)SESSIONS, cpu_s);
    assert_true(cpu_s < 1);
    entries(after);
    assert_string_equal(after, before);
    mvpn_loop_free(ending.loop);
    track_no_more();
}

/* What ends in the last moment is forgotten, too. */
static void test_sessions_end_at_the_end(void **state)
{
    static mvpn_config config;
    mvpn_loop *loop = NULL;
    mvpn_addr v4, v6;
    (void)state;
    track();
    session_addresses(7, &v4, &v6);
    const mvpn_addr server = address("10.64.251.1");
    open_flows_from(&v4, &server, FLOWS);
    assert_true(shows("conntrack -L -s 10.64.0.9 2>/dev/null", "10.64.0.9"));
    assert_int_equal(mvpn_loop_new(&loop), 0);
    mvpn_helper *helper = start_helper(&config, loop);
    assert_int_equal(mvpn_helper_release(helper, &v4, &v6), 0);
    mvpn_helper_finish(helper);
    assert_false(shows("conntrack -L -s 10.64.0.9 2>/dev/null", "10.64.0.9"));
    mvpn_loop_free(loop);
    track_no_more();
}

/* ---- an exit's whole way: TUN -> NAT -> another host, and back ---- */

/* A live flow: to be sent to without end. */
struct stream {
    struct sockaddr_in to;
    char text[16];
};

static void send_streams(int fd, const struct stream *streams, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void)sendto(fd, streams[i].text, strlen(streams[i].text), 0,
                     (const struct sockaddr *)&streams[i].to, sizeof(streams[i].to));
    }
}

/* The other host: answers a datagram that begins with 0 with the source address that it saw, any
 * other with "stream N", every 5 ms for ever, whatever becomes of them. */
static void other_host(int ready, int go)
{
    char c = 'r', text[INET_ADDRSTRLEN], buf[64];
    struct stream streams[8];
    unsigned count = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when an assertion ends the test early */
    if (unshare(CLONE_NEWNET) != 0 || write(ready, &c, 1) != 1 || read(go, &c, 1) != 1 ||
        system("ip addr add 10.1.0.2/24 dev v1 && ip link set v1 up") != 0) {
        _exit(1);
    }
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(7)};
    socklen_t len = sizeof(sa);
    struct pollfd pfd = {fd, POLLIN, 0};
    if (bind(fd, (const struct sockaddr *)&sa, len) != 0 || write(ready, &c, 1) != 1) {
        _exit(2);
    }
    for (;;) {
        if (poll(&pfd, 1, 5) != 1) {
            send_streams(fd, streams, count);
        } else if (recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&sa, &len) < 1) {
            _exit(3);
        } else if (buf[0] != 0 && count < MVPN_ARRAY_LEN(streams)) {
            streams[count].to = sa;
            (void)snprintf(streams[count].text, sizeof(streams[count].text), "stream %d", buf[0]);
            count++;
        } else {
            (void)inet_ntop(AF_INET, &sa.sin_addr, text, sizeof(text));
            (void)sendto(fd, text, strlen(text), 0, (const struct sockaddr *)&sa, len);
        }
    }
}

/* An IPv4 datagram of 4 bytes; UDP without checksum, which IPv4 allows. */
static void push_datagram(mvpn_packet_queue *queue, mvpn_packet_pool *pool, const char *from,
                          uint16_t port, const char *to, uint8_t tag)
{
    mvpn_packet *p = mvpn_packet_new(pool);
    uint8_t *d = mvpn_packet_append(p, 32);
    uint32_t sum = 0;
    memset(d, 0, 32);
    d[0] = 0x45;
    d[3] = 32;
    d[8] = 64;
    d[9] = IPPROTO_UDP;
    assert_int_equal(inet_pton(AF_INET, from, d + 12), 1);
    assert_int_equal(inet_pton(AF_INET, to, d + 16), 1);
    for (size_t i = 0; i < 20; i += 2) {
        sum += mvpn_load16(d + i);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    mvpn_store16(d + 10, (uint16_t) ~(sum + (sum >> 16)));
    mvpn_store16(d + 20, port);
    mvpn_store16(d + 22, 7);
    mvpn_store16(d + 24, 12);
    d[28] = tag;
    mvpn_packet_queue_push(queue, p);
}

/* The next datagram's payload out of the TUN; NULL if there is none within `ms`. */
static const char *next_datagram(mvpn_tun *tun, mvpn_packet_pool *pool, int ms)
{
    static char text[64];
    mvpn_packet_queue queue;
    struct pollfd pfd = {mvpn_tun_fd(tun), POLLIN, 0};
    const char *found = NULL;
    mvpn_packet_queue_init(&queue);
    while (found == NULL && poll(&pfd, 1, ms) == 1) {
        assert_true(mvpn_tun_read(tun, pool, &queue, 1) >= 0);
        mvpn_packet *p;
        while ((p = mvpn_packet_queue_pop(&queue)) != NULL) {
            if (p->data[0] == 0x45 && p->data[9] == IPPROTO_UDP && p->len > 28 &&
                p->len < 28 + sizeof(text)) {
                memcpy(text, p->data + 28, p->len - 28);
                text[p->len - 28] = '\0';
                found = text;
            }
            mvpn_packet_free(pool, p);
        }
    }
    return found;
}

/*
 * The next session of an address hears nothing of what the last one's peers go on sending, also if
 * it speaks to the same peer from the same port.
 */
static void next_session_hears_nothing(mvpn_tun *tun, mvpn_packet_pool *pool)
{
    const mvpn_addr released = address("10.99.0.5");
    mvpn_packet_queue queue;
    mvpn_conntrack *ct = NULL;
    mvpn_fault fault = {{0}};
    unsigned count = 0;
    mvpn_packet_queue_init(&queue);
    push_datagram(&queue, pool, "10.99.0.5", 5555, "10.1.0.2", 1);
    push_datagram(&queue, pool, "10.99.0.5", 5556, "10.1.0.2", 1);
    assert_int_equal(mvpn_tun_write(tun, &queue, pool), 0);
    for (unsigned i = 0; i < 20; i++) {
        const char *got = next_datagram(tun, pool, 3000);
        assert_non_null(got);
        assert_string_equal(got, "stream 1");
    }
    assert_int_equal(mvpn_conntrack_open(&ct, &fault), 0);
    assert_int_equal(mvpn_conntrack_delete(ct, &released, 1, &count, &fault), 0);
    assert_int_equal(count, 2);
    mvpn_conntrack_close(ct);
    for (unsigned i = 0; i < 1000 && next_datagram(tun, pool, 0) != NULL; i++) {
    }
    assert_null(next_datagram(tun, pool, 200));

    push_datagram(&queue, pool, "10.99.0.5", 5555, "10.1.0.2", 2);
    push_datagram(&queue, pool, "10.99.0.5", 6666, "10.1.0.2", 2);
    assert_int_equal(mvpn_tun_write(tun, &queue, pool), 0);
    for (unsigned i = 0; i < 100; i++) {
        const char *got = next_datagram(tun, pool, 3000);
        assert_non_null(got);
        assert_string_equal(got, "stream 2");
    }
}

static void test_exit_traffic(void **state)
{
    (void)state;
    mvpn_packet_pool pool;
    mvpn_packet_queue queue;
    mvpn_netlink *nl = NULL;
    mvpn_tun *tun = NULL;
    mvpn_fault fault = {{0}};
    uint32_t index = 0;
    int ready[2], go[2], status = 0;
    char c = 'g', command[64];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    (void)fflush(NULL);
    pid_t host = fork();
    if (host == 0) {
        other_host(ready[1], go[0]);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    (void)snprintf(command, sizeof(command), "ip link set v1 netns %d", (int)host);
    run(command);
    run("ip addr flush dev v0 && ip addr add 10.1.0.1/24 dev v0");
    assert_int_equal(write(go[1], &c, 1), 1);
    assert_int_equal(read(ready[0], &c, 1), 1);

    const mvpn_prefix inner = prefix("10.99.0.1/16");
    assert_int_equal(mvpn_packet_pool_init(&pool, 64), 0);
    mvpn_packet_queue_init(&queue);
    assert_int_equal(mvpn_tun_open(&tun, &(mvpn_tun_options){.name = "exit0"}, &fault), 0);
    assert_int_equal(mvpn_netlink_open(&nl, &fault), 0);
    assert_int_equal(mvpn_netlink_index(nl, "exit0", &index, &fault), 0);
    assert_int_equal(mvpn_netlink_link_up(nl, index, 1420, &fault), 0);
    assert_int_equal(mvpn_netlink_addr_add(nl, index, &inner, &fault), 0);
    mvpn_nat_options options = nat_options();
    options.tun_name = "exit0";
    assert_int_equal(mvpn_nat_setup(&options, &fault), 0);

    push_datagram(&queue, &pool, "10.99.0.5", 5555, "10.1.0.2", 0);
    assert_int_equal(mvpn_tun_write(tun, &queue, &pool), 0);
    const char *seen = next_datagram(tun, &pool, 3000);
    assert_non_null(seen);
    assert_string_equal(seen, "10.1.0.1"); /* the other host saw the exit's address */

    push_datagram(&queue, &pool, "10.99.0.5", 5555, "10.99.0.6", 0); /* one session to another */
    push_datagram(&queue, &pool, "10.98.0.5", 5555, "10.1.0.2", 0); /* not an address of the pool */
    assert_int_equal(mvpn_tun_write(tun, &queue, &pool), 0);
    assert_null(next_datagram(tun, &pool, 200));
    next_session_hears_nothing(tun, &pool);

    assert_int_equal(mvpn_nat_remove("test", run_dir, &fault), 0);
    mvpn_tun_close(tun);
    mvpn_netlink_close(nl);
    assert_int_equal(pool.free_count, 64);
    mvpn_packet_pool_done(&pool);
    assert_int_equal(kill(host, SIGKILL), 0);
    assert_int_equal(waitpid(host, &status, 0), host);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(ready[i]);
        (void)close(go[i]);
    }
}

struct watched {
    mvpn_netlink *nl;
    int fd;
    mvpn_addrwatch_network network;
};

/* Waits for the kernel's word, at most for 3 s: it tells of carriers up to one second late. */
static enum mvpn_addrwatch_word hear(const struct watched *w)
{
    struct pollfd pfd = {w->fd, POLLIN, 0};
    return poll(&pfd, 1, 3000) == 1 ? mvpn_addrwatch_read(w->fd) : MVPN_ADDRWATCH_NOTHING;
}

/* After a command: the network is soon another one, and the kernel said so. */
static void expect_change(struct watched *w, const char *command, size_t count, bool has_way)
{
    mvpn_addrwatch_network is;
    run(command);
    for (unsigned tries = 0;; tries++) {
        if (tries == 20 || hear(w) == MVPN_ADDRWATCH_NOTHING) {
            fail_msg("%s: nothing was told that changed anything", command);
        }
        assert_int_equal(mvpn_addrwatch_look(w->nl, "t0", 0x4d56, &is), 0);
        if (!mvpn_addrwatch_same(&is, &w->network) && is.count == count &&
            (is.way[0].index != 0) == has_way) {
            break;
        }
    }
    w->network = is;
}

/* After a command: whatever was said, all is as it was. */
static void expect_same(struct watched *w, const char *command)
{
    mvpn_addrwatch_network is;
    run(command);
    assert_int_not_equal(mvpn_addrwatch_read(w->fd), MVPN_ADDRWATCH_GONE);
    assert_int_equal(mvpn_addrwatch_look(w->nl, "t0", 0x4d56, &is), 0);
    assert_true(mvpn_addrwatch_same(&is, &w->network));
}

static void test_network_is_watched(void **state)
{
    (void)state;
    mvpn_fault fault;
    struct watched w = {.fd = mvpn_addrwatch_open()};
    assert_true(w.fd >= 0);
    assert_int_equal(mvpn_addrwatch_read(w.fd), MVPN_ADDRWATCH_NOTHING);
    assert_int_equal(mvpn_netlink_open(&w.nl, &fault), 0);
    assert_int_equal(mvpn_addrwatch_look(w.nl, "t0", 0x4d56, &w.network), 0);
    assert_int_equal(w.network.count, 0);
    assert_int_equal(w.network.way[0].index, 0);

    expect_change(&w, "ip addr add 192.0.2.1/24 dev v0", 1, false);
    expect_change(&w, "ip route add default via 192.0.2.254 dev v0", 1, true);
    expect_change(&w, "ip route replace default via 192.0.2.253 dev v0", 1, true);
    assert_int_equal(w.network.way[0].gateway.ip[3], 253);
    expect_same(&w, "ip addr replace 192.0.2.1/24 dev v0 && ip route replace default via "
                    "192.0.2.253 dev v0");
    /* What the client does itself. */
    expect_same(&w, "ip link set t0 up && ip addr add 10.8.0.2/24 dev t0 && ip route add default "
                    "dev t0 table 51820 && ip rule add not fwmark 0x4d56 table 51820");
    expect_same(&w, "ip rule del not fwmark 0x4d56 table 51820 && ip link set t0 down");
    run("ip addr flush dev t0");
    assert_int_equal(hear(&w), MVPN_ADDRWATCH_GONE);
    /* The address stays, and so does the route: but the cable is out. */
    expect_change(&w, "ip link set v1 down", 0, true);
    expect_change(&w, "ip link set v1 up", 1, true);
    expect_change(&w, "ip link set v0 down", 0, false);
    expect_change(&w, "ip link set v0 up", 1, false);
    expect_change(&w, "ip route add default via 192.0.2.254 dev v0", 1, true);
    expect_change(&w, "ip route del default", 1, false);
    /* Gone and back: as good as another. */
    run("ip addr del 192.0.2.1/24 dev v0 && ip addr add 192.0.2.1/24 dev v0");
    assert_int_equal(hear(&w), MVPN_ADDRWATCH_GONE);
    expect_change(&w, "ip addr del 192.0.2.1/24 dev v0", 0, false);
    mvpn_netlink_close(w.nl);
    (void)close(w.fd);
}

/* As fast as it can, until it is told to end: how many left? */
static int flood(const int *stop)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x0b0b0002)};
    struct pollfd p = {.fd = *stop, .events = POLLIN};
    int left = 0, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    do {
        for (int i = 0; i < 64; i++) {
            left += sendto(fd, "x", 1, 0, (const struct sockaddr *)&to, sizeof(to)) >= 0;
        }
    } while (poll(&p, 1, 0) == 0);
    return MVPN_MIN(left, 255);
}

/* One table takes another's place: nothing that both drop leaves in between. */
static void test_no_packet_between_states(void **state)
{
    static const mvpn_protect_setup setup = {
        .lockdown = true, .mark = 0x4d56, .tun_name = "mvpn-test"};
    mvpn_fault fault = {.text = ""};
    mvpn_packet_filter *ks = NULL;
    int stop[2], status = 0;
    (void)state;
    run("ip link add ks0 type veth peer name ks1 && ip link set ks1 up && ip link set ks0 up && "
        "ip addr add 11.11.0.1/24 dev ks0");
    assert_int_equal(mvpn_kill_switch_open(&ks, &fault), 0);
    assert_int_equal(mvpn_kill_switch_set(ks, &setup, MVPN_PROTECT_ERROR, &fault), 0);
    assert_int_equal(pipe(stop), 0);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(flood(&stop[0]));
    }
    for (unsigned i = 0; i < 2000; i++) {
        enum mvpn_protect_state s = i % 2 == 0 ? MVPN_PROTECT_CONNECTED : MVPN_PROTECT_ERROR;
        assert_int_equal(mvpn_kill_switch_set(ks, &setup, s, &fault), 0);
    }
    assert_int_equal(write(stop[1], "x", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    mvpn_packet_filter_close(ks);
    (void)close(stop[0]);
    (void)close(stop[1]);
    run("nft delete table inet meshvpn_guard; nft delete table arp meshvpn_guard; ip link del ks0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_is_watched),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_client_routing),
        cmocka_unit_test(test_clash),
        cmocka_unit_test(test_nat),
        cmocka_unit_test(test_nat_after_crash),
        cmocka_unit_test(test_nat_names),
        cmocka_unit_test(test_conntrack),
        cmocka_unit_test(test_sessions_end_together),
        cmocka_unit_test(test_sessions_end_at_the_end),
        cmocka_unit_test(test_exit_traffic),
        cmocka_unit_test(test_no_packet_between_states),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
