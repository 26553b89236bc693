/*
 * Links with neighbours that cannot be reached as they stand: through a NAT relay at once, directly
 * as soon as both NATs have let something pass. Sans-IO. (docs/protocol.md §14.4, §14.5)
 *
 *   INIT --link with the NAT relay--> STUN --session--> RELAY <--------------------------+
 *     |                                |                 | round begins                  | silence,
 *     +-> FAILED <---------------------+                 v                               | failed
 *                                                   HOLE_PUNCH --something came--> UPGRADE
 *                                                        ^                             | challenge
 *                                       MIGRATE <--------+------- ESTABLISHED <--------+ answered
 *                                    (an address has changed)
 *
 * It watches the links of one `mvpn_links`: those opened to a target with `via` (caller), those
 * that others make through a NAT relay at which this node is registered (called). The owner of a
 * link need not know: it is one `mvpn_link` all the time, whatever it runs over.
 */
#ifndef MVPN_NETWORK_P2P_CONNECTOR_H
#define MVPN_NETWORK_P2P_CONNECTOR_H

#include "network/p2p/link.h"
#include "network/p2p/nat_class.h"

typedef struct mvpn_connector mvpn_connector;

/* NAT relays at which a node is registered. (design: 2) */
#define MVPN_CONNECTOR_BINDINGS 2
/* Changes that status shows. */
#define MVPN_CONNECTOR_HISTORY 64

typedef struct mvpn_connector_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_packet_pool *pool;
    mvpn_links *links;
    bool is_relayed_only;      /* never a direct path: tests, and who wants to hide its address */
    bool tells_host_addresses; /* a relay may; a client never does */
    mvpn_addr own[8];          /* the host's addresses with the main socket's port */
    size_t own_count;
} mvpn_connector_config;

MVPN_WUR int mvpn_connector_new(const mvpn_connector_config *config, mvpn_time now,
                                mvpn_connector **ret);
/** Before the links are freed. NULL is allowed. */
void mvpn_connector_free(mvpn_connector *connector);

/** NatRegistered, NatOpened, NatIncoming, NatClose, NatAddressed of a link. False: it is not for
 * us. A body that does not decode closes the link. `body` is borrowed. */
bool mvpn_connector_message(mvpn_connector *connector, mvpn_link *link, const mvpn_header *header,
                            mvpn_bytes body, mvpn_time now);
void mvpn_connector_link_opened(mvpn_connector *connector, mvpn_link *link, mvpn_time now);
void mvpn_connector_link_closed(mvpn_connector *connector, mvpn_link *link, mvpn_time now);
void mvpn_connector_tick(mvpn_connector *connector, mvpn_time now);
mvpn_time mvpn_connector_deadline(const mvpn_connector *connector);

/** What is known of our NAT has changed. */
void mvpn_connector_set_class(mvpn_connector *connector, const mvpn_nat_class *c, mvpn_time now);
/** Ports that a router maps to us by request (UPnP, NAT-PMP, PCP); replaces the former. */
void mvpn_connector_set_mapped(mvpn_connector *connector, const mvpn_addr *mapped, size_t count);
/** The host's addresses have changed: before mvpn_links_local_changed. */
void mvpn_connector_network_changed(mvpn_connector *connector, const mvpn_addr *own,
                                    size_t own_count, mvpn_time now);

/* ---- to be reachable ---- */

/** Be registered at these NAT relays (at most MVPN_CONNECTOR_BINDINGS) and at no others. Links are
 * opened and held; what fails is tried again. */
void mvpn_connector_register(mvpn_connector *connector, const mvpn_link_target *relays,
                             size_t count, mvpn_time now);

typedef struct mvpn_connector_binding {
    mvpn_ed25519_pub identity; /* of the NAT relay */
    mvpn_addr relay;           /* its address */
    bool is_registered;
    mvpn_nat_id rendezvous;  /* if registered */
    mvpn_addr seen;          /* ours, as it sees us; family 0: not known */
    mvpn_time failing_since; /* 0: it does not fail */
} mvpn_connector_binding;
/** Returns how many. */
size_t mvpn_connector_bindings(const mvpn_connector *connector,
                               mvpn_connector_binding ret[static MVPN_CONNECTOR_BINDINGS]);
