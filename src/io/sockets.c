#include "io/sockets.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "base/error.h"

/* One for each number that the engine may use, and family. */
#define LOCALS (MVPN_LOCAL_PUNCH + MVPN_LOCAL_PUNCH_MAX - MVPN_LOCAL_PROBE)
/* Opened in one turn: about half a millisecond, so that traffic does not notice. */
#define OPENS_PER_TURN 32
/* Descriptors left to the rest of the program: files, the control socket and its clients. */
#define DESCRIPTORS_KEPT 64
/* Asked about in one turn whether they are used. */
#define CHECKS_PER_TURN 32
/* After a refusal by the system: it is not asked again for each packet. */
#define REFUSAL_PAUSE MVPN_S(1)
/* A socket that has heard so much carries a link, not probes. */
#define TRAFFIC 64

typedef struct extra {
    mvpn_sockets *owner;
    mvpn_udp *udp;
    mvpn_loop_watch *watch;
    mvpn_packet_queue out;
    mvpn_list sending; /* linked: `out` is not empty */
    uint16_t local;
    enum mvpn_udp_family family;
    size_t place; /* in open[] */
    bool is_grown;
    bool is_broken;
} extra;

struct mvpn_sockets {
    mvpn_sockets_options options;
    extra *table[LOCALS][MVPN_UDP_FAMILIES];
    extra *open[LOCALS * MVPN_UDP_FAMILIES];
    size_t open_count;
    size_t check_next; /* whose turn it is to be asked about */
    mvpn_list sending;
    size_t backlog;
    mvpn_time refused_until;
    bool has_warned;
    mvpn_sockets_stats stats;
};

/* ---- one socket ---- */

static void close_extra(extra *x)
{
    mvpn_sockets *s = x->owner;
    mvpn_loop_unwatch(x->watch);
    mvpn_udp_free(x->udp);
    s->backlog -= x->out.count;
    mvpn_packet_queue_clear(&x->out, s->options.pool);
    if (mvpn_list_is_linked(&x->sending)) {
        mvpn_list_remove(&x->sending);
    }
    s->table[x->local - MVPN_LOCAL_PROBE][x->family] = NULL;
    s->open[x->place] = s->open[--s->open_count];
    s->open[x->place]->place = x->place;
    s->stats.closed++;
    free(x);
}

static void ready(void *ctx, unsigned events)
{
    extra *x = ctx;
    const mvpn_sockets_options *o = &x->owner->options;
    if (!(events & MVPN_LOOP_READABLE)) {
        return; /* writable: the end of the turn sends */
    }
    if (mvpn_udp_recv(x->udp, x->family, o->pool, o->in, o->budget) < 0) {
        x->is_broken = true; /* closed at the end of the turn */
    } else if (!x->is_grown && mvpn_udp_get_stats(x->udp)->received > TRAFFIC) {
        mvpn_udp_grow(x->udp);
        x->is_grown = true;
    }
}

static bool is_within_limit(int fd)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
           (rlim_t)fd + DESCRIPTORS_KEPT < limit.rlim_cur;
}

static int open_udp(mvpn_sockets *s, uint16_t local, enum mvpn_udp_family family, mvpn_udp **ret,
                    mvpn_fault *fault)
{
    mvpn_addr addr = mvpn_udp_local(s->options.main, family);
    mvpn_udp_options options = {
        .marker = s->options.marker,
        .local = local,
        .is_small = true,
        .buffers_of = s->options.main,
    };
    addr.port = 0;
    int r = mvpn_udp_open(ret, &addr, 1, &options, fault);
    if (r == 0 && !is_within_limit(mvpn_udp_fd(*ret, family))) {
        mvpn_udp_free(*ret);
        *ret = NULL;
        r = mvpn_fault_set(fault, MVPN_E_LIMIT, "too many open files (LimitNOFILE= in the unit)");
    }
    return r;
}

static extra *open_extra(mvpn_sockets *s, uint16_t local, enum mvpn_udp_family family,
                         mvpn_time now)
{
    mvpn_fault fault = {.text = "out of memory"};
    extra *x = calloc(1, sizeof(*x));
    if (x == NULL) {
        goto refused;
    }
    *x = (extra){.owner = s, .local = local, .family = family, .place = s->open_count};
    mvpn_packet_queue_init(&x->out);
    if (open_udp(s, local, family, &x->udp, &fault) != 0) {
        goto refused;
    }
    if (mvpn_loop_watch_fd(s->options.loop, mvpn_udp_fd(x->udp, family), MVPN_LOOP_READABLE, ready,
                           x, &x->watch) != 0) {
        goto refused;
    }
    s->table[local - MVPN_LOCAL_PROBE][family] = x;
    s->open[s->open_count++] = x;
    s->stats.opened++;
    return x;
refused:
    if (x != NULL) {
        mvpn_udp_free(x->udp);
        free(x);
    }
    s->refused_until = now + REFUSAL_PAUSE;
    if (!s->has_warned) {
        s->has_warned = true;
        mvpn_logf(s->options.log, MVPN_LOG_WARN,
                  "no further UDP socket can be opened, some direct connections will fail: %s",
                  fault.text);
    }
    return NULL;
}

