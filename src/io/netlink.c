#include "io/netlink.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/netconf.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/nlsocket.h"

struct mvpn_netlink {
    mvpn_nlsocket nl;
};

/* ---- prefixes ---- */

int mvpn_prefix_parse(const char *text, mvpn_prefix *ret)
{
    char host[MVPN_ADDR_STRLEN];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    mvpn_prefix p = {{0}, 0};
    if (len >= sizeof(host)) {
        return MVPN_E_FORMAT;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    if (host[0] == '[' || mvpn_addr_parse(host, &p.addr) != 0 || p.addr.port != 0) {
        return MVPN_E_FORMAT;
    }
    unsigned bits_max = (unsigned)mvpn_addr_ip_len(&p.addr) * 8;
    unsigned long bits = bits_max;
    if (slash != NULL) {
        char *end = NULL;
        if (slash[1] < '0' || slash[1] > '9' || strlen(slash + 1) > 3) {
            return MVPN_E_FORMAT;
        }
        bits = strtoul(slash + 1, &end, 10);
        if (*end != '\0' || bits > bits_max) {
            return MVPN_E_FORMAT;
        }
    }
    p.bits = (uint8_t)bits;
    *ret = p;
    return 0;
}

bool mvpn_prefix_overlaps(const mvpn_prefix *a, const mvpn_prefix *b)
{
    return a->addr.family == b->addr.family &&
           mvpn_ip_in_prefix(a->addr.ip, b->addr.ip, mvpn_addr_ip_len(&a->addr),
                             MVPN_MIN(a->bits, b->bits));
}

static const char *prefix_text(const mvpn_prefix *p, char out[static MVPN_ADDR_STRLEN + 4])
{
    char host[MVPN_ADDR_STRLEN];
    mvpn_addr bare = p->addr;
    bare.port = 0;
    (void)snprintf(out, MVPN_ADDR_STRLEN + 4, "%s/%u", mvpn_addr_format(&bare, host),
                   (unsigned)p->bits);
    return out;
}

/* ---- requests ---- */

int mvpn_netlink_open(mvpn_netlink **ret, mvpn_fault *fault)
{
    mvpn_netlink *nl = calloc(1, sizeof(*nl));
    if (nl == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for netlink");
    }
    if (mvpn_nlsocket_open(&nl->nl, NETLINK_ROUTE) != 0) {
        int err = errno;
        free(nl);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot open a netlink socket");
    }
    *ret = nl;
    return 0;
}

void mvpn_netlink_close(mvpn_netlink *nl)
{
    if (nl == NULL) {
        return;
    }
    mvpn_nlsocket_close(&nl->nl);
    free(nl);
}

uint32_t mvpn_netlink_port(const mvpn_netlink *nl)
{
    return nl->nl.port;
}

static int change(mvpn_netlink *nl, const struct nlmsghdr *msg)
{
    return mvpn_nlsocket_talk(&nl->nl, msg, NULL, NULL);
}

static int fault_of(int err, mvpn_fault *fault, const char *what, const char *object)
{
    if (err == EPERM) {
        (void)mvpn_fault_set(fault, 0, "cannot %s %s: run as root or with CAP_NET_ADMIN", what,
                             object);
        errno = err;
        return MVPN_E_SYSTEM;
    }
    return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot %s %s", what, object);
}

static uint8_t af_of(uint8_t family)
{
    return family == 4 ? AF_INET : AF_INET6;
}

static void put_ip(struct nlmsghdr *msg, unsigned type, const mvpn_addr *addr)
{
    mnl_attr_put(msg, (uint16_t)type, mvpn_addr_ip_len(addr), addr->ip);
}

/* ---- links and addresses ---- */

int mvpn_netlink_index(mvpn_netlink *nl, const char *name, uint32_t *ret, mvpn_fault *fault)
{
    (void)nl;
    unsigned index = if_nametoindex(name);
    if (index == 0) {
        return mvpn_fault_set(fault, MVPN_E_UNKNOWN, "there is no network interface %s", name);
    }
    *ret = index;
    return 0;
}

static const char *index_name(uint32_t index, char out[static IF_NAMESIZE])
{
    if (if_indextoname(index, out) == NULL) {
        (void)snprintf(out, IF_NAMESIZE, "#%u", (unsigned)index);
    }
    return out;
}

int mvpn_netlink_link_up(mvpn_netlink *nl, uint32_t index, uint32_t mtu, mvpn_fault *fault)
{
    char name[IF_NAMESIZE];
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, RTM_NEWLINK, NLM_F_ACK);
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->ifi_index = (int)index;
    info->ifi_flags = IFF_UP;
    info->ifi_change = IFF_UP;
    mnl_attr_put_u32(msg, IFLA_MTU, mtu);
    if (change(nl, msg) != 0) {
        return fault_of(errno, fault, "bring up network interface", index_name(index, name));
    }
    return 0;
}

