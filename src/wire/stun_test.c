/*
 * STUN messages: every attribute there and back, and every rule of the decoder. The RFC's own
 * messages are in stun_vectors_test.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "wire/stun.h"

static const uint8_t id[MVPN_STUN_TRANSACTION_LEN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static uint8_t out[MVPN_STUN_MAX];
static mvpn_stun_writer s;

static mvpn_addr addr(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static void begin(enum mvpn_stun_class class)
{
    mvpn_stun_begin(&s, out, sizeof(out), class, MVPN_STUN_BINDING, id);
}

static int decode(mvpn_stun_message *m)
{
    size_t n = mvpn_stun_end(&s);
    assert_true(n > 0);
    return mvpn_stun_decode(m, mvpn_bytes_of(out, n));
}

static void test_addresses(void **state)
{
    (void)state;
    static const char *const texts[] = {"198.51.100.7:443", "0.0.0.0:0", "255.255.255.255:65535",
                                        "[2001:db8::7]:3478", "[::]:1"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(texts); i++) {
        mvpn_stun_message m;
        mvpn_addr a = addr(texts[i]), b = a;
        b.port ^= 0x0101;
        begin(MVPN_STUN_SUCCESS);
        size_t before = mvpn_stun_end(&s);
        mvpn_stun_put_address(&s, MVPN_STUN_XOR_MAPPED_ADDRESS, &a);
        assert_int_equal(mvpn_stun_end(&s) - before, mvpn_stun_address_len(&a));
        mvpn_stun_put_address(&s, MVPN_STUN_MAPPED_ADDRESS, &b);
        mvpn_stun_put_address(&s, MVPN_STUN_RESPONSE_ORIGIN, &a);
        mvpn_stun_put_address(&s, MVPN_STUN_OTHER_ADDRESS, &b);
        mvpn_stun_put_address(&s, MVPN_STUN_OTHER_ADDRESS, &a); /* the second does not count */
        assert_int_equal(decode(&m), 0);
        assert_true(mvpn_addr_eq(&m.xor_mapped, &a));
        assert_true(mvpn_addr_eq(&m.mapped, &b));
        assert_true(mvpn_addr_eq(&m.response_origin, &a));
        assert_true(mvpn_addr_eq(&m.other, &b));
        assert_int_equal(m.class, MVPN_STUN_SUCCESS);
    }
}

static void test_request(void **state)
{
    (void)state;
    static const uint8_t padding[64];
    for (unsigned bits = 0; bits < 4; bits++) {
        mvpn_stun_message m;
        begin(MVPN_STUN_REQUEST);
        mvpn_stun_put_change(&s, bits & 1, bits & 2);
        mvpn_stun_put_bytes(&s, MVPN_STUN_SOFTWARE, MVPN_BYTES_LITERAL("abcde"));
        mvpn_stun_put_bytes(&s, MVPN_STUN_USERNAME, MVPN_BYTES_LITERAL("u"));
        mvpn_stun_put_bytes(&s, MVPN_STUN_PADDING, MVPN_BYTES_ARRAY(padding));
        mvpn_stun_put_fingerprint(&s);
        assert_int_equal(decode(&m), 0);
        assert_int_equal(m.class, MVPN_STUN_REQUEST);
        assert_int_equal(m.method, MVPN_STUN_BINDING);
        assert_memory_equal(m.transaction, id, sizeof(id));
        assert_true(m.has_change && m.has_padding && m.has_fingerprint);
        assert_int_equal(m.change_ip, bits & 1);
        assert_int_equal(m.change_port, bits >> 1);
        assert_int_equal(m.software.n, 5);
        assert_memory_equal(m.software.p, "abcde", 5);
        assert_int_equal(m.username.n, 1);
        assert_int_equal(m.unknown_count, 0);
        assert_int_equal(m.error_code, 0);
    }
}

