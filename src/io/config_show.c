#include "io/config_show.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "io/config_files.h"

/* The value of each key that is in the files, and where (the first of) it stands. */
typedef struct record {
    mvpn_setting table[MVPN_SETTINGS_MAX];
    size_t count;
    json_t *values[MVPN_SETTINGS_MAX];
    mvpn_config_origin origins[MVPN_SETTINGS_MAX];
} record;

static void forget(record *r)
{
    for (size_t i = 0; i < r->count; i++) {
        json_decref(r->values[i]);
    }
}

static size_t index_of(const record *r, const char *name)
{
    size_t i = 0;
    while (strcmp(r->table[i].name, name) != 0) {
        i++;
        MVPN_ASSERT(i < r->count);
    }
    return i;
}

static int take(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    record *r = target;
    size_t i = index_of(r, v->name);
    (void)why;
    switch (r->table[i].type) {
    case MVPN_SETTING_LIST:
        r->values[i] = r->values[i] != NULL ? r->values[i] : json_array();
        (void)json_array_append_new(r->values[i], json_string(v->text));
        break;
    case MVPN_SETTING_TEXT:
        r->values[i] = json_string(v->text);
        break;
    case MVPN_SETTING_NUMBER:
        r->values[i] = json_integer(v->number);
        break;
    case MVPN_SETTING_BOOL:
        r->values[i] = json_boolean(v->flag);
        break;
    }
    return 0;
}

/* Length of the kind that a part of a default is for ("client: mvpn0"); 0: for no kind by name. */
static size_t kind_prefix(const char *part)
{
    size_t len = strcspn(part, ": ;");
    for (unsigned bit = 0; bit < MVPN_CONFIG_KINDS && part[len] == ':'; bit++) {
        const char *name = mvpn_config_kind_name((enum mvpn_config_kind)(1u << bit));
        if (strlen(name) == len && strncmp(part, name, len) == 0) {
            return len;
        }
    }
    return 0;
}

/* The table says "exit: mvpnexit0; client: mvpn0" of keys whose default depends on the program: the
 * part that is for this one, else the part for no program by name. */
static json_t *default_for(const char *initial, enum mvpn_config_kind kind)
{
    const char *own = mvpn_config_kind_name(kind), *general = NULL;
    bool has_kinds = false;
    for (const char *part = initial; *part != '\0';) {
        size_t len = strcspn(part, ";"), prefix = kind_prefix(part);
        if (prefix == strlen(own) && strncmp(part, own, prefix) == 0) {
            size_t skip = prefix + 1 + strspn(part + prefix + 1, " ");
            return json_stringn(part + skip, len - skip);
        }
        has_kinds |= prefix > 0;
        general = general == NULL && prefix == 0 ? part : general;
        part += len;
        part += strspn(part, "; ");
    }
    return has_kinds && general != NULL ? json_stringn(general, strcspn(general, ";"))
                                        : json_string(initial);
}

static json_t *describe(const record *r, const mvpn_config_files *files, enum mvpn_config_kind kind,
                        bool has_defaults)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->count; i++) {
        const mvpn_setting *s = &r->table[i];
        if ((s->kinds & (unsigned)kind) == 0 || (r->values[i] == NULL && !has_defaults)) {
            continue;
        }
        json_t *o = json_object();
        (void)json_object_set_new(o, "key", json_string(s->name));
        (void)json_object_set(o, "value", r->values[i] != NULL ? r->values[i] : json_null());
        const mvpn_config_origin *at = &r->origins[i];
        (void)json_object_set_new(o, "line", at->line != 0 ? json_integer(at->line) : json_null());
        (void)json_object_set_new(
            o, "file", at->line != 0 ? json_string(files->file[at->file].path) : json_null());
        (void)json_object_set_new(o, "default", default_for(s->initial, kind));
        (void)json_array_append_new(list, o);
    }
    return list;
}

static int read_values(const mvpn_config_files *files, enum mvpn_config_kind kind, record *r,
                       mvpn_fault *fault)
{
    mvpn_setting recorders[MVPN_SETTINGS_MAX];
    record checks = *r;
    for (size_t i = 0; i < r->count; i++) {
        recorders[i] = r->table[i];
        recorders[i].set = take;
    }
    int rc =
        mvpn_config_files_parse(files, kind, recorders, r->count, r, &checks, r->origins, fault);
    forget(&checks);
    return rc;
}

int mvpn_config_show(const char *path, enum mvpn_config_kind kind, bool has_defaults, json_t **ret,
                     mvpn_fault *fault)
{
    mvpn_config *config = malloc(sizeof(*config)); /* 50 KB */
    mvpn_config_files files = {.count = 0};
    record r = {.count = 0};
    r.count = mvpn_config_settings(r.table);
    if (config == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    int rc = mvpn_config_files_read(path, &files, fault);
    rc = rc != 0 ? rc : mvpn_config_from_files(&files, kind, config, fault);
    rc = rc != 0 ? rc : read_values(&files, kind, &r, fault);
    free(config);
    if (rc == 0) {
        *ret = json_pack("{s:s, s:s, s:s, s:o}", "schema", "meshvpn.config/1", "kind",
                         mvpn_config_kind_name(kind), "file", path, "settings",
                         describe(&r, &files, kind, has_defaults));
        rc = *ret != NULL ? 0 : mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    forget(&r);
    mvpn_config_files_done(&files);
    return rc;
}
