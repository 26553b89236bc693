/*
 * What an exit tells of itself: counters alone, of all sessions together, and rounded: who watches
 * them must not see one session in them. As OpenMetrics text and in `meshvpn status`.
 */
#ifndef MVPN_IO_METRICS_H
#define MVPN_IO_METRICS_H

#include <jansson.h>

#include "exit/exit.h"

/* Counters are rounded down to these, so that they never fall; sessions are rounded up. */
#define MVPN_METRICS_BYTES (1u << 20)
#define MVPN_METRICS_PACKETS 1024
#define MVPN_METRICS_EVENTS 64
#define MVPN_METRICS_SESSIONS 8
/* Longest text: about forty lines. */
#define MVPN_METRICS_SIZE 8192

/** Write the text ("# EOF" at its end), at most MVPN_METRICS_SIZE bytes with the final zero;
 * returns its length. */
size_t mvpn_metrics_write(const mvpn_exit *exit, char out[static MVPN_METRICS_SIZE]);

/** The same numbers as an object "exit" in `reply`. */
void mvpn_metrics_report(const mvpn_exit *exit, json_t *reply);

#endif
