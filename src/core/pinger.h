/*
 * Pings of neighbours at somebody's request (`meshvpn ping`): the link is opened if there is none,
 * held while it is pinged so that all that a link in use does happens, and let go 10 s after the
 * last ping. Sans-IO; beside an engine, driven by io/node, which calls mvpn_pinger_turn after each
 * mvpn_engine_turn.
 */
#ifndef MVPN_CORE_PINGER_H
#define MVPN_CORE_PINGER_H

#include "network/p2p/connector.h"
#include "network/p2p/link.h"

/* Neighbours that are pinged at once: people at a terminal, and test labs. */
#define MVPN_PINGER_TARGETS 8
#define MVPN_PINGER_HOLD MVPN_S(10)

typedef struct mvpn_pinger mvpn_pinger;

/** `links` is borrowed and must not be freed before. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_pinger_new(mvpn_links *links, mvpn_pinger **ret);
/** Lets go of the links. NULL is allowed. */
void mvpn_pinger_free(mvpn_pinger *pinger);

/**
 * Ping `target` once: now, or as soon as its link is open. `*ret_seq` counts the pings of this
 * target from 1; an earlier one that was not answered yet is forgotten. MVPN_E_LIMIT: too many
 * targets, or links; and what mvpn_links_open returns.
 */
MVPN_WUR int mvpn_pinger_ping(mvpn_pinger *pinger, const mvpn_link_target *target, mvpn_time now,
                              uint32_t *ret_seq);

typedef struct mvpn_pinger_result {
    uint32_t seq;    /* of the latest ping */
    bool is_done;    /* answered, or it never will be: the link has ended */
    mvpn_time rtt;   /* 0: no answer */
    mvpn_link *link; /* at present, open or not; NULL: none. Valid until the next turn */
} mvpn_pinger_result;

/** False if this target is not being pinged. */
bool mvpn_pinger_get(const mvpn_pinger *pinger, const mvpn_ed25519_pub *identity,
                     mvpn_pinger_result *ret);

/** After each turn of the engine, before what it sends is collected. */
void mvpn_pinger_turn(mvpn_pinger *pinger, mvpn_time now);
mvpn_time mvpn_pinger_deadline(const mvpn_pinger *pinger);

#endif
