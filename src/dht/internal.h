/*
 * What the files of the Kademlia core share: the node itself, and how its parts call each other.
 *
 *   dht.c        the API; requests and replies in and out; time
 *   operation.c  lookups, stores, fetches, handing records over
 *   maintain.c   what happens by itself: checks, proofs, refresh, republish, expiry
 *   walker.c     the walk through the key space
 *   event.c      events to the owner
 */
#ifndef MVPN_DHT_INTERNAL_H
#define MVPN_DHT_INTERNAL_H

#include "base/bucket.h"
#include "base/list.h"
#include "base/timer.h"
#include "dht/dht.h"
#include "dht/limits.h"
#include "dht/lookup.h"
#include "dht/publish.h"
#include "dht/requests.h"
#include "dht/routing.h"
#include "dht/storage.h"
#include "dht/walk.h"

/* Time-outs by contact: RTT and its deviation, within these. */
#define MVPN_DHT_TIMEOUT_MIN MVPN_MS(250)
#define MVPN_DHT_TIMEOUT_MAX MVPN_MS(1500)
#define MVPN_DHT_TIMEOUT_FIRST MVPN_MS(1000) /* nothing measured yet */
#define MVPN_DHT_TRIES 2

/* Contacts to begin with that are remembered. */
#define MVPN_DHT_SEEDS_MAX 16
/* Proofs asked for at once, and blocks remembered that were asked within the last minute. */
#define MVPN_DHT_PROOFS_MAX 24
#define MVPN_DHT_PROOF_BLOCKS_MAX 256
#define MVPN_DHT_PROOF_EVERY MVPN_S(60)

/* Operations of our own making (refresh, republish, handing over), beside the owner's. */
#define MVPN_DHT_INNER_OPS_MAX 24

/* Events not pulled. The walk stops at the first number and goes on when they are pulled;
 * operations are refused when theirs and their unpulled events reach MVPN_DHT_OPS_MAX; at the last
 * number, which only events without an operation reach, the new ones of those are dropped. */
#define MVPN_DHT_EVENTS_WALK 32
#define MVPN_DHT_EVENTS_MAX 160

enum mvpn_dht_timer_kind {
    MVPN_DHT_TIMER_REQUEST,
    MVPN_DHT_TIMER_MAINTAIN,
    MVPN_DHT_TIMER_WALK,
};

enum mvpn_dht_op_type {
    MVPN_DHT_OP_NODES,
    MVPN_DHT_OP_VALUE,
    MVPN_DHT_OP_STORE,
    MVPN_DHT_OP_FETCH,
    MVPN_DHT_OP_PUBLISH,   /* a record of our own */
    MVPN_DHT_OP_REPUBLISH, /* one that we hold */
    MVPN_DHT_OP_JOIN,      /* look up the own id */
    MVPN_DHT_OP_REFRESH,   /* a glance into one bucket */
    MVPN_DHT_OP_HANDOVER,  /* records to a node that is newly close to them */
};

enum mvpn_dht_target_state {
    MVPN_DHT_TARGET_WAITING,
    MVPN_DHT_TARGET_ASKED,
    MVPN_DHT_TARGET_KEEPS,
    MVPN_DHT_TARGET_FAILED,
};

/* Contacts proved false, or useless again and again: not taken for a while. */
#define MVPN_DHT_SHUNNED_MAX 64
#define MVPN_DHT_SHUNNED_FOR MVPN_S(3600)

typedef struct mvpn_dht_shunned {
    mvpn_dht_id id;
    mvpn_time until;
} mvpn_dht_shunned;

