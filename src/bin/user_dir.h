/*
 * Where programs without root keep their state and their control socket.
 */
#ifndef MVPN_BIN_USER_DIR_H
#define MVPN_BIN_USER_DIR_H

#include <limits.h>
#include <stdbool.h>

/** $XDG_STATE_HOME/meshvpn, or $HOME/.local/state/meshvpn; false if there is neither. */
bool user_dir_find(char out[static PATH_MAX]);
/** Make what is missing of the directories above `path`, for their owner alone. Whoever then uses
 * it says if that failed. */
void user_dir_make_parents(const char *path);

#endif
