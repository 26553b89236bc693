/*
 * Behaviour discovery on the loop: network/p2p/stun_client over two sockets of its own. For
 * diagnosis; with the disguise on nobody asks by STUN (design.md §7), links tell the same.
 */
#ifndef MVPN_IO_STUN_PROBE_H
#define MVPN_IO_STUN_PROBE_H

#include "io/fault.h"
#include "io/loop.h"
#include "network/p2p/stun_client.h"

typedef struct mvpn_stun_probe mvpn_stun_probe;

/** Called once, at the end; it may free the probe. */
typedef void mvpn_stun_probe_fn(void *ctx, const mvpn_stun_result *result);

typedef struct mvpn_stun_probe_options {
    const mvpn_addr *servers; /* of one family; copied */
    size_t server_count;      /* 1..MVPN_STUN_SERVERS_MAX */
    bool is_patient;          /* RFC 8489's timers (up to 2.5 minutes); else less than 5 s */
    mvpn_time rto;            /* not patient: the first wait, if not the quick one; 0: that */
    bool address_only;        /* the mapped address and nothing else */
    mvpn_addr from;           /* the host's address to ask from, without port; family 0: any */
    uint32_t mark;            /* firewall mark of what is sent; 0 = none */
} mvpn_stun_probe_options;

/** Begins at once. MVPN_E_INVAL; MVPN_E_NOMEM; MVPN_E_SYSTEM. `fault` says why. */
MVPN_WUR int mvpn_stun_probe_new(mvpn_loop *loop, const mvpn_stun_probe_options *options,
                                 mvpn_stun_probe_fn *fn, void *ctx, mvpn_stun_probe **ret,
                                 mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_stun_probe_free(mvpn_stun_probe *p);

#endif
