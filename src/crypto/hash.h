/*
 * Hashes and key derivation. BLAKE3 with one context string per use (docs/protocol.md §3.3);
 * HKDF-SHA256 (RFC 5869) for Noise; SHA-1 for node ids and (as HMAC) for STUN alone; SipHash for
 * hash tables.
 */
#ifndef MVPN_CRYPTO_HASH_H
#define MVPN_CRYPTO_HASH_H

#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/keys.h"

void mvpn_blake3(uint8_t *out, size_t out_len, mvpn_bytes in);
void mvpn_blake3_keyed(uint8_t *out, size_t out_len, const mvpn_key *key, mvpn_bytes in);
/** `context` is a constant string, unique to one use. Input is the concatenation of `in[0..count)`.
 */
void mvpn_blake3_derive(uint8_t *out, size_t out_len, const char *context, const mvpn_bytes *in,
                        size_t count);

void mvpn_sha256(uint8_t out[static 32], mvpn_bytes in);
/** Of the concatenation; `out` may be the array of `a` or `b`. */
void mvpn_sha256_pair(uint8_t out[static 32], mvpn_bytes a, mvpn_bytes b);
void mvpn_hmac_sha256(uint8_t out[static 32], mvpn_bytes key, mvpn_bytes in);
/** RFC 5869; out_len <= 255 * 32, else MVPN_E_INVAL. */
MVPN_WUR int mvpn_hkdf_sha256(uint8_t *out, size_t out_len, mvpn_bytes salt, mvpn_bytes ikm,
                              mvpn_bytes info);
void mvpn_sha1(uint8_t out[static 20], mvpn_bytes in);
void mvpn_hmac_sha1(uint8_t out[static 20], mvpn_bytes key, mvpn_bytes in);

typedef struct mvpn_siphash_key {
    uint8_t b[16];
} mvpn_siphash_key;
/** SipHash-2-4, 64-bit. */
uint64_t mvpn_siphash(const mvpn_siphash_key *key, const void *in, size_t n);

#endif
