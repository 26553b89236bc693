/*
 * Onion layers: one direction of one hop. Sealing and opening happen in place in a packet buffer.
 * (docs/protocol.md §5.3, §5.4)
 *
 *   live bytes = AEAD([class 2 bits | command 14 bits][length 2][counter of the next layer
 * 4][data][padding]) ‖ tag
 */
#ifndef MVPN_CRYPTO_LAYER_H
#define MVPN_CRYPTO_LAYER_H

#include "base/packet.h"
#include "crypto/aead.h"
#include "crypto/keys.h"
#include "crypto/replay.h"

#define MVPN_LAYER_HEADER 8
#define MVPN_LAYER_OVERHEAD (MVPN_LAYER_HEADER + MVPN_AEAD_TAG)
#define MVPN_LAYER_WINDOW 2048
/* A sender stops so many cells after its offset, a receiver refuses counters beyond. */
#define MVPN_LAYER_COUNTERS (1ull << 31)

typedef struct mvpn_layer_tx {
    mvpn_key key;
    uint64_t next; /* counter of the next cell */
    uint64_t end;  /* first counter that may not be used */
} mvpn_layer_tx;

typedef struct mvpn_layer_rx {
    mvpn_key key;
    uint64_t first; /* offset: lowest counter */
    mvpn_replay window;
    uint64_t words[MVPN_REPLAY_WORDS(MVPN_LAYER_WINDOW)];
} mvpn_layer_rx;

/** What stands in front of a layer's data. */
typedef struct mvpn_layer_header {
    uint8_t size_class;
    uint16_t command;
    uint16_t length;       /* bytes of data */
    uint32_t next_counter; /* of the layer inside, if the command passes data on */
} mvpn_layer_header;

/** Set up a direction from its Noise transport key; the counter's offset is derived from it. */
void mvpn_layer_tx_init(mvpn_layer_tx *tx, const mvpn_key *key);
void mvpn_layer_rx_init(mvpn_layer_rx *rx, const mvpn_key *key);

/**
 * Seal the packet's bytes (data and padding; `header->length` of them are data) as one layer, in
 * place: 8 bytes are pushed at the front, the tag is appended. `*ret_counter` is what the outer
 * layer or the cell header must carry. MVPN_E_EXHAUSTED (close): the counters are used up, nothing
 * was changed.
 */
MVPN_WUR int mvpn_layer_seal(mvpn_aead *aead, mvpn_layer_tx *tx, mvpn_packet *packet,
                             const mvpn_layer_header *header, uint64_t *ret_counter);

/**
 * Open the first `live` bytes of the packet in place. On success the packet is exactly the layer's
 * data (padding, tag and filler are cut off) and `*ret` its header. MVPN_E_FORMAT, MVPN_E_REPLAY,
 * MVPN_E_AUTH (drop): then the packet's bytes are of no use. The window advances only on success.
 */
MVPN_WUR int mvpn_layer_open(mvpn_aead *aead, mvpn_layer_rx *rx, mvpn_packet *packet, size_t live,
                             uint64_t counter, mvpn_layer_header *ret);

#endif
