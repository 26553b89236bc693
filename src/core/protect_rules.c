#include "core/protect_rules.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/macros.h"

#define TCP 6
#define UDP 17
#define ICMPV6 58

/* RFC 8415 §7: clients' and servers' ports; RFC 2131 §4.1. */
#define DHCP4_CLIENT 68
#define DHCP4_SERVER 67
#define DHCP6_CLIENT 546
#define DHCP6_SERVER 547

#define TUN_BITS_V4 24
#define TUN_BITS_V6 64

/* clang-format off */
static const mvpn_protect_range lan[] = {
    {{.family = 4, .ip = {10}}, 8},
    {{.family = 4, .ip = {172, 16}}, 12},
    {{.family = 4, .ip = {192, 168}}, 16},
    {{.family = 4, .ip = {169, 254}}, 16},
    {{.family = 6, .ip = {0xfc}}, 7},
    {{.family = 6, .ip = {0xfe, 0x80}}, 10},
#define LAN_UNICAST 6
    {{.family = 4, .ip = {255, 255, 255, 255}}, 32},
    {{.family = 4, .ip = {224, 0, 0}}, 24},
    {{.family = 4, .ip = {239}}, 8},
    {{.family = 6, .ip = {0xff, 0x02}}, 16},
    {{.family = 6, .ip = {0xff, 0x05}}, 16},
};
/* RFC 8415 §7.1: all relay agents and servers of a link. */
static const mvpn_addr dhcp6_servers = {.family = 6, .ip = {0xff, 0x02, [13] = 1, [15] = 2}};
/* clang-format on */

const mvpn_protect_range *mvpn_protect_lan(size_t *ret_unicast, size_t *ret_count)
{
    *ret_unicast = LAN_UNICAST;
    *ret_count = MVPN_ARRAY_LEN(lan);
    return lan;
}

/* ---- one rule ---- */

static mvpn_protect_rule *begin(mvpn_protect_rules *rules, enum mvpn_protect_chain chain,
                                enum mvpn_protect_action action)
{
    MVPN_ASSERT(rules->count < MVPN_PROTECT_RULES);
    mvpn_protect_rule *rule = &rules->rule[rules->count++];
    *rule = (mvpn_protect_rule){.chain = chain, .action = action};
    return rule;
}

static mvpn_protect_match *add(mvpn_protect_rule *rule, enum mvpn_protect_field field,
                               const void *value, size_t len)
{
    MVPN_ASSERT(rule->count < MVPN_PROTECT_MATCHES);
    mvpn_protect_match *m = &rule->match[rule->count++];
    MVPN_ASSERT(len <= sizeof(m->value));
    *m = (mvpn_protect_match){.field = field, .len = (uint8_t)len};
    memcpy(m->value, value, len);
    return m;
}

static mvpn_protect_match *add_byte(mvpn_protect_rule *rule, enum mvpn_protect_field field,
                                    uint8_t value)
{
    return add(rule, field, &value, 1);
}

static mvpn_protect_match *add_name(mvpn_protect_rule *rule, enum mvpn_protect_field field,
                                    const char *name)
{
    char padded[MVPN_PROTECT_NAME] = "";
    size_t n = strnlen(name, sizeof(padded) - 1);
    memcpy(padded, name, n);
    return add(rule, field, padded, sizeof(padded));
}

static void add_port(mvpn_protect_rule *rule, enum mvpn_protect_field field, uint16_t port)
{
    uint8_t bytes[2];
    mvpn_store16(bytes, port);
    (void)add(rule, field, bytes, sizeof(bytes));
}

static void add_addr(mvpn_protect_rule *rule, enum mvpn_protect_field field, const mvpn_addr *addr,
                     uint8_t bits)
{
    (void)add_byte(rule, MVPN_PROTECT_FAMILY, addr->family);
    add(rule, field, addr->ip, mvpn_addr_ip_len(addr))->bits = bits;
}

/* ---- what leaves ---- */

/* What the client sends itself must never come back to it: it would send that again, and without
 * end, where somebody's route leads the guards into the tunnel. */
static void drop_own_in_tunnel(mvpn_protect_rules *rules, const mvpn_protect_setup *setup)
{
    mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_DROP);
    (void)add_name(rule, MVPN_PROTECT_NAME_OUT, setup->tun_name);
    (void)add(rule, MVPN_PROTECT_MARK, &setup->mark, sizeof(setup->mark));
}

