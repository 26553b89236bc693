#include "io/settings.h"

#include <confuse.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/word.h"

struct parse {
    const char *path;
    const mvpn_setting *table;
    size_t count;
    unsigned kind;
    const char *const *kind_names;
    void *target;
    mvpn_fault *fault;
    struct seen {
        unsigned line;  /* where the key was given first; 0 = not yet */
        unsigned count; /* elements taken over */
        uint32_t hash;  /* of the last one */
    } seen[MVPN_SETTINGS_MAX];
    bool has_fault;
};

/* libconfuse's scanner has one state per process: one text at a time, whichever thread reads it.
 * Its callbacks carry no context: `current` is set while the lock is held only. */
static pthread_mutex_t scanner = PTHREAD_MUTEX_INITIALIZER;
static struct parse *current;

/* --- did you mean --- */

static size_t common_prefix(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] != '\0' && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* "dns" for "dns_upstream": what was typed is a whole word of the key, or the reverse. */
static bool is_part(const char *name, const char *key)
{
    size_t len = strlen(name);
    const char *at = strstr(key, name);
    return len >= 3 && at != NULL && (at == key || at[-1] == '_') &&
           (at[len] == '\0' || at[len] == '_');
}

const char *mvpn_settings_suggest(const mvpn_setting *table, size_t count, unsigned kind,
                                  const char *name)
{
    const char *best = NULL;
    size_t best_distance = strlen(name) <= 4 ? 2 : 3; /* must be below */
    for (size_t i = 0; i < count; i++) {
        if (kind != 0 && (table[i].kinds & kind) == 0) {
            continue;
        }
        size_t d = mvpn_word_distance(name, table[i].name);
        if (is_part(name, table[i].name) || is_part(table[i].name, name)) {
            d = MVPN_MIN(d, 1u);
        }
        bool is_nearer =
            d < best_distance || (best != NULL && d == best_distance &&
                                  common_prefix(name, table[i].name) > common_prefix(name, best));
        if (is_nearer) {
            best = table[i].name;
            best_distance = d;
        }
    }
    return best;
}

/* --- faults --- */

/* The first fault is the cause; later ones follow from it. */
static void report(const char *path, int line, const char *text)
{
    if (current->has_fault) {
        return;
    }
    current->has_fault = true;
    if (line > 0) {
        (void)mvpn_fault_set(current->fault, MVPN_E_CONFIG, "%s:%d: %s", path, line, text);
    } else {
        (void)mvpn_fault_set(current->fault, MVPN_E_CONFIG, "%s: %s", path, text);
    }
}

static const mvpn_setting *find(const char *name)
{
    for (size_t i = 0; i < current->count; i++) {
        if (strcmp(current->table[i].name, name) == 0) {
            return &current->table[i];
        }
    }
    return NULL;
}

static void report_unknown(int line, const char *name)
{
    mvpn_fault f;
    const mvpn_setting *elsewhere = find(name);
    const char *near = mvpn_settings_suggest(current->table, current->count, current->kind, name);
    if (elsewhere != NULL) {
        unsigned bit = 0;
        while ((elsewhere->kinds >> bit & 1) == 0) {
            bit++;
        }
        (void)mvpn_fault_set(&f, 0, "'%.40s' is a key of the %s's configuration. Remove the line",
                             name, current->kind_names[bit]);
    } else if (near != NULL) {
        (void)mvpn_fault_set(&f, 0, "unknown key '%.40s'. Did you mean '%s'?", name, near);
    } else {
        (void)mvpn_fault_set(&f, 0, "unknown key '%.40s'. Remove it or mend its spelling", name);
    }
    report(current->path, line, f.text);
}

/* libconfuse's error function. Its first argument says which complaint it is. */
static void on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
    char text[256];
    if (strncmp(fmt, "no such option", 14) == 0) {
        va_list copy;
        va_copy(copy, ap);
        const char *name = va_arg(copy, const char *);
        report_unknown(cfg->line, name);
        va_end(copy);
        return;
    }
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    if (strstr(text, "premature end of file") != NULL) {
        report(current->path, cfg->line,
               "the file ends inside a value. Close the \"quotes\" or the {list}");
        return;
    }
    if (strncmp(text, "unexpected token", 16) == 0) {
        char longer[384];
        (void)snprintf(longer, sizeof(longer),
                       "%s. Texts with blanks or signs need \"quotes\", elements a comma between "
                       "them",
                       text);
        report(current->path, cfg->line, longer);
        return;
    }
    report(current->path, cfg->line, text);
}

