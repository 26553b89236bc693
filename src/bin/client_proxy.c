#include "bin/client_proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "bin/user_dir.h"
#include "io/clock.h"
#include "io/netstack.h"
#include "io/proxy.h"
#include "io/status_links.h"
#include "io/status_value.h"

struct client_proxy {
    mvpn_netstack *stack;
    mvpn_proxy *proxy;
    mvpn_node *node;
    mvpn_addr socks, http;
};

static int make_dirs(const char *dir, mvpn_fault *fault)
{
    user_dir_make_parents(dir);
    (void)mkdir(dir, 0700); /* what follows tells */
    return access(dir, W_OK) == 0
               ? 0
               : mvpn_fault_set(fault, MVPN_E_CONFIG,
                                "cannot write to %s: set state_dir, run_dir and control_socket in "
                                "the configuration",
                                dir);
}

/* What is not set in the file would be in directories of root's. */
static int use_user_dir(mvpn_config *config, mvpn_fault *fault)
{
    char dir[PATH_MAX];
    bool has_state = strcmp(config->state_dir, MVPN_CONFIG_STATE_DIR) != 0;
    bool has_run = strcmp(config->run_dir, MVPN_CONFIG_RUN_DIR) != 0;
    bool has_control = strcmp(config->control_socket, MVPN_CONFIG_CONTROL_SOCKET) != 0;
    if (geteuid() == 0 || (has_state && has_run && has_control)) {
        return 0;
    }
    if (!user_dir_find(dir) ||
        strlen(dir) + sizeof("/control.sock") > sizeof(config->control_socket)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "there is no home directory (HOME), or its name is too long: set "
                              "state_dir, run_dir and control_socket in the configuration");
    }
    int r = make_dirs(dir, fault);
    if (r == 0 && !has_state) {
        (void)snprintf(config->state_dir, sizeof(config->state_dir), "%s", dir);
    }
    if (r == 0 && !has_run) {
        (void)snprintf(config->run_dir, sizeof(config->run_dir), "%s", dir);
    }
    if (r == 0 && !has_control) {
        (void)snprintf(config->control_socket, sizeof(config->control_socket), "%.*s/control.sock",
                       (int)(sizeof(config->control_socket) - sizeof("/control.sock")), dir);
    }
    return r;
}

int client_proxy_prepare(mvpn_config *config, mvpn_fault *fault)
{
    config->client.mark = 0; /* marks need rights, and no route of ours is to be gone around */
    return use_user_dir(config, fault);
}

/* ---- the stack on the node ---- */

static void exchange(void *ctx, mvpn_packet_queue *in, mvpn_packet_queue *out, mvpn_time now)
{
    const client_proxy *p = ctx;
    mvpn_netstack_exchange(p->stack, in, out, now);
}

static mvpn_time deadline(void *ctx, mvpn_time now)
{
    const client_proxy *p = ctx;
    return mvpn_netstack_deadline(p->stack, now);
}

static int open_group(void *ctx, unsigned group)
{
    client_proxy *p = ctx;
    int r = mvpn_engine_open_group(mvpn_node_engine(p->node), group, mvpn_clock_now());
    if (r == 0) {
        mvpn_netstack_open_lane(p->stack, group);
    }
    return r;
}

static void close_group(void *ctx, unsigned group)
{
    client_proxy *p = ctx;
    mvpn_netstack_close_lane(p->stack, group);
    mvpn_engine_close_group(mvpn_node_engine(p->node), group, mvpn_clock_now());
}

static bool is_loopback(const mvpn_addr *a)
{
    static const uint8_t six[16] = {[15] = 1};
    return a->family == 4 ? a->ip[0] == 127 : memcmp(a->ip, six, sizeof(six)) == 0;
}

static void tell(const cli *c, const char *what, const mvpn_addr *at, const char *example)
{
    char text[MVPN_ADDR_STRLEN];
    if (at->family == 0) {
        return;
    }
    (void)mvpn_addr_format(at, text);
    mvpn_logf(&c->log, MVPN_LOG_INFO, "%s at %s; for example: curl %s%s https://example.org/", what,
              text, example, text);
    if (!is_loopback(at)) {
        mvpn_logf(&c->log, MVPN_LOG_WARN,
                  "%s is open to other computers: everybody who reaches %s uses your circuits, and "
                  "what they send to it is not encrypted on the way",
                  what, text);
    }
}