/* From the tunnel's own addresses alone: another one would tell the exit where this host is. */
static void pass_tunnel(mvpn_protect_rules *rules, const mvpn_protect_setup *setup)
{
    const mvpn_addr *const own[] = {&setup->tun_v4, &setup->tun_v6};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(own); i++) {
        if (own[i]->family != 0) {
            mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_ACCEPT);
            (void)add_name(rule, MVPN_PROTECT_NAME_OUT, setup->tun_name);
            add_addr(rule, MVPN_PROTECT_SOURCE, own[i], (uint8_t)(mvpn_addr_ip_len(own[i]) * 8));
        }
    }
    (void)add_name(begin(rules, MVPN_PROTECT_FORWARD, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_NAME_OUT,
                   setup->tun_name);
    (void)add_name(begin(rules, MVPN_PROTECT_FORWARD, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_NAME_IN,
                   setup->tun_name);
}

static void drop_own_astray(mvpn_protect_rules *rules, const mvpn_protect_setup *setup,
                            enum mvpn_protect_chain chain)
{
    const mvpn_addr *const own[] = {&setup->tun_v4, &setup->tun_v6};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(own); i++) {
        if (own[i]->family != 0) {
            mvpn_protect_rule *rule = begin(rules, chain, MVPN_PROTECT_DROP);
            add_name(rule, MVPN_PROTECT_NAME_OUT, setup->tun_name)->is_not = true;
            add_name(rule, MVPN_PROTECT_NAME_OUT, "lo")->is_not = true;
            add_addr(rule, MVPN_PROTECT_SOURCE, own[i], (uint8_t)(mvpn_addr_ip_len(own[i]) * 8));
        }
    }
}

/*
 * Another program may mark packets, too, and so send what took the tunnel's address another way
 * after OUTPUT was asked; and masquerade there, so that only before that the address is seen.
 */
static void hold_own_addresses(mvpn_protect_rules *rules, const mvpn_protect_setup *setup)
{
    const uint32_t mark = mvpn_split_mark(setup->mark);
    if (!setup->split.is_inside && setup->split.cgroup_count > 0) { /* mend_source has it next */
        (void)add(begin(rules, MVPN_PROTECT_ROUTED, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_MARK, &mark,
                  sizeof(mark));
    }
    drop_own_astray(rules, setup, MVPN_PROTECT_ROUTED);
    drop_own_astray(rules, setup, MVPN_PROTECT_LEAVING);
}

static void pass_own(mvpn_protect_rules *rules, const mvpn_protect_setup *setup, bool pass_search)
{
    mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_ACCEPT);
    (void)add(rule, MVPN_PROTECT_MARK, &setup->mark, sizeof(setup->mark));
    if (!pass_search) {
        (void)add_byte(rule, MVPN_PROTECT_PROTOCOL, UDP);
    }
}

static mvpn_protect_rule *begin_udp(mvpn_protect_rules *rules, uint8_t family, uint16_t from,
                                    uint16_t to)
{
    mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_ACCEPT);
    (void)add_byte(rule, MVPN_PROTECT_PROTOCOL, UDP);
    add_port(rule, MVPN_PROTECT_PORT_FROM, from);
    add_port(rule, MVPN_PROTECT_PORT_TO, to);
    if (family == 4) {
        (void)add_byte(rule, MVPN_PROTECT_FAMILY, family);
    }
    return rule;
}

/* To have an address and a neighbour at all. Other users may not send from these ports, nor such
 * messages: both need rights. */
static void pass_link(mvpn_protect_rules *rules)
{
    static const uint8_t discovery[] = {133, 135, 136}; /* RFC 4861 §4.1, §4.3, §4.4 */
    static const mvpn_addr link_local = {.family = 6, .ip = {0xfe, 0x80}};
    (void)begin_udp(rules, 4, DHCP4_CLIENT, DHCP4_SERVER);
    add_addr(begin_udp(rules, 6, DHCP6_CLIENT, DHCP6_SERVER), MVPN_PROTECT_TARGET, &dhcp6_servers,
             128);
    add_addr(begin_udp(rules, 6, DHCP6_CLIENT, DHCP6_SERVER), MVPN_PROTECT_TARGET, &link_local, 10);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(discovery); i++) {
        mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_ACCEPT);
        (void)add_byte(rule, MVPN_PROTECT_PROTOCOL, ICMPV6);
        (void)add_byte(rule, MVPN_PROTECT_ICMP_TYPE, discovery[i]);
    }
}

