/*
 * The helper: a process that keeps the few privileged operations, beside the worker that talks to
 * the network. It is forked before the worker reads a key or opens a socket, sets up the host (TUN,
 * addresses, routes, firewall) when the worker asks for it, and then gives up all but CAP_NET_ADMIN
 * (a relay's helper: all). What it does for the worker is in io/privileged.h.
 *
 * However the worker ends, also by kill -9, the helper sees the end of their socket, takes back
 * what was set up (not the kill switch of a client that was not asked to end), removes the control
 * socket and ends. If the helper ends first, the worker is told. Meanwhile it keeps the kill switch
 * in force whatever others do to the packet filter, and the routes into the tunnel; a process of
 * its own does that for the name servers (io/host_dns.h).
 *
 *   worker:  start (fork) -> setup -> control -> seal -> watch
 *            -> release, mark, protect, look, ... -> finish
 */
#ifndef MVPN_IO_HELPER_H
#define MVPN_IO_HELPER_H

#include "core/protect.h"
#include "io/config.h"
#include "io/fault.h"
#include "io/loop.h"
#include "io/privileged.h"
#include "io/tun.h"

typedef struct mvpn_helper mvpn_helper;

/* What the helper set up. */
typedef struct mvpn_helper_host {
    mvpn_tun *tun;                        /* the caller's */
    mvpn_addr tun_v4, tun_v6, gateway_v4; /* client */
} mvpn_helper_host;

/**
 * Fork the helper; this process must have one thread. `forget`, which may be NULL, is called in it
 * to wipe secrets that were read already. MVPN_E_SYSTEM, MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_helper_start(const mvpn_config *config, void (*forget)(void *ctx), void *ctx,
                               mvpn_helper **ret, mvpn_fault *fault);

/** Exit and client: set up the host. The codes of mvpn_host_exit_setup and mvpn_host_client_setup;
 * MVPN_E_CLOSED: the helper is gone. */
MVPN_WUR int mvpn_helper_setup(mvpn_helper *helper, mvpn_helper_host *ret, mvpn_fault *fault);
/** The control socket was made: the helper removes that very socket at the end. */
MVPN_WUR int mvpn_helper_control(mvpn_helper *helper, mvpn_fault *fault);
/** The start is over: the helper gives up its rights (unless the configuration switches that off).
 */
MVPN_WUR int mvpn_helper_seal(mvpn_helper *helper, mvpn_fault *fault);

/** Call `lost` if the helper ends: the worker cannot go on then. MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_helper_watch(mvpn_helper *helper, mvpn_loop *loop, mvpn_loop_fn *lost, void *ctx);

/**
 * Exit: forget the connections of a session's addresses (family 0: none). Returns at once; it is
 * done some time later, together with what else ended by then, as it costs a pass over the kernel's
 * whole table. After mvpn_helper_watch. MVPN_E_LIMIT if too much waits: its entries stay until they
 * time out.
 */
MVPN_WUR int mvpn_helper_release(mvpn_helper *helper, const mvpn_addr *v4, const mvpn_addr *v6);

/** Client: set the configured mark on socket `fd`; waits for the answer. 0, or -1 with errno. A
 * mvpn_mark_fn. */
int mvpn_helper_mark(void *helper, int fd);

/**
 * Client: the circuit stands (MVPN_PROTECT_ESTABLISHED), is lost (LOST), or the end is wanted
 * (DOWN): the kill switch follows. Waits for the answer. A worker that ends without DOWN has
 * fallen: the kill switch stays. MVPN_E_CLOSED, MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_helper_protect(mvpn_helper *helper, enum mvpn_protect_event event,
                                 mvpn_fault *fault);

/** Client: what protects this host now, as the helper does it and as the kernel has it. Waits for
 * the answer. MVPN_E_CLOSED. */
MVPN_WUR int mvpn_helper_look(mvpn_helper *helper, mvpn_privileged_protection *ret);

/* The host's name servers. */
typedef struct mvpn_helper_dns {
    enum mvpn_dns_manager manager; /* NONE: they stay as they are */
    bool is_set;                   /* they are the tunnel's at this moment */
    uint32_t repaired;             /* times that others had changed them */
} mvpn_helper_dns;

/** Client: what became of the name servers. Waits for nobody. */
void mvpn_helper_names(const mvpn_helper *helper, mvpn_helper_dns *ret);

/**
 * Client: the process at the other end of control connection `asker` goes outside the tunnel from
 * now on. The helper sees for itself who that is. MVPN_E_REFUSED: neither root, nor who started
 * this, nor an operator; MVPN_E_CONFIG: not possible on this host; MVPN_E_CLOSED, MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_helper_outside(mvpn_helper *helper, int asker, mvpn_fault *fault);

/**
 * Client: names of outside_domains, or inside_domains, have these public addresses (at most
 * MVPN_SPLIT_ANSWER_MAX): as mvpn_host_client_open. Waits for the answer. MVPN_E_LIMIT: too often,
 * or too many inside; MVPN_E_CLOSED, MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_helper_open(mvpn_helper *helper, const mvpn_addr *addrs, unsigned count,
                              mvpn_fault *fault);

/**
 * Have everything taken back, wait for that (10 s at most) and free. The TUN must be closed. NULL
 * is allowed. Before mvpn_loop_free.
 */
void mvpn_helper_finish(mvpn_helper *helper);

#endif
