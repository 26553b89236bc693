#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "crypto/x25519.h"
#include "wire/descriptor.h"

#define PUBLISHED 1000000u
#define EXPIRES 2000000u
#define NOW 1500000u
#define HEAD_LEN (1 + 32 + 24)

typedef struct fixture {
    mvpn_ed25519_pub network_pub;
    mvpn_ed25519_secret network_secret_key, identity_secret;
    mvpn_key network_id;
    mvpn_descriptor d; /* every field set, not yet signed */
} fixture;

static void certify(fixture *f, uint16_t roles, uint64_t not_after)
{
    mvpn_membership_make(f->d.membership, &f->network_secret_key, &f->d.identity, roles, PUBLISHED,
                         not_after, 1, &f->network_id);
}

static fixture make(void)
{
    fixture f = {0};
    mvpn_descriptor *d = &f.d;
    mvpn_rng rng;
    mvpn_key link_key = {{9, 8, 7}};
    mvpn_rng_init_test(&rng, 11);
    mvpn_ed25519_generate(&f.network_pub, &f.network_secret_key, &rng);
    mvpn_ed25519_generate(&d->identity, &f.identity_secret, &rng);
    mvpn_network_id(&f.network_id, &f.network_pub);
    d->sequence = 0x1122334455667788u;
    d->published = PUBLISHED;
    d->expires = EXPIRES;
    mvpn_link_certificate_make(d->link_certificate, &f.identity_secret, &d->identity, &link_key,
                               PUBLISHED, EXPIRES, &f.network_id);
    d->onion_key_count = 2;
    d->onion_keys[0] = (mvpn_onion_key){7, {{1, 1, 1}}};
    d->onion_keys[1] = (mvpn_onion_key){6, {{2, 2, 2}}};
    d->address_count = 4;
    static const char *const addresses[] = {"11.1.2.3:443", "[2a10::5]:444", "11.1.2.4:1",
                                            "11.1.2.5:65535"};
    for (size_t i = 0; i < 4; i++) {
        d->addresses[i].carrier = (uint8_t)(i == 2 ? 9 : MVPN_CARRIER_PLAIN);
        assert_int_equal(mvpn_addr_parse(addresses[i], &d->addresses[i].addr), 0);
    }
    d->roles = MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT;
    d->has_policy = true;
    d->policy_flags = MVPN_EXIT_IPV4 | MVPN_EXIT_IPV6;
    d->policy_range_count = MVPN_DESCRIPTOR_POLICY_RANGES_MAX;
    for (unsigned i = 0; i < MVPN_DESCRIPTOR_POLICY_RANGES_MAX; i++) {
        d->policy_ranges[i] = (mvpn_port_range){(uint16_t)(i * 2000), (uint16_t)(i * 2000 + 1999)};
    }
    memcpy(d->country, "CH", 3);
    d->has_bandwidth = true;
    d->bandwidth_kbit = 0x01020304;
    d->family_count = 4;
    for (unsigned i = 0; i < 4; i++) {
        d->family[i].b[0] = (uint8_t)(i + 1);
    }
    memcpy(d->provider, "Hoster & Sons, 32 bytes exactly!", 33);
    d->nat_relay_count = 2;
    d->nat_relays[0] = (mvpn_descriptor_nat_relay){{{9, 1}}, {{1, 2, 3, 4, 5, 6, 7, 8}}, 6};
    d->nat_relays[1] = (mvpn_descriptor_nat_relay){{{8, 2}}, {{8, 7, 6, 5, 4, 3, 2, 1}}, 4};
    d->has_membership = true;
    certify(&f, d->roles | MVPN_ROLE_GUARD, EXPIRES);
    memcpy(d->name, "exit-1-of-the-test-net-x", 25);
    d->stun_port_v4 = 3478;
    d->stun_port_v6 = 0x1234;
    return f;
}

static fixture make_signed(void)
{
    fixture f = make();
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    return f;
}

