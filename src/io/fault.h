/*
 * What went wrong at the system edge, in words for the operator: what failed, and what to do about
 * it. Result codes tell the program, a fault tells the person. Never holds a secret or the address
 * of a user.
 */
#ifndef MVPN_IO_FAULT_H
#define MVPN_IO_FAULT_H

#include "base/macros.h"

typedef struct mvpn_fault {
    char text[512];
} mvpn_fault;

/** Set the text (cut to fit) and return `code`. `fault` may be NULL: then nobody wants to know. */
int mvpn_fault_set(mvpn_fault *fault, int code, const char *fmt, ...) MVPN_PRINTF(3, 4);

/** As above with ": " and the text of `err` (an errno value) added; errno is left at `err`. */
int mvpn_fault_errno(mvpn_fault *fault, int code, int err, const char *fmt, ...) MVPN_PRINTF(4, 5);

#endif
