/*
 * X25519 (RFC 7748) and Ed25519 (RFC 8032).
 */
#ifndef MVPN_CRYPTO_X25519_H
#define MVPN_CRYPTO_X25519_H

#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/keys.h"
#include "crypto/rng.h"

/** The public key of a secret. */
void mvpn_x25519_public(mvpn_key *ret_pub, const mvpn_key *secret);
void mvpn_x25519_generate(mvpn_x25519_pair *ret, mvpn_rng *rng);
/** MVPN_E_AUTH if the result is all zero (RFC 7748 §6.1): the peer's point is of small order. */
MVPN_WUR int mvpn_x25519(mvpn_key *ret_shared, const mvpn_key *secret, const mvpn_key *pub);

void mvpn_ed25519_generate(mvpn_ed25519_pub *ret_pub, mvpn_ed25519_secret *ret_secret,
                           mvpn_rng *rng);
void mvpn_ed25519_from_seed(mvpn_ed25519_pub *ret_pub, mvpn_ed25519_secret *ret_secret,
                            const uint8_t seed[static 32]);
void mvpn_ed25519_sign(mvpn_signature *ret, const mvpn_ed25519_secret *secret, mvpn_bytes message);
/** MVPN_E_AUTH if the signature is wrong. */
MVPN_WUR int mvpn_ed25519_verify(const mvpn_signature *sig, const mvpn_ed25519_pub *pub,
                                 mvpn_bytes message);

#endif
