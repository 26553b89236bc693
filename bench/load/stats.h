/*
 * What the load generator says of many numbers: how even shares are, and a histogram whose memory
 * does not grow with what it counts. Pure.
 */
#ifndef MVPN_BENCH_LOAD_STATS_H
#define MVPN_BENCH_LOAD_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Each power of two is cut in so many: no value is told with more than 3 % too much. */
#define LOAD_HISTOGRAM_STEPS 32
/* Up to 2^36 us, 19 hours; what is beyond counts as the last. */
#define LOAD_HISTOGRAM_CELLS ((36 - 5 + 1) * LOAD_HISTOGRAM_STEPS)

typedef struct load_histogram {
    uint64_t count;
    uint64_t cells[LOAD_HISTOGRAM_CELLS];
} load_histogram;

void load_histogram_add(load_histogram *h, uint64_t value);
/** The smallest value known not to be below `part` (0..1) of all; 0 if nothing was counted. */
uint64_t load_histogram_quantile(const load_histogram *h, double part);

/**
 * Jain's index of fairness, (sum x)^2 / (n * sum x^2): 1 if all have the same, 1/n if one has all.
 * 0 if there is nothing to share.
 */
double load_jain(const uint64_t *shares, size_t n);

#endif
