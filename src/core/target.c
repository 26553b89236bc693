#include "core/target.h"

#include <string.h>

static bool may_send_to(const mvpn_target_rules *rules, const mvpn_descriptor_address *a)
{
    bool is_of_family = a->addr.family == 4 ? rules->has_ipv4 : rules->has_ipv6;
    if (a->carrier != MVPN_CARRIER_PLAIN || !is_of_family ||
        !(rules->allow_private || mvpn_addr_is_public(&a->addr))) {
        return false;
    }
    for (size_t i = 0; i < rules->own_count; i++) {
        if (mvpn_addr_ip_eq(&rules->own[i], &a->addr)) {
            return false;
        }
    }
    return true;
}

/* The first that we may send to, rather of `preferred` (4, 6, or 0); NULL if there is none. */
static const mvpn_addr *choose_address(const mvpn_descriptor *d, const mvpn_target_rules *rules,
                                       uint8_t preferred)
{
    const mvpn_addr *chosen = NULL;
    for (size_t i = 0; i < d->address_count; i++) {
        const mvpn_descriptor_address *a = &d->addresses[i];
        if (may_send_to(rules, a) &&
            (chosen == NULL || (chosen->family != preferred && a->addr.family == preferred))) {
            chosen = &a->addr;
        }
    }
    return chosen;
}

static bool same_identity(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* The address of a NAT relay that can serve us; NULL if it cannot. */
static const mvpn_addr *nat_relay_address(const mvpn_descriptor *relay, uint8_t family,
                                          const mvpn_target_rules *rules)
{
    if ((relay->roles & MVPN_ROLE_NAT_RELAY) == 0 || mvpn_target_is_behind_nat(relay) ||
        (rules->self != NULL && same_identity(rules->self, &relay->identity)) ||
        (rules->unix_now != 0 &&
         !mvpn_validity_holds(relay->published, relay->expires, rules->unix_now))) {
        return NULL;
    }
    /* The family of its link with the relay behind the NAT: that is where the two can meet. */
    return choose_address(relay, rules, family);
}

bool mvpn_target_is_behind_nat(const mvpn_descriptor *d)
{
    return d->nat_relay_count > 0;
}

int mvpn_target_make(const mvpn_view *view, const mvpn_descriptor *d,
                     const mvpn_target_rules *rules, mvpn_link_target *ret)
{
    mvpn_link_target t = {
        .identity = d->identity,
        .link_key = d->link_key,
        .serial = mvpn_descriptor_serial(d),
    };
    if (!mvpn_target_is_behind_nat(d)) {
        const mvpn_addr *addr = choose_address(d, rules, 0);
        if (addr == NULL) {
            return MVPN_E_POLICY;
        }
        t.addr = *addr;
        *ret = t;
        return 0;
    }
    for (size_t i = 0; i < d->nat_relay_count; i++) {
        const mvpn_descriptor_nat_relay *n = &d->nat_relays[i];
        const mvpn_descriptor *relay = mvpn_view_find(view, &n->identity);
        const mvpn_addr *addr = relay == NULL ? NULL : nat_relay_address(relay, n->family, rules);
        if (addr != NULL) {
            t.via[t.via_count++] = (mvpn_link_via){
                .identity = relay->identity,
                .link_key = relay->link_key,
                .addr = *addr,
                .serial = mvpn_descriptor_serial(relay),
                .rendezvous = n->rendezvous,
            };
        }
    }
    if (t.via_count == 0) {
        return MVPN_E_UNKNOWN;
    }
    *ret = t;
    return 0;
}
