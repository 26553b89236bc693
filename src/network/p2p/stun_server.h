/*
 * The STUN service of a relay: answers Binding requests (RFC 8489) and behaviour discovery
 * (RFC 5780) on one address and port, or on two of each. One server per address family; its
 * sockets are io's.
 *
 * The source address of a request proves nothing, so:
 *   - The answer is never longer than the request. A bare request has 20 bytes, the shortest answer
 *     32 (IPv4) or 44 (IPv6): it gets none. Clients make room by any attribute that servers pass
 *     over (ours by SOFTWARE, coturn's natdiscovery -P by PADDING); attributes that find no room
 * are left out in the order in which they can be missed. With `is_strict` off bare requests are
 *     answered too, by up to 2.8 (IPv4) or 4.6 (IPv6) times as many bytes: the operator's choice,
 *     for standard clients, within the rates below.
 *   - The answer goes to the source alone: RESPONSE-PORT is refused (420), and PADDING, which asks
 *     for a long answer, is not returned (RFC 5780 §6.1 would).
 *   - A block of addresses (/24, IPv6 /48) gets few answers a second, all together a bounded
 * number.
 *   - Nothing is kept of a source but a time in a table of fixed size.
 */
#ifndef MVPN_NETWORK_P2P_STUN_SERVER_H
#define MVPN_NETWORK_P2P_STUN_SERVER_H

#include "base/time.h"
#include "crypto/rng.h"
#include "wire/stun.h"

/* 2 addresses x 2 ports: 2 * address + port, 0 the primary of each. */
#define MVPN_STUN_SOCKETS 4
/* One discovery takes about 12 requests, 40 when half are lost. */
#define MVPN_STUN_BLOCK_RATE 10 /* answers a second */
#define MVPN_STUN_BLOCK_BURST 60
/* Less than 2 Mbit/s, whoever asks. */
#define MVPN_STUN_TOTAL_RATE 2000
#define MVPN_STUN_TOTAL_BURST 4000
/* The longest answer: four IPv6 addresses and a fingerprint. */
#define MVPN_STUN_ANSWER_MAX 124

typedef struct mvpn_stun_server_config {
    mvpn_addr primary;   /* may be 0.0.0.0 or [::] if there is no alternate */
    mvpn_addr alternate; /* family 0: none; else another address and another port */
    bool is_strict;
} mvpn_stun_server_config;

typedef struct mvpn_stun_answer {
    unsigned socket; /* it leaves from there */
    mvpn_addr to;
    uint8_t bytes[MVPN_STUN_ANSWER_MAX];
    size_t length;
} mvpn_stun_answer;

typedef struct mvpn_stun_server_stats {
    uint64_t answered;
    uint64_t refused;   /* answered by an error */
    uint64_t malformed; /* no request */
    uint64_t too_short; /* the answer would be longer */
    uint64_t limited;
} mvpn_stun_server_stats;

typedef struct mvpn_stun_server mvpn_stun_server;

/** `rng` is asked here alone. MVPN_E_NOMEM; MVPN_E_INVAL: the addresses do not fit each other. */
MVPN_WUR int mvpn_stun_server_new(mvpn_stun_server **ret, const mvpn_stun_server_config *config,
                                  mvpn_rng *rng);
/** NULL is allowed. */
void mvpn_stun_server_free(mvpn_stun_server *s);

/** The address of a socket; family 0: it is not used. */
mvpn_addr mvpn_stun_server_address(const mvpn_stun_server *s, unsigned socket);

/**
 * One datagram that came to `socket`. Returns 0 and the answer to send; else (drop) MVPN_E_FORMAT,
 * MVPN_E_UNKNOWN (no Binding request), MVPN_E_STATE (from an address that no client has),
 * MVPN_E_TOO_BIG (the answer would be longer than the request), MVPN_E_LIMIT.
 */
MVPN_WUR int mvpn_stun_server_recv(mvpn_stun_server *s, unsigned socket, const mvpn_addr *from,
                                   mvpn_bytes in, mvpn_time now, mvpn_stun_answer *ret);

const mvpn_stun_server_stats *mvpn_stun_server_get_stats(const mvpn_stun_server *s);

#endif
