/*
 * How a client learns the network: entries are asked who they are, vouched ones are asked over a
 * link for what they know; once circuits stand, their hops are asked instead, and nobody else ever.
 * Fills the view. Sans-IO; owned by the engine. (docs/protocol.md §12, §13)
 *
 *   entry:    NEW -> ASKING (who are you?) -> VOUCHED -> LINKING -> SWEEPING -> DONE | FAILED
 * (back-off, again) sweep:    LIST (four parts of the key space at once) -> FETCH what is new ->
 * BLOB (snapshot)
 */
#ifndef MVPN_CORE_LEARNER_H
#define MVPN_CORE_LEARNER_H

#include "core/circuit.h"
#include "core/view.h"
#include "dht/exchange.h"
#include "network/p2p/link.h"

/* Entries kept; of more, the oldest that failed gives way. */
#define MVPN_LEARNER_ENTRIES_MAX 64

typedef struct mvpn_learner mvpn_learner;

typedef struct mvpn_learner_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_packet_pool *pool;
    mvpn_links *links;
    mvpn_view *view;
    mvpn_dht_exchange *exchange;
    uint8_t family;     /* address family that we can reach: 4, 6, or 0 for any */
    bool allow_private; /* entries at private addresses count */
    int64_t unix_offset_us;
} mvpn_learner_config;

MVPN_WUR int mvpn_learner_new(const mvpn_learner_config *config, mvpn_time now, mvpn_learner **ret);
void mvpn_learner_free(mvpn_learner *learner, mvpn_time now);
void mvpn_learner_set_unix_offset(mvpn_learner *learner, int64_t unix_offset_us);

/**
 * Somebody who might be a bootstrap node, from whatever source. `is_pinned`: the user's network
 * file says so; others must be vouched for by the network key or be an anchor.
 */
void mvpn_learner_add_entry(mvpn_learner *learner, const mvpn_dht_contact *contact, bool is_pinned,
                            mvpn_time now);

/** The view was filled from elsewhere (cache, bundle, network file): paths may be drawn. */
void mvpn_learner_set_ready(mvpn_learner *learner);
/** Something complete is known, so that paths may be drawn: before, too little would decide. */
bool mvpn_learner_is_ready(const mvpn_learner *learner);
/** Entries are needed: none is known or all have failed. (Other sources may be asked.) */
bool mvpn_learner_wants_entries(const mvpn_learner *learner, mvpn_time now);
/** No path can be drawn from what is known: entries are asked again soon. */
void mvpn_learner_need_more(mvpn_learner *learner, mvpn_time now);
/** The client has a session, or lost it. While it has one, no entry is spoken to. */
void mvpn_learner_set_connected(mvpn_learner *learner, bool is_connected, mvpn_time now);

/**
 * An entry that is vouched for told its time: `*ret_unix_offset_us` is what would have to be added
 * to `now` for our clock to equal its. False: nothing new.
 */
bool mvpn_learner_take_time(mvpn_learner *learner, mvpn_ed25519_pub *ret_peer,
                            int64_t *ret_unix_offset_us);

/* Links to entries. */
/** A DHT reply on a link (packet taken). */
void mvpn_learner_message(mvpn_learner *learner, mvpn_link *link, const mvpn_header *header,
                          mvpn_packet *packet, mvpn_time now);
void mvpn_learner_link_opened(mvpn_learner *learner, mvpn_link *link, mvpn_time now);
void mvpn_learner_link_closed(mvpn_learner *learner, mvpn_link *link, mvpn_time now);

/* Circuits. */
/** A circuit that stands; a sweep over one of its hops begins if one is due. */
void mvpn_learner_offer_circuit(mvpn_learner *learner, mvpn_circuit *circuit, mvpn_time now);
void mvpn_learner_circuit_closed(mvpn_learner *learner, const mvpn_circuit *circuit);
/** An answer of a hop (packet taken). */
void mvpn_learner_answer(mvpn_learner *learner, mvpn_circuit *circuit, unsigned hop,
                         uint32_t request_id, unsigned command, mvpn_packet *packet, mvpn_time now);

void mvpn_learner_tick(mvpn_learner *learner, mvpn_time now);
mvpn_time mvpn_learner_deadline(const mvpn_learner *learner);

enum mvpn_learner_event_type {
    MVPN_LEARNER_ENTRY_FAILED, /* `error`: MVPN_E_TIMEOUT, or why it is not vouched for */
    MVPN_LEARNER_ENTRY_WORKED, /* `contact` is one to keep */
    MVPN_LEARNER_SWEPT,        /* `records` are new */
};

typedef struct mvpn_learner_event {
    enum mvpn_learner_event_type type;
    int error;
    mvpn_dht_contact contact;
    size_t records;
    bool over_circuit;
} mvpn_learner_event;

bool mvpn_learner_pull_event(mvpn_learner *learner, mvpn_learner_event *ret);

typedef struct mvpn_learner_status {
    size_t entries, entries_failed;
    uint64_t sweeps, sweeps_failed, records_new;
    mvpn_time last_sweep; /* 0: none yet */
} mvpn_learner_status;
void mvpn_learner_get_status(const mvpn_learner *learner, mvpn_learner_status *ret);

#endif