/* DNS, DNS over TLS; what is asked where DNS does not know: NetBIOS, mDNS (RFC 6762), LLMNR (RFC
 * 4795). Questions tell where a person goes, whoever is asked. */
static const uint8_t name_protocols[] = {UDP, TCP};
static const uint16_t name_ports[] = {53, 853, 137, 5353, 5355};
#define NAME_RULES (MVPN_ARRAY_LEN(name_protocols) * MVPN_ARRAY_LEN(name_ports))

static void add_name_port(mvpn_protect_rule *rule, size_t i)
{
    (void)add_byte(rule, MVPN_PROTECT_PROTOCOL, name_protocols[i / MVPN_ARRAY_LEN(name_ports)]);
    add_port(rule, MVPN_PROTECT_PORT_TO, name_ports[i % MVPN_ARRAY_LEN(name_ports)]);
}

static void drop_names(mvpn_protect_rules *rules, enum mvpn_protect_chain chain)
{
    for (size_t i = 0; i < NAME_RULES; i++) {
        add_name_port(begin(rules, chain, MVPN_PROTECT_DROP), i);
    }
}

/* The tunnel's own range stays the tunnel's, whatever route a local network sends us. */
static void drop_tunnel_range(mvpn_protect_rules *rules, enum mvpn_protect_chain chain,
                              const mvpn_protect_setup *setup)
{
    if (setup->tun_v4.family != 0) {
        add_addr(begin(rules, chain, MVPN_PROTECT_DROP), MVPN_PROTECT_TARGET, &setup->tun_v4,
                 TUN_BITS_V4);
    }
    if (setup->tun_v6.family != 0) {
        add_addr(begin(rules, chain, MVPN_PROTECT_DROP), MVPN_PROTECT_TARGET, &setup->tun_v6,
                 TUN_BITS_V6);
    }
}

