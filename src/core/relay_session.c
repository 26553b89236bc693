/*
 * Relay as the last hop: sessions between circuits and the exit core. (docs/protocol.md §7)
 * Who may have a session is decided by sessions.c; here circuits are tied to them.
 */
#include "core/relay_internal.h"

#include <stdlib.h>
#include <string.h>

/* A session number's low half is its index (exit/exit.h). */
#define SESSION_INDEX(id) ((id)&0xffffu)

/* The sessions of an exit; comes into being with the first. */
struct relay_sessions {
    mvpn_sessions table;
    exit_session **by_index;
    uint32_t size;
};

static exit_session *session_of(mvpn_session *s)
{
    return s == NULL ? NULL : MVPN_CONTAINER_OF(s, exit_session, entry);
}

bool relay_session_is_open(const relay_circuit *c)
{
    return c->session != NULL && c->session->entry.circuit == c;
}

static uint32_t inner_mtu(unsigned profile)
{
    return (uint32_t)mvpn_cell_room(MVPN_CLASS_FULL, profile) - MVPN_DATA_ITEM_FIXED;
}

static int sessions_reserve(mvpn_relay *relay)
{
    if (relay->sessions != NULL) {
        return 0;
    }
    struct relay_sessions *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return MVPN_E_NOMEM;
    }
    all->size = mvpn_exit_sessions_max(relay->cfg.exit);
    all->by_index = calloc(all->size, sizeof(exit_session *));
    if (all->by_index == NULL ||
        mvpn_sessions_init(&all->table, relay->cfg.rng, relay->cfg.pool, all->size) != 0) {
        free(all->by_index);
        free(all);
        return MVPN_E_NOMEM;
    }
    relay->sessions = all;
    return 0;
}

static exit_session *session_find(const mvpn_relay *relay, uint32_t id)
{
    const struct relay_sessions *all = relay->sessions;
    if (all == NULL || SESSION_INDEX(id) >= all->size) {
        return NULL;
    }
    exit_session *s = all->by_index[SESSION_INDEX(id)];
    return s != NULL && s->id == id ? s : NULL;
}

/* Nothing is left here but a circuit that leads nowhere: it goes like any other. */
static void circuit_let_go(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    c->session = NULL;
    mvpn_timer_set(&relay->timers, &c->timer, now + IDLE_TIME);
}

static void session_close(mvpn_relay *relay, exit_session *s, mvpn_time now)
{
    if (s->entry.circuit != NULL) {
        circuit_let_go(relay, s->entry.circuit, now);
    }
    if (s->entry.draining != NULL) {
        s->entry.draining->session = NULL; /* its timer runs since the take-over */
    }
    mvpn_session_close(&relay->sessions->table, &s->entry);
    mvpn_exit_session_close(relay->cfg.exit, s->id, now);
    relay->sessions->by_index[SESSION_INDEX(s->id)] = NULL;
    mvpn_packer_done(&s->packer, relay->cfg.pool);
    mvpn_unpacker_done(&s->unpacker, relay->cfg.pool);
    mvpn_list_remove(&s->dirty);
    mvpn_list_remove(&s->assembling);
    free(s);
}

/* --- cells to the client --- */

static void send_bodies(mvpn_relay *relay, exit_session *s, mvpn_packet_queue *bodies,
                        mvpn_time now)
{
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, s->profile, MVPN_SIZE_CLASSES};
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(bodies)) != NULL) {
        relay_answer(relay, s->entry.circuit, &kind, p, now);
    }
}

static void send_packet(mvpn_relay *relay, exit_session *s, mvpn_packet *packet, mvpn_time now)
{
    mvpn_packet_queue bodies;
    mvpn_packet_queue_init(&bodies);
    if (mvpn_packer_add(&s->packer, relay->cfg.pool, packet, &bodies) != 0) {
        relay->counters.cells_dropped++;
    }
    send_bodies(relay, s, &bodies, now);
}

