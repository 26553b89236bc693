/*
 * Configuration: defaults, each key, and what is said about mistakes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "base/error.h"
#include "io/config.h"
#include "io/file.h"
#include "io/geoip.h"

static mvpn_config config;
static mvpn_fault fault;

static int parse(enum mvpn_config_kind kind, const char *text)
{
    fault.text[0] = '\0';
    return mvpn_config_parse("/etc/x/test.conf", text, strlen(text), kind, &config, &fault);
}

static void expect(enum mvpn_config_kind kind, const char *text)
{
    if (parse(kind, text) != 0) {
        fail_msg("%s", fault.text);
    }
}

static const char *listen_text(unsigned i)
{
    static char text[MVPN_ADDR_STRLEN];
    return mvpn_addr_format(&config.listen[i], text);
}

static void test_defaults(void **state)
{
    (void)state;
    expect(MVPN_CONFIG_RELAY, "");
    assert_string_equal(config.network_file, "/etc/meshvpn/network.conf");
    assert_string_equal(config.key_dir, "/etc/meshvpn");
    assert_string_equal(config.run_dir, "/run/meshvpn");
    assert_string_equal(config.state_dir, "/var/lib/meshvpn");
    assert_string_equal(config.control_socket, "/run/meshvpn/control.sock");
    assert_int_equal(config.listen_count, 1);
    assert_string_equal(listen_text(0), "0.0.0.0:443");
    assert_int_equal(config.log_level, MVPN_LOG_INFO);
    assert_int_equal(config.relay.address_count, 0);

    expect(MVPN_CONFIG_EXIT, "# nothing\n");
    assert_string_equal(config.exit.tun_name, "mvpnexit0");
    assert_int_equal(config.exit.pool_v4.bits, 16);
    assert_int_equal(config.exit.pool_v4.addr.ip[1], 64);
    assert_int_equal(config.exit.pool_v6.bits, 64);
    mvpn_prefix v6;
    assert_int_equal(mvpn_prefix_parse("fd6d:7670:e::/64", &v6), 0);
    assert_memory_equal(config.exit.pool_v6.addr.ip, v6.addr.ip, 16);
    assert_string_equal(config.exit.policy, "");
    assert_int_equal(config.exit.ipv6, MVPN_IPV6_AUTO);
    assert_true(config.exit.dns_is_from_system);

    expect(MVPN_CONFIG_CLIENT, "");
    assert_int_equal(config.listen_count, 2);
    assert_string_equal(config.client.tun_name, "mvpn0");
    assert_int_equal(config.client.hops, 3);
    assert_int_equal(config.client.path_count, 0);
    assert_int_equal(config.client.size_policy, MVPN_SIZE_CLASSES);
    assert_int_equal(config.client.rotate_mb, 1024);
    assert_int_equal(config.client.rotate_pause_s, 30);
    assert_int_equal(config.client.renew_minutes, 60);
    assert_int_equal(config.client.exit_lifetime_minutes, 480);
    assert_true(config.client.routes_all);
    assert_int_equal(config.client.mark, 0x4d56);
    assert_int_equal(config.client.table, 19798);
    assert_int_equal(config.client.dns, MVPN_DNS_AUTO);
}

/* Identities of 32 equal bytes: 0x00, 0x10. */
#define A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define B "EBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBA="

