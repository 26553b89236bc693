/*
 * How a relay keeps up with discovery nodes: now and then it sweeps one of them over a link, so
 * that its view has the latest snapshot and whatever the walk has not met yet; clients then get
 * both from any hop. Sans-IO; owned by the engine. (docs/protocol.md §12)
 */
#ifndef MVPN_CORE_FOLLOWER_H
#define MVPN_CORE_FOLLOWER_H

#include "core/view.h"
#include "network/p2p/link.h"

typedef struct mvpn_follower mvpn_follower;

typedef struct mvpn_follower_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_packet_pool *pool;
    mvpn_links *links;
    mvpn_view *view;
    const mvpn_trust *trust;
    mvpn_ed25519_pub own; /* never asked */
    bool has_ipv4, has_ipv6;
    bool allow_private;
    int64_t unix_offset_us;
} mvpn_follower_config;

MVPN_WUR int mvpn_follower_new(const mvpn_follower_config *config, mvpn_time now,
                               mvpn_follower **ret);
void mvpn_follower_free(mvpn_follower *follower, mvpn_time now);
void mvpn_follower_set_unix_offset(mvpn_follower *follower, int64_t unix_offset_us);

/** A DHT reply on a link (packet taken). */
void mvpn_follower_message(mvpn_follower *follower, mvpn_link *link, const mvpn_header *header,
                           mvpn_packet *packet, mvpn_time now);
void mvpn_follower_link_closed(mvpn_follower *follower, mvpn_link *link, mvpn_time now);
void mvpn_follower_tick(mvpn_follower *follower, mvpn_time now);
mvpn_time mvpn_follower_deadline(const mvpn_follower *follower);

typedef struct mvpn_follower_status {
    uint64_t sweeps, sweeps_failed, records_new;
} mvpn_follower_status;
void mvpn_follower_get_status(const mvpn_follower *follower, mvpn_follower_status *ret);

#endif
