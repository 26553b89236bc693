/*
 * Does anything come back over UDP? Where all of it is blocked, nothing else that a program could
 * say tells its user why nobody answers. Driven by io/node.
 */
#ifndef MVPN_IO_SILENCE_H
#define MVPN_IO_SILENCE_H

#include <stdbool.h>

#include "base/time.h"

/* So long nothing came, although so many datagrams went out: to several peers, or the same ones
 * again. */
#define MVPN_SILENCE_TIME MVPN_S(10)
#define MVPN_SILENCE_SENT 5

typedef struct mvpn_silence {
    uint64_t received, sent; /* at the last look at which something had come; 0: none yet */
    mvpn_time since;         /* of it; at first: the beginning */
    bool is_silent;
} mvpn_silence;

/**
 * Look at the counts of datagrams since the beginning, every few seconds. True once each time a
 * silence has lasted for long enough; `is_silent` says so until something comes.
 */
bool mvpn_silence_look(mvpn_silence *s, uint64_t sent, uint64_t received, mvpn_time now);

/** What to tell the user. */
const char *mvpn_silence_text(void);

#endif
