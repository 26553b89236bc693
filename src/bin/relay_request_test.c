/* A request comes back as it was made; altered, for another network or for too much it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/error.h"
#include "bin/relay_request.h"
#include "crypto/x25519.h"

#define NOW UINT64_C(1800000000)

static uint8_t good[RELAY_REQUEST_LEN];
static mvpn_key network = {{7}}, other = {{8}};

static void make(uint16_t roles, const char *name)
{
    static const uint8_t seed[32] = {1};
    mvpn_ed25519_pub identity;
    mvpn_ed25519_secret secret;
    const mvpn_key link = {{9}};
    relay_request r = {.roles = roles};
    mvpn_ed25519_from_seed(&identity, &secret, seed);
    memcpy(r.name, name, strlen(name));
    mvpn_link_certificate_make(r.link_certificate, &secret, &identity, &link, NOW - 10, NOW + 10,
                               &network);
    relay_request_encode(good, &r);
}

static int decode(relay_request *ret, const mvpn_key *id, uint64_t now)
{
    return relay_request_decode(ret, good, id, now);
}

static void test_round_trip(void **state)
{
    relay_request r;
    (void)state;
    make(MVPN_ROLE_GUARD | MVPN_ROLE_EXIT, "abcdefghijklmnopqrstuvwx");
    assert_int_equal(decode(&r, &network, NOW), 0);
    assert_int_equal(r.roles, MVPN_ROLE_GUARD | MVPN_ROLE_EXIT);
    assert_string_equal(r.name, "abcdefghijklmnopqrstuvwx");
    assert_int_equal(r.link.link_key.b[0], 9);
    assert_int_equal(decode(&r, &other, NOW), MVPN_E_AUTH);
    assert_int_equal(decode(&r, &network, NOW + 1000), MVPN_E_EXPIRED);
    make(MVPN_ROLE_GUARD | MVPN_ROLE_DISCOVERY, "elm");
    assert_int_equal(decode(&r, &network, NOW), MVPN_E_POLICY);
    make(0, "elm");
    assert_int_equal(decode(&r, &network, NOW), MVPN_E_POLICY);
    make(MVPN_ROLE_GUARD, "Elm");
    assert_int_equal(decode(&r, &network, NOW), MVPN_E_FORMAT);
    make(MVPN_ROLE_GUARD, "");
    assert_int_equal(decode(&r, &network, NOW), MVPN_E_FORMAT);
}

/* What is not signed is the name and the roles: those the operator sees and decides. */
static void test_altered(void **state)
{
    relay_request r;
    (void)state;
    make(MVPN_ROLE_GUARD, "elm");
    for (size_t i = 8 * (3 + MVPN_NAME_MAX); i < 8 * sizeof(good); i++) {
        good[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_not_equal(decode(&r, &network, NOW), 0);
        good[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    good[3 + 5] = 'x'; /* behind the name */
    assert_int_equal(decode(&r, &network, NOW), MVPN_E_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_altered)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
