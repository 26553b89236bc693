/*
 * What a relay says of itself, kept true: its descriptor is made from a template, signed, renewed
 * before it expires, and withdrawn at the end. Who stores it is the engine's business. Sans-IO.
 * (docs/protocol.md §8.3, §11.4)
 */
#ifndef MVPN_CORE_PUBLISH_H
#define MVPN_CORE_PUBLISH_H

#include "base/time.h"
#include "crypto/rng.h"
#include "wire/descriptor.h"

/* How long a descriptor lives; it is made anew after a quarter of that. */
#define MVPN_PUBLISH_LIFETIME_S (24 * 3600)
#define MVPN_PUBLISH_RENEW_S (6 * 3600)

typedef struct mvpn_publisher {
    mvpn_rng *rng; /* borrowed */
    mvpn_key network_id;
    mvpn_ed25519_secret secret; /* of the identity */
    mvpn_descriptor descriptor; /* the current one; its fields are the template of the next */
    bool is_changed;            /* the template differs from what was signed */
    bool is_guest;              /* the template has no addresses: it is behind a NAT (§14.3) */
    bool is_held;               /* and without NAT relays: nothing is due */
    uint64_t renew_at;          /* Unix seconds */
} mvpn_publisher;

/**
 * `template`: every field but sequence, times and encoding. Copied; wiped by _done. Without
 * addresses it is that of a relay behind a NAT, of which nothing is published before
 * mvpn_publisher_set_nat_relays.
 */
void mvpn_publisher_init(mvpn_publisher *p, mvpn_rng *rng, const mvpn_key *network_id,
                         const mvpn_ed25519_secret *secret, const mvpn_descriptor *template);
void mvpn_publisher_done(mvpn_publisher *p);

/** Addresses changed (same record key, higher sequence follows). At most 4 count. Of a relay behind
 * a NAT nothing changes: its own addresses are nobody's business. */
void mvpn_publisher_set_addresses(mvpn_publisher *p, const mvpn_addr *addresses, size_t count);
/**
 * The NAT relays of a relay behind a NAT changed: at most 2 count, in this order, and 4 addresses
 * at which they see it. None of either: nothing is published until there is one again, since a
 * descriptor without NAT relays would be that of a relay that can be reached.
 */
void mvpn_publisher_set_nat_relays(mvpn_publisher *p, const mvpn_descriptor_nat_relay *relays,
                                   size_t count, const mvpn_addr *seen, size_t seen_count);
/** Onion keys changed; the first is current. */
void mvpn_publisher_set_onion_keys(mvpn_publisher *p, const mvpn_onion_key *keys, size_t count);
/** Somebody holds a record of ours with this sequence: the next one is higher. */
void mvpn_publisher_saw(mvpn_publisher *p, uint64_t sequence);

/** When the next one is due, Unix seconds (0: at once; UINT64_MAX: never). */
uint64_t mvpn_publisher_due(const mvpn_publisher *p);
/**
 * If it is due, sign a new descriptor: `*ret` points to it until the next call. `unix_ms`: Unix
 * milliseconds, which the sequence counts, so that one who starts again at once, remembering
 * nothing, comes after his withdrawal. Returns 0;
 * MVPN_E_AGAIN (not due); MVPN_E_INVAL (the template breaks a rule of §8.3).
 */
MVPN_WUR int mvpn_publisher_renew(mvpn_publisher *p, uint64_t unix_ms, const mvpn_descriptor **ret);
/** Sign the withdrawal: roles 0. Nothing is due any more. */
MVPN_WUR int mvpn_publisher_withdraw(mvpn_publisher *p, uint64_t unix_ms,
                                     const mvpn_descriptor **ret);

#endif
