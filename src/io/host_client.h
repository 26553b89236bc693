/*
 * What the client changes in its host: the TUN's addresses, a routing table of its own, the policy
 * rules that lead there, and the kill switch around all of it. (docs/architecture.md "Client
 * routing")
 */
#ifndef MVPN_IO_HOST_CLIENT_H
#define MVPN_IO_HOST_CLIENT_H

#include "io/config.h"
#include "core/protect.h"
#include "core/split_names.h"
#include "io/fault.h"
#include "io/kill_switch.h"
#include "io/listed_groups.h"
#include "io/netlink.h"
#include "io/outside_group.h"
#include "io/reverse_path.h"
#include "io/tun.h"

/* Priorities of a client's policy rules: before the main table (32766), after what people number by
 * hand. */
#define MVPN_HOST_RULES_FIRST 31997
#define MVPN_HOST_RULES_LAST 32001

typedef struct mvpn_host_client {
    mvpn_tun *tun;
    mvpn_addr tun_v4, tun_v6, gateway_v4; /* as set up; the inner constants unless they clashed */
    bool has_rules;
    uint32_t mark, table, index;     /* of the device */
    mvpn_netlink *nl;                /* open as long as there are rules to take back */
    int route_events;                /* what others do to them; -1: nobody looks */
    bool is_astray;                  /* a route or rule is missing and could not be put back */
    mvpn_packet_filter *kill_switch; /* NULL = none is wanted */
    mvpn_reverse_path *reverse_path; /* NULL = nothing can be done for answers */
    mvpn_protect_setup protect;
    enum mvpn_protect_state state;
    bool was_in_force; /* a run before left it so, or lockdown */
    /* Of names: the targets behind those of the configuration. What is inside by a name stays so
     * when the client falls, and its next run takes it over. */
    mvpn_split_leases leases;
    unsigned network_count;
    bool has_domains;
    mvpn_listed_groups groups; /* of the configuration */
    bool is_behind_groups;     /* the packet filter or a rule is: that failed */
    bool is_group_open;
    mvpn_outside_group
        group;         /* of `meshvpn run --outside`; its rules come with its first process */
    uint32_t repaired; /* times that others touched the kill switch, rules, routes, addresses */
} mvpn_host_client;

/**
 * Make the device, the kill switch and all routes, or leave what was there before and say why in
 * `fault`.
 */
MVPN_WUR int mvpn_host_client_setup(mvpn_host_client *ret, const mvpn_config_client *config,
                                    mvpn_fault *fault);
/** Take over the device of `config->tun_fd`, and change nothing in this host. As mvpn_tun_open. */
MVPN_WUR int mvpn_host_client_adopt(mvpn_host_client *ret, const mvpn_config_client *config,
                                    mvpn_fault *fault);
/**
 * The circuit stands (MVPN_PROTECT_ESTABLISHED), is lost (LOST), or the end is wanted (DOWN).
 * MVPN_E_SYSTEM: what was in force still is.
 */
MVPN_WUR int mvpn_host_client_event(mvpn_host_client *host, enum mvpn_protect_event event,
                                    mvpn_fault *fault);
/**
 * Put process `pid` outside the tunnel. MVPN_E_CONFIG: without kill switch, or no cgroup can be had
 * here; MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_host_client_outside(mvpn_host_client *host, pid_t pid, mvpn_fault *fault);
/**
 * These addresses are outside for MVPN_SPLIT_LEASE; where names alone go inside: inside from now
 * on. MVPN_E_LIMIT: there is no place for them inside; MVPN_E_SYSTEM. What was so before still is.
 */
MVPN_WUR int mvpn_host_client_open(mvpn_host_client *host, const mvpn_addr *addrs, unsigned count,
                                   mvpn_time now, mvpn_fault *fault);
/** Take back what has been outside for long enough. What is inside stays. */
void mvpn_host_client_expire(mvpn_host_client *host, mvpn_time now);
/** True if mvpn_host_client_tend has to look for cgroups that are made anew, which no descriptor
 * tells. */
bool mvpn_host_client_has_groups(const mvpn_host_client *host);
#define MVPN_HOST_CLIENT_FDS 3
/** Descriptors that are readable when others may have touched what is ours; -1: none. */
void mvpn_host_client_fds(const mvpn_host_client *host, int ret[static MVPN_HOST_CLIENT_FDS]);
/**
 * Put back what others took: the kill switch, then rules, routes and addresses, and the way in of
 * answers, which also follows the interfaces; and follow the cgroups of the configuration.
 * `*ret_what` says what was touched, for people; NULL: nothing. MVPN_E_SYSTEM: it could not be put
 * back; the next call tries again.
 */
MVPN_WUR int mvpn_host_client_tend(mvpn_host_client *host, const char **ret_what);

/** What to do with a host whose client ends. */
enum mvpn_host_end {
    MVPN_HOST_START_FAILED, /* as it was before the start */
    MVPN_HOST_ENDED,        /* after DOWN: take all back. Without DOWN: it fell */
};
/**
 * Take back what was set up: all of it, or, when the client fell and a kill switch was in force,
 * the device alone: nothing leaves then until the next start or mvpn_host_client_cleanup. The same
 * with lockdown.
 */
void mvpn_host_client_remove(mvpn_host_client *host, enum mvpn_host_end end);
/**
 * Before any client: what one that ended with lockdown would have left, if the configuration has
 * lockdown; else nothing. `*ret_is_closed` tells whether nothing leaves now. While a client runs it
 * changes nothing. MVPN_E_SYSTEM, MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_host_client_lockdown(const mvpn_config_client *config, bool *ret_is_closed,
                                       mvpn_fault *fault);
/** Take back what a run before left, lockdown or not. MVPN_E_STATE: that run goes on. */
MVPN_WUR int mvpn_host_client_cleanup(const mvpn_config_client *config, mvpn_fault *fault);

#endif
