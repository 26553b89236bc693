#include "bin/client_protection.h"

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

void client_protection_status(const client_program *p, json_t *reply)
{
    (void)json_object_set_new(reply, "protection", describe(p));
}
