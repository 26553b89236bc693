#include "wire/descriptor.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "crypto/x25519.h"
#include "wire/signed.h"

#define VERSION 1
#define LABEL MVPN_BYTES_LITERAL("meshvpn v1 descriptor")
#define IDENTITY_LEN sizeof(mvpn_ed25519_pub)
#define SIGNATURE_LEN sizeof(mvpn_signature)

enum tlv {
    TLV_LINK_CERTIFICATE = 1,
    TLV_ONION_KEYS = 2,
    TLV_ADDRESSES = 3,
    TLV_ROLES = 4,
    TLV_POLICY = 5,
    TLV_COUNTRY = 6,
    TLV_BANDWIDTH = 7,
    TLV_FAMILY = 8,
    TLV_PROVIDER = 9,
    TLV_NAT_RELAYS = 10,
    TLV_MEMBERSHIP = 11,
    TLV_NAME = 12,
    TLV_STUN = 13,
};

#define REQUIRED                                                                                   \
    (1u << TLV_LINK_CERTIFICATE | 1u << TLV_ONION_KEYS | 1u << TLV_ADDRESSES | 1u << TLV_ROLES)

static bool is_name_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

static bool is_upper(uint8_t c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_printable(uint8_t c)
{
    return c >= 0x20 && c <= 0x7e;
}

static bool is_text(mvpn_bytes text, size_t min, size_t max, bool (*is_allowed)(uint8_t))
{
    if (text.n < min || text.n > max) {
        return false;
    }
    for (size_t i = 0; i < text.n; i++) {
        if (!is_allowed(text.p[i])) {
            return false;
        }
    }
    return true;
}

static bool is_text_string(const char *text, size_t min, size_t max, bool (*is_allowed)(uint8_t))
{
    return is_text(mvpn_bytes_of(text, strnlen(text, max + 1)), min, max, is_allowed);
}

bool mvpn_name_is_valid(const char *name)
{
    return is_text_string(name, 1, MVPN_NAME_MAX, is_name_char);
}

bool mvpn_country_is_valid(const char *country)
{
    return is_text_string(country, 2, 2, is_upper);
}

bool mvpn_provider_is_valid(const char *provider)
{
    return is_text_string(provider, 1, MVPN_PROVIDER_MAX, is_printable);
}

/* --- encode --- */

/* Begin a TLV; tlv_end sets its length. */
static uint8_t *tlv_begin(mvpn_writer *w, enum tlv type)
{
    mvpn_write16(w, (uint16_t)type);
    return mvpn_write_raw(w, 2);
}

static void tlv_end(mvpn_writer *w, uint8_t *length)
{
    if (!w->failed) {
        mvpn_store16(length, (uint16_t)(w->p - length - 2));
    }
}

static void write_tlv(mvpn_writer *w, enum tlv type, const void *value, size_t n)
{
    uint8_t *length = tlv_begin(w, type);
    mvpn_write_bytes(w, value, n);
    tlv_end(w, length);
}

static void write_onion_keys(mvpn_writer *w, const mvpn_descriptor *d)
{
    uint8_t *length = tlv_begin(w, TLV_ONION_KEYS);
    for (size_t i = 0; i < d->onion_key_count; i++) {
        mvpn_write8(w, d->onion_keys[i].id);
        mvpn_write_bytes(w, d->onion_keys[i].key.b, sizeof(d->onion_keys[i].key.b));
    }
    tlv_end(w, length);
}

static void write_addresses(mvpn_writer *w, const mvpn_descriptor *d)
{
    uint8_t *length = tlv_begin(w, TLV_ADDRESSES);
    for (size_t i = 0; i < d->address_count; i++) {
        const mvpn_descriptor_address *a = &d->addresses[i];
        mvpn_write8(w, a->carrier);
        mvpn_write8(w, a->addr.family);
        mvpn_write16(w, a->addr.port);
        mvpn_write_bytes(w, a->addr.ip, mvpn_addr_ip_len(&a->addr));
    }
    tlv_end(w, length);
}

static void write_policy(mvpn_writer *w, const mvpn_descriptor *d)
{
    uint8_t *length = tlv_begin(w, TLV_POLICY);
    mvpn_write8(w, d->policy_flags);
    for (size_t i = 0; i < d->policy_range_count; i++) {
        mvpn_write16(w, d->policy_ranges[i].first);
        mvpn_write16(w, d->policy_ranges[i].last);
    }
    tlv_end(w, length);
}

static void write_nat_relays(mvpn_writer *w, const mvpn_descriptor *d)
{
    uint8_t *length = tlv_begin(w, TLV_NAT_RELAYS);
    for (size_t i = 0; i < d->nat_relay_count; i++) {
        mvpn_write_bytes(w, d->nat_relays[i].identity.b, IDENTITY_LEN);
        mvpn_write_bytes(w, d->nat_relays[i].rendezvous.b, MVPN_NAT_ID_LEN);
        mvpn_write8(w, d->nat_relays[i].family);
    }
    tlv_end(w, length);
}

static void write_number(mvpn_writer *w, enum tlv type, uint32_t value, size_t n)
{
    uint8_t bytes[4];
    mvpn_store32(bytes, value);
    write_tlv(w, type, bytes + 4 - n, n);
}

static void write_tlvs(mvpn_writer *w, const mvpn_descriptor *d)
{
    write_tlv(w, TLV_LINK_CERTIFICATE, d->link_certificate + IDENTITY_LEN,
              sizeof(d->link_certificate) - IDENTITY_LEN);
    write_onion_keys(w, d);
    write_addresses(w, d);
    write_number(w, TLV_ROLES, d->roles, 2);
    if (d->has_policy) {
        write_policy(w, d);
    }
    if (d->country[0] != '\0') {
        write_tlv(w, TLV_COUNTRY, d->country, strnlen(d->country, sizeof(d->country)));
    }
    if (d->has_bandwidth) {
        write_number(w, TLV_BANDWIDTH, d->bandwidth_kbit, 4);
    }
    if (d->family_count > 0) {
        write_tlv(w, TLV_FAMILY, d->family, d->family_count * IDENTITY_LEN);
    }
    if (d->provider[0] != '\0') {
        write_tlv(w, TLV_PROVIDER, d->provider, strnlen(d->provider, sizeof(d->provider)));
    }
    if (d->nat_relay_count > 0) {
        write_nat_relays(w, d);
    }
    if (d->has_membership) {
        write_tlv(w, TLV_MEMBERSHIP, d->membership + IDENTITY_LEN,
                  sizeof(d->membership) - IDENTITY_LEN);
    }
    if (d->name[0] != '\0') {
        write_tlv(w, TLV_NAME, d->name, strnlen(d->name, sizeof(d->name)));
    }
    if (d->stun_port_v4 != 0 || d->stun_port_v6 != 0) {
        write_number(w, TLV_STUN, (uint32_t)d->stun_port_v4 << 16 | d->stun_port_v6, 4);
    }
}

int mvpn_descriptor_sign(mvpn_descriptor *d, const mvpn_ed25519_secret *secret,
                         const mvpn_key *network_id)
{
    uint8_t out[MVPN_DESCRIPTOR_MAX], buf[MVPN_SIGNED_PREFIX_MAX + MVPN_DESCRIPTOR_MAX];
    mvpn_descriptor check;
    mvpn_signature sig;
    /* The counts index arrays below; all other rules are the decoder's. */
    if (d->onion_key_count > MVPN_DESCRIPTOR_ONION_KEYS_MAX ||
        d->address_count > MVPN_DESCRIPTOR_ADDRESSES_MAX ||
        d->policy_range_count > MVPN_DESCRIPTOR_POLICY_RANGES_MAX ||
        d->family_count > MVPN_DESCRIPTOR_FAMILY_MAX ||
        d->nat_relay_count > MVPN_DESCRIPTOR_NAT_RELAYS_MAX ||
        memcmp(d->link_certificate, d->identity.b, IDENTITY_LEN) != 0 ||
        (d->has_membership && memcmp(d->membership, d->identity.b, IDENTITY_LEN) != 0)) {
        return MVPN_E_INVAL;
    }
    mvpn_writer w = mvpn_writer_init(out, sizeof(out));
    mvpn_write8(&w, VERSION);
    mvpn_write_bytes(&w, d->identity.b, IDENTITY_LEN);
    mvpn_write64(&w, d->sequence);
    mvpn_write64(&w, d->published);
    mvpn_write64(&w, d->expires);
    write_tlvs(&w, d);
    mvpn_ed25519_sign(&sig, secret,
                      mvpn_signed_bytes(buf, sizeof(buf), LABEL, network_id,
                                        mvpn_bytes_of(out, mvpn_writer_len(&w))));
    mvpn_write_bytes(&w, sig.b, sizeof(sig.b));
    if (w.failed || mvpn_descriptor_decode(&check, mvpn_bytes_of(out, mvpn_writer_len(&w))) != 0) {
        return MVPN_E_INVAL;
    }
    *d = check;
    return 0;
}

/* --- decode --- */

static bool read_link_certificate(mvpn_descriptor *d, mvpn_bytes value)
{
    mvpn_reader r = mvpn_reader_init(value);
    memcpy(d->link_certificate, d->identity.b, IDENTITY_LEN);
    mvpn_read_copy(&r, d->link_certificate + IDENTITY_LEN,
                   sizeof(d->link_certificate) - IDENTITY_LEN);
    memcpy(d->link_key.b, d->link_certificate + IDENTITY_LEN, sizeof(d->link_key.b));
    return mvpn_reader_done(&r);
}

static bool read_onion_keys(mvpn_descriptor *d, mvpn_bytes value)
{
    mvpn_reader r = mvpn_reader_init(value);
    do {
        if (d->onion_key_count == MVPN_DESCRIPTOR_ONION_KEYS_MAX) {
            return false;
        }
        mvpn_onion_key *key = &d->onion_keys[d->onion_key_count++];
        key->id = mvpn_read8(&r);
        mvpn_read_copy(&r, key->key.b, sizeof(key->key.b));
    } while (mvpn_reader_left(&r) > 0);
    /* The id names one key. */
    return mvpn_reader_done(&r) &&
           (d->onion_key_count < 2 || d->onion_keys[0].id != d->onion_keys[1].id);
}

static bool read_addresses(mvpn_descriptor *d, mvpn_bytes value)
{
    mvpn_reader r = mvpn_reader_init(value);
    do {
        if (d->address_count == MVPN_DESCRIPTOR_ADDRESSES_MAX) {
            return false;
        }
        mvpn_descriptor_address *a = &d->addresses[d->address_count++];
        a->carrier = mvpn_read8(&r);
        a->addr.family = mvpn_read8(&r);
        a->addr.port = mvpn_read16(&r);
        mvpn_read_copy(&r, a->addr.ip, mvpn_addr_ip_len(&a->addr));
        if (mvpn_addr_ip_len(&a->addr) == 0 || a->addr.port == 0 || mvpn_addr_is_mapped(&a->addr)) {
            return false;
        }
    } while (mvpn_reader_left(&r) > 0);
    return mvpn_reader_done(&r);
}

static bool read_policy(mvpn_descriptor *d, mvpn_bytes value)
{
    mvpn_reader r = mvpn_reader_init(value);
    int last = -1;
    d->has_policy = true;
    d->policy_flags = mvpn_read8(&r);
    while (mvpn_reader_left(&r) > 0) {
        if (d->policy_range_count == MVPN_DESCRIPTOR_POLICY_RANGES_MAX) {
            return false;
        }
        mvpn_port_range *range = &d->policy_ranges[d->policy_range_count++];
        range->first = mvpn_read16(&r);
        range->last = mvpn_read16(&r);
        if (range->first <= last || range->last < range->first) {
            return false;
        }
        last = range->last;
    }
    return mvpn_reader_done(&r);
}

static bool read_family(mvpn_descriptor *d, mvpn_bytes value)
{
    if (value.n == 0 || value.n % IDENTITY_LEN != 0 || value.n > sizeof(d->family)) {
        return false;
    }
    d->family_count = (uint8_t)(value.n / IDENTITY_LEN);
    memcpy(d->family, value.p, value.n);
    for (size_t i = 1; i < d->family_count; i++) {
        if (memcmp(d->family[i - 1].b, d->family[i].b, IDENTITY_LEN) >= 0) {
            return false;
        }
    }
    return true;
}

static bool read_nat_relays(mvpn_descriptor *d, mvpn_bytes value)
{
    mvpn_reader r = mvpn_reader_init(value);
    do {
        if (d->nat_relay_count == MVPN_DESCRIPTOR_NAT_RELAYS_MAX) {
            return false;
        }
        mvpn_descriptor_nat_relay *n = &d->nat_relays[d->nat_relay_count++];
        mvpn_read_copy(&r, n->identity.b, IDENTITY_LEN);
        mvpn_read_copy(&r, n->rendezvous.b, MVPN_NAT_ID_LEN);
        n->family = mvpn_read8(&r);
        if ((n->family != 4 && n->family != 6) ||
            memcmp(n->identity.b, d->identity.b, IDENTITY_LEN) == 0) {
            return false;
        }
    } while (mvpn_reader_left(&r) > 0);
    return mvpn_reader_done(&r) &&
           (d->nat_relay_count < 2 ||
            memcmp(d->nat_relays[0].identity.b, d->nat_relays[1].identity.b, IDENTITY_LEN) != 0);
}

static bool read_membership(mvpn_descriptor *d, mvpn_bytes value)
{
    mvpn_reader r = mvpn_reader_init(value);
    d->has_membership = true;
    memcpy(d->membership, d->identity.b, IDENTITY_LEN);
    mvpn_read_copy(&r, d->membership + IDENTITY_LEN, sizeof(d->membership) - IDENTITY_LEN);
    return mvpn_reader_done(&r);
}

/* `out` was zeroed and has room for one byte more than `max`. */
static bool read_text(char *out, mvpn_bytes value, size_t min, size_t max,
                      bool (*is_allowed)(uint8_t))
{
    if (!is_text(value, min, max, is_allowed)) {
        return false;
    }
    memcpy(out, value.p, value.n);
    return true;
}

static bool read_stun(mvpn_descriptor *d, mvpn_bytes value)
{
    mvpn_reader r = mvpn_reader_init(value);
    d->stun_port_v4 = mvpn_read16(&r);
    d->stun_port_v6 = mvpn_read16(&r);
    return mvpn_reader_done(&r) && (d->stun_port_v4 != 0 || d->stun_port_v6 != 0);
}

static bool read_tlv(mvpn_descriptor *d, unsigned type, mvpn_bytes value)
{
    switch (type) {
    case TLV_LINK_CERTIFICATE:
        return read_link_certificate(d, value);
    case TLV_ONION_KEYS:
        return read_onion_keys(d, value);
    case TLV_ADDRESSES:
        return read_addresses(d, value);
    case TLV_ROLES:
        d->roles = value.n == 2 ? mvpn_load16(value.p) : 0;
        return value.n == 2;
    case TLV_POLICY:
        return read_policy(d, value);
    case TLV_COUNTRY:
        return read_text(d->country, value, 2, 2, is_upper);
    case TLV_BANDWIDTH:
        d->has_bandwidth = true;
        d->bandwidth_kbit = value.n == 4 ? mvpn_load32(value.p) : 0;
        return value.n == 4;
    case TLV_FAMILY:
        return read_family(d, value);
    case TLV_PROVIDER:
        return read_text(d->provider, value, 1, MVPN_PROVIDER_MAX, is_printable);
    case TLV_NAT_RELAYS:
        return read_nat_relays(d, value);
    case TLV_MEMBERSHIP:
        return read_membership(d, value);
    case TLV_NAME:
        return read_text(d->name, value, 1, MVPN_NAME_MAX, is_name_char);
    case TLV_STUN:
        return read_stun(d, value);
    default:
        return true;
    }
}

int mvpn_descriptor_decode(mvpn_descriptor *ret, mvpn_bytes in)
{
    mvpn_descriptor d = {0};
    unsigned type_before = 0, seen = 0;
    if (in.n > MVPN_DESCRIPTOR_MAX || in.n < SIGNATURE_LEN) {
        return MVPN_E_FORMAT;
    }
    memcpy(d.encoded, in.p, in.n);
    d.encoded_len = (uint16_t)in.n;
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(in.p, in.n - SIGNATURE_LEN));
    unsigned version = mvpn_read8(&r);
    mvpn_read_copy(&r, d.identity.b, IDENTITY_LEN);
    d.sequence = mvpn_read64(&r);
    d.published = mvpn_read64(&r);
    d.expires = mvpn_read64(&r);
    while (mvpn_reader_left(&r) > 0) {
        unsigned type = mvpn_read16(&r);
        mvpn_bytes value = mvpn_read_bytes(&r, mvpn_read16(&r));
        /* Strictly ascending: no type twice, and no second order. */
        if (r.failed || type <= type_before || !read_tlv(&d, type, value)) {
            return MVPN_E_FORMAT;
        }
        type_before = type;
        seen |= type < 32 ? 1u << type : 0;
    }
    if (!mvpn_reader_done(&r) || version != VERSION || (seen & REQUIRED) != REQUIRED ||
        d.published >= d.expires) {
        return MVPN_E_FORMAT;
    }
    *ret = d;
    return 0;
}

