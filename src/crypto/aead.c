#include "crypto/aead.h"

#include <sodium.h>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/aead_backend.h"

/* Longest input of one call: a Noise message is at most 65535 bytes, a packet far less. */
#define AEAD_INPUT_MAX ((size_t)1 << 20)

int mvpn_aead_new(enum mvpn_aead_backend backend, mvpn_aead **ret)
{
    /* Chooses libsodium's fast code paths; harmless when called again. */
    if (sodium_init() < 0) {
        return MVPN_E_CRYPTO;
    }
    switch (backend) {
    case MVPN_AEAD_IPSEC_MB:
        return mvpn_aead_ipsec_mb_new(ret);
    case MVPN_AEAD_OPENSSL:
        return mvpn_aead_openssl_new(ret);
    case MVPN_AEAD_AUTO:
        return mvpn_aead_ipsec_mb_new(ret) == 0 ? 0 : mvpn_aead_openssl_new(ret);
    }
    return MVPN_E_INVAL;
}

void mvpn_aead_free(mvpn_aead *aead)
{
    if (aead != NULL) {
        aead->ops->free(aead);
    }
}

bool mvpn_aead_expire(mvpn_aead *aead)
{
    return aead->ops->expire != NULL && aead->ops->expire(aead);
}

const char *mvpn_aead_backend_name(const mvpn_aead *aead)
{
    return aead->ops->name;
}

/* The libraries want a valid pointer even for no bytes. */
static mvpn_bytes never_null(mvpn_bytes b)
{
    static const uint8_t nothing[1] = {0};
    MVPN_ASSERT(b.n <= AEAD_INPUT_MAX);
    return b.n == 0 ? mvpn_bytes_of(nothing, 0) : b;
}

void mvpn_aead_seal_nonce(mvpn_aead *aead, uint8_t *out, uint8_t tag[static MVPN_AEAD_TAG],
                          const mvpn_key *key, const uint8_t nonce[static MVPN_AEAD_NONCE],
                          mvpn_bytes ad, mvpn_bytes in)
{
    uint8_t none[1];
    aead->ops->seal(aead, in.n == 0 ? none : out, tag, key, nonce, never_null(ad), never_null(in));
}

int mvpn_aead_open_nonce(mvpn_aead *aead, uint8_t *out, const mvpn_key *key,
                         const uint8_t nonce[static MVPN_AEAD_NONCE], mvpn_bytes ad, mvpn_bytes in,
                         const uint8_t tag[static MVPN_AEAD_TAG])
{
    uint8_t none[1];
    int err = aead->ops->open(aead, in.n == 0 ? none : out, key, nonce, never_null(ad),
                              never_null(in), tag);
    if (err != 0 && in.n > 0) {
        /* Unauthenticated plaintext must not be of use to anybody. */
        mvpn_wipe(out, in.n);
    }
    return err;
}

static void counter_nonce(uint8_t nonce[static MVPN_AEAD_NONCE], uint64_t counter)
{
    mvpn_store32(nonce, 0);
    mvpn_store64(nonce + 4, counter);
}

void mvpn_aead_seal(mvpn_aead *aead, uint8_t *out, uint8_t tag[static MVPN_AEAD_TAG],
                    const mvpn_key *key, uint64_t counter, mvpn_bytes ad, mvpn_bytes in)
{
    uint8_t nonce[MVPN_AEAD_NONCE];
    counter_nonce(nonce, counter);
    mvpn_aead_seal_nonce(aead, out, tag, key, nonce, ad, in);
}

int mvpn_aead_open(mvpn_aead *aead, uint8_t *out, const mvpn_key *key, uint64_t counter,
                   mvpn_bytes ad, mvpn_bytes in, const uint8_t tag[static MVPN_AEAD_TAG])
{
    uint8_t nonce[MVPN_AEAD_NONCE];
    counter_nonce(nonce, counter);
    return mvpn_aead_open_nonce(aead, out, key, nonce, ad, in, tag);
}

void mvpn_xaead_seal(uint8_t *out, const mvpn_key *key, const uint8_t nonce[static 24],
                     mvpn_bytes ad, mvpn_bytes in)
{
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(out, NULL, in.p, in.n, ad.p, ad.n, NULL, nonce,
                                                     key->b);
}

int mvpn_xaead_open(uint8_t *out, const mvpn_key *key, const uint8_t nonce[static 24],
                    mvpn_bytes ad, mvpn_bytes in)
{
    if (in.n < MVPN_AEAD_TAG || crypto_aead_xchacha20poly1305_ietf_decrypt(
                                    out, NULL, NULL, in.p, in.n, ad.p, ad.n, nonce, key->b) != 0) {
        return MVPN_E_AUTH;
    }
    return 0;
}
