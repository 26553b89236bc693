#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"
#include "crypto/hash.h"
#include "crypto/x25519.h"
#include "wire/certificate.h"

#define NB 1000000u
#define NA 2000000u
#define NOW 1500000u

typedef struct fixture {
    mvpn_ed25519_pub network_pub, identity;
    mvpn_ed25519_secret network_secret_key, identity_secret;
    mvpn_key network_id, link_key;
    uint8_t link[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t member[MVPN_MEMBERSHIP_LEN];
} fixture;

static fixture make(void)
{
    fixture f;
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 7);
    mvpn_ed25519_generate(&f.network_pub, &f.network_secret_key, &rng);
    mvpn_ed25519_generate(&f.identity, &f.identity_secret, &rng);
    mvpn_network_id(&f.network_id, &f.network_pub);
    mvpn_rng_bytes(&rng, f.link_key.b, 32);
    mvpn_link_certificate_make(f.link, &f.identity_secret, &f.identity, &f.link_key, NB, NA,
                               &f.network_id);
    mvpn_membership_make(f.member, &f.network_secret_key, &f.identity,
                         MVPN_ROLE_GUARD | MVPN_ROLE_EXIT, NB, NA, 0x0102030405060708u,
                         &f.network_id);
    return f;
}

static int verify_link(const fixture *f, mvpn_bytes cert, uint64_t now, mvpn_link_certificate *ret)
{
    return mvpn_link_certificate_verify(cert, &f->network_id, now, ret);
}

static int verify_member(const fixture *f, mvpn_bytes cert, uint64_t now, mvpn_membership *ret)
{
    return mvpn_membership_verify(cert, &f->network_id, &f->network_pub, now, ret);
}

static void test_link_fields(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_link_certificate c;
    assert_int_equal(verify_link(&f, MVPN_BYTES_ARRAY(f.link), NOW, &c), 0);
    assert_memory_equal(c.identity.b, f.identity.b, 32);
    assert_memory_equal(c.link_key.b, f.link_key.b, 32);
    assert_int_equal(c.not_before, NB);
    assert_int_equal(c.not_after, NA);
    /* Places of §8.1. */
    assert_memory_equal(f.link, f.identity.b, 32);
    assert_memory_equal(f.link + 32, f.link_key.b, 32);
    assert_int_equal(mvpn_load64(f.link + 64), NB);
    assert_int_equal(mvpn_load64(f.link + 72), NA);
    assert_true(mvpn_ct_is_zero(f.link + 80, 32));
}

static void test_membership_fields(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_membership m;
    assert_int_equal(verify_member(&f, MVPN_BYTES_ARRAY(f.member), NOW, &m), 0);
    assert_memory_equal(m.identity.b, f.identity.b, 32);
    assert_int_equal(m.roles, 5);
    assert_int_equal(m.not_before, NB);
    assert_int_equal(m.not_after, NA);
    assert_true(m.serial == 0x0102030405060708u);
    /* Places of §8.2. */
    assert_int_equal(mvpn_load16(f.member + 32), 5);
    assert_int_equal(mvpn_load64(f.member + 34), NB);
    assert_int_equal(mvpn_load64(f.member + 42), NA);
    assert_true(mvpn_load64(f.member + 50) == 0x0102030405060708u);
}

