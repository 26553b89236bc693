#include "core/guard.h"

#include <string.h>

#include "base/cursor.h"

#define MINUTE 60u
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
/* Guards that leave by age or as unlisted: one in this time. A clock that was wrong by a year for
 * one start costs one guard, not all. */
#define LEAVE_PAUSE DAY
/* After this long without an answer from any guard, failures say nothing about the guards. */
#define OUTAGE (10 * MINUTE)
/* -log2 of a 64-bit hash, with so many binary places. */
#define LOG_BITS 24
#define RANK_BITS 16

#define SAVE_VERSION 1
#define SAVE_HEADER_LEN 72
#define SAVE_GUARD_LEN 65
#define SAVE_CHECK_LEN 4
static const char save_magic[7] = {'M', 'V', 'P', 'N', 'G', 'R', 'D'};

/* When a guard that does not answer is asked again: the longer it is silent, the rarer. At first
 * soon: most that fail were restarted, and without a second guard there is no spare circuit. */
static const struct {
    uint64_t silent, primary, other;
} retry_after[] = {
    {MINUTE, 10, 30},
    {10 * MINUTE, MINUTE, 5 * MINUTE},
    {6 * HOUR, 10 * MINUTE, HOUR},
    {4 * DAY, 90 * MINUTE, 4 * HOUR},
    {7 * DAY, 4 * HOUR, 18 * HOUR},
    {UINT64_MAX, 9 * HOUR, 36 * HOUR},
};

void mvpn_guards_init(mvpn_guards *guards, mvpn_rng *rng)
{
    *guards = (mvpn_guards){.count = 0};
    mvpn_rng_bytes(rng, guards->key.b, sizeof(guards->key.b));
}

static size_t index_of(const mvpn_guards *guards, const mvpn_ed25519_pub *identity)
{
    size_t i = 0;
    while (i < guards->count &&
           memcmp(guards->guard[i].identity.b, identity->b, sizeof(identity->b)) != 0) {
        i++;
    }
    return i;
}

const mvpn_guard *mvpn_guards_find(const mvpn_guards *guards, const mvpn_ed25519_pub *identity)
{
    size_t i = index_of(guards, identity);
    return i < guards->count ? &guards->guard[i] : NULL;
}

/* A time within the last tenth of `span`. */
static uint64_t blurred(uint64_t now, uint64_t span, mvpn_rng *rng)
{
    return now - MVPN_MIN(now - 1, (uint64_t)mvpn_rng_below(rng, (uint32_t)(span / 10)));
}

static void drop(mvpn_guards *guards, size_t i)
{
    guards->count--;
    memmove(&guards->guard[i], &guards->guard[i + 1],
            (guards->count - i) * sizeof(guards->guard[0]));
    guards->generation++;
}

/* ---- order ---- */

/* Does `a` stand before `b`? */
static bool is_before(const mvpn_guard *a, const mvpn_guard *b)
{
    if (a->rank != b->rank) {
        return b->rank == 0 || (a->rank != 0 && a->rank < b->rank);
    }
    return a < b; /* both unconfirmed: as drawn */
}

/* Usable guards in their order; returns how many. */
static size_t rank_usable(const mvpn_guards *guards, const mvpn_guard *ret[MVPN_GUARDS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < guards->count; i++) {
        const mvpn_guard *g = &guards->guard[i];
        if (!g->is_usable) {
            continue;
        }
        size_t k = count++;
        for (; k > 0 && is_before(g, ret[k - 1]); k--) {
            ret[k] = ret[k - 1];
        }
        ret[k] = g;
    }
    return count;
}

size_t mvpn_guards_place(const mvpn_guards *guards, const mvpn_ed25519_pub *identity)
{
    const mvpn_guard *ranked[MVPN_GUARDS_MAX];
    const mvpn_guard *g = mvpn_guards_find(guards, identity);
    size_t count = rank_usable(guards, ranked);
    for (size_t i = 0; i < count; i++) {
        if (ranked[i] == g) {
            return i;
        }
    }
    return guards->count;
}

