/*
 * Let answers in where this host filters by reverse path strictly (rp_filter = 1; RFC 3704 §2.2).
 *
 * The kernel asks its routes for the way back to who sent a packet, without the mark of the socket
 * that it is for, and so is told the tunnel. On each interface that filters so, tables "inet" and
 * "arp meshvpn_answers" give what arrives for our sockets, and ARP, a mark, src_valid_mark has the
 * kernel ask with it, and a policy rule of io/host_client answers. The filter goes on for all else,
 * and for this by the way that our own packets take. Where nothing filters strictly nothing is
 * changed.
 *
 * Which interfaces have their old setting back at the end is written down in the table itself, as
 * comments of its rules: so a start or a cleanup after our death knows. (linux/ip-sysctl.rst)
 */
#ifndef MVPN_IO_REVERSE_PATH_H
#define MVPN_IO_REVERSE_PATH_H

#include "core/protect_rules.h"
#include "io/fault.h"
#include "io/netlink.h"

#define MVPN_REVERSE_PATH_TABLE "meshvpn_answers"

typedef struct mvpn_reverse_path mvpn_reverse_path;

/** Open what is needed later, and read what a run before left. MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_reverse_path_open(mvpn_reverse_path **ret, mvpn_fault *fault);
/** What is in force stays so. NULL is allowed. */
void mvpn_reverse_path_close(mvpn_reverse_path *rp);

/**
 * Look which interfaces filter strictly now, and do what they need (`tun_index`, the tunnel's, only
 * for cgroups that go inside); take back what others need no more. MVPN_E_SYSTEM: what was in force
 * still is; a kernel without these expressions of its packet filter drops the answers.
 */
MVPN_WUR int mvpn_reverse_path_set(mvpn_reverse_path *rp, mvpn_netlink *nl,
                                   const mvpn_protect_setup *setup, bool has_kill_switch,
                                   uint32_t tun_index);
/** Take everything back. */
void mvpn_reverse_path_unset(mvpn_reverse_path *rp, mvpn_netlink *nl);

/** Readable when others may have touched the table; -1: none. */
int mvpn_reverse_path_fd(const mvpn_reverse_path *rp);
/** Put the table back if somebody did. As mvpn_packet_filter_tend. */
MVPN_WUR int mvpn_reverse_path_tend(mvpn_reverse_path *rp, bool *ret_repaired);

#endif
