#include "io/config_values.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "exit/policy.h"

#define DNS_PORT 53

static bool has_host_bits(const mvpn_prefix *p)
{
    for (unsigned bit = p->bits; bit < mvpn_addr_ip_len(&p->addr) * 8; bit++) {
        if ((p->addr.ip[bit / 8] >> (7 - bit % 8) & 1) != 0) {
            return true;
        }
    }
    return false;
}

/* `bits_min`, `bits_max`: a pool of too many addresses is a mistake, one of too few serves nobody.
 */
static int set_pool(mvpn_prefix *out, const mvpn_setting_value *v, unsigned family,
                    unsigned bits_min, unsigned bits_max, const char *example, mvpn_fault *why)
{
    mvpn_prefix p;
    if (mvpn_prefix_parse(v->text, &p) != 0 || p.addr.family != family) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "'%.60s' is not an IPv%u prefix. Write it as %s",
                              v->text, family, example);
    }
    if (p.bits < bits_min || p.bits > bits_max) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is too big or too small. Take a prefix length from %u to %u",
                              v->text, bits_min, bits_max);
    }
    if (has_host_bits(&p)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' has bits set behind its length of %u. Write the first "
                              "address of the range, as in %s",
                              v->text, (unsigned)p.bits, example);
    }
    *out = p;
    return 0;
}

static int set_pool_v4(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_pool(&((mvpn_config *)target)->exit.pool_v4, v, 4, 8, 29, "10.64.0.0/16", why);
}

static int set_pool_v6(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_pool(&((mvpn_config *)target)->exit.pool_v6, v, 6, 32, 120, "fd6d:7670:e::/64", why);
}

static int set_dns_upstream(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    mvpn_addr a;
    if (mvpn_addr_parse(v->text, &a) != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is not an address. Write it as 9.9.9.9 or [2620:fe::fe]:53",
                              v->text);
    }
    if (e->dns_count == MVPN_CONFIG_DNS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible", MVPN_CONFIG_DNS_MAX);
    }
    a.port = a.port != 0 ? a.port : DNS_PORT;
    e->dns_upstream[e->dns_count++] = a;
    return 0;
}

/* Rules are checked one by one, so that a mistake is told with its line, and kept as one text. */
static int set_policy(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    size_t used = strlen(e->policy), len = strlen(v->text);
    mvpn_policy_error error;
    mvpn_policy *scratch;
    if (e->policy_count == MVPN_POLICY_RULES_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d rules are possible",
                              MVPN_POLICY_RULES_MAX);
    }
    if (strchr(v->text, '\n') != NULL) {
        return mvpn_config_bad(why, "a rule goes over several lines. Quote each rule by itself");
    }
    if (used + len + 2 > sizeof(e->policy)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "more than %zu characters in all. Use fewer rules",
                              sizeof(e->policy) - 2);
    }
    scratch = mvpn_policy_new();
    if (scratch == NULL) {
        return mvpn_config_bad(why, "no memory");
    }
    int rc = mvpn_policy_parse(scratch, v->text, &error);
    mvpn_policy_free(scratch);
    if (rc != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.95s': %s at character %u. Write a rule as "
                              "\"reject tcp 11.0.0.0/8 80,443\" or \"accept * *\"",
                              v->text, error.what, error.column);
    }
    memcpy(e->policy + used, v->text, len);
    memcpy(e->policy + used + len, "\n", 2);
    e->policy_lines[e->policy_count++] = v->line;
    return 0;
}

PATH_SETTER(set_policy_file, exit.policy_file)

static int set_blocked_ip(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    mvpn_prefix p;
    if (mvpn_prefix_parse(v->text, &p) != 0 || p.addr.port != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is neither an address nor a network. Write it as 11.2.3.4, "
                              "11.2.0.0/16 or 2a10:5::/32",
                              v->text);
    }
    if (has_host_bits(&p)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "'%.60s' has bits set behind its length of %u",
                              v->text, (unsigned)p.bits);
    }
    if (e->blocked_count == MVPN_POLICY_BLOCKED_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "at most %d are possible. Longer lists belong into the host's "
                              "firewall",
                              MVPN_POLICY_BLOCKED_MAX);
    }
    e->blocked[e->blocked_count++] = (mvpn_policy_net){p.addr, p.bits, v->line};
    return 0;
}

