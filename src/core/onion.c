#include "core/onion.h"

#include <string.h>

#include "base/error.h"

void mvpn_onion_add(mvpn_onion *onion, const mvpn_key *forward, const mvpn_key *backward)
{
    MVPN_ASSERT(onion->count < MVPN_HOPS_MAX);
    mvpn_onion_hop *hop = &onion->hop[onion->count++];
    mvpn_layer_tx_init(&hop->forward, forward);
    mvpn_layer_rx_init(&hop->backward, backward);
}

void mvpn_onion_done(mvpn_onion *onion)
{
    mvpn_wipe(onion, sizeof(*onion));
}

void mvpn_onion_fill(mvpn_packet *packet, unsigned size_class)
{
    size_t size = mvpn_cell_body_len(size_class, packet->len);
    MVPN_ASSERT(size >= packet->len);
    uint32_t n = (uint32_t)(size - packet->len);
    if (n > 0) {
        memset(mvpn_packet_append(packet, n), 0, n);
    }
}

/* Choose the class and pad the data inside the seal, so that relays learn the class and no more. */
static int pad_inner(const mvpn_cell_kind *kind, mvpn_packet *packet, unsigned *ret_class)
{
    if (packet->len > mvpn_cell_room(MVPN_CLASS_FULL, kind->profile)) {
        return MVPN_E_TOO_BIG;
    }
    unsigned size_class = mvpn_cell_class_for(kind->policy, packet->len, kind->profile);
    if (size_class != MVPN_CLASS_EXACT) {
        uint32_t n = (uint32_t)mvpn_cell_room(size_class, kind->profile) - packet->len;
        memset(mvpn_packet_append(packet, n), 0, n);
    }
    *ret_class = size_class;
    return 0;
}

int mvpn_onion_answer(mvpn_layer_tx *tx, mvpn_aead *aead, const mvpn_cell_kind *kind,
                      mvpn_packet *packet, mvpn_header *ret)
{
    mvpn_header h = {.command = MVPN_CMD_RELAY};
    mvpn_layer_header inner = {.command = kind->command, .length = (uint16_t)packet->len};
    unsigned size_class = 0;
    int r = pad_inner(kind, packet, &size_class);
    if (r != 0) {
        return r;
    }
    inner.size_class = (uint8_t)size_class;
    r = mvpn_layer_seal(aead, tx, packet, &inner, &h.counter);
    if (r != 0) {
        return r;
    }
    h.size_class = (uint8_t)size_class;
    h.length = (uint16_t)packet->len;
    mvpn_onion_fill(packet, size_class);
    *ret = h;
    return 0;
}

int mvpn_onion_seal(mvpn_onion *onion, mvpn_aead *aead, unsigned target, const mvpn_cell_kind *kind,
                    bool early, mvpn_packet *packet, mvpn_header *ret)
{
    MVPN_ASSERT(target >= 1 && target <= onion->count);
    unsigned size_class = 0;
    uint16_t pass = early ? MVPN_CMD_RELAY_EARLY : MVPN_CMD_RELAY;
    mvpn_layer_header layer = {.command = kind->command, .length = (uint16_t)packet->len};
    uint64_t counter = 0;
    int r = pad_inner(kind, packet, &size_class);
    if (r != 0) {
        return r;
    }
    layer.size_class = (uint8_t)size_class;
    for (unsigned i = target; i-- > 0;) {
        r = mvpn_layer_seal(aead, &onion->hop[i].forward, packet, &layer, &counter);
        if (r != 0) {
            return r;
        }
        layer.command = pass;
        layer.length = (uint16_t)packet->len;
        layer.next_counter = (uint32_t)counter;
    }
    mvpn_header h = {
        .command = pass,
        .length = (uint16_t)packet->len,
        .size_class = (uint8_t)size_class,
        .counter = counter,
    };
    mvpn_onion_fill(packet, size_class);
    *ret = h;
    return 0;
}

int mvpn_onion_open(mvpn_onion *onion, mvpn_aead *aead, mvpn_packet *packet,
                    const mvpn_header *header, unsigned *ret_hop, mvpn_layer_header *ret)
{
    size_t live = header->length;
    uint64_t counter = header->counter;
    for (unsigned i = 0; i < onion->count; i++) {
        mvpn_layer_header layer;
        int r = mvpn_layer_open(aead, &onion->hop[i].backward, packet, live, counter, &layer);
        if (r != 0) {
            return r;
        }
        if (layer.size_class != header->size_class) {
            return MVPN_E_FORMAT;
        }
        if (layer.command != MVPN_CMD_RELAY) {
            *ret_hop = i + 1;
            *ret = layer;
            return 0;
        }
        live = layer.length;
        counter = layer.next_counter;
    }
    return MVPN_E_FORMAT; /* the last hop has nothing to pass on */
}
