/*
 * What an exit changes in its host: the TUN with the pool's networks behind it, masquerade and
 * forwarding, and the deletion of connection tracking when sessions end.
 */
#ifndef MVPN_IO_HOST_EXIT_H
#define MVPN_IO_HOST_EXIT_H

#include "io/config.h"
#include "io/conntrack.h"
#include "io/fault.h"
#include "io/nat.h"
#include "io/tun.h"

typedef struct mvpn_host_exit {
    mvpn_tun *tun;
    mvpn_conntrack *conntrack;
    const char *run_dir; /* borrowed */
    char instance[32];
    bool has_nat;
    mvpn_nat_undo *undo; /* after mvpn_host_exit_hold */
} mvpn_host_exit;

/** Set all up, after taking back what a crashed run left; or leave nothing behind and say why in
 * `fault`. */
MVPN_WUR int mvpn_host_exit_setup(mvpn_host_exit *ret, const mvpn_config_exit *config,
                                  const char *run_dir, mvpn_fault *fault);
/** Open beforehand what taking back will need, as this process is about to lose its rights.
 * MVPN_E_* of mvpn_nat_undo_open. */
MVPN_WUR int mvpn_host_exit_hold(mvpn_host_exit *host, mvpn_fault *fault);
/** Take it all back. */
void mvpn_host_exit_remove(mvpn_host_exit *host);
/** Take back what a crashed run left, and nothing else. */
MVPN_WUR int mvpn_host_exit_cleanup(const mvpn_config_exit *config, const char *run_dir,
                                    mvpn_fault *fault);
/** Sessions ended: forget the connections of their addresses, MVPN_CONNTRACK_SOURCES_MAX at most.
 * MVPN_E_SYSTEM: they time out. */
MVPN_WUR int mvpn_host_exit_release(mvpn_host_exit *host, const mvpn_addr *sources, size_t count,
                                    mvpn_fault *fault);
#endif
