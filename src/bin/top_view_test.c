/* What top draws, as text: scales, bars, and whole screens of several sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "bin/top_view.h"

static top_frame frame;
static char text[TOP_ROWS_MAX * (TOP_COLUMNS_MAX + 1) + 1];

/* One character per cell; a graph's blocks as digits of eighths, the ellipsis as '~'. */
static const char *row_of(unsigned y)
{
    static char line[TOP_COLUMNS_MAX + 1];
    unsigned n = 0;
    for (unsigned x = 0; x < frame.columns; x++) {
        uint32_t c = frame.cell[y][x].code;
        line[x] = c == 0                       ? ' '
                  : c >= 0x2581 && c <= 0x2588 ? (char)('1' + c - 0x2581)
                  : c == 0x2026                ? '~'
                  : c < 0x7f                   ? (char)c
                                               : '!';
        n = line[x] != ' ' ? x + 1 : n;
    }
    line[n] = '\0';
    return line;
}

static const char *draw(const top_model *m, unsigned columns, unsigned rows)
{
    frame.columns = columns;
    frame.rows = rows;
    top_draw(&frame, m);
    text[0] = '\0';
    size_t used = 0;
    for (unsigned y = 0; y < rows; y++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s\n", row_of(y));
    }
    return text;
}

static void test_scales(void **state)
{
    static const double rows[][2] = {{0, 1e3},     {1, 1e3},    {1000, 1e3}, {1001, 2e3},
                                     {2001, 5e3},  {5001, 1e4}, {1e6, 1e6},  {1.1e6, 2e6},
                                     {9.9e8, 1e9}, {1.5e9, 2e9}};
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_true(top_scale(rows[i][0]) > rows[i][1] * 0.999 &&
                    top_scale(rows[i][0]) < rows[i][1] * 1.001);
    }
}

static void test_bars(void **state)
{
    (void)state;
    assert_int_equal(top_bar(0, 1000, 4), 0);
    assert_int_equal(top_bar(-5, 1000, 4), 0);
    assert_int_equal(top_bar(1, 1000, 4), 1); /* something is seen */
    assert_int_equal(top_bar(500, 1000, 4), 16);
    assert_int_equal(top_bar(1000, 1000, 4), 32);
    assert_int_equal(top_bar(5000, 1000, 4), 32);
}

static void test_rates(void **state)
{
    (void)state;
    top_history h = {.count = 0};
    top_history_add(&h, 1000, 100, 10);
    assert_int_equal(h.count, 0); /* a rate takes two */
    top_history_add(&h, 3000, 200, 12);
    assert_int_equal(h.count, 1);
    assert_true(h.down[0] > 7999 && h.down[0] < 8001 && h.up[0] > 399 && h.up[0] < 401);
    top_history_add(&h, 500, 0, 13); /* the daemon began anew */
    assert_true(h.down[1] > 3999 && h.down[1] < 4001 && !(h.up[1] > 0));
    top_history_gap(&h);
    assert_true(h.count == 3 && !(h.down[2] > 0));
    top_history_add(&h, 1e9, 1e9, 20); /* what passed meanwhile is no rate */
    assert_int_equal(h.count, 3);
    for (unsigned i = 0; i < 3 * TOP_HISTORY; i++) {
        top_history_add(&h, 1e9 + i, 1e9, 21 + i);
    }
    assert_int_equal(h.count, 3 + 3 * TOP_HISTORY);
}

static json_t *load(const char *words)
{
    json_error_t why;
    json_t *o = json_loads(words, 0, &why);
    if (o == NULL) {
        fail_msg("%s", why.text);
    }
    return o;
}

static const char status_text[] =
    "{\"state\":\"connected\",\"since_s\":3723,\"blocked_by\":null,\"path\":["
    "{\"name\":\"alder\",\"identity\":\"0101010101010101\",\"country\":\"CH\"},"
    "{\"name\":null,\"identity\":\"0202020202020202\",\"country\":null},"
    "{\"name\":\"maple\",\"identity\":\"0303030303030303\",\"country\":\"JP\"}],"
    "\"exit_address\":\"192.0.2.7\",\"rtt_ms\":43.2,\"ipv6\":true,\"bytes_up\":1200000,"
    "\"bytes_down\":45600000,\"failovers\":1,\"rotations\":2,\"session\":{\"flows\":17},"
    "\"exit_choice\":{\"use\":\"JP\",\"blocked\":[\"US\"],\"reason\":null},"
    "\"protection\":{\"kill_switch\":true,\"lockdown\":false,\"repaired\":0},"
    "\"dns\":{\"manager\":\"file\",\"is_set\":true}}";