static int verify(const fixture *f, uint64_t now)
{
    return mvpn_descriptor_verify(&f->d, &f->network_id, &f->network_pub, now);
}

static mvpn_bytes encoded(const mvpn_descriptor *d)
{
    return mvpn_bytes_of(d->encoded, d->encoded_len);
}

static void test_round_trip(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_descriptor before = f.d, d;
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(mvpn_descriptor_decode(&d, encoded(&f.d)), 0);
    assert_int_equal(mvpn_descriptor_verify(&d, &f.network_id, &f.network_pub, NOW), 0);

    assert_memory_equal(d.identity.b, before.identity.b, 32);
    assert_true(d.sequence == before.sequence);
    assert_int_equal(d.published, PUBLISHED);
    assert_int_equal(d.expires, EXPIRES);
    assert_memory_equal(d.link_certificate, before.link_certificate, 176);
    assert_memory_equal(d.link_key.b, before.link_certificate + 32, 32);
    assert_int_equal(d.onion_key_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(d.onion_keys[i].id, before.onion_keys[i].id);
        assert_memory_equal(d.onion_keys[i].key.b, before.onion_keys[i].key.b, 32);
    }
    assert_int_equal(d.address_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(d.addresses[i].carrier, before.addresses[i].carrier);
        assert_true(mvpn_addr_eq(&d.addresses[i].addr, &before.addresses[i].addr));
    }
    assert_int_equal(d.roles, before.roles);
    assert_true(d.has_policy);
    assert_int_equal(d.policy_flags, before.policy_flags);
    assert_int_equal(d.policy_range_count, before.policy_range_count);
    for (size_t i = 0; i < d.policy_range_count; i++) {
        assert_int_equal(d.policy_ranges[i].first, before.policy_ranges[i].first);
        assert_int_equal(d.policy_ranges[i].last, before.policy_ranges[i].last);
    }
    assert_string_equal(d.country, "CH");
    assert_true(d.has_bandwidth);
    assert_int_equal(d.bandwidth_kbit, before.bandwidth_kbit);
    assert_int_equal(d.family_count, 4);
    assert_memory_equal(d.family, before.family, sizeof(d.family));
    assert_string_equal(d.provider, before.provider);
    assert_int_equal(d.nat_relay_count, 2);
    for (size_t i = 0; i < 2; i++) { /* in their order */
        assert_memory_equal(d.nat_relays[i].identity.b, before.nat_relays[i].identity.b, 32);
        assert_memory_equal(d.nat_relays[i].rendezvous.b, before.nat_relays[i].rendezvous.b, 8);
        assert_int_equal(d.nat_relays[i].family, before.nat_relays[i].family);
    }
    assert_true(d.has_membership);
    assert_memory_equal(d.membership, before.membership, 122);
    assert_string_equal(d.name, before.name);
    assert_int_equal(d.stun_port_v4, 3478);
    assert_int_equal(d.stun_port_v6, 0x1234);
}

static void test_stun(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_addr a;
    char text[MVPN_ADDR_STRLEN];
    assert_true(mvpn_descriptor_find_stun(&f.d, 4, &a));
    assert_string_equal(mvpn_addr_format(&a, text), "11.1.2.3:3478");
    assert_true(mvpn_descriptor_find_stun(&f.d, 6, &a));
    assert_string_equal(mvpn_addr_format(&a, text), "[2a10::5]:4660");
    f.d.stun_port_v4 = 0;
    assert_false(mvpn_descriptor_find_stun(&f.d, 4, &a));
    f.d.addresses[1].carrier = 9; /* another carrier's address */
    assert_false(mvpn_descriptor_find_stun(&f.d, 6, &a));
    /* One of the two is enough; none is no field at all. */
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(f.d.stun_port_v6, 0x1234);
    size_t with = f.d.encoded_len;
    f.d.stun_port_v6 = 0;
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(f.d.encoded_len, with - 8);
}

