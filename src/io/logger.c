#include "io/logger.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

/* syslog(3) priorities and words, by level. */
static const struct {
    const char *name;
    const char *priority;
    const char *word;
} levels[] = {
    [MVPN_LOG_ERROR] = {"error", "<3>", "error: "},
    [MVPN_LOG_WARN] = {"warn", "<4>", "warning: "},
    [MVPN_LOG_INFO] = {"info", "<6>", ""},
    [MVPN_LOG_DEBUG] = {"debug", "<7>", "debug: "},
};

/* ---- a file that nobody rotates ---- */

/* How often its size is looked at. */
#define LOOK_BYTES (64u << 10)

static size_t file_max; /* 0: no limit */
static _Atomic size_t written;

/* Who writes the line that is too much begins it anew: the sandbox lets no file be renamed. */
static void bound_file(size_t len)
{
    static const char note[] = "the log had become too long: it begins anew here\n";
    struct stat st;
    if (file_max == 0 || atomic_fetch_add(&written, len) + len < LOOK_BYTES) {
        return;
    }
    atomic_store(&written, 0);
    if (fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode) &&
        st.st_size > (off_t)(file_max - LOOK_BYTES) && ftruncate(STDERR_FILENO, 0) == 0 &&
        write(STDERR_FILENO, note, sizeof(note) - 1) < 0) {
        return; /* nowhere to tell */
    }
}

/* ---- lines ---- */

/* One write per line, so that lines of several processes on one stderr do not mix. */
static void write_line(const char *prefix, const char *text)
{
    char line[640];
    int n = snprintf(line, sizeof(line) - 1, "%s%s", prefix, text);
    size_t len = n < 0 ? 0 : MVPN_MIN((size_t)n, sizeof(line) - 2);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?'; /* no line breaks or terminal controls out of quoted input */
        }
    }
    line[len] = '\n';
    bound_file(len + 1);
    if (write(STDERR_FILENO, line, len + 1) < 0) {
        return; /* nowhere to tell */
    }
}

static void write_plain(void *ctx, enum mvpn_log_level level, const char *text)
{
    (void)ctx;
    write_line(levels[level].word, text);
}

static void write_journal(void *ctx, enum mvpn_log_level level, const char *text)
{
    (void)ctx;
    write_line(levels[level].priority, text);
}

void mvpn_logger_init(mvpn_log *log, enum mvpn_log_level level)
{
    const char *limit = getenv(MVPN_LOGGER_FILE_MAX);
    file_max = limit != NULL ? MVPN_MAX((size_t)strtoul(limit, NULL, 10), 2 * LOOK_BYTES) : 0;
    log->write = getenv("JOURNAL_STREAM") != NULL ? write_journal : write_plain;
    log->ctx = NULL;
    log->level = level;
}

int mvpn_logger_parse_level(const char *text, enum mvpn_log_level *ret)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(levels); i++) {
        if (strcmp(text, levels[i].name) == 0) {
            *ret = (enum mvpn_log_level)i;
            return 0;
        }
    }
    return MVPN_E_FORMAT;
}
