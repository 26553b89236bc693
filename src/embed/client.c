/*
 * The client of include/meshvpn/meshvpn.h: a node on its own loop, with the caller's TUN device and
 * callbacks. Other threads leave wishes (a bit each, and a write to an eventfd) and read a copy of
 * the status; everything else happens in the one thread that is in meshvpn_client_run.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "embed/error.h"
#include "io/client_memory.h"
#include "io/client_sources.h"
#include "io/clock.h"
#include "io/families.h"
#include "io/geoip.h"
#include "io/libraries.h"
#include "meshvpn/meshvpn.h"

#define DEFAULT_HOPS 3

/* What other threads wish. */
#define WISH_STOP 1u
#define WISH_IDENTITY 2u
#define WISH_NETWORK 4u

struct meshvpn_client {
    meshvpn_options options; /* its texts are the caller's: not read after the start */
    char *state_dir;
    mvpn_log log;
    mvpn_marker marker;
    mvpn_loop *loop;
    mvpn_tun *tun;
    mvpn_node *node;
    mvpn_network_file network;
    mvpn_geoip *geoip;
    mvpn_client_memory memory;
    mvpn_client_sources sources;
    mvpn_client_config client;
    mvpn_engine_config engine;
    bool has_run;
    bool told_clock;
    int wake_fd;
    mvpn_loop_watch *wake;
    atomic_uint wishes;
    meshvpn_state state;
    mvpn_time state_since;
    pthread_mutex_t lock; /* of what follows */
    meshvpn_status status;
    mvpn_time status_since;
};

/* ---- status ---- */

static void fill_hops(meshvpn_client *c, const mvpn_path *path, meshvpn_status *ret)
{
    const mvpn_view *view = mvpn_engine_view(mvpn_node_engine(c->node));
    for (unsigned i = 0; i < path->count && i < MESHVPN_HOPS_MAX; i++) {
        const mvpn_descriptor *d = mvpn_view_find(view, &path->hop[i]);
        if (d != NULL) {
            memcpy(ret->hops[i].country, d->country, sizeof(ret->hops[i].country));
            memcpy(ret->hops[i].name, d->name, sizeof(ret->hops[i].name));
        }
        ret->hop_count++;
    }
}

static void publish_status(meshvpn_client *c)
{
    meshvpn_status status = {.state = c->state};
    mvpn_client_status s;
    mvpn_client_get_status(mvpn_engine_client(mvpn_node_engine(c->node)), &s);
    if (c->state == MESHVPN_STATE_CONNECTED) {
        fill_hops(c, &s.path, &status);
        status.rtt_us = s.rtt_us;
        status.has_ipv6 = s.has_ipv6;
    }
    status.is_silent = mvpn_node_is_unheard(c->node);
    status.packets_up = s.packets_up;
    status.packets_down = s.packets_down;
    status.bytes_up = s.bytes_up;
    status.bytes_down = s.bytes_down;
    status.packets_dropped = s.dropped;
    MVPN_ASSERT(pthread_mutex_lock(&c->lock) == 0);
    c->status = status;
    c->status_since = c->state_since;
    MVPN_ASSERT(pthread_mutex_unlock(&c->lock) == 0);
}

static void set_state(meshvpn_client *c, meshvpn_state state, const char *why)
{
    bool changes = c->state != state;
    if (changes) {
        c->state = state;
        c->state_since = mvpn_clock_now();
    }
    publish_status(c);
    if (changes && c->options.state != NULL) {
        c->options.state(c->options.ctx, state, why);
    }
}

void meshvpn_client_status(meshvpn_client *c, meshvpn_status *ret, size_t size)
{
    meshvpn_status status;
    MVPN_ASSERT(pthread_mutex_lock(&c->lock) == 0);
    status = c->status;
    status.state_ms = (mvpn_clock_now() - c->status_since) / MVPN_MS(1);
    MVPN_ASSERT(pthread_mutex_unlock(&c->lock) == 0);
    memset(ret, 0, size);
    memcpy(ret, &status, MVPN_MIN(size, sizeof(status)));
}

