/*
 * Exit policy: which destinations a session may reach. Asked for every packet, before translation.
 *
 * The order is fixed; the first that matches decides:
 *   1. protocols other than TCP, UDP and ICMP are refused (their checksums cannot be translated);
 *   2. addresses that are not on the public internet: private, loopback, link-local, shared,
 *      metadata services of clouds, documentation, multicast, reserved (RFC 6890);
 *   3. the exit's own addresses and networks;
 *   4. relays' addresses with their ports (a circuit through an exit into the network would hide
 * its client from path rules and load the network twice);
 *   5. TCP port 25. Mail between servers is spam's way out. Submission (465, 587) asks for a login
 * and is open;
 *   6. the operator's blocked addresses;
 *   7. TCP and UDP ports that are not among the operator's allowed ones, if he named any;
 *   8. the operator's rules, in their order;
 *   9. accept.
 * The operator can only take away from what 1 to 5 leave.
 *
 * IPv6 addresses that carry an IPv4 address (mapped, 6to4, NAT64, ISATAP) are judged by it as well,
 * in every step: else 2002:7f00:1:: is a way to 127.0.0.1. Teredo's are refused as a whole.
 *
 * Text of the operator's rules, one a line or separated by ';', '#' starts a comment:
 *   accept|reject  tcp|udp|icmp|any|*  *|*4|*6|ADDRESS[/BITS]  [*|PORT[-PORT][,...]]
 */
#ifndef MVPN_EXIT_POLICY_H
#define MVPN_EXIT_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "base/macros.h"
#include "network/ip/ip.h"
#include "wire/descriptor.h"

/* One pass per packet is linear: about 1 ns a rule. Nobody writes more by hand. */
#define MVPN_POLICY_RULES_MAX 256
/* The same pass. Longer lists belong into the host's firewall, which hashes them. */
#define MVPN_POLICY_BLOCKED_MAX 256
#define MVPN_POLICY_PORTS_MAX 128 /* ranges of allowed ports: more than the well-known services */
/* Interfaces' addresses and pools of one machine. */
#define MVPN_POLICY_OWN_MAX 64
/* A view holds at most 5,000 relays with up to three addresses each (design of paths). */
#define MVPN_POLICY_RELAYS_MAX 16384

typedef struct mvpn_policy mvpn_policy;

typedef struct mvpn_policy_error {
    unsigned line;    /* from 1 */
    unsigned column;  /* from 1 */
    const char *what; /* English phrase; static */
} mvpn_policy_error;

enum mvpn_policy_result {
    MVPN_POLICY_REJECT,
    MVPN_POLICY_ACCEPT,
    MVPN_POLICY_DEPENDS, /* a later fragment: what holds for the first, which has the ports */
};

/* What decided, in the order above. */
enum mvpn_policy_step {
    MVPN_POLICY_BY_PROTOCOL,
    MVPN_POLICY_BY_SPECIAL,
    MVPN_POLICY_BY_OWN,
    MVPN_POLICY_BY_RELAY,
    MVPN_POLICY_BY_SMTP,
    MVPN_POLICY_BY_BLOCKED,
    MVPN_POLICY_BY_PORTS,
    MVPN_POLICY_BY_RULE,
    MVPN_POLICY_BY_NOTHING, /* accepted since nothing refuses it */
};

typedef struct mvpn_policy_verdict {
    enum mvpn_policy_result result;
    enum mvpn_policy_step step;
    unsigned line; /* of the rule's text, or as given with the blocked network; 0: none */
} mvpn_policy_verdict;

/** The defaults alone. NULL without memory. */
mvpn_policy *mvpn_policy_new(void);
void mvpn_policy_free(mvpn_policy *policy);

/**
 * Replace the operator's rules. Returns 0, or MVPN_E_CONFIG with `*ret_error` set and the old rules
 * still in force.
 */
MVPN_WUR int mvpn_policy_parse(mvpn_policy *policy, const char *text, mvpn_policy_error *ret_error);

typedef struct mvpn_policy_net {
    mvpn_addr addr;
    unsigned bits; /* prefix length */
    unsigned line; /* comes back in verdicts */
} mvpn_policy_net;

/** Refuse a network to sessions. MVPN_E_LIMIT, MVPN_E_INVAL. */
MVPN_WUR int mvpn_policy_block(mvpn_policy *policy, const mvpn_policy_net *net);

/** From the first call on, TCP and UDP go only to the ports named so. MVPN_E_LIMIT, MVPN_E_INVAL
 * (`last` before `first`). */
MVPN_WUR int mvpn_policy_allow_ports(mvpn_policy *policy, uint16_t first, uint16_t last);

/** Refuse a network (an address: 32 or 128 bits) as one of our own. MVPN_E_LIMIT if too many. */
MVPN_WUR int mvpn_policy_add_own(mvpn_policy *policy, const mvpn_addr *net, unsigned bits);

/** Replace the relays' addresses. MVPN_E_LIMIT if too many, MVPN_E_NOMEM; the old ones stay then.
 */
MVPN_WUR int mvpn_policy_set_relays(mvpn_policy *policy, const mvpn_addr *relays, size_t count);

/**
 * What a descriptor says of the policy: MVPN_EXIT_* in `*ret_flags`, and TCP ports that are
 * accepted for most of the internet in each family that the flags name, as ranges, ascending. A
 * family for which no port is open, or none that is open for the other, is not named. Rules about
 * less than a /8 (IPv6: /16) do not count, as in Tor's summaries. If there are more than `max`
 * ranges, those behind are left out: the summary never promises too much by that. Returns how many.
 */
size_t mvpn_policy_summary(const mvpn_policy *policy, bool has_v6, uint8_t *ret_flags,
                           mvpn_port_range *ret, size_t max);

/**
 * Where the packet may go, and why. A later fragment has no ports: if they matter, the answer is
 * MVPN_POLICY_DEPENDS, and it may go where its first fragment went.
 */
mvpn_policy_verdict mvpn_policy_judge(const mvpn_policy *policy, const mvpn_ip *ip);

/** True if the packet may go to its destination whatever went before it. */
bool mvpn_policy_allows(const mvpn_policy *policy, const mvpn_ip *ip);

/** False for addresses of step 2 (4 or 16 bytes): nothing on the public internet has them. */
bool mvpn_policy_is_public(unsigned version, const uint8_t *addr);

/** Why, as a phrase for people. Static. */
const char *mvpn_policy_step_text(enum mvpn_policy_step step);

#endif
