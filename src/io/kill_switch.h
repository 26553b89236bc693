/*
 * The kill switch in the kernel's packet filter (io/packet_filter.h): tables "inet meshvpn_guard"
 * and "arp meshvpn_guard", whose rules core/protect_rules makes. (docs/threat-model.md "The kill
 * switch")
 */
#ifndef MVPN_IO_KILL_SWITCH_H
#define MVPN_IO_KILL_SWITCH_H

#include "core/protect_rules.h"
#include "io/fault.h"
#include "io/packet_filter.h"

#define MVPN_KILL_SWITCH_TABLE "meshvpn_guard"

/** Open what is needed later; nothing changes. MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_kill_switch_open(mvpn_packet_filter **ret, mvpn_fault *fault);

/** Put `state` in force, which may mean to take everything away. MVPN_E_SYSTEM: nothing changed. */
MVPN_WUR int mvpn_kill_switch_set(mvpn_packet_filter *ks, const mvpn_protect_setup *setup,
                                  enum mvpn_protect_state state, mvpn_fault *fault);

#endif
