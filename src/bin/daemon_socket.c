#include "bin/daemon_socket.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bin/user_dir.h"
#include "io/config.h"

/* Of a client that runs as this person (meshvpn proxy). */
static bool find_own(char out[static PATH_MAX])
{
    char dir[PATH_MAX];
    return user_dir_find(dir) && snprintf(out, PATH_MAX, "%s/control.sock", dir) < PATH_MAX &&
           access(out, F_OK) == 0;
}

bool daemon_socket_find(char out[static PATH_MAX])
{
    unsigned count = 0;
    if (access(MVPN_CONFIG_CONTROL_SOCKET, F_OK) != 0 && find_own(out)) {
        return true;
    }
    (void)snprintf(out, PATH_MAX, "%s", MVPN_CONFIG_CONTROL_SOCKET);
    DIR *dir = access(out, F_OK) == 0 ? NULL : opendir(MVPN_CONFIG_RUN_DIR);
    if (dir == NULL) {
        return true; /* there, or the question will fail and say so */
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        size_t len = strlen(e->d_name);
        if (len > 5 && strcmp(e->d_name + len - 5, ".sock") == 0) {
            (void)snprintf(out, PATH_MAX, "%s/%s", MVPN_CONFIG_RUN_DIR, e->d_name);
            count++;
        }
    }
    (void)closedir(dir);
    if (count > 1) {
        (void)fprintf(stderr, "meshvpn: %u daemons run here: choose with --control %s/NAME.sock\n",
                      count, MVPN_CONFIG_RUN_DIR);
    }
    return count <= 1;
}
