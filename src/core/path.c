#include "core/path.h"

#include <stdlib.h>
#include <string.h>

/* Tries before a choice counts as blocked: exits and guards differ, so a few draws find what there
 * is. */
#define TRIES 32

const char *mvpn_path_block_text(enum mvpn_path_block block)
{
    switch (block) {
    case MVPN_PATH_OK:
        return "a path was found";
    case MVPN_PATH_NO_EXIT:
        return "no exit relay is known that fits the wishes";
    case MVPN_PATH_NO_GUARD:
        return "no guard relay is known that can be reached from here";
    case MVPN_PATH_NO_MIDDLE:
        return "too few relays for so many hops";
    case MVPN_PATH_RELATED:
        return "the relays left share a network block, provider or family with another hop";
    }
    return "unknown";
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

bool mvpn_path_are_distinct(const mvpn_descriptor *a, const mvpn_descriptor *b, unsigned relax)
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

typedef struct draft {
    const mvpn_descriptor *hop[MVPN_HOPS_MAX];
    unsigned count;
} draft;

static bool is_usable(const mvpn_descriptor *d, const mvpn_path_constraints *wish)
{
    for (size_t i = 0; i < wish->excluded_count; i++) {
        if (same_identity(&d->identity, &wish->excluded[i])) {
            return false;
        }
    }
    if (wish->unix_now != 0 && !mvpn_validity_holds(d->published, d->expires, wish->unix_now)) {
        return false;
    }
    return wish->allow_private || mvpn_descriptor_is_public(d);
}

static bool is_distinct_from(const draft *path, const mvpn_descriptor *d, unsigned relax)
{
    for (unsigned i = 0; i < path->count; i++) {
        if (!mvpn_path_are_distinct(path->hop[i], d, relax)) {
            return false;
        }
    }
    return true;
}

static bool fits_place(const mvpn_descriptor *d, const mvpn_path_constraints *wish, uint16_t roles,
                       bool is_first, bool is_last)
{
    if ((d->roles & roles) != roles || !is_usable(d, wish)) {
        return false;
    }
    if (is_first && (mvpn_descriptor_find_address(d, wish->family) == NULL ||
                     (wish->guard != NULL && !same_identity(&d->identity, wish->guard)))) {
        return false;
    }
    if (is_last &&
        ((wish->exit != NULL && !same_identity(&d->identity, wish->exit)) ||
         (wish->exit_country[0] != '\0' && strcmp(d->country, wish->exit_country) != 0))) {
        return false;
    }
    return true;
}

/* Weight by declared bandwidth in powers of two, so that a large claim gains little. */
static uint32_t weight_of(const mvpn_descriptor *d)
{
    uint32_t w = 1;
    uint32_t kbit = d->has_bandwidth ? d->bandwidth_kbit : 0;
    for (uint32_t step = 10000; step <= kbit && w < 1024; step *= 2) {
        w *= 2;
    }
    return w;
}

static bool has_family(const mvpn_descriptor *d, uint8_t family)
{
    return mvpn_descriptor_find_address(d, family) != NULL;
}

/* Neighbours need a common address family; drawn in any order, all hops are held to it. */
static bool can_meet(const draft *path, const mvpn_descriptor *d)
{
    for (unsigned i = 0; i < path->count; i++) {
        const mvpn_descriptor *other = path->hop[i];
        if (!(has_family(d, 4) && has_family(other, 4)) &&
            !(has_family(d, 6) && has_family(other, 6))) {
            return false;
        }
    }
    return true;
}

/* Draw one relay for a place, weighted; NULL if none fits. `*ret_related`: some fit but for
 * distinctness. */
static const mvpn_descriptor *draw(const mvpn_view *view, const mvpn_path_constraints *wish,
                                   const draft *path, uint16_t roles, bool is_first, bool is_last,
                                   mvpn_rng *rng, bool *ret_related)
{
    const mvpn_descriptor *chosen = NULL;
    uint32_t total = 0;
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        if (!fits_place(d, wish, roles, is_first, is_last) || !can_meet(path, d)) {
            continue;
        }
        if (!is_distinct_from(path, d, wish->relax)) {
            *ret_related = true;
            continue;
        }
        uint32_t w = weight_of(d);
        total += w;
        if (mvpn_rng_below(rng, total) < w) {
            chosen = d;
        }
    }
    return chosen;
}

static enum mvpn_path_block try_select(const mvpn_view *view, const mvpn_path_constraints *wish,
                                       mvpn_rng *rng, mvpn_path *ret)
{
    draft path = {.count = 0};
    bool related = false;
    bool single = wish->hops == 1;
    uint16_t exit_roles = single ? MVPN_ROLE_EXIT | MVPN_ROLE_GUARD : MVPN_ROLE_EXIT;
    const mvpn_descriptor *exit = draw(view, wish, &path, exit_roles, single, true, rng, &related);
    if (exit == NULL) {
        return MVPN_PATH_NO_EXIT;
    }
    path.hop[path.count++] = exit;
    const mvpn_descriptor *guard = exit;
    if (!single) {
        guard = draw(view, wish, &path, MVPN_ROLE_GUARD, true, false, rng, &related);
        if (guard == NULL) {
            return related ? MVPN_PATH_RELATED : MVPN_PATH_NO_GUARD;
        }
        path.hop[path.count++] = guard;
    }
    while (path.count < wish->hops) {
        const mvpn_descriptor *d =
            draw(view, wish, &path, MVPN_ROLE_MIDDLE, false, false, rng, &related);
        if (d == NULL) {
            return related ? MVPN_PATH_RELATED : MVPN_PATH_NO_MIDDLE;
        }
        path.hop[path.count++] = d;
    }
    ret->count = wish->hops;
    ret->hop[0] = guard->identity;
    for (unsigned i = 2; i < path.count; i++) {
        ret->hop[i - 1] = path.hop[i]->identity;
    }
    ret->hop[wish->hops - 1] = exit->identity;
    return MVPN_PATH_OK;
}

enum mvpn_path_block mvpn_path_select(const mvpn_view *view, const mvpn_path_constraints *wish,
                                      mvpn_rng *rng, mvpn_path *ret)
{
    enum mvpn_path_block block = MVPN_PATH_NO_EXIT;
    for (unsigned i = 0; i < TRIES; i++) {
        block = try_select(view, wish, rng, ret);
        if (block == MVPN_PATH_OK || block == MVPN_PATH_NO_EXIT) {
            return block;
        }
    }
    return block;
}