static void set_primaries(mvpn_guards *guards)
{
    const mvpn_guard *ranked[MVPN_GUARDS_MAX];
    size_t count = MVPN_MIN(rank_usable(guards, ranked), (size_t)MVPN_GUARDS_PRIMARY);
    for (size_t i = 0; i < guards->count; i++) {
        guards->guard[i].is_primary = false;
        for (size_t k = 0; k < count; k++) {
            guards->guard[i].is_primary |= ranked[k] == &guards->guard[i];
        }
    }
}

static bool may_try(const mvpn_guard *g, uint64_t now)
{
    return g->reach != MVPN_GUARD_NO || now >= g->retry;
}

size_t mvpn_guards_order(const mvpn_guards *guards, uint64_t unix_now, bool any,
                         mvpn_ed25519_pub ret[static MVPN_GUARDS_MAX])
{
    const mvpn_guard *ranked[MVPN_GUARDS_MAX], *late[MVPN_GUARDS_MAX];
    size_t count = 0, late_count = 0;
    size_t usable = rank_usable(guards, ranked);
    for (size_t i = 0; i < usable; i++) {
        if (may_try(ranked[i], unix_now)) {
            ret[count++] = ranked[i]->identity;
        } else if (any) {
            size_t k = late_count++;
            for (; k > 0 && ranked[i]->failed < late[k - 1]->failed; k--) {
                late[k] = late[k - 1];
            }
            late[k] = ranked[i];
        }
    }
    for (size_t i = 0; i < late_count; i++) {
        ret[count++] = late[i]->identity;
    }
    return count;
}

/* ---- drawing ---- */

/* -log2(hash / 2^64) with LOG_BITS binary places. */
static uint64_t minus_log2(uint64_t hash)
{
    unsigned zeros = (unsigned)__builtin_clzll(hash | 1);
    uint64_t m = (hash | 1) << zeros >> 32; /* 1.31: [1, 2) */
    uint64_t fraction = 0;
    for (unsigned i = 0; i < LOG_BITS; i++) {
        m = m * m; /* 2.62: [1, 4) */
        uint64_t bit = m >> 63;
        m >>= bit ? 32 : 31;
        fraction = fraction << 1 | bit;
    }
    return ((uint64_t)(zeros + 1) << LOG_BITS) - fraction;
}

/* How much a relay's age counts: up for weeks, or known to us for months. */
static uint32_t stability(const mvpn_view_info *info, uint64_t now)
{
    uint64_t known_h =
        info->first_seen < now && info->first_seen != 0 ? (now - info->first_seen) / HOUR : 0;
    uint32_t s = 1;
    s += info->uptime_h >= 24 ? 1 : 0;
    s += info->uptime_h >= 7 * 24 ? 1 : 0;
    s += known_h >= 7 * 24 ? 1 : 0;
    s += known_h >= 30 * 24 ? 1 : 0;
    return s;
}

/*
 * Order of the draw, lowest first: -log(u) / weight of a hash u is exponential, so that the lowest
 * of all are a draw by weight without putting back (Efraimidis and Spirakis), whatever the order in
 * which relays are looked at.
 */
static uint64_t draw_rank(const mvpn_guards *guards, const mvpn_descriptor *d,
                          const mvpn_view_info *info, uint8_t quartile, uint64_t now)
{
    uint64_t h = mvpn_siphash(&guards->key, d->identity.b, sizeof(d->identity.b));
    uint64_t weight = (uint64_t)mvpn_path_weight(d, info, quartile) * stability(info, now);
    return (minus_log2(h) << RANK_BITS) / weight;
}

static bool is_excluded(const mvpn_path_constraints *wish, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < wish->excluded_count; i++) {
        if (memcmp(wish->excluded[i].b, identity->b, sizeof(identity->b)) == 0) {
            return true;
        }
    }
    return false;
}

/* Two guards of one operator are one guard. */
static bool is_like_another(const mvpn_guards *guards, const mvpn_view *view,
                            const mvpn_descriptor *d, unsigned relax)
{
    for (size_t i = 0; i < guards->count; i++) {
        const mvpn_descriptor *other = mvpn_view_find(view, &guards->guard[i].identity);
        if (other != NULL && !mvpn_path_are_distinct(view, other, d, relax)) {
            return true;
        }
    }
    return false;
}

