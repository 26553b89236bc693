#include "io/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

socklen_t mvpn_sockaddr_from_addr(const mvpn_addr *addr, struct sockaddr_storage *ret)
{
    if (addr->family == 4) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(addr->port)};
        memcpy(&v4.sin_addr, addr->ip, 4);
        memcpy(ret, &v4, sizeof(v4));
        return sizeof(v4);
    }
    if (addr->family == 6) {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(addr->port)};
        memcpy(&v6.sin6_addr, addr->ip, 16);
        memcpy(ret, &v6, sizeof(v6));
        return sizeof(v6);
    }
    return 0;
}

mvpn_addr mvpn_sockaddr_to_addr(const struct sockaddr_storage *sa)
{
    mvpn_addr addr = {0};
    if (sa->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, sa, sizeof(v4));
        addr.family = 4;
        addr.port = ntohs(v4.sin_port);
        memcpy(addr.ip, &v4.sin_addr, 4);
    } else if (sa->ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, sa, sizeof(v6));
        addr.family = 6;
        addr.port = ntohs(v6.sin6_port);
        memcpy(addr.ip, &v6.sin6_addr, 16);
    }
    return addr;
}
