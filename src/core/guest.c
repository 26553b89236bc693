#include "core/guest.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/path.h"

#define SLOTS MVPN_CONNECTOR_BINDINGS
/* The view is looked at so often, for NAT relays that have gone and such that replace them. */
#define REVIEW_TIME MVPN_S(5)
/* A NAT relay that has not served for so long is replaced. */
#define FAILED_TIME MVPN_S(60)
/* And after so long it is no longer named: shorter losses are not worth a new descriptor. */
#define LOST_TIME MVPN_S(15)
/* Between two descriptors, unless what the last one says is of no use. */
#define PUBLISH_TIME MVPN_S(60)
/* The first descriptor waits so long for the other NAT relay. */
#define SETTLE_TIME MVPN_S(2)
/* NAT relays that failed: not chosen for a minute, then two, ... */
#define AVOID_TIME MVPN_S(60)
#define AVOID_DOUBLINGS 5
/* More than can fail in the time of the longest of those, at one a minute and slot. */
#define AVOIDED_MAX 64

/* An address family by which nobody is reached, while others are by the other one: so long it
 * counts as not there. */
#define FAMILY_TIME MVPN_S(1800)

/* What a relay has for or against it; the first weighs most. */
#define SCORE_CONFIRMED 8u
#define SCORE_DISTINCT 4u
#define SCORE_FAMILY 2u
#define SCORE_NOT_OURS 1u

typedef struct slot {
    bool is_used;
    mvpn_link_target target;
    bool is_registered;
    mvpn_time bad_since; /* not registered since */
} slot;

typedef struct avoided {
    mvpn_ed25519_pub identity;
    unsigned failures; /* 0: free */
    mvpn_time until;
} avoided;

/* What a descriptor says of how we are reached. */
typedef struct said {
    mvpn_descriptor_nat_relay relay[SLOTS];
    mvpn_addr seen[SLOTS]; /* by each of them; family 0: it has not said */
    size_t count;
} said;

struct mvpn_guest {
    mvpn_guest_config cfg;
    slot slots[SLOTS];
    avoided avoided[AVOIDED_MAX];
    mvpn_time blocked4, blocked6; /* until then: see FAMILY_TIME */
    said said;
    mvpn_time said_when; /* 0: nothing was ever said */
    mvpn_time next_review, next_publish;
};

static bool same_identity(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* ---- the choice ---- */

static bool is_avoided(const mvpn_guest_wish *wish, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < wish->avoided_count; i++) {
        if (same_identity(&wish->avoided[i], identity)) {
            return true;
        }
    }
    return false;
}

static bool can_serve(const mvpn_guest_wish *wish, const mvpn_descriptor *d,
                      const mvpn_view_info *info)
{
    return (d->roles & MVPN_ROLE_NAT_RELAY) != 0 && !mvpn_target_is_behind_nat(d) &&
           !info->is_dead && !info->is_unshown &&
           !same_identity(&d->identity, &wish->self->identity) &&
           (wish->unix_now == 0 || mvpn_validity_holds(d->published, d->expires, wish->unix_now));
}

/* By `family` if that is possible and not 0, else by any that we have. */
static int make_target(const mvpn_guest_wish *wish, const mvpn_descriptor *d, uint8_t family,
                       mvpn_link_target *ret)
{
    mvpn_target_rules rules = {
        .has_ipv4 = wish->has_ipv4 && family != 6,
        .has_ipv6 = wish->has_ipv6 && family != 4,
        .allow_private = wish->allow_private,
        .self = &wish->self->identity,
        .unix_now = wish->unix_now,
    };
    int r = mvpn_target_make(wish->view, d, &rules, ret);
    if (r != 0 && family != 0) {
        rules.has_ipv4 = wish->has_ipv4;
        rules.has_ipv6 = wish->has_ipv6;
        r = mvpn_target_make(wish->view, d, &rules, ret);
    }
    return r;
}