/* ---- all ---- */

int mvpn_sockets_new(const mvpn_sockets_options *options, mvpn_sockets **ret)
{
    mvpn_sockets *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return MVPN_E_NOMEM;
    }
    s->options = *options;
    mvpn_list_init(&s->sending);
    *ret = s;
    return 0;
}

void mvpn_sockets_free(mvpn_sockets *sockets)
{
    if (sockets == NULL) {
        return;
    }
    while (sockets->open_count > 0) {
        close_extra(sockets->open[sockets->open_count - 1]);
    }
    mvpn_packet_queue_clear(sockets->options.out, sockets->options.pool);
    free(sockets);
}

bool mvpn_sockets_is_idle(const mvpn_sockets *sockets)
{
    return sockets->open_count == 0 && sockets->options.out->count == 0;
}

/* Hand each packet to its socket; those for which too many would have to be opened in one turn stay
 * in the queue. */
static void distribute(mvpn_sockets *s, mvpn_time now)
{
    unsigned opened = 0;
    for (uint32_t left = s->options.out->count; left > 0; left--) {
        mvpn_packet *p = mvpn_packet_queue_pop(s->options.out);
        enum mvpn_udp_family family = p->remote.family == 6 ? MVPN_UDP_V6 : MVPN_UDP_V4;
        extra *x = NULL;
        if (p->local >= MVPN_LOCAL_PROBE && p->local - MVPN_LOCAL_PROBE < LOCALS &&
            mvpn_udp_fd(s->options.main, family) >= 0) {
            x = s->table[p->local - MVPN_LOCAL_PROBE][family];
            if (x == NULL && opened == OPENS_PER_TURN) {
                mvpn_packet_queue_push(s->options.out, p);
                continue;
            }
            if (x == NULL && now >= s->refused_until) {
                x = open_extra(s, p->local, family, now);
                opened++;
            }
        }
        if (x == NULL) {
            s->stats.refused++;
            mvpn_packet_free(s->options.pool, p);
            continue;
        }
        mvpn_packet_queue_push(&x->out, p);
        s->backlog++;
        if (!mvpn_list_is_linked(&x->sending)) {
            mvpn_list_append(&s->sending, &x->sending);
        }
    }
}

static void send_all(mvpn_sockets *s)
{
    mvpn_list blocked;
    mvpn_list *node;
    mvpn_list_init(&blocked);
    while ((node = mvpn_list_pop(&s->sending)) != NULL) {
        extra *x = MVPN_CONTAINER_OF(node, extra, sending);
        uint32_t before = x->out.count;
        bool is_blocked = mvpn_udp_send(x->udp, &x->out, s->options.pool) != 0;
        mvpn_addr remote;
        s->backlog -= before - x->out.count;
        while (mvpn_udp_pull_too_big(x->udp, &remote)) {
            s->options.too_big(s->options.ctx, &remote);
        }
        mvpn_loop_watch_set(x->watch, MVPN_LOOP_READABLE | (is_blocked ? MVPN_LOOP_WRITABLE : 0));
        if (is_blocked) {
            mvpn_list_append(&blocked, &x->sending);
        }
    }
    while ((node = mvpn_list_pop(&blocked)) != NULL) {
        mvpn_list_append(&s->sending, node);
    }
}

/* All within a few turns. */
static void close_unused(mvpn_sockets *s)
{
    for (unsigned i = 0; i < CHECKS_PER_TURN && s->open_count > 0; i++) {
        if (s->check_next >= s->open_count) {
            s->check_next = 0;
        }
        extra *x = s->open[s->check_next];
        if (x->is_broken || !s->options.is_used(s->options.ctx, x->local)) {
            close_extra(x); /* the last one takes its place */
        } else {
            s->check_next++;
        }
    }
}

void mvpn_sockets_turn(mvpn_sockets *sockets, mvpn_time now)
{
    distribute(sockets, now);
    send_all(sockets);
    close_unused(sockets);
}

mvpn_time mvpn_sockets_deadline(const mvpn_sockets *sockets, mvpn_time now)
{
    return sockets->options.out->count > 0 ? now : MVPN_TIME_NEVER;
}

size_t mvpn_sockets_backlog(const mvpn_sockets *sockets)
{
    return sockets->backlog;
}

size_t mvpn_sockets_count(const mvpn_sockets *sockets)
{
    return sockets->open_count;
}

const mvpn_sockets_stats *mvpn_sockets_get_stats(const mvpn_sockets *sockets)
{
    return &sockets->stats;
}
