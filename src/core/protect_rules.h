/*
 * The kill switch as a list of rules, which io/kill_switch turns into one transaction of the
 * kernel's packet filter, and which the tests ask about every packet they can think of.
 *
 * In each chain the first rule whose matches all hold decides, else the chain's policy: accept. For
 * what leaves (OUTPUT, FORWARD) the last rule drops the rest. No connection is tracked: a rule
 * looks at the packet alone, so nothing can be put into a state that opens it. The exception is
 * what a person sends outside by user or cgroup (core/split.h): the connection keeps its mark,
 * because the last packets of a socket that was closed have no owner any more. Where a person says
 * what alone goes inside (mvpn_split.is_inside), that is held as everything is else, and the rest
 * passes.
 *
 * A second list, with and without a kill switch, is for strict reverse path filtering (rp_filter =
 * 1): the kernel lets a packet in only where it would send an answer, and asks that without the
 * mark of our sockets, so that it would be the tunnel. What arrives for our sockets gets a mark of
 * its own, by which a policy rule finds the way that our packets take; and so do the neighbours'
 * questions for our hardware address (ARP), which the kernel asks for in the same way. It is not
 * the mark that the first list passes, so nothing can leave by it.
 */
#ifndef MVPN_CORE_PROTECT_RULES_H
#define MVPN_CORE_PROTECT_RULES_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "core/protect.h"
#include "core/split.h"

#define MVPN_PROTECT_NAME 16 /* IFNAMSIZ, with its zero */

enum mvpn_protect_chain {
    MVPN_PROTECT_OUTPUT,     /* what this host sends */
    MVPN_PROTECT_FORWARD,    /* what it passes on for containers and virtual machines */
    MVPN_PROTECT_PREROUTING, /* what arrives */
    MVPN_PROTECT_ARP,        /* its words on the Ethernet */
    MVPN_PROTECT_ROUTED,     /* where its way is known for good, and before anybody's address
                              * translation: OUTPUT has seen the interface of before */
    MVPN_PROTECT_LEAVING,    /* after all else */
    MVPN_PROTECT_SPLIT,      /* what this host sends, before OUTPUT: a new mark, a new route */
    MVPN_PROTECT_NAT,        /* the same at the very end: its source address */
    MVPN_PROTECT_ANSWERS,    /* what arrives, behind connection tracking and before its route */
    MVPN_PROTECT_ARP_IN,     /* what neighbours say on the Ethernet */
    MVPN_PROTECT_ARRIVING,   /* what arrives for this host */
};
#define MVPN_PROTECT_CHAINS 11

enum mvpn_protect_field {
    MVPN_PROTECT_NAME_OUT,   /* interface, MVPN_PROTECT_NAME bytes */
    MVPN_PROTECT_NAME_IN,    /* the same */
    MVPN_PROTECT_MARK,       /* 4 bytes of this machine's order */
    MVPN_PROTECT_FAMILY,     /* 1 byte: 4 or 6 */
    MVPN_PROTECT_PROTOCOL,   /* 1 byte, behind extension headers */
    MVPN_PROTECT_SOURCE,     /* 4 or 16 bytes, the first `bits` of them; after FAMILY */
    MVPN_PROTECT_TARGET,     /* the same */
    MVPN_PROTECT_PORT_FROM,  /* 2 bytes of the network's order; after PROTOCOL */
    MVPN_PROTECT_PORT_TO,    /* the same */
    MVPN_PROTECT_ICMP_TYPE,  /* 1 byte; after PROTOCOL */
    MVPN_PROTECT_ARP_SENDER, /* 4 bytes */
    MVPN_PROTECT_USER,       /* of the socket, 4 bytes of this machine's order; without a socket no
                              * match at all */
    MVPN_PROTECT_CLASS,      /* net_cls class of the socket, the same */
    MVPN_PROTECT_CGROUP,     /* id of the socket's cgroup v2, 8 bytes of this machine's order */
    MVPN_PROTECT_CT_MARK,    /* of the connection, as MARK */
    MVPN_PROTECT_INDEX_IN,   /* interface by number, 4 bytes of this machine's order */
    MVPN_PROTECT_SOCKET,     /* mark of the socket that it is for, as MARK. ANSWERS only */
    MVPN_PROTECT_KIND,       /* of its target, 4 bytes of the same: MVPN_PROTECT_LOCAL. The same */
};
#define MVPN_PROTECT_LOCAL 2u /* an address of this host (RTN_LOCAL) */

