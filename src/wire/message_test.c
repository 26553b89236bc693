/* Message headers: fields, lengths against classes, one encoding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"
#include "wire/cell.h"
#include "wire/message.h"

static mvpn_header sample(uint16_t command)
{
    mvpn_header h = {.command = command, .length = 100, .link_seq = 0x01020304};
    for (size_t i = 0; i < sizeof(h.circuit.b); i++) {
        h.circuit.b[i] = (uint8_t)(0x10 + i);
    }
    if (mvpn_command_is_relay(command)) {
        h.size_class = MVPN_CLASS_MEDIUM;
        h.counter = 0x1122334455667788;
    }
    return h;
}

static void assert_header_equal(const mvpn_header *a, const mvpn_header *b)
{
    assert_memory_equal(a->circuit.b, b->circuit.b, sizeof(a->circuit.b));
    assert_int_equal(a->command, b->command);
    assert_int_equal(a->length, b->length);
    assert_int_equal(a->size_class, b->size_class);
    assert_int_equal(a->link_seq, b->link_seq);
    assert_true(a->counter == b->counter);
}

static void test_fields_stand_where_the_protocol_says(void **state)
{
    (void)state;
    const uint8_t wire[MVPN_HEADER_LEN] = {
        0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a,
        0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x00, 0x06, 0x40, 0x64, 0x01, 0x02,
        0x03, 0x04, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
    };
    uint8_t out[MVPN_HEADER_LEN];
    mvpn_header want = sample(MVPN_CMD_RELAY), h;
    mvpn_header_encode(out, &want);
    assert_memory_equal(out, wire, sizeof(wire));
    assert_int_equal(mvpn_header_decode(&h, wire, MVPN_CELL_MEDIUM), 0);
    assert_header_equal(&h, &want);
}

static void test_round_trip(void **state)
{
    (void)state;
    const uint16_t commands[] = {MVPN_CMD_CREATE,    MVPN_CMD_RELAY, MVPN_CMD_RELAY_EARLY,
                                 MVPN_CMD_LINK_PING, 0x3fff,         0xffff};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        uint8_t out[MVPN_HEADER_LEN];
        mvpn_header want = sample(commands[i]), h;
        size_t body = mvpn_command_is_relay(commands[i]) ? MVPN_CELL_MEDIUM : 100;
        mvpn_header_encode(out, &want);
        assert_int_equal(mvpn_header_decode(&h, out, body), 0);
        assert_header_equal(&h, &want);
    }
}

static void test_body_has_the_size_that_the_header_says(void **state)
{
    (void)state;
    const struct {
        uint16_t command;
        uint8_t size_class;
        uint16_t length;
        size_t body;
    } rows[] = {
        {MVPN_CMD_CREATE, 0, 0, 0},
        {MVPN_CMD_CREATE, 0, 1363, 1363},
        {MVPN_CMD_RELAY, MVPN_CLASS_SMALL, 24, 208},
        {MVPN_CMD_RELAY, MVPN_CLASS_SMALL, 208, 208},
        {MVPN_CMD_RELAY, MVPN_CLASS_MEDIUM, 24, 688},
        {MVPN_CMD_RELAY, MVPN_CLASS_FULL, 1363, 1363},
        {MVPN_CMD_RELAY, MVPN_CLASS_EXACT, 24, 32},
        {MVPN_CMD_RELAY, MVPN_CLASS_EXACT, 32, 32},
        {MVPN_CMD_RELAY, MVPN_CLASS_EXACT, 33, 48},
        {MVPN_CMD_RELAY, MVPN_CLASS_EXACT, 1353, 1360},
        {MVPN_CMD_RELAY, MVPN_CLASS_EXACT, 1361, 1363},
        {MVPN_CMD_RELAY_EARLY, MVPN_CLASS_EXACT, 1363, 1363},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t out[MVPN_HEADER_LEN];
        mvpn_header want = {
            .command = rows[i].command, .size_class = rows[i].size_class, .length = rows[i].length};
        mvpn_header_encode(out, &want);
        for (size_t body = 0; body <= MVPN_BODY_MAX + 16; body++) {
            mvpn_header h = {.command = 0x5555};
            int r = mvpn_header_decode(&h, out, body);
            assert_int_equal(r, body == rows[i].body ? 0 : MVPN_E_FORMAT);
            assert_int_equal(h.command, r == 0 ? rows[i].command : 0x5555);
        }
    }
}

static void test_impossible_headers_are_refused(void **state)
{
    (void)state;
    const struct {
        uint16_t command;
        uint8_t size_class;
        uint16_t length;
        uint64_t counter;
        size_t body;
    } rows[] = {
        {MVPN_CMD_RELAY, MVPN_CLASS_SMALL, 23, 0, 208}, /* shorter than any layer */
        {MVPN_CMD_RELAY, MVPN_CLASS_SMALL, 0, 0, 208},
        {MVPN_CMD_RELAY, MVPN_CLASS_SMALL, 209, 0, 208},
        {MVPN_CMD_RELAY, MVPN_CLASS_FULL, 1364, 0, 1363},
        {MVPN_CMD_RELAY, MVPN_CLASS_EXACT, 1364, 0, 1363},
        {MVPN_CMD_RELAY, MVPN_CLASS_EXACT, 0, 0, 0},
        {MVPN_CMD_RELAY, MVPN_CLASS_SMALL, 256, 0, 0}, /* no size fits, and there is no body */
        {MVPN_CMD_RELAY, MVPN_CLASS_EXACT, 0x3fff, 0, 0},
        {MVPN_CMD_CREATE, 1, 10, 0, 10},
        {MVPN_CMD_CREATE, 3, 10, 0, 10},
        {MVPN_CMD_CREATE, 0, 10, 1, 10},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t out[MVPN_HEADER_LEN];
        mvpn_header h = {.command = rows[i].command,
                         .size_class = rows[i].size_class,
                         .length = rows[i].length,
                         .counter = rows[i].counter};
        mvpn_header_encode(out, &h);
        assert_int_equal(mvpn_header_decode(&h, out, rows[i].body), MVPN_E_FORMAT);
    }
}

