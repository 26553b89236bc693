#include "network/p2p/nat_class.h"

#include <assert.h>
#include <stdlib.h>

/* A larger distance between two ports is no step that could be predicted. */
#define STEP_MAX 32

enum mvpn_stun_nat mvpn_nat_class_name(const mvpn_nat_class *c)
{
    if (c->is_public) {
        return MVPN_STUN_NAT_NONE;
    }
    if (!c->is_known || c->mapping == MVPN_STUN_MAPPING_UNKNOWN) {
        return MVPN_STUN_NAT_UNKNOWN;
    }
    if (c->mapping != MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT) {
        return MVPN_STUN_NAT_SYMMETRIC;
    }
    return c->filtering == MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT ? MVPN_STUN_NAT_FULL_CONE
           : c->filtering == MVPN_STUN_FILTERING_ADDRESS_DEPENDENT  ? MVPN_STUN_NAT_RESTRICTED
                                                                    : MVPN_STUN_NAT_PORT_RESTRICTED;
}

bool mvpn_nat_class_eq(const mvpn_nat_class *a, const mvpn_nat_class *b)
{
    if (a->is_known != b->is_known || a->is_public != b->is_public || a->mapping != b->mapping ||
        a->filtering != b->filtering || a->hairpin != b->hairpin || a->ports != b->ports ||
        a->port_step != b->port_step || a->lifetime_s != b->lifetime_s ||
        a->seen_count != b->seen_count) {
        return false;
    }
    for (size_t i = 0; i < a->seen_count; i++) {
        if (!mvpn_addr_eq(&a->seen[i], &b->seen[i])) {
            return false;
        }
    }
    return true;
}

static const mvpn_addr *agreed(const mvpn_nat_evidence *e,
                               bool (*are_same)(const mvpn_addr *a, const mvpn_addr *b))
{
    size_t best = 0, at = 0;
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        size_t votes = 0;
        for (size_t k = 0; e->seen[i].family != 0 && k < MVPN_NAT_OBSERVERS; k++) {
            votes += are_same(&e->seen[i], &e->seen[k]);
        }
        at = votes > best ? i : at;
        best = MVPN_MAX(best, votes);
    }
    static_assert(MVPN_NAT_OBSERVERS == 3, "two are more than half of them");
    return best >= 2 ? &e->seen[at] : NULL;
}

const mvpn_addr *mvpn_nat_evidence_agreed(const mvpn_nat_evidence *e)
{
    return agreed(e, mvpn_addr_eq);
}

const mvpn_addr *mvpn_nat_evidence_agreed_ip(const mvpn_nat_evidence *e)
{
    return agreed(e, mvpn_addr_ip_eq);
}

static size_t seen_count(const mvpn_nat_evidence *e)
{
    size_t n = 0;
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        n += e->seen[i].family != 0;
    }
    return n;
}

static enum mvpn_stun_mapping judge_mapping(const mvpn_nat_evidence *e)
{
    if (seen_count(e) < 2) {
        return MVPN_STUN_MAPPING_UNKNOWN;
    }
    if (mvpn_nat_evidence_agreed(e) != NULL) {
        return MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT;
    }
    return e->second[0].family != 0 && mvpn_addr_eq(&e->second[0], &e->second[1])
               ? MVPN_STUN_MAPPING_ADDRESS_DEPENDENT
               : MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT;
}

/*
 * What arrives proves itself; silence counts if two were to break it. The second socket speaks for
 * the NAT; the main one, which many have reason to know, tells whether it is let in specially (a
 * forwarded port, a firewall's rule).
 */
