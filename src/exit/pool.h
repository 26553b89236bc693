/*
 * The exit's address pool: each session gets one IPv4 address of a private network and one IPv6
 * address of a private /64, taken at random among the free. A released address rests for 5 minutes:
 * answers to the old session that are still under way must not reach a new one.
 *
 * Both addresses of a session hang on one number, `host`: the IPv4 address is network + host, the
 * IPv6 address is network : random 32 bits : host. So both are found without a search.
 */
#ifndef MVPN_EXIT_POOL_H
#define MVPN_EXIT_POOL_H

#include <stdbool.h>

#include "base/addr.h"
#include "base/macros.h"
#include "base/time.h"
#include "crypto/rng.h"

/* Longer than any NAT or resolver keeps an idle exchange of UDP; TCP ends with conntrack's entry.
 */
#define MVPN_ADDR_POOL_REST MVPN_S(300)
/* 65,533 addresses: more sessions than one exit carries. A wider network only costs memory. */
#define MVPN_ADDR_POOL_BITS_MIN 16
#define MVPN_ADDR_POOL_BITS_MAX 29

typedef struct mvpn_addr_pool mvpn_addr_pool;

/**
 * `v4`/`v4_bits`: network, 16 to 29 bits, host bits zero. `v6`: a /64, last 64 bits zero.
 * The network's first address (the TUN device's own), and the v4 network and broadcast addresses
 * are never given out. MVPN_E_INVAL, MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_addr_pool_new(const mvpn_addr *v4, unsigned v4_bits, const mvpn_addr *v6,
                                mvpn_addr_pool **ret_pool);
void mvpn_addr_pool_free(mvpn_addr_pool *pool);

/** Number of hosts including those never given out: every `host` is below it. */
uint32_t mvpn_addr_pool_size(const mvpn_addr_pool *pool);
uint32_t mvpn_addr_pool_free_count(const mvpn_addr_pool *pool);
/** How many rest: they will be free without anybody's doing. */
uint32_t mvpn_addr_pool_rest_count(const mvpn_addr_pool *pool);

/** Take a random free address pair. MVPN_E_LIMIT if all are in use or resting. */
MVPN_WUR int mvpn_addr_pool_take(mvpn_addr_pool *pool, mvpn_rng *rng, uint32_t *ret_host);
/** Send an address pair to rest. It must be taken. */
void mvpn_addr_pool_release(mvpn_addr_pool *pool, uint32_t host, mvpn_time now);

/** The addresses of a taken or resting host. */
mvpn_addr mvpn_addr_pool_v4(const mvpn_addr_pool *pool, uint32_t host);
mvpn_addr mvpn_addr_pool_v6(const mvpn_addr_pool *pool, uint32_t host);

/** The taken host that has this address (4 or 16 bytes), if any. */
bool mvpn_addr_pool_find(const mvpn_addr_pool *pool, unsigned version, const uint8_t *addr,
                         uint32_t *ret_host);
/** True if the address lies in the pool's network, given out or not. */
bool mvpn_addr_pool_covers(const mvpn_addr_pool *pool, unsigned version, const uint8_t *addr);

/**
 * The next released host that was not reported yet: io deletes its connection-tracking entries. An
 * address is not given out again before it was reported, however long that takes.
 */
bool mvpn_addr_pool_pull_released(mvpn_addr_pool *pool, uint32_t *ret_host);

/** Free what has rested long enough and was reported. */
void mvpn_addr_pool_tick(mvpn_addr_pool *pool, mvpn_time now);
/** When the first reported address may be free again; MVPN_TIME_NEVER if none rests. */
mvpn_time mvpn_addr_pool_deadline(const mvpn_addr_pool *pool);

#endif
