/*
 * What stands under the signature of every signed record. (docs/protocol.md §8)
 */
#ifndef MVPN_WIRE_SIGNED_H
#define MVPN_WIRE_SIGNED_H

#include "base/bytes.h"
#include "crypto/keys.h"

/* Longest label and a network id. */
#define MVPN_SIGNED_PREFIX_MAX (32 + 32)

/** Write label ‖ network id ‖ record to `out`, which has room for them. */
mvpn_bytes mvpn_signed_bytes(uint8_t *out, size_t size, mvpn_bytes label,
                             const mvpn_key *network_id, mvpn_bytes record);

#endif
