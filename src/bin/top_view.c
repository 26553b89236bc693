#include "bin/top_view.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "bin/format.h"

/* Columns of a graph's axis: "12.3 Mbit/s ". */
#define AXIS 12
#define GRAPH_ROWS_MIN 2
#define GRAPH_ROWS_MAX 8
#define EVENTS_MIN 4
#define BLOCK 0x2588 /* full block; 0x2581 to 0x2587 are one to seven eighths */
#define ELLIPSIS 0x2026

/* ---- rates ---- */

static void push(top_history *h, double down, double up)
{
    h->down[h->count % TOP_HISTORY] = down;
    h->up[h->count % TOP_HISTORY] = up;
    h->count++;
}

void top_history_add(top_history *h, double bytes_down, double bytes_up, double at)
{
    double seconds = at - h->last_at;
    if (h->has_last && seconds > 0) {
        double down = bytes_down < h->last_down ? bytes_down : bytes_down - h->last_down;
        double up = bytes_up < h->last_up ? bytes_up : bytes_up - h->last_up;
        push(h, down * 8 / seconds, up * 8 / seconds);
    }
    h->has_last = true;
    h->last_down = bytes_down;
    h->last_up = bytes_up;
    h->last_at = at;
}

void top_history_gap(top_history *h)
{
    h->has_last = false;
    push(h, 0, 0);
}

double top_scale(double value)
{
    double unit = 1000;
    while (unit * 10 <= value && unit < 1e15) {
        unit *= 10;
    }
    return value <= unit       ? unit
           : value <= 2 * unit ? 2 * unit
           : value <= 5 * unit ? 5 * unit
                               : 10 * unit;
}

unsigned top_bar(double value, double scale, unsigned rows)
{
    double eighths = value / scale * rows * 8;
    if (!(value > 0)) {
        return 0;
    }
    return eighths < 1 ? 1 : eighths > rows * 8 ? rows * 8 : (unsigned)lround(eighths);
}

/* ---- a line ---- */

typedef struct pen {
    top_frame *frame;
    unsigned row, column, end; /* what is written ends before `end` */
    bool is_utf8;
} pen;

static pen pen_at(top_frame *frame, const top_model *m, unsigned row, unsigned column)
{
    return (pen){frame, row, column, frame->columns, m->is_utf8};
}

static void put(pen *p, uint32_t code, enum top_style style)
{
    if (p->row < p->frame->rows && p->column < p->end) {
        p->frame->cell[p->row][p->column] = (top_cell){code, (uint8_t)style};
        p->column++;
    }
}

/* Text of the daemon, of which not all is its own: ASCII alone. What is too long ends in dots. */
static void write_text(pen *p, enum top_style style, const char *text)
{
    size_t n = strlen(text);
    unsigned room = p->column < p->end ? p->end - p->column : 0;
    bool is_cut = n > room;
    unsigned dots = p->is_utf8 ? 1 : 3;
    size_t shown = is_cut ? (room > dots ? room - dots : 0) : n;
    for (size_t i = 0; i < shown; i++) {
        put(p, text[i] >= 0x20 && text[i] < 0x7f ? (uint32_t)text[i] : '?', style);
    }
    for (unsigned i = 0; is_cut && i < dots; i++) {
        put(p, p->is_utf8 ? ELLIPSIS : '.', style);
    }
}

static void MVPN_PRINTF(3, 4) print(pen *p, enum top_style style, const char *fmt, ...)
{
    char text[TOP_COLUMNS_MAX + 1];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    write_text(p, style, text);
}

static void label(pen *p, const char *name)
{
    print(p, TOP_DIM, "%-10s", name);
}

/* ---- what was answered ---- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static bool is_on(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

/* ---- the head ---- */

static void draw_state(top_frame *f, const top_model *m)
{
    pen p = pen_at(f, m, 0, 0);
    char age[48];
    const char *state = text_of(m->status, "state"), *blocked = text_of(m->status, "blocked_by");
    unsigned clock = (unsigned)strlen(m->clock);
    p.end = f->columns - clock - 1;
    print(&p, TOP_BOLD, "meshvpn  ");
    if (m->absent != NULL) {
        print(&p, TOP_BAD, "no daemon, trying again: %s", m->absent);
    } else if (m->status != NULL) {
        bool is_connected = strcmp(state, "connected") == 0;
        enum top_style style = is_connected ? TOP_GOOD : blocked[0] != '\0' ? TOP_BAD : TOP_WARN;
        print(&p, style, "%s", blocked[0] != '\0' && !is_connected ? "blocked" : state);
        print(&p, TOP_PLAIN, " for %s", format_duration(number_of(m->status, "since_s"), age));
        if (blocked[0] != '\0') {
            print(&p, TOP_BAD, ": %s", blocked);
        }
    }
    if (m->is_paused) {
        print(&p, TOP_WARN, "  (paused)");
    }
    p = pen_at(f, m, 0, f->columns - clock);
    write_text(&p, TOP_DIM, m->clock);
}

