/* Handshake packets and payloads: every field round-trips; whatever is cut or altered is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "wire/handshake.h"

static void test_header(void **state)
{
    (void)state;
    const mvpn_handshake_header h = {0x2a, {{1, 2, 3, 4, 5, 6, 7, 8}}, {{9, 8, 7, 6, 5, 4, 3, 2}}};
    uint8_t packet[MVPN_HANDSHAKE_LEN + 1] = {0};
    mvpn_handshake_header_encode(packet, &h);
    const uint8_t want[] = {0xea, 0x6d, 0x76, 0, 1, 8, 1, 2, 3, 4, 5, 6,
                            7,    8,    8,    9, 8, 7, 6, 5, 4, 3, 2};
    assert_memory_equal(packet, want, sizeof(want));
    mvpn_handshake_header got;
    assert_int_equal(mvpn_handshake_header_decode(&got, mvpn_bytes_of(packet, MVPN_HANDSHAKE_LEN)),
                     0);
    assert_memory_equal(&got, &h, sizeof(h));
    for (size_t n = 0; n <= sizeof(packet); n++) {
        int err = mvpn_handshake_header_decode(&got, mvpn_bytes_of(packet, n));
        assert_int_equal(err, n == MVPN_HANDSHAKE_LEN ? 0 : MVPN_E_FORMAT);
    }
    const size_t fixed[] = {1, 2, 3, 4, 5, 14};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(fixed); i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            packet[fixed[i]] ^= (uint8_t)(1u << bit);
            assert_int_equal(
                mvpn_handshake_header_decode(&got, mvpn_bytes_of(packet, MVPN_HANDSHAKE_LEN)),
                MVPN_E_FORMAT);
            packet[fixed[i]] ^= (uint8_t)(1u << bit);
        }
    }
    packet[0] = 0x6a;
    assert_int_equal(mvpn_handshake_header_decode(&got, mvpn_bytes_of(packet, MVPN_HANDSHAKE_LEN)),
                     MVPN_E_FORMAT);
}

static void test_prologue(void **state)
{
    (void)state;
    mvpn_key id, key;
    mvpn_ed25519_pub who;
    memset(&id, 1, sizeof(id));
    memset(&who, 2, sizeof(who));
    memset(&key, 3, sizeof(key));
    uint8_t out[MVPN_PROLOGUE_LEN], want[MVPN_PROLOGUE_LEN] = "MeshVPN\0\1\x7f\2";
    memset(want + 11, 1, 32);
    memset(want + 43, 2, 32);
    memset(want + 75, 3, 32);
    mvpn_prologue_encode(out, MVPN_SUITE_TEST, MVPN_PURPOSE_CIRCUIT, &id, &who, &key);
    assert_memory_equal(out, want, sizeof(want));
}

static const uint8_t header[MVPN_HANDSHAKE_HEADER_LEN] = {0xc1, 2, 3};

static mvpn_handshake_payload sample(bool is_reply)
{
    static const uint8_t link[176] = {7}, member[122] = {8};
    mvpn_handshake_payload p = {.time = UINT64_C(0x0102030405060708),
                                .max_datagram = 1424,
                                .id_count = 4,
                                .link_certificate = MVPN_BYTES_ARRAY(link),
                                .membership_certificate = MVPN_BYTES_ARRAY(member)};
    for (uint8_t i = 0; i < 4; i++) {
        memset(p.ids[i].b, 0x10 + i, sizeof(p.ids[i].b));
    }
    if (is_reply) {
        p.observed = (mvpn_addr){.family = 6, .port = 443};
        memset(p.observed.ip, 0x20, sizeof(p.observed.ip));
    }
    return p;
}

static void test_payload_round_trip(void **state)
{
    (void)state;
    for (int is_reply = 0; is_reply < 2; is_reply++) {
        mvpn_handshake_payload p = sample(is_reply), got;
        uint8_t out[1081];
        assert_int_equal(mvpn_handshake_payload_encode(out, sizeof(out), is_reply, header, &p), 0);
        assert_int_equal(
            mvpn_handshake_payload_decode(&got, MVPN_BYTES_ARRAY(out), is_reply, header), 0);
        assert_int_equal(got.time, p.time);
        assert_int_equal(got.max_datagram, p.max_datagram);
        assert_int_equal(got.id_count, 4);
        assert_memory_equal(got.ids, p.ids, sizeof(p.ids));
        assert_memory_equal(&got.observed, &p.observed, sizeof(p.observed));
        assert_int_equal(got.link_certificate.n, 176);
        assert_memory_equal(got.link_certificate.p, p.link_certificate.p, 176);
        assert_int_equal(got.membership_certificate.n, 122);
        assert_memory_equal(got.membership_certificate.p, p.membership_certificate.p, 122);
        /* Too small a place is refused, whatever the size. */
        size_t live = 23 + 8 + 2 + (is_reply ? 19 : 0) + 1 + 32 + 4 + 176 + 4 + 122;
        for (size_t n = 0; n <= live; n++) {
            int err = mvpn_handshake_payload_encode(out, n, is_reply, header, &p);
            assert_int_equal(err, n < live ? MVPN_E_SPACE : 0);
        }
        /* Cut anywhere before its end the payload is refused; ends of a TLV are good places. */
        size_t tlvs = live - 4 - 176 - 4 - 122;
        for (size_t n = 0; n < live; n++) {
            int err = mvpn_handshake_payload_decode(&got, mvpn_bytes_of(out, n), is_reply, header);
            /* ... and a first zero byte of the next type is as good as padding. */
            bool is_end = n - tlvs <= 1 || n - (tlvs + 4 + 176) <= 1;
            assert_int_equal(err == 0, is_end);
        }
    }
}

static void test_bad_payloads(void **state)
{
    (void)state;
    mvpn_handshake_payload p = sample(true), got;
    uint8_t good[1081], bad[1081];
    assert_int_equal(mvpn_handshake_payload_encode(good, sizeof(good), true, header, &p), 0);
    const size_t count_at = 23 + 8 + 2 + 19, tlv_at = count_at + 1 + 32,
                 end = tlv_at + 4 + 176 + 4 + 122;
    const struct {
        size_t at;
        uint8_t value;
        int err;
    } rows[] = {
        {0, 0xc0, MVPN_E_AUTH},              /* header differs */
        {22, 1, MVPN_E_AUTH},                /* in its last byte */
        {31, 4, MVPN_E_FORMAT},              /* max datagram 1168 */
        {33, 5, MVPN_E_FORMAT},              /* family 5 */
        {33, 0, MVPN_E_FORMAT},              /* none */
        {33, 4, MVPN_E_FORMAT},              /* IPv4 with more than four bytes */
        {count_at, 5, MVPN_E_FORMAT},        /* ids */
        {tlv_at + 1, 2, MVPN_E_FORMAT},      /* the second type twice */
        {tlv_at + 2, 0xff, MVPN_E_FORMAT},   /* longer than all */
        {end, 1, 0},                         /* an unknown type, 256 with length 0: ignored */
        {end + 2, 1, MVPN_E_FORMAT},         /* not only zeros after the end */
        {sizeof(good) - 1, 1, MVPN_E_FORMAT} /* in the last byte */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        memcpy(bad, good, sizeof(good));
        bad[rows[i].at] = rows[i].value;
        assert_int_equal(mvpn_handshake_payload_decode(&got, MVPN_BYTES_ARRAY(bad), true, header),
                         rows[i].err);
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_prologue),
        cmocka_unit_test(test_payload_round_trip),
        cmocka_unit_test(test_bad_payloads),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