static void test_all_keys(void **state)
{
    (void)state;
    expect(MVPN_CONFIG_EXIT,
           "network_file = net.conf\nkey_dir = \".\"\nrun_dir = /tmp/r\nstate_dir = st\n"
           "provider = \"Hoster 2\"\nfamily = {\"" B "\", \"" A "\"}\n"
           "control_socket = \"c.sock\"\nlog_level = debug\n"
           "listen = {\"0.0.0.0:4433\", \"[::]:4434\"}\nname = exit-1\n"
           "address = {\"11.0.0.1:4433\", \"[2a10::1]:4434\"}\nbandwidth_mbit = 1000\n"
           "relay_limit = 900\nlan_announce = true\nnat_relay = true\n"
           "stun_listen = {\"11.0.0.1\", \"[2a10::1]:99\", \"11.0.0.2\"}\nstun_strict = false\n"
           "port_mapping = true\n"
           "country = CH\ntun_name = tx0\npool_v4 = \"10.99.0.0/20\"\npool_v6 = \"fd01::/64\"\n"
           "dns_upstream = {\"9.9.9.9\", \"[2620:fe::fe]:5353\"}\n"
           "policy = {\"reject tcp * 6881-6999\",\n \"accept * *\"}\nipv6 = no\n");
    assert_string_equal(config.network_file, "/etc/x/net.conf");
    assert_string_equal(config.key_dir, "/etc/x/.");
    assert_string_equal(config.run_dir, "/tmp/r");
    assert_string_equal(config.state_dir, "/etc/x/st");
    assert_string_equal(config.relay.provider, "Hoster 2");
    assert_int_equal(config.relay.family_count, 2);
    assert_int_equal(config.relay.family[0].b[0], 0x00);
    assert_int_equal(config.relay.family[1].b[31], 0x10);
    assert_string_equal(config.control_socket, "/etc/x/c.sock");
    assert_int_equal(config.log_level, MVPN_LOG_DEBUG);
    assert_int_equal(config.listen_count, 2);
    assert_string_equal(listen_text(0), "0.0.0.0:4433");
    assert_string_equal(listen_text(1), "[::]:4434");
    assert_string_equal(config.relay.name, "exit-1");
    assert_int_equal(config.relay.address_count, 2);
    assert_int_equal(config.relay.addresses[1].port, 4434);
    assert_int_equal(config.relay.bandwidth_mbit, 1000);
    assert_int_equal(config.relay.limit_mbit, 900);
    assert_true(config.relay.lan_announce);
    assert_int_equal(config.relay.stun_count, 3);
    assert_int_equal(config.relay.stun_listen[0].port, 3478);
    assert_int_equal(config.relay.stun_listen[1].port, 99);
    assert_int_equal(config.relay.stun_listen[2].port, 3479);
    assert_false(config.relay.stun_strict);
    assert_true(config.relay.nat_relay);
    assert_true(config.relay.port_mapping);
    assert_string_equal(config.relay.country, "CH");
    assert_string_equal(config.exit.tun_name, "tx0");
    assert_int_equal(config.exit.pool_v4.bits, 20);
    assert_int_equal(config.exit.pool_v6.addr.ip[1], 1);
    assert_int_equal(config.exit.dns_count, 2);
    assert_int_equal(config.exit.dns_upstream[0].port, 53);
    assert_int_equal(config.exit.dns_upstream[1].port, 5353);
    assert_false(config.exit.dns_is_from_system);
    assert_string_equal(config.exit.policy, "reject tcp * 6881-6999\naccept * *\n");
    assert_int_equal(config.exit.ipv6, MVPN_IPV6_NO);

    assert_false(config.relay.behind_nat);
    expect(MVPN_CONFIG_RELAY, "behind_nat = true\nport_mapping = true\n");
    assert_true(config.relay.behind_nat && config.relay.port_mapping);

    expect(MVPN_CONFIG_CLIENT,
           "tun_name = t0\npath = {guard-1, \"exit-1\"}\nexit_country = JP\n"
           "size_policy = full\nroutes = none\nmark = 0x10\ntable = 77\ndns = resolved\n"
           "rotate_mb = 8\nrotate_pause_s = 7\nrenew_minutes = 3\nexit_lifetime_minutes = 4\n"
           "listen = {\"0.0.0.0:0\"}\noperators = {root}\n");
    assert_int_equal(config.client.operator_count, 1);
    assert_int_equal(config.client.operators[0].uid, 0);
    assert_string_equal(config.client.operators[0].name, "root");
    assert_string_equal(config.client.tun_name, "t0");
    assert_int_equal(config.client.path_count, 2);
    assert_int_equal(config.client.hops, 2);
    assert_string_equal(config.client.path[0], "guard-1");
    assert_string_equal(config.client.path[1], "exit-1");
    assert_int_equal(config.client.exit_countries.count, 1);
    assert_string_equal(config.client.exit_countries.code[0], "JP");
    assert_string_equal(config.client.geoip_dir, MVPN_GEOIP_DIR);
    assert_int_equal(config.client.size_policy, MVPN_SIZE_FULL);
    assert_int_equal(config.client.rotate_mb, 8);
    assert_int_equal(config.client.rotate_pause_s, 7);
    assert_int_equal(config.client.renew_minutes, 3);
    assert_int_equal(config.client.exit_lifetime_minutes, 4);
    assert_false(config.client.routes_all);
    assert_int_equal(config.client.mark, 16);
    assert_int_equal(config.client.table, 77);
    assert_int_equal(config.client.dns, MVPN_DNS_RESOLVED);
    assert_int_equal(config.listen_count, 1);
    expect(MVPN_CONFIG_DISCOVERY, "");
    assert_true(config.discovery.measure);
    assert_int_equal(config.discovery.http_listen.port, 8080);
    assert_int_equal(config.discovery.http_listen.ip[0], 127);
    expect(MVPN_CONFIG_DISCOVERY, "http_listen = \"[::1]:81\"\nmeasure = false\nname = a\n");
    assert_false(config.discovery.measure);
    assert_int_equal(config.discovery.http_listen.port, 81);
    expect(MVPN_CONFIG_BOOTSTRAP, "name = entry-1\naddress = {\"11.0.0.1:443\"}\n");
    assert_string_equal(config.relay.name, "entry-1");
    expect(MVPN_CONFIG_CLIENT, "hops = 5\n");
    assert_int_equal(config.client.hops, 5);
}

/* A pause would hide what a small rotate_mb asks for. */
static void test_rotation(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned mb, pause_s;
    } rows[] = {
        {"rotate_mb = 1\n", 1, 0},
        {"rotate_mb = 1023\n", 1023, 0},
        {"rotate_mb = 1024\n", 1024, 30},
        {"rotate_mb = 1000000\n", 1000000, 30},
        {"rotate_mb = 8\nrotate_pause_s = 30\n", 8, 30},
        {"rotate_pause_s = 0\n", 1024, 0},
        {"rotate_pause_s = 3600\n", 1024, 3600},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        expect(MVPN_CONFIG_CLIENT, rows[i].text);
        assert_int_equal(config.client.rotate_mb, rows[i].mb);
        assert_int_equal(config.client.rotate_pause_s, rows[i].pause_s);
    }
}