int mvpn_guest_target(const mvpn_guest_wish *wish, const mvpn_ed25519_pub *identity, uint8_t family,
                      mvpn_link_target *ret)
{
    const mvpn_descriptor *d = mvpn_view_find(wish->view, identity);
    mvpn_view_info info;
    if (d == NULL || !mvpn_view_find_info(wish->view, identity, &info) ||
        !can_serve(wish, d, &info) || (!info.is_confirmed && mvpn_view_is_confirmed(wish->view))) {
        return MVPN_E_UNKNOWN;
    }
    return make_target(wish, d, family, ret);
}

/* The family that we would like beside that of `other`; 0: any. */
static uint8_t missing_family(const mvpn_guest_wish *wish, const mvpn_link_target *other)
{
    if (other == NULL || !wish->has_ipv4 || !wish->has_ipv6) {
        return 0;
    }
    return other->addr.family == 4 ? 6 : 4;
}

int mvpn_guest_choose(const mvpn_guest_wish *wish, const mvpn_link_target *other, mvpn_rng *rng,
                      mvpn_link_target *ret)
{
    const mvpn_descriptor *beside =
        other == NULL ? NULL : mvpn_view_find(wish->view, &other->identity);
    const unsigned only_family =
        (wish->relax & MVPN_RELAX_FAMILY) | MVPN_RELAX_BLOCK | MVPN_RELAX_PROVIDER;
    const uint8_t family = missing_family(wish, other);
    const uint8_t quartile = mvpn_path_declared_quartile(wish->view);
    const bool only_confirmed = mvpn_view_is_confirmed(wish->view);
    mvpn_descriptor self = *wish->self;
    unsigned best = 0;
    uint32_t total = 0;       /* weights of those that score best */
    self.nat_relay_count = 0; /* who serves us already is not ours for that */
    for (size_t i = 0; i < mvpn_view_count(wish->view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(wish->view, i);
        mvpn_view_info info;
        mvpn_link_target target;
        mvpn_view_get_info(wish->view, i, &info);
        if (!can_serve(wish, d, &info) || (only_confirmed && !info.is_confirmed) ||
            (other != NULL && same_identity(&d->identity, &other->identity)) ||
            is_avoided(wish, &d->identity) || make_target(wish, d, family, &target) != 0) {
            continue;
        }
        bool is_distinct =
            beside == NULL || mvpn_path_are_distinct(wish->view, beside, d, wish->relax);
        bool is_of_family = family == 0 || target.addr.family == family;
        bool is_not_ours = mvpn_path_are_distinct(wish->view, &self, d, only_family);
        unsigned score = (info.is_confirmed ? SCORE_CONFIRMED : 0) |
                         (is_distinct ? SCORE_DISTINCT : 0) | (is_of_family ? SCORE_FAMILY : 0) |
                         (is_not_ours ? SCORE_NOT_OURS : 0);
        if (score < best) {
            continue;
        }
        uint32_t weight = mvpn_path_weight(d, &info, quartile);
        total = score > best ? weight : total + weight;
        best = score;
        if (mvpn_rng_below(rng, total) < weight) {
            *ret = target;
        }
    }
    return total == 0 ? MVPN_E_UNKNOWN : 0;
}

/* ---- keeping two of them ---- */

int mvpn_guest_new(const mvpn_guest_config *config, mvpn_time now, mvpn_guest **ret)
{
    mvpn_guest *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return MVPN_E_NOMEM;
    }
    g->cfg = *config;
    g->next_review = now;
    g->next_publish = MVPN_TIME_NEVER;
    *ret = g;
    return 0;
}

void mvpn_guest_free(mvpn_guest *g)
{
    free(g);
}

void mvpn_guest_set_unix_offset(mvpn_guest *g, int64_t unix_offset_us)
{
    g->cfg.unix_offset_us = unix_offset_us;
}

static uint64_t unix_now(const mvpn_guest *g, mvpn_time now)
{
    int64_t t = ((int64_t)now + g->cfg.unix_offset_us) / (int64_t)MVPN_US_PER_S;
    return t < 1 ? 1 : (uint64_t)t; /* 0 would leave times unchecked */
}