struct mvpn_dht_op {
    mvpn_list link;
    enum mvpn_dht_op_type type;
    uint32_t number; /* the owner's; 0: inner */
    mvpn_time began;
    mvpn_list requests; /* pending ones, lingering ones included */
    mvpn_dht_id target;
    mvpn_dht_shortlist *lookup; /* NULL: none, or over */
    /* VALUE, FETCH: the best so far. STORE, PUBLISH, REPUBLISH: what is stored. */
    mvpn_dht_contact from;
    uint64_t sequence;
    uint8_t record_type;
    uint16_t record_len;
    uint8_t *record; /* RECORD_MAX bytes, or NULL: none */
    unsigned hops;
    /* The second half of a STORE; HANDOVER has one target. */
    bool is_storing;
    bool kept_here;
    size_t target_count;
    mvpn_dht_contact targets[MVPN_DHT_K];
    uint8_t target_states[MVPN_DHT_K];
    /* HANDOVER */
    mvpn_dht_id *keys;
    size_t key_count, key_next, key_in_flight;
    unsigned failures;
};

struct mvpn_dht {
    mvpn_dht_config config;
    mvpn_time now; /* of the last call */
    mvpn_dht_routing routing;
    mvpn_dht_storage storage;
    mvpn_dht_limits sources; /* of requests to us */
    mvpn_dht_limits proofs;  /* proofs that we ask for */
    mvpn_bucket unproven;    /* requests without a token, from all */
    mvpn_timers timers;
    mvpn_dht_requests requests;
    mvpn_list ops;
    size_t op_count, inner_count;
    uint32_t op_number;
    mvpn_dht_shunned *shunned; /* SHUNNED_MAX, or NULL */
    size_t shunned_next;
    bool is_starved; /* an operation could not send for want of a request */
    mvpn_list events;
    size_t event_count, op_event_count;
    mvpn_dht_contact *seeds; /* SEEDS_MAX, or NULL */
    size_t seed_count, seed_next;
    mvpn_time seeds_due, seeds_wait;
    bool is_joined, is_joining;
    unsigned proofs_under_way;
    /* Measured over all contacts. */
    mvpn_time rtt, rtt_deviation; /* 0: nothing yet */
    mvpn_time last_reply;
    uint64_t spacing; /* mean distance between servers, first 64 bits; 0: nothing yet */
    uint8_t spacings; /* lookups in it */
    /* Maintenance. */
    mvpn_timer maintain;
    mvpn_time check_every;
    mvpn_time refresh_due, sweep_due;
    bool is_refreshing;
    mvpn_dht_publish_list publish;
    mvpn_dht_walk walk;
    mvpn_timer walk_timer;
    uint8_t *answer; /* Fetched; made when first needed */
    mvpn_dht_status counters;
};

static inline uint64_t mvpn_dht_unix(const mvpn_dht *dht, mvpn_time now)
{
    int64_t us = (int64_t)now + dht->config.unix_offset_us;
    return us > 0 ? (uint64_t)us / MVPN_US_PER_S : 0;
}

/* ---- dht.c ---- */

/** Queue a request. NULL: not now; `dht->is_starved` is set. The caller may set slot and key. */
mvpn_dht_pending *mvpn_dht_send(mvpn_dht *dht, enum mvpn_dht_purpose purpose,
                                const mvpn_dht_contact *to, mvpn_dht_op *op, mvpn_time now);
/** Verify a record and that it belongs under `key` (NULL: anywhere). MVPN_E_*. */
MVPN_WUR int mvpn_dht_judge(mvpn_dht *dht, unsigned type, mvpn_bytes record, const mvpn_dht_id *key,
                            mvpn_time now, mvpn_record_info *ret);
/** Keep a verified record here. */
enum mvpn_dht_stored mvpn_dht_keep(mvpn_dht *dht, unsigned type, const mvpn_record_info *info,
                                   mvpn_bytes record, mvpn_time now);

/* ---- event.c ---- */

bool mvpn_dht_events_have_room(const mvpn_dht *dht);
/** An event without contacts and record; those of an operation always find room. */
void mvpn_dht_event_push(mvpn_dht *dht, const mvpn_dht_event *event);
size_t mvpn_dht_events_memory(const mvpn_dht *dht);
void mvpn_dht_events_done(mvpn_dht *dht);

/* ---- operation.c ---- */

