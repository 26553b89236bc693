#include "bench/load/fleet.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/list.h"
#include "base/timer.h"
#include "core/engine.h"
#include "io/clock.h"
#include "io/loop.h"
#include "io/random.h"
#include "io/udp.h"

/* Packets of an engine: its window both ways, and messages that wait for an acknowledgement. */
#define PACKETS_ACTIVE 192
#define PACKETS_IDLE 48
#define BATCH 64
/* Packets made for one client before the next has its turn. */
#define PULL_MAX 16
#define WARM_UP MVPN_S(2)
/* For what is on the way at the end. */
#define DRAIN MVPN_S(1)
#define BUILD_PATIENCE 15
/* Clients begun in one turn: what is late is not made up for in one burst. */
#define BEGIN_MAX 4
/* When there was no packet for what is due. */
#define RETRY MVPN_MS(1)
/* Sockets, the loop's own, files. */
#define DESCRIPTORS 64

enum phase {
    PHASE_BUILD,
    PHASE_WARM_UP,
    PHASE_MEASURE,
    PHASE_DRAIN,
};

struct fleet;

typedef struct client {
    struct fleet *fleet;
    mvpn_engine *engine;
    mvpn_udp *udp;
    mvpn_loop_watch *watch;
    mvpn_packet_queue datagrams;
    mvpn_timer timer;
    mvpn_list dirty;
    mvpn_time begun;
    bool is_connected, was_connected;
    load_flow flow;
} client;

typedef struct fleet {
    const load_options *options;
    const mvpn_network_file *network;
    mvpn_fault *fault;
    mvpn_loop *loop;
    mvpn_udp *shared; /* its memory is everybody's */
    mvpn_timers timers;
    mvpn_list dirty;
    client *clients;
    unsigned count, begun, connected;
    enum phase phase;
    mvpn_time started, last_built, phase_ends;
    mvpn_time next_begin;
    load_process self_before;
    mvpn_client_config client_config;
    mvpn_path paths[LOAD_PATHS_MAX];
    load_report *report;
    int error;
} fleet;

static void break_fleet(fleet *f, int error)
{
    if (f->error == 0) {
        f->error = error;
    }
    mvpn_loop_stop(f->loop);
}

static void mark(client *c)
{
    if (!mvpn_list_is_linked(&c->dirty)) {
        mvpn_list_append(&c->fleet->dirty, &c->dirty);
    }
}

static void socket_ready(void *ctx, unsigned events)
{
    client *c = ctx;
    if ((events & MVPN_LOOP_READABLE) != 0 &&
        mvpn_udp_recv(c->udp, MVPN_UDP_V4, mvpn_engine_pool(c->engine), &c->datagrams, BATCH) < 0) {
        mvpn_fault_set(c->fleet->fault, MVPN_E_SYSTEM, "a socket broke");
        break_fleet(c->fleet, MVPN_E_SYSTEM);
    }
    mark(c);
}

/* ---- a client begins ---- */

static enum load_kind kind_of(const fleet *f, unsigned number)
{
    /* Kinds are dealt out in turn, so that none is first to build, to start and to be measured. */
    unsigned total = f->count;
    uint64_t at = (uint64_t)number * 7919 % total; /* a permutation unless 7919 divides it */
    at = total % 7919 == 0 ? number : at;
    unsigned kind = 0;
    while (at >= f->options->clients[kind]) {
        at -= f->options->clients[kind++];
    }
    return (enum load_kind)kind;
}

static int make_engine(fleet *f, client *c, unsigned number, mvpn_time now)
{
    const mvpn_network_file *n = f->network;
    mvpn_client_config client_config = f->client_config;
    mvpn_engine_config config = {
        .unix_offset_us = (int64_t)(mvpn_clock_unix() * MVPN_US_PER_S) - (int64_t)now,
        .network_pub = n->network_pub,
        .closed = n->is_closed,
        .network_secret = n->network_secret,
        .allow_private = n->allow_private,
        .relax = n->relax,
        .anchor_count = n->anchor_count,
        .revocations = &n->revocations,
        .client = &client_config,
        .packet_count = c->flow.config.kind == LOAD_IDLE ? PACKETS_IDLE : PACKETS_ACTIVE,
    };
    memcpy(config.anchors, n->anchors, sizeof(config.anchors));
    if (f->options->path_count > 0) {
        client_config.fixed_path = f->paths[number % f->options->path_count];
        client_config.hops = client_config.fixed_path.count;
    }
    int r = mvpn_random_bytes(config.seed, sizeof(config.seed));
    r = r != 0 ? r : mvpn_engine_new(&config, now, &c->engine, NULL);
    mvpn_wipe(&config, sizeof(config));
    if (r != 0) {
        return mvpn_fault_set(f->fault, r, "cannot make engine %u: %s", number, mvpn_strerror(r));
    }
    for (size_t i = 0; i < n->relay_count; i++) {
        MVPN_IGNORE(mvpn_view_add(mvpn_engine_view(c->engine), &n->relays[i]));
    }
    return 0;
}

