/*
 * Sessions that outlive circuits, seen from both ends: numbered packets each way and a TCP
 * connection run through whatever happens, a server on the internet watches from which address of
 * which exit they come. For the scenarios of sessions; one world at a time.
 */
#ifndef MVPN_SIM_SESSION_WORLD_H
#define MVPN_SIM_SESSION_WORLD_H

#include <string.h>

#include "scenario.h"
#include "sim.h"

#define PACE MVPN_MS(25)
#define STREAM_MAX 40000
#define STREAMS 3
#define STREAM_BYTES 120
#define TCPS 16
#define WORLDS_MAX 200

/* Where a packet comes from, as the internet sees it: a session has an address of its own. */
typedef struct origin {
    sim_node *exit;
    uint8_t pool[4];
} origin;

typedef struct direction {
    uint32_t sent, came, twice;
    mvpn_time last, gap; /* between two that came */
    bool has[STREAM_MAX];
} direction;

/* Numbered packets, both ways at the same pace. */
typedef struct stream {
    uint16_t port;
    size_t bytes;
    mvpn_time pace;
    bool is_on, is_known; /* to the server */
    origin from;
    unsigned moves; /* of the origin */
    direction up, down;
} stream;

/* A host's connection: it sends a piece, the server sends one back, then the next. */
typedef struct tcp {
    uint16_t port;
    bool is_on, is_open, is_reset;
    uint32_t begin, server_begin;
    uint32_t snd, rcv; /* next byte to send, next byte awaited */
    mvpn_time sent;
    unsigned rounds;
    unsigned resets, bad_resets;
    origin from;
    bool is_known;
    unsigned strays; /* from elsewhere than it began */
} tcp;

typedef struct world {
    sim *w;
    sim_node *client;
    stream stream[STREAMS];
    tcp tcp[TCPS];
    const sim_node *silent; /* nothing from it or to it */
    const sim_node *flapping;
    const sim_node *stalled;
    mvpn_time stalled_until;
    bool has_spare; /* there can be a spare circuit */
    uint64_t bad;   /* packets that are none */
} world;

/** Is that the exit and the address (4 bytes)? */
bool origin_is(const origin *o, const sim_node *exit, const uint8_t *pool);
/** A stream of packets of `bytes` bytes each `pace`, from now on. */
stream *stream_start(world *t, size_t bytes, mvpn_time pace);
/** One more connection of the host; it begins to connect. */
tcp *tcp_start(world *t);
/** A world of so many relays and exits whose client makes `hops`; nothing has started. */
world *world_make(uint64_t seed, size_t relays, size_t exits, unsigned hops);
/** Connected, with a spare circuit where there can be one, and a stream and a connection run. */
bool world_run(world *t);
/** Made, and running. */
world *world_new(uint64_t seed, size_t relays, size_t exits, unsigned hops);
/** Nothing strange may have come to either end. */
void world_free(world *t);
mvpn_client_status status_of(const world *t);
/** All streams and connections of the host go on, or pause. */
void set_talking(world *t, bool is_on);
/** From here on the gaps count. */
void stream_mark(world *t);
/** The longest since the mark, the one that lasts still included. */
mvpn_time stream_gap(const world *t, const stream *s);
double to_ms(mvpn_time t);
/** Of many worlds, and what may be: the median and the 95th percentile. */
void check_times(const char *what, mvpn_time *times, size_t count, mvpn_time median, mvpn_time p95);
/** The sessions that an exit has. */
uint32_t sessions_at(const sim_node *exit);
/** The session is the one that it was when the origin was noted. */
bool is_same_session(const world *t, const origin *before);
mvpn_guards guards_of(const world *t);
bool same_relay(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b);
/** Those that all exits have. */
uint32_t sessions_total(const sim *w);
/** Does the session before drain yet? For sim_run_until. */
bool is_draining(sim *w, void *arg);

#endif
