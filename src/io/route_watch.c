#include "io/route_watch.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/netconf.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/nlsocket.h"

#define GROUP(group) (1u << ((group)-1))

int mvpn_route_watch_open(void)
{
    struct sockaddr_nl groups = {
        .nl_family = AF_NETLINK,
        .nl_groups = GROUP(RTNLGRP_LINK) | GROUP(RTNLGRP_IPV4_IFADDR) | GROUP(RTNLGRP_IPV6_IFADDR) |
                     GROUP(RTNLGRP_IPV4_ROUTE) | GROUP(RTNLGRP_IPV6_ROUTE) |
                     GROUP(RTNLGRP_IPV4_RULE) | GROUP(RTNLGRP_IPV6_RULE) |
                     GROUP(RTNLGRP_IPV4_NETCONF),
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

static uint32_t attribute(const struct nlmsghdr *msg, size_t header, uint16_t type, uint32_t none)
{
    MVPN_NL_FOREACH(attr, msg, header)
    {
        if (mnl_attr_get_type(attr) == type && mnl_attr_validate(attr, MNL_TYPE_U32) >= 0) {
            return mnl_attr_get_u32(attr);
        }
    }
    return none;
}

static bool is_our_rule(const struct nlmsghdr *msg, const mvpn_route_watch_ours *ours)
{
    const struct fib_rule_hdr *info = mnl_nlmsg_get_payload(msg);
    uint32_t priority = attribute(msg, sizeof(*info), FRA_PRIORITY, 0);
    return attribute(msg, sizeof(*info), FRA_TABLE, info->table) == ours->table ||
           (priority >= ours->priority_first && priority <= ours->priority_last);
}

/* A message of the kernel, whose fixed part is whole. */
static bool is_about_ours(const struct nlmsghdr *msg, const mvpn_route_watch_ours *ours)
{
    const void *payload = mnl_nlmsg_get_payload(msg);
    const struct ifaddrmsg *address = payload;
    const struct ifinfomsg *link = payload;
    const struct rtmsg *route = payload;
    switch (msg->nlmsg_type) {
    case RTM_DELRULE:
        return is_our_rule(msg, ours);
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        return attribute(msg, sizeof(*route), RTA_TABLE, route->rtm_table) == ours->table;
    case RTM_DELADDR:
        return address->ifa_index == ours->index;
    case RTM_DELLINK:
        return (uint32_t)link->ifi_index == ours->index;
    case RTM_NEWLINK:
        return (uint32_t)link->ifi_index == ours->index && (link->ifi_flags & IFF_UP) == 0;
    default:
        return false;
    }
}

/* A new interface tells its settings, too. Each change of one is told, also by sysctl. */
static bool is_about_filters(const struct nlmsghdr *msg)
{
    const struct netconfmsg *info = mnl_nlmsg_get_payload(msg);
    return msg->nlmsg_type == RTM_NEWNETCONF &&
           attribute(msg, sizeof(*info), NETCONFA_RP_FILTER, UINT32_MAX) != UINT32_MAX;
}

enum mvpn_route_watch_finding mvpn_route_watch_read(int fd, const mvpn_route_watch_ours *ours,
                                                    bool *ret_filters)
{
    uint8_t buf[MVPN_NL_REPLY] __attribute__((aligned(NLMSG_ALIGNTO)));
    enum mvpn_route_watch_finding finding = MVPN_ROUTE_WATCH_NOTHING;
    *ret_filters = false;
    for (;;) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == ENOBUFS) { /* more than the socket could hold: nobody knows what */
            finding = MVPN_MAX(finding, MVPN_ROUTE_WATCH_CHANGE);
            *ret_filters = true;
            continue;
        }
        if (n <= 0) {
            return finding;
        }
        int left = (int)n;
        for (const struct nlmsghdr *msg = (const struct nlmsghdr *)buf; mnl_nlmsg_ok(msg, left);
             msg = mnl_nlmsg_next(msg, &left)) {
            *ret_filters = *ret_filters || is_about_filters(msg);
            if (msg->nlmsg_pid != ours->port && is_about_ours(msg, ours)) {
                finding = msg->nlmsg_pid != 0 ? MVPN_ROUTE_WATCH_PROGRAM
                                              : MVPN_MAX(finding, MVPN_ROUTE_WATCH_CHANGE);
            }
        }
    }
}
