#include "io/tcp_reach.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "io/mark.h"
#include "io/sockaddr.h"

struct target {
    mvpn_tcp_reach *owner;
    mvpn_addr addr;
    int fd; /* -1: answered, or given up */
    mvpn_loop_watch *watch;
};

struct mvpn_tcp_reach {
    mvpn_loop *loop;
    uint32_t mark;
    mvpn_tcp_reach_fn *fn;
    void *ctx;
    mvpn_loop_timer *timer;
    struct target targets[MVPN_TCP_REACH_MAX];
    unsigned count, reached, waiting;
    bool is_finishing;
};

static void hang_up(struct target *t)
{
    mvpn_loop_unwatch(t->watch);
    t->watch = NULL;
    if (t->fd >= 0) {
        (void)close(t->fd);
        t->fd = -1;
        t->owner->waiting--;
    }
}

/* The owner is told from the timer alone, where everything can be freed. */
static void timer_passed(void *ctx)
{
    mvpn_tcp_reach *t = ctx;
    t->fn(t->ctx);
}

static void answered(struct target *t, int err)
{
    hang_up(t);
    t->owner->reached += err == 0 || err == ECONNREFUSED;
    if (t->owner->is_finishing && t->owner->waiting == 0) {
        mvpn_loop_timer_set(t->owner->timer, 0);
    }
}

static void writable(void *ctx, unsigned events)
{
    struct target *t = ctx;
    int err = 0;
    socklen_t n = sizeof(err);
    (void)events;
    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &err, &n) != 0) {
        err = errno;
    }
    answered(t, err);
}

void mvpn_tcp_reach_add(mvpn_tcp_reach *r, const mvpn_addr *addr)
{
    struct sockaddr_storage sa;
    for (unsigned i = 0; i < r->count; i++) {
        if (mvpn_addr_eq(&r->targets[i].addr, addr)) {
            return;
        }
    }
    if (r->count == MVPN_TCP_REACH_MAX) {
        return;
    }
    struct target *t = &r->targets[r->count];
    *t = (struct target){.owner = r, .addr = *addr};
    t->fd = socket(addr->family == 4 ? AF_INET : AF_INET6,
                   SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (t->fd < 0) {
        return; /* this host has no such family */
    }
    r->count++;
    r->waiting++;
    if (mvpn_mark_socket(t->fd, &(mvpn_marker){.mark = r->mark}) != 0) {
        answered(t, errno);
        return;
    }
    socklen_t n = mvpn_sockaddr_from_addr(addr, &sa);
    int err = connect(t->fd, (struct sockaddr *)&sa, n) == 0 ? 0 : errno;
    if (err != EINPROGRESS ||
        mvpn_loop_watch_fd(r->loop, t->fd, MVPN_LOOP_WRITABLE, writable, t, &t->watch) != 0) {
        answered(t, err);
    }
}

void mvpn_tcp_reach_finish(mvpn_tcp_reach *t, unsigned time_ms)
{
    t->is_finishing = true;
    mvpn_loop_timer_set(t->timer, t->waiting == 0 ? 0 : time_ms);
}

void mvpn_tcp_reach_result(const mvpn_tcp_reach *t, unsigned *ret_asked, unsigned *ret_reached)
{
    *ret_asked = t->count;
    *ret_reached = t->reached;
}

int mvpn_tcp_reach_new(mvpn_loop *loop, uint32_t mark, mvpn_tcp_reach_fn *fn, void *ctx,
                       mvpn_tcp_reach **ret)
{
    mvpn_tcp_reach *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return MVPN_E_NOMEM;
    }
    *t = (mvpn_tcp_reach){.loop = loop, .mark = mark, .fn = fn, .ctx = ctx};
    int r = mvpn_loop_timer_new(loop, timer_passed, t, &t->timer);
    if (r != 0) {
        free(t);
        return r;
    }
    *ret = t;
    return 0;
}

void mvpn_tcp_reach_free(mvpn_tcp_reach *t)
{
    if (t == NULL) {
        return;
    }
    for (unsigned i = 0; i < t->count; i++) {
        hang_up(&t->targets[i]);
    }
    mvpn_loop_timer_free(t->timer);
    free(t);
}
