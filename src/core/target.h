/*
 * From a descriptor to what a link needs: an address that we may send to, or the NAT relays by
 * which a relay behind a NAT is reached, as the view knows them. (docs/protocol.md §14.3)
 */
#ifndef MVPN_CORE_TARGET_H
#define MVPN_CORE_TARGET_H

#include "core/view.h"
#include "network/p2p/link.h"

typedef struct mvpn_target_rules {
    bool has_ipv4, has_ipv6; /* that we can send by */
    bool allow_private;
    const mvpn_addr *own; /* never sent to, whatever the port; borrowed */
    size_t own_count;
    const mvpn_ed25519_pub *self; /* NULL: a client. Not used as NAT relay to others */
    uint64_t unix_now; /* NAT relays whose descriptors have expired are left out; 0 = not checked */
} mvpn_target_rules;

/**
 * A NAT relay must have that role, must be in the view and not behind a NAT itself; of its
 * addresses one of the family of its link with the relay is preferred.
 * MVPN_E_POLICY: no address of it may be sent to; MVPN_E_UNKNOWN:
 * it is behind a NAT and the view knows none of its NAT relays. `*ret` is untouched then.
 */
MVPN_WUR int mvpn_target_make(const mvpn_view *view, const mvpn_descriptor *d,
                              const mvpn_target_rules *rules, mvpn_link_target *ret);

/** Does it name NAT relays? */
bool mvpn_target_is_behind_nat(const mvpn_descriptor *d);

#endif
