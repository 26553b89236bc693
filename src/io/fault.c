#include "io/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int mvpn_fault_set(mvpn_fault *fault, int code, const char *fmt, ...)
{
    if (fault != NULL) {
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(fault->text, sizeof(fault->text), fmt, ap);
        va_end(ap);
    }
    return code;
}

int mvpn_fault_errno(mvpn_fault *fault, int code, int err, const char *fmt, ...)
{
    if (fault != NULL) {
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(fault->text, sizeof(fault->text), fmt, ap);
        va_end(ap);
        size_t used = strlen(fault->text);
        (void)snprintf(fault->text + used, sizeof(fault->text) - used, ": %s", strerror(err));
    }
    errno = err;
    return code;
}