int client_proxy_open(const cli *c, mvpn_loop *loop, mvpn_node *node, client_proxy **ret,
                      mvpn_fault *fault)
{
    client_proxy *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    p->node = node;
    p->socks = c->proxy_socks;
    p->http = c->proxy_http;
    int r =
        mvpn_netstack_new(mvpn_engine_pool(mvpn_node_engine(node)), 0, mvpn_clock_now(), &p->stack);
    if (r != 0) {
        (void)mvpn_fault_set(fault, r, "cannot make an IP stack: %s", mvpn_strerror(r));
    }
    mvpn_proxy_options options = {
        .loop = loop,
        .stack = p->stack,
        .socks = p->socks,
        .http = p->http,
        .open_group = open_group,
        .close_group = close_group,
        .ctx = p,
    };
    r = r != 0 ? r : mvpn_proxy_new(&options, &p->proxy, fault);
    if (r != 0) {
        client_proxy_close(p);
        return r;
    }
    mvpn_node_set_stack(node, &(mvpn_node_stack){p, exchange, deadline});
    tell(c, "SOCKS5 proxy", &p->socks, "--socks5-hostname ");
    tell(c, "HTTP proxy (CONNECT)", &p->http, "--proxytunnel --proxy http://");
    *ret = p;
    return 0;
}

void client_proxy_close(client_proxy *p)
{
    if (p == NULL) {
        return;
    }
    mvpn_proxy_free(p->proxy);
    mvpn_node_set_stack(p->node, &(mvpn_node_stack){0});
    mvpn_netstack_free(p->stack);
    free(p);
}

static void add_address(json_t *object, const char *key, const mvpn_addr *at)
{
    char text[MVPN_ADDR_STRLEN];
    if (at->family != 0) {
        (void)json_object_set_new(object, key, json_string(mvpn_addr_format(at, text)));
    }
}

/* By number, never by name. */
static json_t *describe_groups(const client_proxy *p, mvpn_time now)
{
    const mvpn_proxy_group *groups = mvpn_proxy_get_groups(p->proxy);
    mvpn_engine *engine = mvpn_node_engine(p->node);
    json_t *list = json_array();
    for (unsigned i = 1; i <= MVPN_PROXY_GROUPS_MAX; i++) {
        const mvpn_client *client = mvpn_engine_group(engine, i);
        mvpn_client_status s;
        if (!groups[i].is_used || client == NULL) {
            continue;
        }
        mvpn_client_get_status(client, &s);
        json_t *o = json_object();
        set_number(o, "number", i);
        set_text(o, "state", s.state == MVPN_CLIENT_CONNECTED ? "connected" : "connecting");
        set_number(o, "connections", groups[i].connections);
        set_number(o, "age_s", (now - groups[i].began) / MVPN_US_PER_S);
        set_number(o, "bytes_up", s.bytes_up);
        set_number(o, "bytes_down", s.bytes_down);
        if (s.path.count > 0) {
            json_t *exit = json_object();
            mvpn_status_set_relay(exit, mvpn_engine_view(engine), &s.path.hop[s.path.count - 1]);
            (void)json_object_set_new(o, "exit", exit);
        } else {
            (void)json_object_set_new(o, "exit", json_null());
        }
        (void)json_array_append_new(list, o);
    }
    return list;
}

void client_proxy_status(const client_proxy *p, json_t *reply)
{
    if (p == NULL) {
        return;
    }
    const mvpn_proxy_stats *s = mvpn_proxy_get_stats(p->proxy);
    json_t *object =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "connections", (json_int_t)s->connections,
                  "associations", (json_int_t)s->associations, "accepted", (json_int_t)s->accepted,
                  "connected", (json_int_t)s->connected, "failed", (json_int_t)s->failed,
                  "memory_bytes", (json_int_t)mvpn_netstack_memory(p->stack));
    set_number(object, "refused_groups", s->refused_groups);
    (void)json_object_set_new(object, "groups", describe_groups(p, mvpn_clock_now()));
    add_address(object, "socks", &p->socks);
    add_address(object, "http", &p->http);
    (void)json_object_set_new(reply, "proxy", object);
}
