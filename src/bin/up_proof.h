/*
 * What `meshvpn up` shows of a client that is connected: exit address, names, IPv6, kill switch,
 * each as the client's test found it; what was not tested, by what its status says happened.
 */
#ifndef MVPN_BIN_UP_PROOF_H
#define MVPN_BIN_UP_PROOF_H

#include <jansson.h>

#include "bin/terminal.h"

/** A line each, with a tick or a cross. */
void up_proof_show(const terminal *term, const json_t *status);
/** The same as an object. */
json_t *up_proof_json(const json_t *status);

#endif
