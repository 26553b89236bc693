#include "core/client_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* IP packets that wait while there is no session: an application's first tries, no more. */
#define WAITING_MAX 128
/* How often the guards are compared with the view. */
#define GUARDS_STEP MVPN_S(1)
#define TICK_STEP MVPN_MS(100)
/* Between two ticks: we slept. And a pause after which a guard may have forgotten us. */
#define SLEEP_GAP MVPN_S(5)
#define FORGOTTEN MVPN_S(20)
/* Rotation and exit lifetime, where the configuration says nothing. (§7.1, §7.2) */
#define ROTATE_BYTES (UINT64_C(1) << 30)
#define ROTATE_PAUSE MVPN_S(30)
#define RENEW_TIME MVPN_S(3600)
#define EXIT_LIFETIME MVPN_S(8 * 3600)

void client_push_event(mvpn_client *client, const mvpn_client_event *event)
{
    if (client->event_count == EVENTS_MAX) { /* nobody listens: the oldest gives way */
        client->event_first = (client->event_first + 1) % EVENTS_MAX;
        client->event_count--;
    }
    client->events[(client->event_first + client->event_count++) % EVENTS_MAX] = *event;
}

bool mvpn_client_pull_event(mvpn_client *client, mvpn_client_event *ret)
{
    if (client->event_count == 0) {
        return false;
    }
    *ret = client->events[client->event_first];
    client->event_first = (client->event_first + 1) % EVENTS_MAX;
    client->event_count--;
    return true;
}

uint64_t client_unix(const mvpn_client *client, mvpn_time now)
{
    int64_t t = ((int64_t)now + client->cfg.unix_offset_us) / (int64_t)MVPN_US_PER_S;
    return t < 1 ? 1 : (uint64_t)t;
}

void client_give_up(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit_close(&s->circuit, 0, MVPN_REASON_FINISHED, 0, now);
    client_circuit_changed(client, s, now);
}

static void circuit_closed(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    if (client->cfg.learner != NULL) {
        mvpn_learner_circuit_closed(client->cfg.learner, c);
    }
    s->used = false;
    if (s->role == SLOT_TAKES && c->error != 0) {
        const mvpn_stage_trouble trouble = {.cause = MVPN_STAGE_NO_SESSION, .error = c->error};
        mvpn_stages_hold(&client->stages, MVPN_STAGE_EXIT, &trouble);
    }
    if (c->built == 0) {
        if (c->error != 0) {
            client_build_failed(client, s, now);
        }
    } else if (c->failed_hop > 0) {
        client_blame(client, c, now);
    }
    client_slot_lets_go(client, s, c->error, now);
    client->next_check = now;
}

/* The exit has closed the session, or does not know its ticket. */
static void session_refused(mvpn_client *client, slot *s, mvpn_time now)
{
    client_session *session = client_session_find(client, s->session);
    if (session == NULL) {
        return;
    }
    if (session->carrier != NULL && session->carrier != s) {
        /* Another circuit was faster, or has to find out by itself that the exit forgot us. */
        client_give_up(client, s, now);
        return;
    }
    client_session_lost(client, session, now);
}

void client_circuit_changed(mvpn_client *client, slot *s, mvpn_time now)
{
    mvpn_circuit *c = &s->circuit;
    if (!s->used) {
        return;
    }
    if (c->state == MVPN_CIRCUIT_READY) {
        if (c->session_end != MVPN_SESSION_NOT_ENDED && s->session != 0) {
            session_refused(client, s, now);
        }
        if (s->used && s->role == SLOT_FREE && c->state == MVPN_CIRCUIT_READY) {
            client_slot_ready(client, s, now);
        }
    } else if (c->state == MVPN_CIRCUIT_RELAY && s->role == SLOT_TAKES) {
        client_slot_carries(client, s, now);
    } else if (c->state == MVPN_CIRCUIT_CLOSED) {
        circuit_closed(client, s, now);
    }
}

/* What a hop answered as a directory goes to the learner. */
static void take_answer(mvpn_client *client, mvpn_circuit *c, mvpn_time now)
{
    unsigned hop, command;
    uint32_t request_id;
    mvpn_packet *p = mvpn_circuit_take_answer(c, &hop, &request_id, &command);
    if (p != NULL && client->cfg.learner != NULL) {
        mvpn_learner_answer(client->cfg.learner, c, hop, request_id, command, p, now);
    } else {
        mvpn_packet_free(client->cfg.env.pool, p);
    }
}

