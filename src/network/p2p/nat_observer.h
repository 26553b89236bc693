/*
 * The relay that answers probes: from another port of its, by another relay, or later, and says
 * where each came from. Sans-IO; part of nat_probe, which is the other side. (docs/protocol.md
 * §14.6)
 *
 *   NatProbe ---> awaited: token, link
 *   a probe with that token from the link's ip ---> answered as asked, NatProbed
 *
 * Threats: a peer that wants others hit (an answer goes only to the ip that its link has proven, no
 * longer than what came; for another relay's word a few a minute and target, §14.6), that steals
 * datagrams of others' links (only those from its own ip, and no connection id serves as token),
 * that fills tables (everything is per link and bounded).
 */
#ifndef MVPN_NETWORK_P2P_NAT_OBSERVER_H
#define MVPN_NETWORK_P2P_NAT_OBSERVER_H

#include "network/p2p/link.h"
#include "wire/natprobe.h"

typedef struct mvpn_nat_observer mvpn_nat_observer;

typedef struct mvpn_nat_observer_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_packet_pool *pool;
    mvpn_links *links;
    mvpn_packet_queue *out;
    bool allow_private;
} mvpn_nat_observer_config;

MVPN_WUR int mvpn_nat_observer_new(const mvpn_nat_observer_config *config, mvpn_time now,
                                   mvpn_nat_observer **ret);
void mvpn_nat_observer_free(mvpn_nat_observer *o);

/** An address of the host, with the main socket's port: by a probe to it the port of the other
 * socket is learnt. Family 0: none. */
void mvpn_nat_observer_set_own(mvpn_nat_observer *o, const mvpn_addr *own);

/** NatProbe. MVPN_E_FORMAT. */
MVPN_WUR int mvpn_nat_observer_ask(mvpn_nat_observer *o, mvpn_link *link, mvpn_bytes body,
                                   mvpn_time now);
/** NatProbeFor. MVPN_E_FORMAT. */
MVPN_WUR int mvpn_nat_observer_ask_for(mvpn_nat_observer *o, const mvpn_link *link, mvpn_bytes body,
                                       mvpn_time now);
/** Is any probe awaited? */
bool mvpn_nat_observer_is_awaiting(const mvpn_nat_observer *o);
/** True: this datagram is one that is awaited, and was answered; it stays the caller's. Constant
 * time. */
bool mvpn_nat_observer_datagram(mvpn_nat_observer *o, const mvpn_packet *packet,
                                const mvpn_probe_token *token, mvpn_time now);

void mvpn_nat_observer_link_opened(mvpn_nat_observer *o, mvpn_link *link, mvpn_time now);
void mvpn_nat_observer_link_closed(mvpn_nat_observer *o, mvpn_link *link);
void mvpn_nat_observer_tick(mvpn_nat_observer *o, mvpn_time now);
mvpn_time mvpn_nat_observer_deadline(const mvpn_nat_observer *o);
/** Is MVPN_LOCAL_PROBE in use? It is for a minute after the latest probe from it. */
bool mvpn_nat_observer_uses_socket(const mvpn_nat_observer *o);

typedef struct mvpn_nat_observer_counters {
    uint64_t asked, answered; /* NatProbe; probes of theirs */
    uint64_t sent_for;        /* at the word of relays */
    uint64_t refused;         /* NatProbe that could not be served */
    uint64_t dropped_limit;   /* messages beyond the limits */
    uint64_t dropped_source;  /* probes from elsewhere than the link's ip */
} mvpn_nat_observer_counters;
const mvpn_nat_observer_counters *mvpn_nat_observer_get_counters(const mvpn_nat_observer *o);

#endif
