#include "bin/output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_broken_pipe(int number)
{
    static const char text[] =
        "meshvpn: cannot write to standard output: nobody reads it any more\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
        _exit(EXIT_FAILURE); /* nor that */
    }
    _exit(EXIT_FAILURE);
}

void output_begin(void)
{
    const struct sigaction action = {.sa_handler = on_broken_pipe}; /* exec takes it away */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        /* The lowest free number is taken: this one. */
        if (fcntl(fd, F_GETFD) < 0 &&
            open(fd == STDIN_FILENO ? "/dev/null" : "/dev/full", O_RDWR) != fd) {
            _exit(EXIT_FAILURE);
        }
    }
    (void)sigaction(SIGPIPE, &action, NULL);
}

bool output_is_sound(void)
{
    return fflush(stdout) == 0 && ferror(stdout) == 0;
}

int output_end(int exit_status)
{
    errno = 0;
    if (output_is_sound()) {
        return exit_status;
    }
    (void)fprintf(stderr, "meshvpn: cannot write to standard output%s%s\n", errno != 0 ? ": " : "",
                  errno != 0 ? strerror(errno) : "");
    return EXIT_FAILURE;
}
