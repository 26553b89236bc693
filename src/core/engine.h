/*
 * A node: links, and on them a relay (with or without an exit) or a client; and the part that finds
 * the others: a relay's DHT (src/core/finder.h) or a client's learner. Bytes and time in, bytes and
 * events out; everything of a node that decides anything runs in here. Driven by
 * src/io/node.c, by the simulator and by the fuzzers alike:
 *
 *   feed datagrams and TUN packets -> mvpn_engine_turn(now) -> drain the out queues and events
 */
#ifndef MVPN_CORE_ENGINE_H
#define MVPN_CORE_ENGINE_H

#include "core/client.h"
#include "core/clock.h"
#include "core/finder.h"
#include "core/follower.h"
#include "core/guest.h"
#include "core/learner.h"
#include "core/relay.h"
#include "core/survey.h"
#include "core/view.h"
#include "exit/exit.h"
#include "network/p2p/connector.h"
#include "network/p2p/link.h"
#include "network/p2p/nat_probe.h"
#include "network/p2p/nat_relay.h"

typedef struct mvpn_engine mvpn_engine;

/* Packet buffers of a node: a few turns' worth of the largest batches, acknowledged messages
 * included. */
#define MVPN_ENGINE_PACKETS 8192

/* Isolation groups of a client (network/proxy/groups.h). */
#define MVPN_ENGINE_GROUPS_MAX MVPN_CLIENT_BESIDE_MAX

typedef struct mvpn_engine_config {
    uint8_t seed[32]; /* of the node's random generator */
    enum mvpn_aead_backend backend;
    size_t packet_count; /* 0 = MVPN_ENGINE_PACKETS */
    int64_t unix_offset_us;
    int64_t clock_guess_s;  /* how far that clock was off at the last run */
    uint8_t sample_key[16]; /* of the view; zeros: drawn */

    /* The network. */
    mvpn_ed25519_pub network_pub;
    bool closed;
    mvpn_key network_secret; /* closed */
    bool allow_private;
    bool allow_test_suite; /* tests only */
    size_t anchor_count;   /* open networks: identities that vouch for bootstrap and discovery */
    mvpn_ed25519_pub anchors[MVPN_ANCHORS_MAX];
    const mvpn_revocations *revocations; /* as known at the start, or NULL */
    unsigned relax;                      /* MVPN_RELAX_* of the network file */

    /* Finding the others: without it the view holds what it was given, and nobody is asked. */
    bool finds;
    const mvpn_dht_contact *entries; /* whom to begin with; copied */
    size_t entry_count;

    /* Relay role; a client leaves is_relay false. */
    bool is_relay;
    mvpn_ed25519_pub identity;
    mvpn_x25519_pair link_key;
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
    bool has_membership;
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_relay_onion_key onion_keys[2];
    size_t onion_key_count;
    mvpn_addr own_addresses[8];
    size_t own_address_count;
    bool has_ipv4, has_ipv6;
    size_t circuits_max;            /* 0 = the default */
    uint64_t relay_rate;            /* bytes per second of all cells; 0: no limit */
    bool no_circuits;               /* a bootstrap node: Create is refused */
    bool is_dht_server;             /* at own_addresses[0], which must be reachable as it stands */
    const mvpn_descriptor *publish; /* template of the descriptor; NULL: none is published */
    mvpn_ed25519_secret identity_secret; /* with `publish` */
    bool is_nat_relay;    /* forwards between neighbours of which one is behind a NAT (§14) */
    bool is_guest;        /* behind a NAT itself: reached through NAT relays, published with them */
    bool is_relayed_only; /* never tries direct paths through NATs */
    mvpn_addr host_addresses[8]; /* of the interfaces, with the main socket's port */
    size_t host_address_count;
    const mvpn_exit_config *exit; /* an exit's settings (packets and rng are filled in), or NULL */
    /* A discovery node's (env, identity and membership are filled in), or NULL; needs `finds`. */
    const mvpn_survey_config *survey;

    /* Client role: its settings (the pointers in env and the realm are filled in), or NULL. */
    const mvpn_client_config *client;

    mvpn_links_config link_limits; /* only the limits at its end are read; zeros = defaults */
} mvpn_engine_config;

/** MVPN_E_NOMEM, MVPN_E_CRYPTO, MVPN_E_INVAL; MVPN_E_CONFIG with `*ret_error` for an exit's policy.
 */
MVPN_WUR int mvpn_engine_new(const mvpn_engine_config *config, mvpn_time now, mvpn_engine **ret,
                             mvpn_policy_error *ret_error);
/** End: circuits and links are closed with a word to the peers, if the out queue is drained once
 * more. */
void mvpn_engine_shutdown(mvpn_engine *engine, mvpn_time now);
void mvpn_engine_free(mvpn_engine *engine);

/**
 * Say goodbye before a shutdown: the descriptor is withdrawn. True: turns are needed until
 * MVPN_ENGINE_WITHDRAWN or the caller's patience (2 s) ends.
 */
bool mvpn_engine_withdraw(mvpn_engine *engine, mvpn_time now);

/** A relay's onion keys changed (the current one first): they count at once, and are published. */
void mvpn_engine_set_onion_keys(mvpn_engine *engine, const mvpn_relay_onion_key *keys, size_t count,
                                mvpn_time now);

/** The relays known; add to it before the first turn, and whenever some become known. */
mvpn_view *mvpn_engine_view(mvpn_engine *engine);
/** Where io takes buffers for what it feeds, and gives back what it has sent. */
mvpn_packet_pool *mvpn_engine_pool(mvpn_engine *engine);