static int change_addr(mvpn_netlink *nl, unsigned type, unsigned flags, uint32_t index,
                       const mvpn_prefix *prefix)
{
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, type, NLM_F_ACK | flags);
    struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->ifa_family = af_of(prefix->addr.family);
    info->ifa_prefixlen = prefix->bits;
    info->ifa_index = index;
    put_ip(msg, IFA_LOCAL, &prefix->addr);
    put_ip(msg, IFA_ADDRESS, &prefix->addr);
    if (type == RTM_NEWADDR && prefix->addr.family == 6) {
        info->ifa_flags = IFA_F_NODAD;
    }
    return change(nl, msg);
}

int mvpn_netlink_addr_add(mvpn_netlink *nl, uint32_t index, const mvpn_prefix *prefix,
                          mvpn_fault *fault)
{
    char text[MVPN_ADDR_STRLEN + 4];
    if (change_addr(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, prefix) != 0 &&
        errno != EEXIST) {
        return fault_of(errno, fault, "add address", prefix_text(prefix, text));
    }
    return 0;
}

int mvpn_netlink_addr_del(mvpn_netlink *nl, uint32_t index, const mvpn_prefix *prefix,
                          mvpn_fault *fault)
{
    char text[MVPN_ADDR_STRLEN + 4];
    if (change_addr(nl, RTM_DELADDR, 0, index, prefix) != 0 && errno != EADDRNOTAVAIL &&
        errno != ENODEV) {
        return fault_of(errno, fault, "remove address", prefix_text(prefix, text));
    }
    return 0;
}

/* ---- routes ---- */

static int change_route(mvpn_netlink *nl, unsigned type, unsigned flags, uint32_t table,
                        uint32_t index, const mvpn_prefix *prefix)
{
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, type, NLM_F_ACK | flags);
    struct rtmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->rtm_family = af_of(prefix->addr.family);
    info->rtm_dst_len = prefix->bits;
    info->rtm_table = table < 256 ? (uint8_t)table : RT_TABLE_UNSPEC;
    info->rtm_protocol = RTPROT_STATIC;
    /* Of link scope it would answer when the kernel asks where a gateway is, and who types "ip
     * route add default via ..." without a device, on a new network, would send all into the
     * tunnel. */
    info->rtm_scope = RT_SCOPE_UNIVERSE;
    info->rtm_type = RTN_UNICAST;
    if (prefix->bits > 0) {
        put_ip(msg, RTA_DST, &prefix->addr);
    }
    mnl_attr_put_u32(msg, RTA_TABLE, table);
    mnl_attr_put_u32(msg, RTA_OIF, index);
    return change(nl, msg);
}

int mvpn_netlink_route_add(mvpn_netlink *nl, uint32_t table, uint32_t index,
                           const mvpn_prefix *prefix, mvpn_fault *fault)
{
    char text[MVPN_ADDR_STRLEN + 4];
    if (change_route(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, table, index, prefix) != 0) {
        return fault_of(errno, fault, "add route", prefix_text(prefix, text));
    }
    return 0;
}

int mvpn_netlink_route_del(mvpn_netlink *nl, uint32_t table, uint32_t index,
                           const mvpn_prefix *prefix, mvpn_fault *fault)
{
    char text[MVPN_ADDR_STRLEN + 4];
    /* ENOENT: IPv4 knows no such table. */
    if (change_route(nl, RTM_DELROUTE, 0, table, index, prefix) != 0 && errno != ESRCH &&
        errno != ENODEV && errno != ENOENT) {
        return fault_of(errno, fault, "remove route", prefix_text(prefix, text));
    }
    return 0;
}

/* Above every metric that people give, and 1024, which IPv6 gives by itself. */
#define REFUSAL_METRIC 0x7fffffffu

