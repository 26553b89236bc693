/* What doctor makes of facts: a row for every verdict that there is, with the command it names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "bin/doctor_checks.h"

#define GOOD DOCTOR_GOOD
#define BROKEN DOCTOR_BROKEN
#define UNSURE DOCTOR_UNSURE

static doctor_verdict verdicts[DOCTOR_CHECKS_MAX];

/* A client's host, as root, on which all is well and the client is connected. */
static void begin(doctor_facts *f)
{
    *f = (doctor_facts){
        .is_root = true,
        .person = "ann",
        .role = DOCTOR_CLIENT,
        .kind = "client",
        .program = "meshvpn-client",
        .unit = "meshvpn.service",
        .config_file = "/etc/meshvpn/client.conf",
        .has_config = true,
        .is_config_good = true,
        .is_network_there = true,
        .is_network_good = true,
        .network_file = "/etc/meshvpn/network.conf",
        .network_name = "lab",
        .network_entries = 2,
        .routes_all = true,
        .kill_switch = true,
        .has_net_admin = DOCTOR_YES,
        .has_user = true,
        .has_group = true,
        .is_in_group = true,
        .landlock_abi = 3,
        .has_seccomp = true,
        .has_gso = true,
        .has_gro = true,
        .memlock_bytes = UINT64_MAX,
        .host = {.has_routing = true,
                 .tunnel_count = 1,
                 .tunnels = {{.name = "mvpn0",
                              .index = 7,
                              .is_up = true,
                              .table_count = 1,
                              .tables = {19798}}},
                 .rule_count = 2,
                 .rules = {{4, 32000, 254, true}, {4, 32001, 19798, false}},
                 .has_refusal = true,
                 .has_filter = true,
                 .has_table = true},
        .tun_name = "mvpn0",
        .has_own_tun = DOCTOR_YES,
        .table = 19798,
        .resolver = DOCTOR_RESOLV_RESOLVED,
        .name_servers = 1,
        .is_clock_kept = DOCTOR_YES,
        .daemon = DOCTOR_DAEMON_ANSWERS,
        .control_socket = "/run/meshvpn/control.sock",
        .daemon_state = "connected",
        .state_dir = "/var/lib/meshvpn",
        .has_state_dir = true,
        .is_state_dir_writable = DOCTOR_YES,
        .has_space = DOCTOR_YES,
        .free_bytes = 1 << 30,
        .has_systemd = true,
        .has_unit = true,
        .is_unit_enabled = true,
    };
}

/* Nothing of a client is left here, and none runs. */
static void stop(doctor_facts *f)
{
    f->daemon = DOCTOR_DAEMON_NONE;
    f->host.tunnel_count = f->host.rule_count = 0;
    f->host.has_refusal = f->host.has_table = false;
    f->has_own_tun = DOCTOR_NO;
}

static void become_relay(doctor_facts *f)
{
    stop(f);
    f->role = DOCTOR_RELAY;
    (void)strcpy(f->kind, "relay");
    (void)strcpy(f->program, "meshvpn-relay");
    (void)strcpy(f->unit, "meshvpn-relay.service");
    (void)strcpy(f->config_file, "/etc/meshvpn/relay.conf");
}

static void add_tunnel(doctor_facts *f, const char *name, uint32_t table)
{
    mvpn_host_tunnel *t = &f->host.tunnels[f->host.tunnel_count++];
    *t = (mvpn_host_tunnel){.index = 9, .is_up = true, .table_count = 1, .tables = {table}};
    (void)strcpy(t->name, name);
}

static void add_rule(doctor_facts *f, uint32_t priority, uint32_t table)
{
    f->host.rules[f->host.rule_count++] = (mvpn_host_rule){4, priority, table, false};
}

static const doctor_verdict *find(const char *name, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(verdicts[i].name, name) == 0) {
            return &verdicts[i];
        }
    }
    fail_msg("there is no check %s", name);
    return NULL;
}

