/*
 * The client proves that it protects: after connecting, at each other exit, when somebody asks, and
 * again after a while if something failed or there are more witnesses now. (core/proof.h)
 */
#ifndef MVPN_BIN_CLIENT_PROOF_H
#define MVPN_BIN_CLIENT_PROOF_H

#include <jansson.h>

#include "core/engine.h"
#include "io/config.h"
#include "io/helper.h"
#include "io/node.h"
#include "io/prover.h"

typedef struct client_proof {
    mvpn_loop *loop;
    mvpn_node *node;
    const mvpn_config_client *config;
    unsigned relax;     /* MVPN_RELAX_* of the network */
    mvpn_addr resolver; /* the gateway inside the tunnel */
    mvpn_addr tun_v4, tun_v6;
    mvpn_rng rng;
    mvpn_prover *prover; /* NULL: none works */
    bool is_wanted;      /* somebody asked */
    bool is_known;       /* `proof` was made, at `exit`; it is void as soon as another is in use */
    bool has_exit;
    mvpn_ed25519_pub exit;    /* that the last one was begun at */
    unsigned asked;           /* witnesses, by it */
    mvpn_time checked, ended; /* when `proof` was made, and when it was last looked at */
    mvpn_proof proof;
} client_proof;

/** Nothing is proven where no routes lead into the TUN: then no call does anything. `host` is what
 * was set up. MVPN_E_SYSTEM. */
MVPN_WUR int client_proof_open(client_proof *c, mvpn_loop *loop, mvpn_node *node,
                               const mvpn_config_client *config, unsigned relax,
                               const mvpn_helper_host *host);
void client_proof_close(client_proof *c);

/** Begin what is due; at least once a second. */
void client_proof_tend(client_proof *c);
/** Somebody wants to know now. */
void client_proof_ask(client_proof *c);
/** Add "proof" to `reply`; null: not connected, not yet tested at the exit in use, or nothing to
 * test. */
void client_proof_status(const client_proof *c, json_t *reply);

#endif
