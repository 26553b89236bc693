#include "io/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/error.h"

struct mvpn_loop {
    uv_loop_t uv;
    uv_check_t check;
    /* libuv's timers count milliseconds; pacing needs finer ones. */
    int timer_fd;
    uv_poll_t timer;
    mvpn_time armed; /* when the timer fires; MVPN_TIME_NEVER if not set */
    mvpn_loop_fn *turn_fn;
    void *turn_ctx;
};

struct mvpn_loop_watch {
    uv_poll_t poll;
    unsigned events;
    mvpn_loop_fd_fn *fn;
    void *ctx;
};

typedef struct periodic {
    uv_timer_t timer;
    mvpn_loop_fn *fn;
    void *ctx;
} periodic;

typedef struct signal_watch {
    uv_signal_t handle;
    mvpn_loop_signal_fn *fn;
    void *ctx;
} signal_watch;

static int uv_code(int rc)
{
    return rc == 0 ? 0 : rc == UV_ENOMEM ? MVPN_E_NOMEM : MVPN_E_SYSTEM;
}

static void free_handle_data(uv_handle_t *handle)
{
    free(handle->data);
}

/* ---- one turn ---- */

static void turn_ended(uv_check_t *check)
{
    mvpn_loop *loop = check->data;
    if (loop->turn_fn != NULL) {
        loop->turn_fn(loop->turn_ctx);
    }
}

static void deadline_passed(uv_poll_t *poll, int status, int events)
{
    mvpn_loop *loop = MVPN_CONTAINER_OF(poll, mvpn_loop, timer);
    uint64_t count;
    (void)status;
    (void)events;
    /* EAGAIN: it was moved in between. The turn function does the rest. */
    if (read(loop->timer_fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
        loop->armed = MVPN_TIME_NEVER;
    }
}

void mvpn_loop_on_turn(mvpn_loop *loop, mvpn_loop_fn *fn, void *ctx)
{
    loop->turn_fn = fn;
    loop->turn_ctx = ctx;
}

void mvpn_loop_set_deadline(mvpn_loop *loop, mvpn_time deadline)
{
    /* An early wake-up is harmless and moving the timer costs a system call: under load deadlines
     * move later with every turn. */
    if (deadline >= loop->armed) {
        return;
    }
    deadline = deadline > 0 ? deadline : 1; /* zero would switch the timer off */
    struct itimerspec when = {
        .it_value = {(time_t)(deadline / MVPN_US_PER_S), (long)(deadline % MVPN_US_PER_S) * 1000}};
    MVPN_ASSERT(timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
    loop->armed = deadline;
}

/* ---- life ---- */

int mvpn_loop_new(mvpn_loop **ret)
{
    mvpn_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return MVPN_E_NOMEM;
    }
    loop->armed = MVPN_TIME_NEVER;
    loop->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    int rc = loop->timer_fd >= 0 ? uv_loop_init(&loop->uv) : UV_EMFILE;
    if (rc != 0) {
        if (loop->timer_fd >= 0) {
            (void)close(loop->timer_fd);
        }
        free(loop);
        return uv_code(rc);
    }
    rc = uv_check_init(&loop->uv, &loop->check);
    loop->check.data = loop;
    if (rc == 0) {
        rc = uv_check_start(&loop->check, turn_ended);
    }
    if (rc == 0) {
        rc = uv_poll_init(&loop->uv, &loop->timer, loop->timer_fd);
    }
    if (rc == 0) {
        rc = uv_poll_start(&loop->timer, UV_READABLE, deadline_passed);
    }
    if (rc != 0) {
        mvpn_loop_free(loop);
        return uv_code(rc);
    }
    *ret = loop;
    return 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    mvpn_loop *loop = arg;
    if (uv_is_closing(handle)) {
        return;
    }
    bool is_own = handle == (uv_handle_t *)&loop->check || handle == (uv_handle_t *)&loop->timer;
    uv_close(handle, is_own ? NULL : free_handle_data);
}

void mvpn_loop_free(mvpn_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    loop->turn_fn = NULL;
    uv_walk(&loop->uv, close_handle, loop);
    /* Runs the close callbacks, nothing else is left; again if a stop was still to come. */
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0) {
    }
    MVPN_ASSERT(uv_loop_close(&loop->uv) == 0);
    (void)close(loop->timer_fd);
    free(loop);
}

int mvpn_loop_run(mvpn_loop *loop)
{
    return uv_run(&loop->uv, UV_RUN_DEFAULT) >= 0 ? 0 : MVPN_E_SYSTEM;
}

void mvpn_loop_stop(mvpn_loop *loop)
{
    uv_stop(&loop->uv);
}

/* ---- descriptors ---- */

