/*
 * What a ChaCha20-Poly1305 backend provides to aead.c. Private to src/crypto.
 *
 * A backend embeds `struct mvpn_aead` in its own context and finds itself by MVPN_CONTAINER_OF.
 * The lengths were checked and empty ranges point at something by the time an operation is called.
 */
#ifndef MVPN_CRYPTO_AEAD_BACKEND_H
#define MVPN_CRYPTO_AEAD_BACKEND_H

#include "crypto/aead.h"

#define MVPN_AEAD_NONCE 12

struct mvpn_aead_ops {
    const char *name;
    void (*free)(mvpn_aead *aead);
    void (*seal)(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                 const uint8_t *nonce, mvpn_bytes ad, mvpn_bytes in);
    int (*open)(mvpn_aead *aead, uint8_t *out, const mvpn_key *key, const uint8_t *nonce,
                mvpn_bytes ad, mvpn_bytes in, const uint8_t *tag);
    bool (*expire)(mvpn_aead *aead); /* NULL: keeps no keys */
};

struct mvpn_aead {
    const struct mvpn_aead_ops *ops;
};

/** MVPN_E_CRYPTO if the library or the CPU lacks it; MVPN_E_NOMEM. */
MVPN_WUR int mvpn_aead_ipsec_mb_new(mvpn_aead **ret);
MVPN_WUR int mvpn_aead_openssl_new(mvpn_aead **ret);

#endif
