#include <stdlib.h>

#include "base/error.h"
#include "dht/internal.h"

#define MAINTAIN_EVERY MVPN_S(10)
#define SWEEP_EVERY MVPN_S(60)

/* Contacts not heard from for so long are asked; adapts so that about one of six such is gone. */
#define CHECK_MIN MVPN_S(60)
#define CHECK_MAX MVPN_S(15 * 60)
#define CHECKS_AT_ONCE 16

/* Of one bucket, contacts that nobody named; of one answer, contacts asked for their proof. */
#define CLAIMED_MAX (MVPN_DHT_K / 2)
#define NAMED_MAX 4

/* The own neighbourhood is looked up, and a bucket not used is glanced into, so often (§11.5). */
#define REFRESH_EVERY MVPN_S(15 * 60)
/* A bucket that lost contacts, where there must be more. */
#define REFILL_EVERY MVPN_S(30)
#define REFILL_BELOW (MVPN_DHT_K * 3 / 4)

/* Lookups that the density is averaged over. */
#define SPACINGS 8

#define SEEDS_WAIT_MAX MVPN_S(60)

/* §11.4: a holder stores again within an hour if nobody else has; owners do every 20 min, so not
 * before these 25. */
#define REPUBLISH_AFTER MVPN_S(25 * 60)
#define REPUBLISH_SPREAD_S (35 * 60)
#define REPUBLISH_PER_SWEEP 16

/* The 2 closest holders hand a record over, those that were stored lately, 256 at most. */
#define HANDOVER_HOLDERS 2
#define HANDOVER_KEYS_MAX 256
/* New contacts within 4 times the distance of the K closest to us: others are near nothing that we
 * keep. */
#define HANDOVER_REACH_BITS 2

/* ---- those not wanted ---- */

static bool is_shunned(const mvpn_dht *dht, const mvpn_dht_id *id, mvpn_time now)
{
    for (size_t i = 0; dht->shunned != NULL && i < MVPN_DHT_SHUNNED_MAX; i++) {
        if (dht->shunned[i].until > now && mvpn_dht_id_eq(&dht->shunned[i].id, id)) {
            return true;
        }
    }
    return false;
}

void mvpn_dht_forget(mvpn_dht *dht, const mvpn_dht_id *id)
{
    mvpn_dht_routing_forget(&dht->routing, id);
    mvpn_dht_walk_forget(&dht->walk, id);
    for (size_t i = 0; i < dht->seed_count;) {
        if (mvpn_dht_id_eq(&dht->seeds[i].id, id)) {
            dht->seeds[i] = dht->seeds[--dht->seed_count];
        } else {
            i++;
        }
    }
    if (dht->shunned == NULL) {
        dht->shunned = calloc(MVPN_DHT_SHUNNED_MAX, sizeof(*dht->shunned));
    }
    if (dht->shunned != NULL) { /* the oldest is forgiven */
        dht->shunned[dht->shunned_next++ % MVPN_DHT_SHUNNED_MAX] =
            (mvpn_dht_shunned){*id, dht->now + MVPN_DHT_SHUNNED_FOR};
    }
}

void mvpn_dht_was_useful(mvpn_dht *dht, const mvpn_dht_id *id, bool is_useful, mvpn_time now)
{
    mvpn_dht_peer *peer = mvpn_dht_routing_find(&dht->routing, id);
    if (peer == NULL) {
        return;
    }
    peer->useless = is_useful ? 0 : (uint8_t)(peer->useless + 1);
    if (peer->useless < MVPN_DHT_USELESS_MAX || dht->routing.count <= MVPN_DHT_K) {
        return; /* in a small network everybody is needed */
    }
    mvpn_dht_id gone = *id;
    dht->now = now;
    mvpn_dht_forget(dht, &gone);
}

/* ---- contacts ---- */

void mvpn_dht_ask_proof(mvpn_dht *dht, const mvpn_dht_contact *c, bool is_named, mvpn_time now)
{
    if (dht->proofs_under_way >= MVPN_DHT_PROOFS_MAX) {
        return;
    }
    mvpn_dht_pending *p = mvpn_dht_send(dht, MVPN_DHT_FOR_PROOF, c, NULL, now);
    if (p != NULL) {
        p->wants_certificate = true;
        p->is_named = is_named;
        dht->proofs_under_way++;
    }
}

/* Where the network must have many more nodes than a bucket holds, those that come by themselves
 * get half of it: else whoever pushes hardest has it all. */
