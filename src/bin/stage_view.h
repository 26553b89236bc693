/*
 * The stages of a client that connects, for people and for programs: one line each, redrawn while
 * it lasts on a terminal that can; JSON lines (schema meshvpn.up/1).
 */
#ifndef MVPN_BIN_STAGE_VIEW_H
#define MVPN_BIN_STAGE_VIEW_H

#include <jansson.h>

#include "bin/terminal.h"

/* More than a client has. */
#define STAGE_VIEW_MAX 16

typedef struct stage_view {
    terminal term;
    bool is_json, is_quiet;
    unsigned done; /* stages whose end was shown */
    bool has_line; /* an unfinished line stands there, to be drawn over */
    char told[32]; /* code of the trouble that was shown of the one under way */
} stage_view;

void stage_view_init(stage_view *view, bool wants_plain, bool is_json, bool is_quiet);

/** What is done by now was shown to whoever was there: show only what comes. */
void stage_view_skip(stage_view *view, const json_t *status);
/** Show what is new in the "stages" of a status. */
void stage_view_show(stage_view *view, const json_t *status);
/** Leave the last line as it is: others write now. */
void stage_view_end(stage_view *view);

/** "[3/6] guard handshake … 38 ms": of the stage under way, or "" when all are done. */
void stage_view_line(const terminal *term, const json_t *status, char *out, size_t size);

/** Have all stages been reached? */
bool stage_view_is_over(const json_t *status);

#endif
