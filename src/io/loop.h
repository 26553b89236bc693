/*
 * The event loop: a thin layer over libuv. Descriptors, one deadline with microsecond precision
 * (the engine's), slow periodic work, signals, and a call at the end of each turn, in which the
 * node drains its queues once however many descriptors were ready.
 *
 * One thread. Nothing here is called re-entrantly: callbacks run only inside mvpn_loop_run.
 */
#ifndef MVPN_IO_LOOP_H
#define MVPN_IO_LOOP_H

#include "base/macros.h"
#include "base/time.h"

typedef struct mvpn_loop mvpn_loop;
typedef struct mvpn_loop_watch mvpn_loop_watch;

#define MVPN_LOOP_READABLE 1u
#define MVPN_LOOP_WRITABLE 2u

/** `events`: MVPN_LOOP_*; an error on the descriptor shows as both, and the next call tells which.
 */
typedef void mvpn_loop_fd_fn(void *ctx, unsigned events);
typedef void mvpn_loop_signal_fn(void *ctx, int signo);
typedef void mvpn_loop_fn(void *ctx);

/** MVPN_E_NOMEM or MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_loop_new(mvpn_loop **ret);
/** Closes all that is left in the loop; watched descriptors stay open. NULL is allowed. */
void mvpn_loop_free(mvpn_loop *loop);

/** Run until mvpn_loop_stop. MVPN_E_SYSTEM if the loop broke. */
MVPN_WUR int mvpn_loop_run(mvpn_loop *loop);
/** Leave mvpn_loop_run at the end of this turn. */
void mvpn_loop_stop(mvpn_loop *loop);

/**
 * Watch a descriptor, which stays the caller's and must stay open until mvpn_loop_unwatch. `events`
 * may be 0 at first. MVPN_E_NOMEM; MVPN_E_SYSTEM if it cannot be polled.
 */
MVPN_WUR int mvpn_loop_watch_fd(mvpn_loop *loop, int fd, unsigned events, mvpn_loop_fd_fn *fn,
                                void *ctx, mvpn_loop_watch **ret);
/** Change what is waited for; cheap if nothing changes. */
void mvpn_loop_watch_set(mvpn_loop_watch *watch, unsigned events);
/** Stop watching; the descriptor may be closed at once. NULL is allowed. */
void mvpn_loop_unwatch(mvpn_loop_watch *watch);

/** Call `fn` once at the end of each turn in which anything happened. */
void mvpn_loop_on_turn(mvpn_loop *loop, mvpn_loop_fn *fn, void *ctx);

/**
 * End the turn's sleep at `deadline` (mvpn_clock_now's time; MVPN_TIME_NEVER for none), so that the
 * turn function runs then. Replaces the previous deadline. A wake-up may come early, never late; a
 * deadline that passed while the machine slept is due as soon as it wakes, whereas what is counted
 * in milliseconds below stands still meanwhile.
 */
void mvpn_loop_set_deadline(mvpn_loop *loop, mvpn_time deadline);

/** Call `fn` every `period_ms` milliseconds, for as long as the loop lives. MVPN_E_NOMEM, _SYSTEM.
 */
MVPN_WUR int mvpn_loop_every(mvpn_loop *loop, unsigned period_ms, mvpn_loop_fn *fn, void *ctx);

/** A timer that can be set again and taken away; for work that comes and goes, in milliseconds. */
typedef struct mvpn_loop_timer mvpn_loop_timer;
/** MVPN_E_NOMEM. */
MVPN_WUR int mvpn_loop_timer_new(mvpn_loop *loop, mvpn_loop_fn *fn, void *ctx,
                                 mvpn_loop_timer **ret);
/** Call `fn` once in `delay_ms`; replaces what was set. */
void mvpn_loop_timer_set(mvpn_loop_timer *timer, uint64_t delay_ms);
void mvpn_loop_timer_clear(mvpn_loop_timer *timer);
/** NULL is allowed; also from within its own call. */
void mvpn_loop_timer_free(mvpn_loop_timer *timer);

/** Call `fn` when the process gets `signo`. MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_loop_on_signal(mvpn_loop *loop, int signo, mvpn_loop_signal_fn *fn, void *ctx);

#endif
