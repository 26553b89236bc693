#include "io/host_client.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "exit/policy.h"
#include "io/clock.h"
#include "io/host_dns.h"
#include "io/route_watch.h"
#include "network/ip/inner.h"

#define INNER_MTU 1420
#define PRIORITY_MARK MVPN_HOST_RULES_FIRST
#define PRIORITY_DHCP 31998
#define PRIORITY_REFUSAL PRIORITY_DHCP
#define PRIORITY_OWN 31999 /* the tunnel's own range, before a local network claims it */
#define PRIORITY_SPECIFIC 32000
#define PRIORITY_TUNNEL MVPN_HOST_RULES_LAST
#define TABLE_MAIN 254

static const mvpn_prefix everything[2] = {{.addr = {.family = 4}}, {.addr = {.family = 6}}};

/* 10.8.0.0/24, or the next 10.x.0.0/24 that overlaps nothing here. */
static int choose_range(mvpn_netlink *nl, uint32_t index, mvpn_host_client *host, mvpn_fault *fault)
{
    host->tun_v4 = mvpn_inner_client_addr(4);
    host->tun_v6 = mvpn_inner_client_addr(6);
    host->gateway_v4 = mvpn_inner_gateway_addr(4);
    for (unsigned second = 8; second < 256; second++) {
        mvpn_prefix range = {.addr = {.family = 4, .ip = {10, (uint8_t)second}}, .bits = 24};
        bool clashes = false;
        int r = mvpn_netlink_find_clash(nl, &range, index, &clashes, fault);
        if (r != 0) {
            return r;
        }
        if (!clashes) {
            host->tun_v4.ip[1] = (uint8_t)second;
            host->gateway_v4.ip[1] = (uint8_t)second;
            return 0;
        }
    }
    return mvpn_fault_set(fault, MVPN_E_CONFIG,
                          "every range 10.8.0.0/24 to 10.255.0.0/24 overlaps a route of this host");
}

static int set_rule(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_fault *fault)
{
    return mvpn_netlink_rule_add(nl, rule, fault);
}

/*
 * Which packets may still take the main table's routes: without kill switch those to anything that
 * has a route of its own, so that nothing changes for the local network. With it those to addresses
 * that are local everywhere, if at all: a local network that claims public ones, by its netmask or
 * by DHCP, gets nothing (TunnelCrack).
 */
static int set_specific(mvpn_netlink *nl, const mvpn_host_client *host, uint8_t family,
                        mvpn_fault *fault)
{
    mvpn_rule specific = {
        .family = family,
        .priority = PRIORITY_SPECIFIC,
        .table = TABLE_MAIN,
        .only_specific = true,
    };
    if (host->kill_switch == NULL) {
        return set_rule(nl, &specific, fault);
    }
    size_t unicast = 0, count = 0;
    const mvpn_protect_range *lan = mvpn_protect_lan(&unicast, &count);
    int r = 0;
    for (size_t i = 0; host->protect.allow_lan && r == 0 && i < count; i++) {
        specific.to = (mvpn_prefix){lan[i].addr, lan[i].bits};
        if (lan[i].addr.family == family) {
            r = set_rule(nl, &specific, fault);
        }
    }
    return r;
}

/* By user for the first lookup and the right source address; by mark, which the packet filter
 * gives, what a socket still says after its end, when it belongs to nobody, and cgroups. */
static int set_senders(mvpn_netlink *nl, const mvpn_host_client *host, const mvpn_rule *base,
                       mvpn_fault *fault)
{
    const mvpn_split *split = &host->protect.split;
    int r = 0;
    for (unsigned i = 0; r == 0 && i < split->user_count; i++) {
        mvpn_rule rule = *base;
        rule.has_user = true;
        rule.user = split->users[i];
        r = set_rule(nl, &rule, fault);
    }
    if (r == 0 && host->kill_switch != NULL && mvpn_split_has_senders(split)) {
        mvpn_rule rule = *base;
        rule.mark = mvpn_split_mark(host->mark);
        r = set_rule(nl, &rule, fault);
    }
    return r;
}

/*
 * What goes outside takes the main table at its first lookup, and so has the right source address.
 * Where that table knows no way it ends in the tunnel's, as everything else.
 */
