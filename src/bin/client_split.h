/* The client's control commands about what goes outside the tunnel. (docs/split-tunnelling.md) */
#ifndef MVPN_BIN_CLIENT_SPLIT_H
#define MVPN_BIN_CLIENT_SPLIT_H

#include <jansson.h>

/** "outside": the process that asks goes outside from now on. A command_fn. */
int client_outside_command(void *program, const json_t *request, json_t *reply);

#endif
