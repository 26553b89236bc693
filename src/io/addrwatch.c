#include "io/addrwatch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

struct listing {
    const char *except;
    mvpn_addr *out;
    size_t max, count;
};

/* What others could reach. */
static void take_address(void *ctx, const mvpn_netlink_address *a)
{
    struct listing *l = ctx;
    if (l->count < l->max && (a->flags & IFF_UP) != 0 && (a->flags & IFF_LOOPBACK) == 0 &&
        (l->except == NULL || strcmp(a->name, l->except) != 0) && !is_link_local(&a->addr)) {
        l->out[l->count++] = a->addr;
    }
}

size_t mvpn_addrwatch_list(mvpn_netlink *routes, const char *except, mvpn_addr *ret, size_t max)
{
    struct listing l = {.except = except, .out = ret, .max = max};
    return mvpn_netlink_each_address(routes, take_address, &l, NULL) == 0 ? l.count : 0;
}
