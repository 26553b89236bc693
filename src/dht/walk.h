/*
 * The memory and the pace of a walk through the key space: prefixes of so many bits that about 8
 * servers share each, and who was met there. Any of those servers holds all records under the
 * prefix. (docs/protocol.md §12)
 */
#ifndef MVPN_DHT_WALK_H
#define MVPN_DHT_WALK_H

#include "base/time.h"
#include "dht/contact.h"

/* Two contacts per prefix, asked in turn: what one withholds the other lists in the next pass. */
#define MVPN_DHT_WALK_CONTACTS 2
/* 16,384 prefixes: a network of 130,000 servers; 2.4 MB. Beyond, prefixes get longer lists. */
#define MVPN_DHT_WALK_BITS_MAX 14
#define MVPN_DHT_WALK_STEP MVPN_MS(3750)       /* 128 prefixes (1,000 servers) in 8 min */
#define MVPN_DHT_WALK_PASS_MIN MVPN_S(30)      /* small networks */
#define MVPN_DHT_WALK_FIRST_STEP MVPN_MS(2800) /* the first pass is quicker */
/* Pages of one prefix: 64 x 41 keys; honest servers have about 8 there. */
#define MVPN_DHT_WALK_PAGES_MAX 64

typedef struct mvpn_dht_walk {
    unsigned bits;
    uint32_t at;   /* prefixes done in this pass */
    uint32_t mask; /* the pass' order: prefix = at ^ mask */
    uint64_t pass; /* passes completed */
    mvpn_time interval;
    mvpn_dht_contact (*known)[MVPN_DHT_WALK_CONTACTS]; /* by prefix; family 0: none */
    /* The step under way. */
    bool is_busy, is_paused; /* paused: between two pages */
    unsigned tries, pages;
    mvpn_dht_id cursor;
    mvpn_time step_began;
} mvpn_dht_walk;

void mvpn_dht_walk_done(mvpn_dht_walk *w);
size_t mvpn_dht_walk_memory(const mvpn_dht_walk *w);
/** Begin a pass through a network of about `nodes` servers; what is remembered is kept.
 * MVPN_E_NOMEM. */
MVPN_WUR int mvpn_dht_walk_begin(mvpn_dht_walk *w, uint64_t nodes, mvpn_rng *rng);
static inline bool mvpn_dht_walk_is_round(const mvpn_dht_walk *w)
{
    return w->at >> w->bits != 0;
}
/** First key of the prefix that is due. */
void mvpn_dht_walk_prefix(const mvpn_dht_walk *w, mvpn_dht_id *ret);
bool mvpn_dht_walk_has_prefix(const mvpn_dht_walk *w, const mvpn_dht_id *id);
/** Remember a contact, if its prefix has a place left. */
void mvpn_dht_walk_learn(mvpn_dht_walk *w, const mvpn_dht_contact *c);
/** A contact of the prefix that is due; false: none is known. */
bool mvpn_dht_walk_choose(const mvpn_dht_walk *w, mvpn_dht_contact *ret);
void mvpn_dht_walk_forget(mvpn_dht_walk *w, const mvpn_dht_id *id);

#endif
