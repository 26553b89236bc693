/*
 * Compiler attributes and small helpers. The only header that names GNU extensions.
 */
#ifndef MVPN_BASE_MACROS_H
#define MVPN_BASE_MACROS_H

#include <stddef.h>

#define MVPN_WUR __attribute__((warn_unused_result))
#define MVPN_NORETURN __attribute__((noreturn))
#define MVPN_UNUSED __attribute__((unused))
#define MVPN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MVPN_LIKELY(x) __builtin_expect(!!(x), 1)
#define MVPN_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define MVPN_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MVPN_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MVPN_MAX(a, b) ((a) > (b) ? (a) : (b))

/** Ignore a result that must otherwise be used; the reason stands beside it. */
#define MVPN_IGNORE(expr)                                                                          \
    do {                                                                                           \
        int ignored_ = (expr);                                                                     \
        (void)ignored_;                                                                            \
    } while (0)

/** The struct of type `type` whose member `member` is at `ptr`. */
#define MVPN_CONTAINER_OF(ptr, type, member)                                                       \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
