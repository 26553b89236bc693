/*
 * nftables: each change is one script handed to `nft -f -`, which the kernel takes whole or not at
 * all. libnftables is GPL-2 and therefore not linked; the script form works in builds without JSON.
 */
#ifndef MVPN_IO_NFT_H
#define MVPN_IO_NFT_H

#include <stdbool.h>

#include "io/fault.h"
#include "io/nlsocket.h"

/* Longest script: a table with a few chains. It fits a pipe, so that writing never waits. */
#define MVPN_NFT_SCRIPT 8192

/**
 * Apply `script` in this network namespace as one transaction. The script must hold nothing that
 * came from a peer. MVPN_E_CONFIG if nft is not installed; MVPN_E_SYSTEM if it refused, with its
 * first line.
 */
MVPN_WUR int mvpn_nft_apply(const char *script, mvpn_fault *fault);

/**
 * Delete table `inet NAME` over `nl` (NETLINK_NETFILTER), without a child and therefore also where
 * no program may be run. A table that is not there is success. -1 with errno.
 */
MVPN_WUR int mvpn_nft_delete_table(mvpn_nlsocket *nl, const char *name);

/** True if `name` may stand in a script as part of a table name: 1 to 32 of [a-z0-9_]. */
bool mvpn_nft_is_name(const char *name);

/** True if `name` may stand in a script as an interface: 1 to 15 of [A-Za-z0-9_.-]. */
bool mvpn_nft_is_interface(const char *name);

#endif