static int set_outside(mvpn_netlink *nl, const mvpn_host_client *host, uint8_t family,
                       mvpn_fault *fault)
{
    const mvpn_split *split = &host->protect.split;
    const mvpn_rule base = {.family = family, .priority = PRIORITY_SPECIFIC, .table = TABLE_MAIN};
    int r = 0;
    for (unsigned i = 0; r == 0 && i < split->target_count; i++) {
        mvpn_rule rule = base;
        rule.to = (mvpn_prefix){split->targets[i].addr, split->targets[i].bits};
        if (rule.to.addr.family == family) {
            r = set_rule(nl, &rule, fault);
        }
    }
    return r != 0 ? r : set_senders(nl, host, &base, fault);
}

/* The tunnel's own range is nobody else's, also not of who has a rule after this. */
static int set_own(mvpn_netlink *nl, const mvpn_host_client *host, uint8_t family,
                   mvpn_fault *fault)
{
    const mvpn_rule own = {
        .family = family,
        .priority = PRIORITY_OWN,
        .table = host->table,
        .to = family == 4 ? (mvpn_prefix){host->tun_v4, 24} : (mvpn_prefix){host->tun_v6, 64},
    };
    const mvpn_split *split = &host->protect.split;
    bool has_lan = host->kill_switch != NULL && host->protect.allow_lan;
    return has_lan || host->has_domains || split->is_inside || split->target_count > 0 ||
                   mvpn_split_has_senders(split)
               ? set_rule(nl, &own, fault)
               : 0;
}

/* A lease is renewed at the server that gave it (RFC 2131 §4.4.5), wherever the main table says
 * that it is. That source port is root's. */
static const mvpn_rule dhcp_rule = {
    .family = 4,
    .priority = PRIORITY_DHCP,
    .table = TABLE_MAIN,
    .protocol = IPPROTO_UDP,
    .port_from = 68,
    .port_to = 67,
};

/* Everything is the tunnel's but what another rule says. */
static int set_tunnel(mvpn_netlink *nl, const mvpn_host_client *host, uint8_t family,
                      mvpn_fault *fault)
{
    const mvpn_rule tunnel = {
        .family = family,
        .priority = PRIORITY_TUNNEL,
        .table = host->table,
        .mark = host->mark,
        .is_not_mark = true,
    };
    int r = set_rule(nl, &tunnel, fault);
    return r != 0 ? r : set_outside(nl, host, family, fault);
}

/* Who alone goes inside; and by source what their sockets still say after their end. */
static int set_inside_senders(mvpn_netlink *nl, const mvpn_host_client *host, uint8_t family,
                              mvpn_fault *fault)
{
    const mvpn_rule base = {.family = family, .priority = PRIORITY_TUNNEL, .table = host->table};
    mvpn_rule rule = base;
    rule.from = family == 4 ? (mvpn_prefix){host->tun_v4, 32} : (mvpn_prefix){host->tun_v6, 128};
    int r = set_rule(nl, &rule, fault);
    return r != 0 ? r : set_senders(nl, host, &base, fault);
}

/* A guard may be in a network that goes inside, and the client a user who does. Its own packets
 * must not end in the tunnel, which would send them again, also while no network is there. */
static int set_mark(mvpn_netlink *nl, const mvpn_host_client *host, uint8_t family,
                    mvpn_fault *fault)
{
    const mvpn_rule main = {
        .family = family, .priority = PRIORITY_MARK, .table = TABLE_MAIN, .mark = host->mark};
    const mvpn_rule refusal = {
        .family = family, .priority = PRIORITY_REFUSAL, .refuses = true, .mark = host->mark};
    int r = set_rule(nl, &main, fault);
    return r != 0 ? r : set_rule(nl, &refusal, fault);
}

/* What alone goes inside. Its networks come before an open local network. */
static int set_inside(mvpn_netlink *nl, const mvpn_host_client *host, uint8_t family,
                      mvpn_fault *fault)
{
    const mvpn_split *split = &host->protect.split;
    int r = set_mark(nl, host, family, fault);
    for (unsigned i = 0; r == 0 && i < split->target_count; i++) {
        const mvpn_rule rule = {
            .family = family,
            .priority = PRIORITY_OWN,
            .table = host->table,
            .to = {split->targets[i].addr, split->targets[i].bits},
        };
        if (rule.to.addr.family == family) {
            r = set_rule(nl, &rule, fault);
        }
    }
    return r != 0 ? r : set_inside_senders(nl, host, family, fault);
}

/* Where answers come from the way that our own packets take (io/reverse_path.h). What is only
 * passed on here does not look so, whatever its mark. */
