/*
 * The network namespace of a command: loopback, and a TUN device that a client outside of it
 * carries. There is no other way out, so nothing has to be filtered.
 */
#ifndef MVPN_BIN_RUN_SPACE_H
#define MVPN_BIN_RUN_SPACE_H

#include "io/fault.h"

/**
 * Move this process into namespaces of its own (network, mounts) with a TUN device that has the
 * client's inner addresses and all routes. `*ret_tun` is the caller's. MVPN_E_CONFIG, _SYSTEM.
 */
MVPN_WUR int run_space_enter(int *ret_tun, mvpn_fault *fault);
/**
 * Ask names through the tunnel: `file`, which says so, takes the place of /etc/resolv.conf, and
 * services of the host that would look names up for the command are out of its sight.
 */
MVPN_WUR int run_space_names(const char *file, mvpn_fault *fault);

#endif
