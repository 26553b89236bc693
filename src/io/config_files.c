#include "io/config_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "io/file.h"

/* ---- reading ---- */

static int begin(mvpn_config_files *ret, mvpn_fault *fault)
{
    *ret = (mvpn_config_files){.count = 0};
    ret->file = calloc(MVPN_CONFIG_FILES_MAX, sizeof(*ret->file));
    return ret->file != NULL
               ? 0
               : mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to read the configuration");
}

static int add(mvpn_config_files *files, const char *path, mvpn_fault *fault)
{
    mvpn_config_file *f = &files->file[files->count];
    int rc = mvpn_file_read(path, MVPN_CONFIG_SIZE_MAX, false, &f->content, &f->size, fault);
    if (rc == 0) {
        (void)snprintf(f->path, sizeof(f->path), "%s", path);
        files->count++;
    }
    return rc;
}

/* Hidden files and those that an editor or dpkg left are no parts. */
static int is_part(const struct dirent *e)
{
    size_t len = strlen(e->d_name);
    return e->d_name[0] != '.' && len > 5 && strcmp(e->d_name + len - 5, ".conf") == 0;
}

/* In the order of bytes, whatever the locale: the same everywhere. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_parts(mvpn_config_files *files, const char *path, mvpn_fault *fault)
{
    char dir[PATH_MAX], part[PATH_MAX];
    struct dirent **list = NULL;
    int rc = 0;
    if (snprintf(dir, sizeof(dir), "%s.d", path) >= (int)sizeof(dir)) {
        return 0; /* no such directory can be */
    }
    int count = scandir(dir, &list, is_part, by_name);
    if (count < 0) {
        return errno == ENOENT || errno == ENOTDIR
                   ? 0
                   : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot read %s", dir);
    }
    if (count >= MVPN_CONFIG_FILES_MAX) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG, "%.300s holds %d files; at most %d are read", dir,
                            count, MVPN_CONFIG_FILES_MAX - 1);
    }
    for (int i = 0; i < count; i++) {
        if (rc == 0 &&
            snprintf(part, sizeof(part), "%s/%s", dir, list[i]->d_name) >= (int)sizeof(part)) {
            rc =
                mvpn_fault_set(fault, MVPN_E_CONFIG, "%.300s: the path of a file is too long", dir);
        }
        rc = rc != 0 ? rc : add(files, part, fault);
        free(list[i]);
    }
    free(list);
    return rc;
}

int mvpn_config_files_read(const char *path, mvpn_config_files *ret, mvpn_fault *fault)
{
    int rc = begin(ret, fault);
    rc = rc != 0 ? rc : add(ret, path, fault);
    rc = rc != 0 ? rc : add_parts(ret, path, fault);
    if (rc != 0) {
        mvpn_config_files_done(ret);
    }
    return rc;
}

int mvpn_config_files_of(const char *path, uint8_t *content, size_t size, mvpn_config_files *ret,
                         mvpn_fault *fault)
{
    int rc = begin(ret, fault);
    if (rc != 0) {
        mvpn_file_free(content, size);
        return rc;
    }
    ret->count = 1;
    ret->file[0].content = content;
    ret->file[0].size = size;
    (void)snprintf(ret->file[0].path, sizeof(ret->file[0].path), "%s", path);
    return 0;
}

void mvpn_config_files_done(mvpn_config_files *files)
{
    for (unsigned i = 0; i < files->count; i++) {
        mvpn_file_free(files->file[i].content, files->file[i].size);
    }
    free(files->file);
    *files = (mvpn_config_files){.count = 0};
}

/* ---- parsing ---- */

/* The target of all setters: one file after the other. */
typedef struct merge {
    const mvpn_setting *table;
    size_t count;
    mvpn_config_origin origins[MVPN_SETTINGS_MAX];
    unsigned file; /* that is being read */
    void *target, *checks;
} merge;

static size_t index_of(const merge *m, const char *name)
{
    size_t i = 0;
    while (strcmp(m->table[i].name, name) != 0) {
        i++;
        MVPN_ASSERT(i < m->count);
    }
    return i;
}

static int note(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    merge *m = target;
    mvpn_config_origin *o = &m->origins[index_of(m, v->name)];
    (void)why;
    if (o->line == 0 || o->file != m->file) {
        *o = (mvpn_config_origin){.file = m->file, .line = v->line};
    }
    return 0;
}

static int take(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    merge *m = target;
    size_t i = index_of(m, v->name);
    return m->table[i].set(m->origins[i].file == m->file ? m->target : m->checks, v, why);
}

/* Of a file that stands alone: mistakes are told in the order of its lines. */
static int note_and_take(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)note(target, v, why);
    return take(target, v, why);
}

static int each_file(const mvpn_config_files *files, enum mvpn_config_kind kind, merge *m,
                     int (*set)(void *, const mvpn_setting_value *, mvpn_fault *),
                     mvpn_fault *fault)
{
    const char *names[MVPN_CONFIG_KINDS];
    mvpn_setting rows[MVPN_SETTINGS_MAX];
    int rc = 0;
    MVPN_ASSERT(m->count <= MVPN_SETTINGS_MAX);
    for (unsigned bit = 0; bit < MVPN_CONFIG_KINDS; bit++) {
        names[bit] = mvpn_config_kind_name((enum mvpn_config_kind)(1u << bit));
    }
    for (size_t i = 0; i < m->count; i++) {
        rows[i] = m->table[i];
        rows[i].set = set;
    }
    for (m->file = 0; rc == 0 && m->file < files->count; m->file++) {
        const mvpn_config_file *f = &files->file[m->file];
        rc = mvpn_settings_parse(f->path, (const char *)f->content, f->size, rows, m->count,
                                 (unsigned)kind, names, m, fault);
    }
    return rc;
}

int mvpn_config_files_parse(const mvpn_config_files *files, enum mvpn_config_kind kind,
                            const mvpn_setting *table, size_t count, void *target, void *checks,
                            mvpn_config_origin *ret_origins, mvpn_fault *fault)
{
    merge m = {.table = table, .count = count, .target = target, .checks = checks};
    bool is_alone = files->count == 1;
    int rc = each_file(files, kind, &m, is_alone ? note_and_take : note, fault);
    rc = rc != 0 || is_alone ? rc : each_file(files, kind, &m, take, fault);
    if (rc == 0 && ret_origins != NULL) {
        memcpy(ret_origins, m.origins, count * sizeof(*ret_origins));
    }
    return rc;
}
