/*
 * A relay that nobody can reach by itself: it chooses two NAT relays out of the view, is registered
 * there, and says so in its descriptor. (docs/protocol.md §14.1, §14.3)
 *
 *   view --choose--> connector (links, NatRegister) --bindings--> descriptor (publisher)
 *
 * NAT relays are kept as long as they serve: each change is a new descriptor, and callers with the
 * old one have to try in vain.
 */
#ifndef MVPN_CORE_GUEST_H
#define MVPN_CORE_GUEST_H

#include "core/finder.h"
#include "core/target.h"
#include "network/p2p/connector.h"

typedef struct mvpn_guest mvpn_guest;

typedef struct mvpn_guest_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    const mvpn_view *view;
    mvpn_connector *connector;
    mvpn_finder *finder; /* publishes for us; NULL: nothing is published (tests) */
    mvpn_ed25519_pub identity;
    unsigned relax; /* MVPN_RELAX_* */
    bool has_ipv4, has_ipv6, allow_private;
    int64_t unix_offset_us;
} mvpn_guest_config;

/** MVPN_E_NOMEM. */
MVPN_WUR int mvpn_guest_new(const mvpn_guest_config *config, mvpn_time now, mvpn_guest **ret);
/** NULL is allowed. */
void mvpn_guest_free(mvpn_guest *guest);
void mvpn_guest_set_unix_offset(mvpn_guest *guest, int64_t unix_offset_us);
/** Call it in each turn: it looks at what the connector has. */
void mvpn_guest_tick(mvpn_guest *guest, mvpn_time now);
mvpn_time mvpn_guest_deadline(const mvpn_guest *guest);

/* ---- the choice alone ---- */

typedef struct mvpn_guest_wish {
    const mvpn_view *view;
    const mvpn_descriptor *self; /* identity and family count */
    unsigned relax;
    bool has_ipv4, has_ipv6, allow_private;
    uint64_t unix_now;
    const mvpn_ed25519_pub *avoided; /* not chosen */
    size_t avoided_count;
} mvpn_guest_wish;

/**
 * Can this relay be our NAT relay? It has the role, is alive, not behind a NAT itself, and
 * confirmed if the view as a whole is. `family`: rather by an address of that, 4 or 6; 0: any.
 * MVPN_E_UNKNOWN, MVPN_E_POLICY.
 */
MVPN_WUR int mvpn_guest_target(const mvpn_guest_wish *wish, const mvpn_ed25519_pub *identity,
                               uint8_t family, mvpn_link_target *ret);
/**
 * Draw a NAT relay by bandwidth among the best: confirmed, distinct by the path rules from `other`
 * (what we have; NULL: nothing), by another address family than that if we have both, not of our
 * own family; in this order. MVPN_E_UNKNOWN: there is none.
 */
MVPN_WUR int mvpn_guest_choose(const mvpn_guest_wish *wish, const mvpn_link_target *other,
                               mvpn_rng *rng, mvpn_link_target *ret);

#endif
