/*
 * Telling systemd how we are: one datagram to NOTIFY_SOCKET (sd_notify(3)), without its library.
 */
#ifndef MVPN_IO_NOTIFY_H
#define MVPN_IO_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct mvpn_notify {
    int fd; /* -1: nobody listens */
} mvpn_notify;

/** Take NOTIFY_SOCKET from the environment; without one all calls below do nothing. */
void mvpn_notify_init(mvpn_notify *notify);
void mvpn_notify_done(mvpn_notify *notify);

/**
 * Send assignments, one a line: "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=text". Best effort:
 * a service manager that does not read is no reason to stop.
 */
void mvpn_notify_send(const mvpn_notify *notify, const char *assignments);

/** How often to send WATCHDOG=1: half of what systemd asks for, in milliseconds; 0 = not at all. */
unsigned mvpn_notify_watchdog_ms(void);

#endif
