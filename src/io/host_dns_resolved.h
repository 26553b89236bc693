/*
 * systemd-resolved while the tunnel stands: its name servers, "~." (all names), no LLMNR, no mDNS
 * and no DNS over TLS on the tunnel's link, by D-Bus (org.freedesktop.resolve1). It forgets a link
 * by itself when the device goes, and all links when it is restarted: then they are set again.
 *
 * Every call waits 1.5 s at most: who hangs is told of, and not waited for. Used by the process of
 * io/host_dns.
 */
#ifndef MVPN_IO_HOST_DNS_RESOLVED_H
#define MVPN_IO_HOST_DNS_RESOLVED_H

#include "base/addr.h"
#include "io/fault.h"

typedef struct mvpn_dns_resolved mvpn_dns_resolved;

/** Connect to the system bus; resolved must be there. MVPN_E_SYSTEM, MVPN_E_UNKNOWN (it is not),
 * MVPN_E_NOMEM. */
MVPN_WUR int mvpn_dns_resolved_open(mvpn_dns_resolved **ret, mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_dns_resolved_close(mvpn_dns_resolved *resolved);

/** Set the link `index`. MVPN_E_TIMEOUT, MVPN_E_REFUSED, MVPN_E_CLOSED (the bus), MVPN_E_UNKNOWN
 * (it does not run), each told in words. */
MVPN_WUR int mvpn_dns_resolved_set(mvpn_dns_resolved *resolved, uint32_t index,
                                   const mvpn_addr *servers, size_t count, mvpn_fault *fault);
/** Readable when the bus has something to say; changes when the bus was lost. -1: none. */
int mvpn_dns_resolved_fd(const mvpn_dns_resolved *resolved);
/** Look whether the link is as it was set, and set it again if not. As mvpn_dns_resolved_set. */
MVPN_WUR int mvpn_dns_resolved_tend(mvpn_dns_resolved *resolved, bool *ret_repaired,
                                    mvpn_fault *fault);
/** Take it back. As mvpn_dns_resolved_set; a link that is gone is no failure. */
MVPN_WUR int mvpn_dns_resolved_restore(mvpn_dns_resolved *resolved, mvpn_fault *fault);

#endif
