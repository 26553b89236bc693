/*
 * Invitation links: everything that a new member needs, in at most 200 characters.
 * (docs/protocol.md §13.1)
 */
#ifndef MVPN_WIRE_INVITATION_H
#define MVPN_WIRE_INVITATION_H

#include "wire/dht.h"

#define MVPN_INVITATION_MAX 200 /* characters, without the final zero */

typedef struct mvpn_invitation {
    bool closed;
    bool allow_private; /* relays may stand at private addresses */
    uint8_t relax;      /* rules for paths that do not hold (0 to 7), as the network file says */
    uint64_t expires;   /* Unix seconds; kept to the minute */
    mvpn_ed25519_pub network_pub;
    mvpn_key network_secret; /* closed */
    mvpn_dht_contact entry;
} mvpn_invitation;

/** Write the link, zero-terminated. */
void mvpn_invitation_format(char out[static MVPN_INVITATION_MAX + 1], const mvpn_invitation *inv);
/**
 * Read a link; spaces around it are ignored. MVPN_E_FORMAT (not a link, cut off, or with a typing
 * error), MVPN_E_UNKNOWN (a version that we do not know), MVPN_E_POLICY (its entry does not fit its
 * address), MVPN_E_EXPIRED (unix_now is past its expiry; `*ret` is filled). unix_now 0: not
 * checked.
 */
MVPN_WUR int mvpn_invitation_parse(mvpn_invitation *ret, const char *text, uint64_t unix_now);

#endif