static int begin(fleet *f, unsigned number, mvpn_time now)
{
    const load_options *o = f->options;
    client *c = &f->clients[number];
    const mvpn_udp_options udp_options = {.is_small = true, .buffers_of = f->shared};
    const load_flow_config flow = {
        .kind = kind_of(f, number),
        .direction = o->direction,
        .client = number,
        .server = o->server,
        .size = o->size,
        .kbit = kind_of(f, number) == LOAD_FLOOD ? o->flood_kbit : o->kbit,
    };
    c->fleet = f;
    c->begun = now;
    mvpn_packet_queue_init(&c->datagrams);
    load_flow_init(&c->flow, &flow, &f->report->rtts[flow.kind]);
    int r = mvpn_udp_open(&c->udp, &o->bind[number % o->bind_count], 1, &udp_options, f->fault);
    r = r != 0 ? r : make_engine(f, c, number, now);
    r = r != 0 ? r : mvpn_timers_reserve(&f->timers, number + 1);
    if (r == 0) {
        int fd = mvpn_udp_fd(c->udp, MVPN_UDP_V4);
        r = mvpn_loop_watch_fd(f->loop, fd, MVPN_LOOP_READABLE, socket_ready, c, &c->watch);
        if (r != 0) {
            mvpn_fault_set(f->fault, r, "cannot watch socket %u", number);
        }
    }
    if (r == 0) {
        if (flow.kind != LOAD_IDLE) {
            mvpn_udp_grow(c->udp); /* a window's worth may come while others have their turn */
        }
        f->begun++;
        mark(c);
    }
    return r;
}

/* Those due by the rate of building. */
static void begin_due(fleet *f, mvpn_time now)
{
    mvpn_time step = MVPN_US_PER_S / f->options->rate;
    for (unsigned i = 0; i < BEGIN_MAX && f->begun < f->count && now >= f->next_begin; i++) {
        int r = begin(f, f->begun, now);
        if (r != 0) {
            break_fleet(f, r);
            return;
        }
        f->next_begin += step;
    }
}

/* ---- what becomes of its circuit ---- */

static void count_reason(load_report *report, int error, uint8_t reason)
{
    size_t i = 0;
    while (i < report->reason_count &&
           (report->reasons[i].error != error || report->reasons[i].reason != reason)) {
        i++;
    }
    if (i == report->reason_count) {
        if (i == LOAD_REASONS_MAX) {
            i--;
        } else {
            report->reasons[report->reason_count++] = (load_reason){error, reason, 0};
        }
    }
    report->reasons[i].count++;
}

static void relay_read(const fleet *f, load_process *ret)
{
    if (f->report->has_relay) {
        (void)load_process_read(f->options->relay_pid, ret); /* it may have died: then as before */
    }
}

static void connected(fleet *f, client *c, mvpn_time now)
{
    c->is_connected = true;
    f->connected++;
    if (!c->was_connected && f->phase == PHASE_BUILD) {
        c->was_connected = true;
        f->report->built++;
        f->last_built = now;
        load_histogram_add(&f->report->build_times, now - c->begun);
    }
}