static bool is_claims_share_taken(const mvpn_dht *dht, const mvpn_dht_id *id)
{
    unsigned bits = mvpn_dht_common_bits(&dht->routing.self, id), claimed = 0;
    const mvpn_dht_kbucket *b = bits < MVPN_DHT_ID_BITS ? dht->routing.buckets[bits] : NULL;
    if (b == NULL || bits >= 63 || mvpn_dht_nodes(dht) >> (bits + 1) < 2 * MVPN_DHT_K) {
        return false;
    }
    for (size_t i = 0; i < b->count; i++) {
        claimed += b->peers[i].is_claimed;
    }
    return claimed >= CLAIMED_MAX;
}

bool mvpn_dht_is_self(const mvpn_dht *dht, const mvpn_dht_contact *c)
{
    return mvpn_dht_id_eq(&c->id, &dht->routing.self) ||
           (dht->config.is_server && mvpn_key_eq(&c->link_key, &dht->config.self.link_key));
}

bool mvpn_dht_consider(mvpn_dht *dht, const mvpn_dht_contact *c, bool is_claim, mvpn_time now)
{
    enum mvpn_dht_room room = mvpn_dht_routing_room(&dht->routing, c);
    if ((room != MVPN_DHT_ROOM_FREE && !(room == MVPN_DHT_ROOM_FULL && is_claim)) ||
        is_shunned(dht, &c->id, now) || mvpn_dht_is_self(dht, c)) {
        return false;
    }
    if (is_claim && (!mvpn_dht_id_fits(&c->id, &c->addr) || is_claims_share_taken(dht, &c->id))) {
        return false;
    }
    if (room == MVPN_DHT_ROOM_FULL) {
        mvpn_dht_routing_wait(&dht->routing, c, now);
        return false;
    }
    if (dht->proofs_under_way >= MVPN_DHT_PROOFS_MAX ||
        !mvpn_dht_limits_take(&dht->proofs,
                              dht->config.relax_blocks ? mvpn_dht_alone_of(&c->addr)
                                                       : mvpn_dht_block_of(&c->addr),
                              now)) {
        return false;
    }
    mvpn_dht_ask_proof(dht, c, !is_claim, now);
    return true;
}

void mvpn_dht_consider_named(mvpn_dht *dht, const mvpn_dht_reply *reply, mvpn_time now)
{
    unsigned taken = 0;
    for (size_t i = 0; i < reply->contact_count && i < MVPN_DHT_K && taken < NAMED_MAX; i++) {
        const mvpn_dht_contact *c = &reply->contacts[i];
        if (mvpn_dht_contact_is_usable(c, dht->config.family, dht->config.allow_private)) {
            taken += mvpn_dht_consider(dht, c, false, now);
        }
    }
}

/* How many of these are nearer to a key than we are; no more than HANDOVER_HOLDERS matter. */
static unsigned count_nearer(const mvpn_dht *dht, const mvpn_dht_id *key,
                             const mvpn_dht_peer *const *near, size_t count)
{
    unsigned nearer = 0;
    for (size_t i = 0; i < count && nearer < HANDOVER_HOLDERS; i++) {
        nearer += mvpn_dht_compare(key, &near[i]->contact.id, &dht->routing.self) < 0;
    }
    return nearer;
}

/* Are we to hand this record to the new contact? `around`: those closest to us, for a quick no. */
static bool hands_over(mvpn_dht *dht, const mvpn_dht_record *r, const mvpn_dht_contact *c,
                       const mvpn_dht_peer *const *around, size_t count, mvpn_time now)
{
    const mvpn_dht_peer *near[MVPN_DHT_K];
    if (now > r->stored + REPUBLISH_AFTER || /* its owner may be gone */
        count_nearer(dht, &r->key, around, count) >= HANDOVER_HOLDERS) {
        return false;
    }
    size_t n = mvpn_dht_routing_closest(&dht->routing, &r->key, &c->id, true, MVPN_DHT_K, near);
    if (n == MVPN_DHT_K && mvpn_dht_compare(&r->key, &c->id, &near[n - 1]->contact.id) > 0) {
        return false;
    }
    return count_nearer(dht, &r->key, near, n) < HANDOVER_HOLDERS;
}

