#include "io/host_exit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "io/file.h"
#include "io/netlink.h"

#define INNER_MTU 1420

/* The instance is named after the device, so that two exits of one host do not meet. */
static void name_instance(char out[static 32], const mvpn_config_exit *config)
{
    (void)snprintf(out, 32, "%s", config->tun_name);
    for (char *c = out; *c != '\0'; c++) {
        if (*c == '-' || *c == '.' || *c == '%') {
            *c = '_';
        }
    }
}

/* The pool's first address is the device's own. */
static mvpn_prefix device_prefix(const mvpn_prefix *pool)
{
    mvpn_prefix p = *pool;
    p.addr.ip[mvpn_addr_ip_len(&p.addr) - 1] |= 1;
    return p;
}

static int setup_device(mvpn_tun *tun, const mvpn_config_exit *config, mvpn_fault *fault)
{
    mvpn_netlink *nl = NULL;
    uint32_t index = 0;
    mvpn_prefix v4 = device_prefix(&config->pool_v4);
    mvpn_prefix v6 = device_prefix(&config->pool_v6);
    int r = mvpn_netlink_open(&nl, fault);
    r = r != 0 ? r : mvpn_netlink_index(nl, mvpn_tun_name(tun), &index, fault);
    r = r != 0 ? r : mvpn_netlink_addr_add(nl, index, &v4, fault);
    r = r != 0 ? r : mvpn_netlink_link_up(nl, index, INNER_MTU, fault);
    if (r == 0 && config->ipv6 != MVPN_IPV6_NO &&
        mvpn_netlink_addr_add(nl, index, &v6, NULL) != 0 && config->ipv6 == MVPN_IPV6_YES) {
        r = mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "IPv6 is switched off on this host, but the configuration says ipv6 = yes");
    }
    mvpn_netlink_close(nl);
    return r;
}

int mvpn_host_exit_setup(mvpn_host_exit *ret, const mvpn_config_exit *config, const char *run_dir,
                         mvpn_fault *fault)
{
    mvpn_tun_options tun_options = {.name = config->tun_name};
    *ret = (mvpn_host_exit){.run_dir = run_dir};
    name_instance(ret->instance, config);
    mvpn_nat_options nat = {
        .instance = ret->instance,
        .run_dir = run_dir,
        .tun_name = config->tun_name,
        .pool_v4 = config->pool_v4,
        .pool_v6 = config->pool_v6,
        .flows_max = config->flows_max,
    };
    int r = mvpn_tun_open(&ret->tun, &tun_options, fault);
    r = r != 0 ? r : setup_device(ret->tun, config, fault);
    r = r != 0 ? r : mvpn_nat_setup(&nat, fault);
    ret->has_nat = r == 0;
    r = r != 0 ? r : mvpn_conntrack_open(&ret->conntrack, fault);
    if (r != 0) {
        mvpn_host_exit_remove(ret);
    }
    return r;
}

int mvpn_host_exit_hold(mvpn_host_exit *host, mvpn_fault *fault)
{
    return mvpn_nat_undo_open(host->instance, host->run_dir, &host->undo, fault);
}

void mvpn_host_exit_remove(mvpn_host_exit *host)
{
    if (host->conntrack != NULL) {
        mvpn_conntrack_close(host->conntrack);
    }
    /* What fails here is mended by the next start. */
    if (host->undo != NULL) {
        MVPN_IGNORE(mvpn_nat_undo_run(host->undo, NULL));
        mvpn_nat_undo_free(host->undo);
    } else if (host->has_nat) {
        MVPN_IGNORE(mvpn_nat_remove(host->instance, host->run_dir, NULL));
    }
    if (host->tun != NULL) {
        mvpn_tun_close(host->tun);
    }
    *host = (mvpn_host_exit){0};
}

int mvpn_host_exit_cleanup(const mvpn_config_exit *config, const char *run_dir, mvpn_fault *fault)
{
    char instance[32];
    name_instance(instance, config);
    return mvpn_nat_remove(instance, run_dir, fault);
}

int mvpn_host_exit_release(mvpn_host_exit *host, const mvpn_addr *sources, size_t count,
                           mvpn_fault *fault)
{
    return host->conntrack != NULL
               ? mvpn_conntrack_delete(host->conntrack, sources, count, NULL, fault)
               : 0;
}
