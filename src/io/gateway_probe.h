/*
 * Which port mapping protocols does the home gateway speak? For diagnosis: PCP (an ANNOUNCE, RFC
 * 6887 §14.1), NAT-PMP (the question for its address, RFC 6886 §3.2) and UPnP (the search for its
 * device). No mapping is made. IPv4 only, as io/portmapper.
 */
#ifndef MVPN_IO_GATEWAY_PROBE_H
#define MVPN_IO_GATEWAY_PROBE_H

#include "base/addr.h"
#include "base/bytes.h"
#include "io/fault.h"
#include "io/loop.h"

typedef struct mvpn_gateway_found {
    mvpn_addr gateway; /* family 0: there is none, or its address is public: it was not asked */
    bool is_done;
    bool has_pcp, has_natpmp, has_upnp;
    mvpn_addr external; /* its address outside, as it says; family 0: it does not */
} mvpn_gateway_found;

typedef struct mvpn_gateway_probe mvpn_gateway_probe;

/** Called once, from the loop; it may free the probe. */
typedef void mvpn_gateway_probe_fn(void *ctx);

/** Begins at once; ends within 3.5 s. MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_gateway_probe_new(mvpn_loop *loop, mvpn_gateway_probe_fn *fn, void *ctx,
                                    mvpn_gateway_probe **ret, mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_gateway_probe_free(mvpn_gateway_probe *p);
/** What is known so far; borrowed. */
const mvpn_gateway_found *mvpn_gateway_probe_result(const mvpn_gateway_probe *p);

/** Take one datagram of the gateway into account. Pure; for the probe and its test. */
void mvpn_gateway_found_take(mvpn_gateway_found *found, mvpn_bytes datagram);

#endif
