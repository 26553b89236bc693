#include "dht/routing.h"

#include <stdlib.h>

#include "base/assert.h"

void mvpn_dht_routing_init(mvpn_dht_routing *r, const mvpn_dht_id *self)
{
    *r = (mvpn_dht_routing){.self = *self};
}

void mvpn_dht_routing_done(mvpn_dht_routing *r)
{
    for (size_t i = 0; i < MVPN_DHT_ID_BITS; i++) {
        if (r->buckets[i] != NULL) {
            mvpn_dht_kbucket_done(r->buckets[i]);
            free(r->buckets[i]);
        }
    }
    *r = (mvpn_dht_routing){0};
}

size_t mvpn_dht_routing_memory(const mvpn_dht_routing *r)
{
    size_t n = 0;
    for (size_t i = 0; i < MVPN_DHT_ID_BITS; i++) {
        n += r->buckets[i] != NULL ? mvpn_dht_kbucket_memory(r->buckets[i]) : 0;
    }
    return n;
}

/* NULL: the own id, or a bucket not made yet. */
static mvpn_dht_kbucket *bucket_of(const mvpn_dht_routing *r, const mvpn_dht_id *id)
{
    unsigned bits = mvpn_dht_common_bits(&r->self, id);
    return bits < MVPN_DHT_ID_BITS ? r->buckets[bits] : NULL;
}

static mvpn_dht_kbucket *make_bucket(mvpn_dht_routing *r, const mvpn_dht_id *id, mvpn_time now)
{
    unsigned bits = mvpn_dht_common_bits(&r->self, id);
    if (bits == MVPN_DHT_ID_BITS) {
        return NULL;
    }
    if (r->buckets[bits] == NULL) {
        r->buckets[bits] = calloc(1, sizeof(*r->buckets[bits]));
        if (r->buckets[bits] != NULL) {
            r->buckets[bits]->used = now;
            r->depth = MVPN_MAX(r->depth, bits + 1);
        }
    }
    return r->buckets[bits];
}

mvpn_dht_peer *mvpn_dht_routing_find(const mvpn_dht_routing *r, const mvpn_dht_id *id)
{
    mvpn_dht_kbucket *b = bucket_of(r, id);
    return b != NULL ? mvpn_dht_kbucket_find(b, id) : NULL;
}

static uint64_t block_of(const mvpn_dht_routing *r, const mvpn_addr *addr)
{
    return r->is_relaxed ? mvpn_dht_alone_of(addr) : mvpn_dht_block_of(addr);
}

static uint64_t wide_of(const mvpn_dht_routing *r, const mvpn_addr *addr)
{
    return r->is_relaxed ? mvpn_dht_alone_of(addr) : mvpn_dht_wide_of(addr);
}

/* Would one more of these blocks be too many, in this bucket or in the table? */
static bool is_over_quota(const mvpn_dht_routing *r, const mvpn_dht_kbucket *home,
                          const mvpn_addr *addr)
{
    uint64_t block = block_of(r, addr), wide = wide_of(r, addr);
    unsigned blocks = 0, wides = 0;
    for (size_t i = 0; i < r->depth; i++) {
        const mvpn_dht_kbucket *b = r->buckets[i];
        unsigned blocks_here = 0, wides_here = 0;
        for (size_t k = 0; b != NULL && k < b->count; k++) {
            const mvpn_addr *other = &b->peers[k].contact.addr;
            blocks_here += block_of(r, other) == block;
            wides_here += wide_of(r, other) == wide;
        }
        if (b != NULL && b == home &&
            (blocks_here >= MVPN_DHT_PER_BLOCK || wides_here >= MVPN_DHT_PER_WIDE)) {
            return true;
        }
        blocks += blocks_here;
        wides += wides_here;
    }
    return blocks >= MVPN_DHT_TABLE_PER_BLOCK || wides >= MVPN_DHT_TABLE_PER_WIDE;
}

enum mvpn_dht_room mvpn_dht_routing_room(const mvpn_dht_routing *r, const mvpn_dht_contact *c)
{
    if (mvpn_dht_id_eq(&r->self, &c->id)) {
        return MVPN_DHT_ROOM_NONE;
    }
    const mvpn_dht_kbucket *b = bucket_of(r, &c->id);
    if (b != NULL && mvpn_dht_kbucket_find(b, &c->id) != NULL) {
        return MVPN_DHT_ROOM_KNOWN;
    }
    if (b != NULL && b->count == MVPN_DHT_K) {
        return MVPN_DHT_ROOM_FULL;
    }
    if (r->count >= MVPN_DHT_TABLE_MAX || is_over_quota(r, b, &c->addr)) {
        return MVPN_DHT_ROOM_NONE;
    }
    return MVPN_DHT_ROOM_FREE;
}

