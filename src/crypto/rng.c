#include "crypto/rng.h"

#include <sodium.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/macros.h"

#define RNG_KEY 32

/*
 * Each block of keystream starts with the key of the next one, and what is given out is erased: who
 * reads the state learns nothing of earlier output ("fast key erasure", Bernstein 2017). The nonce
 * may be constant because a key is used for one block only.
 */
static void refill(mvpn_rng *rng)
{
    static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES] = {0};
    uint8_t key[RNG_KEY];
    memcpy(key, rng->buf, sizeof(key));
    (void)crypto_stream_chacha20(rng->buf, sizeof(rng->buf), nonce, key);
    mvpn_wipe(key, sizeof(key));
    rng->used = RNG_KEY;
}

void mvpn_rng_init(mvpn_rng *rng, const uint8_t seed[static 32])
{
    memset(rng, 0, sizeof(*rng));
    memcpy(rng->buf, seed, RNG_KEY);
    /* Nothing to give until the first refill, which also erases the seed. */
    rng->used = sizeof(rng->buf);
    refill(rng);
}

void mvpn_rng_init_test(mvpn_rng *rng, uint64_t seed)
{
    uint8_t bytes[RNG_KEY] = {0};
    mvpn_store64(bytes, seed);
    mvpn_rng_init(rng, bytes);
}

void mvpn_rng_done(mvpn_rng *rng)
{
    mvpn_wipe(rng, sizeof(*rng));
}

void mvpn_rng_bytes(mvpn_rng *rng, uint8_t *out, size_t n)
{
    while (n > 0) {
        if (rng->used == sizeof(rng->buf)) {
            refill(rng);
        }
        size_t part = MVPN_MIN(n, sizeof(rng->buf) - rng->used);
        memcpy(out, rng->buf + rng->used, part);
        mvpn_wipe(rng->buf + rng->used, part);
        rng->used += part;
        out += part;
        n -= part;
    }
}

uint32_t mvpn_rng_u32(mvpn_rng *rng)
{
    uint8_t b[4];
    mvpn_rng_bytes(rng, b, sizeof(b));
    return mvpn_load32(b);
}

uint64_t mvpn_rng_u64(mvpn_rng *rng)
{
    uint8_t b[8];
    mvpn_rng_bytes(rng, b, sizeof(b));
    return mvpn_load64(b);
}

uint32_t mvpn_rng_below(mvpn_rng *rng, uint32_t bound)
{
    MVPN_ASSERT(bound > 0);
    /* The first 2^32 mod bound values would make some results likelier than others: draw again. */
    uint32_t reject = (0u - bound) % bound;
    uint32_t v = 0;
    do {
        v = mvpn_rng_u32(rng);
    } while (v < reject);
    return v % bound;
}

uint64_t mvpn_rng_jitter(mvpn_rng *rng, uint64_t value, unsigned percent)
{
    MVPN_ASSERT(percent <= 100 && value <= UINT64_MAX / 4);
    uint64_t reach = value / 100 * percent + value % 100 * percent / 100;
    uint64_t span = 2 * reach + 1;
    uint64_t reject = (0ull - span) % span;
    uint64_t v = 0;
    do {
        v = mvpn_rng_u64(rng);
    } while (v < reject);
    return value - reach + v % span;
}
