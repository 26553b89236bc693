/*
 * What a client tells beside its status: its circuits (schema "meshvpn.circuits/1"), described in
 * docs/schemas/.
 */
#ifndef MVPN_IO_STATUS_LISTS_H
#define MVPN_IO_STATUS_LISTS_H

#include <jansson.h>

#include "core/engine.h"

void mvpn_status_circuits(json_t *reply, mvpn_engine *engine, mvpn_time now);

#endif
