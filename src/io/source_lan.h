/*
 * Entries by multicast on the local network: the asking side of clients and the answering side of
 * relays. (docs/protocol.md §13.4) Both are off unless the configuration says so: a question shows
 * an observer of the local network that somebody runs MeshVPN, an answer shows that a relay does.
 */
#ifndef MVPN_IO_SOURCE_LAN_H
#define MVPN_IO_SOURCE_LAN_H

#include "io/fault.h"
#include "io/loop.h"
#include "io/mark.h"
#include "io/netlink.h"
#include "wire/lan.h"

/* Interfaces on which is asked and answered; loopback and point-to-point ones are left out. */
#define MVPN_LAN_INTERFACES_MAX 16
/* Answers to one question that are taken. */
#define MVPN_LAN_ANSWERS_MAX 16

/* ---- asking ---- */

typedef struct mvpn_source_lan mvpn_source_lan;

typedef void mvpn_source_lan_fn(void *ctx, const mvpn_dht_contact *entry);

/**
 * `routes` where interfaces are listed, borrowed; NULL: it opens its own (a sandboxed program may
 *          open none any more).
 * `token`  the network token (§2).
 * `marker` of the sockets that ask; used during the call only; NULL = none.
 * MVPN_E_SYSTEM (`fault` says why), MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_source_lan_new(mvpn_loop *loop, mvpn_netlink *routes, const mvpn_key *token,
                                 const mvpn_marker *marker, mvpn_source_lan_fn *fn, void *ctx,
                                 mvpn_source_lan **ret, mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_source_lan_free(mvpn_source_lan *lan);
/**
 * Ask once on every interface; answers count until the next question. Returns on how many
 * interfaces and families it was asked; 0: there is no local network.
 */
unsigned mvpn_source_lan_ask(mvpn_source_lan *lan);

/* ---- answering ---- */

typedef struct mvpn_lan_server mvpn_lan_server;

typedef struct mvpn_lan_server_stats {
    uint64_t answered;
    uint64_t dropped; /* no question, not for the group, or too many */
} mvpn_lan_server_stats;

/**
 * Answer questions about this network with `entries` (copied, 1 or 2: one of the asker's address
 * family if there is one). New interfaces are joined within half a minute. MVPN_E_SYSTEM,
 * MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_lan_server_new(mvpn_loop *loop, const mvpn_key *token,
                                 const mvpn_dht_contact *entries, size_t count,
                                 mvpn_lan_server **ret, mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_lan_server_free(mvpn_lan_server *server);
const mvpn_lan_server_stats *mvpn_lan_server_get_stats(const mvpn_lan_server *server);

#endif