static int change_refusal(mvpn_netlink *nl, unsigned type, unsigned flags, uint32_t table,
                          uint8_t family)
{
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, type, NLM_F_ACK | flags);
    struct rtmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->rtm_family = af_of(family);
    info->rtm_table = table < 256 ? (uint8_t)table : RT_TABLE_UNSPEC;
    info->rtm_protocol = RTPROT_STATIC;
    info->rtm_scope = RT_SCOPE_UNIVERSE;
    info->rtm_type = RTN_UNREACHABLE;
    mnl_attr_put_u32(msg, RTA_TABLE, table);
    mnl_attr_put_u32(msg, RTA_PRIORITY, REFUSAL_METRIC);
    return change(nl, msg);
}

int mvpn_netlink_refusal_add(mvpn_netlink *nl, uint32_t table, uint8_t family, mvpn_fault *fault)
{
    if (change_refusal(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, table, family) != 0) {
        return fault_of(errno, fault, "add", "the route behind the tunnel");
    }
    return 0;
}

int mvpn_netlink_refusal_del(mvpn_netlink *nl, uint32_t table, uint8_t family, mvpn_fault *fault)
{
    if (change_refusal(nl, RTM_DELROUTE, 0, table, family) != 0 && errno != ESRCH &&
        errno != ENOENT) {
        return fault_of(errno, fault, "remove", "the route behind the tunnel");
    }
    return 0;
}

/* ---- rules ---- */

static int change_rule(mvpn_netlink *nl, unsigned type, unsigned flags, const mvpn_rule *rule)
{
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, type, NLM_F_ACK | flags);
    struct fib_rule_hdr *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->family = af_of(rule->family);
    info->action = rule->refuses ? FR_ACT_UNREACHABLE : FR_ACT_TO_TBL;
    info->table = rule->table < 256 ? (uint8_t)rule->table : RT_TABLE_UNSPEC;
    info->flags = rule->is_not_mark ? FIB_RULE_INVERT : 0;
    mnl_attr_put_u32(msg, FRA_PRIORITY, rule->priority);
    mnl_attr_put_u32(msg, FRA_TABLE, rule->table);
    if (rule->mark != 0) {
        mnl_attr_put_u32(msg, FRA_FWMARK, rule->mark);
        mnl_attr_put_u32(msg, FRA_FWMASK, UINT32_MAX);
    }
    if (rule->is_from_here) {
        mnl_attr_put_strz(msg, FRA_IIFNAME, "lo");
    }
    if (rule->only_specific) {
        mnl_attr_put_u32(msg, FRA_SUPPRESS_PREFIXLEN, 0);
    }
    if (rule->has_user) {
        const struct fib_rule_uid_range range = {rule->user, rule->user};
        mnl_attr_put(msg, FRA_UID_RANGE, sizeof(range), &range);
    }
    if (rule->from.addr.family != 0) {
        info->src_len = rule->from.bits;
        put_ip(msg, FRA_SRC, &rule->from.addr);
    }
    if (rule->to.addr.family != 0) {
        info->dst_len = rule->to.bits;
        put_ip(msg, FRA_DST, &rule->to.addr);
    }
    if (rule->protocol != 0) {
        const struct fib_rule_port_range from = {rule->port_from, rule->port_from};
        const struct fib_rule_port_range to = {rule->port_to, rule->port_to};
        mnl_attr_put_u8(msg, FRA_IP_PROTO, rule->protocol);
        mnl_attr_put(msg, FRA_SPORT_RANGE, sizeof(from), &from);
        mnl_attr_put(msg, FRA_DPORT_RANGE, sizeof(to), &to);
    }
    return change(nl, msg);
}

static const char *rule_text(const mvpn_rule *rule, char *out, size_t size)
{
    (void)snprintf(out, size, "IPv%u rule %u for table %u", (unsigned)rule->family,
                   (unsigned)rule->priority, (unsigned)rule->table);
    return out;
}

int mvpn_netlink_rule_add(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_fault *fault)
{
    char text[64];
    /* EXCL: without it the kernel keeps several equal rules. */
    if (change_rule(nl, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule) != 0 && errno != EEXIST) {
        return fault_of(errno, fault, "add", rule_text(rule, text, sizeof(text)));
    }
    return 0;
}

