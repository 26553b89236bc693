/* Questions and answers on the local network. (docs/protocol.md §13.4) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "wire/lan.h"

static const mvpn_key token = {{1, 2, 3}}, other = {{1, 2, 4}};
static const uint8_t nonce[MVPN_LAN_NONCE_LEN] = {8, 7, 6, 5, 4, 3, 2, 1};

static mvpn_dht_contact contact(const char *addr)
{
    mvpn_dht_contact c = {.link_key = {{9}}};
    mvpn_ed25519_pub identity = {{5}};
    assert_int_equal(mvpn_addr_parse(addr, &c.addr), 0);
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

static void test_question(void **state)
{
    (void)state;
    uint8_t q[MVPN_LAN_QUESTION_LEN + 1] = {0}, got[MVPN_LAN_NONCE_LEN] = {0};
    mvpn_lan_question_encode(q, &token, nonce);
    assert_memory_equal(q, "MVPN?", 5);
    assert_int_equal(mvpn_lan_question_decode(got, &token, mvpn_bytes_of(q, MVPN_LAN_QUESTION_LEN)),
                     0);
    assert_memory_equal(got, nonce, sizeof(got));
    assert_int_equal(mvpn_lan_question_decode(got, &other, mvpn_bytes_of(q, MVPN_LAN_QUESTION_LEN)),
                     MVPN_E_AUTH);
    for (size_t n = 0; n <= sizeof(q); n++) {
        if (n != MVPN_LAN_QUESTION_LEN) {
            assert_int_equal(mvpn_lan_question_decode(got, &token, mvpn_bytes_of(q, n)),
                             MVPN_E_FORMAT);
        }
    }
    for (size_t bit = 0; bit < 8 * MVPN_LAN_QUESTION_LEN; bit++) {
        q[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(mvpn_lan_question_decode(got, &token, mvpn_bytes_of(q, MVPN_LAN_QUESTION_LEN)) <
                    0);
        q[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_answer(void **state)
{
    (void)state;
    const char *const addrs[] = {"192.0.2.1:7000", "[2001:db8::1]:7001"};
    for (size_t i = 0; i < 2; i++) {
        uint8_t a[MVPN_LAN_ANSWER_MAX + 1] = {0};
        mvpn_dht_contact c = contact(addrs[i]), got = {0};
        size_t len = mvpn_lan_answer_encode(a, &token, nonce, &c);
        assert_int_equal(len, i == 0 ? 87 : 99);
        assert_true(len <= MVPN_LAN_QUESTION_LEN); /* no amplifier */
        assert_int_equal(mvpn_lan_answer_decode(&got, &token, nonce, mvpn_bytes_of(a, len)), 0);
        assert_memory_equal(&got.id, &c.id, sizeof(c.id));
        assert_memory_equal(&got.link_key, &c.link_key, sizeof(c.link_key));
        assert_true(mvpn_addr_eq(&got.addr, &c.addr));
        const uint8_t wrong[MVPN_LAN_NONCE_LEN] = {8, 7, 6, 5, 4, 3, 2, 0};
        assert_int_equal(mvpn_lan_answer_decode(&got, &token, wrong, mvpn_bytes_of(a, len)),
                         MVPN_E_AUTH);
        assert_int_equal(mvpn_lan_answer_decode(&got, &other, nonce, mvpn_bytes_of(a, len)),
                         MVPN_E_AUTH);
        for (size_t n = 0; n <= sizeof(a); n++) {
            if (n != len) {
                assert_true(mvpn_lan_answer_decode(&got, &token, nonce, mvpn_bytes_of(a, n)) < 0);
            }
        }
        for (size_t bit = 0; bit < 8 * len; bit++) {
            a[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_true(mvpn_lan_answer_decode(&got, &token, nonce, mvpn_bytes_of(a, len)) < 0);
            a[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        /* An entry that does not fit its address, by somebody who knows the token. */
        c.id.b[0] ^= 1;
        len = mvpn_lan_answer_encode(a, &token, nonce, &c);
        assert_int_equal(mvpn_lan_answer_decode(&got, &token, nonce, mvpn_bytes_of(a, len)),
                         MVPN_E_POLICY);
    }
}

/* A question is no answer and the other way round, although one mac covers both. */
static void test_kinds_differ(void **state)
{
    (void)state;
    uint8_t b[MVPN_LAN_QUESTION_LEN], got[MVPN_LAN_NONCE_LEN];
    mvpn_dht_contact c = contact("[2001:db8::1]:7001"), ret;
    mvpn_lan_question_encode(b, &token, nonce);
    assert_int_equal(mvpn_lan_answer_decode(&ret, &token, nonce, MVPN_BYTES_ARRAY(b)),
                     MVPN_E_FORMAT);
    (void)mvpn_lan_answer_encode(b, &token, nonce, &c);
    assert_int_equal(mvpn_lan_question_decode(got, &token, MVPN_BYTES_ARRAY(b)), MVPN_E_FORMAT);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_question),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_kinds_differ),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
