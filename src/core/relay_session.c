/*
 * Relay as the last hop: sessions between circuits and the exit core. (docs/protocol.md §7)
 */
#include "core/relay_internal.h"

#include <stdlib.h>
#include <string.h>

/* A session number's low half is its index (exit/exit.h). */
#define SESSION_INDEX(id) ((id)&0xffffu)
#define SESSION_INDICES 65536

bool relay_session_is_open(const relay_circuit *c)
{
    return c->session != NULL && c->session->is_open;
}

static void send_connected(mvpn_relay *relay, relay_circuit *c, uint32_t request_id,
                           enum mvpn_reason status, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(relay->cfg.pool);
    if (p == NULL) {
        return; /* the client asks again */
    }
    MVPN_ASSERT(status != MVPN_REASON_NONE || c->session != NULL);
    unsigned profile = c->session == NULL ? 1 : c->session->profile;
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_CONNECTED, (uint8_t)profile, MVPN_SIZE_CLASSES};
    mvpn_connected m = {
        .request_id = request_id,
        .status = (uint8_t)status,
        .flags = status == MVPN_REASON_NONE ? c->session->flags : 0,
        .ticket =
            status == MVPN_REASON_NONE ? MVPN_BYTES_ARRAY(c->session->ticket) : MVPN_BYTES_NONE,
    };
    p->len = (uint32_t)mvpn_connected_encode(p->data, MVPN_ROOM_PROFILE1, &m);
    relay_answer(relay, c, &kind, p, now);
}

static int session_index_reserve(mvpn_relay *relay)
{
    if (relay->by_session == NULL) {
        relay->by_session = calloc(SESSION_INDICES, sizeof(*relay->by_session));
    }
    return relay->by_session == NULL ? MVPN_E_NOMEM : 0;
}

static enum mvpn_reason session_open(mvpn_relay *relay, relay_circuit *c, const mvpn_begin *m,
                                     mvpn_time now)
{
    if (relay->cfg.exit == NULL || c->state != CIRCUIT_OPEN) {
        return MVPN_REASON_REFUSED;
    }
    link_state *ls = relay_link_state(relay, c->prev.link, now);
    if (ls == NULL || !relay_link_take(relay, ls, &ls->sessions, now) ||
        session_index_reserve(relay) != 0) {
        return MVPN_REASON_BUSY;
    }
    if (c->session == NULL) {
        c->session = calloc(1, sizeof(*c->session));
        if (c->session == NULL) {
            return MVPN_REASON_BUSY;
        }
    }
    exit_session *s = c->session;
    uint32_t inner_mtu =
        (uint32_t)mvpn_cell_room(MVPN_CLASS_FULL, m->profile) - MVPN_DATA_ITEM_FIXED;
    bool want_v6 = (m->flags & MVPN_BEGIN_IPV6) != 0;
    if (mvpn_exit_session_open(relay->cfg.exit, inner_mtu, want_v6, now, &s->id) != 0) {
        return MVPN_REASON_BUSY;
    }
    s->is_open = true;
    s->request_id = m->request_id;
    s->profile = m->profile;
    s->flags = MVPN_CONNECTED_IPV4;
    if (mvpn_exit_session_has_v6(relay->cfg.exit, s->id)) {
        s->flags |= MVPN_CONNECTED_IPV6;
    }
    mvpn_rng_bytes(relay->cfg.rng, s->ticket, sizeof(s->ticket));
    mvpn_packer_init(&s->packer, m->profile);
    relay->by_session[SESSION_INDEX(s->id)] = c;
    mvpn_timer_clear(&relay->timers, &c->timer);
    return MVPN_REASON_NONE;
}

void relay_session_begin(mvpn_relay *relay, relay_circuit *c, mvpn_bytes data, mvpn_time now)
{
    mvpn_begin m;
    if (mvpn_begin_decode(&m, data) != 0) {
        return;
    }
    if (relay_session_is_open(c)) {
        if (c->session->request_id == m.request_id) {
            send_connected(relay, c, m.request_id, MVPN_REASON_NONE, now);
        }
        return; /* one session a circuit */
    }
    send_connected(relay, c, m.request_id, session_open(relay, c, &m, now), now);
}

