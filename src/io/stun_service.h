/*
 * The sockets of the STUN service that a relay offers if its configuration says so (stun_listen):
 * up to two addresses x two ports of each family. What is answered is network/p2p/stun_server's.
 */
#ifndef MVPN_IO_STUN_SERVICE_H
#define MVPN_IO_STUN_SERVICE_H

#include "io/fault.h"
#include "io/loop.h"
#include "network/p2p/stun_server.h"

/* Primary and alternate of IPv4 and of IPv6. */
#define MVPN_STUN_LISTEN_MAX 4

typedef struct mvpn_stun_service mvpn_stun_service;

/**
 * `listen`     the first of a family is its primary, the second its alternate, with another address
 *              and another port: then all four pairs are bound, and CHANGE-REQUEST is understood.
 * `is_strict`  no answer is longer than its request (stun_server.h).
 * MVPN_E_CONFIG: addresses that do not go together, in use, or not ours; MVPN_E_NOMEM;
 * MVPN_E_SYSTEM. `fault` says why.
 */
MVPN_WUR int mvpn_stun_service_new(mvpn_loop *loop, const mvpn_addr *listen, size_t count,
                                   bool is_strict, mvpn_stun_service **ret, mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_stun_service_free(mvpn_stun_service *s);
/** Of both families together. */
mvpn_stun_server_stats mvpn_stun_service_get_stats(const mvpn_stun_service *s);

#endif
