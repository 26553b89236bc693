/*
 * Size classes of cells. (docs/protocol.md §5.2)
 */
#ifndef MVPN_WIRE_CELL_H
#define MVPN_WIRE_CELL_H

#include <stddef.h>

#include "crypto/layer.h"
#include "wire/message.h"

enum mvpn_size_class {
    MVPN_CLASS_SMALL = 0,
    MVPN_CLASS_MEDIUM = 1,
    MVPN_CLASS_FULL = 2,
    MVPN_CLASS_EXACT = 3,
};

enum mvpn_size_policy {
    MVPN_SIZE_EXACT,
    MVPN_SIZE_CLASSES,
    MVPN_SIZE_FULL,
};

#define MVPN_CELL_SMALL 208
#define MVPN_CELL_MEDIUM 688
#define MVPN_CELL_FULL MVPN_BODY_MAX

#define MVPN_HOPS_MAX 5
/* Room for data in the innermost layer of a full cell; profile 0: 1-3 hops, 1: 4-5 hops. */
#define MVPN_ROOM_PROFILE0 (MVPN_CELL_FULL - 3 * MVPN_LAYER_OVERHEAD)
#define MVPN_ROOM_PROFILE1 (MVPN_CELL_FULL - 5 * MVPN_LAYER_OVERHEAD)

static inline unsigned mvpn_profile_for_hops(unsigned hops)
{
    return hops > 3 ? 1 : 0;
}

/** Body size of a cell with this class and live length; 0 if the live length does not fit it. */
static inline size_t mvpn_cell_body_len(unsigned size_class, size_t live)
{
    size_t size;
    switch (size_class) {
    case MVPN_CLASS_SMALL:
        size = MVPN_CELL_SMALL;
        break;
    case MVPN_CLASS_MEDIUM:
        size = MVPN_CELL_MEDIUM;
        break;
    case MVPN_CLASS_FULL:
        size = MVPN_CELL_FULL;
        break;
    default:
        size = (live + 15) / 16 * 16;
        size = size > MVPN_CELL_FULL ? MVPN_CELL_FULL : size;
        break;
    }
    return live <= size ? size : 0;
}

/** Room for data in the innermost layer of a cell of `size_class` under `profile`. */
static inline size_t mvpn_cell_room(unsigned size_class, unsigned profile)
{
    size_t layers = (profile == 0 ? 3 : MVPN_HOPS_MAX) * MVPN_LAYER_OVERHEAD;
    switch (size_class) {
    case MVPN_CLASS_SMALL:
        return MVPN_CELL_SMALL - layers;
    case MVPN_CLASS_MEDIUM:
        return MVPN_CELL_MEDIUM - layers;
    default:
        return MVPN_CELL_FULL - layers;
    }
}

/** The class that a policy chooses for `data` bytes at the innermost layer; data fits the full
 * class. */
static inline unsigned mvpn_cell_class_for(enum mvpn_size_policy policy, size_t data,
                                           unsigned profile)
{
    if (policy == MVPN_SIZE_EXACT) {
        return MVPN_CLASS_EXACT;
    }
    if (policy == MVPN_SIZE_CLASSES) {
        if (data <= mvpn_cell_room(MVPN_CLASS_SMALL, profile)) {
            return MVPN_CLASS_SMALL;
        }
        if (data <= mvpn_cell_room(MVPN_CLASS_MEDIUM, profile)) {
            return MVPN_CLASS_MEDIUM;
        }
    }
    return MVPN_CLASS_FULL;
}

#endif