/** An operation without a lookup yet; counts against its limit. MVPN_E_LIMIT, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_dht_op_new(mvpn_dht *dht, enum mvpn_dht_op_type type, const mvpn_dht_id *target,
                             mvpn_time now, mvpn_dht_op **ret);
/** End it without an event. */
void mvpn_dht_op_free(mvpn_dht *dht, mvpn_dht_op *op);
/** Give it a lookup and begin. MVPN_E_NOMEM: the operation is gone. */
MVPN_WUR int mvpn_dht_op_begin(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now);
/** Give it a record of up to RECORD_MAX bytes. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_dht_op_set_record(mvpn_dht_op *op, unsigned type, mvpn_bytes record);
/** Store its record at its targets. */
void mvpn_dht_op_begin_storing(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now);
/** Send what can be sent; the operation may end and be gone. */
void mvpn_dht_op_step(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now);
void mvpn_dht_op_reply(mvpn_dht *dht, const mvpn_dht_pending *p, const mvpn_dht_reply *reply,
                       mvpn_time now);
void mvpn_dht_op_slow(mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_time now);
void mvpn_dht_op_failed(mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_time now);
/** Let all operations go on: there are requests again. */
void mvpn_dht_ops_resume(mvpn_dht *dht, mvpn_time now);

/* ---- maintain.c ---- */

void mvpn_dht_maintain(mvpn_dht *dht, mvpn_time now);
/** Ourselves, at any of our addresses? */
bool mvpn_dht_is_self(const mvpn_dht *dht, const mvpn_dht_contact *c);
/** Somebody was named, or claims to be a server: ask for its proof if there is a place for it.
 * Returns true if it is asked. */
bool mvpn_dht_consider(mvpn_dht *dht, const mvpn_dht_contact *c, bool is_claim, mvpn_time now);
/** Ask for its proof now, regardless of the limits per block. */
void mvpn_dht_ask_proof(mvpn_dht *dht, const mvpn_dht_contact *c, bool is_named, mvpn_time now);
/** The first few contacts of an answer that we have a place for: no answer shall fill a bucket. */
void mvpn_dht_consider_named(mvpn_dht *dht, const mvpn_dht_reply *reply, mvpn_time now);
/** A contact has proven itself; `is_named`: somebody else named it. */
void mvpn_dht_proven(mvpn_dht *dht, const mvpn_dht_contact *c, bool is_named, mvpn_time rtt,
                     mvpn_time now);
/** A lookup asked a contact: was it of use? Those that never are give way. */
void mvpn_dht_was_useful(mvpn_dht *dht, const mvpn_dht_id *id, bool is_useful, mvpn_time now);
/** A contact has not answered any try since `first_sent`. */
void mvpn_dht_silent(mvpn_dht *dht, const mvpn_dht_contact *c, bool is_check, mvpn_time first_sent,
                     mvpn_time now);
/** A check of a contact is over. */
void mvpn_dht_checked(mvpn_dht *dht, const mvpn_dht_contact *c, bool has_answered);
void mvpn_dht_start_join(mvpn_dht *dht, mvpn_time now);
/** The owner's records that are due. */
void mvpn_dht_publish_due(mvpn_dht *dht, mvpn_time now);
/** The nodes found around a place tell how densely the key space is populated. */
void mvpn_dht_measure(mvpn_dht *dht, const mvpn_dht_id *target, const mvpn_dht_id *farthest,
                      size_t count);
uint64_t mvpn_dht_nodes(const mvpn_dht *dht);
/** When a holder stores a record again, if nobody else has. */
mvpn_time mvpn_dht_republish_time(mvpn_dht *dht, mvpn_time now);

/* ---- walker.c ---- */

void mvpn_dht_walk_tick(mvpn_dht *dht, mvpn_time now);
void mvpn_dht_walk_reply(mvpn_dht *dht, const mvpn_dht_pending *p, const mvpn_dht_reply *reply,
                         mvpn_time now);
void mvpn_dht_walk_failed(mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_time now);

#endif
