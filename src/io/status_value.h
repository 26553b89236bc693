/*
 * Values of a status object: what is empty, or was not measured, is null.
 */
#ifndef MVPN_IO_STATUS_VALUE_H
#define MVPN_IO_STATUS_VALUE_H

#include <stdint.h>

#include <jansson.h>

static inline void set_text(json_t *o, const char *key, const char *text)
{
    (void)json_object_set_new(o, key, text[0] == '\0' ? json_null() : json_string(text));
}

static inline void set_number(json_t *o, const char *key, uint64_t n)
{
    (void)json_object_set_new(o, key, json_integer((json_int_t)n));
}

static inline void set_ms(json_t *o, const char *key, uint64_t us)
{
    (void)json_object_set_new(o, key, us == 0 ? json_null() : json_real((double)us / 1000.0));
}

#endif
