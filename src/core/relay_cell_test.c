/* What neighbours send into circuits that are there: cells that are bad, early or of others,
 * Destroy, links that are lost, commands that do not belong there. (docs/protocol.md §5.3, §6.4) */
#include "core/testrelay.h"

static void test_destroy_is_passed_on_without_its_reason(void **state)
{
    (void)state;
    for (unsigned from_client = 0; from_client < 2; from_client++) {
        lab_circuit c = open_circuit();
        lab_message create;
        mvpn_circuit_id back;
        (void)extend(&c, 1, &create, &back);
        mvpn_header h = {
            .circuit = from_client ? c.out : back, .command = MVPN_CMD_DESTROY, .length = 1};
        assert_int_equal(lab_send(l, from_client ? 0 : 1, from_client ? link0 : create.link, &h,
                                  MVPN_BYTES_LITERAL("\2"), true),
                         0);
        assert_destroyed(from_client ? 1 : 0, from_client ? &create.header.circuit : &c.in,
                         MVPN_REASON_NONE);
        assert_int_equal(circuits(), 0);
    }
    mvpn_header h = {.circuit = {{5}}, .command = MVPN_CMD_DESTROY, .length = 1};
    assert_int_equal(lab_send(l, 0, link0, &h, MVPN_BYTES_LITERAL("\2"), true), 0); /* of no one */
    assert_silence(0);
}

static void test_a_lost_link_ends_its_circuits(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    mvpn_link_close(create.link, MVPN_REASON_FINISHED, l->now);
    assert_destroyed(0, &c.in, MVPN_REASON_NONE);
    assert_int_equal(circuits(), 0);

    c = open_circuit();
    uint8_t body[MVPN_ASSEMBLY_MAX]; /* while extending the circuit lives on */
    size_t n = lab_extend_body(l, &c, 1, true, body, sizeof(body));
    lab_send_extend(l, &c, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(20));
    create = only(1, MVPN_CMD_CREATE);
    mvpn_link_close(create.link, MVPN_REASON_FINISHED, l->now);
    assert_int_equal(extended_status(&c), MVPN_REASON_UNREACHABLE);
    assert_int_equal(circuits(), 1);
    mvpn_link_close(link0, MVPN_REASON_FINISHED, l->now);
    lab_for(l, MVPN_MS(5));
    assert_int_equal(circuits(), 0);
}

static void test_early_cells_are_counted(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    for (unsigned i = 0; i < MVPN_EARLY_MAX; i++) {
        lab_cell(l, &c, MVPN_CMD_RELAY_DROP, true, MVPN_BYTES_NONE);
    }
    assert_silence(0);
    for (unsigned i = 0; i < 20; i++) { /* the others are free */
        lab_cell(l, &c, MVPN_CMD_RELAY_DROP, false, MVPN_BYTES_NONE);
    }
    assert_silence(0);
    assert_int_equal(circuits(), 1);
    lab_cell(l, &c, MVPN_CMD_RELAY_DROP, true, MVPN_BYTES_NONE);
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
    assert_int_equal(circuits(), 0);
}

static void test_early_cells_do_not_come_back(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    uint8_t body[MVPN_CELL_SMALL] = {0};
    mvpn_header h = {.circuit = back, .command = MVPN_CMD_RELAY_EARLY, .length = 100};
    assert_int_equal(lab_send(l, 1, create.link, &h, MVPN_BYTES_ARRAY(body), true), 0);
    assert_destroyed(0, &c.in, MVPN_REASON_PROTOCOL);
}

/* Cells that lie about class or kind, replays, garbage: dropped, and the circuit lives. */
static void test_bad_cells_are_dropped(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    lab_message create;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    uint64_t dropped = counters()->cells_dropped;
    for (unsigned i = 0; i < 7; i++) {
        mvpn_cell_kind kind = {MVPN_CMD_RELAY_DROP, 0, MVPN_SIZE_CLASSES};
        mvpn_header h;
        mvpn_packet *p = test_packet(&l->peer[0].pool, 10, i), *copy = NULL;
        assert_int_equal(mvpn_onion_seal(&c.onion, l->aead, 2, &kind, i == 1, p, &h), 0);
        h.circuit = c.out;
        switch (i) {
        case 0: /* the layer says Relay, the cell RelayEarly */
            h.command = MVPN_CMD_RELAY_EARLY;
            break;
        case 1:
            h.command = MVPN_CMD_RELAY;
            break;
        case 2: /* another class outside */
            h.size_class = MVPN_CLASS_MEDIUM;
            mvpn_packet_truncate(p, h.length);
            mvpn_onion_fill(p, MVPN_CLASS_MEDIUM);
            break;
        case 3:
            p->data[20] ^= 1;
            break;
        case 4:
            h.counter++;
            break;
        case 5:
            h.circuit.b[0] ^= 1; /* of no circuit */
            break;
        default:
            copy = test_packet_of(&l->peer[0].pool, p->data, p->len); /* sent twice */
            break;
        }
        assert_int_equal(mvpn_link_send(link0, p, &h, i == 0, l->now), 0);
        if (copy != NULL) {
            assert_int_equal(mvpn_link_send(link0, copy, &h, false, l->now), 0);
        }
        lab_for(l, MVPN_MS(5));
        assert_int_equal(counters()->cells_dropped, dropped + i + 1);
    }
    (void)only(1, MVPN_CMD_RELAY); /* the one that was sent twice */
    assert_int_equal(circuits(), 1);
    mvpn_header h = {.circuit = back, .command = MVPN_CMD_RELAY, .length = 200};
    uint8_t body[MVPN_CELL_SMALL] = {0}; /* from behind: no room for our layer */
    assert_int_equal(lab_send(l, 1, create.link, &h, MVPN_BYTES_ARRAY(body), false), 0);
    h.length = 100;
    h.counter = 1ull << 32; /* nor for such a counter */
    assert_int_equal(lab_send(l, 1, create.link, &h, MVPN_BYTES_ARRAY(body), false), 0);
    assert_silence(0);
    assert_int_equal(counters()->cells_dropped, dropped + 9);
}

