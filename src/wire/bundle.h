/*
 * Bundles: what a discovery node serves to newcomers in one answer, records and entries in a row.
 * (docs/protocol.md §13.3) Nothing in one is believed: each part is verified as if it came from a
 * directory.
 */
#ifndef MVPN_WIRE_BUNDLE_H
#define MVPN_WIRE_BUNDLE_H

#include "base/bytes.h"
#include "base/macros.h"
#include "wire/record.h"

/* Types 1 to 3 are those of records (mvpn_record_type). */
enum mvpn_bundle_type {
    MVPN_BUNDLE_SNAPSHOT = 4,
    MVPN_BUNDLE_ENTRY = 5,
};

#define MVPN_BUNDLE_PART_FIXED 5
/* 5,000 descriptors of 1,000 bytes and the largest snapshot are below 10 MB. */
#define MVPN_BUNDLE_MAX (16u << 20)

/**
 * Take the next part off `*rest`; borrowed from it. Parts of unknown types are passed over.
 * 0; MVPN_E_AGAIN at the end; MVPN_E_FORMAT: cut off, or a known type with a length that it cannot
 * have; `*rest` is empty then.
 */
MVPN_WUR int mvpn_bundle_next(mvpn_bytes *rest, uint8_t *ret_type, mvpn_bytes *ret_part);

/** Append a part at `*len` of `size` bytes. MVPN_E_SPACE; MVPN_E_INVAL if the part cannot be of
 * that type. */
MVPN_WUR int mvpn_bundle_append(uint8_t *out, size_t size, size_t *len, unsigned type,
                                mvpn_bytes part);

#endif
