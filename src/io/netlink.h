/*
 * Routing netlink: links, addresses, routes and policy rules of this network namespace.
 *
 * Everything may be repeated: adding what is there already and removing what is gone succeed. The
 * client's routing is three parts (docs/architecture.md): a default route by the TUN in a table of
 * its own; a rule that sends every packet without our mark there; a rule before it that still takes
 * the main table's routes longer than /0 (the local network).
 */
#ifndef MVPN_IO_NETLINK_H
#define MVPN_IO_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "io/fault.h"

/* Interfaces whose state is looked at; hosts of containers have hundreds, of no use to us. */
#define MVPN_NETLINK_LINKS_MAX 256

typedef struct mvpn_netlink mvpn_netlink;

/* An IP prefix; `addr.port` is not used. */
typedef struct mvpn_prefix {
    mvpn_addr addr;
    uint8_t bits;
} mvpn_prefix;

/**
 * Parse "10.8.0.0/24" or "fd00::/64"; without "/bits" the whole address. MVPN_E_FORMAT, `*ret`
 * untouched.
 */
MVPN_WUR int mvpn_prefix_parse(const char *text, mvpn_prefix *ret);
/** True if one holds the other, or both are equal. */
bool mvpn_prefix_overlaps(const mvpn_prefix *a, const mvpn_prefix *b);

/** MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_netlink_open(mvpn_netlink **ret, mvpn_fault *fault);
void mvpn_netlink_close(mvpn_netlink *nl);
/** By which the kernel's notifications tell our own changes from those of others. */
uint32_t mvpn_netlink_port(const mvpn_netlink *nl);

/*
 * All below return 0; MVPN_E_UNKNOWN if the interface does not exist (for adding); MVPN_E_SYSTEM
 * with `fault` and errno telling why (EPERM: CAP_NET_ADMIN is missing).
 */

/** Index of interface `name`. */
MVPN_WUR int mvpn_netlink_index(mvpn_netlink *nl, const char *name, uint32_t *ret,
                                mvpn_fault *fault);
MVPN_WUR int mvpn_netlink_link_up(mvpn_netlink *nl, uint32_t index, uint32_t mtu,
                                  mvpn_fault *fault);

/** Add an interface address; IPv6 without duplicate detection, so that it can be used at once. */
MVPN_WUR int mvpn_netlink_addr_add(mvpn_netlink *nl, uint32_t index, const mvpn_prefix *prefix,
                                   mvpn_fault *fault);
MVPN_WUR int mvpn_netlink_addr_del(mvpn_netlink *nl, uint32_t index, const mvpn_prefix *prefix,
                                   mvpn_fault *fault);

/** Add a route to `prefix` (bits 0 = default) by interface `index` in `table` (254 = main). */
MVPN_WUR int mvpn_netlink_route_add(mvpn_netlink *nl, uint32_t table, uint32_t index,
                                    const mvpn_prefix *prefix, mvpn_fault *fault);
MVPN_WUR int mvpn_netlink_route_del(mvpn_netlink *nl, uint32_t table, uint32_t index,
                                    const mvpn_prefix *prefix, mvpn_fault *fault);

/**
 * Refuse what no other route of `table` takes: an unreachable default route behind all others, for
 * each family of the two. It stays when interfaces go.
 */
MVPN_WUR int mvpn_netlink_refusal_add(mvpn_netlink *nl, uint32_t table, uint8_t family,
                                      mvpn_fault *fault);
MVPN_WUR int mvpn_netlink_refusal_del(mvpn_netlink *nl, uint32_t table, uint8_t family,
                                      mvpn_fault *fault);

/**
 * The IPv4 gateway of the main table's default route (the one of least metric) and its interface.
 * MVPN_E_UNKNOWN: there is none.
 */
MVPN_WUR int mvpn_netlink_gateway(mvpn_netlink *nl, mvpn_addr *ret_gateway, uint32_t *ret_index,
                                  mvpn_fault *fault);

