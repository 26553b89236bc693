#include "bin/log_command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bin/config_command.h"
#include "bin/programs.h"
#include "io/logger.h"

#define LINES_DEFAULT 50
/* How long a new line may wait for its reader. */
#define FOLLOW_MS 250

/* ---- lines ---- */

enum mvpn_log_level log_level_of(const char *line)
{
    return strncmp(line, "error: ", 7) == 0     ? MVPN_LOG_ERROR
           : strncmp(line, "warning: ", 9) == 0 ? MVPN_LOG_WARN
           : strncmp(line, "debug: ", 7) == 0   ? MVPN_LOG_DEBUG
                                                : MVPN_LOG_INFO;
}

const char *log_last(const char *text, size_t size, unsigned long lines, enum mvpn_log_level level)
{
    size_t at = size;
    while (at > 0 && lines > 0) {
        size_t begin = at - 1; /* the line end itself, if it has one */
        while (begin > 0 && text[begin - 1] != '\n') {
            begin--;
        }
        lines -= log_level_of(text + begin) <= level;
        at = begin;
    }
    return text + at;
}

static void print_lines(const char *text, enum mvpn_log_level level)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        if (log_level_of(text) <= level) {
            (void)printf("%.*s\n", (int)len, text);
        }
        text += len + (text[len] == '\n');
    }
    (void)fflush(stdout);
}

/* ---- the file ---- */

/* What stands in the file behind `*from`, at most LOG_READ_MAX bytes of its end, as a string for
 * free(); NULL: it cannot be read. `*from` moves to the end of the last whole line. */
static char *read_from(const char *path, off_t *from)
{
    struct stat st;
    char *text = malloc(LOG_READ_MAX + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = -1;
    if (text != NULL && fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        if (*from > st.st_size) {
            *from = 0; /* it was begun anew */
        }
        if (st.st_size - *from > (off_t)LOG_READ_MAX) {
            *from = st.st_size - (off_t)LOG_READ_MAX;
        }
        n = pread(fd, text, LOG_READ_MAX, *from);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    if (n < 0) {
        free(text);
        return NULL;
    }
    while (n > 0 && text[n - 1] != '\n') {
        n--;
    }
    text[n] = '\0';
    *from += n;
    return text;
}

static int follow(const char *path, off_t from, enum mvpn_log_level level)
{
    static const struct timespec pause = {.tv_nsec = FOLLOW_MS * 1000000};
    for (;;) {
        (void)nanosleep(&pause, NULL);
        char *text = read_from(path, &from);
        if (text != NULL) { /* not there for a moment: it is being replaced */
            print_lines(text, level);
            free(text);
        }
        if (ferror(stdout)) {
            return EXIT_FAILURE;
        }
    }
}

static int show_file(const char *path, unsigned long lines, enum mvpn_log_level level,
                     bool wants_more)
{
    off_t from = 0;
    char *text = read_from(path, &from);
    if (text == NULL) {
        if (errno == EACCES) {
            (void)fprintf(stderr, "meshvpn: you may not read %s. Use sudo\n", path);
        } else {
            (void)fprintf(
                stderr,
                "meshvpn: there is no log: systemd does not run the client, and %s, where "
                "meshvpn up lets it write, cannot be read: %s\n",
                path, strerror(errno));
        }
        return EXIT_FAILURE;
    }
    print_lines(log_last(text, strlen(text), lines, level), level);
    free(text);
    return wants_more ? follow(path, from, level) : EXIT_SUCCESS;
}

/* ---- the journal ---- */

static int show_journal(const char *unit, unsigned long lines, enum mvpn_log_level level,
                        bool wants_more)
{
    static const char *const priorities[] = {[MVPN_LOG_ERROR] = "err",
                                             [MVPN_LOG_WARN] = "warning",
                                             [MVPN_LOG_INFO] = "info",
                                             [MVPN_LOG_DEBUG] = "debug"};
    char unit_text[64], lines_text[32], level_text[32];
    (void)snprintf(unit_text, sizeof(unit_text), "--unit=%s", unit);
    (void)snprintf(lines_text, sizeof(lines_text), "--lines=%lu", lines);
    (void)snprintf(level_text, sizeof(level_text), "--priority=%s", priorities[level]);
    static char program[] = "journalctl", follow_text[] = "--follow", no_pager[] = "--no-pager";
    char *argv[] = {program, unit_text, lines_text, level_text, wants_more ? follow_text : no_pager,
                    NULL};
    (void)execvp(program, argv);
    (void)fprintf(stderr, "meshvpn: cannot run journalctl: %s\n", strerror(errno));
    return EXIT_FAILURE;
}

int log_command(const options_given *given)
{
    static mvpn_config config; /* 50 KB */
    char file[PATH_MAX], path[PATH_MAX + sizeof(LOG_FILE_NAME) + 1];
    enum mvpn_log_level level = MVPN_LOG_DEBUG;
    const char *word = options_text(given, "--level");
    unsigned long lines = options_number(given, "--lines", LINES_DEFAULT);
    enum mvpn_config_kind kind =
        given->operands[0] != NULL ? config_kind_and_file(given, file) : config_find(file);
    const program_info *p = program_of(kind);
    bool wants_more = options_has(given, "--follow");
    if (word != NULL && mvpn_logger_parse_level(word, &level) != 0) {
        return options_fail(given, "--level is error, warn, info or debug");
    }
    if (program_has_systemd() && program_has_unit(p->unit)) {
        return show_journal(p->unit, lines, level, wants_more);
    }
    if (kind != MVPN_CONFIG_CLIENT) {
        (void)fprintf(stderr,
                      "meshvpn: systemd does not run %s here: its log is where the program that "
                      "started it put its standard error\n",
                      p->name);
        return EXIT_FAILURE;
    }
    if (mvpn_config_load(file, kind, &config, NULL) != 0) {
        mvpn_config_init(&config, kind);
    }
    (void)snprintf(path, sizeof(path), "%s/" LOG_FILE_NAME, config.run_dir);
    return show_file(path, lines, level, wants_more);
}
