/*
 * NAT-PMP and PCP messages. The bytes are written out from the packet drawings of RFC 6886 §3 and
 * RFC 6887 §7, §11.1, §14.1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "wire/portmap.h"

static mvpn_addr addr(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static void test_natpmp_requests(void **state)
{
    (void)state;
    /* RFC 6886 §3.2, §3.3 */
    static const uint8_t address[] = {0, 0};
    static const uint8_t map[] = {0, 1, 0, 0, 0x10, 0x92, 0x1f, 0x90, 0, 0, 0x1c, 0x20};
    uint8_t out[MVPN_NATPMP_MAP_LEN];
    mvpn_natpmp_address_encode(out);
    assert_memory_equal(out, address, sizeof(address));
    mvpn_natpmp_map_encode(
        out, &(mvpn_natpmp_map){.internal_port = 4242, .external_port = 8080, .lifetime_s = 7200});
    assert_memory_equal(out, map, sizeof(map));
}

static const uint8_t address_answer[] = {0, 128, 0, 0, 0, 0, 1, 2, 11, 22, 33, 44};
static const uint8_t map_answer[] = {0,    129,  0,    0,    0xfe, 0, 0,    1,
                                     0x10, 0x92, 0x1f, 0x90, 0,    0, 0x1c, 0x20};

static void test_natpmp_answers(void **state)
{
    (void)state;
    mvpn_natpmp_answer a;
    mvpn_addr want = addr("11.22.33.44");
    assert_int_equal(mvpn_natpmp_decode(&a, MVPN_BYTES_ARRAY(address_answer)), 0);
    assert_int_equal(a.opcode, MVPN_NATPMP_ADDRESS);
    assert_int_equal(a.result, MVPN_NATPMP_SUCCESS);
    assert_int_equal(a.epoch_s, 0x102);
    assert_true(mvpn_addr_eq(&a.external, &want));
    assert_int_equal(mvpn_natpmp_decode(&a, MVPN_BYTES_ARRAY(map_answer)), 0);
    assert_int_equal(a.opcode, MVPN_NATPMP_MAP_UDP);
    assert_int_equal(a.epoch_s, 0xfe000001);
    assert_int_equal(a.map.internal_port, 4242);
    assert_int_equal(a.map.external_port, 8080);
    assert_int_equal(a.map.lifetime_s, 7200);
    /* A gateway of NAT-PMP alone to a question of PCP, cut (RFC 6886 §3.5); and one in full. */
    static const uint8_t cut[] = {0, 129, 0, 1, 0, 0, 0, 9};
    assert_int_equal(mvpn_natpmp_decode(&a, MVPN_BYTES_ARRAY(cut)), 0);
    assert_int_equal(a.result, MVPN_NATPMP_UNSUPPORTED_VERSION);
    assert_int_equal(a.epoch_s, 9);
    uint8_t full[sizeof(map_answer)];
    memcpy(full, map_answer, sizeof(full));
    full[3] = MVPN_NATPMP_NOT_AUTHORIZED;
    assert_int_equal(mvpn_natpmp_decode(&a, MVPN_BYTES_ARRAY(full)), 0);
    assert_int_equal(a.result, MVPN_NATPMP_NOT_AUTHORIZED);
    assert_int_equal(a.map.external_port, 0);
}

static void test_natpmp_refused(void **state)
{
    (void)state;
    static const struct {
        const uint8_t *p;
        size_t n;
    } good[] = {{address_answer, sizeof(address_answer)}, {map_answer, sizeof(map_answer)}};
    static const struct {
        size_t at;
        uint8_t value;
    } rows[] = {{0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 130}, {1, 255}};
    mvpn_natpmp_answer a = {.epoch_s = 77};
    for (size_t i = 0; i < 2; i++) {
        uint8_t b[32] = {0};
        memcpy(b, good[i].p, good[i].n);
        for (size_t n = 0; n <= sizeof(b); n++) {
            if (n != good[i].n) {
                assert_int_equal(mvpn_natpmp_decode(&a, mvpn_bytes_of(b, n)), MVPN_E_FORMAT);
            }
        }
        for (size_t k = 0; k < MVPN_ARRAY_LEN(rows); k++) {
            memcpy(b, good[i].p, good[i].n);
            b[rows[k].at] = rows[k].value;
            assert_int_equal(mvpn_natpmp_decode(&a, mvpn_bytes_of(b, good[i].n)), MVPN_E_FORMAT);
        }
    }
    assert_int_equal(a.epoch_s, 77);
}

static const uint8_t map_request[] = {
    2,  1, 0, 0, 0,    0,    0x1c, 0x20, /* version, opcode, lifetime */
    0,  0, 0, 0, 0,    0,    0,    0,    0, 0,  0xff, 0xff, 192, 168, 1,  2,   /* our address */
    1,  2, 3, 4, 5,    6,    7,    8,    9, 10, 11,   12,                      /* nonce */
    17, 0, 0, 0, 0x10, 0x92, 0x1f, 0x90,                                       /* protocol, ports */
    0,  0, 0, 0, 0,    0,    0,    0,    0, 0,  0xff, 0xff, 11,  22,  33, 44}; /* wanted address */