#define ROW(check_, mark_, text_, repair_, ...)                                                    \
    do {                                                                                           \
        doctor_facts f_, *f = &f_;                                                                 \
        begin(f);                                                                                  \
        __VA_ARGS__;                                                                               \
        const doctor_verdict *v = find(check_, doctor_judge(f, verdicts));                         \
        if (v->mark != (mark_) || strstr(v->text, text_) == NULL ||                                \
            strcmp(v->repair, repair_) != 0) {                                                     \
            fail_msg("line %d: %s: %s: '%s' > '%s'", __LINE__, v->name, doctor_mark_name(v->mark), \
                     v->text, v->repair);                                                          \
        }                                                                                          \
    } while (0)

static void test_all_is_well(void **state)
{
    doctor_facts f;
    begin(&f);
    (void)state;
    unsigned count = doctor_judge(&f, verdicts);
    for (unsigned i = 0; i < count; i++) {
        if (verdicts[i].mark != GOOD || verdicts[i].text[0] == '\0' ||
            verdicts[i].repair[0] != '\0') {
            fail_msg("%s: %s", verdicts[i].name, verdicts[i].text);
        }
    }
    become_relay(&f);
    f.daemon = DOCTOR_DAEMON_ANSWERS;
    assert_int_equal(doctor_count(verdicts, doctor_judge(&f, verdicts), GOOD), count);
}

static void test_configuration(void **state)
{
    (void)state;
    ROW("configuration", BROKEN, "client.conf is missing", "sudo meshvpn join LINK",
        f->has_config = f->is_config_good = false);
    ROW("configuration", BROKEN, "F:3: unknown key", "sudoedit /etc/meshvpn/client.conf",
        f->is_config_good = false;
        (void)strcpy(f->config_fault, "F:3: unknown key 'hopps'"));
    ROW("network", UNSURE, "which network file", "", f->network_file[0] = '\0');
    ROW("network", BROKEN, "network.conf is missing", "sudo meshvpn join LINK",
        f->is_network_there = f->is_network_good = false);
    ROW("network", BROKEN, "damaged", "sudo meshvpn join --force LINK", f->is_network_good = false;
        (void)strcpy(f->network_fault, "N: damaged"));
    ROW("network", UNSURE, "others may not", "sudo meshvpn doctor", f->is_network_good = false;
        f->is_root = false; (void)strcpy(f->network_fault, "N: others may not read it"));
    ROW("network", BROKEN, "nobody to begin with whose time is not over",
        "sudo meshvpn join --force LINK", f->network_entries = 0;
        f->network_expired = 1);
    ROW("network", UNSURE, "3 of its relays are outside their time",
        "meshvpn-bootstrap renew DIR NODE", f->network_expired = 3);
    ROW("network", GOOD, "network \"lab\", 7 ways", "", f->network_relays = 5);
}

static void test_rights(void **state)
{
    (void)state;
    ROW("tun", BROKEN, "/dev/net/tun is missing", "sudo modprobe tun", f->tun_errno = ENOENT);
    ROW("tun", BROKEN, "no TUN devices", "sudo modprobe tun", f->tun_errno = ENODEV);
    ROW("tun", BROKEN, "container", "meshvpn proxy", f->tun_errno = EPERM);
    ROW("tun", BROKEN, "container", "meshvpn proxy", f->tun_errno = EACCES);
    ROW("tun", UNSURE, "for root alone", "sudo meshvpn doctor", f->tun_errno = EACCES;
        f->is_root = false);
    ROW("tun", GOOD, "needs none", "", become_relay(f); f->tun_errno = ENOENT);
    ROW("rights", UNSURE, "not root", "sudo meshvpn doctor", f->is_root = false);
    ROW("rights", BROKEN, "CAP_NET_ADMIN", "meshvpn proxy", f->has_net_admin = DOCTOR_NO);
    ROW("rights", GOOD, "needs none", "", become_relay(f); f->is_root = false);
    ROW("user", UNSURE, "no user meshvpn",
        "sudo useradd --system --user-group --no-create-home --shell /usr/sbin/nologin meshvpn",
        f->has_user = f->has_group = false);
    ROW("user", UNSURE, "no group meshvpn", "sudo groupadd --system meshvpn", f->has_group = false);
    ROW("user", UNSURE, "not in the group", "sudo usermod -aG meshvpn ann", f->is_in_group = false;
        f->is_root = false);
    ROW("user", GOOD, "are there", "", f->is_in_group = false);
}