/* Whole texts: they are what a person gets. "F" stands for the file's name. */
static void test_faults(void **state)
{
    (void)state;
    static const struct {
        enum mvpn_config_kind kind;
        const char *text;
        const char *expected;
    } rows[] = {
        {MVPN_CONFIG_CLIENT, "hops = 3\nhosp = 4\n",
         "F:2: unknown key 'hosp'. Did you mean 'hops'?"},
        {MVPN_CONFIG_CLIENT, "\nnetwrk_file = x\n",
         "F:2: unknown key 'netwrk_file'. Did you mean 'network_file'?"},
        {MVPN_CONFIG_EXIT, "dns_upstrem = \"9.9.9.9\"\n",
         "F:1: unknown key 'dns_upstrem'. Did you mean 'dns_upstream'?"},
        {MVPN_CONFIG_CLIENT, "colour = red\n",
         "F:1: unknown key 'colour'. Remove it or mend its spelling"},
        {MVPN_CONFIG_RELAY, "hops = 3\n",
         "F:1: 'hops' is a key of the client's configuration. Remove the line"},
        {MVPN_CONFIG_RELAY, "family = {\"AAAA\"}\n",
         "F:1: family: 'AAAA' is not an identity (44 characters of base64). See them with "
         "meshvpn-bootstrap show"},
        {MVPN_CONFIG_RELAY, "family = {\"" A "\", \"" A "\"}\n",
         "F:1: family: an identity is named twice. Remove one of the two"},
        {MVPN_CONFIG_RELAY, "behind_nat = true\naddress = {\"11.0.0.1:443\"}\n",
         "F: behind_nat says that nobody reaches this node as it stands, but address is for nodes "
         "that others reach. Remove one of the two"},
        {MVPN_CONFIG_EXIT, "nat_relay = true\nbehind_nat = true\n",
         "F: behind_nat says that nobody reaches this node as it stands, but nat_relay is for "
         "nodes that others reach. Remove one of the two"},
        {MVPN_CONFIG_RELAY, "behind_nat = true\nstun_listen = {\"11.0.0.1\"}\n",
         "F: behind_nat says that nobody reaches this node as it stands, but stun_listen is for "
         "nodes that others reach. Remove one of the two"},
        {MVPN_CONFIG_RELAY, "behind_nat = true\nlan_announce = true\n",
         "F: behind_nat says that nobody reaches this node as it stands, but lan_announce is for "
         "nodes that others reach. Remove one of the two"},
        {MVPN_CONFIG_BOOTSTRAP, "behind_nat = true\n",
         "F:1: 'behind_nat' is a key of the relay's configuration. Remove the line"},
        {MVPN_CONFIG_RELAY, "provider = \"\"\n",
         "F:1: provider: 1 to 32 printable ASCII characters are expected"},
        {MVPN_CONFIG_DISCOVERY, "http_names = {\"a.example\", \"B.example\"}\n",
         "F:1: http_names: 'B.example' is no lower-case name without a port, such as "
         "relays.example.net"},
        {MVPN_CONFIG_DISCOVERY, "http_listen = \"8080\"\n",
         "F:1: http_listen: '8080' is not an address with a port. Write it as 127.0.0.1:8080 or "
         "[::1]:8080"},
        {MVPN_CONFIG_BOOTSTRAP, "measure = true\n",
         "F:1: 'measure' is a key of the discovery's configuration. Remove the line"},
        {MVPN_CONFIG_CLIENT, "pool_v4 = \"10.0.0.0/8\"\n",
         "F:1: 'pool_v4' is a key of the exit's configuration. Remove the line"},
        {MVPN_CONFIG_CLIENT, "hops = 2\nmark = 1\nhops = 3\n",
         "F:3: 'hops' was given in line 1 already. Keep one of them"},
        {MVPN_CONFIG_RELAY, "listen = {\"0.0.0.0:1\"}\nlisten = {\"[::]:1\"}\n",
         "F:2: 'listen' was given in line 1 already. Keep one of them"},
        {MVPN_CONFIG_RELAY, "listen = \"0.0.0.0:1\"\nlisten = \"[::]:1\"\n",
         "F:2: 'listen' was given in line 1 already. Keep one of them"},
        {MVPN_CONFIG_RELAY, "listen = {\"0.0.0.0:1\"}\nlisten = {\"[::]:1\", \"0.0.0.0:1\"}\n",
         "F:2: 'listen' was given in line 1 already. Keep one of them"},
        {MVPN_CONFIG_CLIENT, "hops = 6\n",
         "F:1: hops: 6 is out of range. Write a number from 1 to 5"},
        {MVPN_CONFIG_CLIENT, "hops = 0\n",
         "F:1: hops: 0 is out of range. Write a number from 1 to 5"},
        {MVPN_CONFIG_CLIENT, "rotate_mb = 0\n",
         "F:1: rotate_mb: 0 is out of range. Write a number from 1 to 1000000"},
        {MVPN_CONFIG_CLIENT, "rotate_mb = 1000001\n",
         "F:1: rotate_mb: 1000001 is out of range. Write a number from 1 to 1000000"},
        {MVPN_CONFIG_CLIENT, "rotate_pause_s = 3601\n",
         "F:1: rotate_pause_s: 3601 is out of range. Write a number from 0 to 3600"},
        {MVPN_CONFIG_CLIENT, "rotate_pause_s = -1\n",
         "F:1: rotate_pause_s: -1 is out of range. Write a number from 0 to 3600"},
        {MVPN_CONFIG_CLIENT, "renew_minutes = 0\n",
         "F:1: renew_minutes: 0 is out of range. Write a number from 1 to 10080"},
        {MVPN_CONFIG_CLIENT, "exit_lifetime_minutes = 10081\n",
         "F:1: exit_lifetime_minutes: 10081 is out of range. Write a number from 1 to 10080"},
        {MVPN_CONFIG_RELAY, "rotate_mb = 8\n",
         "F:1: 'rotate_mb' is a key of the client's configuration. Remove the line"},
        {MVPN_CONFIG_CLIENT, "hops = three\n", "F:1: invalid integer value for option 'hops'"},
        {MVPN_CONFIG_CLIENT, "lockdown = maybe\n",
         "F:1: invalid boolean value for option 'lockdown'"},
        {MVPN_CONFIG_CLIENT, "dns = always\n",
         "F:1: dns: 'always' is not possible. Write auto, resolved, resolvconf, file or none"},
        {MVPN_CONFIG_CLIENT, "path = {a\nb}\n",
         "F:2: unexpected token 'b'. Texts with blanks or signs need \"quotes\", elements a comma "
         "between "
         "them"},
        {MVPN_CONFIG_CLIENT, "# c\n// c\n/* c\n c */ path = {a, # \"c\n# c\n b}\n# c\nhosp = 1\n",
         "F:8: unknown key 'hosp'. Did you mean 'hops'?"},
        {MVPN_CONFIG_CLIENT, "run_dir = \"#\\\"//\" # c\nkey_dir = /a//b\nhosp = 1 # no end",
         "F:3: unknown key 'hosp'. Did you mean 'hops'?"},
        {MVPN_CONFIG_CLIENT, "hops 3\n", "F:1: missing equal sign after option 'hops'"},
        {MVPN_CONFIG_CLIENT, "path = {a, b\n",
         "F:2: the file ends inside a value. Close the \"quotes\" or the {list}"},
        {MVPN_CONFIG_CLIENT, "path = {a, b}\nhops = 3\n",
         "F: path names 2 relays but hops is 3. Remove hops, or name as many relays"},
        {MVPN_CONFIG_CLIENT, "path = {a,\n a}\n",
         "F:2: path: 'a' is in the path twice. Name different relays"},
        {MVPN_CONFIG_CLIENT, "path = {a, b, c, d, e, f}\n",
         "F:1: path: at most 5 relays are possible"},
        {MVPN_CONFIG_CLIENT, "path = {\"A B\"}\n",
         "F:1: path: 'A B' is neither a relay's name nor its identity (44 characters of base64). "
         "See "
         "them with meshvpn-bootstrap show"},
        {MVPN_CONFIG_RELAY, "listen = {\"0.0.0.0\"}\n",
         "F:1: listen: '0.0.0.0' has no port, and others must know the port. Write it as "
         "0.0.0.0:443 or [::]:443"},
        {MVPN_CONFIG_RELAY, "listen = {\"localhost:443\"}\n",
         "F:1: listen: 'localhost:443' is not an address with a port. Write it as 0.0.0.0:443 or "
         "[::]:443"},
        {MVPN_CONFIG_RELAY, "listen = {\"0.0.0.0:70000\"}\n",
         "F:1: listen: '0.0.0.0:70000' is not an address with a port. Write it as 0.0.0.0:443 or "
         "[::]:443"},
        {MVPN_CONFIG_RELAY, "listen = {\"0.0.0.0:1\",\n\"1.2.3.4:2\"}\n",
         "F:2: listen: '1.2.3.4:2' is a second IPv4 address; one per family is possible. Listen on "
         "all addresses with 0.0.0.0:PORT"},
        {MVPN_CONFIG_RELAY, "log_level = loud\n",
         "F:1: log_level: 'loud' is not possible. Write error, warn, info or debug"},
        {MVPN_CONFIG_RELAY, "name = \"Exit 1\"\n",
         "F:1: name: 'Exit 1' is not a name. Use 1 to 24 of a-z, 0-9 and -"},
        {MVPN_CONFIG_RELAY, "stun_listen = {\"somewhere\"}\n",
         "F:1: stun_listen: 'somewhere' is not an address. Write it as 198.51.100.7:3478 or "
         "[2001:db8::7]:3478"},
        {MVPN_CONFIG_RELAY, "stun_listen = {\"0.0.0.0:3478\"}\n",
         "F:1: stun_listen: 0.0.0.0 and [::] are not possible here. Name the addresses of the "
         "host"},
        {MVPN_CONFIG_RELAY, "stun_listen = {\"11.0.0.1\", \"11.0.0.2:3478\"}\n",
         "F:1: stun_listen: '11.0.0.2:3478' must differ from the first IPv4 address in address and "
         "in port: each address is served on both ports"},
        {MVPN_CONFIG_RELAY, "stun_listen = {\"11.0.0.1\", \"11.0.0.1:3479\"}\n",
         "F:1: stun_listen: '11.0.0.1:3479' must differ from the first IPv4 address in address and "
         "in port: each address is served on both ports"},
        {MVPN_CONFIG_RELAY, "stun_listen = {\"11.0.0.1\", \"11.0.0.2\", \"11.0.0.3:80\"}\n",
         "F:1: stun_listen: at most two IPv4 addresses are possible"},
        {MVPN_CONFIG_RELAY, "listen = {\"0.0.0.0:53\"}\nstun_listen = {\"11.0.0.1:53\"}\n",
         "F: stun_listen: port 53 is the node's own (listen). STUN needs another"},
        {MVPN_CONFIG_RELAY, "address = {\"0.0.0.0:443\"}\n",
         "F:1: address: this address is published, so it must be one that others reach. 0.0.0.0 "
         "and "
         "[::] belong to listen"},
        {MVPN_CONFIG_RELAY, "country = ch\n",
         "F:1: country: 'ch' is not a country. Write two upper-case letters, such as CH"},
        {MVPN_CONFIG_RELAY, "bandwidth_mbit = 0\n",
         "F:1: bandwidth_mbit: 0 is out of range. Write a number from 1 to 4000000"},
        {MVPN_CONFIG_EXIT, "tun_name = \"a/b\"\n",
         "F:1: tun_name: 'a/b' is no name for an interface. Use 1 to 15 of a-z, A-Z, 0-9, _, - and "
         "."},
        {MVPN_CONFIG_EXIT, "tun_name = abcdefghijklmnop\n",
         "F:1: tun_name: 'abcdefghijklmnop' is no name for an interface. Use 1 to 15 of a-z, A-Z, "
         "0-9, _, - and ."},
        {MVPN_CONFIG_EXIT, "pool_v4 = \"10.64.0.1/16\"\n",
         "F:1: pool_v4: '10.64.0.1/16' has bits set behind its length of 16. Write the first "
         "address "
         "of the range, as in 10.64.0.0/16"},
        {MVPN_CONFIG_EXIT, "pool_v4 = \"fd00::/64\"\n",
         "F:1: pool_v4: 'fd00::/64' is not an IPv4 prefix. Write it as 10.64.0.0/16"},
        {MVPN_CONFIG_EXIT, "pool_v4 = \"10.64.0.0/30\"\n",
         "F:1: pool_v4: '10.64.0.0/30' is too big or too small. Take a prefix length from 8 to 29"},
        {MVPN_CONFIG_EXIT, "dns_upstream = {resolver}\n",
         "F:1: dns_upstream: 'resolver' is not an address. Write it as 9.9.9.9 or "
         "[2620:fe::fe]:53"},
        {MVPN_CONFIG_EXIT, "ipv6 = true\n",
         "F:1: ipv6: 'true' is not possible. Write auto, yes or no"},
        {MVPN_CONFIG_CLIENT, "table = 254\n",
         "F:1: table: 253 to 255 are the system's own routing tables. Take another number, such as "
         "19798"},
        {MVPN_CONFIG_CLIENT, "operators = {root,\n nobody-is-called-so}\n",
         "F:2: operators: there is no user 'nobody-is-called-so' here. Name users of this "
         "computer, "
         "as getent passwd lists them"},
        {MVPN_CONFIG_CLIENT, "network_file = \"\"\n",
         "F:1: network_file: a path of 1 to 4095 characters is expected"},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        char expected[512];
        (void)snprintf(expected, sizeof(expected), "/etc/x/test.conf%s", rows[i].expected + 1);
        assert_int_equal(parse(rows[i].kind, rows[i].text), MVPN_E_CONFIG);
        assert_string_equal(fault.text, expected);
    }
    /* The exit's own words for what is wrong with a rule, with our place. */
    assert_int_equal(parse(MVPN_CONFIG_EXIT, "policy = {\"accept * *\",\n \"refuse * *\"}\n"),
                     MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "/etc/x/test.conf:2: policy: 'refuse * *': "));
    assert_non_null(strstr(fault.text, "Write a rule as "));
    static const char with_zero[] = "hops = 3\n\0hops = 4\n";
    assert_int_equal(mvpn_config_parse("z", with_zero, sizeof(with_zero) - 1, MVPN_CONFIG_CLIENT,
                                       &config, &fault),
                     MVPN_E_CONFIG);
    assert_string_equal(fault.text, "z: holds a zero byte; it is not a text file");
}

