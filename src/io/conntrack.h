/*
 * Connection tracking: forget what a pool address did, so that its next user gets neither packets
 * nor mappings of the last one. (ctnetlink)
 */
#ifndef MVPN_IO_CONNTRACK_H
#define MVPN_IO_CONNTRACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "io/fault.h"

typedef struct mvpn_conntrack mvpn_conntrack;

/** MVPN_E_SYSTEM (no ctnetlink in this kernel), MVPN_E_NOMEM. */
MVPN_WUR int mvpn_conntrack_open(mvpn_conntrack **ret, mvpn_fault *fault);
void mvpn_conntrack_close(mvpn_conntrack *ct);

/* Addresses at once. */
#define MVPN_CONNTRACK_SOURCES_MAX 2048u

/**
 * Delete all entries whose connection one of `sources` opened (either family; ports ignored; at
 * most MVPN_CONNTRACK_SOURCES_MAX). Costs one pass over the kernel's table of each family that is
 * among them, however many they are. `*ret_count`, unless NULL, is how many were deleted.
 * MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_conntrack_delete(mvpn_conntrack *ct, const mvpn_addr *sources, size_t count,
                                   unsigned *ret_count, mvpn_fault *fault);

#endif
