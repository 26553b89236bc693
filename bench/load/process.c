#include "bench/load/process.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool read_file(unsigned pid, const char *name, char *out, size_t size)
{
    char path[64];
    if (pid == 0) {
        (void)snprintf(path, sizeof(path), "/proc/self/%s", name);
    } else {
        (void)snprintf(path, sizeof(path), "/proc/%u/%s", pid, name);
    }
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return false;
    }
    size_t n = fread(out, 1, size - 1, f);
    out[n] = '\0';
    (void)fclose(f);
    return n > 0;
}

bool load_process_read(unsigned pid, load_process *ret)
{
    char text[1024];
    unsigned long long pages, user, system;
    if (!read_file(pid, "statm", text, sizeof(text)) || sscanf(text, "%*u %llu", &pages) != 1 ||
        !read_file(pid, "stat", text, sizeof(text))) {
        return false;
    }
    /* The name may hold anything; after its last parenthesis come state and eleven numbers. */
    const char *rest = strrchr(text, ')');
    if (rest == NULL || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                               &user, &system) != 2) {
        return false;
    }
    ret->rss_bytes = pages * (unsigned long long)sysconf(_SC_PAGESIZE);
    ret->cpu_s = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return true;
}
