#include "bin/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/word.h"

/* Longer words are no typing errors of ours. */
#define WORD_MAX 32
/* A name of two letters would be "meant" by all others of two. */
#define DISTANCE_MAX 2
#define WIDTH 80
/* Where the explanations of a list begin. */
#define COLUMN 26

/* --- what was meant --- */

typedef struct guess {
    const char *word;
    const char *best; /* NULL: none is near */
    size_t least;
} guess;

static guess guess_init(const char *word)
{
    size_t len = strlen(word) - strspn(word, "-");
    return (guess){.word = word, .least = len < 3 ? 1 : len / 3 + 1};
}

static void guess_offer(guess *g, const char *name)
{
    size_t d = mvpn_word_distance(g->word, name);
    if (d < g->least && d <= DISTANCE_MAX) {
        g->least = d;
        g->best = name;
    }
}

/* --- faults --- */

static bool has_verbs(const option_program *p)
{
    return p->verbs[0].name[0] != '\0';
}

static int say(const option_program *p, const option_verb *v, const char *fmt, va_list ap)
{
    (void)fprintf(stderr, "%s: ", p->name);
    (void)vfprintf(stderr, fmt, ap);
    if (!has_verbs(p)) {
        (void)fprintf(stderr, "\nTry '%s --help'.\n", p->name);
    } else {
        (void)fprintf(stderr, "\nTry '%s help%s%s'.\n", p->name, v != NULL ? " " : "",
                      v != NULL ? v->name : "");
    }
    return OPTIONS_USAGE;
}

static MVPN_PRINTF(3, 4) int fail(const option_program *p, const option_verb *v, const char *fmt,
                                  ...)
{
    va_list ap;
    va_start(ap, fmt);
    int status = say(p, v, fmt, ap);
    va_end(ap);
    return status;
}

int options_fail(const options_given *given, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int status = say(given->program, given->verb, fmt, ap);
    va_end(ap);
    return status;
}

static const char *who(const option_program *p, const option_verb *v)
{
    return v->name[0] != '\0' ? v->name : p->name;
}

/* The question, or nothing. */
static const char *meant(const guess *g, char out[static WORD_MAX + 24])
{
    out[0] = '\0';
    if (g->best != NULL) {
        (void)snprintf(out, WORD_MAX + 24, ". Did you mean '%s'?", g->best);
    }
    return out;
}

/* --- help --- */

/* Words of `text` from column `at` on; further lines begin at `indent`. */
static void write_wrapped(FILE *out, const char *text, size_t at, size_t indent)
{
    bool is_first = true;
    while (*(text += strspn(text, " ")) != '\0') {
        if (*text == '\n') { /* a paragraph */
            text += strspn(text, "\n");
            (void)fprintf(out, "\n\n%*s", (int)indent, "");
            at = indent;
            is_first = true;
            continue;
        }
        size_t len = strcspn(text, " \n");
        if (!is_first && at + 1 + len > WIDTH) {
            (void)fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
        } else if (!is_first) {
            (void)putc(' ', out);
            at++;
        }
        (void)fwrite(text, 1, len, out);
        at += len;
        text += len;
        is_first = false;
    }
    (void)putc('\n', out);
}

static void write_item(FILE *out, const char *item, const char *help)
{
    size_t len = strlen(item) + 2;
    (void)fprintf(out, "  %s", item);
    if (len + 2 > COLUMN) {
        (void)putc('\n', out);
        len = 0;
    }
    (void)fprintf(out, "%*s", (int)(COLUMN - len), "");
    write_wrapped(out, help, COLUMN, COLUMN);
}

void options_synopsis(const option_verb *verb, char out[static OPTIONS_SYNOPSIS_SIZE])
{
    size_t n = (size_t)snprintf(out, OPTIONS_SYNOPSIS_SIZE, "%s", verb->name);
    for (const option_row *o = verb->operands; o != NULL && o->name != NULL; o++) {
        MVPN_ASSERT(n < OPTIONS_SYNOPSIS_SIZE);
        n += (size_t)snprintf(out + n, OPTIONS_SYNOPSIS_SIZE - n,
                              o->is_optional ? "%s[%s]" : "%s%s", n > 0 ? " " : "", o->name);
    }
    for (const option_row *o = verb->options; o != NULL && o->name != NULL; o++) {
        MVPN_ASSERT(n < OPTIONS_SYNOPSIS_SIZE);
        n += (size_t)snprintf(out + n, OPTIONS_SYNOPSIS_SIZE - n, "%s[%s%s%s]%s", n > 0 ? " " : "",
                              o->name, o->value != NULL ? " " : "",
                              o->value != NULL ? o->value : "", o->max_count > 0 ? "..." : "");
    }
    MVPN_ASSERT(n < OPTIONS_SYNOPSIS_SIZE);
}

