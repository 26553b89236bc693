/*
 * Token bucket: `rate` tokens a second, at most `burst` kept.
 */
#ifndef MVPN_BASE_BUCKET_H
#define MVPN_BASE_BUCKET_H

#include <stdbool.h>

#include "base/time.h"

typedef struct mvpn_bucket {
    uint64_t rate;     /* tokens per second */
    uint64_t burst;    /* tokens */
    uint64_t level_us; /* tokens kept, in millionths */
    mvpn_time updated;
} mvpn_bucket;

static inline void mvpn_bucket_init(mvpn_bucket *b, uint64_t rate, uint64_t burst, mvpn_time now)
{
    *b = (mvpn_bucket){rate, burst, burst * MVPN_US_PER_S, now};
}

/** Take `n` tokens if they are there. */
static inline bool mvpn_bucket_take(mvpn_bucket *b, uint64_t n, mvpn_time now)
{
    uint64_t full = b->burst * MVPN_US_PER_S;
    if (now > b->updated) {
        mvpn_time passed = now - b->updated;
        b->updated = now;
        if (b->rate > 0 && passed >= full / b->rate) {
            b->level_us = full;
        } else {
            uint64_t level = b->level_us + passed * b->rate;
            b->level_us = level < full ? level : full;
        }
    }
    if (b->level_us < n * MVPN_US_PER_S) {
        return false;
    }
    b->level_us -= n * MVPN_US_PER_S;
    return true;
}

#endif
