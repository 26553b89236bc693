/*
 * The client's sessions, and which circuit carries each. (docs/protocol.md §7.1, §7.2)
 *
 *   OPENING -Connected-> LIVE, current -new identity, lifetime, exit gone-> LIVE, drains -> NONE
 *                          |  ^
 *          circuit failed  v  |  take-over: ticket, higher epoch
 *                         (detached)
 *
 * Rotation, failover and roaming are one thing: another circuit shows the ticket.
 */
#include "core/client_internal.h"

#include "base/error.h"

/* Drained: at the latest, and when nothing came for so long. */
#define DRAIN_TIME MVPN_S(10)
#define DRAIN_QUIET MVPN_S(1)
/* A session that takes no new flows ends at the latest after this. */
#define SESSION_DRAIN_TIME MVPN_S(3600)
/* The exit forgets a session that nobody carries after so long. (§7.1) */
#define DETACHED_TIME MVPN_S(900)
/* A pause in which nobody carries the session is no loss of the connection yet. */
#define DETACHED_PATIENCE MVPN_S(3)
/* An exit that was silent so long is gone, once there is another; one circuit's word for it, so
 * long until a second one is asked elsewhere. */
#define EXIT_PATIENCE MVPN_MS(1500)
#define EXIT_DOUBT MVPN_S(1)
/* Rotation: jitter in percent, and far below what a layer's counter allows. */
#define ROTATE_JITTER 25
#define ROTATE_CELLS (UINT64_C(1) << 30)

client_session *client_session_find(mvpn_client *client, uint32_t number)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        client_session *s = &client->sessions[i];
        if (s->state != SESSION_NONE && s->number == number) {
            return s;
        }
    }
    return NULL;
}

slot *client_spare(mvpn_client *client, const mvpn_ed25519_pub *exit)
{
    slot *best = NULL;
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (slot_is_spare(s) && s->cause != CAUSE_NEW && client_same(slot_exit(s), exit) &&
            (best == NULL || (best->asked != 0 && s->asked == 0))) {
            best = s;
        }
    }
    return best;
}

bool client_session_is_taken(const mvpn_client *client, const client_session *session)
{
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &client->slots[i];
        if (s->used && s->session == session->number &&
            (s->role == SLOT_TAKES || s->cause == CAUSE_ROTATE)) {
            return true;
        }
    }
    return false;
}

/* ---- the connection as the user sees it ---- */

static void set_state(mvpn_client *client, enum mvpn_client_state state, int error, mvpn_time now)
{
    if (client->state == state) {
        return;
    }
    client->state = state;
    client->since = now;
    if (state == MVPN_CLIENT_CONNECTING) {
        mvpn_stages_lose(&client->stages, MVPN_STAGE_GUARD, now);
        client->names.is_asking = false;
    }
    if (client->cfg.learner != NULL) {
        mvpn_learner_set_connected(client->cfg.learner, state == MVPN_CLIENT_CONNECTED, now);
    }
    mvpn_client_event e = {
        .type = state == MVPN_CLIENT_CONNECTED ? MVPN_CLIENT_EVENT_CONNECTED
                                               : MVPN_CLIENT_EVENT_DISCONNECTED,
        .error = error,
    };
    client_push_event(client, &e);
}

static void update_state(mvpn_client *client, int error, mvpn_time now)
{
    const client_session *s = client->current;
    if (s == NULL) {
        set_state(client, MVPN_CLIENT_CONNECTING, error, now);
    } else if (s->carrier != NULL) {
        set_state(client, MVPN_CLIENT_CONNECTED, 0, now);
    } else if (now - s->detached >= DETACHED_PATIENCE) {
        set_state(client, MVPN_CLIENT_CONNECTING, MVPN_E_TIMEOUT, now);
    }
}

/* ---- circuits of a session ---- */

static void drain(client_session *session, slot *s, mvpn_time now)
{
    if (session != NULL) {
        session->fragment_id = s->circuit.packer.next_id;
    }
    s->role = SLOT_DRAINS;
    s->drained = now + DRAIN_TIME;
    s->asked = 0;
}

