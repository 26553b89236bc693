/*
 * What meshvpn-client keeps between runs: the view, its guards, entries that worked, what it found
 * out about its clock. Without it a start takes longer and chooses guards anew; nothing else.
 */
#ifndef MVPN_BIN_CLIENT_STATE_H
#define MVPN_BIN_CLIENT_STATE_H

#include "base/log.h"
#include "io/node.h"
#include "io/statefile.h"

typedef struct client_state {
    const char *dir;
    const mvpn_log *log; /* borrowed, as `dir` */
    bool is_there;       /* the directory can be written */
    uint8_t *guards;     /* as loaded */
    size_t guards_size;
    mvpn_state_entries entries;
    bool entries_changed, view_changed;
    uint32_t guards_saved; /* generation */
    int64_t clock_saved_s;
    uint64_t view_saved; /* Unix seconds */
} client_state;

/** Before the node: read what its configuration needs. */
void client_state_load(client_state *s, const char *dir, const mvpn_log *log,
                       mvpn_engine_config *engine, mvpn_client_config *client);
/** After the node: the view of the last run, and whom to begin with. */
void client_state_fill(client_state *s, mvpn_engine *engine);
/** Something was learned, or an entry worked. */
void client_state_learned(client_state *s, const mvpn_learner_event *event);
/** Write what has changed; `is_end`: all of it, now. */
void client_state_save(client_state *s, mvpn_engine *engine, bool is_end);
void client_state_done(client_state *s);

#endif
