#include "bin/client_protection.h"

#include "network/ip/inner.h"

static json_t *describe(const client_program *p)
{
    mvpn_privileged_protection look;
    if (p->cli.helper == NULL || mvpn_helper_look(p->cli.helper, &look) != 0) {
        return json_null();
    }
    return json_pack("{s:s, s:b, s:b, s:b, s:I}", "state", mvpn_protect_state_text(look.state),
                     "kill_switch", look.is_in_force, "lockdown", look.lockdown, "allow_lan",
                     look.allow_lan, "repaired", (json_int_t)look.repaired);
}

static void append_address(json_t *list, const mvpn_addr *addr)
{
    char text[MVPN_ADDR_STRLEN];
    (void)json_array_append_new(list, json_string(mvpn_addr_format(addr, text)));
}

/* Without helper nothing of the host is touched. */
static json_t *describe_names(const client_program *p)
{
    mvpn_helper_dns names = {.manager = MVPN_DNS_NONE};
    json_t *servers = json_array();
    if (p->cli.helper != NULL) {
        mvpn_helper_names(p->cli.helper, &names);
    }
    if (names.is_set) {
        const mvpn_addr v6 = mvpn_inner_gateway_addr(6);
        append_address(servers, &p->host.gateway_v4);
        append_address(servers, &v6);
    }
    return json_pack("{s:s, s:b, s:o, s:I}", "manager", mvpn_dns_manager_text(names.manager),
                     "is_set", names.is_set, "servers", servers, "repaired",
                     (json_int_t)names.repaired);
}

void client_protection_status(const client_program *p, json_t *reply)
{
    (void)json_object_set_new(reply, "protection", describe(p));
    (void)json_object_set_new(reply, "dns", describe_names(p));
}
