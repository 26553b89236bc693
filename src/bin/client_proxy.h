/*
 * The client as a proxy: without a TUN device, a helper or rights. Programs of one person connect
 * to it by SOCKS5 or HTTP CONNECT. (docs/proxy.md)
 */
#ifndef MVPN_BIN_CLIENT_PROXY_H
#define MVPN_BIN_CLIENT_PROXY_H

#include <jansson.h>

#include "bin/cli.h"
#include "io/node.h"

typedef struct client_proxy client_proxy;

/** Say how this client differs from one with a TUN, in its configuration; before anything is
 * opened. MVPN_E_CONFIG: this program was built without it, or there is no home directory. */
MVPN_WUR int client_proxy_prepare(mvpn_config *config, mvpn_fault *fault);
/** Listen, and connect `node` to it. */
MVPN_WUR int client_proxy_open(const cli *c, mvpn_loop *loop, mvpn_node *node, client_proxy **ret,
                               mvpn_fault *fault);
/** Before mvpn_node_free. NULL is allowed. */
void client_proxy_close(client_proxy *proxy);
/** Add "proxy" to a status. NULL is allowed. */
void client_proxy_status(const client_proxy *proxy, json_t *reply);

#endif