/** True once after each change of what the former says. */
bool mvpn_connector_take_binding_change(mvpn_connector *connector);

/* ---- what happens ---- */

enum mvpn_connection_type {
    MVPN_CONNECTION_DIRECT,
    MVPN_CONNECTION_RELAY,
    MVPN_CONNECTION_FAILED,
};

enum mvpn_connection_state {
    MVPN_CONNECTION_INIT,
    MVPN_CONNECTION_STUN,
    MVPN_CONNECTION_RELAYED, /* RELAY */
    MVPN_CONNECTION_HOLE_PUNCH,
    MVPN_CONNECTION_UPGRADE,
    MVPN_CONNECTION_ESTABLISHED,
    MVPN_CONNECTION_MIGRATE,
    MVPN_CONNECTION_FAILED_STATE,
};

/* Why a state was entered. */
enum mvpn_connection_reason {
    MVPN_CONNECTION_CALLED,          /* by the peer */
    MVPN_CONNECTION_CALLING,         /* we call it */
    MVPN_CONNECTION_RELAY_READY,     /* the NAT relay answers */
    MVPN_CONNECTION_LINK_OPEN,       /* the link through it is made */
    MVPN_CONNECTION_ROUND,           /* a round of punching begins */
    MVPN_CONNECTION_BIRTHDAY,        /* many sockets, or many ports */
    MVPN_CONNECTION_HEARD,           /* the peer was heard on a direct path */
    MVPN_CONNECTION_PROVEN,          /* the direct path is proven */
    MVPN_CONNECTION_ROUND_FAILED,    /* nothing came through */
    MVPN_CONNECTION_SILENT,          /* the direct path no longer answers */
    MVPN_CONNECTION_PEER_GAVE_UP,    /* the peer no longer hears us directly */
    MVPN_CONNECTION_NETWORK_CHANGED, /* our address has changed */
    MVPN_CONNECTION_NO_RELAY,        /* no NAT relay could be reached, or knows the peer */
    MVPN_CONNECTION_LINK_CLOSED,
    MVPN_CONNECTION_REACHABLE, /* no NAT relay is needed */
};

const char *mvpn_connection_type_text(enum mvpn_connection_type type);    /* "direct" */
const char *mvpn_connection_state_text(enum mvpn_connection_state state); /* "hole punch" */
const char *mvpn_connection_reason_text(enum mvpn_connection_reason why); /* a phrase */

/** One change. */
typedef struct mvpn_connection_event {
    mvpn_time at;
    bool has_identity; /* a client that called has none */
    mvpn_ed25519_pub identity;
    enum mvpn_connection_type type;
    enum mvpn_connection_state state;
    enum mvpn_connection_reason reason;
} mvpn_connection_event;

/** The latest changes, the oldest first; at most MVPN_CONNECTOR_HISTORY. Returns how many. */
size_t mvpn_connector_history(const mvpn_connector *connector,
                              mvpn_connection_event ret[static MVPN_CONNECTOR_HISTORY]);
/** Each change once, for the log; false if there is none. */
bool mvpn_connector_pull_event(mvpn_connector *connector, mvpn_connection_event *ret);

/** How a link runs at present. */
typedef struct mvpn_connection_info {
    enum mvpn_connection_type type;
    enum mvpn_connection_state state;
    enum mvpn_connection_reason reason; /* of the latest change */
    mvpn_time since;                    /* of it */
    bool is_over_nat;                   /* made through a NAT relay; false: an ordinary link */
    bool is_caller;
    mvpn_ed25519_pub relay; /* the NAT relay, if over NAT */
    mvpn_time opened_after; /* from the call to the open link; 0: not yet, or we were called */
    mvpn_time direct_after; /* from the open link to the first direct path; 0: not yet */
    unsigned rounds;        /* of punching */
    unsigned upgrades, fallbacks;
} mvpn_connection_info;
/** Also for ordinary links (DIRECT, ESTABLISHED). */
void mvpn_connector_info(const mvpn_connector *connector, const mvpn_link *link,
                         mvpn_connection_info *ret);

/** Is this socket (MVPN_LOCAL_PUNCH and up) still needed? */
bool mvpn_connector_uses_socket(mvpn_connector *connector, uint16_t local);

#endif