/* Only what is required: everything else reads as "not said". */
static void test_minimal(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_descriptor m = {0};
    m.identity = f.d.identity;
    m.published = PUBLISHED;
    m.expires = EXPIRES;
    memcpy(m.link_certificate, f.d.link_certificate, sizeof(m.link_certificate));
    m.onion_key_count = 1;
    m.address_count = 1;
    m.addresses[0] = f.d.addresses[0];
    assert_int_equal(mvpn_descriptor_sign(&m, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(m.encoded_len, HEAD_LEN + 4 + 144 + 4 + 33 + 4 + 8 + 4 + 2 + 64);
    assert_false(m.has_policy || m.has_bandwidth || m.has_membership);
    assert_int_equal(m.country[0] | m.provider[0] | m.name[0] | m.family_count, 0);
    assert_int_equal(m.nat_relay_count, 0);
    assert_int_equal(m.stun_port_v4 | m.stun_port_v6, 0);
    assert_int_equal(mvpn_descriptor_verify(&m, &f.network_id, NULL, NOW), 0);
    assert_int_equal(mvpn_descriptor_verify(&m, &f.network_id, &f.network_pub, NOW), MVPN_E_POLICY);
}

/* Every field at its longest: it fits, so that no field has to give way to another. */
static void test_largest(void **state)
{
    (void)state;
    fixture f = make();
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(mvpn_addr_parse("[2a10::5]:444", &f.d.addresses[i].addr), 0);
    }
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(f.d.encoded_len, 956);
    assert_int_equal(verify(&f, NOW), 0);
}

static void test_truncated(void **state)
{
    (void)state;
    fixture f = make_signed();
    mvpn_descriptor d;
    uint8_t in[MVPN_DESCRIPTOR_MAX + 1] = {0};
    memcpy(in, f.d.encoded, f.d.encoded_len);
    for (size_t n = 0; n <= sizeof(in); n++) {
        int rc = mvpn_descriptor_decode(&d, mvpn_bytes_of(in, n));
        if (rc == 0 && n != f.d.encoded_len) {
            /* A cut at the end of an optional TLV still has a form, but not the signature. */
            assert_int_equal(mvpn_descriptor_verify(&d, &f.network_id, &f.network_pub, NOW),
                             MVPN_E_AUTH);
        } else {
            assert_int_equal(rc, n == f.d.encoded_len ? 0 : MVPN_E_FORMAT);
        }
    }
}

static void test_flipped_bits(void **state)
{
    (void)state;
    fixture f = make_signed();
    uint8_t in[MVPN_DESCRIPTOR_MAX];
    size_t n = f.d.encoded_len;
    memcpy(in, f.d.encoded, n);
    for (size_t i = 0; i < n * 8; i++) {
        mvpn_descriptor d;
        in[i / 8] ^= (uint8_t)(1u << i % 8);
        int rc = mvpn_descriptor_decode(&d, mvpn_bytes_of(in, n));
        if (rc == 0) {
            rc = mvpn_descriptor_verify(&d, &f.network_id, &f.network_pub, 0);
            assert_int_equal(rc, MVPN_E_AUTH);
        } else {
            assert_int_equal(rc, MVPN_E_FORMAT);
        }
        in[i / 8] ^= (uint8_t)(1u << i % 8);
    }
}

static void spoil_no_onion(mvpn_descriptor *d)
{
    d->onion_key_count = 0;
}
static void spoil_many_onion(mvpn_descriptor *d)
{
    d->onion_key_count = 3;
}
static void spoil_same_onion(mvpn_descriptor *d)
{
    d->onion_keys[1].id = d->onion_keys[0].id;
}
static void spoil_no_address(mvpn_descriptor *d)
{
    d->address_count = 0;
}
static void spoil_port(mvpn_descriptor *d)
{
    d->addresses[1].addr.port = 0;
}
static void spoil_address_family(mvpn_descriptor *d)
{
    d->addresses[1].addr.family = 5;
}
/* It would escape the rules about IPv4 blocks. */
static void spoil_mapped_address(mvpn_descriptor *d)
{
    assert_int_equal(mvpn_addr_parse("[::ffff:11.1.2.4]:444", &d->addresses[1].addr), 0);
}
static void spoil_range(mvpn_descriptor *d)
{
    d->policy_ranges[3].last = (uint16_t)(d->policy_ranges[3].first - 1);
}
static void spoil_range_order(mvpn_descriptor *d)
{
    d->policy_ranges[3].first = d->policy_ranges[2].last;
}
static void spoil_ranges_count(mvpn_descriptor *d)
{
    d->policy_range_count = MVPN_DESCRIPTOR_POLICY_RANGES_MAX + 1;
}
static void spoil_country(mvpn_descriptor *d)
{
    d->country[1] = 'h';
}
static void spoil_family(mvpn_descriptor *d)
{
    d->family[2] = d->family[1];
}
static void spoil_family_count(mvpn_descriptor *d)
{
    d->family_count = 5;
}
static void spoil_provider(mvpn_descriptor *d)
{
    d->provider[5] = '\n';
}
static void spoil_name(mvpn_descriptor *d)
{
    d->name[5] = 'X';
}
static void spoil_nat_relay_count(mvpn_descriptor *d)
{
    d->nat_relay_count = 3;
}
static void spoil_nat_relay_twice(mvpn_descriptor *d)
{
    d->nat_relays[1].identity = d->nat_relays[0].identity;
}
static void spoil_nat_relay_own(mvpn_descriptor *d)
{
    d->nat_relays[1].identity = d->identity;
}
static void spoil_nat_relay_family(mvpn_descriptor *d)
{
    d->nat_relays[0].family = 5;
}
static void spoil_times(mvpn_descriptor *d)
{
    d->expires = d->published;
}
static void spoil_link_identity(mvpn_descriptor *d)
{
    d->link_certificate[0] ^= 1;
}
static void spoil_membership_identity(mvpn_descriptor *d)
{
    d->membership[0] ^= 1;
}

static void test_rules(void **state)
{
    (void)state;
    static void (*const rows[])(mvpn_descriptor *) = {
        spoil_no_onion,
        spoil_many_onion,
        spoil_same_onion,
        spoil_no_address,
        spoil_port,
        spoil_address_family,
        spoil_mapped_address,
        spoil_range,
        spoil_range_order,
        spoil_ranges_count,
        spoil_country,
        spoil_family,
        spoil_family_count,
        spoil_provider,
        spoil_name,
        spoil_times,
        spoil_link_identity,
        spoil_membership_identity,
        spoil_nat_relay_count,
        spoil_nat_relay_twice,
        spoil_nat_relay_own,
        spoil_nat_relay_family,
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        fixture f = make();
        rows[i](&f.d);
        assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id),
                         MVPN_E_INVAL);
        assert_int_equal(f.d.encoded_len, 0);
    }
}

