/*
 * Borrowed byte ranges, and big-endian loads and stores (network order everywhere on the wire).
 */
#ifndef MVPN_BASE_BYTES_H
#define MVPN_BASE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct mvpn_bytes {
    const uint8_t *p;
    size_t n;
} mvpn_bytes;

static inline mvpn_bytes mvpn_bytes_of(const void *p, size_t n)
{
    return (mvpn_bytes){p, n};
}

#define MVPN_BYTES_NONE ((mvpn_bytes){NULL, 0})
/** The bytes of an array (not of a pointer). */
#define MVPN_BYTES_ARRAY(a) mvpn_bytes_of((a), sizeof(a))
/** The characters of a string literal without its final zero. */
#define MVPN_BYTES_LITERAL(s) mvpn_bytes_of((s), sizeof(s) - 1)

static inline uint16_t mvpn_load16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static inline uint32_t mvpn_load32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t mvpn_load64(const uint8_t *p)
{
    return (uint64_t)mvpn_load32(p) << 32 | mvpn_load32(p + 4);
}

static inline void mvpn_store16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void mvpn_store32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static inline void mvpn_store64(uint8_t *p, uint64_t v)
{
    mvpn_store32(p, (uint32_t)(v >> 32));
    mvpn_store32(p + 4, (uint32_t)v);
}

#endif