static mvpn_rule answer_rule(uint32_t mark)
{
    return (mvpn_rule){
        .family = 4,
        .priority = PRIORITY_MARK,
        .table = TABLE_MAIN,
        .mark = mvpn_protect_answer_mark(mark),
        .is_from_here = true,
    };
}

static int set_rules(mvpn_netlink *nl, const mvpn_host_client *host, mvpn_fault *fault)
{
    const mvpn_rule answer = answer_rule(host->mark);
    int r = set_rule(nl, &answer, fault);
    r = r == 0 && host->kill_switch != NULL ? set_rule(nl, &dhcp_rule, fault) : r;
    for (uint8_t family = 4; r == 0 && family <= 6; family += 2) {
        r = host->protect.split.is_inside ? set_inside(nl, host, family, fault)
                                          : set_tunnel(nl, host, family, fault);
        r = r != 0 ? r : set_own(nl, host, family, fault);
        r = r != 0 ? r : set_specific(nl, host, family, fault);
    }
    return r;
}

/* All rules that a client with this mark and table makes, also with other settings than ours. */
static int clear_rules(mvpn_netlink *nl, uint32_t mark, uint32_t table, mvpn_fault *fault)
{
    const mvpn_rule answer = answer_rule(mark);
    int result = mvpn_netlink_rules_clear(nl, &answer, fault);
    int dhcp = mvpn_netlink_rules_clear(nl, &dhcp_rule, fault);
    result = result != 0 ? result : dhcp;
    for (uint8_t family = 4; family <= 6; family += 2) {
        const mvpn_rule rules[] = {
            {.family = family, .priority = PRIORITY_MARK, .table = TABLE_MAIN, .mark = mark},
            {.family = family, .priority = PRIORITY_REFUSAL, .refuses = true, .mark = mark},
            {.family = family, .priority = PRIORITY_OWN, .table = table},
            {.family = family, .priority = PRIORITY_SPECIFIC, .table = TABLE_MAIN},
            {.family = family, .priority = PRIORITY_TUNNEL, .table = table},
        };
        for (size_t i = 0; i < MVPN_ARRAY_LEN(rules); i++) {
            int r = mvpn_netlink_rules_clear(nl, &rules[i], fault);
            result = result != 0 ? result : r;
        }
        int r = mvpn_netlink_refusal_del(nl, table, family, fault);
        result = result != 0 ? result : r;
    }
    return result;
}

static int set_routes(mvpn_netlink *nl, mvpn_host_client *host, uint32_t index, mvpn_fault *fault)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < 2; i++) {
        r = mvpn_netlink_route_add(nl, host->table, index, &everything[i], fault);
    }
    if (r != 0) {
        return r;
    }
    host->has_rules = true; /* also in part: removal tolerates what is not there */
    r = clear_rules(nl, host->mark, host->table, fault);
    for (size_t i = 0; r == 0 && host->kill_switch != NULL && i < 2; i++) {
        r = mvpn_netlink_refusal_add(nl, host->table, everything[i].addr.family, fault);
    }
    return r != 0 ? r : set_rules(nl, host, fault);
}

/* ---- what others take away ---- */

static int set_addresses(mvpn_netlink *nl, const mvpn_host_client *host, mvpn_fault *fault)
{
    mvpn_prefix v4 = {host->tun_v4, 24};
    mvpn_prefix v6 = {host->tun_v6, 64};
    int r = mvpn_netlink_addr_add(nl, host->index, &v4, fault);
    r = r != 0 ? r : mvpn_netlink_link_up(nl, host->index, INNER_MTU, fault);
    return r != 0 ? r : mvpn_netlink_addr_add(nl, host->index, &v6, fault);
}

/*
 * Rules last: they must not lead anybody anywhere but into the tunnel or to the refusal. A device
 * that is gone does not come back; then the refusal has everything.
 */
static int put_back_routes(mvpn_host_client *host, bool *ret_is_device_gone)
{
    int r = set_addresses(host->nl, host, NULL);
    for (size_t i = 0; r == 0 && i < 2; i++) {
        r = mvpn_netlink_route_add(host->nl, host->table, host->index, &everything[i], NULL);
    }
    *ret_is_device_gone = r != 0 && errno == ENODEV;
    r = *ret_is_device_gone ? 0 : r;
    for (size_t i = 0; host->kill_switch != NULL && i < 2; i++) {
        int refused =
            mvpn_netlink_refusal_add(host->nl, host->table, everything[i].addr.family, NULL);
        r = r != 0 ? r : refused;
    }
    int rules = set_rules(host->nl, host, NULL);
    return r != 0 ? r : rules;
}