void mvpn_client_message(mvpn_client *client, mvpn_link *link, const mvpn_header *header,
                         mvpn_packet *packet, mvpn_time now)
{
    mvpn_packet_queue packets;
    mvpn_packet *p;
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        mvpn_circuit *c = &s->circuit;
        if (!s->used || c->link != link ||
            memcmp(c->in.b, header->circuit.b, sizeof(c->in.b)) != 0) {
            continue;
        }
        enum mvpn_circuit_state before = c->state;
        mvpn_packet_queue_init(&packets);
        mvpn_circuit_message(c, header, packet, now, &packets);
        while ((p = mvpn_packet_queue_pop(&packets)) != NULL) {
            if (!mvpn_flows_in(client->flows, p->data, p->len, s->session, now)) {
                client->stats.dropped++;
                mvpn_packet_free(client->cfg.env.pool, p);
                continue;
            }
            if (MVPN_UNLIKELY(client->names.is_asking) && client_stages_take(client, p, now)) {
                mvpn_packet_free(client->cfg.env.pool, p);
                continue;
            }
            client->stats.packets_down++;
            client->stats.bytes_down += p->len;
            client_ip_to_tun(&client->ip, p, &client->tun_out);
        }
        take_answer(client, c, now);
        if (c->state != before) {
            if (before == MVPN_CIRCUIT_BUILD && c->state != MVPN_CIRCUIT_CLOSED) {
                mvpn_stages_reach(&client->stages, MVPN_STAGE_GUARD, now);
            }
            if (c->state == MVPN_CIRCUIT_READY && before <= MVPN_CIRCUIT_EXTEND) {
                client_note_built(client, c, now);
            }
            client_circuit_changed(client, s, now);
        }
        return;
    }
    client->stats.dropped++;
    mvpn_packet_free(client->cfg.env.pool, packet);
}

void mvpn_client_link_closed(mvpn_client *client, mvpn_link *link, mvpn_time now)
{
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (s->used && s->circuit.link == link) {
            bool is_forgotten = slot_is_building(s) && s->is_link_old;
            mvpn_circuit_link_closed(&s->circuit, now);
            if (is_forgotten) {
                s->circuit.failed_hop = 0; /* a new handshake will tell whether it lives */
            }
            client_circuit_changed(client, s, now);
        }
    }
}

static void wait_for_session(mvpn_client *client, mvpn_packet *packet)
{
    if (client->waiting.count >= WAITING_MAX) { /* the newest matter: retries follow the old ones */
        mvpn_packet_free(client->cfg.env.pool, mvpn_packet_queue_pop(&client->waiting));
        client->stats.dropped++;
    }
    mvpn_packet_queue_push(&client->waiting, packet);
}

void mvpn_client_from_tun(mvpn_client *client, mvpn_packet *packet, mvpn_time now)
{
    const client_session *s = client->current;
    if (!client->ip_is_set) {
        wait_for_session(client, packet);
        return;
    }
    if ((packet->flags & MVPN_PACKET_INNER) == 0) {
        if (!client_ip_from_tun(&client->ip, packet, &client->tun_out)) {
            client->stats.dropped++;
            return;
        }
        packet->flags |= MVPN_PACKET_INNER;
    }
    uint32_t number =
        mvpn_flows_out(client->flows, packet->data, packet->len, s == NULL ? 0 : s->number, now);
    if (MVPN_UNLIKELY(s == NULL || number != s->number)) {
        s = number == 0 ? NULL : client_session_find(client, number);
        if (number == 0 && client->current != NULL) {
            client->stats.dropped++; /* of a connection that is being reset */
            mvpn_packet_free(client->cfg.env.pool, packet);
            return;
        }
    }
    if (s == NULL || s->carrier == NULL) {
        wait_for_session(client, packet);
        return;
    }
    client->stats.packets_up++;
    client->stats.bytes_up += packet->len;
    mvpn_circuit_send(&s->carrier->circuit, packet, now);
}

void client_send_waiting(mvpn_client *client, mvpn_time now)
{
    mvpn_packet *p;
    /* Those that still have no session wait again, behind the others. */
    for (size_t n = client->waiting.count; n > 0 && client->waiting.count > 0; n--) {
        p = mvpn_packet_queue_pop(&client->waiting);
        mvpn_client_from_tun(client, p, now);
    }
}