void client_slot_lets_go(mvpn_client *client, slot *s, int error, mvpn_time now)
{
    client_session *session = s->session == 0 ? NULL : client_session_find(client, s->session);
    bool was_carrier = session != NULL && session->carrier == s;
    if (was_carrier) {
        session->carrier = NULL;
        session->detached = now;
        client->stats.switches++;
        if (client->failures == 0) {
            client->next_build = now; /* any pause was a spare circuit's */
        }
        mvpn_client_event e = {
            .type = MVPN_CLIENT_EVENT_SWITCHED,
            .error = error,
            .hop = s->circuit.state == MVPN_CIRCUIT_CLOSED
                       ? s->circuit.failed_hop
                       : mvpn_circuit_silent_hop(&s->circuit, s->asked),
        };
        client_push_event(client, &e);
        client->next_check = now;
    }
    if (session != NULL && session->state == SESSION_OPENING && s->role == SLOT_TAKES) {
        session->state = SESSION_NONE;
        client->next_check = now;
    }
    drain(was_carrier ? session : NULL, s, now);
}

void client_slot_take(mvpn_client *client, slot *s, client_session *session, mvpn_time now)
{
    s->role = SLOT_TAKES;
    s->session = session->number;
    s->begins = 1;
    if (session->state == SESSION_OPENING) {
        mvpn_circuit_begin(&s->circuit, NULL, 0, now);
    } else {
        mvpn_circuit_begin(&s->circuit, session->ticket, ++session->epoch, now);
    }
    if (s->circuit.state == MVPN_CIRCUIT_CLOSED) {
        client_circuit_changed(client, s, now);
    }
}

static client_session *new_session(mvpn_client *client)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        client_session *s = &client->sessions[i];
        if (s->state == SESSION_NONE) {
            *s = (client_session){.state = SESSION_OPENING, .number = ++client->session_count};
            return s;
        }
    }
    return NULL;
}

static const client_session *opening(const mvpn_client *client)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        if (client->sessions[i].state == SESSION_OPENING) {
            return &client->sessions[i];
        }
    }
    return NULL;
}

bool client_wants_new(const mvpn_client *client, mvpn_time now)
{
    const client_session *s = client->current;
    if (s == NULL) {
        return false; /* then every circuit is for a new one */
    }
    return client->wants_new || client->misfit != 0 || now >= s->expires || s->exit_is_silent ||
           (s->doubted != 0 && now - s->doubted >= EXIT_DOUBT);
}

static void open_new(mvpn_client *client, slot *s, mvpn_time now)
{
    /* It may have been built before the user chose others, or for an older session. */
    client_session *session =
        client_exit_fits(client, slot_exit(s), now) ? new_session(client) : NULL;
    if (session == NULL) {
        client_give_up(client, s, now); /* or there are too many: once an old one has ended */
        return;
    }
    session->exit = *slot_exit(s);
    client_slot_take(client, s, session, now);
}

void client_slot_ready(mvpn_client *client, slot *s, mvpn_time now)
{
    client_session *of = s->session == 0 ? NULL : client_session_find(client, s->session);
    if (s->cause == CAUSE_ROTATE && of != NULL && of->state == SESSION_LIVE) {
        client_slot_take(client, s, of, now);
        return;
    }
    s->cause = s->cause == CAUSE_ROTATE ? CAUSE_SERVE : s->cause;
    for (size_t i = 0; i < SESSIONS && s->cause != CAUSE_NEW; i++) {
        client_session *session = &client->sessions[i];
        if (session->state == SESSION_LIVE && session->carrier == NULL &&
            client_same(&session->exit, slot_exit(s)) &&
            !client_session_is_taken(client, session)) {
            client_slot_take(client, s, session, now);
            return;
        }
    }
    if (opening(client) == NULL &&
        (client->current == NULL || (s->cause == CAUSE_NEW && client_wants_new(client, now)))) {
        open_new(client, s, now);
        return;
    }
    if (s->cause == CAUSE_NEW) {
        client_give_up(client, s, now); /* the wish has passed */
        return;
    }
    client_slot_ask(client, s, now); /* a spare; measures the round trip too */
}

/* It takes no new flows from now on. Two may drain: one that the user left, and one whose exit has
 * gone; else the one that began first ends. */