static void pass_lan(mvpn_protect_rules *rules, enum mvpn_protect_chain chain)
{
    size_t count = chain == MVPN_PROTECT_OUTPUT ? MVPN_ARRAY_LEN(lan) : LAN_UNICAST;
    for (size_t i = 0; i < count; i++) {
        add_addr(begin(rules, chain, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_TARGET, &lan[i].addr,
                 lan[i].bits);
    }
}

/* Private and other people's addresses, never the resolver there: it would be told what this host
 * looks up. */
static void pass_targets(mvpn_protect_rules *rules, enum mvpn_protect_chain chain,
                         const mvpn_protect_setup *setup)
{
    const mvpn_split *split = &setup->split;
    if (!setup->allow_lan && split->target_count == 0) {
        return;
    }
    drop_names(rules, chain);
    drop_tunnel_range(rules, chain, setup);
    for (unsigned i = 0; i < split->target_count; i++) {
        add_addr(begin(rules, chain, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_TARGET,
                 &split->targets[i].addr, split->targets[i].bits);
    }
    if (setup->allow_lan) {
        pass_lan(rules, chain);
    }
}

/* ---- what a person sends its own way by user or cgroup ---- */

static mvpn_protect_rule *begin_mark(mvpn_protect_rules *rules, uint32_t mark)
{
    mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_SPLIT, MVPN_PROTECT_SET_MARK);
    rule->mark = mark;
    return rule;
}

static void mark_connections(mvpn_protect_rules *rules, uint32_t mark)
{
    (void)add(begin_mark(rules, mark), MVPN_PROTECT_CT_MARK, &mark, sizeof(mark));
}

static void mark_senders(mvpn_protect_rules *rules, const mvpn_protect_setup *setup, uint32_t mark)
{
    const mvpn_split *split = &setup->split;
    const uint32_t nobody = UINT32_MAX;
    /* The client's own keep theirs, whoever it runs as. */
    (void)add(begin(rules, MVPN_PROTECT_SPLIT, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_MARK,
              &setup->mark, sizeof(setup->mark));
    if (split->is_inside) {
        mark_connections(rules, mark);
    }
    for (unsigned i = 0; i < split->user_count; i++) {
        (void)add(begin_mark(rules, mark), MVPN_PROTECT_USER, &split->users[i],
                  sizeof(split->users[i]));
    }
    for (unsigned i = 0; i < split->cgroup_count; i++) {
        const mvpn_split_cgroup *group = &split->cgroups[i];
        if (group->level == 0) {
            (void)add(begin_mark(rules, mark), MVPN_PROTECT_CLASS, &group->class_id,
                      sizeof(group->class_id));
        } else {
            add(begin_mark(rules, mark), MVPN_PROTECT_CGROUP, &group->id, sizeof(group->id))->bits =
                group->level;
        }
    }
    if (!split->is_inside) {
        /* Another's socket that has got the same port: the kernel keeps the connection a while. */
        add(begin(rules, MVPN_PROTECT_SPLIT, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_USER, &nobody,
            sizeof(nobody))
            ->is_not = true;
        mark_connections(rules, mark);
    }
}

/* A cgroup is not known yet when a socket chooses its source address, so that it takes the
 * tunnel's. */
static void mend_source(mvpn_protect_rules *rules, const mvpn_protect_setup *setup, uint32_t mark)
{
    const mvpn_addr *const own[] = {&setup->tun_v4, &setup->tun_v6};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(own); i++) {
        if (own[i]->family != 0) {
            mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_NAT, MVPN_PROTECT_MASQUERADE);
            (void)add(rule, MVPN_PROTECT_MARK, &mark, sizeof(mark));
            add_name(rule, MVPN_PROTECT_NAME_OUT, setup->tun_name)->is_not = true;
            add_name(rule, MVPN_PROTECT_NAME_OUT, "lo")->is_not = true;
            add_addr(rule, MVPN_PROTECT_SOURCE, own[i], (uint8_t)(mvpn_addr_ip_len(own[i]) * 8));
        }
    }
}

static void pass_senders(mvpn_protect_rules *rules, const mvpn_protect_setup *setup)
{
    const uint32_t mark = mvpn_split_mark(setup->mark);
    if (!mvpn_split_has_senders(&setup->split)) {
        return;
    }
    mark_senders(rules, setup, mark);
    if (setup->split.cgroup_count > 0) {
        mend_source(rules, setup, mark);
    }
    (void)add(begin(rules, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_MARK, &mark,
              sizeof(mark));
}

/* ---- what alone goes inside ---- */

/*
 * An answer that is not read here, by the client, tells addresses that are not inside yet. It reads
 * what comes through the tunnel by UDP: so nobody is asked outside, and inside by nothing else.
 */
static void hold_names(mvpn_protect_rules *rules, const mvpn_protect_setup *setup,
                       enum mvpn_protect_chain chain, bool is_tunnel)
{
    static const struct {
        uint8_t protocol;
        uint16_t port;
    } ways[] = {{UDP, 53}, {TCP, 53}, {TCP, 853}, {UDP, 853}};
    for (size_t i = is_tunnel; setup->split.holds_names && i < MVPN_ARRAY_LEN(ways); i++) {
        mvpn_protect_rule *rule = begin(rules, chain, MVPN_PROTECT_DROP);
        if (is_tunnel) {
            (void)add_name(rule, MVPN_PROTECT_NAME_OUT, setup->tun_name);
        }
        (void)add_byte(rule, MVPN_PROTECT_PROTOCOL, ways[i].protocol);
        add_port(rule, MVPN_PROTECT_PORT_TO, ways[i].port);
    }
}

/* Who sends what alone goes inside, and by what that is known. */
typedef struct sender_mark {
    enum mvpn_protect_field field;
    uint32_t value;
} sender_mark;

static mvpn_protect_rule *begin_marked(mvpn_protect_rules *rules, enum mvpn_protect_chain chain,
                                       enum mvpn_protect_action action, sender_mark mark)
{
    mvpn_protect_rule *rule = begin(rules, chain, action);
    (void)add(rule, mark.field, &mark.value, sizeof(mark.value));
    return rule;
}

/*
 * A cgroup is known only after the source address was chosen: the host's, which the exit must not
 * learn. The mark has sent the packet into the tunnel since.
 */
static void mend_source_inside(mvpn_protect_rules *rules, const mvpn_protect_setup *setup,
                               sender_mark mark)
{
    const mvpn_addr *const own[] = {&setup->tun_v4, &setup->tun_v6};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(own); i++) {
        if (own[i]->family != 0) {
            mvpn_protect_rule *rule =
                begin_marked(rules, MVPN_PROTECT_NAT, MVPN_PROTECT_MASQUERADE, mark);
            (void)add_name(rule, MVPN_PROTECT_NAME_OUT, setup->tun_name);
            add_addr(rule, MVPN_PROTECT_SOURCE, own[i], (uint8_t)(mvpn_addr_ip_len(own[i]) * 8));
            rule->match[rule->count - 1].is_not = true;
        }
    }
}

/* Into the tunnel from its own addresses, as everybody. */
static void pass_senders_inside(mvpn_protect_rules *rules, const mvpn_protect_setup *setup,
                                sender_mark mark)
{
    const mvpn_addr *const own[] = {&setup->tun_v4, &setup->tun_v6};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(own); i++) {
        if (own[i]->family != 0) {
            mvpn_protect_rule *rule =
                begin_marked(rules, MVPN_PROTECT_LEAVING, MVPN_PROTECT_ACCEPT, mark);
            (void)add_name(rule, MVPN_PROTECT_NAME_OUT, setup->tun_name);
            add_addr(rule, MVPN_PROTECT_SOURCE, own[i], (uint8_t)(mvpn_addr_ip_len(own[i]) * 8));
        }
    }
}

