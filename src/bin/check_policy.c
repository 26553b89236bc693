#include "bin/check_policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/clock.h"
#include "network/ip/ip.h"

/* "ADDRESS:PORT[/tcp|/udp]" or "ADDRESS/icmp". */
static bool parse_destination(const char *text, mvpn_ip *ret)
{
    char host[MVPN_ADDR_STRLEN + 8];
    const char *slash = strrchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    const char *protocol = slash != NULL ? slash + 1 : "tcp";
    mvpn_addr a;
    if (n >= sizeof(host)) {
        return false;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') { /* without a port, as for ICMP */
        memmove(host, host + 1, n - 2);
        host[n - 2] = '\0';
    }
    if (mvpn_addr_parse(host, &a) != 0) {
        return false;
    }
    *ret = (mvpn_ip){.version = a.family, .has_l4 = true, .dst_port = a.port};
    memcpy(ret->dst, a.ip, sizeof(a.ip));
    if (strcmp(protocol, "tcp") == 0 || strcmp(protocol, "udp") == 0) {
        ret->protocol = protocol[0] == 't' ? MVPN_IP_TCP : MVPN_IP_UDP;
        return a.port != 0;
    }
    ret->protocol = a.family == 4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6;
    return strcmp(protocol, "icmp") == 0 && a.port == 0;
}

/* The `n`th line, without what surrounds it. */
static void print_line(const char *text, unsigned n)
{
    for (; n > 1 && text != NULL; n--) {
        text = strchr(text, '\n');
        text = text == NULL ? NULL : text + 1;
    }
    if (text != NULL) {
        text += strspn(text, " \t");
        size_t len = strcspn(text, "\n#");
        while (len > 0 && strchr(" \t\r", text[len - 1]) != NULL) {
            len--;
        }
        (void)printf(": %.*s", (int)len, text);
    }
}

static void print_verdict(const cli *c, const char *destination, const mvpn_policy_verdict *v)
{
    const mvpn_config_exit *e = &c->config.exit;
    bool is_rule = v->step == MVPN_POLICY_BY_RULE;
    (void)printf("%s %s: %s", v->result == MVPN_POLICY_ACCEPT ? "accept" : "reject", destination,
                 mvpn_policy_step_text(v->step));
    if (is_rule && e->policy_count >= v->line) {
        (void)printf(", rule %u, line %u of the configuration", v->line,
                     e->policy_lines[v->line - 1]);
    } else if (is_rule) {
        (void)printf(", line %u of %s", v->line, e->policy_file);
    } else if (v->step == MVPN_POLICY_BY_BLOCKED) {
        (void)printf(", line %u of the configuration", v->line);
    }
    if (is_rule) {
        print_line(e->policy, v->line);
    }
    (void)printf("\n");
}

static int add_own(const cli *c, mvpn_policy *policy)
{
    const mvpn_config *config = &c->config;
    int r = mvpn_policy_add_own(policy, &config->exit.pool_v4.addr, config->exit.pool_v4.bits);
    r = r != 0 ? r : mvpn_policy_add_own(policy, &config->exit.pool_v6.addr, 64);
    for (unsigned i = 0; r == 0 && i < config->relay.address_count; i++) {
        const mvpn_addr *a = &config->relay.addresses[i];
        r = mvpn_policy_add_own(policy, a, (unsigned)mvpn_addr_ip_len(a) * 8);
    }
    return r;
}

/* Those that the network file lists; a running exit knows those of the DHT as well. */
static void add_relays(cli *c, mvpn_policy *policy)
{
    mvpn_fault fault = {.text = ""};
    if (mvpn_network_file_load(c->config.network_file, mvpn_clock_unix(), &c->network, &fault) !=
        0) {
        (void)fprintf(stderr, "%s: relays are not considered: %s\n", c->program, fault.text);
        return;
    }
    mvpn_addr *list =
        calloc(c->network.relay_count * MVPN_DESCRIPTOR_ADDRESSES_MAX + 1, sizeof(*list));
    size_t count = 0;
    for (size_t i = 0; list != NULL && i < c->network.relay_count; i++) {
        const mvpn_descriptor *d = &c->network.relays[i];
        for (size_t k = 0; k < d->address_count; k++) {
            list[count++] = d->addresses[k].addr;
        }
    }
    if (list == NULL || mvpn_policy_set_relays(policy, list, count) != 0) {
        (void)fprintf(stderr, "%s: relays are not considered: too many\n", c->program);
    }
    free(list);
}

int check_policy(cli *c)
{
    mvpn_fault fault = {.text = ""};
    mvpn_policy *policy = NULL;
    mvpn_ip ip;
    const char *destination = c->destination != NULL ? c->destination : c->check_policy;
    if (!parse_destination(destination, &ip)) {
        (void)fprintf(stderr,
                      "%s: '%.80s' is no destination. Write it as 11.2.3.4:443, 11.2.3.4:53/udp, "
                      "[2a10::1]:443 or 11.2.3.4/icmp\n",
                      c->program, destination);
        return CLI_USAGE;
    }
    if (c->destination != NULL) {
        mvpn_config_exit *e = &c->config.exit;
        (void)snprintf(e->policy_file, sizeof(e->policy_file), "%s", c->check_policy);
        if (mvpn_config_read_policy(e, c->check_policy, &fault) != 0) {
            (void)cli_fail(c, &fault);
            return CLI_USAGE;
        }
    }
    if (mvpn_config_policy(&c->config.exit, &policy, &fault) != 0 || add_own(c, policy) != 0) {
        mvpn_policy_free(policy);
        (void)cli_fail(c, &fault);
        return CLI_USAGE;
    }
    if (c->destination == NULL) {
        add_relays(c, policy);
    }
    mvpn_policy_verdict v = mvpn_policy_judge(policy, &ip);
    print_verdict(c, destination, &v);
    mvpn_policy_free(policy);
    return v.result == MVPN_POLICY_ACCEPT ? 0 : 1;
}
