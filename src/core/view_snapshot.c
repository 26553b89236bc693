/*
 * Discovery nodes as the view knows them: their heads, whether they show everybody the same list,
 * their snapshots and what follows from these for relays. (docs/protocol.md §8.5, §8.6)
 */
#include <stdlib.h>
#include <string.h>

#include "core/view_internal.h"

#define S_PER_HOUR 3600u
/* What a snapshot says of a relay being dead is news for so long. */
#define ALIVE_HOURS 3
/* Its measurements are better than none for longer: discovery nodes may all be gone. */
#define SNAPSHOT_HOURS 26
/* A relay younger than this may not have reached everybody. */
#define SETTLED_S (2 * 3600u)
#define IDENTITY_AT 1 /* in a snapshot (§8.6) */

view_discovery *view_discovery_of(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < view->discovery_count; i++) {
        view_discovery *node = view->discovery[i];
        if (memcmp(node->head.identity.b, identity->b, sizeof(identity->b)) == 0) {
            return node;
        }
    }
    return NULL;
}

void view_discovery_done(view_discovery *node)
{
    if (node != NULL) {
        free(node->snapshot);
        free(node);
    }
}

static void drop_snapshot(view_discovery *node)
{
    free(node->snapshot);
    node->snapshot = NULL;
    node->snapshot_len = 0;
}

static void drop_node(mvpn_view *view, size_t index)
{
    view_discovery_done(view->discovery[index]);
    view->discovery[index] = view->discovery[--view->discovery_count];
}

/* A place for one more: the node heard of longest ago gives way to a newer hour. Caught ones stay:
 * who comes again under the same identity is still caught. */
static int make_node(mvpn_view *view, const mvpn_snapshot_head *head, view_discovery **ret)
{
    if (view->discovery_count == MVPN_VIEW_HEADS_MAX) {
        size_t oldest = MVPN_VIEW_HEADS_MAX;
        uint64_t hour = head->hour;
        for (size_t i = 0; i < view->discovery_count; i++) {
            const view_discovery *node = view->discovery[i];
            if (!node->is_caught && node->head.hour < hour) {
                hour = node->head.hour;
                oldest = i;
            }
        }
        if (oldest == MVPN_VIEW_HEADS_MAX) {
            return MVPN_E_LIMIT;
        }
        drop_node(view, oldest);
    }
    view_discovery *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return MVPN_E_NOMEM;
    }
    mvpn_snapshot_head_key(&node->key, &view->config.trust->network_id, &head->identity);
    node->head = *head;
    view->discovery[view->discovery_count++] = node;
    *ret = node;
    return 0;
}

/* ---- heads ---- */

static void remember_hour(view_discovery *node, const mvpn_snapshot_head *head)
{
    node->hours[node->hour_next++ % VIEW_HOURS_MAX] = (view_hour){head->hour, head->digest};
}

static const view_hour *shown_in_hour(const view_discovery *node, uint64_t hour)
{
    for (size_t i = 0; i < MVPN_MIN(node->hour_next, (size_t)VIEW_HOURS_MAX); i++) {
        if (node->hours[i].hour == hour) {
            return &node->hours[i];
        }
    }
    return NULL;
}

static void note_head_source(view_discovery *node, mvpn_view_source source)
{
    for (size_t i = 0; i < node->shown_count; i++) {
        if (node->shown_by[i] == source) {
            return;
        }
    }
    if (node->shown_count < VIEW_HEAD_SOURCES_MAX) {
        node->shown_by[node->shown_count++] = source;
    }
}

bool view_wants_head(const view_discovery *node, uint64_t hour, mvpn_view_source source)
{
    if (node->is_caught || hour != node->head.hour) {
        return !node->is_caught && hour > node->head.hour;
    }
    /* The same hour is no proof of the same list: each source is asked once for its head. */
    for (size_t i = 0; i < node->shown_count; i++) {
        if (node->shown_by[i] == source) {
            return false;
        }
    }
    return node->shown_count < VIEW_HEAD_SOURCES_MAX;
}

static void set_proof(view_discovery *node, unsigned which, const uint8_t *head, size_t n)
{
    memcpy(node->proof[which], head, n);
    node->proof_len[which] = (uint16_t)n;
}

