/*
 * The client's flows, and which session each belongs to. A session is a pseudonym at its exit: it
 * ends its life by keeping the flows it has and taking no new ones, while new flows go to the next
 * session (docs/protocol.md §7). The host's own packets name the flow; when a session is gone for
 * good, its TCP connections are reset towards the host at once instead of hanging.
 *
 *   TUN -> client_ip_from_tun -> mvpn_flows_out -> circuit of the session that it names
 *   circuit of a session -> mvpn_flows_in -> client_ip_to_tun -> TUN
 *   session gone: mvpn_flows_end_session -> resets -> client_ip_to_tun -> TUN
 *
 * So all addresses here are those inside a circuit, and packets are looked at for what is needed
 * here only: client_ip checks the rest.
 *
 *   TCP:  -SYN-> opening -ACK-> open -FIN both ways, or RST-> closed      SYN: opening again
 *                     \-----------\--session gone--> dead: each packet of the host's is answered
 *                                                    by a reset (RFC 9293 §3.10.7.1)
 *
 * Only the host's packets make flows: an exit cannot take a flow before the host opens it.
 *
 * Fragments without a transport header follow their first fragment, which hosts and exits send
 * first. One whose first fragment was not seen goes out by the current session; from the network it
 * is refused while there are two sessions, since it could complete a datagram of the other one.
 */
#ifndef MVPN_CORE_FLOWS_H
#define MVPN_CORE_FLOWS_H

#include "base/packet.h"
#include "base/time.h"
#include "crypto/rng.h"

/* Flows of one client: a browser holds some hundreds, a BitTorrent client up to a thousand or two.
 * About 600 KiB. A packet costs one look-up: 27 to 42 ns. */
#define MVPN_FLOWS_MAX 4096
/* The current one, one that keeps its open flows, and room for a change of both at once. */
#define MVPN_FLOWS_SESSIONS_MAX 4
/* Resets of one call: more at once would overrun the kernel's queue behind the TUN. */
#define MVPN_FLOWS_RESETS_MAX 128

/* How long a quiet flow keeps its session. A quiet TCP connection keeps no session alive after
 * that, but stays with its session as long as that lives; all others are forgotten. */
#define MVPN_FLOWS_TCP_HOLD MVPN_S(300)
#define MVPN_FLOWS_OPENING_HOLD MVPN_S(75) /* beyond the last gap between resent SYNs, 64 s */
#define MVPN_FLOWS_UDP_HOLD MVPN_S(60)     /* all other protocols too */
#define MVPN_FLOWS_ICMP_HOLD MVPN_S(10)
/* A closed TCP connection holds no session, but its last segments find their way: two segment
 * lifetimes as hosts really take them. */
#define MVPN_FLOWS_CLOSED_KEEP MVPN_S(60)

typedef struct mvpn_flows mvpn_flows;

/** `max`: flows at once, 1 to MVPN_FLOWS_MAX. MVPN_E_INVAL, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_flows_new(size_t max, mvpn_rng *rng, mvpn_flows **ret);
void mvpn_flows_free(mvpn_flows *flows);

/**
 * From now on packets of this session count. Numbers are the caller's, not 0, never used twice.
 * Opening one that is open does nothing. MVPN_E_LIMIT if MVPN_FLOWS_SESSIONS_MAX are open,
 * MVPN_E_INVAL.
 */
MVPN_WUR int mvpn_flows_open_session(mvpn_flows *flows, uint32_t session);

/**
 * An IP packet of the host: which session it leaves by.
 *
 * `current`  takes new flows; 0 if there is none now (or it is not open: the same).
 * Returns the session's number, which is open; or 0: the packet is no IP packet, or a segment of a
 * TCP connection that is reset (drop), or belongs to a new flow while there is no current session.
 */
uint32_t mvpn_flows_out(mvpn_flows *flows, const uint8_t *packet, size_t n, uint32_t current,
                        mvpn_time now);

/**
 * An IP packet of the network, by `session`: false if it must not reach the host, since it is no
 * IP packet, the session is not open, or it belongs to a flow of another session or one that is
 * reset (itself, or what an ICMP error quotes): an exit must not reach into the flows of another.
 */
bool mvpn_flows_in(mvpn_flows *flows, const uint8_t *packet, size_t n, uint32_t session,
                   mvpn_time now);

/** Flows that still need this session; at 0 one that takes no new flows may end. 0 if not open. */
uint32_t mvpn_flows_count(mvpn_flows *flows, uint32_t session, mvpn_time now);
/** All flows in the table. */
size_t mvpn_flows_size(const mvpn_flows *flows);

/**
 * The session is gone for good. Each TCP connection of it that is not closed is reset: the packets
 * are built as mvpn_flows_resets does. The others are forgotten, so that their next packet goes to
 * the current session: UDP applications just continue.
 *
 * Returns the resets left to build, by the next call of this or of mvpn_flows_resets.
 */
uint32_t mvpn_flows_end_session(mvpn_flows *flows, uint32_t session, mvpn_packet_pool *pool,
                                mvpn_packet_queue *out);

/**
 * Build resets that are due into packets of `pool`, for the host, appended to `out`: those of
 * sessions that ended, and answers to what the host sent since on such a connection. At most
 * MVPN_FLOWS_RESETS_MAX, and what the pool has. Returns how many are left: call again at the next
 * tick. To be called after each batch of mvpn_flows_out; costs nothing when there are none.
 */
uint32_t mvpn_flows_resets(mvpn_flows *flows, mvpn_packet_pool *pool, mvpn_packet_queue *out);

#endif
