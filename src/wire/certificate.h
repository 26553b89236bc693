/*
 * What names a network and vouches for its relays: the network id and what is derived from the
 * network's keys, link certificates (identity -> link key) and membership certificates
 * (network key -> identity and roles). (docs/protocol.md §2, §8.1, §8.2)
 */
#ifndef MVPN_WIRE_CERTIFICATE_H
#define MVPN_WIRE_CERTIFICATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/keys.h"

#define MVPN_LINK_CERTIFICATE_LEN 176
#define MVPN_MEMBERSHIP_LEN 122
/* How wrong a clock may be before a record counts as not yet or no longer valid. */
#define MVPN_VALIDITY_TOLERANCE_S 300

/** Role bits of a relay. (§8.2) */
enum mvpn_role {
    MVPN_ROLE_GUARD = 1 << 0,
    MVPN_ROLE_MIDDLE = 1 << 1,
    MVPN_ROLE_EXIT = 1 << 2,
    MVPN_ROLE_NAT_RELAY = 1 << 3,
    MVPN_ROLE_DHT_SERVER = 1 << 4,
    MVPN_ROLE_DISCOVERY = 1 << 5,
};

typedef struct mvpn_link_certificate {
    mvpn_ed25519_pub identity;
    mvpn_key link_key;
    uint64_t not_before; /* Unix seconds */
    uint64_t not_after;
} mvpn_link_certificate;

typedef struct mvpn_membership {
    mvpn_ed25519_pub identity;
    uint16_t roles; /* MVPN_ROLE_*; unknown bits are kept */
    uint64_t not_before;
    uint64_t not_after;
    uint64_t serial;
} mvpn_membership;

/** network id of a network's public key. (§2) */
void mvpn_network_id(mvpn_key *ret, const mvpn_ed25519_pub *network_pub);

/** Noise psk0 of a closed network. (§2) */
void mvpn_network_psk(mvpn_key *ret, const mvpn_key *network_secret);

/** Network token: the secret of a closed network, the id of an open one (`network_secret` NULL). */
void mvpn_network_token(mvpn_key *ret, const mvpn_key *network_id, const mvpn_key *network_secret);

/** Record key of an identity in the DHT. (§1) */
void mvpn_record_key(uint8_t out[static 20], const mvpn_key *network_id,
                     const mvpn_ed25519_pub *identity);

/** True if `unix_now` lies in [not_before, not_after], each bound widened by the tolerance. */
bool mvpn_validity_holds(uint64_t not_before, uint64_t not_after, uint64_t unix_now);

/** Sign a link certificate with the identity's key. (§8.1) */
void mvpn_link_certificate_make(uint8_t out[static MVPN_LINK_CERTIFICATE_LEN],
                                const mvpn_ed25519_secret *secret, const mvpn_ed25519_pub *identity,
                                const mvpn_key *link_key, uint64_t not_before, uint64_t not_after,
                                const mvpn_key *network_id);

/**
 * Decode a link certificate and verify its signature and times. Whether it is of the identity and
 * the link key that the caller expects is for the caller to compare. (§8.1)
 *
 * `unix_now`  seconds; 0: the times are not checked.
 * Returns 0 and fills `*ret`; MVPN_E_FORMAT (drop) for another length or an empty time span;
 * MVPN_E_AUTH (drop) if the signature is wrong; MVPN_E_EXPIRED (drop) outside its times. `*ret` is
 * untouched on failure.
 */
MVPN_WUR int mvpn_link_certificate_verify(mvpn_bytes cert, const mvpn_key *network_id,
                                          uint64_t unix_now, mvpn_link_certificate *ret);

/** Sign a membership certificate with the network's key. (§8.2) */
void mvpn_membership_make(uint8_t out[static MVPN_MEMBERSHIP_LEN],
                          const mvpn_ed25519_secret *network_secret_key,
                          const mvpn_ed25519_pub *identity, uint16_t roles, uint64_t not_before,
                          uint64_t not_after, uint64_t serial, const mvpn_key *network_id);

/**
 * Decode a membership certificate and verify it against the network's public key. (§8.2)
 * Arguments and errors as of mvpn_link_certificate_verify.
 */
MVPN_WUR int mvpn_membership_verify(mvpn_bytes cert, const mvpn_key *network_id,
                                    const mvpn_ed25519_pub *network_pub, uint64_t unix_now,
                                    mvpn_membership *ret);

#endif