/* Records to which a new contact is among the closest. */
static void hand_over(mvpn_dht *dht, const mvpn_dht_contact *c, mvpn_time now)
{
    const mvpn_dht_peer *around[MVPN_DHT_K];
    const mvpn_dht_id *self = &dht->routing.self;
    mvpn_dht_op *op;
    mvpn_dht_id *keys;
    size_t count = mvpn_dht_routing_closest(&dht->routing, self, &c->id, true, MVPN_DHT_K, around);
    bool is_neighbour =
        count < MVPN_DHT_K || mvpn_dht_distance64(self, &c->id) >> HANDOVER_REACH_BITS <=
                                  mvpn_dht_distance64(self, &around[count - 1]->contact.id);
    if (dht->storage.count == 0 || !is_neighbour ||
        mvpn_dht_op_new(dht, MVPN_DHT_OP_HANDOVER, &c->id, now, &op) != 0) {
        return;
    }
    op->targets[0] = *c;
    for (size_t i = 0; i < dht->storage.count && op->key_count < HANDOVER_KEYS_MAX; i++) {
        const mvpn_dht_record *r = dht->storage.records[i];
        if (!hands_over(dht, r, c, around, count, now)) {
            continue;
        }
        if ((op->key_count & (op->key_count - 1)) == 0) { /* doubles */
            keys = realloc(op->keys, MVPN_MAX(op->key_count * 2, (size_t)1) * sizeof(*keys));
            if (keys == NULL) {
                break;
            }
            op->keys = keys;
        }
        op->keys[op->key_count++] = r->key;
    }
    mvpn_dht_op_step(dht, op, now); /* ends at once without keys */
}

/* A new contact nearer to a record of our own than those that keep it. */
static void publish_to(mvpn_dht *dht, const mvpn_dht_contact *c, mvpn_time now)
{
    for (size_t i = 0; i < MVPN_DHT_PUBLISH_MAX; i++) {
        mvpn_dht_own *own = &dht->publish.own[i];
        if (own->bytes != NULL && !own->is_busy &&
            mvpn_dht_distance64(&own->key, &c->id) < own->radius) {
            mvpn_dht_op *op;
            if (mvpn_dht_op_new(dht, MVPN_DHT_OP_REPUBLISH, &own->key, now, &op) != 0) {
                return;
            }
            if (mvpn_dht_op_set_record(op, own->type, mvpn_bytes_of(own->bytes, own->len)) != 0) {
                mvpn_dht_op_free(dht, op);
                return;
            }
            op->targets[0] = *c;
            op->target_count = 1;
            mvpn_dht_op_begin_storing(dht, op, now);
        }
    }
}

void mvpn_dht_proven(mvpn_dht *dht, const mvpn_dht_contact *c, bool is_named, mvpn_time rtt,
                     mvpn_time now)
{
    if (is_shunned(dht, &c->id, now) || !mvpn_dht_routing_prove(&dht->routing, c, rtt, now)) {
        return;
    }
    mvpn_dht_routing_find(&dht->routing, &c->id)->is_claimed = !is_named;
    if (!dht->is_joined) {
        mvpn_dht_start_join(dht, now);
        return;
    }
    if (dht->config.is_server) {
        hand_over(dht, c, now);
    }
    publish_to(dht, c, now);
}

void mvpn_dht_checked(mvpn_dht *dht, const mvpn_dht_contact *c, bool has_answered)
{
    mvpn_dht_peer *peer = mvpn_dht_routing_find(&dht->routing, &c->id);
    if (peer != NULL) {
        peer->is_checking = false;
    }
    if (has_answered) {
        dht->check_every = mvpn_time_min(dht->check_every + dht->check_every / 32, CHECK_MAX);
    }
}

void mvpn_dht_silent(mvpn_dht *dht, const mvpn_dht_contact *c, bool is_check, mvpn_time first_sent,
                     mvpn_time now)
{
    mvpn_dht_contact next;
    bool has_next;
    const mvpn_dht_peer *peer = mvpn_dht_routing_find(&dht->routing, &c->id);
    if (is_check) {
        mvpn_dht_checked(dht, c, false);
    }
    /* Nobody answers: then it is we who are cut off. And a late answer is one. */
    if (peer == NULL || dht->last_reply < first_sent || peer->heard >= first_sent) {
        return;
    }
    if (mvpn_dht_routing_failed(&dht->routing, &c->id, &next, &has_next)) {
        if (is_check) {
            dht->check_every = MVPN_MAX(dht->check_every - dht->check_every / 6, CHECK_MIN);
        }
        if (has_next) {
            mvpn_dht_ask_proof(dht, &next, false, now);
        }
    }
}

/* ---- how large is the network? ---- */

void mvpn_dht_measure(mvpn_dht *dht, const mvpn_dht_id *target, const mvpn_dht_id *farthest,
                      size_t count)
{
    uint64_t spacing = mvpn_dht_distance64(target, farthest) / count;
    unsigned weight = MVPN_MIN(++dht->spacings, (unsigned)SPACINGS);
    dht->spacings = (uint8_t)weight;
    dht->spacing = dht->spacing - dht->spacing / weight + spacing / weight;
}

