#include "io/node.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/addrwatch.h"
#include "io/clock.h"
#include "io/dns_sockets.h"
#include "io/families.h"
#include "io/random.h"
#include "io/silence.h"
#include "io/sockets.h"

/*
 * Packets taken from one descriptor in one turn: large enough to fill GSO messages, small enough
 * that queues stay short, acknowledgements go out soon, and no circuit can have more than its bound
 * waiting.
 */
#define BATCH 192
/* While more than this waits for a full socket, the TUN is not read: the host's own queue holds
 * back its senders. */
#define BACKLOG_MAX 1024
/* Addresses and routes come and go in groups: what follows within so long is one change. And
 * between two looks at them: short, since a client that is online again waits for it. */
#define NETWORK_SETTLE MVPN_MS(10)
#define NETWORK_PAUSE MVPN_MS(80)

typedef struct port {
    mvpn_node *node;
    mvpn_udp *udp;
    enum mvpn_udp_family family;
    mvpn_loop_watch *watch;
} port;

/* How often the host's clock is looked at, and what counts as a step (it is read in seconds). */
#define CLOCK_CHECK_MS 2000
#define CLOCK_STEP_US (3 * (int64_t)MVPN_US_PER_S)

struct mvpn_node {
    mvpn_loop *loop;
    mvpn_engine *engine;
    mvpn_udp *udp;
    mvpn_dns_sockets *dns; /* NULL: no exit */
    mvpn_sockets *sockets;
    mvpn_pinger *pinger;
    mvpn_tun *tun; /* borrowed; NULL: none */
    mvpn_node_stack stack;
    port ports[2 * MVPN_UDP_FAMILIES];
    unsigned port_count;
    mvpn_loop_watch *tun_watch;
    mvpn_loop_watch *address_watch;
    int address_fd;       /* -1: cannot be watched */
    mvpn_netlink *routes; /* NULL: this program may not ask for them (an app on a phone) */
    enum mvpn_addrwatch_word network_word; /* what was heard since the last look */
    mvpn_time network_heard, network_looked;
    mvpn_addrwatch_network network; /* as it was then */
    const mvpn_marker *marker;      /* borrowed, or NULL */
    mvpn_packet_queue datagrams, from_tun;
    mvpn_packet_queue further; /* datagrams for further sockets */
    mvpn_node_event_fn *on_event;
    void (*on_arrivals)(void *ctx, mvpn_packet_queue *packets);
    void *ctx;
    void (*on_withdrawn)(void *ctx);
    void *withdrawn_ctx;
    int64_t unix_offset_us; /* of the host's clock, as the engine was told */
    mvpn_loop_timer *clock_timer;
    mvpn_silence silence;
    const mvpn_log *log; /* NULL: none */
    bool broken;
};

static void break_node(mvpn_node *node)
{
    node->broken = true;
    mvpn_loop_stop(node->loop);
}

static void port_ready(void *ctx, unsigned events)
{
    port *p = ctx;
    mvpn_node *node = p->node;
    if (!(events & MVPN_LOOP_READABLE)) {
        return; /* writable: the end of the turn sends */
    }
    mvpn_packet_pool *pool = mvpn_engine_pool(node->engine);
    if (mvpn_udp_recv(p->udp, p->family, pool, &node->datagrams, BATCH) < 0) {
        break_node(node);
    }
}

static void tun_ready(void *ctx, unsigned events)
{
    mvpn_node *node = ctx;
    (void)events;
    if (mvpn_tun_read(node->tun, mvpn_engine_pool(node->engine), &node->from_tun, BATCH) < 0) {
        break_node(node);
    }
}

static void hear(mvpn_node *node, enum mvpn_addrwatch_word word)
{
    if (node->network_word == MVPN_ADDRWATCH_NOTHING) {
        node->network_heard = mvpn_clock_now();
    }
    node->network_word = MVPN_MAX(node->network_word, word);
}

static void addresses_ready(void *ctx, unsigned events)
{
    mvpn_node *node = ctx;
    (void)events;
    enum mvpn_addrwatch_word word = mvpn_addrwatch_read(node->address_fd);
    hear(node, word);
}

