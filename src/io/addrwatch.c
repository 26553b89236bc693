#include "io/addrwatch.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"

int mvpn_addrwatch_open(void)
{
    struct sockaddr_nl groups = {
        .nl_family = AF_NETLINK,
        .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&groups, sizeof(groups)) != 0) {
        int err = errno;
        (void)close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

bool mvpn_addrwatch_read(int fd)
{
    uint8_t buf[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
    bool changed = false;
    for (;;) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n < 0 && errno == ENOBUFS) {
            changed = true; /* more than the socket could hold */
            continue;
        }
        if (n <= 0) {
            return changed;
        }
        uint32_t left = (uint32_t)n;
        for (struct nlmsghdr *m = (struct nlmsghdr *)buf; NLMSG_OK(m, left);
             m = NLMSG_NEXT(m, left)) {
            changed |= m->nlmsg_type == RTM_NEWADDR || m->nlmsg_type == RTM_DELADDR;
        }
    }
}

static bool is_link_local(const mvpn_addr *a)
{
    return a->family == 4 ? a->ip[0] == 169 && a->ip[1] == 254
                          : a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* False if it is none that others could reach. */
static bool take_address(const struct ifaddrs *it, const char *except, mvpn_addr *ret)
{
    struct sockaddr_storage name = {0};
    if (it->ifa_addr == NULL || (it->ifa_flags & IFF_UP) == 0 ||
        (it->ifa_flags & IFF_LOOPBACK) != 0 ||
        (except != NULL && strcmp(it->ifa_name, except) == 0)) {
        return false;
    }
    if (it->ifa_addr->sa_family == AF_INET) {
        memcpy(&name, it->ifa_addr, sizeof(struct sockaddr_in));
    } else if (it->ifa_addr->sa_family == AF_INET6) {
        memcpy(&name, it->ifa_addr, sizeof(struct sockaddr_in6));
    } else {
        return false;
    }
    *ret = mvpn_sockaddr_to_addr(&name);
    return !is_link_local(ret);
}

size_t mvpn_addrwatch_list(const char *except, mvpn_addr *ret, size_t max)
{
    struct ifaddrs *all = NULL;
    size_t count = 0;
    if (getifaddrs(&all) != 0) {
        return 0;
    }
    for (const struct ifaddrs *it = all; it != NULL && count < max; it = it->ifa_next) {
        count += take_address(it, except, &ret[count]);
    }
    freeifaddrs(all);
    return count;
}
