#include "io/packet_filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_arp.h>
#include <stdio.h>
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
#define PRIORITY_LEAVING 150   /* behind it */
#define PRIORITY_ROUTED (-300) /* before anybody's, which come after connection tracking */
/* Of an Ethernet ARP packet: behind its fixed part and the sender's hardware address (RFC 826). */
#define ARP_SENDER_AT 14

struct mvpn_packet_filter {
    const char *table;
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
    [MVPN_PROTECT_ROUTED] = {"routed", "filter", NFPROTO_INET, NF_INET_POST_ROUTING,
                             PRIORITY_ROUTED, NF_ACCEPT},
    [MVPN_PROTECT_LEAVING] = {"leaving", "filter", NFPROTO_INET, NF_INET_POST_ROUTING,
                              PRIORITY_LEAVING, NF_ACCEPT},
    [MVPN_PROTECT_SPLIT] = {"split", "route", NFPROTO_INET, NF_INET_LOCAL_OUT, PRIORITY_MANGLE,
                            NF_ACCEPT},
    [MVPN_PROTECT_ANSWERS] = {"answers", "filter", NFPROTO_INET, NF_INET_PRE_ROUTING,
                              PRIORITY_MANGLE, NF_ACCEPT},
    [MVPN_PROTECT_ARP_IN] = {"input", "filter", NFPROTO_ARP, NF_ARP_IN, PRIORITY_FILTER, NF_ACCEPT},
    [MVPN_PROTECT_ARRIVING] = {"arriving", "filter", NFPROTO_INET, NF_INET_LOCAL_IN,
                               PRIORITY_MANGLE, NF_ACCEPT},
    [MVPN_PROTECT_NAT] = {"nat", "nat", NFPROTO_INET, NF_INET_POST_ROUTING, PRIORITY_SOURCE_NAT,
                          NF_ACCEPT},
};

static const uint8_t families[] = {NFPROTO_INET, NFPROTO_ARP};

/* ---- messages ---- */

static struct nlmsghdr *begin(mvpn_packet_filter *pf, unsigned type, unsigned flags, uint8_t family,
                              uint16_t resource)
{
    MVPN_ASSERT(pf->len + 1024 <= sizeof(pf->batch));
    struct nlmsghdr *msg = mnl_nlmsg_put_header(pf->batch + pf->len);
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    msg->nlmsg_type = (uint16_t)type;
    msg->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    msg->nlmsg_seq = pf->nl.seq;
    gen->nfgen_family = family;
    gen->version = NFNETLINK_V0;
    gen->res_id = htons(resource);
    return msg;
}

static struct nlmsghdr *begin_nft(mvpn_packet_filter *pf, unsigned type, unsigned flags,
                                  uint8_t family)
{
    return begin(pf, NFNL_SUBSYS_NFTABLES << 8 | type, flags, family, 0);
}

static void end(mvpn_packet_filter *pf, const struct nlmsghdr *msg)
{
    pf->len += msg->nlmsg_len;
    MVPN_ASSERT(pf->len <= sizeof(pf->batch));
}

static void put_table(mvpn_packet_filter *pf, unsigned type, unsigned flags, uint8_t family)
{
    struct nlmsghdr *msg = begin_nft(pf, type, flags, family);
    mnl_attr_put_strz(msg, NFTA_TABLE_NAME, pf->table);
    end(pf, msg);
}

static void put_u32(struct nlmsghdr *msg, unsigned type, uint32_t value)
{
    mnl_attr_put_u32(msg, (uint16_t)type, htonl(value));
}

