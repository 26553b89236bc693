/*
 * What the kernel says of a process: its memory and the CPU time it has used.
 */
#ifndef MVPN_BENCH_LOAD_PROCESS_H
#define MVPN_BENCH_LOAD_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct load_process {
    uint64_t rss_bytes;
    double cpu_s; /* user and system */
} load_process;

/** `pid` 0: this process. False if there is none. */
bool load_process_read(unsigned pid, load_process *ret);

#endif
