/* `meshvpn log`: what a program said. */
#ifndef MVPN_BIN_LOG_COMMAND_H
#define MVPN_BIN_LOG_COMMAND_H

#include <stddef.h>

#include "base/log.h"
#include "bin/options.h"

/* Where a client that `meshvpn up` started in the background writes, in its run_dir. */
#define LOG_FILE_NAME "client.log"
/* More of its end is not looked at. */
#define LOG_READ_MAX (4u << 20)

/** The level of a line as io/logger writes them to a file. */
enum mvpn_log_level log_level_of(const char *line);

/**
 * The last `lines` lines of `text` up to `level`: where they begin. Lines of other levels in
 * between are still there.
 */
const char *log_last(const char *text, size_t size, unsigned long lines, enum mvpn_log_level level);

/** Returns the exit status. */
int log_command(const options_given *given);

#endif
