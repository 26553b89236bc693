/*
 * The cgroups of a client's configuration (outside_cgroups, inside_cgroups) and how the packet
 * filter knows their sockets: those of net_cls (v1) by their class, which is read once; those of
 * the unified hierarchy (v2) by their inode. A service that restarts, a login: a directory that is
 * made anew is another cgroup, so the inodes are looked at again and again. Only their directories'
 * status is asked for: the helper's sandbox opens no file.
 */
#ifndef MVPN_IO_LISTED_GROUPS_H
#define MVPN_IO_LISTED_GROUPS_H

#include <limits.h>
#include <sys/types.h>

#include "core/split.h"
#include "io/config_split.h"
#include "io/fault.h"

typedef struct mvpn_listed_group {
    char dir[PATH_MAX];      /* without symbolic links */
    dev_t device;            /* its hierarchy; another one's directory is none */
    mvpn_split_cgroup match; /* v2 with id 0: it is not there yet */
} mvpn_listed_group;

typedef struct mvpn_listed_groups {
    unsigned count;
    mvpn_listed_group at[MVPN_SPLIT_LISTED_MAX];
    /* Those that go inside stay inside: sockets outlive their cgroup where a process elsewhere has
     * them. The last ones, in turn. */
    bool keeps_past;
    unsigned past_count; /* of all times */
    mvpn_split_cgroup past[MVPN_SPLIT_PAST_MAX];
} mvpn_listed_groups;

/**
 * Find those of `split`. One of the unified hierarchy that is not there is waited for if it goes
 * outside. MVPN_E_CONFIG with the first that is not there, or is none; the others are in `ret` also
 * then.
 */
MVPN_WUR int mvpn_listed_groups_find(mvpn_listed_groups *ret, const mvpn_config_split *split,
                                     mvpn_fault *fault);
/** Look whether one was made anew, or for the first time. True: mvpn_listed_groups_fill brings
 * something else than before. */
bool mvpn_listed_groups_look(mvpn_listed_groups *groups);
/** True if looking may ever bring something. */
bool mvpn_listed_groups_can_change(const mvpn_listed_groups *groups);
/** The cgroups of `ret` become these. */
void mvpn_listed_groups_fill(const mvpn_listed_groups *groups, mvpn_split *ret);

#endif
