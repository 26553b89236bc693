/*
 * What an exit changes in its host: one nftables table (masquerade and forwarding for the TUN) and
 * the forwarding switches. All of it is taken back; nothing else is touched. Before a switch is
 * changed its old value goes to a state file in the run directory, so that the next start (or
 * --cleanup) mends what a crash left.
 */
#ifndef MVPN_IO_NAT_H
#define MVPN_IO_NAT_H

#include "io/fault.h"
#include "io/netlink.h"

typedef struct mvpn_nat_options {
    const char *instance; /* part of the table's name: see mvpn_nft_is_name */
    const char *run_dir;  /* for the state file; must exist */
    const char *tun_name;
    mvpn_prefix pool_v4; /* inner addresses to masquerade; family 0 = none */
    mvpn_prefix pool_v6;
    uint32_t flows_max; /* open connections of one address; 0: no limit */
} mvpn_nat_options;

/**
 * Take back what an earlier run left, then set all up: all or nothing. MVPN_E_INVAL for a bad name;
 * MVPN_E_CONFIG (nft missing, or the kernel cannot count connections); MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_nat_setup(const mvpn_nat_options *options, mvpn_fault *fault);

/**
 * All that is needed to take back what is set up now, opened beforehand: for a process that gives
 * up the rights to open files and to run programs.
 */
typedef struct mvpn_nat_undo mvpn_nat_undo;

/** MVPN_E_INVAL, MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_nat_undo_open(const char *instance, const char *run_dir, mvpn_nat_undo **ret,
                                mvpn_fault *fault);
/** Take it back; needs CAP_NET_ADMIN and opens nothing. MVPN_E_SYSTEM; MVPN_E_CONFIG: the state
 * file was damaged, the rules are gone and the switches as they were. */
MVPN_WUR int mvpn_nat_undo_run(mvpn_nat_undo *undo, mvpn_fault *fault);
/** NULL is allowed. Takes nothing back. */
void mvpn_nat_undo_free(mvpn_nat_undo *undo);

/**
 * Take all back, also what a crashed run left; nothing to do is success. A switch that somebody
 * changed meanwhile is left alone. MVPN_E_INVAL, MVPN_E_CONFIG, MVPN_E_SYSTEM; what could be undone
 * is undone.
 */
MVPN_WUR int mvpn_nat_remove(const char *instance, const char *run_dir, mvpn_fault *fault);

#endif