static const char circuits_text[] =
    "{\"circuits\":[{\"number\":1,\"state\":\"in use\",\"is_current\":true,\"age_s\":723,"
    "\"rtt_ms\":43.2,\"bytes\":46800000,\"path\":[{\"name\":\"alder\"},{\"name\":null,"
    "\"identity\":\"0202020202020202\"},{\"name\":\"maple\"}]},"
    "{\"number\":2,\"state\":\"spare\",\"is_current\":false,\"age_s\":61,\"rtt_ms\":null,"
    "\"bytes\":2100,\"path\":[{\"name\":\"birch\"},{\"name\":\"cedar\"},{\"name\":\"maple\"}]}]}";
static const char events_text[] =
    "{\"events\":[{\"number\":1,\"time\":1800000000,\"level\":\"info\",\"text\":\"connected\"},"
    "{\"number\":2,\"time\":1800003661,\"level\":\"warning\",\"text\":\"the circuit failed "
    "(timed out; the guard is silent): another takes over and this text is long enough\"}]}";

typedef struct scene {
    json_t *status, *circuits, *events;
    top_history history;
    top_model model;
} scene;

static void scene_make(scene *s)
{
    *s = (scene){
        .status = load(status_text), .circuits = load(circuits_text), .events = load(events_text)};
    for (unsigned i = 0; i < 9; i++) {
        top_history_add(&s->history, 1000.0 * i * i, 100.0 * i, i);
    }
    s->model = (top_model){.status = s->status,
                           .circuits = s->circuits,
                           .events = s->events,
                           .history = &s->history,
                           .clock = "14:03:22",
                           .is_utf8 = true};
}

static void scene_free(scene *s)
{
    json_decref(s->status);
    json_decref(s->circuits);
    json_decref(s->events);
}

static void test_screen(void **state)
{
    scene s;
    (void)state;
    scene_make(&s);
    const char expected[] =
        "meshvpn  connected for 1 h 2 min                                        14:03:22\n"
        "path      you > alder (CH) > 02020202 > maple (JP) > internet\n"
        "exit      192.0.2.7, rtt 43 ms, chosen JP, 1 blocked\n"
        "protected kill switch  names  IPv6  lockdown off\n"
        "traffic   45.6 MB down, 1.20 MB up; connections 17, failovers 1, rotations 2\n";
    draw(&s.model, 80, 24);
    assert_memory_equal(text, expected, sizeof(expected) - 1);
    assert_non_null(strstr(text, "\n 1 * in use    12 min 3 s       43 ms  46.8 MB  alder > 0202"));
    assert_non_null(strstr(text, "\n 2   spare     1 min 1 s            -  2.10 kB  birch > cedar "
                                 "> maple\n"));
    assert_non_null(strstr(text, "\n08:00:00  connected\n"));
    assert_non_null(strstr(text, "\n09:01:01  the circuit failed (timed out; the guard is silent): "
                                 "another takes ov~\n"));
    assert_string_equal(row_of(23), "q quit   p pause   c new circuit   up/down circuits");
    assert_int_equal(frame.cell[0][9].style, TOP_GOOD);
    assert_int_equal(frame.cell[3][10].style, TOP_GOOD);
    /* With a proof: what failed is said, what was not tested is not. */
    json_object_set_new(s.status, "proof",
                        load("{\"checked_s_ago\":12,\"exit_address\":{\"ok\":true},"
                             "\"dns\":{\"ok\":false},\"ipv6\":{\"ok\":null},"
                             "\"kill_switch\":{\"ok\":true}}"));
    draw(&s.model, 80, 24);
    assert_string_equal(row_of(4), "proof     exit address  NO names  kill switch  12 s ago");
    assert_int_equal(frame.cell[4][24].style, TOP_BAD);
    assert_memory_equal(row_of(5), "traffic", 7);
    scene_free(&s);
}

