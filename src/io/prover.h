/*
 * Looks whether the tunnel protects this host, by sockets like those of any other program: without
 * mark, so that the host's routes, rules and filters are what is tested. What it sees becomes
 * verdicts in core/proof. It takes four seconds at most and sends about twenty packets, of which
 * one each goes to documentation addresses (RFC 5737, RFC 3849) past the tunnel, to be refused by
 * the kill switch if there is one. (docs/threat-model.md "The proof")
 */
#ifndef MVPN_IO_PROVER_H
#define MVPN_IO_PROVER_H

#include "core/proof.h"
#include "io/loop.h"

typedef struct mvpn_prover mvpn_prover;

/** Called once, from the loop; it may free the prover. */
typedef void mvpn_prover_fn(void *ctx, const mvpn_proof_observation *seen);

typedef struct mvpn_prover_options {
    /* What is known before: exits, own addresses, whether there is a kill switch and IPv6. What is
     * seen is added. */
    mvpn_proof_observation known;
    mvpn_addr witnesses_v4[MVPN_PROOF_WITNESSES], witnesses_v6[MVPN_PROOF_WITNESSES];
    size_t witness_count_v4, witness_count_v6;
    mvpn_addr resolver;  /* the exit's, inside the tunnel; family 0: not asked */
    uint32_t past_index; /* of the interface past the tunnel; 0: there is none */
    bool looks_at_way;   /* all that is sent to the internet should have the tunnel's address */
    /* All of it from these addresses of the host, where only those go inside; family 0: from what
     * the kernel chooses. */
    mvpn_addr from_v4, from_v6;
} mvpn_prover_options;

/** Begins at once. MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_prover_new(mvpn_loop *loop, const mvpn_prover_options *options,
                             mvpn_prover_fn *fn, void *ctx, mvpn_prover **ret);
/** NULL is allowed. */
void mvpn_prover_free(mvpn_prover *p);

#endif
