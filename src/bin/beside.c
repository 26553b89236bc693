#include "bin/beside.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void exec_beside(const char *name, char **argv)
{
    char file[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", file, sizeof(file) - 1);
    char *slash = n > 0 ? (file[n] = '\0', strrchr(file, '/')) : NULL;
    if (slash != NULL) {
        size_t room = sizeof(file) - (size_t)(slash + 1 - file);
        if ((size_t)snprintf(slash + 1, room, "%s", name) < room) {
            (void)execv(file, argv);
        }
    }
    (void)execvp(name, argv);
}
