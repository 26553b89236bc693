/*
 * The client: who still answers? (docs/protocol.md §7.2)
 *
 * Data without an answer is asked about by pings to every hop of the circuit: the first hop that
 * stays silent is where it broke. A guard's silence may mean that it was restarted and knows
 * nothing of our link, so the link itself is asked; the exit's, while the hop before it answers,
 * that the exit is gone.
 */
#include "core/client_internal.h"

#include "base/error.h"

/* A step: two round trips, within these. */
#define STEP_MIN MVPN_MS(100)
#define STEP_MAX MVPN_MS(500)
/* For round trips of more than that: so much more than one. */
#define STEP_LONGEST MVPN_S(3)
#define MISSES_MAX 3
#define IDLE_PING MVPN_S(30)
/* Ticks while something is in doubt, and else. */
#define PAUSE_DOUBT MVPN_MS(20)
#define PAUSE MVPN_MS(100)
#define BEGIN_TRIES 8

static mvpn_time step_of(const mvpn_circuit *c)
{
    mvpn_time rtt = c->rtt_us;
    if (rtt == 0) {
        return STEP_MAX;
    }
    mvpn_time step = MVPN_MAX(STEP_MIN, MVPN_MIN(2 * rtt, STEP_MAX));
    mvpn_time late = MVPN_MIN(rtt + 4 * (mvpn_time)c->rtt_var_us, STEP_LONGEST);
    return MVPN_MAX(step, late);
}

mvpn_time client_slot_pause(const slot *s)
{
    bool is_in_doubt = s->asked != 0 || s->circuit.unanswered != 0 || s->role == SLOT_TAKES;
    return s->used && is_in_doubt ? PAUSE_DOUBT : PAUSE;
}

static void ask_hops(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    for (unsigned hop = c->path.count; hop >= 1 && c->state != MVPN_CIRCUIT_CLOSED; hop--) {
        mvpn_circuit_ping(c, hop, now);
    }
    s->ask_next = now + step_of(c);
    s->next_ping = now + mvpn_rng_jitter(client->cfg.env.rng, IDLE_PING, 25);
}

void client_slot_ask(mvpn_client *client, slot *s, mvpn_time now)
{
    if (s->asked == 0) {
        s->asked = now;
        s->misses = 0;
        ask_hops(client, s, now);
    }
}

/* Whose silence is it? */
static void note_silence(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    unsigned silent = mvpn_circuit_silent_hop(c, s->asked);
    if (silent == 1 && c->link != NULL) {
        mvpn_link_suspect(c->link, now);
    } else if (silent > 1 && silent < c->path.count) {
        client_exclude(client, &c->path.hop[silent - 1], now);
    } else if (silent > 1) {
        for (size_t i = 0; i < SESSIONS; i++) {
            client_session *session = &client->sessions[i];
            if (session->state == SESSION_LIVE && client_same(&session->exit, slot_exit(s))) {
                session->exit_is_silent = session->exit_is_silent || session->doubted != 0;
                session->doubted = session->doubted != 0 ? session->doubted : now;
            }
        }
    }
}

/* Its exit answers none of our questions. */
static void fail(mvpn_client *client, slot *s, mvpn_time now)
{
    note_silence(client, s, now);
    if (s->role != SLOT_CARRIES) {
        mvpn_circuit_close(&s->circuit, MVPN_E_TIMEOUT, MVPN_REASON_TIMEOUT, 0, now);
        return;
    }
    /* The spare has been asked meanwhile: that it is silent too says more. */
    slot *spare = client_spare(client, slot_exit(s));
    if (spare != NULL && spare->asked != 0 && spare->misses > 0) {
        note_silence(client, spare, now);
    }
    client_slot_lets_go(client, s, MVPN_E_TIMEOUT, now);
    s->asked = 0;
}

/* Any word of an exit ends the doubts about it. */
static void hear_exit(mvpn_client *client, const slot *s)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        client_session *session = &client->sessions[i];
        if (session->doubted != 0 && s->circuit.last_in > session->doubted &&
            client_same(&session->exit, slot_exit(s))) {
            session->doubted = 0;
            session->exit_is_silent = false;
        }
    }
}

static bool is_doubted(mvpn_client *client, const slot *s)
{
    const client_session *session =
        s->session == 0 ? NULL : client_session_find(client, s->session);
    return session != NULL && session->doubted != 0;
}

/* Is the circuit alive? Unanswered data or a long silence is asked about. */
static void check_alive(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    hear_exit(client, s);
    if (s->asked != 0 && c->last_in >= s->asked) {
        s->asked = 0;
    }
    if (client->is_offline) {
        return;
    }
    if (s->role == SLOT_DRAINS) {
        if (is_doubted(client, s) && now >= s->ask_next) {
            ask_hops(client, s, now); /* before its connections are reset */
        }
        return;
    }
    if (s->asked != 0) {
        if (now < s->ask_next) {
            return;
        }
        if (++s->misses >= MISSES_MAX) {
            fail(client, s, now);
            return;
        }
        ask_hops(client, s, now);
        slot *spare = s->role == SLOT_CARRIES ? client_spare(client, slot_exit(s)) : NULL;
        if (spare != NULL) {
            client_slot_ask(client, spare, now);
        }
        return;
    }
    bool is_unanswered = c->unanswered != 0 && now - c->unanswered >= step_of(c);
    if (is_unanswered || now >= s->next_ping) {
        client_slot_ask(client, s, now);
    }
}

static void check_begin(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    if (client->is_offline || now - c->begin_sent < step_of(c)) {
        return;
    }
    if (s->begins++ >= BEGIN_TRIES) {
        mvpn_circuit_close(c, MVPN_E_TIMEOUT, MVPN_REASON_TIMEOUT, c->path.count, now);
    } else {
        mvpn_circuit_begin_again(c, now);
        client_slot_ask(client, s, now);
    }
}

void client_slot_check(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    if (slot_is_building(s)) {
        if (now - c->began > client_build_timeout(client)) {
            /* Blame the hop that did not answer. */
            mvpn_circuit_close(c, MVPN_E_TIMEOUT, MVPN_REASON_TIMEOUT, c->onion.count + 1, now);
        }
    } else {
        if (c->state == MVPN_CIRCUIT_BEGIN) {
            check_begin(client, s, now);
        }
        if (c->state != MVPN_CIRCUIT_CLOSED) {
            check_alive(client, s, now);
        }
        if (s->role == SLOT_DRAINS && now >= s->drained && c->state != MVPN_CIRCUIT_CLOSED) {
            mvpn_circuit_close(c, 0, MVPN_REASON_FINISHED, 0, now);
        }
    }
    if (s->used && c->state == MVPN_CIRCUIT_CLOSED) {
        client_circuit_changed(client, s, now);
    }
}
