/*
 * A client's onion and hops that hold the right keys but say what they like:
 * ([hop 1] [class and command 2] [length 2] [next counter 4] [header's class 1] [n 2] [data])*.
 * `hop`: which one seals, how many wrap it rightly, and whether the counters go on.
 */
#include "core/onion.h"
#include "crypto/rng.h"
#include "fuzz/fuzz.h"

#define HOPS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mvpn_aead *aead;
    mvpn_onion onion = {0};
    mvpn_layer_tx back[HOPS];
    mvpn_rng rng;
    mvpn_packet packet = {0};
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    if (aead == NULL && mvpn_aead_new(MVPN_AEAD_OPENSSL, &aead) != 0) {
        return 0;
    }
    mvpn_rng_init_test(&rng, 1);
    for (unsigned i = 0; i < HOPS; i++) {
        mvpn_key forward = {{(uint8_t)i, 1}}, backward = {{(uint8_t)i, 2}};
        mvpn_onion_add(&onion, &forward, &backward);
        mvpn_layer_tx_init(&back[i], &backward);
    }
    for (unsigned steps = 0; fuzz_more(&in) && steps < 64; steps++) {
        uint8_t hop = mvpn_read8(&in);
        uint16_t command = mvpn_read16(&in), length = mvpn_read16(&in);
        uint32_t counter = mvpn_read32(&in);
        uint8_t size_class = mvpn_read8(&in) & 3;
        mvpn_bytes chunk = fuzz_chunk(&in, MVPN_ROOM_PROFILE0);
        packet.data = packet.buf + MVPN_PACKET_HEADROOM;
        packet.len = 0;
        if (chunk.n > 0) {
            memcpy(mvpn_packet_append(&packet, (uint32_t)chunk.n), chunk.p, chunk.n);
        }
        /* The sealer refuses a length beyond the data by an assert: it is ours. */
        mvpn_layer_header layer = {.size_class = (uint8_t)(command >> 14),
                                   .command = command & 0x3fff,
                                   .length = (uint16_t)MVPN_MIN(length, chunk.n),
                                   .next_counter = counter};
        mvpn_header h = {.command = MVPN_CMD_RELAY, .size_class = size_class};
        unsigned from = hop % HOPS;
        for (unsigned i = from + 1; i-- > 0;) {
            FUZZ_CHECK(mvpn_layer_seal(aead, &back[i], &packet, &layer, &h.counter) == 0);
            layer = (mvpn_layer_header){.size_class = size_class,
                                        .command = MVPN_CMD_RELAY,
                                        .length = (uint16_t)packet.len,
                                        .next_counter = (uint32_t)h.counter};
        }
        h.length = (uint16_t)packet.len;
        if (mvpn_cell_body_len(size_class, h.length) == 0) {
            continue;
        }
        mvpn_onion_fill(&packet, size_class);
        unsigned ret_hop = 0;
        mvpn_layer_header got;
        if (mvpn_onion_open(&onion, aead, &packet, &h, &ret_hop, &got) == 0) {
            FUZZ_CHECK(ret_hop >= 1 && ret_hop <= from + 1u);
            FUZZ_CHECK(got.size_class == size_class && got.command != MVPN_CMD_RELAY);
            FUZZ_CHECK(packet.len == got.length && packet.len <= MVPN_ROOM_PROFILE0);
        }
    }
    mvpn_onion_done(&onion);
    return 0;
}
