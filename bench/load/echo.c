#include "bench/load/echo.h"

#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "bench/load/flow.h"
#include "io/loop.h"
#include "io/udp.h"

#define POOL 4096
#define BATCH 512

typedef struct echo {
    mvpn_loop *loop;
    mvpn_udp *udp;
    mvpn_loop_watch *watch;
    mvpn_packet_pool pool;
    mvpn_packet_queue out;
    bool is_broken;
} echo;

static void answer(echo *e, mvpn_packet *p)
{
    size_t reply = load_reply_len(p->data, p->len);
    if (reply == 0) {
        mvpn_packet_free(&e->pool, p);
        return;
    }
    if (reply < p->len) {
        mvpn_packet_truncate(p, (uint32_t)reply);
    } else {
        uint32_t more = (uint32_t)reply - p->len;
        memset(mvpn_packet_append(p, more), 0, more);
    }
    mvpn_packet_queue_push(&e->out, p); /* back to where it came from */
}

static void socket_ready(void *ctx, unsigned events)
{
    echo *e = ctx;
    mvpn_packet_queue in;
    mvpn_packet *p;
    mvpn_packet_queue_init(&in);
    (void)events;
    if (mvpn_udp_recv(e->udp, MVPN_UDP_V4, &e->pool, &in, BATCH) < 0) {
        e->is_broken = true;
        mvpn_loop_stop(e->loop);
        return;
    }
    while ((p = mvpn_packet_queue_pop(&in)) != NULL) {
        answer(e, p);
    }
    if (mvpn_udp_send(e->udp, &e->out, &e->pool) != 0) {
        mvpn_packet_queue_clear(&e->out, &e->pool); /* a full socket: as a router drops */
    }
}

static void stop(void *ctx, int signo)
{
    (void)signo;
    mvpn_loop_stop(((echo *)ctx)->loop);
}

int load_echo_run(const mvpn_addr *listen, mvpn_fault *fault)
{
    echo e = {0};
    const mvpn_udp_options options = {0};
    mvpn_packet_queue_init(&e.out);
    if (mvpn_packet_pool_init(&e.pool, POOL) != 0) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    int r = mvpn_udp_open(&e.udp, listen, 1, &options, fault);
    if (r == 0) {
        r = mvpn_loop_new(&e.loop);
        r = r != 0 ? r : mvpn_loop_on_signal(e.loop, SIGTERM, stop, &e);
        r = r != 0 ? r : mvpn_loop_on_signal(e.loop, SIGINT, stop, &e);
        int fd = mvpn_udp_fd(e.udp, MVPN_UDP_V4);
        r = r != 0 ? r
                   : mvpn_loop_watch_fd(e.loop, fd, MVPN_LOOP_READABLE, socket_ready, &e, &e.watch);
        r = r != 0 ? r : mvpn_loop_run(e.loop);
        if (r != 0 || e.is_broken) {
            r = mvpn_fault_set(fault, MVPN_E_SYSTEM, "the event loop or its socket broke");
        }
    }
    mvpn_loop_unwatch(e.watch);
    mvpn_loop_free(e.loop);
    mvpn_udp_free(e.udp);
    mvpn_packet_pool_done(&e.pool);
    return r;
}