static void test_classes_and_methods(void **state)
{
    (void)state;
    static const uint16_t methods[] = {0, 1, 3, 0x0f, 0x10, 0x7f, 0x80, 0xfff};
    for (unsigned c = 0; c < 4; c++) {
        for (size_t i = 0; i < MVPN_ARRAY_LEN(methods); i++) {
            mvpn_stun_message m;
            mvpn_stun_begin(&s, out, sizeof(out), (enum mvpn_stun_class)c, methods[i], id);
            if (c == MVPN_STUN_ERROR) {
                mvpn_stun_put_error(&s, 500);
            }
            assert_int_equal(decode(&m), 0);
            assert_int_equal(m.class, c);
            assert_int_equal(m.method, methods[i]);
        }
    }
    /* RFC 8489 §5: a Binding success is 0x0101, an error 0x0111. */
    begin(MVPN_STUN_SUCCESS);
    assert_int_equal(mvpn_load16(out), 0x0101);
    begin(MVPN_STUN_ERROR);
    assert_int_equal(mvpn_load16(out), 0x0111);
}

static void test_errors(void **state)
{
    (void)state;
    static const uint16_t unknown[] = {MVPN_STUN_RESPONSE_PORT, 0x7fff, 1, 2, 3, 4};
    mvpn_stun_message m;
    begin(MVPN_STUN_ERROR);
    mvpn_stun_put_error(&s, MVPN_STUN_UNKNOWN_ATTRIBUTE);
    mvpn_stun_put_unknown(&s, unknown, MVPN_ARRAY_LEN(unknown));
    assert_int_equal(mvpn_stun_end(&s), 20 + 8 + 4 + 2 * MVPN_STUN_UNKNOWN_MAX);
    assert_int_equal(decode(&m), 0);
    assert_int_equal(m.error_code, 420);
    assert_int_equal(m.class, MVPN_STUN_ERROR);
}

/* What must be understood and is not: counted, the first few named. */
static void test_unknown(void **state)
{
    (void)state;
    mvpn_stun_message m;
    begin(MVPN_STUN_REQUEST);
    mvpn_stun_put_bytes(&s, MVPN_STUN_RESPONSE_PORT, mvpn_bytes_of("\x12\x34\0\0", 4));
    mvpn_stun_put_bytes(&s, 0x8000, MVPN_BYTES_NONE); /* may be passed over */
    mvpn_stun_put_bytes(&s, 0xffff, MVPN_BYTES_LITERAL("x"));
    for (uint16_t i = 0; i < 5; i++) {
        mvpn_stun_put_bytes(&s, (uint16_t)(0x7000 + i), MVPN_BYTES_NONE);
    }
    assert_int_equal(decode(&m), 0);
    assert_int_equal(m.unknown_count, 6);
    assert_int_equal(m.unknown[0], MVPN_STUN_RESPONSE_PORT);
    assert_int_equal(m.unknown[3], 0x7002);
}

/* One attribute with these bytes, refused. */
static void test_bad_values(void **state)
{
    (void)state;
    static const struct {
        enum mvpn_stun_class class;
        uint16_t type;
        const char *bytes;
        size_t n;
    } table[] = {
        {MVPN_STUN_SUCCESS, MVPN_STUN_MAPPED_ADDRESS, "", 0},
        {MVPN_STUN_SUCCESS, MVPN_STUN_MAPPED_ADDRESS, "\0\1\0\1", 4},
        {MVPN_STUN_SUCCESS, MVPN_STUN_MAPPED_ADDRESS, "\0\3\0\1\1\2\3\4", 8},
        {MVPN_STUN_SUCCESS, MVPN_STUN_MAPPED_ADDRESS, "\0\0\0\1\1\2\3\4", 8},
        {MVPN_STUN_SUCCESS, MVPN_STUN_MAPPED_ADDRESS, "\0\1\0\1\1\2\3\4\5", 9},
        {MVPN_STUN_SUCCESS, MVPN_STUN_XOR_MAPPED_ADDRESS, "\0\2\0\1\1\2\3\4", 8},
        /* ::ffff:1.2.3.4, which would get past rules about IPv4 */
        {MVPN_STUN_SUCCESS, MVPN_STUN_OTHER_ADDRESS, "\0\2\0\1\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\4",
         20},
        {MVPN_STUN_REQUEST, MVPN_STUN_CHANGE_REQUEST, "\0\0", 2},
        {MVPN_STUN_REQUEST, MVPN_STUN_CHANGE_REQUEST, "\0\0\0\6\0\0\0\0", 8},
        {MVPN_STUN_ERROR, MVPN_STUN_ERROR_CODE, "\0\0\4", 3},
        {MVPN_STUN_ERROR, MVPN_STUN_ERROR_CODE, "\0\0\2\0", 4},
        {MVPN_STUN_ERROR, MVPN_STUN_ERROR_CODE, "\0\0\7\0", 4},
        {MVPN_STUN_ERROR, MVPN_STUN_ERROR_CODE, "\0\0\4\144", 4},
        {MVPN_STUN_ERROR, MVPN_STUN_SOFTWARE, "x", 1}, /* an error without its code */
        {MVPN_STUN_SUCCESS, MVPN_STUN_ERROR_CODE, "\0\0\4\0", 4},
        {MVPN_STUN_REQUEST, MVPN_STUN_UNKNOWN_ATTRIBUTES, "\0\0\1", 3},
        {MVPN_STUN_REQUEST, MVPN_STUN_INTEGRITY, "0123456789abcdef", 16},
        {MVPN_STUN_REQUEST, MVPN_STUN_INTEGRITY_SHA256, "0123456789ab", 12},
        {MVPN_STUN_REQUEST, MVPN_STUN_INTEGRITY_SHA256, "0123456789abcdef01", 18},
        {MVPN_STUN_REQUEST, MVPN_STUN_FINGERPRINT, "\0\0\0\0", 4},
        {MVPN_STUN_REQUEST, MVPN_STUN_FINGERPRINT, "\0\0\0\0\0\0\0\0", 8},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(table); i++) {
        mvpn_stun_message m;
        begin(table[i].class);
        mvpn_stun_put_bytes(&s, table[i].type, mvpn_bytes_of(table[i].bytes, table[i].n));
        assert_int_equal(decode(&m), MVPN_E_FORMAT);
    }
}

