/*
 * The keys of a client's configuration that say what goes outside the tunnel (outside_*), or what
 * alone goes inside (inside_*): setters for the table in config.c, and what they fill.
 * (docs/split-tunnelling.md)
 */
#ifndef MVPN_IO_CONFIG_SPLIT_H
#define MVPN_IO_CONFIG_SPLIT_H

#include "core/split_names.h"
#include "io/netlink.h"
#include "io/settings.h"

#define MVPN_CONFIG_SPLIT_PATH 256 /* of a cgroup's directory, with its zero */
/* The longest key, with its zero. */
#define MVPN_CONFIG_SPLIT_KEY 20

typedef struct mvpn_config_split {
    bool is_inside; /* the first key said so; those of the other direction are mistakes then */
    char first_key[MVPN_CONFIG_SPLIT_KEY]; /* "" = none yet */
    unsigned first_line;                   /* where it stands */
    unsigned network_count, user_count, cgroup_count;
    mvpn_prefix networks[MVPN_SPLIT_NETWORKS_MAX]; /* without bits behind the prefix */
    uint32_t users[MVPN_SPLIT_USERS_MAX];
    char cgroups[MVPN_SPLIT_LISTED_MAX][MVPN_CONFIG_SPLIT_PATH]; /* directories */
    mvpn_split_domains domains;
} mvpn_config_split;

/** As mvpn_setting.set; the target is the mvpn_config_split. */
int mvpn_config_split_network(mvpn_config_split *split, const mvpn_setting_value *v,
                              mvpn_fault *why);
/** A name, looked up at once, or a number. */
int mvpn_config_split_user(mvpn_config_split *split, const mvpn_setting_value *v, mvpn_fault *why);

int mvpn_config_split_domain(mvpn_config_split *split, const mvpn_setting_value *v,
                             mvpn_fault *why);

/** A directory; what it stands for is looked up later (io/listed_groups.h). */
int mvpn_config_split_cgroup(mvpn_config_split *split, const mvpn_setting_value *v,
                             mvpn_fault *why);

/** True if not everything goes inside. */
bool mvpn_config_split_is_used(const mvpn_config_split *split);
/** What the kernel is told from the start, but for cgroups. */
void mvpn_config_split_fill(const mvpn_config_split *split, mvpn_split *ret);

#endif
