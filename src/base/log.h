/*
 * Log sink. Only io and bin log above DEBUG. A line never holds keys, tokens, payload or an address
 * that may be a user's (mvpn_addr_scrub).
 */
#ifndef MVPN_BASE_LOG_H
#define MVPN_BASE_LOG_H

#include "base/macros.h"

enum mvpn_log_level {
    MVPN_LOG_ERROR,
    MVPN_LOG_WARN,
    MVPN_LOG_INFO,
    MVPN_LOG_DEBUG,
};

typedef struct mvpn_log {
    void (*write)(void *ctx, enum mvpn_log_level level, const char *line);
    void *ctx;
    enum mvpn_log_level level; /* lines above it are dropped */
} mvpn_log;

/** Write one line through the sink; a NULL log swallows it. */
void mvpn_logf(const mvpn_log *log, enum mvpn_log_level level, const char *fmt, ...)
    MVPN_PRINTF(3, 4);

#endif
