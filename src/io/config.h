/*
 * Configuration of the programs: one small text file each, every key optional. The table in
 * config.c is the only place that knows a key: docs/configuration.md is made from it.
 */
#ifndef MVPN_IO_CONFIG_H
#define MVPN_IO_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/log.h"
#include "core/path.h"
#include "exit/policy.h"
#include "io/config_split.h"
#include "io/fault.h"
#include "io/netlink.h"
#include "io/resolv_conf.h"
#include "io/settings.h"
#include "wire/cell.h"
#include "wire/descriptor.h"

#define MVPN_CONFIG_NETWORK_FILE "/etc/meshvpn/network.conf"
#define MVPN_CONFIG_KEY_DIR "/etc/meshvpn"
#define MVPN_CONFIG_RUN_DIR "/run/meshvpn"
#define MVPN_CONFIG_STATE_DIR "/var/lib/meshvpn"
#define MVPN_CONFIG_CONTROL_SOCKET "/run/meshvpn/control.sock"

/* One UDP socket per address family. */
#define MVPN_CONFIG_LISTEN_MAX 2
/* Primary and alternate address of each family. */
#define MVPN_CONFIG_STUN_MAX 4
#define MVPN_CONFIG_DNS_MAX 3           /* as resolv.conf(5) */
#define MVPN_CONFIG_POLICY_SIZE 8192    /* MVPN_POLICY_RULES_MAX short rules */
#define MVPN_CONFIG_TUN_NAME_MAX 15     /* IFNAMSIZ - 1 */
#define MVPN_CONFIG_SOCKET_PATH_MAX 107 /* sun_path of unix(7) */
/* A relay's name, or its identity in base64. */
#define MVPN_CONFIG_RELAY_REF_MAX 44
#define MVPN_CONFIG_USER_MAX 32      /* as useradd(8) */
#define MVPN_CONFIG_OPERATORS_MAX 16 /* people who share one computer */
#define MVPN_CONFIG_SIZE_MAX (256u << 10)

#define MVPN_CONFIG_HTTP_NAMES_MAX 8
#define MVPN_CONFIG_HTTP_NAME_MAX 253 /* of a DNS name */

enum mvpn_config_kind {
    MVPN_CONFIG_RELAY = 1 << 0,
    MVPN_CONFIG_EXIT = 1 << 1,
    MVPN_CONFIG_CLIENT = 1 << 2,
    MVPN_CONFIG_BOOTSTRAP = 1 << 3,
    MVPN_CONFIG_DISCOVERY = 1 << 4,
};
#define MVPN_CONFIG_KINDS 5

enum mvpn_config_ipv6 {
    MVPN_IPV6_AUTO, /* if the host has a route */
    MVPN_IPV6_YES,
    MVPN_IPV6_NO,
};

