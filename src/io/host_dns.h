/*
 * The host's name servers while a client runs: a process of its own, "mvpn-dns", forked by the
 * helper before that is sealed, because the helper opens no file and runs no program. It finds out
 * who looks after this host's names (systemd-resolved, resolvconf, or nobody: then it writes
 * /etc/resolv.conf), gives up all rights but what that takes, points names to the tunnel when told,
 * keeps them there, and puts back what was there when told or when the helper is gone, however that
 * ended. If it is killed itself, the helper ends; the next start, or --cleanup, mends.
 *
 *   helper:  start (fork) -> set -> end
 *
 * (docs/architecture.md "Names")
 */
#ifndef MVPN_IO_HOST_DNS_H
#define MVPN_IO_HOST_DNS_H

#include <stdatomic.h>

#include "io/config.h"
#include "io/fault.h"
#include "io/resolv_conf.h"

typedef struct mvpn_host_dns mvpn_host_dns;

/* What it tells, in memory that it shares with whom it concerns; nothing is believed that stands
 * there. */
typedef struct mvpn_host_dns_report {
    _Atomic uint32_t manager; /* enum mvpn_dns_manager; never AUTO */
    _Atomic uint32_t is_set;  /* names are asked through the tunnel at this moment */
    _Atomic uint32_t repaired;
} mvpn_host_dns_report;

/**
 * Put back what a run before left, and start the process if the configuration wants names
 * (`routes = all`, and not `dns = none`; nor, with auto, in a network namespace that shares the
 * machine's /etc; else `*ret` is NULL). `report` is shared memory that
 * outlives it. MVPN_E_SYSTEM, MVPN_E_CONFIG, MVPN_E_BUSY (another client) with how to mend,
 * MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_host_dns_start(const mvpn_config_client *config, bool sandbox,
                                 mvpn_host_dns_report *report, mvpn_host_dns **ret,
                                 mvpn_fault *fault);

/**
 * Point names to the tunnel `tun` (interface `index`). Waits for it, half a second at most: who
 * hangs is told of by that process itself, on stderr. Nothing happens if they are already, or if
 * `dns` is NULL.
 */
void mvpn_host_dns_set(mvpn_host_dns *dns, const char *tun, uint32_t index,
                       const mvpn_addr *gateway_v4);

/** Readable when the process said something late, or is gone; -1 if there is none. */
int mvpn_host_dns_fd(const mvpn_host_dns *dns);
/** Read that. False: it is gone. */
bool mvpn_host_dns_is_alive(mvpn_host_dns *dns);

/** Have what was there put back, wait for that (6 s at most) and free. NULL is allowed. */
void mvpn_host_dns_end(mvpn_host_dns *dns);

/** Put back what a run before left, whatever the configuration wants now; what another program
 * wrote there since then stays, and stderr tells. MVPN_E_SYSTEM with how to mend. */
MVPN_WUR int mvpn_host_dns_cleanup(const mvpn_config_client *config, mvpn_fault *fault);

#endif
