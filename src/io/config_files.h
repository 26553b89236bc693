/*
 * A configuration as the files that it is made of: FILE itself, then the files *.conf of FILE.d in
 * the order of their names. What a later file says of a key stands for what an earlier one said,
 * lists as a whole; an empty list says nothing.
 */
#ifndef MVPN_IO_CONFIG_FILES_H
#define MVPN_IO_CONFIG_FILES_H

#include "io/config.h"

/* FILE and the parts of it that somebody still has an overview of. */
#define MVPN_CONFIG_FILES_MAX 33

typedef struct mvpn_config_file {
    char path[PATH_MAX];
    uint8_t *content; /* with a zero behind it */
    size_t size;
} mvpn_config_file;

typedef struct mvpn_config_files {
    unsigned count;
    mvpn_config_file *file; /* MVPN_CONFIG_FILES_MAX */
} mvpn_config_files;

/** Where a value comes from. */
typedef struct mvpn_config_origin {
    unsigned file; /* index of mvpn_config_files */
    unsigned line; /* 0: no file says it */
} mvpn_config_origin;

/**
 * Read all of them. MVPN_E_UNKNOWN if there is no FILE; MVPN_E_CONFIG (too many, too big),
 * MVPN_E_SYSTEM, MVPN_E_NOMEM. Free with mvpn_config_files_done.
 */
MVPN_WUR int mvpn_config_files_read(const char *path, mvpn_config_files *ret, mvpn_fault *fault);
/** A text in place of the files. `content` is taken, also after a failure. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_config_files_of(const char *path, uint8_t *content, size_t size,
                                  mvpn_config_files *ret, mvpn_fault *fault);
/** Wipe and free; a zeroed one too. */
void mvpn_config_files_done(mvpn_config_files *files);

/**
 * Call the setters of `table` (of mvpn_config_settings, or with other setters) in the order of the
 * files, for each key only as the last file says it. Each file is checked whole: `checks` is where
 * values go that do not count. `ret_origins`, which may be NULL, has an element for each row.
 * Errors as mvpn_settings_parse.
 */
MVPN_WUR int mvpn_config_files_parse(const mvpn_config_files *files, enum mvpn_config_kind kind,
                                     const mvpn_setting *table, size_t count, void *target,
                                     void *checks, mvpn_config_origin *ret_origins,
                                     mvpn_fault *fault);

/** The configuration that files say: mvpn_config_load without the reading. Its errors. */
MVPN_WUR int mvpn_config_from_files(const mvpn_config_files *files, enum mvpn_config_kind kind,
                                    mvpn_config *ret, mvpn_fault *fault);

#endif