static void reset_flows(mvpn_client *client)
{
    mvpn_packet_queue resets;
    mvpn_packet *p;
    mvpn_packet_queue_init(&resets);
    if (mvpn_flows_resets(client->flows, client->cfg.env.pool, &resets) > 0) {
        client->next_check = 0; /* soon again */
    }
    while ((p = mvpn_packet_queue_pop(&resets)) != NULL) {
        client_ip_to_tun(&client->ip, p, &client->tun_out);
    }
}

void mvpn_client_flush(mvpn_client *client, mvpn_time now)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        slot *s = client->sessions[i].carrier;
        if (s == NULL) {
            continue;
        }
        mvpn_circuit_flush(&s->circuit, now);
        if (s->circuit.state == MVPN_CIRCUIT_CLOSED) {
            client_circuit_changed(client, s, now);
        }
    }
    reset_flows(client);
}

/* ---- the network below, and the wishes of the user ---- */

void client_wake(mvpn_client *client, bool was_long, mvpn_time now)
{
    client->failures = 0;
    client->online = now;
    client->next_build = now;
    client->next_new = now;
    client->next_check = now;
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (!s->used || s->circuit.link == NULL) {
            continue;
        }
        s->asked = 0;
        s->circuit.began = slot_is_building(s) ? now : s->circuit.began;
        if (was_long) {
            mvpn_link_suspect(s->circuit.link, now);
        }
        if (!slot_is_building(s) && s->role != SLOT_DRAINS) {
            client_slot_ask(client, s, now);
        }
    }
}

void mvpn_client_network_changed(mvpn_client *client, bool is_online, mvpn_time now)
{
    bool was_long = client->is_offline && now - client->online >= FORGOTTEN;
    client->is_offline = !is_online;
    if (is_online) {
        client_wake(client, was_long, now);
    } else {
        client->online = now; /* until now */
    }
}

void mvpn_client_new_identity(mvpn_client *client, mvpn_time now)
{
    if (client->current != NULL) {
        client->wants_new = true;
        client->shun_path = true;
        client->next_new = now;
        client->next_check = now;
    }
}

const mvpn_guards *mvpn_client_guards(const mvpn_client *client)
{
    return client->guards;
}

size_t mvpn_client_guards_save(const mvpn_client *client, uint8_t *out, size_t size)
{
    return mvpn_guards_save(client->guards, out, size);
}

int mvpn_client_guards_load(mvpn_client *client, mvpn_bytes saved)
{
    return mvpn_guards_load(client->guards, saved);
}

static void offer_circuits(mvpn_client *client, mvpn_time now)
{
    if (client->state != MVPN_CLIENT_CONNECTED) {
        return;
    }
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (s->used && (s->role == SLOT_CARRIES || slot_is_spare(s))) {
            mvpn_learner_offer_circuit(client->cfg.learner, &s->circuit, now);
        }
    }
}

void mvpn_client_tick(mvpn_client *client, mvpn_time now)
{
    if (now < client->next_check) {
        return;
    }
    if (client->ticked != 0 && now - client->ticked >= SLEEP_GAP) {
        client_wake(client, now - client->ticked >= FORGOTTEN, now);
    }
    client->ticked = now;
    client->next_check = now + TICK_STEP;
    for (size_t i = 0; i < SLOTS; i++) {
        if (client->slots[i].used) {
            client_slot_check(client, &client->slots[i], now);
        }
    }
    client_sessions_tick(client, now);
    if (now >= client->next_guards && client_uses_guards(client)) {
        client->next_guards = now + GUARDS_STEP;
        client_watch_guards(client, now);
    }
    if (client->cfg.learner != NULL) {
        offer_circuits(client, now);
    }
    /* Before something complete is known, too little would decide about guards. */
    const mvpn_learner *learner = client->first->cfg.learner;
    if (learner == NULL || mvpn_learner_is_ready(learner)) {
        client_build_missing(client, now);
    }
    client_stages_tick(client, now);
    for (size_t i = 0; i < SLOTS; i++) {
        client->next_check =
            mvpn_time_min(client->next_check, now + client_slot_pause(&client->slots[i]));
    }
}

void mvpn_client_set_unix_offset(mvpn_client *client, int64_t unix_offset_us)
{
    client->cfg.unix_offset_us = unix_offset_us;
}

mvpn_time mvpn_client_deadline(const mvpn_client *client)
{
    return client->next_check;
}

