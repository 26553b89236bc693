/*
 * Noise handshakes (Noise Protocol Framework, revision 34), suite 25519_ChaChaPoly_SHA256, one
 * implementation for links, circuits and DHT. A handshake state is a plain struct without pointers
 * to the heap; mvpn_noise_done wipes it.
 */
#ifndef MVPN_CRYPTO_NOISE_H
#define MVPN_CRYPTO_NOISE_H

#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/aead.h"
#include "crypto/keys.h"
#include "crypto/rng.h"

enum mvpn_noise_pattern {
    MVPN_NOISE_NK,
    MVPN_NOISE_NK_PSK0,
    MVPN_NOISE_IK,
    MVPN_NOISE_IK_PSK0,
    /* the others of the published vectors exist so that the engine is checked as a whole */
    MVPN_NOISE_N,
    MVPN_NOISE_XK,
    MVPN_NOISE_XX,
    MVPN_NOISE_IX,
    MVPN_NOISE_KK,
};

enum mvpn_noise_role {
    MVPN_NOISE_INITIATOR,
    MVPN_NOISE_RESPONDER,
};

typedef struct mvpn_noise {
    mvpn_aead *aead; /* borrowed */
    enum mvpn_noise_pattern pattern;
    enum mvpn_noise_role role;
    uint8_t message; /* index of the next message of the pattern */
    bool has_key;
    bool failed; /* after an error nothing works any more */
    mvpn_key ck, h, k;
    uint64_t n;
    mvpn_x25519_pair s, e;
    mvpn_key rs, re, psk;
    bool has_s, has_e, has_rs, has_re;
} mvpn_noise;

typedef struct mvpn_noise_config {
    enum mvpn_noise_pattern pattern;
    enum mvpn_noise_role role;
    mvpn_bytes prologue;
    const mvpn_x25519_pair *s; /* own static key, or NULL if the pattern has none */
    const mvpn_key *rs;        /* peer's static key, where the pattern knows it before */
    const mvpn_key *psk;       /* for the _PSK0 patterns */
    const mvpn_key *fixed_e;   /* ephemeral secret: vectors only, else NULL */
} mvpn_noise_config;

/**
 * Start a handshake. `aead` is borrowed until mvpn_noise_done; everything of `config` is copied.
 * Exactly the keys that the pattern wants must be there (asserted).
 */
void mvpn_noise_init(mvpn_noise *hs, mvpn_aead *aead, const mvpn_noise_config *config);
/** Wipe all secrets. */
void mvpn_noise_done(mvpn_noise *hs);

/** Bytes that the next message adds to its payload (keys and tags); 0 when there is none. */
size_t mvpn_noise_overhead(const mvpn_noise *hs);

/**
 * Write the next message. `out` has room for payload.n + overhead; `*ret_len` is set. The payload
 * may lie in `out` exactly where its ciphertext goes, else it must not overlap. `rng` makes the
 * ephemeral key (may be NULL with fixed_e). MVPN_E_SPACE (too small, or a message above 65535
 * bytes) and MVPN_E_STATE (not our turn) change nothing; after MVPN_E_AUTH (a DH result was zero:
 * the peer's key is of small order) the handshake is dead.
 */
MVPN_WUR int mvpn_noise_write(mvpn_noise *hs, uint8_t *out, size_t size, size_t *ret_len,
                              mvpn_bytes payload, mvpn_rng *rng);

/**
 * Read the peer's message. `out` has room for message.n - overhead bytes, which is the payload's
 * length in `*ret_len`; it may lie exactly where the payload's ciphertext is, else it must not
 * overlap. MVPN_E_STATE (not the peer's turn) and MVPN_E_SPACE change nothing. After MVPN_E_FORMAT
 * (too short or too long) and MVPN_E_AUTH the handshake is dead: read into a copy of the state if a
 * later message may still be the genuine one.
 */
MVPN_WUR int mvpn_noise_read(mvpn_noise *hs, uint8_t *out, size_t size, size_t *ret_len,
                             mvpn_bytes message);

/** True once all messages of the pattern are through. */
bool mvpn_noise_is_finished(const mvpn_noise *hs);
/** Transport keys: `send` and `recv` of this side. Only when finished. */
void mvpn_noise_split(const mvpn_noise *hs, mvpn_key *ret_send, mvpn_key *ret_recv);
/** The peer's static key, as known or received; NULL if none. */
const mvpn_key *mvpn_noise_remote_static(const mvpn_noise *hs);
/** Handshake hash (channel binding). */
const mvpn_key *mvpn_noise_hash(const mvpn_noise *hs);

#endif
