/* The client's control commands about what goes its own way, and answers that say what does.
 * (docs/split-tunnelling.md) */
#ifndef MVPN_BIN_CLIENT_SPLIT_H
#define MVPN_BIN_CLIENT_SPLIT_H

#include <jansson.h>

#include "base/packet.h"

/** A mvpn_node_options.on_arrivals: what answers say of outside_domains is outside, and what they
 * say of inside_domains inside, before the host reads them; or the host does not read it. */
void client_split_look(void *program, mvpn_packet_queue *packets);
/** The "split" of a status. */
json_t *client_split_status(const void *program);
/** "outside": the process that asks goes outside from now on. A command_fn. */
int client_outside_command(void *program, const json_t *request, json_t *reply);

#endif