mvpn_packet_queue *mvpn_client_tun_out(mvpn_client *client)
{
    return &client->tun_out;
}

void mvpn_client_get_status(const mvpn_client *client, mvpn_client_status *ret)
{
    const client_session *session = client->current;
    *ret = client->stats;
    ret->state = client->state;
    ret->since = client->since;
    for (size_t i = 0; i < SLOTS; i++) {
        if (slot_is_spare(&client->slots[i])) {
            ret->has_spare = true;
            ret->spare_path = client->slots[i].circuit.path;
        }
    }
    for (size_t i = 0; i < SESSIONS; i++) {
        const client_session *s = &client->sessions[i];
        if (s->state == SESSION_LIVE && s != session) {
            ret->is_draining = true;
            ret->draining_flows = mvpn_flows_count(client->flows, s->number, client->ticked);
        }
    }
    if (session == NULL) {
        return;
    }
    ret->session_since = session->opened;
    ret->session_expires = session->expires;
    ret->flows = mvpn_flows_count(client->flows, session->number, client->ticked);
    ret->is_leaving = client->misfit != 0;
    ret->has_ipv6 = (session->flags & MVPN_CONNECTED_IPV6) != 0;
    if (session->carrier != NULL) {
        const mvpn_circuit *c = &session->carrier->circuit;
        ret->path = c->path;
        ret->build_us = c->built - c->began;
        ret->rtt_us = c->rtt_us;
    }
}

static void set_default(uint64_t *value, uint64_t otherwise)
{
    *value = *value == 0 ? otherwise : *value;
}

bool mvpn_client_has_circuit(const mvpn_client *client, const mvpn_link *link,
                             const mvpn_header *header)
{
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &client->slots[i];
        if (s->used && s->circuit.link == link &&
            memcmp(s->circuit.in.b, header->circuit.b, sizeof(s->circuit.in.b)) == 0) {
            return true;
        }
    }
    return false;
}

int mvpn_client_new(const mvpn_client_config *config, mvpn_time now, mvpn_client **ret)
{
    if (config->hops < 1 || config->hops > MVPN_HOPS_MAX) {
        return MVPN_E_INVAL;
    }
    mvpn_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return MVPN_E_NOMEM;
    }
    int r = mvpn_flows_new(config->flows_max != 0 ? config->flows_max : MVPN_FLOWS_MAX,
                           config->env.rng, &client->flows);
    if (r != 0) {
        free(client);
        return r;
    }
    client->cfg = *config;
    set_default(&client->cfg.rotate_bytes, ROTATE_BYTES);
    set_default(&client->cfg.renew_time, RENEW_TIME);
    set_default(&client->cfg.exit_lifetime, EXIT_LIFETIME);
    if (config->rotate_bytes == 0) {
        set_default(&client->cfg.rotate_pause, ROTATE_PAUSE);
    }
    client->since = now;
    client->next_check = now;
    client->next_guards = now;
    client->first = client;
    client->guards = &client->own_guards;
    mvpn_stages_init(&client->stages, config->started != 0 ? config->started : now);
    mvpn_stages_reach(&client->stages, MVPN_STAGE_HOST, now);
    mvpn_guards_init(client->guards, config->env.rng);
    if (config->guards.n > 0 && mvpn_guards_load(client->guards, config->guards) != 0) {
        mvpn_guards_init(client->guards, config->env.rng); /* unreadable: begin anew */
    }
    mvpn_packet_queue_init(&client->tun_out);
    mvpn_packet_queue_init(&client->waiting);
    client_ip_init(&client->ip, config->env.pool, &config->tun_v4, &config->tun_v6,
                   &config->gateway_v4);
    *ret = client;
    return 0;
}

void mvpn_client_free(mvpn_client *client, mvpn_time now)
{
    if (client == NULL) {
        return;
    }
    client_leave_beside(client);
    for (size_t i = 0; i < SLOTS; i++) {
        if (client->slots[i].used) {
            mvpn_circuit_end_session(&client->slots[i].circuit, now);
            mvpn_circuit_close(&client->slots[i].circuit, 0, MVPN_REASON_FINISHED, 0, now);
        }
    }
    mvpn_flows_free(client->flows);
    mvpn_packet_queue_clear(&client->tun_out, client->cfg.env.pool);
    mvpn_packet_queue_clear(&client->waiting, client->cfg.env.pool);
    mvpn_wipe(client, sizeof(*client));
    free(client);
}
