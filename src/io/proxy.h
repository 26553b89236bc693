/*
 * The proxy of a client without a TUN device: programs of this computer connect to it by SOCKS5 or
 * HTTP CONNECT, it connects in their name through the tunnel (io/netstack.h). Names are asked for
 * there as well; nothing of it ever goes to this computer's own network. Each user name and
 * password has circuits of its own (network/proxy/groups.h), made when it first connects: that
 * waits for them.
 *
 *   READING -> [LOOKING ->] CONNECTING -> OPEN            (CONNECT)
 *           -> ASSOCIATED                                 (UDP ASSOCIATE)
 *           -> LAST_WORDS                                 (refused, from any of them)
 */
#ifndef MVPN_IO_PROXY_H
#define MVPN_IO_PROXY_H

#include "base/log.h"
#include "io/fault.h"
#include "io/loop.h"
#include "io/netstack.h"
#include "network/proxy/groups.h"

typedef struct mvpn_proxy mvpn_proxy;

/* Connections of all programs together; more wait in the kernel's queue. */
#define MVPN_PROXY_CONNECTIONS_MAX 1024
/* UDP associations of them: each has a second descriptor. */
#define MVPN_PROXY_ASSOCIATIONS_MAX 128

typedef struct mvpn_proxy_options {
    mvpn_loop *loop;
    mvpn_netstack *stack;
    mvpn_addr socks; /* family 0: none */
    mvpn_addr http;  /* likewise */
    /* Make circuits, and a lane of the stack, for this group: an error refuses the connection. And
     * end them, when nobody uses them any more. */
    int (*open_group)(void *ctx, unsigned group);
    void (*close_group)(void *ctx, unsigned group);
    void *ctx;
} mvpn_proxy_options;

typedef struct mvpn_proxy_stats {
    unsigned connections, associations; /* now */
    uint64_t accepted, connected, failed;
    uint64_t refused_groups; /* connections of users for whom there was no group left */
} mvpn_proxy_stats;

/** Listen. MVPN_E_CONFIG: an address is in use or is not this computer's; MVPN_E_NOMEM, _SYSTEM. */
MVPN_WUR int mvpn_proxy_new(const mvpn_proxy_options *options, mvpn_proxy **ret, mvpn_fault *fault);
/** Close everything. Before mvpn_netstack_free. NULL is allowed. */
void mvpn_proxy_free(mvpn_proxy *proxy);
const mvpn_proxy_stats *mvpn_proxy_get_stats(const mvpn_proxy *proxy);
/** The groups as they are now, by number; borrowed. */
const mvpn_proxy_group *mvpn_proxy_get_groups(const mvpn_proxy *proxy);

#endif
