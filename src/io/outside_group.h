/*
 * The cgroup whose processes go outside the tunnel, for `meshvpn run --outside`: of the net_cls
 * hierarchy (v1) where one is mounted, else of the unified one (v2). Made at the start, by root;
 * later only its open file is needed. (Linux' admin-guide/cgroup-v1/net_cls.rst, cgroup-v2.rst)
 */
#ifndef MVPN_IO_OUTSIDE_GROUP_H
#define MVPN_IO_OUTSIDE_GROUP_H

#include <limits.h>
#include <sys/types.h>

#include "core/split.h"
#include "io/fault.h"

typedef struct mvpn_outside_group {
    int processes;           /* cgroup.procs; -1: there is no cgroup */
    int parent;              /* the directory that it is in, below the hierarchy's root */
    char where[PATH_MAX];    /* the same, for the sandbox; "" = none */
    char name[32];           /* in it, one for each network namespace */
    char why_not[128];       /* there is none */
    mvpn_split_cgroup match; /* how the packet filter knows its sockets */
} mvpn_outside_group;

/** Make it, or say in `ret->why_not` why there is none. */
void mvpn_outside_group_make(mvpn_outside_group *ret);
/** Put process `pid` (all its threads) there. MVPN_E_CONFIG: there is none; MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_outside_group_add(const mvpn_outside_group *group, pid_t pid, mvpn_fault *fault);
/** Remove it if nobody is in it; who is stays there, and goes where everybody goes. */
void mvpn_outside_group_remove(mvpn_outside_group *group);

#endif