/* ---- what the engine tells ---- */

static void on_learned(meshvpn_client *c, const mvpn_learner_event *e)
{
    mvpn_client_memory_learned(&c->memory, e);
    if (e->type == MVPN_LEARNER_ENTRY_WORKED && c->sources.sources != NULL) {
        mvpn_sources_cache(c->sources.sources, &e->contact, mvpn_clock_unix());
    } else if (e->type == MVPN_LEARNER_ENTRY_FAILED) {
        mvpn_logf(&c->log, MVPN_LOG_WARN, "an entry of the network did not work: %s",
                  mvpn_strerror(e->error));
    }
}

static void on_client(meshvpn_client *c, const mvpn_client_event *e)
{
    if (e->type == MVPN_CLIENT_EVENT_CONNECTED) {
        mvpn_logf(&c->log, MVPN_LOG_INFO, "connected");
        set_state(c, MESHVPN_STATE_CONNECTED, "");
        mvpn_client_sources_check(&c->sources); /* from now on our guards alone hear of us */
    } else if (e->type == MVPN_CLIENT_EVENT_DISCONNECTED) {
        mvpn_logf(&c->log, MVPN_LOG_WARN, "the circuit was lost (%s): connecting again",
                  mvpn_strerror(e->error));
        set_state(c, MESHVPN_STATE_CONNECTING, mvpn_strerror(e->error));
    } else if (e->type == MVPN_CLIENT_EVENT_BLOCKED) {
        mvpn_logf(&c->log, MVPN_LOG_ERROR, "no path can be chosen: %s",
                  mvpn_path_block_text(e->block));
        set_state(c, MESHVPN_STATE_BLOCKED, mvpn_path_block_text(e->block));
    } else if (e->type == MVPN_CLIENT_EVENT_BUILD_FAILED) {
        mvpn_logf(&c->log, MVPN_LOG_WARN, "a circuit could not be built: %s; trying another path",
                  mvpn_strerror(e->error));
    } else if (e->type == MVPN_CLIENT_EVENT_SWITCHED) {
        mvpn_logf(&c->log, MVPN_LOG_INFO, "the circuit failed (%s): another takes over",
                  mvpn_strerror(e->error));
    } else if (e->type == MVPN_CLIENT_EVENT_SESSION_LOST) {
        mvpn_logf(&c->log, MVPN_LOG_WARN,
                  "the exit has gone, or has forgotten us: open connections are reset");
    }
}

static void on_event(void *ctx, const mvpn_engine_event *event)
{
    meshvpn_client *c = ctx;
    if (event->type == MVPN_ENGINE_LEARNED) {
        on_learned(c, &event->learned);
    } else if (event->type == MVPN_ENGINE_CLIENT) {
        on_client(c, &event->client);
    }
}

static void every_second(void *ctx)
{
    meshvpn_client *c = ctx;
    mvpn_engine *engine = mvpn_node_engine(c->node);
    mvpn_clock_reading clock;
    if (c->state_dir != NULL) {
        mvpn_client_memory_save(&c->memory, engine, false);
    }
    mvpn_client_sources_check(&c->sources);
    publish_status(c);
    mvpn_engine_clock(engine, &clock);
    if (clock.should_tell && !c->told_clock) {
        mvpn_logf(&c->log, MVPN_LOG_WARN,
                  "this device's clock is %lld seconds %s; MeshVPN corrects that for itself",
                  (long long)(clock.measured_s < 0 ? -clock.measured_s : clock.measured_s),
                  clock.measured_s < 0 ? "fast" : "slow");
        c->told_clock = true;
    }
}

/* ---- wishes of other threads ---- */

/* Only calls that signal handlers may make. */
static void wish(meshvpn_client *c, unsigned what)
{
    const uint64_t one = 1;
    int err = errno;
    (void)atomic_fetch_or(&c->wishes, what);
    /* EAGAIN: it is awake already. */
    ssize_t n = write(c->wake_fd, &one, sizeof(one));
    (void)n;
    errno = err;
}

