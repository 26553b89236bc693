/*
 * The Kademlia core: routing table, iterative lookups, storage of signed records, walks through the
 * key space. Sans-IO, and without cryptography of its own: requests and replies come and go as
 * decoded messages with what the exchange (exchange.h) has proven about their senders; so a
 * simulation of a hundred thousand nodes runs the same code. (docs/protocol.md §11)
 *
 *   exchange -> request_in -> reply            (somebody asks us)
 *   pull_request -> exchange -> reply_in       (we ask; time-outs are the core's)
 *   find_node / lookup / store / publish -> ... -> pull_event
 *
 * Called by src/core/engine.c and by tests/sim.
 */
#ifndef MVPN_DHT_DHT_H
#define MVPN_DHT_DHT_H

#include "base/error.h"
#include "base/time.h"
#include "crypto/rng.h"
#include "wire/dht.h"
#include "wire/record.h"

typedef struct mvpn_dht mvpn_dht;

/** Judges a record: mvpn_record_verify, or a cheap one of a simulation. Same results. */
typedef int mvpn_dht_verify_fn(void *ctx, unsigned type, mvpn_bytes record, uint64_t unix_now,
                               mvpn_record_info *ret);

typedef struct mvpn_dht_config {
    mvpn_rng *rng;              /* borrowed */
    mvpn_dht_verify_fn *verify; /* must be given */
    void *verify_ctx;
    int64_t unix_offset_us; /* Unix time = now + offset */
    bool allow_private;     /* contacts at private addresses count too */
    /* The network permits that its servers share blocks (few rented machines of one provider, each
     * certified): the quotas count single addresses instead. */
    bool relax_blocks;
    /* A server answers, is found, stores. Else: a node that only asks. */
    bool is_server;
    mvpn_dht_contact self;
    bool reports_kept;    /* KEPT events: what is stored here goes to a view */
    bool is_walker;       /* walk the key space in the background: LISTED events */
    uint8_t family;       /* address family that we can reach: 4, 6, or 0 for both */
    size_t records_max;   /* 0 = 16,384 */
    size_t records_bytes; /* 0 = 8 MiB */
} mvpn_dht_config;

MVPN_WUR int mvpn_dht_new(const mvpn_dht_config *config, mvpn_time now, mvpn_dht **ret);
void mvpn_dht_free(mvpn_dht *dht);
void mvpn_dht_set_unix_offset(mvpn_dht *dht, int64_t unix_offset_us);
/** Our address, and with it our node id, changed: the routing table is kept, its buckets are dealt
 * anew. */
MVPN_WUR int mvpn_dht_set_self(mvpn_dht *dht, const mvpn_dht_contact *self, mvpn_time now);

/** Somebody to begin with, or known from elsewhere: becomes a contact once it has proven itself. */
void mvpn_dht_add_contact(mvpn_dht *dht, const mvpn_dht_contact *contact, mvpn_time now);
/** An identity was revoked or proved false: no contact any more. */
void mvpn_dht_forget(mvpn_dht *dht, const mvpn_dht_id *id);
/** Judge all stored records again: after new revocations. */
void mvpn_dht_recheck(mvpn_dht *dht, mvpn_time now);

/* ---- operations; each ends with one event that carries its number ---- */

/* Operations under way; more are refused with MVPN_E_LIMIT. */
#define MVPN_DHT_OPS_MAX 64

/** The K closest nodes to a place. -> NODES */
MVPN_WUR int mvpn_dht_find_node(mvpn_dht *dht, const mvpn_dht_id *target, mvpn_time now,
                                uint32_t *ret_op);
/** The newest record under a key; what we store ourselves counts too. -> VALUE or NOT_FOUND */
MVPN_WUR int mvpn_dht_lookup(mvpn_dht *dht, const mvpn_dht_id *key, mvpn_time now,
                             uint32_t *ret_op);
/** Store a record once at the K closest nodes to its key. -> STORED */
MVPN_WUR int mvpn_dht_store(mvpn_dht *dht, unsigned type, mvpn_bytes record, mvpn_time now,
                            uint32_t *ret_op);
/** Ask one node for one record (after LISTED). -> VALUE or NOT_FOUND */
MVPN_WUR int mvpn_dht_fetch(mvpn_dht *dht, const mvpn_dht_contact *from, const mvpn_dht_id *key,
                            mvpn_time now, uint32_t *ret_op);
/**
 * Keep a record of our own stored: now, every 20 min, and when the closest nodes change. A record
 * published before under the same key is replaced. At most 4 keys. -> STORED each time (op 0)
 */
MVPN_WUR int mvpn_dht_publish(mvpn_dht *dht, unsigned type, mvpn_bytes record, mvpn_time now);

