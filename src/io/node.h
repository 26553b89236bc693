/*
 * A running node: the engine on its sockets. Reads and writes in batches, reads the clock once per
 * turn, and decides nothing about the protocol. One thread; several nodes may share a process, each
 * with its loop.
 */
#ifndef MVPN_IO_NODE_H
#define MVPN_IO_NODE_H

#include "base/log.h"
#include "core/engine.h"
#include "core/pinger.h"
#include "io/addrwatch.h"
#include "io/fault.h"
#include "io/loop.h"
#include "io/network_file.h"
#include "io/tun.h"
#include "io/udp.h"

typedef struct mvpn_node mvpn_node;

typedef void mvpn_node_event_fn(void *ctx, const mvpn_engine_event *event);

/* In place of a TUN: an IP stack inside this process (io/netstack.h). */
typedef struct mvpn_node_stack {
    void *ctx;
    /* Take the packets of `in`, append those to be sent to `out` (NULL: none can be now). */
    void (*exchange)(void *ctx, mvpn_packet_queue *in, mvpn_packet_queue *out, mvpn_time now);
    mvpn_time (*deadline)(void *ctx, mvpn_time now); /* of the next exchange without packets */
} mvpn_node_stack;

typedef struct mvpn_node_options {
    mvpn_loop *loop;                  /* borrowed */
    const mvpn_engine_config *engine; /* seed and time are filled in */
    const mvpn_network_file *network; /* its relays fill the view; borrowed during _new */
    const mvpn_addr *listen;          /* one per address family; port 0 = any */
    unsigned listen_count;
    const mvpn_marker *marker;    /* of all sockets; borrowed, or NULL */
    mvpn_tun *tun;                /* borrowed, or NULL */
    bool has_dns;                 /* open the exit's resolver socket */
    mvpn_node_event_fn *on_event; /* may be NULL */
    /* Looks at packets of the circuit just before the host gets them, and may change them, or take
     * some away (they are of the engine's pool); may be NULL. */
    void (*on_arrivals)(void *ctx, mvpn_packet_queue *packets);
    void *ctx;
    const mvpn_log *log; /* for what the operator should know; borrowed, may be NULL */
} mvpn_node_options;

/** Open the sockets and make the engine. Errors as mvpn_udp_open and mvpn_engine_new; `fault` says
 * what to do. */
MVPN_WUR int mvpn_node_new(const mvpn_node_options *options, mvpn_node **ret, mvpn_fault *fault);
/**
 * Withdraw the node's descriptor (mvpn_engine_withdraw): `done` is called once when that is over.
 * False: there is nothing to withdraw, and `done` is never called.
 */
bool mvpn_node_withdraw(mvpn_node *node, void (*done)(void *ctx), void *ctx);

/** From now on packets for the host go to `stack` (copied), with no member set to nobody. For a
 * node without a TUN; its packets are of the engine's pool. */
void mvpn_node_set_stack(mvpn_node *node, const mvpn_node_stack *stack);

/** Say goodbye to the peers and close. NULL is allowed. */
void mvpn_node_free(mvpn_node *node);

/** The host is in another network, says somebody who knows: as if the kernel had told. */
void mvpn_node_network_changed(mvpn_node *node);
/** The loop was left because a socket or the TUN is gone. */
bool mvpn_node_is_broken(const mvpn_node *node);
/** What the network file says, for the engine; its entries are borrowed. */
void mvpn_node_fill_network(const mvpn_network_file *network, mvpn_engine_config *ret);

/** This host's network as it is now (io/addrwatch.h), without the tunnel. MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_node_network(mvpn_node *node, mvpn_addrwatch_network *ret);

/** Things go out, and nothing comes back for a while (io/silence.h). */
bool mvpn_node_is_unheard(const mvpn_node *node);
/** And nothing has since the beginning: whoever answered once would have to be gone. */
bool mvpn_node_was_never_heard(const mvpn_node *node);

mvpn_engine *mvpn_node_engine(mvpn_node *node);
mvpn_pinger *mvpn_node_pinger(mvpn_node *node);

#endif