int mvpn_netlink_rule_del(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_fault *fault)
{
    char text[64];
    if (change_rule(nl, RTM_DELRULE, 0, rule) != 0 && errno != ENOENT && errno != EAFNOSUPPORT) {
        return fault_of(errno, fault, "remove", rule_text(rule, text, sizeof(text)));
    }
    return 0;
}

int mvpn_netlink_rules_clear(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_fault *fault)
{
    char text[64];
    while (change_rule(nl, RTM_DELRULE, 0, rule) == 0) { /* each deletes the first that fits */
    }
    if (errno != ENOENT && errno != EAFNOSUPPORT) {
        return fault_of(errno, fault, "remove", rule_text(rule, text, sizeof(text)));
    }
    return 0;
}

/* ---- interfaces ---- */

/* The address in attribute `type`; false if there is none of the right length. */
static bool find_ip(const struct nlmsghdr *msg, size_t header, uint16_t type, mvpn_addr *ret)
{
    MVPN_NL_FOREACH(attr, msg, header)
    {
        if (mnl_attr_get_type(attr) == type &&
            mnl_attr_get_payload_len(attr) == mvpn_addr_ip_len(ret)) {
            memcpy(ret->ip, mnl_attr_get_payload(attr), mvpn_addr_ip_len(ret));
            return true;
        }
    }
    return false;
}

static uint32_t find_u32(const struct nlmsghdr *msg, size_t header, uint16_t type)
{
    MVPN_NL_FOREACH(attr, msg, header)
    {
        if (mnl_attr_get_type(attr) == type && mnl_attr_validate(attr, MNL_TYPE_U32) >= 0) {
            return mnl_attr_get_u32(attr);
        }
    }
    return 0;
}

static void take_way(const struct nlmsghdr *msg, void *ctx)
{
    mvpn_netlink_way *way = ctx;
    const struct rtmsg *info = mnl_nlmsg_get_payload(msg);
    if (info->rtm_type != RTN_UNICAST) {
        return;
    }
    way->gateway.family = way->source.family = info->rtm_family == AF_INET ? 4 : 6;
    way->index = find_u32(msg, sizeof(*info), RTA_OIF);
    (void)find_ip(msg, sizeof(*info), RTA_GATEWAY, &way->gateway);
    (void)find_ip(msg, sizeof(*info), RTA_PREFSRC, &way->source);
}

int mvpn_netlink_way_out(mvpn_netlink *nl, unsigned family, uint32_t mark, mvpn_netlink_way *ret,
                         mvpn_fault *fault)
{
    /* Nobody's, but no range that hosts refuse by routes of their own. Nothing is sent there. */
    const mvpn_addr somewhere = family == 4 ? (mvpn_addr){.family = 4, .ip = {128, 0, 0, 1}}
                                            : (mvpn_addr){.family = 6, .ip = {0x20, [15] = 1}};
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETROUTE, NLM_F_ACK);
    struct rtmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->rtm_family = af_of(somewhere.family);
    info->rtm_dst_len = (uint8_t)(mvpn_addr_ip_len(&somewhere) * 8);
    put_ip(msg, RTA_DST, &somewhere);
    mnl_attr_put_u32(msg, RTA_MARK, mark);
    *ret = (mvpn_netlink_way){0};
    if (mvpn_nlsocket_talk(&nl->nl, msg, take_way, ret) != 0 && errno != ENETUNREACH &&
        errno != EHOSTUNREACH && errno != EACCES && errno != EINVAL && errno != EAFNOSUPPORT &&
        errno != EOPNOTSUPP && errno != ENETDOWN) {
        return fault_of(errno, fault, "look for", "the default route");
    }
    return 0;
}

struct links {
    mvpn_netlink_address_fn *fn;
    void *ctx;
    size_t count;
    struct {
        uint32_t index;
        unsigned flags;
        char name[IF_NAMESIZE];
    } at[MVPN_NETLINK_LINKS_MAX];
};

static void note_link(const struct nlmsghdr *msg, void *ctx)
{
    struct links *links = ctx;
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
    if (links->count == MVPN_ARRAY_LEN(links->at)) {
        return;
    }
    links->at[links->count].index = (uint32_t)info->ifi_index;
    links->at[links->count].flags = info->ifi_flags;
    MVPN_NL_FOREACH(attr, msg, sizeof(*info))
    {
        if (mnl_attr_get_type(attr) == IFLA_IFNAME &&
            mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0) {
            (void)snprintf(links->at[links->count].name, IF_NAMESIZE, "%s", mnl_attr_get_str(attr));
        }
    }
    links->count++;
}