/** A policy rule: which packets look into which table. */
typedef struct mvpn_rule {
    uint8_t family; /* 4 or 6 */
    uint32_t priority;
    uint32_t table;
    uint32_t mark;      /* 0 = any packet */
    bool is_from_here;  /* what this host sends, and what it would: a reverse path's (iif lo) */
    bool refuses;       /* unreachable, and no table (0) is asked */
    bool is_not_mark;   /* the rule is for packets that do not carry `mark` */
    bool only_specific; /* ignore default routes of the table (suppress_prefixlength 0) */
    bool has_user;      /* those of `user`'s sockets alone */
    uint32_t user;
    mvpn_prefix from; /* whose source this is; family 0 = any */
    mvpn_prefix to;   /* where they go; family 0 = anywhere */
    uint8_t protocol; /* 0 = any; else also the ports, of this machine's order */
    uint16_t port_from, port_to;
} mvpn_rule;

MVPN_WUR int mvpn_netlink_rule_add(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_fault *fault);
MVPN_WUR int mvpn_netlink_rule_del(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_fault *fault);
/** Delete all rules like `rule`; without `to`, wherever they go. */
MVPN_WUR int mvpn_netlink_rules_clear(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_fault *fault);

/** Where rules like `rule` (family, priority, table) lead to it, at most `max` of them. */
MVPN_WUR int mvpn_netlink_rules_targets(mvpn_netlink *nl, const mvpn_rule *rule, mvpn_prefix *ret,
                                        unsigned max, unsigned *ret_count, mvpn_fault *fault);

/** Which way packets of a family leave to the internet; all zero: none. */
typedef struct mvpn_netlink_way {
    uint32_t index; /* of the interface */
    mvpn_addr gateway, source;
} mvpn_netlink_way;
/**
 * The way of packets with the firewall mark `mark`, as the kernel would choose it now. No way is no
 * error; MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_netlink_way_out(mvpn_netlink *nl, unsigned family, uint32_t mark,
                                  mvpn_netlink_way *ret, mvpn_fault *fault);

/** One address of an interface. */
typedef struct mvpn_netlink_address {
    uint32_t index;
    unsigned flags;   /* IFF_* */
    const char *name; /* of the interface */
    mvpn_addr addr;
} mvpn_netlink_address;
typedef void mvpn_netlink_address_fn(void *ctx, const mvpn_netlink_address *address);
/**
 * Call `fn` for each address of the first MVPN_NETLINK_LINKS_MAX interfaces, except IPv6 ones that
 * are being checked for a second owner (they are told again when that is done). As getifaddrs(3),
 * but over a socket that is open already.
 */
MVPN_WUR int mvpn_netlink_each_address(mvpn_netlink *nl, mvpn_netlink_address_fn *fn, void *ctx,
                                       mvpn_fault *fault);

/** What an interface does with packets from where its host would not send by it. (RFC 3704 §2) */
typedef struct mvpn_netlink_filter {
    uint32_t index;
    unsigned flags;      /* IFF_* */
    bool is_strict;      /* drops them (rp_filter = 1), by its own setting or that of all */
    bool asks_with_mark; /* its own src_valid_mark: the mark of a packet is asked for, too */
} mvpn_netlink_filter;
typedef void mvpn_netlink_filter_fn(void *ctx, const mvpn_netlink_filter *filter);
/** Call `fn` for each interface with IPv4. */
MVPN_WUR int mvpn_netlink_each_filter(mvpn_netlink *nl, mvpn_netlink_filter_fn *fn, void *ctx,
                                      mvpn_fault *fault);
/** Set src_valid_mark of an interface, without /proc (which may be read-only). */
MVPN_WUR int mvpn_netlink_filter_by_mark(mvpn_netlink *nl, uint32_t index, bool on,
                                         mvpn_fault *fault);

/**
 * Look for an address or route (default routes aside) that overlaps
 * `prefix` and does not belong to interface `except_index` (0 = none). `*ret` tells whether there
 * is one, and `fault` (not touched otherwise) names it.
 */
MVPN_WUR int mvpn_netlink_find_clash(mvpn_netlink *nl, const mvpn_prefix *prefix,
                                     uint32_t except_index, bool *ret, mvpn_fault *fault);

#endif