static void print_hop(pen *p, const json_t *hop)
{
    const char *name = text_of(hop, "name"), *country = text_of(hop, "country");
    if (name[0] != '\0') {
        print(p, TOP_PLAIN, "%s", name);
    } else {
        print(p, TOP_PLAIN, "%.8s", text_of(hop, "identity"));
    }
    if (country[0] != '\0') {
        print(p, TOP_PLAIN, " (%.2s)", country);
    }
}

static void draw_path(top_frame *f, const top_model *m, unsigned row)
{
    pen p = pen_at(f, m, row, 0);
    const json_t *path = json_object_get(m->status, "path"), *hop;
    size_t i;
    label(&p, "path");
    if (json_array_size(path) == 0) {
        print(&p, TOP_WARN, "none");
        return;
    }
    print(&p, TOP_PLAIN, "you");
    json_array_foreach(path, i, hop)
    {
        print(&p, TOP_DIM, " > ");
        print_hop(&p, hop);
    }
    print(&p, TOP_DIM, " > internet");
}

static void draw_exit(top_frame *f, const top_model *m, unsigned row)
{
    pen p = pen_at(f, m, row, 0);
    const json_t *choice = json_object_get(m->status, "exit_choice");
    const json_t *rtt = json_object_get(m->status, "rtt_ms");
    const char *address = text_of(m->status, "exit_address"), *use = text_of(choice, "use");
    size_t blocked = json_array_size(json_object_get(choice, "blocked"));
    label(&p, "exit");
    print(&p, TOP_PLAIN, "%s", address[0] != '\0' ? address : "-");
    if (json_is_number(rtt)) {
        print(&p, TOP_PLAIN, ", rtt %.0f ms", json_number_value(rtt));
    }
    if (use[0] != '\0' && strcmp(use, "auto") != 0) {
        print(&p, TOP_PLAIN, ", chosen %s", use);
    }
    if (blocked > 0) {
        print(&p, TOP_PLAIN, ", %zu blocked", blocked);
    }
    if (text_of(choice, "reason")[0] != '\0') {
        print(&p, TOP_WARN, ": %s", text_of(choice, "reason"));
    }
}

/* One word each: what holds is good, what does not is bad. */
static void print_check(pen *p, const char *name, bool is_good)
{
    print(p, is_good ? TOP_GOOD : TOP_BAD, "%s%s", is_good ? "" : "NO ", name);
    print(p, TOP_PLAIN, "  ");
}

/* Only what the daemon says: an older one, or a proxy, has no line. */
static bool draw_protection(top_frame *f, const top_model *m, unsigned row)
{
    pen p = pen_at(f, m, row, 0);
    const json_t *protection = json_object_get(m->status, "protection");
    const json_t *dns = json_object_get(m->status, "dns");
    if (!json_is_object(protection)) {
        return false;
    }
    label(&p, "protected");
    print_check(&p, "kill switch", is_on(protection, "kill_switch"));
    if (json_is_object(dns) && strcmp(text_of(dns, "manager"), "none") != 0) {
        print_check(&p, "names", is_on(dns, "is_set"));
    }
    print_check(&p, "IPv6", is_on(m->status, "ipv6"));
    print(&p, TOP_PLAIN, "lockdown %s", is_on(protection, "lockdown") ? "on" : "off");
    if (number_of(protection, "repaired") > 0) {
        print(&p, TOP_WARN, "  repaired %.0f times", number_of(protection, "repaired"));
    }
    return true;
}

/* What the daemon proved by itself; what was not tested is left out. */
static bool draw_proof(top_frame *f, const top_model *m, unsigned row)
{
    static const char *const parts[][2] = {{"exit_address", "exit address"},
                                           {"dns", "names"},
                                           {"ipv6", "IPv6"},
                                           {"kill_switch", "kill switch"}};
    pen p = pen_at(f, m, row, 0);
    const json_t *proof = json_object_get(m->status, "proof");
    if (!json_is_object(proof)) {
        return false;
    }
    label(&p, "proof");
    for (size_t i = 0; i < MVPN_ARRAY_LEN(parts); i++) {
        const json_t *ok = json_object_get(json_object_get(proof, parts[i][0]), "ok");
        if (json_is_boolean(ok)) {
            print_check(&p, parts[i][1], json_is_true(ok));
        }
    }
    print(&p, TOP_DIM, "%.0f s ago", number_of(proof, "checked_s_ago"));
    return true;
}

