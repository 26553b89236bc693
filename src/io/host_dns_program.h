/*
 * The program resolvconf (Debian's, or openresolv) while the tunnel stands: `resolvconf -a` with
 * our servers, `resolvconf -d` at the end. It merges what all interfaces say and writes
 * /etc/resolv.conf; what came of it is looked at, and said again if it is not us.
 *
 * Used by the process of io/host_dns; mend also by the next start and by --cleanup.
 */
#ifndef MVPN_IO_HOST_DNS_PROGRAM_H
#define MVPN_IO_HOST_DNS_PROGRAM_H

#include "io/fault.h"
#include "io/resolv_conf.h"

typedef struct mvpn_dns_program {
    const char *path;
    char record[MVPN_RESOLV_CONF_TUN_MAX + 8]; /* under which it keeps what we say */
    mvpn_addr servers[2];
    size_t count;
    char seen[MVPN_RESOLV_CONF_MAX];
} mvpn_dns_program;

/** Where the program is; NULL: there is none, or it is systemd-resolved's stand-in. */
const char *mvpn_dns_program_find(void);

/** `path` as found; `tun` names the tunnel. */
void mvpn_dns_program_init(mvpn_dns_program *ret, const char *path, const char *tun);
/** Say it. MVPN_E_SYSTEM: the program failed; MVPN_E_STATE: it did, but /etc/resolv.conf does not
 * ask us first. Takes as long as the program, 10 s at most. */
MVPN_WUR int mvpn_dns_program_set(mvpn_dns_program *program, const mvpn_addr *servers, size_t count,
                                  mvpn_fault *fault);
/** Say it again if /etc/resolv.conf does not ask us first. As mvpn_dns_program_set. */
MVPN_WUR int mvpn_dns_program_tend(mvpn_dns_program *program, bool *ret_repaired,
                                   mvpn_fault *fault);
/** MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_dns_program_restore(mvpn_dns_program *program, mvpn_fault *fault);

/** Take back what a run with the tunnel `tun` left, if one did. MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_dns_program_mend(const char *tun, mvpn_fault *fault);

#endif