void relay_session_data(mvpn_relay *relay, relay_circuit *c, mvpn_packet *body, mvpn_time now)
{
    mvpn_packet_queue packets;
    mvpn_packet *p;
    if (!relay_session_is_open(c)) {
        relay->counters.cells_dropped++;
        mvpn_packet_free(relay->cfg.pool, body);
        return;
    }
    mvpn_packet_queue_init(&packets);
    if (mvpn_unpacker_take(&c->session->unpacker, relay->cfg.pool, body, now, &packets) != 0) {
        relay->counters.cells_dropped++;
    }
    if (c->session->unpacker.held > 0 && !mvpn_list_is_linked(&c->session->assembling)) {
        if (mvpn_list_is_empty(&relay->assembling)) {
            relay->sweep_at = now + MVPN_ASSEMBLY_LIFETIME + 1;
        }
        mvpn_list_append(&relay->assembling, &c->session->assembling);
    }
    while ((p = mvpn_packet_queue_pop(&packets)) != NULL) {
        (void)mvpn_exit_from_session(relay->cfg.exit, c->session->id, p, now); /* counted there */
    }
}

void relay_session_end(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    exit_session *s = c->session;
    if (!relay_session_is_open(c)) {
        return;
    }
    mvpn_exit_session_close(relay->cfg.exit, s->id, now);
    relay->by_session[SESSION_INDEX(s->id)] = NULL;
    mvpn_packer_done(&s->packer, relay->cfg.pool);
    mvpn_unpacker_done(&s->unpacker, relay->cfg.pool);
    mvpn_list_remove(&s->dirty);
    mvpn_list_remove(&s->assembling);
    s->is_open = false;
    mvpn_timer_set(&relay->timers, &c->timer, now + IDLE_TIME);
}

void relay_session_sweep(mvpn_relay *relay, mvpn_time now)
{
    if (now < relay->sweep_at) {
        return;
    }
    MVPN_LIST_FOREACH_SAFE(it, next, &relay->assembling)
    {
        exit_session *s = MVPN_CONTAINER_OF(it, exit_session, assembling);
        mvpn_unpacker_expire(&s->unpacker, relay->cfg.pool, now);
        if (s->unpacker.held == 0) {
            mvpn_list_remove(&s->assembling);
        }
    }
    relay->sweep_at =
        mvpn_list_is_empty(&relay->assembling) ? MVPN_TIME_NEVER : now + MVPN_ASSEMBLY_LIFETIME + 1;
}

static void send_bodies(mvpn_relay *relay, relay_circuit *c, mvpn_packet_queue *bodies,
                        mvpn_time now)
{
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, c->session->profile, MVPN_SIZE_CLASSES};
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(bodies)) != NULL) {
        relay_answer(relay, c, &kind, p, now);
    }
}

void relay_session_flush(mvpn_relay *relay, mvpn_time now)
{
    mvpn_packet_queue bodies;
    mvpn_packet *p;
    mvpn_list *node;
    uint32_t id;
    if (relay->cfg.exit == NULL) {
        return;
    }
    mvpn_packet_queue_init(&bodies);
    while (mvpn_exit_pull_to_session(relay->cfg.exit, &id, &p)) {
        relay_circuit *c = relay->by_session == NULL ? NULL : relay->by_session[SESSION_INDEX(id)];
        if (c == NULL || c->session->id != id) {
            mvpn_packet_free(relay->cfg.pool, p);
            continue;
        }
        if (mvpn_packer_add(&c->session->packer, relay->cfg.pool, p, &bodies) != 0) {
            relay->counters.cells_dropped++;
        }
        if (!mvpn_list_is_linked(&c->session->dirty)) {
            mvpn_list_append(&relay->dirty, &c->session->dirty);
        }
        send_bodies(relay, c, &bodies, now);
    }
    while ((node = mvpn_list_pop(&relay->dirty)) != NULL) {
        exit_session *s = MVPN_CONTAINER_OF(node, exit_session, dirty);
        MVPN_ASSERT(relay->by_session != NULL);
        relay_circuit *c = relay->by_session[SESSION_INDEX(s->id)];
        mvpn_packer_flush(&s->packer, &bodies);
        send_bodies(relay, c, &bodies, now);
    }
}