int mvpn_node_network(mvpn_node *node, mvpn_addrwatch_network *ret)
{
    const char *own = node->tun == NULL ? NULL : mvpn_tun_name(node->tun);
    if (node->routes == NULL) {
        *ret = (mvpn_addrwatch_network){0};
        ret->count = mvpn_host_sources(node->marker, ret->addrs);
        return 0;
    }
    return mvpn_addrwatch_look(node->routes, own, mvpn_marker_mark(node->marker), ret);
}

/* The addresses by which others might reach the main socket, with its port. */
static size_t host_addresses(const mvpn_node *node, mvpn_addr *ret, size_t max)
{
    const mvpn_addr *all = node->network.addrs;
    size_t count = 0;
    for (size_t i = 0; i < node->network.count && count < max; i++) {
        static const uint8_t any[16] = {0};
        mvpn_addr at = mvpn_udp_local(node->udp, all[i].family == 6 ? MVPN_UDP_V6 : MVPN_UDP_V4);
        bool is_any = memcmp(at.ip, any, sizeof(any)) == 0;
        if (at.family != 0 && (is_any || mvpn_addr_ip_eq(&at, &all[i]))) {
            ret[count] = all[i];
            ret[count++].port = at.port;
        }
    }
    return count;
}

/* Tell the engine if the network is another; returns when to look. */
static mvpn_time tell_network_change(mvpn_node *node, mvpn_time now)
{
    mvpn_addrwatch_network is;
    enum mvpn_addrwatch_word word = node->network_word;
    mvpn_time at =
        MVPN_MAX(node->network_heard + NETWORK_SETTLE, node->network_looked + NETWORK_PAUSE);
    if (word == MVPN_ADDRWATCH_NOTHING || now < at) {
        return word == MVPN_ADDRWATCH_NOTHING ? MVPN_TIME_NEVER : at;
    }
    node->network_word = MVPN_ADDRWATCH_NOTHING;
    node->network_looked = now;
    if (mvpn_node_network(node, &is) != 0 ||
        (word != MVPN_ADDRWATCH_GONE && mvpn_addrwatch_same(&is, &node->network))) {
        return MVPN_TIME_NEVER;
    }
    node->network = is;
    mvpn_addr own[MVPN_NAT_OWN_MAX];
    size_t count = host_addresses(node, own, MVPN_ARRAY_LEN(own));
    mvpn_engine_network_changed(node->engine, own, count, now);
    return MVPN_TIME_NEVER;
}

/* ---- further sockets ---- */

static bool socket_is_used(void *ctx, uint16_t local)
{
    const mvpn_node *node = ctx;
    return mvpn_engine_socket_is_used(node->engine, local);
}

static void message_too_big(void *ctx, const mvpn_addr *remote)
{
    mvpn_node *node = ctx;
    mvpn_links_message_too_big(mvpn_engine_links(node->engine), remote, mvpn_clock_now());
}

static int make_sockets(mvpn_node *node, const mvpn_node_options *options)
{
    mvpn_sockets_options o = {
        .loop = node->loop,
        .main = node->udp,
        .pool = mvpn_engine_pool(node->engine),
        .out = &node->further,
        .in = &node->datagrams,
        .budget = BATCH,
        .marker = options->marker,
        .is_used = socket_is_used,
        .too_big = message_too_big,
        .ctx = node,
        .log = options->log,
    };
    return mvpn_sockets_new(&o, &node->sockets);
}

/* ---- a turn ---- */

