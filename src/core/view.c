#include "core/view.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/cursor.h"
#include "core/path.h"
#include "core/view_internal.h"

/* Expected number of relays when the table is made; it grows. */
#define TABLE_FIRST 64
/* Candidates per place of a path when the view is judged: one fits soon, or hardly ever. */
#define CANDIDATES_MAX 32

/* What the keyed hashes are of. */
enum hash_use {
    HASH_IDENTITY = 1,
    HASH_SAMPLE,
    HASH_PROVIDER,
    HASH_FAMILY,
    HASH_BLOCK,
    HASH_HOST,
};

static uint64_t hash(const mvpn_view *view, enum hash_use use, const void *p, size_t n)
{
    uint8_t in[1 + MVPN_PROVIDER_MAX];
    MVPN_ASSERT(n < sizeof(in));
    in[0] = (uint8_t)use;
    memcpy(in + 1, p, n);
    return mvpn_siphash(&view->hash_key, in, n + 1);
}

static uint64_t hash_identity(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    return hash(view, HASH_IDENTITY, identity->b, sizeof(identity->b));
}

static uint64_t hash_sample(const mvpn_view *view, const mvpn_dht_id *key)
{
    uint64_t h = hash(view, HASH_SAMPLE, key->b, sizeof(key->b));
    return h == 0 ? 1 : h; /* 0 is of the network file's relays, which stay */
}

int mvpn_view_new(const mvpn_view_config *config, mvpn_view **ret)
{
    mvpn_view *view = calloc(1, sizeof(*view));
    if (view == NULL || mvpn_hash_init(&view->by_identity, TABLE_FIRST) != 0) {
        free(view);
        return MVPN_E_NOMEM;
    }
    view->config = *config;
    if (view->config.max == 0) {
        view->config.max = MVPN_VIEW_MAX;
    }
    memcpy(view->hash_key.b, config->sample_key, sizeof(view->hash_key.b));
    view->revocations = config->trust->revocations;
    mvpn_revocations_key(&view->revocations_key, &config->trust->network_id);
    view->network_cap = MVPN_SNAPSHOT_UNMEASURED;
    *ret = view;
    return 0;
}

void mvpn_view_free(mvpn_view *view)
{
    if (view == NULL) {
        return;
    }
    for (size_t i = 0; i < view->count; i++) {
        free(view->relays[i]);
    }
    for (size_t i = 0; i < view->discovery_count; i++) {
        view_discovery_done(view->discovery[i]);
    }
    free(view->relays);
    mvpn_hash_done(&view->by_identity);
    free(view);
}

/* ---- relays: by identity, and in the order of their keys ---- */

view_relay *view_relay_of(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    mvpn_hash_node *n = mvpn_hash_first(&view->by_identity, hash_identity(view, identity));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        view_relay *relay = (view_relay *)n;
        if (memcmp(relay->d.identity.b, identity->b, sizeof(identity->b)) == 0) {
            return relay;
        }
    }
    return NULL;
}

