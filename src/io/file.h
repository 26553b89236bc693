/*
 * Files: read whole with a limit, written so that a crash leaves the old or the new content.
 */
#ifndef MVPN_IO_FILE_H
#define MVPN_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "io/fault.h"

/**
 * Read a regular file of at most `size_max` bytes. On success `*ret` (`*ret_size` bytes and one
 * zero byte more, so that text is a string) is the caller's, to be freed with mvpn_file_free.
 *
 * `is_secret`: refuse a file that others than its owner may read or that is not ours or root's.
 * Returns 0; MVPN_E_UNKNOWN if there is no such file; MVPN_E_CONFIG if it is too open, too big or
 * not a regular file; MVPN_E_SYSTEM; MVPN_E_NOMEM. `fault` names the remedy.
 */
MVPN_WUR int mvpn_file_read(const char *path, size_t size_max, bool is_secret, uint8_t **ret,
                            size_t *ret_size, mvpn_fault *fault);

/**
 * From now on files directly in `dir` are reached by a descriptor of it: also when this process may
 * not search the directories above it any more (io/sandbox.h). For the whole process; forgotten at
 * its end. Returns a descriptor, owned by this module; -1 if there is no such directory, or too
 * many are pinned.
 */
int mvpn_file_pin_dir(const char *dir);

/** Secrets may belong to `uid`, beside root and ourselves: the user that this program becomes. */
void mvpn_file_trust_owner(uid_t uid);

/** Wipe and free what mvpn_file_read gave. NULL is allowed. */
void mvpn_file_free(uint8_t *content, size_t size);

/**
 * Replace `path` with `size` bytes and permissions `mode` (0600 for secrets; the umask is not
 * applied): a temporary file beside it is written, synced and renamed, then the directory is
 * synced. MVPN_E_SYSTEM; the old file is whole then.
 */
MVPN_WUR int mvpn_file_write(const char *path, const void *content, size_t size, mode_t mode,
                             mvpn_fault *fault);

/** As mvpn_file_write, but a file that is there keeps its owner and its permissions. */
MVPN_WUR int mvpn_file_replace(const char *path, const void *content, size_t size, mode_t mode,
                               mvpn_fault *fault);

/** Make a directory if it is not there (its parent must be). MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_file_make_dir(const char *path, mode_t mode, mvpn_fault *fault);

#endif
