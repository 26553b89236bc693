#include "bin/client_split.h"

#include "base/error.h"
#include "bin/client_program.h"

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
