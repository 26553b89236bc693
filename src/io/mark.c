#include "io/mark.h"

#include <errno.h>
#include <sys/socket.h>

int mvpn_mark_socket(int fd, const mvpn_marker *marker)
{
    if (marker == NULL || (marker->mark == 0 && marker->ask == NULL)) {
        return 0;
    }
    if (marker->mark != 0) {
        uint32_t mark = marker->mark;
        if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0) {
            return 0;
        }
        if (errno != EPERM || marker->ask == NULL) {
            return -1;
        }
    }
    return marker->ask(marker->ctx, fd);
}