static void send_all(mvpn_node *node, mvpn_time now)
{
    mvpn_packet_pool *pool = mvpn_engine_pool(node->engine);
    mvpn_packet_queue *out = mvpn_engine_datagrams_out(node->engine);
    mvpn_packet_queue *dns = mvpn_engine_dns_out(node->engine);
    mvpn_packet_queue *tun = mvpn_engine_tun_out(node->engine);
    mvpn_addr remote;
    MVPN_IGNORE(mvpn_udp_send(node->udp, out, pool)); /* what is left waits in the queue */
    if (node->dns != NULL && dns != NULL) {
        mvpn_dns_sockets_send(node->dns, dns, now);
    }
    if (node->on_arrivals != NULL && tun != NULL && tun->count > 0) {
        node->on_arrivals(node->ctx, tun);
    }
    if (node->tun != NULL && tun != NULL && mvpn_tun_write(node->tun, tun, pool) != 0) {
        break_node(node);
    }
    if (node->stack.exchange != NULL && tun != NULL) {
        bool can_send = out->count + mvpn_sockets_backlog(node->sockets) <= BACKLOG_MAX;
        node->stack.exchange(node->stack.ctx, tun, can_send ? &node->from_tun : NULL, now);
    }
    if (!mvpn_sockets_is_idle(node->sockets)) {
        mvpn_sockets_turn(node->sockets, now);
    }
    while (mvpn_udp_pull_too_big(node->udp, &remote)) {
        mvpn_links_message_too_big(mvpn_engine_links(node->engine), &remote, now);
    }
    for (unsigned i = 0; i < node->port_count; i++) {
        port *p = &node->ports[i];
        bool is_blocked = mvpn_udp_is_blocked(p->udp, p->family);
        mvpn_loop_watch_set(p->watch, MVPN_LOOP_READABLE | (is_blocked ? MVPN_LOOP_WRITABLE : 0));
    }
    if (node->tun_watch != NULL) {
        size_t backlog = out->count + mvpn_sockets_backlog(node->sockets);
        mvpn_loop_watch_set(node->tun_watch, backlog > BACKLOG_MAX ? 0 : MVPN_LOOP_READABLE);
    }
}

/* Up to BATCH packets of a queue. */
static void take_slice(mvpn_packet_queue *from, mvpn_packet_queue *to)
{
    mvpn_packet *p;
    mvpn_packet_queue_init(to);
    while (to->count < BATCH && (p = mvpn_packet_queue_pop(from)) != NULL) {
        mvpn_packet_queue_push(to, p);
    }
}

static void turn(void *ctx)
{
    mvpn_node *node = ctx;
    mvpn_engine_event event;
    mvpn_packet_queue datagrams, from_tun;
    mvpn_time now = mvpn_clock_now();
    mvpn_time again = tell_network_change(node, now);
    /* A read may bring more than was asked for; the engine's bounds are per slice, and each slice
     * is sent. */
    do {
        take_slice(&node->datagrams, &datagrams);
        take_slice(&node->from_tun, &from_tun);
        mvpn_engine_datagrams_in(node->engine, &datagrams, now);
        mvpn_engine_tun_in(node->engine, &from_tun, now);
        mvpn_engine_turn(node->engine, now);
        mvpn_pinger_turn(node->pinger, now);
        send_all(node, now);
    } while (node->datagrams.count > 0 || node->from_tun.count > 0);
    while (mvpn_engine_pull_event(node->engine, &event)) {
        if (event.type == MVPN_ENGINE_WITHDRAWN && node->on_withdrawn != NULL) {
            node->on_withdrawn(node->withdrawn_ctx);
        } else if (node->on_event != NULL) {
            node->on_event(node->ctx, &event);
        }
    }
    again = mvpn_time_min(again, mvpn_sockets_deadline(node->sockets, now));
    again = mvpn_time_min(again, mvpn_pinger_deadline(node->pinger));
    if (node->stack.deadline != NULL) {
        again = mvpn_time_min(again, node->stack.deadline(node->stack.ctx, now));
    }
    mvpn_loop_set_deadline(node->loop, mvpn_time_min(mvpn_engine_deadline(node->engine), again));
}

static void check_silence(mvpn_node *node, mvpn_time now)
{
    const mvpn_udp_stats *stats = mvpn_udp_get_stats(node->udp);
    if (mvpn_silence_look(&node->silence, stats->sent, stats->received, now) && node->log != NULL) {
        mvpn_logf(node->log, MVPN_LOG_WARN, "%s", mvpn_silence_text());
    }
}

/* The host's clock was set: what we take for Unix time is off by as much. */
static void check_clock(void *ctx)
{
    mvpn_node *node = ctx;
    mvpn_time now = mvpn_clock_now();
    int64_t offset_us = (int64_t)(mvpn_clock_unix() * MVPN_US_PER_S) - (int64_t)now;
    int64_t step_us = offset_us - node->unix_offset_us;
    if (step_us > CLOCK_STEP_US || step_us < -CLOCK_STEP_US) {
        node->unix_offset_us = offset_us;
        mvpn_engine_clock_was_set(node->engine, offset_us);
    }
    check_silence(node, now);
    mvpn_loop_timer_set(node->clock_timer, CLOCK_CHECK_MS);
}

