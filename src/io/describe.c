#include "io/describe.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "exit/policy.h"

uint16_t mvpn_describe_roles(enum mvpn_config_kind kind)
{
    const unsigned relay = MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_DHT_SERVER;
    switch (kind) {
    case MVPN_CONFIG_RELAY:
        return (uint16_t)relay;
    case MVPN_CONFIG_EXIT: /* a guard too: of circuits that leave elsewhere, or have one hop */
        return (uint16_t)(relay | MVPN_ROLE_EXIT);
    case MVPN_CONFIG_BOOTSTRAP:
        return MVPN_ROLE_DHT_SERVER;
    case MVPN_CONFIG_DISCOVERY:
        return MVPN_ROLE_DHT_SERVER | MVPN_ROLE_DISCOVERY;
    case MVPN_CONFIG_CLIENT:
        break;
    }
    return 0;
}

static int describe_policy(const mvpn_config *config, bool has_v6, mvpn_descriptor *d,
                           mvpn_fault *fault)
{
    mvpn_policy *policy = NULL;
    int r = mvpn_config_policy(&config->exit, &policy, fault);
    if (r != 0) {
        return r;
    }
    d->has_policy = true;
    d->policy_range_count = (uint8_t)mvpn_policy_summary(
        policy, has_v6, &d->policy_flags, d->policy_ranges, MVPN_DESCRIPTOR_POLICY_RANGES_MAX);
    mvpn_policy_free(policy);
    return 0;
}

/* Who reads it asks at the address that the descriptor has. */
static void describe_stun(const mvpn_config_relay *c, mvpn_descriptor *d)
{
    for (unsigned i = c->stun_count; i-- > 0;) { /* the first of a family last: it stays */
        const mvpn_addr *stun = &c->stun_listen[i];
        const mvpn_addr *own = mvpn_descriptor_find_address(d, stun->family);
        uint16_t *port = stun->family == 4 ? &d->stun_port_v4 : &d->stun_port_v6;
        if (own != NULL && mvpn_addr_ip_eq(own, stun)) {
            *port = stun->port;
        }
    }
}

int mvpn_describe(const mvpn_config *config, const mvpn_node_keys *keys, bool has_v6,
                  mvpn_descriptor *ret, mvpn_fault *fault)
{
    const mvpn_config_relay *c = &config->relay;
    mvpn_descriptor *d = ret;
    *d = (mvpn_descriptor){.identity = keys->identity, .link_key = keys->link.pub};
    d->roles = mvpn_describe_roles(config->kind);
    if (c->nat_relay) {
        d->roles |= MVPN_ROLE_NAT_RELAY;
    }
    if (c->behind_nat) { /* nobody's first hop, and no server (§14.3) */
        d->roles &= (uint16_t) ~(MVPN_ROLE_GUARD | MVPN_ROLE_DHT_SERVER);
    }
    memcpy(d->link_certificate, keys->link_certificate, sizeof(d->link_certificate));
    d->onion_key_count = keys->onion_count;
    for (unsigned i = 0; i < keys->onion_count; i++) {
        d->onion_keys[i] = (mvpn_onion_key){keys->onion[i].id, keys->onion[i].pair.pub};
    }
    for (unsigned i = 0; i < c->address_count; i++) {
        d->addresses[i] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, c->addresses[i]};
    }
    d->address_count = (uint8_t)c->address_count;
    if (keys->has_membership) { /* what it does not give, nobody would believe */
        d->has_membership = true;
        memcpy(d->membership, keys->membership, sizeof(d->membership));
        d->roles &= mvpn_load16(keys->membership + sizeof(keys->identity.b));
    }
    memcpy(d->country, c->country, sizeof(d->country));
    memcpy(d->provider, c->provider, sizeof(d->provider));
    memcpy(d->name, c->name, sizeof(d->name));
    describe_stun(c, d);
    uint32_t mbit = c->bandwidth_mbit;
    if (c->limit_mbit > 0 && (mbit == 0 || mbit > c->limit_mbit)) {
        mbit = c->limit_mbit;
    }
    if (mbit > 0) {
        d->has_bandwidth = true;
        d->bandwidth_kbit = mbit * 1000;
    }
    d->family_count = (uint8_t)c->family_count;
    memcpy(d->family, c->family, c->family_count * sizeof(d->family[0]));
    return (d->roles & MVPN_ROLE_EXIT) == 0 ? 0 : describe_policy(config, has_v6, d, fault);
}