static void avoid(mvpn_guest *g, const mvpn_ed25519_pub *identity, mvpn_time now)
{
    avoided *a = &g->avoided[0];
    for (size_t i = 0; i < AVOIDED_MAX; i++) {
        avoided *it = &g->avoided[i];
        if (it->failures > 0 && same_identity(&it->identity, identity)) {
            a = it;
            break;
        }
        if (it->until < a->until) { /* the one that is over first, or was long ago */
            a = it;
        }
    }
    unsigned failures = same_identity(&a->identity, identity) ? a->failures : 0;
    mvpn_time pause = AVOID_TIME << MVPN_MIN(failures, AVOID_DOUBLINGS);
    *a = (avoided){*identity, failures + 1, now + mvpn_rng_jitter(g->cfg.rng, pause, 20)};
}

static void forgive(mvpn_guest *g, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < AVOIDED_MAX; i++) {
        if (same_identity(&g->avoided[i].identity, identity)) {
            g->avoided[i] = (avoided){.failures = 0};
        }
    }
}

/* Fill the place of `s`. False: there is nobody, `s` stays as it is. */
static bool choose(mvpn_guest *g, mvpn_guest_wish *wish, slot *s, mvpn_time now)
{
    mvpn_ed25519_pub not_wanted[AVOIDED_MAX + SLOTS];
    const slot *beside = &g->slots[s == &g->slots[0] ? 1 : 0];
    const mvpn_link_target *other = beside->is_used ? &beside->target : NULL;
    mvpn_link_target target;
    size_t n = 0;
    if (s->is_used) {
        not_wanted[n++] = s->target.identity;
    }
    for (size_t i = 0; i < AVOIDED_MAX; i++) {
        if (g->avoided[i].failures > 0 && g->avoided[i].until > now) {
            not_wanted[n++] = g->avoided[i].identity;
        }
    }
    wish->avoided = not_wanted;
    wish->avoided_count = n;
    int r = mvpn_guest_choose(wish, other, g->cfg.rng, &target);
    if (r != 0 && !s->is_used) { /* better one that failed than none */
        wish->avoided_count = 0;
        r = mvpn_guest_choose(wish, other, g->cfg.rng, &target);
    }
    if (r != 0) {
        return false;
    }
    *s = (slot){.target = target, .is_used = true, .bad_since = now};
    return true;
}

static bool is_same_target(const mvpn_link_target *a, const mvpn_link_target *b)
{
    return same_identity(&a->identity, &b->identity) && mvpn_addr_eq(&a->addr, &b->addr) &&
           memcmp(a->link_key.b, b->link_key.b, sizeof(a->link_key.b)) == 0 &&
           a->serial == b->serial;
}

/* Is the NAT relay in `s` still one, and where? True: something has changed. */
static bool follow_view(const mvpn_guest_wish *wish, slot *s)
{
    mvpn_link_target target;
    if (!s->is_used) {
        return false;
    }
    if (mvpn_guest_target(wish, &s->target.identity, s->target.addr.family, &target) != 0) {
        *s = (slot){.is_used = false};
        return true;
    }
    bool is_changed = !is_same_target(&target, &s->target);
    s->target = target;
    return is_changed;
}

/* One NAT relay failed by one family while the other serves by the other: then it may well be that
 * this family is only said to be there, as on many home networks. */
static void judge_family(mvpn_guest *g, const slot *failed, mvpn_time now)
{
    const slot *beside = &g->slots[failed == &g->slots[0] ? 1 : 0];
    uint8_t family = failed->target.addr.family;
    if (beside->is_registered && beside->target.addr.family != family) {
        *(family == 4 ? &g->blocked4 : &g->blocked6) = now + FAMILY_TIME;
    }
}

static bool has_failed(const slot *s, mvpn_time now)
{
    return s->is_used && !s->is_registered && now - s->bad_since >= FAILED_TIME;
}

