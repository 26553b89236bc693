/*
 * What a client keeps between runs: the view, its guards, entries that worked, what it found
 * out about its clock. Without it a start takes longer and chooses guards anew; nothing else.
 */
#ifndef MVPN_IO_CLIENT_MEMORY_H
#define MVPN_IO_CLIENT_MEMORY_H

#include "base/log.h"
#include "io/node.h"
#include "io/statefile.h"

typedef struct mvpn_client_memory {
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
} mvpn_client_memory;

/** Before the node: read what its configuration needs. */
void mvpn_client_memory_load(mvpn_client_memory *s, const char *dir, const mvpn_log *log,
                             mvpn_engine_config *engine, mvpn_client_config *client);
/** After the node: the view of the last run, and whom to begin with. */
void mvpn_client_memory_fill(mvpn_client_memory *s, mvpn_engine *engine);
/** Something was learned, or an entry worked. */
void mvpn_client_memory_learned(mvpn_client_memory *s, const mvpn_learner_event *event);
/** Write what has changed; `is_end`: all of it, now. */
void mvpn_client_memory_save(mvpn_client_memory *s, mvpn_engine *engine, bool is_end);
void mvpn_client_memory_done(mvpn_client_memory *s);

#endif