static void tell_address(const struct nlmsghdr *msg, void *ctx)
{
    const struct links *links = ctx;
    const struct ifaddrmsg *info = mnl_nlmsg_get_payload(msg);
    mvpn_netlink_address a = {.index = info->ifa_index};
    a.addr.family = info->ifa_family == AF_INET ? 4 : info->ifa_family == AF_INET6 ? 6 : 0;
    if ((info->ifa_flags & (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC)) == IFA_F_TENTATIVE) {
        return; /* not to be sent from yet */
    }
    /* Of a point-to-point interface IFA_ADDRESS is the other end. */
    if (a.addr.family == 0 || (!find_ip(msg, sizeof(*info), IFA_LOCAL, &a.addr) &&
                               !find_ip(msg, sizeof(*info), IFA_ADDRESS, &a.addr))) {
        return;
    }
    for (size_t i = 0; i < links->count; i++) {
        if (links->at[i].index == info->ifa_index) {
            a.flags = links->at[i].flags;
            a.name = links->at[i].name;
            links->fn(links->ctx, &a);
        }
    }
}

int mvpn_netlink_each_address(mvpn_netlink *nl, mvpn_netlink_address_fn *fn, void *ctx,
                              mvpn_fault *fault)
{
    struct links links = {.fn = fn, .ctx = ctx};
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETLINK, NLM_F_DUMP);
    (void)mnl_nlmsg_put_extra_header(msg, sizeof(struct ifinfomsg));
    if (mvpn_nlsocket_talk(&nl->nl, msg, note_link, &links) != 0) {
        return fault_of(errno, fault, "list", "interfaces");
    }
    msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETADDR, NLM_F_DUMP);
    (void)mnl_nlmsg_put_extra_header(msg, sizeof(struct ifaddrmsg));
    if (mvpn_nlsocket_talk(&nl->nl, msg, tell_address, &links) != 0) {
        return fault_of(errno, fault, "list", "addresses");
    }
    return 0;
}

/* ---- targets of rules ---- */

struct targets {
    const mvpn_rule *like;
    mvpn_prefix *at;
    unsigned count, max;
};

static void each_rule(const struct nlmsghdr *msg, void *ctx)
{
    struct targets *targets = ctx;
    const struct fib_rule_hdr *info = mnl_nlmsg_get_payload(msg);
    mvpn_prefix to = {{.family = targets->like->family}, info->dst_len};
    bool is_like = info->family == af_of(to.addr.family) &&
                   find_u32(msg, sizeof(*info), FRA_PRIORITY) == targets->like->priority &&
                   find_u32(msg, sizeof(*info), FRA_TABLE) == targets->like->table;
    if (is_like && targets->count < targets->max &&
        find_ip(msg, sizeof(*info), FRA_DST, &to.addr)) {
        targets->at[targets->count++] = to;
    }
}

int mvpn_netlink_rules_targets(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_prefix *ret,
                               unsigned max, unsigned *ret_count, mvpn_fault *fault)
{
    struct targets targets = {.like = rule, .at = ret, .max = max};
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETRULE, NLM_F_DUMP);
    struct fib_rule_hdr *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->family = af_of(rule->family);
    *ret_count = 0;
    if (mvpn_nlsocket_talk(&nl->nl, msg, each_rule, &targets) != 0 && errno != EAFNOSUPPORT &&
        errno != EOPNOTSUPP) {
        return fault_of(errno, fault, "list", "policy rules");
    }
    *ret_count = targets.count;
    return 0;
}

/* ---- reverse path filters ---- */

#define RP_FILTER_STRICT 1

struct filters {
    mvpn_netlink_filter_fn *fn;
    void *ctx;
    uint32_t of_all;
};

static void take_filter_of_all(const struct nlmsghdr *msg, void *ctx)
{
    struct filters *filters = ctx;
    filters->of_all = find_u32(msg, sizeof(struct netconfmsg), NETCONFA_RP_FILTER);
}

static const struct nlattr *find_nested(const struct nlattr *nest, uint16_t type)
{
    MVPN_NL_FOREACH_NESTED(attr, nest)
    {
        if (mnl_attr_get_type(attr) == type) {
            return attr;
        }
    }
    return NULL;
}

