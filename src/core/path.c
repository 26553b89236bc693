#include "core/path.h"

#include <stdlib.h>
#include <string.h>

/* Draws of a whole path before it counts as blocked: an exit or middle may leave nothing for the
 * next place while another would. */
#define TRIES 32
/* Relays that a draw may reject one by one before the whole list is sifted. */
#define REJECTS 16

/* Relays between the one looked at and the one fetched from memory. */
#define AHEAD 8

#define PLACE_GUARD 0x01
#define PLACE_MIDDLE 0x02
#define PLACE_EXIT 0x04
#define PLACES 0x07
#define CONFIRMED 0x08

#define FAMILY_4 0x01
#define FAMILY_6 0x02

const char *mvpn_path_block_text(enum mvpn_path_block block)
{
    switch (block) {
    case MVPN_PATH_OK:
        return "a path was found";
    case MVPN_PATH_NO_EXIT:
        return "no exit relay is known that can be used";
    case MVPN_PATH_NO_EXIT_CHOSEN:
        return "the chosen exit relay is not known, or cannot be used (meshvpn exit use auto)";
    case MVPN_PATH_NO_EXIT_COUNTRY:
        return "no exit relay is known to be in the wanted country";
    case MVPN_PATH_NO_EXIT_PORT:
        return "no exit relay there accepts the wanted ports or address family";
    case MVPN_PATH_NO_EXIT_SPEED:
        return "no exit relay there is fast enough";
    case MVPN_PATH_NO_EXIT_BLOCKED:
        return "the exit relays that could be used are blocked (meshvpn exit unblock)";
    case MVPN_PATH_NO_GUARD:
        return "no guard relay is known that can be reached from here";
    case MVPN_PATH_GUARD_LIMIT:
        return "the chosen guard relays do not answer, and no more new ones are tried for now";
    case MVPN_PATH_NO_MIDDLE:
        return "too few relays for so many hops";
    case MVPN_PATH_RELATED:
        return "the relays left share a network block, provider or family with another hop";
    }
    return "unknown";
}

int mvpn_path_countries_parse(const char *text, mvpn_path_countries *ret)
{
    mvpn_path_countries c = {.is_exclusion = text[0] == '!'};
    const char *p = c.is_exclusion ? text + 1 : text;
    if (text[0] == '\0') {
        *ret = c;
        return 0;
    }
    for (;;) {
        char code[3] = {p[0], p[0] == '\0' ? '\0' : p[1], '\0'};
        if (!mvpn_country_is_valid(code) || c.count == MVPN_PATH_COUNTRIES_MAX) {
            return MVPN_E_FORMAT;
        }
        memcpy(c.code[c.count++], code, sizeof(code));
        p += 2;
        if (*p == '\0') {
            *ret = c;
            return 0;
        }
        if (*p++ != ',') {
            return MVPN_E_FORMAT;
        }
    }
}

