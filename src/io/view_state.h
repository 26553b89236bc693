/*
 * The view on disk, of clients and of nodes alike: whoever restarts knows whom it knew, and needs
 * no bootstrap node.
 */
#ifndef MVPN_IO_VIEW_STATE_H
#define MVPN_IO_VIEW_STATE_H

#include "base/log.h"
#include "core/engine.h"

/** Load the view of the last run; says what was lost. Returns how many records were taken. */
size_t mvpn_view_state_load(const char *dir, mvpn_engine *engine, const mvpn_log *log);
/** Save it; says why if that fails. */
void mvpn_view_state_save(const char *dir, mvpn_engine *engine, const mvpn_log *log);

#endif
