#include "bin/programs.h"

#include <errno.h>
#include <glob.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/file.h"
#include "io/sandbox.h"

static const program_info programs[MVPN_CONFIG_KINDS] = {
    {MVPN_CONFIG_RELAY, "meshvpn-relay", "meshvpn-relay.service"},
    {MVPN_CONFIG_EXIT, "meshvpn-exit-node", "meshvpn-exit-node.service"},
    {MVPN_CONFIG_CLIENT, "meshvpn-client", "meshvpn.service"},
    {MVPN_CONFIG_BOOTSTRAP, "meshvpn-dht-bootstrap", "meshvpn-dht-bootstrap.service"},
    {MVPN_CONFIG_DISCOVERY, "meshvpn-discovery", "meshvpn-discovery.service"},
};

const program_info *program_of(enum mvpn_config_kind kind)
{
    size_t i = 0;
    while (i + 1 < MVPN_CONFIG_KINDS && programs[i].kind != kind) {
        i++;
    }
    return &programs[i];
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

bool program_has_systemd(void)
{
    return is_there("/run/systemd/system"); /* sd_booted(3) */
}

bool program_has_unit(const char *unit)
{
    static const char *const dirs[] = {"/etc/systemd/system", "/run/systemd/system",
                                       "/lib/systemd/system", "/usr/lib/systemd/system"};
    char path[PATH_MAX];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(dirs); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dirs[i], unit);
        if (is_there(path)) {
            return true;
        }
    }
    return false;
}

bool program_unit_is_enabled(const char *unit)
{
    char pattern[PATH_MAX];
    glob_t found = {.gl_pathc = 0};
    (void)snprintf(pattern, sizeof(pattern), "/etc/systemd/system/*.wants/%s", unit);
    bool is_found = glob(pattern, GLOB_NOSORT, NULL, &found) == 0 && found.gl_pathc > 0;
    globfree(&found);
    return is_found;
}

void program_trust_user(void)
{
    const struct passwd *user = getpwnam(MVPN_SANDBOX_USER);
    if (user != NULL) {
        mvpn_file_trust_owner(user->pw_uid);
    }
}

bool program_is_running(const char *control_socket)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool fits = strlen(control_socket) < sizeof(addr.sun_path);
    if (fits) {
        memcpy(addr.sun_path, control_socket, strlen(control_socket));
    }
    /* Who may not ask cannot tell; that it is closed to him is the better guess. */
    bool runs = fd >= 0 && fits &&
                (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0 || errno == EACCES);
    if (fd >= 0) {
        (void)close(fd);
    }
    return runs;
}