static void put_chain(mvpn_packet_filter *pf, const struct chain *chain)
{
    struct nlmsghdr *msg = begin_nft(pf, NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain->family);
    mnl_attr_put_strz(msg, NFTA_CHAIN_TABLE, pf->table);
    mnl_attr_put_strz(msg, NFTA_CHAIN_NAME, chain->name);
    struct nlattr *hook = mnl_attr_nest_start(msg, NFTA_CHAIN_HOOK);
    put_u32(msg, NFTA_HOOK_HOOKNUM, chain->hook);
    put_u32(msg, NFTA_HOOK_PRIORITY, (uint32_t)chain->priority);
    mnl_attr_nest_end(msg, hook);
    put_u32(msg, NFTA_CHAIN_POLICY, chain->policy);
    mnl_attr_put_strz(msg, NFTA_CHAIN_TYPE, chain->type);
    end(pf, msg);
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

static void load_socket_mark(struct nlmsghdr *msg)
{
    expression e = begin_expression(msg, "socket");
    put_u32(msg, NFTA_SOCKET_KEY, NFT_SOCKET_MARK);
    put_u32(msg, NFTA_SOCKET_DREG, NFT_REG_1);
    end_expression(msg, e);
}

/* What the routing tables say its target is (RTN_LOCAL ..). */
static void load_kind(struct nlmsghdr *msg)
{
    expression e = begin_expression(msg, "fib");
    put_u32(msg, NFTA_FIB_DREG, NFT_REG_1);
    put_u32(msg, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
    put_u32(msg, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
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
    case MVPN_PROTECT_INDEX_IN:
        load_meta(msg, NFT_META_IIF);
        break;
    case MVPN_PROTECT_SOCKET:
        load_socket_mark(msg);
        break;
    case MVPN_PROTECT_KIND:
        load_kind(msg);
        break;
    }
    compare(msg, m, value);
}

static void put_mark(struct nlmsghdr *msg, uint32_t mark, bool of_connection)
{
    expression e = begin_expression(msg, "immediate");
    put_u32(msg, NFTA_IMMEDIATE_DREG, NFT_REG_1);
    put_value(msg, NFTA_IMMEDIATE_DATA, (const uint8_t *)&mark, sizeof(mark));
    end_expression(msg, e);
    e = begin_expression(msg, "meta");
    put_u32(msg, NFTA_META_KEY, NFT_META_MARK);
    put_u32(msg, NFTA_META_SREG, NFT_REG_1);
    end_expression(msg, e);
    if (of_connection) {
        e = begin_expression(msg, "ct");
        put_u32(msg, NFTA_CT_KEY, NFT_CT_MARK);
        put_u32(msg, NFTA_CT_SREG, NFT_REG_1);
        end_expression(msg, e);
    }
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
    case MVPN_PROTECT_MARK_ONE:
        put_mark(msg, rule->mark, rule->action == MVPN_PROTECT_SET_MARK);
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

/* As a comment, which nft shows: its type and length, then the text. (nft's own format) */
#define COMMENT_TYPE 0
#define COMMENT_MAX 32

static void put_note(struct nlmsghdr *msg, uint32_t note)
{
    uint8_t comment[2 + COMMENT_MAX] = {COMMENT_TYPE};
    int n = snprintf((char *)comment + 2, COMMENT_MAX, "restore %u", (unsigned)note);
    comment[1] = (uint8_t)(n + 1);
    mnl_attr_put(msg, NFTA_RULE_USERDATA, 2u + comment[1], comment);
}

static uint32_t read_note(const struct nlattr *attr)
{
    const uint8_t *comment = mnl_attr_get_payload(attr);
    size_t len = mnl_attr_get_payload_len(attr);
    unsigned note = 0;
    bool is_text = len > 2 && comment[0] == COMMENT_TYPE && comment[1] == len - 2 &&
                   len <= 2 + COMMENT_MAX && comment[len - 1] == '\0';
    return is_text && sscanf((const char *)comment + 2, "restore %u", &note) == 1 ? note : 0;
}

static void put_rule(mvpn_packet_filter *pf, const mvpn_protect_rule *rule)
{
    const struct chain *chain = &chains[rule->chain];
    struct nlmsghdr *msg =
        begin_nft(pf, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, chain->family);
    mnl_attr_put_strz(msg, NFTA_RULE_TABLE, pf->table);
    mnl_attr_put_strz(msg, NFTA_RULE_CHAIN, chain->name);
    struct nlattr *list = mnl_attr_nest_start(msg, NFTA_RULE_EXPRESSIONS);
    for (unsigned i = 0; i < rule->count; i++) {
        put_match(msg, &rule->match[i]);
    }
    put_action(msg, rule);
    mnl_attr_nest_end(msg, list);
    if (rule->note != 0) {
        put_note(msg, rule->note);
    }
    end(pf, msg);
}

/* ---- the transaction ---- */

/* Connections are tracked only for who has rules that need it. */
static bool is_needed(const mvpn_protect_rules *rules, enum mvpn_protect_chain chain)
{
    bool has_rules = false;
    for (unsigned i = 0; i < rules->count; i++) {
        has_rules = has_rules || rules->rule[i].chain == chain;
    }
    return has_rules;
}

/* Make, so that there is something to delete; delete; make anew. The last one is acknowledged. */
static int replace(mvpn_packet_filter *pf)
{
    bool is_wanted = pf->rules.count > 0;
    (void)mvpn_nlsocket_begin(&pf->nl, 0, 0); /* counts */
    pf->len = 0;
    end(pf, begin(pf, NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES));
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(families); i++) {
        bool is_last = !is_wanted && i + 1 == MVPN_ARRAY_LEN(families);
        put_table(pf, NFT_MSG_NEWTABLE, NLM_F_CREATE, families[i]);
        put_table(pf, NFT_MSG_DELTABLE, is_last ? NLM_F_ACK : 0, families[i]);
    }
    for (unsigned i = 0; is_wanted && i < MVPN_ARRAY_LEN(families); i++) {
        put_table(pf, NFT_MSG_NEWTABLE, NLM_F_CREATE, families[i]);
    }
    for (size_t i = 0; is_wanted && i < MVPN_ARRAY_LEN(chains); i++) {
        if (is_needed(&pf->rules, (enum mvpn_protect_chain)i)) {
            put_chain(pf, &chains[i]);
        }
    }
    struct nlmsghdr *last = NULL;
    for (unsigned i = 0; i < pf->rules.count; i++) {
        last = (struct nlmsghdr *)(pf->batch + pf->len);
        put_rule(pf, &pf->rules.rule[i]);
    }
    if (last != NULL) {
        last->nlmsg_flags |= NLM_F_ACK;
    }
    end(pf, begin(pf, NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES));
    pf->is_broken = mvpn_nlsocket_talk_batch(&pf->nl, pf->batch, pf->len) != 0;
    return pf->is_broken ? MVPN_E_SYSTEM : 0;
}

/* ---- what others do ---- */

static int open_events(mvpn_packet_filter *pf)
{
    int group = NFNLGRP_NFTABLES;
    pf->events = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return pf->events != NULL && mnl_socket_bind(pf->events, 0, MNL_SOCKET_AUTOPID) == 0 &&
                   mnl_socket_setsockopt(pf->events, NETLINK_ADD_MEMBERSHIP, &group,
                                         sizeof(group)) == 0
               ? 0
               : -1;
}

int mvpn_packet_filter_open(mvpn_packet_filter **ret, const char *table, mvpn_fault *fault)
{
    mvpn_packet_filter *pf = calloc(1, sizeof(*pf));
    if (pf == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for rules of the packet filter");
    }
    pf->table = table;
    if (mvpn_nlsocket_open(&pf->nl, NETLINK_NETFILTER) != 0 || open_events(pf) != 0) {
        int err = errno;
        mvpn_packet_filter_close(pf);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err,
                                "cannot reach the kernel's packet filter");
    }
    *ret = pf;
    return 0;
}

void mvpn_packet_filter_close(mvpn_packet_filter *pf)
{
    if (pf == NULL) {
        return;
    }
    mvpn_nlsocket_close(&pf->nl);
    if (pf->events != NULL) {
        (void)mnl_socket_close(pf->events);
    }
    free(pf);
}

bool mvpn_packet_filter_is_there(mvpn_packet_filter *pf)
{
    struct nlmsghdr *msg =
        mvpn_nlsocket_begin(&pf->nl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_ACK);
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    gen->nfgen_family = NFPROTO_INET;
    mnl_attr_put_strz(msg, NFTA_TABLE_NAME, pf->table);
    return mvpn_nlsocket_talk(&pf->nl, msg, NULL, NULL) == 0;
}

struct notes {
    const char *table;
    mvpn_packet_filter_note_fn *fn;
    void *ctx;
};

/* The dump may hold the rules of others, whatever was asked for. */
static void take_note(const struct nlmsghdr *msg, void *ctx)
{
    const struct notes *notes = ctx;
    uint32_t note = 0;
    bool is_ours = false;
    MVPN_NL_FOREACH(attr, msg, sizeof(struct nfgenmsg))
    {
        if (mnl_attr_get_type(attr) == NFTA_RULE_TABLE &&
            mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0) {
            is_ours = strcmp(mnl_attr_get_str(attr), notes->table) == 0;
        } else if (mnl_attr_get_type(attr) == NFTA_RULE_USERDATA) {
            note = read_note(attr);
        }
    }
    if (is_ours && note != 0) {
        notes->fn(notes->ctx, note);
    }
}

void mvpn_packet_filter_notes(mvpn_packet_filter *pf, mvpn_packet_filter_note_fn *fn, void *ctx)
{
    struct notes notes = {.table = pf->table, .fn = fn, .ctx = ctx};
    struct nlmsghdr *msg =
        mvpn_nlsocket_begin(&pf->nl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, NLM_F_DUMP);
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    gen->nfgen_family = NFPROTO_INET;
    mnl_attr_put_strz(msg, NFTA_RULE_TABLE, pf->table);
    MVPN_IGNORE(mvpn_nlsocket_talk(&pf->nl, msg, take_note, &notes)); /* nothing can be read */
}

mvpn_protect_rules *mvpn_packet_filter_rules(mvpn_packet_filter *pf)
{
    return &pf->rules;
}

int mvpn_packet_filter_replace(mvpn_packet_filter *pf)
{
    return replace(pf);
}

int mvpn_packet_filter_fd(const mvpn_packet_filter *pf)
{
    return pf != NULL ? mnl_socket_get_fd(pf->events) : -1;
}

/* The table's name is the first attribute of all that belongs to one (NFTA_*_TABLE are 1). */
static bool is_about_us(const mvpn_packet_filter *pf, const struct nlmsghdr *msg)
{
    if (msg->nlmsg_pid == pf->nl.port || msg->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
        (msg->nlmsg_type & 0xff) == NFT_MSG_NEWGEN) {
        return false;
    }
    MVPN_NL_FOREACH(attr, msg, sizeof(struct nfgenmsg))
    {
        if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME) {
            return mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0 &&
                   strcmp(mnl_attr_get_str(attr), pf->table) == 0;
        }
    }
    return false;
}

static bool were_we_touched(mvpn_packet_filter *pf)
{
    bool touched = false;
    for (;;) {
        ssize_t n = mnl_socket_recvfrom(pf->events, pf->heard, sizeof(pf->heard));
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
        for (const struct nlmsghdr *msg = (const struct nlmsghdr *)pf->heard;
             mnl_nlmsg_ok(msg, left); msg = mnl_nlmsg_next(msg, &left)) {
            touched = touched || is_about_us(pf, msg);
        }
    }
}

int mvpn_packet_filter_tend(mvpn_packet_filter *pf, bool *ret_repaired)
{
    bool touched = were_we_touched(pf) || pf->is_broken;
    if (!touched || pf->rules.count == 0) {
        return 0;
    }
    int r = replace(pf);
    *ret_repaired = *ret_repaired || r == 0;
    return r;
}
