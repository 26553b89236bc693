/*
 * DNS forwarder: sessions ask 10.8.0.1 port 53 (or its IPv6 twin), the exit asks its upstream
 * resolver in its own name. It keeps no cache: a cache shared by sessions would tell one what
 * another asked.
 *
 * The answer is believed only if it comes from the upstream asked, bears the fresh random id and
 * repeats the question (RFC 5452 §9). The id alone has 16 bits: io must add random source ports by
 * spreading the queries over several sockets, which this core cannot do.
 */
#ifndef MVPN_EXIT_DNS_H
#define MVPN_EXIT_DNS_H

#include "base/addr.h"
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

typedef struct mvpn_dns mvpn_dns;

/** Who asked, and where the answer goes. */
typedef struct mvpn_dns_client {
    uint32_t session;
    uint16_t port;   /* inner UDP source port */
    uint8_t version; /* 4 or 6: by which inner address it asked */
} mvpn_dns_client;

/** MVPN_E_INVAL (no or too many upstreams), MVPN_E_NOMEM. A port of 0 means 53. */
MVPN_WUR int mvpn_dns_new(const mvpn_addr *upstreams, size_t count, mvpn_dns **ret_dns);
void mvpn_dns_free(mvpn_dns *dns);

/**
 * Take a query and make it the exit's own, in place: fresh id, EDNS options removed (client subnet
 * and cookies would name the client), EDNS size at most MVPN_DNS_UDP_MAX.
 *
 * `payload`    the UDP payload, `*len` bytes; `*len` may shrink.
 * `open_count` the session's count of open questions; the caller keeps it, this function adds one.
 * Returns 0 and the upstream to send to; MVPN_E_FORMAT (drop) if it is no plain query with one
 * question; MVPN_E_LIMIT (drop) if too many are open.
 */
MVPN_WUR int mvpn_dns_query(mvpn_dns *dns, mvpn_rng *rng, const mvpn_dns_client *client,
                            uint32_t *open_count, uint8_t *payload, uint32_t *len, mvpn_time now,
                            mvpn_addr *ret_upstream);

/**
 * Match an answer; on success it bears the client's id again and the question is closed.
 * Returns 0 and who asked; MVPN_E_FORMAT or MVPN_E_UNKNOWN (drop: nobody asked this, or not there).
 */
MVPN_WUR int mvpn_dns_answer(mvpn_dns *dns, const mvpn_addr *from, uint8_t *payload, uint32_t len,
                             mvpn_dns_client *ret_client);

/** Close the next question that is due at `now` without an answer; false if there is none. */
bool mvpn_dns_pull_expired(mvpn_dns *dns, mvpn_time now, mvpn_dns_client *ret_client);

/** Close all questions of a session. */
void mvpn_dns_forget(mvpn_dns *dns, uint32_t session);

mvpn_time mvpn_dns_deadline(const mvpn_dns *dns);
uint32_t mvpn_dns_open_count(const mvpn_dns *dns);

#endif
