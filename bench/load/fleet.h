/*
 * Many clients in one process: an engine, a socket and a flow each, on one loop. Each client has a
 * source port of its own, as clients have; the memory for reading and writing is shared.
 *
 *   build (rate circuits a second) -> warm up -> measure -> drain -> done
 */
#ifndef MVPN_BENCH_LOAD_FLEET_H
#define MVPN_BENCH_LOAD_FLEET_H

#include "bench/load/options.h"
#include "bench/load/process.h"
#include "io/fault.h"
#include "io/network_file.h"

/* Ways in which circuits fail, told apart; more count as the last. */
#define LOAD_REASONS_MAX 16

typedef struct load_reason {
    int error;
    uint8_t reason; /* mvpn_reason, as the peer told */
    uint64_t count;
} load_reason;

typedef struct load_report {
    unsigned clients, built; /* built: were connected when building ended */
    unsigned connected;      /* were so at the end */
    unsigned progressed;     /* of those that send and are answered: got something through */
    unsigned expected;       /* of those that send and are answered */
    uint64_t disconnects;    /* circuits lost after they were built */
    double build_s;          /* from the first begun to the last built */
    load_histogram build_times;
    uint64_t bulk_bytes; /* passed during the measurement */
    double measured_s;
    double jain;                   /* over the bulk clients; 0: none */
    uint64_t share_min, share_max; /* bytes of one bulk client */
    load_flow_counts counts[LOAD_KINDS];
    load_histogram rtts[LOAD_KINDS];
    uint64_t socket_drops; /* datagrams that found no packet here: we are too slow */
    size_t engine_bytes;   /* memory of this process per client, at the end of building */
    bool has_relay;
    load_process relay_before, relay_built, relay_from, relay_after;
    double relay_build_cpu_s; /* until the last circuit was built */
    size_t reason_count;
    load_reason reasons[LOAD_REASONS_MAX];
} load_report;

/**
 * Build, run and measure as the options say. Returns 0; MVPN_E_CONFIG, MVPN_E_NOMEM, MVPN_E_SYSTEM
 * with `fault`. A network that refuses or loses is a result, not an error.
 */
MVPN_WUR int load_fleet_run(const load_options *options, const mvpn_network_file *network,
                            load_report *ret, mvpn_fault *fault);

#endif
