/*
 * The exits that a client knows (schema "meshvpn.exits/1") and those that would suit best
 * ("meshvpn.suggestions/1"). docs/schemas/ describes both.
 */
#ifndef MVPN_IO_STATUS_EXITS_H
#define MVPN_IO_STATUS_EXITS_H

#include <jansson.h>

#include "io/client_exits.h"

/* Exits in one answer, the fastest: so many with all they can say fit MVPN_CONTROL_REPLY. */
#define MVPN_STATUS_EXITS_MAX 1000
/* A choice that a person can look through. */
#define MVPN_STATUS_SUGGESTIONS_MAX 5

/**
 * `request` may narrow it: "country" (two letters), "port" (TCP and UDP; the exit lets it out) and
 * "min_mbit" (as it says, and as far as it was measured). Returns 0; MVPN_E_INVAL with an "error"
 * in `reply`; MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_status_exits(json_t *reply, mvpn_engine *engine, const mvpn_client_exits *chosen,
                               const json_t *request, mvpn_time now);

/** The best of those that could be used now, whatever `exit use` chose, with the reasons. As above.
 */
MVPN_WUR int mvpn_status_suggestions(json_t *reply, mvpn_engine *engine, mvpn_client_exits *chosen,
                                     const json_t *request, mvpn_time now);

#endif
