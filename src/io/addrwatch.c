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

/* 2000::/3 is what some call the default route of IPv6, two halves are what other VPNs do. */
#define NEARLY_DEFAULT_BITS 3

int mvpn_addrwatch_open(void)
{
    struct sockaddr_nl groups = {
        .nl_family = AF_NETLINK,
        .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
                     RTMGRP_IPV6_ROUTE,
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

static enum mvpn_addrwatch_word word_of(const struct nlmsghdr *m)
{
    const struct rtmsg *route = NLMSG_DATA(m);
    switch (m->nlmsg_type) {
    case RTM_DELADDR:
        return MVPN_ADDRWATCH_GONE;
    case RTM_NEWADDR:
    case RTM_NEWLINK:
    case RTM_DELLINK:
        return MVPN_ADDRWATCH_LOOK;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        return m->nlmsg_len >= NLMSG_LENGTH(sizeof(*route)) &&
                       route->rtm_dst_len <= NEARLY_DEFAULT_BITS
                   ? MVPN_ADDRWATCH_LOOK
                   : MVPN_ADDRWATCH_NOTHING;
    default:
        return MVPN_ADDRWATCH_NOTHING;
    }
}

enum mvpn_addrwatch_word mvpn_addrwatch_read(int fd)
{
    uint8_t buf[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
    enum mvpn_addrwatch_word most = MVPN_ADDRWATCH_NOTHING;
    for (;;) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n < 0 && errno == ENOBUFS) { /* more than the socket could hold */
            most = MVPN_MAX(most, MVPN_ADDRWATCH_LOOK);
            continue;
        }
        if (n <= 0) {
            return most;
        }
        uint32_t left = (uint32_t)n;
        for (struct nlmsghdr *m = (struct nlmsghdr *)buf; NLMSG_OK(m, left);
             m = NLMSG_NEXT(m, left)) {
            enum mvpn_addrwatch_word word = word_of(m);
            most = MVPN_MAX(most, word);
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
    mvpn_addrwatch_network *out;
};

/* What others could reach. IFF_RUNNING is the carrier's: the cable is in, the radio has a network.
 */
static void take_address(void *ctx, const mvpn_netlink_address *a)
{
    struct listing *l = ctx;
    const unsigned works = IFF_UP | IFF_RUNNING;
    if (l->out->count < MVPN_ADDRWATCH_MAX && (a->flags & works) == works &&
        (a->flags & IFF_LOOPBACK) == 0 && (l->except == NULL || strcmp(a->name, l->except) != 0) &&
        !is_link_local(&a->addr)) {
        l->out->addrs[l->out->count++] = a->addr;
    }
}

int mvpn_addrwatch_look(mvpn_netlink *routes, const char *except, uint32_t mark,
                        mvpn_addrwatch_network *ret)
{
    struct listing l = {.except = except, .out = ret};
    ret->count = 0;
    int r = mvpn_netlink_each_address(routes, take_address, &l, NULL);
    r = r != 0 ? r : mvpn_netlink_way_out(routes, 4, mark, &ret->way[0], NULL);
    return r != 0 ? r : mvpn_netlink_way_out(routes, 6, mark, &ret->way[1], NULL);
}

static bool has(const mvpn_addrwatch_network *n, const mvpn_addr *a)
{
    for (size_t i = 0; i < n->count; i++) {
        if (mvpn_addr_eq(&n->addrs[i], a)) {
            return true;
        }
    }
    return false;
}

static bool same_way(const mvpn_netlink_way *a, const mvpn_netlink_way *b)
{
    return a->index == b->index && mvpn_addr_eq(&a->gateway, &b->gateway) &&
           mvpn_addr_eq(&a->source, &b->source);
}

bool mvpn_addrwatch_same(const mvpn_addrwatch_network *a, const mvpn_addrwatch_network *b)
{
    bool same = a->count == b->count && same_way(&a->way[0], &b->way[0]) &&
                same_way(&a->way[1], &b->way[1]);
    for (size_t i = 0; same && i < a->count; i++) {
        same = has(b, &a->addrs[i]);
    }
    return same;
}
