#include "crypto/layer.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/error.h"
#include "crypto/hash.h"

#define COMMAND_MASK 0x3fff

/* Offsets of hops differ, or guard and exit could compare one integer (design: counters do not
 * match). */
static uint64_t layer_offset(const mvpn_key *key)
{
    uint8_t out[4];
    mvpn_bytes in = MVPN_BYTES_ARRAY(key->b);
    mvpn_blake3_derive(out, sizeof(out), "meshvpn v1 layer offset", &in, 1);
    return mvpn_load32(out) & 0x7fffffffu;
}

void mvpn_layer_tx_init(mvpn_layer_tx *tx, const mvpn_key *key)
{
    tx->key = *key;
    tx->next = layer_offset(key);
    tx->end = tx->next + MVPN_LAYER_COUNTERS;
}

void mvpn_layer_rx_init(mvpn_layer_rx *rx, const mvpn_key *key)
{
    *rx = (mvpn_layer_rx){.key = *key, .first = layer_offset(key)};
}

int mvpn_layer_seal(mvpn_aead *aead, mvpn_layer_tx *tx, mvpn_packet *packet,
                    const mvpn_layer_header *header, uint64_t *ret_counter)
{
    if (tx->next >= tx->end) {
        return MVPN_E_EXHAUSTED;
    }
    MVPN_ASSERT(header->length <= packet->len);
    uint8_t *p = mvpn_packet_push(packet, MVPN_LAYER_HEADER);
    mvpn_store16(p,
                 (uint16_t)((unsigned)header->size_class << 14 | (header->command & COMMAND_MASK)));
    mvpn_store16(p + 2, header->length);
    mvpn_store32(p + 4, header->next_counter);
    mvpn_bytes in = {p, packet->len};
    uint8_t *tag = mvpn_packet_append(packet, MVPN_AEAD_TAG);
    mvpn_aead_seal(aead, p, tag, &tx->key, tx->next, MVPN_BYTES_NONE, in);
    *ret_counter = tx->next++;
    return 0;
}

int mvpn_layer_open(mvpn_aead *aead, mvpn_layer_rx *rx, mvpn_packet *packet, size_t live,
                    uint64_t counter, mvpn_layer_header *ret)
{
    if (live < MVPN_LAYER_OVERHEAD || live > packet->len) {
        return MVPN_E_FORMAT;
    }
    if (counter < rx->first || counter - rx->first >= MVPN_LAYER_COUNTERS) {
        return MVPN_E_REPLAY;
    }
    uint64_t seq = counter - rx->first;
    int r = mvpn_replay_check(&rx->window, rx->words, MVPN_ARRAY_LEN(rx->words), seq);
    if (r != 0) {
        return r;
    }
    uint8_t *p = packet->data;
    size_t n = live - MVPN_AEAD_TAG;
    r = mvpn_aead_open(aead, p, &rx->key, counter, MVPN_BYTES_NONE, mvpn_bytes_of(p, n), p + n);
    if (r != 0) {
        return r;
    }
    mvpn_replay_commit(&rx->window, rx->words, MVPN_ARRAY_LEN(rx->words), seq);
    mvpn_layer_header h = {
        .size_class = p[0] >> 6,
        .command = mvpn_load16(p) & COMMAND_MASK,
        .length = mvpn_load16(p + 2),
        .next_counter = mvpn_load32(p + 4),
    };
    if (h.length > n - MVPN_LAYER_HEADER) {
        return MVPN_E_FORMAT; /* only the holder of the key can have sent it */
    }
    mvpn_packet_pull(packet, MVPN_LAYER_HEADER);
    mvpn_packet_truncate(packet, h.length);
    *ret = h;
    return 0;
}
