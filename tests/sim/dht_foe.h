/*
 * Hostile nodes of the DHT's world. They have no core: they answer as their mind says, know one
 * another, and push claims upon honest nodes all the time. They never leave.
 */
#ifndef MVPN_SIM_DHT_FOE_H
#define MVPN_SIM_DHT_FOE_H

#include "dht_world.h"

/** A node that was placed becomes a foe. */
void dht_foe_begin(dht_node *n, enum dht_mind mind);
/** What a foe answers; false: nothing. */
bool dht_foe_answer(dht_node *n, uint32_t asker_serial, const mvpn_dht_asker *asker,
                    const mvpn_dht_request *request, mvpn_dht_reply *ret);
/** Time for its next push. */
void dht_foe_push(dht_node *n);

/**
 * Foes beside the nodes, standing as near as they can to a place: addresses from `addrs`, each as
 * often as needed, and for each the nearest of `tries` identities; of all minds in turn.
 */
void dht_foes_gather(dht_world *w, const mvpn_dht_id *place, const mvpn_addr *addrs,
                     size_t addr_count, size_t count, size_t tries);

/** Share of a node's contacts that are foes. */
double dht_foe_share(const dht_node *n);

#endif