static enum mvpn_route_watch_finding watch_routes(const mvpn_host_client *host, bool *ret_filters)
{
    const mvpn_route_watch_ours ours = {
        .port = mvpn_netlink_port(host->nl),
        .table = host->table,
        .index = host->index,
        .priority_first = PRIORITY_MARK,
        .priority_last = PRIORITY_TUNNEL,
    };
    return mvpn_route_watch_read(host->route_events, &ours, ret_filters);
}

void mvpn_host_client_fds(const mvpn_host_client *host, int ret[static MVPN_HOST_CLIENT_FDS])
{
    ret[0] = mvpn_packet_filter_fd(host->kill_switch);
    ret[1] = host->has_rules ? host->route_events : -1;
    ret[2] = mvpn_reverse_path_fd(host->reverse_path);
}

/* A kernel that cannot do it drops answers where it filters strictly, which `meshvpn up` tells. */
static void let_answers_in(mvpn_host_client *host)
{
    MVPN_IGNORE(host->reverse_path == NULL
                    ? 0
                    : mvpn_reverse_path_set(host->reverse_path, host->nl, &host->protect,
                                            host->kill_switch != NULL, host->index));
}

static int tend_answers(mvpn_host_client *host, bool filters_changed, bool *ret_repaired)
{
    int r =
        host->reverse_path != NULL ? mvpn_reverse_path_tend(host->reverse_path, ret_repaired) : 0;
    if (filters_changed) {
        let_answers_in(host);
    }
    return r;
}

/*
 * Did another program touch them? They are put back whoever it was. The worker closes the device at
 * its end, and when it falls: of what vanishes with a device the kernel names nobody.
 */
static int tend_routes(mvpn_host_client *host, bool *ret_is_touched, bool *ret_filters)
{
    enum mvpn_route_watch_finding finding = watch_routes(host, ret_filters);
    bool is_device_gone = false;
    if (finding == MVPN_ROUTE_WATCH_NOTHING && !host->is_astray) {
        return 0;
    }
    int r = put_back_routes(host, &is_device_gone);
    host->is_astray = r != 0;
    *ret_is_touched = r != 0 || finding == MVPN_ROUTE_WATCH_PROGRAM || !is_device_gone;
    return r;
}

/* Rules of the kernel's packet filter and of its routing for these cgroups; the first one brings
 * rules that were not there. */
static int set_groups(mvpn_host_client *host, bool has_outside, mvpn_fault *fault)
{
    mvpn_split *split = &host->protect.split;
    mvpn_listed_groups_fill(&host->groups, split);
    if (has_outside) {
        split->cgroups[split->cgroup_count++] = host->group.match;
    }
    int r = mvpn_kill_switch_set(host->kill_switch, &host->protect, host->state, fault);
    r = r != 0 ? r : set_rules(host->nl, host, fault);
    if (r == 0) {
        let_answers_in(host);
    }
    return r;
}

bool mvpn_host_client_has_groups(const mvpn_host_client *host)
{
    return host->kill_switch != NULL && mvpn_listed_groups_can_change(&host->groups);
}

static int tend_groups(mvpn_host_client *host)
{
    bool has_changed = mvpn_listed_groups_look(&host->groups);
    if (!has_changed && !host->is_behind_groups) {
        return 0;
    }
    int r = set_groups(host, host->is_group_open, NULL);
    host->is_behind_groups = r != 0;
    return r;
}

int mvpn_host_client_tend(mvpn_host_client *host, const char **ret_what)
{
    bool is_repaired = false, is_touched = false, filters_changed = false, has_answers = false;
    int r = 0;
    *ret_what = NULL;
    if (host->kill_switch != NULL) {
        r = mvpn_packet_filter_tend(host->kill_switch, &is_repaired);
        *ret_what = r != 0 || is_repaired ? "the kill switch" : NULL;
        int groups = tend_groups(host);
        r = r != 0 ? r : groups;
    }
    if (host->has_rules && host->route_events >= 0) {
        int routes = tend_routes(host, &is_touched, &filters_changed);
        is_repaired |= is_touched && routes == 0;
        r = r != 0 ? r : routes;
    }
    if (is_touched) {
        *ret_what = *ret_what != NULL ? "the kill switch and routes" : "routes";
    }
    int answers = tend_answers(host, filters_changed, &has_answers);
    if (answers != 0 || has_answers) {
        is_repaired |= has_answers;
        *ret_what = *ret_what != NULL ? *ret_what : "what lets answers in";
        r = r != 0 ? r : answers;
    }
    host->repaired += is_repaired;
    return r;
}

