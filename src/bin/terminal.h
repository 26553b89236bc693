/*
 * What may be written to an output: escape codes, characters beyond ASCII, how wide. Off a terminal
 * everything is plain: no colour, no line that is written over.
 *
 * Colour and redrawing need a terminal whose TERM is not "dumb"; NO_COLOR (no-color.org) and
 * --no-color take both away, as somebody who wants no escape codes wants none at all.
 */
#ifndef MVPN_BIN_TERMINAL_H
#define MVPN_BIN_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

/* What it is decided from. */
typedef struct terminal_facts {
    bool is_terminal;
    bool wants_plain;     /* --no-color */
    const char *no_color; /* the environment's; NULL: not set. Empty counts as not set */
    const char *term;     /* TERM, or NULL */
    const char *codeset;  /* of the locale: "UTF-8" */
    unsigned columns;     /* 0: not known */
    unsigned rows;
} terminal_facts;

typedef struct terminal {
    FILE *out;
    bool is_terminal;
    bool has_escapes; /* colour, and lines that are written over */
    bool is_utf8;
    unsigned columns, rows; /* 80 x 24 where not known */
} terminal;

enum terminal_style {
    TERMINAL_PLAIN, /* ends the others */
    TERMINAL_BOLD,
    TERMINAL_DIM,
    TERMINAL_GREEN,
    TERMINAL_YELLOW,
    TERMINAL_RED,
};

void terminal_decide(const terminal_facts *facts, FILE *out, terminal *ret);
/** Look at `out`, the environment and the locale, which is set from it (LC_CTYPE). */
void terminal_init(terminal *ret, FILE *out, bool wants_plain);
/** Its size again, which may have changed. */
void terminal_measure(terminal *t);

/** The escape code of a style; "" where none may be written. */
const char *terminal_style_code(const terminal *t, enum terminal_style style);
/** A tick or a cross; "ok" or "NO" in ASCII. */
const char *terminal_mark(const terminal *t, bool is_good);
/** An ellipsis; "..." in ASCII. */
const char *terminal_ellipsis(const terminal *t);

#endif
