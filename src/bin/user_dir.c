#include "bin/user_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool user_dir_find(char out[static PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state != NULL && state[0] == '/') { /* others are to be ignored, says the specification */
        n = snprintf(out, PATH_MAX, "%s/meshvpn", state);
    } else if (home != NULL && home[0] == '/') {
        n = snprintf(out, PATH_MAX, "%s/.local/state/meshvpn", home);
    }
    return n > 0 && n < PATH_MAX;
}

void user_dir_make_parents(const char *path)
{
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof(dir), "%s", path);
    for (char *slash = strchr(dir + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(dir, 0700);
        *slash = '/';
    }
}
