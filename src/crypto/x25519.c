/*
 * Everything here is libsodium's: X25519 takes 35 us a call against 47 us for OpenSSL's EVP at its
 * best (which derives the public key again for every secret it is given), Ed25519 is three times
 * faster.
 */
#include "crypto/x25519.h"

#include <sodium.h>

#include "base/assert.h"
#include "base/error.h"

void mvpn_x25519_public(mvpn_key *ret_pub, const mvpn_key *secret)
{
    int err = crypto_scalarmult_curve25519_base(ret_pub->b, secret->b);
    MVPN_ASSERT(err == 0);
}

void mvpn_x25519_generate(mvpn_x25519_pair *ret, mvpn_rng *rng)
{
    mvpn_rng_bytes(rng, ret->secret.b, sizeof(ret->secret.b));
    mvpn_x25519_public(&ret->pub, &ret->secret);
}

int mvpn_x25519(mvpn_key *ret_shared, const mvpn_key *secret, const mvpn_key *pub)
{
    mvpn_key shared = {{0}};
    int failed = crypto_scalarmult_curve25519(shared.b, secret->b, pub->b);
    if (failed != 0 || mvpn_ct_is_zero(shared.b, sizeof(shared.b))) {
        mvpn_wipe(&shared, sizeof(shared));
        return MVPN_E_AUTH;
    }
    *ret_shared = shared;
    mvpn_wipe(&shared, sizeof(shared));
    return 0;
}

void mvpn_ed25519_generate(mvpn_ed25519_pub *ret_pub, mvpn_ed25519_secret *ret_secret,
                           mvpn_rng *rng)
{
    uint8_t seed[32];
    mvpn_rng_bytes(rng, seed, sizeof(seed));
    mvpn_ed25519_from_seed(ret_pub, ret_secret, seed);
    mvpn_wipe(seed, sizeof(seed));
}

void mvpn_ed25519_from_seed(mvpn_ed25519_pub *ret_pub, mvpn_ed25519_secret *ret_secret,
                            const uint8_t seed[static 32])
{
    (void)crypto_sign_ed25519_seed_keypair(ret_pub->b, ret_secret->b, seed);
}

void mvpn_ed25519_sign(mvpn_signature *ret, const mvpn_ed25519_secret *secret, mvpn_bytes message)
{
    (void)crypto_sign_ed25519_detached(ret->b, NULL, message.p, message.n, secret->b);
}

int mvpn_ed25519_verify(const mvpn_signature *sig, const mvpn_ed25519_pub *pub, mvpn_bytes message)
{
    int failed = crypto_sign_ed25519_verify_detached(sig->b, message.p, message.n, pub->b);
    return failed == 0 ? 0 : MVPN_E_AUTH;
}