static void tell_filter(const struct filters *filters, const struct ifinfomsg *info,
                        const struct nlattr *settings)
{
    const uint32_t *values = mnl_attr_get_payload(settings); /* in order, the first is 1 */
    if (mnl_attr_get_payload_len(settings) < IPV4_DEVCONF_SRC_VMARK * sizeof(*values)) {
        return;
    }
    uint32_t own = values[IPV4_DEVCONF_RP_FILTER - 1];
    const mvpn_netlink_filter filter = {
        .index = (uint32_t)info->ifi_index,
        .flags = info->ifi_flags,
        .is_strict = MVPN_MAX(own, filters->of_all) == RP_FILTER_STRICT,
        .asks_with_mark = values[IPV4_DEVCONF_SRC_VMARK - 1] != 0,
    };
    filters->fn(filters->ctx, &filter);
}

static void each_link_filter(const struct nlmsghdr *msg, void *ctx)
{
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
    MVPN_NL_FOREACH(attr, msg, sizeof(*info))
    {
        if (mnl_attr_get_type(attr) != IFLA_AF_SPEC || info->ifi_family != AF_UNSPEC) {
            continue;
        }
        const struct nlattr *inet = find_nested(attr, AF_INET);
        const struct nlattr *settings = inet != NULL ? find_nested(inet, IFLA_INET_CONF) : NULL;
        if (settings != NULL) {
            tell_filter(ctx, info, settings);
        }
    }
}

int mvpn_netlink_each_filter(mvpn_netlink *nl, mvpn_netlink_filter_fn *fn, void *ctx,
                             mvpn_fault *fault)
{
    struct filters filters = {.fn = fn, .ctx = ctx};
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETNETCONF, NLM_F_ACK);
    struct netconfmsg *netconf = mnl_nlmsg_put_extra_header(msg, sizeof(*netconf));
    netconf->ncm_family = AF_INET;
    mnl_attr_put_u32(msg, NETCONFA_IFINDEX, (uint32_t)NETCONFA_IFINDEX_ALL);
    if (mvpn_nlsocket_talk(&nl->nl, msg, take_filter_of_all, &filters) != 0) {
        return fault_of(errno, fault, "read", "the setting of reverse path filters");
    }
    msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETLINK, NLM_F_DUMP);
    (void)mnl_nlmsg_put_extra_header(msg, sizeof(struct ifinfomsg));
    if (mvpn_nlsocket_talk(&nl->nl, msg, each_link_filter, &filters) != 0) {
        return fault_of(errno, fault, "list", "interfaces");
    }
    return 0;
}

int mvpn_netlink_filter_by_mark(mvpn_netlink *nl, uint32_t index, bool on, mvpn_fault *fault)
{
    char name[IF_NAMESIZE];
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, RTM_SETLINK, NLM_F_ACK);
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->ifi_index = (int)index;
    struct nlattr *spec = mnl_attr_nest_start(msg, IFLA_AF_SPEC);
    struct nlattr *inet = mnl_attr_nest_start(msg, AF_INET);
    struct nlattr *settings = mnl_attr_nest_start(msg, IFLA_INET_CONF);
    mnl_attr_put_u32(msg, IPV4_DEVCONF_SRC_VMARK, on);
    mnl_attr_nest_end(msg, settings);
    mnl_attr_nest_end(msg, inet);
    mnl_attr_nest_end(msg, spec);
    if (change(nl, msg) != 0) {
        return fault_of(errno, fault, "set src_valid_mark of", index_name(index, name));
    }
    return 0;
}

/* ---- clashes ---- */

struct clash {
    const mvpn_prefix *prefix;
    uint32_t except_index;
    bool is_found;
    mvpn_prefix found;
    uint32_t found_index;
};

static void compare(struct clash *clash, const mvpn_prefix *prefix, uint32_t index)
{
    if (!clash->is_found && prefix->bits > 0 && mvpn_prefix_overlaps(prefix, clash->prefix) &&
        (index == 0 || index != clash->except_index)) {
        clash->is_found = true;
        clash->found = *prefix;
        clash->found_index = index;
    }
}