static uint32_t crc32_slowly(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t bit = 0; bit < 8 * n; bit++) {
        crc ^= bit % 8 == 0 ? p[bit / 8] : 0;
        crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void test_bad_frames(void **state)
{
    (void)state;
    mvpn_stun_message m;
    static uint8_t long_one[MVPN_STUN_MAX + 4];
    static const uint8_t text[MVPN_STUN_SOFTWARE_MAX + 1];

    /* The header: each of these bits. */
    static const size_t bits[] = {0, 1, 16, 30, 31, 32, 63};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bits); i++) {
        begin(MVPN_STUN_REQUEST);
        mvpn_stun_put_bytes(&s, MVPN_STUN_SOFTWARE, MVPN_BYTES_LITERAL("abc"));
        assert_int_equal(decode(&m), 0);
        out[bits[i] / 8] ^= (uint8_t)(0x80u >> bits[i] % 8);
        assert_int_equal(decode(&m), MVPN_E_FORMAT);
    }
    /* Bytes behind the message, and too few. */
    begin(MVPN_STUN_REQUEST);
    assert_int_equal(mvpn_stun_decode(&m, mvpn_bytes_of(out, 20)), 0);
    for (size_t n = 0; n < 25; n++) {
        assert_int_equal(mvpn_stun_decode(&m, mvpn_bytes_of(out, n)), n == 20 ? 0 : MVPN_E_FORMAT);
    }
    /* An attribute that ends behind the message. */
    begin(MVPN_STUN_REQUEST);
    mvpn_stun_put_bytes(&s, MVPN_STUN_SOFTWARE, MVPN_BYTES_LITERAL("abcd"));
    out[23] = 5;
    assert_int_equal(decode(&m), MVPN_E_FORMAT);
    /* A message longer than any. */
    begin(MVPN_STUN_REQUEST);
    memcpy(long_one, out, 20);
    mvpn_store16(long_one + 2, sizeof(long_one) - 20);
    mvpn_store16(long_one + 20, 0x8123);
    mvpn_store16(long_one + 22, sizeof(long_one) - 24);
    assert_int_equal(mvpn_stun_decode(&m, MVPN_BYTES_ARRAY(long_one)), MVPN_E_FORMAT);
    /* A text longer than allowed. */
    begin(MVPN_STUN_REQUEST);
    mvpn_stun_put_bytes(&s, MVPN_STUN_SOFTWARE, MVPN_BYTES_ARRAY(text));
    assert_int_equal(decode(&m), MVPN_E_FORMAT);
    begin(MVPN_STUN_REQUEST);
    mvpn_stun_put_bytes(&s, MVPN_STUN_USERNAME, mvpn_bytes_of(text, MVPN_STUN_USERNAME_MAX + 1));
    assert_int_equal(decode(&m), MVPN_E_FORMAT);
    /* Too many attributes. */
    begin(MVPN_STUN_REQUEST);
    for (unsigned i = 0; i < MVPN_STUN_ATTRIBUTES_MAX; i++) {
        mvpn_stun_put_bytes(&s, 0x8123, MVPN_BYTES_NONE);
    }
    assert_int_equal(decode(&m), 0);
    mvpn_stun_put_bytes(&s, 0x8123, MVPN_BYTES_NONE);
    assert_int_equal(decode(&m), MVPN_E_FORMAT);
    /* Something behind the fingerprint. */
    begin(MVPN_STUN_REQUEST);
    mvpn_stun_put_fingerprint(&s);
    assert_int_equal(decode(&m), 0);
    mvpn_stun_put_bytes(&s, MVPN_STUN_SOFTWARE, MVPN_BYTES_LITERAL("x"));
    assert_int_equal(decode(&m), MVPN_E_FORMAT);
    /* However right it is. */
    mvpn_store32(out + 24, crc32_slowly(out, 20) ^ 0x5354554e);
    assert_int_equal(decode(&m), MVPN_E_FORMAT);
}

