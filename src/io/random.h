/*
 * The system's randomness: seeds for the cores' generators, and nothing else.
 */
#ifndef MVPN_IO_RANDOM_H
#define MVPN_IO_RANDOM_H

#include "base/macros.h"
#include "crypto/rng.h"

/**
 * Fill `out` from the kernel's generator; waits at early boot until it is seeded.
 * MVPN_E_SYSTEM (fatal): no generator; the program must not go on.
 */
MVPN_WUR int mvpn_random_bytes(uint8_t *out, size_t n);

/** Seed a generator from the kernel; the seed is wiped. MVPN_E_SYSTEM as above, `*rng` untouched.
 */
MVPN_WUR int mvpn_random_seed(mvpn_rng *rng);

#endif