static void each_route(const struct nlmsghdr *msg, void *ctx)
{
    struct clash *clash = ctx;
    const struct rtmsg *info = mnl_nlmsg_get_payload(msg);
    mvpn_prefix prefix = {{.family = clash->prefix->addr.family}, info->rtm_dst_len};
    bool is_ours_to_see = info->rtm_family == af_of(prefix.addr.family) &&
                          (info->rtm_type == RTN_UNICAST || info->rtm_type == RTN_LOCAL) &&
                          (info->rtm_flags & RTM_F_CLONED) == 0;
    if (is_ours_to_see && find_ip(msg, sizeof(*info), RTA_DST, &prefix.addr)) {
        compare(clash, &prefix, find_u32(msg, sizeof(*info), RTA_OIF));
    }
}

static void each_addr(const struct nlmsghdr *msg, void *ctx)
{
    struct clash *clash = ctx;
    const struct ifaddrmsg *info = mnl_nlmsg_get_payload(msg);
    mvpn_prefix prefix = {{.family = clash->prefix->addr.family}, info->ifa_prefixlen};
    if (info->ifa_family == af_of(prefix.addr.family) &&
        find_ip(msg, sizeof(*info), IFA_ADDRESS, &prefix.addr)) {
        compare(clash, &prefix, info->ifa_index);
    }
}

int mvpn_netlink_find_clash(mvpn_netlink *nl, const mvpn_prefix *prefix, uint32_t except_index,
                            bool *ret, mvpn_fault *fault)
{
    struct clash clash = {.prefix = prefix, .except_index = except_index};
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETADDR, NLM_F_DUMP);
    struct ifaddrmsg *addr_info = mnl_nlmsg_put_extra_header(msg, sizeof(*addr_info));
    addr_info->ifa_family = af_of(prefix->addr.family);
    if (mvpn_nlsocket_talk(&nl->nl, msg, each_addr, &clash) != 0) {
        return fault_of(errno, fault, "list", "addresses");
    }
    msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETROUTE, NLM_F_DUMP);
    struct rtmsg *route_info = mnl_nlmsg_put_extra_header(msg, sizeof(*route_info));
    route_info->rtm_family = af_of(prefix->addr.family);
    if (mvpn_nlsocket_talk(&nl->nl, msg, each_route, &clash) != 0) {
        return fault_of(errno, fault, "list", "routes");
    }
    if (clash.is_found) {
        char wanted[MVPN_ADDR_STRLEN + 4], found[MVPN_ADDR_STRLEN + 4], name[IF_NAMESIZE];
        (void)mvpn_fault_set(fault, 0, "%s is in use here: %s on %s", prefix_text(prefix, wanted),
                             prefix_text(&clash.found, found), index_name(clash.found_index, name));
    }
    *ret = clash.is_found;
    return 0;
}

/* ---- gateway ---- */

struct gateway {
    mvpn_addr addr; /* family 0: none yet */
    uint32_t index;
    uint32_t metric;
};

static void each_default_route(const struct nlmsghdr *msg, void *ctx)
{
    struct gateway *best = ctx;
    const struct rtmsg *info = mnl_nlmsg_get_payload(msg);
    mvpn_addr addr = {.family = 4};
    uint32_t metric = find_u32(msg, sizeof(*info), RTA_PRIORITY);
    if (info->rtm_family == AF_INET && info->rtm_type == RTN_UNICAST && info->rtm_dst_len == 0 &&
        info->rtm_table == RT_TABLE_MAIN && (info->rtm_flags & RTM_F_CLONED) == 0 &&
        find_ip(msg, sizeof(*info), RTA_GATEWAY, &addr) &&
        (best->addr.family == 0 || metric < best->metric)) {
        *best = (struct gateway){addr, find_u32(msg, sizeof(*info), RTA_OIF), metric};
    }
}

int mvpn_netlink_gateway(mvpn_netlink *nl, mvpn_addr *ret_gateway, uint32_t *ret_index,
                         mvpn_fault *fault)
{
    struct gateway best = {.addr = {0}};
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&nl->nl, RTM_GETROUTE, NLM_F_DUMP);
    struct rtmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
    info->rtm_family = AF_INET;
    if (mvpn_nlsocket_talk(&nl->nl, msg, each_default_route, &best) != 0) {
        return fault_of(errno, fault, "list", "routes");
    }
    if (best.addr.family == 0) {
        return mvpn_fault_set(fault, MVPN_E_UNKNOWN, "there is no IPv4 gateway");
    }
    *ret_gateway = best.addr;
    *ret_index = best.index;
    return 0;
}
