/*
 * One real node (an engine) and neighbours that speak links but do what a test tells them, joined
 * without delay in virtual time. For the tests of core and for the fuzzers; everything repeats
 * itself from the seed.
 */
#ifndef MVPN_CORE_TESTLAB_H
#define MVPN_CORE_TESTLAB_H

#include "core/engine.h"
#include "core/onion.h"

#define LAB_PEERS 3 /* 0 is a client, 1 and 2 are relays */
#define LAB_UNIX 1800000000
#define LAB_INBOX 128

typedef struct lab_message {
    mvpn_link *link;
    mvpn_header header;
    size_t len;
    uint8_t bytes[MVPN_BODY_MAX];
} lab_message;

typedef struct lab_peer {
    mvpn_links *links;
    mvpn_packet_pool pool;
    mvpn_rng rng;
    mvpn_addr addr;
    mvpn_ed25519_secret secret;
    mvpn_x25519_pair link_key, onion_pair;
    mvpn_descriptor descriptor;   /* signed, with its identity and link certificate */
    lab_message inbox[LAB_INBOX]; /* messages come; the oldest first */
    size_t inbox_count;
    size_t closed; /* links closed */
    uint64_t datagrams;
} lab_peer;

enum lab_kind {
    LAB_RELAY,
    LAB_EXIT,
    LAB_CLIENT, /* one hop, through peer 1 */
};

typedef struct lab {
    enum lab_kind kind;
    mvpn_time now;
    mvpn_rng rng;
    mvpn_aead *aead;
    mvpn_ed25519_pub network_pub;
    mvpn_ed25519_secret network_key;
    mvpn_realm realm;
    lab_peer self; /* the node: its keys and address; no links of its own */
    mvpn_engine *engine;
    mvpn_engine_config config;
    lab_peer peer[LAB_PEERS];
} lab;

/** `tune` may alter the node's configuration before it starts; NULL: nothing. */
lab *lab_new(enum lab_kind kind, uint64_t seed, void (*tune)(mvpn_engine_config *config));
/** False if the node lost a packet of its pool. */
bool lab_free(lab *l);
/** Carry datagrams to and fro until nobody has any; events of links are seen to. */
void lab_settle(lab *l);
/** The same over `span` of time, with all timers. */
void lab_for(lab *l, mvpn_time span);
/** A link from a peer to the node, open. */
mvpn_link *lab_join(lab *l, size_t peer);
/** Send a message of a peer; the result of mvpn_link_send. */
int lab_send(lab *l, size_t peer, mvpn_link *link, const mvpn_header *header, mvpn_bytes body,
             bool acked);
/** Take the oldest message of a peer; false if there is none. */
bool lab_next(lab *l, size_t peer, lab_message *ret);

/** A circuit of a peer (as client) through the node. */
typedef struct lab_circuit {
    size_t peer;
    mvpn_link *link;
    mvpn_circuit_id out, in;
    uint32_t request_id;
    mvpn_noise noise;
    mvpn_onion onion;
} lab_circuit;

/** Begin a circuit with fresh ids and write its Create's body; returns the length. */
size_t lab_create_body(lab *l, lab_circuit *c, size_t peer, mvpn_link *link, uint8_t *out,
                       size_t size);
void lab_send_create(lab *l, lab_circuit *c, mvpn_bytes body);
/** Create a circuit and wait until its first hop is there; false if it was refused. */
bool lab_circuit_open(lab *l, lab_circuit *c, size_t peer, mvpn_link *link);
/** Send `data` in a layer for the last hop known. */
void lab_cell(lab *l, lab_circuit *c, unsigned command, bool early, mvpn_bytes data);
/** Open a cell that came back; the packet's data is copied to `out`. The layer's command, or -1. */
int lab_open(lab *l, lab_circuit *c, const lab_message *m, uint8_t *out, size_t *ret_len);
/** Begin a handshake with peer `to` and write the whole body of Extend for it; returns its length.
 */
size_t lab_extend_body(lab *l, lab_circuit *c, size_t to, bool with_descriptor, uint8_t *out,
                       size_t size);
/** Send that body as one Extend. */
void lab_send_extend(lab *l, lab_circuit *c, mvpn_bytes body);
/** Answer a Create that came to a peer; `*ret` are the keys of the hop. The Created's body. */
size_t lab_answer(lab *l, size_t peer, const lab_message *m, uint8_t *out, size_t size,
                  mvpn_hop_keys *ret, mvpn_circuit_id *ret_back);

#endif
