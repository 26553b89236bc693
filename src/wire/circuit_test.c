/* Bodies of circuit and session messages: fields, truncation, one encoding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cursor.h"
#include "base/error.h"
#include "wire/circuit.h"

static const uint8_t blob[64] = {0xb0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

static void assert_bytes_equal(mvpn_bytes a, mvpn_bytes b)
{
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.p, b.p, b.n);
}

static const mvpn_part part = {.total = 0x0321, .offset = 0x0102, .bytes = {blob, 40}};

static void assert_part_equal(const mvpn_part *p)
{
    assert_int_equal(p->total, part.total);
    assert_int_equal(p->offset, part.offset);
    assert_bytes_equal(p->bytes, part.bytes);
}

static mvpn_create sample_create(void)
{
    mvpn_create m = {.request_id = 0xa1a2a3a4, .suite = 1, .key_id = 9, .part = part};
    for (size_t i = 0; i < sizeof(m.back.b); i++) {
        m.back.b[i] = (uint8_t)(0x40 + i);
    }
    return m;
}

static mvpn_extend_body sample_extend_body(void)
{
    mvpn_extend_body m = {
        .suite = 1, .key_id = 3, .handshake = {blob, 48}, .descriptor = {blob, 30}};
    for (size_t i = 0; i < sizeof(m.identity.b); i++) {
        m.identity.b[i] = (uint8_t)(0x80 + i);
    }
    return m;
}

static const mvpn_created created = {0x01020304, {0x0321, 0x0102, {blob, 40}}};
static const mvpn_extend extend = {0x01020304, {0x0321, 0x0102, {blob, 40}}};
static const mvpn_extended extended = {0x01020304, 0, {0x0321, 0x0102, {blob, 40}}};
static const mvpn_extended extended_refused = {0x01020304, MVPN_REASON_BUSY, {0, 0, {NULL, 0}}};
static const mvpn_begin begin = {
    0x01020304, 1, MVPN_BEGIN_IPV6, 0x05060708, {blob, MVPN_TICKET_LEN}};
static const mvpn_connected connected = {
    0x01020304, 0, MVPN_CONNECTED_IPV4 | MVPN_CONNECTED_IPV6, {blob, MVPN_TICKET_LEN}};

static void test_create(void **state)
{
    (void)state;
    uint8_t out[128];
    mvpn_create want = sample_create(), m;
    size_t n = mvpn_create_encode(out, sizeof(out), &want);
    assert_int_equal(n, MVPN_CREATE_FIXED + 40);
    assert_int_equal(out[0], 0x40); /* B, request id, suite, key id, total, offset (§6.1) */
    assert_int_equal(mvpn_load32(out + 16), 0xa1a2a3a4);
    assert_int_equal(out[20], 1);
    assert_int_equal(out[21], 9);
    assert_int_equal(mvpn_load16(out + 22), 0x0321);
    assert_int_equal(mvpn_load16(out + 24), 0x0102);
    assert_int_equal(mvpn_create_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_memory_equal(m.back.b, want.back.b, 16);
    assert_int_equal(m.request_id, want.request_id);
    assert_int_equal(m.suite, 1);
    assert_int_equal(m.key_id, 9);
    assert_part_equal(&m.part);
}

