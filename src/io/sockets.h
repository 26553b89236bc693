/*
 * The node's further UDP sockets (MVPN_LOCAL_PROBE and up), each with a port of its own: opened
 * when the first packet is to leave by it, closed when the engine no longer uses it.
 *
 * A birthday opens 320 within a second, and one of them may carry a link's traffic afterwards. So
 * all work in the buffers of the main socket, an idle one costs a descriptor and half a kilobyte,
 * and one that carries traffic is as fast as the main one. One thread; called by io/node.
 */
#ifndef MVPN_IO_SOCKETS_H
#define MVPN_IO_SOCKETS_H

#include "base/log.h"
#include "base/packet.h"
#include "base/time.h"
#include "io/loop.h"
#include "io/udp.h"

typedef struct mvpn_sockets mvpn_sockets;

typedef struct mvpn_sockets_options {
    mvpn_loop *loop;           /* borrowed, as all pointers here */
    const mvpn_udp *main;      /* its families, addresses and buffers; to be closed later */
    mvpn_packet_pool *pool;    /* of all packets */
    mvpn_packet_queue *out;    /* what is to be sent: the main socket's mvpn_udp_options.others */
    mvpn_packet_queue *in;     /* what is received comes here, with its `local` */
    unsigned budget;           /* packets read at once */
    const mvpn_marker *marker; /* of all sockets; NULL = none */
    bool (*is_used)(void *ctx, uint16_t local);
    void (*too_big)(void *ctx, const mvpn_addr *remote); /* as mvpn_udp_pull_too_big */
    void *ctx;
    const mvpn_log *log; /* one warning when none can be opened; NULL: nobody hears it */
} mvpn_sockets_options;

typedef struct mvpn_sockets_stats {
    uint64_t opened, closed;
    uint64_t refused; /* packets dropped: no socket could be opened for them */
} mvpn_sockets_stats;

/** MVPN_E_NOMEM. */
MVPN_WUR int mvpn_sockets_new(const mvpn_sockets_options *options, mvpn_sockets **ret);
/** Close all; what waits is dropped. NULL is allowed. */
void mvpn_sockets_free(mvpn_sockets *sockets);

/** Is there nothing to do at the end of a turn? */
bool mvpn_sockets_is_idle(const mvpn_sockets *sockets);
/** Send what is in the queue, opening sockets for it, and close those that are not used: at the end
 * of a turn, unless idle. */
void mvpn_sockets_turn(mvpn_sockets *sockets, mvpn_time now);
/** When it wants its next turn: opening many sockets is spread over several. */
mvpn_time mvpn_sockets_deadline(const mvpn_sockets *sockets, mvpn_time now);
/** Packets that wait for full sockets. */
size_t mvpn_sockets_backlog(const mvpn_sockets *sockets);

size_t mvpn_sockets_count(const mvpn_sockets *sockets);
const mvpn_sockets_stats *mvpn_sockets_get_stats(const mvpn_sockets *sockets);

#endif
