/*
 * Address tokens: what a server gives to show that whoever holds it receives at its address, and
 * what a node remembers of those that it was given. (docs/protocol.md §11.2) Used by the exchange.
 */
#ifndef MVPN_DHT_TOKEN_H
#define MVPN_DHT_TOKEN_H

#include "base/addr.h"
#include "base/time.h"
#include "crypto/hash.h"
#include "crypto/rng.h"
#include "wire/dht.h"

/* A token counts in the period in which it was made, and in the next. */
#define MVPN_DHT_TOKEN_PERIOD MVPN_S(300)
/* A token younger than this counts for sure; what is left over is for the way. */
#define MVPN_DHT_TOKEN_SURE (MVPN_DHT_TOKEN_PERIOD - MVPN_S(10))

/** Token of `addr` (ip and port) for `now`. */
void mvpn_dht_token_make(uint8_t out[static MVPN_DHT_TOKEN_LEN], const mvpn_key *secret,
                         const mvpn_addr *addr, mvpn_time now);
/** Did we give this token to `addr`, in this period or the one before? */
bool mvpn_dht_token_is_valid(const uint8_t token[static MVPN_DHT_TOKEN_LEN], const mvpn_key *secret,
                             const mvpn_addr *addr, mvpn_time now);

/* Tokens remembered by a server: the contacts of a full routing table, and the ways to them. */
#define MVPN_DHT_TOKENS_MAX 4096

/** Tokens that others gave us; a token nobody remembers costs one padded request. */
typedef struct mvpn_dht_token_cache mvpn_dht_token_cache;

/** Room for `size` tokens (a power of two, 4 or more), allocated here and never again.
 * MVPN_E_NOMEM. */
MVPN_WUR int mvpn_dht_token_cache_new(size_t size, mvpn_rng *rng, mvpn_dht_token_cache **ret);
void mvpn_dht_token_cache_free(mvpn_dht_token_cache *cache);
/** Keep the token that the server at `addr` gave; the oldest of those that share its places gives
 * way. */
void mvpn_dht_token_cache_put(mvpn_dht_token_cache *cache, const mvpn_addr *addr,
                              const uint8_t token[static MVPN_DHT_TOKEN_LEN], mvpn_time now);
/** The token of the server at `addr`; false if there is none that counts for sure. */
bool mvpn_dht_token_cache_get(const mvpn_dht_token_cache *cache, const mvpn_addr *addr,
                              mvpn_time now, uint8_t out[static MVPN_DHT_TOKEN_LEN]);
/** Forget the token of `addr`: it was refused. */
void mvpn_dht_token_cache_drop(mvpn_dht_token_cache *cache, const mvpn_addr *addr);

#endif
