/* Messages of NAT relays: round trips of every field, every wrong length and value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "wire/natmsg.h"

static const mvpn_nat_id an_id = {{1, 2, 3, 4, 5, 6, 7, 8}};

static void test_register(void **state)
{
    (void)state;
    uint8_t body[MVPN_NAT_REGISTER_LEN + 1] = {0};
    uint16_t got = 0;
    mvpn_nat_register_encode(body, 0xbeef);
    for (size_t n = 0; n <= sizeof(body); n++) {
        assert_int_equal(mvpn_nat_register_decode(&got, mvpn_bytes_of(body, n)) == 0, n == 2);
    }
    assert_int_equal(got, 0xbeef);
    mvpn_nat_register_encode(body, 0);
    assert_int_equal(mvpn_nat_register_decode(&got, mvpn_bytes_of(body, 2)), MVPN_E_FORMAT);
}

static void test_registered(void **state)
{
    (void)state;
    static const struct {
        mvpn_nat_registered m;
        bool is_valid;
    } rows[] = {
        {{0, {{1, 2, 3, 4, 5, 6, 7, 8}}, 600}, true},  {{4, {{0}}, 0}, true},
        {{0, {{1, 2, 3, 4, 5, 6, 7, 8}}, 0}, false},   {{0, {{0}}, 600}, false},
        {{4, {{1, 2, 3, 4, 5, 6, 7, 8}}, 0}, false},   {{4, {{0}}, 1}, false},
        {{4, {{1, 2, 3, 4, 5, 6, 7, 8}}, 600}, false}, {{0, {{0}}, 0}, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t body[MVPN_NAT_REGISTERED_LEN + 1] = {0};
        mvpn_nat_registered got;
        mvpn_nat_registered_encode(body, &rows[i].m);
        for (size_t n = 0; n <= sizeof(body); n++) {
            int err = mvpn_nat_registered_decode(&got, mvpn_bytes_of(body, n));
            assert_int_equal(err == 0, n == MVPN_NAT_REGISTERED_LEN && rows[i].is_valid);
        }
        if (rows[i].is_valid) {
            assert_int_equal(got.status, rows[i].m.status);
            assert_int_equal(got.lifetime_s, rows[i].m.lifetime_s);
            assert_memory_equal(got.rendezvous.b, rows[i].m.rendezvous.b, MVPN_NAT_ID_LEN);
        }
    }
}

static void test_open(void **state)
{
    (void)state;
    for (unsigned count = 0; count < 12; count++) {
        uint8_t body[MVPN_NAT_OPEN_LEN + 1] = {0};
        mvpn_nat_open got = {0}, in = {0x01020304, an_id, (uint8_t)count};
        mvpn_nat_open_encode(body, &in);
        for (size_t n = 0; n <= sizeof(body); n++) {
            int err = mvpn_nat_open_decode(&got, mvpn_bytes_of(body, n));
            assert_int_equal(err == 0, n == MVPN_NAT_OPEN_LEN && count >= 2 && count <= 8);
        }
        if (count >= 2 && count <= 8) {
            assert_int_equal(got.request, in.request);
            assert_int_equal(got.count, count);
            assert_memory_equal(got.rendezvous.b, an_id.b, MVPN_NAT_ID_LEN);
        }
        in.request = 0; /* it stands for NatMore */
        mvpn_nat_open_encode(body, &in);
        assert_int_equal(mvpn_nat_open_decode(&got, mvpn_bytes_of(body, MVPN_NAT_OPEN_LEN)),
                         MVPN_E_FORMAT);
    }
}

static void make_ids(mvpn_nat_ids *ids, unsigned count)
{
    *ids = (mvpn_nat_ids){.session = an_id, .count = (uint8_t)count};
    for (unsigned i = 0; i < count; i++) {
        memset(ids->own[i].b, (int)(0x10 + i), sizeof(ids->own[i].b));
        memset(ids->peer[i].b, (int)(0x90 + i), sizeof(ids->peer[i].b));
    }
}

static void test_opened_and_incoming(void **state)
{
    (void)state;
    uint8_t body[MVPN_NAT_OPENED_LEN_MAX + 1] = {0};
    for (unsigned count = 0; count <= MVPN_NAT_IDS_MAX; count++) {
        for (unsigned status = 0; status < 3; status++) {
            mvpn_nat_opened in = {.request = 77, .status = (uint8_t)status}, got;
            make_ids(&in.ids, count);
            size_t len = mvpn_nat_opened_encode(body, &in);
            bool is_valid = (status == 0) == (count > 0);
            assert_int_equal(len, 14 + 16 * count);
            for (size_t n = 0; n <= sizeof(body); n++) {
                int err = mvpn_nat_opened_decode(&got, mvpn_bytes_of(body, n));
                assert_int_equal(err == 0, n == len && is_valid);
            }
            if (is_valid) {
                assert_int_equal(got.request, 77);
                assert_int_equal(got.status, status);
                assert_memory_equal(&got.ids, &in.ids, sizeof(in.ids));
            }
        }
        mvpn_nat_ids in, got;
        make_ids(&in, count);
        size_t len = mvpn_nat_incoming_encode(body, &in);
        for (size_t n = 0; n <= sizeof(body); n++) {
            int err = mvpn_nat_incoming_decode(&got, mvpn_bytes_of(body, n));
            assert_int_equal(err == 0, n == len && count > 0);
        }
        if (count > 0) {
            assert_memory_equal(&got, &in, sizeof(in));
        }
    }
    static uint8_t large[14 + 16 * 255]; /* each count beyond the maximum, with as many ids */
    for (unsigned count = MVPN_NAT_IDS_MAX + 1; count < 256; count++) {
        mvpn_nat_opened got;
        mvpn_nat_ids ids;
        large[13] = (uint8_t)count;
        assert_int_equal(mvpn_nat_opened_decode(&got, mvpn_bytes_of(large, 14 + 16 * count)),
                         MVPN_E_FORMAT);
        large[13] = 0;
        large[8] = (uint8_t)count;
        assert_int_equal(mvpn_nat_incoming_decode(&ids, mvpn_bytes_of(large, 9 + 16 * count)),
                         MVPN_E_FORMAT);
        large[8] = 0;
    }
}

