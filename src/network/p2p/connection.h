/*
 * What the files of the connector share: connector.c (states), nat_call.c (sessions at NAT relays),
 * binding.c (registration there), punch.c (rounds of punching), budget.c (how much is sent to
 * addresses that nobody has proven). Private to src/network/p2p and its tests. (docs/protocol.md
 * §14)
 */
#ifndef MVPN_NETWORK_P2P_CONNECTION_H
#define MVPN_NETWORK_P2P_CONNECTION_H

#include "base/bucket.h"
#include "network/p2p/connector.h"
#include "network/p2p/internal.h"

/* Links over NATs and sessions at NAT relays: as many as a NAT relay grants two guests. */
#define CONNECTIONS_MAX 1024
#define CALLS_MAX 1024

/* Blocks (/24, /48) that were punched to within the last hour; more are refused until one is over.
 */
#define BUDGET_BLOCKS 256
/* Of these a NAT relay may name so many: one that lies must not take all. */
#define BUDGET_BLOCKS_NAMED 64
#define BUDGET_PUNCHES 20
#define BUDGET_PROBES 1024
#define BUDGET_TIME MVPN_S(3600)

/* Where the punches of one round go: the port seen, those told and those guessed. */
#define PUNCH_TARGETS 16

struct budget {
    uint64_t block; /* hash; 0: free */
    uint64_t named; /* hash of the NAT relay that named it first; 0: none did */
    mvpn_time since;
    unsigned punches, probes;
};

/* A session at a NAT relay. */
struct nat_call {
    mvpn_list in_calls;
    mvpn_nat_id id;
    mvpn_link *relay; /* held; the session ends with it */
    bool is_caller;
    mvpn_ed25519_pub called; /* by us */
    size_t own_count, peer_count;
    mvpn_connection_id own[MVPN_NAT_IDS_MAX]; /* the first is for first packets */
    mvpn_connection_id peer[MVPN_NAT_IDS_MAX];
    bool is_worn;                  /* the NAT relay has ended the first ids by now */
    struct connection *connection; /* the link made in it; NULL: none at present */
    mvpn_timer timer;              /* without a link: its end */
};

enum round_phase {
    ROUND_NONE,
    ROUND_PREPARING, /* until both sides' candidates and the peer's address are known */
    ROUND_PUNCHING,
    ROUND_MANY_SOCKETS, /* birthday: our mapping depends on the port */
    ROUND_MANY_PORTS,   /* birthday: the peer's does */
    ROUND_WAITING,      /* all is sent */
};

struct punch_target {
    mvpn_addr addr;
    bool is_guessed; /* one packet will do */
    unsigned sent;
};

struct round {
    enum round_phase phase;
    uint8_t number;
    bool has_theirs, has_seen;
    mvpn_link_candidates theirs;
    mvpn_addr seen; /* the peer's address, as the NAT relay sees it */
    mvpn_time start;
    unsigned step;
    size_t target_count;
    struct punch_target target[PUNCH_TARGETS];
    unsigned probes;             /* of a birthday */
    uint32_t port_at, port_step; /* walk through all ports */
};

/* How one link goes over NATs. */
struct connection {
    mvpn_list in_connections;
    mvpn_connector *connector;
    mvpn_link *link;
    struct nat_call *call; /* NULL until there is a session, and when the NAT relay is lost */
    bool is_caller;
    size_t via;       /* of the link's target, being tried */
    mvpn_link *relay; /* held while it is asked for a session */
    uint32_t request; /* NatOpen under way; 0: none */
    mvpn_ed25519_pub relay_identity;

    enum mvpn_connection_state state;
    enum mvpn_connection_reason reason;
    mvpn_time since;
    mvpn_time began, opened, direct;
    unsigned upgrades, fallbacks, rounds;

    mvpn_timer timer;
    mvpn_time step_until; /* INIT, STUN: then the next NAT relay is tried */
    mvpn_time standby_at; /* the relayed route is kept open */
    mvpn_time more_at;    /* further ids are not asked for before */
    mvpn_time next_round; /* caller */
    mvpn_time next_punch; /* of the round */
    unsigned failures;    /* rounds in a row */
    mvpn_bucket asked;    /* rounds that the peer may begin */
    struct round round;
    uint8_t last_round;
    mvpn_time sockets_until; /* those of a birthday are kept for what is under way */
    bool has_sockets;
};

struct binding {
    mvpn_link_target target;
    mvpn_link *link; /* held; NULL: to be opened */
    bool is_registered;
    mvpn_nat_id rendezvous;
    mvpn_addr seen;
    mvpn_time failing_since;
    mvpn_time pause; /* before the next try */
    mvpn_timer timer;
};

