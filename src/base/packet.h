/*
 * Packet buffers and their pool. A packet carries headroom and tailroom, so that headers and onion
 * layers are pushed and pulled in place: the packet path never allocates and never copies.
 *
 *   buf |<-- headroom -->| data .. data + len |<-- tailroom -->|
 */
#ifndef MVPN_BASE_PACKET_H
#define MVPN_BASE_PACKET_H

#include <stdint.h>

#include "base/addr.h"
#include "base/assert.h"
#include "base/list.h"
#include "base/macros.h"
#include "base/time.h"

/* Largest datagram or IP packet handled (an Ethernet frame's worth) and what is kept around it. */
#define MVPN_PACKET_ROOM 1536
#define MVPN_PACKET_HEADROOM 256
#define MVPN_PACKET_TAILROOM 192
#define MVPN_PACKET_BUF (MVPN_PACKET_HEADROOM + MVPN_PACKET_ROOM + MVPN_PACKET_TAILROOM)

typedef struct mvpn_packet {
    mvpn_list link; /* place in the one queue that owns the packet */
    uint8_t *data;
    uint32_t len;
    /*
     * Datagrams: the remote address (source when received, destination when sent), and which local
     * socket of the node it came by or leaves by (MVPN_LOCAL_*).
     */
    mvpn_addr remote;
    uint16_t local;
    uint8_t flags;    /* MVPN_PACKET_* */
    mvpn_time queued; /* in a flow (core/scheduler.h): since when */
    uint32_t cost;    /* and the bytes that it counts for there */
    uint8_t buf[MVPN_PACKET_BUF];
} mvpn_packet;

/* A node's UDP sockets. Those from PROBE on have ports of the system's choice; io opens each when
 * the first packet is to leave by it, and closes it when the engine no longer uses it. */
#define MVPN_LOCAL_MAIN 0   /* where the node listens */
#define MVPN_LOCAL_DNS 1    /* an exit's, to the resolver */
#define MVPN_LOCAL_PROBE 2  /* to learn how NATs behave */
#define MVPN_LOCAL_PUNCH 16 /* and the next MVPN_LOCAL_PUNCH_MAX - 1: a birthday's */
#define MVPN_LOCAL_PUNCH_MAX 320

#define MVPN_PACKET_PROBE 0x01   /* path MTU probe: may be lost to EMSGSIZE without further ado */
#define MVPN_PACKET_CSUM_OK 0x02 /* IP packet whose transport checksum is known to be right */
#define MVPN_PACKET_KEEP 0x04    /* congestion does not drop it */
#define MVPN_PACKET_ECT 0x08     /* congestion can be marked in what it holds: RFC 3168 */
#define MVPN_PACKET_INNER 0x10   /* IP packet of the client with the addresses inside a circuit */

typedef struct mvpn_packet_pool {
    mvpn_list free;
    size_t size;
    size_t free_count;
    void *memory;
} mvpn_packet_pool;

MVPN_WUR int mvpn_packet_pool_init(mvpn_packet_pool *pool, size_t count);
void mvpn_packet_pool_done(mvpn_packet_pool *pool);

/** An empty packet with full headroom, owned by the caller; NULL if all are in use (drop, do not
 * wait). */
static inline mvpn_packet *mvpn_packet_new(mvpn_packet_pool *pool)
{
    mvpn_list *node = mvpn_list_pop(&pool->free);
    if (node == NULL) {
        return NULL;
    }
    mvpn_packet *p = MVPN_CONTAINER_OF(node, mvpn_packet, link);
    pool->free_count--;
    p->data = p->buf + MVPN_PACKET_HEADROOM;
    p->len = 0;
    p->flags = 0;
    p->local = 0;
    return p;
}

/** Give a packet back; it must be in no queue. NULL is allowed. */
static inline void mvpn_packet_free(mvpn_packet_pool *pool, mvpn_packet *p)
{
    if (p == NULL) {
        return;
    }
    MVPN_ASSERT(!mvpn_list_is_linked(&p->link));
    /* Last out, first in again: the warmest buffer is reused. */
    p->link.next = pool->free.next;
    p->link.prev = &pool->free;
    pool->free.next->prev = &p->link;
    pool->free.next = &p->link;
    pool->free_count++;
}

static inline size_t mvpn_packet_headroom(const mvpn_packet *p)
{
    return (size_t)(p->data - p->buf);
}

static inline size_t mvpn_packet_tailroom(const mvpn_packet *p)
{
    return (size_t)(p->buf + MVPN_PACKET_BUF - (p->data + p->len));
}

/** Grow by `n` bytes at the front and return the new start. */
static inline uint8_t *mvpn_packet_push(mvpn_packet *p, uint32_t n)
{
    MVPN_ASSERT(n <= mvpn_packet_headroom(p));
    p->data -= n;
    p->len += n;
    return p->data;
}

/** Drop `n` bytes at the front. */
static inline void mvpn_packet_pull(mvpn_packet *p, uint32_t n)
{
    MVPN_ASSERT(n <= p->len);
    p->data += n;
    p->len -= n;
}

/** Grow by `n` bytes at the end and return where they start. */
static inline uint8_t *mvpn_packet_append(mvpn_packet *p, uint32_t n)
{
    MVPN_ASSERT(n <= mvpn_packet_tailroom(p));
    uint8_t *at = p->data + p->len;
    p->len += n;
    return at;
}

static inline void mvpn_packet_truncate(mvpn_packet *p, uint32_t len)
{
    MVPN_ASSERT(len <= p->len);
    p->len = len;
}

/** FIFO of packets. */
typedef struct mvpn_packet_queue {
    mvpn_list head;
    uint32_t count;
} mvpn_packet_queue;

static inline void mvpn_packet_queue_init(mvpn_packet_queue *q)
{
    mvpn_list_init(&q->head);
    q->count = 0;
}

static inline void mvpn_packet_queue_push(mvpn_packet_queue *q, mvpn_packet *p)
{
    mvpn_list_append(&q->head, &p->link);
    q->count++;
}

static inline mvpn_packet *mvpn_packet_queue_pop(mvpn_packet_queue *q)
{
    mvpn_list *node = mvpn_list_pop(&q->head);
    if (node == NULL) {
        return NULL;
    }
    q->count--;
    return MVPN_CONTAINER_OF(node, mvpn_packet, link);
}

/** Append all packets of `from`, which is empty afterwards. */
static inline void mvpn_packet_queue_splice(mvpn_packet_queue *q, mvpn_packet_queue *from)
{
    if (from->count == 0) {
        return;
    }
    mvpn_list *first = from->head.next;
    mvpn_list *last = from->head.prev;
    first->prev = q->head.prev;
    q->head.prev->next = first;
    last->next = &q->head;
    q->head.prev = last;
    q->count += from->count;
    mvpn_packet_queue_init(from);
}

/** Give back all packets of a queue. */
void mvpn_packet_queue_clear(mvpn_packet_queue *q, mvpn_packet_pool *pool);

#endif
