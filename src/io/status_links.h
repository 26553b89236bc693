/*
 * What `meshvpn status` shows of links, of the NAT before us, and of how connections changed.
 */
#ifndef MVPN_IO_STATUS_LINKS_H
#define MVPN_IO_STATUS_LINKS_H

#include <jansson.h>

#include "core/engine.h"

/* Links that are listed: they and the rest of a status fit into one reply (MVPN_CONTROL_REPLY).
 * `link_count` counts all. */
#define MVPN_STATUS_LINKS_MAX 1024

/**
 * Add `links` (with relays: who, how, since when), `link_count`, `links_unnamed` (peers without an
 * identity: clients), `nat` and `connections` (the latest changes) to a status. Never an address.
 */
void mvpn_status_links(json_t *reply, mvpn_engine *engine, mvpn_time now);

/** How a link runs: "type", "state", "reason", "via" (null unless relayed at present), and of one
 * over a NAT "nat_relay", "opened_after_ms", "direct_after_ms", "rounds", "upgrades", "fallbacks".
 */
void mvpn_status_set_connection(json_t *o, const mvpn_view *view, const mvpn_connector *connector,
                                const mvpn_link *link);
/** A relay's "name" (null if the view does not know it) and "identity" (the first half). */
void mvpn_status_set_relay(json_t *o, const mvpn_view *view, const mvpn_ed25519_pub *identity);
/** The name of a relay, or the first half of its identity; `text` is room for that. */
const char *mvpn_status_relay_name(const mvpn_view *view, const mvpn_ed25519_pub *identity,
                                   char text[static 17]);

#endif
