/*
 * Timer heap: intrusive timers ordered by due time. The owner is found with MVPN_CONTAINER_OF and
 * the timer's `kind`, which the owner defines.
 */
#ifndef MVPN_BASE_TIMER_H
#define MVPN_BASE_TIMER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"
#include "base/time.h"

typedef struct mvpn_timer {
    mvpn_time at;
    size_t slot; /* 1-based place in the heap; 0 = not set */
    int kind;
} mvpn_timer;

typedef struct mvpn_timers {
    mvpn_timer **heap;
    size_t count;
    size_t size;
} mvpn_timers;

MVPN_WUR int mvpn_timers_init(mvpn_timers *timers, size_t expected);
void mvpn_timers_done(mvpn_timers *timers);

/**
 * Make room for one more timer, so that a later mvpn_timer_set cannot fail. Call once for each
 * timer that comes into being; `total` is how many may be set at once. MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_timers_reserve(mvpn_timers *timers, size_t total);

/** Set or move a timer; `at` MVPN_TIME_NEVER clears it. Grows the heap if needed (aborts without
 * memory). */
void mvpn_timer_set(mvpn_timers *timers, mvpn_timer *timer, mvpn_time at);
void mvpn_timer_clear(mvpn_timers *timers, mvpn_timer *timer);

static inline bool mvpn_timer_is_set(const mvpn_timer *timer)
{
    return timer->slot != 0;
}

/** When the first timer is due, or MVPN_TIME_NEVER. */
static inline mvpn_time mvpn_timers_deadline(const mvpn_timers *timers)
{
    return timers->count > 0 ? timers->heap[0]->at : MVPN_TIME_NEVER;
}

/** Take out the first timer due at or before `now`, or NULL. */
mvpn_timer *mvpn_timers_pop(mvpn_timers *timers, mvpn_time now);

#endif
