#include "core/proof.h"

#include <string.h>

#include "base/error.h"

/* ---- verdicts ---- */

static bool is_own(const mvpn_proof_observation *o, const mvpn_addr *addr)
{
    for (size_t i = 0; i < o->own_count; i++) {
        if (mvpn_addr_ip_eq(&o->own[i], addr)) {
            return true;
        }
    }
    return false;
}

/* Witnesses who contradict each other prove nothing good, whichever of them lies. */
static enum mvpn_proof_verdict judge_testimony(const mvpn_proof_observation *o,
                                               const mvpn_proof_testimony *t, const mvpn_addr *exit)
{
    if (t->asked == 0) {
        return MVPN_PROOF_UNKNOWN;
    }
    for (unsigned i = 0; i < t->answered; i++) {
        const mvpn_addr *seen = &t->seen[i];
        if (!mvpn_addr_ip_eq(seen, &t->seen[0]) || is_own(o, seen) ||
            (exit->family != 0 && !mvpn_addr_ip_eq(seen, exit))) {
            return MVPN_PROOF_FAILS;
        }
    }
    return t->answered > 0 ? MVPN_PROOF_HOLDS : MVPN_PROOF_FAILS;
}

static bool is_astray(const mvpn_addr *way, const mvpn_addr *tun)
{
    return way->family != 0 && !mvpn_addr_ip_eq(way, tun);
}

static enum mvpn_proof_verdict judge_v6(const mvpn_proof_observation *o)
{
    if (o->carries_v6) {
        return is_astray(&o->way_v6, &o->tun_v6) ? MVPN_PROOF_FAILS
                                                 : judge_testimony(o, &o->v6, &o->exit_v6);
    }
    switch (o->v6_packet) {
    case MVPN_PROOF_REFUSED:
        return MVPN_PROOF_HOLDS;
    case MVPN_PROOF_PASSED:
        return MVPN_PROOF_FAILS;
    case MVPN_PROOF_NOT_TRIED:
        break;
    }
    return MVPN_PROOF_UNKNOWN;
}

static enum mvpn_proof_verdict judge_kill_switch(const mvpn_proof_observation *o)
{
    bool was_tried = o->past_v4 != MVPN_PROOF_NOT_TRIED || o->past_v6 != MVPN_PROOF_NOT_TRIED;
    bool has_passed = o->past_v4 == MVPN_PROOF_PASSED || o->past_v6 == MVPN_PROOF_PASSED;
    return !o->has_kill_switch || !was_tried ? MVPN_PROOF_UNKNOWN
           : has_passed                      ? MVPN_PROOF_FAILS
                                             : MVPN_PROOF_HOLDS;
}

void mvpn_proof_judge(const mvpn_proof_observation *o, mvpn_proof *ret)
{
    bool by_v4 = o->v4.asked > 0;
    const mvpn_proof_testimony *t = by_v4 ? &o->v4 : &o->v6;
    bool strays = is_astray(&o->way_v4, &o->tun_v4);
    *ret = (mvpn_proof){
        .exit_address =
            strays ? MVPN_PROOF_FAILS : judge_testimony(o, t, by_v4 ? &o->exit_v4 : &o->exit_v6),
        .dns = !o->dns_asked     ? MVPN_PROOF_UNKNOWN
               : o->dns_answered ? MVPN_PROOF_HOLDS
                                 : MVPN_PROOF_FAILS,
        .ipv6 = judge_v6(o),
        .kill_switch = judge_kill_switch(o),
        .is_astray = strays || (o->carries_v6 && is_astray(&o->way_v6, &o->tun_v6)),
        .witnesses = t->answered,
        .carries_v6 = o->carries_v6,
    };
    if (ret->exit_address == MVPN_PROOF_HOLDS) {
        ret->seen = t->seen[0];
    }
    if (o->carries_v6 && ret->ipv6 == MVPN_PROOF_HOLDS) {
        ret->seen_v6 = o->v6.seen[0];
    }
}

bool mvpn_proof_holds(const mvpn_proof *proof)
{
    const enum mvpn_proof_verdict all[] = {proof->exit_address, proof->dns, proof->ipv6,
                                           proof->kill_switch};
    bool has_any = false;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(all); i++) {
        if (all[i] == MVPN_PROOF_FAILS) {
            return false;
        }
        has_any |= all[i] == MVPN_PROOF_HOLDS;
    }
    return has_any;
}

/* ---- witnesses ---- */

static bool is_on_path(const mvpn_path *path, const mvpn_ed25519_pub *identity)
{
    for (unsigned i = 0; i < path->count; i++) {
        if (memcmp(path->hop[i].b, identity->b, sizeof(identity->b)) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_guard(const mvpn_guards *guards, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; guards != NULL && i < guards->count; i++) {
        if (memcmp(guards->guard[i].identity.b, identity->b, sizeof(identity->b)) == 0) {
            return true;
        }
    }
    return false;
}

size_t mvpn_proof_witnesses(const mvpn_view *view, const mvpn_path *path, const mvpn_guards *guards,
                            unsigned relax, uint8_t family, mvpn_rng *rng,
                            mvpn_addr ret[static MVPN_PROOF_WITNESSES])
{
    const mvpn_descriptor *chosen[MVPN_PROOF_WITNESSES + 1];
    size_t count = 0;
    chosen[0] = path->count > 0 ? mvpn_view_find(view, &path->hop[path->count - 1]) : NULL;
    if (chosen[0] == NULL) {
        return 0;
    }
    while (count < MVPN_PROOF_WITNESSES) {
        const mvpn_descriptor *found = NULL;
        uint32_t fitting = 0;
        for (size_t i = 0; i < mvpn_view_count(view); i++) {
            const mvpn_descriptor *d = mvpn_view_at(view, i);
            mvpn_addr addr;
            bool fits = d->roles != 0 && mvpn_descriptor_find_stun(d, family, &addr) &&
                        !is_on_path(path, &d->identity) && !is_guard(guards, &d->identity);
            for (size_t k = 0; fits && k <= count; k++) {
                fits = d != chosen[k] && mvpn_path_are_distinct(view, chosen[k], d, relax);
            }
            /* Each of those that fit is as likely: the n-th takes the place with chance 1/n. */
            if (fits && mvpn_rng_below(rng, ++fitting) == 0) {
                found = d;
                ret[count] = addr;
            }
        }
        if (found == NULL) {
            break;
        }
        chosen[++count] = found;
    }
    return count;
}
