/*
 * Path selection: a pure function of view, constraints and randomness.
 *
 * No two hops share an identity, an address block (/16 IPv4, /32 IPv6), a mutual family or a
 * declared provider, unless the network file relaxes the rule. (design §6)
 */
#ifndef MVPN_CORE_PATH_H
#define MVPN_CORE_PATH_H

#include "core/view.h"
#include "crypto/rng.h"
#include "wire/cell.h"

/* Rules that a network file may relax. */
#define MVPN_RELAX_BLOCK 0x01
#define MVPN_RELAX_PROVIDER 0x02
#define MVPN_RELAX_FAMILY 0x04

/* Relays to keep out of a path: those that just failed, or other guards. */
#define MVPN_PATH_EXCLUDED_MAX 16

typedef struct mvpn_path_constraints {
    unsigned hops;                 /* 1..5 */
    unsigned relax;                /* MVPN_RELAX_* */
    uint8_t family;                /* address family that the client can use: 4, 6, or 0 for any */
    bool allow_private;            /* relays at private addresses count too */
    char exit_country[3];          /* "" = any */
    const mvpn_ed25519_pub *exit;  /* wanted exit, or NULL */
    const mvpn_ed25519_pub *guard; /* wanted guard, or NULL */
    mvpn_ed25519_pub excluded[MVPN_PATH_EXCLUDED_MAX];
    size_t excluded_count;
    uint64_t unix_now; /* descriptors outside their time are left out; 0 = not checked */
} mvpn_path_constraints;

typedef struct mvpn_path {
    unsigned count;
    mvpn_ed25519_pub hop[MVPN_HOPS_MAX]; /* guard first */
} mvpn_path;

/** The rule that leaves no path. */
enum mvpn_path_block {
    MVPN_PATH_OK,
    MVPN_PATH_NO_EXIT,   /* no exit is known that fits the wishes */
    MVPN_PATH_NO_GUARD,  /* no guard is reachable from here */
    MVPN_PATH_NO_MIDDLE, /* not enough relays that differ from the others */
    MVPN_PATH_RELATED,   /* relays are there, but all break a rule of distinctness */
};
const char *mvpn_path_block_text(enum mvpn_path_block block);

/** Draw a path. MVPN_PATH_OK and `*ret`, or the rule that blocks it. */
enum mvpn_path_block mvpn_path_select(const mvpn_view *view, const mvpn_path_constraints *wish,
                                      mvpn_rng *rng, mvpn_path *ret);

/** May these two stand in one path? */
bool mvpn_path_are_distinct(const mvpn_descriptor *a, const mvpn_descriptor *b, unsigned relax);

#endif