/* The relay that is next in the draw; NULL if the view has no more. */
static const mvpn_descriptor *next_in_draw(const mvpn_guards *guards, const mvpn_view *view,
                                           const mvpn_path_constraints *wish)
{
    const mvpn_descriptor *best[2] = {NULL, NULL}; /* distinct from our guards, and any */
    uint64_t best_rank[2] = {UINT64_MAX, UINT64_MAX};
    uint8_t quartile = mvpn_path_declared_quartile(view);
    bool only_confirmed = mvpn_view_is_confirmed(view);
    const mvpn_descriptor *exit = wish->exit == NULL ? NULL : mvpn_view_find(view, wish->exit);
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        mvpn_view_info info;
        mvpn_view_get_info(view, i, &info);
        if (!mvpn_path_fits_guard(d, &info, wish) || (only_confirmed && !info.is_confirmed) ||
            is_excluded(wish, &d->identity) || mvpn_guards_find(guards, &d->identity) != NULL ||
            (exit != NULL && !mvpn_path_are_distinct(view, exit, d, wish->relax))) {
            continue;
        }
        uint64_t rank = draw_rank(guards, d, &info, quartile, wish->unix_now);
        if (rank < best_rank[1]) {
            best_rank[1] = rank;
            best[1] = d;
        }
        if (rank < best_rank[0] && !is_like_another(guards, view, d, wish->relax)) {
            best_rank[0] = rank;
            best[0] = d;
        }
    }
    return best[0] != NULL ? best[0] : best[1];
}

static void add(mvpn_guards *guards, const mvpn_descriptor *d, bool is_provisional, mvpn_rng *rng,
                uint64_t now)
{
    guards->guard[guards->count++] = (mvpn_guard){
        .identity = d->identity,
        .added = blurred(now, MVPN_GUARD_LIFETIME_S, rng),
        .is_provisional = is_provisional,
        .is_usable = true,
    };
    guards->born = guards->born == 0 ? now : guards->born;
    guards->generation++;
}

static bool is_draw_allowed(mvpn_guards *guards, uint64_t now)
{
    if (now - guards->hour >= HOUR || now < guards->hour) {
        guards->hour = now;
        guards->hour_draws = 0;
    }
    if (now - guards->day >= DAY || now < guards->day) {
        guards->day = now;
        guards->day_draws = 0;
    }
    return guards->hour_draws < MVPN_GUARDS_PER_HOUR && guards->day_draws < MVPN_GUARDS_PER_DAY;
}

/* Make room in a full sample: the one missing from the view for longest gives way, else one that
 * cannot be used. An attacker on our way to the network can bring about neither. */
static bool make_room(mvpn_guards *guards)
{
    size_t worst = guards->count;
    for (size_t i = 0; i < guards->count; i++) {
        const mvpn_guard *g = &guards->guard[i];
        const mvpn_guard *w = worst < guards->count ? &guards->guard[worst] : NULL;
        if (g->unlisted != 0 && (w == NULL || w->unlisted == 0 || g->unlisted < w->unlisted)) {
            worst = i;
        } else if (!g->is_usable && w == NULL) {
            worst = i;
        }
    }
    if (worst == guards->count) {
        return false;
    }
    drop(guards, worst);
    return true;
}

int mvpn_guards_draw(mvpn_guards *guards, const mvpn_view *view, const mvpn_path_constraints *wish,
                     mvpn_rng *rng, mvpn_ed25519_pub *ret)
{
    if (!is_draw_allowed(guards, wish->unix_now)) {
        return MVPN_E_LIMIT;
    }
    const mvpn_descriptor *d = next_in_draw(guards, view, wish);
    if (d == NULL) {
        return MVPN_E_UNKNOWN;
    }
    if (guards->count == MVPN_GUARDS_MAX && !make_room(guards)) {
        return MVPN_E_LIMIT;
    }
    guards->hour_draws++;
    guards->day_draws++;
    add(guards, d, !mvpn_view_is_confirmed(view), rng, wish->unix_now);
    set_primaries(guards);
    *ret = d->identity;
    return 0;
}

/* ---- keeping ---- */

