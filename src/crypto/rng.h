/*
 * The cores' only source of randomness: a fast-key-erasure ChaCha20 generator. io seeds it from the
 * system; a test seeds it with a number and so repeats itself exactly.
 */
#ifndef MVPN_CRYPTO_RNG_H
#define MVPN_CRYPTO_RNG_H

#include "crypto/keys.h"

#define MVPN_RNG_BUF 1024

typedef struct mvpn_rng {
    uint8_t buf[MVPN_RNG_BUF]; /* first 32 bytes: next key (wiped when used); rest: output not yet
                                  given */
    size_t used;
} mvpn_rng;

void mvpn_rng_init(mvpn_rng *rng, const uint8_t seed[static 32]);
/** Seed from a number: tests and the simulator. */
void mvpn_rng_init_test(mvpn_rng *rng, uint64_t seed);
void mvpn_rng_done(mvpn_rng *rng);
/** Fill `out`; what was given is erased from the state. */
void mvpn_rng_bytes(mvpn_rng *rng, uint8_t *out, size_t n);
uint32_t mvpn_rng_u32(mvpn_rng *rng);
uint64_t mvpn_rng_u64(mvpn_rng *rng);
/** Uniform in [0, bound), without bias; bound > 0. */
uint32_t mvpn_rng_below(mvpn_rng *rng, uint32_t bound);
/** `value` ± `percent` %, uniform: for jittered timers. */
uint64_t mvpn_rng_jitter(mvpn_rng *rng, uint64_t value, unsigned percent);

#endif
