/*
 * One key of a configuration's text changed in place: comments, order and every other byte stay.
 * Pure; what comes out must still be parsed before it is written, since a value may be wrong.
 */
#ifndef MVPN_IO_CONFIG_EDIT_H
#define MVPN_IO_CONFIG_EDIT_H

#include <stdbool.h>
#include <stddef.h>

#include "io/settings.h"

/* A list of addresses or rules; the value of one line. */
#define MVPN_CONFIG_VALUE_MAX 8192

/**
 * The words of a person as a value of a file: "a,b" or "{a, b}" for a list, texts in quotes.
 * False if it does not fit, or holds what no text of a file can (line ends, "${").
 */
bool mvpn_config_value_of(enum mvpn_setting_type type, const char *words,
                          char out[static MVPN_CONFIG_VALUE_MAX]);

/**
 * Give `key` the `value`, written as in a file; NULL takes the key out. Without it a line is added
 * at the end. Returns the new text (a string for free(), `*ret_size` bytes), or NULL: no memory.
 * `*ret_line` is where the key stands, or stood; 0: nowhere.
 */
char *mvpn_config_edit(const char *text, size_t size, const char *key, const char *value,
                       size_t *ret_size, unsigned *ret_line);

#endif
