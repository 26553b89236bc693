#include "io/host_client.h"

#include <string.h>

#include "base/error.h"
#include "network/ip/inner.h"

#define INNER_MTU 1420
/* Before the main table (32766), after what people number by hand. */
#define PRIORITY_SPECIFIC 32000
#define PRIORITY_TUNNEL 32001
#define TABLE_MAIN 254

/* 10.8.0.0/24, or the next 10.x.0.0/24 that overlaps nothing here. */
static int choose_range(mvpn_netlink *nl, uint32_t index, mvpn_host_client *host, mvpn_fault *fault)
{
    host->tun_v4 = mvpn_inner_client_addr(4);
    host->tun_v6 = mvpn_inner_client_addr(6);
    host->gateway_v4 = mvpn_inner_gateway_addr(4);
    for (unsigned second = 8; second < 256; second++) {
        mvpn_prefix range = {.addr = {.family = 4, .ip = {10, (uint8_t)second}}, .bits = 24};
        bool clashes = false;
        int r = mvpn_netlink_find_clash(nl, &range, index, &clashes, fault);
        if (r != 0) {
            return r;
        }
        if (!clashes) {
            host->tun_v4.ip[1] = (uint8_t)second;
            host->gateway_v4.ip[1] = (uint8_t)second;
            return 0;
        }
    }
    return mvpn_fault_set(fault, MVPN_E_CONFIG,
                          "every range 10.8.0.0/24 to 10.255.0.0/24 overlaps a route of this host");
}

static int set_rules(mvpn_netlink *nl, const mvpn_host_client *host, bool add, mvpn_fault *fault)
{
    int result = 0;
    for (uint8_t family = 4; family <= 6; family += 2) {
        mvpn_rule specific = {
            .family = family,
            .priority = PRIORITY_SPECIFIC,
            .table = TABLE_MAIN,
            .only_specific = true,
        };
        mvpn_rule tunnel = {
            .family = family,
            .priority = PRIORITY_TUNNEL,
            .table = host->table,
            .mark = host->mark,
            .is_not_mark = true,
        };
        int r = add ? mvpn_netlink_rule_add(nl, &specific, fault)
                    : mvpn_netlink_rule_del(nl, &specific, fault);
        result = result != 0 ? result : r;
        r = add ? mvpn_netlink_rule_add(nl, &tunnel, fault)
                : mvpn_netlink_rule_del(nl, &tunnel, fault);
        result = result != 0 ? result : r;
    }
    return result;
}

static int set_routes(mvpn_netlink *nl, mvpn_host_client *host, uint32_t index, mvpn_fault *fault)
{
    static const mvpn_prefix all[2] = {{.addr = {.family = 4}}, {.addr = {.family = 6}}};
    int r = 0;
    for (size_t i = 0; r == 0 && i < 2; i++) {
        r = mvpn_netlink_route_add(nl, host->table, index, &all[i], fault);
    }
    if (r != 0) {
        return r;
    }
    host->has_rules = true; /* also in part: removal tolerates what is not there */
    return set_rules(nl, host, true, fault);
}

int mvpn_host_client_setup(mvpn_host_client *ret, const mvpn_config_client *config,
                           mvpn_fault *fault)
{
    mvpn_tun_options tun_options = {.name = config->tun_name};
    mvpn_netlink *nl = NULL;
    uint32_t index = 0;
    *ret = (mvpn_host_client){.mark = config->mark, .table = config->table};
    int r = mvpn_tun_open(&ret->tun, &tun_options, fault);
    r = r != 0 ? r : mvpn_netlink_open(&nl, fault);
    r = r != 0 ? r : mvpn_netlink_index(nl, mvpn_tun_name(ret->tun), &index, fault);
    r = r != 0 ? r : choose_range(nl, index, ret, fault);
    if (r == 0) {
        mvpn_prefix v4 = {ret->tun_v4, 24};
        mvpn_prefix v6 = {ret->tun_v6, 64};
        r = mvpn_netlink_addr_add(nl, index, &v4, fault);
        r = r != 0 ? r : mvpn_netlink_link_up(nl, index, INNER_MTU, fault);
        r = r != 0 ? r : mvpn_netlink_addr_add(nl, index, &v6, fault);
    }
    if (r == 0 && config->routes_all) {
        r = set_routes(nl, ret, index, fault);
    }
    ret->nl = nl;
    if (r != 0) {
        mvpn_host_client_remove(ret);
    }
    return r;
}

void mvpn_host_client_remove(mvpn_host_client *host)
{
    if (host->has_rules) {
        MVPN_IGNORE(set_rules(host->nl, host, false, NULL)); /* nothing more can be done about it */
    }
    mvpn_netlink_close(host->nl);
    if (host->tun != NULL) {
        mvpn_tun_close(host->tun); /* its addresses and routes vanish with it */
    }
    *host = (mvpn_host_client){0};
}
