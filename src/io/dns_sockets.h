/*
 * The exit's questions to its resolver by UDP: each leaves from a socket of its own, so from a port
 * that nobody can guess (RFC 5452 §9.2), connected to the one that it asks. An answer must come to
 * the socket of its question and bear its id; what else it must be, the exit core knows.
 */
#ifndef MVPN_IO_DNS_SOCKETS_H
#define MVPN_IO_DNS_SOCKETS_H

#include "base/packet.h"
#include "base/time.h"
#include "io/fault.h"
#include "io/loop.h"

/* Sockets at once: half of what a process may usually open. */
#define MVPN_DNS_SOCKETS_MAX 512
/* When all are in use, further questions share them: together as many as the exit has open. */
#define MVPN_DNS_SOCKETS_SHARE 8

typedef struct mvpn_dns_sockets mvpn_dns_sockets;

/** Answers go into `received` as packets of `pool`, `remote` the resolver, `local` MVPN_LOCAL_DNS;
 * all three are borrowed. MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_dns_sockets_new(mvpn_loop *loop, mvpn_packet_pool *pool,
                                  mvpn_packet_queue *received, mvpn_dns_sockets **ret,
                                  mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_dns_sockets_free(mvpn_dns_sockets *sockets);

/** Send all packets of `queue` to their `remote` and give them back to the pool. What cannot be
 * sent is lost: the client asks again. */
void mvpn_dns_sockets_send(mvpn_dns_sockets *sockets, mvpn_packet_queue *queue, mvpn_time now);

/** Sockets that are open now. */
unsigned mvpn_dns_sockets_count(const mvpn_dns_sockets *sockets);

#endif
