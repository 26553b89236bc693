#include "core/protect.h"

#include "base/macros.h"

enum mvpn_protect_state mvpn_protect_next(enum mvpn_protect_state state,
                                          enum mvpn_protect_event event)
{
    switch (event) {
    case MVPN_PROTECT_UP:
        /* Whatever the one before left, also an error: the new one begins behind closed doors. */
        return MVPN_PROTECT_CONNECTING;
    case MVPN_PROTECT_ESTABLISHED:
        return state == MVPN_PROTECT_CONNECTING ? MVPN_PROTECT_CONNECTED : state;
    case MVPN_PROTECT_LOST:
        return state == MVPN_PROTECT_CONNECTED ? MVPN_PROTECT_CONNECTING : state;
    case MVPN_PROTECT_DOWN:
        return state != MVPN_PROTECT_DISCONNECTED ? MVPN_PROTECT_DISCONNECTING : state;
    case MVPN_PROTECT_STOPPED:
        return state == MVPN_PROTECT_DISCONNECTING ? MVPN_PROTECT_DISCONNECTED : state;
    case MVPN_PROTECT_FAILED:
        return state != MVPN_PROTECT_DISCONNECTED ? MVPN_PROTECT_ERROR : state;
    }
    return MVPN_PROTECT_ERROR;
}

mvpn_protect_policy mvpn_protect_policy_of(enum mvpn_protect_state state, bool lockdown)
{
    mvpn_protect_policy closed = {.is_in_force = true};
    switch (state) {
    case MVPN_PROTECT_DISCONNECTED:
        closed.is_in_force = lockdown;
        break;
    case MVPN_PROTECT_CONNECTING:
        closed.pass_own = closed.pass_search = true;
        closed.pass_tunnel = true; /* what waits there waits for the circuit */
        break;
    case MVPN_PROTECT_CONNECTED:
        closed.pass_own = closed.pass_tunnel = true;
        break;
    case MVPN_PROTECT_DISCONNECTING:
        closed.pass_own = true; /* its goodbye */
        break;
    case MVPN_PROTECT_ERROR:
        break;
    }
    return closed;
}

const char *mvpn_protect_state_text(enum mvpn_protect_state state)
{
    static const char *const text[MVPN_PROTECT_STATES] = {
        [MVPN_PROTECT_DISCONNECTED] = "disconnected",
        [MVPN_PROTECT_CONNECTING] = "connecting",
        [MVPN_PROTECT_CONNECTED] = "connected",
        [MVPN_PROTECT_DISCONNECTING] = "disconnecting",
        [MVPN_PROTECT_ERROR] = "error",
    };
    return (size_t)state < MVPN_ARRAY_LEN(text) ? text[state] : "unknown";
}
