/*
 * The publisher: sequences that only rise, renewal in time, withdrawal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/error.h"
#include "core/publish.h"
#include "crypto/x25519.h"

#define NOW UINT64_C(1800000000)
#define NOW_MS (NOW * 1000)

typedef struct fixture {
    mvpn_rng rng;
    mvpn_key network_id;
    mvpn_ed25519_secret secret;
    mvpn_descriptor template;
    mvpn_publisher p;
} fixture;

static void begin(fixture *f)
{
    mvpn_x25519_pair link, onion;
    memset(f, 0, sizeof(*f));
    mvpn_rng_init_test(&f->rng, 4);
    mvpn_rng_bytes(&f->rng, f->network_id.b, sizeof(f->network_id.b));
    mvpn_ed25519_generate(&f->template.identity, &f->secret, &f->rng);
    mvpn_x25519_generate(&link, &f->rng);
    mvpn_x25519_generate(&onion, &f->rng);
    mvpn_link_certificate_make(f->template.link_certificate, &f->secret, &f->template.identity,
                               &link.pub, NOW - 10, NOW + 10000000, &f->network_id);
    f->template.link_key = link.pub;
    f->template.onion_key_count = 1;
    f->template.onion_keys[0] = (mvpn_onion_key){1, onion.pub};
    f->template.address_count = 1;
    f->template.addresses[0] = (mvpn_descriptor_address){
        MVPN_CARRIER_PLAIN, {.family = 4, .port = 443, .ip = {45, 1, 2, 3}}};
    f->template.roles = MVPN_ROLE_GUARD;
    mvpn_publisher_init(&f->p, &f->rng, &f->network_id, &f->secret, &f->template);
}

static mvpn_descriptor decoded(const fixture *f, const mvpn_descriptor *d, uint64_t now)
{
    mvpn_descriptor ret;
    assert_int_equal(mvpn_descriptor_decode(&ret, mvpn_bytes_of(d->encoded, d->encoded_len)), 0);
    assert_int_equal(mvpn_descriptor_verify(&ret, &f->network_id, NULL, now), 0);
    return ret;
}

static void renews_in_time(void **state)
{
    fixture f;
    const mvpn_descriptor *d;
    (void)state;
    begin(&f);
    assert_int_equal(mvpn_publisher_due(&f.p), 0);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
    mvpn_descriptor first = decoded(&f, d, NOW);
    assert_int_equal(first.sequence, NOW_MS);
    assert_int_equal(first.published, NOW);
    assert_int_equal(first.expires, NOW + MVPN_PUBLISH_LIFETIME_S);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 1000, &d), MVPN_E_AGAIN);
    uint64_t due = mvpn_publisher_due(&f.p);
    assert_in_range(due, NOW + MVPN_PUBLISH_RENEW_S * 3 / 4, NOW + MVPN_PUBLISH_RENEW_S * 5 / 4);
    assert_int_equal(mvpn_publisher_renew(&f.p, due * 1000, &d), 0);
    assert_true(decoded(&f, d, due).sequence > first.sequence);
    mvpn_publisher_done(&f.p);
    assert_true(mvpn_ct_is_zero(&f.p, sizeof(f.p)));
}

/* A clock set back, and a record of an earlier life: the next sequence is higher all the same. */
static void sequence_only_rises(void **state)
{
    fixture f;
    const mvpn_descriptor *d;
    (void)state;
    begin(&f);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
    mvpn_publisher_saw(&f.p, NOW_MS + 500);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS - 1000, &d), 0);
    assert_int_equal(decoded(&f, d, NOW).sequence, NOW_MS + 501);
    mvpn_publisher_saw(&f.p, NOW_MS); /* an old one: nothing to do */
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS - 1000, &d), MVPN_E_AGAIN);
}

/* Whatever was seen, it never begins anew at 0: nobody would take that. */
static void sequence_at_its_end(void **state)
{
    fixture f;
    const mvpn_descriptor *d;
    (void)state;
    begin(&f);
    mvpn_publisher_saw(&f.p, UINT64_MAX); /* nothing is higher */
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
    assert_int_equal(decoded(&f, d, NOW).sequence, NOW_MS);
    mvpn_publisher_saw(&f.p, UINT64_MAX - 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
        assert_true(decoded(&f, d, NOW).sequence == UINT64_MAX);
        mvpn_publisher_set_onion_keys(&f.p, f.template.onion_keys, 1);
    }
}

static void changes_are_published(void **state)
{
    fixture f;
    const mvpn_descriptor *d;
    const mvpn_addr addr = {.family = 4, .port = 444, .ip = {46, 1, 2, 3}};
    mvpn_onion_key keys[2];
    (void)state;
    begin(&f);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
    mvpn_publisher_set_addresses(&f.p, &addr, 1);
    keys[1] = f.template.onion_keys[0];
    keys[0] = (mvpn_onion_key){2, {{9}}};
    mvpn_publisher_set_onion_keys(&f.p, keys, 2);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
    mvpn_descriptor got = decoded(&f, d, NOW);
    assert_int_equal(got.sequence, NOW_MS + 1);
    assert_true(mvpn_addr_eq(&got.addresses[0].addr, &addr));
    assert_int_equal(got.onion_key_count, 2);
    assert_int_equal(got.onion_keys[0].id, 2);
    assert_memory_equal(got.identity.b, f.template.identity.b, 32); /* the same record key */
}