/* An option in brackets and its value stay on one line. */
static size_t unit_len(const char *text)
{
    size_t n = 0;
    for (int depth = 0; text[n] != '\0' && (text[n] != ' ' || depth > 0); n++) {
        depth += (text[n] == '[') - (text[n] == ']');
    }
    return n;
}

static void write_usage(FILE *out, const option_program *p, const option_verb *v)
{
    char synopsis[OPTIONS_SYNOPSIS_SIZE];
    size_t indent = strlen("Usage: ") + strlen(p->name), at = indent;
    options_synopsis(v, synopsis);
    (void)fprintf(out, "Usage: %s", p->name);
    for (const char *unit = synopsis; *unit != '\0'; unit += strspn(unit, " ")) {
        size_t len = unit_len(unit);
        if (at + 1 + len > WIDTH) {
            (void)fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
        }
        (void)fprintf(out, " %.*s", (int)len, unit);
        at += 1 + len;
        unit += len;
    }
    (void)putc('\n', out);
}

static void write_exits(FILE *out, const option_exit *e)
{
    for (; e->text != NULL; e++) {
        char number[8];
        (void)snprintf(number, sizeof(number), "%d", e->status);
        (void)fprintf(out, "  %-4s", number);
        write_wrapped(out, e->text, 6, 6);
    }
}

void options_write_verb_help(FILE *out, const option_program *p, const option_verb *v)
{
    (void)fprintf(out, "%s%s%s: ", p->name, v->name[0] != '\0' ? " " : "", v->name);
    write_wrapped(out, v->summary, strlen(p->name) + strlen(v->name) + 3, 4);
    (void)putc('\n', out);
    write_usage(out, p, v);
    (void)putc('\n', out);
    if (v->text != NULL) {
        write_wrapped(out, v->text, 0, 0);
        (void)putc('\n', out);
    }
    for (const option_row *o = v->operands; o != NULL && o->name != NULL; o++) {
        write_item(out, o->name, o->help);
    }
    for (const option_row *o = v->options; o != NULL && o->name != NULL; o++) {
        char item[64];
        (void)snprintf(item, sizeof(item), "%.*s%s%s%s%s", o->letter != 0 ? 2 : 0,
                       (const char[]){'-', o->letter, '\0'}, o->letter != 0 ? ", " : "", o->name,
                       o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
        write_item(out, item, o->help);
    }
    write_item(out, "-h, --help", "print this");
    if (!has_verbs(p)) {
        write_item(out, "--version", "print the version");
    }
    (void)fputs("\nExit status:\n", out);
    write_exits(out, v->exits != NULL ? v->exits : p->exits);
    for (const option_example *e = v->examples; e != NULL && e->command != NULL; e++) {
        (void)fprintf(out, "%s  %s\n      ", e == v->examples ? "\nExamples:\n" : "", e->command);
        write_wrapped(out, e->text, 6, 6);
    }
}

void options_write_help(FILE *out, const option_program *p)
{
    if (!has_verbs(p)) {
        options_write_verb_help(out, p, p->verbs);
        return;
    }
    (void)fprintf(out, "%s: ", p->name);
    write_wrapped(out, p->summary, strlen(p->name) + 2, 4);
    (void)fprintf(out, "\nUsage: %s COMMAND [ARGUMENT]...\n\n", p->name);
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        write_item(out, v->name, v->summary);
    }
    (void)fprintf(out, "\n'%s help COMMAND' tells all of one; '%s --version' prints the version.\n",
                  p->name, p->name);
    (void)fputs("\nExit status:\n", out);
    write_exits(out, p->exits);
}

/* --- the command --- */

/* How many words of `argv` are this name; 0 if it is another. */
static int match_verb(const char *name, int argc, char **argv)
{
    int words = 0;
    for (; *name != '\0'; words++) {
        size_t len = strcspn(name, " ");
        if (words == argc || strlen(argv[words]) != len || strncmp(argv[words], name, len) != 0) {
            return 0;
        }
        name += len + (name[len] == ' ');
    }
    return words;
}

static const option_verb *find_verb(const option_program *p, int argc, char **argv, int *ret_words)
{
    const option_verb *found = NULL;
    *ret_words = 0;
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        int words = match_verb(v->name, argc, argv);
        if (words > *ret_words) {
            *ret_words = words;
            found = v;
        }
    }
    return found;
}