/* Index of the first relay whose key is not below `key`. */
static size_t lower_bound(const mvpn_view *view, const mvpn_dht_id *key)
{
    size_t low = 0, high = view->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(view->relays[middle]->key.b, key->b, sizeof(key->b)) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool key_eq(const mvpn_dht_id *a, const mvpn_dht_id *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

view_relay *view_relay_at_key(const mvpn_view *view, const mvpn_dht_id *key)
{
    size_t i = lower_bound(view, key);
    return i < view->count && key_eq(&view->relays[i]->key, key) ? view->relays[i] : NULL;
}

static int grow(mvpn_view *view)
{
    if (view->count < view->size) {
        return 0;
    }
    size_t size = view->size == 0 ? 16 : view->size * 2;
    view_relay **relays = realloc(view->relays, size * sizeof(*relays));
    if (relays == NULL) {
        return MVPN_E_NOMEM;
    }
    view->relays = relays;
    view->size = size;
    return 0;
}

/* Let go of what the table counts of a relay; it is still in the array. */
static void unlink_relay(mvpn_view *view, view_relay *relay)
{
    mvpn_hash_remove(&view->by_identity, &relay->by_identity);
    view->confirmed_count -= relay->is_confirmed;
    view->unsigned_count -= relay->d.encoded_len == 0;
    if (view->worst == relay) {
        view->worst = NULL;
    }
    free(relay);
}

static void remove_at(mvpn_view *view, size_t index)
{
    unlink_relay(view, view->relays[index]);
    view->count--;
    memmove(&view->relays[index], &view->relays[index + 1],
            (view->count - index) * sizeof(view->relays[0]));
}

/* Drop all relays that `is_gone` says, in one pass. */
static size_t drop_relays(mvpn_view *view, bool (*is_gone)(const mvpn_view *, const view_relay *))
{
    size_t kept = 0, before = view->count;
    for (size_t i = 0; i < before; i++) {
        view_relay *relay = view->relays[i];
        if (is_gone(view, relay)) {
            unlink_relay(view, relay);
        } else {
            view->relays[kept++] = relay;
        }
    }
    view->count = kept;
    return before - kept;
}

static view_relay *worst_of(mvpn_view *view)
{
    if (view->worst == NULL) {
        for (size_t i = 0; i < view->count; i++) {
            view_relay *relay = view->relays[i];
            if (view->worst == NULL || relay->sample > view->worst->sample) {
                view->worst = relay;
            }
        }
    }
    return view->worst;
}

/* Would a relay with this sample be kept? */
static bool has_place(mvpn_view *view, uint64_t sample)
{
    if (view->count < view->config.max) {
        return true;
    }
    const view_relay *worst = worst_of(view);
    return worst != NULL && sample < worst->sample;
}

static int insert(mvpn_view *view, view_relay *relay)
{
    if (!has_place(view, relay->sample)) {
        return MVPN_E_LIMIT;
    }
    if (view->count >= view->config.max) {
        remove_at(view, lower_bound(view, &worst_of(view)->key));
    }
    int r = grow(view);
    if (r != 0) {
        return r;
    }
    size_t at = lower_bound(view, &relay->key);
    memmove(&view->relays[at + 1], &view->relays[at], (view->count - at) * sizeof(view->relays[0]));
    view->relays[at] = relay;
    view->count++;
    view->unsigned_count += relay->d.encoded_len == 0;
    mvpn_hash_insert(&view->by_identity, &relay->by_identity,
                     hash_identity(view, &relay->d.identity));
    if (view->worst != NULL && relay->sample > view->worst->sample) {
        view->worst = relay;
    }
    return 0;
}

/* ---- sources ---- */

/*
 * An operator as four short hashes, so that two sources can be compared by each rule of
 * distinctness (§12, design §6): 1 | provider 15 | family or identity 15 | IPv4 block 15 | IPv6
 * block 15. 0 = not known; such a part tells nothing.
 */
#define SOURCE_SET ((mvpn_view_source)1 << 63)
#define PART_BITS 15
#define PART_MASK 0x7fffu
enum source_part { PART_BLOCK6, PART_BLOCK4, PART_FAMILY, PART_PROVIDER, PARTS };

static unsigned part_of(mvpn_view_source source, unsigned part)
{
    return (unsigned)(source >> (part * PART_BITS)) & PART_MASK;
}

static mvpn_view_source part_make(uint64_t h, unsigned part)
{
    return (mvpn_view_source)(h % PART_MASK + 1) << (part * PART_BITS);
}

static bool are_distinct(mvpn_view_source a, mvpn_view_source b)
{
    for (unsigned part = 0; part < PARTS; part++) {
        if (part_of(a, part) != 0 && part_of(a, part) == part_of(b, part)) {
            return false;
        }
    }
    return true;
}

static mvpn_view_source block_part(const mvpn_view *view, const mvpn_addr *addr)
{
    size_t n = mvpn_addr_ip_len(addr);
    if (n == 0) {
        return 0;
    }
    unsigned part = addr->family == 4 ? PART_BLOCK4 : PART_BLOCK6;
    if (view->config.relax & MVPN_RELAX_BLOCK) {
        uint8_t host[18];
        memcpy(host, addr->ip, n);
        mvpn_store16(host + n, addr->port);
        return part_make(hash(view, HASH_HOST, host, n + 2), part);
    }
    return part_make(hash(view, HASH_BLOCK, addr->ip, addr->family == 4 ? 2 : 4), part);
}

/* The lowest identity of the family that it claims, itself included: the same for all who claim
 * each other. */
static const mvpn_ed25519_pub *family_head(const mvpn_view *view, const mvpn_descriptor *d)
{
    const mvpn_ed25519_pub *lowest = &d->identity;
    if (d->family_count > 0 && !(view->config.relax & MVPN_RELAX_FAMILY) &&
        memcmp(d->family[0].b, lowest->b, sizeof(lowest->b)) < 0) {
        lowest = &d->family[0]; /* ascending (§8.3) */
    }
    return lowest;
}

static mvpn_view_source family_part(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    return part_make(hash(view, HASH_FAMILY, identity->b, sizeof(identity->b)), PART_FAMILY);
}

mvpn_view_source mvpn_view_source_of(const mvpn_view *view, const mvpn_descriptor *d,
                                     const mvpn_addr *addr)
{
    mvpn_view_source source = 0;
    const mvpn_addr *addr4 = d == NULL ? NULL : mvpn_descriptor_find_address(d, 4);
    const mvpn_addr *addr6 = d == NULL ? NULL : mvpn_descriptor_find_address(d, 6);
    if (addr != NULL && addr->family == 4) {
        addr4 = addr; /* where it answered, not where it says it is */
    } else if (addr != NULL && addr->family == 6) {
        addr6 = addr;
    }
    source |= addr4 == NULL ? 0 : block_part(view, addr4);
    source |= addr6 == NULL ? 0 : block_part(view, addr6);
    if (d != NULL) {
        source |= family_part(view, family_head(view, d));
        if (d->provider[0] != '\0' && !(view->config.relax & MVPN_RELAX_PROVIDER)) {
            source |= part_make(hash(view, HASH_PROVIDER, d->provider, strlen(d->provider)),
                                PART_PROVIDER);
        }
    }
    return source == 0 ? 0 : source | SOURCE_SET;
}

bool view_source_is_caught(const mvpn_view *view, mvpn_view_source source)
{
    for (size_t i = 0; i < view->discovery_count; i++) {
        const view_discovery *node = view->discovery[i];
        if (!node->is_caught) {
            continue;
        }
        const view_relay *relay = view_relay_of(view, &node->head.identity);
        const mvpn_ed25519_pub *head =
            relay == NULL ? &node->head.identity : family_head(view, &relay->d);
        if (part_of(source, PART_FAMILY) == part_of(family_part(view, head), PART_FAMILY)) {
            return true;
        }
    }
    return false;
}

static void judge(mvpn_view *view, view_relay *relay)
{
    bool is_confirmed = relay->is_local;
    for (size_t i = 0; i < relay->source_count && !is_confirmed; i++) {
        for (size_t j = i + 1; j < relay->source_count; j++) {
            is_confirmed |= are_distinct(relay->sources[i], relay->sources[j]);
        }
    }
    view->confirmed_count += is_confirmed;
    view->confirmed_count -= relay->is_confirmed;
    relay->is_confirmed = is_confirmed;
}

static void set_local(mvpn_view *view, view_relay *relay)
{
    relay->is_local = true;
    relay->sample = 0;
    if (view->worst == relay) {
        view->worst = NULL;
    }
}

void view_credit(mvpn_view *view, view_relay *relay, mvpn_view_source source)
{
    if (source == MVPN_VIEW_LOCAL) {
        set_local(view, relay);
    } else if ((source & SOURCE_SET) == 0 || view_source_is_caught(view, source)) {
        return;
    } else {
        for (size_t i = 0; i < relay->source_count; i++) {
            if (relay->sources[i] == source) {
                return;
            }
        }
        if (relay->source_count < VIEW_SOURCES_MAX) {
            relay->sources[relay->source_count++] = source;
        } else if (!relay->is_confirmed) { /* all of one operator: make room for another */
            relay->sources[VIEW_SOURCES_MAX - 1] = source;
        }
    }
    judge(view, relay);
}

void view_purge_sources(mvpn_view *view)
{
    for (size_t i = 0; i < view->count; i++) {
        view_relay *relay = view->relays[i];
        uint8_t kept = 0;
        for (size_t j = 0; j < relay->source_count; j++) {
            if (!view_source_is_caught(view, relay->sources[j])) {
                relay->sources[kept++] = relay->sources[j];
            }
        }
        relay->source_count = kept;
        judge(view, relay);
    }
}

void view_rekey(mvpn_view *view, const uint8_t key[static 16])
{
    memcpy(view->hash_key.b, key, sizeof(view->hash_key.b));
    memcpy(view->config.sample_key, key, sizeof(view->config.sample_key));
    view->worst = NULL;
    for (size_t i = 0; i < view->count; i++) {
        mvpn_hash_remove(&view->by_identity, &view->relays[i]->by_identity);
    }
    for (size_t i = 0; i < view->count; i++) {
        view_relay *relay = view->relays[i];
        mvpn_hash_insert(&view->by_identity, &relay->by_identity,
                         hash_identity(view, &relay->d.identity));
        relay->sample = relay->is_local ? 0 : hash_sample(view, &relay->key);
        relay->source_count = 0; /* hashes under the key before: comparable with nothing now */
        judge(view, relay);
    }
    for (size_t i = 0; i < view->discovery_count; i++) {
        view->discovery[i]->shown_count = 0;
    }
}

/* ---- taking records ---- */

uint64_t view_serial(const uint8_t membership[static MVPN_MEMBERSHIP_LEN])
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(membership, MVPN_MEMBERSHIP_LEN));
    (void)mvpn_read_raw(&r, 32 + 2 + 8 + 8); /* identity, roles, times (§8.2) */
    return mvpn_read64(&r);
}

