/*
 * The checks of `meshvpn netcheck`, all at once on the loop: does UDP pass, how are we seen, what
 * does the NAT do, what does the gateway offer, what sizes pass, is TCP 443 open, is the clock
 * right. Nothing is changed, neither here nor at the gateway. Needs no rights.
 */
#ifndef MVPN_IO_NETCHECK_H
#define MVPN_IO_NETCHECK_H

#include "io/gateway_probe.h"
#include "io/netcheck_links.h"
#include "io/stun_probe.h"

/* Everything ends by then: a person waits. The program has half a second to itself. */
#define MVPN_NETCHECK_TIME_MS 4500
#define MVPN_NETCHECK_SERVERS_MAX MVPN_STUN_SERVERS_MAX
#define MVPN_NETCHECK_SEEN_MAX 4

enum mvpn_netcheck_source {
    MVPN_NETCHECK_BY_NOBODY,
    MVPN_NETCHECK_BY_LINKS, /* the network's own nodes */
    MVPN_NETCHECK_BY_STUN,
};

/* What holds for one address family. */
typedef struct mvpn_netcheck_family {
    mvpn_addr local; /* that we send from; family 0: there is no route, and nothing was asked */
    unsigned interface_mtu; /* 0: not known */
    bool is_asked;          /* somebody was asked by UDP */
    bool is_answered;
    bool is_full_size_known, is_full_size;
    uint32_t rtt_us; /* to the nearest that answered; 0: not known */
    size_t seen_count;
    mvpn_addr seen[MVPN_NETCHECK_SEEN_MAX]; /* as the world sees us; different ips */
    enum mvpn_netcheck_source source;       /* of what follows */
    mvpn_nat_class nat;                     /* its lifetime and seen addresses are not used */
} mvpn_netcheck_family;

typedef struct mvpn_netcheck_result {
    mvpn_netcheck_family v4, v6;
    unsigned nodes_asked, nodes_answered; /* of the network; both families together */
    unsigned servers_asked;               /* of STUN: addresses */
    mvpn_gateway_found gateway;
    unsigned tcp_asked, tcp_reached; /* port 443 */
    bool has_clock;
    int64_t clock_offset_s; /* to be added to our clock */
    uint32_t lifetime_s;    /* of a mapping, measured earlier on this network; 0: unknown yet */
    bool is_marked;         /* what was sent went around a tunnel that may be up */
    unsigned took_ms;
} mvpn_netcheck_result;

typedef struct mvpn_netcheck_options {
    const mvpn_network_file *network; /* borrowed until the end; NULL: none */
    const mvpn_state_entries *cached; /* NULL: none */
    int64_t clock_guess_s;
    const char *state_dir; /* where lifetimes are remembered; NULL: nowhere */
    uint32_t mark;         /* put on what is sent if that is allowed; 0 = none */
    size_t server_count;   /* HOST[:PORT] or [V6]:PORT each; borrowed */
    const char *servers[MVPN_NETCHECK_SERVERS_MAX];
} mvpn_netcheck_options;

typedef struct mvpn_netcheck mvpn_netcheck;

/** Called once, from the loop; `result` is borrowed for the call. Not to free it from here. */
typedef void mvpn_netcheck_fn(void *ctx, const mvpn_netcheck_result *result);

/** Begins at once. MVPN_E_INVAL: a server's name is wrong; MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_netcheck_new(mvpn_loop *loop, const mvpn_netcheck_options *options,
                               mvpn_netcheck_fn *fn, void *ctx, mvpn_netcheck **ret,
                               mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_netcheck_free(mvpn_netcheck *n);

/** Split "HOST[:PORT]" ("[V6]:PORT", a bare V6): the port is 0 if none is said. MVPN_E_FORMAT. */
MVPN_WUR int mvpn_netcheck_split(const char *text, char ret_host[static 256], uint16_t *ret_port);

#endif
