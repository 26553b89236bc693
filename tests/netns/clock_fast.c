/*
 * A preloaded library under which a program's time runs faster than the kernel's: an hour of
 * timers, key changes and clean-ups in a minute. For tests; the programs know nothing of it.
 *
 *     CLOCK_FAST="FACTOR MONOTONIC_NS REALTIME_NS"     the moment from which on it runs faster, the
 *                                                      same for all programs that talk to each
 * other
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000

static long long factor = 1, from_monotonic, from_realtime;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("CLOCK_FAST");
    if (text == NULL ||
        sscanf(text, "%lld %lld %lld", &factor, &from_monotonic, &from_realtime) != 3 ||
        factor < 1) {
        factor = 1;
    }
}

static long long ns_of(const struct timespec *t)
{
    return (long long)t->tv_sec * NS + t->tv_nsec;
}

static struct timespec to_timespec(long long ns)
{
    return (struct timespec){.tv_sec = ns / NS, .tv_nsec = ns % NS};
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int r = (int)syscall(SYS_clock_gettime, clock, ret);
    if (r == 0 && factor > 1 &&
        (clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME)) {
        long long from = clock == CLOCK_REALTIME ? from_realtime : from_monotonic;
        *ret = to_timespec(from + (ns_of(ret) - from) * factor);
    }
    return r;
}

time_t time(time_t *ret)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret != NULL) {
        *ret = now.tv_sec;
    }
    return now.tv_sec;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *in, struct itimerspec *old)
{
    struct itimerspec real = *in;
    long long value = ns_of(&in->it_value);
    if (value > 0) {
        value = (flags & TFD_TIMER_ABSTIME) != 0
                    ? from_monotonic + (value - from_monotonic) / factor
                    : value / factor;
        real.it_value = to_timespec(value > 0 ? value : 1);
    }
    real.it_interval = to_timespec(ns_of(&in->it_interval) / factor);
    return (int)syscall(SYS_timerfd_settime, fd, flags, &real, old);
}

static int shorter(int timeout)
{
    return timeout <= 0 ? timeout : (int)((timeout + factor - 1) / factor);
}

int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
    return (int)syscall(SYS_epoll_pwait, fd, events, max, shorter(timeout), mask, 8);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    return epoll_pwait(fd, events, max, timeout, NULL);
}
