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
    memset(l->scout, MVPN_DHT_NOBODY, sizeof(l->scout));
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

/* Not asked yet, and named by somebody whose names lead nowhere. */
static bool is_doubtful(const mvpn_dht_shortlist *l, const mvpn_dht_candidate *c)
{
    if (c->state != MVPN_DHT_CANDIDATE_NEW || c->namer == MVPN_DHT_NOBODY) {
        return false;
    }
    const mvpn_dht_candidate *namer = &l->candidates[c->namer];
    return namer->named_bad >= MVPN_DHT_DOUBT && namer->named_bad > 2 * namer->named_good;
}

static void forget_at(mvpn_dht_shortlist *l, size_t i)
{
    l->count--;
    memmove(&l->order[i], &l->order[i + 1], l->count - i);
}

/* A full shortlist forgets one never asked: a doubtful one, or the farthest if it is farther than
 * `place`. */
static bool make_room(mvpn_dht_shortlist *l, size_t *place, uint8_t *ret_slot)
{
    size_t victim = l->count;
    if (l->count < MVPN_DHT_SHORTLIST_MAX) {
        *ret_slot = l->count;
        return true;
    }
    for (size_t i = l->count; i-- > 0;) {
        if (is_doubtful(l, at(l, i))) {
            victim = i;
            break;
        }
        if (victim == l->count && i >= *place && at(l, i)->state == MVPN_DHT_CANDIDATE_NEW &&
            at(l, i)->namer != MVPN_DHT_NOBODY) {
            victim = i;
        }
    }
    if (victim == l->count) {
        return false;
    }
    *ret_slot = l->order[victim];
    *place -= victim < *place;
    forget_at(l, victim);
    return true;
}

static void add(mvpn_dht_shortlist *l, const mvpn_dht_contact *c, unsigned path, unsigned depth,
                uint8_t namer)
{
    size_t place = place_of(l, &c->id);
    uint8_t slot;
    if (place < l->count && mvpn_dht_id_eq(&at(l, place)->contact.id, &c->id)) {
        mvpn_dht_candidate *known = &l->candidates[l->order[place]];
        known->known |= (uint8_t)(1u << path);
        if (is_doubtful(l, known)) {
            known->namer = namer; /* somebody else vouches for it */
        }
        return;
    }
    if (!make_room(l, &place, &slot)) {
        return;
    }
    l->candidates[slot] = (mvpn_dht_candidate){
        .contact = *c,
        .block = l->is_relaxed ? mvpn_dht_alone_of(&c->addr) : mvpn_dht_block_of(&c->addr),
        .wide = l->is_relaxed ? mvpn_dht_alone_of(&c->addr) : mvpn_dht_wide_of(&c->addr),
        .state = MVPN_DHT_CANDIDATE_NEW,
        .known = (uint8_t)(1u << path),
        .path = (uint8_t)path,
        .depth = (uint8_t)MVPN_MIN(depth, 255u),
        .namer = namer,
    };
    memmove(&l->order[place + 1], &l->order[place], l->count - place);
    l->order[place] = slot;
    l->count++;
}

void mvpn_dht_shortlist_deal(mvpn_dht_shortlist *l, const mvpn_dht_contact *c)
{
    add(l, c, l->dealt, 1, MVPN_DHT_NOBODY);
    l->dealt = (uint8_t)((l->dealt + 1u) % l->paths);
}

void mvpn_dht_shortlist_scout(mvpn_dht_shortlist *l, unsigned path, const mvpn_dht_contact *c)
{
    add(l, c, path, 1, MVPN_DHT_NOBODY);
    size_t place = place_of(l, &c->id);
    if (place < l->count && mvpn_dht_id_eq(&at(l, place)->contact.id, &c->id)) {
        l->scout[path] = l->order[place];
    }
}

void mvpn_dht_shortlist_named(mvpn_dht_shortlist *l, const mvpn_dht_candidate *by,
                              const mvpn_dht_contact *c)
{
    add(l, c, by->path, by->depth + 1u, (uint8_t)(by - l->candidates));
}

