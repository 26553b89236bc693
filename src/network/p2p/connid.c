/*
 * Connection ids: random, ours to choose, the peer's to use in the order given. (docs/protocol.md
 * §4.3)
 */
#include "base/assert.h"
#include "network/p2p/internal.h"

static uint64_t id_hash(const mvpn_links *links, const uint8_t *id)
{
    return mvpn_siphash(&links->sip, id, MVPN_CONNECTION_ID_LEN);
}

struct local_id *connid_find(mvpn_links *links, const uint8_t id[static MVPN_CONNECTION_ID_LEN])
{
    mvpn_hash_node *n = mvpn_hash_first(&links->ids, id_hash(links, id));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct local_id *l = MVPN_CONTAINER_OF(n, struct local_id, node);
        if (memcmp(l->id.b, id, MVPN_CONNECTION_ID_LEN) == 0) {
            return l;
        }
    }
    return NULL;
}

bool mvpn_links_has_id(mvpn_links *links, const mvpn_connection_id *id)
{
    return connid_find(links, id->b) != NULL;
}

int connid_give(struct session *s, mvpn_connection_id *ret)
{
    for (size_t i = 0; i < LOCAL_IDS; i++) {
        struct local_id *l = &s->local[i];
        if (l->live) {
            continue;
        }
        do {
            mvpn_rng_bytes(s->links->config.rng, l->id.b, sizeof(l->id.b));
        } while (connid_find(s->links, l->id.b) != NULL);
        l->session = s;
        l->order = s->local_next++;
        l->retire_at = MVPN_TIME_NEVER;
        l->live = true;
        mvpn_hash_insert(&s->links->ids, &l->node, id_hash(s->links, l->id.b));
        *ret = l->id;
        return 0;
    }
    return MVPN_E_LIMIT;
}

static void retire(struct session *s, struct local_id *l)
{
    mvpn_hash_remove(&s->links->ids, &l->node);
    l->live = false;
    mvpn_wipe(&l->id, sizeof(l->id));
}

void connid_remove_all(struct session *s)
{
    for (size_t i = 0; i < LOCAL_IDS; i++) {
        if (s->local[i].live) {
            retire(s, &s->local[i]);
        }
    }
}

void connid_replenish(struct session *s, mvpn_time now)
{
    if (s->is_giving_ids || s->state != SESSION_OPEN) {
        return;
    }
    size_t spares = 0, room = 0;
    for (size_t i = 0; i < LOCAL_IDS; i++) {
        spares += s->local[i].live && s->local[i].order > s->local_highest;
        room += !s->local[i].live;
    }
    if (spares >= SPARES_WANTED || room == 0) {
        return;
    }
    mvpn_connection_id ids[SPARES_WANTED];
    size_t count = 0;
    uint32_t first = s->local_next;
    while (count < SPARES_WANTED - spares && connid_give(s, &ids[count]) == 0) {
        count++;
    }
    uint8_t body[MVPN_LINK_NEW_IDS_LEN_MAX];
    size_t n = mvpn_link_new_ids_encode(body, ids, count);
    if (reliable_command(s->link, MVPN_CMD_LINK_NEW_IDS, mvpn_bytes_of(body, n), now) == 0) {
        s->is_giving_ids = true;
        return;
    }
    /* Not sent, so the peer does not know them. */
    for (size_t i = 0; i < LOCAL_IDS; i++) {
        if (s->local[i].live && s->local[i].order >= first) {
            retire(s, &s->local[i]);
        }
    }
    mvpn_timer_set(&s->links->timers, &s->timers[TIMER_IDS], now + ID_OVERLAP);
}

bool connid_used(struct session *s, const struct local_id *id, mvpn_time now)
{
    if (id->order <= s->local_highest) {
        return false;
    }
    s->local_highest = id->order;
    for (size_t i = 0; i < LOCAL_IDS; i++) {
        struct local_id *l = &s->local[i];
        if (l->live && l->order < id->order && l->retire_at == MVPN_TIME_NEVER) {
            l->retire_at = now + ID_OVERLAP;
        }
    }
    if (!mvpn_timer_is_set(&s->timers[TIMER_IDS])) {
        mvpn_timer_set(&s->links->timers, &s->timers[TIMER_IDS], now + ID_OVERLAP);
    }
    connid_replenish(s, now);
    return true;
}

void connid_timer(struct session *s, mvpn_time now)
{
    mvpn_time next = MVPN_TIME_NEVER;
    for (size_t i = 0; i < LOCAL_IDS; i++) {
        struct local_id *l = &s->local[i];
        if (l->live && l->retire_at <= now) {
            retire(s, l);
        } else if (l->live) {
            next = mvpn_time_min(next, l->retire_at);
        }
    }
    mvpn_timer_set(&s->links->timers, &s->timers[TIMER_IDS], next);
    connid_replenish(s, now);
}

void connid_take_fresh(struct session *s)
{
    if (s->spare_count == 0) {
        return; /* the one in use goes on: a link is worth more than a fresh id */
    }
    s->remote = s->spares[0];
    s->spare_count--;
    memmove(&s->spares[0], &s->spares[1], s->spare_count * sizeof(s->spares[0]));
}

void connid_add_spares(struct session *s, const mvpn_connection_id *ids, size_t count)
{
    for (size_t i = 0; i < count && s->spare_count < MVPN_HANDSHAKE_IDS_MAX; i++) {
        s->spares[s->spare_count++] = ids[i];
    }
}
