/* What is told of a client's circuits. */
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
