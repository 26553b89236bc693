/* Bodies of link commands: round trips, and every wrong length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "wire/linkmsg.h"

static uint8_t zeros[2048];

static void test_ack(void **state)
{
    (void)state;
    uint32_t in[MVPN_LINK_ACK_MAX], got[MVPN_LINK_ACK_MAX];
    uint8_t body[MVPN_LINK_ACK_LEN_MAX];
    for (size_t count = 1; count <= MVPN_LINK_ACK_MAX; count++) {
        in[count - 1] = (uint32_t)(0xfffffff0 + count * 3);
        size_t n = mvpn_link_ack_encode(body, in, count), got_count;
        assert_int_equal(n, 4 * count);
        assert_int_equal(mvpn_link_ack_decode(got, &got_count, mvpn_bytes_of(body, n)), 0);
        assert_int_equal(got_count, count);
        assert_memory_equal(got, in, n);
    }
    for (size_t n = 0; n < 400; n++) {
        size_t count;
        int err = mvpn_link_ack_decode(got, &count, mvpn_bytes_of(zeros, n));
        assert_int_equal(err == 0, n > 0 && n <= 256 && n % 4 == 0);
    }
}

static void test_new_ids(void **state)
{
    (void)state;
    mvpn_connection_id in[MVPN_HANDSHAKE_IDS_MAX], got[MVPN_HANDSHAKE_IDS_MAX];
    uint8_t body[MVPN_LINK_NEW_IDS_LEN_MAX + 8] = {0};
    for (size_t count = 1; count <= MVPN_HANDSHAKE_IDS_MAX; count++) {
        memset(&in[count - 1], (int)count, sizeof(in[0]));
        size_t n = mvpn_link_new_ids_encode(body, in, count), got_count;
        assert_int_equal(n, 1 + 8 * count);
        assert_int_equal(mvpn_link_new_ids_decode(got, &got_count, mvpn_bytes_of(body, n)), 0);
        assert_int_equal(got_count, count);
        assert_memory_equal(got, in, 8 * count);
        for (size_t cut = 0; cut <= n + 8; cut++) {
            int err = mvpn_link_new_ids_decode(got, &got_count, mvpn_bytes_of(body, cut));
            assert_int_equal(err == 0, cut == n);
            if (cut == sizeof(body)) {
                break;
            }
        }
    }
    const uint8_t none = 0;
    size_t count;
    assert_int_equal(mvpn_link_new_ids_decode(got, &count, mvpn_bytes_of(&none, 1)), MVPN_E_FORMAT);
    body[0] = 5;
    assert_int_equal(mvpn_link_new_ids_decode(got, &count, MVPN_BYTES_ARRAY(body)), MVPN_E_FORMAT);
}

static void test_part(void **state)
{
    (void)state;
    uint8_t body[8] = {0};
    mvpn_link_part got;
    mvpn_link_part_encode(body, 0xabcd, 1);
    assert_int_equal(mvpn_link_part_decode(&got, MVPN_BYTES_ARRAY(body)), 0);
    assert_int_equal(got.id, 0xabcd);
    assert_int_equal(got.index, 1);
    assert_ptr_equal(got.bytes.p, body + 3);
    assert_int_equal(got.bytes.n, 5);
    for (size_t n = 0; n < 5; n++) {
        assert_int_equal(mvpn_link_part_decode(&got, mvpn_bytes_of(body, n)) == 0, n == 4);
    }
    body[2] = 2;
    assert_int_equal(mvpn_link_part_decode(&got, MVPN_BYTES_ARRAY(body)), MVPN_E_FORMAT);
}

static void test_tokens_and_close(void **state)
{
    (void)state;
    uint8_t body[8], reason;
    uint64_t got;
    mvpn_store64(body, UINT64_C(0x8877665544332211));
    assert_int_equal(mvpn_link_token_decode(&got, MVPN_BYTES_ARRAY(body)), 0);
    assert_true(got == UINT64_C(0x8877665544332211));
    assert_int_equal(mvpn_link_probe_decode(&got, MVPN_BYTES_ARRAY(body)), 0);
    for (size_t n = 0; n < 1400; n++) {
        assert_int_equal(mvpn_link_token_decode(&got, mvpn_bytes_of(zeros, n)) == 0, n == 8);
        assert_int_equal(mvpn_link_probe_decode(&got, mvpn_bytes_of(zeros, n)) == 0, n >= 8);
        assert_int_equal(mvpn_link_close_decode(&reason, mvpn_bytes_of(zeros, n)) == 0, n == 1);
    }
    assert_int_equal(mvpn_link_close_decode(&reason, mvpn_bytes_of(body, 1)), 0);
    assert_int_equal(reason, 0x88);
}

static void test_candidates(void **state)
{
    (void)state;
    uint8_t body[MVPN_LINK_CANDIDATES_LEN_MAX];
    mvpn_link_candidates in = {.round = 7,
                               .flags = MVPN_CANDIDATES_ASK | MVPN_CANDIDATES_SOCKETS,
                               .mapping = MVPN_NAT_DEPENDS_PORT,
                               .filtering = MVPN_NAT_DEPENDS_ADDRESS,
                               .port_step = -2,
                               .id_count = MVPN_HANDSHAKE_IDS_MAX,
                               .candidate_count = MVPN_CANDIDATES_MAX};
    for (size_t i = 0; i < MVPN_HANDSHAKE_IDS_MAX; i++) {
        memset(in.ids[i].b, (int)(i + 1), sizeof(in.ids[i].b));
    }
    for (size_t i = 0; i < MVPN_CANDIDATES_MAX; i++) {
        in.candidates[i].kind = (uint8_t)(i + 1);
        in.candidates[i].addr =
            (mvpn_addr){.family = i % 2 == 0 ? 4 : 6, .port = (uint16_t)(i + 1)};
        memset(in.candidates[i].addr.ip, 0x40 + (int)i, i % 2 == 0 ? 4 : 16);
    }
    mvpn_link_candidates got;
    size_t n = mvpn_link_candidates_encode(body, &in);
    assert_int_equal(n, sizeof(body));
    assert_int_equal(mvpn_link_candidates_decode(&got, mvpn_bytes_of(body, n)), 0);
    assert_int_equal(got.port_step, -2);
    assert_memory_equal(got.ids, in.ids, sizeof(in.ids));
    uint8_t again[MVPN_LINK_CANDIDATES_LEN_MAX];
    assert_int_equal(mvpn_link_candidates_encode(again, &got), n);
    assert_memory_equal(again, body, n);
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(mvpn_link_candidates_decode(&got, mvpn_bytes_of(body, cut)),
                         MVPN_E_FORMAT);
    }
    static const struct {
        size_t at;
        uint8_t value;
        int result;
    } rows[] = {
        {2, 4, 0}, /* a dependence of later versions reads unknown */
        {6, 0, MVPN_E_FORMAT},
        {6, 5, MVPN_E_FORMAT},
        {39, 9, MVPN_E_FORMAT},
        {39, 7, MVPN_E_FORMAT}, /* a rest */
        {41, 5, MVPN_E_FORMAT}, /* family */
        {43, 0, MVPN_E_FORMAT}, /* port 0 */
        {59, 1, MVPN_E_FORMAT}, /* bytes behind an IPv4 address */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        memcpy(again, body, n);
        again[rows[i].at] = rows[i].value;
        assert_int_equal(mvpn_link_candidates_decode(&got, mvpn_bytes_of(again, n)),
                         rows[i].result);
        assert_true(rows[i].result != 0 || got.mapping == MVPN_NAT_DEPENDS_UNKNOWN);
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_ack),        cmocka_unit_test(test_new_ids),
        cmocka_unit_test(test_part),       cmocka_unit_test(test_tokens_and_close),
        cmocka_unit_test(test_candidates),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
