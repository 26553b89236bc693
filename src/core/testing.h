/*
 * What the tests of core share: a pool that must be whole at the end, and packets with a pattern.
 * Only included by tests.
 */
#ifndef MVPN_CORE_TESTING_H
#define MVPN_CORE_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/packet.h"

static inline void test_fill(uint8_t *p, size_t n, unsigned tag)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)((i + 1) * 31 + tag * 7 + (i >> 8));
    }
}

/* A packet of `n` bytes whose content follows from `tag`. */
static inline mvpn_packet *test_packet(mvpn_packet_pool *pool, size_t n, unsigned tag)
{
    mvpn_packet *p = mvpn_packet_new(pool);
    assert_non_null(p);
    test_fill(mvpn_packet_append(p, (uint32_t)n), n, tag);
    return p;
}

static inline mvpn_packet *test_packet_of(mvpn_packet_pool *pool, const void *bytes, size_t n)
{
    mvpn_packet *p = mvpn_packet_new(pool);
    assert_non_null(p);
    memcpy(mvpn_packet_append(p, (uint32_t)n), bytes, n);
    return p;
}

/* The next packet of the queue is the one that test_packet made; it is given back. */
static inline void test_expect(mvpn_packet_pool *pool, mvpn_packet_queue *q, size_t n, unsigned tag)
{
    uint8_t want[MVPN_PACKET_ROOM];
    mvpn_packet *p = mvpn_packet_queue_pop(q);
    assert_non_null(p);
    test_fill(want, n, tag);
    assert_int_equal(p->len, n);
    assert_memory_equal(p->data, want, n);
    mvpn_packet_free(pool, p);
}

static inline void test_pool_is_whole(const mvpn_packet_pool *pool)
{
    assert_int_equal(pool->free_count, pool->size);
}

#endif