/* ---- the kill switch ---- */

/* A run before may have had one, and fallen. */
static int forget_kill_switch(mvpn_fault *fault)
{
    const mvpn_protect_setup nothing = {.lockdown = false};
    mvpn_packet_filter *ks = NULL;
    int r = 0;
    if (mvpn_kill_switch_open(&ks, NULL) != 0) {
        return 0; /* this kernel has none */
    }
    if (mvpn_packet_filter_is_there(ks)) {
        r = mvpn_kill_switch_set(ks, &nothing, MVPN_PROTECT_DISCONNECTED, fault);
    }
    mvpn_packet_filter_close(ks);
    return r;
}

static void fill_protect(mvpn_host_client *host, const mvpn_config_client *config, const char *name)
{
    host->protect = (mvpn_protect_setup){
        .lockdown = config->lockdown,
        .allow_lan = config->allow_lan,
        .mark = config->mark,
        .tun_v4 = host->tun_v4,
        .tun_v6 = host->tun_v6,
    };
    (void)snprintf(host->protect.tun_name, sizeof(host->protect.tun_name), "%s", name);
    mvpn_config_split_fill(&config->split, &host->protect.split);
    host->network_count = host->protect.split.target_count;
    host->has_domains = config->split.domains.count > 0;
}

/* Is it inside by itself? */
static bool is_network(const mvpn_host_client *host, const mvpn_addr *addr)
{
    const mvpn_split *split = &host->protect.split;
    for (unsigned i = 0; i < host->network_count; i++) {
        const mvpn_split_range *range = &split->targets[i];
        if (range->bits == mvpn_addr_ip_len(addr) * 8 && mvpn_addr_ip_eq(&range->addr, addr)) {
            return true;
        }
    }
    return false;
}

static void set_targets(mvpn_host_client *host)
{
    mvpn_split *split = &host->protect.split;
    split->target_count = host->network_count;
    for (unsigned i = 0; i < host->leases.count; i++) {
        const mvpn_addr *addr = &host->leases.at[i].addr;
        split->targets[split->target_count++] =
            (mvpn_split_range){*addr, (uint8_t)(mvpn_addr_ip_len(addr) * 8)};
    }
}

/*
 * Programs know addresses of names from before the client fell. Their rules are still there, with
 * those of networks, which have places of their own.
 */
static int inherit_leases(mvpn_host_client *host, mvpn_netlink *nl, mvpn_fault *fault)
{
    int r = 0;
    for (uint8_t family = 4; host->protect.split.holds_names && r == 0 && family <= 6;
         family += 2) {
        const mvpn_rule like = {.family = family, .priority = PRIORITY_OWN, .table = host->table};
        mvpn_prefix to[MVPN_SPLIT_TARGETS_MAX];
        unsigned count = 0;
        r = mvpn_netlink_rules_targets(nl, &like, to, MVPN_SPLIT_TARGETS_MAX, &count, fault);
        for (unsigned i = 0; i < count; i++) {
            bool is_one = to[i].bits == mvpn_addr_ip_len(&to[i].addr) * 8;
            if (is_one && mvpn_policy_is_public(family, to[i].addr.ip) &&
                !is_network(host, &to[i].addr)) {
                mvpn_split_leases_inherit(&host->leases, &to[i].addr, mvpn_clock_now());
            }
        }
    }
    set_targets(host);
    return r;
}

static int find_groups(mvpn_host_client *host, const mvpn_config_client *config, mvpn_fault *fault)
{
    int r = mvpn_listed_groups_find(&host->groups, &config->split, fault);
    mvpn_listed_groups_fill(&host->groups, &host->protect.split);
    return r;
}

