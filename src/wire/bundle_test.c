/* Bundles: parts in a row, and what becomes of broken ones. (docs/protocol.md §13.3) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "wire/bundle.h"

static const struct {
    unsigned type;
    size_t len;
} parts[] = {{1, 300}, {2, 83}, {3, 207}, {5, 58}, {4, 45}, {5, 70}, {1, 1000}, {4, 100045}};

static size_t build(uint8_t *out, size_t size)
{
    static uint8_t bytes[100045];
    size_t len = 0;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(parts); i++) {
        memset(bytes, (int)i + 1, parts[i].len);
        assert_int_equal(
            mvpn_bundle_append(out, size, &len, parts[i].type, mvpn_bytes_of(bytes, parts[i].len)),
            0);
    }
    return len;
}

static void test_round_trip(void **state)
{
    (void)state;
    static uint8_t buf[200000];
    mvpn_bytes rest = {buf, build(buf, sizeof(buf))};
    uint8_t type;
    mvpn_bytes part;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(parts); i++) {
        assert_int_equal(mvpn_bundle_next(&rest, &type, &part), 0);
        assert_int_equal(type, parts[i].type);
        assert_int_equal(part.n, parts[i].len);
        assert_int_equal(part.p[0], i + 1);
        assert_int_equal(part.p[part.n - 1], i + 1);
    }
    assert_int_equal(mvpn_bundle_next(&rest, &type, &part), MVPN_E_AGAIN);
    assert_int_equal(mvpn_bundle_next(&rest, &type, &part), MVPN_E_AGAIN);
}

/* Cut anywhere: the whole parts before it are there, then the end or an error, never more. */
static void test_truncation(void **state)
{
    (void)state;
    static uint8_t buf[200000];
    build(buf, sizeof(buf));
    size_t ends[MVPN_ARRAY_LEN(parts) + 1] = {0};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(parts); i++) {
        ends[i + 1] = ends[i] + MVPN_BUNDLE_PART_FIXED + parts[i].len;
    }
    for (size_t cut = 0; cut < 2000; cut++) {
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a byte too many */
        memcpy(exact, buf, cut);
        mvpn_bytes rest = {exact, cut};
        size_t count = 0;
        uint8_t type;
        mvpn_bytes part;
        int err;
        while ((err = mvpn_bundle_next(&rest, &type, &part)) == 0) {
            count++;
        }
        size_t whole = 0;
        while (whole < MVPN_ARRAY_LEN(parts) && ends[whole + 1] <= cut) {
            whole++;
        }
        assert_int_equal(count, whole);
        assert_int_equal(err, ends[whole] == cut ? MVPN_E_AGAIN : MVPN_E_FORMAT);
        assert_int_equal(rest.n, 0);
        free(exact);
    }
}

static void test_refused(void **state)
{
    (void)state;
    const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {"\x01\0\0\0\0", 5},            /* a record of nothing */
        {"\x05\0\0\0\x01x", 6},         /* an entry of one byte */
        {"\x04\0\0\0\0", 5},            /* a snapshot of nothing */
        {"\x01\xff\xff\xff\xffx", 6},   /* longer than the rest */
        {"\x09\xff\xff\xff\xfb....", 9} /* so is an unknown one, whatever it adds up to */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_bytes rest = mvpn_bytes_of(rows[i].bytes, rows[i].n), part;
        uint8_t type;
        assert_int_equal(mvpn_bundle_next(&rest, &type, &part), MVPN_E_FORMAT);
        assert_int_equal(rest.n, 0);
    }
    static uint8_t big[5 + 1001] = {MVPN_RECORD_DESCRIPTOR, 0, 0, 1001 >> 8, 1001 & 255};
    mvpn_bytes rest = MVPN_BYTES_ARRAY(big), part;
    uint8_t type;
    assert_int_equal(mvpn_bundle_next(&rest, &type, &part), MVPN_E_FORMAT);
}

static void test_unknown_types_are_passed_over(void **state)
{
    (void)state;
    uint8_t buf[200] = {9, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0};
    size_t len = 13;
    uint8_t entry[MVPN_DHT_CONTACT4_LEN] = {7};
    assert_int_equal(mvpn_bundle_append(buf, sizeof(buf), &len, 5, MVPN_BYTES_ARRAY(entry)), 0);
    mvpn_bytes rest = {buf, len}, part;
    uint8_t type;
    assert_int_equal(mvpn_bundle_next(&rest, &type, &part), 0);
    assert_int_equal(type, 5);
    assert_memory_equal(part.p, entry, sizeof(entry));
    assert_int_equal(mvpn_bundle_next(&rest, &type, &part), MVPN_E_AGAIN);
}

static void test_append_refuses(void **state)
{
    (void)state;
    uint8_t buf[100], part[100] = {0};
    size_t len = 0;
    assert_int_equal(mvpn_bundle_append(buf, sizeof(buf), &len, 0, mvpn_bytes_of(part, 5)),
                     MVPN_E_INVAL);
    assert_int_equal(mvpn_bundle_append(buf, sizeof(buf), &len, 6, mvpn_bytes_of(part, 5)),
                     MVPN_E_INVAL);
    assert_int_equal(mvpn_bundle_append(buf, sizeof(buf), &len, 5, mvpn_bytes_of(part, 59)),
                     MVPN_E_INVAL);
    assert_int_equal(mvpn_bundle_append(buf, sizeof(buf), &len, 1, mvpn_bytes_of(part, 96)),
                     MVPN_E_SPACE);
    assert_int_equal(mvpn_bundle_append(buf, sizeof(buf), &len, 1, mvpn_bytes_of(part, 95)), 0);
    assert_int_equal(mvpn_bundle_append(buf, sizeof(buf), &len, 1, mvpn_bytes_of(part, 1)),
                     MVPN_E_SPACE);
    assert_int_equal(len, 100);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_unknown_types_are_passed_over),
        cmocka_unit_test(test_append_refuses),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