bool view_is_revoked(const mvpn_view *view, uint64_t serial)
{
    return view->revocations.sequence > 0 && mvpn_revocations_has(&view->revocations, serial);
}

static void fill(view_relay *relay, const mvpn_descriptor *d, uint64_t expires)
{
    mvpn_key digest = {{0}};
    if (d->encoded_len > 0) {
        mvpn_descriptor_digest(&digest, d);
    }
    relay->d = *d;
    relay->expires = expires;
    relay->serial = d->has_membership ? view_serial(d->membership) : 0;
    memcpy(relay->digest, digest.b, sizeof(relay->digest));
}

/* A descriptor that is verified and newer than what we hold (`old`, or NULL). */
static int take(mvpn_view *view, view_relay *old, const mvpn_descriptor *d, uint64_t expires,
                bool is_local, view_relay **ret)
{
    view_relay *relay = old;
    if (old != NULL) {
        view->unsigned_count -= old->d.encoded_len == 0;
        fill(old, d, expires);
        view->unsigned_count += old->d.encoded_len == 0;
    } else {
        relay = calloc(1, sizeof(*relay));
        if (relay == NULL) {
            return MVPN_E_NOMEM;
        }
        mvpn_record_key(relay->key.b, &view->config.trust->network_id, &d->identity);
        relay->sample = is_local ? 0 : hash_sample(view, &relay->key);
        fill(relay, d, expires);
        int r = insert(view, relay);
        if (r != 0) {
            free(relay);
            return r;
        }
    }
    /* A discovery node that we know now by its operator is a source of what its snapshot lists. */
    const view_discovery *node = view_discovery_of(view, &d->identity);
    if (node != NULL) {
        view_purge_sources(view);
        view_measure_all(view);
    }
    view_measure_one(view, relay);
    *ret = relay;
    return 0;
}

