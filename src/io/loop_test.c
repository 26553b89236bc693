/*
 * The loop: deadlines with better than millisecond precision, descriptors, signals, clean teardown.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/loop.h"

struct world {
    mvpn_loop *loop;
    mvpn_loop_watch *watch;
    int fds[2];
    unsigned turns;
    unsigned reads;
    unsigned periods;
    int signo;
    mvpn_time next;
    mvpn_time worst;
};

static int setup(void **state)
{
    static struct world w;
    memset(&w, 0, sizeof(w));
    *state = &w;
    return mvpn_loop_new(&w.loop) != 0 ||
           socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, w.fds) != 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    mvpn_loop_free(w->loop);
    (void)close(w->fds[0]);
    (void)close(w->fds[1]);
    return 0;
}

static void pace(void *ctx)
{
    struct world *w = ctx;
    mvpn_time now = mvpn_clock_now();
    if (now >= w->next) {
        w->worst = MVPN_MAX(w->worst, now - w->next);
        w->turns++;
        w->next += 300;
    }
    if (w->turns == 100) {
        mvpn_loop_stop(w->loop);
    }
    mvpn_loop_set_deadline(w->loop, w->next);
}

/* 100 turns of 300 us take 30 ms; libuv's own timers would need 100 ms. */
static void test_deadline(void **state)
{
    struct world *w = *state;
    mvpn_time start = mvpn_clock_now();
    w->next = start + 300;
    mvpn_loop_set_deadline(w->loop, MVPN_TIME_NEVER);
    mvpn_loop_set_deadline(w->loop, start + MVPN_S(100));
    mvpn_loop_set_deadline(w->loop, w->next);
    mvpn_loop_on_turn(w->loop, pace, w);
    assert_int_equal(mvpn_loop_run(w->loop), 0);
    mvpn_time took = mvpn_clock_now() - start;
    assert_true(took >= 30000);
    assert_true(took < 30000 + w->worst + 50000);
    assert_int_equal(w->turns, 100);
}

static void echo_ready(void *ctx, unsigned events)
{
    struct world *w = ctx;
    char c;
    assert_int_equal(events, MVPN_LOOP_READABLE);
    while (read(w->fds[0], &c, 1) == 1) {
        w->reads++;
    }
    mvpn_loop_watch_set(w->watch, 0);
    mvpn_loop_unwatch(w->watch);
    mvpn_loop_stop(w->loop);
}

static void test_watch(void **state)
{
    struct world *w = *state;
    assert_int_equal(mvpn_loop_watch_fd(w->loop, w->fds[0], 0, echo_ready, w, &w->watch), 0);
    mvpn_loop_watch_set(w->watch, MVPN_LOOP_READABLE);
    assert_int_equal(write(w->fds[1], "abc", 3), 3);
    assert_int_equal(mvpn_loop_run(w->loop), 0);
    assert_int_equal(w->reads, 3);
    mvpn_loop_watch *bad = NULL;
    assert_int_equal(mvpn_loop_watch_fd(w->loop, -1, MVPN_LOOP_READABLE, echo_ready, w, &bad),
                     MVPN_E_SYSTEM);
    assert_null(bad);
}

static void got_signal(void *ctx, int signo)
{
    struct world *w = ctx;
    w->signo = signo;
    mvpn_loop_stop(w->loop);
}

static void period(void *ctx)
{
    struct world *w = ctx;
    if (++w->periods == 3) {
        (void)raise(SIGHUP);
    }
}

/* What is left in the loop (signal, period, a watch) is freed with it: the sanitizers look. */
static void test_signal_and_period(void **state)
{
    struct world *w = *state;
    assert_int_equal(mvpn_loop_on_signal(w->loop, SIGHUP, got_signal, w), 0);
    assert_int_equal(mvpn_loop_every(w->loop, 2, period, w), 0);
    assert_int_equal(
        mvpn_loop_watch_fd(w->loop, w->fds[1], MVPN_LOOP_READABLE, echo_ready, w, &w->watch), 0);
    assert_int_equal(mvpn_loop_run(w->loop), 0);
    assert_int_equal(w->signo, SIGHUP);
    assert_true(w->periods >= 3);
}

static void stop_when_due(void *ctx)
{
    struct world *w = ctx;
    if (mvpn_clock_now() >= w->next) {
        mvpn_loop_stop(w->loop);
    }
    mvpn_loop_set_deadline(w->loop, w->next);
}

/* A machine that slept for a day: 0 if the clock says so and deadlines are by the same clock. */
static int after_sleep(struct world *w)
{
    struct timespec awake;
    (void)alarm(10);
    if (clock_gettime(CLOCK_MONOTONIC, &awake) != 0 ||
        mvpn_clock_now() < MVPN_S((mvpn_time)awake.tv_sec + 86400)) {
        return 2;
    }
    memset(w, 0, sizeof(*w));
    if (mvpn_loop_new(&w->loop) != 0) {
        return 3;
    }
    w->next = mvpn_clock_now() + MVPN_MS(20);
    mvpn_loop_set_deadline(w->loop, w->next);
    mvpn_loop_on_turn(w->loop, stop_when_due, w);
    int code = mvpn_loop_run(w->loop) == 0 ? 0 : 4;
    mvpn_loop_free(w->loop);
    return code;
}

/* In a namespace whose clocks differ by what a sleep makes of them. */
static void test_sleep(void **state)
{
    static const char offset[] = "boottime 86400 0\n";
    static struct world w;
    int status = 0;
    (void)state;
    (void)fflush(NULL);
    pid_t outer = fork();
    if (outer == 0) {
        if (unshare(CLONE_NEWTIME) != 0) {
            _exit(errno == EPERM ? 77 : 1);
        }
        int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, offset, sizeof(offset) - 1) != (ssize_t)sizeof(offset) - 1 ||
            close(fd) != 0) {
            _exit(1);
        }
        pid_t inner = fork();
        if (inner == 0) {
            _exit(after_sleep(&w));
        }
        _exit(waitpid(inner, &status, 0) == inner && WIFEXITED(status) ? WEXITSTATUS(status) : 5);
    }
    assert_int_equal(waitpid(outer, &status, 0), outer);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("making a namespace needs root\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test_setup_teardown(test_signal_and_period, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
