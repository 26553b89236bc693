/*
 * TCP and UDP inside this process, for a client without a TUN device: what a kernel does for
 * programs behind one, this does for io/proxy.c. Packets go to the engine and come from it, as
 * those of a TUN would. A thin layer over lwIP, which is compiled from Debian's source package
 * (tools/fetch_lwip.sh) with the settings in io/lwip/lwipopts.h.
 *
 * lwIP keeps its state in globals: one stack at a time in a process, on one thread. All memory of
 * it, unread data included, is bounded by `memory_max`; beyond that packets are lost and sent
 * again.
 *
 * Lanes: what must not share circuits has an address, ports and routes of its own in here; a packet
 * carries the number of its lane in `local` (core/engine.h "group"). Nothing of one lane is
 * delivered to another.
 *
 * Nothing is called back from within lwIP but datagrams: events of connections are collected and
 * told at the end of mvpn_netstack_exchange, so that a connection may be ended from anywhere.
 */
#ifndef MVPN_IO_NETSTACK_H
#define MVPN_IO_NETSTACK_H

#include <stdbool.h>
#include <sys/uio.h>

#include "base/addr.h"
#include "base/bytes.h"
#include "base/packet.h"
#include "core/engine.h"

typedef struct mvpn_netstack mvpn_netstack;
typedef struct mvpn_stream mvpn_stream;
typedef struct mvpn_datagrams mvpn_datagrams;

/* The largest datagram that is sent or received, fragments joined. */
#define MVPN_NETSTACK_DATAGRAM_MAX 8192
/* The client's own, and one for each group. */
#define MVPN_NETSTACK_LANES (1 + MVPN_ENGINE_GROUPS_MAX)

/**
 * `pool`       where packets that are sent come from (the engine's); borrowed.
 * `memory_max` bytes for everything; 0 = 128 MiB.
 * MVPN_E_STATE: there is one in this process already; MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_netstack_new(mvpn_packet_pool *pool, size_t memory_max, mvpn_time now,
                               mvpn_netstack **ret);
/** Connections that are left are reset; what that sends is lost. All streams and sockets must be
 * freed before. NULL is allowed. */
void mvpn_netstack_free(mvpn_netstack *stack);

/** From 1; lane 0 is always open. Opening an open one does nothing. */
void mvpn_netstack_open_lane(mvpn_netstack *stack, unsigned lane);
/** What is still to be sent there is lost, without a word to anybody. All its streams and sockets
 * must be freed before. */
void mvpn_netstack_close_lane(mvpn_netstack *stack, unsigned lane);

/** Take the packets of `in`, do what is due, tell events, append what is to be sent to `out` (NULL:
 * nothing can be sent now, it waits). After every turn of the loop in which anything was written.
 */
void mvpn_netstack_exchange(mvpn_netstack *stack, mvpn_packet_queue *in, mvpn_packet_queue *out,
                            mvpn_time now);
/** When an exchange is due without packets. */
mvpn_time mvpn_netstack_deadline(const mvpn_netstack *stack, mvpn_time now);
/** Bytes in use. */
size_t mvpn_netstack_memory(const mvpn_netstack *stack);

/* ---- TCP ---- */

#define MVPN_STREAM_CONNECTED 1u
#define MVPN_STREAM_READABLE 2u /* data, or their end: mvpn_stream_has_ended */
#define MVPN_STREAM_WRITABLE 4u /* there is room again */
#define MVPN_STREAM_FAILED 8u   /* mvpn_stream_error; data that came before may still be read */

typedef void mvpn_stream_fn(void *ctx, unsigned events);

/** Begin to connect by an open lane. MVPN_E_NOMEM; MVPN_E_POLICY: not an address that the tunnel
 * carries. */
MVPN_WUR int mvpn_stream_connect(mvpn_netstack *stack, unsigned lane, const mvpn_addr *to,
                                 mvpn_stream_fn *fn, void *ctx, mvpn_stream **ret);
/** Who is told from now on. */
void mvpn_stream_set_handler(mvpn_stream *stream, mvpn_stream_fn *fn, void *ctx);
/** End: what was written still arrives, unless `is_abort`, there is unread data or it never was
 * connected (reset). No more events. NULL is allowed. */
void mvpn_stream_free(mvpn_stream *stream, bool is_abort);

/** 0; MVPN_E_REFUSED, MVPN_E_TIMEOUT, MVPN_E_UNKNOWN (no route), MVPN_E_CLOSED (reset). */
int mvpn_stream_error(const mvpn_stream *stream);
/** Where it comes from, in the tunnel. */
mvpn_addr mvpn_stream_local(const mvpn_stream *stream);

/** Bytes that mvpn_stream_write would take; 0 while it connects. */
size_t mvpn_stream_room(const mvpn_stream *stream);
/** Returns how many were taken (copied): fewer if memory is short; an event tells when to go on. */
size_t mvpn_stream_write(mvpn_stream *stream, const uint8_t *p, size_t n);
/** Nothing more will be written. */
void mvpn_stream_shutdown(mvpn_stream *stream);

/** Unread data, borrowed until it is consumed; returns the number of pieces. */
unsigned mvpn_stream_peek(const mvpn_stream *stream, struct iovec *ret, unsigned max);
/** `n` bytes were read: the sender may send as many more. */
void mvpn_stream_consume(mvpn_stream *stream, size_t n);
/** All was read, and no more will come. */
bool mvpn_stream_has_ended(const mvpn_stream *stream);

/* ---- the other side: an exit's (io/user_nat.h) ---- */

/** A connection from the tunnel is open: `stream` (the caller's from now on) is between `from` and
 * `to`; set its handler. False: it is not wanted, and is reset. */
typedef bool mvpn_netstack_accept_fn(void *ctx, const mvpn_addr *from, const mvpn_addr *to,
                                     mvpn_stream *stream);
/** From now on this stack stands for all addresses of the outside: packets come by
 * mvpn_netstack_deliver. Not together with connections of its own. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_netstack_accept(mvpn_netstack *stack, mvpn_netstack_accept_fn *fn, void *ctx);
/** A TCP packet, as if its destination were here; borrowed. `opens`: its SYN may open a connection;
 * else what belongs to none is answered by a reset. */
void mvpn_netstack_deliver(mvpn_netstack *stack, const mvpn_packet *packet, bool opens);

/* ---- UDP ---- */

/** A datagram came; `data` is borrowed during the call. Everything may be freed
 * from here but the stack. */
typedef void mvpn_datagrams_fn(void *ctx, const mvpn_addr *from, mvpn_bytes data);

/** A socket with a random port for one family (4, 6) of an open lane. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_datagrams_open(mvpn_netstack *stack, unsigned lane, uint8_t family,
                                 mvpn_datagrams_fn *fn, void *ctx, mvpn_datagrams **ret);
void mvpn_datagrams_free(mvpn_datagrams *socket);
/** Send one; false if it is lost at once. */
bool mvpn_datagrams_send(mvpn_datagrams *socket, const mvpn_addr *to, mvpn_bytes data);

#endif