int mvpn_view_add(mvpn_view *view, const mvpn_descriptor *d)
{
    view_relay *relay = view_relay_of(view, &d->identity);
    if (d->has_membership && view_is_revoked(view, view_serial(d->membership))) {
        return MVPN_E_POLICY;
    }
    if (relay != NULL && d->sequence <= relay->d.sequence) {
        view_credit(view, relay, MVPN_VIEW_LOCAL); /* whichever of its descriptors: it is listed */
        return MVPN_E_EXPIRED;
    }
    int r = take(view, relay, d, d->expires, true, &relay);
    if (r == 0) {
        view_credit(view, relay, MVPN_VIEW_LOCAL);
    }
    return r;
}

static void shown(mvpn_view *view, view_relay *relay, mvpn_view_source source, uint64_t unix_now)
{
    view_credit(view, relay, source);
    relay->last_shown = MVPN_MAX(relay->last_shown, unix_now);
}

int view_put_descriptor(mvpn_view *view, mvpn_bytes record, mvpn_view_source source,
                        uint64_t unix_now, view_relay **ret_held)
{
    mvpn_descriptor d;
    mvpn_record_info info;
    *ret_held = NULL;
    int r = mvpn_descriptor_decode(&d, record);
    if (r != 0) {
        return r;
    }
    view_relay *old = view_relay_of(view, &d.identity);
    if (old != NULL && d.sequence <= old->d.sequence) {
        /* Byte for byte what was verified before: no need to do it again. */
        if (old->d.encoded_len == record.n && memcmp(old->d.encoded, record.p, record.n) == 0) {
            shown(view, old, source, unix_now);
            *ret_held = old;
        }
        return MVPN_E_EXPIRED;
    }
    r = mvpn_record_verify(view->config.trust, MVPN_RECORD_DESCRIPTOR, record, unix_now, &info, &d);
    if (r != 0) {
        return r;
    }
    if (d.has_membership && view_is_revoked(view, view_serial(d.membership))) {
        return MVPN_E_POLICY; /* our list may be newer than the owner's */
    }
    r = take(view, old, &d, info.expires, source == MVPN_VIEW_LOCAL, ret_held);
    if (r == 0) {
        (*ret_held)->first_seen = old == NULL ? unix_now : old->first_seen;
        shown(view, *ret_held, source, unix_now);
    }
    return r;
}