static void catch_node(mvpn_view *view, view_discovery *node)
{
    node->is_caught = true;
    view->equivocations++;
    drop_snapshot(node);
    view_purge_sources(view);
    view_measure_all(view);
}

/* A head that the view holds, byte for byte. */
static view_discovery *holder_of(const mvpn_view *view, mvpn_bytes record)
{
    for (size_t i = 0; i < view->discovery_count; i++) {
        const mvpn_snapshot_head *head = &view->discovery[i]->head;
        if (head->encoded_len == record.n && memcmp(head->encoded, record.p, record.n) == 0) {
            return view->discovery[i];
        }
    }
    return NULL;
}

/* Of a node we know: is it news, old, or the proof that it cheats? */
static int judge_head(mvpn_view *view, view_discovery *node, const mvpn_snapshot_head *head)
{
    const view_hour *before = shown_in_hour(node, head->hour);
    if (node->is_caught) {
        return MVPN_E_POLICY;
    }
    if (before != NULL && !mvpn_key_eq(&before->digest, &head->digest)) {
        /* Of the latest hour we have both heads: the proof that the cache keeps. */
        if (node->head.hour == head->hour) {
            set_proof(node, 0, node->head.encoded, node->head.encoded_len);
            set_proof(node, 1, head->encoded, head->encoded_len);
        }
        catch_node(view, node);
        return MVPN_E_POLICY;
    }
    if (head->hour <= node->head.hour) {
        if (before == NULL) {
            remember_hour(node, head);
        }
        return MVPN_E_EXPIRED;
    }
    return 0;
}

int view_put_head(mvpn_view *view, mvpn_bytes record, mvpn_view_source source, uint64_t unix_now)
{
    const mvpn_trust *trust = view->config.trust;
    mvpn_snapshot_head head;
    mvpn_record_info info;
    view_discovery *node = holder_of(view, record);
    if (node != NULL) {
        note_head_source(node, source);
        return MVPN_E_EXPIRED;
    }
    int r = mvpn_record_verify(trust, MVPN_RECORD_SNAPSHOT_HEAD, record, unix_now, &info, NULL);
    r = r != 0 ? r : mvpn_snapshot_head_decode(&head, record, &trust->network_id);
    r = r != 0 ? r
               : mvpn_trust_vouches(trust, &head.identity,
                                    head.has_membership ? MVPN_BYTES_ARRAY(head.membership)
                                                        : MVPN_BYTES_NONE,
                                    MVPN_ROLE_DISCOVERY, true, unix_now);
    if (r != 0) {
        return r;
    }
    if (head.has_membership && view_is_revoked(view, view_serial(head.membership))) {
        return MVPN_E_POLICY;
    }
    node = view_discovery_of(view, &head.identity);
    r = node == NULL ? make_node(view, &head, &node) : judge_head(view, node, &head);
    if (r != 0) {
        return r;
    }
    node->head = head;
    node->expires = info.expires;
    node->shown_count = 0;
    note_head_source(node, source);
    remember_hour(node, &head);
    return 0;
}

int view_put_proof(mvpn_view *view, mvpn_bytes a, mvpn_bytes b)
{
    const mvpn_key *network_id = &view->config.trust->network_id;
    mvpn_snapshot_head heads[2];
    view_discovery *node;
    int r = mvpn_snapshot_head_decode(&heads[0], a, network_id);
    r = r != 0 ? r : mvpn_snapshot_head_decode(&heads[1], b, network_id);
    if (r != 0) {
        return r;
    }
    /* No time is asked and no certificate: the node has signed both, whenever that was. */
    if (memcmp(&heads[0].identity, &heads[1].identity, sizeof(heads[0].identity)) != 0 ||
        heads[0].hour != heads[1].hour || mvpn_key_eq(&heads[0].digest, &heads[1].digest)) {
        return MVPN_E_POLICY;
    }
    node = view_discovery_of(view, &heads[0].identity);
    r = node == NULL ? make_node(view, &heads[0], &node) : 0;
    if (r != 0 || node->is_caught) {
        return r != 0 ? r : MVPN_E_EXPIRED;
    }
    set_proof(node, 0, a.p, a.n);
    set_proof(node, 1, b.p, b.n);
    catch_node(view, node);
    return 0;
}

static const view_discovery *honest_at(const mvpn_view *view, size_t index)
{
    for (size_t i = 0; i < view->discovery_count; i++) {
        if (!view->discovery[i]->is_caught && index-- == 0) {
            return view->discovery[i];
        }
    }
    return NULL;
}

