#include "bin/terminal.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COLUMNS 80
#define ROWS 24
/* No window is larger: a wrong answer of a terminal is not believed. */
#define SIZE_MAX_SANE 1000

static unsigned size_or(unsigned size, unsigned otherwise)
{
    return size > 0 && size <= SIZE_MAX_SANE ? size : otherwise;
}

void terminal_decide(const terminal_facts *f, FILE *out, terminal *ret)
{
    bool is_dumb = f->term == NULL || f->term[0] == '\0' || strcmp(f->term, "dumb") == 0;
    bool no_color = f->wants_plain || (f->no_color != NULL && f->no_color[0] != '\0');
    *ret = (terminal){
        .out = out,
        .is_terminal = f->is_terminal,
        .has_escapes = f->is_terminal && !is_dumb && !no_color,
        .is_utf8 = f->codeset != NULL && strcmp(f->codeset, "UTF-8") == 0,
        .columns = size_or(f->columns, COLUMNS),
        .rows = size_or(f->rows, ROWS),
    };
}

void terminal_init(terminal *ret, FILE *out, bool wants_plain)
{
    (void)setlocale(LC_CTYPE, "");
    const terminal_facts facts = {
        .is_terminal = isatty(fileno(out)) == 1,
        .wants_plain = wants_plain,
        .no_color = getenv("NO_COLOR"),
        .term = getenv("TERM"),
        .codeset = nl_langinfo(CODESET),
    };
    terminal_decide(&facts, out, ret);
    terminal_measure(ret);
}

void terminal_measure(terminal *t)
{
    struct winsize size = {0};
    if (t->is_terminal && ioctl(fileno(t->out), TIOCGWINSZ, &size) == 0) {
        t->columns = size_or(size.ws_col, COLUMNS);
        t->rows = size_or(size.ws_row, ROWS);
    }
}

const char *terminal_style_code(const terminal *t, enum terminal_style style)
{
    static const char *const codes[] = {
        [TERMINAL_PLAIN] = "\033[0m",  [TERMINAL_BOLD] = "\033[1m",    [TERMINAL_DIM] = "\033[2m",
        [TERMINAL_GREEN] = "\033[32m", [TERMINAL_YELLOW] = "\033[33m", [TERMINAL_RED] = "\033[31m",
    };
    return t->has_escapes ? codes[style] : "";
}

const char *terminal_mark(const terminal *t, bool is_good)
{
    if (t->is_utf8) {
        return is_good ? "\u2713" : "\u2717";
    }
    return is_good ? "ok" : "NO";
}

const char *terminal_ellipsis(const terminal *t)
{
    return t->is_utf8 ? "\u2026" : "...";
}
