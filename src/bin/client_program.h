/*
 * What meshvpn-client holds while it runs: for client.c and the files that its control commands are
 * in (client_control.h).
 */
#ifndef MVPN_BIN_CLIENT_PROGRAM_H
#define MVPN_BIN_CLIENT_PROGRAM_H

#include "bin/cli.h"
#include "bin/client_proof.h"
#include "bin/client_proxy.h"
#include "bin/command_table.h"
#include "io/client_exits.h"
#include "io/client_memory.h"
#include "io/client_sources.h"
#include "io/connection_log.h"
#include "io/event_ring.h"

typedef struct client_program {
    cli cli;
    mvpn_loop *loop;
    mvpn_node *node;
    mvpn_helper_host host;
    client_proxy *proxy; /* instead of the host's TUN */
    mvpn_client_memory state;
    mvpn_client_sources sources;
    mvpn_client_config client;
    mvpn_engine_config engine;
    mvpn_split_leases leases; /* of names of outside_ or inside_domains: the helper has them, too */
    mvpn_time told_refusal;   /* of a name of inside_domains */
    command_owners owners;    /* who may change something by the control socket */
    client_proof proof;
    bool told_clock;
    unsigned blocked_s; /* no path could be chosen for so long */
    mvpn_connection_log connections;
    mvpn_client_exits exits;
    mvpn_event_ring events; /* of the log */
    uint64_t rotations;     /* that it told of */
} client_program;

#endif