typedef struct mvpn_protect_match {
    enum mvpn_protect_field field;
    bool is_not;
    uint8_t len;
    uint8_t bits; /* of addresses that count; CGROUP: its depth, 1 = below the root */
    uint8_t value[16];
} mvpn_protect_match;

#define MVPN_PROTECT_MATCHES 5
/* All of one table, and for OUTPUT and FORWARD each what goes its own way; protect_test makes the
 * most of it. */
#define MVPN_PROTECT_RULES                                                                         \
    (104 + 2 * MVPN_SPLIT_TARGETS_MAX + MVPN_SPLIT_USERS_MAX + 3 * MVPN_SPLIT_CGROUPS_MAX)

enum mvpn_protect_action {
    MVPN_PROTECT_DROP,
    MVPN_PROTECT_ACCEPT,
    MVPN_PROTECT_SET_MARK,   /* of the packet and of its connection; and accept. SPLIT, ARRIVING */
    MVPN_PROTECT_MASQUERADE, /* from the address of where it leaves. NAT only */
    MVPN_PROTECT_MARK_ONE,   /* of this packet alone; and accept. ANSWERS and ARP_IN only */
};

typedef struct mvpn_protect_rule {
    enum mvpn_protect_chain chain;
    enum mvpn_protect_action action;
    uint32_t mark; /* SET_MARK, MARK_ONE */
    uint32_t note; /* a number that is kept with the rule for who reads it back; 0: none */
    unsigned count;
    mvpn_protect_match match[MVPN_PROTECT_MATCHES];
} mvpn_protect_rule;

typedef struct mvpn_protect_rules {
    unsigned count; /* 0: no table at all */
    mvpn_protect_rule rule[MVPN_PROTECT_RULES];
} mvpn_protect_rules;

/* What is constant while a client runs. */
typedef struct mvpn_protect_setup {
    bool lockdown;
    bool allow_lan; /* private and link-local addresses, not their ports 53 and 853 */
    uint32_t mark;
    char tun_name[MVPN_PROTECT_NAME];
    mvpn_addr tun_v4, tun_v6; /* family 0: there is none yet */
    mvpn_split split;
} mvpn_protect_setup;

/** The rules of `state`. */
void mvpn_protect_rules_make(const mvpn_protect_setup *setup, enum mvpn_protect_state state,
                             mvpn_protect_rules *ret);

/* An interface whose reverse path filter is strict. */
typedef struct mvpn_protect_strict {
    uint32_t index;
    bool is_ours_to_restore; /* the rule is noted: its setting was changed for it */
    bool is_tunnel;
} mvpn_protect_strict;
/* Hosts of containers have more: those that were there first, the ways out, are among these. */
#define MVPN_PROTECT_STRICT_MAX 64

/** The mark of answers, beside the client's own `mark` and mvpn_split_mark. Never 0 or those. */
static inline uint32_t mvpn_protect_answer_mark(uint32_t mark)
{
    const uint32_t bit = UINT32_C(1) << 17;
    return mark != bit ? mark ^ bit : mark << 1;
}

/**
 * True if the tunnel's interface needs rules, too: a cgroup's packets inside are from the host's
 * address before they are masqueraded, so that the way back would be the host's.
 */
bool mvpn_protect_needs_tunnel(const mvpn_protect_setup *setup, bool has_kill_switch);
/** The second list; empty without interfaces. */
void mvpn_protect_answers_make(const mvpn_protect_setup *setup, bool has_kill_switch,
                               const mvpn_protect_strict *strict, unsigned count,
                               mvpn_protect_rules *ret);

/* Ranges of addresses that a local network may have, and nobody on the internet. */
typedef mvpn_split_range mvpn_protect_range;
/** Those that allow_lan opens; the first `*ret_unicast` of `*ret_count` are not multicast. */
const mvpn_protect_range *mvpn_protect_lan(size_t *ret_unicast, size_t *ret_count);

#endif
