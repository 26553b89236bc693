/*
 * Prints a program's manual page (mdoc) or its completions for a shell, from its option table. Run
 * by the build; not installed.
 *
 *     options_docs man|bash|zsh|fish PROGRAM
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "bin/options_tables.h"

/* Of the manual pages: when their words last changed. The build must not look at a clock. */
#define DATE "November 23, 2026"
/* mandoc -Tlint wants less than 80. */
#define WIDTH 76

static const option_program *const programs[] = {
    &options_meshvpn,   &options_bootstrap,     &options_client,    &options_relay,
    &options_exit_node, &options_dht_bootstrap, &options_discovery,
};

static bool has_verbs(const option_program *p)
{
    return p->verbs[0].name[0] != '\0';
}

/* The loop over a list that may be NULL. */
static bool is_row(const option_row *o)
{
    return o != NULL && o->name != NULL;
}

static bool is_group_word(const option_verb *v)
{
    return strchr(v->name, ' ') != NULL;
}

static size_t first_len(const option_verb *v)
{
    return strcspn(v->name, " ");
}

/* Whether an earlier verb begins with the same word. */
static bool is_told(const option_program *p, const option_verb *v)
{
    for (const option_verb *o = p->verbs; o != v; o++) {
        if (first_len(o) == first_len(v) && strncmp(o->name, v->name, first_len(v)) == 0) {
            return true;
        }
    }
    return false;
}

/* --- the manual --- */

static void put_word(const char *word, size_t len)
{
    if (word[0] == '.' || word[0] == '\'') {
        (void)fputs("\\&", stdout);
    }
    for (size_t i = 0; i < len; i++) {
        if (word[i] == '\\') {
            (void)fputs("\\e", stdout);
        } else if (word[i] == '-' && word[0] == '-' && i < 2) {
            (void)fputs("\\-", stdout);
        } else {
            (void)putchar(word[i]);
        }
    }
}

/* A new sentence is on a new line, so that a formatter can part them. */
static void man_text(const char *text)
{
    size_t at = 0;
    while (*(text += strspn(text, " ")) != '\0') {
        if (*text == '\n') {
            text += strspn(text, "\n");
            (void)fputs(at > 0 ? "\n.Pp\n" : ".Pp\n", stdout);
            at = 0;
            continue;
        }
        size_t len = strcspn(text, " \n");
        if (at > 0 && at + 1 + len > WIDTH) {
            (void)putchar('\n');
            at = 0;
        }
        (void)fputs(at > 0 ? " " : "", stdout);
        put_word(text, len);
        at += len + (at > 0);
        text += len;
        if (strchr(".?!", text[-1]) != NULL && *text == ' ') {
            (void)putchar('\n');
            at = 0;
        }
    }
    (void)fputs(at > 0 ? "\n" : "", stdout);
}

static void man_option(const option_row *o, bool with_letter)
{
    if (with_letter && o->letter != 0) {
        (void)printf("Fl %c , ", o->letter);
    }
    (void)printf("Fl %s", o->name + 1);
    if (o->value != NULL) {
        (void)printf(" Ar %s", o->value);
    }
}

static void man_synopsis(const option_verb *v)
{
    (void)printf(".Nm\n");
    if (v->name[0] != '\0') {
        (void)printf(".Cm %s\n", v->name);
    }
    for (const option_row *o = v->operands; is_row(o); o++) {
        (void)printf(o->is_optional ? ".Op Ar %s\n" : ".Ar %s\n", o->name);
    }
    for (const option_row *o = v->options; is_row(o); o++) {
        (void)printf(".Op ");
        man_option(o, false);
        (void)puts(o->max_count > 0 ? " ..." : "");
    }
}

static void man_rows(const option_verb *v)
{
    (void)puts(".Bl -tag -width Ds");
    for (const option_row *o = v->operands; is_row(o); o++) {
        (void)printf(".It Ar %s\n", o->name);
        man_text(o->help);
    }
    for (const option_row *o = v->options; is_row(o); o++) {
        (void)printf(".It ");
        man_option(o, true);
        (void)putchar('\n');
        man_text(o->help);
    }
    (void)puts(".It Fl h , Fl -help\nprint a short help");
    if (v->name[0] == '\0') {
        (void)puts(".It Fl -version\nprint the version");
    }
    (void)puts(".El");
}