static void woken(void *ctx, unsigned events)
{
    meshvpn_client *c = ctx;
    uint64_t count;
    ssize_t n = read(c->wake_fd, &count, sizeof(count)); /* EAGAIN: nothing; the bits count */
    (void)n;
    (void)events;
    unsigned wishes = atomic_exchange(&c->wishes, 0);
    if ((wishes & WISH_NETWORK) != 0) {
        mvpn_node_network_changed(c->node);
    }
    if ((wishes & WISH_IDENTITY) != 0) {
        mvpn_engine_new_identity(mvpn_node_engine(c->node), mvpn_clock_now());
        mvpn_loop_set_deadline(c->loop, mvpn_clock_now());
    }
    if ((wishes & WISH_STOP) != 0) {
        mvpn_loop_stop(c->loop);
    }
}

void meshvpn_client_stop(meshvpn_client *c)
{
    wish(c, WISH_STOP);
}

int meshvpn_client_new_identity(meshvpn_client *c)
{
    meshvpn_status status;
    meshvpn_client_status(c, &status, sizeof(status));
    if (status.state != MESHVPN_STATE_CONNECTED) {
        return MESHVPN_E_STATE;
    }
    wish(c, WISH_IDENTITY);
    return 0;
}

void meshvpn_client_network_changed(meshvpn_client *c)
{
    wish(c, WISH_NETWORK);
}

/* ---- making one ---- */

static void write_log(void *ctx, enum mvpn_log_level level, const char *line)
{
    const meshvpn_client *c = ctx;
    c->options.log(c->options.ctx, (meshvpn_log_level)level, line);
}

static int ask_protect(void *ctx, int fd)
{
    const meshvpn_client *c = ctx;
    if (c->options.protect(c->options.ctx, fd) == 0) {
        return 0;
    }
    errno = EPERM;
    return -1;
}

/* The part of the structure that the program knows, and defaults for the rest. */
static int take_options(meshvpn_client *c, const meshvpn_options *options, mvpn_fault *fault)
{
    meshvpn_options *o = &c->options;
    meshvpn_options_init(o, sizeof(*o));
    if (options->size < offsetof(meshvpn_options, ctx) || options->size > 4096) {
        return mvpn_fault_set(fault, MVPN_E_INVAL,
                              "options.size is wrong: call meshvpn_options_init first");
    }
    memcpy(o, options, MVPN_MIN(options->size, sizeof(*o)));
    if ((o->network == NULL) == (o->network_file == NULL)) {
        return mvpn_fault_set(fault, MVPN_E_INVAL,
                              "give one of the options network and network_file");
    }
    if (o->hops > MVPN_HOPS_MAX || (unsigned)o->log_level > MESHVPN_LOG_DEBUG) {
        return mvpn_fault_set(fault, MVPN_E_INVAL,
                              "options.hops must be 1 to 5 (0: %d), log_level one of the enum",
                              DEFAULT_HOPS);
    }
    if (o->exit_countries != NULL &&
        mvpn_path_countries_parse(o->exit_countries, &c->client.exit_countries) != 0) {
        return mvpn_fault_set(fault, MVPN_E_INVAL,
                              "'%.60s' names no countries. Write two upper-case letters each: CH, "
                              "or CH,IS,SE, or !US,GB for all but these",
                              o->exit_countries);
    }
    c->log = (mvpn_log){.write = o->log != NULL ? write_log : NULL,
                        .ctx = c,
                        .level = (enum mvpn_log_level)o->log_level};
    c->marker = (mvpn_marker){.ask = o->protect != NULL ? ask_protect : NULL, .ctx = c};
    return 0;
}