static void test_more_and_close(void **state)
{
    (void)state;
    for (unsigned count = 0; count < 12; count++) {
        uint8_t body[MVPN_NAT_MORE_LEN + 1] = {0};
        mvpn_nat_more got = {0}, in = {an_id, (uint8_t)count};
        mvpn_nat_more_encode(body, &in);
        for (size_t n = 0; n <= sizeof(body); n++) {
            int err = mvpn_nat_more_decode(&got, mvpn_bytes_of(body, n));
            assert_int_equal(err == 0, n == MVPN_NAT_MORE_LEN && count >= 1 && count <= 8);
        }
        if (count >= 1 && count <= 8) {
            assert_int_equal(got.count, count);
            assert_memory_equal(got.session.b, an_id.b, MVPN_NAT_ID_LEN);
        }
    }
    mvpn_nat_id id = {{0}};
    uint8_t body[MVPN_NAT_CLOSE_LEN + 1] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (size_t n = 0; n <= sizeof(body); n++) {
        assert_int_equal(mvpn_nat_close_decode(&id, mvpn_bytes_of(body, n)) == 0,
                         n == MVPN_NAT_CLOSE_LEN);
    }
    assert_memory_equal(id.b, an_id.b, sizeof(id.b));
}

static void test_addressed(void **state)
{
    (void)state;
    static const mvpn_addr v4 = {.family = 4, .port = 0x1234, .ip = {198, 51, 100, 7}};
    static const mvpn_addr v6 = {.family = 6, .port = 1, .ip = {0x2a, 1, [15] = 9}};
    static const mvpn_addr no_port = {.family = 4, .ip = {198, 51, 100, 7}};
    static const mvpn_addr mapped = {
        .family = 6, .port = 1, .ip = {[10] = 0xff, 0xff, 198, 51, 100, 7}};
    static const mvpn_addr long_v4 = {.family = 4, .port = 1, .ip = {198, 51, 100, 7, [15] = 1}};
    static const mvpn_addr other = {.family = 5, .port = 1, .ip = {198, 51, 100, 7}};
    const struct {
        mvpn_nat_addressed m;
        bool is_valid;
    } rows[] = {
        {{an_id, 0, v4}, true},       {{an_id, 0, v6}, true},       {{an_id, 3, {0}}, true},
        {{an_id, 0, {0}}, false},     {{an_id, 0, no_port}, false}, {{an_id, 0, mapped}, false},
        {{an_id, 0, long_v4}, false}, {{an_id, 0, other}, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t body[MVPN_NAT_ADDRESSED_LEN + 1] = {0};
        mvpn_nat_addressed got;
        mvpn_nat_addressed_encode(body, &rows[i].m);
        for (size_t n = 0; n <= sizeof(body); n++) {
            int err = mvpn_nat_addressed_decode(&got, mvpn_bytes_of(body, n));
            assert_int_equal(err == 0, n == 28 && rows[i].is_valid);
        }
        if (rows[i].is_valid) {
            assert_int_equal(got.status, rows[i].m.status);
            assert_memory_equal(got.session.b, an_id.b, MVPN_NAT_ID_LEN);
            assert_true(mvpn_addr_eq(&got.addr, &rows[i].m.addr));
        }
    }
    /* As §14.6 has it; and a refusal tells nothing else. */
    static const uint8_t wire[] = {1, 2, 3, 4, 5, 6, 7, 8, 0, 4, 0x12, 0x34, 198, 51, 100, 7};
    uint8_t body[MVPN_NAT_ADDRESSED_LEN];
    mvpn_nat_addressed got;
    mvpn_nat_addressed_encode(body, &rows[0].m);
    assert_memory_equal(body, wire, sizeof(wire));
    mvpn_nat_addressed_encode(body, &(mvpn_nat_addressed){an_id, 3, v4});
    for (size_t i = 9; i < sizeof(body); i++) {
        assert_int_equal(body[i], 0);
        body[i] = 1;
        assert_int_equal(mvpn_nat_addressed_decode(&got, MVPN_BYTES_ARRAY(body)), MVPN_E_FORMAT);
        body[i] = 0;
    }
    assert_int_equal(mvpn_nat_addressed_decode(&got, MVPN_BYTES_ARRAY(body)), 0);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_register),       cmocka_unit_test(test_registered),
        cmocka_unit_test(test_open),           cmocka_unit_test(test_opened_and_incoming),
        cmocka_unit_test(test_more_and_close), cmocka_unit_test(test_addressed),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
