/*
 * The command line of a program as a table: its commands, their options and operands, what each
 * means and how the program ends. The parser, --help, the manual pages and the completions of the
 * shells are made from it, so that none of them can say what another does not. The tables are in
 * options_*.c.
 */
#ifndef MVPN_BIN_OPTIONS_H
#define MVPN_BIN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/macros.h"

#define OPTIONS_USAGE 2 /* the exit status of a wrong command line */

/* More than any command line of a person; a table's limits are lower (option_row.max_count). */
#define OPTIONS_GIVEN_MAX 64
#define OPTIONS_OPERANDS_MAX 3

enum option_kind {
    OPTION_FLAG,   /* takes no value */
    OPTION_TEXT,   /* any */
    OPTION_NUMBER, /* 1 to `max`, in `unit` */
    OPTION_CHOICE, /* one of `choices` */
    OPTION_FILE,   /* these only help the shells */
    OPTION_DIR,
    OPTION_SOCKET,
};

/* An option, or an operand (then `name` is the word that stands for it). */
typedef struct option_row {
    const char *name;  /* "--json"; NULL ends a list */
    char letter;       /* 'c' if it can be written as -c; else 0 */
    const char *value; /* what follows, such as "SOCKET"; NULL: nothing */
    enum option_kind kind;
    const char *help;
    const char *choices;    /* "relay exit client" */
    const char *unit;       /* "milliseconds" */
    unsigned long max;      /* of a number */
    unsigned max_count;     /* how often it may be given; 0: the last one holds */
    bool is_optional;       /* operands, from the right */
    bool is_command;        /* operands, the last: it and what follows go to `rest`, unread */
    const char *if_missing; /* operands: what to say, if the name is too little */
} option_row;

typedef struct option_exit {
    int status;
    const char *text; /* NULL ends a list */
} option_exit;

typedef struct option_example {
    const char *command; /* NULL ends a list */
    const char *text;
} option_example;

typedef struct option_verb {
    const char *name; /* "circuit new"; "" in a program without commands; NULL ends a list */
    int id;           /* the program's own enumeration */
    const char *summary;
    const char *text; /* paragraphs between empty lines; NULL: the summary says it all */
    const option_row *options;
    const option_row *operands;
    const option_exit *exits;
    const option_example *examples;
} option_verb;

typedef struct option_program {
    const char *name;
    unsigned section; /* of the manual */
    const char *summary;
    const char *text;
    const option_verb *verbs;
    const option_exit *exits; /* of all commands that have none of their own */
    const option_row *files;  /* name and help */
    const char *see_also;     /* "meshvpn-client 8, meshvpn 1" */
} option_program;

/* A command line that was read. Texts are those of argv. */
typedef struct options_given {
    const option_program *program;
    const option_verb *verb;
    size_t count;
    struct {
        const option_row *option;
        const char *value; /* NULL: a flag */
        unsigned long number;
    } items[OPTIONS_GIVEN_MAX];
    size_t operand_count;
    const char *operands[OPTIONS_OPERANDS_MAX];
    char **rest; /* argv behind the verb, or a command that is an operand; ended by NULL */
    int rest_count;
} options_given;

/**
 * Read a command line. Returns -1 to go on; else all has been said and this is the exit status: 0
 * after --help, help and --version, OPTIONS_USAGE after a mistake. `argv[0]` is not looked at.
 */
int options_parse(const option_program *program, int argc, char **argv, options_given *ret);

/** Whether an option was given; the verb must have it. */
bool options_has(const options_given *given, const char *name);
/** The last value of an option, or NULL. */
const char *options_text(const options_given *given, const char *name);
/** The last number of an option, or `otherwise`. */
unsigned long options_number(const options_given *given, const char *name, unsigned long otherwise);

/** Say on stderr what is wrong with the command line, and where help is; returns OPTIONS_USAGE. */
int options_fail(const options_given *given, const char *fmt, ...) MVPN_PRINTF(2, 3);

/** What `PROGRAM help` prints; and of one command. */
void options_write_help(FILE *out, const option_program *program);
void options_write_verb_help(FILE *out, const option_program *program, const option_verb *verb);

/** The synopsis of a command without the program's name: "ping NODE [--count N] [--json]". */
#define OPTIONS_SYNOPSIS_SIZE 512
void options_synopsis(const option_verb *verb, char out[static OPTIONS_SYNOPSIS_SIZE]);

/** Rules of the tables themselves; NULL, or what is wrong. For the test. */
const char *options_check(const option_program *program);

#endif
