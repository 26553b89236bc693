#include "base/timer.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

int mvpn_timers_init(mvpn_timers *timers, size_t expected)
{
    *timers = (mvpn_timers){0};
    return mvpn_timers_reserve(timers, expected > 0 ? expected : 16);
}

void mvpn_timers_done(mvpn_timers *timers)
{
    free(timers->heap);
    *timers = (mvpn_timers){0};
}

int mvpn_timers_reserve(mvpn_timers *timers, size_t total)
{
    if (total <= timers->size) {
        return 0;
    }
    size_t size = MVPN_MAX(total, timers->size * 2);
    mvpn_timer **heap = realloc(timers->heap, size * sizeof(*heap));
    if (heap == NULL) {
        return MVPN_E_NOMEM;
    }
    timers->heap = heap;
    timers->size = size;
    return 0;
}

static void place(mvpn_timers *timers, size_t i, mvpn_timer *timer)
{
    timers->heap[i] = timer;
    timer->slot = i + 1;
}

static void sift_up(mvpn_timers *timers, size_t i, mvpn_timer *timer)
{
    while (i > 0 && timers->heap[(i - 1) / 2]->at > timer->at) {
        place(timers, i, timers->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(timers, i, timer);
}

static void sift_down(mvpn_timers *timers, size_t i, mvpn_timer *timer)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= timers->count) {
            break;
        }
        if (child + 1 < timers->count && timers->heap[child + 1]->at < timers->heap[child]->at) {
            child++;
        }
        if (timers->heap[child]->at >= timer->at) {
            break;
        }
        place(timers, i, timers->heap[child]);
        i = child;
    }
    place(timers, i, timer);
}

void mvpn_timer_clear(mvpn_timers *timers, mvpn_timer *timer)
{
    if (timer->slot == 0) {
        return;
    }
    size_t i = timer->slot - 1;
    mvpn_timer *last = timers->heap[--timers->count];
    timer->slot = 0;
    if (last == timer) {
        return;
    }
    if (i > 0 && timers->heap[(i - 1) / 2]->at > last->at) {
        sift_up(timers, i, last);
    } else {
        sift_down(timers, i, last);
    }
}

void mvpn_timer_set(mvpn_timers *timers, mvpn_timer *timer, mvpn_time at)
{
    mvpn_timer_clear(timers, timer);
    if (at == MVPN_TIME_NEVER) {
        return;
    }
    timer->at = at;
    int grown = mvpn_timers_reserve(timers, timers->count + 1);
    MVPN_ASSERT(grown == 0);
    sift_up(timers, timers->count++, timer);
}

mvpn_timer *mvpn_timers_pop(mvpn_timers *timers, mvpn_time now)
{
    if (timers->count == 0 || timers->heap[0]->at > now) {
        return NULL;
    }
    mvpn_timer *timer = timers->heap[0];
    mvpn_timer_clear(timers, timer);
    return timer;
}