/* One mistake does not spoil the next reading. */
static void test_again_after_fault(void **state)
{
    (void)state;
    assert_int_equal(parse(MVPN_CONFIG_CLIENT, "path = {\"unclosed"), MVPN_E_CONFIG);
    expect(MVPN_CONFIG_CLIENT, "hops = 4\n");
    assert_int_equal(config.client.hops, 4);
    assert_int_equal(parse(MVPN_CONFIG_CLIENT, "\n\nhops = 9\n"), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "test.conf:3: "));
}

static void test_exit_keys(void **state)
{
    (void)state;
    mvpn_policy *policy = NULL;
    expect(
        MVPN_CONFIG_EXIT,
        "blocked_ips = {\"11.2.3.4\",\n \"11.4.0.0/16\", \"2a10:5::/32\"}\n"
        "allowed_ports = {80, 443, \"8000-8100\"}\n"
        "policy = {\"reject tcp * 81\",\n\n\"reject any 11.5.0.0/16\"}\n"
        "bandwidth_limit = 900\nbandwidth_burst = 4096\nsession_limit = 100\nsession_burst = 256\n"
        "monthly_quota = 5000\nflows_max = 300\nmetrics_listen = \"127.0.0.1:9464\"\n"
        "exit_notice = notice.html\n");
    const mvpn_config_exit *e = &config.exit;
    assert_int_equal(e->blocked_count, 3);
    assert_int_equal(e->blocked[0].bits, 32);
    assert_int_equal(e->blocked[0].line, 1);
    assert_int_equal(e->blocked[1].line, 2);
    assert_int_equal(e->blocked[2].bits, 32);
    assert_int_equal(e->port_count, 3);
    assert_int_equal(e->ports[2].last, 8100);
    assert_int_equal(e->policy_count, 2);
    assert_int_equal(e->policy_lines[0], 4);
    assert_int_equal(e->policy_lines[1], 6);
    assert_int_equal(e->bandwidth_limit, 900);
    assert_int_equal(e->session_limit, 100);
    assert_int_equal(e->session_burst, 256);
    assert_int_equal(e->bandwidth_burst, 4096);
    assert_int_equal(e->monthly_quota, 5000);
    assert_int_equal(e->flows_max, 300);
    assert_int_equal(e->metrics_listen.port, 9464);
    assert_string_equal(e->exit_notice, "/etc/x/notice.html");
    assert_int_equal(mvpn_config_policy(e, &policy, &fault), 0);
    mvpn_ip ip = {.version = 4, .protocol = 6, .has_l4 = true, .dst_port = 80, .dst = {11, 4, 1}};
    assert_int_equal(mvpn_policy_judge(policy, &ip).step, MVPN_POLICY_BY_BLOCKED);
    ip.dst[1] = 3;
    assert_int_equal(mvpn_policy_judge(policy, &ip).result, MVPN_POLICY_ACCEPT);
    ip.dst_port = 81;
    assert_int_equal(mvpn_policy_judge(policy, &ip).step, MVPN_POLICY_BY_PORTS);
    mvpn_policy_free(policy);
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"blocked_ips = {\"11.2.3\"}", "neither an address nor a network"},
        {"blocked_ips = {\"11.2.3.4:80\"}", "neither an address nor a network"},
        {"blocked_ips = {\"11.2.3.4/16\"}", "behind its length"},
        {"allowed_ports = {0}", "neither a port nor a range"},
        {"allowed_ports = {65536}", "neither a port nor a range"},
        {"allowed_ports = {\"80-79\"}", "neither a port nor a range"},
        {"allowed_ports = {\"80-\"}", "neither a port nor a range"},
        {"allowed_ports = {\"-80\"}", "neither a port nor a range"},
        {"allowed_ports = {http}", "neither a port nor a range"},
        {"metrics_listen = \"0.0.0.0:9464\"", "for the operator"},
        {"metrics_listen = \"11.2.3.4:9464\"", "for the operator"},
        {"metrics_listen = \"[::]:9464\"", "for the operator"},
        {"metrics_listen = \"127.0.0.1\"", "with a port"},
        {"policy = {\"accept * *\"}\npolicy_file = x", "Keep one of them"},
        {"policy_file = /nowhere/rules", "/nowhere/rules"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (parse(MVPN_CONFIG_EXIT, rows[i].text) != MVPN_E_CONFIG ||
            strstr(fault.text, rows[i].says) == NULL) {
            fail_msg("%s: %s", rows[i].text, fault.text);
        }
    }
}

