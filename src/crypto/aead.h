/*
 * ChaCha20-Poly1305 (RFC 8439) behind one context per worker, with two backends chosen at run time:
 * Intel's multi-buffer library where the CPU suits it, OpenSSL elsewhere. Keys are plain 32 bytes:
 * an idle circuit costs no cipher context (the OpenSSL backend keeps a small cache of keyed
 * contexts).
 */
#ifndef MVPN_CRYPTO_AEAD_H
#define MVPN_CRYPTO_AEAD_H

#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/keys.h"

#define MVPN_AEAD_TAG 16

enum mvpn_aead_backend {
    MVPN_AEAD_AUTO,
    MVPN_AEAD_IPSEC_MB,
    MVPN_AEAD_OPENSSL,
};

typedef struct mvpn_aead mvpn_aead;

/** MVPN_E_CRYPTO if the backend does not exist on this machine. Free with mvpn_aead_free (NULL
 * allowed). */
MVPN_WUR int mvpn_aead_new(enum mvpn_aead_backend backend, mvpn_aead **ret);
void mvpn_aead_free(mvpn_aead *aead);
/**
 * Wipe the copies of keys that were not used since the last call: to be called every few seconds,
 * so that keys which their owners have wiped do not live on in the cache. True if copies are left.
 */
bool mvpn_aead_expire(mvpn_aead *aead);
/** "ipsec-mb" or "openssl". */
const char *mvpn_aead_backend_name(const mvpn_aead *aead);

/**
 * Seal: out[0 .. in.n) = ciphertext, `tag` = 16 bytes. `out` may be exactly `in.p` (in place);
 * `tag` may lie anywhere that does not overlap the input. The nonce is 4 zero bytes then `counter`,
 * big-endian. (docs/protocol.md §3; RFC 8439 §2.8). Does not allocate.
 */
void mvpn_aead_seal(mvpn_aead *aead, uint8_t *out, uint8_t tag[static MVPN_AEAD_TAG],
                    const mvpn_key *key, uint64_t counter, mvpn_bytes ad, mvpn_bytes in);

/**
 * Open; `out` may be exactly `in.p`. MVPN_E_AUTH (drop) if the tag is wrong: then `out` holds
 * nothing that may be used. The tag is compared in constant time.
 */
MVPN_WUR int mvpn_aead_open(mvpn_aead *aead, uint8_t *out, const mvpn_key *key, uint64_t counter,
                            mvpn_bytes ad, mvpn_bytes in, const uint8_t tag[static MVPN_AEAD_TAG]);

/**
 * The same with a full 96-bit nonce (Noise counts little-endian; vectors use any).
 */
void mvpn_aead_seal_nonce(mvpn_aead *aead, uint8_t *out, uint8_t tag[static MVPN_AEAD_TAG],
                          const mvpn_key *key, const uint8_t nonce[static 12], mvpn_bytes ad,
                          mvpn_bytes in);
MVPN_WUR int mvpn_aead_open_nonce(mvpn_aead *aead, uint8_t *out, const mvpn_key *key,
                                  const uint8_t nonce[static 12], mvpn_bytes ad, mvpn_bytes in,
                                  const uint8_t tag[static MVPN_AEAD_TAG]);

/** XChaCha20-Poly1305 (libsodium), for cookies only. out has in.n + 16 bytes. */
void mvpn_xaead_seal(uint8_t *out, const mvpn_key *key, const uint8_t nonce[static 24],
                     mvpn_bytes ad, mvpn_bytes in);
/** `in` is ciphertext and tag; out has in.n - 16 bytes. MVPN_E_AUTH. */
MVPN_WUR int mvpn_xaead_open(uint8_t *out, const mvpn_key *key, const uint8_t nonce[static 24],
                             mvpn_bytes ad, mvpn_bytes in);

#endif
