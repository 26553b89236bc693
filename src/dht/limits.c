#include "dht/limits.h"

#include <stdlib.h>

#include "base/assert.h"

/* Sets of WAYS entries; a block has its place in one set. */
#define WAYS 4
#define SIZE_MIN 16

struct mvpn_dht_limit {
    uint64_t block;
    mvpn_time busy_until; /* what it has taken is paid by then; past: at rest, the entry is free */
};

void mvpn_dht_limits_init(mvpn_dht_limits *l, mvpn_rng *rng, mvpn_time cost, mvpn_time burst,
                          size_t blocks_max, bool refuse_new)
{
    MVPN_ASSERT(blocks_max >= SIZE_MIN && (blocks_max & (blocks_max - 1)) == 0);
    *l = (mvpn_dht_limits){.secret = mvpn_rng_u64(rng) | 1,
                           .cost = cost,
                           .burst = burst,
                           .blocks_max = blocks_max,
                           .refuse_new = refuse_new};
}

void mvpn_dht_limits_done(mvpn_dht_limits *l)
{
    free(l->entries);
    l->entries = NULL;
    l->size = 0;
}

static struct mvpn_dht_limit *set_of(struct mvpn_dht_limit *entries, size_t size, uint64_t secret,
                                     uint64_t block)
{
    uint64_t h = (block ^ secret >> 7) * secret;
    h = (h ^ h >> 29) * (secret << 1 | 1);
    return &entries[(h >> 32) % (size / WAYS) * WAYS];
}

/* Twice as large; entries whose set is full then are forgotten. */
static bool grow(mvpn_dht_limits *l, mvpn_time now)
{
    size_t size = l->size == 0 ? SIZE_MIN : l->size * 2;
    struct mvpn_dht_limit *entries = size <= l->blocks_max ? calloc(size, sizeof(*entries)) : NULL;
    if (entries == NULL) {
        return false;
    }
    for (size_t i = 0; i < l->size; i++) {
        struct mvpn_dht_limit *set = set_of(entries, size, l->secret, l->entries[i].block);
        for (size_t k = 0; k < WAYS && l->entries[i].busy_until > now; k++) {
            if (set[k].busy_until == 0) {
                set[k] = l->entries[i];
                break;
            }
        }
    }
    free(l->entries);
    l->entries = entries;
    l->size = size;
    return true;
}

/* The block's entry, or one that it may take; NULL: all of its set are busy. */
static struct mvpn_dht_limit *find(mvpn_dht_limits *l, uint64_t block, mvpn_time now)
{
    struct mvpn_dht_limit *set = set_of(l->entries, l->size, l->secret, block), *free_way = NULL;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].block == block && set[i].busy_until > now) {
            return &set[i];
        }
        if (set[i].busy_until <= now) {
            free_way = &set[i];
        }
    }
    return free_way;
}

static struct mvpn_dht_limit *least_busy(mvpn_dht_limits *l, uint64_t block)
{
    struct mvpn_dht_limit *set = set_of(l->entries, l->size, l->secret, block), *least = set;
    for (size_t i = 1; i < WAYS; i++) {
        if (set[i].busy_until < least->busy_until) {
            least = &set[i];
        }
    }
    return least;
}

bool mvpn_dht_limits_take(mvpn_dht_limits *l, uint64_t block, mvpn_time now)
{
    if (l->size == 0 && !grow(l, now)) {
        return false;
    }
    struct mvpn_dht_limit *e = find(l, block, now);
    while (e == NULL && grow(l, now)) {
        e = find(l, block, now);
    }
    if (e == NULL) {
        if (l->refuse_new) {
            return false;
        }
        e = least_busy(l, block);
        e->busy_until = 0;
    }
    if (e->busy_until <= now) {
        *e = (struct mvpn_dht_limit){block, now};
    }
    if (e->busy_until + l->cost > now + l->burst) {
        return false;
    }
    e->busy_until += l->cost;
    return true;
}

void mvpn_dht_limits_trim(mvpn_dht_limits *l, mvpn_time now)
{
    for (size_t i = 0; i < l->size; i++) {
        if (l->entries[i].busy_until > now) {
            return;
        }
    }
    mvpn_dht_limits_done(l);
}

size_t mvpn_dht_limits_memory(const mvpn_dht_limits *l)
{
    return l->size * sizeof(*l->entries);
}

uint64_t mvpn_dht_source_block(const mvpn_addr *addr)
{
    uint64_t ip = mvpn_load64(addr->ip);
    return (uint64_t)addr->family << 56 | (addr->family == 4 ? ip >> 40 : ip >> 16);
}
