/*
 * Test helper: a small seeded generator (SplitMix64), so that model tests repeat themselves. The
 * seed comes from MVPN_TEST_SEED or is a constant, and is printed.
 */
#ifndef MVPN_BASE_MODEL_RANDOM_H
#define MVPN_BASE_MODEL_RANDOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct model_random {
    uint64_t x;
};

static inline struct model_random model_random_init(void)
{
    const char *text = getenv("MVPN_TEST_SEED");
    struct model_random r = {text != NULL ? strtoull(text, NULL, 0) : 1};
    (void)printf("seed %llu (MVPN_TEST_SEED)\n", (unsigned long long)r.x);
    return r;
}

static inline uint64_t model_random_u64(struct model_random *r)
{
    uint64_t z = r->x += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline size_t model_random_below(struct model_random *r, size_t bound)
{
    return (size_t)(model_random_u64(r) % bound);
}

#endif
