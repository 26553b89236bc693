#include "dht/contact.h"

int mvpn_dht_compare(const mvpn_dht_id *target, const mvpn_dht_id *a, const mvpn_dht_id *b)
{
    uint64_t da = mvpn_dht_distance64(target, a), db = mvpn_dht_distance64(target, b);
    if (da != db) {
        return da < db ? -1 : 1;
    }
    for (size_t i = 8; i < MVPN_DHT_ID_LEN; i++) {
        int xa = a->b[i] ^ target->b[i], xb = b->b[i] ^ target->b[i];
        if (xa != xb) {
            return xa - xb;
        }
    }
    return 0;
}

unsigned mvpn_dht_common_bits(const mvpn_dht_id *a, const mvpn_dht_id *b)
{
    for (unsigned i = 0; i < MVPN_DHT_ID_LEN; i++) {
        unsigned x = (unsigned)(a->b[i] ^ b->b[i]);
        if (x != 0) {
            return i * 8 + (unsigned)__builtin_clz(x) - 24;
        }
    }
    return MVPN_DHT_ID_BITS;
}

void mvpn_dht_id_random(mvpn_dht_id *ret, mvpn_rng *rng, const mvpn_dht_id *id, unsigned bits,
                        bool differ)
{
    mvpn_dht_id out;
    mvpn_rng_bytes(rng, out.b, sizeof(out.b));
    for (unsigned i = 0; i < MVPN_DHT_ID_LEN && i * 8 < bits; i++) {
        unsigned keep = bits - i * 8;
        uint8_t mask = (uint8_t)(keep >= 8 ? 0xff : 0xff << (8 - keep));
        out.b[i] = (uint8_t)((id->b[i] & mask) | (out.b[i] & ~mask));
    }
    if (differ && bits < MVPN_DHT_ID_BITS) {
        uint8_t bit = (uint8_t)(0x80 >> bits % 8);
        out.b[bits / 8] = (uint8_t)((out.b[bits / 8] & ~bit) | (~id->b[bits / 8] & bit));
    }
    *ret = out;
}

uint64_t mvpn_dht_block_of(const mvpn_addr *addr)
{
    uint32_t ip = mvpn_load32(addr->ip);
    return (uint64_t)addr->family << 32 | (addr->family == 4 ? ip >> 8 : ip);
}

uint64_t mvpn_dht_wide_of(const mvpn_addr *addr)
{
    uint32_t ip = mvpn_load32(addr->ip);
    return (uint64_t)addr->family << 32 | (addr->family == 4 ? ip >> 16 : ip);
}

uint64_t mvpn_dht_alone_of(const mvpn_addr *addr)
{
    uint64_t high = mvpn_load64(addr->ip), low = mvpn_load64(addr->ip + 8);
    return (high ^ (low << 1 | low >> 63)) + addr->family;
}

bool mvpn_dht_quota_take(mvpn_dht_quota *quota, uint64_t block, uint64_t wide)
{
    unsigned blocks = 0, wides = 0;
    if (quota->count >= MVPN_DHT_K) {
        return false;
    }
    for (size_t i = 0; i < quota->count; i++) {
        blocks += quota->block[i] == block;
        wides += quota->wide[i] == wide;
    }
    if (blocks >= MVPN_DHT_PER_BLOCK || wides >= MVPN_DHT_PER_WIDE) {
        return false;
    }
    quota->block[quota->count] = block;
    quota->wide[quota->count++] = wide;
    return true;
}

bool mvpn_dht_contact_is_usable(const mvpn_dht_contact *c, uint8_t family, bool allow_private)
{
    return mvpn_addr_ip_len(&c->addr) != 0 && c->addr.port != 0 &&
           (family == 0 || family == c->addr.family) && !mvpn_addr_is_mapped(&c->addr) &&
           (allow_private || mvpn_addr_is_public(&c->addr));
}

bool mvpn_dht_contact_eq(const mvpn_dht_contact *a, const mvpn_dht_contact *b)
{
    return mvpn_dht_id_eq(&a->id, &b->id) && mvpn_addr_eq(&a->addr, &b->addr) &&
           memcmp(a->link_key.b, b->link_key.b, sizeof(a->link_key.b)) == 0;
}
