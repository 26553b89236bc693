/*
 * The kill switch in the kernel's packet filter (nf_tables): tables "inet meshvpn_guard" and "arp
 * meshvpn_guard", whose rules core/protect_rules makes. Every change replaces both whole, in one
 * transaction: no packet meets half of it (as long as rules, not the chain's policy, drop:
 * protect_rules.c). They are the kernel's, so they stay when we are killed.
 *
 * No program is run for it (the helper may run none): the messages are written here. When somebody
 * else touches the tables, `nft flush ruleset` above all, the kernel tells, and they are put back.
 * (docs/threat-model.md "The kill switch"; linux/netfilter/nf_tables.h)
 */
#ifndef MVPN_IO_KILL_SWITCH_H
#define MVPN_IO_KILL_SWITCH_H

#include "core/protect_rules.h"
#include "io/fault.h"

#define MVPN_KILL_SWITCH_TABLE "meshvpn_guard"

typedef struct mvpn_kill_switch mvpn_kill_switch;

/** Open what is needed later; nothing changes. MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_kill_switch_open(mvpn_kill_switch **ret, mvpn_fault *fault);
/** What is in force stays so. NULL is allowed. */
void mvpn_kill_switch_close(mvpn_kill_switch *ks);

/** Is there a table of a run before, or of ours? */
bool mvpn_kill_switch_is_in_force(mvpn_kill_switch *ks);

/** Put `state` in force, which may mean to take everything away. MVPN_E_SYSTEM: nothing changed. */
MVPN_WUR int mvpn_kill_switch_set(mvpn_kill_switch *ks, const mvpn_protect_setup *setup,
                                  enum mvpn_protect_state state, mvpn_fault *fault);

/** Readable when somebody, perhaps we, has changed packet filters; else -1. */
int mvpn_kill_switch_fd(const mvpn_kill_switch *ks);
/**
 * Read what is there; if another program touched our tables, put them back. `*ret_repaired` tells.
 * MVPN_E_SYSTEM: that failed; it is tried again by the next call.
 */
MVPN_WUR int mvpn_kill_switch_tend(mvpn_kill_switch *ks, bool *ret_repaired, mvpn_fault *fault);

#endif
