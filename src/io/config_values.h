/*
 * The keys of the configuration files, as tables: what each accepts, its default, its sentence in
 * docs/configuration.md, and the function that takes its value. This is what the tables share.
 */
#ifndef MVPN_IO_CONFIG_VALUES_H
#define MVPN_IO_CONFIG_VALUES_H

#include "base/macros.h"
#include "io/config.h"
#include "io/settings.h"

/* Whose key it is. */
#define RELAY MVPN_CONFIG_RELAY
#define EXIT MVPN_CONFIG_EXIT
#define CLIENT MVPN_CONFIG_CLIENT
#define DISCOVERY MVPN_CONFIG_DISCOVERY
#define RELAYS (RELAY | EXIT)
#define NODE (RELAYS | MVPN_CONFIG_BOOTSTRAP | DISCOVERY)
#define ALL (NODE | CLIENT)

#define TEXT MVPN_SETTING_TEXT
#define LIST MVPN_SETTING_LIST
#define NUMBER MVPN_SETTING_NUMBER
#define BOOL MVPN_SETTING_BOOL

typedef struct mvpn_config_table {
    const mvpn_setting *at;
    size_t count;
} mvpn_config_table;

extern const mvpn_config_table mvpn_config_node_table;   /* of more than one program */
extern const mvpn_config_table mvpn_config_exit_table;   /* of exits alone */
extern const mvpn_config_table mvpn_config_client_table; /* of clients alone */

/* ---- for functions that take a value; each returns 0 or MVPN_E_CONFIG with `why` ---- */

int mvpn_config_bad(mvpn_fault *why, const char *text);
/** Of `size` bytes with its zero, and not empty. */
int mvpn_config_set_path(char *out, size_t size, const mvpn_setting_value *v, mvpn_fault *why);

typedef struct mvpn_config_word {
    const char *text; /* NULL: behind the last one */
    int value;
} mvpn_config_word;

/** One of these words. */
int mvpn_config_set_word(int *out, const mvpn_config_word *words, const mvpn_setting_value *v,
                         mvpn_fault *why);
/** From `min` to `max`. */
int mvpn_config_set_number(uint32_t *out, const mvpn_setting_value *v, long min, long max,
                           mvpn_fault *why);

/* ---- setters that take a value as it is: their name, and the field of mvpn_config ---- */

#define PATH_SETTER(name, field)                                                                   \
    static int name(void *target, const mvpn_setting_value *v, mvpn_fault *why)                    \
    {                                                                                              \
        mvpn_config *c = target;                                                                   \
        return mvpn_config_set_path(c->field, sizeof(c->field), v, why);                           \
    }
#define NUMBER_SETTER(name, field, min, max)                                                       \
    static int name(void *target, const mvpn_setting_value *v, mvpn_fault *why)                    \
    {                                                                                              \
        return mvpn_config_set_number(&((mvpn_config *)target)->field, v, min, max, why);          \
    }
#define FLAG_SETTER(name, field)                                                                   \
    static int name(void *target, const mvpn_setting_value *v, mvpn_fault *why)                    \
    {                                                                                              \
        (void)why;                                                                                 \
        ((mvpn_config *)target)->field = v->flag;                                                  \
        return 0;                                                                                  \
    }

#endif
