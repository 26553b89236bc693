/*
 * The screen and the keys; what is drawn is made in top_view.c. The daemon is asked once a second;
 * one that ends is awaited again.
 */
#define NCURSES_WIDECHAR 1
#define NCURSES_NOMACROS 1

#include "bin/top.h"

#include <curses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "bin/ask.h"
#include "bin/terminal.h"
#include "bin/top_view.h"
#include "io/control.h"

#define INTERVAL_S 1.0
/* Keys are waited for so long, so that a daemon's answer is never far away. */
#define KEY_WAIT_MS 100
/* A daemon on the same host that needs longer is stuck; keys wait meanwhile. */
#define ASK_TIMEOUT_MS 700
#define NOTICE_S 4.0
#define NOTICE_MAX 256

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = OPTIONS_USAGE,
};

typedef struct top {
    const char *socket;
    char found[PATH_MAX];
    json_t *status, *circuits, *events;
    top_history history;
    top_model model;
    top_frame frame;
    char absent[NOTICE_MAX], notice[NOTICE_MAX], clock[16];
    double asked, noticed; /* seconds; when last */
    bool asks_new;         /* "new circuit? y" is waited for */
    bool has_colour, is_over;
} top;

static double seconds_now(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the daemon ---- */

/* Its answer to `cmd`, or NULL; `why` says why not. */
static json_t *ask(const top *t, const char *cmd, char why[static NOTICE_MAX])
{
    mvpn_fault fault = {.text = ""};
    json_t *request = json_pack("{s:s}", "cmd", cmd), *reply = NULL;
    int r = request == NULL ? MVPN_E_NOMEM
                            : mvpn_control_ask(t->socket, request, ASK_TIMEOUT_MS, &reply, &fault);
    json_decref(request);
    const char *error = json_string_value(json_object_get(reply, "error"));
    if (r != 0 || error != NULL) {
        (void)snprintf(why, NOTICE_MAX, "%.200s",
                       error != NULL           ? error
                       : r == MVPN_E_CLOSED    ? t->socket
                       : fault.text[0] != '\0' ? fault.text
                                               : mvpn_strerror(r));
        json_decref(reply);
        return NULL;
    }
    return reply;
}

static void replace(json_t **old, json_t *new)
{
    json_decref(*old);
    *old = new;
}

/* What is not answered now (an older daemon's circuits or events) is not shown. */
static void refresh_answers(top *t)
{
    char ignored[NOTICE_MAX];
    json_t *status = ask(t, "status", t->absent);
    t->model.absent = status == NULL ? t->absent : NULL;
    if (status == NULL) {
        top_history_gap(&t->history);
        replace(&t->circuits, NULL);
    } else {
        replace(&t->status, status);
        replace(&t->circuits, ask(t, "circuits", ignored));
        replace(&t->events, ask(t, "events", ignored));
        top_history_add(&t->history, json_number_value(json_object_get(status, "bytes_down")),
                        json_number_value(json_object_get(status, "bytes_up")), seconds_now());
    }
    t->model.status = t->status;
    t->model.circuits = t->circuits;
    t->model.events = t->events;
}

static void say(top *t, const char *text)
{
    (void)snprintf(t->notice, sizeof(t->notice), "%s", text);
    t->noticed = seconds_now();
}

static void ask_for_new_circuit(top *t)
{
    char why[NOTICE_MAX] = "";
    json_t *reply = ask(t, "new-identity", why);
    say(t, reply != NULL ? "new connections get a new circuit and address; open ones keep theirs"
                         : why);
    json_decref(reply);
}

/* ---- the screen ---- */

static void init_colours(top *t, bool wants_plain)
{
    const char *no_color = getenv("NO_COLOR");
    t->has_colour = !wants_plain && (no_color == NULL || no_color[0] == '\0') && has_colors();
    if (!t->has_colour) {
        return;
    }
    static const short colours[] = {
        [TOP_GOOD] = COLOR_GREEN, [TOP_WARN] = COLOR_YELLOW, [TOP_BAD] = COLOR_RED,
        [TOP_DOWN] = COLOR_CYAN,  [TOP_UP] = COLOR_MAGENTA,
    };
    (void)start_color();
    (void)use_default_colors();
    for (short i = TOP_GOOD; i <= TOP_UP; i++) {
        (void)init_pair(i, colours[i], -1);
    }
}

static void show_cell(const top *t, const top_cell *cell)
{
    wchar_t text[2] = {cell->code == 0 ? L' ' : (wchar_t)cell->code, L'\0'};
    attr_t attributes = cell->style == TOP_BOLD       ? A_BOLD
                        : cell->style == TOP_DIM      ? A_DIM
                        : cell->style == TOP_SELECTED ? A_REVERSE
                        : cell->style == TOP_BAD      ? A_BOLD
                                                      : A_NORMAL;
    bool is_coloured = t->has_colour && cell->style >= TOP_GOOD && cell->style <= TOP_UP;
    cchar_t c;
    if (setcchar(&c, text, attributes, is_coloured ? (short)cell->style : 0, NULL) == OK) {
        (void)add_wch(&c); /* fails at the last place of the screen, which it fills all the same */
    }
}

static void show_frame(top *t)
{
    top_frame *f = &t->frame;
    int rows = getmaxy(stdscr), columns = getmaxx(stdscr);
    f->rows = (unsigned)(rows < 1 ? 1 : rows > TOP_ROWS_MAX ? TOP_ROWS_MAX : rows);
    f->columns = (unsigned)(columns < 1                 ? 1
                            : columns > TOP_COLUMNS_MAX ? TOP_COLUMNS_MAX
                                                        : columns);
    top_draw(f, &t->model);
    (void)erase();
    for (unsigned y = 0; y < f->rows; y++) {
        (void)move((int)y, 0);
        for (unsigned x = 0; x < f->columns; x++) {
            show_cell(t, &f->cell[y][x]);
        }
    }
    (void)refresh();
}

static void set_time(top *t)
{
    time_t now = time(NULL);
    struct tm local;
    (void)localtime_r(&now, &local);
    (void)strftime(t->clock, sizeof(t->clock), "%H:%M:%S", &local);
    t->model.clock = t->clock;
    t->model.utc_offset_s = local.tm_gmtoff;
}

/* ---- keys ---- */

static void take_key(top *t, int key)
{
    size_t circuits = json_array_size(json_object_get(t->circuits, "circuits"));
    if (key != ERR && key != KEY_RESIZE && t->asks_new) {
        t->asks_new = false;
        t->noticed = 0;
        if (key == 'y' || key == 'Y') {
            ask_for_new_circuit(t);
        }
        return;
    }
    switch (key) {
    case 'q':
    case 'Q':
        t->is_over = true;
        break;
    case 'p':
    case 'P':
        t->model.is_paused = !t->model.is_paused;
        break;
    case 'c':
    case 'C':
        t->asks_new = true;
        break;
    case KEY_UP:
        t->model.selected -= t->model.selected > 0;
        break;
    case KEY_DOWN:
        t->model.selected += t->model.selected + 1 < circuits;
        break;
    default:
        break;
    }
}

static void set_notice(top *t, double now)
{
    t->model.notice = t->asks_new ? "a new circuit and address for new connections? y: yes, any "
                                    "other key: no"
                      : t->noticed > 0 && now - t->noticed < NOTICE_S ? t->notice
                                                                      : NULL;
}

static void run(top *t)
{
    while (!t->is_over) {
        double now = seconds_now();
        if (!t->model.is_paused && now - t->asked >= INTERVAL_S) {
            t->asked = now;
            refresh_answers(t);
            set_time(t);
        }
        size_t circuits = json_array_size(json_object_get(t->circuits, "circuits"));
        t->model.selected = MVPN_MIN(t->model.selected, circuits > 0 ? (unsigned)circuits - 1 : 0);
        set_notice(t, now);
        show_frame(t);
        take_key(t, getch());
    }
}

/* Why not, or NULL: a screen needs a terminal that can be written all over. */
static const char *why_no_screen(const terminal *t)
{
    const char *term = getenv("TERM");
    if (!t->is_terminal) {
        return "top needs a terminal";
    }
    return term == NULL || term[0] == '\0' || strcmp(term, "dumb") == 0
               ? "this terminal (TERM=dumb) cannot be drawn on"
               : NULL;
}

static int fail(const char *why)
{
    (void)fprintf(stderr, "meshvpn: %s. For a program: meshvpn status --json\n", why);
    return EXIT_USAGE;
}

int top_command(const options_given *given)
{
    terminal out, in;
    terminal_init(&in, stdin, false);
    terminal_init(&out, stdout, false);
    const char *why = why_no_screen(&in);
    why = why != NULL ? why : why_no_screen(&out);
    if (why != NULL) {
        return fail(why);
    }
    top *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return EXIT_FAILED;
    }
    t->socket = ask_socket(given, t->found);
    SCREEN *screen = t->socket == NULL ? NULL : newterm(NULL, stdout, stdin);
    if (screen == NULL) {
        int status =
            t->socket == NULL ? EXIT_USAGE : fail("this terminal's TERM is not known here");
        free(t);
        return status;
    }
    t->model.history = &t->history;
    t->model.is_utf8 = out.is_utf8;
    t->asked = -INTERVAL_S;
    set_time(t);
    init_colours(t, false);
    (void)cbreak();
    (void)noecho();
    (void)keypad(stdscr, true);
    (void)curs_set(0);
    timeout(KEY_WAIT_MS);
    run(t);
    /* On terminals without a second screen all stays but the keys. */
    (void)move(getmaxy(stdscr) - 1, 0);
    (void)clrtoeol();
    (void)refresh();
    (void)endwin();
    delscreen(screen);
    json_decref(t->status);
    json_decref(t->circuits);
    json_decref(t->events);
    free(t);
    return EXIT_DONE;
}