static void handle_event(fleet *f, client *c, const mvpn_client_event *e, mvpn_time now)
{
    switch (e->type) {
    case MVPN_CLIENT_EVENT_CONNECTED:
        if (!c->is_connected) {
            connected(f, c, now);
        }
        break;
    case MVPN_CLIENT_EVENT_DISCONNECTED:
        if (c->is_connected) {
            c->is_connected = false;
            f->connected--;
            f->report->disconnects++;
        }
        count_reason(f->report, e->error, e->reason);
        break;
    case MVPN_CLIENT_EVENT_BUILD_FAILED:
        count_reason(f->report, e->error, e->reason);
        break;
    case MVPN_CLIENT_EVENT_SWITCHED:
    case MVPN_CLIENT_EVENT_SESSION_LOST:
        count_reason(f->report, e->error, e->reason);
        break;
    case MVPN_CLIENT_EVENT_STAGE:
        break;
    case MVPN_CLIENT_EVENT_BLOCKED:
        mvpn_fault_set(f->fault, MVPN_E_CONFIG, "no path can be chosen: %s",
                       mvpn_path_block_text(e->block));
        break_fleet(f, MVPN_E_CONFIG);
        break;
    }
}

/* ---- a client's turn ---- */

/* False: something is due that found no packet. */
static bool make_packets(client *c, mvpn_packet_queue *to, mvpn_time now)
{
    mvpn_packet_pool *pool = mvpn_engine_pool(c->engine);
    if (!c->is_connected) {
        return true;
    }
    for (unsigned i = 0; i < PULL_MAX; i++) {
        mvpn_packet *p = mvpn_packet_new(pool);
        if (p == NULL) {
            return false;
        }
        size_t n = load_flow_pull(&c->flow, p->data, now);
        if (n == 0) {
            mvpn_packet_free(pool, p);
            return true;
        }
        (void)mvpn_packet_append(p, (uint32_t)n);
        mvpn_packet_queue_push(to, p);
    }
    return true;
}

static void take_packets(client *c, mvpn_time now)
{
    mvpn_packet_queue *in = mvpn_engine_tun_out(c->engine);
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(in)) != NULL) {
        load_flow_receive(&c->flow, p->data, p->len, now);
        mvpn_packet_free(mvpn_engine_pool(c->engine), p);
    }
}

static void client_turn(fleet *f, client *c, mvpn_time now)
{
    mvpn_engine_event event;
    mvpn_packet_queue from_tun;
    mvpn_packet_queue_init(&from_tun);
    mvpn_engine_datagrams_in(c->engine, &c->datagrams, now);
    mvpn_engine_turn(c->engine, now);
    take_packets(c, now);
    while (mvpn_engine_pull_event(c->engine, &event)) {
        if (event.type == MVPN_ENGINE_CLIENT) {
            handle_event(f, c, &event.client, now);
        }
    }
    bool had_packets = make_packets(c, &from_tun, now);
    if (from_tun.count > 0) {
        mvpn_engine_tun_in(c->engine, &from_tun, now);
        mvpn_engine_turn(c->engine, now);
    }
    mvpn_packet_queue *out = mvpn_engine_datagrams_out(c->engine);
    bool is_sent = mvpn_udp_send(c->udp, out, mvpn_engine_pool(c->engine)) == 0;
    mvpn_loop_watch_set(c->watch, MVPN_LOOP_READABLE | (is_sent ? 0 : MVPN_LOOP_WRITABLE));
    mvpn_time next = mvpn_engine_deadline(c->engine);
    if (c->is_connected) {
        mvpn_time due = load_flow_deadline(&c->flow);
        next = mvpn_time_min(next, had_packets ? due : MVPN_MAX(due, now + RETRY));
    }
    mvpn_timer_set(&f->timers, &c->timer, next);
}

/* ---- phases ---- */

static void sum_up(fleet *f)
{
    load_report *r = f->report;
    uint64_t *shares = calloc(f->count, sizeof(*shares));
    size_t bulk = 0;
    r->share_min = UINT64_MAX;
    for (unsigned i = 0; i < f->begun; i++) {
        client *c = &f->clients[i];
        load_flow_counts *n = &c->flow.counts, *to = &r->counts[c->flow.config.kind];
        load_flow_finish(&c->flow);
        to->sent += n->sent;
        to->received += n->received;
        to->lost += n->lost;
        to->late += n->late;
        to->reordered += n->reordered;
        to->corrupt += n->corrupt;
        r->connected += c->is_connected;
        r->socket_drops += mvpn_udp_get_stats(c->udp)->received_no_packet;
        if (c->flow.config.kind == LOAD_BULK || c->flow.config.kind == LOAD_INTERACTIVE) {
            r->expected++;
            r->progressed += n->received > 0;
        }
        if (c->flow.config.kind == LOAD_BULK && shares != NULL) {
            shares[bulk++] = n->bytes;
            r->bulk_bytes += n->bytes;
            r->share_min = MVPN_MIN(r->share_min, n->bytes);
            r->share_max = MVPN_MAX(r->share_max, n->bytes);
        }
    }
    r->share_min = bulk == 0 ? 0 : r->share_min;
    r->jain = bulk == 0 ? 0 : load_jain(shares, bulk);
    free(shares);
}