/* A clock that ran ahead left dates in the future: they count from today. */
static void clamp_dates(mvpn_guards *guards, uint64_t now)
{
    guards->born = MVPN_MIN(guards->born, now);
    guards->left = MVPN_MIN(guards->left, now);
    guards->answered = MVPN_MIN(guards->answered, now);
    for (size_t i = 0; i < guards->count; i++) {
        mvpn_guard *g = &guards->guard[i];
        g->added = MVPN_MIN(g->added, now);
        g->confirmed = MVPN_MIN(g->confirmed, now);
        g->unlisted = MVPN_MIN(g->unlisted, now);
        g->failed = MVPN_MIN(g->failed, now);
        g->failing = MVPN_MIN(g->failing, now);
    }
}

/* Who is there? A view that is not confirmed may lack whom it wants. */
static size_t look(mvpn_guards *guards, const mvpn_view *view, const mvpn_path_constraints *wish,
                   mvpn_rng *rng)
{
    size_t usable = 0;
    bool is_confirmed = mvpn_view_is_confirmed(view);
    for (size_t i = 0; i < guards->count; i++) {
        mvpn_guard *g = &guards->guard[i];
        mvpn_view_info info;
        const mvpn_descriptor *d = mvpn_view_find(view, &g->identity);
        bool is_known = d != NULL && mvpn_view_find_info(view, &g->identity, &info);
        bool is_listed = is_known && (d->roles & MVPN_ROLE_GUARD) != 0;
        g->is_usable = is_known && mvpn_path_fits_guard(d, &info, wish) &&
                       (!is_confirmed || info.is_confirmed);
        usable += g->is_usable ? 1 : 0;
        if (is_listed && g->unlisted != 0) {
            g->unlisted = 0;
            guards->generation++;
        } else if (is_confirmed && !is_listed && g->unlisted == 0) {
            g->unlisted = blurred(wish->unix_now, MVPN_GUARD_UNLISTED_S, rng);
            guards->generation++;
        }
    }
    return usable;
}

static bool has_to_leave(const mvpn_guard *g, uint64_t now)
{
    if (g->unlisted != 0 && now - g->unlisted > MVPN_GUARD_UNLISTED_S) {
        return true;
    }
    return now - g->added > MVPN_GUARD_LIFETIME_S &&
           (g->confirmed == 0 || now - g->confirmed > MVPN_GUARD_CONFIRMED_LIFETIME_S);
}

/* Guards that are too old or long gone leave, one a day. */
static void retire(mvpn_guards *guards, mvpn_rng *rng, uint64_t now)
{
    for (size_t i = 0;
         i < guards->count && (guards->left == 0 || now - guards->left >= LEAVE_PAUSE); i++) {
        if (has_to_leave(&guards->guard[i], now)) {
            drop(guards, i);
            guards->left = now;
            /* Else the same relay would be the next drawn. */
            mvpn_rng_bytes(rng, guards->key.b, sizeof(guards->key.b));
        }
    }
}

/* Is the view so much larger than when guards were settled that it has to be done anew? */
static bool has_outgrown(mvpn_guards *guards, const mvpn_view *view, uint64_t now)
{
    size_t count = mvpn_view_count(view);
    bool is_young = guards->born == 0 || now - guards->born < MVPN_GUARDS_YOUNG_S;
    return is_young && count / 2 >= guards->settled;
}

/* The view is confirmed now, or has outgrown itself: what was drawn before goes, and stays only if
 * it is drawn again. The limits do not count here: this happens a few times at the beginning, and
 * they would leave an attacker's choice. */
static void settle(mvpn_guards *guards, const mvpn_view *view, const mvpn_path_constraints *wish,
                   mvpn_rng *rng)
{
    mvpn_guards before = *guards;
    size_t kept = 0;
    bool all = has_outgrown(guards, view, wish->unix_now);
    for (size_t i = 0; i < guards->count; i++) {
        if (!all && !guards->guard[i].is_provisional) {
            guards->guard[kept++] = guards->guard[i];
        }
    }
    if (all || kept < before.count) {
        guards->settled = (uint32_t)mvpn_view_count(view);
    }
    if (kept == before.count) {
        return;
    }
    guards->count = kept;
    guards->generation++;
    size_t usable = look(guards, view, wish, rng);
    for (; usable < MVPN_GUARDS_PRIMARY && guards->count < MVPN_GUARDS_MAX; usable++) {
        const mvpn_descriptor *d = next_in_draw(guards, view, wish);
        if (d == NULL) {
            return;
        }
        const mvpn_guard *old = mvpn_guards_find(&before, &d->identity);
        add(guards, d, false, rng, wish->unix_now);
        if (old != NULL) {
            mvpn_guard *g = &guards->guard[guards->count - 1];
            *g = *old;
            g->is_provisional = false;
        }
    }
}