static void man_exits(const option_exit *e)
{
    (void)puts(".Bl -tag -width Ds");
    for (; e->text != NULL; e++) {
        (void)printf(".It %d\n", e->status);
        man_text(e->text);
    }
    (void)puts(".El");
}

static void man_verb(const option_verb *v)
{
    (void)printf(".Ss %s\n", v->name);
    man_synopsis(v);
    (void)puts(".Pp");
    char summary[128]; /* a sentence */
    (void)snprintf(summary, sizeof(summary), "%c%s.", toupper((unsigned char)v->summary[0]),
                   v->summary + 1);
    man_text(summary);
    if (v->text != NULL) {
        man_text(v->text);
    }
    man_rows(v);
    if (v->exits != NULL) {
        (void)puts(".Pp\nExit status:");
        man_exits(v->exits);
    }
}

static void man_examples(const option_program *p)
{
    bool is_first = true;
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        for (const option_example *e = v->examples; e != NULL && e->command != NULL; e++) {
            (void)puts(is_first ? ".Sh EXAMPLES" : ".Pp");
            is_first = false;
            char text[256];
            (void)snprintf(text, sizeof(text), "%c%s:", toupper((unsigned char)e->text[0]),
                           e->text + 1);
            man_text(text);
            (void)printf(".Pp\n.Dl $ %s\n", e->command);
        }
    }
}

/* "meshvpn-client 8 meshvpn-relay 8" */
static void man_see_also(const char *pairs)
{
    (void)puts(".Sh SEE ALSO");
    while (*pairs != '\0') {
        size_t name = strcspn(pairs, " "), both = name + 1 + strcspn(pairs + name + 1, " ");
        (void)printf(".Xr %.*s%s\n", (int)both, pairs, pairs[both] != '\0' ? " ," : "");
        pairs += both + (pairs[both] == ' ');
    }
}

static void write_man(const option_program *p)
{
    (void)printf(".\\\" Made from the option table of %s.\n.Dd %s\n.Dt ", p->name, DATE);
    for (const char *c = p->name; *c != '\0'; c++) {
        (void)putchar(toupper((unsigned char)*c));
    }
    (void)printf(" %u\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n.Sh SYNOPSIS\n", p->section, p->name,
                 p->summary);
    if (has_verbs(p)) {
        (void)puts(".Nm\n.Ar command\n.Op Ar argument ...\n.Nm\n.Fl -version");
    } else {
        man_synopsis(p->verbs);
    }
    (void)puts(".Sh DESCRIPTION");
    man_text(p->text);
    if (has_verbs(p)) {
        (void)puts(".Sh COMMANDS");
        for (const option_verb *v = p->verbs; v->name != NULL; v++) {
            man_verb(v);
        }
    } else {
        (void)puts(".Pp\nThe options are as follows:");
        man_rows(p->verbs);
    }
    if (p->files != NULL) {
        (void)puts(".Sh FILES\n.Bl -tag -width Ds");
        for (const option_row *f = p->files; is_row(f); f++) {
            (void)printf(".It Pa %s\n", f->name);
            man_text(f->help);
        }
        (void)puts(".El");
    }
    (void)puts(".Sh EXIT STATUS");
    if (has_verbs(p)) {
        (void)puts("Of commands that say nothing else:");
    }
    man_exits(!has_verbs(p) && p->verbs->exits != NULL ? p->verbs->exits : p->exits);
    man_examples(p);
    man_see_also(p->see_also);
}

/* --- shells --- */

/* Names of functions: no dashes. */
static const char *identifier(const option_program *p)
{
    static char text[64];
    (void)snprintf(text, sizeof(text), "%s", p->name);
    for (char *c = text; *c != '\0'; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    return text;
}

/* In single quotes; characters of `special` get a backslash. */
static void quote(const char *text, const char *special)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            (void)fputs("'\\''", stdout);
        } else {
            (void)fputs(strchr(special, *text) != NULL ? "\\" : "", stdout);
            (void)putchar(*text);
        }
    }
}

