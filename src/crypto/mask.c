#include "crypto/mask.h"

#include "crypto/hash.h"

void mvpn_header_mask(uint8_t out[static MVPN_MASK_LEN], const mvpn_key *key,
                      const uint8_t sample[static MVPN_MASK_SAMPLE])
{
    mvpn_blake3_keyed(out, MVPN_MASK_LEN, key, mvpn_bytes_of(sample, MVPN_MASK_SAMPLE));
}
