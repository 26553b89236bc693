#include "io/stun_probe.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/random.h"
#include "io/stun_socket.h"

/* Datagrams read in one turn. */
#define BATCH 32

struct endpoint {
    mvpn_stun_probe *probe;
    unsigned index;
    int fd;
    mvpn_loop_watch *watch;
};

struct mvpn_stun_probe {
    struct endpoint endpoints[MVPN_STUN_CLIENT_SOCKETS];
    mvpn_loop_timer *timer;
    mvpn_rng rng;
    mvpn_stun_client *client;
    mvpn_stun_probe_fn *fn;
    void *ctx;
};

static void drain(mvpn_stun_probe *p)
{
    mvpn_stun_datagram d;
    while (mvpn_stun_client_pull(p->client, &d)) {
        mvpn_stun_socket_send(p->endpoints[d.socket].fd, &d.to, d.bytes, d.length);
    }
    mvpn_time deadline = mvpn_stun_client_deadline(p->client), now = mvpn_clock_now();
    uint64_t ms = deadline == MVPN_TIME_NEVER || deadline <= now
                      ? 0
                      : (deadline - now + MVPN_US_PER_MS - 1) / MVPN_US_PER_MS;
    mvpn_loop_timer_set(p->timer, ms);
}

/* Also the end: the owner is told from here alone, where everything can be freed. */
static void timer_passed(void *ctx)
{
    mvpn_stun_probe *p = ctx;
    mvpn_stun_client_tick(p->client, mvpn_clock_now());
    if (mvpn_stun_client_is_done(p->client)) {
        p->fn(p->ctx, mvpn_stun_client_result(p->client));
        return;
    }
    drain(p);
}

static void answers_came(void *ctx, unsigned events)
{
    const struct endpoint *e = ctx;
    mvpn_stun_probe *p = e->probe;
    uint8_t bytes[MVPN_STUN_MAX + 1];
    bool was_done = mvpn_stun_client_is_done(p->client);
    (void)events;
    for (unsigned i = 0; i < BATCH; i++) {
        mvpn_addr from;
        ssize_t n = mvpn_stun_socket_recv(e->fd, bytes, sizeof(bytes), &from);
        if (n < 0) {
            break;
        }
        /* What is no answer changes nothing. */
        MVPN_IGNORE(mvpn_stun_client_recv(p->client, e->index, &from,
                                          mvpn_bytes_of(bytes, (size_t)n), mvpn_clock_now()));
    }
    if (!was_done) { /* else the owner knows, or is about to */
        drain(p);
    }
}

static int open_endpoints(mvpn_loop *loop, mvpn_stun_probe *p, const mvpn_stun_probe_options *o,
                          mvpn_stun_client_config *config, mvpn_fault *fault)
{
    bool is_bound = o->from.family == o->servers[0].family;
    mvpn_addr source = is_bound ? o->from : mvpn_stun_socket_source(&o->servers[0], o->mark);
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        struct endpoint *e = &p->endpoints[i];
        mvpn_addr any = {.family = o->servers[0].family};
        e->fd = mvpn_stun_socket_open(is_bound ? &o->from : &any, o->mark);
        if (e->fd < 0) {
            return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot open a UDP socket");
        }
        config->local[i] = source;
        config->local[i].port = mvpn_stun_socket_local(e->fd).port;
        int r = mvpn_loop_watch_fd(loop, e->fd, MVPN_LOOP_READABLE, answers_came, e, &e->watch);
        if (r != 0) {
            return mvpn_fault_set(fault, r, "cannot watch a UDP socket");
        }
    }
    return 0;
}

static int begin(mvpn_loop *loop, mvpn_stun_probe *p, const mvpn_stun_probe_options *o,
                 mvpn_fault *fault)
{
    mvpn_stun_client_config config = {
        .server_count = o->server_count,
        .rto = o->is_patient ? MVPN_STUN_RTO
               : o->rto != 0 ? o->rto
                             : MVPN_STUN_QUICK_RTO,
        .rc = o->is_patient ? MVPN_STUN_RC : MVPN_STUN_QUICK_RC,
        .rm = o->is_patient ? MVPN_STUN_RM : MVPN_STUN_QUICK_RM,
        .address_only = o->address_only,
    };
    if (o->server_count == 0 || o->server_count > MVPN_STUN_SERVERS_MAX) {
        return mvpn_fault_set(fault, MVPN_E_INVAL, "1 to %d STUN servers can be asked",
                              MVPN_STUN_SERVERS_MAX);
    }
    for (size_t i = 0; i < o->server_count; i++) {
        config.servers[i] = o->servers[i];
    }
    int r = open_endpoints(loop, p, o, &config, fault);
    r = r != 0 ? r : mvpn_random_seed(&p->rng);
    r = r != 0 ? r : mvpn_loop_timer_new(loop, timer_passed, p, &p->timer);
    r = r != 0 ? r : mvpn_stun_client_new(&p->client, &config, &p->rng, mvpn_clock_now());
    if (r == 0) {
        drain(p);
    } else if (r == MVPN_E_INVAL) {
        (void)mvpn_fault_set(fault, r,
                             "STUN servers of one family, each with its port, are needed");
    }
    return r;
}

int mvpn_stun_probe_new(mvpn_loop *loop, const mvpn_stun_probe_options *options,
                        mvpn_stun_probe_fn *fn, void *ctx, mvpn_stun_probe **ret, mvpn_fault *fault)
{
    mvpn_stun_probe *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to ask by STUN");
    }
    p->fn = fn;
    p->ctx = ctx;
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        p->endpoints[i] = (struct endpoint){.probe = p, .index = i, .fd = -1};
    }
    int r = begin(loop, p, options, fault);
    if (r != 0) {
        mvpn_stun_probe_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void mvpn_stun_probe_free(mvpn_stun_probe *p)
{
    if (p == NULL) {
        return;
    }
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        mvpn_loop_unwatch(p->endpoints[i].watch);
        if (p->endpoints[i].fd >= 0) {
            (void)close(p->endpoints[i].fd);
        }
    }
    mvpn_loop_timer_free(p->timer);
    mvpn_stun_client_free(p->client);
    mvpn_rng_done(&p->rng);
    free(p);
}