static void test_exit_ports(void **state)
{
    (void)state;
    const mvpn_config_client *c = &config.client;
    expect(MVPN_CONFIG_CLIENT, "");
    assert_int_equal(c->exit_port_count, 1);
    assert_int_equal(c->exit_ports[0], 443);
    expect(MVPN_CONFIG_CLIENT, "exit_ports = {22, 80}\n");
    assert_int_equal(c->exit_port_count, 2);
    assert_int_equal(c->exit_ports[0], 22);
    assert_int_equal(c->exit_ports[1], 80);
    expect(MVPN_CONFIG_CLIENT, "exit_ports = {any}\n");
    assert_int_equal(c->exit_port_count, 0);
    static const char *const bad[] = {
        "{0}", "{65536}", "{http}", "{any, 80}", "{80, any}", "{-1}", "{1,2,3,4,5,6,7,8,9}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "exit_ports = %s\n", bad[i]);
        if (parse(MVPN_CONFIG_CLIENT, text) != MVPN_E_CONFIG) {
            fail_msg("%s", text);
        }
    }
}

static void test_policy_file(void **state)
{
    (void)state;
    char path[] = "/tmp/meshvpn-rules.XXXXXX", text[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char good[] = "# two\nreject tcp * 81\naccept any *\n", bad[] = "\nreject tcp\n";
    assert_int_equal(write(fd, good, strlen(good)), (ssize_t)strlen(good));
    (void)snprintf(text, sizeof(text), "policy_file = %s\n", path);
    expect(MVPN_CONFIG_EXIT, text);
    assert_string_equal(config.exit.policy, good);
    assert_int_equal(config.exit.policy_count, 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, bad, strlen(bad), 0), (ssize_t)strlen(bad));
    assert_int_equal(parse(MVPN_CONFIG_EXIT, text), MVPN_E_CONFIG);
    (void)snprintf(text, sizeof(text), "%s:2: ", path);
    assert_non_null(strstr(fault.text, text));
    (void)close(fd);
    (void)unlink(path);
}

