/*
 * meshvpn-client: the daemon that carries this host's traffic through the network.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "bin/client_control.h"
#include "bin/client_split.h"
#include "io/clock.h"
#include "io/status_stages.h"
#include "io/families.h"
#include "io/host_client.h"
#include "io/keyfile.h"

#define BLOCK_PATIENCE_S 2

static void log_failure(client_program *p, const mvpn_client_event *e)
{
    const mvpn_view *view = mvpn_engine_view(mvpn_node_engine(p->node));
    const mvpn_descriptor *d = e->hop == 0 ? NULL : mvpn_view_find(view, &e->relay);
    mvpn_logf(&p->cli.log, MVPN_LOG_WARN,
              "a circuit could not be built: %s%s%s%s%s; trying another path",
              mvpn_strerror(e->error), e->reason != 0 ? ", " : "",
              e->reason != 0 ? mvpn_reason_text(e->reason) : "", d != NULL ? ", at relay " : "",
              d != NULL ? d->name : "");
}

static void on_learned(client_program *p, const mvpn_learner_event *e)
{
    mvpn_client_memory_learned(&p->state, e);
    if (e->type == MVPN_LEARNER_ENTRY_WORKED && p->sources.sources != NULL) {
        mvpn_sources_cache(p->sources.sources, &e->contact, mvpn_clock_unix());
    }
    if (e->type == MVPN_LEARNER_ENTRY_FAILED) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN, "an entry of the network did not work: %s",
                  mvpn_strerror(e->error));
    } else if (e->type == MVPN_LEARNER_SWEPT) {
        mvpn_logf(&p->cli.log, MVPN_LOG_DEBUG, "learned %zu records from %s", e->records,
                  e->over_circuit ? "a hop" : "an entry");
    }
}

/* Nobody notices that a fresh circuit took over; who looks may see that it did. */
static void tell_rotations(client_program *p)
{
    mvpn_client_status status;
    mvpn_client_get_status(mvpn_engine_client(mvpn_node_engine(p->node)), &status);
    if (status.rotations != p->rotations) {
        mvpn_logf(&p->cli.log, MVPN_LOG_INFO, "a fresh circuit took over");
    }
    p->rotations = status.rotations;
}

/* A start looks blocked until the first relays are known: what lasts is told. */
static void tell_block(client_program *p)
{
    mvpn_client_status status;
    mvpn_client_get_status(mvpn_engine_client(mvpn_node_engine(p->node)), &status);
    p->blocked_s = status.block == MVPN_PATH_OK ? 0 : p->blocked_s + 1;
    if (p->blocked_s == BLOCK_PATIENCE_S) {
        mvpn_logf(&p->cli.log, MVPN_LOG_ERROR, "no path can be chosen: %s",
                  mvpn_path_block_text(status.block));
    }
}

/* Whatever is worth keeping, and a word about a wrong clock. */
static void every_second(void *ctx)
{
    client_program *p = ctx;
    mvpn_engine *engine = mvpn_node_engine(p->node);
    mvpn_clock_reading clock;
    mvpn_client_memory_save(&p->state, engine, false);
    mvpn_client_exits_check(&p->exits, engine, mvpn_clock_now());
    tell_rotations(p);
    tell_block(p);
    mvpn_client_sources_check(&p->sources);
    client_proof_tend(&p->proof);
    mvpn_engine_clock(engine, &clock);
    if (clock.should_tell && !p->told_clock) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN,
                  "this host's clock is %lld seconds %s; MeshVPN corrects that for itself, other "
                  "programs will fail: set the clock",
                  (long long)(clock.measured_s < 0 ? -clock.measured_s : clock.measured_s),
                  clock.measured_s < 0 ? "fast" : "slow");
        p->told_clock = true;
    }
}

/* The first hop that said nothing any more. */
static const char *hop_text(unsigned hop)
{
    static const char *const text[] = {"",
                                       "; the guard is silent",
                                       "; the second hop is silent",
                                       "; the third hop is silent",
                                       "; the fourth hop is silent",
                                       "; the fifth hop is silent"};
    return text[hop < MVPN_ARRAY_LEN(text) ? hop : 0];
}

/* A failure closes: what was in force still is. A proxy has no host to protect. */
static void protect(client_program *p, enum mvpn_protect_event event)
{
    mvpn_fault fault = {.text = ""};
    if (p->cli.helper != NULL && mvpn_helper_protect(p->cli.helper, event, &fault) != 0) {
        mvpn_logf(&p->cli.log, MVPN_LOG_ERROR, "%s", fault.text);
    }
}

/* For systemctl status. */
static void tell_stage(client_program *p)
{
    char line[MVPN_STATUS_STAGE_TEXT], text[MVPN_STATUS_STAGE_TEXT + 8];
    mvpn_status_stage_line(mvpn_engine_client(mvpn_node_engine(p->node)),
                           mvpn_node_was_never_heard(p->node), mvpn_clock_now(), line);
    (void)snprintf(text, sizeof(text), "STATUS=%s", line);
    mvpn_notify_send(&p->cli.notify, text);
}

