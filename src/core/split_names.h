/*
 * Split tunnelling by name: the addresses in answers of the tunnel's resolver to questions for
 * domains that a person sends outside, and how long each stays outside. Pure; the worker reads the
 * answers, the helper opens the addresses. (docs/split-tunnelling.md)
 */
#ifndef MVPN_CORE_SPLIT_NAMES_H
#define MVPN_CORE_SPLIT_NAMES_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/macros.h"
#include "base/time.h"
#include "core/split.h"

#define MVPN_SPLIT_DOMAINS_MAX 32
#define MVPN_SPLIT_DOMAIN_MAX 253 /* characters of a name */
/* Of one answer. */
#define MVPN_SPLIT_ANSWER_MAX 16
/*
 * How long an address stays outside after the last answer that named it. Not the record's own time:
 * that may be seconds, and a connection that uses the address would end in the tunnel with it.
 */
#define MVPN_SPLIT_LEASE MVPN_S(3600)

typedef struct mvpn_split_domains {
    unsigned count;
    char names[MVPN_SPLIT_DOMAINS_MAX][MVPN_SPLIT_DOMAIN_MAX + 1]; /* lower case */
} mvpn_split_domains;

/** "Example.ORG." -> "example.org"; false: that is no name of a domain. */
bool mvpn_split_domain_read(const char *text, char ret[static MVPN_SPLIT_DOMAIN_MAX + 1]);

/**
 * The public addresses that an answer in IP packet `packet` gives for a question whose name is, or
 * is below, one of `domains`; at most MVPN_SPLIT_ANSWER_MAX. 0: it is none from port 53 of
 * `resolver_v4` or `resolver_v6`, or there are none.
 */
unsigned mvpn_split_names_read(const mvpn_split_domains *domains, mvpn_bytes packet,
                               const mvpn_addr *resolver_v4, const mvpn_addr *resolver_v6,
                               mvpn_addr ret[static MVPN_SPLIT_ANSWER_MAX]);

typedef struct mvpn_split_leases {
    unsigned count;
    struct {
        mvpn_addr addr;
        mvpn_time until;
    } at[MVPN_SPLIT_ADDRESSES_MAX];
} mvpn_split_leases;

/** False: it is outside, and will be for half of its time at least. When all places are taken, the
 * one that ends first makes room. */
bool mvpn_split_leases_add(mvpn_split_leases *leases, const mvpn_addr *addr, mvpn_time now);
/** Forget what has ended; true: something has. */
bool mvpn_split_leases_expire(mvpn_split_leases *leases, mvpn_time now);

#endif
