/*
 * Changes of connections over NATs, for the operator's log: one line each, by name and reason,
 * never with an address. Others cause them, so they are rate-limited.
 */
#ifndef MVPN_IO_CONNECTION_LOG_H
#define MVPN_IO_CONNECTION_LOG_H

#include "base/bucket.h"
#include "base/log.h"
#include "core/view.h"
#include "network/p2p/connector.h"

typedef struct mvpn_connection_log {
    const mvpn_log *log; /* borrowed */
    mvpn_bucket bucket;
    uint64_t left_out; /* since the last line */
} mvpn_connection_log;

void mvpn_connection_log_init(mvpn_connection_log *c, const mvpn_log *log, mvpn_time now);
/** `view` has the names. */
void mvpn_connection_log_event(mvpn_connection_log *c, const mvpn_view *view,
                               const mvpn_connection_event *event);

#endif
