/*
 * DNS by TCP for the exit's sessions (RFC 7766): what they send to 10.8.0.1 port 53 comes out of
 * the TUN device towards the device's own address, where this listens with the kernel's TCP.
 * Questions and answers go through the exit core, with the same cache, limits and checks as by UDP;
 * each question goes to the resolver by a connection of its own.
 */
#ifndef MVPN_IO_DNS_TCP_H
#define MVPN_IO_DNS_TCP_H

#include "exit/exit.h"
#include "io/fault.h"
#include "io/loop.h"

/* Connections at once, and of one session: a stub resolver has one or two. */
#define MVPN_DNS_TCP_MAX 128
#define MVPN_DNS_TCP_SESSION_MAX 4
/* A query with one question fits; longer ones are no stub resolver's. */
#define MVPN_DNS_TCP_QUERY_MAX 1024
/* Without a step of progress, and in all. */
#define MVPN_DNS_TCP_IDLE MVPN_S(10)
#define MVPN_DNS_TCP_LIFE MVPN_S(60)

typedef struct mvpn_dns_tcp mvpn_dns_tcp;

typedef struct mvpn_dns_tcp_options {
    mvpn_loop *loop;     /* borrowed */
    mvpn_exit *exit;     /* borrowed; `dns_stream` is set in its configuration */
    const char *device;  /* only what comes by this one; NULL: by any (tests) */
    mvpn_addr listen[2]; /* the device's addresses; family 0: none; port 0: 53 */
} mvpn_dns_tcp_options;

/** Listen. An IPv6 address that the host does not have is left out. MVPN_E_CONFIG (in use),
 * MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_dns_tcp_open(const mvpn_dns_tcp_options *options, mvpn_dns_tcp **ret,
                               mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_dns_tcp_close(mvpn_dns_tcp *tcp);
unsigned mvpn_dns_tcp_count(const mvpn_dns_tcp *tcp);

#endif
