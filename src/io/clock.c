#include "io/clock.h"

#include <time.h>

#include "base/assert.h"

static struct timespec read_clock(clockid_t id)
{
    struct timespec ts;
    MVPN_ASSERT(clock_gettime(id, &ts) == 0);
    return ts;
}

mvpn_time mvpn_clock_now(void)
{
    struct timespec ts = read_clock(CLOCK_BOOTTIME);
    return (mvpn_time)ts.tv_sec * MVPN_US_PER_S + (mvpn_time)ts.tv_nsec / 1000;
}

uint64_t mvpn_clock_unix(void)
{
    struct timespec ts = read_clock(CLOCK_REALTIME);
    return ts.tv_sec > 0 ? (uint64_t)ts.tv_sec : 0;
}