static void draw_traffic(top_frame *f, const top_model *m, unsigned row)
{
    pen p = pen_at(f, m, row, 0);
    const json_t *session = json_object_get(m->status, "session");
    char down[32], up[32];
    label(&p, "traffic");
    print(&p, TOP_PLAIN, "%s down, %s up; connections %.0f, ",
          format_bytes(number_of(m->status, "bytes_down"), down),
          format_bytes(number_of(m->status, "bytes_up"), up), number_of(session, "flows"));
    print(&p, TOP_PLAIN, "failovers %.0f, rotations %.0f", number_of(m->status, "failovers"),
          number_of(m->status, "rotations"));
}

/* ---- graphs ---- */

static uint32_t bar_code(unsigned eighths, bool is_utf8)
{
    static const char ascii[] = " ..::||#";
    if (eighths >= 8) {
        return is_utf8 ? BLOCK : '#';
    }
    return eighths == 0 ? ' ' : is_utf8 ? BLOCK - 8 + eighths : (uint32_t)ascii[eighths];
}

static double largest(const top_history *h, const double *rates, size_t shown)
{
    double most = 0;
    for (size_t i = h->count - shown; i < h->count; i++) {
        most = MVPN_MAX(most, rates[i % TOP_HISTORY]);
    }
    return most;
}

/* The newest at the right. On the axis: the scale, what it is, and the rate at the moment. */
static void draw_graph(top_frame *f, const top_model *m, unsigned row, unsigned rows,
                       const double *rates, const char *name, enum top_style style)
{
    const top_history *h = m->history;
    unsigned width = f->columns - AXIS;
    size_t shown = MVPN_MIN(MVPN_MIN(h->count, (size_t)TOP_HISTORY), (size_t)width);
    double scale = top_scale(largest(h, rates, shown));
    char text[32];
    pen p = pen_at(f, m, row, 0);
    write_text(&p, TOP_DIM, format_rate(scale, text));
    p = pen_at(f, m, row + rows - 1, 0);
    if (rows > 2) {
        pen middle = pen_at(f, m, row + rows - 2, 0);
        write_text(&middle, style, name);
    } else {
        print(&p, style, "%.1s ", name);
    }
    write_text(&p, TOP_PLAIN,
               format_rate(h->count > 0 ? rates[(h->count - 1) % TOP_HISTORY] : 0, text));
    for (size_t i = 0; i < shown; i++) {
        unsigned bar = top_bar(rates[(h->count - shown + i) % TOP_HISTORY], scale, rows);
        for (unsigned y = 0; y < rows; y++) {
            unsigned below = (rows - 1 - y) * 8;
            p = pen_at(f, m, row + y, AXIS + width - (unsigned)shown + (unsigned)i);
            put(&p, bar_code(bar > below ? bar - below : 0, m->is_utf8), style);
        }
    }
}

/* ---- circuits ---- */

static void draw_circuit(top_frame *f, const top_model *m, unsigned row, const json_t *circuit,
                         bool is_selected)
{
    char age[48], bytes[32], rtt[32] = "-";
    pen p = pen_at(f, m, row, 0);
    enum top_style style = is_selected                    ? TOP_SELECTED
                           : is_on(circuit, "is_current") ? TOP_BOLD
                                                          : TOP_PLAIN;
    const json_t *path = json_object_get(circuit, "path"), *hop, *ms;
    size_t i;
    ms = json_object_get(circuit, "rtt_ms");
    if (json_is_number(ms)) {
        (void)snprintf(rtt, sizeof(rtt), "%.0f ms", json_number_value(ms));
    }
    print(&p, style, "%2.0f %c %-8s  %-13s %8s %8s  ", number_of(circuit, "number"),
          is_on(circuit, "is_current") ? '*' : ' ', text_of(circuit, "state"),
          format_duration(number_of(circuit, "age_s"), age), rtt,
          format_bytes(number_of(circuit, "bytes"), bytes));
    json_array_foreach(path, i, hop)
    {
        const char *name = text_of(hop, "name");
        print(&p, style, "%s%.24s", i > 0 ? " > " : "",
              name[0] != '\0' ? name : text_of(hop, "identity"));
    }
    while (is_selected && p.column < p.end) {
        put(&p, ' ', style);
    }
}