bool mvpn_dht_routing_prove(mvpn_dht_routing *r, const mvpn_dht_contact *c, mvpn_time rtt,
                            mvpn_time now)
{
    enum mvpn_dht_room room = mvpn_dht_routing_room(r, c);
    mvpn_dht_kbucket *b = room != MVPN_DHT_ROOM_NONE ? make_bucket(r, &c->id, now) : NULL;
    if (b == NULL) {
        return false;
    }
    if (room == MVPN_DHT_ROOM_FULL) {
        mvpn_dht_kbucket_wait(b, c, true, (uint16_t)MVPN_MIN(rtt / MVPN_US_PER_MS + 1, 10000u),
                              now);
        return false;
    }
    mvpn_dht_kbucket_forget_waiting(b, &c->id);
    mvpn_dht_peer *peer = mvpn_dht_kbucket_find(b, &c->id);
    if (peer != NULL) {
        peer->contact = *c; /* the same id: the same identity in the same block */
        mvpn_dht_peer_answered(peer, rtt, now);
        return false;
    }
    peer = mvpn_dht_kbucket_add(b, c, now);
    if (peer == NULL) {
        return false;
    }
    mvpn_dht_peer_answered(peer, rtt, now);
    b->used = now;
    r->count++;
    return true;
}

void mvpn_dht_routing_answered(mvpn_dht_routing *r, const mvpn_dht_contact *c, mvpn_time rtt,
                               mvpn_time now)
{
    mvpn_dht_kbucket *b = bucket_of(r, &c->id);
    mvpn_dht_peer *peer = b != NULL ? mvpn_dht_kbucket_find(b, &c->id) : NULL;
    if (peer != NULL && mvpn_dht_contact_eq(&peer->contact, c)) {
        mvpn_dht_peer_answered(peer, rtt, now);
        b->used = now;
    }
}

void mvpn_dht_routing_wait(mvpn_dht_routing *r, const mvpn_dht_contact *c, mvpn_time now)
{
    mvpn_dht_kbucket *b = bucket_of(r, &c->id);
    if (b != NULL && b->count == MVPN_DHT_K && mvpn_dht_kbucket_find(b, &c->id) == NULL) {
        mvpn_dht_kbucket_wait(b, c, false, 0, now);
    }
}

bool mvpn_dht_routing_failed(mvpn_dht_routing *r, const mvpn_dht_id *id, mvpn_dht_contact *ret_next,
                             bool *ret_has_next)
{
    mvpn_dht_kbucket *b = bucket_of(r, id);
    mvpn_dht_peer *peer = b != NULL ? mvpn_dht_kbucket_find(b, id) : NULL;
    *ret_has_next = false;
    if (peer == NULL) {
        return false;
    }
    if (peer->failures < MVPN_DHT_FAILURES_MAX) {
        peer->failures++;
    }
    if (peer->failures < MVPN_DHT_FAILURES_MAX &&
        (b->waiting_count == 0 || peer->failures < MVPN_DHT_FAILURES_REPLACED)) {
        return false;
    }
    mvpn_dht_kbucket_remove(b, peer);
    r->count--;
    *ret_has_next = mvpn_dht_kbucket_take_waiting(b, ret_next);
    return true;
}

void mvpn_dht_routing_glanced(mvpn_dht_routing *r, const mvpn_dht_id *id, mvpn_time now)
{
    mvpn_dht_kbucket *b = make_bucket(r, id, now);
    if (b != NULL) {
        b->glanced = now;
    }
}

void mvpn_dht_routing_forget(mvpn_dht_routing *r, const mvpn_dht_id *id)
{
    mvpn_dht_kbucket *b = bucket_of(r, id);
    mvpn_dht_peer *peer = b != NULL ? mvpn_dht_kbucket_find(b, id) : NULL;
    if (peer != NULL) {
        mvpn_dht_kbucket_remove(b, peer);
        r->count--;
    }
    if (b != NULL) {
        mvpn_dht_kbucket_forget_waiting(b, id);
    }
}

void mvpn_dht_routing_set_self(mvpn_dht_routing *r, const mvpn_dht_id *self, mvpn_time now)
{
    mvpn_dht_routing old = *r;
    mvpn_dht_routing_init(r, self);
    r->is_relaxed = old.is_relaxed;
    for (size_t i = 0; i < MVPN_DHT_ID_BITS; i++) {
        mvpn_dht_kbucket *from = old.buckets[i];
        for (size_t k = 0; from != NULL && k < from->count; k++) {
            const mvpn_dht_peer *peer = &from->peers[k];
            mvpn_dht_peer *moved;
            if (mvpn_dht_routing_prove(r, &peer->contact, 0, now) &&
                (moved = mvpn_dht_routing_find(r, &peer->contact.id)) != NULL) {
                *moved = *peer;
            }
        }
    }
    mvpn_dht_routing_done(&old);
}