static bool relay_is_revoked(const mvpn_view *view, const view_relay *relay)
{
    return relay->d.has_membership && view_is_revoked(view, relay->serial);
}

static int put_revocations(mvpn_view *view, mvpn_bytes record, uint64_t unix_now)
{
    const mvpn_trust *trust = view->config.trust;
    mvpn_record_info info;
    mvpn_revocations list;
    if (view->revocations.sequence > 0 && record.n == view->revocations.encoded_len &&
        memcmp(record.p, view->revocations.encoded, record.n) == 0) {
        return MVPN_E_EXPIRED; /* what we hold */
    }
    int r = mvpn_record_verify(trust, MVPN_RECORD_REVOCATIONS, record, unix_now, &info, NULL);
    r = r != 0 ? r
               : mvpn_revocations_decode(&list, record, &trust->network_id, &trust->network_pub);
    if (r != 0) {
        return r;
    }
    if (list.sequence <= view->revocations.sequence) {
        return MVPN_E_EXPIRED;
    }
    view->revocations = list;
    (void)drop_relays(view, relay_is_revoked);
    view_revoke_discovery(view);
    return 0;
}

int mvpn_view_put(mvpn_view *view, unsigned type, mvpn_bytes record, mvpn_view_source source,
                  uint64_t unix_now)
{
    view_relay *held;
    view->now = MVPN_MAX(view->now, unix_now);
    switch (type) {
    case MVPN_RECORD_DESCRIPTOR:
        return view_put_descriptor(view, record, source, unix_now, &held);
    case MVPN_RECORD_REVOCATIONS:
        return put_revocations(view, record, unix_now);
    case MVPN_RECORD_SNAPSHOT_HEAD:
        return view_put_head(view, record, source, unix_now);
    default:
        return MVPN_E_UNKNOWN;
    }
}

static view_discovery *discovery_at_key(const mvpn_view *view, const mvpn_dht_id *key)
{
    for (size_t i = 0; i < view->discovery_count; i++) {
        if (key_eq(&view->discovery[i]->key, key)) {
            return view->discovery[i];
        }
    }
    return NULL;
}

bool mvpn_view_listed(mvpn_view *view, const mvpn_dht_id *key, uint64_t sequence,
                      mvpn_view_source source, uint64_t unix_now)
{
    view_relay *relay = view_relay_at_key(view, key);
    if (relay != NULL) {
        if (sequence == relay->d.sequence) {
            shown(view, relay, source, unix_now);
        }
        return sequence > relay->d.sequence;
    }
    if (key_eq(key, &view->revocations_key)) {
        return sequence > view->revocations.sequence;
    }
    const view_discovery *node = discovery_at_key(view, key);
    if (node != NULL) {
        return view_wants_head(node, sequence, source);
    }
    /* Outside the sample, but perhaps the head of a discovery node: its sequence is an hour. */
    uint64_t hour = unix_now / 3600;
    bool may_be_head = sequence + 48 >= hour && sequence <= hour + 1;
    return may_be_head || has_place(view, hash_sample(view, key));
}