size_t mvpn_view_head_count(const mvpn_view *view)
{
    size_t count = 0;
    for (size_t i = 0; i < view->discovery_count; i++) {
        count += !view->discovery[i]->is_caught;
    }
    return count;
}

const mvpn_snapshot_head *mvpn_view_head_at(const mvpn_view *view, size_t index)
{
    const view_discovery *node = honest_at(view, index);
    return node == NULL ? NULL : &node->head;
}

size_t mvpn_view_equivocations(const mvpn_view *view)
{
    return view->equivocations;
}

/* ---- snapshots ---- */

static size_t held_count(const mvpn_view *view)
{
    size_t count = 0;
    for (size_t i = 0; i < view->discovery_count; i++) {
        count += view->discovery[i]->snapshot != NULL;
    }
    return count;
}

/* Of the snapshots held, one that a snapshot of `hour` may displace; NULL if there is none. */
static view_discovery *displaced_by(const mvpn_view *view, uint64_t hour)
{
    view_discovery *oldest = NULL;
    for (size_t i = 0; i < view->discovery_count; i++) {
        view_discovery *node = view->discovery[i];
        /* An hour's difference is how the clock runs; two say that its node has stopped. */
        if (node->snapshot != NULL && node->snapshot_head.hour + 2 <= hour &&
            (oldest == NULL || node->snapshot_head.hour < oldest->snapshot_head.hour)) {
            oldest = node;
        }
    }
    return oldest;
}

static bool is_wanted(const mvpn_view *view, const view_discovery *node)
{
    if (node->is_caught ||
        (node->snapshot != NULL && node->snapshot_head.hour == node->head.hour)) {
        return false;
    }
    return node->snapshot != NULL || held_count(view) < MVPN_VIEW_SNAPSHOTS_MAX ||
           displaced_by(view, node->head.hour) != NULL;
}

const mvpn_snapshot_head *mvpn_view_head_wanted(const mvpn_view *view, uint64_t unix_now)
{
    const mvpn_snapshot_head *best = NULL;
    for (size_t i = 0; i < view->discovery_count; i++) {
        const view_discovery *node = view->discovery[i];
        bool is_fresh = (node->head.hour + SNAPSHOT_HOURS) * S_PER_HOUR > unix_now;
        if (is_fresh && is_wanted(view, node) && (best == NULL || node->head.hour > best->hour)) {
            best = &node->head;
        }
    }
    return best;
}

int mvpn_view_put_snapshot(mvpn_view *view, mvpn_bytes snapshot, uint64_t unix_now)
{
    mvpn_ed25519_pub identity;
    if (snapshot.n < MVPN_SNAPSHOT_FIXED || snapshot.n > MVPN_SNAPSHOT_LEN_MAX) {
        return MVPN_E_FORMAT;
    }
    memcpy(identity.b, snapshot.p + IDENTITY_AT, sizeof(identity.b));
    view_discovery *node = view_discovery_of(view, &identity);
    if (node == NULL || node->is_caught) {
        return MVPN_E_UNKNOWN;
    }
    int r = mvpn_snapshot_check(snapshot, &node->head);
    if (r != 0) {
        return r;
    }
    if (!is_wanted(view, node)) {
        return node->snapshot != NULL ? 0 : MVPN_E_LIMIT;
    }
    uint8_t *copy = malloc(snapshot.n);
    if (copy == NULL) {
        return MVPN_E_NOMEM;
    }
    memcpy(copy, snapshot.p, snapshot.n);
    if (node->snapshot == NULL && held_count(view) >= MVPN_VIEW_SNAPSHOTS_MAX) {
        drop_snapshot(displaced_by(view, node->head.hour));
    }
    drop_snapshot(node);
    node->snapshot = copy;
    node->snapshot_len = snapshot.n;
    node->snapshot_head = node->head;
    view->now = MVPN_MAX(view->now, unix_now);
    view_measure_all(view);
    return 0;
}

static mvpn_bytes snapshot_of(const view_discovery *node)
{
    return mvpn_bytes_of(node->snapshot, node->snapshot_len);
}