static void send_rest(mvpn_relay *relay, exit_session *s, mvpn_time now)
{
    mvpn_packet_queue bodies;
    mvpn_packet_queue_init(&bodies);
    mvpn_packer_flush(&s->packer, &bodies);
    send_bodies(relay, s, &bodies, now);
}

/* --- Begin --- */

static void send_connected(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(relay->cfg.pool);
    if (p == NULL) {
        return; /* the client asks again */
    }
    const exit_session *s = c->begin.status == MVPN_REASON_NONE ? c->session : NULL;
    MVPN_ASSERT(c->begin.status != MVPN_REASON_NONE || relay_session_is_open(c));
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_CONNECTED, s == NULL ? 1 : s->profile, MVPN_SIZE_CLASSES};
    mvpn_connected m = {
        .request_id = c->begin.request_id,
        .status = c->begin.status,
        .flags = s == NULL ? 0 : s->flags,
        .ticket = s == NULL ? MVPN_BYTES_NONE : MVPN_BYTES_ARRAY(s->entry.next.bytes),
    };
    p->len = (uint32_t)mvpn_connected_encode(p->data, MVPN_ROOM_PROFILE1, &m);
    relay_answer(relay, c, &kind, p, now);
}

/* A place at the exit, if need be that of a session whose owner is not there. */
static int open_at_exit(mvpn_relay *relay, const mvpn_begin *m, mvpn_time now, uint32_t *ret_id)
{
    bool want_v6 = (m->flags & MVPN_BEGIN_IPV6) != 0;
    uint32_t mtu = inner_mtu(m->profile);
    int r = mvpn_exit_session_open(relay->cfg.exit, mtu, want_v6, now, ret_id);
    if (r == 0 || !mvpn_exit_wants_room(relay->cfg.exit)) {
        return r;
    }
    exit_session *oldest = session_of(mvpn_sessions_oldest_detached(&relay->sessions->table));
    if (oldest == NULL) {
        return r;
    }
    session_close(relay, oldest, now);
    return mvpn_exit_session_open(relay->cfg.exit, mtu, want_v6, now, ret_id);
}

/* The circuit carries the session from now on. */
static void carry(mvpn_relay *relay, relay_circuit *c, exit_session *s, unsigned profile)
{
    uint16_t next_id = s->packer.next_id; /* halves may still come by the circuit before */
    mvpn_packer_done(&s->packer, relay->cfg.pool);
    mvpn_packer_init(&s->packer, profile);
    s->packer.next_id = next_id;
    s->profile = (uint8_t)profile;
    c->session = s;
    mvpn_timer_clear(&relay->timers, &c->timer);
}

/* A circuit that drained for another session now has something else to do. */
static void stop_draining(relay_circuit *c)
{
    if (c->session != NULL && c->session->entry.draining == c) {
        mvpn_session_stop_draining(&c->session->entry);
    }
    c->session = NULL;
}

static enum mvpn_reason session_open(mvpn_relay *relay, relay_circuit *c, const mvpn_begin *m,
                                     mvpn_time now)
{
    link_state *ls = relay_link_state(relay, c->prev.link, now);
    if (ls == NULL || !relay_link_take(relay, ls, &ls->sessions, now)) {
        return MVPN_REASON_BUSY;
    }
    exit_session *s = calloc(1, sizeof(*s));
    if (s == NULL || open_at_exit(relay, m, now, &s->id) != 0) {
        free(s);
        return MVPN_REASON_BUSY;
    }
    s->flags = MVPN_CONNECTED_IPV4;
    if (mvpn_exit_session_has_v6(relay->cfg.exit, s->id)) {
        s->flags |= MVPN_CONNECTED_IPV6;
    }
    stop_draining(c);
    mvpn_session_open(&relay->sessions->table, &s->entry, c, now);
    relay->sessions->by_index[SESSION_INDEX(s->id)] = s;
    carry(relay, c, s, m->profile);
    return MVPN_REASON_NONE;
}

