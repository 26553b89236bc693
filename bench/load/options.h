/*
 * The command line of meshvpn-load. Pure.
 */
#ifndef MVPN_BENCH_LOAD_OPTIONS_H
#define MVPN_BENCH_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "base/macros.h"
#include "bench/load/flow.h"

/* Each client has a socket: beyond, one address has hardly enough ports. */
#define LOAD_CLIENTS_MAX 20000
#define LOAD_PATHS_MAX 16
#define LOAD_HOPS_MAX 5
/* A relay keeps only a quarter of its links for one block of addresses (/24). */
#define LOAD_BINDS_MAX 64

/* Names or identities, guard first; the strings are borrowed from the command line. */
typedef struct load_path {
    unsigned count;
    const char *hop[LOAD_HOPS_MAX];
    size_t length[LOAD_HOPS_MAX];
} load_path;

typedef struct load_options {
    bool is_echo; /* --echo: be the server, and nothing else */
    mvpn_addr echo;
    const char *network_file;
    mvpn_addr server;               /* an echo server, IPv4 */
    size_t bind_count;              /* at least 1; clients take them in turn */
    mvpn_addr bind[LOAD_BINDS_MAX]; /* of the clients' sockets; port 0 */
    unsigned clients[LOAD_KINDS];
    unsigned rate; /* circuits begun per second */
    unsigned seconds;
    unsigned hops;
    unsigned build_seconds; /* patience; 0 = what `rate` takes, and 15 s */
    size_t path_count;      /* clients take them in turn; 0: each draws its own */
    load_path paths[LOAD_PATHS_MAX];
    unsigned kbit;       /* of each bulk client; 0: as much as its window lets through */
    unsigned flood_kbit; /* of each flood */
    unsigned size;       /* of bulk's UDP payloads */
    enum load_direction direction;
    unsigned relay_pid; /* whose memory and CPU time are told; 0: nobody's */
    bool wants_json;
    bool wants_help;
} load_options;

/** Clients of all kinds. */
unsigned load_options_total(const load_options *o);

/**
 * Read the arguments behind the program's name. Returns NULL, or what is wrong, for people: static
 * text.
 */
const char *load_options_parse(int argc, char **argv, load_options *ret);

#endif