static void fd_ready(uv_poll_t *poll, int status, int events)
{
    mvpn_loop_watch *watch = poll->data;
    unsigned ready = 0;
    if (status < 0) {
        ready = MVPN_LOOP_READABLE | MVPN_LOOP_WRITABLE;
    } else {
        ready |= (events & UV_READABLE) != 0 ? MVPN_LOOP_READABLE : 0;
        ready |= (events & UV_WRITABLE) != 0 ? MVPN_LOOP_WRITABLE : 0;
    }
    watch->fn(watch->ctx, ready);
}

int mvpn_loop_watch_fd(mvpn_loop *loop, int fd, unsigned events, mvpn_loop_fd_fn *fn, void *ctx,
                       mvpn_loop_watch **ret)
{
    mvpn_loop_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return MVPN_E_NOMEM;
    }
    int rc = uv_poll_init(&loop->uv, &watch->poll, fd);
    if (rc != 0) {
        free(watch);
        return uv_code(rc);
    }
    watch->poll.data = watch;
    watch->fn = fn;
    watch->ctx = ctx;
    mvpn_loop_watch_set(watch, events);
    *ret = watch;
    return 0;
}

void mvpn_loop_watch_set(mvpn_loop_watch *watch, unsigned events)
{
    if (events == watch->events) {
        return;
    }
    watch->events = events;
    if (events == 0) {
        (void)uv_poll_stop(&watch->poll);
        return;
    }
    int mask = 0;
    mask |= (events & MVPN_LOOP_READABLE) != 0 ? UV_READABLE : 0;
    mask |= (events & MVPN_LOOP_WRITABLE) != 0 ? UV_WRITABLE : 0;
    (void)uv_poll_start(&watch->poll, mask, fd_ready); /* fails only for a closing handle */
}

void mvpn_loop_unwatch(mvpn_loop_watch *watch)
{
    if (watch != NULL) {
        uv_close((uv_handle_t *)&watch->poll, free_handle_data);
    }
}

/* ---- periodic work and signals ---- */

static void period_passed(uv_timer_t *timer)
{
    periodic *p = timer->data;
    p->fn(p->ctx);
}

int mvpn_loop_every(mvpn_loop *loop, unsigned period_ms, mvpn_loop_fn *fn, void *ctx)
{
    periodic *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return MVPN_E_NOMEM;
    }
    (void)uv_timer_init(&loop->uv, &p->timer); /* always 0 */
    p->timer.data = p;
    p->fn = fn;
    p->ctx = ctx;
    return uv_code(uv_timer_start(&p->timer, period_passed, period_ms, period_ms));
}

struct mvpn_loop_timer {
    uv_timer_t timer;
    mvpn_loop_fn *fn;
    void *ctx;
};

static void timer_fired(uv_timer_t *handle)
{
    mvpn_loop_timer *timer = handle->data;
    timer->fn(timer->ctx);
}

int mvpn_loop_timer_new(mvpn_loop *loop, mvpn_loop_fn *fn, void *ctx, mvpn_loop_timer **ret)
{
    mvpn_loop_timer *timer = calloc(1, sizeof(*timer));
    if (timer == NULL) {
        return MVPN_E_NOMEM;
    }
    (void)uv_timer_init(&loop->uv, &timer->timer); /* always 0 */
    timer->timer.data = timer;
    timer->fn = fn;
    timer->ctx = ctx;
    *ret = timer;
    return 0;
}

void mvpn_loop_timer_set(mvpn_loop_timer *timer, uint64_t delay_ms)
{
    uv_update_time(timer->timer.loop); /* it counts from the turn's time, which may be long past */
    (void)uv_timer_start(&timer->timer, timer_fired, delay_ms,
                         0); /* fails only for a closing one */
}

void mvpn_loop_timer_clear(mvpn_loop_timer *timer)
{
    (void)uv_timer_stop(&timer->timer);
}

void mvpn_loop_timer_free(mvpn_loop_timer *timer)
{
    if (timer != NULL) {
        uv_close((uv_handle_t *)&timer->timer, free_handle_data);
    }
}

static void signal_came(uv_signal_t *handle, int signo)
{
    signal_watch *s = handle->data;
    s->fn(s->ctx, signo);
}

int mvpn_loop_on_signal(mvpn_loop *loop, int signo, mvpn_loop_signal_fn *fn, void *ctx)
{
    signal_watch *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return MVPN_E_NOMEM;
    }
    int rc = uv_signal_init(&loop->uv, &s->handle);
    if (rc != 0) {
        free(s);
        return uv_code(rc);
    }
    s->handle.data = s;
    s->fn = fn;
    s->ctx = ctx;
    return uv_code(uv_signal_start(&s->handle, signal_came, signo));
}
