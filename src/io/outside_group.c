#include "io/outside_group.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

/* "MV" and a minor number, as tc(8) writes handles: 4d56:1. */
#define CLASS_ID 0x4d560001u

enum hierarchy { HIERARCHY_NONE, HIERARCHY_UNIFIED, HIERARCHY_NET_CLS };

/* net_cls wins: who mounts it wants it. Of the unified one the first: it may be there a second
 * time, in part, where the unit lets us write. */
static enum hierarchy find_hierarchy(char out[static PATH_MAX])
{
    enum hierarchy found = HIERARCHY_NONE;
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    struct mntent *m;
    while (mounts != NULL && found != HIERARCHY_NET_CLS && (m = getmntent(mounts)) != NULL) {
        enum hierarchy is = strcmp(m->mnt_type, "cgroup2") == 0 ? HIERARCHY_UNIFIED
                            : strcmp(m->mnt_type, "cgroup") == 0 && hasmntopt(m, "net_cls") != NULL
                                ? HIERARCHY_NET_CLS
                                : HIERARCHY_NONE;
        if (is > found && strlen(m->mnt_dir) < PATH_MAX) {
            (void)snprintf(out, PATH_MAX, "%s", m->mnt_dir);
            found = is;
        }
    }
    if (mounts != NULL) {
        (void)endmntent(mounts);
    }
    return found;
}

static int write_number(int dir, const char *file, unsigned long number)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%lu", number);
    int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n;
    int err = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    errno = err;
    return ok ? 0 : -1;
}

/* In the hierarchy's root, which root alone may write, and without CAP_DAC_OVERRIDE not even he: it
 * may be there already (the systemd unit makes it), and it stays. */
#define DIRECTORY "meshvpn-outside"
#define LEVEL 2

static int open_parent(mvpn_outside_group *group)
{
    size_t n = strlen(group->where);
    int root = open(group->where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || n + sizeof("/" DIRECTORY) > sizeof(group->where)) {
        return root;
    }
    (void)mkdirat(root, DIRECTORY, 0755);
    int parent = openat(root, DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    (void)close(root);
    (void)snprintf(group->where + n, sizeof(group->where) - n, "/" DIRECTORY);
    return parent;
}

/* Hosts have one hierarchy of cgroups for all their network namespaces. */
static void choose_name(mvpn_outside_group *group)
{
    struct stat st;
    unsigned long long space = stat("/proc/self/ns/net", &st) == 0 ? st.st_ino : 0;
    (void)snprintf(group->name, sizeof(group->name), "%llu", space);
}

static int make(mvpn_outside_group *group, enum hierarchy hierarchy)
{
    struct stat st;
    int dir = -1;
    choose_name(group);
    group->parent = open_parent(group);
    if (group->parent >= 0 && (mkdirat(group->parent, group->name, 0755) == 0 || errno == EEXIST)) {
        dir = openat(group->parent, group->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    bool ok = dir >= 0 && fstat(dir, &st) == 0;
    if (ok && hierarchy == HIERARCHY_NET_CLS) {
        group->match = (mvpn_split_cgroup){.class_id = CLASS_ID};
        ok = write_number(dir, "net_cls.classid", CLASS_ID) == 0;
    } else if (ok) {
        group->match = (mvpn_split_cgroup){.level = LEVEL, .id = st.st_ino};
    }
    group->processes = ok ? openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;
    int err = errno;
    if (dir >= 0) {
        (void)close(dir);
    }
    errno = err;
    return group->processes >= 0 ? 0 : -1;
}

void mvpn_outside_group_make(mvpn_outside_group *ret)
{
    *ret = (mvpn_outside_group){.processes = -1, .parent = -1};
    enum hierarchy hierarchy = find_hierarchy(ret->where);
    if (hierarchy == HIERARCHY_NONE) {
        (void)snprintf(ret->why_not, sizeof(ret->why_not),
                       "neither net_cls nor the unified hierarchy of cgroups is mounted");
    } else if (make(ret, hierarchy) != 0) {
        char text[96];
        (void)snprintf(text, sizeof(text), "%s", strerror(errno));
        mvpn_outside_group_remove(ret);
        (void)snprintf(ret->why_not, sizeof(ret->why_not), "no cgroup can be made: %s", text);
    }
}

int mvpn_outside_group_add(const mvpn_outside_group *group, pid_t pid, mvpn_fault *fault)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%ld", (long)pid);
    if (group->processes < 0) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "this host has no cgroup for it (%s). Use outside_users",
                              group->why_not);
    }
    /* As root opened the file, root moves the process: kernels look at that, not at who writes. */
    if (write(group->processes, text, (size_t)n) != n) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot move process %ld to %s",
                                (long)pid, group->name);
    }
    return 0;
}

void mvpn_outside_group_remove(mvpn_outside_group *group)
{
    if (group->processes >= 0) {
        (void)close(group->processes);
    }
    if (group->parent >= 0) {
        (void)unlinkat(group->parent, group->name, AT_REMOVEDIR);
        (void)close(group->parent);
    }
    *group = (mvpn_outside_group){.processes = -1, .parent = -1};
}