static void write_first_words(const option_program *p)
{
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        if (!is_told(p, v)) {
            (void)printf("%s%.*s", v == p->verbs ? "" : " ", (int)first_len(v), v->name);
        }
    }
}

/* Second words of the group of `v`. */
static void write_second_words(const option_program *p, const option_verb *v)
{
    const char *space = "";
    for (const option_verb *o = p->verbs; o->name != NULL; o++) {
        if (is_group_word(o) && first_len(o) == first_len(v) &&
            strncmp(o->name, v->name, first_len(v)) == 0) {
            (void)printf("%s%s", space, o->name + first_len(o) + 1);
            space = " ";
        }
    }
}

/* --- bash --- */

static void bash_value(const option_row *o)
{
    switch (o->kind) {
    case OPTION_CHOICE:
        (void)printf("mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")", o->choices);
        break;
    case OPTION_FILE:
    case OPTION_SOCKET:
        (void)printf("mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")");
        break;
    case OPTION_DIR:
        (void)printf("mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")");
        break;
    case OPTION_FLAG:
    case OPTION_TEXT:
    case OPTION_NUMBER:
        (void)printf(":");
        break;
    }
}

/* What may stand where an operand does; places are not told apart. */
static void bash_operands(const option_verb *v)
{
    const option_row *best = NULL;
    for (const option_row *o = v->operands; is_row(o); o++) {
        if (o->kind != OPTION_TEXT && (best == NULL || best->kind == OPTION_CHOICE)) {
            (void)printf("        [ ${#COMPREPLY[@]} = 0 ] && ");
            bash_value(o);
            (void)putchar('\n');
            best = o;
        }
    }
}

static void write_bash(const option_program *p)
{
    (void)printf("# Completions of %s for bash; made from its option table.\n_%s() {\n"
                 "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=\n"
                 "    COMPREPLY=()\n",
                 p->name, identifier(p));
    if (has_verbs(p)) {
        (void)printf("    if [ \"$COMP_CWORD\" = 1 ] || { [ \"${COMP_WORDS[1]}\" = help ] && [ "
                     "\"$COMP_CWORD\" = 2 ]; }; then\n"
                     "        mapfile -t COMPREPLY < <(compgen -W '");
        write_first_words(p);
        (void)printf(" --help --version' -- \"$cur\")\n        return\n    fi\n"
                     "    verb=${COMP_WORDS[1]}\n    case $verb in\n");
        for (const option_verb *v = p->verbs; v->name != NULL; v++) {
            if (is_group_word(v) && !is_told(p, v)) {
                (void)printf("    %.*s)\n        if [ \"$COMP_CWORD\" = 2 ]; then\n"
                             "            mapfile -t COMPREPLY < <(compgen -W '",
                             (int)first_len(v), v->name);
                write_second_words(p, v);
                (void)printf("' -- \"$cur\")\n            return\n        fi\n"
                             "        verb=\"$verb ${COMP_WORDS[2]}\"\n        ;;\n");
            }
        }
        (void)printf("    esac\n");
    }
    (void)printf("    case \"$verb:$prev\" in\n");
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        for (const option_row *o = v->options; is_row(o); o++) {
            if (o->value != NULL) {
                (void)printf("    '%s:%s'", v->name, o->name);
                if (o->letter != 0) {
                    (void)printf(" | '%s:-%c'", v->name, o->letter);
                }
                (void)printf(")\n        ");
                bash_value(o);
                (void)printf("\n        return\n        ;;\n");
            }
        }
    }
    (void)printf("    esac\n    case \"$verb:$cur\" in\n");
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        (void)printf("    '%s:-'*)\n        mapfile -t COMPREPLY < <(compgen -W '", v->name);
        for (const option_row *o = v->options; is_row(o); o++) {
            (void)printf("%s ", o->name);
        }
        (void)printf("--help%s' -- \"$cur\")\n        ;;\n", has_verbs(p) ? "" : " --version");
        if (v->operands != NULL) {
            (void)printf("    '%s:'*)\n", v->name);
            bash_operands(v);
            (void)printf("        ;;\n");
        }
    }
    (void)printf("    esac\n    return 0\n}\ncomplete -o filenames -F _%s %s\n", identifier(p),
                 p->name);
}

