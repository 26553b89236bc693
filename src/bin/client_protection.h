/*
 * What protects this host, in the status of meshvpn-client: as the helper does it and the kernel
 * has it, not as the configuration wants it.
 */
#ifndef MVPN_BIN_CLIENT_PROTECTION_H
#define MVPN_BIN_CLIENT_PROTECTION_H

#include "bin/client_program.h"

/** Add "protection" to `reply`, null without helper (a proxy protects no host) or if it is mute,
 * and "dns", the host's name servers. */
void client_protection_status(const client_program *p, json_t *reply);

#endif
