#include "wire/message.h"

#include "base/error.h"
#include "wire/cell.h"

/* Byte offsets of §5.1. */
enum {
    AT_COMMAND = 16,
    AT_LENGTH = 18,
    AT_LINK_SEQ = 20,
    AT_COUNTER = 24,
};

#define LENGTH_MASK 0x3fff

void mvpn_header_encode(uint8_t out[static MVPN_HEADER_LEN], const mvpn_header *header)
{
    memcpy(out, header->circuit.b, MVPN_CIRCUIT_ID_LEN);
    mvpn_store16(out + AT_COMMAND, header->command);
    mvpn_store16(out + AT_LENGTH,
                 (uint16_t)((header->length & LENGTH_MASK) | (header->size_class & 3u) << 14));
    mvpn_store32(out + AT_LINK_SEQ, header->link_seq);
    mvpn_store64(out + AT_COUNTER, header->counter);
}

int mvpn_header_decode(mvpn_header *ret, const uint8_t in[static MVPN_HEADER_LEN], size_t body_len)
{
    mvpn_header h;
    memcpy(h.circuit.b, in, MVPN_CIRCUIT_ID_LEN);
    h.command = mvpn_load16(in + AT_COMMAND);
    uint16_t length = mvpn_load16(in + AT_LENGTH);
    h.length = length & LENGTH_MASK;
    h.size_class = (uint8_t)(length >> 14);
    h.link_seq = mvpn_load32(in + AT_LINK_SEQ);
    h.counter = mvpn_load64(in + AT_COUNTER);

    if (mvpn_command_is_relay(h.command)) {
        size_t size = mvpn_cell_body_len(h.size_class, h.length);
        if (h.length < MVPN_LAYER_OVERHEAD || size == 0 || size != body_len) {
            return MVPN_E_FORMAT;
        }
    } else if (h.size_class != 0 || h.counter != 0 || h.length != body_len) {
        return MVPN_E_FORMAT;
    }
    *ret = h;
    return 0;
}
