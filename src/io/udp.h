/*
 * The node's UDP port: one socket per address family, read and written in batches. Kernel offloads
 * carry most of the load: UDP_GRO delivers up to 64 KiB of equal datagrams in one buffer,
 * UDP_SEGMENT takes as much in one message. Both are found out at run time and given up when they
 * do not work.
 *
 * DF is set and the kernel's own idea of the path MTU ignored (IP_PMTUDISC_PROBE): the engine finds
 * the path MTU by probes (docs/protocol.md, link splitting). A datagram too big for the first
 * interface is lost and its destination reported by mvpn_udp_pull_too_big.
 *
 * Called by io/node, one thread.
 */
#ifndef MVPN_IO_UDP_H
#define MVPN_IO_UDP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/packet.h"
#include "io/fault.h"
#include "io/mark.h"

enum mvpn_udp_family {
    MVPN_UDP_V4,
    MVPN_UDP_V6,
    MVPN_UDP_FAMILIES,
};

typedef struct mvpn_udp mvpn_udp;

typedef struct mvpn_udp_options {
    const mvpn_marker *marker; /* borrowed for the call; NULL = no mark */
    uint16_t local;            /* written to mvpn_packet.local of what is received */
    bool no_gso;               /* never try UDP_SEGMENT */
    bool no_gro;               /* never try UDP_GRO */
    bool is_small;             /* small kernel buffers, until mvpn_udp_grow */
    /* Use the memory of this one (1 MiB and more), which must be of the same thread and be closed
     * later; NULL: its own. */
    const mvpn_udp *buffers_of;
    /* Packets to be sent whose `local` is not ours go to the end of this queue; NULL: there are
     * none. */
    mvpn_packet_queue *others;
} mvpn_udp_options;

/* Counters since opening; all of datagrams unless said otherwise. */
typedef struct mvpn_udp_stats {
    uint64_t received;
    uint64_t received_no_packet; /* lost: the pool was empty */
    uint64_t received_too_long;  /* lost: longer than MVPN_PACKET_ROOM, or cut by the kernel */
    uint64_t recv_calls;
    uint64_t sent;
    uint64_t sent_too_big; /* lost: EMSGSIZE */
    uint64_t
        sent_unreachable; /* lost: no route, refused by the firewall, no socket of that family */
    uint64_t send_calls;
    uint64_t send_messages; /* messages of one or more datagrams */
} mvpn_udp_stats;

/**
 * Open one socket for each of the `bind_count` addresses (1 or 2, of different families; zero
 * address = any, port 0 = the kernel's choice). Socket buffers are 8 MiB where rights allow.
 *
 * Returns 0 and `*ret` (free with mvpn_udp_free); MVPN_E_INVAL for two addresses of one family;
 * MVPN_E_CONFIG if an address is in use or not ours; MVPN_E_NOMEM; MVPN_E_SYSTEM. `fault` says why.
 */
MVPN_WUR int mvpn_udp_open(mvpn_udp **ret, const mvpn_addr *bind_addrs, unsigned bind_count,
                           const mvpn_udp_options *options, mvpn_fault *fault);
void mvpn_udp_free(mvpn_udp *udp);

/** A socket opened with `is_small` is to carry much: kernel buffers as of any other. */
void mvpn_udp_grow(mvpn_udp *udp);

/** File descriptor to poll, owned by `udp`; -1 if it has no socket of that family. */
int mvpn_udp_fd(const mvpn_udp *udp, enum mvpn_udp_family family);
/** The bound address with its real port; family 0 if there is no such socket. */
mvpn_addr mvpn_udp_local(const mvpn_udp *udp, enum mvpn_udp_family family);

/**
 * Read datagrams into packets of `pool` at the end of `queue`, until the socket is empty or at
 * least `budget` were read (one more system call's worth may come on top). `remote` and `local` are
 * set. Returns how many; MVPN_E_SYSTEM (fatal) if the socket broke. Datagrams that find no packet
 * are lost and counted.
 */
MVPN_WUR int mvpn_udp_recv(mvpn_udp *udp, enum mvpn_udp_family family, mvpn_packet_pool *pool,
                           mvpn_packet_queue *queue, unsigned budget);

/**
 * Send all packets of `queue` to their `remote` and give them back to `pool`. Order is kept within
 * a destination; destinations are regrouped so that equal packets share a message.
 *
 * Returns 0 when the queue is empty, MVPN_E_AGAIN if a socket is full: what is left stays in
 * `queue`, and the caller waits until the sockets of mvpn_udp_is_blocked are writable. Packets that
 * cannot be sent are lost and counted.
 */
MVPN_WUR int mvpn_udp_send(mvpn_udp *udp, mvpn_packet_queue *queue, mvpn_packet_pool *pool);

/** True if the last send left packets because this socket was full. */
bool mvpn_udp_is_blocked(const mvpn_udp *udp, enum mvpn_udp_family family);

/**
 * Take the next destination to which a datagram (not an MTU probe) was too big for the interface.
 * At most 16 are kept; more show up again with their next packet.
 */
bool mvpn_udp_pull_too_big(mvpn_udp *udp, mvpn_addr *ret_remote);

const mvpn_udp_stats *mvpn_udp_get_stats(const mvpn_udp *udp);
/** True while UDP_SEGMENT is in use. */
bool mvpn_udp_has_gso(const mvpn_udp *udp, enum mvpn_udp_family family);

#endif