static void on_event(void *ctx, const mvpn_engine_event *event)
{
    client_program *p = ctx;
    const mvpn_log *log = &p->cli.log;
    const mvpn_client_event *e = &event->client;
    if (event->type == MVPN_ENGINE_LEARNED) {
        on_learned(p, &event->learned);
        return;
    }
    if (event->type == MVPN_ENGINE_CONNECTION) {
        mvpn_connection_log_event(&p->connections, mvpn_engine_view(mvpn_node_engine(p->node)),
                                  &event->connection);
        return;
    }
    if (event->type != MVPN_ENGINE_CLIENT) {
        return;
    }
    switch (e->type) {
    case MVPN_CLIENT_EVENT_CONNECTED:
        mvpn_logf(log, MVPN_LOG_INFO, "connected");
        /* From now on our guards alone hear of us. Before the kill switch lets nothing else out. */
        mvpn_client_sources_end(&p->sources);
        protect(p, MVPN_PROTECT_ESTABLISHED);
        client_proof_tend(&p->proof);
        break;
    case MVPN_CLIENT_EVENT_DISCONNECTED:
        protect(p, MVPN_PROTECT_LOST);
        mvpn_logf(log, MVPN_LOG_WARN, "%s (%s): connecting again",
                  e->error == MVPN_E_POLICY
                      ? "the exit is not what was chosen, new connections wait"
                      : "the circuit was lost",
                  mvpn_strerror(e->error));
        break;
    case MVPN_CLIENT_EVENT_BUILD_FAILED:
        log_failure(p, e);
        break;
    case MVPN_CLIENT_EVENT_SWITCHED:
        mvpn_logf(log, MVPN_LOG_INFO, "the circuit failed (%s%s): another takes over",
                  mvpn_strerror(e->error), hop_text(e->hop));
        break;
    case MVPN_CLIENT_EVENT_SESSION_LOST:
        mvpn_logf(log, MVPN_LOG_WARN,
                  "the exit has gone, or has forgotten us: open connections are reset");
        break;
    case MVPN_CLIENT_EVENT_STAGE:
        tell_stage(p);
        break;
    case MVPN_CLIENT_EVENT_BLOCKED: /* tell_block */
        break;
    }
}

static int fill_path(client_program *p, mvpn_fault *fault)
{
    const mvpn_config_client *c = &p->cli.config.client;
    for (unsigned i = 0; i < c->path_count; i++) {
        const mvpn_descriptor *d = mvpn_network_file_find(&p->cli.network, c->path[i]);
        mvpn_ed25519_pub *hop = &p->client.fixed_path.hop[i];
        size_t n = 0;
        if (d != NULL) {
            *hop = d->identity;
        } else if (mvpn_base64_decode(c->path[i], hop->b, sizeof(hop->b), &n) != 0 ||
                   n != sizeof(hop->b)) { /* an identity may be found later, a name is anybody's */
            return mvpn_fault_set(fault, MVPN_E_CONFIG,
                                  "path names '%s', which is not (or not only once) in %s",
                                  c->path[i], p->cli.config.network_file);
        }
    }
    p->client.fixed_path.count = c->path_count;
    return 0;
}

static int fill_engine(client_program *p, mvpn_fault *fault)
{
    const mvpn_config_client *c = &p->cli.config.client;
    const mvpn_network_file *n = &p->cli.network;
    p->client.asks_names = true;
    p->client.has_check = c->routes_all && !p->cli.is_proxy;
    p->client.hops = c->hops;
    p->client.relax = n->relax;
    p->client.env.size_policy = c->size_policy;
    p->client.rotate_bytes = (uint64_t)c->rotate_mb << 20;
    p->client.rotate_pause = MVPN_S((mvpn_time)c->rotate_pause_s);
    p->client.renew_time = MVPN_S((mvpn_time)c->renew_minutes * 60);
    p->client.exit_lifetime = MVPN_S((mvpn_time)c->exit_lifetime_minutes * 60);
    p->client.env.family = !mvpn_host_has_ipv6(NULL) ? 4 : mvpn_host_lacks_ipv4(NULL) ? 6 : 0;
    p->client.exit_countries = c->exit_countries;
    p->client.exit_port_count = c->exit_port_count;
    memcpy(p->client.exit_ports, c->exit_ports, sizeof(p->client.exit_ports));
    cli_fill_network(&p->cli, &p->engine);
    p->engine.client = &p->client;
    bool has_source = n->entry_count > 0 || n->discovery_count > 0 || n->dns[0] != '\0' ||
                      n->lan_discovery || n->relay_count > 0;
    if (!has_source) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "%s names nobody to begin with: it needs an entry, a relay, a "
            "discovery URL or a DNS name (meshvpn-bootstrap add-node --bootstrap, "
            "or meshvpn join LINK)",
            p->cli.config.network_file);
    }
    return fill_path(p, fault);
}

