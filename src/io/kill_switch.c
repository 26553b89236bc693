#include "io/kill_switch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_arp.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "io/nlsocket.h"

/* A rule is below 800 bytes; the rest is tables and chains. */
#define BATCH_MAX (MVPN_PROTECT_RULES * 800 + 4096)
/* Before anybody's connection tracking, and before anybody's filter. */
#define PRIORITY_RAW (-300)
#define PRIORITY_FILTER (-10)
/* Behind connection tracking; the kernel's own numbers (NF_IP_PRI_MANGLE, NF_IP_PRI_NAT_SRC). */
#define PRIORITY_MANGLE (-150)
#define PRIORITY_SOURCE_NAT 100
#define PRIORITY_LEAVING 150 /* behind it */
/* Of an Ethernet ARP packet: behind its fixed part and the sender's hardware address (RFC 826). */
#define ARP_SENDER_AT 14

struct mvpn_kill_switch {
    mvpn_nlsocket nl;          /* changes */
    struct mnl_socket *events; /* NFNLGRP_NFTABLES */
    mvpn_protect_rules rules;  /* what is in force, or should be */
    bool is_broken;            /* and is not */
    size_t len;
    uint8_t batch[BATCH_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
    uint8_t heard[MVPN_NL_REPLY] __attribute__((aligned(NLMSG_ALIGNTO)));
};

static const struct chain {
    const char *name, *type;
    uint8_t family;
    uint32_t hook;
    int32_t priority;
    uint32_t policy;
} chains[MVPN_PROTECT_CHAINS] = {
    [MVPN_PROTECT_OUTPUT] = {"output", "filter", NFPROTO_INET, NF_INET_LOCAL_OUT, PRIORITY_FILTER,
                             NF_DROP},
    [MVPN_PROTECT_FORWARD] = {"forward", "filter", NFPROTO_INET, NF_INET_FORWARD, PRIORITY_FILTER,
                              NF_DROP},
    [MVPN_PROTECT_PREROUTING] = {"prerouting", "filter", NFPROTO_INET, NF_INET_PRE_ROUTING,
                                 PRIORITY_RAW, NF_ACCEPT},
    [MVPN_PROTECT_ARP] = {"output", "filter", NFPROTO_ARP, NF_ARP_OUT, PRIORITY_FILTER, NF_ACCEPT},
    [MVPN_PROTECT_LEAVING] = {"leaving", "filter", NFPROTO_INET, NF_INET_POST_ROUTING,
                              PRIORITY_LEAVING, NF_ACCEPT},
    [MVPN_PROTECT_SPLIT] = {"split", "route", NFPROTO_INET, NF_INET_LOCAL_OUT, PRIORITY_MANGLE,
                            NF_ACCEPT},
    [MVPN_PROTECT_NAT] = {"nat", "nat", NFPROTO_INET, NF_INET_POST_ROUTING, PRIORITY_SOURCE_NAT,
                          NF_ACCEPT},
};

static const uint8_t families[] = {NFPROTO_INET, NFPROTO_ARP};

/* ---- messages ---- */

static struct nlmsghdr *begin(mvpn_kill_switch *ks, unsigned type, unsigned flags, uint8_t family,
                              uint16_t resource)
{
    MVPN_ASSERT(ks->len + 1024 <= sizeof(ks->batch));
    struct nlmsghdr *msg = mnl_nlmsg_put_header(ks->batch + ks->len);
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    msg->nlmsg_type = (uint16_t)type;
    msg->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    msg->nlmsg_seq = ks->nl.seq;
    gen->nfgen_family = family;
    gen->version = NFNETLINK_V0;
    gen->res_id = htons(resource);
    return msg;
}

static struct nlmsghdr *begin_nft(mvpn_kill_switch *ks, unsigned type, unsigned flags,
                                  uint8_t family)
{
    return begin(ks, NFNL_SUBSYS_NFTABLES << 8 | type, flags, family, 0);
}

static void end(mvpn_kill_switch *ks, const struct nlmsghdr *msg)
{
    ks->len += msg->nlmsg_len;
    MVPN_ASSERT(ks->len <= sizeof(ks->batch));
}

static void put_table(mvpn_kill_switch *ks, unsigned type, unsigned flags, uint8_t family)
{
    struct nlmsghdr *msg = begin_nft(ks, type, flags, family);
    mnl_attr_put_strz(msg, NFTA_TABLE_NAME, MVPN_KILL_SWITCH_TABLE);
    end(ks, msg);
}

static void put_u32(struct nlmsghdr *msg, unsigned type, uint32_t value)
{
    mnl_attr_put_u32(msg, (uint16_t)type, htonl(value));
}

static void put_chain(mvpn_kill_switch *ks, const struct chain *chain)
{
    struct nlmsghdr *msg = begin_nft(ks, NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain->family);
    mnl_attr_put_strz(msg, NFTA_CHAIN_TABLE, MVPN_KILL_SWITCH_TABLE);
    mnl_attr_put_strz(msg, NFTA_CHAIN_NAME, chain->name);
    struct nlattr *hook = mnl_attr_nest_start(msg, NFTA_CHAIN_HOOK);
    put_u32(msg, NFTA_HOOK_HOOKNUM, chain->hook);
    put_u32(msg, NFTA_HOOK_PRIORITY, (uint32_t)chain->priority);
    mnl_attr_nest_end(msg, hook);
    put_u32(msg, NFTA_CHAIN_POLICY, chain->policy);
    mnl_attr_put_strz(msg, NFTA_CHAIN_TYPE, chain->type);
    end(ks, msg);
}

/* ---- expressions: load what is looked at into register 1, compare ---- */

typedef struct expression {
    struct nlattr *element, *data;
} expression;

static expression begin_expression(struct nlmsghdr *msg, const char *name)
{
    expression e = {.element = mnl_attr_nest_start(msg, NFTA_LIST_ELEM)};
    mnl_attr_put_strz(msg, NFTA_EXPR_NAME, name);
    e.data = mnl_attr_nest_start(msg, NFTA_EXPR_DATA);
    return e;
}

static void end_expression(struct nlmsghdr *msg, expression e)
{
    mnl_attr_nest_end(msg, e.data);
    mnl_attr_nest_end(msg, e.element);
}

static void put_value(struct nlmsghdr *msg, unsigned type, const uint8_t *value, size_t len)
{
    struct nlattr *nest = mnl_attr_nest_start(msg, (uint16_t)type);
    mnl_attr_put(msg, NFTA_DATA_VALUE, len, value);
    mnl_attr_nest_end(msg, nest);
}

static void load_meta(struct nlmsghdr *msg, uint32_t key)
{
    expression e = begin_expression(msg, "meta");
    put_u32(msg, NFTA_META_DREG, NFT_REG_1);
    put_u32(msg, NFTA_META_KEY, key);
    end_expression(msg, e);
}

static void load_connection_mark(struct nlmsghdr *msg)
{
    expression e = begin_expression(msg, "ct");
    put_u32(msg, NFTA_CT_DREG, NFT_REG_1);
    put_u32(msg, NFTA_CT_KEY, NFT_CT_MARK);
    end_expression(msg, e);
}

/* The id of the ancestor of the socket's cgroup at that depth. */
static void load_cgroup(struct nlmsghdr *msg, uint32_t level)
{
    expression e = begin_expression(msg, "socket");
    put_u32(msg, NFTA_SOCKET_KEY, NFT_SOCKET_CGROUPV2);
    put_u32(msg, NFTA_SOCKET_DREG, NFT_REG_1);
    put_u32(msg, NFTA_SOCKET_LEVEL, level);
    end_expression(msg, e);
}

static void load_payload(struct nlmsghdr *msg, uint32_t base, uint32_t offset, uint32_t len)
{
    expression e = begin_expression(msg, "payload");
    put_u32(msg, NFTA_PAYLOAD_DREG, NFT_REG_1);
    put_u32(msg, NFTA_PAYLOAD_BASE, base);
    put_u32(msg, NFTA_PAYLOAD_OFFSET, offset);
    put_u32(msg, NFTA_PAYLOAD_LEN, len);
    end_expression(msg, e);
}

static void keep_bits(struct nlmsghdr *msg, uint8_t len, uint8_t bits)
{
    static const uint8_t none[16];
    uint8_t mask[16] = {0};
    for (unsigned i = 0; i < bits; i++) {
        mask[i / 8] |= (uint8_t)(0x80 >> i % 8);
    }
    expression e = begin_expression(msg, "bitwise");
    put_u32(msg, NFTA_BITWISE_SREG, NFT_REG_1);
    put_u32(msg, NFTA_BITWISE_DREG, NFT_REG_1);
    put_u32(msg, NFTA_BITWISE_LEN, len);
    put_value(msg, NFTA_BITWISE_MASK, mask, len);
    put_value(msg, NFTA_BITWISE_XOR, none, len);
    end_expression(msg, e);
}

static void compare(struct nlmsghdr *msg, const mvpn_protect_match *m, const uint8_t *value)
{
    expression e = begin_expression(msg, "cmp");
    put_u32(msg, NFTA_CMP_SREG, NFT_REG_1);
    put_u32(msg, NFTA_CMP_OP, m->is_not ? NFT_CMP_NEQ : NFT_CMP_EQ);
    put_value(msg, NFTA_CMP_DATA, value, m->len);
    end_expression(msg, e);
}

/* Source and target: RFC 791 §3.1, RFC 8200 §3. */
static void load_address(struct nlmsghdr *msg, const mvpn_protect_match *m)
{
    bool is_source = m->field == MVPN_PROTECT_SOURCE;
    uint32_t at = m->len == 4 ? (is_source ? 12 : 16) : (is_source ? 8 : 24);
    load_payload(msg, NFT_PAYLOAD_NETWORK_HEADER, at, m->len);
    if (m->bits < m->len * 8) {
        keep_bits(msg, m->len, m->bits);
    }
}

static void put_match(struct nlmsghdr *msg, const mvpn_protect_match *m)
{
    const uint8_t family = m->value[0] == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
    const uint8_t *value = m->value;
    switch (m->field) {
    case MVPN_PROTECT_NAME_OUT:
        load_meta(msg, NFT_META_OIFNAME);
        break;
    case MVPN_PROTECT_NAME_IN:
        load_meta(msg, NFT_META_IIFNAME);
        break;
    case MVPN_PROTECT_MARK:
        load_meta(msg, NFT_META_MARK);
        break;
    case MVPN_PROTECT_FAMILY:
        load_meta(msg, NFT_META_NFPROTO);
        value = &family;
        break;
    case MVPN_PROTECT_PROTOCOL:
        load_meta(msg, NFT_META_L4PROTO);
        break;
    case MVPN_PROTECT_SOURCE:
    case MVPN_PROTECT_TARGET:
        load_address(msg, m);
        break;
    case MVPN_PROTECT_PORT_FROM:
        load_payload(msg, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2);
        break;
    case MVPN_PROTECT_PORT_TO:
        load_payload(msg, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
        break;
    case MVPN_PROTECT_ICMP_TYPE:
        load_payload(msg, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1);
        break;
    case MVPN_PROTECT_ARP_SENDER:
        load_payload(msg, NFT_PAYLOAD_NETWORK_HEADER, ARP_SENDER_AT, 4);
        break;
    case MVPN_PROTECT_USER:
        load_meta(msg, NFT_META_SKUID);
        break;
    case MVPN_PROTECT_CLASS:
        load_meta(msg, NFT_META_CGROUP);
        break;
    case MVPN_PROTECT_CGROUP:
        load_cgroup(msg, m->bits);
        break;
    case MVPN_PROTECT_CT_MARK:
        load_connection_mark(msg);
        break;
    }
    compare(msg, m, value);
}

static void put_mark(struct nlmsghdr *msg, uint32_t mark)
{
    expression e = begin_expression(msg, "immediate");
    put_u32(msg, NFTA_IMMEDIATE_DREG, NFT_REG_1);
    put_value(msg, NFTA_IMMEDIATE_DATA, (const uint8_t *)&mark, sizeof(mark));
    end_expression(msg, e);
    e = begin_expression(msg, "meta");
    put_u32(msg, NFTA_META_KEY, NFT_META_MARK);
    put_u32(msg, NFTA_META_SREG, NFT_REG_1);
    end_expression(msg, e);
    e = begin_expression(msg, "ct");
    put_u32(msg, NFTA_CT_KEY, NFT_CT_MARK);
    put_u32(msg, NFTA_CT_SREG, NFT_REG_1);
    end_expression(msg, e);
}

static void put_verdict(struct nlmsghdr *msg, bool accepts)
{
    expression e = begin_expression(msg, "immediate");
    put_u32(msg, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    struct nlattr *data = mnl_attr_nest_start(msg, NFTA_IMMEDIATE_DATA);
    struct nlattr *verdict = mnl_attr_nest_start(msg, NFTA_DATA_VERDICT);
    put_u32(msg, NFTA_VERDICT_CODE, accepts ? NF_ACCEPT : NF_DROP);
    mnl_attr_nest_end(msg, verdict);
    mnl_attr_nest_end(msg, data);
    end_expression(msg, e);
}

static void put_action(struct nlmsghdr *msg, const mvpn_protect_rule *rule)
{
    switch (rule->action) {
    case MVPN_PROTECT_SET_MARK:
        put_mark(msg, rule->mark);
        put_verdict(msg, true);
        break;
    case MVPN_PROTECT_MASQUERADE:
        end_expression(msg, begin_expression(msg, "masq"));
        break;
    case MVPN_PROTECT_ACCEPT:
    case MVPN_PROTECT_DROP:
        put_verdict(msg, rule->action == MVPN_PROTECT_ACCEPT);
        break;
    }
}

static void put_rule(mvpn_kill_switch *ks, const mvpn_protect_rule *rule)
{
    const struct chain *chain = &chains[rule->chain];
    struct nlmsghdr *msg =
        begin_nft(ks, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, chain->family);
    mnl_attr_put_strz(msg, NFTA_RULE_TABLE, MVPN_KILL_SWITCH_TABLE);
    mnl_attr_put_strz(msg, NFTA_RULE_CHAIN, chain->name);
    struct nlattr *list = mnl_attr_nest_start(msg, NFTA_RULE_EXPRESSIONS);
    for (unsigned i = 0; i < rule->count; i++) {
        put_match(msg, &rule->match[i]);
    }
    put_action(msg, rule);
    mnl_attr_nest_end(msg, list);
    end(ks, msg);
}

/* ---- the transaction ---- */

/* Connections are tracked only for who has rules that need it. */
static bool is_needed(const mvpn_protect_rules *rules, enum mvpn_protect_chain chain)
{
    bool has_rules = chain != MVPN_PROTECT_SPLIT && chain != MVPN_PROTECT_NAT;
    for (unsigned i = 0; i < rules->count; i++) {
        has_rules = has_rules || rules->rule[i].chain == chain;
    }
    return has_rules;
}

/* Make, so that there is something to delete; delete; make anew. The last one is acknowledged. */
static int replace(mvpn_kill_switch *ks, mvpn_fault *fault)
{
    bool is_wanted = ks->rules.count > 0;
    (void)mvpn_nlsocket_begin(&ks->nl, 0, 0); /* counts */
    ks->len = 0;
    end(ks, begin(ks, NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(families); i++) {
        bool is_last = !is_wanted && i + 1 == MVPN_ARRAY_LEN(families);
        put_table(ks, NFT_MSG_NEWTABLE, NLM_F_CREATE, families[i]);
        put_table(ks, NFT_MSG_DELTABLE, is_last ? NLM_F_ACK : 0, families[i]);
    }
    for (size_t i = 0; is_wanted && i < MVPN_ARRAY_LEN(families); i++) {
        put_table(ks, NFT_MSG_NEWTABLE, NLM_F_CREATE, families[i]);
    }
    for (size_t i = 0; is_wanted && i < MVPN_ARRAY_LEN(chains); i++) {
        if (is_needed(&ks->rules, (enum mvpn_protect_chain)i)) {
            put_chain(ks, &chains[i]);
        }
    }
    struct nlmsghdr *last = NULL;
    for (unsigned i = 0; i < ks->rules.count; i++) {
        last = (struct nlmsghdr *)(ks->batch + ks->len);
        put_rule(ks, &ks->rules.rule[i]);
    }
    if (last != NULL) {
        last->nlmsg_flags |= NLM_F_ACK;
    }
    end(ks, begin(ks, NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES));
    if (mvpn_nlsocket_talk_batch(&ks->nl, ks->batch, ks->len) != 0) {
        ks->is_broken = true;
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                "cannot set the kill switch%s (kill_switch = false goes without)",
                                errno == EPERM ? ": run as root or with CAP_NET_ADMIN" : "");
    }
    ks->is_broken = false;
    return 0;
}

/* ---- what others do ---- */

static int open_events(mvpn_kill_switch *ks)
{
    int group = NFNLGRP_NFTABLES;
    ks->events = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return ks->events != NULL && mnl_socket_bind(ks->events, 0, MNL_SOCKET_AUTOPID) == 0 &&
                   mnl_socket_setsockopt(ks->events, NETLINK_ADD_MEMBERSHIP, &group,
                                         sizeof(group)) == 0
               ? 0
               : -1;
}

int mvpn_kill_switch_open(mvpn_kill_switch **ret, mvpn_fault *fault)
{
    mvpn_kill_switch *ks = calloc(1, sizeof(*ks));
    if (ks == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the kill switch");
    }
    if (mvpn_nlsocket_open(&ks->nl, NETLINK_NETFILTER) != 0 || open_events(ks) != 0) {
        int err = errno;
        mvpn_kill_switch_close(ks);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err,
                                "cannot reach the kernel's packet filter");
    }
    *ret = ks;
    return 0;
}

void mvpn_kill_switch_close(mvpn_kill_switch *ks)
{
    if (ks == NULL) {
        return;
    }
    mvpn_nlsocket_close(&ks->nl);
    if (ks->events != NULL) {
        (void)mnl_socket_close(ks->events);
    }
    free(ks);
}

bool mvpn_kill_switch_is_in_force(mvpn_kill_switch *ks)
{
    struct nlmsghdr *msg =
        mvpn_nlsocket_begin(&ks->nl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_ACK);
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    gen->nfgen_family = NFPROTO_INET;
    mnl_attr_put_strz(msg, NFTA_TABLE_NAME, MVPN_KILL_SWITCH_TABLE);
    return mvpn_nlsocket_talk(&ks->nl, msg, NULL, NULL) == 0;
}

int mvpn_kill_switch_set(mvpn_kill_switch *ks, const mvpn_protect_setup *setup,
                         enum mvpn_protect_state state, mvpn_fault *fault)
{
    mvpn_protect_rules_make(setup, state, &ks->rules);
    return replace(ks, fault);
}

int mvpn_kill_switch_fd(const mvpn_kill_switch *ks)
{
    return ks != NULL ? mnl_socket_get_fd(ks->events) : -1;
}

/* The table's name is the first attribute of all that belongs to one (NFTA_*_TABLE are 1). */
static bool is_about_us(const mvpn_kill_switch *ks, const struct nlmsghdr *msg)
{
    if (msg->nlmsg_pid == ks->nl.port || msg->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
        (msg->nlmsg_type & 0xff) == NFT_MSG_NEWGEN) {
        return false;
    }
    MVPN_NL_FOREACH(attr, msg, sizeof(struct nfgenmsg))
    {
        if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME) {
            return mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0 &&
                   strcmp(mnl_attr_get_str(attr), MVPN_KILL_SWITCH_TABLE) == 0;
        }
    }
    return false;
}

static bool were_we_touched(mvpn_kill_switch *ks)
{
    bool touched = false;
    for (;;) {
        ssize_t n = mnl_socket_recvfrom(ks->events, ks->heard, sizeof(ks->heard));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == ENOBUFS || errno == ENOSPC)) {
            touched = true; /* more than the socket could hold: nobody knows what */
            continue;
        }
        if (n <= 0) {
            return touched;
        }
        int left = (int)n;
        for (const struct nlmsghdr *msg = (const struct nlmsghdr *)ks->heard;
             mnl_nlmsg_ok(msg, left); msg = mnl_nlmsg_next(msg, &left)) {
            touched = touched || is_about_us(ks, msg);
        }
    }
}

int mvpn_kill_switch_tend(mvpn_kill_switch *ks, bool *ret_repaired, mvpn_fault *fault)
{
    bool touched = were_we_touched(ks) || ks->is_broken;
    if (!touched || ks->rules.count == 0) {
        return 0;
    }
    int r = replace(ks, fault);
    *ret_repaired = r == 0;
    return r;
}
