#include <string.h>

#include "bin/check_policy.h"
#include "bin/relay_main.h"
#include "io/dns_tcp.h"

typedef struct exit_program {
    cli *cli;
    mvpn_dns_tcp *dns_tcp; /* NULL: no DNS by TCP */
} exit_program;

static int instead(void *ctx, cli *c)
{
    exit_program *p = ctx;
    p->cli = c;
    return c->check_policy == NULL ? -1 : check_policy(c);
}

/* The pool's first address is the TUN device's own. */
static mvpn_addr device_address(const mvpn_prefix *pool)
{
    mvpn_addr a = pool->addr;
    a.ip[mvpn_addr_ip_len(&a) - 1] |= 1;
    return a;
}

static int start(void *ctx, mvpn_loop *loop, mvpn_node *node, mvpn_fault *fault)
{
    exit_program *p = ctx;
    const mvpn_config_exit *c = &p->cli->config.exit;
    mvpn_exit *exit = mvpn_engine_exit(mvpn_node_engine(node));
    mvpn_dns_tcp_options dns = {.loop = loop, .exit = exit, .device = c->tun_name};
    mvpn_fault why = {.text = ""};
    (void)fault;
    dns.listen[0] = device_address(&c->pool_v4);
    dns.listen[1] = device_address(&c->pool_v6);
    if (mvpn_dns_tcp_open(&dns, &p->dns_tcp, &why) != 0) {
        mvpn_logf(&p->cli->log, MVPN_LOG_WARN, "long answers of DNS cannot be given: %s", why.text);
    }
    return 0;
}

static void stop(void *ctx, mvpn_node *node)
{
    exit_program *p = ctx;
    (void)node;
    mvpn_dns_tcp_close(p->dns_tcp);
}

int main(int argc, char **argv)
{
    exit_program p = {.cli = NULL};
    const relay_extra extra = {.ctx = &p, .instead = instead, .start = start, .stop = stop};
    return relay_main(argc, argv, MVPN_CONFIG_EXIT, "an exit relay of a MeshVPN network", &extra);
}
