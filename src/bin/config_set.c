#include "bin/config_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/error.h"
#include "bin/config_command.h"
#include "bin/programs.h"
#include "io/config_edit.h"
#include "io/config_files.h"
#include "io/config_show.h"
#include "io/file.h"

typedef struct request {
    const char *verb; /* "set" or "unset" */
    enum mvpn_config_kind kind;
    const char *key;
    const char *words; /* NULL: take the key out */
    char file[PATH_MAX];
} request;

static int fail(const char *text)
{
    (void)fprintf(stderr, "meshvpn: %s. Nothing was changed\n", text);
    return EXIT_FAILURE;
}

/* ---- what is asked ---- */

static request request_of(const options_given *given, const char *verb)
{
    const char *file = options_text(given, "--file");
    request r = {.verb = verb, .key = given->operands[1], .words = given->operands[2]};
    options_given kind_alone = *given; /* where the file is depends on KIND alone */
    kind_alone.operands[1] = NULL;
    r.kind = config_kind_and_file(&kind_alone, r.file);
    if (file != NULL && realpath(file, r.file) == NULL) {
        (void)snprintf(r.file, sizeof(r.file), "%s", file); /* it will be made */
    } else if (file == NULL && access(r.file, F_OK) == 0) {
        char *real = realpath(r.file, NULL); /* a link stays one */
        (void)snprintf(r.file, sizeof(r.file), "%s", real != NULL ? real : r.file);
        free(real);
    }
    return r;
}

/* The key's row; false after saying what may have been meant. */
static bool find_setting(const request *r, mvpn_setting *ret)
{
    mvpn_setting table[MVPN_SETTINGS_MAX];
    size_t count = mvpn_config_settings(table);
    const char *kind = mvpn_config_kind_name(r->kind);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, r->key) == 0) {
            if ((table[i].kinds & (unsigned)r->kind) != 0) {
                *ret = table[i];
                return true;
            }
            (void)fprintf(stderr, "meshvpn: '%s' is no key of the %s's configuration\n", r->key,
                          kind);
            return false;
        }
    }
    const char *near = mvpn_settings_suggest(table, count, (unsigned)r->kind, r->key);
    (void)fprintf(stderr, "meshvpn: the %s's configuration has no key '%s'. ", kind, r->key);
    if (near != NULL) {
        (void)fprintf(stderr, "Did you mean '%s'?\n", near);
    } else {
        (void)fprintf(stderr, "meshvpn config docs lists them\n");
    }
    return false;
}

/* A file is replaced within its directory. */
static bool may_write(const char *file)
{
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof(dir), "%s", file);
    char *slash = strrchr(dir, '/');
    if (slash == NULL) {
        return access(".", W_OK) == 0;
    }
    slash[slash == dir] = '\0';
    return access(dir, W_OK) == 0 || errno == ENOENT;
}

static int refuse(const request *r, const options_given *given)
{
    (void)fprintf(stderr, "meshvpn: you may not write %s. Use: sudo meshvpn config %s", r->file,
                  r->verb);
    for (int i = 0; i < given->rest_count; i++) {
        (void)fprintf(stderr, " '%s'", given->rest[i]);
    }
    (void)fprintf(stderr, "\n");
    return EXIT_FAILURE;
}

/* ---- changing ---- */

static int read_files(const request *r, mvpn_config_files *ret, mvpn_fault *fault)
{
    int rc = mvpn_config_files_read(r->file, ret, fault);
    if (rc != MVPN_E_UNKNOWN) {
        return rc;
    }
    uint8_t *empty = calloc(1, 1);
    return empty != NULL ? mvpn_config_files_of(r->file, empty, 0, ret, fault)
                         : mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
}

/* `*ret_line` 0: the key was to be taken out and is not there. */
static int change(const request *r, const char *value, mvpn_config *config, unsigned *ret_line,
                  mvpn_fault *fault)
{
    mvpn_config_files files;
    size_t size = 0;
    int rc = read_files(r, &files, fault);
    if (rc != 0) {
        return rc;
    }
    mvpn_config_file *f = &files.file[0];
    char *text =
        mvpn_config_edit((const char *)f->content, f->size, r->key, value, &size, ret_line);
    if (text == NULL) {
        rc = mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    } else {
        mvpn_file_free(f->content, f->size);
        f->content = (uint8_t *)text;
        f->size = size;
        rc = mvpn_config_from_files(&files, r->kind, config, fault);
    }
    if (rc == 0 && *ret_line != 0) {
        rc = mvpn_file_replace(r->file, text, size, 0644, fault);
    }
    mvpn_config_files_done(&files);
    return rc;
}

/* ---- telling ---- */

/* A part of the configuration that is read later may say otherwise. */
static void tell_override(const request *r)
{
    json_t *shown = NULL;
    const json_t *row;
    size_t i;
    if (mvpn_config_show(r->file, r->kind, false, &shown, NULL) != 0) {
        return;
    }
    json_array_foreach(json_object_get(shown, "settings"), i, row)
    {
        const char *file = json_string_value(json_object_get(row, "file"));
        if (strcmp(json_string_value(json_object_get(row, "key")), r->key) == 0 && file != NULL &&
            strcmp(file, r->file) != 0) {
            (void)fprintf(stderr, "meshvpn: %s:%lld says otherwise and is read later\n", file,
                          (long long)json_integer_value(json_object_get(row, "line")));
        }
    }
    json_decref(shown);
}

static void tell_restart(const request *r, const mvpn_config *config)
{
    const program_info *p = program_of(r->kind);
    if (!program_is_running(config->control_socket)) {
        (void)printf("It holds from the next start of %s.\n", p->name);
    } else if (program_has_systemd() && program_has_unit(p->unit)) {
        (void)printf("%s runs without it. Next: sudo systemctl restart %s\n", p->name, p->unit);
    } else if (r->kind == MVPN_CONFIG_CLIENT) {
        (void)printf("%s runs without it. Next: sudo meshvpn down && sudo meshvpn up\n", p->name);
    } else {
        (void)printf("%s runs without it. Next: end it and start it again\n", p->name);
    }
}

static int run(const options_given *given, const char *verb)
{
    static mvpn_config config; /* 50 KB */
    char value[MVPN_CONFIG_VALUE_MAX];
    const request r = request_of(given, verb);
    mvpn_setting setting;
    mvpn_fault fault = {""};
    unsigned line = 0;
    if (!find_setting(&r, &setting)) {
        return EXIT_FAILURE;
    }
    if (r.words != NULL && !mvpn_config_value_of(setting.type, r.words, value)) {
        return fail("a value is text of one line, without \"${\"");
    }
    if (!may_write(r.file)) {
        return refuse(&r, given);
    }
    if (change(&r, r.words != NULL ? value : NULL, &config, &line, &fault) != 0) {
        return fail(fault.text);
    }
    if (line == 0) {
        (void)printf("%s does not say %s: the default holds already.\n", r.file, r.key);
    } else if (r.words != NULL) {
        (void)printf("%s:%u: %s = %s\n", r.file, line, r.key, value);
    } else {
        (void)printf("%s:%u: %s is taken out; the default is: %s\n", r.file, line, r.key,
                     setting.initial);
    }
    tell_override(&r);
    if (line != 0) {
        tell_restart(&r, &config);
    }
    return EXIT_SUCCESS;
}

int config_set_command(const options_given *given)
{
    return run(given, "set");
}

int config_unset_command(const options_given *given)
{
    return run(given, "unset");
}
