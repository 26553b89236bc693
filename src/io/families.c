#include "io/families.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"

/* Connecting a UDP socket sends nothing: it only asks the routing table. */
static bool source_to(const struct sockaddr *to, socklen_t len, const mvpn_marker *marker,
                      mvpn_addr *ret)
{
    struct sockaddr_storage name = {0};
    socklen_t name_len = sizeof(name);
    int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    bool has = mvpn_mark_socket(fd, marker) == 0 && connect(fd, to, len) == 0 &&
               getsockname(fd, (struct sockaddr *)&name, &name_len) == 0;
    (void)close(fd);
    if (has) {
        *ret = mvpn_sockaddr_to_addr(&name);
        ret->port = 0;
    }
    return has;
}

static bool source6(const mvpn_marker *marker, mvpn_addr *ret)
{
    const struct sockaddr_in6 to = {
        .sin6_family = AF_INET6,
        .sin6_port = htons(9),
        .sin6_addr.s6_addr = {0x20, 0x01, 0x48, 0x60, [15] = 1},
    };
    return source_to((const struct sockaddr *)&to, sizeof(to), marker, ret);
}

static bool source4(const mvpn_marker *marker, mvpn_addr *ret)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(9),
        .sin_addr.s_addr = htonl(0x08080808),
    };
    return source_to((const struct sockaddr *)&to, sizeof(to), marker, ret);
}

bool mvpn_host_has_ipv6(const mvpn_marker *marker)
{
    mvpn_addr source;
    return source6(marker, &source);
}

bool mvpn_host_lacks_ipv4(const mvpn_marker *marker)
{
    mvpn_addr source;
    return !source4(marker, &source) && source6(marker, &source);
}

size_t mvpn_host_sources(const mvpn_marker *marker, mvpn_addr ret[static 2])
{
    size_t count = 0;
    count += source4(marker, &ret[count]) ? 1 : 0;
    count += source6(marker, &ret[count]) ? 1 : 0;
    return count;
}
