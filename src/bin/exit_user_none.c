/* In a build without lwIP. */
#include "bin/exit_user.h"

#include "base/error.h"

int exit_user_open(const mvpn_config *config, const mvpn_log *log, mvpn_loop *loop, mvpn_node *node,
                   exit_user **ret, mvpn_fault *fault)
{
    (void)config;
    (void)log;
    (void)loop;
    (void)node;
    (void)ret;
    return mvpn_fault_set(
        fault, MVPN_E_CONFIG,
        "nat = user: this meshvpn-exit-node was built without it, as lwIP's sources were missing: "
        "run tools/fetch_lwip.sh build/lwip and build again (./run build does both), or use nat = "
        "kernel as root");
}

void exit_user_close(exit_user *user)
{
    (void)user;
}

void exit_user_release(exit_user *user, const mvpn_exit_event *released)
{
    (void)user;
    (void)released;
}

void exit_user_status(const exit_user *user, json_t *reply)
{
    (void)user;
    (void)reply;
}