/* "circuit" is no command, but begins some. */
static int fail_group(const option_program *p, const char *group, const char *second)
{
    size_t len = strlen(group);
    char list[256] = "", text[WORD_MAX + 24];
    size_t n = 0;
    guess g = guess_init(second);
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        if (strncmp(v->name, group, len) == 0 && v->name[len] == ' ' && n < sizeof(list)) {
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s'%s %s'", n > 0 ? ", " : "",
                                  p->name, v->name);
            guess_offer(&g, v->name + len + 1);
        }
    }
    if (n == 0) {
        return -1;
    }
    if (second[0] == '\0' || second[0] == '-') {
        return fail(p, NULL, "%s needs one word more: %s", group, list);
    }
    return fail(p, NULL, "'%s %s' is no command%s", group, second,
                g.best != NULL ? meant(&g, text) : "");
}

static int fail_verb(const option_program *p, int argc, char **argv)
{
    char text[WORD_MAX + 24];
    guess g = guess_init(argv[0]);
    int status = fail_group(p, argv[0], argc > 1 ? argv[1] : "");
    if (status != -1) {
        return status;
    }
    guess_offer(&g, "--version");
    guess_offer(&g, "--help");
    for (const option_verb *v = p->verbs; v->name != NULL; v++) {
        guess_offer(&g, v->name);
    }
    return fail(p, NULL, argv[0][0] == '-' ? "there is no option '%s'%s" : "'%s' is no command%s",
                argv[0], meant(&g, text));
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* help [COMMAND]... */
static int help(const option_program *p, int argc, char **argv)
{
    static char itself[] = "help";
    char *of_help[] = {itself, NULL};
    int words;
    if (argc == 0) {
        options_write_help(stdout, p);
        return 0;
    }
    if (is_help(argv[0])) { /* help --help */
        argc = 1;
        argv = of_help;
    }
    const option_verb *v = find_verb(p, argc, argv, &words);
    if (v != NULL && words == argc) {
        options_write_verb_help(stdout, p, v);
        return 0;
    }
    if (v != NULL) {
        return fail(p, v, "'%s' is one word too many behind '%s'", argv[words], v->name);
    }
    /* "help circuit": all that begin with it. */
    size_t shown = 0, len = strlen(argv[0]);
    for (v = p->verbs; argc == 1 && v->name != NULL; v++) {
        if (strncmp(v->name, argv[0], len) == 0 && v->name[len] == ' ') {
            (void)fputs(shown++ > 0 ? "\n" : "", stdout);
            options_write_verb_help(stdout, p, v);
        }
    }
    return shown > 0 ? 0 : fail_verb(p, argc, argv);
}

/* --- its options --- */

static const option_row *find_option(const option_verb *v, const char *word, size_t len)
{
    for (const option_row *o = v->options; o != NULL && o->name != NULL; o++) {
        bool is_letter = len == 2 && o->letter != 0 && word[1] == o->letter;
        if (is_letter || (strlen(o->name) == len && strncmp(o->name, word, len) == 0)) {
            return o;
        }
    }
    return NULL;
}

static int fail_option(const options_given *g, const char *word)
{
    char text[WORD_MAX + 24];
    guess near = guess_init(word);
    for (const option_row *o = g->verb->options; o != NULL && o->name != NULL; o++) {
        guess_offer(&near, o->name);
    }
    if (g->verb->name[0] == '\0') {
        guess_offer(&near, "--version");
        return options_fail(g, "there is no option '%s'%s", word, meant(&near, text));
    }
    return options_fail(g, "%s has no option '%s'%s", g->verb->name, word, meant(&near, text));
}

static bool is_choice(const char *choices, const char *value)
{
    size_t len = strlen(value);
    for (const char *c = choices; *c != '\0'; c += strspn(c, " ")) {
        size_t n = strcspn(c, " ");
        if (n == len && strncmp(c, value, n) == 0) {
            return true;
        }
        c += n;
    }
    return false;
}

/* An option's or an operand's value. */
static int check_value(const options_given *g, const option_row *o, const char *value,
                       unsigned long *ret_number)
{
    if (o->kind == OPTION_CHOICE && !is_choice(o->choices, value)) {
        return options_fail(g, "%s is one of: %s; not '%s'", o->name, o->choices, value);
    }
    if (o->kind != OPTION_NUMBER) {
        return -1;
    }
    char *end = NULL;
    errno = 0;
    *ret_number = strtoul(value, &end, 10);
    if (value[0] >= '0' && value[0] <= '9' && *end == '\0' && errno == 0 && *ret_number > 0 &&
        *ret_number <= o->max) {
        return -1;
    }
    return o->unit != NULL ? options_fail(g, "%s takes %s (a number from 1 to %lu), not '%s'",
                                          o->name, o->unit, o->max, value)
                           : options_fail(g, "%s takes a number from 1 to %lu, not '%s'", o->name,
                                          o->max, value);
}

static int add_option(options_given *g, const option_row *o, const char *value)
{
    unsigned long number = 0;
    unsigned count = 1;
    int status = value != NULL ? check_value(g, o, value, &number) : -1;
    if (status != -1) {
        return status;
    }
    for (size_t i = 0; i < g->count; i++) {
        count += g->items[i].option == o;
    }
    if (o->max_count > 0 && count > o->max_count) {
        return options_fail(g, "%s can be given %u times; one too many is '%s'", o->name,
                            o->max_count, value != NULL ? value : o->name);
    }
    if (g->count == OPTIONS_GIVEN_MAX) {
        return options_fail(g, "more than %d options are too many", OPTIONS_GIVEN_MAX);
    }
    g->items[g->count].option = o;
    g->items[g->count].value = value;
    g->items[g->count++].number = number;
    return -1;
}

/* argv[*i] begins with a dash. */
static int take_option(options_given *g, int argc, char **argv, int *i)
{
    const char *word = argv[*i], *equals = strchr(word, '=');
    size_t len = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const option_row *o = find_option(g->verb, word, len);
    if (o == NULL) {
        return fail_option(g, word);
    }
    if (o->value == NULL && equals != NULL) {
        return options_fail(g, "%s takes no value: leave '%s' away", o->name, equals);
    }
    if (o->value == NULL) {
        return add_option(g, o, NULL);
    }
    if (equals != NULL) {
        return add_option(g, o, equals + 1);
    }
    if (*i + 1 == argc) {
        return options_fail(g, "%s: a value is missing: write %s %s", o->name, o->name, o->value);
    }
    return add_option(g, o, argv[++*i]);
}

/* "[KIND] KEY": what is no kind is the key. */
static bool may_skip(const option_row *o, const char *word)
{
    return o->is_optional && o->kind == OPTION_CHOICE && o[1].name != NULL && !o[1].is_optional &&
           !is_choice(o->choices, word);
}

static int add_operand(options_given *g, const char *word)
{
    const option_row *rows = g->verb->operands;
    unsigned long ignored;
    size_t n = 0;
    while (rows != NULL && rows[n].name != NULL) {
        n++;
    }
    if (g->operand_count + 1 < n && may_skip(&rows[g->operand_count], word)) {
        g->operands[g->operand_count++] = NULL;
    }
    if (g->operand_count < n) {
        int status = check_value(g, &rows[g->operand_count], word, &ignored);
        g->operands[g->operand_count++] = word;
        return status;
    }
    if (n == 0) {
        return options_fail(g, "'%s' is one argument too many: %s takes options alone", word,
                            who(g->program, g->verb));
    }
    return options_fail(g, "'%s' is one argument too many: %s takes one %s%s%s%s%s", word,
                        who(g->program, g->verb), rows[0].name, n > 1 ? ", one " : "",
                        n > 1 ? rows[1].name : "", n > 2 ? ", one " : "",
                        n > 2 ? rows[2].name : "");
}

static int check_operands(const options_given *g)
{
    const option_row *rows = g->verb->operands;
    char list[128] = "";
    size_t n = 0, next = g->operand_count;
    while (rows != NULL && rows[next].name != NULL && rows[next].is_optional) {
        next++;
    }
    if (rows == NULL || rows[next].name == NULL) {
        return -1;
    }
    if (rows[next].if_missing != NULL) {
        return options_fail(g, "%s", rows[next].if_missing);
    }
    for (size_t i = 0; rows[i].name != NULL && !rows[i].is_optional; i++) {
        bool is_last = rows[i + 1].name == NULL || rows[i + 1].is_optional;
        MVPN_ASSERT(n < sizeof(list));
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s",
                              i == 0    ? ""
                              : is_last ? " and "
                                        : ", ",
                              rows[i].name);
    }
    return options_fail(g, "%s needs %s", who(g->program, g->verb), list);
}