static int set_allowed_port(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    unsigned first = 0, last = 0;
    int end = 0;
    size_t n = strlen(v->text);
    bool is_one = sscanf(v->text, "%5u%n", &first, &end) == 1 && (size_t)end == n;
    bool is_range =
        !is_one && sscanf(v->text, "%5u-%5u%n", &first, &last, &end) == 2 && (size_t)end == n;
    last = is_one ? first : last;
    if (n == 0 || strspn(v->text, "0123456789-") != n || (!is_one && !is_range) || first < 1 ||
        last > UINT16_MAX || last < first) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is neither a port nor a range of ports. Write it as 443 or "
                              "8000-8100",
                              v->text);
    }
    if (e->port_count == MVPN_POLICY_PORTS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible. Join ranges",
                              MVPN_POLICY_PORTS_MAX);
    }
    e->ports[e->port_count++] = (mvpn_port_range){(uint16_t)first, (uint16_t)last};
    return 0;
}

NUMBER_SETTER(set_bandwidth_limit, exit.bandwidth_limit, 0, 1000000)
NUMBER_SETTER(set_bandwidth_burst, exit.bandwidth_burst, 0, 4000000)
NUMBER_SETTER(set_session_limit, exit.session_limit, 0, 1000000)
NUMBER_SETTER(set_session_burst, exit.session_burst, 0, 4000000)
NUMBER_SETTER(set_monthly_quota, exit.monthly_quota, 0, 1000000000)
NUMBER_SETTER(set_flows_max, exit.flows_max, 0, 1000000)

static int set_metrics_listen(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_addr a;
    if (mvpn_addr_parse(v->text, &a) != 0 || a.port == 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is not an address with a port. Write it as 127.0.0.1:9464",
                              v->text);
    }
    static const uint8_t zero[16];
    if (mvpn_addr_is_public(&a) || memcmp(a.ip, zero, sizeof(zero)) == 0) {
        return mvpn_config_bad(why, "metrics are for the operator: name one local address, such as "
                                    "127.0.0.1:9464");
    }
    ((mvpn_config *)target)->exit.metrics_listen = a;
    return 0;
}

PATH_SETTER(set_exit_notice, exit.exit_notice)

static int set_nat(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const mvpn_config_word words[] = {{"kernel", 0}, {"user", 1}, {NULL, 0}};
    int value = 0;
    int rc = mvpn_config_set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->exit.user_nat = value != 0;
    }
    return rc;
}

static int set_nat_map(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    mvpn_config_nat_map map;
    char from[MVPN_ADDR_STRLEN];
    const char *equals = strchr(v->text, '=');
    size_t n = equals == NULL ? 0 : (size_t)(equals - v->text);
    if (e->nat_map_count == MVPN_CONFIG_NAT_MAP_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible",
                              MVPN_CONFIG_NAT_MAP_MAX);
    }
    if (n > 0 && n < sizeof(from)) {
        memcpy(from, v->text, n);
        from[n] = '\0';
    }
    if (n == 0 || n >= sizeof(from) || mvpn_addr_parse(from, &map.from) != 0 ||
        mvpn_addr_parse(equals + 1, &map.to) != 0 || map.from.port == 0 || map.to.port == 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.80s' is not two addresses with ports. Write it as "
                              "203.0.113.80:80=127.0.0.1:8080",
                              v->text);
    }
    e->nat_map[e->nat_map_count++] = map;
    return 0;
}

static int set_ipv6(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const mvpn_config_word words[] = {
        {"auto", MVPN_IPV6_AUTO}, {"yes", MVPN_IPV6_YES}, {"no", MVPN_IPV6_NO}, {NULL, 0}};
    int value = 0;
    int rc = mvpn_config_set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->exit.ipv6 = (enum mvpn_config_ipv6)value;
    }
    return rc;
}

/* --- the table --- */

