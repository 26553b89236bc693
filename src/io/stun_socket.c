#include "io/stun_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/mark.h"
#include "io/sockaddr.h"

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

int mvpn_stun_socket_open(const mvpn_addr *bind_to, uint32_t mark)
{
    struct sockaddr_storage sa;
    socklen_t n = mvpn_sockaddr_from_addr(bind_to, &sa);
    int fd = socket(bind_to->family == 4 ? AF_INET : AF_INET6,
                    SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if ((bind_to->family == 6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) != 0) ||
        mvpn_mark_socket(fd, &(mvpn_marker){.mark = mark}) != 0 ||
        bind(fd, (struct sockaddr *)&sa, n) != 0) {
        int err = errno;
        (void)close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

mvpn_addr mvpn_stun_socket_local(int fd)
{
    struct sockaddr_storage sa = {0};
    socklen_t n = sizeof(sa);
    return getsockname(fd, (struct sockaddr *)&sa, &n) == 0 ? mvpn_sockaddr_to_addr(&sa)
                                                            : (mvpn_addr){0};
}

ssize_t mvpn_stun_socket_recv(int fd, uint8_t *out, size_t size, mvpn_addr *ret_from)
{
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    ssize_t n = recvfrom(fd, out, size, 0, (struct sockaddr *)&sa, &len);
    *ret_from = mvpn_sockaddr_to_addr(&sa);
    return n;
}

void mvpn_stun_socket_send(int fd, const mvpn_addr *to, const uint8_t *bytes, size_t n)
{
    struct sockaddr_storage sa;
    socklen_t len = mvpn_sockaddr_from_addr(to, &sa);
    (void)sendto(fd, bytes, n, MSG_DONTWAIT, (struct sockaddr *)&sa, len);
}

mvpn_addr mvpn_stun_socket_source(const mvpn_addr *to, uint32_t mark)
{
    struct sockaddr_storage sa;
    socklen_t len = mvpn_sockaddr_from_addr(to, &sa);
    mvpn_addr any = {.family = to->family}, source = {0};
    int fd = mvpn_stun_socket_open(&any, mark);
    if (fd < 0) {
        return source;
    }
    /* Connecting a UDP socket sends nothing. */
    if (connect(fd, (struct sockaddr *)&sa, len) == 0) {
        source = mvpn_stun_socket_local(fd);
        source.port = 0;
    }
    (void)close(fd);
    return source;
}