static void withdraws(void **state)
{
    fixture f;
    const mvpn_descriptor *d;
    (void)state;
    begin(&f);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
    assert_int_equal(mvpn_publisher_withdraw(&f.p, NOW_MS + 5, &d), 0);
    mvpn_descriptor got = decoded(&f, d, NOW);
    assert_int_equal(got.roles, 0);
    assert_int_equal(got.sequence, NOW_MS + 1);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 100000000, &d), MVPN_E_AGAIN);
    /* Started again within the second, remembering nothing: what it publishes then is newer. */
    uint64_t withdrawn = got.sequence;
    begin(&f);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 9, &d), 0);
    assert_true(decoded(&f, d, NOW).sequence > withdrawn);
}

/* Of a relay behind a NAT there is nothing to say before it has a NAT relay; then what that one
 * sees, whatever the host thinks its address is. */
static void behind_a_nat(void **state)
{
    fixture f;
    const mvpn_descriptor *d;
    const mvpn_addr mapped = {.family = 4, .port = 443, .ip = {46, 1, 2, 3}};
    const mvpn_addr seen = {.family = 4, .port = 40001, .ip = {46, 1, 2, 3}};
    const mvpn_descriptor_nat_relay relays[] = {{{{7}}, {{1, 2}}, 4}, {{{6}}, {{3, 4}}, 6}};
    (void)state;
    begin(&f);
    f.template.address_count = 0;
    mvpn_publisher_init(&f.p, &f.rng, &f.network_id, &f.secret, &f.template);
    mvpn_publisher_set_onion_keys(&f.p, f.template.onion_keys, 1);
    assert_true(mvpn_publisher_due(&f.p) == UINT64_MAX);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), MVPN_E_AGAIN);
    mvpn_publisher_set_nat_relays(&f.p, relays, 2, NULL, 0);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), MVPN_E_AGAIN);
    mvpn_publisher_set_nat_relays(&f.p, NULL, 0, &seen, 1);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), MVPN_E_AGAIN);

    mvpn_publisher_set_nat_relays(&f.p, relays, 2, &seen, 1);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
    mvpn_descriptor got = decoded(&f, d, NOW);
    assert_int_equal(got.address_count, 1);
    assert_true(mvpn_addr_eq(&got.addresses[0].addr, &seen));
    assert_int_equal(got.nat_relay_count, 2);
    assert_memory_equal(got.nat_relays[1].identity.b, relays[1].identity.b, 32);
    assert_int_equal(got.nat_relays[1].family, 6);

    /* One less, then none: it never says that it can be reached as it stands. */
    mvpn_publisher_set_nat_relays(&f.p, relays + 1, 1, &seen, 1);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 1, &d), 0);
    assert_int_equal(decoded(&f, d, NOW).nat_relay_count, 1);
    mvpn_publisher_set_nat_relays(&f.p, NULL, 0, NULL, 0);
    mvpn_publisher_set_onion_keys(&f.p, f.template.onion_keys, 1);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 2, &d), MVPN_E_AGAIN);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 119999, &d), MVPN_E_AGAIN);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 121000, &d), 0);
    got = decoded(&f, d, NOW + 121);
    assert_int_equal(got.roles, 0);
    assert_int_equal(got.nat_relay_count, 1);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 90000000, &d), MVPN_E_AGAIN);

    /* It gets a port of its router: then it needs no NAT relay, as long as it has that. */
    mvpn_publisher_set_nat_relays(&f.p, relays, 2, &seen, 1);
    mvpn_publisher_set_addresses(&f.p, &mapped, 1);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 200000, &d), 0);
    got = decoded(&f, d, NOW + 200);
    assert_int_equal(got.roles, f.template.roles);
    assert_int_equal(got.nat_relay_count, 0);
    assert_true(mvpn_addr_eq(&got.addresses[0].addr, &mapped));
    mvpn_publisher_set_addresses(&f.p, NULL, 0);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS + 200000, &d), 0);
    got = decoded(&f, d, NOW + 200);
    assert_int_equal(got.nat_relay_count, 2);
    assert_true(mvpn_addr_eq(&got.addresses[0].addr, &seen));

    /* To one that can be reached it means nothing. */
    begin(&f);
    mvpn_publisher_set_nat_relays(&f.p, relays, 2, &seen, 1);
    assert_int_equal(mvpn_publisher_renew(&f.p, NOW_MS, &d), 0);
    assert_int_equal(decoded(&f, d, NOW).nat_relay_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renews_in_time),      cmocka_unit_test(sequence_only_rises),
        cmocka_unit_test(sequence_at_its_end), cmocka_unit_test(changes_are_published),
        cmocka_unit_test(withdraws),           cmocka_unit_test(behind_a_nat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
