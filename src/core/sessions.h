/*
 * Sessions of an exit, found by their tickets. A pure table: whose circuit carries a session, who
 * may take it over, how long one without a circuit is kept. (docs/protocol.md §7.1) Used by
 * relay_session.c, which moves the packets and closes what this table gives up.
 *
 *   open -> carried --circuit ends--> detached --15 min, 30 s, or room is wanted--> close
 *             ^  |                       |
 *             |  +------ take over ------+    (the circuit before drains for 10 s)
 *             +--------------------------'
 *
 * Nothing is kept of circuits that have ended: neither where they came from nor their ids.
 */
#ifndef MVPN_CORE_SESSIONS_H
#define MVPN_CORE_SESSIONS_H

#include <stdbool.h>

#include "base/bucket.h"
#include "base/hash.h"
#include "base/packet.h"
#include "base/time.h"
#include "crypto/hash.h"
#include "crypto/rng.h"
#include "wire/circuit.h"

/* A client that sleeps, or walks from one network to another, keeps its flows. */
#define MVPN_SESSION_DETACHED_TIME MVPN_S(900)
/* Nothing to lose in a session in which no packet passed. */
#define MVPN_SESSION_UNUSED_TIME MVPN_S(30)
/* What was under way in the circuit before. */
#define MVPN_SESSION_DRAIN_TIME MVPN_S(10)
/* 1 / this of an exit's sessions may be detached: the rest is for those who are there. */
#define MVPN_SESSION_DETACHED_SHARE 4
/* Packets that wait for their owner: a window's first answers; of all sessions: 2 MB. */
#define MVPN_SESSION_WAITING_MAX 32
#define MVPN_SESSION_WAITING_TOTAL 1024
/* Take-overs of one session: a rotation is due every 30 s at most, failovers come in bursts. Not
 * bounded by the link: when a guard dies, hundreds come by the same one at once. */
#define MVPN_SESSION_TAKE_OVER_RATE 4
#define MVPN_SESSION_TAKE_OVER_BURST 32

struct relay_circuit; /* told apart by address alone */
struct mvpn_session;

typedef struct mvpn_session_ticket {
    mvpn_hash_node node;
    struct mvpn_session *session; /* NULL: none is set */
    uint8_t bytes[MVPN_TICKET_LEN];
} mvpn_session_ticket;

/* Embedded in what the owner keeps for a session; the other fields are for reading. */
typedef struct mvpn_session {
    struct relay_circuit *circuit;  /* carries it; NULL: detached */
    struct relay_circuit *draining; /* carried it until less than 10 s ago; or NULL */
    mvpn_session_ticket next;       /* what the client shows next time */
    mvpn_session_ticket last;       /* what it showed, until it is known to have the next */
    uint32_t epoch;                 /* of the circuit that carries it */
    bool has_passed;                /* packets: the owner sets it; counts when it is detached */
    mvpn_time detached_since;
    mvpn_time drain_until;
    mvpn_bucket take_overs;
    mvpn_packet_queue waiting;
    mvpn_list on_detached, on_draining, on_waiting;
} mvpn_session;

typedef struct mvpn_sessions {
    mvpn_rng *rng;
    mvpn_packet_pool *pool;
    mvpn_hash tickets;
    mvpn_siphash_key hash_key;
    mvpn_list detached[2]; /* by has_passed; each in order of time */
    mvpn_list draining;    /* in order of time */
    mvpn_list waiting;     /* sessions with packets that wait */
    uint32_t count, detached_count, detached_max, waiting_count;
} mvpn_sessions;

/** `rng` and `pool` are borrowed; `sessions_max` of the exit, at least 1. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_sessions_init(mvpn_sessions *table, mvpn_rng *rng, mvpn_packet_pool *pool,
                                uint32_t sessions_max);
/** All sessions must have been closed. */
void mvpn_sessions_done(mvpn_sessions *table);

/** A new session, which `circuit` carries; its first ticket is drawn. */
void mvpn_session_open(mvpn_sessions *table, mvpn_session *s, struct relay_circuit *circuit,
                       mvpn_time now);
/** Forget it: tickets are wiped, waiting packets given back. */
void mvpn_session_close(mvpn_sessions *table, mvpn_session *s);

/**
 * Whose ticket this is, if it opens the session now: the next one, or the last one while that is
 * unconfirmed, with a higher epoch than that of the present circuit.
 *
 * Returns 0; MVPN_E_UNKNOWN (unknown, used, too low an epoch: the caller cannot tell); MVPN_E_LIMIT
 * (its owner took it over too often; the ticket stays good). Nothing changes but the rate. A
 * ticket is compared in constant time; how long the search takes depends on a keyed hash alone.
 */
MVPN_WUR int mvpn_sessions_find(mvpn_sessions *table, const uint8_t ticket[static MVPN_TICKET_LEN],
                                uint32_t epoch, mvpn_time now, mvpn_session **ret);
/**
 * Hand a session that was found over to `circuit`, another than carries it: a new ticket is drawn,
 * the one shown is kept as the last, any other is wiped; the circuit before drains. Returns the
 * circuit that drained until now and no longer does, or NULL.
 */
struct relay_circuit *mvpn_session_take_over(mvpn_sessions *table, mvpn_session *s,
                                             const uint8_t ticket[static MVPN_TICKET_LEN],
                                             uint32_t epoch, struct relay_circuit *circuit,
                                             mvpn_time now);
/** RelayData came by the circuit that carries it: its owner has the next ticket. */
void mvpn_session_confirm(mvpn_sessions *table, mvpn_session *s);

/** The circuit that carries it has ended. Ask for mvpn_sessions_surplus then. */
void mvpn_session_detach(mvpn_sessions *table, mvpn_session *s, mvpn_time now);
/** The circuit that drains has ended, or does something else now. */
void mvpn_session_stop_draining(mvpn_session *s);

/** Keep a packet (taken) for a detached session; the oldest gives way. */
void mvpn_session_wait(mvpn_sessions *table, mvpn_session *s, mvpn_packet *packet);
/** The packets that waited, oldest first, to be sent now; NULL if there are no more. */
mvpn_packet *mvpn_session_pull_waiting(mvpn_sessions *table, mvpn_session *s);

/** The detached session that gives way first: the oldest, of those in which nothing passed if there
 * are any. NULL: none is detached. */
mvpn_session *mvpn_sessions_oldest_detached(const mvpn_sessions *table);
/** One that must be closed since more than a quarter are detached, or NULL. */
mvpn_session *mvpn_sessions_surplus(const mvpn_sessions *table);
/** One that has been detached for too long and must be closed, or NULL. */
mvpn_session *mvpn_sessions_expired(const mvpn_sessions *table, mvpn_time now);
/** One whose circuit before has drained: stop it. NULL if there is none. */
mvpn_session *mvpn_sessions_drained(const mvpn_sessions *table, mvpn_time now);
mvpn_time mvpn_sessions_deadline(const mvpn_sessions *table);

#endif
