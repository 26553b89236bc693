/*
 * The two clocks. Cores never read them: io reads once per loop turn and hands the value in.
 */
#ifndef MVPN_IO_CLOCK_H
#define MVPN_IO_CLOCK_H

#include <stdint.h>

#include "base/time.h"

/** Monotonic microseconds; they go on while the machine sleeps (CLOCK_BOOTTIME), so that who has
 * slept sees it and what ran out meanwhile has run out. */
mvpn_time mvpn_clock_now(void);

/** Seconds since 1970 by the system's clock, which may be wrong and may jump. */
uint64_t mvpn_clock_unix(void);

#endif
