/*
 * The nodes of testnet.h with connectors and NAT relays: A (node 0) calls B (node 2) by the NAT
 * relays R0 and R1 (nodes 1 and 3). Between A and B nothing passes directly unless a test lets it.
 * For tests.
 */
#ifndef MVPN_NETWORK_P2P_REACHNET_H
#define MVPN_NETWORK_P2P_REACHNET_H

#include "network/p2p/connection.h"
#include "network/p2p/nat_relay.h"
#include "network/p2p/testnet.h"

enum { A, R0, B, R1 };

struct reachnet {
    struct net *net;
    mvpn_connector *connector[NET_NODES];
    mvpn_nat_relay *relay[NET_NODES];
    bool is_direct;              /* datagrams pass between A and B */
    bool is_cut[NET_NODES];      /* nothing reaches this node, or leaves it */
    bool drops_incoming;         /* NatIncoming is lost */
    unsigned got[NET_NODES][16]; /* messages 0x40 and up that came to a node */
    unsigned direct;             /* datagrams sent between A and B */
    unsigned pings[NET_NODES];   /* other messages for the owner */
    unsigned strange;            /* sent to an address of nobody */
    size_t opened[NET_NODES], closed[NET_NODES];
    mvpn_link *latest[NET_NODES]; /* opened by another, not with a NAT relay */
    mvpn_link *link;              /* A's with B */
};

/** Where node `i` is. */
mvpn_addr reach_addr(size_t i);
void reach_start_relay(struct reachnet *w, size_t i);
void reach_stop_node(struct reachnet *w, size_t i);
void reach_start_connector(struct reachnet *w, size_t i, bool is_relayed_only);
void reach_start(struct reachnet *w, uint64_t seed, bool is_relayed_only);
void reach_stop(struct reachnet *w);
/** `who` is registered at the first `count` NAT relays. */
void reach_bind(struct reachnet *w, size_t who, size_t count);
/** Valid until it is asked for again. */
const mvpn_connector_binding *reach_binding(const struct reachnet *w, size_t who, size_t i);
/** How `who` can be reached. */
mvpn_link_target reach_target(const struct reachnet *w, size_t who);
/** A link that `from` holds. */
mvpn_link *reach_call(struct reachnet *w, size_t from, size_t to);
/** A calls B, which is at `count` NAT relays; until the link is open. */
void reach_joined(struct reachnet *w, uint64_t seed, size_t count, bool is_relayed_only);
/** Also direct. */
void reach_joined_directly(struct reachnet *w, uint64_t seed);
mvpn_connection_info reach_info(const struct reachnet *w, size_t i, const mvpn_link *link);
void reach_check_state(const struct reachnet *w, size_t i, const mvpn_link *link,
                       enum mvpn_connection_state state, enum mvpn_connection_reason reason);
bool reach_has_event(const struct reachnet *w, size_t i, enum mvpn_connection_state state,
                     enum mvpn_connection_reason reason);
/** What a hostile or strange node says on its link. */
void reach_say(struct reachnet *w, size_t i, mvpn_link *link, unsigned command, const uint8_t *body,
               size_t n);
/** The one that node `i` has with that other; NULL: none. */
mvpn_link *reach_link(const struct reachnet *w, size_t i, size_t with);
void reach_send_incoming(struct reachnet *w, size_t from, size_t to, const mvpn_nat_ids *ids);
/** Ids that no NAT relay has assigned. */
mvpn_nat_ids reach_ids(uint8_t tag);
/** The oldest session that node `i` knows of; NULL: none. */
struct nat_call *reach_first_call(const struct reachnet *w, size_t i);
/** LinkCandidates as a peer may make them, and time to arrive. */
void reach_send_candidates(struct reachnet *w, mvpn_link *link, const mvpn_link_candidates *m);

#endif
