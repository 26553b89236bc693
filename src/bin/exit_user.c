#include "bin/exit_user.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "io/status_value.h"
#include "io/user_nat.h"

struct exit_user {
    mvpn_user_nat *nat;
    mvpn_node *node;
    const mvpn_log *log;
    mvpn_loop_timer *begun;
};

/* Only now this process is who it remains, and has its system call filter. */
static void on_begun(void *ctx)
{
    const exit_user *u = ctx;
    if (mvpn_user_nat_may_ping()) {
        return;
    }
    if (errno != EACCES) {
        mvpn_logf(u->log, MVPN_LOG_WARN, "ping is not carried: no ping sockets: %s",
                  strerror(errno));
        return;
    }
    mvpn_logf(u->log, MVPN_LOG_WARN,
              "ping is not carried, all else is: this system gives our group, %u, no ping sockets. "
              "Let it: sysctl -w net.ipv4.ping_group_range=\"0 2147483647\" (and a line in "
              "/etc/sysctl.d); this program need not start again",
              (unsigned)getegid());
}

int exit_user_open(const mvpn_config *config, const mvpn_log *log, mvpn_loop *loop, mvpn_node *node,
                   exit_user **ret, mvpn_fault *fault)
{
    exit_user *u = calloc(1, sizeof(*u));
    if (u == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    const mvpn_user_nat_options options = {
        .loop = loop,
        .pool = mvpn_engine_pool(mvpn_node_engine(node)),
        .bind = config->listen,
        .bind_count = config->listen_count,
        .map = config->exit.nat_map,
        .map_count = config->exit.nat_map_count,
    };
    int r = mvpn_user_nat_new(&options, &u->nat, fault);
    if (r == 0 && (r = mvpn_loop_timer_new(loop, on_begun, u, &u->begun)) != 0) {
        mvpn_user_nat_free(u->nat);
        (void)mvpn_fault_set(fault, r, "cannot make a timer: %s", mvpn_strerror(r));
    }
    if (r != 0) {
        free(u);
        return r;
    }
    u->node = node;
    u->log = log;
    mvpn_loop_timer_set(u->begun, 0);
    mvpn_node_set_stack(node,
                        &(mvpn_node_stack){u->nat, mvpn_user_nat_exchange, mvpn_user_nat_deadline});
    *ret = u;
    return 0;
}

void exit_user_close(exit_user *u)
{
    if (u != NULL) {
        mvpn_loop_timer_free(u->begun);
        mvpn_node_set_stack(u->node, &(mvpn_node_stack){0});
        mvpn_user_nat_free(u->nat);
        free(u);
    }
}

void exit_user_release(exit_user *u, const mvpn_exit_event *released)
{
    if (u != NULL) {
        mvpn_user_nat_release(u->nat, &released->pool_v4);
        mvpn_user_nat_release(u->nat, &released->pool_v6);
    }
}

void exit_user_status(const exit_user *u, json_t *reply)
{
    if (u == NULL) {
        return;
    }
    const mvpn_user_nat_stats s = mvpn_user_nat_get_stats(u->nat);
    json_t *o = json_object();
    set_number(o, "flows", s.flows);
    set_number(o, "opened", s.opened);
    set_number(o, "failed", s.failed);
    set_number(o, "refused", s.refused);
    set_number(o, "memory_bytes", mvpn_user_nat_memory(u->nat));
    (void)json_object_set_new(reply, "user_nat", o);
}
