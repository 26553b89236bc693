/*
 * What this host has that routes or filters packets, as the kernel tells it: tunnels of other
 * programs, policy rules, tables of the packet filter. For diagnosis: it is read, nothing changes.
 * Without CAP_NET_ADMIN the packet filter is not shown, the rest is.
 */
#ifndef MVPN_IO_HOST_LOOK_H
#define MVPN_IO_HOST_LOOK_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/fault.h"

/* What a person can read; of more the first. */
#define MVPN_HOST_TUNNELS_MAX 8
#define MVPN_HOST_RULES_MAX 32
#define MVPN_HOST_CHAINS_MAX 8
#define MVPN_HOST_TABLES_MAX 4
#define MVPN_HOST_NAME_MAX 32 /* of nf_tables; longer ones are cut */

/* An interface that carries packets elsewhere: TUN, WireGuard, PPP. */
typedef struct mvpn_host_tunnel {
    char name[IF_NAMESIZE];
    uint32_t index;
    bool is_up;
    unsigned table_count;                  /* routing tables in which it is the way to everywhere */
    uint32_t tables[MVPN_HOST_TABLES_MAX]; /* (a default route, or its halves) */
} mvpn_host_tunnel;

/* A policy rule that looks into a table. */
typedef struct mvpn_host_rule {
    uint8_t family; /* 4 or 6 */
    uint32_t priority;
    uint32_t table;
    bool only_specific; /* takes no default route */
} mvpn_host_rule;

/* A chain of the packet filter that drops what no rule of it lets pass. */
typedef struct mvpn_host_chain {
    char table[MVPN_HOST_NAME_MAX + 1];
    char chain[MVPN_HOST_NAME_MAX + 1];
    bool is_output; /* else it is for what comes in */
} mvpn_host_chain;

typedef struct mvpn_host_view {
    bool has_routing; /* the four below are known */
    unsigned tunnel_count;
    mvpn_host_tunnel tunnels[MVPN_HOST_TUNNELS_MAX];
    unsigned rule_count; /* without the three that every host has */
    mvpn_host_rule rules[MVPN_HOST_RULES_MAX];
    bool has_refusal; /* an unreachable default route in the table that was asked for */

    bool has_filter;  /* nf_tables answered: what is below is known */
    int filter_errno; /* else why; EPERM: no right to look */
    bool has_table;   /* the table that was asked for */
    bool has_answers; /* that of io/reverse_path */
    unsigned chain_count;
    mvpn_host_chain chains[MVPN_HOST_CHAINS_MAX]; /* of other tables */
} mvpn_host_view;

/**
 * Look. `table` is the routing table whose refusal is of interest, `filter_table` the one of the
 * packet filter. Always fills `*ret`, with what there is to be seen.
 */
void mvpn_host_look(uint32_t table, const char *filter_table, mvpn_host_view *ret);

/**
 * Does the kernel drop what arrives at `interface` for a client's sockets, because unmarked packets
 * would not go back by it (RFC 3704 §2.2) and the client could not help itself (io/reverse_path.h)?
 * With what `view` saw. ("rp_filter" and "src_valid_mark" of the kernel's ip-sysctl)
 */
bool mvpn_host_drops_answers(const mvpn_host_view *view, const char *interface);

#endif
