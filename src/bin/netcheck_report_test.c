/* What results mean: a verdict for every combination, the lines for a person, the JSON object. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "bin/netcheck_report.h"

#define EI MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT
#define APD MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT

static mvpn_addr addr(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

/* One letter for each family: - no route, n nobody to ask, b blocked, u unknown NAT, p public,
 * c cone, s symmetric with random ports, q symmetric with sequential ones. */
static mvpn_netcheck_family family(char what, const char *local, const char *seen)
{
    mvpn_netcheck_family f = {.interface_mtu = 1500};
    if (what == '-') {
        return (mvpn_netcheck_family){.is_asked = false};
    }
    f.local = addr(local);
    f.is_asked = what != 'n';
    f.is_answered = f.is_asked && what != 'b';
    if (f.is_answered) {
        f.source = what == 'u' ? MVPN_NETCHECK_BY_NOBODY : MVPN_NETCHECK_BY_LINKS;
        f.seen[f.seen_count++] = addr(what == 'p' ? local : seen);
        f.nat.is_public = what == 'p';
        f.nat.is_known = what != 'u';
        f.nat.mapping = what == 'c' ? EI : what == 's' || what == 'q' ? APD : 0;
        f.nat.ports = what == 's'   ? MVPN_STUN_PORTS_RANDOM
                      : what == 'q' ? MVPN_STUN_PORTS_SEQUENTIAL
                                    : MVPN_STUN_PORTS_UNKNOWN;
        f.nat.port_step = what == 'q' ? 2 : 0;
        f.nat.filtering = MVPN_STUN_FILTERING_ADDRESS_AND_PORT_DEPENDENT;
        f.nat.hairpin = MVPN_STUN_HAIRPIN_NO;
    }
    return f;
}

static mvpn_netcheck_result result(char v4, char v6)
{
    return (mvpn_netcheck_result){.v4 = family(v4, "192.168.1.2", "12.3.140.9:4000"),
                                  .v6 = family(v6, "2a11:3:1::2", "[2a11:4::9]:4000"),
                                  .took_ms = 1234};
}

