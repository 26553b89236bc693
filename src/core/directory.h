/*
 * The answering side of the directory: List, Fetch, FindValue and Blob from a view, for links and
 * for circuits. (docs/protocol.md §12)
 */
#ifndef MVPN_CORE_DIRECTORY_H
#define MVPN_CORE_DIRECTORY_H

#include "core/view.h"

/* Messages that answer one request at most. */
#define MVPN_DIRECTORY_REPLIES_MAX 64
/* The least room for a reply's body: every fixed part and one item fit. */
#define MVPN_DIRECTORY_ROOM_MIN 64

/** Takes one reply: a command and its body (borrowed during the call). False: no more, please. */
typedef bool mvpn_directory_emit(void *ctx, unsigned command, mvpn_bytes body);

/**
 * Answer one request (command and body as they came). Bodies of replies are at most `room` bytes
 * (MVPN_DIRECTORY_ROOM_MIN or more; a record that does not fit alone counts as not held).
 * Every request gets at least one reply (Error included). Returns how many were emitted.
 */
unsigned mvpn_directory_answer(const mvpn_view *view, unsigned command, mvpn_bytes body,
                               size_t room, uint64_t unix_now, mvpn_directory_emit *emit,
                               void *ctx);

#endif
