#include "bin/stage_view.h"

#include <stdio.h>
#include <string.h>

#define TROUBLE_PATIENCE_MS 500

void stage_view_init(stage_view *view, bool wants_plain, bool is_json, bool is_quiet)
{
    *view = (stage_view){.is_json = is_json, .is_quiet = is_quiet};
    terminal_init(&view->term, stdout, wants_plain);
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static bool is_state(const json_t *stage, const char *state)
{
    return strcmp(text_of(stage, "state"), state) == 0;
}

/* The first that is not done; the number of stages if all are. */
static size_t under_way(const json_t *stages)
{
    size_t i = 0;
    while (i < json_array_size(stages) && is_state(json_array_get(stages, i), "done")) {
        i++;
    }
    return i;
}

bool stage_view_is_over(const json_t *status)
{
    const json_t *stages = json_object_get(status, "stages");
    return json_array_size(stages) > 0 && under_way(stages) == json_array_size(stages);
}

static const char *duration(const json_t *stage, char out[static 32])
{
    double ms = json_number_value(json_object_get(stage, "ms"));
    (void)snprintf(out, 32, ms < 10 ? "%.1f ms" : "%.0f ms", ms);
    if (ms >= 10000) {
        (void)snprintf(out, 32, "%.1f s", ms / 1000);
    }
    return out;
}

static void line_of(const terminal *t, const json_t *stages, size_t i, char *out, size_t size)
{
    const json_t *stage = json_array_get(stages, i);
    char took[32];
    (void)snprintf(out, size, "[%zu/%zu] %s %s %s%s%s", i + 1, json_array_size(stages),
                   text_of(stage, "title"), terminal_ellipsis(t), duration(stage, took),
                   is_state(stage, "failed") ? ": " : "",
                   is_state(stage, "failed") ? text_of(stage, "reason") : "");
}

void stage_view_line(const terminal *term, const json_t *status, char *out, size_t size)
{
    const json_t *stages = json_object_get(status, "stages");
    size_t i = under_way(stages);
    out[0] = '\0';
    if (i < json_array_size(stages)) {
        line_of(term, stages, i, out, size);
    }
}

static void show_json(const json_t *stages, size_t i)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "schema", "meshvpn.up/1", "event", "stage",
                          "number", (json_int_t)i + 1, "of", (json_int_t)json_array_size(stages));
    (void)json_object_update(o, json_array_get(stages, i));
    (void)json_dumpf(o, stdout, JSON_COMPACT);
    (void)putchar('\n');
    (void)fflush(stdout);
    json_decref(o);
}

/* Cut to the width, at a character's beginning: a line that wraps cannot be drawn over. */
static void print_cut(const terminal *t, const char *line)
{
    size_t columns = 0, n = 0;
    while (line[n] != '\0') {
        bool begins = ((unsigned char)line[n] & 0xc0) != 0x80;
        if (begins && ++columns >= t->columns) {
            break;
        }
        n++;
    }
    (void)printf("%.*s", (int)n, line);
}

static void draw(stage_view *view, const json_t *stages, size_t i, bool is_done)
{
    char line[512];
    line_of(&view->term, stages, i, line, sizeof(line));
    if (!view->term.has_escapes) {
        (void)printf("%s\n", line);
    } else {
        const json_t *stage = json_array_get(stages, i);
        enum terminal_style style = is_done                     ? TERMINAL_GREEN
                                    : is_state(stage, "failed") ? TERMINAL_YELLOW
                                                                : TERMINAL_DIM;
        (void)printf("\r\033[K%s", terminal_style_code(&view->term, style));
        if (is_done) { /* nothing is drawn over it */
            (void)fputs(line, stdout);
        } else {
            print_cut(&view->term, line);
        }
        (void)printf("%s%s", terminal_style_code(&view->term, TERMINAL_PLAIN), is_done ? "\n" : "");
        view->has_line = !is_done;
    }
    (void)fflush(stdout);
}

/* Trouble is told once, by who cannot draw over it; not what is over at once. */
static bool is_told(stage_view *view, const json_t *stage)
{
    if (json_number_value(json_object_get(stage, "ms")) < TROUBLE_PATIENCE_MS) {
        return true;
    }
    const char *code = text_of(stage, "code");
    bool is_same = strcmp(view->told, code) == 0;
    (void)snprintf(view->told, sizeof(view->told), "%s", code);
    return is_same;
}

void stage_view_skip(stage_view *view, const json_t *status)
{
    view->done = (unsigned)under_way(json_object_get(status, "stages"));
}

void stage_view_show(stage_view *view, const json_t *status)
{
    const json_t *stages = json_object_get(status, "stages");
    size_t now = under_way(stages);
    if (view->is_quiet) {
        return;
    }
    if (now < view->done) { /* lost again */
        view->done = (unsigned)now;
    }
    for (; view->done < now; view->done++) {
        if (view->is_json) {
            show_json(stages, view->done);
        } else {
            draw(view, stages, view->done, true);
        }
        view->told[0] = '\0';
    }
    const json_t *stage = json_array_get(stages, now);
    if (stage == NULL) {
        return;
    }
    bool is_new = is_state(stage, "failed") && !is_told(view, stage);
    if (view->is_json && is_new) {
        show_json(stages, now);
    } else if (!view->is_json && (view->term.has_escapes || is_new)) {
        draw(view, stages, now, false);
    }
}

void stage_view_end(stage_view *view)
{
    if (view->has_line) {
        (void)putchar('\n');
        (void)fflush(stdout);
        view->has_line = false;
    }
}
