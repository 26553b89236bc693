/*
 * One bucket of the routing table: at most K contacts that have proven themselves, oldest first,
 * and a few that wait to take the place of one that fails. (docs/protocol.md §11)
 */
#ifndef MVPN_DHT_KBUCKET_H
#define MVPN_DHT_KBUCKET_H

#include "base/time.h"
#include "dht/contact.h"

/* Waiting contacts: one survives while half of a bucket dies between two checks. */
#define MVPN_DHT_WAITING_MAX 5
/* Requests (each sent twice) in a row without answer: gone; sooner if another waits. With 10 % of
 * packets lost, 1 of 20,000 good contacts is thrown out so. */
#define MVPN_DHT_FAILURES_MAX 3
#define MVPN_DHT_FAILURES_REPLACED 2

/* A contact that answers Pings and is of no use: silent to lookups, knowing nobody, naming nodes
 * that are not there. */
#define MVPN_DHT_USELESS_MAX 3

typedef struct mvpn_dht_peer {
    mvpn_dht_contact contact;
    mvpn_time heard;               /* last answer (or request with a claim) */
    uint16_t rtt_ms, deviation_ms; /* 0: not measured yet */
    uint8_t failures;              /* in a row */
    uint8_t useless;               /* lookups in a row that it led nowhere */
    bool is_claimed;               /* it came by itself; nobody named it */
    bool is_proven;                /* always in the bucket; in the cache perhaps not */
    bool is_checking;              /* a Ping is under way */
} mvpn_dht_peer;

typedef struct mvpn_dht_kbucket {
    mvpn_time used;    /* a contact in it answered, or a lookup went there */
    mvpn_time glanced; /* looked into, to fill it */
    mvpn_dht_peer *peers;
    mvpn_dht_peer *waiting;
    uint8_t count, size;
    uint8_t waiting_count;
} mvpn_dht_kbucket;

void mvpn_dht_kbucket_done(mvpn_dht_kbucket *b);
size_t mvpn_dht_kbucket_memory(const mvpn_dht_kbucket *b);
mvpn_dht_peer *mvpn_dht_kbucket_find(const mvpn_dht_kbucket *b, const mvpn_dht_id *id);
/** Append a proven contact; NULL if the bucket is full or there is no memory. Moves peers. */
mvpn_dht_peer *mvpn_dht_kbucket_add(mvpn_dht_kbucket *b, const mvpn_dht_contact *c, mvpn_time now);
void mvpn_dht_kbucket_remove(mvpn_dht_kbucket *b, mvpn_dht_peer *peer);

/** Let a contact wait. One per address block; when full, an unproven one or the oldest gives way.
 */
void mvpn_dht_kbucket_wait(mvpn_dht_kbucket *b, const mvpn_dht_contact *c, bool is_proven,
                           uint16_t rtt_ms, mvpn_time now);
/** Take the best that waits: proven before unproven, then the quickest, then the latest. */
bool mvpn_dht_kbucket_take_waiting(mvpn_dht_kbucket *b, mvpn_dht_contact *ret);
void mvpn_dht_kbucket_forget_waiting(mvpn_dht_kbucket *b, const mvpn_dht_id *id);

/** An answer came after `rtt`. (RFC 6298 §2 smoothing) */
void mvpn_dht_peer_answered(mvpn_dht_peer *peer, mvpn_time rtt, mvpn_time now);

#endif