static void end_building(fleet *f, mvpn_time now)
{
    load_process self = {0};
    load_report *r = f->report;
    r->build_s = r->built == 0 ? 0 : (double)(f->last_built - f->started) / 1e6;
    if (load_process_read(0, &self) && f->begun > 0 && self.rss_bytes > f->self_before.rss_bytes) {
        r->engine_bytes = (self.rss_bytes - f->self_before.rss_bytes) / f->begun;
    }
    relay_read(f, &r->relay_built);
    r->relay_build_cpu_s = r->relay_built.cpu_s - r->relay_before.cpu_s;
    for (unsigned i = 0; i < f->begun; i++) {
        load_flow_start(&f->clients[i].flow, (double)i / f->count, now);
        mark(&f->clients[i]);
    }
    f->phase = PHASE_WARM_UP;
    f->phase_ends = now + WARM_UP;
}

static void begin_measuring(fleet *f, mvpn_time now)
{
    for (unsigned i = 0; i < f->begun; i++) {
        load_flow_begin_count(&f->clients[i].flow);
    }
    memset(f->report->rtts, 0, sizeof(f->report->rtts));
    relay_read(f, &f->report->relay_from);
    f->phase = PHASE_MEASURE;
    f->started = now;
    f->phase_ends = now + MVPN_S(f->options->seconds);
}

static void end_measuring(fleet *f, mvpn_time now)
{
    f->report->measured_s = (double)(now - f->started) / 1e6;
    relay_read(f, &f->report->relay_after);
    for (unsigned i = 0; i < f->begun; i++) {
        load_flow_stop(&f->clients[i].flow);
    }
    f->phase = PHASE_DRAIN;
    f->phase_ends = now + DRAIN;
}

static void change_phase(fleet *f, mvpn_time now)
{
    bool is_built = f->phase == PHASE_BUILD && f->connected == f->count;
    if (!is_built && now < f->phase_ends) {
        return;
    }
    switch (f->phase) {
    case PHASE_BUILD:
        end_building(f, now);
        break;
    case PHASE_WARM_UP:
        begin_measuring(f, now);
        break;
    case PHASE_MEASURE:
        end_measuring(f, now);
        break;
    case PHASE_DRAIN:
        sum_up(f);
        mvpn_loop_stop(f->loop);
        break;
    }
}

static void turn(void *ctx)
{
    fleet *f = ctx;
    mvpn_timer *timer;
    mvpn_list *node;
    mvpn_list dirty;
    mvpn_time now = mvpn_clock_now();
    if (f->phase == PHASE_BUILD) {
        begin_due(f, now);
    }
    while ((timer = mvpn_timers_pop(&f->timers, now)) != NULL) {
        mark(MVPN_CONTAINER_OF(timer, client, timer));
    }
    /* Only those marked by now: what they cause waits for the sockets to be read. */
    mvpn_list_init(&dirty);
    while ((node = mvpn_list_pop(&f->dirty)) != NULL) {
        mvpn_list_append(&dirty, node);
    }
    while ((node = mvpn_list_pop(&dirty)) != NULL) {
        client_turn(f, MVPN_CONTAINER_OF(node, client, dirty), mvpn_clock_now());
    }
    change_phase(f, now);
    mvpn_time next = mvpn_time_min(mvpn_timers_deadline(&f->timers), f->phase_ends);
    if (f->phase == PHASE_BUILD && f->begun < f->count) {
        next = mvpn_time_min(next, f->next_begin);
    }
    mvpn_loop_set_deadline(f->loop, mvpn_list_is_empty(&f->dirty) ? next : now);
}

/* ---- life ---- */

static void stop(void *ctx, int signo)
{
    fleet *f = ctx;
    (void)signo;
    mvpn_fault_set(f->fault, MVPN_E_SYSTEM, "ended by a signal");
    break_fleet(f, MVPN_E_SYSTEM);
}

