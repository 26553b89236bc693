/*
 * A relay's memory of how long the NAT of its network keeps a mapping: what an earlier run has
 * measured there is told to the engine as soon as the network is recognised, and what it measures
 * is written down. Called every few seconds; decides nothing but when to write.
 */
#ifndef MVPN_IO_NAT_MEMORY_H
#define MVPN_IO_NAT_MEMORY_H

#include "base/time.h"
#include "io/nat_cache.h"

/* A measurement rises step by step for minutes: not each step is written. */
#define MVPN_NAT_MEMORY_SAVE_EVERY MVPN_S(120)

typedef struct mvpn_nat_memory {
    const char *dir; /* borrowed; NULL: nothing is remembered */
    mvpn_nat_cache cache;
    bool has_told; /* the engine, of the network that we are in */
    mvpn_time next_save;
} mvpn_nat_memory;

/** `dir` is the state directory. */
void mvpn_nat_memory_init(mvpn_nat_memory *memory, const char *dir);
/**
 * `network` is where we are, NULL while nobody has seen us there; `lifetime_s` is what the engine
 * knows of it, 0: nothing. Returns the lifetime that it is to be told, or 0.
 */
uint32_t mvpn_nat_memory_look(mvpn_nat_memory *memory, const mvpn_nat_network *network,
                              uint32_t lifetime_s, uint64_t unix_now, mvpn_time now);

#endif
