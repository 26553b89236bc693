/* Message headers: [body length 2] [header 32]. */
#include "fuzz/fuzz.h"
#include "wire/cell.h"
#include "wire/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t again[MVPN_HEADER_LEN];
    mvpn_header h;
    if (size < 2 + MVPN_HEADER_LEN) {
        return 0;
    }
    size_t body_len = mvpn_load16(data);
    if (mvpn_header_decode(&h, data + 2, body_len) == 0) {
        FUZZ_CHECK(h.length <= body_len || mvpn_command_is_relay(h.command));
        FUZZ_CHECK(
            !mvpn_command_is_relay(h.command) ||
            (h.length >= MVPN_LAYER_OVERHEAD && h.length <= body_len && body_len <= MVPN_BODY_MAX));
        mvpn_header_encode(again, &h);
        fuzz_same(again, sizeof(again), mvpn_bytes_of(data + 2, MVPN_HEADER_LEN));
    }
    return 0;
}