static int parse_rest(options_given *g, int argc, char **argv)
{
    bool is_over = false; /* "--" was read */
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        int status = -1;
        if (!is_over && strcmp(word, "--") == 0) {
            is_over = true;
        } else if (!is_over && is_help(word)) {
            options_write_verb_help(stdout, g->program, g->verb);
            return 0;
        } else if (!is_over && word[0] == '-' && word[1] != '\0') {
            status = take_option(g, argc, argv, &i);
        } else {
            status = add_operand(g, word);
            const option_row *last = status == -1 ? &g->verb->operands[g->operand_count - 1] : NULL;
            if (last != NULL && last->is_command) {
                g->rest = argv + i;
                g->rest_count = argc - i;
                return -1;
            }
        }
        if (status != -1) {
            return status;
        }
    }
    return check_operands(g);
}

int options_parse(const option_program *p, int argc, char **argv, options_given *ret)
{
    int words = 0;
    argc--;
    argv++;
    *ret = (options_given){.program = p, .verb = p->verbs};
    if (argc > 0 && strcmp(argv[0], "--version") == 0) {
        (void)printf("%s %s\n", p->name, MVPN_VERSION);
        return 0;
    }
    if (has_verbs(p)) {
        if (argc == 0) {
            options_write_help(stderr, p);
            return OPTIONS_USAGE;
        }
        if (is_help(argv[0]) || strcmp(argv[0], "help") == 0) {
            return help(p, argc - 1, argv + 1);
        }
        ret->verb = find_verb(p, argc, argv, &words);
        if (ret->verb == NULL) {
            return argc > 1 && is_help(argv[1]) ? help(p, 1, argv) : fail_verb(p, argc, argv);
        }
    }
    ret->rest = argv + words;
    ret->rest_count = argc - words;
    return parse_rest(ret, argc - words, argv + words);
}

