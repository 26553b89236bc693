/*
 * Connection ids: random, ours to choose, the peer's to use in the order given. (docs/protocol.md
 * §4.3)
 */
#include <stdlib.h>

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

struct local_id *connid_at(struct session *s, size_t i)
{
    if (i < LOCAL_IDS_FEW) {
        return &s->few[i];
    }
    return s->more != NULL && i < LOCAL_IDS ? &s->more[i - LOCAL_IDS_FEW] : NULL;
}

/* A slot that is free. */
static struct local_id *slot_new(struct session *s)
{
    for (size_t i = 0; i < LOCAL_IDS; i++) {
        if (i == LOCAL_IDS_FEW && s->more == NULL) {
            s->more = calloc(LOCAL_IDS - LOCAL_IDS_FEW, sizeof(*s->more));
        }
        struct local_id *l = connid_at(s, i);
        if (l == NULL || !l->live) {
            return l;
        }
    }
    return NULL;
}

/* An id that is free here: of our choice, or of those assigned. */
static bool choose(struct session *s, enum route_kind kind, mvpn_connection_id *ret)
{
    if (kind == ROUTE_DIRECT) {
        do {
            mvpn_rng_bytes(s->links->config.rng, ret->b, sizeof(ret->b));
        } while (connid_find(s->links, ret->b) != NULL);
        return true;
    }
    while (s->assigned_count > 0) {
        *ret = s->assigned[0];
        s->assigned_count--;
        memmove(&s->assigned[0], &s->assigned[1], s->assigned_count * sizeof(s->assigned[0]));
        if (connid_find(s->links, ret->b) == NULL) { /* whatever a NAT relay says */
            return true;
        }
    }
    return false;
}

int connid_give(struct session *s, enum route_kind kind, mvpn_connection_id *ret)
{
    struct local_id *l = slot_new(s);
    if (l == NULL || !choose(s, kind, &l->id)) {
        return MVPN_E_LIMIT;
    }
    l->session = s;
    l->kind = (uint8_t)kind;
    l->order = s->local_next++;
    l->retire_at = MVPN_TIME_NEVER;
    l->live = true;
    mvpn_hash_insert(&s->links->ids, &l->node, id_hash(s->links, l->id.b));
    *ret = l->id;
    return 0;
}

static void retire(struct session *s, struct local_id *l)
{
    mvpn_hash_remove(&s->links->ids, &l->node);
    l->live = false;
    mvpn_wipe(&l->id, sizeof(l->id));
}

void connid_remove_all(struct session *s)
{
    struct local_id *l;
    for (size_t i = 0; (l = connid_at(s, i)) != NULL; i++) {
        if (l->live) {
            retire(s, l);
        }
    }
    free(s->more);
    s->more = NULL;
}

void connid_assign(struct session *s, const mvpn_connection_id *ids, size_t count)
{
    if (s->assigned == NULL && count > 0) {
        s->assigned = calloc(ASSIGNED_IDS, sizeof(*s->assigned));
    }
    for (size_t i = 0; s->assigned != NULL && i < count && s->assigned_count < ASSIGNED_IDS; i++) {
        s->assigned[s->assigned_count++] = ids[i];
    }
}

/* Not used by the peer yet. */
static bool is_unused(const struct session *s, const struct local_id *l, enum route_kind kind)
{
    return l->live && l->kind == kind && l->order > s->local_highest[kind];
}

size_t connid_unused(struct session *s, mvpn_connection_id ret[static MVPN_HANDSHAKE_IDS_MAX])
{
    size_t count = 0;
    const struct local_id *l;
    for (size_t i = 0; (l = connid_at(s, i)) != NULL && count < MVPN_HANDSHAKE_IDS_MAX; i++) {
        if (is_unused(s, l, ROUTE_DIRECT)) {
            ret[count++] = l->id;
        }
    }
    while (count < MVPN_HANDSHAKE_IDS_MAX && connid_give(s, ROUTE_DIRECT, &ret[count]) == 0) {
        count++;
    }
    return count;
}