void mvpn_guards_update(mvpn_guards *guards, const mvpn_view *view,
                        const mvpn_path_constraints *wish, mvpn_rng *rng)
{
    mvpn_ed25519_pub drawn;
    uint64_t now = wish->unix_now;
    clamp_dates(guards, now);
    if (mvpn_view_is_confirmed(view)) {
        settle(guards, view, wish, rng);
        (void)look(guards, view, wish, rng);
        retire(guards, rng, now);
    }
    size_t usable = look(guards, view, wish, rng);
    while (usable < MVPN_GUARDS_PRIMARY && mvpn_guards_draw(guards, view, wish, rng, &drawn) == 0) {
        usable++;
    }
    set_primaries(guards);
}

/* ---- success and failure ---- */

void mvpn_guards_succeeded(mvpn_guards *guards, const mvpn_ed25519_pub *identity, mvpn_rng *rng,
                           uint64_t unix_now)
{
    size_t i = index_of(guards, identity);
    if (i == guards->count) {
        return;
    }
    mvpn_guard *g = &guards->guard[i];
    /* Nobody answered for a while, or this one neither: it was the network. */
    bool was_out = guards->answered == 0 || unix_now - guards->answered > OUTAGE ||
                   (g->failing != 0 && g->failing >= guards->answered);
    for (size_t k = 0; k < guards->count && was_out; k++) {
        mvpn_guard *other = &guards->guard[k];
        if (other->reach == MVPN_GUARD_NO && other->failing >= guards->answered) {
            other->reach = MVPN_GUARD_MAYBE;
            other->failing = 0;
        }
    }
    guards->answered = unix_now;
    g->reach = MVPN_GUARD_YES;
    g->failing = 0;
    if (g->rank == 0) {
        g->rank = ++guards->rank_last;
        g->confirmed = blurred(unix_now, MVPN_GUARD_CONFIRMED_LIFETIME_S, rng);
        guards->generation++;
        set_primaries(guards);
    }
}

void mvpn_guards_failed(mvpn_guards *guards, const mvpn_ed25519_pub *identity, mvpn_rng *rng,
                        uint64_t unix_now)
{
    size_t i = index_of(guards, identity);
    if (i == guards->count) {
        return;
    }
    mvpn_guard *g = &guards->guard[i];
    size_t row = 0;
    g->reach = MVPN_GUARD_NO;
    g->failing = g->failing == 0 ? unix_now : g->failing;
    g->failed = unix_now;
    while (unix_now - g->failing >= retry_after[row].silent) {
        row++;
    }
    uint64_t pause = g->is_primary ? retry_after[row].primary : retry_after[row].other;
    g->retry = unix_now + mvpn_rng_jitter(rng, pause, 10);
}

/* ---- the state file ---- */

static void write_check(mvpn_writer *w, const uint8_t *from, size_t n)
{
    uint8_t check[SAVE_CHECK_LEN];
    mvpn_blake3(check, sizeof(check), (mvpn_bytes){from, n});
    mvpn_write_bytes(w, check, sizeof(check));
}

/* A record of `n` bytes, its checksum the last of them: what is before it, or nothing. */
static mvpn_bytes read_checked(mvpn_bytes in, size_t n)
{
    uint8_t check[SAVE_CHECK_LEN];
    if (in.n < n) {
        return (mvpn_bytes){NULL, 0};
    }
    mvpn_bytes content = {in.p, n - sizeof(check)};
    mvpn_blake3(check, sizeof(check), content);
    return memcmp(check, in.p + content.n, sizeof(check)) == 0 ? content : (mvpn_bytes){NULL, 0};
}