/* --- what was given --- */

/* The item that holds: the last; `count` if there is none. */
static size_t find_item(const options_given *g, const char *name)
{
    size_t found = g->count;
    MVPN_ASSERT(find_option(g->verb, name, strlen(name)) != NULL);
    for (size_t i = 0; i < g->count; i++) {
        if (strcmp(g->items[i].option->name, name) == 0) {
            found = i;
        }
    }
    return found;
}

bool options_has(const options_given *given, const char *name)
{
    return find_item(given, name) < given->count;
}

const char *options_text(const options_given *given, const char *name)
{
    size_t i = find_item(given, name);
    return i < given->count ? given->items[i].value : NULL;
}

unsigned long options_number(const options_given *given, const char *name, unsigned long otherwise)
{
    size_t i = find_item(given, name);
    return i < given->count ? given->items[i].number : otherwise;
}

/* --- the tables --- */

static const char *check_row(const option_row *o, bool is_operand)
{
    if (o->help == NULL || o->help[0] == '\0') {
        return "an option without help";
    }
    if (!is_operand && strncmp(o->name, "--", 2) != 0) {
        return "an option whose name does not begin with --";
    }
    if (!is_operand && (o->kind == OPTION_FLAG) != (o->value == NULL)) {
        return "a flag with a value, or an option without";
    }
    if (o->kind == OPTION_NUMBER && o->max == 0) {
        return "a number without a limit";
    }
    return (o->kind == OPTION_CHOICE) == (o->choices != NULL) ? NULL : "a choice without choices";
}

static const char *check_rows(const option_row *rows, bool is_operand)
{
    const char *fault = NULL;
    for (const option_row *o = rows; fault == NULL && o != NULL && o->name != NULL; o++) {
        fault = check_row(o, is_operand);
        for (const option_row *other = rows; fault == NULL && other != o; other++) {
            if (strcmp(other->name, o->name) == 0) {
                fault = "a name twice";
            } else if (o->letter != 0 && other->letter == o->letter) {
                fault = "a letter twice";
            } else if (is_operand && other->is_optional && !o->is_optional &&
                       other->kind != OPTION_CHOICE) {
                fault = "an operand that must be there behind one that need not";
            }
        }
    }
    return fault;
}

const char *options_check(const option_program *p)
{
    const char *fault = p->exits == NULL ? "no exit status" : NULL;
    for (const option_verb *v = p->verbs; fault == NULL && v->name != NULL; v++) {
        size_t operands = 0;
        while (v->operands != NULL && v->operands[operands].name != NULL) {
            operands++;
        }
        fault = v->summary == NULL                ? "a command without a summary"
                : operands > OPTIONS_OPERANDS_MAX ? "too many operands"
                                                  : check_rows(v->options, false);
        fault = fault != NULL ? fault : check_rows(v->operands, true);
        for (const option_verb *other = p->verbs; fault == NULL && other != v; other++) {
            fault = strcmp(other->name, v->name) == 0 ? "a command twice" : NULL;
        }
    }
    return fault;
}
