/*
 * What the nodes of a network tell about our own line: a few short-lived links, as a client has
 * them, over a socket of their own and one address family. For `meshvpn netcheck`.
 *
 * Asked are entries (of the network file, then those that worked before), listed relays and, if
 * those are too few, servers of the DHT that an entry names; never the client's guards on purpose.
 * Whoever watches the line sees packets to as many addresses as that, once, and no circuits.
 *
 *   node:  NEW -> ASKED (who are you? by the DHT exchange) -> LINKING -> OPEN
 *                    \______________________________________/ -> FAILED
 */
#ifndef MVPN_IO_NETCHECK_LINKS_H
#define MVPN_IO_NETCHECK_LINKS_H

#include "io/fault.h"
#include "io/loop.h"
#include "io/network_file.h"
#include "io/statefile.h"
#include "network/p2p/nat_class.h"

/* Links at once, each to another ip: two tell the mapping, a third lets one of them be slow. */
#define MVPN_NETCHECK_LINKS_MAX 4

typedef struct mvpn_netcheck_links_result {
    bool is_done;
    unsigned asked;                        /* nodes */
    unsigned answered;                     /* of these, with something that verifies */
    unsigned links;                        /* of these, opened */
    uint32_t rtt_us;                       /* the shortest; 0: not measured */
    bool is_full_size_known, is_full_size; /* packets of 1424 bytes pass (docs/protocol.md §4.7) */
    bool has_clock;
    int64_t clock_offset_s; /* to be added to our clock: the median of what they say */
    mvpn_nat_class nat;
} mvpn_netcheck_links_result;

typedef struct mvpn_netcheck_links_options {
    const mvpn_network_file *network; /* borrowed until the end */
    const mvpn_state_entries *cached; /* NULL: none */
    uint8_t family;                   /* 4 or 6 */
    uint32_t mark;
    int64_t clock_guess_s; /* what was found out earlier about our clock */
    mvpn_addr own;         /* this host's address that it sends from; its port does not count */
} mvpn_netcheck_links_options;

typedef struct mvpn_netcheck_links mvpn_netcheck_links;

/** Called once, from the loop, when nothing more is to be expected. */
typedef void mvpn_netcheck_links_fn(void *ctx);

/** Begins at once. MVPN_E_UNKNOWN: nobody of that family is known; MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_netcheck_links_new(mvpn_loop *loop, const mvpn_netcheck_links_options *options,
                                     mvpn_netcheck_links_fn *fn, void *ctx,
                                     mvpn_netcheck_links **ret, mvpn_fault *fault);
/**
 * Two of one computer, one of each family: who has proven itself to one is linked with by the other
 * without being asked who it is. (A server answers that question at the first of its addresses
 * alone, docs/protocol.md §11.1.) Either may be freed first.
 */
void mvpn_netcheck_links_pair(mvpn_netcheck_links *a, mvpn_netcheck_links *b);
/** The other sides are told. NULL is allowed. */
void mvpn_netcheck_links_free(mvpn_netcheck_links *n);
/** What is known so far; borrowed. */
const mvpn_netcheck_links_result *mvpn_netcheck_links_get(mvpn_netcheck_links *n);

#endif
