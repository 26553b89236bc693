/*
 * Requests of ours: a bounded pool, found by transaction, each with its time-out. One that is
 * overdue lingers, because its answer is still welcome.
 */
#ifndef MVPN_DHT_REQUESTS_H
#define MVPN_DHT_REQUESTS_H

#include "base/hash.h"
#include "base/list.h"
#include "base/timer.h"
#include "dht/contact.h"

/* Fewer than the exchange takes (MVPN_DHT_PENDING_MAX): 16 lookups at full width. */
#define MVPN_DHT_REQUESTS_MAX 448
#define MVPN_DHT_LINGER MVPN_S(4)

enum mvpn_dht_purpose {
    MVPN_DHT_FOR_CHECK,  /* is this contact still there? */
    MVPN_DHT_FOR_PROOF,  /* let it prove itself */
    MVPN_DHT_FOR_LOOKUP, /* slot: candidate */
    MVPN_DHT_FOR_STORE,  /* slot: target */
    MVPN_DHT_FOR_FETCH,
    MVPN_DHT_FOR_HANDOVER, /* key: the record's */
    MVPN_DHT_FOR_WALK_FIND,
    MVPN_DHT_FOR_WALK_LIST,
};

enum mvpn_dht_pending_state {
    MVPN_DHT_PENDING_QUEUED, /* to be pulled */
    MVPN_DHT_PENDING_SENT,
    MVPN_DHT_PENDING_LINGERING, /* given up, or sent again under another transaction */
};

typedef struct mvpn_dht_op mvpn_dht_op;

typedef struct mvpn_dht_pending {
    mvpn_hash_node node;
    mvpn_timer timer;
    mvpn_list link;    /* queue, lingering or free list */
    mvpn_list op_link; /* of its operation */
    mvpn_dht_op *op;   /* NULL: none, or it has ended */
    uint64_t transaction;
    mvpn_time sent;
    mvpn_time first_sent; /* of the first try */
    mvpn_dht_contact to;
    mvpn_dht_id key;
    uint8_t purpose, state, tries, slot;
    bool wants_certificate;
    bool is_token_retry;
    bool is_named; /* PROOF: of somebody that others named */
    bool is_slow;  /* later than usual; not yet overdue */
} mvpn_dht_pending;

typedef struct mvpn_dht_requests {
    mvpn_hash by_transaction;
    mvpn_timers *timers;
    mvpn_rng *rng;
    int timer_kind;
    mvpn_list queue, lingering, free;
    struct mvpn_dht_slab *slabs;
    size_t count, slab_count; /* in use; slabs */
} mvpn_dht_requests;

MVPN_WUR int mvpn_dht_requests_init(mvpn_dht_requests *r, mvpn_timers *timers, int timer_kind,
                                    mvpn_rng *rng);
void mvpn_dht_requests_done(mvpn_dht_requests *r);
size_t mvpn_dht_requests_memory(const mvpn_dht_requests *r);
/** A new request, queued, timer set; the caller fills the rest. NULL: too many, or no memory. */
mvpn_dht_pending *mvpn_dht_requests_add(mvpn_dht_requests *r, mvpn_time timeout, mvpn_time now);
mvpn_dht_pending *mvpn_dht_requests_find(const mvpn_dht_requests *r, uint64_t transaction);
/** The next to be sent, or NULL. */
mvpn_dht_pending *mvpn_dht_requests_pull(mvpn_dht_requests *r);
void mvpn_dht_requests_linger(mvpn_dht_requests *r, mvpn_dht_pending *p, mvpn_time now);
void mvpn_dht_requests_remove(mvpn_dht_requests *r, mvpn_dht_pending *p);
/** Give memory back if none are in use. */
void mvpn_dht_requests_trim(mvpn_dht_requests *r);

#endif