/* Before anything else changes: from here on nothing leaves but what the state allows. */
static int protect(mvpn_host_client *host, const mvpn_config_client *config, mvpn_netlink *nl,
                   mvpn_fault *fault)
{
    fill_protect(host, config, mvpn_tun_name(host->tun));
    if (!config->kill_switch || !config->routes_all) {
        return forget_kill_switch(fault);
    }
    int r = find_groups(host, config, fault);
    r = r != 0 ? r : inherit_leases(host, nl, fault);
    r = r != 0 ? r : mvpn_kill_switch_open(&host->kill_switch, fault);
    if (r != 0) {
        return r;
    }
    host->was_in_force = mvpn_packet_filter_is_there(host->kill_switch);
    return mvpn_host_client_event(host, MVPN_PROTECT_UP, fault);
}

int mvpn_host_client_event(mvpn_host_client *host, enum mvpn_protect_event event, mvpn_fault *fault)
{
    enum mvpn_protect_state next = mvpn_protect_next(host->state, event);
    int r = 0;
    if (next != host->state && host->kill_switch != NULL) {
        r = mvpn_kill_switch_set(host->kill_switch, &host->protect, next, fault);
    }
    host->state = r == 0 ? next : host->state;
    return r;
}

static int open_group(mvpn_host_client *host, mvpn_fault *fault)
{
    int r = set_groups(host, true, fault);
    host->is_group_open = r == 0;
    if (r != 0) {
        MVPN_IGNORE(set_groups(host, false, NULL));
    }
    return r;
}

int mvpn_host_client_outside(mvpn_host_client *host, pid_t pid, mvpn_fault *fault)
{
    if (host->protect.split.is_inside) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "with inside_* all else is outside already");
    }
    if (host->kill_switch == NULL) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "run --outside needs kill_switch = true and routes = all: its packet "
                              "filter knows what goes outside. Or use outside_users");
    }
    int r = 0;
    if (host->group.processes >= 0 && !host->is_group_open) {
        r = open_group(host, fault);
    }
    return r != 0 ? r : mvpn_outside_group_add(&host->group, pid, fault);
}

static mvpn_rule lease_rule(const mvpn_host_client *host, const mvpn_addr *addr)
{
    bool is_inside = host->protect.split.is_inside;
    return (mvpn_rule){.family = addr->family,
                       .priority = is_inside ? PRIORITY_OWN : PRIORITY_SPECIFIC,
                       .table = is_inside ? host->table : TABLE_MAIN,
                       .to = {*addr, (uint8_t)(mvpn_addr_ip_len(addr) * 8)}};
}

static bool is_leased(const mvpn_split_leases *leases, const mvpn_addr *addr)
{
    bool is = false;
    for (unsigned i = 0; i < leases->count; i++) {
        is = is || mvpn_addr_ip_eq(&leases->at[i].addr, addr);
    }
    return is;
}

static int add_lease_rules(const mvpn_host_client *host, const mvpn_split_leases *before,
                           mvpn_fault *fault)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < host->leases.count; i++) {
        const mvpn_rule rule = lease_rule(host, &host->leases.at[i].addr);
        r = is_leased(before, &rule.to.addr) ? 0 : set_rule(host->nl, &rule, fault);
    }
    return r;
}

/* An address may be a network of the configuration as well. */
static void remove_lease_rules(const mvpn_host_client *host, const mvpn_split_leases *before)
{
    for (unsigned i = 0; i < before->count; i++) {
        const mvpn_rule rule = lease_rule(host, &before->at[i].addr);
        if (!is_leased(&host->leases, &rule.to.addr) && !is_network(host, &rule.to.addr)) {
            MVPN_IGNORE(mvpn_netlink_rule_del(host->nl, &rule, NULL));
        }
    }
}

/* Routes and the packet filter follow from `before` to what is leased now. */
static int follow_leases(mvpn_host_client *host, const mvpn_split_leases *before, mvpn_fault *fault)
{
    set_targets(host);
    int r = add_lease_rules(host, before, fault);
    if (r == 0 && host->kill_switch != NULL) {
        r = mvpn_kill_switch_set(host->kill_switch, &host->protect, host->state, fault);
    }
    if (r == 0) {
        remove_lease_rules(host, before);
    }
    return r;
}

/* The worker counts on nothing of what failed. Where the packet filter fails again it has still
 * what was before, and gets it anew when it is tended. */
static void take_leases_back(mvpn_host_client *host, const mvpn_split_leases *before)
{
    const mvpn_split_leases failed = host->leases;
    host->leases = *before;
    set_targets(host);
    if (host->kill_switch != NULL) {
        MVPN_IGNORE(mvpn_kill_switch_set(host->kill_switch, &host->protect, host->state, NULL));
    }
    remove_lease_rules(host, &failed);
}

