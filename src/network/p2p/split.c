/*
 * Messages in two parts, for paths that do not take full-size packets (yet). (docs/protocol.md
 * §4.7) A part waits in the packet that it came in; the two are joined in the later one's.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "network/p2p/internal.h"

#define JOIN_WITHIN MVPN_S(1)
/* The slots of a link to which no parts come any more are given back. */
#define SLOTS_KEPT MVPN_S(10)

int split_send(struct session *s, mvpn_packet *packet, const mvpn_header *header, mvpn_time now)
{
    mvpn_packet_pool *pool = s->links->config.pool;
    mvpn_packet *second = mvpn_packet_new(pool);
    if (second == NULL) {
        mvpn_packet_free(pool, packet);
        return MVPN_E_NOMEM;
    }
    mvpn_header_encode(mvpn_packet_push(packet, MVPN_HEADER_LEN), header);
    uint32_t cut = (packet->len + 1) / 2;
    uint16_t id = s->part_next_id++;
    mvpn_link_part_encode(mvpn_packet_append(second, MVPN_LINK_PART_HEADER_LEN), id, 1);
    uint32_t rest = packet->len - cut;
    memcpy(mvpn_packet_append(second, rest), packet->data + cut, rest);
    mvpn_packet_truncate(packet, cut);
    mvpn_link_part_encode(mvpn_packet_push(packet, MVPN_LINK_PART_HEADER_LEN), id, 0);
    s->links->counters.split++;

    mvpn_header part = {.command = MVPN_CMD_LINK_PART, .length = (uint16_t)packet->len};
    int err = transport_send(s, packet, &part, s->route, now);
    if (err != 0) {
        mvpn_packet_free(pool, second);
        return err;
    }
    part.length = (uint16_t)second->len;
    return transport_send(s, second, &part, s->route, now);
}

static void slot_clear(struct session *s, struct part_slot *slot)
{
    mvpn_packet_free(s->links->config.pool, slot->packet);
    slot->packet = NULL;
    s->links->part_count--;
}

void split_clear(struct session *s)
{
    for (size_t i = 0; s->parts != NULL && i < PARTS_PER_LINK; i++) {
        if (s->parts->slot[i].packet != NULL) {
            slot_clear(s, &s->parts->slot[i]);
        }
    }
    free(s->parts);
    s->parts = NULL;
}

void split_timer(struct session *s, mvpn_time now)
{
    mvpn_time next = s->parts->used_at + SLOTS_KEPT;
    if (next <= now) { /* none can be waiting */
        split_clear(s);
        return;
    }
    for (size_t i = 0; i < PARTS_PER_LINK; i++) {
        struct part_slot *slot = &s->parts->slot[i];
        if (slot->packet != NULL && slot->until <= now) {
            slot_clear(s, slot);
        } else if (slot->packet != NULL) {
            next = mvpn_time_min(next, slot->until);
        }
    }
    mvpn_timer_set(&s->links->timers, &s->timers[TIMER_PARTS], next);
}

static struct part_slot *slot_find(struct session *s, uint16_t id)
{
    for (size_t i = 0; i < PARTS_PER_LINK; i++) {
        struct part_slot *slot = &s->parts->slot[i];
        if (slot->packet != NULL && slot->id == id) {
            return slot;
        }
    }
    return NULL;
}

/* A free slot; else the oldest's, whose other half is the likeliest to be lost. */
static struct part_slot *slot_take(struct session *s)
{
    struct part_slot *oldest = NULL, *unused = NULL;
    for (size_t i = 0; i < PARTS_PER_LINK; i++) {
        struct part_slot *slot = &s->parts->slot[i];
        if (slot->packet == NULL) {
            unused = slot;
        } else if (oldest == NULL || slot->until < oldest->until) {
            oldest = slot;
        }
    }
    if (unused != NULL && s->links->part_count < PARTS_PER_NODE) {
        return unused;
    }
    if (oldest != NULL) {
        slot_clear(s, oldest);
    }
    return oldest;
}

/* Both halves in `packet`, which came last; `other` is given back. False if they are no message
 * together. */
static bool join(mvpn_packet_pool *pool, mvpn_packet *packet, mvpn_packet *other, bool is_second)
{
    uint32_t total = packet->len + other->len;
    bool fits = total >= MVPN_HEADER_LEN && total <= MVPN_MESSAGE_MAX;
    if (fits) {
        uint8_t *at = packet->buf + MVPN_PACKET_HEADROOM;
        memmove(is_second ? at + other->len : at, packet->data, packet->len);
        memcpy(is_second ? at : at + packet->len, other->data, other->len);
        packet->data = at;
        packet->len = total;
    }
    mvpn_packet_free(pool, other);
    return fits;
}

int split_recv(struct session *s, mvpn_packet *packet, mvpn_time now)
{
    mvpn_packet_pool *pool = s->links->config.pool;
    mvpn_link_part part;
    if (mvpn_link_part_decode(&part, mvpn_bytes_of(packet->data, packet->len)) != 0) {
        mvpn_packet_free(pool, packet);
        return MVPN_E_FORMAT;
    }
    mvpn_packet_pull(packet, MVPN_LINK_PART_HEADER_LEN);
    s->parts = s->parts != NULL ? s->parts : calloc(1, sizeof(*s->parts));
    if (s->parts == NULL) {
        mvpn_packet_free(pool, packet);
        return MVPN_E_LIMIT;
    }
    s->parts->used_at = now;
    struct part_slot *slot = slot_find(s, part.id);
    if (slot != NULL && slot->index != part.index && slot->until > now) {
        mvpn_packet *other = slot->packet;
        slot->packet = NULL;
        s->links->part_count--;
        if (join(pool, packet, other, part.index == 1)) {
            return 1;
        }
        mvpn_packet_free(pool, packet);
        return MVPN_E_FORMAT;
    }
    if (slot != NULL) {
        slot_clear(s, slot); /* same half again, or too old: begin anew */
    }
    slot = slot != NULL ? slot : slot_take(s);
    if (slot == NULL) {
        mvpn_packet_free(pool, packet);
        return MVPN_E_LIMIT;
    }
    *slot = (struct part_slot){packet, now + JOIN_WITHIN, part.id, part.index};
    s->links->part_count++;
    if (!mvpn_timer_is_set(&s->timers[TIMER_PARTS]) ||
        s->timers[TIMER_PARTS].at > now + JOIN_WITHIN) {
        mvpn_timer_set(&s->links->timers, &s->timers[TIMER_PARTS], now + JOIN_WITHIN);
    }
    return 0;
}