static void test_flipped_bits(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_link_certificate c;
    mvpn_membership m;
    for (size_t i = 0; i < sizeof(f.link) * 8; i++) {
        f.link[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_not_equal(verify_link(&f, MVPN_BYTES_ARRAY(f.link), 0, &c), 0);
        f.link[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t i = 0; i < sizeof(f.member) * 8; i++) {
        f.member[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_not_equal(verify_member(&f, MVPN_BYTES_ARRAY(f.member), 0, &m), 0);
        f.member[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_int_equal(verify_link(&f, MVPN_BYTES_ARRAY(f.link), 0, &c), 0);
    assert_int_equal(verify_member(&f, MVPN_BYTES_ARRAY(f.member), 0, &m), 0);
}

static void test_lengths(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_link_certificate c;
    mvpn_membership m;
    uint8_t longer[MVPN_LINK_CERTIFICATE_LEN + 1] = {0};
    memcpy(longer, f.link, sizeof(f.link));
    for (size_t n = 0; n <= sizeof(longer); n++) {
        assert_int_equal(verify_link(&f, mvpn_bytes_of(longer, n), NOW, &c),
                         n == sizeof(f.link) ? 0 : MVPN_E_FORMAT);
    }
    memcpy(longer, f.member, sizeof(f.member));
    for (size_t n = 0; n <= sizeof(longer); n++) {
        assert_int_equal(verify_member(&f, mvpn_bytes_of(longer, n), NOW, &m),
                         n == sizeof(f.member) ? 0 : MVPN_E_FORMAT);
    }
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        uint64_t now;
        int expected;
    } rows[] = {
        {0, 0},
        {NB, 0},
        {NA, 0},
        {NB - 300, 0},
        {NA + 300, 0},
        {NB - 301, MVPN_E_EXPIRED},
        {1, MVPN_E_EXPIRED},
        {NA + 301, MVPN_E_EXPIRED},
        {UINT64_MAX, MVPN_E_EXPIRED},
    };
    fixture f = make();
    mvpn_link_certificate c;
    mvpn_membership m;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(verify_link(&f, MVPN_BYTES_ARRAY(f.link), rows[i].now, &c),
                         rows[i].expected);
        assert_int_equal(verify_member(&f, MVPN_BYTES_ARRAY(f.member), rows[i].now, &m),
                         rows[i].expected);
    }
    assert_true(mvpn_validity_holds(0, UINT64_MAX, UINT64_MAX));
    assert_false(mvpn_validity_holds(UINT64_MAX, UINT64_MAX, 5));
    /* An empty span is refused though signed. */
    mvpn_link_certificate_make(f.link, &f.identity_secret, &f.identity, &f.link_key, NA, NA,
                               &f.network_id);
    assert_int_equal(verify_link(&f, MVPN_BYTES_ARRAY(f.link), NOW, &c), MVPN_E_FORMAT);
}

/* A record of another network, another signer or the other kind is not accepted. */
static void test_other_signers(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_link_certificate c;
    mvpn_membership m;
    uint8_t member[MVPN_MEMBERSHIP_LEN];

    mvpn_membership_make(member, &f.identity_secret, &f.identity, 1, NB, NA, 1, &f.network_id);
    assert_int_equal(verify_member(&f, MVPN_BYTES_ARRAY(member), NOW, &m), MVPN_E_AUTH);
    f.network_id.b[0] ^= 1;
    assert_int_equal(verify_link(&f, MVPN_BYTES_ARRAY(f.link), NOW, &c), MVPN_E_AUTH);
    assert_int_equal(verify_member(&f, MVPN_BYTES_ARRAY(f.member), NOW, &m), MVPN_E_AUTH);
}

static void test_network_keys(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_key secret = {{1, 2, 3}}, psk, token, id;
    uint8_t record[20], other[20];
    mvpn_network_psk(&psk, &secret);
    assert_false(mvpn_key_eq(&psk, &secret));
    mvpn_network_token(&token, &f.network_id, &secret);
    assert_true(mvpn_key_eq(&token, &secret));
    mvpn_network_token(&token, &f.network_id, NULL);
    assert_true(mvpn_key_eq(&token, &f.network_id));
    /* §2, §3.3 spelt out. */
    const mvpn_bytes in = MVPN_BYTES_ARRAY(f.network_pub.b);
    mvpn_blake3_derive(id.b, 32, "meshvpn v1 network id", &in, 1);
    assert_true(mvpn_key_eq(&id, &f.network_id));
    mvpn_record_key(record, &f.network_id, &f.identity);
    mvpn_record_key(other, &f.network_id, &f.network_pub);
    assert_memory_not_equal(record, other, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_link_fields),  cmocka_unit_test(test_membership_fields),
        cmocka_unit_test(test_flipped_bits), cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_times),        cmocka_unit_test(test_other_signers),
        cmocka_unit_test(test_network_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
