#include "dht/lookup.h"

#include "base/assert.h"

void mvpn_dht_shortlist_init(mvpn_dht_shortlist *l, const mvpn_dht_id *target, bool wants_value,
                             unsigned paths)
{
    MVPN_ASSERT(paths >= 1 && paths <= MVPN_DHT_PATHS_MAX);
    memset(l, 0,
           offsetof(mvpn_dht_shortlist, order)); /* candidates are written before they count */
    l->target = *target;
    l->wants_value = wants_value;
    l->paths = (uint8_t)paths;
    l->asks_max = MVPN_DHT_PATH_ASKS_MAX;
    l->agree = MVPN_DHT_AGREE;
}

static const mvpn_dht_candidate *at(const mvpn_dht_shortlist *l, size_t i)
{
    return &l->candidates[l->order[i]];
}

/* The first place in the order that is not nearer than `id`. */
static size_t place_of(const mvpn_dht_shortlist *l, const mvpn_dht_id *id)
{
    size_t from = 0, to = l->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (mvpn_dht_compare(&l->target, &at(l, middle)->contact.id, id) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

/* A full shortlist forgets the farthest that was never asked, if it is farther than `place`. */
static bool make_room(mvpn_dht_shortlist *l, size_t place, uint8_t *ret_slot)
{
    if (l->count < MVPN_DHT_SHORTLIST_MAX) {
        *ret_slot = l->count;
        return true;
    }
    for (size_t i = l->count; i-- > place;) {
        if (at(l, i)->state == MVPN_DHT_CANDIDATE_NEW) {
            *ret_slot = l->order[i];
            l->count--;
            memmove(&l->order[i], &l->order[i + 1], l->count - i);
            return true;
        }
    }
    return false;
}

static void add(mvpn_dht_shortlist *l, const mvpn_dht_contact *c, unsigned path, unsigned depth)
{
    size_t place = place_of(l, &c->id);
    uint8_t slot;
    if (place < l->count && mvpn_dht_id_eq(&at(l, place)->contact.id, &c->id)) {
        mvpn_dht_candidate *known = &l->candidates[l->order[place]];
        known->known |= (uint8_t)(1u << path);
        return;
    }
    if (!make_room(l, place, &slot)) {
        return;
    }
    l->candidates[slot] = (mvpn_dht_candidate){
        .contact = *c,
        .block = mvpn_dht_block_of(&c->addr),
        .wide = mvpn_dht_wide_of(&c->addr),
        .state = MVPN_DHT_CANDIDATE_NEW,
        .known = (uint8_t)(1u << path),
        .path = (uint8_t)path,
        .depth = (uint8_t)MVPN_MIN(depth, 255u),
    };
    memmove(&l->order[place + 1], &l->order[place], l->count - place);
    l->order[place] = slot;
    l->count++;
}

void mvpn_dht_shortlist_deal(mvpn_dht_shortlist *l, const mvpn_dht_contact *c)
{
    add(l, c, l->dealt, 1);
    l->dealt = (uint8_t)((l->dealt + 1u) % l->paths);
}

void mvpn_dht_shortlist_named(mvpn_dht_shortlist *l, const mvpn_dht_candidate *by,
                              const mvpn_dht_contact *c)
{
    add(l, c, by->path, by->depth + 1u);
}

/* Overdue ones are passed over, unless all hope for a value lies with them. */
static bool slow_counts(const mvpn_dht_shortlist *l)
{
    if (!l->wants_value) {
        return false;
    }
    for (size_t i = 0; i < l->count; i++) {
        if (at(l, i)->has_value) {
            return false;
        }
    }
    return true;
}

/* The next of a path: nearest first within its K closest and their quotas. `*ret_ended`: all of
 * these have answered or failed. */
static mvpn_dht_candidate *path_next(const mvpn_dht_shortlist *l, unsigned path, bool slow,
                                     bool *ret_ended)
{
    mvpn_dht_quota quota;
    quota.count = 0;
    *ret_ended = true;
    for (size_t i = 0; i < l->count && quota.count < MVPN_DHT_K; i++) {
        const mvpn_dht_candidate *c = at(l, i);
        if (!(c->known & 1u << path) || c->state == MVPN_DHT_CANDIDATE_FAILED ||
            (c->state == MVPN_DHT_CANDIDATE_SLOW && !slow) ||
            !mvpn_dht_quota_take(&quota, c->block, c->wide)) {
            continue;
        }
        if (c->state == MVPN_DHT_CANDIDATE_NEW) {
            *ret_ended = false;
            return (mvpn_dht_candidate *)&l->candidates[l->order[i]];
        }
        if (c->state != MVPN_DHT_CANDIDATE_ANSWERED) {
            *ret_ended = false;
        }
    }
    return NULL;
}

mvpn_dht_candidate *mvpn_dht_shortlist_next(mvpn_dht_shortlist *l)
{
    bool slow = slow_counts(l), ended;
    mvpn_dht_candidate *best = NULL;
    unsigned best_path = 0;
    for (unsigned p = 0; p < l->paths; p++) {
        if (l->in_flight[p] >= MVPN_DHT_ALPHA || l->asks[p] >= l->asks_max) {
            continue;
        }
        mvpn_dht_candidate *c = path_next(l, p, slow, &ended);
        /* Turns: the path that has asked least. */
        if (c != NULL && (best == NULL || l->asks[p] < l->asks[best_path])) {
            best = c;
            best_path = p;
        }
    }
    if (best != NULL) {
        best->state = MVPN_DHT_CANDIDATE_ASKED;
        best->path = (uint8_t)best_path;
        l->in_flight[best_path]++;
        l->asks[best_path]++;
    }
    return best;
}

/* No longer one of the alpha that its path waits for. */
static void landed(mvpn_dht_shortlist *l, mvpn_dht_candidate *c,
                   enum mvpn_dht_candidate_state state)
{
    if (c->state == MVPN_DHT_CANDIDATE_ASKED) {
        l->in_flight[c->path]--;
    }
    c->state = (uint8_t)state;
}

void mvpn_dht_shortlist_unask(mvpn_dht_shortlist *l, mvpn_dht_candidate *c)
{
    landed(l, c, MVPN_DHT_CANDIDATE_NEW);
    l->asks[c->path]--;
}

void mvpn_dht_shortlist_slow(mvpn_dht_shortlist *l, mvpn_dht_candidate *c)
{
    if (c->state == MVPN_DHT_CANDIDATE_ASKED) {
        landed(l, c, MVPN_DHT_CANDIDATE_SLOW);
    }
}

void mvpn_dht_shortlist_failed(mvpn_dht_shortlist *l, mvpn_dht_candidate *c)
{
    if (c->state != MVPN_DHT_CANDIDATE_ANSWERED) {
        landed(l, c, MVPN_DHT_CANDIDATE_FAILED);
    }
}

void mvpn_dht_shortlist_answered(mvpn_dht_shortlist *l, mvpn_dht_candidate *c)
{
    landed(l, c, MVPN_DHT_CANDIDATE_ANSWERED);
}

void mvpn_dht_shortlist_has_value(mvpn_dht_shortlist *l, mvpn_dht_candidate *c, uint64_t sequence)
{
    landed(l, c, MVPN_DHT_CANDIDATE_ANSWERED);
    c->has_value = true;
    c->sequence = sequence;
}

/* The `agree` closest known all say the same value: nobody nearer is left who could know a newer
 * one. */
static bool closest_agree(const mvpn_dht_shortlist *l)
{
    mvpn_dht_quota quota;
    const mvpn_dht_candidate *first = NULL;
    quota.count = 0;
    for (size_t i = 0; i < l->count && quota.count < l->agree; i++) {
        const mvpn_dht_candidate *c = at(l, i);
        if (c->state == MVPN_DHT_CANDIDATE_FAILED || c->state == MVPN_DHT_CANDIDATE_SLOW ||
            !mvpn_dht_quota_take(&quota, c->block, c->wide)) {
            continue;
        }
        if (!c->has_value || (first != NULL && c->sequence != first->sequence)) {
            return false;
        }
        first = c;
    }
    return quota.count >= l->agree;
}

static bool all_ended(const mvpn_dht_shortlist *l)
{
    bool slow = slow_counts(l), ended;
    for (unsigned p = 0; p < l->paths; p++) {
        (void)path_next(l, p, slow, &ended);
        if (!ended && (l->asks[p] < l->asks_max || l->in_flight[p] > 0)) {
            return false;
        }
    }
    return true;
}

bool mvpn_dht_shortlist_is_done(const mvpn_dht_shortlist *l)
{
    return (l->wants_value && closest_agree(l)) || all_ended(l);
}

/* A value: some of the closest have another, or none. */
static bool values_differ(const mvpn_dht_candidate *const *near, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (near[i]->has_value != near[0]->has_value || near[i]->sequence != near[0]->sequence) {
            return true;
        }
    }
    return false;
}

/* Nodes: a path that was answered knows not even half of the closest that answered. */
static bool places_differ(const mvpn_dht_shortlist *l, const mvpn_dht_candidate *const *near,
                          size_t count)
{
    size_t first = MVPN_MIN(count, (size_t)MVPN_DHT_AGREE);
    for (unsigned p = 0; p < l->paths; p++) {
        size_t knows = 0;
        for (size_t i = 0; i < first; i++) {
            knows += near[i]->known >> p & 1;
        }
        if (l->asks[p] > 0 && knows * 2 < first) {
            return true;
        }
    }
    return false;
}

bool mvpn_dht_shortlist_disagrees(const mvpn_dht_shortlist *l)
{
    const mvpn_dht_candidate *near[MVPN_DHT_K];
    size_t count = mvpn_dht_shortlist_closest(l, near);
    return l->wants_value ? values_differ(near, count) : places_differ(l, near, count);
}

void mvpn_dht_shortlist_widen(mvpn_dht_shortlist *l)
{
    unsigned path = l->paths;
    if (l->paths != MVPN_DHT_PATHS) {
        return;
    }
    l->paths = MVPN_DHT_PATHS_MAX;
    for (size_t i = 0; i < l->count; i++) {
        mvpn_dht_candidate *c = &l->candidates[l->order[i]];
        if (c->state == MVPN_DHT_CANDIDATE_NEW) {
            c->known = (uint8_t)(1u << path);
            path = path + 1 < l->paths ? path + 1 : MVPN_DHT_PATHS;
        }
    }
    l->dealt = MVPN_DHT_PATHS;
}

size_t mvpn_dht_shortlist_closest(const mvpn_dht_shortlist *l,
                                  const mvpn_dht_candidate *ret[static MVPN_DHT_K])
{
    mvpn_dht_quota quota;
    quota.count = 0;
    for (size_t i = 0; i < l->count; i++) {
        const mvpn_dht_candidate *c = at(l, i);
        if (c->state == MVPN_DHT_CANDIDATE_ANSWERED &&
            mvpn_dht_quota_take(&quota, c->block, c->wide)) {
            ret[quota.count - 1] = c;
        }
    }
    return quota.count;
}
