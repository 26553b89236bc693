/*
 * One iterative lookup: the shortlist of contacts and the disjoint paths over it, without any
 * sending. (docs/protocol.md §11.5)
 *
 * A path asks only contacts that its own answers named, and no contact is asked by two paths: so
 * one hostile answer misleads one path. A path ends when the K closest it knows have answered or
 * failed.
 */
#ifndef MVPN_DHT_LOOKUP_H
#define MVPN_DHT_LOOKUP_H

#include "dht/contact.h"

#define MVPN_DHT_ALPHA 3
#define MVPN_DHT_PATHS 4
#define MVPN_DHT_PATHS_MAX 8 /* when the first four disagree */
/* Contacts remembered: the K closest of each of 8 paths would be 160. */
#define MVPN_DHT_SHORTLIST_MAX 192
/* Requests of one path: the K closest, and what may fail or be made up on the way to them. */
#define MVPN_DHT_PATH_ASKS_MAX 48
/* A value is safe when this many, the closest, have answered and so many of them hold the newest
 * one. With half of all servers hostile and in league, 1 in 256 lookups meets hostile ones alone;
 * if one honest holder is among them, its newer record is seen, and the lookup goes on. */
#define MVPN_DHT_SURE 8
#define MVPN_DHT_SURE_HOLDERS 3
/* So many contacts of one answer did not answer, and fewer than a third did: the rest of it is
 * passed over. Names are free to make up; answers need addresses. */
#define MVPN_DHT_DOUBT 3

enum mvpn_dht_candidate_state {
    MVPN_DHT_CANDIDATE_NONE,
    MVPN_DHT_CANDIDATE_NEW,
    MVPN_DHT_CANDIDATE_ASKED,
    MVPN_DHT_CANDIDATE_SLOW, /* overdue; asked again */
    MVPN_DHT_CANDIDATE_ANSWERED,
    MVPN_DHT_CANDIDATE_FAILED,
};

#define MVPN_DHT_NOBODY 255

typedef struct mvpn_dht_candidate {
    mvpn_dht_contact contact;
    uint64_t block, wide;
    uint64_t sequence; /* of the value that it holds */
    uint8_t state;
    uint8_t known;                 /* paths that were told of it, one bit each */
    uint8_t path;                  /* that asks it */
    uint8_t depth;                 /* answers that led here */
    uint8_t namer;                 /* place of the candidate that named it, or NOBODY */
    uint8_t named_good, named_bad; /* of those that it named, asked so far */
    bool has_value;
} mvpn_dht_candidate;

typedef struct mvpn_dht_shortlist {
    mvpn_dht_id target;
    bool wants_value;
    bool is_relaxed; /* quotas count single addresses */
    uint8_t paths;
    uint8_t asks_max; /* of one path */
    uint8_t in_flight[MVPN_DHT_PATHS_MAX];
    uint8_t asks[MVPN_DHT_PATHS_MAX];
    uint8_t scout[MVPN_DHT_PATHS_MAX]; /* place of who is asked first, or NOBODY */
    uint8_t dealt;                     /* next path to be dealt a contact */
    uint8_t count;
    uint8_t order[MVPN_DHT_SHORTLIST_MAX]; /* places in `candidates`, nearest first */
    mvpn_dht_candidate candidates[MVPN_DHT_SHORTLIST_MAX];
} mvpn_dht_shortlist;

void mvpn_dht_shortlist_init(mvpn_dht_shortlist *l, const mvpn_dht_id *target, bool wants_value,
                             unsigned paths);
/** A contact to begin with, nearest first; dealt to the paths in turn. */
void mvpn_dht_shortlist_deal(mvpn_dht_shortlist *l, const mvpn_dht_contact *c);
/**
 * Give a path a contact that it asks first, wherever that lies: so that it does not depend on the
 * one bucket that all paths begin from, which may have been filled by one hand.
 */
void mvpn_dht_shortlist_scout(mvpn_dht_shortlist *l, unsigned path, const mvpn_dht_contact *c);
/** The next contact to ask, or NULL: all that can be asked now are. It counts as asked. */
mvpn_dht_candidate *mvpn_dht_shortlist_next(mvpn_dht_shortlist *l);
/** It could not be asked after all. */
void mvpn_dht_shortlist_unask(mvpn_dht_shortlist *l, mvpn_dht_candidate *c);
void mvpn_dht_shortlist_slow(mvpn_dht_shortlist *l, mvpn_dht_candidate *c);
void mvpn_dht_shortlist_failed(mvpn_dht_shortlist *l, mvpn_dht_candidate *c);
/** It answered without a value. */
void mvpn_dht_shortlist_answered(mvpn_dht_shortlist *l, mvpn_dht_candidate *c);
/** Its answer named another one. */
void mvpn_dht_shortlist_named(mvpn_dht_shortlist *l, const mvpn_dht_candidate *by,
                              const mvpn_dht_contact *c);
/** It answered with a value that verifies. */
void mvpn_dht_shortlist_has_value(mvpn_dht_shortlist *l, mvpn_dht_candidate *c, uint64_t sequence);

/** All paths have ended, or the value is safe. */
bool mvpn_dht_shortlist_is_done(const mvpn_dht_shortlist *l);
/** All paths have ended and what they found differs: the lookup should go on with 8. */
bool mvpn_dht_shortlist_disagrees(const mvpn_dht_shortlist *l);
/** Open the other four paths, and deal them the contacts not asked yet. */
void mvpn_dht_shortlist_widen(mvpn_dht_shortlist *l);
/** Up to K closest that answered, nearest first, within the quotas. */
size_t mvpn_dht_shortlist_closest(const mvpn_dht_shortlist *l,
                                  const mvpn_dht_candidate *ret[static MVPN_DHT_K]);

#endif
