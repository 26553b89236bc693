/*
 * The traffic of one client of the load generator: IP packets made, and judged when the server's
 * replies come back. Pure: time in, packets out.
 *
 * Payload of a packet: [magic 4][client 4][number 8][sent us 8][reply length 2][filler]. The server
 * sends the first 26 bytes back with as much filler as is asked for, or nothing if that is 0.
 *
 * Bulk behaves as TCP does, roughly: a window that grows by one packet a round trip and is halved
 * once per round trip in which something was lost. Otherwise shares would say nothing about
 * fairness.
 */
#ifndef MVPN_BENCH_LOAD_FLOW_H
#define MVPN_BENCH_LOAD_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/time.h"
#include "bench/load/stats.h"

#define LOAD_PAYLOAD_MIN 26
/* With IP and UDP headers one cell of five hops: no fragments. */
#define LOAD_PAYLOAD_MAX 1200
#define LOAD_PORT 4000
/* Packets on the way; a power of two. As many bytes as TCP would have at 100 Mbit/s and 6 ms. */
#define LOAD_WINDOW_MAX 64
/* Silence is waited for twice as long each time, so often. */
#define LOAD_BACKOFF_MAX 4

enum load_kind {
    LOAD_BULK,
    LOAD_INTERACTIVE,
    LOAD_IDLE,
    LOAD_FLOOD,
    LOAD_KINDS,
};

/* Where bulk's large packets go. */
enum load_direction {
    LOAD_UP,
    LOAD_DOWN,
    LOAD_BOTH,
};

typedef struct load_flow_config {
    enum load_kind kind;
    enum load_direction direction;
    uint32_t client;
    mvpn_addr server;
    unsigned size; /* bulk and flood: payload of the large packets */
    unsigned kbit; /* bulk: 0 = window; flood */
} load_flow_config;

/* Since load_flow_begin_count. */
typedef struct load_flow_counts {
    uint64_t sent, received, reordered, corrupt;
    uint64_t lost; /* given up; of these `late` came all the same */
    uint64_t late;
    uint64_t bytes; /* payload of large packets, each counted once it is known to have passed */
} load_flow_counts;

typedef struct load_flow {
    load_flow_config config;
    bool is_on;
    mvpn_time next;    /* paced kinds: when the next packet is due */
    uint64_t number;   /* of the next packet */
    uint64_t oldest;   /* not yet answered or given up */
    uint64_t highest;  /* answered; number + 1 */
    uint64_t answered; /* bit (n % 64): n of oldest .. number - 1 was answered */
    double window, threshold;
    uint64_t recover; /* losses below are of a round trip already punished */
    mvpn_time rtt;    /* smoothed; 0: not known */
    mvpn_time silent; /* since when nothing came, with something on the way */
    unsigned backoff; /* times that silence has lasted too long since something came */
    uint64_t from;    /* number that counting began with */
    load_flow_counts counts;
    load_histogram *rtts; /* borrowed; NULL: not kept */
} load_flow;

/** `rtts` is borrowed and may be shared. */
void load_flow_init(load_flow *flow, const load_flow_config *config, load_histogram *rtts);
/** Begin to send; `phase` (0..1) spreads the first packets of many flows over their interval. */
void load_flow_start(load_flow *flow, double phase, mvpn_time now);
void load_flow_stop(load_flow *flow);
/** Count from here on; what was sent before is not counted when it comes. */
void load_flow_begin_count(load_flow *flow);

/** Make the next IP packet if one is due: its length (at most LOAD_PAYLOAD_MAX + 28), or 0. */
size_t load_flow_pull(load_flow *flow, uint8_t *out, mvpn_time now);
/** One IP packet that came for this client. */
void load_flow_receive(load_flow *flow, const uint8_t *packet, size_t len, mvpn_time now);
/** When load_flow_pull is due without input. */
mvpn_time load_flow_deadline(const load_flow *flow);
/** At the end: what is still on the way counts as lost. */
void load_flow_finish(load_flow *flow);

/**
 * The server's side: how long the reply to this payload has to be (0: none; it is the payload's
 * first bytes, lengthened or cut).
 */
size_t load_reply_len(const uint8_t *payload, size_t len);

#endif