void connid_replenish(struct session *s, enum route_kind kind, mvpn_time now)
{
    /* Ids of a direct route that the peer does not know of yet come with LinkCandidates. */
    if (s->is_giving_ids[kind] || s->state != SESSION_OPEN || !s->routes[kind].live) {
        return;
    }
    size_t spares = 0, live = 0;
    struct local_id *l;
    for (size_t i = 0; (l = connid_at(s, i)) != NULL; i++) {
        spares += is_unused(s, l, kind);
        live += l->live;
    }
    if (spares >= SPARES_WANTED || live == LOCAL_IDS) {
        return;
    }
    mvpn_connection_id ids[SPARES_WANTED];
    size_t count = 0;
    uint32_t first = s->local_next;
    while (count < SPARES_WANTED - spares && connid_give(s, kind, &ids[count]) == 0) {
        count++;
    }
    if (count == 0) {
        return; /* the NAT relay has to assign more */
    }
    uint8_t body[MVPN_LINK_NEW_IDS_LEN_MAX];
    size_t n = mvpn_link_new_ids_encode(body, ids, count);
    unsigned command = kind == ROUTE_DIRECT ? MVPN_CMD_LINK_NEW_IDS : MVPN_CMD_LINK_RELAY_IDS;
    if (reliable_command(s->link, command, mvpn_bytes_of(body, n), now) == 0) {
        s->is_giving_ids[kind] = true;
        return;
    }
    /* Not sent, so the peer does not know them. */
    for (size_t i = 0; (l = connid_at(s, i)) != NULL; i++) {
        if (l->live && l->order >= first) {
            connid_assign(s, &l->id, kind == ROUTE_RELAYED);
            retire(s, l);
        }
    }
    mvpn_timer_set(&s->links->timers, &s->timers[TIMER_IDS], now + ID_OVERLAP);
}

bool connid_used(struct session *s, const struct local_id *id, mvpn_time now)
{
    enum route_kind kind = (enum route_kind)id->kind;
    if (id->order <= s->local_highest[kind]) {
        return false;
    }
    s->local_highest[kind] = id->order;
    struct local_id *l;
    for (size_t i = 0; (l = connid_at(s, i)) != NULL; i++) {
        if (l->live && l->kind == kind && l->order < id->order && l->retire_at == MVPN_TIME_NEVER) {
            l->retire_at = now + ID_OVERLAP;
        }
    }
    if (!mvpn_timer_is_set(&s->timers[TIMER_IDS])) {
        mvpn_timer_set(&s->links->timers, &s->timers[TIMER_IDS], now + ID_OVERLAP);
    }
    connid_replenish(s, kind, now);
    return true;
}

void connid_timer(struct session *s, mvpn_time now)
{
    mvpn_time next = MVPN_TIME_NEVER;
    struct local_id *l;
    for (size_t i = 0; (l = connid_at(s, i)) != NULL; i++) {
        if (l->live && l->retire_at <= now) {
            retire(s, l);
        } else if (l->live) {
            next = mvpn_time_min(next, l->retire_at);
        }
    }
    mvpn_timer_set(&s->links->timers, &s->timers[TIMER_IDS], next);
    connid_replenish(s, ROUTE_DIRECT, now);
    connid_replenish(s, ROUTE_RELAYED, now);
}

void connid_take_fresh(struct route *r)
{
    if (r->spare_count == 0) {
        return; /* the one in use goes on: a link is worth more than a fresh id */
    }
    r->remote = r->spares[0];
    r->spare_count--;
    memmove(&r->spares[0], &r->spares[1], r->spare_count * sizeof(r->spares[0]));
}

void connid_add_spares(struct route *r, const mvpn_connection_id *ids, size_t count)
{
    for (size_t i = 0; i < count && r->spare_count < MVPN_HANDSHAKE_IDS_MAX; i++) {
        r->spares[r->spare_count++] = ids[i];
    }
}
