/*
 * Guards: the few relays that a client lets know its address, chosen once and kept for months.
 * (design §6; Tor proposal 271 in small) Sans-IO and without memory of its own: one struct.
 *
 *   view --draw by weight--> sample (<= 15) --first success--> confirmed (in that order)
 *                                \____ the first 3 usable ones: primary ____/
 *
 * Why so few: who can drop a client's packets makes it try one guard after another, until it meets
 * a hostile one. So new ones are drawn seldom, the old ones are asked again first, and nothing that
 * happens while no guard answers at all is held against any.
 *
 * Why provisional: whoever answers a first run first could show hostile relays only. Guards drawn
 * from a view that is not confirmed last until it is; then all are drawn anew, and on the first day
 * again whenever the view has doubled (two liars can confirm each other). The draw follows from a
 * secret key and the relay alone (not from the order in which relays became known), so that an
 * honest early view leads to the same guards again, and a hostile one gains nothing.
 */
#ifndef MVPN_CORE_GUARD_H
#define MVPN_CORE_GUARD_H

#include "core/path.h"
#include "crypto/hash.h"

/* Relays that a client may ever have chosen at a time: what walking it through guards can win. */
#define MVPN_GUARDS_MAX 15
/* Guards that are used while any of them can be: one for the circuit in use, one for the spare, one
 * in reserve. */
#define MVPN_GUARDS_PRIMARY 3
/* Guards drawn in an hour and in a day, the first ones included. */
#define MVPN_GUARDS_PER_HOUR 6
#define MVPN_GUARDS_PER_DAY 10
/* How long a guard is kept: since it was drawn, and since its first success; both must be over. */
#define MVPN_GUARD_LIFETIME_S (120u * 86400)
#define MVPN_GUARD_CONFIRMED_LIFETIME_S (60u * 86400)
/* How long a guard may be missing from a confirmed view. */
#define MVPN_GUARD_UNLISTED_S (20u * 86400)
/* So long after the first draw a view that has doubled settles anew who is a guard. */
#define MVPN_GUARDS_YOUNG_S 86400u
/* The most that mvpn_guards_save writes. */
#define MVPN_GUARDS_SAVED_MAX (72 + MVPN_GUARDS_MAX * 65)

enum mvpn_guard_reach {
    MVPN_GUARD_MAYBE, /* not tried, or to be tried again */
    MVPN_GUARD_YES,
    MVPN_GUARD_NO, /* failed; tried again at `retry` */
};

typedef struct mvpn_guard {
    mvpn_ed25519_pub identity;
    /* Unix seconds, each set back by up to a tenth of what it counts towards: a state file that
     * falls into wrong hands does not tell days. */
    uint64_t added;
    uint64_t confirmed; /* first success; 0: none yet */
    uint64_t unlisted;  /* missing from the view since; 0: it is there */
    uint32_t rank;      /* order of confirmation, from 1; 0: none yet */
    bool is_provisional;
    /* Not kept on disk. */
    bool is_usable;  /* in the view, alive, with an address for us */
    bool is_primary; /* one of the first usable ones */
    enum mvpn_guard_reach reach;
    uint64_t failing; /* failed for the first time since it last answered; 0: never */
    uint64_t failed;  /* and for the last time */
    uint64_t retry;   /* NO: not tried before this */
} mvpn_guard;

typedef struct mvpn_guards {
    mvpn_guard guard[MVPN_GUARDS_MAX]; /* in the order of the draw */
    size_t count;
    mvpn_siphash_key key; /* of the draw; renewed when a guard leaves by age */
    uint64_t born;        /* first draw; 0: none yet */
    uint32_t settled;     /* relays in the view when guards were last settled */
    uint32_t rank_last;
    uint64_t hour, day; /* when they began */
    uint16_t hour_draws, day_draws;
    uint64_t left;       /* when a guard last left by age or as unlisted */
    uint64_t answered;   /* when any guard last answered; 0: never */
    uint32_t generation; /* grows with every change that ought to be saved */
} mvpn_guards;

void mvpn_guards_init(mvpn_guards *guards, mvpn_rng *rng);

/**
 * Look at the view: who is there, who has to go, whom to draw; call it before guards are asked for,
 * and whenever the view has changed. Of `wish` count family, relax, allow_private and unix_now
 * (Unix seconds, here never 0).
 */
void mvpn_guards_update(mvpn_guards *guards, const mvpn_view *view,
                        const mvpn_path_constraints *wish, mvpn_rng *rng);

/**
 * Guards to try, best first: confirmed ones in their order, then the others as drawn; without those
 * that do not answer, unless it is time to ask them again. With `any` those too, after the others,
 * the one asked longest ago first: for when nothing else is left. Returns how many.
 */
size_t mvpn_guards_order(const mvpn_guards *guards, uint64_t unix_now, bool any,
                         mvpn_ed25519_pub ret[static MVPN_GUARDS_MAX]);

/**
 * Draw one more guard, by bandwidth and stability, among those that `wish` leaves (excluded ones
 * and those related to its exit are not drawn). MVPN_E_LIMIT: not now, the sample is full or grew
 * too much lately; MVPN_E_UNKNOWN: the view has none.
 */
MVPN_WUR int mvpn_guards_draw(mvpn_guards *guards, const mvpn_view *view,
                              const mvpn_path_constraints *wish, mvpn_rng *rng,
                              mvpn_ed25519_pub *ret);

/** A circuit through this guard was built; others are ignored. */
void mvpn_guards_succeeded(mvpn_guards *guards, const mvpn_ed25519_pub *identity, mvpn_rng *rng,
                           uint64_t unix_now);
/** It did not answer. */
void mvpn_guards_failed(mvpn_guards *guards, const mvpn_ed25519_pub *identity, mvpn_rng *rng,
                        uint64_t unix_now);
/** The guard, or NULL if it is none of ours. */
const mvpn_guard *mvpn_guards_find(const mvpn_guards *guards, const mvpn_ed25519_pub *identity);
/** Its place in the order (0 is best); count if it is none of ours or not usable. */
size_t mvpn_guards_place(const mvpn_guards *guards, const mvpn_ed25519_pub *identity);

/**
 * Write the state: header and guards, each with its own checksum. Returns the length, 0 if `size`
 * is less than MVPN_GUARDS_SAVED_MAX.
 */
size_t mvpn_guards_save(const mvpn_guards *guards, uint8_t *out, size_t size);
/**
 * Read a saved state into one just made. What is cut off or damaged is lost, all else is kept.
 * MVPN_E_FORMAT if nothing is readable or it is of another version; `*guards` stays new then.
 */
MVPN_WUR int mvpn_guards_load(mvpn_guards *guards, mvpn_bytes saved);

#endif
