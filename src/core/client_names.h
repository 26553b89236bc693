/*
 * Does the exit resolve names? One question of DNS through the session: for the root's SOA, which
 * tells nobody anything, and which every resolver knows. Asked until it is answered. Sans-IO.
 */
#ifndef MVPN_CORE_CLIENT_NAMES_H
#define MVPN_CORE_CLIENT_NAMES_H

#include "base/packet.h"
#include "base/time.h"
#include "crypto/rng.h"

typedef struct client_names {
    bool is_asking;
    uint16_t port, id; /* of the question */
    unsigned tries;
    mvpn_time next; /* when it is asked again */
} client_names;

enum client_names_verdict {
    CLIENT_NAMES_OTHER,   /* it is no answer to us: somebody else's packet */
    CLIENT_NAMES_RESOLVE, /* they do */
    CLIENT_NAMES_FAIL,    /* the resolver says that it cannot */
};

/** Ask from now on. Its port is none that a host takes for its own questions. */
void client_names_start(client_names *names, mvpn_rng *rng, mvpn_time now);

/** Is the question due? Then the packet (empty) is filled with it, with a host's addresses. */
bool client_names_ask(client_names *names, const mvpn_addr *from, const mvpn_addr *to,
                      mvpn_packet *packet, mvpn_time now);
/** It has been asked often enough for an answer. */
bool client_names_is_unanswered(const client_names *names);

/** Look at a packet of the session, with the addresses inside a circuit. */
enum client_names_verdict client_names_look(client_names *names, const mvpn_packet *packet);

#endif
