#include "core/packing.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "wire/cell.h"
#include "wire/circuit.h"

/* Parts of one fragmented packet: 1420 bytes need two, hostile senders get no more than this. */
#define FRAGMENTS_MAX 8
/* Largest IP packet inside: the inner MTU. */
#define INNER_MTU 1420

void mvpn_packer_init(mvpn_packer *packer, unsigned profile)
{
    *packer = (mvpn_packer){
        .room = (uint16_t)mvpn_cell_room(MVPN_CLASS_FULL, profile),
    };
}

void mvpn_packer_flush(mvpn_packer *packer, mvpn_packet_queue *cells)
{
    if (packer->cell != NULL) {
        mvpn_packet_queue_push(cells, packer->cell);
        packer->cell = NULL;
    }
}

void mvpn_packer_done(mvpn_packer *packer, mvpn_packet_pool *pool)
{
    mvpn_packet_free(pool, packer->cell);
    packer->cell = NULL;
}

static void push_fragment_head(mvpn_packet *p, size_t total, uint16_t id, size_t offset)
{
    uint8_t *h = mvpn_packet_push(p, MVPN_DATA_FRAGMENT_FIXED);
    mvpn_store16(h, (uint16_t)(0x8000u | total));
    mvpn_store16(h + 2, id);
    mvpn_store16(h + 4, (uint16_t)offset);
}

/* The head stays in the packet's own buffer, the tail is copied: two cells. */
static int add_fragmented(mvpn_packer *packer, mvpn_packet_pool *pool, mvpn_packet *packet,
                          mvpn_packet_queue *cells)
{
    size_t total = packet->len;
    size_t room = packer->room - MVPN_DATA_FRAGMENT_FIXED;
    if (total > 2 * room) {
        mvpn_packet_free(pool, packet);
        return MVPN_E_TOO_BIG;
    }
    mvpn_packet *tail = mvpn_packet_new(pool);
    if (tail == NULL) {
        mvpn_packet_free(pool, packet);
        return MVPN_E_NOMEM;
    }
    uint16_t id = packer->next_id++;
    memcpy(mvpn_packet_append(tail, (uint32_t)(total - room)), packet->data + room, total - room);
    mvpn_packet_truncate(packet, (uint32_t)room);
    push_fragment_head(packet, total, id, 0);
    push_fragment_head(tail, total, id, room);
    mvpn_packet_queue_push(cells, packet);
    mvpn_packet_queue_push(cells, tail);
    return 0;
}

int mvpn_packer_add(mvpn_packer *packer, mvpn_packet_pool *pool, mvpn_packet *packet,
                    mvpn_packet_queue *cells)
{
    size_t item = packet->len + MVPN_DATA_ITEM_FIXED;
    if (item > packer->room) {
        mvpn_packer_flush(packer, cells);
        return add_fragmented(packer, pool, packet, cells);
    }
    if (packer->cell != NULL && packer->cell->len + item > packer->room) {
        mvpn_packer_flush(packer, cells);
    }
    if (packer->cell != NULL) {
        uint8_t *p = mvpn_packet_append(packer->cell, (uint32_t)item);
        mvpn_store16(p, (uint16_t)packet->len);
        memcpy(p + MVPN_DATA_ITEM_FIXED, packet->data, packet->len);
        mvpn_packet_free(pool, packet);
        return 0;
    }
    uint16_t len = (uint16_t)packet->len;
    mvpn_store16(mvpn_packet_push(packet, MVPN_DATA_ITEM_FIXED), len);
    packer->cell = packet;
    return 0;
}

/* One packet in assembly: the parts lie in `packet` at their places. */
typedef struct slot {
    mvpn_packet *packet; /* NULL: free */
    uint16_t id;
    uint16_t total;
    uint16_t received;
    uint8_t parts;
    struct {
        uint16_t from, to;
    } part[FRAGMENTS_MAX];
    mvpn_time began;
} slot;

struct mvpn_reassembly {
    slot slots[MVPN_ASSEMBLIES_MAX];
};

static void slot_free(mvpn_unpacker *u, slot *s, mvpn_packet_pool *pool)
{
    u->held -= s->packet != NULL;
    mvpn_packet_free(pool, s->packet);
    s->packet = NULL;
}

static bool is_too_old(const slot *s, mvpn_time now)
{
    return s->packet != NULL && now - s->began > MVPN_ASSEMBLY_LIFETIME;
}

/*
 * The slot of this id, or a new one: a free one, else the oldest gives way. The pool is shared by
 * all sessions: when half of it is in use a session gets no more than it has, or a few of them
 * could starve the node with first halves.
 */