enum mvpn_dht_event_type {
    MVPN_DHT_EVENT_JOINED, /* the first contact has proven itself and the own id was looked up */
    MVPN_DHT_EVENT_NODES,
    MVPN_DHT_EVENT_VALUE,
    MVPN_DHT_EVENT_NOT_FOUND,
    MVPN_DHT_EVENT_STORED,
    MVPN_DHT_EVENT_KEPT,      /* with reports_kept: a record was newly stored here */
    MVPN_DHT_EVENT_LISTED,    /* the walk: `from` holds a record under `key` with this sequence */
    MVPN_DHT_EVENT_WALK_DONE, /* the walk came round: `count` prefixes, the estimate in `nodes` */
};

typedef struct mvpn_dht_event {
    enum mvpn_dht_event_type type;
    uint32_t op;
    mvpn_time took; /* since the operation began */
    unsigned hops;  /* lookups: rounds of answers until the result was known */
    size_t count;   /* NODES: contacts; STORED: nodes that keep it; WALK_DONE */
    mvpn_dht_contact contacts[MVPN_DHT_K]; /* NODES, closest first */
    mvpn_dht_contact from;                 /* VALUE (family 0: ourselves), LISTED */
    mvpn_dht_id key;                       /* VALUE, NOT_FOUND, STORED, LISTED */
    uint64_t sequence;                     /* VALUE, LISTED */
    uint8_t record_type;                   /* VALUE */
    uint16_t record_len;                   /* VALUE */
    uint8_t record[MVPN_DHT_RECORD_MAX];   /* VALUE: verified */
    uint64_t nodes;                        /* WALK_DONE: estimated servers of the network */
} mvpn_dht_event;

bool mvpn_dht_pull_event(mvpn_dht *dht, mvpn_dht_event *ret);

/* ---- messages ---- */

/** What is known of who asks. */
typedef struct mvpn_dht_asker {
    mvpn_addr addr;
    bool is_proven; /* showed a valid address token */
    bool has_claim; /* says it is a server: */
    mvpn_dht_contact claim;
} mvpn_dht_asker;

/**
 * Answer a request. `ret->record` borrows from the store until the next call. Rate limits per
 * source block are kept here: MVPN_E_LIMIT means no answer at all.
 */
MVPN_WUR int mvpn_dht_request_in(mvpn_dht *dht, const mvpn_dht_asker *asker,
                                 const mvpn_dht_request *request, mvpn_time now,
                                 mvpn_dht_reply *ret);

/** A request to be sent. */
typedef struct mvpn_dht_outgoing {
    uint64_t transaction; /* random; the reply is given back with it */
    mvpn_dht_contact to;
    bool wants_certificate; /* it has not proven itself yet */
    bool has_claim;         /* say that we are a server */
    uint16_t reply_room;    /* of the reply's body: pad for no more than this (<= BODY_MAX) */
    mvpn_dht_request request;
    uint8_t record[MVPN_DHT_RECORD_MAX]; /* what request.record points to */
} mvpn_dht_outgoing;

bool mvpn_dht_pull_request(mvpn_dht *dht, mvpn_dht_outgoing *ret);

/**
 * The reply to our request; it came from the link key of the contact asked. `is_certified`: it
 * brought the certificate that was wanted, and that vouches for the contact's node id as a DHT
 * server. A reply that comes after its time-out is still welcome for 4 s.
 */
void mvpn_dht_reply_in(mvpn_dht *dht, uint64_t transaction, const mvpn_dht_reply *reply,
                       bool is_certified, mvpn_time now);
/** The contact proved to be somebody else than it said, or nothing can be sent to it. */
void mvpn_dht_reply_failed(mvpn_dht *dht, uint64_t transaction, mvpn_time now);

void mvpn_dht_tick(mvpn_dht *dht, mvpn_time now);
mvpn_time mvpn_dht_deadline(const mvpn_dht *dht);

/* ---- questions ---- */

/** A record that we store ourselves, borrowed until the next call; false if there is none. */
bool mvpn_dht_stored(const mvpn_dht *dht, const mvpn_dht_id *key, uint8_t *ret_type,
                     mvpn_bytes *ret_record);
/** Up to `max` proven contacts, at random: to begin with after a restart. Returns how many. */
size_t mvpn_dht_sample_contacts(mvpn_dht *dht, mvpn_dht_contact *ret, size_t max);

typedef struct mvpn_dht_status {
    size_t contacts; /* proven, in the routing table */
    size_t buckets;  /* that hold any */
    size_t records;  /* stored */
    size_t record_bytes;
    uint64_t nodes; /* estimate of the network's servers, from the density around us */
    uint64_t requests_in, requests_refused, requests_out, replies_in, timeouts;
    uint64_t lookups, lookups_failed, stores_in, stores_refused, evicted;
    size_t memory; /* bytes held */
} mvpn_dht_status;
void mvpn_dht_get_status(const mvpn_dht *dht, mvpn_dht_status *ret);

#endif
