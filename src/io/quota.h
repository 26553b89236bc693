/*
 * The exit's monthly quota over restarts: one small file that says what is to be taken as used when
 * the program starts next. While it runs the file is a little ahead of the truth, so that after a
 * crash the month's limit holds all the same; when it ends it is exact.
 *
 *   meshvpn-quota 1
 *   202611 123456789          month (UTC), bytes
 */
#ifndef MVPN_IO_QUOTA_H
#define MVPN_IO_QUOTA_H

#include <limits.h>
#include <stdint.h>

#include "io/fault.h"

/* How far ahead: a half percent of the limit, so about 200 writes a month. */
#define MVPN_QUOTA_STEPS 200

typedef struct mvpn_quota {
    char path[PATH_MAX];
    uint64_t limit; /* 0: not in use */
    uint32_t month; /* year * 100 + month */
    uint64_t noted; /* what the file says */
} mvpn_quota;

/** Year and month of a time, as 202611. */
uint32_t mvpn_quota_month(uint64_t unix_s);

/**
 * Begin: `*ret_used` is what counts as used in this month. MVPN_E_CONFIG: the file is damaged;
 * MVPN_E_SYSTEM: it cannot be written, so that no limit would hold.
 */
MVPN_WUR int mvpn_quota_open(mvpn_quota *ret, const char *state_dir, uint64_t limit,
                             uint64_t unix_s, uint64_t *ret_used, mvpn_fault *fault);
/**
 * Often (each second): write ahead when `*used` comes near to what the file says. In a new month
 * `*used` is set to 0. MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_quota_note(mvpn_quota *quota, uint64_t unix_s, uint64_t *used, mvpn_fault *fault);
/** The end: write what was used. MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_quota_close(mvpn_quota *quota, uint64_t used, mvpn_fault *fault);

#endif
