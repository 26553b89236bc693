/*
 * Circuit handshake: Noise NK with the relay's onion key. (docs/protocol.md §3.2, §6.1, §6.3)
 */
#ifndef MVPN_CORE_HANDSHAKE_H
#define MVPN_CORE_HANDSHAKE_H

#include "crypto/noise.h"
#include "wire/circuit.h"

/** What every handshake of a network has in common. */
typedef struct mvpn_realm {
    mvpn_key network_id;
    bool closed;
    mvpn_key psk;          /* closed networks: from the network secret (§2) */
    bool allow_test_suite; /* tests only */
    mvpn_ed25519_pub network_pub;
} mvpn_realm;

/** The relay at the other end of a circuit handshake. */
typedef struct mvpn_onion_target {
    mvpn_ed25519_pub identity;
    mvpn_key onion_key;
    uint8_t suite;
} mvpn_onion_target;

/* Longest message: ephemeral key, the test suite's payload, tag. */
#define MVPN_HANDSHAKE_MAX (32 + MVPN_SUITE_TEST_1 + 16)

/** Transport keys of one hop. */
typedef struct mvpn_hop_keys {
    mvpn_key forward;
    mvpn_key backward;
} mvpn_hop_keys;

/** Client: begin, and write message 1 to `out` (MVPN_HANDSHAKE_MAX bytes). Errors as
 * mvpn_noise_write. */
MVPN_WUR int mvpn_handshake_begin(mvpn_noise *hs, mvpn_aead *aead, mvpn_rng *rng,
                                  const mvpn_realm *realm, const mvpn_onion_target *target,
                                  uint8_t out[static MVPN_HANDSHAKE_MAX], size_t *ret_len);

/** Client: read message 2; the state is wiped in every case. MVPN_E_AUTH, MVPN_E_FORMAT. */
MVPN_WUR int mvpn_handshake_finish(mvpn_noise *hs, mvpn_bytes message2, mvpn_hop_keys *ret);

/**
 * Relay: answer message 1. `target` names ourselves and the suite asked for, `onion_pair` is the
 * key it names. MVPN_E_AUTH, MVPN_E_FORMAT; MVPN_E_UNKNOWN for a suite that we do not speak.
 */
MVPN_WUR int mvpn_handshake_answer(mvpn_aead *aead, mvpn_rng *rng, const mvpn_realm *realm,
                                   const mvpn_onion_target *target,
                                   const mvpn_x25519_pair *onion_pair, mvpn_bytes message1,
                                   uint8_t out[static MVPN_HANDSHAKE_MAX], size_t *ret_len,
                                   mvpn_hop_keys *ret);

#endif