/* Overdue ones are passed over, unless the value is not sure without them, or few answer at all. */
static bool slow_counts(const mvpn_dht_shortlist *l)
{
    uint64_t newest = 0;
    unsigned holders = 0, answered = 0;
    for (size_t i = 0; i < l->count; i++) {
        const mvpn_dht_candidate *c = at(l, i);
        if (c->has_value && (holders == 0 || c->sequence > newest)) {
            newest = c->sequence;
            holders = 0;
        }
        holders += c->has_value && c->sequence == newest;
        answered += c->state == MVPN_DHT_CANDIDATE_ANSWERED;
    }
    return l->wants_value ? holders < MVPN_DHT_SURE_HOLDERS : answered < MVPN_DHT_K;
}

/* The next of a path: nearest first within its K closest and their quotas. `*ret_ended`: all of
 * these have answered or failed. */
static mvpn_dht_candidate *path_next(const mvpn_dht_shortlist *l, unsigned path, bool slow,
                                     bool *ret_ended)
{
    mvpn_dht_quota quota;
    quota.count = 0;
    *ret_ended = true;
    if (l->scout[path] != MVPN_DHT_NOBODY &&
        l->candidates[l->scout[path]].state <= MVPN_DHT_CANDIDATE_ASKED) {
        *ret_ended = false;
        if (l->candidates[l->scout[path]].state == MVPN_DHT_CANDIDATE_NEW) {
            return (mvpn_dht_candidate *)&l->candidates[l->scout[path]];
        }
    }
    for (size_t i = 0; i < l->count && quota.count < MVPN_DHT_K; i++) {
        const mvpn_dht_candidate *c = at(l, i);
        if (!(c->known & 1u << path) || c->state == MVPN_DHT_CANDIDATE_FAILED ||
            (c->state == MVPN_DHT_CANDIDATE_SLOW && !slow) || is_doubtful(l, c) ||
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
    if (c->namer != MVPN_DHT_NOBODY) {
        mvpn_dht_candidate *namer = &l->candidates[c->namer];
        bool was_bad = c->state == MVPN_DHT_CANDIDATE_SLOW || c->state == MVPN_DHT_CANDIDATE_FAILED;
        bool is_bad = state == MVPN_DHT_CANDIDATE_SLOW || state == MVPN_DHT_CANDIDATE_FAILED;
        namer->named_bad = (uint8_t)(namer->named_bad + is_bad - was_bad);
        namer->named_good = (uint8_t)(namer->named_good + (state == MVPN_DHT_CANDIDATE_ANSWERED));
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

/* The closest have answered, enough of them with one value, none with a newer one. */
static bool is_sure(const mvpn_dht_shortlist *l)
{
    mvpn_dht_quota quota;
    uint64_t newest = 0;
    unsigned holders = 0;
    quota.count = 0;
    for (size_t i = 0; i < l->count && quota.count < MVPN_DHT_SURE; i++) {
        const mvpn_dht_candidate *c = at(l, i);
        if (c->state == MVPN_DHT_CANDIDATE_FAILED || c->state == MVPN_DHT_CANDIDATE_SLOW ||
            is_doubtful(l, c) || !mvpn_dht_quota_take(&quota, c->block, c->wide)) {
            continue;
        }
        if (c->state != MVPN_DHT_CANDIDATE_ANSWERED) {
            return false;
        }
        if (c->has_value && (holders == 0 || c->sequence > newest)) {
            newest = c->sequence;
            holders = 0;
        }
        holders += c->has_value && c->sequence == newest;
    }
    return quota.count == MVPN_DHT_SURE && holders >= MVPN_DHT_SURE_HOLDERS;
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
    return (l->wants_value && is_sure(l)) || all_ended(l);
}

/* Few of the closest hold the newest. */
static bool values_differ(const mvpn_dht_candidate *const *near, size_t count)
{
    uint64_t newest = 0;
    size_t holders = 0;
    for (size_t i = 0; i < count; i++) {
        if (!near[i]->has_value) {
            continue;
        }
        if (holders == 0 || near[i]->sequence > newest) {
            newest = near[i]->sequence;
            holders = 0;
        }
        holders += near[i]->sequence == newest;
    }
    return holders > 0 && holders < count && holders < MVPN_DHT_SURE_HOLDERS;
}

/* Nodes: a path that was answered knows not even half of the closest that answered. */
static bool places_differ(const mvpn_dht_shortlist *l, const mvpn_dht_candidate *const *near,
                          size_t count)
{
    size_t first = MVPN_MIN(count, (size_t)MVPN_DHT_SURE);
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
