/*
 * Time inside the cores: monotonic microseconds, handed in as an argument, never read.
 */
#ifndef MVPN_BASE_TIME_H
#define MVPN_BASE_TIME_H

#include <stdint.h>

typedef uint64_t mvpn_time; /* microseconds; the origin is the caller's */

#define MVPN_TIME_NEVER UINT64_MAX
#define MVPN_US_PER_MS 1000ull
#define MVPN_US_PER_S 1000000ull
#define MVPN_MS(n) ((mvpn_time)(n)*MVPN_US_PER_MS)
#define MVPN_S(n) ((mvpn_time)(n)*MVPN_US_PER_S)

static inline mvpn_time mvpn_time_min(mvpn_time a, mvpn_time b)
{
    return a < b ? a : b;
}

#endif