static enum mvpn_stun_filtering judge_filtering(const mvpn_nat_evidence *e)
{
    bool is_main_heard = false, is_second_heard = e->second_port == MVPN_NAT_HEARD;
    size_t silent = 0;
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        is_main_heard |= e->main_port[i] == MVPN_NAT_HEARD;
        silent += e->main_port[i] == MVPN_NAT_SILENT;
    }
    bool is_special = is_main_heard && !is_second_heard;
    enum mvpn_nat_heard relay = is_special ? e->main_relay : e->second_relay;
    if (relay == MVPN_NAT_HEARD || e->second_relay == MVPN_NAT_HEARD) {
        return MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT;
    }
    if (is_main_heard || is_second_heard) {
        return relay == MVPN_NAT_SILENT ? MVPN_STUN_FILTERING_ADDRESS_DEPENDENT
                                        : MVPN_STUN_FILTERING_UNKNOWN;
    }
    return silent >= 2 ? MVPN_STUN_FILTERING_ADDRESS_AND_PORT_DEPENDENT
                       : MVPN_STUN_FILTERING_UNKNOWN;
}

static bool is_preserving(const mvpn_nat_evidence *e)
{
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        if (e->seen[i].family != 0 && (e->own_count == 0 || e->seen[i].port != e->own[0].port)) {
            return false;
        }
    }
    return seen_count(e) >= 2;
}

/* A step that goes on in the direction of those before; 0 if it is none. */
static int step_between(const mvpn_addr *from, const mvpn_addr *to, int before)
{
    int d = to->port - from->port;
    return abs(d) > STEP_MAX || (before != 0 && (d > 0) != (before > 0)) ? 0 : d;
}

/* The ports that the second socket got, one after the other. The first is of a second earlier:
 * other traffic may have taken ports between. */
static void judge_ports(mvpn_nat_class *c, const mvpn_nat_evidence *e)
{
    const mvpn_addr *first = NULL, *last = NULL;
    int step = 0;
    unsigned steps = 0;
    if (is_preserving(e)) {
        c->ports = MVPN_STUN_PORTS_PRESERVING;
        return;
    }
    for (size_t i = 1; i < MVPN_NAT_SECOND_MAX; i++) {
        const mvpn_addr *at = &e->second[i];
        if (at->family == 0 || (last != NULL && at->port == last->port)) {
            continue;
        }
        int d = last != NULL ? step_between(last, at, step) : 0;
        if (last != NULL && d == 0) {
            c->ports = MVPN_STUN_PORTS_RANDOM;
            return;
        }
        step = step == 0 || abs(d) < abs(step) ? d : step;
        steps += d != 0;
        first = first == NULL ? at : first;
        last = at;
    }
    if (steps == 1 && e->second[0].family != 0) {
        steps += step_between(&e->second[0], first, step) != 0;
    }
    if (steps >= 2) { /* one alone may be chance */
        c->ports = MVPN_STUN_PORTS_SEQUENTIAL;
        c->port_step = step;
    }
}

static bool is_own(const mvpn_nat_evidence *e, const mvpn_addr *seen)
{
    for (size_t i = 0; i < e->own_count; i++) {
        if (mvpn_addr_ip_eq(&e->own[i], seen)) {
            return true;
        }
    }
    return false;
}

/* Nobody but the host itself knows its addresses behind a NAT: one observer is enough. */
static bool judge_public(const mvpn_nat_evidence *e)
{
    size_t own = 0;
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        own += e->seen[i].family != 0 && is_own(e, &e->seen[i]);
    }
    return 2 * own > seen_count(e);
}

void mvpn_nat_class_judge(mvpn_nat_class *ret, const mvpn_nat_evidence *e)
{
    mvpn_nat_class c = {.mapping = judge_mapping(e), .filtering = judge_filtering(e)};
    c.is_known = c.mapping != MVPN_STUN_MAPPING_UNKNOWN;
    c.is_public = judge_public(e);
    c.hairpin = e->hairpin == MVPN_NAT_HEARD    ? MVPN_STUN_HAIRPIN_YES
                : e->hairpin == MVPN_NAT_SILENT ? MVPN_STUN_HAIRPIN_NO
                                                : MVPN_STUN_HAIRPIN_UNKNOWN;
    judge_ports(&c, e);
    *ret = c;
}
