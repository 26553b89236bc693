/*
 * Byte cursors: the only way wire bytes are read and written. Both keep a sticky failure, so that a
 * decoder reads all its fields and asks once at the end.
 */
#ifndef MVPN_BASE_CURSOR_H
#define MVPN_BASE_CURSOR_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/macros.h"

typedef struct mvpn_reader {
    const uint8_t *p;
    const uint8_t *end;
    bool failed;
} mvpn_reader;

static inline mvpn_reader mvpn_reader_init(mvpn_bytes in)
{
    return (mvpn_reader){in.p, in.n ? in.p + in.n : in.p, false};
}

static inline size_t mvpn_reader_left(const mvpn_reader *r)
{
    return r->failed ? 0 : (size_t)(r->end - r->p);
}

/** The next `n` bytes, borrowed from the input; on shortage NULL, and the reader has failed. */
static inline const uint8_t *mvpn_read_raw(mvpn_reader *r, size_t n)
{
    if (r->failed || (size_t)(r->end - r->p) < n) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *at = r->p;
    if (n > 0) {
        r->p += n;
    }
    return at;
}

static inline mvpn_bytes mvpn_read_bytes(mvpn_reader *r, size_t n)
{
    const uint8_t *p = mvpn_read_raw(r, n);
    return (mvpn_bytes){p, r->failed ? 0 : n};
}

/** All bytes that are left. */
static inline mvpn_bytes mvpn_read_rest(mvpn_reader *r)
{
    return mvpn_read_bytes(r, mvpn_reader_left(r));
}

/** Copy `n` bytes to `out`; zeroes on shortage. */
static inline void mvpn_read_copy(mvpn_reader *r, uint8_t *out, size_t n)
{
    const uint8_t *p = mvpn_read_raw(r, n);
    if (n == 0) {
        return;
    }
    if (p != NULL) {
        memcpy(out, p, n);
    } else {
        memset(out, 0, n);
    }
}

static inline uint8_t mvpn_read8(mvpn_reader *r)
{
    const uint8_t *p = mvpn_read_raw(r, 1);
    return p ? p[0] : 0;
}

static inline uint16_t mvpn_read16(mvpn_reader *r)
{
    const uint8_t *p = mvpn_read_raw(r, 2);
    return p ? mvpn_load16(p) : 0;
}

static inline uint32_t mvpn_read32(mvpn_reader *r)
{
    const uint8_t *p = mvpn_read_raw(r, 4);
    return p ? mvpn_load32(p) : 0;
}

static inline uint64_t mvpn_read64(mvpn_reader *r)
{
    const uint8_t *p = mvpn_read_raw(r, 8);
    return p ? mvpn_load64(p) : 0;
}

/** True if every read so far was inside the input and nothing is left over. */
static inline bool mvpn_reader_done(const mvpn_reader *r)
{
    return !r->failed && r->p == r->end;
}

typedef struct mvpn_writer {
    uint8_t *start;
    uint8_t *p;
    uint8_t *end;
    bool failed;
} mvpn_writer;

static inline mvpn_writer mvpn_writer_init(uint8_t *out, size_t size)
{
    return (mvpn_writer){out, out, out + size, false};
}

/** Room for `n` bytes, or NULL (and the writer has failed) if they do not fit. */
static inline uint8_t *mvpn_write_raw(mvpn_writer *w, size_t n)
{
    if (w->failed || (size_t)(w->end - w->p) < n) {
        w->failed = true;
        return NULL;
    }
    uint8_t *at = w->p;
    w->p += n;
    return at;
}

static inline void mvpn_write_bytes(mvpn_writer *w, const void *in, size_t n)
{
    uint8_t *p = mvpn_write_raw(w, n);
    if (p != NULL && n > 0) {
        memcpy(p, in, n);
    }
}

static inline void mvpn_write_zero(mvpn_writer *w, size_t n)
{
    uint8_t *p = mvpn_write_raw(w, n);
    if (p != NULL && n > 0) {
        memset(p, 0, n);
    }
}

static inline void mvpn_write8(mvpn_writer *w, uint8_t v)
{
    uint8_t *p = mvpn_write_raw(w, 1);
    if (p != NULL) {
        p[0] = v;
    }
}

static inline void mvpn_write16(mvpn_writer *w, uint16_t v)
{
    uint8_t *p = mvpn_write_raw(w, 2);
    if (p != NULL) {
        mvpn_store16(p, v);
    }
}

static inline void mvpn_write32(mvpn_writer *w, uint32_t v)
{
    uint8_t *p = mvpn_write_raw(w, 4);
    if (p != NULL) {
        mvpn_store32(p, v);
    }
}

static inline void mvpn_write64(mvpn_writer *w, uint64_t v)
{
    uint8_t *p = mvpn_write_raw(w, 8);
    if (p != NULL) {
        mvpn_store64(p, v);
    }
}

static inline size_t mvpn_writer_len(const mvpn_writer *w)
{
    return (size_t)(w->p - w->start);
}

#endif
