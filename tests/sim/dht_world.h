/*
 * A deterministic simulator of the DHT alone: up to a hundred thousand nodes running the Kademlia
 * core (dht/dht.h) in one process and virtual time. What the exchange would do is modelled: address
 * tokens and padding, certificates, the size of every datagram (from the real encoders), loss and
 * delay. Records are short and cheap to judge; on the wire they count as descriptors.
 *
 *   honest node: mvpn_dht --pull_request--> packet [loss, delay] --> request_in or a foe's answer
 *                       <--reply_in-------- packet [loss, delay] <--
 *
 * Each slot holds one node at a time; a node that leaves makes room for a new one with another
 * identity and address. Everything follows from one seed.
 */
#ifndef MVPN_SIM_DHT_WORLD_H
#define MVPN_SIM_DHT_WORLD_H

#include "base/timer.h"
#include "crypto/hash.h"
#include "crypto/rng.h"
#include "dht/dht.h"

#define DHT_UNIX 1800000000ull /* Unix time at the world's beginning */
#define DHT_RECORD_LEN 32
/* What a descriptor with certificates, onion keys and an exit policy takes. */
#define DHT_RECORD_WIRE_LEN 500
/* A lookup counts if its record was published that long ago. */
#define DHT_PUBLISHED_AGO MVPN_S(60)

typedef struct dht_world dht_world;
typedef struct dht_node dht_node;

/** What a node does that wants to harm: all of them answer pings, know one another, and push
 * themselves upon honest nodes. */
enum dht_mind {
    DHT_HONEST,
    DHT_FOE_CROWD,  /* names its like; has no record */
    DHT_FOE_FAKE,   /* names contacts that do not exist, nearer than any that do; no record */
    DHT_FOE_OLD,    /* gives the record before the newest */
    DHT_FOE_FORGER, /* gives forged records with high sequences, and other keys' records */
    DHT_FOE_SILENT, /* answers pings only */
    DHT_FOE_EMPTY,  /* knows nobody and nothing */
    DHT_MINDS,
};

typedef struct dht_world_config {
    uint64_t seed;
    size_t nodes;       /* honest ones and foes at random among them */
    double session_min; /* median, exponential; 0: nobody leaves */
    double clean;       /* share of those leaving that withdraw their record first */
    double loss;        /* of datagrams, 0..1 */
    double hostile;     /* share of foes at random, 0..1 */
    double v6;          /* share of nodes at IPv6 addresses, 0..1 */
    mvpn_time rtt;      /* mean; pairs of nodes lie between half and one and a half of it */
    double lagging;     /* share of nodes far from everybody, 0..1 */
    mvpn_time lag;      /* that much more each way */
    mvpn_time resign;   /* new sequence of each record; 0: never */
    mvpn_time warm;     /* between the last join and the end of dht_world_start */
    bool is_closed;     /* foes have no certificates */
    /* The core's judge of records: then nobody publishes. NULL: the world's own, of the records of
     * dht_world_record. */
    mvpn_dht_verify_fn *verify;
    void *verify_ctx;
} dht_world_config;

/** A first request to somebody is padded; the token of its reply serves for 5 min. */
typedef struct dht_token {
    uint32_t serial;
    uint32_t until_s;
} dht_token;

typedef struct dht_lookup dht_lookup;

struct dht_node {
    mvpn_timer timer; /* of the core, or a foe's next push */
    mvpn_timer life;
    mvpn_timer resign;
    dht_world *world;
    mvpn_dht *dht; /* NULL: a foe, or not there yet */
    uint32_t slot;
    uint32_t serial; /* no two nodes ever have the same */
    enum dht_mind mind;
    mvpn_time lag;
    bool is_immortal, is_leaving, has_joined;
    uint8_t side; /* of a partition */
    mvpn_dht_contact self;
    mvpn_ed25519_pub identity;
    mvpn_dht_id key; /* of its record */
    mvpn_time born;
    uint64_t sequence;
    mvpn_time published, published_before; /* this sequence; the one before; 0: not yet */
    dht_token *tokens;
    size_t token_mask;
    dht_lookup *lookups;
    uint64_t sent_bytes;
};

/** What was seen since dht_world_reset. */
typedef struct dht_stats {
    mvpn_time since;
    uint64_t lookups, succeeded, stale, missing, wrong, gone; /* gone: the asker left meanwhile */
    uint32_t *took_us;                                        /* of those that succeeded */
    uint8_t *hops;
    size_t hops_size;
    uint64_t bytes, datagrams, lost; /* honest nodes' own; IP and UDP headers count */
    uint64_t bytes_of[32];           /* by command */
    uint64_t lookup_bytes;           /* of them for FindValue and the answers to it */
    uint64_t joins, leaves;
    uint64_t events;
} dht_stats;

