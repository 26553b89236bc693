/*
 * Split tunnelling by name: the addresses in answers of the tunnel's resolver to questions for
 * domains that a person sends outside, and how long each stays outside; or inside, where names
 * alone go inside (core/split_answers.h reads those answers). Pure; the worker reads the answers,
 * the helper makes the addresses' rules. (docs/split-tunnelling.md)
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

/*
 * How long an address stays inside at least after the last answer that named it, although others
 * want its place: programs keep addresses longer than records allow, a day at most as a rule.
 */
#define MVPN_SPLIT_HOLD MVPN_S(24 * 3600)
/* A new answer counts only if the last one that did is so old: the helper is not told of each. */
#define MVPN_SPLIT_HOLD_STEP MVPN_S(3600)

typedef struct mvpn_split_domains {
    unsigned count;
    char names[MVPN_SPLIT_DOMAINS_MAX][MVPN_SPLIT_DOMAIN_MAX + 1]; /* lower case */
} mvpn_split_domains;

/** "Example.ORG." -> "example.org"; false: that is no name of a domain. */
bool mvpn_split_domain_read(const char *text, char ret[static MVPN_SPLIT_DOMAIN_MAX + 1]);

/** Is `name`, as a message of DNS has it in lower case, one of `domains` or below one? */
bool mvpn_split_domains_have(const mvpn_split_domains *domains, const uint8_t *name, size_t n);

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
/** Forget what has ended; true: something has. Not of what goes inside. */
bool mvpn_split_leases_expire(mvpn_split_leases *leases, mvpn_time now);

enum mvpn_split_hold {
    MVPN_SPLIT_HELD,  /* it was inside, and nothing has changed */
    MVPN_SPLIT_TAKEN, /* it has, or has again, a place */
    MVPN_SPLIT_FULL,  /* there is no place for it */
};
/**
 * What goes inside: `addr` stays there, in place of the one whose last answer is oldest and older
 * than MVPN_SPLIT_HOLD, if all places are taken. `now` rises from call to call, so that two who
 * make the same calls have the same addresses. Where its last answer is younger than `step` nothing
 * changes.
 */
enum mvpn_split_hold mvpn_split_leases_hold(mvpn_split_leases *leases, const mvpn_addr *addr,
                                            mvpn_time now, mvpn_time step);
/** `addr` is inside since a run before: it is for MVPN_SPLIT_LEASE, and then the first to make
 * room. Ignored when there is none. */
void mvpn_split_leases_inherit(mvpn_split_leases *leases, const mvpn_addr *addr, mvpn_time now);

#endif
