#include "bench/load/stats.h"

#include <math.h>

#include "base/macros.h"

/* Values below LOAD_HISTOGRAM_STEPS have a cell each; then a row of cells for each power of two. */
static size_t cell_of(uint64_t value)
{
    if (value < LOAD_HISTOGRAM_STEPS) {
        return (size_t)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - 5u;
    size_t cell =
        (shift + 1) * LOAD_HISTOGRAM_STEPS + (size_t)(value >> shift) - LOAD_HISTOGRAM_STEPS;
    return MVPN_MIN(cell, (size_t)LOAD_HISTOGRAM_CELLS - 1);
}

/* The largest value of a cell. */
static uint64_t top_of(size_t cell)
{
    if (cell < LOAD_HISTOGRAM_STEPS) {
        return cell;
    }
    size_t shift = cell / LOAD_HISTOGRAM_STEPS - 1;
    uint64_t first = LOAD_HISTOGRAM_STEPS + cell % LOAD_HISTOGRAM_STEPS;
    return ((first + 1) << shift) - 1;
}

void load_histogram_add(load_histogram *h, uint64_t value)
{
    h->cells[cell_of(value)]++;
    h->count++;
}

uint64_t load_histogram_quantile(const load_histogram *h, double part)
{
    uint64_t wanted = (uint64_t)ceil(part * (double)h->count), seen = 0;
    wanted = MVPN_MAX(wanted, UINT64_C(1));
    for (size_t i = 0; i < LOAD_HISTOGRAM_CELLS; i++) {
        seen += h->cells[i];
        if (seen >= wanted) {
            return top_of(i);
        }
    }
    return 0;
}

double load_jain(const uint64_t *shares, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)shares[i];
        sum += x;
        squares += x * x;
    }
    return squares > 0 ? sum * sum / ((double)n * squares) : 0;
}
