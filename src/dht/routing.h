/*
 * The routing table: a bucket for each number of first bits shared with the own id, made when
 * needed. What an address block may hold is bounded in each bucket and in the whole table.
 * (docs/protocol.md §11, §11.1)
 */
#ifndef MVPN_DHT_ROUTING_H
#define MVPN_DHT_ROUTING_H

#include "dht/kbucket.h"

/* Of one block, and of one /16 or /32, in the whole table. An attacker with 4 blocks, or with one
 * whole /16, stays below a fifth of a table of 100. */
#define MVPN_DHT_TABLE_PER_BLOCK 4
#define MVPN_DHT_TABLE_PER_WIDE 8
/* Contacts in all: 13 full buckets hold them at 100,000 nodes; room for a million times that. */
#define MVPN_DHT_TABLE_MAX 640

typedef struct mvpn_dht_routing {
    mvpn_dht_id self;
    mvpn_dht_kbucket *buckets[MVPN_DHT_ID_BITS]; /* NULL: never needed */
    size_t count;                                /* contacts in buckets */
    unsigned depth;                              /* buckets from here on were never needed */
    bool is_relaxed; /* quotas count single addresses (dht.h, relax_blocks) */
} mvpn_dht_routing;

enum mvpn_dht_room {
    MVPN_DHT_ROOM_NONE, /* ourselves, or its blocks have their share */
    MVPN_DHT_ROOM_FULL, /* it could wait */
    MVPN_DHT_ROOM_FREE,
    MVPN_DHT_ROOM_KNOWN,
};

void mvpn_dht_routing_init(mvpn_dht_routing *r, const mvpn_dht_id *self);
void mvpn_dht_routing_done(mvpn_dht_routing *r);
size_t mvpn_dht_routing_memory(const mvpn_dht_routing *r);
/** The own id changed: deal all contacts anew. Those without memory are lost. */
void mvpn_dht_routing_set_self(mvpn_dht_routing *r, const mvpn_dht_id *self, mvpn_time now);

mvpn_dht_peer *mvpn_dht_routing_find(const mvpn_dht_routing *r, const mvpn_dht_id *id);
enum mvpn_dht_room mvpn_dht_routing_room(const mvpn_dht_routing *r, const mvpn_dht_contact *c);
/**
 * A contact has proven itself: it enters its bucket, or waits, or (known already) its address and
 * link key are taken over. Returns true if it is new in a bucket.
 */
bool mvpn_dht_routing_prove(mvpn_dht_routing *r, const mvpn_dht_contact *c, mvpn_time rtt,
                            mvpn_time now);
/** A contact answered after `rtt`, at the address and with the key that we know. */
void mvpn_dht_routing_answered(mvpn_dht_routing *r, const mvpn_dht_contact *c, mvpn_time rtt,
                               mvpn_time now);
/** Somebody says it is a server, unproven: it may wait for a place. */
void mvpn_dht_routing_wait(mvpn_dht_routing *r, const mvpn_dht_contact *c, mvpn_time now);
/**
 * A contact did not answer. Returns true if it was thrown out. `ret_next` and `ret_has_next`: who
 * waits for the place, to be asked for its proof.
 */
bool mvpn_dht_routing_failed(mvpn_dht_routing *r, const mvpn_dht_id *id, mvpn_dht_contact *ret_next,
                             bool *ret_has_next);
/** The bucket of an id is looked into. */
void mvpn_dht_routing_glanced(mvpn_dht_routing *r, const mvpn_dht_id *id, mvpn_time now);
void mvpn_dht_routing_forget(mvpn_dht_routing *r, const mvpn_dht_id *id);

/**
 * Up to `max` (<= K) contacts closest to `target`, nearest first, within the quotas; borrowed until
 * the table changes. `good_only`: none whose last request failed. `skip`: not this one (NULL: all).
 */
size_t mvpn_dht_routing_closest(const mvpn_dht_routing *r, const mvpn_dht_id *target,
                                const mvpn_dht_id *skip, bool good_only, size_t max,
                                const mvpn_dht_peer *ret[static MVPN_DHT_K]);
/** Is the own id among the `k` closest to `target` that are known? */
bool mvpn_dht_routing_self_is_close(const mvpn_dht_routing *r, const mvpn_dht_id *target, size_t k);
/** Servers of the network, from how close the closest contacts are. */
uint64_t mvpn_dht_routing_estimate(const mvpn_dht_routing *r);

#endif