/* --- values --- */

static int refuse(cfg_t *cfg, const char *text)
{
    report(current->path, cfg->line, text);
    return -1;
}

static mvpn_setting_value value_of(cfg_t *cfg, cfg_opt_t *opt, enum mvpn_setting_type type)
{
    mvpn_setting_value v = {.name = opt->name, .line = cfg->line > 0 ? (unsigned)cfg->line : 0};
    switch (type) {
    case MVPN_SETTING_NUMBER:
        v.number = cfg_opt_getnint(opt, 0);
        break;
    case MVPN_SETTING_BOOL:
        v.flag = cfg_opt_getnbool(opt, 0) == cfg_true;
        break;
    case MVPN_SETTING_TEXT:
        v.text = cfg_opt_getnstr(opt, 0);
        break;
    case MVPN_SETTING_LIST:
        v.text = cfg_opt_getnstr(opt, cfg_opt_size(opt) - 1);
        break;
    }
    return v;
}

/* FNV-1a; nobody gains by a collision: it is the operator's own file. */
static uint32_t hash_of(const char *text)
{
    uint32_t hash = 2166136261u;
    for (; text != NULL && *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 16777619u;
    }
    return hash;
}

/* Called by libconfuse after each value and list element that it read, and once more at the end of
 * a list: then nothing is new. A second assignment starts the list anew. */
static int on_value(cfg_t *cfg, cfg_opt_t *opt)
{
    const mvpn_setting *s = find(opt->name);
    MVPN_ASSERT(s != NULL);
    struct seen *seen = &current->seen[s - current->table];
    mvpn_fault why = {""}, f;
    unsigned count = cfg_opt_size(opt);
    if (count == 0) {
        return 0; /* an empty list */
    }
    mvpn_setting_value v = value_of(cfg, opt, s->type);
    uint32_t hash = hash_of(v.text);
    if (count <= seen->count) {
        if (s->type == MVPN_SETTING_LIST && count == seen->count && hash == seen->hash) {
            return 0;
        }
        (void)mvpn_fault_set(&f, 0, "'%s' was given in line %u already. Keep one of them", s->name,
                             seen->line);
        return refuse(cfg, f.text);
    }
    seen->line = seen->line != 0 ? seen->line : v.line;
    seen->count = count;
    seen->hash = hash;
    if (s->set(current->target, &v, &why) != 0) {
        (void)mvpn_fault_set(&f, 0, "%s: %.400s", s->name, why.text);
        return refuse(cfg, f.text);
    }
    return 0;
}

static cfg_opt_t option_of(const mvpn_setting *s)
{
    switch (s->type) {
    case MVPN_SETTING_LIST:
        return (cfg_opt_t)CFG_STR_LIST(s->name, NULL, CFGF_NODEFAULT);
    case MVPN_SETTING_NUMBER:
        return (cfg_opt_t)CFG_INT(s->name, 0, CFGF_NODEFAULT);
    case MVPN_SETTING_BOOL:
        return (cfg_opt_t)CFG_BOOL(s->name, cfg_false, CFGF_NODEFAULT);
    case MVPN_SETTING_TEXT:
        break;
    }
    return (cfg_opt_t)CFG_STR(s->name, NULL, CFGF_NODEFAULT);
}

/* --- comments --- */

/* Where the quoted text that begins at `i` ends: behind its closing quote, or at the end. */
static size_t skip_quoted(const char *text, size_t size, size_t i)
{
    char quote = text[i++];
    while (i < size && text[i] != quote) {
        i += text[i] == '\\' ? 2 : 1;
    }
    return MVPN_MIN(i + 1, size);
}

