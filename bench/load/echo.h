/*
 * The server behind the exit: sends back what meshvpn-load's clients ask for. For labs only: it
 * answers any source with more than it got.
 */
#ifndef MVPN_BENCH_LOAD_ECHO_H
#define MVPN_BENCH_LOAD_ECHO_H

#include "base/addr.h"
#include "base/macros.h"
#include "io/fault.h"

/** Serve until SIGTERM or SIGINT. Errors as mvpn_udp_open. */
MVPN_WUR int load_echo_run(const mvpn_addr *listen, mvpn_fault *fault);

#endif
