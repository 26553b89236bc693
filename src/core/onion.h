/*
 * The onion: the client's layers of all hops, and the sealing of a cell's innermost layer that
 * client and answering hops share. Packets are changed in place. (docs/protocol.md §5.2, §5.3)
 */
#ifndef MVPN_CORE_ONION_H
#define MVPN_CORE_ONION_H

#include "crypto/layer.h"
#include "wire/cell.h"

typedef struct mvpn_onion_hop {
    mvpn_layer_tx forward;
    mvpn_layer_rx backward;
} mvpn_onion_hop;

typedef struct mvpn_onion {
    unsigned count;
    mvpn_onion_hop hop[MVPN_HOPS_MAX];
} mvpn_onion;

/** What goes into an innermost layer. */
typedef struct mvpn_cell_kind {
    uint16_t command;
    uint8_t profile;
    enum mvpn_size_policy policy;
} mvpn_cell_kind;

/** Append a hop with the transport keys of its handshake (first: towards it). */
void mvpn_onion_add(mvpn_onion *onion, const mvpn_key *forward, const mvpn_key *backward);
/** Wipe all keys. */
void mvpn_onion_done(mvpn_onion *onion);

/**
 * Seal the packet's bytes for hop `target` (1 = guard) and wrap it for all hops before; the packet
 * becomes the body of a cell and `*ret` its header (circuit id and link sequence are the caller's).
 * With `early` the cell and the layers before the target are RelayEarly. MVPN_E_TOO_BIG,
 * MVPN_E_EXHAUSTED (close).
 */
MVPN_WUR int mvpn_onion_seal(mvpn_onion *onion, mvpn_aead *aead, unsigned target,
                             const mvpn_cell_kind *kind, bool early, mvpn_packet *packet,
                             mvpn_header *ret);

/**
 * Open a cell that came back. The packet becomes the innermost data; `*ret_hop` is the layer at
 * which it was found: the only hop that can have sent it. MVPN_E_FORMAT, MVPN_E_REPLAY, MVPN_E_AUTH
 * (drop).
 */
MVPN_WUR int mvpn_onion_open(mvpn_onion *onion, mvpn_aead *aead, mvpn_packet *packet,
                             const mvpn_header *header, unsigned *ret_hop, mvpn_layer_header *ret);

/** Seal an answer of one hop: the innermost layer alone. The header's command is Relay. Errors as
 * above. */
MVPN_WUR int mvpn_onion_answer(mvpn_layer_tx *tx, mvpn_aead *aead, const mvpn_cell_kind *kind,
                               mvpn_packet *packet, mvpn_header *ret);

/**
 * Lengthen the packet, which holds the live bytes, to the size of the class with zeros: never with
 * bytes that were in the buffer before. The link puts its own filler in their place, or seals them.
 * (§4.1)
 */
void mvpn_onion_fill(mvpn_packet *packet, unsigned size_class);

#endif