/* Offset of the TLV of `type` in the encoding, and its length with head. */
static size_t find_tlv(const mvpn_descriptor *d, unsigned type, size_t *ret_len)
{
    size_t at = HEAD_LEN;
    while (at < d->encoded_len - 64u) {
        size_t len = 4u + mvpn_load16(d->encoded + at + 2);
        if (mvpn_load16(d->encoded + at) == type) {
            *ret_len = len;
            return at;
        }
        at += len;
    }
    fail();
    return 0;
}

/* Sign what stands in `record` (without signature), as a careless implementation might. */
static size_t sign_raw(const fixture *f, uint8_t *record, size_t n)
{
    uint8_t buf[2 * MVPN_DESCRIPTOR_MAX];
    mvpn_signature sig;
    mvpn_writer w = mvpn_writer_init(buf, sizeof(buf));
    mvpn_write_bytes(&w, "meshvpn v1 descriptor", 21);
    mvpn_write_bytes(&w, f->network_id.b, 32);
    mvpn_write_bytes(&w, record, n);
    mvpn_ed25519_sign(&sig, &f->identity_secret, mvpn_bytes_of(buf, mvpn_writer_len(&w)));
    memcpy(record + n, sig.b, 64);
    return n + 64;
}

static void test_missing_and_repeated_tlvs(void **state)
{
    (void)state;
    fixture f = make_signed();
    for (unsigned type = 1; type <= 12; type++) {
        uint8_t cut[2 * MVPN_DESCRIPTOR_MAX], twice[2 * MVPN_DESCRIPTOR_MAX];
        mvpn_descriptor d;
        size_t len = 0;
        size_t at = find_tlv(&f.d, type, &len), body = f.d.encoded_len - 64u;
        memcpy(cut, f.d.encoded, at);
        memcpy(cut + at, f.d.encoded + at + len, body - at - len);
        size_t n = sign_raw(&f, cut, body - len);
        assert_int_equal(mvpn_descriptor_decode(&d, mvpn_bytes_of(cut, n)),
                         type <= 4 ? MVPN_E_FORMAT : 0);
        memcpy(twice, f.d.encoded, at + len);
        memcpy(twice + at + len, f.d.encoded + at, body - at);
        n = sign_raw(&f, twice, body + len);
        assert_int_equal(mvpn_descriptor_decode(&d, mvpn_bytes_of(twice, n)), MVPN_E_FORMAT);
    }
}