static size_t blank_until(char *text, size_t size, size_t i, const char *end)
{
    size_t end_len = strlen(end);
    while (i < size && strncmp(text + i, end, MVPN_MIN(end_len, size - i)) != 0) {
        text[i] = text[i] == '\n' ? '\n' : ' ';
        i++;
    }
    return i;
}

/* libconfuse 3.3 counts the line of a comment several times, so that every fault after one would
 * name a wrong line, and takes none inside a list: comments are turned into blanks first. "//" and
 * the other form of C begin a comment only where a word could begin: a path may hold them. */
static void blank_comments(char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        bool is_start = i == 0 || strchr(" \t\r\n={},+()", text[i - 1]) != NULL;
        if (text[i] == '"' || text[i] == '\'') {
            i = skip_quoted(text, size, i);
        } else if (text[i] == '#' || (is_start && strncmp(text + i, "//", 2) == 0)) {
            i = blank_until(text, size, i, "\n");
        } else if (is_start && strncmp(text + i, "/*", 2) == 0) {
            memcpy(text + i, "  ", 2);
            i = blank_until(text, size, i, "*/");
            memset(text + i, ' ', MVPN_MIN(2, size - i));
        } else {
            i++;
        }
    }
}

static int run(const char *text, size_t size)
{
    cfg_opt_t options[MVPN_SETTINGS_MAX + 1];
    size_t used = 0;
    int rc = MVPN_E_NOMEM;
    FILE *stream = NULL;
    cfg_t *cfg = NULL;
    char *copy = malloc(size + 2);
    if (copy == NULL) {
        goto out;
    }
    memcpy(copy, text, size);
    /* fmemopen wants one byte at least; a last line always ends, and is never counted twice. */
    copy[size] = size > 0 && text[size - 1] == '\n' ? ' ' : '\n';
    copy[size + 1] = '\0'; /* strncmp may look at two characters anywhere */
    blank_comments(copy, size + 1);
    for (size_t i = 0; i < current->count; i++) {
        if ((current->table[i].kinds & current->kind) != 0) {
            options[used++] = option_of(&current->table[i]);
        }
    }
    options[used] = (cfg_opt_t)CFG_END();
    cfg = cfg_init(options, CFGF_NONE);
    stream = fmemopen(copy, size + 1, "r");
    if (cfg == NULL || stream == NULL) {
        goto out;
    }
    (void)cfg_set_error_function(cfg, on_error);
    for (size_t i = 0; i < used; i++) {
        (void)cfg_set_validate_func(cfg, options[i].name, on_value);
    }
    rc = cfg_parse_fp(cfg, stream) == CFG_SUCCESS && !current->has_fault ? 0 : MVPN_E_CONFIG;
    if (rc != 0) {
        report(current->path, 0, "cannot be read");
    }
out:
    if (rc == MVPN_E_NOMEM) {
        (void)mvpn_fault_set(current->fault, rc, "no memory to read %s", current->path);
    }
    if (stream != NULL) {
        (void)fclose(stream);
    }
    if (cfg != NULL) {
        (void)cfg_free(cfg);
    }
    if (copy != NULL) {
        explicit_bzero(copy, size + 1);
        free(copy);
    }
    return rc;
}

int mvpn_settings_parse(const char *path, const char *text, size_t size, const mvpn_setting *table,
                        size_t count, unsigned kind, const char *const *kind_names, void *target,
                        mvpn_fault *fault)
{
    struct parse p = {
        .path = path,
        .table = table,
        .count = count,
        .kind = kind,
        .kind_names = kind_names,
        .target = target,
        .fault = fault,
    };
    MVPN_ASSERT(count <= MVPN_SETTINGS_MAX);
    /* The scanner stops at a zero byte: what follows would be ignored silently. */
    if (memchr(text, '\0', size) != NULL) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "%s: holds a zero byte; it is not a text file",
                              path);
    }
    MVPN_ASSERT(pthread_mutex_lock(&scanner) == 0 && current == NULL);
    current = &p;
    int rc = run(text, size);
    current = NULL;
    MVPN_ASSERT(pthread_mutex_unlock(&scanner) == 0);
    return rc;
}