/*
 * The local network where `is_lan_open`, as for everybody else; never its resolver. OUTPUT would
 * see where a cgroup's packets went before they had their mark.
 */
static void hold_marked(mvpn_protect_rules *rules, const mvpn_protect_setup *setup,
                        sender_mark mark, bool pass_tunnel, bool is_lan_open)
{
    const enum mvpn_protect_chain chain = MVPN_PROTECT_LEAVING;
    (void)add_name(begin_marked(rules, chain, MVPN_PROTECT_ACCEPT, mark), MVPN_PROTECT_NAME_OUT,
                   "lo");
    if (pass_tunnel) {
        pass_senders_inside(rules, setup, mark);
    }
    (void)add_name(begin_marked(rules, chain, MVPN_PROTECT_DROP, mark), MVPN_PROTECT_NAME_OUT,
                   setup->tun_name);
    for (size_t i = 0; is_lan_open && i < NAME_RULES; i++) {
        add_name_port(begin_marked(rules, chain, MVPN_PROTECT_DROP, mark), i);
    }
    for (size_t i = 0; is_lan_open && i < MVPN_ARRAY_LEN(lan); i++) {
        add_addr(begin_marked(rules, chain, MVPN_PROTECT_ACCEPT, mark), MVPN_PROTECT_TARGET,
                 &lan[i].addr, lan[i].bits);
    }
    (void)begin_marked(rules, chain, MVPN_PROTECT_DROP, mark);
}

/*
 * What answers a new connection for a server belongs to no cgroup (of version 2) yet: the kernel's
 * "request socket". So its connection is marked when it arrives.
 */
static void mark_arriving(mvpn_protect_rules *rules, const mvpn_protect_setup *setup, uint32_t mark)
{
    for (unsigned i = 0; i < setup->split.cgroup_count; i++) {
        const mvpn_split_cgroup *group = &setup->split.cgroups[i];
        if (group->level > 0) {
            mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_ARRIVING, MVPN_PROTECT_SET_MARK);
            rule->mark = mark;
            add_name(rule, MVPN_PROTECT_NAME_IN, setup->tun_name)->is_not = true;
            add_name(rule, MVPN_PROTECT_NAME_IN, "lo")->is_not = true;
            (void)add_byte(rule, MVPN_PROTECT_PROTOCOL, TCP);
            add(rule, MVPN_PROTECT_CGROUP, &group->id, sizeof(group->id))->bits = group->level;
        }
    }
}

/* Another program may have given the packet another mark since; and what belongs to no connection
 * has the packet's alone. */