/* --- zsh --- */

/* What follows an option or stands for an operand: ":WORD:ACTION". */
static void zsh_value(const option_row *o, const char *word)
{
    (void)putchar(':');
    quote(word, ":[]\\");
    (void)putchar(':');
    switch (o->kind) {
    case OPTION_CHOICE:
        (void)printf("(%s)", o->choices);
        break;
    case OPTION_FILE:
    case OPTION_SOCKET:
        (void)printf("_files");
        break;
    case OPTION_DIR:
        (void)printf("_files -/");
        break;
    case OPTION_FLAG:
    case OPTION_TEXT:
    case OPTION_NUMBER:
        (void)putchar(' ');
        break;
    }
}

static void zsh_arguments(const option_program *p, const option_verb *v)
{
    unsigned place = 1;
    (void)printf("        _arguments");
    for (const option_row *o = v->options; is_row(o); o++) {
        (void)printf(" \\\n            '%s%s[", o->max_count > 0 ? "*" : "", o->name);
        quote(o->help, "[]\\");
        (void)putchar(']');
        if (o->value != NULL) {
            zsh_value(o, o->value);
        }
        (void)putchar('\'');
    }
    for (const option_row *o = v->operands; is_row(o); o++) {
        (void)printf(" \\\n            '%u%s", place++, o->is_optional ? ":" : "");
        zsh_value(o, o->name);
        (void)putchar('\'');
    }
    (void)printf(" \\\n            '--help[print a short help]'%s\n",
                 has_verbs(p) ? "" : " '--version[print the version]'");
}

static void write_zsh(const option_program *p)
{
    const char *id = identifier(p);
    (void)printf("#compdef %s\n# Made from the option table.\n_%s() {\n", p->name, id);
    if (!has_verbs(p)) {
        zsh_arguments(p, p->verbs);
        (void)printf("}\n_%s \"$@\"\n", id);
        return;
    }
    (void)printf("    local verb=$words[2]\n    local -a choices\n"
                 "    if (( CURRENT == 2 )); then\n        choices=(");
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        if (is_told(p, v)) {
            continue;
        }
        (void)printf("\n            '%.*s:", (int)first_len(v), v->name);
        if (is_group_word(v)) {
            write_second_words(p, v);
        } else {
            quote(v->summary, ":\\");
        }
        (void)putchar('\'');
    }
    (void)printf("\n        )\n        _describe command choices\n        return\n    fi\n"
                 "    case $verb in\n");
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        if (is_group_word(v) && !is_told(p, v)) {
            (void)printf("    %.*s)\n        if (( CURRENT == 3 )); then\n            choices=(",
                         (int)first_len(v), v->name);
            write_second_words(p, v);
            (void)printf(")\n            _describe command choices\n            return\n"
                         "        fi\n        verb=\"$verb $words[3]\"\n        shift words\n"
                         "        (( CURRENT-- ))\n        ;;\n");
        }
    }
    (void)printf("    esac\n    shift words\n    (( CURRENT-- ))\n    case $verb in\n");
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        (void)printf("    '%s')\n", v->name);
        zsh_arguments(p, v);
        (void)printf("        ;;\n");
    }
    (void)printf("    esac\n}\n_%s \"$@\"\n", id);
}

/* --- fish --- */

