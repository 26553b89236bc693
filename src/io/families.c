#include "io/families.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connecting a UDP socket sends nothing: it only asks the routing table. */
static bool has_route(int family, const void *to, socklen_t len)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    bool has = connect(fd, to, len) == 0;
    (void)close(fd);
    return has;
}

bool mvpn_host_has_ipv6(void)
{
    const struct sockaddr_in6 to = {
        .sin6_family = AF_INET6,
        .sin6_port = htons(9),
        .sin6_addr.s6_addr = {0x20, 0x01, 0x48, 0x60, [15] = 1},
    };
    return has_route(AF_INET6, &to, sizeof(to));
}

bool mvpn_host_lacks_ipv4(void)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(9),
        .sin_addr.s_addr = htonl(0x08080808),
    };
    return !has_route(AF_INET, &to, sizeof(to)) && mvpn_host_has_ipv6();
}