int mvpn_host_client_open(mvpn_host_client *host, const mvpn_addr *addrs, unsigned count,
                          mvpn_time now, mvpn_fault *fault)
{
    const mvpn_split_leases before = host->leases;
    bool holds = host->protect.split.holds_names, has_new = false;
    int r = 0;
    if (!holds) {
        has_new = mvpn_split_leases_expire(&host->leases, now);
    }
    for (unsigned i = 0; r == 0 && i < count; i++) {
        if (!holds) {
            has_new |= mvpn_split_leases_add(&host->leases, &addrs[i], now);
        } else {
            /* The worker has said what counts. */
            enum mvpn_split_hold hold =
                mvpn_split_leases_hold(&host->leases, &addrs[i], now + i, 0);
            has_new |= hold == MVPN_SPLIT_TAKEN;
            r = hold != MVPN_SPLIT_FULL
                    ? 0
                    : mvpn_fault_set(fault, MVPN_E_LIMIT,
                                     "there is no place for more. Name networks of "
                                     "theirs in inside_networks");
        }
    }
    if (r == 0 && has_new) {
        r = follow_leases(host, &before, fault);
    }
    if (r != 0) {
        take_leases_back(host, &before);
    }
    return r;
}

void mvpn_host_client_expire(mvpn_host_client *host, mvpn_time now)
{
    const mvpn_split_leases before = host->leases;
    if (!host->protect.split.holds_names && mvpn_split_leases_expire(&host->leases, now)) {
        MVPN_IGNORE(follow_leases(host, &before, NULL)); /* a filter that stays passes too much of
                                                          * what was outside before, nothing else */
    }
}

int mvpn_host_client_adopt(mvpn_host_client *ret, const mvpn_config_client *config,
                           mvpn_fault *fault)
{
    const mvpn_tun_options options = {.use_fd = true, .fd = config->tun_fd};
    *ret = (mvpn_host_client){.mark = config->mark, .route_events = -1};
    ret->group.processes = ret->group.parent = -1;
    ret->tun_v4 = mvpn_inner_client_addr(4);
    ret->tun_v6 = mvpn_inner_client_addr(6);
    ret->gateway_v4 = mvpn_inner_gateway_addr(4);
    return mvpn_tun_open(&ret->tun, &options, fault);
}

int mvpn_host_client_setup(mvpn_host_client *ret, const mvpn_config_client *config,
                           mvpn_fault *fault)
{
    mvpn_tun_options tun_options = {.name = config->tun_name};
    mvpn_netlink *nl = NULL;
    uint32_t index = 0;
    *ret = (mvpn_host_client){.mark = config->mark, .table = config->table, .route_events = -1};
    ret->group.processes = ret->group.parent = -1;
    int r = mvpn_tun_open(&ret->tun, &tun_options, fault);
    r = r != 0 ? r : mvpn_netlink_open(&nl, fault);
    r = r != 0 ? r : mvpn_netlink_index(nl, mvpn_tun_name(ret->tun), &index, fault);
    r = r != 0 ? r : choose_range(nl, index, ret, fault);
    r = r != 0 ? r : protect(ret, config, nl, fault);
    ret->index = index;
    r = r != 0 ? r : set_addresses(nl, ret, fault);
    if (r == 0 && config->routes_all) {
        r = set_routes(nl, ret, index, fault);
        ret->route_events = mvpn_route_watch_open(); /* without it nobody repairs them */
    }
    if (r == 0 && ret->kill_switch != NULL && !ret->protect.split.is_inside) {
        mvpn_outside_group_make(&ret->group);
    }
    ret->nl = nl;
    if (r == 0 && config->routes_all && mvpn_reverse_path_open(&ret->reverse_path, NULL) == 0) {
        let_answers_in(ret);
    }
    if (r != 0) {
        mvpn_host_client_remove(ret, MVPN_HOST_START_FAILED);
    }
    return r;
}

static void forget_answers(mvpn_reverse_path *rp, mvpn_netlink *nl)
{
    if (rp != NULL) {
        mvpn_reverse_path_unset(rp, nl);
        mvpn_reverse_path_close(rp);
    }
}