/* Of all but clients: what the node's descriptor says of it. */
typedef struct mvpn_config_relay {
    char name[MVPN_NAME_MAX + 1]; /* "" = none */
    unsigned address_count;
    mvpn_addr addresses[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    uint32_t bandwidth_mbit;              /* 0 = not said */
    uint32_t limit_mbit;                  /* of all cells; 0 = none */
    char country[3];                      /* "" = not said */
    char provider[MVPN_PROVIDER_MAX + 1]; /* "" = not said */
    bool lan_announce;                    /* answer who asks on the local network (§13.4) */
    bool nat_relay;                       /* relays and exits: forward for others (§14) */
    bool behind_nat;                      /* nobody reaches it: it has NAT relays (§14.3) */
    unsigned stun_count;
    mvpn_addr stun_listen[MVPN_CONFIG_STUN_MAX]; /* of a family: primary, then alternate */
    bool stun_strict;
    bool port_mapping; /* relays and exits: ask the home gateway for a port */
    unsigned family_count;
    mvpn_ed25519_pub family[MVPN_DESCRIPTOR_FAMILY_MAX]; /* ascending */
} mvpn_config_relay;

typedef struct mvpn_config_discovery {
    mvpn_addr http_listen;
    unsigned http_name_count; /* names that browsers may ask by, lower-case */
    char http_names[MVPN_CONFIG_HTTP_NAMES_MAX][MVPN_CONFIG_HTTP_NAME_MAX + 1];
    bool measure; /* bandwidth of relays */
} mvpn_config_discovery;

/* Destinations that stand for others in a user-space NAT. */
#define MVPN_CONFIG_NAT_MAP_MAX 16

typedef struct mvpn_config_nat_map {
    mvpn_addr from, to; /* with ports */
} mvpn_config_nat_map;

typedef struct mvpn_config_exit {
    bool user_nat; /* nat = user: sockets of this process, no TUN and no rights (io/user_nat.h) */
    unsigned nat_map_count;
    mvpn_config_nat_map nat_map[MVPN_CONFIG_NAT_MAP_MAX];
    char tun_name[MVPN_CONFIG_TUN_NAME_MAX + 1];
    mvpn_prefix pool_v4;
    mvpn_prefix pool_v6;
    unsigned dns_count; /* 0: neither the file nor /etc/resolv.conf names one */
    mvpn_addr dns_upstream[MVPN_CONFIG_DNS_MAX];
    bool dns_is_from_system;
    char policy[MVPN_CONFIG_POLICY_SIZE]; /* rules for mvpn_policy_parse; "" = the default policy */
    unsigned policy_count;                /* lines in `policy`, if they stand in the file itself */
    unsigned policy_lines[MVPN_POLICY_RULES_MAX]; /* where each of them stands there */
    char policy_file[PATH_MAX];                   /* "" = none; else `policy` is its text */
    unsigned blocked_count;
    mvpn_policy_net blocked[MVPN_POLICY_BLOCKED_MAX];
    unsigned port_count;
    mvpn_port_range ports[MVPN_POLICY_PORTS_MAX]; /* none: all are allowed */
    uint32_t bandwidth_limit;   /* Mbit/s of all sessions, both directions together; 0 = none */
    uint32_t bandwidth_burst;   /* KiB; 0 = a second's worth */
    uint32_t session_limit;     /* Mbit/s of one session and direction; 0 = none */
    uint32_t session_burst;     /* KiB; 0 = a second's worth */
    uint32_t monthly_quota;     /* GB (10^9 bytes) in a calendar month, both directions; 0 = none */
    uint32_t flows_max;         /* tracked connections of one session; 0 = no limit */
    mvpn_addr metrics_listen;   /* family 0: no metrics */
    char exit_notice[PATH_MAX]; /* "" = none, "default", or a file of HTML */
    enum mvpn_config_ipv6 ipv6;
} mvpn_config_exit;

typedef struct mvpn_config_client {
    char tun_name[MVPN_CONFIG_TUN_NAME_MAX + 1];
    unsigned hops;       /* 1..5 */
    unsigned path_count; /* 0 = drawn; else equals hops */
    char path[MVPN_HOPS_MAX][MVPN_CONFIG_RELAY_REF_MAX + 1];
    mvpn_path_countries exit_countries;
    unsigned exit_port_count;
    bool any_exit_port;                       /* exit_ports = {any} */
    uint16_t exit_ports[MVPN_PATH_PORTS_MAX]; /* that the exit must let out */
    char geoip_dir[PATH_MAX];                 /* "" = countries of addresses are not looked up */
    enum mvpn_size_policy size_policy;
    uint32_t rotate_mb; /* MiB of a circuit after which another takes over; 1.. */
    uint32_t rotate_pause_s;
    uint32_t renew_minutes;
    uint32_t exit_lifetime_minutes;
    bool routes_all;           /* all traffic goes into the tunnel; false: no routes are set */
    uint32_t mark;             /* firewall mark of what goes to the guard */
    uint32_t table;            /* routing table of the tunnel's default route */
    enum mvpn_dns_manager dns; /* who is told of the tunnel's name servers */
    bool kill_switch;          /* with routes_all: nothing leaves outside the tunnel */
    bool lockdown;             /* not even when no client runs */
    bool allow_lan;            /* but to private addresses */
    mvpn_config_split split;
    bool has_tun; /* not of the file: the device is made, and the host left alone, by somebody else
                   */
    int tun_fd;
    unsigned operator_count;
    struct {
        uid_t uid;
        char name[MVPN_CONFIG_USER_MAX + 1];
    } operators[MVPN_CONFIG_OPERATORS_MAX]; /* whose changes the control socket takes */
} mvpn_config_client;

typedef struct mvpn_config {
    enum mvpn_config_kind kind;
    char network_file[PATH_MAX];
    char key_dir[PATH_MAX];
    char run_dir[PATH_MAX];
    char state_dir[PATH_MAX];
    char control_socket[MVPN_CONFIG_SOCKET_PATH_MAX + 1];
    unsigned listen_count; /* 1..2, of different families */
    mvpn_addr listen[MVPN_CONFIG_LISTEN_MAX];
    enum mvpn_log_level log_level;
    char user[MVPN_CONFIG_USER_MAX + 1]; /* whom the program becomes; "" = not said */
    bool sandbox;
    mvpn_config_relay relay; /* all but clients */
    mvpn_config_exit exit;   /* exits */
    mvpn_config_client client;
    mvpn_config_discovery discovery;
} mvpn_config;

/** What holds without a file. `*ret` is about 50 KB. */
void mvpn_config_init(mvpn_config *ret, enum mvpn_config_kind kind);

/**
 * Read a configuration file and its parts (io/config_files.h) over the defaults and check it.
 * Relative paths in it are relative to the file's own directory, so that a node's directory can be
 * moved as a whole.
 * Returns 0; MVPN_E_UNKNOWN if there is no such file; MVPN_E_CONFIG ("FILE:LINE: what. How to mend"
 * in `fault`); MVPN_E_SYSTEM, MVPN_E_NOMEM. `*ret` is undefined after a failure.
 */
MVPN_WUR int mvpn_config_load(const char *path, enum mvpn_config_kind kind, mvpn_config *ret,
                              mvpn_fault *fault);

/** As above with the text given; `path` only names it. For tests. */
MVPN_WUR int mvpn_config_parse(const char *path, const char *text, size_t size,
                               enum mvpn_config_kind kind, mvpn_config *ret, mvpn_fault *fault);

/** Name servers of a resolv.conf(5); those of scoped link-local addresses are left out. */
unsigned mvpn_config_read_resolv(const char *path, mvpn_addr *ret, unsigned max);

/** Take a file of rules over. MVPN_E_CONFIG ("FILE:LINE: what"), MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_config_read_policy(mvpn_config_exit *ret, const char *path, mvpn_fault *fault);

/** The policy that a configuration asks for. MVPN_E_NOMEM, MVPN_E_CONFIG with `fault`. */
MVPN_WUR int mvpn_config_policy(const mvpn_config_exit *config, mvpn_policy **ret,
                                mvpn_fault *fault);

/** "relay", "exit", "client", "bootstrap" or "discovery": also the name of its file. */
const char *mvpn_config_kind_name(enum mvpn_config_kind kind);

/** All keys, of all kinds of file; returns how many. */
size_t mvpn_config_settings(mvpn_setting ret[static MVPN_SETTINGS_MAX]);

/** Write docs/configuration.md. */
void mvpn_config_write_docs(FILE *out);

#endif
