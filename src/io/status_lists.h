/*
 * What a client tells beside its status: its circuits (schema "meshvpn.circuits/1") and the exits
 * that it knows ("meshvpn.exits/1"). docs/schemas/ describes both.
 */
#ifndef MVPN_IO_STATUS_LISTS_H
#define MVPN_IO_STATUS_LISTS_H

#include <jansson.h>

#include "core/engine.h"

/* Exits in one answer, the fastest: so many with all they can say fit MVPN_CONTROL_REPLY. */
#define MVPN_STATUS_EXITS_MAX 1000

void mvpn_status_circuits(json_t *reply, mvpn_engine *engine, mvpn_time now);

/**
 * `request` may narrow it: "country" (two letters) and "port" (TCP and UDP; the exit lets it out).
 * Returns 0; MVPN_E_INVAL with an "error" in `reply`; MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_status_exits(json_t *reply, const mvpn_view *view, const json_t *request);

#endif
