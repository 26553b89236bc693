/*
 * Names for the proxy: asked of the exit's name service through the circuit (10.8.0.1), IPv4 and
 * IPv6 at once, and of nobody else; by the lane of who asks. Nothing is kept: what one program
 * asked for shows in no other's connection.
 */
#ifndef MVPN_IO_PROXY_LOOKUP_H
#define MVPN_IO_PROXY_LOOKUP_H

#include "io/netstack.h"

/* Addresses of one name that are tried. */
#define MVPN_PROXY_ADDRS_MAX 8

typedef struct mvpn_proxy_lookup mvpn_proxy_lookup;

/**
 * The lookup is over: `addrs` (ports 0) with IPv6 and IPv4 in turns, IPv6 first (RFC 8305 §4), or
 * `error`: MVPN_E_UNKNOWN (no such name, or no address), MVPN_E_TIMEOUT. Free it, from here or
 * later.
 */
typedef void mvpn_proxy_lookup_fn(void *ctx, int error, const mvpn_addr *addrs, size_t count);

/** Ask by a lane (io/netstack.h). `fn` is never called before this returns. MVPN_E_NOMEM;
 * MVPN_E_FORMAT: not a name. */
MVPN_WUR int mvpn_proxy_lookup_start(mvpn_netstack *stack, unsigned lane, const char *name,
                                     mvpn_time now, mvpn_proxy_lookup_fn *fn, void *ctx,
                                     mvpn_proxy_lookup **ret);
/** Ask again, or give up: to be called every 100 ms or so; may call `fn`. */
void mvpn_proxy_lookup_tick(mvpn_proxy_lookup *lookup, mvpn_time now);
/** NULL is allowed. */
void mvpn_proxy_lookup_free(mvpn_proxy_lookup *lookup);

#endif
