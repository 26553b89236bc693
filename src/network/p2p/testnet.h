/*
 * A network of a few nodes for the tests of links: virtual time, delay, seeded loss, reordering,
 * duplication, corruption. Everything repeats itself from the seed.
 */
#ifndef MVPN_NETWORK_P2P_TESTNET_H
#define MVPN_NETWORK_P2P_TESTNET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "network/p2p/internal.h"

#define NET_NODES 4
#define NET_FLIGHT 4096
#define NET_EVENTS 256
/* A node's further sockets are at its port and MVPN_LOCAL_*. */
#define NET_LOCALS (MVPN_LOCAL_PUNCH + MVPN_LOCAL_PUNCH_MAX)
#define NET_UNIX 1800000000

struct net;

struct net_node {
    struct net *net;
    mvpn_links *links;
    mvpn_links_config config;
    mvpn_rng rng;
    mvpn_packet_pool pool;
    mvpn_addr addr;
    mvpn_ed25519_secret secret;
    uint8_t certificate[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_link_target target;
    mvpn_link_event events[NET_EVENTS];
    size_t event_count;
    mvpn_link *last_link; /* of the latest message */
    size_t messages;
    uint64_t sent, sent_bytes; /* datagrams */
};

struct net_datagram {
    mvpn_time due;
    uint64_t order;
    mvpn_addr from, to;
    uint8_t flags;
    size_t len;
    uint8_t bytes[1536];
};

struct net {
    struct net_node node[NET_NODES];
    mvpn_aead *aead;
    mvpn_rng rng;
    mvpn_ed25519_pub network_pub;
    mvpn_ed25519_secret network_key;
    mvpn_time now;
    mvpn_time delay;
    mvpn_time jitter;
    uint32_t loss, dup, corrupt; /* percent */
    size_t mtu;                  /* larger datagrams vanish */
    struct net_datagram *flight;
    size_t flight_count;
    uint64_t order;
    /* Sees each datagram as it is sent and may alter it; false: it is lost. */
    bool (*filter)(struct net *net, struct net_datagram *d);
    /* Sees each datagram before the node's links do; true: it took the packet. */
    bool (*datagram)(struct net *net, struct net_node *node, mvpn_packet *packet);
    /* Sees each message for the owner; the packet is the network's. */
    void (*message)(struct net *net, struct net_node *node, mvpn_link *link,
                    const mvpn_header *header, const mvpn_packet *packet);
    /* Takes each event at once, instead of the node's list. */
    void (*event)(struct net *net, struct net_node *node, const mvpn_link_event *event);
    /* Has a turn before what the links send is collected; says when it wants the next. */
    mvpn_time (*turn)(struct net *net, struct net_node *node);
    void *ctx;
};

struct net *net_new(uint64_t seed);
void net_free(struct net *net);
/** Node 0 is a client, 1 to 3 are relays. */
struct net *net_standard(uint64_t seed, bool closed);
/** Start node `i` (0-3); relays can be reached at net_addr(i). `tune` may alter the configuration.
 */
void net_start(struct net *net, size_t i, bool is_relay, bool closed,
               void (*tune)(mvpn_links_config *c));
void net_stop(struct net *net, size_t i);
mvpn_addr net_addr(size_t i);
/** Where that socket of a node's is. */
mvpn_addr net_local(const struct net_node *n, uint16_t local);
/** Hand a datagram to the node at d->to now. Returns what mvpn_links_recv said. */
int net_inject(struct net *net, const struct net_datagram *d);
/** Collect what nodes want to send, then run until `until`. */
void net_run(struct net *net, mvpn_time until);
void net_for(struct net *net, mvpn_time span);
/** Run until the link is open; false after `span`. */
bool net_until_open(struct net *net, const mvpn_link *link, mvpn_time span);
mvpn_link *net_open(struct net *net, size_t from, size_t to);
/** Send a body of `len` bytes; the first 8 hold `tag`. */
int net_send(struct net *net, size_t from, mvpn_link *link, unsigned command, size_t len,
             uint64_t tag, bool acked);
/** Two nodes joined by an open link; what came of opening is forgotten. Returns the one at `from`.
 */
mvpn_link *net_joined(struct net *net, size_t from, size_t to, mvpn_link **ret_other);
/** The latest event of that type at node i, or NULL. */
const mvpn_link_event *net_event(const struct net_node *node, enum mvpn_link_event_type type);
size_t net_event_count(const struct net_node *node, enum mvpn_link_event_type type);

#endif