static void begin_draining(mvpn_client *client, client_session *old, mvpn_time now)
{
    client_session *first = NULL;
    unsigned count = 0;
    for (size_t i = 0; i < SESSIONS; i++) {
        client_session *s = &client->sessions[i];
        if (s != old && s->state == SESSION_LIVE && s->drains_until != 0) {
            count++;
            first = first == NULL || s->drains_until < first->drains_until ? s : first;
        }
    }
    if (first != NULL && (count > 1 || old->doubted == 0)) {
        client_session_lost(client, first, now);
    }
    old->drains_until = now + SESSION_DRAIN_TIME;
}

static void make_current(mvpn_client *client, client_session *session, mvpn_time now)
{
    client_session *old = client->current;
    if (old != NULL) {
        begin_draining(client, old, now);
    }
    client->current = session;
    client->wants_new = false;
    client->shun_path = false;
    client->misfit = 0;
    client->has_exit = true;
    client->exit = session->exit;
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i]; /* spare circuits lead where we no longer go */
        if (s->used && s->role == SLOT_FREE && !client_same(slot_exit(s), &session->exit)) {
            client_give_up(client, s, now);
        }
    }
}

void client_session_leave(mvpn_client *client, mvpn_time now)
{
    if (client->current == NULL) {
        return;
    }
    begin_draining(client, client->current, now);
    client->current = NULL;
    client->misfit = 0;
    client->wants_new = false;
    client->shun_path = false;
    client->has_exit = false;
    client->next_check = now;
    update_state(client, MVPN_E_POLICY, now);
}

/* When does it give way to a fresh one? */
static void plan_rotation(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_rng *rng = client->cfg.env.rng;
    s->rotate_bytes =
        s->circuit.bytes + mvpn_rng_jitter(rng, client->cfg.rotate_bytes, ROTATE_JITTER);
    s->rotate_from = now + client->cfg.rotate_pause;
}

void client_slot_carries(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    client_session *session = client_session_find(client, s->session);
    if (session == NULL) {
        client_give_up(client, s, now);
        return;
    }
    slot *old = session->carrier;
    if (old != NULL && old != s) {
        drain(session, old, now);
        client->stats.rotations++;
    }
    /* Halves of one packet may come to the exit by both. */
    c->packer.next_id = session->fragment_id;
    mvpn_time renew = mvpn_rng_jitter(client->cfg.env.rng, client->cfg.renew_time, ROTATE_JITTER);
    /* Over the same path the hour goes on. */
    bool is_same = old != NULL && memcmp(&old->circuit.path, &c->path, sizeof(c->path)) == 0;
    s->renew_at = is_same ? old->renew_at : now + renew;
    plan_rotation(client, s, now);
    s->role = SLOT_CARRIES;
    s->cause = CAUSE_SERVE;
    session->carrier = s;
    session->detached = 0;
    memcpy(session->ticket, c->ticket, sizeof(session->ticket));
    mvpn_wipe(c->ticket, sizeof(c->ticket));
    if (session->state == SESSION_OPENING) {
        session->state = SESSION_LIVE;
        session->opened = now;
        session->profile = c->profile;
        session->flags = c->connected_flags;
        session->expires =
            now + mvpn_rng_jitter(client->cfg.env.rng, client->cfg.exit_lifetime, ROTATE_JITTER);
        MVPN_IGNORE(mvpn_flows_open_session(client->flows, session->number)); /* fewer than its */
        make_current(client, session, now);
        client_ip_set_session(&client->ip, session->profile,
                              (session->flags & MVPN_CONNECTED_IPV6) != 0);
        client->ip_is_set = true;
    } else {
        client->stats.takeovers++;
    }
    client_forgive(client, &c->path);
    s->next_ping = now; /* measure the round trip */
    if (session == client->current && !mvpn_stages_has(&client->stages, MVPN_STAGE_EXIT)) {
        mvpn_stages_reach(&client->stages, MVPN_STAGE_EXIT, now);
        if (client->cfg.asks_names) {
            client_names_start(&client->names, client->cfg.env.rng, now);
            client->next_check = now;
        }
    }
    update_state(client, 0, now);
    client_send_waiting(client, now);
}

