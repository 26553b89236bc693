#include "io/mark.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

/* One per process, like the rights that it stands for: libraries open sockets in our name. */
static struct {
    mvpn_mark_fn *fn;
    void *ctx;
} helper;

int mvpn_mark_socket(int fd, uint32_t mark)
{
    if (mark == 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0) {
        return 0;
    }
    return errno == EPERM && helper.fn != NULL ? helper.fn(helper.ctx, fd) : -1;
}

void mvpn_mark_ask(mvpn_mark_fn *fn, void *ctx)
{
    helper.fn = fn;
    helper.ctx = ctx;
}
