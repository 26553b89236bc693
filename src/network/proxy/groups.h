/*
 * Isolation groups of the proxy: what one user name and password asks for never shares a circuit
 * with what another one does. They are no secret that is checked: whoever reaches the proxy may
 * name any. (As Tor's IsolateSOCKSAuth: a program keeps two of its affairs apart by two names.)
 *
 *   free -enter-> used -last leave-> idle -MVPN_PROXY_GROUP_IDLE, or its place is needed-> free
 *
 * Sans-IO and without memory of its own. Names and passwords are not kept: a digest under a key of
 * this process is.
 */
#ifndef MVPN_NETWORK_PROXY_GROUPS_H
#define MVPN_NETWORK_PROXY_GROUPS_H

#include "base/time.h"
#include "network/proxy/basic.h"

/* Beside those without a user name. Each has circuits of its own: two at the guards, about 1 MiB
 * here. */
#define MVPN_PROXY_GROUPS_MAX 8
/* How long circuits are kept for a user who may come back: a person between two pages. */
#define MVPN_PROXY_GROUP_IDLE MVPN_S(600)
/* While all places are taken, one that was left so long ago gives way: longer than between two
 * connections of a program at work. */
#define MVPN_PROXY_GROUP_YIELD MVPN_S(60)

typedef struct mvpn_proxy_group {
    bool is_used;
    uint8_t digest[32];
    unsigned connections;
    mvpn_time began;
    mvpn_time left; /* the last one, with 0 connections */
} mvpn_proxy_group;

typedef struct mvpn_proxy_groups {
    uint8_t key[32];
    mvpn_proxy_group of[MVPN_PROXY_GROUPS_MAX + 1]; /* by number; [0]: who names no user */
} mvpn_proxy_groups;

/** `key`: random, of this process. */
void mvpn_proxy_groups_init(mvpn_proxy_groups *groups, const uint8_t key[static 32]);

/**
 * A connection of this user begins: `*ret` is the number of its group, 0 for who names none, else
 * from 1. `*ret_ends`: the number was another user's till now, whose circuits must end
 * first. `*ret_begins`: it has no circuits yet. MVPN_E_LIMIT: all groups are in use.
 */
MVPN_WUR int mvpn_proxy_groups_enter(mvpn_proxy_groups *groups, const mvpn_proxy_user *user,
                                     mvpn_time now, unsigned *ret, bool *ret_begins,
                                     bool *ret_ends);
/** A connection of the group has ended. */
void mvpn_proxy_groups_leave(mvpn_proxy_groups *groups, unsigned number, mvpn_time now);
/** A group that nobody has come back to in time: free from now on; 0: there is none. */
unsigned mvpn_proxy_groups_expire(mvpn_proxy_groups *groups, mvpn_time now);
/** It could not be opened: free. */
void mvpn_proxy_groups_forget(mvpn_proxy_groups *groups, unsigned number);

#endif
