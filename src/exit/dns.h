/*
 * DNS forwarder: sessions ask 10.8.0.1 port 53 (or its IPv6 twin), the exit asks its upstream
 * resolver in its own name. Each session has a cache of its own, which ends with it: one shared by
 * sessions would tell one what another asked.
 *
 * The answer is believed only if it comes from the upstream asked, bears the fresh random id and
 * repeats the question (RFC 5452 §9). The id alone has 16 bits: io adds a random source port by
 * opening a socket for each question. An answer that names a private address is emptied: nothing
 * behind an exit may be reached, and a name that turns to an address of the client's own network is
 * an attack on it (DNS rebinding).
 *
 * Questions come by UDP inside the tunnel, or by TCP ("stream") through a listener of io's; those
 * of one kind are not answered by answers to the other.
 */
#ifndef MVPN_EXIT_DNS_H
#define MVPN_EXIT_DNS_H

#include "base/addr.h"
#include "base/list.h"
#include "base/macros.h"
#include "base/time.h"
#include "crypto/rng.h"

/* Open questions: 800 a second at full time-out, about 1.5 MiB. One id in 16 is in use then. */
#define MVPN_DNS_OPEN_MAX 4096
/* Of one session: a browser start asks for about 40 names at once. */
#define MVPN_DNS_SESSION_MAX 64
/* Resolvers of the machine; resolv.conf has at most three. */
#define MVPN_DNS_UPSTREAMS_MAX 8
/* A stub resolver asks again after 5 s. */
#define MVPN_DNS_TIMEOUT MVPN_S(5)
/* What is asked for at most: fits the IPv6 minimum MTU unfragmented. */
#define MVPN_DNS_UDP_MAX 1232
/* Answers kept of one session (the names of some pages), and of all: about 3.3 MiB. */
#define MVPN_DNS_CACHE_SESSION_MAX 64
#define MVPN_DNS_CACHE_MAX 4096
/* Longer answers are asked for again. */
#define MVPN_DNS_CACHED_LEN 512

typedef struct mvpn_dns mvpn_dns;

/** What a session has open and kept; embedded in it, at a place that does not move. */
typedef struct mvpn_dns_session {
    uint32_t open_count;
    uint32_t cached_count;
    mvpn_list cached; /* oldest first */
} mvpn_dns_session;

/** Who asked, and where the answer goes. */
typedef struct mvpn_dns_client {
    uint32_t session;
    uint16_t port;   /* inner UDP source port; of a stream: io's number of the connection */
    uint8_t version; /* 4 or 6: by which inner address it asked */
    bool is_stream;
} mvpn_dns_client;

/* Success of another kind. */
#define MVPN_DNS_ANSWERED 1 /* mvpn_dns_query: the answer is in the buffer already */
#define MVPN_DNS_EMPTIED 1  /* mvpn_dns_answer: it named private addresses, and has no more */

/** MVPN_E_INVAL (no or too many upstreams), MVPN_E_NOMEM. A port of 0 means 53. */
MVPN_WUR int mvpn_dns_new(const mvpn_addr *upstreams, size_t count, mvpn_dns **ret_dns);
void mvpn_dns_free(mvpn_dns *dns);

void mvpn_dns_session_init(mvpn_dns_session *session);

/**
 * Take a query and answer it in place from what is kept, or make it the exit's own: fresh id, EDNS
 * options removed (client subnet and cookies would name the client), EDNS size at most
 * MVPN_DNS_UDP_MAX.
 *
 * `has_v6`  false: questions for IPv6 addresses get an answer without any, at once.
 * `message` `*len` bytes in a buffer of `size`, which is at least MVPN_DNS_CACHED_LEN.
 * Returns 0 and the upstream to send to; MVPN_DNS_ANSWERED; MVPN_E_FORMAT (drop) if it is no plain
 * query with one question; MVPN_E_LIMIT (drop) if too many are open.
 */
MVPN_WUR int mvpn_dns_query(mvpn_dns *dns, mvpn_rng *rng, const mvpn_dns_client *client,
                            mvpn_dns_session *session, bool has_v6, uint8_t *message, uint32_t *len,
                            uint32_t size, mvpn_time now, mvpn_addr *ret_upstream);

/**
 * Match an answer; on success it bears the client's id again and the question is closed.
 * Returns 0 and who asked, or MVPN_DNS_EMPTIED likewise (`*len` shrinks, as it does with truncated
 * answers); MVPN_E_FORMAT or MVPN_E_UNKNOWN (drop: nobody asked this, or not there, or not so).
 */
MVPN_WUR int mvpn_dns_answer(mvpn_dns *dns, const mvpn_addr *from, bool is_stream, uint8_t *message,
                             uint32_t *len, mvpn_time now, mvpn_dns_client *ret_client);

/** Close the next question that is due at `now` without an answer; false if there is none. */
bool mvpn_dns_pull_expired(mvpn_dns *dns, mvpn_time now, mvpn_dns_client *ret_client);

/** Close all questions of a session and wipe what is kept for it. */
void mvpn_dns_forget(mvpn_dns *dns, mvpn_dns_session *session);

mvpn_time mvpn_dns_deadline(const mvpn_dns *dns);
uint32_t mvpn_dns_open_count(const mvpn_dns *dns);

#endif