/** Feed datagrams (`remote` and `local` set) or IP packets of the TUN; the queue is emptied. */
void mvpn_engine_datagrams_in(mvpn_engine *engine, mvpn_packet_queue *in, mvpn_time now);
void mvpn_engine_tun_in(mvpn_engine *engine, mvpn_packet_queue *in, mvpn_time now);
/** Everything that follows from what was fed and from time passing; call after each batch. */
void mvpn_engine_turn(mvpn_engine *engine, mvpn_time now);
/** When the next turn is due without input. */
mvpn_time mvpn_engine_deadline(const mvpn_engine *engine);

/** Outputs; the caller drains them after each turn. */
mvpn_packet_queue *mvpn_engine_datagrams_out(mvpn_engine *engine);
mvpn_packet_queue *mvpn_engine_dns_out(mvpn_engine *engine); /* NULL: no exit */
mvpn_packet_queue *mvpn_engine_tun_out(mvpn_engine *engine); /* NULL: neither exit nor client */

enum mvpn_engine_event_type {
    MVPN_ENGINE_CLIENT,        /* `client` */
    MVPN_ENGINE_EXIT_RELEASED, /* `released`: delete connection tracking of these addresses */
    MVPN_ENGINE_LEARNED,       /* `learned` */
    MVPN_ENGINE_WITHDRAWN,     /* the descriptor is withdrawn: the node may go */
    MVPN_ENGINE_CONNECTION,    /* `connection`: how a link goes over NATs has changed */
};

typedef struct mvpn_engine_event {
    enum mvpn_engine_event_type type;
    mvpn_client_event client;
    mvpn_exit_event released;
    mvpn_learner_event learned;
    mvpn_connection_event connection;
} mvpn_engine_event;

bool mvpn_engine_pull_event(mvpn_engine *engine, mvpn_engine_event *ret);

/** The host's addresses, or what lies before them, have changed: these it has now (with the main
 * socket's port). */
void mvpn_engine_network_changed(mvpn_engine *engine, const mvpn_addr *addresses, size_t count,
                                 mvpn_time now);
/** A client: become another to the exits. (client.h) */
void mvpn_engine_new_identity(mvpn_engine *engine, mvpn_time now);
void mvpn_engine_reconnect(mvpn_engine *engine, mvpn_time now);
/** A client: what protects its host was tested. (client.h) */
void mvpn_engine_checked(mvpn_engine *engine, bool holds, mvpn_time now);
MVPN_WUR int mvpn_engine_set_hops(mvpn_engine *engine, unsigned hops, mvpn_time now);
/** A client: other exits were chosen. (client.h) */
enum mvpn_path_block mvpn_engine_set_exit_choice(mvpn_engine *engine,
                                                 const mvpn_exit_choice *choice, mvpn_time now);
/**
 * A client: circuits and sessions of a group's own (mvpn_client_new_beside), built from now on.
 * `group`: 1 to MVPN_ENGINE_GROUPS_MAX, not open. Its packets go in and come out as the TUN's do,
 * with its number in `local`, to and from its own addresses (mvpn_inner_lane_addr). MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_engine_open_group(mvpn_engine *engine, unsigned group, mvpn_time now);
/** Close its circuits; packets that still come for it are dropped. */
void mvpn_engine_close_group(mvpn_engine *engine, unsigned group, mvpn_time now);
/** NULL: it is not open. */
const mvpn_client *mvpn_engine_group(const mvpn_engine *engine, unsigned group);
/** Addresses that routers map to our main socket at our request; replaces the former. */
void mvpn_engine_set_mapped(mvpn_engine *engine, const mvpn_addr *mapped, size_t count);
/** How long this network's NATs keep a mapping, as measured before; 0: not known. */
void mvpn_engine_set_mapping_lifetime(mvpn_engine *engine, uint32_t lifetime_s, mvpn_time now);
/** Is a socket from MVPN_LOCAL_PROBE on still needed? Else io closes it. */
bool mvpn_engine_socket_is_used(const mvpn_engine *engine, uint16_t local);

/* The parts, for status and for io's notices (message too big). */
mvpn_links *mvpn_engine_links(mvpn_engine *engine);
const mvpn_relay *mvpn_engine_relay(const mvpn_engine *engine);
mvpn_exit *mvpn_engine_exit(mvpn_engine *engine);
const mvpn_nat_relay *mvpn_engine_nat_relay(const mvpn_engine *engine); /* NULL: none */
mvpn_connector *mvpn_engine_connector(mvpn_engine *engine);
const mvpn_nat_class *mvpn_engine_nat_class(const mvpn_engine *engine); /* NULL: a client */
const mvpn_client *mvpn_engine_client(const mvpn_engine *engine);
mvpn_finder *mvpn_engine_finder(mvpn_engine *engine); /* NULL: a client, or finds nobody */
mvpn_survey *mvpn_engine_survey(mvpn_engine *engine); /* NULL: no discovery node */
const mvpn_follower *mvpn_engine_follower(const mvpn_engine *engine); /* as the finder */
mvpn_learner *mvpn_engine_learner(mvpn_engine *engine); /* NULL: a relay, or learns nothing */
const mvpn_trust *mvpn_engine_trust(const mvpn_engine *engine);
/** Unix seconds, corrected. */
uint64_t mvpn_engine_unix(const mvpn_engine *engine, mvpn_time now);
/** How far the host's clock is off, by what peers say; inside, that is corrected already. */
void mvpn_engine_clock(const mvpn_engine *engine, mvpn_clock_reading *ret);
/** The host's clock was set: Unix time = now + this offset. */
void mvpn_engine_clock_was_set(mvpn_engine *engine, int64_t unix_offset_us);

#endif
