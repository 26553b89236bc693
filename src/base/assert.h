/*
 * Invariants of our own code. They stay on in release builds; nothing that a remote sends may reach
 * one (that is a decode error, not an assert).
 */
#ifndef MVPN_BASE_ASSERT_H
#define MVPN_BASE_ASSERT_H

#include "base/macros.h"

/** Report the broken invariant on stderr and abort. */
MVPN_NORETURN void mvpn_assert_failed(const char *expr, const char *file, int line);

#define MVPN_ASSERT(expr)                                                                          \
    (MVPN_LIKELY(expr) ? (void)0 : mvpn_assert_failed(#expr, __FILE__, __LINE__))

#endif
