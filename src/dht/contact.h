/*
 * Contacts and places in the key space: XOR distances, and the quotas that make addresses, not
 * keys, what an attacker has to own. (docs/protocol.md §11.1)
 */
#ifndef MVPN_DHT_CONTACT_H
#define MVPN_DHT_CONTACT_H

#include "base/bytes.h"
#include "crypto/rng.h"
#include "wire/dht.h"

/* Of one address block (/24, IPv6 /32), and of one /16 or /32, in one gathering. */
#define MVPN_DHT_PER_BLOCK 2
#define MVPN_DHT_PER_WIDE 3

static inline bool mvpn_dht_id_eq(const mvpn_dht_id *a, const mvpn_dht_id *b)
{
    return memcmp(a->b, b->b, MVPN_DHT_ID_LEN) == 0;
}

/** The first 64 bits of the distance: enough to sort by, but for ties. */
static inline uint64_t mvpn_dht_distance64(const mvpn_dht_id *a, const mvpn_dht_id *b)
{
    return mvpn_load64(a->b) ^ mvpn_load64(b->b);
}

/** Below 0 if `a` is nearer to the target than `b`, above 0 if farther. */
int mvpn_dht_compare(const mvpn_dht_id *target, const mvpn_dht_id *a, const mvpn_dht_id *b);

/** How many first bits are equal: 0 to 160. */
unsigned mvpn_dht_common_bits(const mvpn_dht_id *a, const mvpn_dht_id *b);

/** A random id that shares its first `bits` bits with `id`; with `differ`, the next bit differs. */
void mvpn_dht_id_random(mvpn_dht_id *ret, mvpn_rng *rng, const mvpn_dht_id *id, unsigned bits,
                        bool differ);

/** Names of the blocks of mvpn_dht_same_block and mvpn_addr_same_block, to compare many quickly. */
uint64_t mvpn_dht_block_of(const mvpn_addr *addr);
/** In a network that relaxes the quotas each address is its own block. */
uint64_t mvpn_dht_alone_of(const mvpn_addr *addr);
uint64_t mvpn_dht_wide_of(const mvpn_addr *addr);

/** Counts a gathering of at most K contacts. Start with zeros. */
typedef struct mvpn_dht_quota {
    uint64_t block[MVPN_DHT_K];
    uint64_t wide[MVPN_DHT_K];
    size_t count;
} mvpn_dht_quota;

/** Count one more; false (and not counted) if its block has its share, or K are counted. */
bool mvpn_dht_quota_take(mvpn_dht_quota *quota, uint64_t block, uint64_t wide);

/** May we send there: a family that we reach (0 = both), a port, public unless private ones count.
 */
bool mvpn_dht_contact_is_usable(const mvpn_dht_contact *c, uint8_t family, bool allow_private);

bool mvpn_dht_contact_eq(const mvpn_dht_contact *a, const mvpn_dht_contact *b);

#endif
