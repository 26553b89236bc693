/*
 * The last lines of a daemon's log, for people who look at it while it runs (meshvpn top): kept in
 * memory, whatever becomes of the log itself.
 */
#ifndef MVPN_IO_EVENT_RING_H
#define MVPN_IO_EVENT_RING_H

#include <jansson.h>
#include <stdint.h>

#include "base/log.h"

/* More than a screen of the largest terminal shows. */
#define MVPN_EVENT_RING_MAX 128
#define MVPN_EVENT_TEXT_MAX 200

typedef struct mvpn_event_ring {
    mvpn_log below; /* where lines went before, and still go */
    uint64_t count; /* ever; they are numbered from 1 */
    struct {
        uint64_t unix_s;
        enum mvpn_log_level level;
        char text[MVPN_EVENT_TEXT_MAX + 1]; /* printable; longer lines are cut off */
    } at[MVPN_EVENT_RING_MAX];
} mvpn_event_ring;

/** From now on what is written to `log` is kept here too. `ring` must stay where it is. */
void mvpn_event_ring_attach(mvpn_event_ring *ring, mvpn_log *log);

/**
 * Those after number "since" of `request` (all that are kept, without it) into `reply`: "events",
 * the oldest first, each with number, time (Unix seconds), level and text; and "last", the highest
 * number there is. 0; MVPN_E_INVAL with an "error" in `reply`.
 */
MVPN_WUR int mvpn_event_ring_tell(const mvpn_event_ring *ring, const json_t *request,
                                  json_t *reply);

#endif
