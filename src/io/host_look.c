#include "io/host_look.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>

#include "io/nlsocket.h"
#include "io/reverse_path.h"

/* ip-rule(8): local, main, default. */
#define PRIORITY_MAIN 32766

typedef struct look {
    uint32_t table;
    const char *filter_table;
    mvpn_host_view *view;
} look;

static uint32_t find_u32(const struct nlmsghdr *msg, size_t header, uint16_t type,
                         uint32_t otherwise)
{
    MVPN_NL_FOREACH(attr, msg, header)
    {
        if (mnl_attr_get_type(attr) == type && mnl_attr_validate(attr, MNL_TYPE_U32) >= 0) {
            return mnl_attr_get_u32(attr);
        }
    }
    return otherwise;
}

static void find_text(const struct nlmsghdr *msg, size_t header, uint16_t type, char *out,
                      size_t size)
{
    out[0] = '\0';
    MVPN_NL_FOREACH(attr, msg, header)
    {
        if (mnl_attr_get_type(attr) == type && mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0) {
            (void)snprintf(out, size, "%s", mnl_attr_get_str(attr));
        }
    }
}

/* ---- interfaces ---- */

/* "tun" is a TAP too, which belongs to virtual machines: those are no point-to-point interfaces. */
static bool is_tunnel(const struct nlmsghdr *msg, const struct ifinfomsg *info)
{
    if (info->ifi_type == ARPHRD_PPP) {
        return true;
    }
    MVPN_NL_FOREACH(attr, msg, sizeof(*info))
    {
        if (mnl_attr_get_type(attr) != IFLA_LINKINFO) {
            continue;
        }
        MVPN_NL_FOREACH_NESTED(inner, attr)
        {
            if (mnl_attr_get_type(inner) == IFLA_INFO_KIND &&
                mnl_attr_validate(inner, MNL_TYPE_NUL_STRING) >= 0) {
                const char *kind = mnl_attr_get_str(inner);
                return strcmp(kind, "wireguard") == 0 ||
                       (strcmp(kind, "tun") == 0 && (info->ifi_flags & IFF_POINTOPOINT) != 0);
            }
        }
    }
    return false;
}

static void take_link(const struct nlmsghdr *msg, void *ctx)
{
    mvpn_host_view *v = ((look *)ctx)->view;
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
    if (v->tunnel_count == MVPN_HOST_TUNNELS_MAX || !is_tunnel(msg, info)) {
        return;
    }
    mvpn_host_tunnel *t = &v->tunnels[v->tunnel_count++];
    *t = (mvpn_host_tunnel){.index = (uint32_t)info->ifi_index,
                            .is_up = (info->ifi_flags & IFF_UP) != 0};
    find_text(msg, sizeof(*info), IFLA_IFNAME, t->name, sizeof(t->name));
}

/* ---- routes and rules ---- */

static void take_route(const struct nlmsghdr *msg, void *ctx)
{
    const look *l = ctx;
    const struct rtmsg *info = mnl_nlmsg_get_payload(msg);
    uint32_t table = find_u32(msg, sizeof(*info), RTA_TABLE, info->rtm_table);
    uint32_t index = find_u32(msg, sizeof(*info), RTA_OIF, 0);
    if (info->rtm_dst_len > 1 || (info->rtm_flags & RTM_F_CLONED) != 0) {
        return;
    }
    l->view->has_refusal =
        l->view->has_refusal || (table == l->table && info->rtm_type == RTN_UNREACHABLE);
    for (unsigned i = 0; i < l->view->tunnel_count && info->rtm_type == RTN_UNICAST; i++) {
        mvpn_host_tunnel *t = &l->view->tunnels[i];
        bool is_new = t->index == index && t->table_count < MVPN_HOST_TABLES_MAX;
        for (unsigned k = 0; k < t->table_count; k++) {
            is_new = is_new && t->tables[k] != table;
        }
        if (is_new) {
            t->tables[t->table_count++] = table;
        }
    }
}

static void take_rule(const struct nlmsghdr *msg, void *ctx)
{
    mvpn_host_view *v = ((look *)ctx)->view;
    const struct fib_rule_hdr *info = mnl_nlmsg_get_payload(msg);
    uint32_t priority = find_u32(msg, sizeof(*info), FRA_PRIORITY, 0);
    if (priority == 0 || priority >= PRIORITY_MAIN || v->rule_count == MVPN_HOST_RULES_MAX ||
        info->action != FR_ACT_TO_TBL) {
        return;
    }
    v->rules[v->rule_count++] = (mvpn_host_rule){
        .family = info->family == AF_INET ? 4 : 6,
        .priority = priority,
        .table = find_u32(msg, sizeof(*info), FRA_TABLE, info->table),
        .only_specific = find_u32(msg, sizeof(*info), FRA_SUPPRESS_PREFIXLEN, UINT32_MAX) == 0,
    };
}

static bool dump(mvpn_nlsocket *nl, unsigned type, size_t header, uint8_t family,
                 mvpn_nl_each_fn *each, look *l)
{
    struct nlmsghdr *msg = mvpn_nlsocket_begin(nl, type, NLM_F_DUMP);
    uint8_t *first = mnl_nlmsg_put_extra_header(msg, header); /* zeroed; all begin with a family */
    *first = family;
    return mvpn_nlsocket_talk(nl, msg, each, l) == 0;
}