struct near {
    uint64_t distance;
    const mvpn_dht_peer *peer;
};

/* A stage of the search: contacts that lie in one range of distances, sorted. */
struct stage {
    const mvpn_dht_routing *routing;
    const mvpn_dht_id *target, *skip;
    bool good_only;
    size_t count;
    struct near near[MVPN_DHT_TABLE_MAX];
};

static bool is_nearer(const struct stage *s, const struct near *a, const struct near *b)
{
    if (a->distance != b->distance) {
        return a->distance < b->distance;
    }
    return mvpn_dht_compare(s->target, &a->peer->contact.id, &b->peer->contact.id) < 0;
}

static void stage_bucket(struct stage *s, const mvpn_dht_kbucket *b)
{
    for (size_t i = 0; b != NULL && i < b->count && s->count < MVPN_DHT_TABLE_MAX; i++) {
        const mvpn_dht_peer *peer = &b->peers[i];
        if ((s->good_only && peer->failures > 0) ||
            (s->skip != NULL && mvpn_dht_id_eq(&peer->contact.id, s->skip))) {
            continue;
        }
        struct near item = {mvpn_dht_distance64(s->target, &peer->contact.id), peer};
        size_t at = s->count++;
        for (; at > 0 && is_nearer(s, &item, &s->near[at - 1]); at--) {
            s->near[at] = s->near[at - 1];
        }
        s->near[at] = item;
    }
}

static size_t stage_take(struct stage *s, mvpn_dht_quota *quota, size_t max,
                         const mvpn_dht_peer **ret, size_t count)
{
    for (size_t i = 0; i < s->count && count < max; i++) {
        const mvpn_addr *addr = &s->near[i].peer->contact.addr;
        if (mvpn_dht_quota_take(quota, block_of(s->routing, addr), wide_of(s->routing, addr))) {
            ret[count++] = s->near[i].peer;
        }
    }
    s->count = 0;
    return count;
}

size_t mvpn_dht_routing_closest(const mvpn_dht_routing *r, const mvpn_dht_id *target,
                                const mvpn_dht_id *skip, bool good_only, size_t max,
                                const mvpn_dht_peer *ret[static MVPN_DHT_K])
{
    struct stage s;
    mvpn_dht_quota quota;
    unsigned bits = mvpn_dht_common_bits(&r->self, target);
    size_t count;
    MVPN_ASSERT(max <= MVPN_DHT_K);
    s.routing = r;
    s.target = target;
    s.skip = skip;
    s.good_only = good_only;
    s.count = 0;
    quota.count = 0;
    /* The target's own bucket is nearest; then all that share more with us than the target does,
     * which are equally far but for their last bits; then bucket after bucket outwards. */
    if (bits < MVPN_DHT_ID_BITS) {
        stage_bucket(&s, r->buckets[bits]);
    }
    count = stage_take(&s, &quota, max, ret, 0);
    for (unsigned i = bits + 1; count < max && i < r->depth; i++) {
        stage_bucket(&s, r->buckets[i]);
    }
    count = stage_take(&s, &quota, max, ret, count);
    for (unsigned i = MVPN_MIN(bits, r->depth); count < max && i-- > 0;) {
        stage_bucket(&s, r->buckets[i]);
        count = stage_take(&s, &quota, max, ret, count);
    }
    return count;
}

bool mvpn_dht_routing_self_is_close(const mvpn_dht_routing *r, const mvpn_dht_id *target, size_t k)
{
    const mvpn_dht_peer *near[MVPN_DHT_K];
    size_t n = mvpn_dht_routing_closest(r, target, NULL, true, k, near);
    return n < k || mvpn_dht_compare(target, &r->self, &near[k - 1]->contact.id) < 0;
}

uint64_t mvpn_dht_routing_estimate(const mvpn_dht_routing *r)
{
    const mvpn_dht_peer *near[MVPN_DHT_K];
    size_t n = mvpn_dht_routing_closest(r, &r->self, NULL, false, MVPN_DHT_K, near);
    if (n < MVPN_DHT_K || r->count <= MVPN_DHT_K) {
        return r->count + 1;
    }
    uint64_t distance = mvpn_dht_distance64(&r->self, &near[n - 1]->contact.id) >> 32;
    uint64_t nodes = ((uint64_t)n << 32) / (distance + 1);
    return MVPN_MAX(nodes, r->count + 1);
}