static slot *slot_for(mvpn_unpacker *u, mvpn_packet_pool *pool, const mvpn_data_item *item,
                      mvpn_time now)
{
    slot *oldest = NULL, *fresh = NULL;
    for (size_t i = 0; i < MVPN_ASSEMBLIES_MAX; i++) {
        slot *s = &u->reassembly->slots[i];
        if (is_too_old(s, now)) {
            slot_free(u, s, pool);
        }
        if (s->packet == NULL) {
            fresh = s;
        } else if (s->id == item->id) {
            return s;
        } else if (oldest == NULL || s->began < oldest->began) {
            oldest = s;
        }
    }
    if (fresh == NULL || pool->free_count < pool->size / 2) {
        fresh = oldest;
    }
    if (fresh == NULL) {
        return NULL;
    }
    slot_free(u, fresh, pool);
    *fresh =
        (slot){.packet = mvpn_packet_new(pool), .id = item->id, .total = item->total, .began = now};
    if (fresh->packet == NULL) {
        return NULL;
    }
    u->held++;
    (void)mvpn_packet_append(fresh->packet, item->total);
    return fresh;
}

/* True if the part contradicts what is there: such a packet is discarded whole. */
static bool part_conflicts(const slot *s, const mvpn_data_item *item)
{
    size_t to = item->offset + item->bytes.n;
    if (s->total != item->total || s->parts == FRAGMENTS_MAX) {
        return true;
    }
    for (size_t i = 0; i < s->parts; i++) {
        if (item->offset < s->part[i].to && s->part[i].from < to) {
            return true;
        }
    }
    return false;
}

static int take_fragment(mvpn_unpacker *u, mvpn_packet_pool *pool, const mvpn_data_item *item,
                         mvpn_time now, mvpn_packet_queue *packets)
{
    if (item->total > INNER_MTU) {
        return MVPN_E_FORMAT;
    }
    if (u->reassembly == NULL) {
        u->reassembly = calloc(1, sizeof(*u->reassembly));
        if (u->reassembly == NULL) {
            return MVPN_E_NOMEM;
        }
    }
    slot *s = slot_for(u, pool, item, now);
    if (s == NULL) {
        return MVPN_E_NOMEM;
    }
    if (part_conflicts(s, item)) {
        slot_free(u, s, pool);
        return MVPN_E_FORMAT;
    }
    memcpy(s->packet->data + item->offset, item->bytes.p, item->bytes.n);
    s->part[s->parts].from = item->offset;
    s->part[s->parts].to = (uint16_t)(item->offset + item->bytes.n);
    s->parts++;
    s->received = (uint16_t)(s->received + item->bytes.n);
    if (s->received == s->total) {
        mvpn_packet_queue_push(packets, s->packet);
        s->packet = NULL;
        u->held--;
    }
    return 0;
}

int mvpn_unpacker_take(mvpn_unpacker *unpacker, mvpn_packet_pool *pool, mvpn_packet *body,
                       mvpn_time now, mvpn_packet_queue *packets)
{
    mvpn_bytes rest = {body->data, body->len};
    mvpn_data_item item;
    bool is_first = true;
    int r;
    while ((r = mvpn_data_next(&rest, is_first, &item)) == 0) {
        if (item.is_fragment) {
            r = take_fragment(unpacker, pool, &item, now, packets);
            break;
        }
        if (is_first && rest.n == 0) {
            mvpn_packet_pull(body, MVPN_DATA_ITEM_FIXED); /* one packet fills the cell: no copy */
            mvpn_packet_queue_push(packets, body);
            return 0;
        }
        mvpn_packet *p = mvpn_packet_new(pool);
        if (p == NULL) {
            r = MVPN_E_NOMEM;
            break;
        }
        memcpy(mvpn_packet_append(p, (uint32_t)item.bytes.n), item.bytes.p, item.bytes.n);
        mvpn_packet_queue_push(packets, p);
        is_first = false;
    }
    mvpn_packet_free(pool, body);
    return r == MVPN_E_AGAIN ? 0 : r;
}

void mvpn_unpacker_expire(mvpn_unpacker *unpacker, mvpn_packet_pool *pool, mvpn_time now)
{
    for (size_t i = 0; unpacker->held > 0 && i < MVPN_ASSEMBLIES_MAX; i++) {
        if (is_too_old(&unpacker->reassembly->slots[i], now)) {
            slot_free(unpacker, &unpacker->reassembly->slots[i], pool);
        }
    }
}

void mvpn_unpacker_done(mvpn_unpacker *unpacker, mvpn_packet_pool *pool)
{
    if (unpacker->reassembly == NULL) {
        return;
    }
    for (size_t i = 0; i < MVPN_ASSEMBLIES_MAX; i++) {
        slot_free(unpacker, &unpacker->reassembly->slots[i], pool);
    }
    free(unpacker->reassembly);
    unpacker->reassembly = NULL;
}
