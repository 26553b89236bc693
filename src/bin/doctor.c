#include "bin/doctor.h"

#include <stdio.h>
#include <stdlib.h>

#include "bin/config_command.h"
#include "bin/doctor_checks.h"
#include "bin/doctor_look.h"
#include "bin/terminal.h"

/* ---- showing ---- */

static void print_verdict(const terminal *t, const doctor_verdict *v)
{
    static const enum terminal_style styles[] = {[DOCTOR_GOOD] = TERMINAL_GREEN,
                                                 [DOCTOR_BROKEN] = TERMINAL_RED,
                                                 [DOCTOR_UNSURE] = TERMINAL_YELLOW};
    const char *mark = v->mark == DOCTOR_UNSURE ? "?" : terminal_mark(t, v->mark == DOCTOR_GOOD);
    (void)printf("%s%s%s%s %-14s %s\n", terminal_style_code(t, styles[v->mark]), mark,
                 terminal_style_code(t, TERMINAL_PLAIN),
                 v->mark == DOCTOR_UNSURE && !t->is_utf8 ? " " : "", v->name, v->text);
    if (v->mark != DOCTOR_GOOD && v->repair[0] != '\0') {
        (void)printf("%*s%s\n", 21, "> ", v->repair);
    }
}

static void print_all(const doctor_verdict *verdicts, unsigned count)
{
    unsigned broken = doctor_count(verdicts, count, DOCTOR_BROKEN);
    unsigned unsure = doctor_count(verdicts, count, DOCTOR_UNSURE);
    terminal t;
    terminal_init(&t, stdout, false);
    for (unsigned i = 0; i < count; i++) {
        print_verdict(&t, &verdicts[i]);
    }
    if (broken > 0) {
        (void)printf("\n%u broken: mend the first, then ask again.\n", broken);
    } else if (unsure > 0) {
        (void)printf("\nNothing is broken; %u could not be seen or may be meant so.\n", unsure);
    } else {
        (void)printf("\nAll is well.\n");
    }
}

/* ---- the command ---- */

static unsigned examine(enum mvpn_config_kind kind, const char *file,
                        doctor_verdict verdicts[static DOCTOR_CHECKS_MAX])
{
    static doctor_facts facts; /* 30 KB */
    doctor_look(kind, file, &facts);
    return doctor_judge(&facts, verdicts);
}

int doctor_command(const options_given *given)
{
    static doctor_verdict verdicts[DOCTOR_CHECKS_MAX]; /* 250 KB */
    char file[PATH_MAX];
    enum mvpn_config_kind kind =
        given->operands[0] != NULL ? config_kind_and_file(given, file) : config_find(file);
    unsigned count = examine(kind, file, verdicts);
    if (!options_has(given, "--json")) {
        print_all(verdicts, count);
    } else {
        json_t *object = doctor_json(verdicts, count);
        if (object == NULL) {
            (void)fputs("meshvpn: out of memory\n", stderr);
            return EXIT_FAILURE;
        }
        (void)json_dumpf(object, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(object);
    }
    return doctor_count(verdicts, count, DOCTOR_BROKEN) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

json_t *doctor_examine(void)
{
    static doctor_verdict verdicts[DOCTOR_CHECKS_MAX];
    char file[PATH_MAX];
    enum mvpn_config_kind kind = config_find(file);
    return doctor_json(verdicts, examine(kind, file, verdicts));
}
