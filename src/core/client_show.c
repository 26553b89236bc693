/* What is told of a client: its circuits, and its stages. */
#include "core/client_internal.h"

static enum mvpn_client_circuit_role role_of(const slot *s)
{
    if (slot_is_building(s)) {
        return MVPN_CLIENT_CIRCUIT_BUILDS;
    }
    switch (s->role) {
    case SLOT_TAKES:
        return MVPN_CLIENT_CIRCUIT_TAKES;
    case SLOT_CARRIES:
        return MVPN_CLIENT_CIRCUIT_CARRIES;
    case SLOT_DRAINS:
        return MVPN_CLIENT_CIRCUIT_DRAINS;
    case SLOT_FREE:
        break;
    }
    return MVPN_CLIENT_CIRCUIT_SPARE;
}

size_t mvpn_client_circuits(const mvpn_client *client,
                            mvpn_client_circuit ret[static MVPN_CLIENT_CIRCUITS_MAX])
{
    size_t count = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        const slot *s = &client->slots[i];
        const mvpn_circuit *c = &s->circuit;
        if (!s->used) {
            continue;
        }
        ret[count++] = (mvpn_client_circuit){
            .number = i + 1,
            .role = role_of(s),
            .is_current = client->current != NULL && client->current->carrier == s,
            .path = c->path,
            .began = c->began,
            .build_us = slot_is_building(s) ? 0 : c->built - c->began,
            .rtt_us = c->rtt_us,
            .bytes = c->bytes,
        };
    }
    return count;
}

/* ---- stages ---- */

unsigned mvpn_client_stages(const mvpn_client *client, mvpn_time now,
                            mvpn_stage_report ret[static MVPN_STAGES])
{
    mvpn_stages_get(&client->stages, now, ret);
    return client->cfg.has_check ? MVPN_STAGES : MVPN_STAGE_CHECK;
}

void mvpn_client_checked(mvpn_client *client, bool holds, mvpn_time now)
{
    static const mvpn_stage_trouble refuted = {.cause = MVPN_STAGE_NO_PROOF};
    if (holds && client->state == MVPN_CLIENT_CONNECTED) {
        mvpn_stages_reach(&client->stages, MVPN_STAGE_CHECK, now);
    } else if (!holds) {
        mvpn_stages_lose(&client->stages, MVPN_STAGE_CHECK, now);
        mvpn_stages_hold(&client->stages, MVPN_STAGE_CHECK, &refuted);
    }
    client->next_check = now;
}

/* Guards that fail in a row until nobody seems to be there, where there is no list of ours. */
#define FAILURES_ENOUGH 3

/* All that could be tried were, in vain. */
static bool are_guards_dead(const mvpn_client *client)
{
    bool is_left = false;
    for (size_t i = 0; i < client->guards->count; i++) {
        const mvpn_guard *g = &client->guards->guard[i];
        is_left = is_left || (g->is_usable && g->reach != MVPN_GUARD_NO);
    }
    return client->failures >= (client_uses_guards(client) ? 1 : FAILURES_ENOUGH) && !is_left;
}

/* Is everybody silent whom the network's sources have named so far? */
static bool are_entries_dead(const mvpn_client *client)
{
    mvpn_learner_status s;
    mvpn_learner_get_status(client->cfg.learner, &s);
    return s.entries > 0 && s.entries_failed == s.entries;
}

static mvpn_stage_trouble trouble_of(const mvpn_client *client, bool is_known)
{
    if (client->is_offline) {
        return (mvpn_stage_trouble){.cause = MVPN_STAGE_OFFLINE};
    }
    if (!is_known && are_entries_dead(client)) {
        return (mvpn_stage_trouble){.cause = MVPN_STAGE_NO_ENTRY};
    }
    enum mvpn_path_block block = is_known ? client->stats.block : MVPN_PATH_OK;
    if (block == MVPN_PATH_GUARD_LIMIT || (is_known && are_guards_dead(client))) {
        return (mvpn_stage_trouble){.cause = MVPN_STAGE_NO_GUARD};
    }
    return (mvpn_stage_trouble){
        .cause = block != MVPN_PATH_OK ? MVPN_STAGE_NO_PATH : MVPN_STAGE_NOTHING, .block = block};
}

static void ask_names(mvpn_client *client, mvpn_time now)
{
    static const mvpn_stage_trouble silent = {.cause = MVPN_STAGE_NO_ANSWER};
    if (now < client->names.next) {
        return;
    }
    mvpn_packet *packet = mvpn_packet_new(client->cfg.env.pool);
    if (packet == NULL) {
        return;
    }
    if (client_names_ask(&client->names, &client->ip.tun_v4, &client->ip.tun_gateway_v4, packet,
                         now)) {
        mvpn_client_from_tun(client, packet, now);
    } else {
        mvpn_packet_free(client->cfg.env.pool, packet);
    }
    if (client_names_is_unanswered(&client->names)) {
        mvpn_stages_hold(&client->stages, MVPN_STAGE_NAMES, &silent);
    }
}

void client_stages_tick(mvpn_client *client, mvpn_time now)
{
    bool is_known = client->cfg.learner == NULL || mvpn_learner_is_ready(client->cfg.learner);
    if (is_known && !client->is_offline) {
        mvpn_stages_reach(&client->stages, MVPN_STAGE_NETWORK, now);
    }
    const mvpn_stage_trouble trouble = trouble_of(client, is_known);
    if (!mvpn_stages_has(&client->stages, MVPN_STAGE_GUARD)) {
        if (client->is_offline) {
            mvpn_stages_lose(&client->stages, MVPN_STAGE_NETWORK, now);
        }
        if (trouble.cause != MVPN_STAGE_NOTHING) { /* what failed is told until it is over */
            mvpn_stages_hold(&client->stages, MVPN_STAGE_NETWORK, &trouble);
            mvpn_stages_hold(&client->stages, MVPN_STAGE_GUARD, &trouble);
        }
    }
    if (client->names.is_asking) {
        ask_names(client, now);
    }
    if (mvpn_stages_take_change(&client->stages)) {
        const mvpn_client_event e = {.type = MVPN_CLIENT_EVENT_STAGE};
        client_push_event(client, &e);
    }
}

bool client_stages_take(mvpn_client *client, const mvpn_packet *packet, mvpn_time now)
{
    static const mvpn_stage_trouble refused = {.cause = MVPN_STAGE_NO_NAMES};
    enum client_names_verdict verdict = client_names_look(&client->names, packet);
    if (verdict == CLIENT_NAMES_RESOLVE) {
        mvpn_stages_reach(&client->stages, MVPN_STAGE_NAMES, now);
        client->next_check = now;
    } else if (verdict == CLIENT_NAMES_FAIL) {
        mvpn_stages_hold(&client->stages, MVPN_STAGE_NAMES, &refused);
    }
    return verdict != CLIENT_NAMES_OTHER;
}
