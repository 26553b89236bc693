/*
 * A client that does what a test says: circuits from the client's own parts (src/core/circuit.h),
 * and any cell in them.
 */
#ifndef MVPN_SIM_PUPPET_H
#define MVPN_SIM_PUPPET_H

#include "sim.h"

#define PUPPET_CIRCUITS 2048

typedef struct puppet_circuit {
    mvpn_circuit c;
    bool is_raw; /* built: what comes is recorded below and not acted on */
    unsigned answers;
    unsigned hop; /* of the latest answer */
    uint16_t command;
    uint8_t data[MVPN_BODY_MAX];
    size_t len;
    bool is_destroyed;
    uint8_t reason;
} puppet_circuit;

typedef struct puppet {
    sim_node *node;
    mvpn_circuit_env env;
    puppet_circuit *circuit;
    size_t count;
} puppet;

/** A started puppet in the world. */
puppet *puppet_new(sim *w);
void puppet_free(puppet *p);
/** Begin a circuit; NULL if it cannot even begin. Valid until puppet_free. */
puppet_circuit *puppet_start(puppet *p, sim_node *const *hops, size_t count);
/** Build it within 5 s; what comes after is recorded. NULL if it failed. */
puppet_circuit *puppet_build(puppet *p, sim_node *const *hops, size_t count);
/** Send a cell to a hop. */
void puppet_send(puppet *p, puppet_circuit *c, unsigned hop, unsigned command, bool is_early,
                 const uint8_t *data, size_t len);
/** Send Extend to the last hop, towards this relay; `descriptor` may be NULL (none sent). */
void puppet_extend(puppet *p, puppet_circuit *c, const mvpn_descriptor *target,
                   const mvpn_descriptor *descriptor, bool is_early);

#endif
