#include "io/notify.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void mvpn_notify_init(mvpn_notify *notify)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    notify->fd = -1;
    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(sa.sun_path)) {
        return;
    }
    size_t len = strlen(path);
    memcpy(sa.sun_path, path, len);
    if (path[0] == '@') {
        sa.sun_path[0] = '\0'; /* abstract name */
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (connect(fd, (const struct sockaddr *)&sa, size) != 0) {
        (void)close(fd);
        return;
    }
    notify->fd = fd;
}

void mvpn_notify_done(mvpn_notify *notify)
{
    if (notify->fd >= 0) {
        (void)close(notify->fd);
        notify->fd = -1;
    }
}

void mvpn_notify_send(const mvpn_notify *notify, const char *assignments)
{
    if (notify->fd >= 0) {
        (void)send(notify->fd, assignments, strlen(assignments), MSG_NOSIGNAL);
    }
}

unsigned mvpn_notify_watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    if (usec == NULL || (pid != NULL && strtoul(pid, NULL, 10) != (unsigned long)getpid())) {
        return 0;
    }
    unsigned long long ms = strtoull(usec, NULL, 10) / 2000;
    return ms > UINT_MAX ? UINT_MAX : (unsigned)ms;
}
