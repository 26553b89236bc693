/*
 * What `meshvpn status` shows: the engine's state as JSON, schema "meshvpn.status/1". Never an
 * address of a user.
 */
#ifndef MVPN_IO_STATUS_H
#define MVPN_IO_STATUS_H

#include <jansson.h>

#include "core/engine.h"
#include "core/path.h"

/** Fill `reply` for a client; `relax` are the rules that the network file relaxes. */
void mvpn_status_client(json_t *reply, mvpn_engine *engine, unsigned hops, unsigned relax,
                        mvpn_time now);
/** Fill `reply` for a relay or an exit. */
void mvpn_status_relay(json_t *reply, mvpn_engine *engine, mvpn_time started, mvpn_time now);

#endif