static void test_other_vpns(void **state)
{
    (void)state;
    ROW("vpn", UNSURE, "cannot be read", "", f->host.has_routing = false);
    ROW("vpn", BROKEN, "before MeshVPN: wg0, by the policy rule of priority 31996",
        "sudo ip link set wg0 down", add_tunnel(f, "wg0", 51820);
        add_rule(f, 31996, 51820));
    ROW("vpn", UNSURE, "would run inside wg0", "sudo ip link set wg0 down",
        add_tunnel(f, "wg0", 51820);
        add_rule(f, 32764, 51820));
    ROW("vpn", UNSURE, "would run inside tun0", "sudo ip link set tun0 down",
        add_tunnel(f, "tun0", 254));
    ROW("vpn", GOOD, "no other VPN", "", add_tunnel(f, "tun0", 254);
        f->host.tunnels[1].is_up = false);
    ROW("vpn", GOOD, "no other VPN", "", add_tunnel(f, "tun0", 254);
        f->host.tunnels[1].table_count = 0);
    ROW("vpn", UNSURE, "priority 100, table 77", "ip rule show", add_rule(f, 100, 77));
    ROW("vpn", GOOD, "no other VPN", "", add_rule(f, 100, 77);
        f->host.rules[2].only_specific = true);
    ROW("vpn", GOOD, "no other VPN", "", add_rule(f, 32500, 77));
    ROW("vpn", GOOD, "no other VPN", "", f->host.rules[0].priority = 31998);
    ROW("answers", BROKEN, "dropped at eth0", "sudo sysctl net.ipv4.conf.all.rp_filter=2",
        memcpy(f->strict_interface, "eth0", sizeof("eth0")));
    ROW("answers", GOOD, "the client sees to that", "",
        memcpy(f->strict_interface, "eth0", sizeof("eth0"));
        f->daemon = DOCTOR_DAEMON_NONE);
    ROW("answers", GOOD, "any way", "", memcpy(f->strict_interface, "eth0", sizeof("eth0"));
        f->routes_all = false);
    ROW("answers", GOOD, "any way", "", memcpy(f->strict_interface, "eth0", sizeof("eth0"));
        become_relay(f));
}

static void test_names_and_clock(void **state)
{
    (void)state;
    ROW("resolver", GOOD, "systemd-resolved", "", (void)f);
    ROW("resolver", GOOD, "plain file, 2 name servers", "", f->resolver = DOCTOR_RESOLV_FILE;
        f->name_servers = 2);
    ROW("resolver", GOOD, "resolvconf", "", f->resolver = DOCTOR_RESOLV_RESOLVCONF);
    ROW("resolver", GOOD, "NetworkManager", "", f->resolver = DOCTOR_RESOLV_NETWORK_MANAGER);
    ROW("resolver", UNSURE, "resolv.conf is missing", "cat /etc/resolv.conf",
        f->resolver = DOCTOR_RESOLV_MISSING);
    ROW("resolver", UNSURE, "names none", "cat /etc/resolv.conf", f->name_servers = 0);
    ROW("resolver", GOOD, "asks through the tunnel", "", f->names_our_resolver = true);
    ROW("resolver", BROKEN, "left its own name server", "sudo meshvpn-client --cleanup", stop(f);
        f->names_our_resolver = true);
    ROW("resolver", BROKEN, "left its own name server", "sudo meshvpn-client --cleanup", stop(f);
        f->has_resolver_backup = true);
    ROW("clock", BROKEN, "400 s slow", "sudo timedatectl set-ntp true",
        f->is_clock_kept = DOCTOR_NO;
        f->has_clock_offset = true; f->clock_offset_s = 400);
    ROW("clock", BROKEN, "400 s fast", "sudo date -s '-400 seconds'", f->is_clock_kept = DOCTOR_NO;
        f->has_clock_offset = true; f->clock_offset_s = -400; f->has_systemd = false);
    ROW("clock", GOOD, "was right", "", f->is_clock_kept = DOCTOR_NO; f->has_clock_offset = true;
        f->clock_offset_s = 300);
    ROW("clock", GOOD, "kept by", "", f->has_clock_offset = true; f->clock_offset_s = 4000);
    ROW("clock", UNSURE, "compared with nobody", "date -u", f->is_clock_kept = DOCTOR_NO;
        f->has_systemd = false);
}

