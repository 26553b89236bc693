/* A file on stderr stays within its limit if somebody set one, and only then. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "io/logger.h"

#define LIMIT (256u << 10)

/* Log `lines` long lines into a file; its size. The last line must be there. */
static off_t log_lines(unsigned lines, const char *limit)
{
    char path[] = "/tmp/meshvpn-logger.XXXXXX", end[64] = "";
    struct stat st;
    int fd = mkostemp(path, O_APPEND), status = 0;
    assert_true(fd >= 0);
    pid_t child = fork();
    if (child == 0) {
        mvpn_log log;
        (void)dup2(fd, STDERR_FILENO);
        (void)unsetenv("JOURNAL_STREAM");
        (void)(limit != NULL ? setenv(MVPN_LOGGER_FILE_MAX, limit, 1)
                             : unsetenv(MVPN_LOGGER_FILE_MAX));
        mvpn_logger_init(&log, MVPN_LOG_INFO);
        for (unsigned i = 1; i <= lines; i++) {
            mvpn_logf(&log, MVPN_LOG_INFO, "%0*u line %u", 200, 0u, i);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(fstat(fd, &st), 0);
    (void)snprintf(end, sizeof(end), " line %u\n", lines);
    char last[64] = "";
    assert_int_equal(pread(fd, last, strlen(end), st.st_size - (off_t)strlen(end)), strlen(end));
    assert_string_equal(last, end);
    (void)close(fd);
    (void)unlink(path);
    return st.st_size;
}

static void test_limit(void **state)
{
    (void)state;
    assert_true(log_lines(100, "262144") > 20000); /* far below: nothing is lost */
    for (unsigned lines = 900; lines < 6000; lines += 500) {
        assert_true(log_lines(lines, "262144") <= LIMIT);
    }
    assert_true(log_lines(6000, NULL) > 4 * LIMIT); /* somebody else's file */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
