/*
 * /etc/resolv.conf while it is ours. What stands there is exchanged for ours in one step and kept
 * beside it, as the very file (or link, or hole) that it was: at the end it is renamed back, with
 * its owner, mode and times. A file that is a mount point (containers) is copied and written in
 * place instead.
 *
 * Who replaces ours meanwhile (DHCP, a network manager) has something to say about the network:
 * that is kept as what comes back at the end, and ours is put in front again. Whatever stands there
 * at the end that is not ours stays.
 *
 *   resolv.conf                  ours
 *   resolv.conf.meshvpn-backup   what comes back; a link to nowhere stands for "nothing was there"
 *   resolv.conf.meshvpn-new      for moments
 *
 * Used by the process of io/host_dns; mend also by the next start and by --cleanup.
 */
#ifndef MVPN_IO_HOST_DNS_FILE_H
#define MVPN_IO_HOST_DNS_FILE_H

#include "io/fault.h"
#include "io/resolv_conf.h"

#define MVPN_DNS_FILE_DIR "/etc"

typedef struct mvpn_dns_file mvpn_dns_file;

/** Open what is needed later; nothing changes. MVPN_E_SYSTEM with how to mend, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_dns_file_open(const char *dir, mvpn_dns_file **ret, mvpn_fault *fault);
/** Nothing changes. NULL is allowed. */
void mvpn_dns_file_close(mvpn_dns_file *file);

/** Put ours there: `servers` through the tunnel `tun`. MVPN_E_SYSTEM: what was there still is. */
MVPN_WUR int mvpn_dns_file_set(mvpn_dns_file *file, const char *tun, const mvpn_addr *servers,
                               size_t count, mvpn_fault *fault);
/** Readable when something happened in the directory. */
int mvpn_dns_file_fd(const mvpn_dns_file *file);
/** True: only looking tells of changes (a mount point), so tend must be called every while. */
bool mvpn_dns_file_is_blind(const mvpn_dns_file *file);
/** Put ours back if somebody changed it. MVPN_E_SYSTEM: that failed. */
MVPN_WUR int mvpn_dns_file_tend(mvpn_dns_file *file, bool *ret_repaired, mvpn_fault *fault);
/** Put back what was there. MVPN_E_STATE: another program wrote there: that stays.
 * MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_dns_file_restore(mvpn_dns_file *file, mvpn_fault *fault);

/** Has a run before left anything in `dir`, or does one go on? */
bool mvpn_dns_file_is_left(const char *dir);
/**
 * Put back what a run before left in `dir`, if one did. MVPN_E_BUSY: its tunnel still exists, so
 * that it goes on; else as mvpn_dns_file_restore.
 */
MVPN_WUR int mvpn_dns_file_mend(const char *dir, mvpn_fault *fault);

#endif