static void test_files(void **state)
{
    (void)state;
    char path[] = "/tmp/mvpn-config-test.XXXXXX";
    int fd = mkstemp(path);
    mvpn_addr dns[3];
    static const char resolv[] = "# c\nsearch lan\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\n"
                                 "options x\nnameserver\t2620:fe::fe\n";
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(mvpn_file_write(path, resolv, sizeof(resolv) - 1, 0644, &fault), 0);
    assert_int_equal(mvpn_config_read_resolv(path, dns, 3), 2);
    assert_int_equal(dns[0].port, 53);
    assert_int_equal(dns[1].family, 6);
    assert_int_equal(mvpn_config_read_resolv(path, dns, 1), 1);

    assert_int_equal(mvpn_file_write(path, "key_dir = k\n", 12, 0644, &fault), 0);
    assert_int_equal(mvpn_config_load(path, MVPN_CONFIG_RELAY, &config, &fault), 0);
    assert_string_equal(config.key_dir, "/tmp/k");
    (void)unlink(path);
    assert_int_equal(mvpn_config_load(path, MVPN_CONFIG_RELAY, &config, &fault), MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_config_read_resolv(path, dns, 3), 0);
}

/* docs/configuration.md is what the table says; the path comes from the build. */
static void test_docs(void **state)
{
    (void)state;
    const char *path = getenv("MVPN_CONFIGURATION_MD");
    char *made = NULL;
    uint8_t *kept = NULL;
    size_t made_size = 0, kept_size = 0;
    if (path == NULL) {
        skip();
    }
    FILE *out = open_memstream(&made, &made_size);
    assert_non_null(out);
    mvpn_config_write_docs(out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(mvpn_file_read(path, MVPN_CONFIG_SIZE_MAX, false, &kept, &kept_size, &fault),
                     0);
    assert_string_equal((const char *)kept, made);
    mvpn_file_free(kept, kept_size);
    free(made);
}

/* The examples are read by the programs they are for. */
static void test_examples(void **state)
{
    (void)state;
    static const enum mvpn_config_kind kinds[] = {MVPN_CONFIG_RELAY, MVPN_CONFIG_EXIT,
                                                  MVPN_CONFIG_CLIENT, MVPN_CONFIG_BOOTSTRAP,
                                                  MVPN_CONFIG_DISCOVERY};
    const char *dir = getenv("MVPN_EXAMPLES");
    if (dir == NULL) {
        skip();
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(kinds); i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof(path), "%s/%s.conf", dir, mvpn_config_kind_name(kinds[i]));
        if (mvpn_config_load(path, kinds[i], &config, &fault) != 0) {
            fail_msg("%s", fault.text);
        }
    }
}

