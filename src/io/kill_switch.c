#include "io/kill_switch.h"

#include <errno.h>

#include "base/error.h"

int mvpn_kill_switch_open(mvpn_packet_filter **ret, mvpn_fault *fault)
{
    return mvpn_packet_filter_open(ret, MVPN_KILL_SWITCH_TABLE, fault);
}

int mvpn_kill_switch_set(mvpn_packet_filter *ks, const mvpn_protect_setup *setup,
                         enum mvpn_protect_state state, mvpn_fault *fault)
{
    mvpn_protect_rules_make(setup, state, mvpn_packet_filter_rules(ks));
    return mvpn_packet_filter_replace(ks) == 0
               ? 0
               : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                  "cannot set the kill switch%s (kill_switch = false goes without)",
                                  errno == EPERM ? ": run as root or with CAP_NET_ADMIN" : "");
}
