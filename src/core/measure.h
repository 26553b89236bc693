/*
 * One check of one relay over a circuit of one hop: does it answer, and how fast are bytes taken in
 * by it? Used by the survey of a discovery node. Sans-IO. (docs/protocol.md §8.6; design §6)
 *
 *   BUILD --Created--> [alive] --> RTT --Pong--> TRAIN, TRAIN, ... --> DONE
 *
 * A train is a run of full cells sent at a chosen rate: RelayDrop, and here and there a
 * RelayPing with a token that cannot be guessed, so that only what arrived is answered. What a
 * relay takes in is the share of pings answered times the bytes sent, by the time from the first
 * cell to the last answer. Each train doubles the rate, until one is not carried any more.
 */
#ifndef MVPN_CORE_MEASURE_H
#define MVPN_CORE_MEASURE_H

#include "core/circuit.h"
#include "crypto/hash.h"

/* Rates of the trains: 2 Mbit/s, doubled up to 1024; amounts: an eighth of a second's worth, within
 * bounds: fewer bytes tell nothing, more disturb. */
#define MVPN_MEASURE_BYTES_MIN (128u << 10)
#define MVPN_MEASURE_BYTES_MAX (8u << 20)
#define MVPN_MEASURE_KBIT_FIRST 2000u
#define MVPN_MEASURE_KBIT_MAX 1024000u
/* A full cell as the network sees it: body, header, tag, IP and UDP. */
#define MVPN_MEASURE_CELL 1452u
/* Of so many cells one is a ping, chosen at random: a queue that drops every n-th cell must not hit
 * or miss the pings alone. Short trains have more of them, or chance would decide. */
#define MVPN_MEASURE_PING_EVERY 4u
#define MVPN_MEASURE_PING_EVERY_SHORT 2u
#define MVPN_MEASURE_SHORT (512u << 10)
#define MVPN_MEASURE_PINGS_MAX                                                                     \
    (MVPN_MEASURE_BYTES_MAX / MVPN_MEASURE_CELL / MVPN_MEASURE_PING_EVERY + 1)

enum mvpn_measure_state {
    MVPN_MEASURE_DONE, /* also: never begun */
    MVPN_MEASURE_BUILD,
    MVPN_MEASURE_RTT,
    MVPN_MEASURE_TRAIN,
};

typedef struct mvpn_measure {
    enum mvpn_measure_state state;
    mvpn_circuit circuit;
    const mvpn_circuit_env *env;
    bool wants_bandwidth;
    mvpn_time began, next_at, trains_began;
    unsigned rtt_tries;
    /* The train under way. */
    mvpn_siphash_key token_key; /* tokens follow from it and the number of the ping */
    uint32_t kbit;              /* its rate */
    uint32_t cells, sent;
    uint32_t group, ping_at; /* of each group one cell is a ping: the next */
    uint32_t pings, answered;
    mvpn_time train_began, last_sent, last_pong;
    uint8_t seen[MVPN_MEASURE_PINGS_MAX / 8 + 1]; /* pings answered, one bit each */
    /* The result. */
    bool is_alive;
    int error;            /* why it is not, or MVPN_E_UNKNOWN, _LIMIT, _NOMEM: it could not begin */
    uint32_t rtt_us;      /* 0: not measured */
    uint32_t result_kbit; /* 0: not measured */
    uint64_t bytes;       /* sent in trains */
} mvpn_measure;

/**
 * Begin. `env` is borrowed until DONE. The state is DONE at once, with `error`, if it cannot begin:
 * the relay is not in the view or has no address for us (MVPN_E_UNKNOWN), or links or packets are
 * used up.
 */
void mvpn_measure_start(mvpn_measure *m, const mvpn_circuit_env *env, const mvpn_ed25519_pub *relay,
                        bool wants_bandwidth, mvpn_time now);
/** Is this message for it? */
bool mvpn_measure_is_for(const mvpn_measure *m, const mvpn_link *link, const mvpn_header *header);
/** A message for it (packet taken). */
void mvpn_measure_message(mvpn_measure *m, const mvpn_header *header, mvpn_packet *packet,
                          mvpn_time now);
void mvpn_measure_link_closed(mvpn_measure *m, const mvpn_link *link, mvpn_time now);
void mvpn_measure_tick(mvpn_measure *m, mvpn_time now);
mvpn_time mvpn_measure_deadline(const mvpn_measure *m);
/** End it without a result that was not there yet. */
void mvpn_measure_stop(mvpn_measure *m, mvpn_time now);

#endif
