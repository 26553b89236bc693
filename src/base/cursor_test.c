#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/cursor.h"

/* 1 + 2 + 4 + 8 + 3 raw + 2 zero */
#define RECORD 20

static size_t write_record(uint8_t *out, size_t size, bool *ret_failed)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write8(&w, 0x01);
    mvpn_write16(&w, 0x0203);
    mvpn_write32(&w, 0x04050607);
    mvpn_write64(&w, 0x08090a0b0c0d0e0f);
    mvpn_write_bytes(&w, "\x10\x11\x12", 3);
    mvpn_write_zero(&w, 2);
    mvpn_write_bytes(&w, NULL, 0);
    *ret_failed = w.failed;
    return mvpn_writer_len(&w);
}

static void test_write(void **state)
{
    (void)state;
    uint8_t out[RECORD];
    bool failed = true;
    assert_int_equal(write_record(out, sizeof(out), &failed), RECORD);
    assert_false(failed);
    for (size_t i = 0; i < RECORD; i++) {
        assert_int_equal(out[i], i < 18 ? i + 1 : 0);
    }
}

/* At each shortage the writer stays inside its room (on the heap, under ASan) and says that it
 * failed. */
static void test_write_short(void **state)
{
    (void)state;
    for (size_t size = 0; size < RECORD; size++) {
        uint8_t *out = malloc(size > 0 ? size : 1);
        bool failed = false;
        assert_non_null(out);
        assert_true(write_record(out, size, &failed) <= size);
        assert_true(failed);
        free(out);
    }
    mvpn_writer w = mvpn_writer_init((uint8_t[2]){0}, 2);
    assert_null(mvpn_write_raw(&w, 3));
    assert_null(mvpn_write_raw(&w, 1)); /* sticky */
    assert_int_equal(mvpn_writer_len(&w), 0);
}

static bool read_record(mvpn_bytes in)
{
    uint8_t raw[3] = {0xee, 0xee, 0xee};
    mvpn_reader r = mvpn_reader_init(in);
    bool ok = mvpn_read8(&r) == 0x01;
    ok &= mvpn_read16(&r) == 0x0203;
    ok &= mvpn_read32(&r) == 0x04050607;
    ok &= mvpn_read64(&r) == 0x08090a0b0c0d0e0f;
    mvpn_read_copy(&r, raw, 3);
    ok &= raw[0] == 0x10 && raw[1] == 0x11 && raw[2] == 0x12;
    if (r.failed) {
        assert_int_equal(raw[0] | raw[1] | raw[2], 0); /* zeroes on shortage */
    }
    mvpn_bytes rest = mvpn_read_bytes(&r, 2);
    ok &= rest.n == 2 && rest.p[0] == 0 && rest.p[1] == 0;
    assert_int_equal(mvpn_reader_left(&r), r.failed ? 0 : in.n - RECORD);
    return ok && mvpn_reader_done(&r);
}

static void test_read(void **state)
{
    (void)state;
    uint8_t in[RECORD + 1] = {0};
    bool failed = false;
    (void)write_record(in, RECORD, &failed);
    assert_true(read_record(mvpn_bytes_of(in, RECORD)));
    assert_false(read_record(mvpn_bytes_of(in, RECORD + 1))); /* something left over */
}

static void test_read_short(void **state)
{
    (void)state;
    uint8_t record[RECORD];
    bool failed = false;
    (void)write_record(record, RECORD, &failed);
    for (size_t n = 0; n < RECORD; n++) {
        uint8_t *in = malloc(n > 0 ? n : 1);
        assert_non_null(in);
        memcpy(in, record, n);
        assert_false(read_record(mvpn_bytes_of(in, n)));
        mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(in, n));
        assert_null(mvpn_read_raw(&r, n + 1));
        assert_true(r.failed);
        assert_null(mvpn_read_raw(&r, 1)); /* sticky */
        assert_int_equal(mvpn_read8(&r) | mvpn_read16(&r) | mvpn_read32(&r), 0);
        assert_int_equal(mvpn_read64(&r), 0);
        assert_int_equal(mvpn_reader_left(&r), 0);
        assert_int_equal(mvpn_read_rest(&r).n, 0);
        assert_false(mvpn_reader_done(&r));
        free(in);
    }
}

static void test_read_rest(void **state)
{
    (void)state;
    static const uint8_t in[] = {1, 2, 3};
    mvpn_reader r = mvpn_reader_init(MVPN_BYTES_ARRAY(in));
    assert_int_equal(mvpn_read8(&r), 1);
    mvpn_bytes rest = mvpn_read_rest(&r);
    assert_int_equal(rest.n, 2);
    assert_ptr_equal(rest.p, in + 1);
    assert_true(mvpn_reader_done(&r));
    assert_int_equal(mvpn_read_rest(&r).n, 0);
    assert_true(mvpn_reader_done(&r));

    mvpn_reader empty = mvpn_reader_init(MVPN_BYTES_NONE);
    assert_int_equal(mvpn_read_rest(&empty).n, 0);
    mvpn_read_copy(&empty, NULL, 0);
    assert_true(mvpn_reader_done(&empty));
    assert_int_equal(mvpn_read8(&empty), 0);
    assert_false(mvpn_reader_done(&empty));
}

/* A length near SIZE_MAX, as a decoder might pass by mistake, must not wrap round. */
static void test_huge(void **state)
{
    (void)state;
    uint8_t b[4] = {0};
    mvpn_reader r = mvpn_reader_init(MVPN_BYTES_ARRAY(b));
    assert_null(mvpn_read_raw(&r, SIZE_MAX));
    assert_true(r.failed);
    mvpn_writer w = mvpn_writer_init(b, sizeof(b));
    assert_null(mvpn_write_raw(&w, SIZE_MAX));
    assert_true(w.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write),     cmocka_unit_test(test_write_short),
        cmocka_unit_test(test_read),      cmocka_unit_test(test_read_short),
        cmocka_unit_test(test_read_rest), cmocka_unit_test(test_huge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
