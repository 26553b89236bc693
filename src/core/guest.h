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

MVPN_WUR int mvpn_guest_new(const mvpn_guest_config *config, mvpn_time now, mvpn_guest **ret);
/** NULL is allowed. */
void mvpn_guest_free(mvpn_guest *guest);
void mvpn_guest_set_unix_offset(mvpn_guest *guest, int64_t unix_offset_us);
void mvpn_guest_tick(mvpn_guest *guest, mvpn_time now);
mvpn_time mvpn_guest_deadline(const mvpn_guest *guest);

#endif