size_t mvpn_guards_save(const mvpn_guards *guards, uint8_t *out, size_t size)
{
    if (size < MVPN_GUARDS_SAVED_MAX) {
        return 0;
    }
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write_bytes(&w, save_magic, sizeof(save_magic));
    mvpn_write8(&w, SAVE_VERSION);
    mvpn_write_bytes(&w, guards->key.b, sizeof(guards->key.b));
    mvpn_write32(&w, guards->rank_last);
    mvpn_write64(&w, guards->left);
    mvpn_write64(&w, guards->hour);
    mvpn_write64(&w, guards->day);
    mvpn_write16(&w, guards->hour_draws);
    mvpn_write16(&w, guards->day_draws);
    mvpn_write64(&w, guards->born);
    mvpn_write32(&w, guards->settled);
    write_check(&w, out, SAVE_HEADER_LEN - SAVE_CHECK_LEN);
    for (size_t i = 0; i < guards->count; i++) {
        const mvpn_guard *g = &guards->guard[i];
        size_t from = mvpn_writer_len(&w);
        mvpn_write_bytes(&w, g->identity.b, sizeof(g->identity.b));
        mvpn_write64(&w, g->added);
        mvpn_write64(&w, g->confirmed);
        mvpn_write64(&w, g->unlisted);
        mvpn_write32(&w, g->rank);
        mvpn_write8(&w, g->is_provisional ? 1 : 0);
        write_check(&w, out + from, SAVE_GUARD_LEN - SAVE_CHECK_LEN);
    }
    return mvpn_writer_len(&w);
}

static void load_header(mvpn_guards *guards, mvpn_reader *r)
{
    mvpn_read_copy(r, guards->key.b, sizeof(guards->key.b));
    guards->rank_last = mvpn_read32(r);
    guards->left = mvpn_read64(r);
    guards->hour = mvpn_read64(r);
    guards->day = mvpn_read64(r);
    guards->hour_draws = mvpn_read16(r);
    guards->day_draws = mvpn_read16(r);
    guards->born = mvpn_read64(r);
    guards->settled = mvpn_read32(r);
}

static void load_guard(mvpn_guards *guards, mvpn_bytes record)
{
    mvpn_guard g = {.reach = MVPN_GUARD_MAYBE};
    mvpn_reader r = mvpn_reader_init(record);
    mvpn_read_copy(&r, g.identity.b, sizeof(g.identity.b));
    g.added = mvpn_read64(&r);
    g.confirmed = mvpn_read64(&r);
    g.unlisted = mvpn_read64(&r);
    g.rank = mvpn_read32(&r);
    g.is_provisional = mvpn_read8(&r) != 0;
    if (mvpn_reader_done(&r) && guards->count < MVPN_GUARDS_MAX &&
        mvpn_guards_find(guards, &g.identity) == NULL) {
        guards->guard[guards->count++] = g;
        guards->rank_last = MVPN_MAX(guards->rank_last, g.rank);
    }
}

int mvpn_guards_load(mvpn_guards *guards, mvpn_bytes saved)
{
    bool is_read = false;
    if (saved.n < sizeof(save_magic) + 1 || memcmp(saved.p, save_magic, sizeof(save_magic)) != 0 ||
        saved.p[sizeof(save_magic)] != SAVE_VERSION) {
        return MVPN_E_FORMAT;
    }
    mvpn_bytes header = read_checked(saved, SAVE_HEADER_LEN);
    if (header.p != NULL) {
        mvpn_reader r = mvpn_reader_init(header);
        (void)mvpn_read_bytes(&r, sizeof(save_magic) + 1);
        load_header(guards, &r);
        is_read = true;
    }
    for (size_t at = SAVE_HEADER_LEN; at + SAVE_GUARD_LEN <= saved.n; at += SAVE_GUARD_LEN) {
        mvpn_bytes record = read_checked((mvpn_bytes){saved.p + at, saved.n - at}, SAVE_GUARD_LEN);
        if (record.p != NULL) {
            load_guard(guards, record);
            is_read = true;
        }
    }
    return is_read ? 0 : MVPN_E_FORMAT;
}
