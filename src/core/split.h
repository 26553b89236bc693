/*
 * Split tunnelling: what of a host goes outside the tunnel although the rest must not; or, the
 * other direction, what alone goes inside. By where it goes (networks, and addresses that names of
 * domains had lately) or by who sends it (users, cgroups). Data alone: core/protect_rules makes
 * packet filter rules of it, io/host_client routes. (docs/split-tunnelling.md)
 */
#ifndef MVPN_CORE_SPLIT_H
#define MVPN_CORE_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

/* Each is a policy rule of the kernel, which asks one after the other for each new route. */
#define MVPN_SPLIT_NETWORKS_MAX 32
#define MVPN_SPLIT_USERS_MAX 16
/* Of the configuration. Some that they were before they were made anew: a service that restarts
 * over and over has no older sockets that live. And that of meshvpn run --outside. */
#define MVPN_SPLIT_LISTED_MAX 7
#define MVPN_SPLIT_PAST_MAX 8
#define MVPN_SPLIT_CGROUPS_MAX (MVPN_SPLIT_LISTED_MAX + MVPN_SPLIT_PAST_MAX + 1)
/* Addresses of domains: a site has some ten. */
#define MVPN_SPLIT_ADDRESSES_MAX 64
#define MVPN_SPLIT_TARGETS_MAX (MVPN_SPLIT_NETWORKS_MAX + MVPN_SPLIT_ADDRESSES_MAX)

typedef struct mvpn_split_range {
    mvpn_addr addr;
    uint8_t bits;
} mvpn_split_range;

typedef struct mvpn_split_cgroup {
    uint8_t level;     /* v2: how far below the root; 0: v1 */
    uint32_t class_id; /* v1: net_cls.classid */
    uint64_t id;       /* v2: its inode */
} mvpn_split_cgroup;

typedef struct mvpn_split {
    bool
        is_inside; /* what follows goes inside and nothing else; false: outside, and nothing else */
    bool holds_names; /* inside: by name too, so that nobody may ask for names but the tunnel */
    unsigned target_count, user_count, cgroup_count;
    mvpn_split_range targets[MVPN_SPLIT_TARGETS_MAX];
    uint32_t users[MVPN_SPLIT_USERS_MAX];
    mvpn_split_cgroup cgroups[MVPN_SPLIT_CGROUPS_MAX];
} mvpn_split;

/** True if something goes its own way by who sends it. */
static inline bool mvpn_split_has_senders(const mvpn_split *split)
{
    return split->user_count > 0 || split->cgroup_count > 0;
}

/** The firewall mark of what goes its own way by who sends it, beside the client's own `mark`.
 * Never 0 or that. */
static inline uint32_t mvpn_split_mark(uint32_t mark)
{
    const uint32_t bit = UINT32_C(1) << 16;
    return mark != bit ? mark ^ bit : mark << 1;
}

#endif
