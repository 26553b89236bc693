#include "exit/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/error.h"

enum host_state { HOST_FREE, HOST_TAKEN, HOST_RESTING };

typedef struct resting {
    uint32_t host;
    mvpn_time until;
} resting;

struct mvpn_addr_pool {
    uint32_t v4_net;
    uint32_t size;
    uint8_t v6_net[8];
    uint32_t *free; /* the first free_count entries, in no order */
    uint32_t free_count;
    uint32_t *v6_tag; /* by host */
    uint8_t *state;   /* by host */
    /* Ring in order of release, so also of `until`: all rest equally long. */
    resting *rest;
    uint32_t rest_first, rest_count;
    uint32_t reported; /* how many of the first entries were reported */
};

static bool nets_are_valid(const mvpn_addr *v4, unsigned bits, const mvpn_addr *v6)
{
    if (v4->family != 4 || v6->family != 6 || bits < MVPN_ADDR_POOL_BITS_MIN ||
        bits > MVPN_ADDR_POOL_BITS_MAX) {
        return false;
    }
    uint32_t host_mask = UINT32_MAX >> bits;
    return (mvpn_load32(v4->ip) & host_mask) == 0 && mvpn_load64(v6->ip + 8) == 0;
}

int mvpn_addr_pool_new(const mvpn_addr *v4, unsigned bits, const mvpn_addr *v6,
                       mvpn_addr_pool **ret_pool)
{
    if (!nets_are_valid(v4, bits, v6)) {
        return MVPN_E_INVAL;
    }
    mvpn_addr_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return MVPN_E_NOMEM;
    }
    pool->v4_net = mvpn_load32(v4->ip);
    pool->size = 1u << (32 - bits);
    memcpy(pool->v6_net, v6->ip, sizeof(pool->v6_net));
    pool->free = calloc(pool->size, sizeof(*pool->free));
    pool->v6_tag = calloc(pool->size, sizeof(*pool->v6_tag));
    pool->state = calloc(pool->size, sizeof(*pool->state));
    pool->rest = calloc(pool->size, sizeof(*pool->rest));
    if (pool->free == NULL || pool->v6_tag == NULL || pool->state == NULL || pool->rest == NULL) {
        mvpn_addr_pool_free(pool);
        return MVPN_E_NOMEM;
    }
    for (uint32_t host = 2; host < pool->size - 1; host++) {
        pool->free[pool->free_count++] = host;
    }
    *ret_pool = pool;
    return 0;
}

void mvpn_addr_pool_free(mvpn_addr_pool *pool)
{
    if (pool != NULL) {
        free(pool->free);
        free(pool->v6_tag);
        free(pool->state);
        free(pool->rest);
        free(pool);
    }
}

uint32_t mvpn_addr_pool_size(const mvpn_addr_pool *pool)
{
    return pool->size;
}

uint32_t mvpn_addr_pool_free_count(const mvpn_addr_pool *pool)
{
    return pool->free_count;
}

uint32_t mvpn_addr_pool_rest_count(const mvpn_addr_pool *pool)
{
    return pool->rest_count;
}

int mvpn_addr_pool_take(mvpn_addr_pool *pool, mvpn_rng *rng, uint32_t *ret_host)
{
    if (pool->free_count == 0) {
        return MVPN_E_LIMIT;
    }
    uint32_t at = mvpn_rng_below(rng, pool->free_count);
    uint32_t host = pool->free[at];
    pool->free[at] = pool->free[--pool->free_count];
    pool->state[host] = HOST_TAKEN;
    pool->v6_tag[host] = mvpn_rng_u32(rng);
    *ret_host = host;
    return 0;
}

void mvpn_addr_pool_release(mvpn_addr_pool *pool, uint32_t host, mvpn_time now)
{
    MVPN_ASSERT(host < pool->size && pool->state[host] == HOST_TAKEN);
    pool->state[host] = HOST_RESTING;
    uint32_t at = (pool->rest_first + pool->rest_count++) % pool->size;
    pool->rest[at] = (resting){host, now + MVPN_ADDR_POOL_REST};
}

mvpn_addr mvpn_addr_pool_v4(const mvpn_addr_pool *pool, uint32_t host)
{
    mvpn_addr a = {.family = 4};
    mvpn_store32(a.ip, pool->v4_net | host);
    return a;
}

mvpn_addr mvpn_addr_pool_v6(const mvpn_addr_pool *pool, uint32_t host)
{
    mvpn_addr a = {.family = 6};
    memcpy(a.ip, pool->v6_net, sizeof(pool->v6_net));
    mvpn_store32(a.ip + 8, pool->v6_tag[host]);
    mvpn_store32(a.ip + 12, host);
    return a;
}

bool mvpn_addr_pool_covers(const mvpn_addr_pool *pool, unsigned version, const uint8_t *addr)
{
    if (version == 4) {
        return (mvpn_load32(addr) & ~(pool->size - 1)) == pool->v4_net;
    }
    return memcmp(addr, pool->v6_net, sizeof(pool->v6_net)) == 0;
}

bool mvpn_addr_pool_find(const mvpn_addr_pool *pool, unsigned version, const uint8_t *addr,
                         uint32_t *ret_host)
{
    if (!mvpn_addr_pool_covers(pool, version, addr)) {
        return false;
    }
    uint32_t host = version == 4 ? mvpn_load32(addr) & (pool->size - 1) : mvpn_load32(addr + 12);
    if (host >= pool->size || pool->state[host] != HOST_TAKEN ||
        (version == 6 && mvpn_load32(addr + 8) != pool->v6_tag[host])) {
        return false;
    }
    *ret_host = host;
    return true;
}

bool mvpn_addr_pool_pull_released(mvpn_addr_pool *pool, uint32_t *ret_host)
{
    if (pool->reported == pool->rest_count) {
        return false;
    }
    *ret_host = pool->rest[(pool->rest_first + pool->reported++) % pool->size].host;
    return true;
}

void mvpn_addr_pool_tick(mvpn_addr_pool *pool, mvpn_time now)
{
    while (pool->reported > 0 && pool->rest[pool->rest_first].until <= now) {
        uint32_t host = pool->rest[pool->rest_first].host;
        pool->rest_first = (pool->rest_first + 1) % pool->size;
        pool->rest_count--;
        pool->reported--;
        pool->state[host] = HOST_FREE;
        pool->free[pool->free_count++] = host;
    }
}

mvpn_time mvpn_addr_pool_deadline(const mvpn_addr_pool *pool)
{
    return pool->reported > 0 ? pool->rest[pool->rest_first].until : MVPN_TIME_NEVER;
}