/** One result of dht_world_ask; the event is the core's. */
typedef void dht_asked_fn(dht_world *w, dht_node *asker, const mvpn_dht_event *event);

struct dht_world {
    dht_world_config config;
    mvpn_time now;
    mvpn_rng rng;
    uint64_t random; /* state of the world's own fast generator */
    mvpn_siphash_key key;
    mvpn_timers timers;
    dht_node *node;
    size_t slots;   /* room */
    size_t alive;   /* slots in use: the first ones */
    size_t entries; /* nodes that others begin with: the first slots; they stay */
    uint32_t serials;
    size_t nodes_target;
    mvpn_timer join, ask;
    size_t asks_left;
    mvpn_time ask_every;
    bool is_churning, is_split;

    uint32_t *foe; /* slots, by node id */
    size_t foe_count;

    size_t packets; /* under way */
    dht_stats stats;
    dht_asked_fn *on_event; /* events of all honest cores, if not NULL */
    mvpn_dht_outgoing out;
    mvpn_dht_event event;
    mvpn_dht_reply reply;
    mvpn_dht_request request;
};

/** What the command line prints. */
typedef struct dht_figures {
    double success; /* share of lookups that brought the newest record */
    unsigned hops_median;
    double hops_mean;
    double latency_ms_p50, latency_ms_p95;
    double bytes_per_node_s;
    double upkeep_per_node_s; /* without lookups */
    double bytes_per_lookup;
    double memory_per_node; /* of the core, bytes */
    double contacts_per_node;
} dht_figures;

/** Defaults: 1,000 nodes, 60 min, no loss, 50 ms, IPv4 with a tenth of IPv6. */
void dht_world_defaults(dht_world_config *config);
/** A world with its entry nodes; aborts without memory. `foes` is room for foes beside the nodes.
 */
dht_world *dht_world_new(const dht_world_config *config, size_t foes);
void dht_world_free(dht_world *w);
/** Let all nodes join, publish, and be for `warm`. */
void dht_world_start(dht_world *w);

void dht_world_run(dht_world *w, mvpn_time until);
void dht_world_for(dht_world *w, mvpn_time span);
/** Forget what was seen. */
void dht_world_reset(dht_world *w);
/** Lookups of random records by random nodes, spread over the span, and some time to end. */
void dht_world_lookups(dht_world *w, size_t lookups, mvpn_time span);
/** Figures since the reset. */
void dht_world_figures(dht_world *w, dht_figures *ret);

/** Look a node's record up; the result goes into the stats. False if the core refuses. */
bool dht_world_lookup(dht_world *w, dht_node *asker, const dht_node *owner);
/** An honest node that has joined, at random; an owner if its record has been published a while. */
dht_node *dht_world_pick(dht_world *w, bool is_owner);
/** After a call into the node's core: send what it wants sent, take its events. */
void dht_world_touch(dht_node *n);
/** Sign a record with the next sequence and publish it. */
void dht_world_publish(dht_node *n);
/** Make the node in this slot leave, and another one join in its place. */
void dht_world_replace(dht_world *w, size_t slot);
/** Nodes of different sides do not hear one another. */
void dht_world_split(dht_world *w, bool is_split);

/** Write a record of the world's own kind. */
void dht_world_record(const dht_world *w, uint32_t serial, uint64_t sequence, uint64_t expires,
                      uint8_t out[static DHT_RECORD_LEN]);
/** The node of a contact, or NULL if it is not there any more or never was. */
dht_node *dht_world_node_of(dht_world *w, const mvpn_dht_contact *contact);
/** Send a request that no core made; the reply is dropped. The record may be of the caller's. */
void dht_world_send(dht_node *from, const mvpn_dht_contact *to, const mvpn_dht_request *request,
                    bool has_claim);

/** The world's own generator: for choices that need be quick, not strong. */
uint64_t dht_random(dht_world *w);
/** Uniform in [0, 1). */
double dht_random_unit(dht_world *w);
void dht_random_address(dht_world *w, bool is_v6, mvpn_addr *ret);
/** < 0 if `a` is nearer to `target` than `b`. */
int dht_nearer(const mvpn_dht_id *target, const mvpn_dht_id *a, const mvpn_dht_id *b);
/** A node's contact at this address, with a link key that leads to its slot. */
void dht_world_place(dht_node *n, const mvpn_addr *addr, const mvpn_ed25519_pub *identity);

#endif
