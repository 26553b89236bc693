/*
 * What a person asks of the whole client: everything anew, or longer paths.
 */
#include "core/client_internal.h"

#include "base/error.h"

void mvpn_client_reconnect(mvpn_client *client, mvpn_time now)
{
    slot *carriers[SLOTS];
    size_t count = 0;
    client_wake(client, true, now);
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (slot_is_spare(s)) {
            client_give_up(client, s, now);
        } else if (s->used && s->role == SLOT_CARRIES && s->circuit.state == MVPN_CIRCUIT_RELAY) {
            carriers[count++] = s;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const client_session *session = client_session_find(client, carriers[i]->session);
        if (session != NULL && !client_session_is_taken(client, session)) {
            client_build_next(client, carriers[i], false, now);
        }
    }
}

/* Nothing goes through it yet. */
static bool is_idle(mvpn_client *client, const slot *s)
{
    const client_session *session = client_session_find(client, s->session);
    bool is_opening =
        s->used && s->role == SLOT_TAKES && session != NULL && session->state == SESSION_OPENING;
    return is_opening || slot_is_spare(s) || slot_is_building(s);
}

int mvpn_client_set_hops(mvpn_client *client, unsigned hops, mvpn_time now)
{
    if (hops < 1 || hops > MVPN_HOPS_MAX) {
        return MVPN_E_INVAL;
    }
    if (client->cfg.fixed_path.count > 0) {
        return MVPN_E_STATE;
    }
    if (hops == client->cfg.hops) {
        return 0;
    }
    client->cfg.hops = hops;
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        if (is_idle(client, s)) {
            client_give_up(client, s, now);
        }
    }
    client->next_build = now;
    client->next_check = now;
    mvpn_client_new_identity(client, now);
    return 0;
}
