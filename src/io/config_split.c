#include "io/config_split.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static int refuse_more(unsigned max, mvpn_fault *why)
{
    return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %u are possible", max);
}

/* Both directions at once say nothing about the rest. */
static int take_direction(mvpn_config_split *split, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const char inside[] = "inside_";
    bool is_inside = strncmp(v->name, inside, sizeof(inside) - 1) == 0;
    if (split->first_key[0] == '\0') {
        (void)snprintf(split->first_key, sizeof(split->first_key), "%s", v->name);
        split->first_line = v->line;
        split->is_inside = is_inside;
    }
    return split->is_inside == is_inside
               ? 0
               : mvpn_fault_set(why, MVPN_E_CONFIG,
                                "%s and %s (line %u) cannot both be: either only what inside_* "
                                "lists goes inside, or all but what outside_* lists. Remove one",
                                v->name, split->first_key, split->first_line);
}

static void clear_host_bits(mvpn_prefix *p)
{
    for (unsigned i = p->bits; i < mvpn_addr_ip_len(&p->addr) * 8; i++) {
        p->addr.ip[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
    }
}

int mvpn_config_split_network(mvpn_config_split *split, const mvpn_setting_value *v,
                              mvpn_fault *why)
{
    mvpn_prefix p;
    int r = take_direction(split, v, why);
    if (r != 0) {
        return r;
    }
    if (mvpn_prefix_parse(v->text, &p) != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is no network. Write it as 192.0.2.0/24 or 2001:db8::/32",
                              v->text);
    }
    if (p.bits == 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              split->is_inside
                                  ? "'%.60s' is everything. To send everything into the tunnel, "
                                    "remove inside_*"
                                  : "'%.60s' is everything. To send nothing into the tunnel by "
                                    "itself, write routes = none",
                              v->text);
    }
    if (split->network_count == MVPN_SPLIT_NETWORKS_MAX) {
        return refuse_more(MVPN_SPLIT_NETWORKS_MAX, why);
    }
    clear_host_bits(&p);
    split->networks[split->network_count++] = p;
    return 0;
}

/* The highest number means "nobody" to the kernel. */
static bool read_uid(const char *text, uint32_t *ret)
{
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);
    bool is_number = text[0] >= '0' && text[0] <= '9' && *end == '\0' && value < UINT32_MAX;
    const struct passwd *user = is_number ? NULL : getpwnam(text);
    *ret = is_number ? (uint32_t)value : user != NULL ? user->pw_uid : 0;
    return is_number || user != NULL;
}

int mvpn_config_split_user(mvpn_config_split *split, const mvpn_setting_value *v, mvpn_fault *why)
{
    uint32_t uid;
    int r = take_direction(split, v, why);
    if (r != 0) {
        return r;
    }
    if (!read_uid(v->text, &uid)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "there is no user '%.60s' here. Name users of this computer, as "
                              "getent passwd lists them, or their numbers",
                              v->text);
    }
    if (uid == 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "root is not possible: the system's own services run as root. Use "
                              "meshvpn run %s",
                              split->is_inside ? "--exit" : "--outside");
    }
    if (split->user_count == MVPN_SPLIT_USERS_MAX) {
        return refuse_more(MVPN_SPLIT_USERS_MAX, why);
    }
    split->users[split->user_count++] = uid;
    return 0;
}

int mvpn_config_split_domain(mvpn_config_split *split, const mvpn_setting_value *v, mvpn_fault *why)
{
    int r = take_direction(split, v, why);
    if (r != 0) {
        return r;
    }
    if (split->domains.count == MVPN_SPLIT_DOMAINS_MAX) {
        return refuse_more(MVPN_SPLIT_DOMAINS_MAX, why);
    }
    if (!mvpn_split_domain_read(v->text, split->domains.names[split->domains.count])) {
        return mvpn_fault_set(
            why, MVPN_E_CONFIG,
            "'%.60s' is no name of a domain. Write it as example.org, which means "
            "all names below it too",
            v->text);
    }
    split->domains.count++;
    return 0;
}

int mvpn_config_split_cgroup(mvpn_config_split *split, const mvpn_setting_value *v, mvpn_fault *why)
{
    int r = take_direction(split, v, why);
    if (r != 0) {
        return r;
    }
    if (v->text[0] != '/' || strlen(v->text) >= MVPN_CONFIG_SPLIT_PATH) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is no cgroup. Write its directory, such as "
                              "/sys/fs/cgroup/system.slice/backup.service",
                              v->text);
    }
    if (split->cgroup_count == MVPN_SPLIT_LISTED_MAX) {
        return refuse_more(MVPN_SPLIT_LISTED_MAX, why);
    }
    (void)snprintf(split->cgroups[split->cgroup_count++], MVPN_CONFIG_SPLIT_PATH, "%s", v->text);
    return 0;
}

bool mvpn_config_split_is_used(const mvpn_config_split *split)
{
    return split->network_count > 0 || split->user_count > 0 || split->cgroup_count > 0 ||
           split->domains.count > 0;
}

void mvpn_config_split_fill(const mvpn_config_split *split, mvpn_split *ret)
{
    *ret = (mvpn_split){.is_inside = split->is_inside,
                        .holds_names = split->is_inside && split->domains.count > 0,
                        .target_count = split->network_count,
                        .user_count = split->user_count};
    for (unsigned i = 0; i < split->network_count; i++) {
        ret->targets[i] = (mvpn_split_range){split->networks[i].addr, split->networks[i].bits};
    }
    memcpy(ret->users, split->users, sizeof(split->users));
}