/* What leads to the state in which this client leaves its host; the last one opens, if any does. */
static enum mvpn_protect_event last_event(const mvpn_host_client *host, enum mvpn_host_end end)
{
    bool is_done = end == MVPN_HOST_START_FAILED ? !host->was_in_force
                                                 : host->state == MVPN_PROTECT_DISCONNECTING;
    return is_done ? MVPN_PROTECT_STOPPED : MVPN_PROTECT_FAILED;
}

void mvpn_host_client_remove(mvpn_host_client *host, enum mvpn_host_end end)
{
    enum mvpn_protect_event last = last_event(host, end);
    if (!host->protect.split.is_inside) { /* nobody would end leases of names */
        host->protect.split.target_count = host->network_count;
    }
    bool stays =
        host->kill_switch != NULL && (last == MVPN_PROTECT_FAILED || host->protect.lockdown);
    /* Nothing more can be done about what fails here: what was in force before still is. */
    if (last == MVPN_PROTECT_STOPPED) {
        MVPN_IGNORE(mvpn_host_client_event(host, MVPN_PROTECT_DOWN, NULL));
    }
    if (host->has_rules && !stays) {
        MVPN_IGNORE(clear_rules(host->nl, host->mark, host->table, NULL));
    }
    forget_answers(host->reverse_path, host->nl);
    mvpn_netlink_close(host->nl);
    if (host->route_events >= 0) {
        (void)close(host->route_events);
    }
    if (host->tun != NULL) {
        mvpn_tun_close(host->tun); /* its addresses and routes vanish with it */
    }
    MVPN_IGNORE(mvpn_host_client_event(host, last, NULL));
    mvpn_packet_filter_close(host->kill_switch);
    mvpn_outside_group_remove(&host->group);
    *host = (mvpn_host_client){.route_events = -1};
}

int mvpn_host_client_lockdown(const mvpn_config_client *config, bool *ret_is_closed,
                              mvpn_fault *fault)
{
    mvpn_host_client host = {
        .mark = config->mark,
        .table = config->table,
        .tun_v4 = mvpn_inner_client_addr(4),
        .tun_v6 = mvpn_inner_client_addr(6),
    };
    uint32_t index = 0;
    *ret_is_closed = false;
    if (!config->lockdown || !config->kill_switch || !config->routes_all) {
        return 0;
    }
    int r = mvpn_netlink_open(&host.nl, fault);
    if (r == 0 && mvpn_netlink_index(host.nl, config->tun_name, &index, NULL) == 0) {
        *ret_is_closed = true; /* by the client that runs */
    } else if (r == 0) {
        fill_protect(&host, config, config->tun_name);
        MVPN_IGNORE(find_groups(&host, config, NULL)); /* at boot there may be none yet */
        r = inherit_leases(&host, host.nl, fault);
        r = r != 0 ? r : mvpn_kill_switch_open(&host.kill_switch, fault);
        r = r != 0 ? r : mvpn_kill_switch_set(host.kill_switch, &host.protect, host.state, fault);
        *ret_is_closed = r == 0;
        r = r != 0 ? r : clear_rules(host.nl, host.mark, host.table, fault);
        for (size_t i = 0; r == 0 && i < 2; i++) {
            r = mvpn_netlink_refusal_add(host.nl, host.table, everything[i].addr.family, fault);
        }
        r = r != 0 ? r : set_rules(host.nl, &host, fault);
    }
    mvpn_packet_filter_close(host.kill_switch);
    mvpn_netlink_close(host.nl);
    return r;
}

int mvpn_host_client_cleanup(const mvpn_config_client *config, mvpn_fault *fault)
{
    mvpn_netlink *nl = NULL;
    mvpn_reverse_path *rp = NULL;
    uint32_t index = 0;
    int r = mvpn_netlink_open(&nl, fault);
    if (r == 0 && mvpn_netlink_index(nl, config->tun_name, &index, NULL) == 0) {
        r = mvpn_fault_set(fault, MVPN_E_STATE,
                           "a client runs: there is an interface %s. End it, and nothing is left",
                           config->tun_name);
    }
    r = r != 0 ? r : clear_rules(nl, config->mark, config->table, fault);
    if (r == 0 && mvpn_reverse_path_open(&rp, NULL) == 0) {
        forget_answers(rp, nl);
    }
    mvpn_netlink_close(nl);
    r = r != 0 ? r : mvpn_host_dns_cleanup(config, fault);
    return r != 0 ? r : forget_kill_switch(fault);
}