static void test_created_and_extend(void **state)
{
    (void)state;
    uint8_t out[128];
    mvpn_created c;
    mvpn_extend e;
    size_t n = mvpn_created_encode(out, sizeof(out), &created);
    assert_int_equal(n, MVPN_CREATED_FIXED + 40);
    assert_int_equal(mvpn_load32(out), 0x01020304);
    assert_int_equal(mvpn_created_decode(&c, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(c.request_id, 0x01020304);
    assert_part_equal(&c.part);
    n = mvpn_extend_encode(out, sizeof(out), &extend);
    assert_int_equal(n, MVPN_EXTEND_FIXED + 40);
    assert_int_equal(mvpn_extend_decode(&e, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(e.request_id, 0x01020304);
    assert_part_equal(&e.part);
}

static void test_extend_body(void **state)
{
    (void)state;
    uint8_t out[256];
    mvpn_extend_body want = sample_extend_body(), m;
    size_t n = mvpn_extend_body_encode(out, sizeof(out), &want);
    assert_int_equal(n, 32 + 2 + 2 + 48 + 2 + 30);
    assert_int_equal(mvpn_extend_body_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_memory_equal(m.identity.b, want.identity.b, 32);
    assert_int_equal(m.suite, 1);
    assert_int_equal(m.key_id, 3);
    assert_bytes_equal(m.handshake, want.handshake);
    assert_bytes_equal(m.descriptor, want.descriptor);

    want.descriptor = MVPN_BYTES_NONE;
    n = mvpn_extend_body_encode(out, sizeof(out), &want);
    assert_int_equal(mvpn_extend_body_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.descriptor.n, 0);
    want.handshake = MVPN_BYTES_NONE;
    n = mvpn_extend_body_encode(out, sizeof(out), &want);
    assert_int_equal(mvpn_extend_body_decode(&m, mvpn_bytes_of(out, n)), MVPN_E_FORMAT);
}

static void test_extended(void **state)
{
    (void)state;
    uint8_t out[128];
    mvpn_extended m, bad = extended_refused;
    size_t n = mvpn_extended_encode(out, sizeof(out), &extended);
    assert_int_equal(n, MVPN_EXTENDED_FIXED + 40);
    assert_int_equal(mvpn_extended_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.status, 0);
    assert_part_equal(&m.part);
    n = mvpn_extended_encode(out, sizeof(out), &extended_refused);
    assert_int_equal(n, MVPN_EXTENDED_FIXED);
    assert_int_equal(mvpn_extended_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.status, MVPN_REASON_BUSY);
    assert_int_equal(m.part.bytes.n, 0);
    bad.status = 0; /* a success without bytes, a refusal with some */
    n = mvpn_extended_encode(out, sizeof(out), &bad);
    assert_int_equal(mvpn_extended_decode(&m, mvpn_bytes_of(out, n)), MVPN_E_FORMAT);
    bad = extended;
    bad.status = MVPN_REASON_REFUSED;
    n = mvpn_extended_encode(out, sizeof(out), &bad);
    assert_int_equal(mvpn_extended_decode(&m, mvpn_bytes_of(out, n)), MVPN_E_FORMAT);
}

static void test_begin_and_connected(void **state)
{
    (void)state;
    uint8_t out[128];
    mvpn_begin b, bad = begin;
    mvpn_connected c, wrong = connected;
    size_t n = mvpn_begin_encode(out, sizeof(out), &begin);
    assert_int_equal(mvpn_begin_decode(&b, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(b.request_id, 0x01020304);
    assert_int_equal(b.profile, 1);
    assert_int_equal(b.flags, MVPN_BEGIN_IPV6);
    assert_int_equal(b.epoch, 0x05060708);
    assert_bytes_equal(b.ticket, begin.ticket);
    bad.profile = 2;
    n = mvpn_begin_encode(out, sizeof(out), &bad);
    assert_int_equal(mvpn_begin_decode(&b, mvpn_bytes_of(out, n)), MVPN_E_FORMAT);
    /* A ticket and an epoch, or neither. */
    bad = begin;
    bad.epoch = 0;
    n = mvpn_begin_encode(out, sizeof(out), &bad);
    assert_int_equal(mvpn_begin_decode(&b, mvpn_bytes_of(out, n)), MVPN_E_FORMAT);
    bad.ticket.n = 0;
    n = mvpn_begin_encode(out, sizeof(out), &bad);
    assert_int_equal(mvpn_begin_decode(&b, mvpn_bytes_of(out, n)), 0);
    bad.epoch = 1;
    n = mvpn_begin_encode(out, sizeof(out), &bad);
    assert_int_equal(mvpn_begin_decode(&b, mvpn_bytes_of(out, n)), MVPN_E_FORMAT);
    for (size_t len = MVPN_TICKET_LEN - 1; len <= MVPN_TICKET_LEN + 1; len++) {
        bad.ticket.n = len;
        n = mvpn_begin_encode(out, sizeof(out), &bad);
        assert_int_equal(mvpn_begin_decode(&b, mvpn_bytes_of(out, n)),
                         len == MVPN_TICKET_LEN ? 0 : MVPN_E_FORMAT);
    }

    n = mvpn_connected_encode(out, sizeof(out), &connected);
    assert_int_equal(mvpn_connected_decode(&c, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(c.request_id, 0x01020304);
    assert_int_equal(c.status, 0);
    assert_int_equal(c.flags, 3);
    assert_bytes_equal(c.ticket, connected.ticket);
    wrong.ticket.n = MVPN_TICKET_LEN + 1;
    n = mvpn_connected_encode(out, sizeof(out), &wrong);
    assert_int_equal(mvpn_connected_decode(&c, mvpn_bytes_of(out, n)), MVPN_E_FORMAT);
    wrong.ticket.n = 0;
    n = mvpn_connected_encode(out, sizeof(out), &wrong);
    assert_int_equal(mvpn_connected_decode(&c, mvpn_bytes_of(out, n)), MVPN_E_FORMAT);
    wrong.status = MVPN_REASON_SESSION_UNKNOWN;
    n = mvpn_connected_encode(out, sizeof(out), &wrong);
    assert_int_equal(mvpn_connected_decode(&c, mvpn_bytes_of(out, n)), 0);
}

/* Decode and encode again: the length, or 0 if refused. */
#define RECODE(noun)                                                                               \
    static size_t recode_##noun(mvpn_bytes in, uint8_t *out, size_t size)                          \
    {                                                                                              \
        mvpn_##noun m;                                                                             \
        return mvpn_##noun##_decode(&m, in) == 0 ? mvpn_##noun##_encode(out, size, &m) : 0;        \
    }
RECODE(create)
RECODE(created)
RECODE(extend)
RECODE(extend_body)
RECODE(extended)
RECODE(begin)
RECODE(connected)

typedef struct row {
    const char *name;
    size_t (*recode)(mvpn_bytes in, uint8_t *out, size_t size);
    uint8_t wire[256];
    size_t len;
    size_t shortest; /* shortest prefix that is a message too (a shorter part) */
} row;

static size_t make_rows(row *rows)
{
    mvpn_create c = sample_create();
    mvpn_extend_body e = sample_extend_body();
    size_t n = 0;
#define ROW(noun, m, least)                                                                        \
    rows[n] = (row){.name = #noun, .recode = recode_##noun};                                       \
    rows[n].len = mvpn_##noun##_encode(rows[n].wire, sizeof(rows[n].wire), m);                     \
    rows[n].shortest = (least) == 0 ? rows[n].len : (least);                                       \
    n++
    ROW(create, &c, MVPN_CREATE_FIXED + 1);
    ROW(created, &created, MVPN_CREATED_FIXED + 1);
    ROW(extend, &extend, MVPN_EXTEND_FIXED + 1);
    ROW(extend_body, &e, 0);
    ROW(extended, &extended, MVPN_EXTENDED_FIXED + 1);
    ROW(extended, &extended_refused, 0);
    ROW(begin, &begin, 0);
    ROW(connected, &connected, 0);
#undef ROW
    return n;
}

static void test_truncation_at_each_length(void **state)
{
    (void)state;
    row rows[8];
    size_t count = make_rows(rows);
    for (size_t i = 0; i < count; i++) {
        for (size_t n = 0; n <= rows[i].len; n++) {
            uint8_t again[256];
            size_t got = rows[i].recode(mvpn_bytes_of(rows[i].wire, n), again, sizeof(again));
            assert_int_equal(got, n < rows[i].shortest ? 0 : n);
            assert_memory_equal(again, rows[i].wire, got);
        }
    }
}

static void test_each_bit_flip_has_one_encoding(void **state)
{
    (void)state;
    row rows[8];
    size_t count = make_rows(rows);
    for (size_t i = 0; i < count; i++) {
        for (size_t bit = 0; bit < rows[i].len * 8; bit++) {
            uint8_t wire[256], again[256];
            memcpy(wire, rows[i].wire, rows[i].len);
            wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
            size_t got = rows[i].recode(mvpn_bytes_of(wire, rows[i].len), again, sizeof(again));
            if (got != 0) {
                assert_int_equal(got, rows[i].len);
                assert_memory_equal(again, wire, got);
            }
        }
    }
}

static void test_nothing_may_follow(void **state)
{
    (void)state;
    row rows[8];
    uint8_t again[256];
    size_t count = make_rows(rows);
    for (size_t i = 0; i < count; i++) {
        rows[i].wire[rows[i].len] = 0;
        size_t got =
            rows[i].recode(mvpn_bytes_of(rows[i].wire, rows[i].len + 1), again, sizeof(again));
        bool is_part = rows[i].shortest != rows[i].len; /* one byte more of the part is its own */
        assert_int_equal(got, is_part ? rows[i].len + 1 : 0);
    }
}

static void test_encoders_refuse_small_buffers(void **state)
{
    (void)state;
    row rows[8];
    uint8_t again[256];
    size_t count = make_rows(rows);
    for (size_t i = 0; i < count; i++) {
        for (size_t size = 0; size < rows[i].len; size++) {
            assert_int_equal(rows[i].recode(mvpn_bytes_of(rows[i].wire, rows[i].len), again, size),
                             0);
        }
    }
}

static void test_parts_lie_inside_a_bounded_total(void **state)
{
    (void)state;
    const struct {
        uint16_t total, offset;
        size_t n;
        bool ok;
    } rows[] = {
        {1, 0, 1, true},        {48, 0, 48, true},       {2048, 2047, 1, true},
        {2048, 2048, 1, false}, {2049, 0, 10, false},    {0, 0, 0, false},
        {10, 0, 0, false},      {10, 10, 0, false},      {10, 1, 10, false},
        {0xffff, 0, 1, false},  {40, 0xffff, 40, false}, /* offset + n would wrap in 16 bits */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t out[128];
        mvpn_created c, m = {7, {rows[i].total, rows[i].offset, {blob, rows[i].n}}};
        mvpn_create cc, cm = sample_create();
        mvpn_extended ed, em = {7, 0, m.part};
        int want = rows[i].ok ? 0 : MVPN_E_FORMAT;
        size_t n = mvpn_created_encode(out, sizeof(out), &m);
        assert_int_equal(mvpn_created_decode(&c, mvpn_bytes_of(out, n)), want);
        cm.part = m.part;
        n = mvpn_create_encode(out, sizeof(out), &cm);
        assert_int_equal(mvpn_create_decode(&cc, mvpn_bytes_of(out, n)), want);
        n = mvpn_extended_encode(out, sizeof(out), &em);
        assert_int_equal(mvpn_extended_decode(&ed, mvpn_bytes_of(out, n)), want);
    }
}

static void test_reasons(void **state)
{
    (void)state;
    uint8_t reason = 99;
    const uint8_t wire[2] = {4, 0};
    assert_int_equal(mvpn_reason_decode(&reason, mvpn_bytes_of(wire, 0)), MVPN_E_FORMAT);
    assert_int_equal(mvpn_reason_decode(&reason, mvpn_bytes_of(wire, 2)), MVPN_E_FORMAT);
    assert_int_equal(reason, 99);
    assert_int_equal(mvpn_reason_decode(&reason, mvpn_bytes_of(wire, 1)), 0);
    assert_int_equal(reason, MVPN_REASON_REFUSED);
    for (unsigned i = 0; i < 256; i++) {
        assert_non_null(mvpn_reason_text(i));
    }
    assert_string_equal(mvpn_reason_text(8), "relay unknown");
    assert_string_equal(mvpn_reason_text(9), "session unknown");
    assert_string_equal(mvpn_reason_text(10), "unknown reason");
}

static void test_data_items(void **state)
{
    (void)state;
    const uint8_t wire[] = {0, 3, 'a', 'b', 'c', 0, 1, 'd'};
    mvpn_bytes rest = MVPN_BYTES_ARRAY(wire);
    mvpn_data_item item;
    assert_int_equal(mvpn_data_next(&rest, true, &item), 0);
    assert_false(item.is_fragment);
    assert_bytes_equal(item.bytes, MVPN_BYTES_LITERAL("abc"));
    assert_int_equal(mvpn_data_next(&rest, false, &item), 0);
    assert_bytes_equal(item.bytes, MVPN_BYTES_LITERAL("d"));
    assert_int_equal(mvpn_data_next(&rest, false, &item), MVPN_E_AGAIN);
    for (size_t n = 1; n < sizeof(wire); n++) {
        rest = mvpn_bytes_of(wire, n);
        bool is_first = true;
        int r;
        while ((r = mvpn_data_next(&rest, is_first, &item)) == 0) {
            is_first = false;
        }
        assert_int_equal(r, n == 5 ? MVPN_E_AGAIN : MVPN_E_FORMAT);
    }
}

static void test_data_fragment(void **state)
{
    (void)state;
    const uint8_t wire[] = {0x85, 0x8c, 0x12, 0x34, 0x05, 0x00, 'x', 'y', 'z'};
    mvpn_bytes rest = MVPN_BYTES_ARRAY(wire);
    mvpn_data_item item;
    assert_int_equal(mvpn_data_next(&rest, true, &item), 0);
    assert_true(item.is_fragment);
    assert_int_equal(item.total, 0x58c);
    assert_int_equal(item.id, 0x1234);
    assert_int_equal(item.offset, 0x500);
    assert_bytes_equal(item.bytes, MVPN_BYTES_LITERAL("xyz"));
    assert_int_equal(rest.n, 0);
    rest = MVPN_BYTES_ARRAY(wire); /* only as the first item */
    assert_int_equal(mvpn_data_next(&rest, false, &item), MVPN_E_FORMAT);
    for (size_t n = 1; n <= 6; n++) { /* no byte of the packet */
        rest = mvpn_bytes_of(wire, n);
        assert_int_equal(mvpn_data_next(&rest, true, &item), MVPN_E_FORMAT);
    }
}

static void test_malformed_data_items(void **state)
{
    (void)state;
    const struct {
        uint8_t wire[10];
        size_t n;
    } rows[] = {
        {{0, 0}, 2},                                       /* empty packet */
        {{0, 0, 1}, 3},                                    /* empty packet, then more */
        {{0}, 1},                                          /* half a length */
        {{0x7f, 0xff, 1}, 3},                              /* longer than the body */
        {{0x80, 0x00, 0, 1, 0, 0, 'a'}, 7},                /* fragment of nothing */
        {{0x80, 0x01, 0, 1, 0, 0, 'a', 'b'}, 8},           /* beyond the total */
        {{0x80, 0x05, 0, 1, 0xff, 0xff, 'a', 'b', 'c'}, 9} /* offset + n would wrap */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_data_item item;
        mvpn_bytes rest = mvpn_bytes_of(rows[i].wire, rows[i].n);
        assert_int_equal(mvpn_data_next(&rest, true, &item), MVPN_E_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_created_and_extend),
        cmocka_unit_test(test_extend_body),
        cmocka_unit_test(test_extended),
        cmocka_unit_test(test_begin_and_connected),
        cmocka_unit_test(test_truncation_at_each_length),
        cmocka_unit_test(test_each_bit_flip_has_one_encoding),
        cmocka_unit_test(test_nothing_may_follow),
        cmocka_unit_test(test_encoders_refuse_small_buffers),
        cmocka_unit_test(test_parts_lie_inside_a_bounded_total),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_data_items),
        cmocka_unit_test(test_data_fragment),
        cmocka_unit_test(test_malformed_data_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