static bool relay_is_old(const mvpn_view *view, const view_relay *relay)
{
    return relay->expires + MVPN_VALIDITY_TOLERANCE_S < view->now;
}

void mvpn_view_expire(mvpn_view *view, uint64_t unix_now)
{
    view->now = unix_now;
    (void)drop_relays(view, relay_is_old);
    view_expire_discovery(view, unix_now);
}

/* ---- asking ---- */

const mvpn_descriptor *mvpn_view_find(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    const view_relay *relay = view_relay_of(view, identity);
    return relay == NULL ? NULL : &relay->d;
}

size_t mvpn_view_count(const mvpn_view *view)
{
    return view->count;
}

const mvpn_descriptor *mvpn_view_at(const mvpn_view *view, size_t index)
{
    return &view->relays[index]->d;
}

static void info_of(const mvpn_view *view, const view_relay *relay, mvpn_view_info *ret)
{
    const view_measure *m = &relay->measure;
    *ret = (mvpn_view_info){
        .is_confirmed = relay->is_confirmed,
        .is_dead = m->is_dead,
        .country_wrong = m->country_wrong,
        .is_unshown = !view->config.trust->closed && !relay->is_local && relay->source_count == 0,
        .cap_log2 = m->count >= MVPN_VIEW_MEASURES_MIN ? m->cap_log2 : view->network_cap,
        .uptime_h = m->uptime_h,
        .first_seen = relay->first_seen,
        .last_shown = relay->last_shown,
    };
}

void mvpn_view_get_info(const mvpn_view *view, size_t index, mvpn_view_info *ret)
{
    info_of(view, view->relays[index], ret);
}

bool mvpn_view_find_info(const mvpn_view *view, const mvpn_ed25519_pub *identity,
                         mvpn_view_info *ret)
{
    const view_relay *relay = view_relay_of(view, identity);
    if (relay != NULL) {
        info_of(view, relay, ret);
    }
    return relay != NULL;
}

typedef struct candidates {
    const mvpn_descriptor *of[CANDIDATES_MAX];
    size_t count;
} candidates;

/* A relay behind a NAT is no guard, and nothing without a NAT relay that is known. (§14.3) */
static bool can_be(const mvpn_view *view, const mvpn_descriptor *d, uint16_t role)
{
    bool is_reached = d->nat_relay_count == 0;
    for (size_t i = 0; i < d->nat_relay_count && role != MVPN_ROLE_GUARD; i++) {
        is_reached |= mvpn_view_find(view, &d->nat_relays[i].identity) != NULL;
    }
    return (d->roles & role) != 0 && is_reached;
}

static void add_candidate(candidates *c, const mvpn_view *view, const mvpn_descriptor *d,
                          uint16_t role)
{
    if (c->count < CANDIDATES_MAX && can_be(view, d, role)) {
        c->of[c->count++] = d;
    }
}

static bool has_middle(const mvpn_view *view, const candidates *middles,
                       const mvpn_descriptor *guard, const mvpn_descriptor *exit)
{
    unsigned relax = view->config.relax;
    for (size_t i = 0; i < middles->count; i++) {
        if (mvpn_path_are_distinct(view, middles->of[i], guard, relax) &&
            mvpn_path_are_distinct(view, middles->of[i], exit, relax)) {
            return true;
        }
    }
    return false;
}

bool mvpn_view_is_confirmed(const mvpn_view *view)
{
    candidates guards = {.count = 0}, middles = {.count = 0}, exits = {.count = 0};
    unsigned relax = view->config.relax;
    if (view->confirmed_count < 3) {
        return false;
    }
    for (size_t i = 0; i < view->count; i++) {
        if (view->relays[i]->is_confirmed) {
            add_candidate(&guards, view, &view->relays[i]->d, MVPN_ROLE_GUARD);
            add_candidate(&middles, view, &view->relays[i]->d, MVPN_ROLE_MIDDLE);
            add_candidate(&exits, view, &view->relays[i]->d, MVPN_ROLE_EXIT);
        }
    }
    for (size_t e = 0; e < exits.count; e++) {
        for (size_t g = 0; g < guards.count; g++) {
            if (mvpn_path_are_distinct(view, exits.of[e], guards.of[g], relax) &&
                has_middle(view, &middles, guards.of[g], exits.of[e])) {
                return true;
            }
        }
    }
    return false;
}

