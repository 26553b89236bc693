#include "io/listed_groups.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"

_Static_assert(MVPN_SPLIT_LISTED_MAX + MVPN_SPLIT_PAST_MAX <= MVPN_SPLIT_CGROUPS_MAX,
               "all that are and were have room");

static bool read_class(const char *dir, uint32_t *ret)
{
    char path[PATH_MAX + 32], text[24] = "";
    (void)snprintf(path, sizeof(path), "%s/net_cls.classid", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    *ret = n > 0 ? (uint32_t)strtoul(text, NULL, 10) : 0;
    return n > 0;
}

/* How far below the root of its hierarchy; 0: it is in none, or is the root. */
static unsigned depth_of(const char *dir)
{
    unsigned depth = 0;
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    struct mntent *m;
    while (mounts != NULL && depth == 0 && (m = getmntent(mounts)) != NULL) {
        size_t n = strlen(m->mnt_dir);
        if (strcmp(m->mnt_type, "cgroup2") != 0 || strncmp(dir, m->mnt_dir, n) != 0 ||
            dir[n] != '/') {
            continue;
        }
        for (const char *p = dir + n; p != NULL && p[1] != '\0'; p = strchr(p + 1, '/')) {
            depth++;
        }
    }
    if (mounts != NULL) {
        (void)endmntent(mounts);
    }
    return depth;
}

static int take_class(mvpn_listed_group *group, const char *path, mvpn_fault *fault)
{
    return group->match.class_id != 0
               ? 0
               : mvpn_fault_set(fault, MVPN_E_CONFIG,
                                "the cgroup %s has no class. Give it one of its own: "
                                "echo 0x100001 >%s/net_cls.classid",
                                path, path);
}

static int take_depth(mvpn_listed_group *group, const char *path, mvpn_fault *fault)
{
    unsigned depth = depth_of(group->dir);
    if (depth == 0 || depth > UINT8_MAX) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s is neither a cgroup of net_cls nor one of the unified hierarchy, "
                              "below its root",
                              path);
    }
    group->match.level = (uint8_t)depth;
    return 0;
}

/*
 * The directory that `path` will be, if what is there of it is in the unified hierarchy: below that
 * nobody can make symbolic links.
 */
static bool will_be_there(const char *path, mvpn_listed_group *ret)
{
    char above[MVPN_CONFIG_SPLIT_PATH];
    struct statfs fs;
    struct stat st;
    size_t n = strlen(path);
    bool is_found = false;
    if (n >= sizeof(above) || strstr(path, "/.") != NULL || strstr(path, "//") != NULL ||
        path[n - 1] == '/') {
        return false;
    }
    memcpy(above, path, n + 1);
    while (!is_found && errno == ENOENT && strrchr(above, '/') > above) {
        *strrchr(above, '/') = '\0';
        is_found = realpath(above, ret->dir) != NULL;
    }
    size_t m = is_found ? strlen(ret->dir) : 0;
    const char *rest = path + strlen(above);
    if (!is_found || m + strlen(rest) >= sizeof(ret->dir) || statfs(ret->dir, &fs) != 0 ||
        fs.f_type != CGROUP2_SUPER_MAGIC || stat(ret->dir, &st) != 0) {
        return false;
    }
    memcpy(ret->dir + m, rest, strlen(rest) + 1);
    ret->device = st.st_dev;
    return true;
}

static int find(const char *path, bool is_inside, mvpn_listed_group *ret, mvpn_fault *fault)
{
    struct stat st;
    *ret = (mvpn_listed_group){.dir = ""};
    bool is_there = realpath(path, ret->dir) != NULL;
    if (is_there && stat(ret->dir, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (read_class(ret->dir, &ret->match.class_id)) {
            return take_class(ret, path, fault);
        }
        ret->device = st.st_dev;
        ret->match.id = st.st_ino;
        return take_depth(ret, path, fault);
    }
    /* What is meant to be inside and is misspelt would be outside for ever. */
    if (!is_there && !is_inside && will_be_there(path, ret)) {
        return take_depth(ret, path, fault);
    }
    return mvpn_fault_set(fault, MVPN_E_CONFIG,
                          "there is no cgroup %s. Make it before the client starts, or remove it "
                          "from the configuration",
                          path);
}

int mvpn_listed_groups_find(mvpn_listed_groups *ret, const mvpn_config_split *split,
                            mvpn_fault *fault)
{
    int r = 0;
    *ret = (mvpn_listed_groups){.keeps_past = split->is_inside};
    for (unsigned i = 0; i < split->cgroup_count; i++) {
        int one =
            find(split->cgroups[i], split->is_inside, &ret->at[ret->count], r == 0 ? fault : NULL);
        ret->count += one == 0;
        r = r != 0 ? r : one;
    }
    return r;
}

static bool look(mvpn_listed_groups *groups, mvpn_listed_group *group)
{
    struct stat st;
    mvpn_split_cgroup *match = &group->match;
    if (match->level == 0 || fstatat(AT_FDCWD, group->dir, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISDIR(st.st_mode) || st.st_dev != group->device || st.st_ino == match->id) {
        return false;
    }
    if (groups->keeps_past && match->id != 0) {
        groups->past[groups->past_count++ % MVPN_SPLIT_PAST_MAX] = *match;
    }
    match->id = st.st_ino;
    return true;
}

bool mvpn_listed_groups_look(mvpn_listed_groups *groups)
{
    bool has_changed = false;
    for (unsigned i = 0; i < groups->count; i++) {
        has_changed |= look(groups, &groups->at[i]);
    }
    return has_changed;
}

bool mvpn_listed_groups_can_change(const mvpn_listed_groups *groups)
{
    bool can = false;
    for (unsigned i = 0; i < groups->count; i++) {
        can = can || groups->at[i].match.level > 0;
    }
    return can;
}

void mvpn_listed_groups_fill(const mvpn_listed_groups *groups, mvpn_split *ret)
{
    ret->cgroup_count = 0;
    for (unsigned i = 0; i < groups->count; i++) {
        const mvpn_split_cgroup *match = &groups->at[i].match;
        if (match->level == 0 || match->id != 0) {
            ret->cgroups[ret->cgroup_count++] = *match;
        }
    }
    for (unsigned i = 0; i < MVPN_MIN(groups->past_count, (unsigned)MVPN_SPLIT_PAST_MAX); i++) {
        ret->cgroups[ret->cgroup_count++] = groups->past[i];
    }
}
