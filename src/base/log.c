#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void mvpn_logf(const mvpn_log *log, enum mvpn_log_level level, const char *fmt, ...)
{
    if (log == NULL || log->write == NULL || level > log->level) {
        return;
    }
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    log->write(log->ctx, level, line);
}
