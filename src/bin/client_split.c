#include "bin/client_split.h"

#include "base/error.h"
#include "bin/client_program.h"
#include "io/clock.h"
#include "network/ip/inner.h"

static void open_new(client_program *p, const mvpn_addr *addrs, unsigned count, mvpn_time now)
{
    mvpn_addr fresh[MVPN_SPLIT_ANSWER_MAX];
    unsigned fresh_count = 0;
    mvpn_fault fault = {.text = ""};
    (void)mvpn_split_leases_expire(&p->leases, now);
    mvpn_split_leases after = p->leases;
    for (unsigned i = 0; i < count; i++) {
        if (mvpn_split_leases_add(&after, &addrs[i], now)) {
            fresh[fresh_count++] = addrs[i];
        }
    }
    if (fresh_count == 0) {
        return;
    }
    if (mvpn_helper_open(p->cli.helper, fresh, fresh_count, &fault) == 0) {
        p->leases = after;
    } else { /* it is reached through the tunnel, then */
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN, "a name stays inside the tunnel: %s", fault.text);
    }
}

void client_split_look(void *program, const mvpn_packet_queue *packets)
{
    client_program *p = program;
    const mvpn_addr gateway_v6 = mvpn_inner_gateway_addr(6);
    mvpn_addr addrs[MVPN_SPLIT_ANSWER_MAX];
    MVPN_LIST_FOREACH(it, &packets->head)
    {
        const mvpn_packet *packet = MVPN_CONTAINER_OF(it, mvpn_packet, link);
        unsigned count = mvpn_split_names_read(&p->cli.config.client.split.domains,
                                               mvpn_bytes_of(packet->data, packet->len),
                                               &p->host.gateway_v4, &gateway_v6, addrs);
        if (count > 0) {
            open_new(p, addrs, count, mvpn_clock_now());
        }
    }
}

json_t *client_split_status(const void *program)
{
    const client_program *p = program;
    const mvpn_config_split *split = &p->cli.config.client.split;
    mvpn_split_leases now = p->leases;
    (void)mvpn_split_leases_expire(&now, mvpn_clock_now());
    const char *mode = !mvpn_config_split_is_used(split) ? "none"
                       : split->is_inside                ? "inside"
                                                         : "outside";
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "mode", mode, "networks",
                     (int)split->network_count, "users", (int)split->user_count, "cgroups",
                     (int)split->cgroup_count, "domains", (int)split->domains.count,
                     "addresses_now", (int)now.count);
}

int client_outside_command(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    mvpn_fault fault = {.text = "this client has no host to change: it is a proxy"};
    (void)request;
    int r = p->cli.helper == NULL || p->cli.is_proxy
                ? MVPN_E_STATE
                : mvpn_helper_outside(p->cli.helper, mvpn_control_asker(p->cli.control), &fault);
    (void)(r == 0 ? json_object_set_new(reply, "ok", json_true())
                  : json_object_set_new(reply, "error", json_string(fault.text)));
    return r;
}
