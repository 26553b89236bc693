/*
 * What meshvpn top draws: a frame of characters made from the daemon's answers, for a screen of any
 * size. Pure: the screen itself is top.c's.
 */
#ifndef MVPN_BIN_TOP_VIEW_H
#define MVPN_BIN_TOP_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Smaller screens are told that they are too small. */
#define TOP_COLUMNS_MIN 60
#define TOP_ROWS_MIN 16
/* Larger ones are used up to here; the rest stays empty. */
#define TOP_COLUMNS_MAX 300
#define TOP_ROWS_MAX 100

enum top_style {
    TOP_PLAIN,
    TOP_BOLD,
    TOP_DIM,
    TOP_GOOD,
    TOP_WARN,
    TOP_BAD,
    TOP_DOWN, /* the graphs */
    TOP_UP,
    TOP_SELECTED,
};

typedef struct top_cell {
    uint32_t code; /* a character of Unicode, one column wide; 0: the cell is empty */
    uint8_t style; /* enum top_style */
} top_cell;

typedef struct top_frame {
    unsigned columns, rows; /* at most the maxima above */
    top_cell cell[TOP_ROWS_MAX][TOP_COLUMNS_MAX];
} top_frame;

/* A rate for each second; more than the widest graph. */
#define TOP_HISTORY TOP_COLUMNS_MAX

typedef struct top_history {
    size_t count; /* ever */
    double down[TOP_HISTORY], up[TOP_HISTORY];
    bool has_last; /* the counters of the last answer */
    double last_down, last_up, last_at;
} top_history;

/** Counters as they are at time `at` (seconds): a rate in bits per second follows from the second
 * on. Counters that fell belong to another run: they count from there. */
void top_history_add(top_history *history, double bytes_down, double bytes_up, double at);
/** The daemon does not answer: nothing flows that is known. */
void top_history_gap(top_history *history);

/** The end of the axis: 1, 2 or 5 times a power of ten, at least `value` and 1 kbit/s. */
double top_scale(double value);
/** How full a bar of `rows` rows is, in eighths of a row; what flows at all shows one. */
unsigned top_bar(double value, double scale, unsigned rows);

typedef struct top_model {
    const json_t *status, *circuits, *events; /* the daemon's answers; NULL: none yet */
    const top_history *history;
    const char *notice; /* of the last line, instead of the keys; NULL: none */
    const char *absent; /* why the daemon does not answer; NULL: it does */
    const char *clock;  /* "14:03:22" */
    bool is_paused, is_utf8;
    unsigned selected; /* row of the circuits, from 0 */
    long utc_offset_s; /* of the times of events */
} top_model;

/** Fill the frame, whose size is set. */
void top_draw(top_frame *frame, const top_model *model);

#endif