/*
 * On the way back the class is all that a length may tell: else a hostile exit could signal to a
 * hostile guard. (§5.3)
 */
static void test_lengths_that_tell_something_do_not_come_back(void **state)
{
    (void)state;
    static const unsigned classes[] = {MVPN_CLASS_SMALL, MVPN_CLASS_MEDIUM, MVPN_CLASS_FULL,
                                       MVPN_CLASS_EXACT};
    lab_circuit c = open_circuit();
    lab_message create, m;
    mvpn_circuit_id back;
    (void)extend(&c, 1, &create, &back);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(classes); i++) {
        size_t size = mvpn_cell_body_len(classes[i], MVPN_CELL_SMALL);
        for (size_t length = size - 5 * MVPN_LAYER_OVERHEAD; length <= size; length++) {
            static const uint8_t body[MVPN_CELL_FULL];
            const uint64_t dropped = counters()->cells_dropped;
            bool is_honest = classes[i] != MVPN_CLASS_EXACT && length < size &&
                             (size - length) % MVPN_LAYER_OVERHEAD == 0;
            mvpn_header h = {.circuit = back,
                             .command = MVPN_CMD_RELAY,
                             .length = (uint16_t)length,
                             .size_class = (uint8_t)classes[i]};
            size_t n = mvpn_cell_body_len(classes[i], length);
            assert_int_equal(lab_send(l, 1, create.link, &h, mvpn_bytes_of(body, n), false), 0);
            lab_for(l, MVPN_MS(1));
            assert_int_equal(l->peer[0].inbox_count, is_honest);
            assert_int_equal(counters()->cells_dropped, dropped + !is_honest);
            if (is_honest) {
                m = only(0, MVPN_CMD_RELAY);
                assert_int_equal(m.header.size_class, classes[i]);
                assert_int_equal(m.header.length, length + MVPN_LAYER_OVERHEAD);
            }
        }
    }
    assert_int_equal(circuits(), 1);
}

/* An id belongs to one link: a neighbour cannot speak in circuits of another. */
static void test_ids_of_another_link_mean_nothing(void **state)
{
    (void)state;
    lab_circuit c = open_circuit();
    mvpn_link *link1 = lab_join(l, 1);
    mvpn_header h = {.circuit = c.out, .command = MVPN_CMD_DESTROY, .length = 1};
    assert_int_equal(lab_send(l, 1, link1, &h, MVPN_BYTES_LITERAL("\0"), true), 0);
    lab_for(l, MVPN_MS(5));
    assert_int_equal(circuits(), 1);
}

static void test_commands_in_the_wrong_place_close_the_link(void **state)
{
    (void)state;
    const uint16_t commands[] = {0x03, 0x04, 0x07, 0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        mvpn_link *link = i == 0 ? link0 : lab_join(l, 0);
        lab_circuit c;
        assert_true(lab_circuit_open(l, &c, 0, link));
        size_t closed = l->peer[0].closed;
        mvpn_header h = {.circuit = c.out, .command = commands[i], .length = 2};
        assert_int_equal(lab_send(l, 0, link, &h, MVPN_BYTES_LITERAL("ab"), false), 0);
        lab_for(l, MVPN_MS(5));
        assert_int_equal(l->peer[0].closed, closed + 1);
        assert_int_equal(circuits(), 0);
        l->peer[0].inbox_count = 0;
    }
}

static void test_unknown_commands_are_answered_once(void **state)
{
    (void)state;
    lab_for(l, MVPN_S(1));
    uint64_t before = l->peer[0].datagrams;
    for (unsigned i = 0; i < 5; i++) {
        mvpn_header h = {.command = 0x45, .length = 2};
        assert_int_equal(lab_send(l, 0, link0, &h, MVPN_BYTES_LITERAL("ab"), false), 0);
        lab_for(l, MVPN_MS(5));
    }
    assert_int_equal(l->peer[0].datagrams, before + 1); /* VersionList, which the link takes */
    assert_true(mvpn_link_is_open(link0));
    mvpn_header h = {.command = 0x12, .length = 2}; /* of the DHT, which we do not serve */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(lab_send(l, 0, link0, &h, MVPN_BYTES_LITERAL("ab"), false), 0);
        lab_for(l, MVPN_MS(5));
    }
    assert_int_equal(l->peer[0].datagrams, before + 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, relay_setup, relay_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_destroy_is_passed_on_without_its_reason),
        TEST(test_a_lost_link_ends_its_circuits),
        TEST(test_early_cells_are_counted),
        TEST(test_early_cells_do_not_come_back),
        TEST(test_bad_cells_are_dropped),
        TEST(test_lengths_that_tell_something_do_not_come_back),
        TEST(test_ids_of_another_link_mean_nothing),
        TEST(test_commands_in_the_wrong_place_close_the_link),
        TEST(test_unknown_commands_are_answered_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
