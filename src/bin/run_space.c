#include "bin/run_space.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/error.h"
#include "io/netlink.h"
#include "io/tun.h"
#include "network/ip/inner.h"

#define DEVICE "mvpn0"
#define MTU 1420
#define LOOPBACK_MTU 65536
#define TABLE_MAIN 254

static int set_device(mvpn_netlink *nl, mvpn_fault *fault)
{
    const mvpn_prefix own[2] = {{mvpn_inner_client_addr(4), 24}, {mvpn_inner_client_addr(6), 64}};
    static const mvpn_prefix all[2] = {{.addr = {.family = 4}}, {.addr = {.family = 6}}};
    uint32_t index = 0, loopback = 0;
    int r = mvpn_netlink_index(nl, "lo", &loopback, fault);
    r = r != 0 ? r : mvpn_netlink_link_up(nl, loopback, LOOPBACK_MTU, fault);
    r = r != 0 ? r : mvpn_netlink_index(nl, DEVICE, &index, fault);
    r = r != 0 ? r : mvpn_netlink_addr_add(nl, index, &own[0], fault);
    r = r != 0 ? r : mvpn_netlink_link_up(nl, index, MTU, fault);
    r = r != 0 ? r : mvpn_netlink_addr_add(nl, index, &own[1], fault);
    for (size_t i = 0; r == 0 && i < 2; i++) {
        r = mvpn_netlink_route_add(nl, TABLE_MAIN, index, &all[i], fault);
    }
    return r;
}

int run_space_enter(int *ret_tun, mvpn_fault *fault)
{
    const mvpn_tun_options options = {.name = DEVICE};
    mvpn_tun *tun = NULL;
    mvpn_netlink *nl = NULL;
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot make a network namespace");
    }
    int r = mvpn_tun_open(&tun, &options, fault);
    r = r != 0 ? r : mvpn_netlink_open(&nl, fault);
    r = r != 0 ? r : set_device(nl, fault);
    if (r == 0) {
        *ret_tun = fcntl(mvpn_tun_fd(tun), F_DUPFD_CLOEXEC, 3);
        r = *ret_tun >= 0 ? 0 : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "no descriptor");
    }
    mvpn_netlink_close(nl);
    if (tun != NULL) {
        mvpn_tun_close(tun);
    }
    return r;
}

/* Who answers by a Unix socket asks by the host's network: resolved, nscd, avahi. */
static const char *const services[] = {
    "/run/systemd/resolve",
    "/run/nscd",
    "/run/avahi-daemon",
    "/run/dbus",
};

static int hide_services(mvpn_fault *fault)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(services); i++) {
        if (mount("none", services[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755") !=
                0 &&
            errno != ENOENT) {
            return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot hide %s", services[i]);
        }
    }
    return 0;
}

int run_space_names(const char *file, mvpn_fault *fault)
{
    char path[PATH_MAX];
    bool is_there = realpath("/etc/resolv.conf", path) != NULL;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot have mounts of its own");
    }
    int r = hide_services(fault);
    if (r != 0 || !is_there) {
        return r != 0 ? r
                      : mvpn_fault_set(fault, MVPN_E_CONFIG,
                                       "there is no /etc/resolv.conf to stand in for: make one, "
                                       "it may be empty");
    }
    if (access(path, F_OK) != 0) { /* it is in one of the directories that are hidden now */
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        (void)(fd >= 0 && close(fd));
    }
    if (mount(file, path, NULL, MS_BIND, NULL) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot stand in for %s", path);
    }
    return 0;
}
