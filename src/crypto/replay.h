/*
 * Sliding replay window over 64-bit counters (RFC 4303 §3.4.3, RFC 6479's ring of words). The size
 * is the caller's array: 2048 for a circuit direction, 8192 for a link.
 *
 * With H the highest accepted counter and W words, a counter c is accepted once if c > H or
 * H - c <= (W - 1) * 64: exactly (W - 1) * 64 counters behind the highest, which for
 * MVPN_REPLAY_WORDS(bits) is `bits` rounded up to 64. The one word more than the window needs lets
 * the ring be cleared by whole words.
 */
#ifndef MVPN_CRYPTO_REPLAY_H
#define MVPN_CRYPTO_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

/** Words for a window that reaches `bits` counters back. */
#define MVPN_REPLAY_WORDS(bits) (((bits) + 63) / 64 + 1)

typedef struct mvpn_replay {
    uint64_t next; /* highest accepted counter + 1; 0 = none yet */
} mvpn_replay;

/**
 * Would `counter` be accepted? Call before the (costly) authentication; changes nothing.
 * MVPN_E_REPLAY (drop) if seen or older than the window, or UINT64_MAX (never sent: keys end
 * before).
 */
MVPN_WUR int mvpn_replay_check(const mvpn_replay *w, const uint64_t *words, size_t word_count,
                               uint64_t counter);
/**
 * Mark `counter` as seen: only after authentication and a check that accepted it. The words need
 * not be initialized before the first call. A counter older than the window changes nothing.
 */
void mvpn_replay_commit(mvpn_replay *w, uint64_t *words, size_t word_count, uint64_t counter);

/**
 * Move to a larger window: `words` (of `word_count`, more than the `old_count` of `old`) take the
 * place of `old`. What was accepted stays so; what was older than the old window stays refused.
 */
void mvpn_replay_grow(const mvpn_replay *w, uint64_t *words, size_t word_count, const uint64_t *old,
                      size_t old_count);

#endif
