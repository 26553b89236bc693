/*
 * Text files of settings (libconfuse's syntax), read by a table: one row per key with its type, its
 * setter, its default and its description. Mistakes are reported as "FILE:LINE: what. How to mend".
 *
 *     # comment
 *     key = value
 *     list = {"a", "b"}
 *
 * An unknown key, a key given twice and a bad value are errors: a setting that is silently not in
 * force is worse than one that stops the start.
 */
#ifndef MVPN_IO_SETTINGS_H
#define MVPN_IO_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/fault.h"

enum mvpn_setting_type {
    MVPN_SETTING_TEXT,
    MVPN_SETTING_LIST, /* of texts; the setter is called once per element */
    MVPN_SETTING_NUMBER,
    MVPN_SETTING_BOOL,
};

typedef struct mvpn_setting_value {
    const char *name; /* of the key */
    const char *text; /* borrowed; NULL for numbers and bools */
    long number;
    bool flag;
    unsigned line; /* where it stands */
} mvpn_setting_value;

typedef struct mvpn_setting {
    const char *name;
    enum mvpn_setting_type type;
    unsigned kinds; /* bit set of the kinds of file in which the key may stand */
    /** Take the value over, or return MVPN_E_CONFIG with the reason and remedy in `why`. */
    int (*set)(void *target, const mvpn_setting_value *value, mvpn_fault *why);
    const char *initial; /* default, for the documentation */
    const char *help;    /* one sentence, for the documentation */
} mvpn_setting;

/* Keys of one table. */
#define MVPN_SETTINGS_MAX 96

/**
 * Read a text and call the setters of the keys in it, in the order of the file.
 *
 * `path`   names the file in faults; nothing is opened.
 * `kind`   the one bit of `mvpn_setting.kinds` that this file is of; `kind_names[i]` names bit i
 *          ("relay", …) for "a key of the client's configuration".
 * Returns 0; MVPN_E_CONFIG with `fault`; MVPN_E_NOMEM. After an error `target` is half filled.
 * Several threads may call it; one waits for the other.
 */
MVPN_WUR int mvpn_settings_parse(const char *path, const char *text, size_t size,
                                 const mvpn_setting *table, size_t count, unsigned kind,
                                 const char *const *kind_names, void *target, mvpn_fault *fault);

/** The key of `table` that `name` most likely means, or NULL. Only those of `kind` (0 = all). */
const char *mvpn_settings_suggest(const mvpn_setting *table, size_t count, unsigned kind,
                                  const char *name);

#endif
