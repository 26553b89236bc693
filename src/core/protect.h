/*
 * What protects a client's host: in which of five states it is, and what may leave it in each. In
 * no state but DISCONNECTED without lockdown does a packet leave the host unprotected.
 * (docs/threat-model.md "The kill switch")
 *
 *   DISCONNECTED --UP--> CONNECTING --ESTABLISHED--> CONNECTED --LOST--> CONNECTING
 *   any but DISCONNECTED --DOWN--> DISCONNECTING --STOPPED--> DISCONNECTED
 *   any but DISCONNECTED --FAILED--> ERROR --UP--> CONNECTING
 *
 * Pure; the helper process drives it (io/host_client.h).
 */
#ifndef MVPN_CORE_PROTECT_H
#define MVPN_CORE_PROTECT_H

#include <stdbool.h>

enum mvpn_protect_state {
    MVPN_PROTECT_DISCONNECTED,
    MVPN_PROTECT_CONNECTING,    /* the daemon runs, and looks for the network or for a path */
    MVPN_PROTECT_CONNECTED,     /* packets pass the tunnel */
    MVPN_PROTECT_DISCONNECTING, /* somebody wants it down: nothing enters the tunnel any more */
    MVPN_PROTECT_ERROR,         /* the daemon ended without being asked to */
};
#define MVPN_PROTECT_STATES 5

enum mvpn_protect_event {
    MVPN_PROTECT_UP,          /* a daemon starts */
    MVPN_PROTECT_ESTABLISHED, /* it has a circuit and an exit */
    MVPN_PROTECT_LOST,        /* it has neither, and tries again */
    MVPN_PROTECT_DOWN,        /* it was asked to end */
    MVPN_PROTECT_STOPPED,     /* it has ended as asked */
    MVPN_PROTECT_FAILED,      /* it is gone, or cannot go on */
};
#define MVPN_PROTECT_EVENTS 6

/** The state after `event`. What makes no sense in a state changes nothing. */
enum mvpn_protect_state mvpn_protect_next(enum mvpn_protect_state state,
                                          enum mvpn_protect_event event);

/* What leaves the host besides what always may (loopback, DHCP, neighbour discovery). */
typedef struct mvpn_protect_policy {
    bool is_in_force; /* false: everything */
    bool pass_own;    /* packets of the daemon itself (its mark) to guards */
    bool pass_search; /* and whatever else it needs to find the network: TCP */
    bool pass_tunnel; /* packets into the tunnel, from its addresses */
} mvpn_protect_policy;

mvpn_protect_policy mvpn_protect_policy_of(enum mvpn_protect_state state, bool lockdown);

/** "connected" ..; for operators. */
const char *mvpn_protect_state_text(enum mvpn_protect_state state);

#endif
