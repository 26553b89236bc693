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
/* A gateway or a NAT relay that restarts is there again by then. */
#define MVPN_PUBLISH_PATIENCE_S 120

typedef struct mvpn_publisher {
    mvpn_rng *rng; /* borrowed */
    mvpn_key network_id;
    mvpn_ed25519_secret secret; /* of the identity */
    mvpn_descriptor descriptor; /* the current one; its fields are the template of the next */
    bool is_changed;            /* the template differs from what was signed */
    bool is_published;          /* and not withdrawn */
    uint64_t renew_at;          /* Unix seconds */
    uint64_t withdraw_at;       /* Unix seconds, while it cannot be reached; 0: not yet said when */
    bool is_direct;             /* it can be reached as it stands; else by these (§14.3) */
    mvpn_descriptor_nat_relay via[MVPN_DESCRIPTOR_NAT_RELAYS_MAX];
    mvpn_addr seen[MVPN_DESCRIPTOR_ADDRESSES_MAX]; /* there */
    size_t via_count, seen_count;
} mvpn_publisher;

/**
 * `template`: every field but sequence, times and encoding. Copied; wiped by _done. Nothing is
 * published while it cannot be reached: without addresses, before one of the next two.
 */
void mvpn_publisher_init(mvpn_publisher *p, mvpn_rng *rng, const mvpn_key *network_id,
                         const mvpn_ed25519_secret *secret, const mvpn_descriptor *template);
void mvpn_publisher_done(mvpn_publisher *p);

/** The addresses at which it can be reached as it stands changed (same record key, higher sequence
 * follows). At most 4 count. None: it is behind a NAT, and has NAT relays or is withdrawn. */
void mvpn_publisher_set_addresses(mvpn_publisher *p, const mvpn_addr *addresses, size_t count);
/**
 * The NAT relays of a relay behind a NAT changed: at most 2 count, in this order, and 4 addresses
 * at which they see it. They are published while it has no address of its own. None of either: it
 * is withdrawn after MVPN_PUBLISH_PATIENCE_S, since a descriptor without NAT relays would be that
 * of a relay that can be reached.
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
 * If it is due, sign a new descriptor (or the withdrawal of one that cannot be reached any more):
 * `*ret` points to it until the next call. `unix_ms`: Unix milliseconds, which the sequence counts,
 * so that one who starts again at once, remembering nothing, comes after his withdrawal. Returns 0;
 * MVPN_E_AGAIN (not due); MVPN_E_INVAL (the template breaks a rule of §8.3).
 */
MVPN_WUR int mvpn_publisher_renew(mvpn_publisher *p, uint64_t unix_ms, const mvpn_descriptor **ret);
/** Sign the withdrawal: roles 0. Nothing is due any more. */
MVPN_WUR int mvpn_publisher_withdraw(mvpn_publisher *p, uint64_t unix_ms,
                                     const mvpn_descriptor **ret);

#endif
