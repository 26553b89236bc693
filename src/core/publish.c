#include "core/publish.h"

#include <string.h>

#include "base/error.h"

#define MS_PER_S 1000

void mvpn_publisher_init(mvpn_publisher *p, mvpn_rng *rng, const mvpn_key *network_id,
                         const mvpn_ed25519_secret *secret, const mvpn_descriptor *template)
{
    *p = (mvpn_publisher){
        .rng = rng,
        .network_id = *network_id,
        .secret = *secret,
        .descriptor = *template,
        .is_changed = true,
        .is_direct = template->address_count > 0,
    };
    p->descriptor.sequence = 0;
    p->descriptor.encoded_len = 0;
}

void mvpn_publisher_done(mvpn_publisher *p)
{
    mvpn_wipe(p, sizeof(*p));
}

static bool is_reachable(const mvpn_publisher *p)
{
    return p->is_direct || (p->via_count > 0 && p->seen_count > 0);
}

static void write_addresses(mvpn_publisher *p, const mvpn_addr *addresses, size_t count)
{
    mvpn_descriptor *d = &p->descriptor;
    d->address_count = 0;
    for (size_t i = 0; i < count && d->address_count < MVPN_DESCRIPTOR_ADDRESSES_MAX; i++) {
        d->addresses[d->address_count++] =
            (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, addresses[i]};
    }
    p->is_changed = true;
    p->withdraw_at = 0;
}

/* Of one that cannot be reached the last addresses stay: a withdrawal says them. */
static void write_nat_relays(mvpn_publisher *p)
{
    mvpn_descriptor *d = &p->descriptor;
    if (!p->is_direct && is_reachable(p)) {
        d->nat_relay_count = (uint8_t)p->via_count;
        memcpy(d->nat_relays, p->via, sizeof(d->nat_relays));
        write_addresses(p, p->seen, p->seen_count);
    }
}

void mvpn_publisher_set_addresses(mvpn_publisher *p, const mvpn_addr *addresses, size_t count)
{
    p->is_direct = count > 0;
    if (p->is_direct) {
        p->descriptor.nat_relay_count = 0;
        write_addresses(p, addresses, count);
    } else {
        write_nat_relays(p);
    }
}

void mvpn_publisher_set_nat_relays(mvpn_publisher *p, const mvpn_descriptor_nat_relay *relays,
                                   size_t count, const mvpn_addr *seen, size_t seen_count)
{
    p->via_count = MVPN_MIN(count, MVPN_ARRAY_LEN(p->via));
    for (size_t i = 0; i < p->via_count; i++) {
        p->via[i] = relays[i];
    }
    p->seen_count = MVPN_MIN(seen_count, MVPN_ARRAY_LEN(p->seen));
    for (size_t i = 0; i < p->seen_count; i++) {
        p->seen[i] = seen[i];
    }
    write_nat_relays(p);
}

void mvpn_publisher_set_onion_keys(mvpn_publisher *p, const mvpn_onion_key *keys, size_t count)
{
    mvpn_descriptor *d = &p->descriptor;
    d->onion_key_count = (uint8_t)MVPN_MIN(count, (size_t)MVPN_DESCRIPTOR_ONION_KEYS_MAX);
    memcpy(d->onion_keys, keys, d->onion_key_count * sizeof(d->onion_keys[0]));
    p->is_changed = true;
}

void mvpn_publisher_saw(mvpn_publisher *p, uint64_t sequence)
{
    if (sequence > p->descriptor.sequence && sequence < UINT64_MAX) {
        p->descriptor.sequence = sequence; /* an earlier life of ours, or a clock set back */
        p->is_changed = true;
    }
}

uint64_t mvpn_publisher_due(const mvpn_publisher *p)
{
    if (!is_reachable(p)) {
        return p->is_published ? p->withdraw_at : UINT64_MAX;
    }
    return p->is_changed ? 0 : p->renew_at;
}

/* At least `sequence`, and above the last. */
static int sign_next(mvpn_publisher *p, uint64_t sequence, uint64_t unix_ms, mvpn_descriptor *d)
{
    uint64_t unix_now = unix_ms / MS_PER_S;
    uint64_t last = p->descriptor.sequence;
    d->sequence = MVPN_MAX(last == UINT64_MAX ? last : last + 1, sequence); /* never back to 0 */
    d->published = unix_now;
    d->expires = unix_now + MVPN_PUBLISH_LIFETIME_S;
    int r = mvpn_descriptor_sign(d, &p->secret, &p->network_id);
    if (r == 0) {
        uint16_t roles = p->descriptor.roles;
        p->descriptor = *d;
        p->descriptor.roles = roles; /* of the template, withdrawn or not */
    }
    return r;
}

/* Roles 0 (§8.3); the template keeps its own. */
static int sign_withdrawal(mvpn_publisher *p, uint64_t unix_ms, const mvpn_descriptor **ret)
{
    mvpn_descriptor d = p->descriptor;
    d.roles = 0;
    /* No higher than it must be: a relay that starts again at once comes after it. */
    int r = sign_next(p, 0, unix_ms, &d);
    if (r == 0) {
        p->is_published = false;
        *ret = &p->descriptor; /* its encoding says roles 0 */
    }
    return r;
}

/* It cannot be reached: nobody should try for a day. */
static int give_up(mvpn_publisher *p, uint64_t unix_ms, const mvpn_descriptor **ret)
{
    if (p->withdraw_at == 0) {
        p->withdraw_at = unix_ms / MS_PER_S + MVPN_PUBLISH_PATIENCE_S;
        return MVPN_E_AGAIN;
    }
    return sign_withdrawal(p, unix_ms, ret);
}

int mvpn_publisher_renew(mvpn_publisher *p, uint64_t unix_ms, const mvpn_descriptor **ret)
{
    uint64_t unix_now = unix_ms / MS_PER_S;
    if (mvpn_publisher_due(p) > unix_now) {
        return MVPN_E_AGAIN;
    }
    if (!is_reachable(p)) {
        return give_up(p, unix_ms, ret);
    }
    mvpn_descriptor d = p->descriptor;
    /* The sequence is the time, so that a relay that remembers nothing still counts upwards. */
    int r = sign_next(p, unix_ms, unix_ms, &d);
    if (r != 0) {
        return r;
    }
    p->is_changed = false;
    p->is_published = true;
    p->renew_at = unix_now + mvpn_rng_jitter(p->rng, MVPN_PUBLISH_RENEW_S, 25);
    *ret = &p->descriptor;
    return 0;
}

int mvpn_publisher_withdraw(mvpn_publisher *p, uint64_t unix_ms, const mvpn_descriptor **ret)
{
    int r = sign_withdrawal(p, unix_ms, ret);
    if (r == 0) {
        p->is_changed = false;
        p->renew_at = UINT64_MAX;
    }
    return r;
}
