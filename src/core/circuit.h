/*
 * The client's side of one circuit: BUILD -> EXTEND ... -> READY -> BEGIN -> RELAY -> CLOSED.
 * (docs/protocol.md §6, §7). Sans-IO; owned and timed by the client engine (client.c).
 */
#ifndef MVPN_CORE_CIRCUIT_H
#define MVPN_CORE_CIRCUIT_H

#include "core/assembly.h"
#include "core/handshake.h"
#include "core/onion.h"
#include "core/packing.h"
#include "core/path.h"
#include "network/p2p/link.h"

/** What all circuits of a client share; borrowed. */
typedef struct mvpn_circuit_env {
    mvpn_aead *aead;
    mvpn_rng *rng;
    mvpn_packet_pool *pool;
    mvpn_links *links;
    const mvpn_view *view;
    mvpn_realm realm;
    enum mvpn_size_policy size_policy;
    uint8_t suite;                /* MVPN_SUITE_X25519 */
    uint8_t family;               /* address family of the guard: 4, 6, or 0 for any */
    const mvpn_ed25519_pub *self; /* a relay's own identity; NULL: a client */
} mvpn_circuit_env;

enum mvpn_circuit_state {
    MVPN_CIRCUIT_BUILD,  /* waiting for Created */
    MVPN_CIRCUIT_EXTEND, /* waiting for Extended */
    MVPN_CIRCUIT_READY,  /* all hops are there, no session (any more: see session_end) */
    MVPN_CIRCUIT_BEGIN,  /* waiting for RelayConnected */
    MVPN_CIRCUIT_RELAY,  /* packets flow */
    MVPN_CIRCUIT_CLOSED,
};

/* Pings under way: two of each hop of the longest circuit. */
#define MVPN_CIRCUIT_PINGS 10

typedef struct mvpn_circuit_ping_out {
    uint64_t token; /* 0: answered */
    mvpn_time sent;
    unsigned hop;
} mvpn_circuit_ping_out;

/** What became of a session that was asked for, or of the one that was there. */
enum mvpn_session_end {
    MVPN_SESSION_NOT_ENDED,
    MVPN_SESSION_UNKNOWN, /* the exit does not know the ticket */
    MVPN_SESSION_CLOSED,  /* the exit has closed it */
};

typedef struct mvpn_circuit {
    const mvpn_circuit_env *env;
    enum mvpn_circuit_state state;
    mvpn_path path;
    mvpn_onion onion;
    mvpn_link *link; /* held; NULL when closed */
    mvpn_circuit_id in, out;
    mvpn_noise noise; /* handshake with the next hop */
    bool noise_live;
    uint32_t request_id;
    mvpn_assembly *assembly;
    uint8_t early_left;
    uint8_t profile;
    /* The session: what was asked for, and what came. */
    uint32_t begin_epoch; /* 0: a new session */
    uint8_t begin_ticket[MVPN_TICKET_LEN];
    uint8_t ticket[MVPN_TICKET_LEN]; /* for the next take-over (RELAY) */
    uint8_t connected_flags;         /* MVPN_CONNECTED_* */
    enum mvpn_session_end session_end;
    mvpn_packer packer;
    mvpn_unpacker unpacker;
    mvpn_time began, built, begin_sent;
    mvpn_time hop_in[MVPN_HOPS_MAX]; /* when each hop last showed that it lives */
    mvpn_time last_in;               /* that of the last hop */
    mvpn_time unanswered; /* since when data has waited for any word of it; 0: none has */
    mvpn_circuit_ping_out pings[MVPN_CIRCUIT_PINGS];
    unsigned ping_next, pings_out;
    uint32_t rtt_us;     /* to the exit, smoothed; 0 = not measured */
    uint32_t rtt_var_us; /* its mean deviation */
    uint64_t probe_pong; /* token of the latest Pong that answers no ping of ours: a probe's */
    /* RelayDht: hops that were asked (bit n - 1 = hop n), and an answer not taken yet. */
    uint8_t dht_asked;
    unsigned dht_hop;
    mvpn_packet *dht_answer;
    /* Why it closed, and at which hop (1 = guard; 0 = no hop to blame). */
    int error;
    uint8_t reason;
    unsigned failed_hop;
    uint64_t cells_out, cells_in, cells_dropped;
    uint64_t bytes; /* of cells, both directions */
} mvpn_circuit;