/* --- verify --- */

static int verify_membership(const mvpn_descriptor *d, const mvpn_key *network_id,
                             const mvpn_ed25519_pub *network_pub, uint64_t unix_now)
{
    mvpn_membership m;
    if (!d->has_membership) {
        return MVPN_E_POLICY;
    }
    int rc = mvpn_membership_verify(MVPN_BYTES_ARRAY(d->membership), network_id, network_pub,
                                    unix_now, &m);
    if (rc != 0) {
        return rc;
    }
    return (d->roles & ~m.roles) == 0 ? 0 : MVPN_E_POLICY;
}

int mvpn_descriptor_verify(const mvpn_descriptor *d, const mvpn_key *network_id,
                           const mvpn_ed25519_pub *network_pub, uint64_t unix_now)
{
    uint8_t buf[MVPN_SIGNED_PREFIX_MAX + MVPN_DESCRIPTOR_MAX];
    mvpn_signature sig;
    mvpn_link_certificate link;
    MVPN_ASSERT(d->encoded_len >= SIGNATURE_LEN && d->encoded_len <= MVPN_DESCRIPTOR_MAX);
    mvpn_bytes record = mvpn_bytes_of(d->encoded, d->encoded_len - SIGNATURE_LEN);
    memcpy(sig.b, d->encoded + record.n, SIGNATURE_LEN);
    int rc = mvpn_ed25519_verify(&sig, &d->identity,
                                 mvpn_signed_bytes(buf, sizeof(buf), LABEL, network_id, record));
    if (rc != 0) {
        return rc;
    }
    /* The identity inside is the descriptor's: decode put it there. */
    rc = mvpn_link_certificate_verify(MVPN_BYTES_ARRAY(d->link_certificate), network_id, unix_now,
                                      &link);
    if (rc != 0) {
        return rc;
    }
    if (network_pub != NULL) {
        rc = verify_membership(d, network_id, network_pub, unix_now);
        if (rc != 0) {
            return rc;
        }
    }
    return unix_now == 0 || mvpn_validity_holds(d->published, d->expires, unix_now)
               ? 0
               : MVPN_E_EXPIRED;
}