static bool same_identity(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

static bool share_block(const mvpn_descriptor *a, const mvpn_descriptor *b)
{
    for (size_t i = 0; i < a->address_count; i++) {
        for (size_t j = 0; j < b->address_count; j++) {
            if (mvpn_addr_same_block(&a->addresses[i].addr, &b->addresses[j].addr)) {
                return true;
            }
        }
    }
    return false;
}

static bool names_family(const mvpn_descriptor *a, const mvpn_descriptor *b)
{
    for (size_t i = 0; i < a->family_count; i++) {
        if (same_identity(&a->family[i], &b->identity)) {
            return true;
        }
    }
    return false;
}

static bool is_behind_nat(const mvpn_descriptor *d)
{
    return d->nat_relay_count > 0;
}

static bool are_two_distinct(const mvpn_descriptor *a, const mvpn_descriptor *b, unsigned relax)
{
    if (same_identity(&a->identity, &b->identity)) {
        return false;
    }
    if (!(relax & MVPN_RELAX_BLOCK) && share_block(a, b)) {
        return false;
    }
    if (!(relax & MVPN_RELAX_PROVIDER) && a->provider[0] != '\0' &&
        strcmp(a->provider, b->provider) == 0) {
        return false;
    }
    /* Mutual: one relay alone cannot claim another into its family and so out of paths. */
    return (relax & MVPN_RELAX_FAMILY) || !names_family(a, b) || !names_family(b, a);
}

/* A relay and the NAT relays by which it is reached, as far as the view knows them: whoever runs
 * one of them sees what comes and goes there. */
typedef struct party {
    const mvpn_descriptor *member[1 + MVPN_DESCRIPTOR_NAT_RELAYS_MAX];
    size_t count;
} party;

static party party_of(const mvpn_view *view, const mvpn_descriptor *d)
{
    party p = {.member = {d}, .count = 1};
    for (size_t i = 0; i < d->nat_relay_count; i++) {
        const mvpn_descriptor *n = mvpn_view_find(view, &d->nat_relays[i].identity);
        if (n != NULL) {
            p.member[p.count++] = n;
        }
    }
    return p;
}

/* By name alone, so that it holds for NAT relays unknown to the view too. */
static bool share_nat_relay(const mvpn_descriptor *a, const mvpn_descriptor *b)
{
    for (size_t i = 0; i < a->nat_relay_count; i++) {
        for (size_t j = 0; j < b->nat_relay_count; j++) {
            if (same_identity(&a->nat_relays[i].identity, &b->nat_relays[j].identity)) {
                return true;
            }
        }
    }
    return false;
}

bool mvpn_path_are_distinct(const mvpn_view *view, const mvpn_descriptor *a,
                            const mvpn_descriptor *b, unsigned relax)
{
    if (!is_behind_nat(a) && !is_behind_nat(b)) {
        return are_two_distinct(a, b, relax);
    }
    if (share_nat_relay(a, b)) {
        return false;
    }
    const party with_a = party_of(view, a), with_b = party_of(view, b);
    for (size_t i = 0; i < with_a.count; i++) {
        for (size_t j = 0; j < with_b.count; j++) {
            if (!are_two_distinct(with_a.member[i], with_b.member[j], relax)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- weights ---- */

static uint8_t log2_of(uint32_t n)
{
    uint8_t log2 = 0;
    while (n > 1) {
        n >>= 1;
        log2++;
    }
    return log2;
}

/* Declared bandwidths by their logarithm. */
typedef struct histogram {
    uint32_t count[32];
    uint32_t total;
} histogram;

static void histogram_add(histogram *h, const mvpn_descriptor *d)
{
    if (d->has_bandwidth && d->roles != 0) {
        h->count[log2_of(d->bandwidth_kbit)]++;
        h->total++;
    }
}

static uint8_t histogram_quartile(const histogram *h)
{
    uint32_t below = 0;
    for (uint8_t i = 0; i < 32; i++) {
        below += h->count[i];
        if (below > h->total / 4) {
            return i;
        }
    }
    return 0;
}

uint8_t mvpn_path_declared_quartile(const mvpn_view *view)
{
    histogram h = {.total = 0};
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        histogram_add(&h, mvpn_view_at(view, i));
    }
    return histogram_quartile(&h);
}

/* The logarithm of a weight, from that of what is declared and what caps it. */
static uint8_t weight_log2(uint8_t declared, uint8_t cap, uint8_t quartile)
{
    uint8_t limit = cap == UINT8_MAX ? quartile : cap;
    uint8_t speed = MVPN_MIN(declared, limit);
    uint8_t w =
        speed > MVPN_PATH_WEIGHT_LOG2_MIN ? (uint8_t)(speed - MVPN_PATH_WEIGHT_LOG2_MIN) : 0;
    return MVPN_MIN(w, log2_of(MVPN_PATH_WEIGHT_MAX));
}

static uint8_t declared_log2(const mvpn_descriptor *d)
{
    return d->has_bandwidth ? log2_of(d->bandwidth_kbit) : 0;
}

uint32_t mvpn_path_weight(const mvpn_descriptor *d, const mvpn_view_info *info, uint8_t quartile)
{
    return (uint32_t)1 << weight_log2(declared_log2(d), info->cap_log2, quartile);
}

/* ---- what a place asks of a relay ---- */

static bool is_excluded(const mvpn_descriptor *d, const mvpn_path_constraints *wish)
{
    for (size_t i = 0; i < wish->excluded_count; i++) {
        if (same_identity(&d->identity, &wish->excluded[i])) {
            return true;
        }
    }
    return false;
}

static bool is_shunned(const mvpn_descriptor *d, const mvpn_path_constraints *wish)
{
    for (size_t i = 0; i < wish->shunned_exit_count; i++) {
        if (same_identity(&d->identity, &wish->shunned_exits[i])) {
            return true;
        }
    }
    return false;
}

static bool is_usable(const mvpn_descriptor *d, const mvpn_view_info *info,
                      const mvpn_path_constraints *wish)
{
    if (info->is_dead || info->is_unshown || d->roles == 0) {
        return false;
    }
    return wish->unix_now == 0 || mvpn_validity_holds(d->published, d->expires, wish->unix_now);
}

/* Apart from is_usable because it costs most: only relays that are drawn are asked. */
static bool is_reachable(const mvpn_descriptor *d, const mvpn_path_constraints *wish)
{
    return wish->allow_private || mvpn_descriptor_is_public(d);
}

static bool has_family(const mvpn_descriptor *d, uint8_t family)
{
    return mvpn_descriptor_find_address(d, family) != NULL;
}

bool mvpn_path_fits_guard(const mvpn_descriptor *d, const mvpn_view_info *info,
                          const mvpn_path_constraints *wish)
{
    return (d->roles & MVPN_ROLE_GUARD) != 0 && !is_behind_nat(d) && is_usable(d, info, wish) &&
           has_family(d, wish->family) && is_reachable(d, wish);
}

enum mvpn_path_country mvpn_path_check_country(const mvpn_descriptor *d, const mvpn_view_info *info,
                                               mvpn_path_country_of *country_of, const void *ctx)
{
    enum mvpn_path_country found = MVPN_PATH_COUNTRY_UNKNOWN;
    char there[3];
    if (d->country[0] == '\0') {
        return MVPN_PATH_COUNTRY_UNKNOWN;
    }
    if (info->country_wrong) {
        return MVPN_PATH_COUNTRY_WRONG;
    }
    for (size_t i = 0; country_of != NULL && i < d->address_count; i++) {
        if (!country_of(ctx, &d->addresses[i].addr, there)) {
            continue;
        }
        if (memcmp(there, d->country, 2) != 0) {
            return MVPN_PATH_COUNTRY_WRONG;
        }
        found = MVPN_PATH_COUNTRY_PROVEN;
    }
    return found;
}

/* By what it declares; an exit that declares nothing is in no wanted country, and cannot be shown
 * to be outside an unwanted one. */
static bool suits_country(const mvpn_descriptor *d, const mvpn_view_info *info,
                          const mvpn_path_countries *c)
{
    if (c->count == 0) {
        return true;
    }
    if (d->country[0] == '\0' || info->country_wrong) {
        return false;
    }
    for (size_t i = 0; i < c->count; i++) {
        if (memcmp(d->country, c->code[i], 2) == 0) {
            return !c->is_exclusion;
        }
    }
    return c->is_exclusion;
}

static bool accepts_port(const mvpn_descriptor *d, uint16_t port)
{
    for (size_t i = 0; i < d->policy_range_count; i++) {
        if (d->policy_ranges[i].first <= port && port <= d->policy_ranges[i].last) {
            return true;
        }
    }
    return false;
}

/* An exit without a summary may well accept it, but does not say so. */
static bool suits_policy(const mvpn_descriptor *d, const mvpn_path_constraints *wish)
{
    uint8_t flag = wish->exit_family == 4   ? MVPN_EXIT_IPV4
                   : wish->exit_family == 6 ? MVPN_EXIT_IPV6
                                            : 0;
    if ((d->policy_flags & flag) != flag) {
        return false;
    }
    for (size_t i = 0; i < wish->exit_port_count; i++) {
        if (!accepts_port(d, wish->exit_ports[i])) {
            return false;
        }
    }
    return true;
}

static bool suits_speed(const mvpn_descriptor *d, const mvpn_view_info *info, uint32_t min_kbit)
{
    if (min_kbit == 0) {
        return true;
    }
    /* A cap is rounded down to a power of two: what is measured may be nearly twice as much. */
    return d->has_bandwidth && d->bandwidth_kbit >= min_kbit &&
           (info->cap_log2 >= 31 || ((uint64_t)2 << info->cap_log2) > min_kbit);
}

/* In whose countries must an exit be? What a person chose goes before the configuration. */
static const mvpn_path_countries *wanted_countries(const mvpn_path_constraints *wish)
{
    const mvpn_exit_choice *choice = wish->choice;
    return choice != NULL && (choice->has_exit || choice->countries.count > 0)
               ? &choice->countries
               : &wish->exit_countries;
}

static bool is_blocked(const mvpn_descriptor *d, const mvpn_view_info *info,
                       const mvpn_exit_choice *choice)
{
    for (size_t i = 0; i < choice->blocked_count; i++) {
        if (same_identity(&d->identity, &choice->blocked[i])) {
            return true;
        }
    }
    return !suits_country(d, info, &choice->blocked_countries);
}

/* How far an exit gets: MVPN_PATH_OK, or what it fails at. */
static enum mvpn_path_block judge_exit(const mvpn_descriptor *d, const mvpn_view_info *info,
                                       const mvpn_path_constraints *wish)
{
    const mvpn_exit_choice *choice = wish->choice;
    uint16_t roles = wish->hops == 1 ? MVPN_ROLE_EXIT | MVPN_ROLE_GUARD : MVPN_ROLE_EXIT;
    if ((d->roles & roles) != roles ||
        (wish->exit != NULL && !same_identity(&d->identity, wish->exit))) {
        return MVPN_PATH_NO_EXIT;
    }
    bool is_named = choice != NULL && (choice->has_exit || choice->is_open);
    if (is_named && (choice->is_open || !same_identity(&d->identity, &choice->exit))) {
        return MVPN_PATH_NO_EXIT_CHOSEN;
    }
    if (!is_named && !suits_country(d, info, wanted_countries(wish))) {
        return MVPN_PATH_NO_EXIT_COUNTRY;
    }
    if (!is_named && !suits_policy(d, wish)) {
        return MVPN_PATH_NO_EXIT_PORT;
    }
    if (!is_named && !suits_speed(d, info, wish->exit_min_kbit)) {
        return MVPN_PATH_NO_EXIT_SPEED;
    }
    return choice != NULL && is_blocked(d, info, choice) ? MVPN_PATH_NO_EXIT_BLOCKED : MVPN_PATH_OK;
}

/* Countries are checked by the table only where one was asked for: it may be large and far away. */
static bool is_abroad(const mvpn_descriptor *d, const mvpn_path_constraints *wish)
{
    const mvpn_view_info info = {.country_wrong = false}; /* as suits_country found */
    const mvpn_exit_choice *choice = wish->choice;
    bool is_asked = wanted_countries(wish)->count > 0 ||
                    (choice != NULL && choice->blocked_countries.count > 0);
    return is_asked && wish->country_of != NULL &&
           mvpn_path_check_country(d, &info, wish->country_of, wish->country_ctx) ==
               MVPN_PATH_COUNTRY_WRONG;
}

enum mvpn_path_block mvpn_path_judge_exit(const mvpn_descriptor *d, const mvpn_view_info *info,
                                          const mvpn_path_constraints *wish)
{
    if (!is_usable(d, info, wish) || !is_reachable(d, wish)) {
        return MVPN_PATH_NO_EXIT;
    }
    enum mvpn_path_block block = judge_exit(d, info, wish);
    return block == MVPN_PATH_OK && is_abroad(d, wish) ? MVPN_PATH_NO_EXIT_COUNTRY : block;
}

/* ---- drawing ---- */

/* What a draw needs of each relay, in little memory: a pass over descriptors costs far more. */
typedef struct candidate {
    uint16_t index;
    uint8_t places; /* PLACE_*, CONFIRMED */
    uint8_t declared, cap, weight_log2;
} candidate;

/* Address families, FAMILY_*: by which a relay reaches others, and by which others reach it. */
typedef struct families {
    uint8_t out, in;
} families;

typedef struct draft {
    const mvpn_view *view;
    const mvpn_path_constraints *wish;
    mvpn_rng *rng;
    candidate *list;
    size_t list_count;
    const mvpn_descriptor *hop[MVPN_HOPS_MAX];
    families reach[MVPN_HOPS_MAX]; /* of each hop */
    unsigned count;
    bool is_related; /* some relay would have fitted but for distinctness */
    bool is_abroad;  /* some exit is not where it says */
} draft;

static uint8_t places_of(const mvpn_descriptor *d, const mvpn_view_info *info,
                         const mvpn_path_constraints *wish, enum mvpn_path_block *exit_block)
{
    uint8_t places = 0;
    enum mvpn_path_block block =
        is_shunned(d, wish) ? MVPN_PATH_NO_EXIT : judge_exit(d, info, wish);
    if (block == MVPN_PATH_OK) {
        places |= PLACE_EXIT;
    } else if (block > *exit_block) {
        *exit_block = block;
    }
    if (wish->hops == 1) {
        return places;
    }
    if ((d->roles & MVPN_ROLE_GUARD) &&
        (wish->guard == NULL || same_identity(&d->identity, wish->guard))) {
        places |= PLACE_GUARD;
    }
    if (d->roles & MVPN_ROLE_MIDDLE && wish->hops > 2) {
        places |= PLACE_MIDDLE;
    }
    return places;
}

/* All relays that fit some place. `*exit_block`: what the exits at hand fail at, if all fail. */
static size_t collect(const mvpn_view *view, const mvpn_path_constraints *wish, candidate *list,
                      enum mvpn_path_block *exit_block)
{
    histogram declared = {.total = 0};
    size_t count = 0;
    size_t size = MVPN_MIN(mvpn_view_count(view), (size_t)MVPN_VIEW_MAX);
    *exit_block = MVPN_PATH_NO_EXIT;
    for (size_t i = 0; i < size; i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        mvpn_view_info info;
        if (i + AHEAD < size) { /* descriptors are large: the pass waits for memory alone */
            const mvpn_descriptor *later = mvpn_view_at(view, i + AHEAD);
            __builtin_prefetch(&later->identity);
            __builtin_prefetch(&later->roles);
            __builtin_prefetch(&later->country);
        }
        mvpn_view_get_info(view, i, &info);
        histogram_add(&declared, d);
        if (!is_usable(d, &info, wish) || is_excluded(d, wish)) {
            continue;
        }
        uint8_t places = places_of(d, &info, wish, exit_block);
        if (places != 0) {
            list[count++] = (candidate){
                .index = (uint16_t)i,
                .places = (uint8_t)(places | (info.is_confirmed ? CONFIRMED : 0)),
                .declared = declared_log2(d),
                .cap = info.cap_log2,
            };
        }
    }
    uint8_t quartile = histogram_quartile(&declared);
    for (size_t i = 0; i < count; i++) {
        list[i].weight_log2 = weight_log2(list[i].declared, list[i].cap, quartile);
    }
    return count;
}

static uint8_t families_of(const mvpn_descriptor *d)
{
    return (uint8_t)((has_family(d, 4) ? FAMILY_4 : 0) | (has_family(d, 6) ? FAMILY_6 : 0));
}

/* Could callers use it as somebody's NAT relay? */
static bool serves_guests(const draft *path, const mvpn_descriptor *d)
{
    mvpn_view_info info;
    return (d->roles & MVPN_ROLE_NAT_RELAY) != 0 && !is_behind_nat(d) &&
           mvpn_view_find_info(path->view, &d->identity, &info) &&
           is_usable(d, &info, path->wish) && is_reachable(d, path->wish);
}

/* A relay behind a NAT is reached at its NAT relays: by no family if the view knows none. */
static families reach_of(const draft *path, const mvpn_descriptor *d)
{
    families f = {.out = families_of(d)};
    if (!is_behind_nat(d)) {
        f.in = f.out;
        return f;
    }
    const party p = party_of(path->view, d);
    for (size_t i = 1; i < p.count; i++) {
        f.in |= serves_guests(path, p.member[i]) ? families_of(p.member[i]) : 0;
    }
    for (size_t i = 0; i < d->nat_relay_count; i++) {
        f.out |= d->nat_relays[i].family == 4 ? FAMILY_4 : FAMILY_6;
    }
    return f;
}

/* Neighbours need a common address family; drawn in any order, all hops are held to it. */
static bool can_meet(families a, families b)
{
    return (a.out & b.in) != 0 && (b.out & a.in) != 0;
}

/* May this relay join the hops drawn so far? `*ret`: how it is reached. */
static bool may_join(draft *path, const candidate *c, uint8_t place, families *ret)
{
    const mvpn_descriptor *d = mvpn_view_at(path->view, c->index);
    const mvpn_path_constraints *wish = path->wish;
    bool is_first = place == PLACE_GUARD || wish->hops == 1;
    if (!is_reachable(d, wish) ||
        (is_first && (is_behind_nat(d) || !has_family(d, wish->family)))) {
        return false;
    }
    *ret = reach_of(path, d);
    if (ret->in == 0) {
        return false;
    }
    for (unsigned i = 0; i < path->count; i++) {
        if (path->hop[i] == d || !can_meet(path->reach[i], *ret)) {
            return false;
        }
        if (!mvpn_path_are_distinct(path->view, path->hop[i], d, wish->relax)) {
            path->is_related = true;
            return false;
        }
    }
    if (place == PLACE_EXIT && is_abroad(d, wish)) {
        path->is_abroad = true;
        return false;
    }
    return true;
}

static uint32_t weight_in(const candidate *c, uint8_t place)
{
    return (c->places & place) != 0 ? (uint32_t)1 << c->weight_log2 : 0;
}

/* One candidate for a place by weight; NULL if there is none. */
static candidate *pick(draft *path, uint8_t place)
{
    uint32_t total = 0;
    for (size_t i = 0; i < path->list_count; i++) {
        total += weight_in(&path->list[i], place);
    }
    uint32_t left = total == 0 ? 0 : mvpn_rng_below(path->rng, total);
    for (size_t i = 0; i < path->list_count && total > 0; i++) {
        uint32_t w = weight_in(&path->list[i], place);
        if (left < w) {
            return &path->list[i];
        }
        left -= w;
    }
    return NULL;
}

/* Draw one relay for a place. Who cannot join is struck off and another drawn: the same as drawing
 * among those who can. */
static bool draw(draft *path, uint8_t place)
{
    candidate *c;
    families reach;
    for (unsigned rejects = 0; (c = pick(path, place)) != NULL; rejects++) {
        if (may_join(path, c, place, &reach)) {
            path->reach[path->count] = reach;
            path->hop[path->count++] = mvpn_view_at(path->view, c->index);
            return true;
        }
        c->places &= (uint8_t)~place;
        for (size_t i = 0; rejects == REJECTS && i < path->list_count; i++) {
            c = &path->list[i];
            if ((c->places & place) != 0 && !may_join(path, c, place, &reach)) {
                c->places &= (uint8_t)~place;
            }
        }
    }
    return false;
}

/* A wanted guard comes first, so that the others are drawn to suit it; else the exit. */
static enum mvpn_path_block draw_path(draft *path, enum mvpn_path_block exit_block)
{
    bool guard_first = path->wish->guard != NULL && path->wish->hops > 1;
    for (unsigned i = 0; i < path->wish->hops; i++) {
        bool is_guard = path->wish->hops > 1 && i == (guard_first ? 0 : 1);
        bool is_exit = !is_guard && i < 2;
        path->is_related = false;
        if (!draw(path, is_guard ? PLACE_GUARD : is_exit ? PLACE_EXIT : PLACE_MIDDLE)) {
            return path->is_related  ? MVPN_PATH_RELATED
                   : is_guard        ? MVPN_PATH_NO_GUARD
                   : !is_exit        ? MVPN_PATH_NO_MIDDLE
                   : path->is_abroad ? MVPN_PATH_NO_EXIT_COUNTRY
                                     : exit_block;
        }
    }
    return MVPN_PATH_OK;
}

static void write_path(const draft *path, mvpn_path *ret)
{
    unsigned last = path->count - 1;
    bool guard_first = path->wish->guard != NULL && path->count > 1;
    ret->count = path->count;
    for (unsigned i = 2; i <= last; i++) {
        ret->hop[i - 1] = path->hop[i]->identity;
    }
    if (last > 0) {
        ret->hop[0] = path->hop[guard_first ? 0 : 1]->identity;
    }
    ret->hop[last] = path->hop[guard_first ? 1 : 0]->identity;
}

/* Draw from those of `list` that are confirmed, or from all. */
static enum mvpn_path_block select_from(const draft *base, const candidate *list,
                                        bool only_confirmed, enum mvpn_path_block exit_block,
                                        mvpn_path *ret)
{
    candidate own[MVPN_VIEW_MAX];
    enum mvpn_path_block block = exit_block;
    for (unsigned t = 0; t < TRIES; t++) {
        draft path = *base;
        path.list = own;
        path.list_count = 0;
        for (size_t i = 0; i < base->list_count; i++) {
            if (!only_confirmed || (list[i].places & CONFIRMED) != 0) {
                own[path.list_count++] = list[i];
            }
        }
        block = draw_path(&path, exit_block);
        if (block == MVPN_PATH_OK) {
            write_path(&path, ret);
            return block;
        }
        if (path.count == 0) {
            return block; /* the first place has nobody: no other draw will */
        }
    }
    return block;
}

enum mvpn_path_block mvpn_path_select(const mvpn_view *view, const mvpn_path_constraints *wish,
                                      mvpn_rng *rng, mvpn_path *ret)
{
    candidate list[MVPN_VIEW_MAX];
    enum mvpn_path_block exit_block;
    draft base = {.view = view, .wish = wish, .rng = rng};
    base.list_count = collect(view, wish, list, &exit_block);
    enum mvpn_path_block block = select_from(&base, list, true, exit_block, ret);
    if (block != MVPN_PATH_OK && !mvpn_view_is_confirmed(view)) {
        block = select_from(&base, list, false, exit_block, ret);
    }
    return block;
}