static void look_at_routing(look *l)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};
    mvpn_nlsocket nl;
    if (mvpn_nlsocket_open(&nl, NETLINK_ROUTE) != 0) {
        return;
    }
    bool ok = dump(&nl, RTM_GETLINK, sizeof(struct ifinfomsg), AF_UNSPEC, take_link, l);
    for (size_t i = 0; ok && i < MVPN_ARRAY_LEN(families); i++) {
        /* A host may be without IPv6. */
        ok = (dump(&nl, RTM_GETROUTE, sizeof(struct rtmsg), families[i], take_route, l) &&
              dump(&nl, RTM_GETRULE, sizeof(struct fib_rule_hdr), families[i], take_rule, l)) ||
             families[i] == AF_INET6;
    }
    l->view->has_routing = ok;
    mvpn_nlsocket_close(&nl);
}

/* ---- packet filter ---- */

static void take_table(const struct nlmsghdr *msg, void *ctx)
{
    const look *l = ctx;
    char name[MVPN_HOST_NAME_MAX + 1];
    find_text(msg, sizeof(struct nfgenmsg), NFTA_TABLE_NAME, name, sizeof(name));
    l->view->has_table = l->view->has_table || strcmp(name, l->filter_table) == 0;
    l->view->has_answers = l->view->has_answers || strcmp(name, MVPN_REVERSE_PATH_TABLE) == 0;
}

/* The hook of a chain that packets enter, or -1. */
static int hook_of(const struct nlmsghdr *msg)
{
    MVPN_NL_FOREACH(attr, msg, sizeof(struct nfgenmsg))
    {
        if (mnl_attr_get_type(attr) != NFTA_CHAIN_HOOK) {
            continue;
        }
        MVPN_NL_FOREACH_NESTED(inner, attr)
        {
            if (mnl_attr_get_type(inner) == NFTA_HOOK_HOOKNUM &&
                mnl_attr_validate(inner, MNL_TYPE_U32) >= 0) {
                return (int)ntohl(mnl_attr_get_u32(inner));
            }
        }
    }
    return -1;
}

static void take_chain(const struct nlmsghdr *msg, void *ctx)
{
    const look *l = ctx;
    const size_t header = sizeof(struct nfgenmsg);
    const struct nfgenmsg *gen = mnl_nlmsg_get_payload(msg);
    uint32_t policy = ntohl(find_u32(msg, header, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT)));
    int hook = hook_of(msg);
    mvpn_host_chain chain = {.is_output = hook == NF_INET_LOCAL_OUT};
    bool is_ip = gen->nfgen_family == NFPROTO_INET || gen->nfgen_family == NFPROTO_IPV4 ||
                 gen->nfgen_family == NFPROTO_IPV6;
    find_text(msg, header, NFTA_CHAIN_TABLE, chain.table, sizeof(chain.table));
    find_text(msg, header, NFTA_CHAIN_NAME, chain.chain, sizeof(chain.chain));
    if (is_ip && policy == NF_DROP && (hook == NF_INET_LOCAL_OUT || hook == NF_INET_LOCAL_IN) &&
        strcmp(chain.table, l->filter_table) != 0 && l->view->chain_count < MVPN_HOST_CHAINS_MAX) {
        l->view->chains[l->view->chain_count++] = chain;
    }
}

static void look_at_filter(look *l)
{
    mvpn_nlsocket nl;
    if (mvpn_nlsocket_open(&nl, NETLINK_NETFILTER) != 0) {
        l->view->filter_errno = errno;
        return;
    }
    const size_t header = sizeof(struct nfgenmsg);
    const unsigned nft = NFNL_SUBSYS_NFTABLES << 8;
    l->view->has_filter = dump(&nl, nft | NFT_MSG_GETTABLE, header, AF_UNSPEC, take_table, l) &&
                          dump(&nl, nft | NFT_MSG_GETCHAIN, header, AF_UNSPEC, take_chain, l);
    l->view->filter_errno = l->view->has_filter ? 0 : errno;
    mvpn_nlsocket_close(&nl);
}

void mvpn_host_look(uint32_t table, const char *filter_table, mvpn_host_view *ret)
{
    look l = {.table = table, .filter_table = filter_table, .view = ret};
    *ret = (mvpn_host_view){.has_routing = false};
    look_at_routing(&l);
    look_at_filter(&l);
}

#define RP_FILTER_STRICT 1

/* The greater one of the interface's and that of all counts. */
static int read_setting(const char *interface, const char *name)
{
    const char *const places[] = {"all", interface};
    int greatest = 0;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(places); i++) {
        char path[80];
        int value = 0;
        (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/%s", places[i], name);
        FILE *f = fopen(path, "re");
        if (f != NULL && fscanf(f, "%d", &value) == 1) {
            greatest = MVPN_MAX(greatest, value);
        }
        if (f != NULL) {
            (void)fclose(f);
        }
    }
    return greatest;
}

bool mvpn_host_drops_answers(const mvpn_host_view *view, const char *interface)
{
    return read_setting(interface, "rp_filter") == RP_FILTER_STRICT &&
           (read_setting(interface, "src_valid_mark") == 0 ||
            (view->has_filter && !view->has_answers));
}