static int client_start(client_program *p, mvpn_fault *fault)
{
    mvpn_connection_log_init(&p->connections, &p->cli.log, mvpn_clock_now());
    int r = p->cli.is_proxy ? client_proxy_prepare(&p->cli.config, fault) : 0;
    r = r != 0 ? r : fill_engine(p, fault);
    if (r != 0 || p->cli.check) {
        return r;
    }
    if (mvpn_loop_new(&p->loop) != 0) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "cannot make an event loop");
    }
    r = p->cli.is_proxy ? 0 : mvpn_helper_setup(p->cli.helper, &p->host, fault);
    if (r != 0) {
        return r;
    }
    p->client.tun_v4 = p->host.tun_v4;
    p->client.tun_v6 = p->host.tun_v6;
    p->client.gateway_v4 = p->host.gateway_v4;
    mvpn_client_memory_load(&p->state, p->cli.config.state_dir, &p->cli.log, &p->engine,
                            &p->client);
    r = mvpn_client_exits_init(&p->exits, p->cli.config.state_dir, p->cli.config.client.geoip_dir,
                               &p->cli.log, p->cli.exit, &p->client, fault);
    if (r != 0) {
        return r;
    }
    p->cli.marker.mark = p->cli.config.client.mark;
    mvpn_node_options options = {
        .loop = p->loop,
        .engine = &p->engine,
        .network = &p->cli.network,
        .listen = p->cli.config.listen,
        .listen_count = p->cli.config.listen_count,
        .marker = &p->cli.marker,
        .tun = p->host.tun,
        .on_event = on_event,
        .on_arrivals = p->cli.config.client.split.domains.count > 0 ? client_split_look : NULL,
        .ctx = p,
        .log = &p->cli.log,
    };
    r = mvpn_node_new(&options, &p->node, fault);
    if (r == 0) {
        mvpn_engine *engine = mvpn_node_engine(p->node);
        if (p->cli.network.relay_count > 0) {
            mvpn_learner_set_ready(mvpn_engine_learner(engine));
        }
        mvpn_client_memory_fill(&p->state, engine);
        mvpn_client_exits_check(&p->exits, engine, mvpn_clock_now());
        r = mvpn_client_sources_open(&p->sources, p->loop, engine, &p->cli.network, &p->cli.marker,
                                     &p->state.entries, &p->cli.log, fault);
        r = r != 0 ? r : mvpn_loop_every(p->loop, 1000, every_second, p);
        if (r == 0 && !p->cli.is_proxy) {
            r = client_proof_open(&p->proof, p->loop, p->node, &p->cli.config.client,
                                  p->client.relax, &p->host);
        } else if (r == 0) {
            r = client_proxy_open(&p->cli, p->loop, p->node, &p->proxy, fault);
        }
    }
    return r;
}

/* What holds before any client is started; nothing if the configuration has no lockdown. */
static int lock_down(client_program *p)
{
    mvpn_fault fault = {.text = ""};
    bool is_closed = false;
    if (mvpn_host_client_lockdown(&p->cli.config.client, &is_closed, &fault) != 0) {
        return cli_fail(&p->cli, &fault);
    }
    mvpn_logf(&p->cli.log, MVPN_LOG_INFO, "lockdown: %s",
              is_closed ? "nothing leaves this host but through the tunnel"
                        : "off, as lockdown, kill_switch and routes are configured");
    return 0;
}

int main(int argc, char **argv)
{
    mvpn_fault fault = {.text = ""};
    client_program *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return CLI_FAILED;
    }
    p->client.started = mvpn_clock_now();
    int code = cli_start(&p->cli, argc, argv, MVPN_CONFIG_CLIENT, &options_client);
    command_owners_init(&p->owners, &p->cli.config.client);
    code = code == -1 ? cli_start_helper(&p->cli) : code;
    mvpn_event_ring_attach(&p->events, &p->cli.log);
    cli_lock(&p->cli, &p->engine, sizeof(p->engine));
    if (code == -1 && p->cli.lockdown) {
        code = lock_down(p);
    } else if (code == -1 && p->cli.cleanup) {
        code = mvpn_host_client_cleanup(&p->cli.config.client, &fault) == 0
                   ? 0
                   : cli_fail(&p->cli, &fault);
    } else if (code == -1) {
        if (client_start(p, &fault) != 0) {
            code = cli_fail(&p->cli, &fault);
        } else if (p->cli.check) {
            (void)printf("%s: configuration and network file are in order\n", p->cli.program);
            code = 0;
        } else {
            code = cli_run(&p->cli, p->loop, p->node, client_control_answer, p);
            if (code == 0) { /* asked to; else the kill switch stays */
                protect(p, MVPN_PROTECT_DOWN);
            }
        }
    }
    mvpn_client_memory_save(&p->state, p->node == NULL ? NULL : mvpn_node_engine(p->node), true);
    mvpn_client_memory_done(&p->state);
    client_proof_close(&p->proof);
    mvpn_client_sources_close(&p->sources);
    client_proxy_close(p->proxy);
    mvpn_node_free(p->node);
    mvpn_tun_close(p->host.tun);
    cli_end_helper(&p->cli);
    mvpn_loop_free(p->loop);
    mvpn_client_exits_done(&p->exits);
    mvpn_wipe(&p->engine, sizeof(p->engine));
    cli_done(&p->cli);
    free(p);
    return code;
}