uint64_t mvpn_dht_nodes(const mvpn_dht *dht)
{
    uint64_t here = mvpn_dht_routing_estimate(&dht->routing);
    if (here <= MVPN_DHT_K || dht->spacing == 0) {
        return here;
    }
    /* Around us we see changes first; elsewhere chance is averaged out. */
    uint64_t spacing = UINT64_MAX / here / 2 + dht->spacing / 2;
    return MVPN_MAX(UINT64_MAX / spacing, dht->routing.count + 1);
}

/* ---- what is due ---- */

void mvpn_dht_start_join(mvpn_dht *dht, mvpn_time now)
{
    mvpn_dht_op *op;
    if (dht->is_joining ||
        mvpn_dht_op_new(dht, MVPN_DHT_OP_JOIN, &dht->routing.self, now, &op) != 0) {
        return;
    }
    dht->is_joining = true;
    dht->refresh_due = now + mvpn_rng_jitter(dht->config.rng, REFRESH_EVERY, 20);
    if (mvpn_dht_op_begin(dht, op, now) != 0) {
        dht->is_joining = false;
    }
    if (dht->config.is_walker && !mvpn_timer_is_set(&dht->walk_timer)) {
        mvpn_timer_set(&dht->timers, &dht->walk_timer, now + MVPN_S(2));
    }
}

/* When a contact is asked: staggered by its id, those whose last request failed at once. */
static bool is_check_due(const mvpn_dht *dht, const mvpn_dht_peer *peer, mvpn_time now)
{
    mvpn_time wait = dht->check_every - dht->check_every / 4 * peer->contact.id.b[19] / 256;
    return !peer->is_checking && (peer->failures > 0 || now >= peer->heard + wait);
}

static void check_contacts(mvpn_dht *dht, mvpn_time now)
{
    unsigned checks = 0;
    for (size_t i = MVPN_DHT_ID_BITS; i-- > 0;) { /* neighbours first */
        mvpn_dht_kbucket *b = dht->routing.buckets[i];
        for (size_t k = 0; b != NULL && k < b->count && checks < CHECKS_AT_ONCE; k++) {
            if (is_check_due(dht, &b->peers[k], now) &&
                mvpn_dht_send(dht, MVPN_DHT_FOR_CHECK, &b->peers[k].contact, NULL, now) != NULL) {
                b->peers[k].is_checking = true;
                checks++;
            }
        }
    }
}

/* A bucket that was not used, or that lost contacts although the network must have more there. */
static bool needs_glance(const mvpn_dht *dht, unsigned bits, uint64_t nodes, mvpn_time now)
{
    const mvpn_dht_kbucket *b = dht->routing.buckets[bits];
    uint64_t there = bits < 63 ? nodes >> (bits + 1) : 0;
    if (b == NULL) {
        return there >= 2 * MVPN_DHT_K;
    }
    if (b->count < REFILL_BELOW && there >= 2 * MVPN_DHT_K && now >= b->glanced + REFILL_EVERY) {
        return true;
    }
    return b->count > 0 && now >= b->used + REFRESH_EVERY && now >= b->glanced + REFRESH_EVERY;
}

static void glance(mvpn_dht *dht, mvpn_time now)
{
    uint64_t nodes = mvpn_dht_nodes(dht);
    unsigned bits = 0;
    mvpn_dht_id target;
    mvpn_dht_op *op;
    while (bits < MVPN_DHT_ID_BITS && !needs_glance(dht, bits, nodes, now)) {
        bits++;
    }
    if (dht->is_refreshing || bits == MVPN_DHT_ID_BITS) {
        return;
    }
    mvpn_dht_id_random(&target, dht->config.rng, &dht->routing.self, bits, true);
    if (mvpn_dht_op_new(dht, MVPN_DHT_OP_REFRESH, &target, now, &op) == 0) {
        dht->is_refreshing = true;
        mvpn_dht_routing_glanced(&dht->routing, &target, now);
        if (mvpn_dht_op_begin(dht, op, now) != 0) {
            dht->is_refreshing = false;
        }
    }
}

static void ask_seeds(mvpn_dht *dht, mvpn_time now)
{
    if (dht->routing.count > 0) {
        dht->seeds_wait = 0;
        return;
    }
    if (now < dht->seeds_due) {
        return;
    }
    for (size_t i = 0; i < dht->seed_count; i++) {
        mvpn_dht_ask_proof(dht, &dht->seeds[i], true, now);
    }
    dht->seeds_wait = mvpn_time_min(MVPN_MAX(dht->seeds_wait * 2, MVPN_S(5)), SEEDS_WAIT_MAX);
    dht->seeds_due = now + dht->seeds_wait;
}

