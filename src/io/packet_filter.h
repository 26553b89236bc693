/*
 * A table of ours in the kernel's packet filter (nf_tables), one for IP and one for ARP, whose
 * rules core/protect_rules makes. Every change replaces both whole, in one transaction: no packet
 * meets half of it (as long as rules, not the chain's policy, drop: protect_rules.c). It is the
 * kernel's, so it stays when we are killed.
 *
 * No program is run for it (the helper may run none): the messages are written here. When somebody
 * else touches the table, `nft flush ruleset` above all, the kernel tells, and it is put back.
 * (linux/netfilter/nf_tables.h)
 */
#ifndef MVPN_IO_PACKET_FILTER_H
#define MVPN_IO_PACKET_FILTER_H

#include "core/protect_rules.h"
#include "io/fault.h"

typedef struct mvpn_packet_filter mvpn_packet_filter;

/**
 * Open what is needed later for tables "inet TABLE" and "arp TABLE"; nothing changes. `table` is
 * borrowed until the end. MVPN_E_SYSTEM, MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_packet_filter_open(mvpn_packet_filter **ret, const char *table,
                                     mvpn_fault *fault);
/** The table stays. NULL is allowed. */
void mvpn_packet_filter_close(mvpn_packet_filter *pf);

/** Is there a table of a run before, or of ours? */
bool mvpn_packet_filter_is_there(mvpn_packet_filter *pf);

typedef void mvpn_packet_filter_note_fn(void *ctx, uint32_t note);
/** Call `fn` for each rule's note in the kernel's table. */
void mvpn_packet_filter_notes(mvpn_packet_filter *pf, mvpn_packet_filter_note_fn *fn, void *ctx);

/** The rules that are in force, or will be by the next mvpn_packet_filter_replace: to be filled. */
mvpn_protect_rules *mvpn_packet_filter_rules(mvpn_packet_filter *pf);
/**
 * Put these rules in force in the place of what is there; none: no table. MVPN_E_SYSTEM with errno:
 * nothing changed.
 */
MVPN_WUR int mvpn_packet_filter_replace(mvpn_packet_filter *pf);

/** Readable when somebody, perhaps we, has changed packet filters; NULL: -1. */
int mvpn_packet_filter_fd(const mvpn_packet_filter *pf);
/**
 * Read what is there; if another program touched our table, or the last replacement failed, put it
 * in force again. `*ret_repaired` becomes true then, else it stays. MVPN_E_SYSTEM: that failed; it
 * is tried again by the next call.
 */
MVPN_WUR int mvpn_packet_filter_tend(mvpn_packet_filter *pf, bool *ret_repaired);

#endif