mvpn_bytes mvpn_view_snapshot(const mvpn_view *view, const mvpn_key *digest)
{
    for (size_t i = 0; i < view->discovery_count; i++) {
        const view_discovery *node = view->discovery[i];
        if (node->snapshot != NULL && mvpn_key_eq(&node->snapshot_head.digest, digest)) {
            return snapshot_of(node);
        }
    }
    return MVPN_BYTES_NONE;
}

/* ---- what snapshots say of relays ---- */

/* One relay in all snapshots. */
typedef struct findings {
    const view_discovery *node[MVPN_VIEW_SNAPSHOTS_MAX];
    mvpn_snapshot_entry entry[MVPN_VIEW_SNAPSHOTS_MAX];
    unsigned count;
} findings;

static bool is_news(const mvpn_view *view, const view_discovery *node)
{
    return (node->snapshot_head.hour + ALIVE_HOURS) * S_PER_HOUR > view->now;
}

/* Lower median; sorts `v`. */
static uint16_t median(uint16_t *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        uint16_t one = v[i];
        unsigned j = i;
        for (; j > 0 && v[j - 1] > one; j--) {
            v[j] = v[j - 1];
        }
        v[j] = one;
    }
    return v[(n - 1) / 2];
}

static void conclude(const mvpn_view *view, const view_relay *relay, const findings *f,
                     unsigned snapshots_of_late, view_measure *ret)
{
    uint16_t caps[MVPN_VIEW_SNAPSHOTS_MAX], uptimes[MVPN_VIEW_SNAPSHOTS_MAX];
    unsigned cap_count = 0, dead = 0;
    *ret = (view_measure){.cap_log2 = MVPN_SNAPSHOT_UNMEASURED};
    for (unsigned i = 0; i < f->count; i++) {
        const mvpn_snapshot_entry *e = &f->entry[i];
        uptimes[i] = e->uptime_h;
        if (e->bandwidth_log2 != MVPN_SNAPSHOT_UNMEASURED) {
            caps[cap_count++] = e->bandwidth_log2;
        }
        ret->country_wrong |= (e->flags & MVPN_SNAPSHOT_COUNTRY_WRONG) != 0;
        /* A newer descriptor than the one that did not answer shows that it lived since. */
        dead += (e->flags & MVPN_SNAPSHOT_ALIVE) == 0 && is_news(view, f->node[i]) &&
                memcmp(e->digest, relay->digest, sizeof(e->digest)) == 0;
    }
    if (f->count > 0) {
        ret->uptime_h = median(uptimes, f->count);
    }
    if (cap_count > 0) {
        ret->cap_log2 = (uint8_t)median(caps, cap_count);
        ret->count = (uint8_t)cap_count;
    }
    ret->is_dead = dead >= 2 || (dead == 1 && snapshots_of_late == 1);
}

static unsigned snapshots_of_late(const mvpn_view *view)
{
    unsigned count = 0;
    for (size_t i = 0; i < view->discovery_count; i++) {
        count += view->discovery[i]->snapshot != NULL && is_news(view, view->discovery[i]);
    }
    return count;
}

static mvpn_view_source source_of_node(const mvpn_view *view, const view_discovery *node)
{
    const mvpn_descriptor *d = mvpn_view_find(view, &node->head.identity);
    return d == NULL ? 0 : mvpn_view_source_of(view, d, NULL); /* unknown operators count nothing */
}

/* What a snapshot has under a key, from entry `*index` on, which moves on; false: nothing. */
static bool advance_to(const view_discovery *node, const mvpn_dht_id *key, uint32_t *index,
                       mvpn_snapshot_entry *ret)
{
    while (*index < node->snapshot_head.entries) {
        mvpn_snapshot_at(snapshot_of(node), *index, ret);
        int order = memcmp(ret->key.b, key->b, sizeof(key->b));
        if (order >= 0) {
            return order == 0;
        }
        (*index)++;
    }
    return false;
}