/* What a stranger adds behind the integrity does not count. (RFC 8489 §14.5) */
static void test_integrity(void **state)
{
    (void)state;
    mvpn_bytes key = MVPN_BYTES_LITERAL("key");
    mvpn_addr a = addr("198.51.100.7:443");
    for (unsigned which = 0; which < 3; which++) {
        mvpn_stun_message m;
        begin(MVPN_STUN_SUCCESS);
        mvpn_stun_put_bytes(&s, MVPN_STUN_SOFTWARE, MVPN_BYTES_LITERAL("abc"));
        if (which != 1) {
            mvpn_stun_put_integrity(&s, key);
        }
        if (which != 0) {
            mvpn_stun_put_integrity256(&s, key);
        }
        mvpn_stun_put_address(&s, MVPN_STUN_XOR_MAPPED_ADDRESS, &a);
        mvpn_stun_put_fingerprint(&s);
        assert_int_equal(decode(&m), 0);
        assert_int_equal(m.xor_mapped.family, 0);
        assert_true(m.has_fingerprint);
        mvpn_bytes in = mvpn_bytes_of(out, mvpn_stun_end(&s));
        assert_int_equal(mvpn_stun_check_integrity(&m, in, key), 0);
        out[24] ^= 1;
        assert_int_equal(mvpn_stun_check_integrity(&m, in, key), MVPN_E_AUTH);
    }
    mvpn_stun_message m;
    begin(MVPN_STUN_SUCCESS);
    assert_int_equal(decode(&m), 0);
    assert_int_equal(mvpn_stun_check_integrity(&m, mvpn_bytes_of(out, 20), key), MVPN_E_STATE);
}

/* However short the buffer: nothing is written behind it. */
static void test_no_room(void **state)
{
    (void)state;
    mvpn_addr a = addr("[2001:db8::7]:3478");
    size_t full = 0;
    for (size_t size = sizeof(out); size + 1 > 0; size = size > full ? full : size - 1) {
        memset(out, 0xee, sizeof(out));
        mvpn_stun_begin(&s, out, size, MVPN_STUN_ERROR, MVPN_STUN_BINDING, id);
        mvpn_stun_put_error(&s, 420);
        mvpn_stun_put_address(&s, MVPN_STUN_XOR_MAPPED_ADDRESS, &a);
        mvpn_stun_put_change(&s, true, true);
        mvpn_stun_put_integrity(&s, MVPN_BYTES_LITERAL("k"));
        mvpn_stun_put_integrity256(&s, MVPN_BYTES_LITERAL("k"));
        mvpn_stun_put_fingerprint(&s);
        size_t n = mvpn_stun_end(&s);
        if (full == 0) {
            full = n;
        }
        assert_int_equal(n, size >= full ? full : 0);
        for (size_t i = size; i < full; i++) {
            assert_int_equal(out[i], 0xee);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_classes_and_methods),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_integrity),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
