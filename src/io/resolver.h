/*
 * Names to addresses, and TXT records, by c-ares on the loop. Not by the C library, which would
 * block, and whose sockets could not carry the firewall mark that takes them around the tunnel.
 *
 * Used before there is a circuit, and never after: the names asked for show that somebody here runs
 * MeshVPN. (docs/protocol.md §13.2)
 */
#ifndef MVPN_IO_RESOLVER_H
#define MVPN_IO_RESOLVER_H

#include "base/addr.h"
#include "base/bytes.h"
#include "io/fault.h"
#include "io/loop.h"
#include "io/mark.h"

typedef struct mvpn_resolver mvpn_resolver;

/* Addresses of one host that are given back. */
#define MVPN_RESOLVER_ADDRS_MAX 8

typedef struct mvpn_resolver_options {
    mvpn_loop *loop;           /* borrowed */
    const mvpn_marker *marker; /* of its sockets; borrowed, or NULL */
    const mvpn_addr *server;   /* instead of the system's; NULL for those (read now, once) */
    unsigned timeout_ms;       /* of the first try; 0 = 3 s */
    unsigned tries;            /* 0 = 2 */
} mvpn_resolver_options;

/** MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_resolver_new(const mvpn_resolver_options *options, mvpn_resolver **ret,
                               mvpn_fault *fault);
/** What is under way ends with MVPN_E_CLOSED, told during this call. Not from within a call of its
 * own. NULL is allowed. */
void mvpn_resolver_free(mvpn_resolver *resolver);

/** End what is under way with MVPN_E_CLOSED, told during this call; no socket is left open. */
void mvpn_resolver_cancel(mvpn_resolver *resolver);

/**
 * `err`  0; MVPN_E_UNKNOWN: no such name or no such record; MVPN_E_TIMEOUT; MVPN_E_REFUSED: the
 * server would not or could not; MVPN_E_FORMAT; MVPN_E_CLOSED; MVPN_E_NOMEM. `why` says it in
 * words.
 */
typedef void mvpn_resolver_txt_fn(void *ctx, int err, const char *why, mvpn_bytes message);
typedef void mvpn_resolver_host_fn(void *ctx, int err, const char *why, const mvpn_addr *addrs,
                                   size_t count);

/** Ask for the TXT records of `name`; `fn` gets the whole DNS message, perhaps before this returns.
 * Search domains do not apply. MVPN_E_NOMEM: then `fn` is not called. */
MVPN_WUR int mvpn_resolver_txt(mvpn_resolver *resolver, const char *name, mvpn_resolver_txt_fn *fn,
                               void *ctx);
/** Ask for the addresses of `host` (also in /etc/hosts); ports are 0. As above. */
MVPN_WUR int mvpn_resolver_host(mvpn_resolver *resolver, const char *host,
                                mvpn_resolver_host_fn *fn, void *ctx);

#endif