/* Index of the first entry that is not below `key`. */
static uint32_t entry_from(const view_discovery *node, const mvpn_dht_id *key)
{
    uint32_t low = 0, high = node->snapshot_head.entries;
    mvpn_snapshot_entry e;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        mvpn_snapshot_at(snapshot_of(node), middle, &e);
        if (memcmp(e.key.b, key->b, sizeof(key->b)) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Relays from `first` on, `count` of them, in one pass over all snapshots. */
static void measure_span(mvpn_view *view, view_relay **first, size_t count)
{
    uint32_t index[MVPN_VIEW_HEADS_MAX] = {0};
    mvpn_view_source sources[MVPN_VIEW_HEADS_MAX] = {0};
    unsigned of_late = snapshots_of_late(view);
    for (size_t n = 0; n < view->discovery_count && count > 0; n++) {
        if (view->discovery[n]->snapshot != NULL) {
            index[n] = entry_from(view->discovery[n], &first[0]->key);
            sources[n] = source_of_node(view, view->discovery[n]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        findings f = {.count = 0};
        for (size_t n = 0; n < view->discovery_count; n++) {
            const view_discovery *node = view->discovery[n];
            mvpn_snapshot_entry *e = &f.entry[f.count];
            if (node->snapshot == NULL || !advance_to(node, &first[i]->key, &index[n], e)) {
                continue;
            }
            if (memcmp(e->digest, first[i]->digest, sizeof(e->digest)) == 0) {
                view_credit(view, first[i], sources[n]); /* it has shown exactly this one */
            }
            f.node[f.count++] = node;
            if (f.count == MVPN_VIEW_SNAPSHOTS_MAX) {
                break;
            }
        }
        conclude(view, first[i], &f, of_late, &first[i]->measure);
    }
}

void view_measure_one(mvpn_view *view, view_relay *relay)
{
    measure_span(view, &relay, 1);
}

void view_measure_all(mvpn_view *view)
{
    size_t histogram[MVPN_SNAPSHOT_UNMEASURED] = {0};
    size_t total = 0, below = 0;
    measure_span(view, view->relays, view->count);
    for (size_t i = 0; i < view->count; i++) {
        const view_measure *m = &view->relays[i]->measure;
        if (m->count > 0) {
            histogram[m->cap_log2]++;
            total++;
        }
    }
    view->network_cap = MVPN_SNAPSHOT_UNMEASURED;
    for (unsigned cap = 0; cap < MVPN_SNAPSHOT_UNMEASURED && total > 0; cap++) {
        below += histogram[cap];
        if (below * 4 >= total) {
            view->network_cap = (uint8_t)cap;
            return;
        }
    }
}

size_t mvpn_view_snapshot_misses(const mvpn_view *view, const mvpn_ed25519_pub *identity,
                                 size_t *ret_expected)
{
    const view_discovery *node = view_discovery_of(view, identity);
    size_t misses = 0;
    uint32_t index = 0;
    mvpn_snapshot_entry e;
    *ret_expected = 0;
    if (node == NULL || node->snapshot == NULL) {
        return 0;
    }
    uint64_t settled = node->snapshot_head.hour * S_PER_HOUR - SETTLED_S;
    for (size_t i = 0; i < view->count; i++) {
        const view_relay *relay = view->relays[i];
        /* On a first run everything is new to us; other discovery nodes know how old it is. */
        bool is_settled = relay->first_seen <= settled || relay->measure.uptime_h >= 2;
        if (!relay->is_confirmed || !is_settled || relay->d.roles == 0) {
            continue;
        }
        (*ret_expected)++;
        misses += !advance_to(node, &relay->key, &index, &e);
    }
    return misses;
}

bool mvpn_view_snapshot_is_partial(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    size_t expected;
    size_t misses = mvpn_view_snapshot_misses(view, identity, &expected);
    return misses * 10 > expected;
}

/* ---- time and revocation ---- */

void view_expire_discovery(mvpn_view *view, uint64_t unix_now)
{
    for (size_t i = view->discovery_count; i-- > 0;) {
        view_discovery *node = view->discovery[i];
        if (node->snapshot != NULL &&
            (node->snapshot_head.hour + SNAPSHOT_HOURS) * S_PER_HOUR <= unix_now) {
            drop_snapshot(node);
        }
        if (!node->is_caught && node->snapshot == NULL &&
            node->expires + MVPN_VALIDITY_TOLERANCE_S < unix_now) {
            drop_node(view, i);
        }
    }
    view_measure_all(view);
}

void view_revoke_discovery(mvpn_view *view)
{
    for (size_t i = view->discovery_count; i-- > 0;) {
        const view_discovery *node = view->discovery[i];
        if (!node->is_caught && node->head.has_membership &&
            view_is_revoked(view, view_serial(node->head.membership))) {
            drop_node(view, i);
        }
    }
    view_measure_all(view);
}