const mvpn_revocations *mvpn_view_revocations(const mvpn_view *view)
{
    return &view->revocations;
}

/* ---- as a directory sees it ---- */

/* Records that are no descriptors, ascending by key; returns how many. */
static size_t others_list(const mvpn_view *view,
                          mvpn_dht_listed ret[static MVPN_VIEW_HEADS_MAX + 1])
{
    size_t n = 0;
    if (view->revocations.sequence > 0) {
        ret[n++] = (mvpn_dht_listed){view->revocations_key, view->revocations.sequence};
    }
    for (size_t i = 0; i < view->discovery_count; i++) {
        ret[n++] = (mvpn_dht_listed){view->discovery[i]->key, view->discovery[i]->head.hour};
    }
    for (size_t i = 1; i < n; i++) {
        mvpn_dht_listed one = ret[i];
        size_t j = i;
        for (; j > 0 && memcmp(ret[j - 1].key.b, one.key.b, sizeof(one.key.b)) > 0; j--) {
            ret[j] = ret[j - 1];
        }
        ret[j] = one;
    }
    return n;
}

static bool shares_prefix(const mvpn_dht_id *a, const mvpn_dht_id *b, unsigned bits)
{
    return mvpn_ip_in_prefix(a->b, b->b, sizeof(a->b), bits);
}

size_t mvpn_view_list(const mvpn_view *view, const mvpn_dht_id *cursor, unsigned bits,
                      mvpn_dht_listed *ret, size_t max, bool *ret_more)
{
    mvpn_dht_listed others[MVPN_VIEW_HEADS_MAX + 1];
    size_t other_count = others_list(view, others), other = 0, count = 0;
    size_t i = lower_bound(view, cursor);
    while (other < other_count && memcmp(others[other].key.b, cursor->b, sizeof(cursor->b)) < 0) {
        other++;
    }
    *ret_more = false;
    for (;;) {
        while (i < view->count && view->relays[i]->d.encoded_len == 0) {
            i++;
        }
        const view_relay *relay = i < view->count ? view->relays[i] : NULL;
        mvpn_dht_listed next;
        if (relay != NULL && (other == other_count || memcmp(relay->key.b, others[other].key.b,
                                                             sizeof(relay->key.b)) < 0)) {
            next = (mvpn_dht_listed){relay->key, relay->d.sequence};
            i++;
        } else if (other < other_count) {
            next = others[other++];
        } else {
            return count;
        }
        if (!shares_prefix(&next.key, cursor, bits)) {
            return count;
        }
        if (count == max) {
            *ret_more = true;
            return count;
        }
        ret[count++] = next;
    }
}

size_t mvpn_view_record_count(const mvpn_view *view)
{
    return view->count - view->unsigned_count + view->discovery_count +
           (view->revocations.sequence > 0);
}

bool mvpn_view_record(const mvpn_view *view, const mvpn_dht_id *key, uint8_t *ret_type,
                      mvpn_bytes *ret_record)
{
    const view_relay *relay = view_relay_at_key(view, key);
    if (relay != NULL && relay->d.encoded_len > 0) {
        *ret_type = MVPN_RECORD_DESCRIPTOR;
        *ret_record = mvpn_bytes_of(relay->d.encoded, relay->d.encoded_len);
        return true;
    }
    if (view->revocations.sequence > 0 && key_eq(key, &view->revocations_key)) {
        *ret_type = MVPN_RECORD_REVOCATIONS;
        *ret_record = mvpn_bytes_of(view->revocations.encoded, view->revocations.encoded_len);
        return true;
    }
    const view_discovery *node = discovery_at_key(view, key);
    if (node != NULL) {
        *ret_type = MVPN_RECORD_SNAPSHOT_HEAD;
        *ret_record = mvpn_bytes_of(node->head.encoded, node->head.encoded_len);
        return true;
    }
    return false;
}
