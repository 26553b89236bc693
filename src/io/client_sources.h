/*
 * Where a client learns whom to begin with while it is not connected: everything that
 * io/sources.h brings goes to the learner and the view, which believe nothing unproven.
 */
#ifndef MVPN_IO_CLIENT_SOURCES_H
#define MVPN_IO_CLIENT_SOURCES_H

#include "io/node.h"
#include "io/sources.h"

typedef struct mvpn_client_sources {
    mvpn_sources *sources; /* NULL: none could be made */
    mvpn_engine *engine;   /* borrowed, as the log */
    const mvpn_log *log;
    uint8_t *snapshot; /* of the bundle under way: it may come before its head */
    size_t snapshot_size;
    bool told_date;
} mvpn_client_sources;

/** Make them, and begin if nothing is known from the last run. The node is there. */
MVPN_WUR int mvpn_client_sources_open(mvpn_client_sources *s, mvpn_loop *loop, mvpn_engine *engine,
                                      const mvpn_network_file *network, const mvpn_marker *marker,
                                      const mvpn_state_entries *cached, const mvpn_log *log,
                                      mvpn_fault *fault);
void mvpn_client_sources_close(mvpn_client_sources *s);
/** Begin if entries are needed, end when connected; call now and then. */
void mvpn_client_sources_check(mvpn_client_sources *s);
/** It is connected: mvpn_sources_end. */
void mvpn_client_sources_end(mvpn_client_sources *s);

#endif
