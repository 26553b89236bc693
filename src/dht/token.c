#include "dht/token.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"

/* Places of one address: whoever wants to push out a token must hit all of them, by a hash whose
 * key it does not know. */
#define WAYS 4

static void make(uint8_t out[static MVPN_DHT_TOKEN_LEN], const mvpn_key *secret,
                 const mvpn_addr *addr, uint64_t period)
{
    uint8_t in[1 + 16 + 2 + 8];
    mvpn_writer w = mvpn_writer_init(in, sizeof(in));
    mvpn_write8(&w, addr->family);
    mvpn_write_bytes(&w, addr->ip, mvpn_addr_ip_len(addr));
    mvpn_write16(&w, addr->port);
    mvpn_write64(&w, period);
    MVPN_ASSERT(!w.failed);
    mvpn_blake3_keyed(out, MVPN_DHT_TOKEN_LEN, secret, mvpn_bytes_of(in, mvpn_writer_len(&w)));
}

void mvpn_dht_token_make(uint8_t out[static MVPN_DHT_TOKEN_LEN], const mvpn_key *secret,
                         const mvpn_addr *addr, mvpn_time now)
{
    make(out, secret, addr, now / MVPN_DHT_TOKEN_PERIOD);
}

bool mvpn_dht_token_is_valid(const uint8_t token[static MVPN_DHT_TOKEN_LEN], const mvpn_key *secret,
                             const mvpn_addr *addr, mvpn_time now)
{
    uint64_t period = now / MVPN_DHT_TOKEN_PERIOD;
    uint8_t current[MVPN_DHT_TOKEN_LEN], before[MVPN_DHT_TOKEN_LEN];
    make(current, secret, addr, period);
    make(before, secret, addr, period - 1); /* in the first period: one that nobody was given */
    bool is_current = mvpn_ct_equal(token, current, sizeof(current));
    return mvpn_ct_equal(token, before, sizeof(before)) || is_current;
}

struct entry {
    mvpn_addr addr; /* family 0: empty */
    uint8_t token[MVPN_DHT_TOKEN_LEN];
    mvpn_time at;
};

struct mvpn_dht_token_cache {
    mvpn_siphash_key sip;
    size_t size;
    struct entry entries[];
};

int mvpn_dht_token_cache_new(size_t size, mvpn_rng *rng, mvpn_dht_token_cache **ret)
{
    MVPN_ASSERT(size >= WAYS && (size & (size - 1)) == 0);
    mvpn_dht_token_cache *c = calloc(1, sizeof(*c) + size * sizeof(c->entries[0]));
    if (c == NULL) {
        return MVPN_E_NOMEM;
    }
    c->size = size;
    mvpn_rng_bytes(rng, c->sip.b, sizeof(c->sip.b));
    *ret = c;
    return 0;
}

void mvpn_dht_token_cache_free(mvpn_dht_token_cache *cache)
{
    free(cache);
}

/* Index of the first of the WAYS places of an address. */
static size_t places_of(const mvpn_dht_token_cache *c, const mvpn_addr *addr)
{
    uint8_t in[1 + 16 + 2];
    in[0] = addr->family;
    memcpy(in + 1, addr->ip, sizeof(addr->ip));
    mvpn_store16(in + 1 + sizeof(addr->ip), addr->port);
    return mvpn_siphash(&c->sip, in, sizeof(in)) % (c->size / WAYS) * WAYS;
}

void mvpn_dht_token_cache_put(mvpn_dht_token_cache *cache, const mvpn_addr *addr,
                              const uint8_t token[static MVPN_DHT_TOKEN_LEN], mvpn_time now)
{
    struct entry *places = &cache->entries[places_of(cache, addr)], *to = &places[0];
    for (size_t i = 0; i < WAYS; i++) {
        struct entry *e = &places[i];
        if (mvpn_addr_eq(&e->addr, addr)) {
            to = e;
            break;
        }
        if (to->addr.family != 0 && (e->addr.family == 0 || e->at < to->at)) {
            to = e;
        }
    }
    to->addr = *addr;
    to->at = now;
    memcpy(to->token, token, MVPN_DHT_TOKEN_LEN);
}

static size_t find(const mvpn_dht_token_cache *c, const mvpn_addr *addr)
{
    size_t at = places_of(c, addr);
    for (size_t i = at; i < at + WAYS; i++) {
        if (mvpn_addr_eq(&c->entries[i].addr, addr)) {
            return i;
        }
    }
    return c->size;
}

bool mvpn_dht_token_cache_get(const mvpn_dht_token_cache *cache, const mvpn_addr *addr,
                              mvpn_time now, uint8_t out[static MVPN_DHT_TOKEN_LEN])
{
    size_t i = find(cache, addr);
    if (i == cache->size || now - cache->entries[i].at >= MVPN_DHT_TOKEN_SURE) {
        return false;
    }
    memcpy(out, cache->entries[i].token, MVPN_DHT_TOKEN_LEN);
    return true;
}

void mvpn_dht_token_cache_drop(mvpn_dht_token_cache *cache, const mvpn_addr *addr)
{
    size_t i = find(cache, addr);
    if (i < cache->size) {
        cache->entries[i].addr.family = 0;
    }
}