void mvpn_descriptor_digest(mvpn_key *ret, const mvpn_descriptor *d)
{
    const mvpn_bytes in = mvpn_bytes_of(d->encoded, d->encoded_len);
    mvpn_blake3_derive(ret->b, sizeof(ret->b), "meshvpn v1 descriptor digest", &in, 1);
}

const mvpn_addr *mvpn_descriptor_find_address(const mvpn_descriptor *d, uint8_t family)
{
    for (size_t i = 0; i < d->address_count; i++) {
        const mvpn_descriptor_address *a = &d->addresses[i];
        if (a->carrier == MVPN_CARRIER_PLAIN && (family == 0 || a->addr.family == family)) {
            return &a->addr;
        }
    }
    return NULL;
}

bool mvpn_descriptor_find_stun(const mvpn_descriptor *d, uint8_t family, mvpn_addr *ret)
{
    uint16_t port = family == 4 ? d->stun_port_v4 : d->stun_port_v6;
    const mvpn_addr *addr = mvpn_descriptor_find_address(d, family);
    if (port == 0 || addr == NULL) {
        return false;
    }
    *ret = *addr;
    ret->port = port;
    return true;
}

bool mvpn_descriptor_is_public(const mvpn_descriptor *d)
{
    for (size_t i = 0; i < d->address_count; i++) {
        const mvpn_descriptor_address *a = &d->addresses[i];
        if (a->carrier == MVPN_CARRIER_PLAIN && !mvpn_addr_is_public(&a->addr)) {
            return false;
        }
    }
    return true;
}

uint64_t mvpn_descriptor_serial(const mvpn_descriptor *d)
{
    /* identity 32, roles 2, not before 8, not after 8 stand before it (§8.2) */
    return d->has_membership ? mvpn_load64(d->membership + 50) : 0;
}
