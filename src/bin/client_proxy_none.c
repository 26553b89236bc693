/* In a build without lwIP. */
#include "bin/client_proxy.h"

#include "base/error.h"

int client_proxy_prepare(mvpn_config *config, mvpn_fault *fault)
{
    (void)config;
    return mvpn_fault_set(
        fault, MVPN_E_CONFIG,
        "this meshvpn-client was built without the proxy, as lwIP's sources were "
        "missing: run tools/fetch_lwip.sh build/lwip and build again (./run build "
        "does both), or use the client with a TUN device");
}

int client_proxy_open(const cli *c, mvpn_loop *loop, mvpn_node *node, client_proxy **ret,
                      mvpn_fault *fault)
{
    (void)c;
    (void)loop;
    (void)node;
    (void)ret;
    return mvpn_fault_set(fault, MVPN_E_CONFIG, "there is no proxy in this build");
}

void client_proxy_close(client_proxy *proxy)
{
    (void)proxy;
}

void client_proxy_status(const client_proxy *proxy, json_t *reply)
{
    (void)proxy;
    (void)reply;
}