/* ---- what goes outside ---- */

static void test_outside(void **state)
{
    const mvpn_config_split *split = &config.client.split;
    mvpn_split kernel;
    (void)state;
    expect(MVPN_CONFIG_CLIENT, "");
    assert_false(mvpn_config_split_is_used(split));
    expect(MVPN_CONFIG_CLIENT,
           "outside_networks = {192.0.2.77/24, \"2001:db8::1/32\", 198.51.100.7}\n"
           "outside_users = {daemon, 1234}\n"
           "outside_cgroups = {/sys/fs/cgroup/a}\n"
           "outside_domains = {Example.ORG}\n");
    assert_int_equal(split->cgroup_count, 1);
    assert_string_equal(split->cgroups[0], "/sys/fs/cgroup/a");
    assert_int_equal(split->domains.count, 1);
    assert_string_equal(split->domains.names[0], "example.org");
    assert_true(mvpn_config_split_is_used(split));
    mvpn_config_split_fill(split, &kernel);
    assert_int_equal(kernel.target_count, 3);
    assert_int_equal(kernel.targets[0].bits, 24);
    assert_int_equal(kernel.targets[0].addr.ip[3], 0);
    assert_int_equal(kernel.targets[1].addr.family, 6);
    assert_int_equal(kernel.targets[1].addr.ip[15], 0);
    assert_int_equal(kernel.targets[2].bits, 32);
    assert_int_equal(kernel.user_count, 2);
    assert_int_equal(kernel.users[0], 1);
    assert_int_equal(kernel.users[1], 1234);
    assert_int_equal(kernel.cgroup_count, 0);
}

