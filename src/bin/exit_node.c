#include <stdlib.h>
#include <string.h>

#include "bin/check_policy.h"
#include "bin/exit_user.h"
#include "bin/relay_main.h"
#include "io/clock.h"
#include "io/dns_tcp.h"
#include "io/metrics.h"
#include "io/notice.h"
#include "io/quota.h"

#define GB UINT64_C(1000000000)
#define QUOTA_MS 1000

typedef struct exit_program {
    cli *cli;
    mvpn_exit *exit;       /* NULL until it runs */
    mvpn_dns_tcp *dns_tcp; /* NULL: no DNS by TCP */
    exit_user *user;       /* NULL: the kernel's NAT */
    mvpn_quota quota;
    bool quota_is_broken; /* it was said */
    mvpn_notice notice;
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

static void serve_dns(exit_program *p, mvpn_loop *loop)
{
    const mvpn_config_exit *c = &p->cli->config.exit;
    mvpn_dns_tcp_options options = {.loop = loop, .exit = p->exit, .device = c->tun_name};
    mvpn_fault why = {.text = ""};
    options.listen[0] = device_address(&c->pool_v4);
    options.listen[1] = device_address(&c->pool_v6);
    if (mvpn_dns_tcp_open(&options, &p->dns_tcp, &why) != 0) {
        mvpn_logf(&p->cli->log, MVPN_LOG_WARN, "long answers of DNS cannot be given: %s", why.text);
    }
}

static void note_quota(void *ctx)
{
    exit_program *p = ctx;
    mvpn_fault why = {.text = ""};
    uint64_t used = mvpn_exit_quota_used(p->exit), before = used;
    if (mvpn_quota_note(&p->quota, mvpn_clock_unix(), &used, &why) != 0 && !p->quota_is_broken) {
        p->quota_is_broken = true;
        mvpn_logf(&p->cli->log, MVPN_LOG_WARN,
                  "the month's bytes are counted, but not over a restart: %s", why.text);
    }
    if (used != before) {
        mvpn_exit_set_quota(p->exit, p->quota.limit, used);
        mvpn_logf(&p->cli->log, MVPN_LOG_INFO, "a new month: the quota begins anew");
    }
}

static int begin_quota(exit_program *p, mvpn_loop *loop, mvpn_fault *fault)
{
    uint64_t limit = p->cli->config.exit.monthly_quota * GB, used = 0;
    if (limit == 0) {
        return 0;
    }
    int r = mvpn_quota_open(&p->quota, p->cli->config.state_dir, limit, mvpn_clock_unix(), &used,
                            fault);
    if (r == 0) {
        mvpn_exit_set_quota(p->exit, limit, used);
        r = mvpn_loop_every(loop, QUOTA_MS, note_quota, p);
    }
    return r;
}

static int start(void *ctx, mvpn_loop *loop, mvpn_node *node, mvpn_fault *fault)
{
    exit_program *p = ctx;
    const mvpn_config *c = &p->cli->config;
    p->exit = mvpn_engine_exit(mvpn_node_engine(node));
    int r = 0;
    if (c->exit.user_nat) {
        r = exit_user_open(c, &p->cli->log, loop, node, &p->user, fault);
    } else {
        serve_dns(p, loop);
    }
    r = r != 0 ? r : begin_quota(p, loop, fault);
    mvpn_notice_options options = {
        .loop = loop,
        .exit = p->exit,
        .metrics = c->exit.metrics_listen,
        .page = c->exit.exit_notice,
        .own = c->relay.addresses,
        .own_count = c->relay.address_count,
    };
    return r != 0 ? r : mvpn_notice_open(&p->notice, &options, fault);
}

static void stop(void *ctx, mvpn_node *node)
{
    exit_program *p = ctx;
    mvpn_fault why = {.text = ""};
    mvpn_notice_close(&p->notice);
    exit_user_close(p->user);
    mvpn_dns_tcp_close(p->dns_tcp);
    if (node != NULL && p->exit != NULL &&
        mvpn_quota_close(&p->quota, mvpn_exit_quota_used(p->exit), &why) != 0) {
        mvpn_logf(&p->cli->log, MVPN_LOG_WARN, "the month's bytes are not kept: %s", why.text);
    }
}

static void report_quota(const exit_program *p, json_t *reply)
{
    if (p->quota.limit > 0) {
        (void)json_object_set_new(reply, "quota",
                                  json_pack("{s:I, s:I}", "limit_bytes", (json_int_t)p->quota.limit,
                                            "used_bytes",
                                            (json_int_t)mvpn_exit_quota_used(p->exit)));
    }
}

static void add_status(void *ctx, json_t *reply)
{
    const exit_program *p = ctx;
    if (p->exit != NULL) {
        mvpn_metrics_report(p->exit, reply);
        exit_user_status(p->user, reply);
        report_quota(p, reply);
    }
}

static void released(void *ctx, const mvpn_exit_event *event)
{
    const exit_program *p = ctx;
    exit_user_release(p->user, event);
}

int main(int argc, char **argv)
{
    exit_program *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return CLI_FAILED;
    }
    const relay_extra extra = {
        .ctx = p,
        .start = start,
        .stop = stop,
        .released = released,
        .status = add_status,
        .instead = instead,
    };
    int code = relay_main(argc, argv, MVPN_CONFIG_EXIT, &options_exit_node, &extra);
    free(p);
    return code;
}
