/*
 * The nodes of testnet.h with a nat_probe each: node 0 asks, 1 to 3 are relays. For tests.
 */
#ifndef MVPN_NETWORK_P2P_PROBENET_H
#define MVPN_NETWORK_P2P_PROBENET_H

#include "network/p2p/nat_probe.h"
#include "network/p2p/testnet.h"

enum { ASKER, FIRST_RELAY, LAST_RELAY = NET_NODES - 1 };

struct probenet {
    struct net *net;
    mvpn_nat_probe *probe[NET_NODES];
    mvpn_link *link[NET_NODES];     /* the asker's with each relay; NULL: none */
    mvpn_link *at_relay[NET_NODES]; /* the same, theirs */
    /* Changes addresses on the way, as NATs do; false: it is lost. */
    bool (*way)(struct probenet *w, struct net_datagram *d);
    /* Sees messages first: a hostile node's program. True: it took it. */
    bool (*message)(struct probenet *w, size_t node, mvpn_link *link, const mvpn_header *header,
                    mvpn_bytes body);
    size_t probes[NET_NODES];   /* datagrams that a node's nat_probe sent */
    size_t messages[NET_NODES]; /* that came to a node */
    uint64_t changes;           /* of the asker's class */
    bool used_socket;           /* the asker, at its latest turn */
    void *ctx;
};

struct probenet_config {
    uint64_t seed;
    mvpn_addr asker; /* family 0: net_addr(0) */
    bool is_relay;   /* the asker */
    bool measures_lifetime;
    bool is_public; /* no test network: private addresses are refused */
};

void probenet_start(struct probenet *w, const struct probenet_config *config);
void probenet_stop(struct probenet *w);
/** The asker opens a link to that relay, and holds it. */
void probenet_open(struct probenet *w, size_t relay);
/** The same, to be closed when nobody uses it. */
void probenet_open_loose(struct probenet *w, size_t relay);
/** The relays open links to each other. */
void probenet_join_relays(struct probenet *w);
const mvpn_nat_class *probenet_class(const struct probenet *w);
/** Run until the asker's measurement is over (at most 10 s); its time. */
mvpn_time probenet_measure(struct probenet *w);
/** A message from any end of a link. */
void probenet_send(struct probenet *w, size_t from, mvpn_link *link, unsigned command,
                   const uint8_t *body, size_t n);

#endif