static void review(mvpn_guest *g, mvpn_time now)
{
    for (size_t i = 0; i < SLOTS; i++) {
        if (has_failed(&g->slots[i], now)) {
            judge_family(g, &g->slots[i], now);
        }
    }
    const mvpn_publisher *p = g->cfg.finder == NULL ? NULL : mvpn_finder_publisher(g->cfg.finder);
    const mvpn_descriptor nobody = {.identity = g->cfg.identity};
    mvpn_guest_wish wish = {
        .view = g->cfg.view,
        .self = p == NULL ? &nobody : &p->descriptor,
        .relax = g->cfg.relax,
        .has_ipv4 = g->cfg.has_ipv4 && now >= g->blocked4,
        .has_ipv6 = g->cfg.has_ipv6 && now >= g->blocked6,
        .allow_private = g->cfg.allow_private,
        .unix_now = unix_now(g, now),
    };
    mvpn_link_target targets[SLOTS];
    size_t count = 0;
    bool is_changed = false;
    for (size_t i = 0; i < SLOTS; i++) {
        is_changed |= follow_view(&wish, &g->slots[i]);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &g->slots[i];
        bool is_replaced = has_failed(s, now);
        if (s->is_used && !is_replaced) {
            continue;
        }
        const mvpn_ed25519_pub before = s->target.identity;
        if (choose(g, &wish, s, now)) {
            is_changed = true;
            if (is_replaced) {
                avoid(g, &before, now);
            }
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (g->slots[i].is_used) {
            targets[count++] = g->slots[i].target;
        }
    }
    if (is_changed) {
        mvpn_connector_register(g->cfg.connector, targets, count, now);
    }
    g->next_review = now + mvpn_rng_jitter(g->cfg.rng, REVIEW_TIME, 10);
}

/* ---- what is said of it ---- */

static const mvpn_connector_binding *binding_of(const mvpn_connector_binding *bindings,
                                                size_t count, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < count; i++) {
        if (same_identity(&bindings[i].identity, identity)) {
            return &bindings[i];
        }
    }
    return NULL;
}

static void note_bindings(mvpn_guest *g, const mvpn_connector_binding *bindings, size_t count,
                          mvpn_time now)
{
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &g->slots[i];
        if (!s->is_used) {
            continue;
        }
        const mvpn_connector_binding *b = binding_of(bindings, count, &s->target.identity);
        bool is_registered = b != NULL && b->is_registered;
        if (is_registered && !s->is_registered) {
            forgive(g, &s->target.identity);
        } else if (!is_registered && s->is_registered) {
            s->bad_since = now;
        }
        s->is_registered = is_registered;
    }
}

/* Its place in what is said; count: none. */
static size_t said_at(const said *is, const mvpn_ed25519_pub *identity)
{
    size_t i = 0;
    while (i < is->count && !same_identity(&is->relay[i].identity, identity)) {
        i++;
    }
    return i;
}

/* NAT relays that serve, and those that are to be expected back. */
static said what_is(const mvpn_guest *g, const mvpn_connector_binding *bindings, size_t count,
                    mvpn_time now)
{
    said is = {.count = 0};
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &g->slots[i];
        size_t before = said_at(&g->said, &s->target.identity);
        if (s->is_used && s->is_registered) {
            const mvpn_connector_binding *b = binding_of(bindings, count, &s->target.identity);
            is.relay[is.count] =
                (mvpn_descriptor_nat_relay){b->identity, b->rendezvous, b->relay.family};
            is.seen[is.count++] = b->seen;
        } else if (s->is_used && before < g->said.count && now - s->bad_since < LOST_TIME) {
            is.relay[is.count] = g->said.relay[before];
            is.seen[is.count++] = g->said.seen[before];
        }
    }
    return is;
}

static bool is_same_rendezvous(const mvpn_descriptor_nat_relay *a,
                               const mvpn_descriptor_nat_relay *b)
{
    return same_identity(&a->identity, &b->identity) && a->family == b->family &&
           memcmp(a->rendezvous.b, b->rendezvous.b, sizeof(a->rendezvous.b)) == 0;
}