static void fish_option(const option_program *p, const option_verb *v, const option_row *o)
{
    (void)printf("complete -c %s", p->name);
    if (has_verbs(p)) {
        (void)printf(" -n '__%s_is %s'", identifier(p), v->name);
    }
    (void)printf(" -l %s", o->name + 2);
    if (o->letter != 0) {
        (void)printf(" -s %c", o->letter);
    }
    if (o->value != NULL) {
        bool is_path = o->kind == OPTION_FILE || o->kind == OPTION_SOCKET || o->kind == OPTION_DIR;
        (void)fputs(is_path ? " -r -F" : " -x", stdout);
    }
    if (o->choices != NULL) {
        (void)printf(" -a '%s'", o->choices);
    }
    (void)printf(" -d '");
    quote(o->help, "\\");
    (void)puts("'");
}

static void fish_operands(const option_program *p, const option_verb *v)
{
    for (const option_row *o = v->operands; is_row(o); o++) {
        bool is_path = o->kind == OPTION_FILE || o->kind == OPTION_DIR;
        if (o->kind == OPTION_TEXT) {
            continue;
        }
        (void)printf("complete -c %s -n '__%s_is %s'", p->name, identifier(p), v->name);
        (void)printf(is_path ? " -F\n" : " -a '%s'\n", o->choices);
    }
}

static void write_fish(const option_program *p)
{
    const char *id = identifier(p);
    (void)printf("# Completions of %s for fish; made from its option table.\n", p->name);
    if (has_verbs(p)) {
        (void)printf("function __%s_is\n    set -l tokens (commandline -opc)[2..-1]\n"
                     "    test (count $tokens) -ge (count $argv); or return 1\n"
                     "    for i in (seq (count $argv))\n"
                     "        test $tokens[$i] = $argv[$i]; or return 1\n    end\nend\n"
                     "function __%s_next\n"
                     "    test (count (commandline -opc)) -eq (math (count $argv) + 1); and "
                     "__%s_is $argv\nend\n",
                     id, id, id);
    }
    (void)printf("complete -c %s -f\n", p->name);
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        if (has_verbs(p) && !is_group_word(v)) {
            (void)printf("complete -c %s -n '__%s_next' -a %s -d '", p->name, id, v->name);
            quote(v->summary, "\\");
            (void)puts("'");
        } else if (has_verbs(p)) {
            if (!is_told(p, v)) {
                (void)printf("complete -c %s -n '__%s_next' -a %.*s\n", p->name, id,
                             (int)first_len(v), v->name);
            }
            (void)printf("complete -c %s -n '__%s_next %.*s' -a %s -d '", p->name, id,
                         (int)first_len(v), v->name, v->name + first_len(v) + 1);
            quote(v->summary, "\\");
            (void)puts("'");
        }
        for (const option_row *o = v->options; is_row(o); o++) {
            fish_option(p, v, o);
        }
        fish_operands(p, v);
    }
    (void)printf("complete -c %s -l help -s h -d 'print a short help'\ncomplete -c %s", p->name,
                 p->name);
    if (has_verbs(p)) {
        (void)printf(" -n '__%s_next'", id);
    }
    (void)puts(" -l version -d 'print the version'");
}

/* For tests that go through all commands: name, then its options with what they say of a schema. */
static void write_list(const option_program *p)
{
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        (void)fputs(v->name, stdout);
        for (const option_row *o = v->options; is_row(o); o++) {
            const char *schema = strstr(o->help, "schema ");
            (void)printf("\t%s%s%s", o->name, schema != NULL ? " " : "",
                         schema != NULL ? schema : "");
        }
        (void)putchar('\n');
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*write)(const option_program *p);
    } formats[] = {{"man", write_man},
                   {"bash", write_bash},
                   {"zsh", write_zsh},
                   {"fish", write_fish},
                   {"list", write_list}};
    for (size_t f = 0; argc == 3 && f < MVPN_ARRAY_LEN(formats); f++) {
        for (size_t i = 0; i < MVPN_ARRAY_LEN(programs); i++) {
            if (strcmp(argv[1], formats[f].name) == 0 && strcmp(argv[2], programs[i]->name) == 0) {
                formats[f].write(programs[i]);
                return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
            }
        }
    }
    (void)fputs("usage: options_docs man|bash|zsh|fish|list PROGRAM\n", stderr);
    return OPTIONS_USAGE;
}