void mvpn_dht_publish_due(mvpn_dht *dht, mvpn_time now)
{
    mvpn_dht_own *own;
    if (!dht->is_joined) {
        return;
    }
    while ((own = mvpn_dht_publish_next(&dht->publish, now)) != NULL) {
        mvpn_dht_op *op;
        if (mvpn_dht_op_new(dht, MVPN_DHT_OP_PUBLISH, &own->key, now, &op) != 0) {
            return;
        }
        if (mvpn_dht_op_set_record(op, own->type, mvpn_bytes_of(own->bytes, own->len)) != 0) {
            mvpn_dht_op_free(dht, op);
            return;
        }
        own->is_busy = true;
        if (mvpn_dht_op_begin(dht, op, now) != 0) {
            own->is_busy = false;
            return;
        }
    }
}

/* ---- records kept ---- */

mvpn_time mvpn_dht_republish_time(mvpn_dht *dht, mvpn_time now)
{
    return now + REPUBLISH_AFTER + MVPN_S(mvpn_rng_below(dht->config.rng, REPUBLISH_SPREAD_S));
}

struct sweep {
    const mvpn_dht *dht;
    mvpn_time now;
};

static bool is_over(void *ctx, const mvpn_dht_record *record)
{
    const struct sweep *s = ctx;
    return mvpn_dht_record_is_over(record, s->now, mvpn_dht_unix(s->dht, s->now));
}

/* Nobody has stored it for long. Near its key we know those that ought to keep it; else they are
 * looked up. */
static void republish(mvpn_dht *dht, mvpn_dht_record *r, mvpn_time now)
{
    const mvpn_dht_peer *near[MVPN_DHT_K];
    mvpn_dht_op *op;
    r->republish_at = mvpn_dht_republish_time(dht, now);
    if (mvpn_dht_op_new(dht, MVPN_DHT_OP_REPUBLISH, &r->key, now, &op) != 0) {
        return;
    }
    if (mvpn_dht_op_set_record(op, r->type, mvpn_bytes_of(r->bytes, r->len)) != 0) {
        mvpn_dht_op_free(dht, op);
        return;
    }
    if (!mvpn_dht_routing_self_is_close(&dht->routing, &r->key, MVPN_DHT_K)) {
        MVPN_IGNORE(mvpn_dht_op_begin(dht, op, now)); /* no memory: another holder does it */
        return;
    }
    op->target_count =
        mvpn_dht_routing_closest(&dht->routing, &r->key, NULL, true, MVPN_DHT_K - 1, near);
    for (size_t i = 0; i < op->target_count; i++) {
        op->targets[i] = near[i]->contact;
    }
    mvpn_dht_op_begin_storing(dht, op, now);
}

static void sweep(mvpn_dht *dht, mvpn_time now)
{
    struct sweep ctx = {dht, now};
    unsigned done = 0;
    if (now < dht->sweep_due) {
        return;
    }
    dht->sweep_due = now + mvpn_rng_jitter(dht->config.rng, SWEEP_EVERY, 20);
    mvpn_dht_storage_sweep(&dht->storage, is_over, &ctx);
    mvpn_dht_limits_trim(&dht->sources, now);
    mvpn_dht_limits_trim(&dht->proofs, now);
    mvpn_dht_requests_trim(&dht->requests);
    for (size_t i = 0; i < dht->storage.count && done < REPUBLISH_PER_SWEEP; i++) {
        if (dht->storage.records[i]->republish_at <= now) {
            republish(dht, dht->storage.records[i], now);
            done++;
        }
    }
}

void mvpn_dht_maintain(mvpn_dht *dht, mvpn_time now)
{
    mvpn_time every = dht->is_joined ? MAINTAIN_EVERY : MVPN_S(2);
    ask_seeds(dht, now);
    check_contacts(dht, now);
    if (dht->routing.count > 0 && (now >= dht->refresh_due || !dht->is_joined)) {
        mvpn_dht_start_join(dht, now);
    }
    if (dht->is_joined) {
        glance(dht, now);
    }
    mvpn_dht_publish_due(dht, now);
    sweep(dht, now);
    mvpn_timer_set(&dht->timers, &dht->maintain, now + mvpn_rng_jitter(dht->config.rng, every, 20));
}