static int watch_port(mvpn_node *node, mvpn_udp *udp, enum mvpn_udp_family family)
{
    int fd = mvpn_udp_fd(udp, family);
    if (fd < 0) {
        return 0;
    }
    port *p = &node->ports[node->port_count++];
    *p = (port){.node = node, .udp = udp, .family = family};
    return mvpn_loop_watch_fd(node->loop, fd, MVPN_LOOP_READABLE, port_ready, p, &p->watch);
}

static int watch_all(mvpn_node *node)
{
    int r = 0;
    for (unsigned f = 0; r == 0 && f < MVPN_UDP_FAMILIES; f++) {
        r = watch_port(node, node->udp, (enum mvpn_udp_family)f);
    }
    if (r == 0 && node->tun != NULL) {
        r = mvpn_loop_watch_fd(node->loop, mvpn_tun_fd(node->tun), MVPN_LOOP_READABLE, tun_ready,
                               node, &node->tun_watch);
    }
    /* Without it a host that moves is found by path checks alone. What changed since the engine
     * was made is to be seen. */
    node->address_fd = mvpn_addrwatch_open();
    node->network_word = MVPN_ADDRWATCH_LOOK;
    if (r == 0 && node->address_fd >= 0) {
        r = mvpn_loop_watch_fd(node->loop, node->address_fd, MVPN_LOOP_READABLE, addresses_ready,
                               node, &node->address_watch);
    }
    return r;
}

static int create_engine(mvpn_node *node, const mvpn_node_options *options, mvpn_fault *fault)
{
    mvpn_engine_config config = *options->engine;
    mvpn_policy_error policy_error = {0};
    mvpn_time now = mvpn_clock_now();
    int r = mvpn_random_bytes(config.seed, sizeof(config.seed));
    if (r != 0) {
        return mvpn_fault_set(fault, r, "the kernel gives no random numbers");
    }
    node->unix_offset_us = (int64_t)(mvpn_clock_unix() * MVPN_US_PER_S) - (int64_t)now;
    config.unix_offset_us = node->unix_offset_us;
    if (mvpn_node_network(node, &node->network) != 0) {
        node->network.count = 0; /* it will be looked at again */
    }
    config.host_address_count =
        host_addresses(node, config.host_addresses, MVPN_ARRAY_LEN(config.host_addresses));
    r = mvpn_engine_new(&config, now, &node->engine, &policy_error);
    mvpn_wipe(&config, sizeof(config));
    if (r != 0 && policy_error.what != NULL) {
        return mvpn_fault_set(fault, r, "exit policy, rule %u, column %u: %s", policy_error.line,
                              policy_error.column, policy_error.what);
    }
    if (r != 0) {
        return mvpn_fault_set(fault, r, "cannot start the engine: %s", mvpn_strerror(r));
    }
    for (size_t i = 0; options->network != NULL && i < options->network->relay_count; i++) {
        /* Two descriptors of one relay: the newer one counts. */
        MVPN_IGNORE(mvpn_view_add(mvpn_engine_view(node->engine), &options->network->relays[i]));
    }
    return 0;
}

int mvpn_node_new(const mvpn_node_options *options, mvpn_node **ret, mvpn_fault *fault)
{
    mvpn_node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    node->loop = options->loop;
    node->address_fd = -1;
    node->tun = options->tun;
    node->marker = options->marker;
    node->on_event = options->on_event;
    node->on_arrivals = options->on_arrivals;
    node->ctx = options->ctx;
    node->log = options->log;
    mvpn_packet_queue_init(&node->datagrams);
    mvpn_packet_queue_init(&node->from_tun);
    mvpn_packet_queue_init(&node->further);
    mvpn_udp_options udp_options = {.marker = options->marker, .others = &node->further};
    if (mvpn_netlink_open(&node->routes, NULL) != 0) {
        node->routes = NULL;
    }
    int r = mvpn_udp_open(&node->udp, options->listen, options->listen_count, &udp_options, fault);
    if (r == 0) {
        r = create_engine(node, options, fault);
    }
    if (r == 0 && options->has_dns) {
        r = mvpn_dns_sockets_new(node->loop, mvpn_engine_pool(node->engine), &node->datagrams,
                                 &node->dns, fault);
    }
    if (r == 0) {
        r = make_sockets(node, options);
    }
    if (r == 0) {
        r = mvpn_pinger_new(mvpn_engine_links(node->engine), &node->pinger);
    }
    if (r == 0) {
        r = mvpn_loop_timer_new(node->loop, check_clock, node, &node->clock_timer);
    }
    if (r == 0) {
        r = watch_all(node);
        if (r != 0) {
            mvpn_fault_set(fault, r, "cannot watch the sockets: %s", mvpn_strerror(r));
        }
    }
    if (r != 0) {
        mvpn_node_free(node);
        return r;
    }
    node->silence.since = mvpn_clock_now();
    mvpn_loop_timer_set(node->clock_timer, CLOCK_CHECK_MS);
    mvpn_loop_on_turn(node->loop, turn, node);
    mvpn_loop_set_deadline(node->loop, mvpn_clock_now());
    *ret = node;
    return 0;
}

