/*
 * Header protection of the plain carrier: five mask bytes from a sample of the ciphertext
 * (docs/protocol.md §4.3; the construction of RFC 9001 §5.4 with BLAKE3).
 */
#ifndef MVPN_CRYPTO_MASK_H
#define MVPN_CRYPTO_MASK_H

#include "crypto/keys.h"

#define MVPN_MASK_SAMPLE 16
#define MVPN_MASK_LEN 5

/** mask = first five bytes of keyed BLAKE3(key, sample). */
void mvpn_header_mask(uint8_t out[static MVPN_MASK_LEN], const mvpn_key *key,
                      const uint8_t sample[static MVPN_MASK_SAMPLE]);

#endif