/**
 * Begin to build along `path`, whose relays are in the view. On failure the circuit is CLOSED with
 * its error: MVPN_E_UNKNOWN (a relay is not in the view, or has no address for us), MVPN_E_LIMIT,
 * MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_circuit_start(mvpn_circuit *c, const mvpn_circuit_env *env, const mvpn_path *path,
                                mvpn_time now);

/** A message of the circuit's link with its id (packet taken). IP packets go to `to_tun`; the state
 * may change. */
void mvpn_circuit_message(mvpn_circuit *c, const mvpn_header *header, mvpn_packet *packet,
                          mvpn_time now, mvpn_packet_queue *to_tun);

/**
 * Ask for a session at the exit (READY): a new one, or with `ticket` (MVPN_TICKET_LEN bytes) and a
 * higher `epoch` than ever before the one that it opens (§7.1). A ticket that the exit does not
 * know leaves the circuit READY with session_end UNKNOWN.
 */
void mvpn_circuit_begin(mvpn_circuit *c, const uint8_t *ticket, uint32_t epoch, mvpn_time now);
/** Ask once more, with the same words (BEGIN). */
void mvpn_circuit_begin_again(mvpn_circuit *c, mvpn_time now);
/** End the session for good (RELAY). */
void mvpn_circuit_end_session(mvpn_circuit *c, mvpn_time now);

/** Send one IP packet (taken; state RELAY). Call _flush at the end of the batch. */
void mvpn_circuit_send(mvpn_circuit *c, mvpn_packet *packet, mvpn_time now);
void mvpn_circuit_flush(mvpn_circuit *c, mvpn_time now);

/** Ping a hop; the answer updates hop_in, and that of the exit rtt_us. */
void mvpn_circuit_ping(mvpn_circuit *c, unsigned hop, mvpn_time now);
/** The first hop that has not been heard since then, 1 = guard; 0: all have. */
unsigned mvpn_circuit_silent_hop(const mvpn_circuit *c, mvpn_time since);

/**
 * Send a full-size cell that moves nothing: RelayPing with `token`, or RelayDrop if that is 0. The
 * Pong sets probe_pong. MVPN_E_STATE before the circuit is ready, MVPN_E_NOMEM; others as of a
 * cell.
 */
MVPN_WUR int mvpn_circuit_probe(mvpn_circuit *c, unsigned hop, uint64_t token, mvpn_time now);

/**
 * Ask a hop as a directory (§12): `packet` is the body of the request and is taken. MVPN_E_STATE
 * before the circuit is ready; MVPN_E_TOO_BIG, MVPN_E_LIMIT and others as of a cell.
 */
MVPN_WUR int mvpn_circuit_ask(mvpn_circuit *c, unsigned hop, uint32_t request_id, unsigned command,
                              mvpn_packet *packet, mvpn_time now);

/** An answer of a directory, after mvpn_circuit_message; the packet is its body and the caller's.
 * NULL if there is none. */
mvpn_packet *mvpn_circuit_take_answer(mvpn_circuit *c, unsigned *ret_hop, uint32_t *ret_request_id,
                                      unsigned *ret_command);

/** Close: tells the guard, wipes the keys. `error` and `failed_hop` are kept for the owner. */
void mvpn_circuit_close(mvpn_circuit *c, int error, enum mvpn_reason reason, unsigned failed_hop,
                        mvpn_time now);
/** The link is gone: close without a word. */
void mvpn_circuit_link_closed(mvpn_circuit *c, mvpn_time now);

#endif