/* A value of type 10 of every length from nothing to three entries: whole entries alone. */
static void test_nat_relays_length(void **state)
{
    (void)state;
    fixture f = make_signed();
    uint8_t entries[3 * 41] = {0};
    size_t len = 0, at = find_tlv(&f.d, 10, &len), body = f.d.encoded_len - 64u;
    for (size_t i = 0; i < 3; i++) {
        entries[i * 41] = (uint8_t)(i + 1);
        entries[i * 41 + 40] = 4;
    }
    for (size_t n = 0; n <= sizeof(entries); n++) {
        uint8_t in[2 * MVPN_DESCRIPTOR_MAX];
        mvpn_descriptor d;
        memcpy(in, f.d.encoded, at + 2);
        mvpn_store16(in + at + 2, (uint16_t)n);
        memcpy(in + at + 4, entries, n);
        memcpy(in + at + 4 + n, f.d.encoded + at + len, body - at - len);
        size_t all = sign_raw(&f, in, body - len + 4 + n);
        int rc = mvpn_descriptor_decode(&d, mvpn_bytes_of(in, all));
        assert_int_equal(rc, n == 41 || n == 82 ? 0 : MVPN_E_FORMAT);
        if (rc == 0) {
            assert_int_equal(d.nat_relay_count, n / 41);
        }
    }
}

/* Types of later versions are kept, in their place only, and passed on. */
static void test_unknown_tlvs(void **state)
{
    (void)state;
    static const struct {
        unsigned type;
        bool at_end;
        int expected;
    } rows[] = {
        {14, true, 0},
        {0xffff, true, 0},
        {14, false, MVPN_E_FORMAT},
        {0, false, MVPN_E_FORMAT},
    };
    fixture f = make_signed();
    size_t body = f.d.encoded_len - 64u;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t in[MVPN_DESCRIPTOR_MAX];
        mvpn_descriptor d;
        size_t at = rows[i].at_end ? body : HEAD_LEN;
        memcpy(in, f.d.encoded, at);
        mvpn_store16(in + at, (uint16_t)rows[i].type);
        mvpn_store16(in + at + 2, 3);
        memcpy(in + at + 4, "new", 3);
        memcpy(in + at + 7, f.d.encoded + at, body - at);
        size_t n = sign_raw(&f, in, body + 7);
        assert_int_equal(mvpn_descriptor_decode(&d, mvpn_bytes_of(in, n)), rows[i].expected);
        if (rows[i].expected == 0) {
            assert_int_equal(mvpn_descriptor_verify(&d, &f.network_id, &f.network_pub, NOW), 0);
            assert_int_equal(d.encoded_len, n);
            assert_memory_equal(d.encoded, in, n);
        }
    }
}

