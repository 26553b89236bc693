/*
 * Rates per address block: how often one may ask, how often one is asked for proof.
 * (docs/protocol.md §11.2, §11.4) A block at rest needs no entry, so memory is held for the busy
 * ones alone.
 */
#ifndef MVPN_DHT_LIMITS_H
#define MVPN_DHT_LIMITS_H

#include "base/time.h"
#include "dht/contact.h"

typedef struct mvpn_dht_limits {
    uint64_t secret;   /* remotes choose the blocks */
    mvpn_time cost;    /* time that one event takes of its block */
    mvpn_time burst;   /* how far a block may run ahead */
    size_t blocks_max; /* a power of two, >= 16 */
    bool refuse_new;   /* when full: refuse new blocks; else the least busy is forgotten */
    struct mvpn_dht_limit *entries;
    size_t size;
} mvpn_dht_limits;

void mvpn_dht_limits_init(mvpn_dht_limits *l, mvpn_rng *rng, mvpn_time cost, mvpn_time burst,
                          size_t blocks_max, bool refuse_new);
void mvpn_dht_limits_done(mvpn_dht_limits *l);
/** One event of this block: false if it is one too many. */
bool mvpn_dht_limits_take(mvpn_dht_limits *l, uint64_t block, mvpn_time now);
/** Give memory back if all blocks are at rest. */
void mvpn_dht_limits_trim(mvpn_dht_limits *l, mvpn_time now);
size_t mvpn_dht_limits_memory(const mvpn_dht_limits *l);

/** The block that asks are counted by: /24, IPv6 /48. */
uint64_t mvpn_dht_source_block(const mvpn_addr *addr);

#endif