/* Ports of ours change with each binding of some NATs: what counts is where we are. */
static bool is_same_said(const said *a, const said *b)
{
    bool is_same = a->count == b->count;
    for (size_t i = 0; is_same && i < a->count; i++) {
        is_same = is_same_rendezvous(&a->relay[i], &b->relay[i]) &&
                  a->seen[i].family == b->seen[i].family &&
                  (a->seen[i].family == 0 || mvpn_addr_ip_eq(&a->seen[i], &b->seen[i]));
    }
    return is_same;
}

/* Does anybody who has our descriptor get through? */
static bool is_said_valid(const mvpn_guest *g, const said *is)
{
    for (size_t i = 0; i < is->count; i++) {
        size_t before = said_at(&g->said, &is->relay[i].identity);
        if (before < g->said.count && is_same_rendezvous(&g->said.relay[before], &is->relay[i])) {
            return true;
        }
    }
    return false;
}

/* Each address once; how many. */
static size_t seen_by_any(const said *is, mvpn_addr ret[static SLOTS])
{
    size_t n = 0;
    for (size_t i = 0; i < is->count; i++) {
        bool is_new = is->seen[i].family != 0 && is->seen[i].port != 0;
        for (size_t k = 0; k < n && is_new; k++) {
            is_new = !mvpn_addr_ip_eq(&ret[k], &is->seen[i]);
        }
        if (is_new) {
            ret[n++] = is->seen[i];
        }
    }
    return n;
}

/* When those that were just chosen have had their time to answer; 0: now. */
static mvpn_time settled_at(const mvpn_guest *g, mvpn_time now)
{
    mvpn_time t = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &g->slots[i];
        if (s->is_used && !s->is_registered && now - s->bad_since < SETTLE_TIME) {
            t = s->bad_since + SETTLE_TIME;
        }
    }
    return t;
}

static void publish(mvpn_guest *g, const mvpn_connector_binding *bindings, size_t count,
                    mvpn_time now)
{
    const said is = what_is(g, bindings, count, now);
    mvpn_addr seen[SLOTS];
    size_t seen_count = seen_by_any(&is, seen);
    g->next_publish = MVPN_TIME_NEVER;
    if (is_same_said(&is, &g->said)) {
        return;
    }
    if (is.count > 0 && seen_count == 0) {
        return; /* nobody has told us how it sees us */
    }
    if (g->said_when == 0 && settled_at(g, now) != 0) {
        g->next_publish = settled_at(g, now);
        return;
    }
    if (is_said_valid(g, &is) && now - g->said_when < PUBLISH_TIME) {
        g->next_publish = g->said_when + PUBLISH_TIME;
        return;
    }
    g->said = is;
    g->said_when = now;
    if (g->cfg.finder != NULL) {
        mvpn_finder_set_nat_relays(g->cfg.finder, is.relay, is.count, seen, seen_count);
    }
}

static mvpn_time next_loss(const mvpn_guest *g, mvpn_time now)
{
    mvpn_time t = MVPN_TIME_NEVER;
    for (size_t i = 0; i < SLOTS; i++) {
        const slot *s = &g->slots[i];
        if (s->is_used && !s->is_registered && now - s->bad_since < LOST_TIME) {
            t = mvpn_time_min(t, s->bad_since + LOST_TIME);
        }
    }
    return t;
}

void mvpn_guest_tick(mvpn_guest *g, mvpn_time now)
{
    mvpn_connector_binding bindings[MVPN_CONNECTOR_BINDINGS];
    bool is_due = now >= g->next_review,
         has_changed = mvpn_connector_take_binding_change(g->cfg.connector);
    if (!is_due && !has_changed && now < g->next_publish) {
        return;
    }
    size_t count = mvpn_connector_bindings(g->cfg.connector, bindings);
    note_bindings(g, bindings, count, now);
    if (is_due) {
        review(g, now);
        count = mvpn_connector_bindings(g->cfg.connector, bindings);
        note_bindings(g, bindings, count, now);
    }
    publish(g, bindings, count, now);
    g->next_publish = mvpn_time_min(g->next_publish, next_loss(g, now));
}

mvpn_time mvpn_guest_deadline(const mvpn_guest *g)
{
    return mvpn_time_min(g->next_review, g->next_publish);
}