static enum mvpn_reason session_take_over(mvpn_relay *relay, relay_circuit *c, const mvpn_begin *m,
                                          mvpn_time now)
{
    mvpn_session *found;
    mvpn_sessions *table = &relay->sessions->table;
    int r = mvpn_sessions_find(table, m->ticket.p, m->epoch, now, &found);
    if (r != 0) {
        return r == MVPN_E_LIMIT ? MVPN_REASON_BUSY : MVPN_REASON_SESSION_UNKNOWN;
    }
    exit_session *s = session_of(found);
    relay_circuit *before = found->circuit;
    if (c->session != s) {
        stop_draining(c);
    }
    relay_circuit *drained = mvpn_session_take_over(table, found, m->ticket.p, m->epoch, c, now);
    if (drained != NULL) {
        drained->session = NULL;
    }
    if (before != NULL) {
        mvpn_timer_set(&relay->timers, &before->timer, now + IDLE_TIME);
    }
    carry(relay, c, s, m->profile);
    r = mvpn_exit_session_attach(relay->cfg.exit, s->id, inner_mtu(m->profile));
    MVPN_ASSERT(r == 0); /* both profiles fit */
    return MVPN_REASON_NONE;
}

static void begin(mvpn_relay *relay, relay_circuit *c, const mvpn_begin *m, mvpn_time now)
{
    enum mvpn_reason status = MVPN_REASON_REFUSED;
    if (c->begin.is_answered && c->begin.request_id == m->request_id) {
        if (c->begin.status != MVPN_REASON_NONE || relay_session_is_open(c)) {
            send_connected(relay, c, now);
        }
        return;
    }
    if (relay_session_is_open(c)) {
        return; /* one session a circuit */
    }
    if (relay->cfg.exit != NULL && c->state == CIRCUIT_OPEN) {
        if (sessions_reserve(relay) != 0) {
            status = MVPN_REASON_BUSY;
        } else {
            status = m->epoch == 0 ? session_open(relay, c, m, now)
                                   : session_take_over(relay, c, m, now);
        }
    }
    c->begin.is_answered = true;
    c->begin.request_id = m->request_id;
    c->begin.status = (uint8_t)status;
    send_connected(relay, c, now);
    if (status == MVPN_REASON_NONE) {
        mvpn_packet *p;
        while ((p = mvpn_session_pull_waiting(&relay->sessions->table, &c->session->entry)) !=
               NULL) {
            send_packet(relay, c->session, p, now);
        }
        send_rest(relay, c->session, now);
    } else if (m->epoch != 0 && ++c->begin.refused == TAKE_OVERS_REFUSED_MAX) {
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
    }
}

void relay_session_begin(mvpn_relay *relay, relay_circuit *c, mvpn_packet *packet, mvpn_time now)
{
    mvpn_begin m;
    if (mvpn_begin_decode(&m, mvpn_bytes_of(packet->data, packet->len)) == 0) {
        begin(relay, c, &m, now);
    }
    mvpn_wipe(packet->data, packet->len); /* a ticket leaves no copy in the pool */
}

/* --- what comes from the client, until it goes --- */

void relay_session_data(mvpn_relay *relay, relay_circuit *c, mvpn_packet *body, mvpn_time now)
{
    mvpn_packet_queue packets;
    mvpn_packet *p;
    exit_session *s = c->session;
    if (s == NULL) {
        relay->counters.cells_dropped++;
        mvpn_packet_free(relay->cfg.pool, body);
        return;
    }
    if (s->entry.circuit == c) {
        mvpn_session_confirm(&relay->sessions->table, &s->entry);
    }
    mvpn_packet_queue_init(&packets);
    if (mvpn_unpacker_take(&s->unpacker, relay->cfg.pool, body, now, &packets) != 0) {
        relay->counters.cells_dropped++;
    }
    if (s->unpacker.held > 0 && !mvpn_list_is_linked(&s->assembling)) {
        if (mvpn_list_is_empty(&relay->assembling)) {
            relay->sweep_at = now + MVPN_ASSEMBLY_LIFETIME + 1;
        }
        mvpn_list_append(&relay->assembling, &s->assembling);
    }
    while ((p = mvpn_packet_queue_pop(&packets)) != NULL) {
        if (mvpn_exit_from_session(relay->cfg.exit, s->id, p, now) == 0) { /* counted there */
            s->entry.has_passed = true;
        }
    }
}