static void test_verdicts(void **state)
{
    static const struct {
        char v4, v6;
        unsigned tcp;
        bool has_upnp;
        const char *external; /* of the gateway */
        enum netcheck_kind kind;
        const char *summary; /* begins so */
        const char *advice;  /* is somewhere in it; NULL: there is none */
    } rows[] = {
        {'-', '-', 0, false, NULL, NETCHECK_OFFLINE, "Offline: ", "Connect"},
        {'n', '-', 0, false, NULL, NETCHECK_NOBODY, "Unknown: there is nobody", "--server"},
        {'-', 'n', 0, false, NULL, NETCHECK_NOBODY, "Unknown: there is nobody", "--config"},
        {'b', '-', 1, false, NULL, NETCHECK_BLOCKED, "Blocked: this network lets no UDP out",
         "hotspot"},
        {'b', '-', 1, false, NULL, NETCHECK_BLOCKED, "Blocked: ", "let UDP out"},
        {'b', '-', 1, false, NULL, NETCHECK_BLOCKED, "Blocked: ", "TCP 443"},
        {'b', 'b', 0, false, NULL, NETCHECK_BLOCKED, "Blocked: nobody answers, neither by UDP",
         "log-in page"},
        {'b', 'n', 0, false, NULL, NETCHECK_BLOCKED, "Blocked: nobody answers", "hotspot"},
        {'p', '-', 1, false, NULL, NETCHECK_GOOD, "Good: this computer has a public", NULL},
        {'c', '-', 1, false, NULL, NETCHECK_GOOD, "Good: direct connections are likely", NULL},
        {'c', 'b', 1, false, NULL, NETCHECK_GOOD, "Good: direct", NULL},
        {'b', 'p', 1, false, NULL, NETCHECK_GOOD, "Good: this computer has a public", NULL},
        {'s', 'p', 1, false, NULL, NETCHECK_GOOD, "Good: this computer has a public", NULL},
        {'q', '-', 1, false, NULL, NETCHECK_GOOD, "Good: direct", NULL},
        {'s', '-', 1, false, NULL, NETCHECK_RELAYED, "Relayed: ", "IPv6"},
        {'s', 'b', 1, false, NULL, NETCHECK_RELAYED, "Relayed: ", "NAT-PMP"},
        {'s', '-', 1, true, "12.3.140.9", NETCHECK_GOOD, "Good: direct", "port_mapping = true"},
        {'s', '-', 1, true, NULL, NETCHECK_GOOD, "Good: direct", "port_mapping"},
        /* Its mapping would be behind one more NAT. */
        {'s', '-', 1, true, "100.64.0.7", NETCHECK_RELAYED, "Relayed: ", "slower"},
        {'s', '-', 1, false, "12.3.140.9", NETCHECK_RELAYED, "Relayed: ", "slower"},
        {'u', '-', 1, false, NULL, NETCHECK_UNSURE, "Unsure: UDP passes", "--server"},
        {'u', 's', 1, false, NULL, NETCHECK_RELAYED, "Relayed: ", "slower"},
        {'u', 'c', 1, false, NULL, NETCHECK_GOOD, "Good: direct", NULL},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_netcheck_result r = result(rows[i].v4, rows[i].v6);
        netcheck_verdict v;
        bool has_advice = rows[i].advice == NULL;
        r.tcp_asked = 2;
        r.tcp_reached = rows[i].tcp;
        r.gateway.has_upnp = rows[i].has_upnp;
        if (rows[i].external != NULL) {
            r.gateway.external = addr(rows[i].external);
        }
        netcheck_judge(&v, &r);
        if (v.kind != rows[i].kind ||
            strncmp(v.summary, rows[i].summary, strlen(rows[i].summary)) != 0) {
            fail_msg("row %zu: %s, %s", i, netcheck_kind_name(v.kind), v.summary);
        }
        assert_int_equal(v.advice_count == 0, rows[i].advice == NULL);
        for (size_t k = 0; k < v.advice_count && rows[i].advice != NULL; k++) {
            has_advice |= strstr(v.advice[k], rows[i].advice) != NULL;
        }
        assert_true(has_advice);
    }
}