static void drop_by(doctor_facts *f, bool is_output)
{
    f->host.chain_count = 1;
    f->host.chains[0] = (mvpn_host_chain){"firewalld", "base", is_output};
}

static void test_firewall(void **state)
{
    (void)state;
    ROW("firewall", UNSURE, "to root alone", "sudo meshvpn doctor", f->host.has_filter = false;
        f->host.filter_errno = EPERM);
    ROW("firewall", BROKEN, "no nf_tables", "sudo modprobe nf_tables", f->host.has_filter = false;
        f->host.filter_errno = EOPNOTSUPP);
    ROW("firewall", UNSURE, "no nf_tables", "sudo modprobe nf_tables", f->host.has_filter = false;
        f->host.filter_errno = EOPNOTSUPP; f->kill_switch = false);
    ROW("firewall", UNSURE, "chain base of table firewalld drops what no rule of it lets out",
        "sudo nft list ruleset", drop_by(f, true));
    ROW("firewall", GOOD, "no other table", "", drop_by(f, false));
    ROW("firewall", UNSURE, "lets in", "sudo nft list ruleset", become_relay(f); drop_by(f, false));
}

static void test_leftovers(void **state)
{
    (void)state;
    ROW("leftovers", GOOD, "nothing is left over", "", stop(f));
    ROW("leftovers", BROKEN, "one that fell has left the kill switch",
        "sudo meshvpn-client --cleanup", stop(f);
        f->host.has_table = true);
    ROW("leftovers", UNSURE, "lockdown", "sudo meshvpn up", stop(f);
        f->host.has_table = f->lockdown = true);
    ROW("leftovers", BROKEN, "nothing of inside_* leaves", "sudo meshvpn-client --cleanup", stop(f);
        f->host.has_table = f->is_part = true);
    ROW("leftovers", BROKEN, "one that fell has left policy rules", "sudo meshvpn-client --cleanup",
        stop(f);
        add_rule(f, 32001, 19798));
    ROW("leftovers", BROKEN, "one that fell has left routes", "sudo meshvpn-client --cleanup",
        stop(f);
        f->host.has_refusal = true);
    ROW("leftovers", BROKEN, "the TUN device", "sudo meshvpn-client --cleanup", stop(f);
        f->has_own_tun = DOCTOR_YES);
    ROW("leftovers", GOOD, "nothing", "", stop(f); add_rule(f, 32001, 77));
    ROW("leftovers", UNSURE, "cannot be seen", "", stop(f); f->host.has_filter = false);
    ROW("leftovers", GOOD, "nothing", "", f->daemon = DOCTOR_DAEMON_DENIED);
    ROW("leftovers", BROKEN, "the kill switch", "sudo meshvpn-client --cleanup",
        f->daemon = DOCTOR_DAEMON_DEAD);
}

static void test_kernel(void **state)
{
    (void)state;
    ROW("sandbox", BROKEN, "no seccomp", "sudo meshvpn config set client sandbox off",
        f->has_seccomp = false);
    ROW("sandbox", UNSURE, "no landlock", "cat /sys/kernel/security/lsm", f->landlock_abi = 0);
    ROW("memory", UNSURE, "only 8 KiB", "ulimit -l 64", f->memlock_bytes = 8192);
    ROW("memory", GOOD, "out of swap", "", f->memlock_bytes = DOCTOR_MEMLOCK_MIN);
    ROW("udp", UNSURE, "no UDP GSO and GRO", "", f->has_gso = f->has_gro = false);
    ROW("udp", UNSURE, "no UDP GRO", "", f->has_gro = false);
    ROW("udp", UNSURE, "no UDP GSO", "", f->has_gso = false);
}