static int load_network(meshvpn_client *c, mvpn_fault *fault)
{
    const meshvpn_options *o = &c->options;
    const mvpn_network_file *n = &c->network;
    uint64_t now = mvpn_clock_unix();
    int r = o->network != NULL
                ? mvpn_network_file_parse("the network's text", o->network, strlen(o->network), now,
                                          &c->network, fault)
                : mvpn_network_file_load(o->network_file, now, &c->network, fault);
    if (r == 0 && n->entry_count == 0 && n->discovery_count == 0 && n->dns[0] == '\0' &&
        !n->lan_discovery && n->relay_count == 0) {
        r = mvpn_fault_set(fault, MVPN_E_CONFIG,
                           "the network file names nobody to begin with: it needs an entry, a "
                           "relay, a discovery URL or a DNS name");
    }
    return r == 0 || r == MVPN_E_NOMEM ? r : MVPN_E_FORMAT;
}

static int open_tun(meshvpn_client *c, mvpn_fault *fault)
{
    int fd = fcntl(c->options.tun_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return mvpn_fault_errno(fault, MVPN_E_CLOSED, errno, "options.tun_fd cannot be used");
    }
    const mvpn_tun_options options = {.use_fd = true, .fd = fd};
    int r = mvpn_tun_open(&c->tun, &options, fault);
    if (r != 0) {
        (void)close(fd);
    }
    return r == 0 || r == MVPN_E_NOMEM ? r : MVPN_E_CLOSED;
}

static int load_geoip(meshvpn_client *c, mvpn_fault *fault)
{
    if (c->options.geoip_dir == NULL || c->client.exit_countries.count == 0) {
        return 0;
    }
    int r = mvpn_geoip_load(c->options.geoip_dir, &c->geoip, fault);
    c->client.country_of = mvpn_geoip_country;
    c->client.country_ctx = c->geoip;
    return r == MVPN_E_CONFIG || r == MVPN_E_FORMAT ? MVPN_E_INVAL : r;
}

static void fill_engine(meshvpn_client *c)
{
    mvpn_node_fill_network(&c->network, &c->engine);
    c->engine.client = &c->client;
    c->client.hops = c->options.hops != 0 ? c->options.hops : DEFAULT_HOPS;
    c->client.relax = c->network.relax;
    c->client.env.size_policy = MVPN_SIZE_CLASSES;
    c->client.env.family = !mvpn_host_has_ipv6(&c->marker)    ? 4
                           : mvpn_host_lacks_ipv4(&c->marker) ? 6
                                                              : 0;
}

static int make_node(meshvpn_client *c, mvpn_fault *fault)
{
    static const mvpn_addr any[] = {{.family = 4}, {.family = 6}};
    const mvpn_node_options options = {
        .loop = c->loop,
        .engine = &c->engine,
        .network = &c->network,
        .listen = any,
        .listen_count = MVPN_ARRAY_LEN(any),
        .marker = &c->marker,
        .tun = c->tun,
        .on_event = on_event,
        .ctx = c,
        .log = &c->log,
    };
    if (c->options.state_dir != NULL) {
        c->state_dir = strdup(c->options.state_dir);
        if (c->state_dir == NULL) {
            return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
        }
        mvpn_client_memory_load(&c->memory, c->state_dir, &c->log, &c->engine, &c->client);
    }
    int r = mvpn_node_new(&options, &c->node, fault);
    if (r != 0) {
        return r;
    }
    mvpn_engine *engine = mvpn_node_engine(c->node);
    if (c->network.relay_count > 0) {
        mvpn_learner_set_ready(mvpn_engine_learner(engine));
    }
    mvpn_client_memory_fill(&c->memory, engine);
    return 0;
}

static int make_loop(meshvpn_client *c, mvpn_fault *fault)
{
    int r = mvpn_loop_new(&c->loop);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = r == 0 && c->wake_fd < 0 ? MVPN_E_SYSTEM : r;
    r = r != 0 ? r
               : mvpn_loop_watch_fd(c->loop, c->wake_fd, MVPN_LOOP_READABLE, woken, c, &c->wake);
    r = r != 0 ? r : mvpn_loop_every(c->loop, 1000, every_second, c);
    return r != 0 ? mvpn_fault_set(fault, r, "cannot make an event loop: %s", mvpn_strerror(r)) : 0;
}