static void test_graph(void **state)
{
    scene s;
    (void)state;
    scene_make(&s);
    draw(&s.model, 80, 24);
    /* 8, 24, ... 120 kbit/s on a scale of 200: the newest at the right edge. */
    assert_memory_equal(row_of(5), "200 kbit/s", 10);
    unsigned rows = 0;
    while (strstr(row_of(5 + rows), "120 kbit/s") == NULL) {
        rows++;
        assert_true(rows < 10);
    }
    const char *last = row_of(5 + rows);
    assert_int_equal(strlen(last), 80);
    assert_int_equal(last[79], '8');
    assert_int_equal(last[71], ' ');
    assert_int_equal(last[72], '0' + (char)top_bar(8000, 200000, rows + 1));
    assert_int_equal(frame.cell[5 + rows][79].style, TOP_DOWN);
    s.model.is_utf8 = false;
    draw(&s.model, 80, 24);
    assert_int_equal(row_of(5 + rows)[79], '#');
    scene_free(&s);
}

static void test_states(void **state)
{
    scene s;
    (void)state;
    scene_make(&s);
    s.model.absent = "/run/meshvpn/control.sock";
    draw(&s.model, 80, 24);
    assert_string_equal(row_of(0), "meshvpn  no daemon, trying again: /run/meshvpn/control.sock"
                                   "             14:03:22");
    s.model.absent = NULL;
    s.model.is_paused = true;
    s.model.notice = "really? y";
    json_object_set_new(s.status, "state", json_string("connecting"));
    json_object_set_new(s.status, "blocked_by", json_string("no exit relay is known"));
    json_object_set_new(s.status, "path", json_array());
    json_object_set_new(s.status, "protection", json_null());
    draw(&s.model, 80, 24);
    assert_string_equal(row_of(0), "meshvpn  blocked for 1 h 2 min: no exit relay is known  "
                                   "(paused)        14:03:22");
    assert_int_equal(frame.cell[0][9].style, TOP_BAD);
    assert_string_equal(row_of(1), "path      none");
    assert_memory_equal(row_of(3), "traffic", 7);
    assert_string_equal(row_of(23), "really? y");
    /* Hostile names are no escape codes. */
    json_t *hop = load("{\"name\":\"a\\u001b[31mb\\u0007\",\"identity\":\"\",\"country\":\"\"}");
    json_array_append_new(json_object_get(s.status, "path"), hop);
    draw(&s.model, 80, 24);
    assert_string_equal(row_of(1), "path      you > a?[31mb? > internet");
    const top_model empty = {.history = &s.history, .clock = ""};
    draw(&empty, 80, 24); /* nothing was answered yet */
    scene_free(&s);
}

/* Every size is drawn in its bounds, with many circuits and events too. */
static void test_sizes(void **state)
{
    scene s;
    (void)state;
    scene_make(&s);
    json_object_set_new(s.status, "proof", load("{\"checked_s_ago\":1}"));
    for (unsigned i = 0; i < 9; i++) {
        json_t *list = json_object_get(s.circuits, "circuits");
        json_array_append_new(list, json_deep_copy(json_array_get(list, 1)));
    }
    for (unsigned i = 0; i < 200; i++) {
        json_t *list = json_object_get(s.events, "events");
        json_array_append_new(list, json_deep_copy(json_array_get(list, 1)));
    }
    for (unsigned columns = 1; columns <= TOP_COLUMNS_MAX; columns += columns < 90 ? 1 : 30) {
        for (unsigned rows = 1; rows <= TOP_ROWS_MAX; rows++) {
            s.model.selected = rows % 11;
            draw(&s.model, columns, rows);
            bool is_big = columns >= TOP_COLUMNS_MIN && rows >= TOP_ROWS_MIN;
            if (!is_big && columns >= 30) {
                assert_string_equal(row_of(0), "too small: 60 x 16 at least");
            }
            for (unsigned y = 0; y < TOP_ROWS_MAX; y++) {
                for (unsigned x = 0; x < TOP_COLUMNS_MAX; x++) {
                    assert_true((y < rows && x < columns) || frame.cell[y][x].code == 0);
                }
            }
            if (is_big) { /* the selected circuit is always in sight */
                unsigned selected = 0;
                for (unsigned y = 0; y < rows; y++) {
                    selected += frame.cell[y][0].style == TOP_SELECTED;
                }
                assert_int_equal(selected, 1);
                assert_memory_equal(row_of(rows - 1), "q quit", 6);
            }
        }
    }
    scene_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scales), cmocka_unit_test(test_bars),  cmocka_unit_test(test_rates),
        cmocka_unit_test(test_screen), cmocka_unit_test(test_graph), cmocka_unit_test(test_states),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