static int find_path(const fleet *f, const load_path *path, mvpn_path *ret)
{
    for (unsigned i = 0; i < path->count; i++) {
        char name[128];
        size_t n = MVPN_MIN(path->length[i], sizeof(name) - 1);
        memcpy(name, path->hop[i], n);
        name[n] = '\0';
        const mvpn_descriptor *d = mvpn_network_file_find(f->network, name);
        if (d == NULL) {
            return mvpn_fault_set(f->fault, MVPN_E_CONFIG,
                                  "--path: '%s' is not (or not only once) in %s", name,
                                  f->options->network_file);
        }
        ret->hop[i] = d->identity;
    }
    ret->count = path->count;
    return 0;
}

static int raise_descriptors(const fleet *f)
{
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t wanted = f->count + DESCRIPTORS;
    if (limit.rlim_cur >= wanted) {
        return 0;
    }
    limit.rlim_cur = wanted;
    limit.rlim_max = MVPN_MAX(limit.rlim_max, wanted);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return mvpn_fault_set(f->fault, MVPN_E_CONFIG,
                              "%u sockets are more than this user may have (ulimit -n)", f->count);
    }
    return 0;
}

static int fleet_init(fleet *f)
{
    const load_options *o = f->options;
    const mvpn_udp_options udp_options = {.is_small = true};
    int r = raise_descriptors(f);
    for (size_t i = 0; r == 0 && i < o->path_count; i++) {
        r = find_path(f, &o->paths[i], &f->paths[i]);
    }
    r = r != 0 ? r : mvpn_udp_open(&f->shared, &o->bind[0], 1, &udp_options, f->fault);
    if (r != 0) {
        return r;
    }
    f->clients = calloc(f->count, sizeof(*f->clients));
    r = f->clients == NULL ? MVPN_E_NOMEM : mvpn_timers_init(&f->timers, f->count);
    r = r != 0 ? r : mvpn_loop_new(&f->loop);
    r = r != 0 ? r : mvpn_loop_on_signal(f->loop, SIGTERM, stop, f);
    r = r != 0 ? r : mvpn_loop_on_signal(f->loop, SIGINT, stop, f);
    return r == 0 ? 0 : mvpn_fault_set(f->fault, r, "cannot begin: %s", mvpn_strerror(r));
}

static void fleet_done(fleet *f)
{
    for (unsigned i = 0; f->clients != NULL && i < f->count; i++) {
        client *c = &f->clients[i];
        if (c->engine != NULL) {
            mvpn_packet_pool *pool = mvpn_engine_pool(c->engine);
            mvpn_packet_queue_clear(&c->datagrams, pool);
            mvpn_engine_shutdown(c->engine, mvpn_clock_now());
            MVPN_IGNORE(mvpn_udp_send(c->udp, mvpn_engine_datagrams_out(c->engine), pool));
        }
        mvpn_loop_unwatch(c->watch);
        mvpn_engine_free(c->engine);
        mvpn_udp_free(c->udp);
    }
    mvpn_loop_free(f->loop);
    mvpn_timers_done(&f->timers);
    mvpn_udp_free(f->shared);
    free(f->clients);
}

int load_fleet_run(const load_options *options, const mvpn_network_file *network, load_report *ret,
                   mvpn_fault *fault)
{
    fleet f = {
        .options = options,
        .network = network,
        .fault = fault,
        .count = load_options_total(options),
        .report = ret,
        .client_config = {.hops = options->hops,
                          .relax = network->relax,
                          .env = {.size_policy = MVPN_SIZE_CLASSES, .family = 4}},
    };
    memset(ret, 0, sizeof(*ret));
    mvpn_list_init(&f.dirty);
    ret->clients = f.count;
    int r = fleet_init(&f);
    if (r == 0) {
        (void)load_process_read(0, &f.self_before);
        ret->has_relay =
            options->relay_pid != 0 && load_process_read(options->relay_pid, &ret->relay_before);
        unsigned patience = options->build_seconds != 0 ? options->build_seconds
                                                        : f.count / options->rate + BUILD_PATIENCE;
        f.started = mvpn_clock_now();
        f.next_begin = f.started;
        f.phase_ends = f.started + MVPN_S(patience);
        mvpn_loop_on_turn(f.loop, turn, &f);
        mvpn_loop_set_deadline(f.loop, f.started);
        r = mvpn_loop_run(f.loop);
        r = f.error != 0 ? f.error : r;
    }
    fleet_done(&f);
    return r;
}
