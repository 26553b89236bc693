/*
 * Key and digest types, wiping, constant-time comparison.
 */
#ifndef MVPN_CRYPTO_KEYS_H
#define MVPN_CRYPTO_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A 32-byte secret or public value: symmetric key, X25519 key, PSK, BLAKE3 or SHA-256 digest. */
typedef struct mvpn_key {
    uint8_t b[32];
} mvpn_key;

/** An X25519 key pair. */
typedef struct mvpn_x25519_pair {
    mvpn_key secret;
    mvpn_key pub;
} mvpn_x25519_pair;

/** Ed25519: identity of a node or of a network. */
typedef struct mvpn_ed25519_pub {
    uint8_t b[32];
} mvpn_ed25519_pub;

typedef struct mvpn_ed25519_secret {
    uint8_t b[64]; /* seed and public key, as libsodium keeps it */
} mvpn_ed25519_secret;

typedef struct mvpn_signature {
    uint8_t b[64];
} mvpn_signature;

/** Overwrite `n` bytes so that the compiler cannot leave it out. */
void mvpn_wipe(void *p, size_t n);
/**
 * Overwrite what functions that have returned left on the stack below the caller: libraries leave
 * key bytes there. As deep as cryptography goes; deeper calls than the caller's own, so call it
 * from near the top.
 */
void mvpn_wipe_stack(void);
/** Equal? Constant time in the content. */
bool mvpn_ct_equal(const void *a, const void *b, size_t n);
bool mvpn_ct_is_zero(const void *p, size_t n);

static inline bool mvpn_key_eq(const mvpn_key *a, const mvpn_key *b)
{
    return mvpn_ct_equal(a->b, b->b, sizeof(a->b));
}

#endif