static void test_verify_rules(void **state)
{
    (void)state;
    fixture f = make_signed();
    assert_int_equal(verify(&f, 0), 0);
    assert_int_equal(verify(&f, EXPIRES + 300), 0);
    assert_int_equal(verify(&f, EXPIRES + 301), MVPN_E_EXPIRED);
    assert_int_equal(verify(&f, PUBLISHED - 301), MVPN_E_EXPIRED);
    f.network_id.b[3] ^= 1;
    assert_int_equal(verify(&f, NOW), MVPN_E_AUTH);

    /* Roles beyond the certificate. */
    f = make();
    certify(&f, MVPN_ROLE_MIDDLE, EXPIRES);
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(verify(&f, NOW), MVPN_E_POLICY);
    /* An open network asks for none. */
    assert_int_equal(mvpn_descriptor_verify(&f.d, &f.network_id, NULL, NOW), 0);

    /* A certificate that ended, though the descriptor did not. */
    f = make();
    certify(&f, f.d.roles, NOW - 1000);
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(verify(&f, NOW), MVPN_E_EXPIRED);
    assert_int_equal(verify(&f, NOW - 1000), 0);

    /* Certified by someone who is not the network. */
    f = make();
    mvpn_membership_make(f.d.membership, &f.identity_secret, &f.d.identity, 0xffff, PUBLISHED,
                         EXPIRES, 1, &f.network_id);
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(verify(&f, NOW), MVPN_E_AUTH);

    /* Link certificate altered and the descriptor signed over it. */
    f = make();
    f.d.link_certificate[40] ^= 1;
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.identity_secret, &f.network_id), 0);
    assert_int_equal(verify(&f, NOW), MVPN_E_AUTH);

    /* Signed by another key than the identity named. */
    f = make();
    assert_int_equal(mvpn_descriptor_sign(&f.d, &f.network_secret_key, &f.network_id), 0);
    assert_int_equal(verify(&f, NOW), MVPN_E_AUTH);
}

static void test_questions(void **state)
{
    (void)state;
    fixture f = make_signed();
    mvpn_key a, b;
    assert_true(mvpn_descriptor_find_address(&f.d, 0) == &f.d.addresses[0].addr);
    assert_true(mvpn_descriptor_find_address(&f.d, 4) == &f.d.addresses[0].addr);
    assert_true(mvpn_descriptor_find_address(&f.d, 6) == &f.d.addresses[1].addr);
    assert_true(mvpn_descriptor_is_public(&f.d));
    f.d.addresses[2].addr.ip[0] = 10; /* not a plain address: nobody sends there */
    assert_true(mvpn_descriptor_is_public(&f.d));
    f.d.addresses[3].addr.ip[0] = 10;
    assert_false(mvpn_descriptor_is_public(&f.d));
    mvpn_descriptor_digest(&a, &f.d);
    f.d.encoded[f.d.encoded_len - 1] ^= 1;
    mvpn_descriptor_digest(&b, &f.d);
    assert_false(mvpn_key_eq(&a, &b));

    assert_true(mvpn_name_is_valid("a-1"));
    assert_false(mvpn_name_is_valid("") || mvpn_name_is_valid("A") || mvpn_name_is_valid("a b"));
    assert_false(mvpn_name_is_valid("1234567890123456789012345"));
    assert_true(mvpn_country_is_valid("CH"));
    assert_false(mvpn_country_is_valid("C") || mvpn_country_is_valid("CHE") ||
                 mvpn_country_is_valid("ch"));
    assert_true(mvpn_provider_is_valid("x"));
    assert_false(mvpn_provider_is_valid("") || mvpn_provider_is_valid("\x7f"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_minimal),
        cmocka_unit_test(test_stun),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_missing_and_repeated_tlvs),
        cmocka_unit_test(test_unknown_tlvs),
        cmocka_unit_test(test_verify_rules),
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_nat_relays_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