void mvpn_node_free(mvpn_node *node)
{
    if (node == NULL) {
        return;
    }
    mvpn_dns_sockets_free(node->dns);
    if (node->engine != NULL) {
        mvpn_packet_pool *pool = mvpn_engine_pool(node->engine);
        mvpn_packet_queue_clear(&node->datagrams, pool);
        mvpn_packet_queue_clear(&node->from_tun, pool);
        mvpn_engine_shutdown(node->engine, mvpn_clock_now());
        MVPN_IGNORE(mvpn_udp_send(node->udp, mvpn_engine_datagrams_out(node->engine), pool));
        if (node->sockets != NULL && !mvpn_sockets_is_idle(node->sockets)) {
            mvpn_sockets_turn(node->sockets, mvpn_clock_now());
        }
    }
    mvpn_sockets_free(node->sockets);
    mvpn_pinger_free(node->pinger);
    for (unsigned i = 0; i < node->port_count; i++) {
        mvpn_loop_unwatch(node->ports[i].watch);
    }
    mvpn_loop_timer_free(node->clock_timer);
    mvpn_loop_unwatch(node->tun_watch);
    mvpn_loop_unwatch(node->address_watch);
    mvpn_netlink_close(node->routes);
    if (node->address_fd >= 0) {
        (void)close(node->address_fd);
    }
    mvpn_loop_on_turn(node->loop, NULL, NULL);
    mvpn_engine_free(node->engine);
    mvpn_udp_free(node->udp);
    free(node);
}

void mvpn_node_set_stack(mvpn_node *node, const mvpn_node_stack *stack)
{
    node->stack = *stack;
}

void mvpn_node_network_changed(mvpn_node *node)
{
    hear(node, MVPN_ADDRWATCH_GONE);
    mvpn_loop_set_deadline(node->loop, mvpn_clock_now());
}

bool mvpn_node_is_broken(const mvpn_node *node)
{
    return node->broken;
}

void mvpn_node_fill_network(const mvpn_network_file *network, mvpn_engine_config *ret)
{
    ret->network_pub = network->network_pub;
    ret->closed = network->is_closed;
    ret->network_secret = network->network_secret;
    ret->allow_private = network->allow_private;
    ret->relax = network->relax;
    ret->anchor_count = network->anchor_count;
    memcpy(ret->anchors, network->anchors, sizeof(ret->anchors));
    ret->revocations = &network->revocations;
    ret->entries = network->entries;
    ret->entry_count = network->entry_count;
    ret->finds = true;
}

bool mvpn_node_is_unheard(const mvpn_node *node)
{
    return node->silence.is_silent;
}

bool mvpn_node_was_never_heard(const mvpn_node *node)
{
    return node->silence.is_silent && mvpn_udp_get_stats(node->udp)->received == 0;
}

bool mvpn_node_withdraw(mvpn_node *node, void (*done)(void *ctx), void *ctx)
{
    mvpn_time now = mvpn_clock_now();
    if (!mvpn_engine_withdraw(node->engine, now)) {
        return false;
    }
    node->on_withdrawn = done;
    node->withdrawn_ctx = ctx;
    mvpn_loop_set_deadline(node->loop, now);
    return true;
}

mvpn_engine *mvpn_node_engine(mvpn_node *node)
{
    return node->engine;
}

mvpn_pinger *mvpn_node_pinger(mvpn_node *node)
{
    return node->pinger;
}
