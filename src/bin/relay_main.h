/*
 * The body of the programs that are nodes of the network: an exit is a relay with a door, an entry
 * node one without traffic, and a discovery node one that looks around.
 */
#ifndef MVPN_BIN_RELAY_MAIN_H
#define MVPN_BIN_RELAY_MAIN_H

#include "bin/cli.h"

/** What a program adds to the node. Functions return 0, or a code with `fault`; each may be NULL.
 */
typedef struct relay_extra {
    void *ctx;
    /** Before the node is made: alter its configuration (also with --check). */
    int (*prepare)(void *ctx, cli *cli, mvpn_engine_config *engine, mvpn_fault *fault);
    /** The node is there, the loop does not run yet. */
    int (*start)(void *ctx, mvpn_loop *loop, mvpn_node *node, mvpn_fault *fault);
    /** The loop has ended; the node (NULL: it was not made) is still there. Always called. */
    void (*stop)(void *ctx, mvpn_node *node);
    /** A session of the exit has ended, and there is no helper that sees to it. */
    void (*released)(void *ctx, const mvpn_exit_event *released);
    /** Add to `meshvpn status`. */
    void (*status)(void *ctx, json_t *reply);
    /** The configuration is read: do something else than run and return the exit code, or -1. */
    int (*instead)(void *ctx, cli *cli);
} relay_extra;

/** `extra` may be NULL. Returns the program's exit code. */
int relay_main(int argc, char **argv, enum mvpn_config_kind kind, const option_program *program,
               const relay_extra *extra);

#endif