static char *printed(const mvpn_netcheck_result *r)
{
    netcheck_verdict v;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    netcheck_judge(&v, r);
    netcheck_print(f, r, &v);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void test_lines(void **state)
{
    static const char home[] =
        "Good: direct connections are likely\n"
        "udp           IPv4 passes, IPv6 no answer\n"
        "address IPv4  12.3.140.9; this computer has 192.168.1.2\n"
        "address IPv6  not known outside; this computer has 2a11:3:1::2\n"
        "nat IPv4      symmetric: mapping address-and-port-dependent, filtering "
        "address-and-port-dependent\n"
        "              hairpin no, ports sequential (next +2)\n"
        "lifetime      of a mapping: at least 45 s\n"
        "port mapping  PCP UPnP offered; the gateway is 100.64.0.7 outside, behind one more NAT\n"
        "mtu IPv4      1500 at the interface; packets of 1424 bytes do not pass, those of 1232 do\n"
        "mtu IPv6      1500 at the interface; not measured\n"
        "tcp 443       reachable: 2 of 3 hosts answer\n"
        "clock         92 s fast\n"
        "asked         5 nodes, 3 answered; 1 STUN servers; 1.2 s\n";
    static const char alone[] = "Offline: this computer has no route to the internet\n"
                                "  Connect it to a network first.\n"
                                "udp           IPv4 no route here, IPv6 no route here\n"
                                "lifetime      of a mapping: unknown yet\n"
                                "port mapping  no home gateway here\n"
                                "tcp 443       nobody to ask\n"
                                "clock         not compared\n"
                                "asked         0 nodes, 0 answered; 0 STUN servers; 1.2 s\n";
    (void)state;
    mvpn_netcheck_result r = result('q', 'b');
    r.lifetime_s = 45;
    r.gateway = (mvpn_gateway_found){.gateway = addr("192.168.1.1"),
                                     .external = addr("100.64.0.7"),
                                     .has_pcp = true,
                                     .has_upnp = true};
    r.v4.is_full_size_known = true;
    r.tcp_asked = 3;
    r.tcp_reached = 2;
    r.has_clock = true;
    r.clock_offset_s = -92;
    r.nodes_asked = 5;
    r.nodes_answered = 3;
    r.servers_asked = 1;
    char *text = printed(&r);
    assert_string_equal(text, home);
    free(text);

    r = result('-', '-');
    text = printed(&r);
    assert_string_equal(text, alone);
    free(text);
}

static json_t *object_of(const mvpn_netcheck_result *r)
{
    netcheck_verdict v;
    netcheck_judge(&v, r);
    json_t *o = netcheck_json(r, &v);
    assert_non_null(o);
    return o;
}

/* Every key of docs/netcheck.md is there, with its type, whatever is known. */
static void test_json_keys(void **state)
{
    static const char *const families[] = {
        "udp",   "local",     "addresses", "nat", "mapping",   "filtering", "hairpin",
        "ports", "port_step", "source",    "mtu", "full_size", "rtt_ms"};
    static const char *const kinds = "-nbupcsq";
    (void)state;
    for (const char *four = kinds; *four != '\0'; four++) {
        for (const char *six = kinds; *six != '\0'; six++) {
            mvpn_netcheck_result r = result(*four, *six);
            json_t *o = object_of(&r), *v4 = json_object_get(o, "ipv4");
            assert_int_equal(json_object_size(o), 13);
            assert_string_equal(json_string_value(json_object_get(o, "schema")),
                                "meshvpn.netcheck/1");
            assert_int_equal(json_is_null(v4), *four == '-');
            for (size_t i = 0; *four != '-' && i < MVPN_ARRAY_LEN(families); i++) {
                assert_non_null(json_object_get(v4, families[i]));
            }
            assert_int_equal(json_object_size(v4), *four == '-' ? 0 : MVPN_ARRAY_LEN(families));
            json_decref(o);
        }
    }
}

static void test_json_values(void **state)
{
    static const char expected[] =
        "{\"schema\":\"meshvpn.netcheck/1\",\"verdict\":\"relayed\",\"ipv4\":{\"udp\":true,"
        "\"local\":\"192.168.1.2\",\"addresses\":[\"12.3.140.9\"],\"nat\":\"symmetric\","
        "\"mapping\":\"address-and-port-dependent\",\"filtering\":\"address-and-port-dependent\","
        "\"hairpin\":\"no\",\"ports\":\"random\",\"port_step\":null,\"source\":\"links\","
        "\"mtu\":1500,\"full_size\":true,\"rtt_ms\":null},\"ipv6\":null,"
        "\"mapping_lifetime_s\":null,\"port_mapping\":{\"gateway\":null,\"pcp\":false,"
        "\"nat_pmp\":true,\"upnp\":false,\"external\":\"100.64.0.7\",\"behind_another_nat\":true},"
        "\"tcp_443\":{\"asked\":1,\"reached\":0,\"reachable\":false},\"clock_offset_s\":5,"
        "\"around_tunnel\":true,\"asked\":{\"nodes\":2,\"answered\":2,\"stun_servers\":0},"
        "\"took_ms\":1234}";
    (void)state;
    mvpn_netcheck_result r = result('s', '-');
    r.v4.is_full_size_known = r.v4.is_full_size = true;
    r.gateway.has_natpmp = true;
    r.gateway.external = addr("100.64.0.7");
    r.tcp_asked = 1;
    r.has_clock = true;
    r.clock_offset_s = 5;
    r.is_marked = true;
    r.nodes_asked = r.nodes_answered = 2;
    json_t *o = object_of(&r);
    assert_true(json_is_string(json_object_get(o, "summary")));
    assert_int_equal(json_array_size(json_object_get(o, "advice")), 1);
    (void)json_object_del(o, "summary");
    (void)json_object_del(o, "advice");
    char *text = json_dumps(o, JSON_COMPACT);
    assert_string_equal(text, expected);
    free(text);
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_json_keys),
        cmocka_unit_test(test_json_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
