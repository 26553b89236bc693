/* Two nodes in memory for the tests of the exchange, each with a core that only writes down what it
 * is told: it takes the place of dht.c in their programs. */
#ifndef MVPN_DHT_TESTEXCHANGE_H
#define MVPN_DHT_TESTEXCHANGE_H

#include "dht/testing.h"
#include "dht/responder.h"
#include "wire/message.h"

#define START MVPN_S(1000)
#define UNIX_START 1700000000u
#define OFFSET ((int64_t)(UNIX_START * MVPN_US_PER_S - START))

#define UNTIL (UNIX_START + 86400 * 30)
#define SERIAL 40
#define ROLES (MVPN_ROLE_DHT_SERVER | MVPN_ROLE_MIDDLE)

struct mvpn_dht {
    /* to be sent */
    mvpn_dht_outgoing queue[8];
    size_t queue_count, pulled;
    /* what came */
    unsigned requests;
    mvpn_dht_asker asker;
    mvpn_dht_request request;
    uint8_t record[1000];
    /* what it answers */
    mvpn_dht_reply reply;
    int reply_rc;
    /* what became of what was sent */
    unsigned replies, failures;
    uint64_t transaction;
    mvpn_dht_reply got;
    bool is_certified;
};

struct node {
    mvpn_dht core;
    mvpn_dht_exchange *x;
    mvpn_dht_contact self;
    mvpn_ed25519_pub identity;
    mvpn_ed25519_secret secret;
    mvpn_x25519_pair link_key;
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_rng rng;
};

struct net {
    mvpn_aead *aead;
    mvpn_packet_pool pool;
    mvpn_ed25519_secret network_key;
    mvpn_trust trust;
    mvpn_key secret;
    mvpn_time now;
    struct node a, b; /* A asks, B answers */
};

struct shape {
    bool closed, is_v6, client;
};

/** The address of the node of that number. */
mvpn_addr addr_of(bool is_v6, uint8_t n);
/** A link certificate for `key`. */
void certify_link(struct net *net, struct node *n, const mvpn_key *key, uint64_t until);
/** A membership certificate. */
void certify(struct net *net, struct node *n, uint16_t roles, uint64_t until);
/** The exchange of a node, by what is in it. */
void node_start(struct net *net, struct node *n, bool is_server);
/** Both are started; B is the anchor of an open network. */
struct net *net_new(struct shape shape);
/** All packets must be back. */
void net_free(struct net *net);
extern const struct shape closed_v4;

/* A datagram in the hands of the test. */
struct datagram {
    uint8_t bytes[1500];
    size_t n;
};

/** What a node sends next; false if it is silent. */
bool net_take(struct net *net, struct node *from, struct datagram *ret);
/** A datagram comes to a node; what its exchange says. */
int net_give_from(struct net *net, struct node *to, const mvpn_addr *from,
                  const struct datagram *d);
/** The same from the other node. */
int net_give(struct net *net, struct node *to, const struct node *from, const struct datagram *d);
/** A's core asks B; what is sent is in `ret`. */
void net_send(struct net *net, mvpn_dht_request request, bool wants_certificate,
              struct datagram *ret);
extern const mvpn_dht_request ping;
/** There and back again; what B's exchange said of the request. */
int net_exchange(struct net *net, mvpn_dht_request request, bool wants_certificate);

#endif
