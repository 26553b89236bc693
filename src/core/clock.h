/*
 * How far our clock is off, by what the peers of our links say in their handshakes.
 * (docs/protocol.md §12 "Time", §4.2) The answer is used inside the protocol alone: it never sets a
 * clock. Pure; the engine feeds it when a link of ours has opened and asks for the offset.
 *
 * Only peers whose identity was proven count, each once: its latest word. No peer can move the
 * result beyond what the others say, except the very first, while it is the only one.
 */
#ifndef MVPN_CORE_CLOCK_H
#define MVPN_CORE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/keys.h"

/* More than a client ever has links; the oldest word gives way. */
#define MVPN_CLOCK_PEERS 16
/* Smaller offsets are the network's delay and honest clocks' difference: our own clock is kept. */
#define MVPN_CLOCK_JITTER_S 30
/* Above it the user is told: other programs suffer from such a clock too. */
#define MVPN_CLOCK_TELL_S 300
/* No honest clock differs by a century. */
#define MVPN_CLOCK_OFFSET_MAX_S (INT64_C(100) * 366 * 86400)

typedef struct mvpn_clock {
    size_t count;
    size_t next; /* the oldest, once all are in use */
    struct {
        mvpn_ed25519_pub peer;
        int64_t offset_s;
    } heard[MVPN_CLOCK_PEERS];
} mvpn_clock;

enum mvpn_clock_trust {
    MVPN_CLOCK_ALONE,  /* nobody said anything: our own clock */
    MVPN_CLOCK_WEAK,   /* one peer's word, or two's */
    MVPN_CLOCK_MEDIAN, /* of three peers or more */
};

typedef struct mvpn_clock_reading {
    int64_t offset_s;   /* to be added to our Unix time; 0 if that is good enough */
    int64_t measured_s; /* the same before jitter is taken for none */
    enum mvpn_clock_trust trust;
    size_t peers;
    bool should_tell; /* the user ought to know (MVPN_CLOCK_TELL_S) */
} mvpn_clock_reading;

void mvpn_clock_init(mvpn_clock *clock);

/**
 * Take a peer's word: its Unix time minus that of our *own* clock, uncorrected, seconds. False if
 * nothing can be made of it (MVPN_CLOCK_OFFSET_MAX_S).
 */
bool mvpn_clock_put(mvpn_clock *clock, const mvpn_ed25519_pub *peer, int64_t offset_s);

/**
 * The median of what was said; among an even number of peers our own clock has a say too, so that
 * of two that differ the one nearer to us is taken. One peer alone is believed.
 */
void mvpn_clock_read(const mvpn_clock *clock, mvpn_clock_reading *ret);

/** Our own clock was set: what was measured against it counts no more. */
static inline void mvpn_clock_forget(mvpn_clock *clock)
{
    mvpn_clock_init(clock);
}

#endif