void relay_session_end(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    if (relay_session_is_open(c)) {
        session_close(relay, c->session, now);
    }
}

void relay_session_leave(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    exit_session *s = c->session;
    if (!relay_session_is_open(c)) {
        stop_draining(c);
        return;
    }
    c->session = NULL;
    mvpn_packer_done(&s->packer, relay->cfg.pool);
    mvpn_list_remove(&s->dirty);
    mvpn_unpacker_done(&s->unpacker, relay->cfg.pool); /* without its circuit it holds no buffers */
    mvpn_list_remove(&s->assembling);
    mvpn_session_detach(&relay->sessions->table, &s->entry, now);
    mvpn_exit_session_detach(relay->cfg.exit, s->id);
    while ((s = session_of(mvpn_sessions_surplus(&relay->sessions->table))) != NULL) {
        session_close(relay, s, now);
    }
}

/* --- time --- */

static void sweep_fragments(mvpn_relay *relay, mvpn_time now)
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

void relay_session_tick(mvpn_relay *relay, mvpn_time now)
{
    mvpn_session *s;
    sweep_fragments(relay, now);
    if (relay->sessions == NULL) {
        return;
    }
    while ((s = mvpn_sessions_drained(&relay->sessions->table, now)) != NULL) {
        stop_draining(s->draining);
    }
    while ((s = mvpn_sessions_expired(&relay->sessions->table, now)) != NULL) {
        session_close(relay, session_of(s), now);
    }
}

mvpn_time relay_session_deadline(const mvpn_relay *relay)
{
    return relay->sessions == NULL
               ? relay->sweep_at
               : mvpn_time_min(relay->sweep_at, mvpn_sessions_deadline(&relay->sessions->table));
}

/* --- what the exit has, and the end --- */

void relay_session_flush(mvpn_relay *relay, mvpn_time now)
{
    mvpn_packet *p;
    mvpn_list *node;
    uint32_t id;
    if (relay->cfg.exit == NULL) {
        return;
    }
    while (mvpn_exit_pull_to_session(relay->cfg.exit, &id, &p)) {
        exit_session *s = session_find(relay, id);
        if (s == NULL) {
            mvpn_packet_free(relay->cfg.pool, p);
            continue;
        }
        if (s->entry.circuit == NULL) {
            mvpn_session_wait(&relay->sessions->table, &s->entry, p);
            continue;
        }
        if (!mvpn_list_is_linked(&s->dirty)) {
            mvpn_list_append(&relay->dirty, &s->dirty);
        }
        send_packet(relay, s, p, now);
    }
    while ((node = mvpn_list_pop(&relay->dirty)) != NULL) {
        send_rest(relay, MVPN_CONTAINER_OF(node, exit_session, dirty), now);
    }
}

void relay_session_free(mvpn_relay *relay, mvpn_time now)
{
    struct relay_sessions *all = relay->sessions;
    if (all == NULL) {
        return;
    }
    for (uint32_t i = 0; i < all->size; i++) {
        exit_session *s = all->by_index[i];
        if (s == NULL) {
            continue;
        }
        mvpn_packet *p = s->entry.circuit == NULL ? NULL : mvpn_packet_new(relay->cfg.pool);
        if (p != NULL) {
            mvpn_cell_kind kind = {MVPN_CMD_RELAY_END, s->profile, MVPN_SIZE_CLASSES};
            *mvpn_packet_append(p, 1) = MVPN_REASON_FINISHED;
            relay_answer(relay, s->entry.circuit, &kind, p, now);
        }
        session_close(relay, s, now);
    }
    mvpn_sessions_done(&all->table);
    free(all->by_index);
    free(all);
    relay->sessions = NULL;
}