/* As many as there is room for, around the selected one. */
static void draw_circuits(top_frame *f, const top_model *m, unsigned row, unsigned rows)
{
    const json_t *list = json_object_get(m->circuits, "circuits");
    size_t count = json_array_size(list);
    size_t selected = count == 0 ? 0 : MVPN_MIN((size_t)m->selected, count - 1);
    size_t first = selected >= rows ? selected - rows + 1 : 0;
    pen p = pen_at(f, m, row - 1, 0);
    print(&p, TOP_DIM, " #   state     age                rtt    bytes  path");
    if (first > 0 || count > first + rows) {
        print(&p, TOP_DIM, "  (%zu to %zu of %zu)", first + 1, MVPN_MIN(first + rows, count),
              count);
    }
    if (count == 0) {
        p = pen_at(f, m, row, 0);
        print(&p, TOP_DIM, "none");
    }
    for (size_t i = first; i < MVPN_MIN(first + rows, count); i++) {
        draw_circuit(f, m, row + (unsigned)(i - first), json_array_get(list, i), i == selected);
    }
}

/* ---- events ---- */

static void draw_events(top_frame *f, const top_model *m, unsigned row, unsigned rows)
{
    const json_t *list = json_object_get(m->events, "events");
    size_t count = json_array_size(list), shown = MVPN_MIN(count, (size_t)rows);
    pen p = pen_at(f, m, row - 1, 0);
    print(&p, TOP_DIM, "events");
    for (size_t i = 0; i < shown; i++) {
        const json_t *e = json_array_get(list, count - shown + i);
        const char *level = text_of(e, "level");
        enum top_style style = strcmp(level, "error") == 0     ? TOP_BAD
                               : strcmp(level, "warning") == 0 ? TOP_WARN
                                                               : TOP_PLAIN;
        json_int_t at = json_integer_value(json_object_get(e, "time")) + m->utc_offset_s;
        unsigned of_day = (unsigned)(((at % 86400) + 86400) % 86400);
        p = pen_at(f, m, row + (unsigned)i, 0);
        print(&p, TOP_DIM, "%02u:%02u:%02u  ", of_day / 3600, of_day / 60 % 60, of_day % 60);
        write_text(&p, style, text_of(e, "text"));
    }
}

/* ---- all ---- */

static void draw_keys(top_frame *f, const top_model *m)
{
    pen p = pen_at(f, m, f->rows - 1, 0);
    if (m->notice != NULL) {
        write_text(&p, TOP_BOLD, m->notice);
        return;
    }
    static const char *const keys[][2] = {
        {"q", " quit   "}, {"p", " pause   "}, {"c", " new circuit   "}, {"up/down", " circuits"}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(keys); i++) {
        write_text(&p, TOP_BOLD, keys[i][0]);
        write_text(&p, TOP_DIM, keys[i][1]);
    }
}

static void draw_too_small(top_frame *f, const top_model *m)
{
    pen p = pen_at(f, m, 0, 0);
    print(&p, TOP_WARN, "too small: %d x %d at least", TOP_COLUMNS_MIN, TOP_ROWS_MIN);
}

/* The head takes what it needs, circuits what there are, events a quarter; graphs have the rest. */
void top_draw(top_frame *f, const top_model *m)
{
    memset(f->cell, 0, sizeof(f->cell));
    if (f->columns < TOP_COLUMNS_MIN || f->rows < TOP_ROWS_MIN) {
        draw_too_small(f, m);
        return;
    }
    unsigned row = 1;
    draw_state(f, m);
    if (m->status != NULL) {
        draw_path(f, m, row++);
        draw_exit(f, m, row++);
        row += draw_protection(f, m, row) ? 1 : 0;
        row += draw_proof(f, m, row) ? 1 : 0;
        draw_traffic(f, m, row++);
    }
    unsigned left = f->rows - 1 - row; /* the last line has the keys */
    size_t circuits = json_array_size(json_object_get(m->circuits, "circuits"));
    unsigned circuit_rows = (unsigned)MVPN_MIN(MVPN_MAX(circuits, (size_t)1), (size_t)10);
    circuit_rows = MVPN_MIN(circuit_rows, left / 4);
    unsigned event_rows = MVPN_MAX(left / 4, (unsigned)EVENTS_MIN - 1);
    unsigned graphs = left - circuit_rows - event_rows - 2; /* two titles */
    unsigned graph_rows =
        MVPN_MIN(MVPN_MAX(graphs / 2, (unsigned)GRAPH_ROWS_MIN), (unsigned)GRAPH_ROWS_MAX);
    draw_graph(f, m, row, graph_rows, m->history->down, "down", TOP_DOWN);
    draw_graph(f, m, row + graph_rows, graph_rows, m->history->up, "up", TOP_UP);
    row += 2 * graph_rows + 1;
    draw_circuits(f, m, row, circuit_rows);
    row += circuit_rows + 1;
    draw_events(f, m, row, f->rows - 1 - row);
    draw_keys(f, m);
}