static const uint8_t pcp_answer[] = {
    2,    129,  0,    0,    0, 0, 0x0e, 0x10, 0, 0, 3, 4, 0, 0,  0,    0,    0,  0,  0,  0,
    0,    0,    0,    0,    1, 2, 3,    4,    5, 6, 7, 8, 9, 10, 11,   12,   17, 0,  0,  0,
    0x10, 0x92, 0x27, 0x10, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0,  0xff, 0xff, 11, 22, 33, 44};

static void test_pcp_requests(void **state)
{
    (void)state;
    uint8_t out[MVPN_PCP_MAP_LEN];
    mvpn_addr client = addr("192.168.1.2");
    mvpn_pcp_map map = {.nonce = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
                        .protocol = 17,
                        .internal_port = 4242,
                        .external = addr("11.22.33.44:8080")};
    mvpn_pcp_map_encode(out, &client, 7200, &map);
    assert_memory_equal(out, map_request, sizeof(map_request));
    mvpn_pcp_announce_encode(out, &client);
    static const uint8_t announce[] = {2, 0, 0, 0, 0, 0, 0,    0,    0,   0,   0, 0,
                                       0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2};
    assert_memory_equal(out, announce, sizeof(announce));
    client = addr("2a10::5");
    mvpn_pcp_announce_encode(out, &client);
    assert_memory_equal(out + 8, client.ip, 16);
}

static void test_pcp_answers(void **state)
{
    (void)state;
    mvpn_pcp_answer a;
    mvpn_addr want = addr("11.22.33.44:10000");
    assert_int_equal(mvpn_pcp_decode(&a, MVPN_BYTES_ARRAY(pcp_answer)), 0);
    assert_int_equal(a.version, 2);
    assert_int_equal(a.opcode, MVPN_PCP_MAP);
    assert_int_equal(a.result, 0);
    assert_int_equal(a.lifetime_s, 3600);
    assert_int_equal(a.epoch_s, 0x304);
    assert_true(a.has_map);
    assert_memory_equal(a.map.nonce, map_request + 24, MVPN_PCP_NONCE_LEN);
    assert_int_equal(a.map.protocol, 17);
    assert_int_equal(a.map.internal_port, 4242);
    assert_true(mvpn_addr_eq(&a.map.external, &want));
    /* With options: a known one of length 0, and one whose value is padded. */
    uint8_t b[80] = {0};
    memcpy(b, pcp_answer, sizeof(pcp_answer));
    b[60] = 2;
    b[64] = 130;
    b[67] = 5;
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, 76)), 0);
    assert_true(mvpn_addr_eq(&a.map.external, &want));
    /* An announcement; an error with and without the fields of MAP; another version. */
    memset(b, 0, sizeof(b));
    memcpy(b, pcp_answer, 24);
    b[1] = 128;
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, 24)), 0);
    assert_int_equal(a.opcode, MVPN_PCP_ANNOUNCE);
    assert_false(a.has_map);
    b[1] = 129;
    b[3] = MVPN_PCP_NO_RESOURCES;
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, 24)), 0);
    assert_int_equal(a.result, MVPN_PCP_NO_RESOURCES);
    assert_false(a.has_map);
    memcpy(b + 24, pcp_answer + 24, 36);
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, 60)), 0);
    assert_true(a.has_map);
    b[0] = 1;
    b[3] = MVPN_PCP_UNSUPP_VERSION;
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, 60)), 0);
    assert_int_equal(a.version, 1);
    assert_false(a.has_map);
}

static void test_pcp_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
    } rows[] = {
        {0, 0}, /* NAT-PMP */
        {0, 1}, /* a success of another version */
        {1, 1}, {1, 130}, {1, 255},
    };
    mvpn_pcp_answer a = {.epoch_s = 77};
    uint8_t b[MVPN_PORTMAP_MAX + 4] = {0};
    memcpy(b, pcp_answer, sizeof(pcp_answer));
    for (size_t n = 0; n < sizeof(pcp_answer); n++) {
        assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, n)), MVPN_E_FORMAT);
    }
    for (size_t n = 61; n < 64; n++) {
        assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, n)), MVPN_E_FORMAT);
    }
    for (size_t k = 0; k < MVPN_ARRAY_LEN(rows); k++) {
        memcpy(b, pcp_answer, sizeof(pcp_answer));
        b[rows[k].at] = rows[k].value;
        assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, sizeof(pcp_answer))), MVPN_E_FORMAT);
    }
    memcpy(b, pcp_answer, sizeof(pcp_answer));
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, MVPN_PORTMAP_MAX)), 0);
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, sizeof(b))), MVPN_E_FORMAT);
    /* An option that ends outside. */
    b[63] = 1;
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, 64)), MVPN_E_FORMAT);
    assert_int_equal(mvpn_pcp_decode(&a, mvpn_bytes_of(b, 68)), 0);
}

static void test_texts(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        assert_non_null(mvpn_pcp_result_text(i));
        assert_non_null(mvpn_natpmp_result_text(i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_natpmp_requests), cmocka_unit_test(test_natpmp_answers),
        cmocka_unit_test(test_natpmp_refused),  cmocka_unit_test(test_pcp_requests),
        cmocka_unit_test(test_pcp_answers),     cmocka_unit_test(test_pcp_refused),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
