/*
 * The control socket: a Unix stream socket on which local programs ask the daemon. One request is
 * one line of JSON, {"cmd":"status"}; so is the reply. Reading is for whoever may open the socket
 * (0660, its group); the uid of the asker comes along for commands that change something.
 */
#ifndef MVPN_IO_CONTROL_H
#define MVPN_IO_CONTROL_H

#include <jansson.h>
#include <sys/types.h>

#include "io/fault.h"
#include "io/loop.h"

/* People and dashboards of one machine; more are turned away. */
#define MVPN_CONTROL_CLIENTS 16
/* Who was quiet for so long gives its place to others when all are taken. */
#define MVPN_CONTROL_QUIET MVPN_S(1)
/* Longest request: a command and a few words. */
#define MVPN_CONTROL_REQUEST 4096
/* Longest reply: a status with all its relays; a bigger one becomes an error. */
#define MVPN_CONTROL_REPLY (1u << 20)

typedef struct mvpn_control mvpn_control;

/**
 * Answer one request. `request` is an object with a string "cmd"; borrowed. `uid` is the asker's by
 * SO_PEERCRED. Fill `reply`, an empty object. Returns 0, or MVPN_E_UNKNOWN for an unknown command
 * or any other code: then the reply is {"error":text}, the text being `reply`'s own "error" if it
 * set one.
 */
typedef int mvpn_control_fn(void *ctx, const json_t *request, uid_t uid, json_t *reply);

/** The reply to one line without its end, the caller's; NULL: no memory. */
json_t *mvpn_control_answer(mvpn_control_fn *fn, void *ctx, uid_t uid, const char *line,
                            size_t len);

/**
 * Listen at `path` (mode 0660). A socket left there by a dead daemon is replaced, one that answers
 * is not. MVPN_E_CONFIG: another daemon runs, or the path cannot be used; MVPN_E_NOMEM;
 * MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_control_open(mvpn_control **ret, mvpn_loop *loop, const char *path,
                               mvpn_control_fn *fn, void *ctx, mvpn_fault *fault);
/** Hang up on all, and remove the socket. Before mvpn_loop_free. NULL is allowed. */
void mvpn_control_close(mvpn_control *control);

/** Inside of mvpn_control_fn: the connection of who asks, for SO_PEERCRED; else -1. Borrowed. */
int mvpn_control_asker(const mvpn_control *control);

/**
 * The other side: send `request` to the daemon at `path` and wait at most `timeout_ms` for its
 * reply, which is the caller's (json_decref). MVPN_E_CLOSED: no daemon runs there; MVPN_E_TIMEOUT;
 * MVPN_E_PROTOCOL: that is no reply; MVPN_E_SYSTEM (EACCES: not in the group).
 */
MVPN_WUR int mvpn_control_ask(const char *path, const json_t *request, unsigned timeout_ms,
                              json_t **ret, mvpn_fault *fault);

#endif