static void test_outside_mistakes(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"outside_networks = {x}", "test.conf:1: outside_networks: 'x' is no network"},
        {"outside_networks = {0.0.0.0/0}", "is everything"},
        {"outside_networks = {192.0.2.0/33}", "is no network"},
        {"outside_cgroups = {a}", "'a' is no cgroup. Write its directory"},
        {"outside_cgroups = {/a}\nkill_switch = false", "needs kill_switch = true"},
        {"outside_cgroups = {/1, /2, /3, /4, /5, /6, /7, /8}", "at most 7"},
        {"outside_users = {nobody-at-all}", "there is no user 'nobody-at-all' here"},
        {"outside_users = {4294967295}", "there is no user"},
        {"outside_domains = {a..b}", "'a..b' is no name of a domain"},
        {"outside_domains = {\"*.org\"}", "is no name of a domain"},
        {"outside_users = {root}", "root is not possible"},
        {"outside_users = {0}", "root is not possible"},
        {"outside_users = {1}\nroutes = none", "with routes = none everything is outside already"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(parse(MVPN_CONFIG_CLIENT, rows[i].text), MVPN_E_CONFIG);
        if (strstr(fault.text, rows[i].why) == NULL) {
            fail_msg("%s: %s", rows[i].text, fault.text);
        }
    }
    assert_int_equal(parse(MVPN_CONFIG_RELAY, "outside_users = {1}"), MVPN_E_CONFIG);
}

static void test_inside(void **state)
{
    const mvpn_config_split *split = &config.client.split;
    mvpn_split kernel;
    (void)state;
    expect(MVPN_CONFIG_CLIENT, "outside_users = {}\ninside_networks = {192.0.2.77/24}\n"
                               "inside_users = {daemon, 1234}\n");
    assert_true(split->is_inside && mvpn_config_split_is_used(split));
    mvpn_config_split_fill(split, &kernel);
    assert_true(kernel.is_inside);
    assert_int_equal(kernel.target_count, 1);
    assert_int_equal(kernel.user_count, 2);
    assert_int_equal(kernel.users[1], 1234);
    assert_false(kernel.holds_names);
    expect(MVPN_CONFIG_CLIENT, "inside_domains = {Example.ORG, example.net}");
    assert_true(split->is_inside && mvpn_config_split_is_used(split));
    assert_int_equal(split->domains.count, 2);
    mvpn_config_split_fill(split, &kernel);
    assert_true(kernel.holds_names);
    expect(MVPN_CONFIG_CLIENT, "outside_domains = {example.org}");
    mvpn_config_split_fill(split, &kernel);
    assert_false(kernel.holds_names);
}

/* Which keys, and where both stand. */
static void test_directions_do_not_mix(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"outside_users = {1}\n\ninside_networks = {192.0.2.1}",
         "test.conf:3: inside_networks: inside_networks and outside_users (line 1) cannot both be"},
        {"inside_users = {1}\noutside_domains = {example.org}",
         "test.conf:2: outside_domains: outside_domains and inside_users (line 1)"},
        {"inside_networks = {192.0.2.1}\noutside_networks = {192.0.2.1}",
         "test.conf:2: outside_networks: outside_networks and inside_networks (line 1)"},
        {"inside_domains = {example.org}\noutside_networks = {192.0.2.1}",
         "test.conf:2: outside_networks: outside_networks and inside_domains (line 1)"},
        {"inside_domains = {a..b}", "inside_domains: 'a..b' is no name of a domain"},
        {"inside_domains = {example.org}\nkill_switch = false",
         "inside_domains needs kill_switch = true"},
        {"dns = none\ninside_domains = {example.org}", "with dns = none nobody asks that"},
        {"inside_domains = {example.org}\nroutes = none", "Remove inside_*"},
        {"inside_users = {root}", "meshvpn run --exit"},
        {"inside_networks = {\"::/0\"}", "remove inside_*"},
        {"inside_users = {1}\nroutes = none", "Remove inside_*"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(parse(MVPN_CONFIG_CLIENT, rows[i].text), MVPN_E_CONFIG);
        if (strstr(fault.text, rows[i].why) == NULL) {
            fail_msg("%s: %s", rows[i].text, fault.text);
        }
    }
}

static void test_outside_is_bounded(void **state)
{
    char text[2048] = "outside_users = {1";
    (void)state;
    for (unsigned i = 1; i < MVPN_SPLIT_USERS_MAX; i++) {
        (void)strcat(text, ", 2");
    }
    size_t end = strlen(text);
    (void)strcat(text, "}");
    expect(MVPN_CONFIG_CLIENT, text);
    (void)strcpy(text + end, ", 3}");
    assert_int_equal(parse(MVPN_CONFIG_CLIENT, text), MVPN_E_CONFIG);
    (void)strcpy(text, "outside_networks = {1.0.0.0/8");
    for (unsigned i = 1; i < MVPN_SPLIT_NETWORKS_MAX; i++) {
        (void)strcat(text, ", 2.0.0.0/8");
    }
    end = strlen(text);
    (void)strcat(text, "}");
    expect(MVPN_CONFIG_CLIENT, text);
    (void)strcpy(text + end, ", 3.0.0.0/8}");
    assert_int_equal(parse(MVPN_CONFIG_CLIENT, text), MVPN_E_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_again_after_fault),
        cmocka_unit_test(test_exit_keys),
        cmocka_unit_test(test_exit_ports),
        cmocka_unit_test(test_policy_file),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_docs),
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_outside_mistakes),
        cmocka_unit_test(test_inside),
        cmocka_unit_test(test_directions_do_not_mix),
        cmocka_unit_test(test_outside_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