static int begin(meshvpn_client *c, const meshvpn_options *options, mvpn_fault *fault)
{
    int r = take_options(c, options, fault);
    r = r != 0 ? r : load_network(c, fault);
    r = r != 0 ? r : load_geoip(c, fault);
    r = r != 0 ? r : open_tun(c, fault);
    if (r == 0) {
        fill_engine(c);
        r = make_loop(c, fault);
    }
    return r != 0 ? r : make_node(c, fault);
}

int meshvpn_client_new(const meshvpn_options *options, meshvpn_client **ret, meshvpn_error *error)
{
    mvpn_fault fault = {.text = ""};
    meshvpn_client *c = calloc(1, sizeof(*c));
    if (c == NULL || mvpn_libraries_begin() != 0 || pthread_mutex_init(&c->lock, NULL) != 0) {
        free(c);
        return embed_error(error, MVPN_E_NOMEM, "out of memory");
    }
    c->wake_fd = -1;
    c->state = c->status.state = MESHVPN_STATE_STOPPED;
    c->state_since = c->status_since = mvpn_clock_now();
    int r = begin(c, options, &fault);
    if (r != 0) {
        meshvpn_client_free(c);
        return embed_error(error, r, fault.text);
    }
    *ret = c;
    return 0;
}

void meshvpn_client_free(meshvpn_client *c)
{
    if (c == NULL) {
        return;
    }
    if (c->state_dir != NULL) {
        mvpn_client_memory_save(&c->memory, c->node == NULL ? NULL : mvpn_node_engine(c->node),
                                true);
    }
    mvpn_client_memory_done(&c->memory);
    mvpn_client_sources_close(&c->sources);
    mvpn_node_free(c->node);
    mvpn_tun_close(c->tun);
    mvpn_loop_unwatch(c->wake);
    mvpn_loop_free(c->loop);
    if (c->wake_fd >= 0) {
        (void)close(c->wake_fd);
    }
    mvpn_geoip_free(c->geoip);
    mvpn_network_file_done(&c->network);
    (void)pthread_mutex_destroy(&c->lock);
    free(c->state_dir);
    mvpn_wipe(c, sizeof(*c));
    free(c);
}

/* ---- running ---- */

/* A server that hangs up raises it in this thread (io/source_url.h), and the program's own way to
 * deal with it is not ours to change. */
static void block_sigpipe(sigset_t *ret_before)
{
    sigset_t pipe;
    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    MVPN_ASSERT(pthread_sigmask(SIG_BLOCK, &pipe, ret_before) == 0);
}

static void restore_sigpipe(const sigset_t *before)
{
    const struct timespec at_once = {0};
    sigset_t pipe;
    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    if (!sigismember(before, SIGPIPE)) {
        while (sigtimedwait(&pipe, NULL, &at_once) == SIGPIPE) { /* what waits is ours */
        }
    }
    MVPN_ASSERT(pthread_sigmask(SIG_SETMASK, before, NULL) == 0);
}

int meshvpn_client_run(meshvpn_client *c, meshvpn_error *error)
{
    mvpn_fault fault = {.text = ""};
    sigset_t before;
    if (c->has_run) {
        return embed_error(error, MVPN_E_STATE, "this client has run: make another");
    }
    c->has_run = true;
    block_sigpipe(&before);
    set_state(c, MESHVPN_STATE_CONNECTING, "");
    int r = mvpn_client_sources_open(&c->sources, c->loop, mvpn_node_engine(c->node), &c->network,
                                     &c->marker, &c->memory.entries, &c->log, &fault);
    if (r == 0) {
        r = mvpn_loop_run(c->loop);
        if (r != 0 || mvpn_node_is_broken(c->node)) {
            r = mvpn_fault_set(&fault, MVPN_E_SYSTEM, "the TUN device or a socket is gone");
        }
    }
    set_state(c, MESHVPN_STATE_STOPPED, fault.text);
    restore_sigpipe(&before);
    return r == 0 ? 0 : embed_error(error, r, fault.text);
}