#define TEXT MVPN_SETTING_TEXT
#define LIST MVPN_SETTING_LIST
#define NUMBER MVPN_SETTING_NUMBER
#define BOOL MVPN_SETTING_BOOL

/* clang-format off */
static const mvpn_setting settings[] = {
    {"pool_v4", TEXT, EXIT, set_pool_v4, "10.64.0.0/16",
     "Addresses given to sessions behind the NAT, /8 to /29. Take another range if the host uses this one."},
    {"pool_v6", TEXT, EXIT, set_pool_v6, "fd6d:7670:e::/64", "The same for IPv6, /32 to /120."},
    {"nat", TEXT, EXIT, set_nat, "kernel",
     "`kernel`: a TUN device, forwarding and masquerade, which need root. `user`: ordinary sockets of this program, without any rights: TCP, UDP, and ping where `net.ipv4.ping_group_range` allows it; fewer connections, slower; docs/proxy.md says what that means."},
    {"nat_map", LIST, EXIT, set_nat_map, "{}",
     "With `nat = user`: connections to an address and port, which the policy judges, go to another one, which it does not, as in `\"203.0.113.80:80=127.0.0.1:8080\"`: a service of this host, offered on purpose; at most 16."},
    {"dns_upstream", LIST, EXIT, set_dns_upstream, "those of /etc/resolv.conf",
     "Name servers that answer the clients' questions, an address with or without port; at most 3."},
    {"policy", LIST, EXIT, set_policy, "{} (the default policy)",
     "Rules of what may leave here, the first that matches decides, then accept: `accept` or `reject`; `tcp`, `udp`, `icmp` or `any`; an address, a prefix, `*4`, `*6` or `*`; ports, as in `\"reject tcp * 6881-6999\"`. Private addresses, the exit's own, relays and TCP port 25 are refused before. `meshvpn-exit-node --check-policy` explains a verdict."},
    {"policy_file", TEXT, EXIT, set_policy_file, "none",
     "A file of such rules, one a line, in place of `policy`."},
    {"blocked_ips", LIST, EXIT, set_blocked_ip, "{}",
     "Addresses and networks that nothing goes to, before `policy` is asked; at most 256."},
    {"allowed_ports", LIST, EXIT, set_allowed_port, "{} (all)",
     "TCP and UDP go to these ports and ranges alone, before `policy` is asked. ICMP is not concerned."},
    {"bandwidth_limit", NUMBER, EXIT, set_bandwidth_limit, "0 (none)",
     "Mbit/s of all sessions, both directions together."},
    {"bandwidth_burst", NUMBER, EXIT, set_bandwidth_burst, "0 (a second's worth)",
     "KiB that all sessions together may pass at once beyond `bandwidth_limit`; at least 64."},
    {"session_limit", NUMBER, EXIT, set_session_limit, "0 (none)",
     "Mbit/s of one session in one direction."},
    {"session_burst", NUMBER, EXIT, set_session_burst, "0 (a second's worth)",
     "KiB that a session may send or receive at once beyond `session_limit`; at least 64."},
    {"monthly_quota", NUMBER, EXIT, set_monthly_quota, "0 (none)",
     "GB (10^9 bytes) in a calendar month (UTC), both directions. Then nothing leaves until the next month. The count is kept in `state_dir`."},
    {"flows_max", NUMBER, EXIT, set_flows_max, "2048",
     "Connections of one session that are open at once, as the host's connection tracking counts them; further ones are refused. 0: no limit."},
    {"metrics_listen", TEXT, EXIT, set_metrics_listen, "none",
     "A local address and port that gives counters as OpenMetrics at /metrics: rounded, and of no user."},
    {"exit_notice", TEXT, EXIT, set_exit_notice, "none",
     "A page on port 80 of the exit's own addresses that says what this is: `default`, or a file of HTML."},
    {"ipv6", TEXT, EXIT, set_ipv6, "auto",
     "Carry IPv6: yes, no, or auto (if the host has a route)."},

};
/* clang-format on */

const mvpn_config_table mvpn_config_exit_table = {settings, MVPN_ARRAY_LEN(settings)};
