/*
 * The log's way out: lines on stderr. Under systemd (JOURNAL_STREAM is set) each begins with its
 * priority, "<6>"; else with a word for errors and warnings. No time: the journal has its own.
 */
#ifndef MVPN_IO_LOGGER_H
#define MVPN_IO_LOGGER_H

#include "base/log.h"

/* Environment: bytes that stderr may hold if it is a file, opened with O_APPEND, that nobody
 * rotates; then it begins anew. Whoever starts a daemon with such a file says so. */
#define MVPN_LOGGER_FILE_MAX "MESHVPN_LOG_MAX"

/** Make `log` write to stderr lines up to `level`. Keeps nothing that must be freed. */
void mvpn_logger_init(mvpn_log *log, enum mvpn_log_level level);

/** Parse "error", "warn", "info" or "debug". MVPN_E_FORMAT, `*ret` untouched. */
MVPN_WUR int mvpn_logger_parse_level(const char *text, enum mvpn_log_level *ret);

#endif
