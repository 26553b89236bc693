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
 *   6. the operator's rules, in their order;
 *   7. accept.
 * The operator can only take away from what 1 to 5 leave.
 *
 * IPv6 addresses that carry an IPv4 address (mapped, 6to4, NAT64) are judged by it as well, in
 * every step: else 2002:7f00:1:: is a way to 127.0.0.1.
 *
 * Text of the operator's rules, one a line or separated by ';', '#' starts a comment:
 *   accept|reject  tcp|udp|icmp|*  *|*4|*6|ADDRESS[/BITS]  [*|PORT[-PORT][,...]]
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

/** The defaults alone. NULL without memory. */
mvpn_policy *mvpn_policy_new(void);
void mvpn_policy_free(mvpn_policy *policy);

/**
 * Replace the operator's rules. Returns 0, or MVPN_E_CONFIG with `*ret_error` set and the old rules
 * still in force.
 */
MVPN_WUR int mvpn_policy_parse(mvpn_policy *policy, const char *text, mvpn_policy_error *ret_error);

/** Refuse a network (an address: 32 or 128 bits) as one of our own. MVPN_E_LIMIT if too many. */
MVPN_WUR int mvpn_policy_add_own(mvpn_policy *policy, const mvpn_addr *net, unsigned bits);

/** Replace the relays' addresses. MVPN_E_LIMIT if too many, MVPN_E_NOMEM; the old ones stay then.
 */
MVPN_WUR int mvpn_policy_set_relays(mvpn_policy *policy, const mvpn_addr *relays, size_t count);

/**
 * What a descriptor says of the policy: TCP ports that the rules accept for most of the internet,
 * as ranges, ascending. Rules about less than a /8 (IPv6: /16) do not count, as in Tor's summaries.
 * If there are more than `max` ranges, those behind are left out: the summary never promises too
 * much by that. Returns how many.
 */
size_t mvpn_policy_summary(const mvpn_policy *policy, mvpn_port_range *ret, size_t max);

/**
 * True if the packet may go to its destination. A later fragment has no ports: for it a rejecting
 * rule with ports does not match and an accepting one does; without its first fragment, which was
 * judged by port, it is nothing.
 */
bool mvpn_policy_allows(const mvpn_policy *policy, const mvpn_ip *ip);

#endif