void client_session_lost(mvpn_client *client, client_session *session, mvpn_time now)
{
    uint32_t number = session->number;
    bool was_live = session->state == SESSION_LIVE;
    mvpn_packet_queue resets;
    mvpn_packet *p;
    mvpn_wipe(session, sizeof(*session));
    session->state = SESSION_NONE;
    if (client->current == session) {
        client->current = NULL;
        client->stats.sessions_lost++;
        mvpn_client_event e = {.type = MVPN_CLIENT_EVENT_SESSION_LOST};
        client_push_event(client, &e);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (s->used && s->session == number && s->circuit.state != MVPN_CIRCUIT_CLOSED) {
            bool is_usable = s->circuit.state == MVPN_CIRCUIT_READY && s->role != SLOT_DRAINS;
            s->session = 0;
            s->role = is_usable || slot_is_building(s) ? SLOT_FREE : SLOT_DRAINS;
            if (s->role == SLOT_DRAINS) {
                mvpn_circuit_end_session(&s->circuit, now);
                client_give_up(client, s, now);
            }
        }
    }
    if (was_live) {
        mvpn_packet_queue_init(&resets);
        (void)mvpn_flows_end_session(client->flows, number, client->cfg.env.pool, &resets);
        while ((p = mvpn_packet_queue_pop(&resets)) != NULL) {
            client_ip_to_tun(&client->ip, p, &client->tun_out);
        }
    }
    update_state(client, MVPN_E_CLOSED, now);
    client->next_check = now;
}

/* A carrier that has done its part gives way before it must. */
static void rotate(mvpn_client *client, client_session *session, mvpn_time now)
{
    slot *s = session->carrier;
    if (client_session_is_taken(client, session) || client->is_offline) {
        return;
    }
    bool is_due = s->circuit.bytes >= s->rotate_bytes && now >= s->rotate_from;
    if (now >= s->renew_at) {
        s->renew_at = now + MVPN_S(60); /* if it fails */
        client_build_next(client, s, false, now);
    } else if (is_due || s->circuit.cells_out >= ROTATE_CELLS ||
               s->circuit.cells_in >= ROTATE_CELLS) {
        plan_rotation(client, s, now); /* if it fails, once more later */
        client_build_next(client, s, true, now);
    }
}

static void check_session(mvpn_client *client, client_session *session, mvpn_time now)
{
    if (session->carrier != NULL) {
        rotate(client, session, now);
    } else if (now - session->detached >= DETACHED_TIME) {
        client_session_lost(client, session, now);
        return;
    } else if (!client_session_is_taken(client, session)) {
        slot *spare = client_spare(client, &session->exit);
        if (spare != NULL) {
            client_slot_take(client, spare, session, now);
        }
    }
    if (session == client->current || session->state != SESSION_LIVE) {
        return;
    }
    bool is_gone = session->doubted != 0 && now - session->doubted >= EXIT_PATIENCE;
    if (is_gone || now >= session->drains_until ||
        mvpn_flows_count(client->flows, session->number, now) == 0) {
        client_session_lost(client, session, now);
    }
}

static void close_drained(mvpn_client *client, mvpn_time now)
{
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        const client_session *session =
            s->session == 0 ? NULL : client_session_find(client, s->session);
        bool is_doubted = session != NULL && session->doubted != 0;
        if (s->used && s->role == SLOT_DRAINS && !is_doubted &&
            now + DRAIN_TIME - s->drained >= DRAIN_QUIET &&
            now - s->circuit.last_in >= DRAIN_QUIET) {
            client_give_up(client, s, now);
        }
    }
}

void client_sessions_tick(mvpn_client *client, mvpn_time now)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        if (client->sessions[i].state == SESSION_LIVE) {
            check_session(client, &client->sessions[i], now);
        }
    }
    /* None: a spare is as good as a new circuit. */
    for (size_t i = 0; i < SLOTS && client->current == NULL && opening(client) == NULL; i++) {
        if (slot_is_spare(&client->slots[i])) {
            client_slot_ready(client, &client->slots[i], now);
        }
    }
    close_drained(client, now);
    update_state(client, MVPN_E_TIMEOUT, now);
}
