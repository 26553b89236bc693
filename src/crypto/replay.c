#include "crypto/replay.h"

#include <string.h>

#include "base/assert.h"
#include "base/error.h"

#define WORD_BITS 64

static bool is_too_old(const mvpn_replay *w, size_t word_count, uint64_t counter)
{
    return counter < w->next && w->next - 1 - counter > (uint64_t)(word_count - 1) * WORD_BITS;
}

static uint64_t bit_of(uint64_t counter)
{
    return (uint64_t)1 << (counter % WORD_BITS);
}

int mvpn_replay_check(const mvpn_replay *w, const uint64_t *words, size_t word_count,
                      uint64_t counter)
{
    if (counter >= w->next) {
        return counter == UINT64_MAX ? MVPN_E_REPLAY : 0;
    }
    if (is_too_old(w, word_count, counter)) {
        return MVPN_E_REPLAY;
    }
    return (words[counter / WORD_BITS % word_count] & bit_of(counter)) != 0 ? MVPN_E_REPLAY : 0;
}

/* Make `counter` the highest: the words after the old highest's up to its own hold nothing yet. */
static void advance(mvpn_replay *w, uint64_t *words, size_t word_count, uint64_t counter)
{
    uint64_t block = counter / WORD_BITS;
    uint64_t fresh = w->next == 0 ? word_count : block - (w->next - 1) / WORD_BITS;
    if (fresh >= word_count) {
        memset(words, 0, word_count * sizeof(*words));
    } else {
        for (uint64_t i = 0; i < fresh; i++) {
            words[(block - i) % word_count] = 0;
        }
    }
    w->next = counter + 1;
}

void mvpn_replay_commit(mvpn_replay *w, uint64_t *words, size_t word_count, uint64_t counter)
{
    MVPN_ASSERT(word_count > 0 && counter != UINT64_MAX);
    if (is_too_old(w, word_count, counter)) {
        return;
    }
    if (counter >= w->next) {
        advance(w, words, word_count, counter);
    }
    words[counter / WORD_BITS % word_count] |= bit_of(counter);
}

void mvpn_replay_grow(const mvpn_replay *w, uint64_t *words, size_t word_count, const uint64_t *old,
                      size_t old_count)
{
    MVPN_ASSERT(old_count > 0 && word_count > old_count);
    /* Nothing is known of what is older: as if it had come. */
    memset(words, 0xff, word_count * sizeof(*words));
    if (w->next == 0) {
        return; /* the first commit initializes them */
    }
    uint64_t block = (w->next - 1) / WORD_BITS;
    for (uint64_t i = 0; i < old_count && i <= block; i++) {
        words[(block - i) % word_count] = old[(block - i) % old_count];
    }
    /* Of the old window's last block the part that it refused. */
    if (block >= old_count - 1) {
        uint64_t oldest = w->next - 1 - (uint64_t)(old_count - 1) * WORD_BITS;
        words[oldest / WORD_BITS % word_count] |= bit_of(oldest) - 1;
    }
}
