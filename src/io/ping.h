/*
 * The control verbs about single links: `ping`, and `link_close` (for test labs).
 */
#ifndef MVPN_IO_PING_H
#define MVPN_IO_PING_H

#include <jansson.h>
#include <sys/types.h>

#include "core/target.h"
#include "io/node.h"

/**
 * {"cmd":"ping","node":NAME,"start":true} sends a ping (opening the link if need be), without
 * "start" it asks what came of the latest: both answer with {"schema":"meshvpn.ping/1", "node",
 * "seq", "done", "rtt_ms", "open", "type", "state", "reason", "via", "opened_after_ms",
 * "direct_after_ms"}, null where there is nothing to say. NAME is a relay's name, or 8 or more
 * digits of its identity.
 *
 * `rules`: what a relay may send to; NULL: a client, which pings only those that it has a link
 * with, as nobody else is to learn its address. Returns as mvpn_control_fn.
 */
int mvpn_ping_request(mvpn_node *node, const mvpn_target_rules *rules, const json_t *request,
                      mvpn_time now, json_t *reply);

/** {"cmd":"link_close","node":NAME} closes the link with that relay: for root and the daemon's own
 * user. Diagnostic: whoever needs the link opens it again. Returns as mvpn_control_fn. */
int mvpn_ping_close_request(mvpn_node *node, const json_t *request, uid_t uid, mvpn_time now,
                            json_t *reply);

#endif