static void test_ours(void **state)
{
    (void)state;
    ROW("ports", BROKEN, "UDP port 443, which meshvpn-relay wants", "sudo ss -ulpn sport = :443",
        become_relay(f);
        f->taken_port = 443);
    ROW("state", GOOD, "is made at the first start", "", f->has_state_dir = false);
    ROW("state", BROKEN, "cannot be written", "sudo chown -R meshvpn: /var/lib/meshvpn",
        f->is_state_dir_writable = DOCTOR_NO);
    ROW("state", UNSURE, "without root", "sudo meshvpn doctor",
        f->is_state_dir_writable = DOCTOR_UNSEEN);
    ROW("disk", BROKEN, "has 1024 KiB left", "df -h /var/lib/meshvpn", f->has_space = DOCTOR_NO;
        f->free_bytes = 1 << 20);
    ROW("disk", UNSURE, "cannot be asked", "", f->has_space = DOCTOR_UNSEEN);
    ROW("unit", GOOD, "no systemd", "", f->has_systemd = f->has_unit = false);
    ROW("unit", UNSURE, "does not know meshvpn.service", "sudo apt-get install meshvpn",
        f->has_unit = false);
    ROW("unit", UNSURE, "does not know", "sudo apt-get install meshvpn-relay", become_relay(f);
        f->has_unit = false);
    ROW("unit", UNSURE, "not started at boot", "sudo systemctl enable meshvpn.service",
        f->is_unit_enabled = false);
    ROW("unit", BROKEN, "does not hold from boot on",
        "sudo systemctl enable meshvpn-lockdown.service", f->lockdown = true);
    ROW("unit", GOOD, "started at boot", "", f->lockdown = f->is_lockdown_enabled = true);
    ROW("daemon", GOOD, "meshvpn-client runs: connected", "", (void)f);
    ROW("daemon", UNSURE, "may not ask", "sudo meshvpn doctor", f->daemon = DOCTOR_DAEMON_DENIED);
    ROW("daemon", BROKEN, "does not answer", "sudo systemctl restart meshvpn.service",
        f->daemon = DOCTOR_DAEMON_STUCK);
    ROW("daemon", BROKEN, "does not answer", "sudo meshvpn log", f->daemon = DOCTOR_DAEMON_STUCK;
        f->has_systemd = false);
    ROW("daemon", BROKEN, "fell", "sudo meshvpn up", f->daemon = DOCTOR_DAEMON_DEAD);
    ROW("daemon", UNSURE, "does not run", "sudo meshvpn up", stop(f));
    ROW("daemon", UNSURE, "does not run", "sudo systemctl start meshvpn-relay.service",
        become_relay(f));
    ROW("daemon", UNSURE, "does not run", "sudo meshvpn-relay --config /etc/meshvpn/relay.conf",
        become_relay(f);
        f->has_systemd = false);
}

/* Facts of nothing at all: no check may rely on another. */
static void test_nothing_seen(void **state)
{
    static const doctor_facts nothing;
    (void)state;
    unsigned count = doctor_judge(&nothing, verdicts);
    for (unsigned i = 0; i < count; i++) {
        assert_true(verdicts[i].text[0] != '\0');
    }
    json_t *object = doctor_json(verdicts, count);
    assert_int_equal(json_array_size(json_object_get(object, "checks")), count);
    assert_true(json_is_false(json_object_get(object, "is_fine")));
    assert_int_equal(json_integer_value(json_object_get(object, "broken")),
                     doctor_count(verdicts, count, BROKEN));
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_well),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_other_vpns),
        cmocka_unit_test(test_names_and_clock),
        cmocka_unit_test(test_firewall),
        cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_kernel),
        cmocka_unit_test(test_ours),
        cmocka_unit_test(test_nothing_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