static void hold_senders(mvpn_protect_rules *rules, const mvpn_protect_setup *setup,
                         bool pass_tunnel)
{
    const uint32_t mark = mvpn_split_mark(setup->mark);
    const sender_mark of_connection = {MVPN_PROTECT_CT_MARK, mark};
    const sender_mark of_packet = {MVPN_PROTECT_MARK, mark};
    if (!mvpn_split_has_senders(&setup->split)) {
        return;
    }
    mark_senders(rules, setup, mark);
    mark_arriving(rules, setup, mark);
    if (setup->split.cgroup_count > 0) {
        mend_source_inside(rules, setup, of_connection);
    }
    (void)add(begin(rules, MVPN_PROTECT_LEAVING, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_MARK,
              &setup->mark, sizeof(setup->mark)); /* the client's own, as in SPLIT */
    hold_marked(rules, setup, of_connection, pass_tunnel, setup->allow_lan);
    hold_marked(rules, setup, of_packet, pass_tunnel, false);
}

/* Whatever is left of it here, the tunnel has not taken. */
static void hold_inside(mvpn_protect_rules *rules, const mvpn_protect_setup *setup,
                        bool pass_tunnel)
{
    static const enum mvpn_protect_chain leaving[] = {MVPN_PROTECT_OUTPUT, MVPN_PROTECT_FORWARD};
    const mvpn_addr *const own[] = {&setup->tun_v4, &setup->tun_v6};
    const mvpn_split *split = &setup->split;
    /* The last words of a connection that was inside, which no user and no route knows any more. */
    for (size_t i = 0; i < MVPN_ARRAY_LEN(own); i++) {
        if (own[i]->family != 0) {
            add_addr(begin(rules, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_DROP), MVPN_PROTECT_SOURCE,
                     own[i], (uint8_t)(mvpn_addr_ip_len(own[i]) * 8));
        }
    }
    for (size_t k = 0; k < MVPN_ARRAY_LEN(leaving); k++) {
        hold_names(rules, setup, leaving[k], false);
        drop_tunnel_range(rules, leaving[k], setup);
        for (unsigned i = 0; i < split->target_count; i++) {
            add_addr(begin(rules, leaving[k], MVPN_PROTECT_DROP), MVPN_PROTECT_TARGET,
                     &split->targets[i].addr, split->targets[i].bits);
        }
    }
    hold_senders(rules, setup, pass_tunnel);
    for (size_t k = 0; k < MVPN_ARRAY_LEN(leaving); k++) {
        (void)begin(rules, leaving[k], MVPN_PROTECT_ACCEPT); /* against the chain's policy */
    }
}

/* ---- what arrives ---- */

/* Who is on the local network and guesses the tunnel's address learns from our answers what goes on
 * in it (CVE-2019-14899). It is the same for everybody, so there is nothing to guess. */
static void hide_tunnel(mvpn_protect_rules *rules, const mvpn_protect_setup *setup)
{
    const mvpn_addr *const own[] = {&setup->tun_v4, &setup->tun_v6};
    static const enum mvpn_protect_field fields[] = {MVPN_PROTECT_TARGET, MVPN_PROTECT_SOURCE};
    for (size_t i = 0; i < 4; i++) {
        const mvpn_addr *addr = own[i / 2];
        if (addr->family != 0) {
            mvpn_protect_rule *rule = begin(rules, MVPN_PROTECT_PREROUTING, MVPN_PROTECT_DROP);
            add_name(rule, MVPN_PROTECT_NAME_IN, setup->tun_name)->is_not = true;
            add_name(rule, MVPN_PROTECT_NAME_IN, "lo")->is_not = true;
            add_addr(rule, fields[i % 2], addr, (uint8_t)(mvpn_addr_ip_len(addr) * 8));
        }
    }
    if (setup->tun_v4.family != 0) { /* the kernel answers for every address that it has */
        (void)add(begin(rules, MVPN_PROTECT_ARP, MVPN_PROTECT_DROP), MVPN_PROTECT_ARP_SENDER,
                  setup->tun_v4.ip, 4);
    }
}

/*
 * The chain's policy would do it, but not while one table takes another's place: the kernel gives a
 * new chain its policy some time after the old one is gone, and accepts meanwhile. Rules are there
 * at once.
 */
static void drop_the_rest(mvpn_protect_rules *rules)
{
    (void)begin(rules, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_DROP);
    (void)begin(rules, MVPN_PROTECT_FORWARD, MVPN_PROTECT_DROP);
}

void mvpn_protect_rules_make(const mvpn_protect_setup *setup, enum mvpn_protect_state state,
                             mvpn_protect_rules *ret)
{
    mvpn_protect_policy policy = mvpn_protect_policy_of(state, setup->lockdown);
    ret->count = 0;
    if (!policy.is_in_force) {
        return;
    }
    (void)add_name(begin(ret, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_ACCEPT), MVPN_PROTECT_NAME_OUT,
                   "lo");
    if (policy.pass_tunnel) {
        drop_own_in_tunnel(ret, setup);
        hold_names(ret, setup, MVPN_PROTECT_OUTPUT, true);
        hold_names(ret, setup, MVPN_PROTECT_FORWARD, true);
        pass_tunnel(ret, setup);
    }
    (void)add_name(begin(ret, MVPN_PROTECT_OUTPUT, MVPN_PROTECT_DROP), MVPN_PROTECT_NAME_OUT,
                   setup->tun_name);
    (void)add_name(begin(ret, MVPN_PROTECT_FORWARD, MVPN_PROTECT_DROP), MVPN_PROTECT_NAME_OUT,
                   setup->tun_name);
    if (policy.pass_own) {
        pass_own(ret, setup, policy.pass_search);
    }
    pass_link(ret);
    hide_tunnel(ret, setup);
    hold_own_addresses(ret, setup);
    if (setup->split.is_inside) {
        hold_inside(ret, setup, policy.pass_tunnel);
        return;
    }
    pass_senders(ret, setup);
    pass_targets(ret, MVPN_PROTECT_OUTPUT, setup);
    pass_targets(ret, MVPN_PROTECT_FORWARD, setup);
    drop_the_rest(ret);
}

/* ---- answers ---- */

static mvpn_protect_rule *begin_answer(mvpn_protect_rules *rules, enum mvpn_protect_chain chain,
                                       uint32_t mark, uint32_t index)
{
    mvpn_protect_rule *rule = begin(rules, chain, MVPN_PROTECT_MARK_ONE);
    rule->mark = mark;
    (void)add(rule, MVPN_PROTECT_INDEX_IN, &index, sizeof(index));
    return rule;
}

bool mvpn_protect_needs_tunnel(const mvpn_protect_setup *setup, bool has_kill_switch)
{
    return has_kill_switch && setup->split.is_inside && setup->split.cgroup_count > 0;
}

/* What a policy rule leads into the tunnel by its mark is expected from there by the same. */
static void mark_tunnel(mvpn_protect_rules *rules, const mvpn_protect_strict *tunnel, uint32_t mark)
{
    mvpn_protect_rule *rule = begin_answer(rules, MVPN_PROTECT_ANSWERS, mark, tunnel->index);
    (void)add(rule, MVPN_PROTECT_CT_MARK, &mark, sizeof(mark));
    rule->note = tunnel->is_ours_to_restore ? tunnel->index : 0;
}

static void mark_answers(mvpn_protect_rules *rules, const mvpn_protect_setup *setup,
                         const mvpn_protect_strict *strict, bool has_outside)
{
    const uint32_t local = MVPN_PROTECT_LOCAL, split_mark = mvpn_split_mark(setup->mark);
    const uint32_t mark = mvpn_protect_answer_mark(setup->mark);
    /* Also without connection: who punches through a NAT is answered by many. A socket that
     * listens on every address would be found for what is only passed on here, too. */
    mvpn_protect_rule *rule = begin_answer(rules, MVPN_PROTECT_ANSWERS, mark, strict->index);
    (void)add(rule, MVPN_PROTECT_SOCKET, &setup->mark, sizeof(setup->mark));
    (void)add(rule, MVPN_PROTECT_KIND, &local, sizeof(local));
    rule->note = strict->is_ours_to_restore ? strict->index : 0;
    if (has_outside) {
        (void)add(begin_answer(rules, MVPN_PROTECT_ANSWERS, mark, strict->index),
                  MVPN_PROTECT_CT_MARK, &split_mark, sizeof(split_mark));
    }
    (void)begin_answer(rules, MVPN_PROTECT_ARP_IN, mark, strict->index);
}

void mvpn_protect_answers_make(const mvpn_protect_setup *setup, bool has_kill_switch,
                               const mvpn_protect_strict *strict, unsigned count,
                               mvpn_protect_rules *ret)
{
    bool has_outside = has_kill_switch && !setup->split.is_inside &&
                       mvpn_split_has_senders(&setup->split); /* else no connection has the mark */
    ret->count = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!strict[i].is_tunnel) {
            mark_answers(ret, setup, &strict[i], has_outside);
        } else if (mvpn_protect_needs_tunnel(setup, has_kill_switch)) {
            mark_tunnel(ret, &strict[i], mvpn_split_mark(setup->mark));
        }
    }
}