struct mvpn_connector {
    mvpn_connector_config config;
    mvpn_siphash_key sip;
    mvpn_timers timers;
    mvpn_list connections;
    size_t connection_count;
    mvpn_list calls;
    size_t call_count;
    struct binding binding[MVPN_CONNECTOR_BINDINGS];
    size_t binding_count;
    bool bindings_changed;
    uint32_t next_request;
    mvpn_nat_class nat;
    mvpn_addr mapped[MVPN_CANDIDATES_MAX];
    size_t mapped_count;
    struct connection *birthday; /* whose sockets are in use: one at a time */
    /* Who was found to use a socket; NULL: not known. */
    struct connection *socket_users[MVPN_LOCAL_PUNCH + MVPN_LOCAL_PUNCH_MAX];
    struct budget budget[BUDGET_BLOCKS];
    mvpn_connection_event history[MVPN_CONNECTOR_HISTORY];
    uint64_t history_count; /* ever */
    uint64_t history_told;
};

enum timer_kind {
    TIMER_CONNECTION,
    TIMER_CALL,
    TIMER_BINDING,
};

static inline bool same_identity(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return a != NULL && memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* connector.c */
enum mvpn_connection_type connection_type_of(enum mvpn_connection_state state);
void connection_enter(struct connection *conn, enum mvpn_connection_state state,
                      enum mvpn_connection_reason reason, mvpn_time now);
/** See to it again at `at`, or earlier. */
void connection_wake(struct connection *conn, mvpn_time at);
/** Send a message to a NAT relay; what does not get out is as if lost. */
void connector_send(mvpn_connector *c, mvpn_link *link, unsigned command, const uint8_t *body,
                    size_t n, mvpn_time now);

/* nat_call.c */
/** Send a message of the session to the NAT relay. */
void call_send(struct nat_call *call, unsigned command, const uint8_t *body, size_t n,
               mvpn_time now);
/** A session that this NAT relay told us of; NULL: none. */
struct nat_call *call_find(const mvpn_connector *c, const mvpn_link *relay, const mvpn_nat_id *id);
/** NULL: no room, or no memory. Holds the link with the NAT relay. */
struct nat_call *call_new(mvpn_connector *c, mvpn_link *relay, const mvpn_nat_ids *ids,
                          mvpn_time now);
void call_free(mvpn_connector *c, struct nat_call *call, mvpn_time now);
/** Tell the NAT relay, and free it. */
void call_end(mvpn_connector *c, struct nat_call *call, mvpn_time now);
/** A session of ours with this peer, at this NAT relay, that a link can use once more; or NULL. */
struct nat_call *call_kept(mvpn_connector *c, const mvpn_ed25519_pub *peer,
                           const mvpn_ed25519_pub *relay);
/** The session in which a first packet to this id comes from there; NULL: none. */
const struct nat_call *call_expected(const mvpn_connector *c,
                                     const uint8_t id[static MVPN_CONNECTION_ID_LEN],
                                     const mvpn_addr *from);

/* binding.c */
/** Ask to be registered; the link is open. */
void binding_register(mvpn_connector *c, struct binding *b, mvpn_time now);
/** It is not registered, or no longer: tried again after a pause. */
void binding_lost(mvpn_connector *c, struct binding *b, mvpn_time now);
/** Are we registered with the peer of this link? */
bool binding_is_at(const mvpn_connector *c, const mvpn_link *link);
/** NatRegistered came. */
void binding_registered(mvpn_connector *c, const mvpn_link *link, const mvpn_nat_registered *m,
                        mvpn_time now);
/** Its timer. */
void binding_tick(mvpn_connector *c, struct binding *b, mvpn_time now);

/* budget.c */
/** A NAT relay says that the peer is there: may a round go to that block? */
bool budget_may_begin(mvpn_connector *c, const mvpn_addr *seen, const mvpn_ed25519_pub *relay,
                      mvpn_time now);
/** May one more punch (or birthday probe) go to this address? If so it is counted. */
bool budget_take(mvpn_connector *c, const mvpn_addr *to, bool is_probe, mvpn_time now);
/** Those to an address that has answered do not count. */
void budget_give_back(mvpn_connector *c, const mvpn_addr *to, unsigned punches);
/** May a birthday begin? One an hour: the other side has no probes left for a second. */
bool budget_has_probes(mvpn_connector *c, const mvpn_addr *to, mvpn_time now);

/* punch.c */
/** The caller begins a round. */
void punch_begin(struct connection *conn, mvpn_time now);
/** Candidates with flags alone matter: tell the peer that the direct route is given up. */
void punch_tell_given_up(struct connection *conn, mvpn_time now);
/** The peer's candidates of a round. */
void punch_candidates(struct connection *conn, const mvpn_link_candidates *m, mvpn_time now);
/** Where the NAT relay sees the peer. */
void punch_seen(struct connection *conn, const mvpn_addr *seen, mvpn_time now);
/** Send what is due; returns when to be called again. */
mvpn_time punch_tick(struct connection *conn, mvpn_time now);
/** The round is over: `is_direct` tells how. */
void punch_end(struct connection *conn, bool is_direct, mvpn_time now);

#endif