static void test_there_is_one_encoding(void **state)
{
    (void)state;
    const uint16_t commands[] = {MVPN_CMD_CREATE, MVPN_CMD_RELAY};
    unsigned refused = 0;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        for (unsigned bit = 0; bit < MVPN_HEADER_LEN * 8; bit++) {
            uint8_t wire[MVPN_HEADER_LEN], again[MVPN_HEADER_LEN];
            mvpn_header h = sample(commands[i]);
            size_t body = mvpn_command_is_relay(commands[i]) ? MVPN_CELL_MEDIUM : 100;
            mvpn_header_encode(wire, &h);
            wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (mvpn_header_decode(&h, wire, body) != 0) {
                refused++;
                continue;
            }
            mvpn_header_encode(again, &h);
            assert_memory_equal(again, wire, sizeof(wire));
        }
    }
    assert_in_range(refused, 16 + 64, 160); /* lengths and classes; counters outside cells */
}

static void test_classes_and_rooms(void **state)
{
    (void)state;
    const size_t room[2][4] = {{136, 616, 1291, 1291}, {88, 568, 1243, 1243}}; /* §5.2 */
    for (unsigned profile = 0; profile < 2; profile++) {
        for (unsigned c = 0; c < 4; c++) {
            assert_int_equal(mvpn_cell_room(c, profile), room[profile][c]);
        }
        for (size_t n = 0; n <= room[profile][2]; n++) {
            unsigned want = n <= room[profile][0]   ? MVPN_CLASS_SMALL
                            : n <= room[profile][1] ? MVPN_CLASS_MEDIUM
                                                    : MVPN_CLASS_FULL;
            assert_int_equal(mvpn_cell_class_for(MVPN_SIZE_CLASSES, n, profile), want);
            assert_int_equal(mvpn_cell_class_for(MVPN_SIZE_FULL, n, profile), MVPN_CLASS_FULL);
            assert_int_equal(mvpn_cell_class_for(MVPN_SIZE_EXACT, n, profile), MVPN_CLASS_EXACT);
        }
    }
    for (unsigned hops = 1; hops <= MVPN_HOPS_MAX; hops++) {
        assert_int_equal(mvpn_profile_for_hops(hops), hops >= 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_stand_where_the_protocol_says),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_body_has_the_size_that_the_header_says),
        cmocka_unit_test(test_impossible_headers_are_refused),
        cmocka_unit_test(test_there_is_one_encoding),
        cmocka_unit_test(test_classes_and_rooms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
