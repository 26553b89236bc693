/*
 * Joining the parts of a handshake message. (docs/protocol.md §6.1)
 */
#ifndef MVPN_CORE_ASSEMBLY_H
#define MVPN_CORE_ASSEMBLY_H

#include "base/time.h"
#include "wire/circuit.h"

#define MVPN_ASSEMBLY_TIME MVPN_S(5)

/** One message being joined; allocated by the first of several parts. */
typedef struct mvpn_assembly {
    uint32_t request_id;
    uint16_t total;
    uint16_t received;
    uint8_t parts;
    struct {
        uint16_t from, to;
    } part[MVPN_PARTS_MAX];
    mvpn_time began;
    uint8_t bytes[MVPN_ASSEMBLY_MAX];
} mvpn_assembly;

/**
 * Add a part (already checked by the decoder). 0: `*ret` is the whole message, borrowed until the
 * next call (from the part itself if that is all of it). MVPN_E_AGAIN: more parts are needed.
 * MVPN_E_FORMAT (close): contradictory or too many parts. MVPN_E_NOMEM. A part with another request
 * id, or after 5 s, starts anew. A repeated part is ignored.
 */
MVPN_WUR int mvpn_assembly_add(mvpn_assembly **assembly, uint32_t request_id, const mvpn_part *part,
                               mvpn_time now, mvpn_bytes *ret);
void mvpn_assembly_free(mvpn_assembly **assembly);

#endif
