/*
 * Can TCP ports be reached? Connects to several at once and hangs up. A refusal counts: the packet
 * got there and back; silence and "unreachable" do not. For diagnosis.
 */
#ifndef MVPN_IO_TCP_REACH_H
#define MVPN_IO_TCP_REACH_H

#include "base/addr.h"
#include "io/fault.h"
#include "io/loop.h"

#define MVPN_TCP_REACH_MAX 8

typedef struct mvpn_tcp_reach mvpn_tcp_reach;

/** Called once, from the loop, when all have answered or the time is up; it may free it. */
typedef void mvpn_tcp_reach_fn(void *ctx);

/** Nothing is connected yet, and the time has not begun. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_tcp_reach_new(mvpn_loop *loop, uint32_t mark, mvpn_tcp_reach_fn *fn, void *ctx,
                                mvpn_tcp_reach **ret);
/** NULL is allowed. */
void mvpn_tcp_reach_free(mvpn_tcp_reach *t);

/** Connect to one more; the same address again, and more than MVPN_TCP_REACH_MAX, are passed over.
 */
void mvpn_tcp_reach_add(mvpn_tcp_reach *t, const mvpn_addr *addr);
/** No more will come; the end is told once the last has answered, or after `time_ms`. */
void mvpn_tcp_reach_finish(mvpn_tcp_reach *t, unsigned time_ms);

/** How many were asked, and how many of them have been reached so far. */
void mvpn_tcp_reach_result(const mvpn_tcp_reach *t, unsigned *ret_asked, unsigned *ret_reached);

#endif
