/*
 * What the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput: deterministic,
 * bounded in time, and nothing is left allocated. Built with libFuzzer (-Dfuzzing=true) or with
 * replay_main.c, which runs the corpus as a test.
 */
#ifndef MVPN_FUZZ_FUZZ_H
#define MVPN_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** What a target claims; stays on in every build. */
#define FUZZ_CHECK(x) MVPN_ASSERT(x)

/** Encoding again what was decoded gives the same bytes. */
static inline void fuzz_same(const uint8_t *again, size_t n, mvpn_bytes in)
{
    FUZZ_CHECK(n == in.n && memcmp(again, in.p, n) == 0);
}

/** The next bytes of the input: a length (2 bytes, cut to `max`), then as many as there are. */
static inline mvpn_bytes fuzz_chunk(mvpn_reader *in, size_t max)
{
    size_t n = mvpn_read16(in);
    n = n % (max + 1);
    return mvpn_read_bytes(in, MVPN_MIN(n, mvpn_reader_left(in)));
}

/** Is there more? A failed reader (a field cut at the end) has no more. */
static inline bool fuzz_more(const mvpn_reader *in)
{
    return mvpn_reader_left(in) > 0;
}

#endif
