#include "io/proxy_udp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/proxy_lookup.h"
#include "io/sockaddr.h"
#include "network/proxy/request.h"

/* Names that one association talks to; the oldest is forgotten. */
#define NAMES_MAX 16
/* Taken from the socket at once: others have their turn. */
#define BATCH 64

typedef struct named {
    mvpn_proxy_udp *udp;
    char name[MVPN_PROXY_NAME_MAX + 1]; /* "": unused */
    mvpn_addr addr;                     /* family 0: not known (yet) */
    mvpn_proxy_lookup *lookup;
    uint8_t *waiting; /* one datagram, sent when the address is known */
    size_t waiting_len;
    uint16_t waiting_port;
} named;

struct mvpn_proxy_udp {
    mvpn_netstack *stack;
    unsigned lane;
    int fd;
    mvpn_loop_watch *watch;
    mvpn_addr peer;             /* port 0: not known yet */
    mvpn_datagrams *sockets[2]; /* IPv4, IPv6: opened when needed */
    named names[NAMES_MAX];
    unsigned next_name;
};

/* ---- from the tunnel ---- */

static void on_datagram(void *ctx, const mvpn_addr *from, mvpn_bytes data)
{
    mvpn_proxy_udp *u = ctx;
    uint8_t header[MVPN_PROXY_UDP_HEADER_MAX];
    struct sockaddr_storage to;
    struct iovec parts[2] = {
        {.iov_base = header, .iov_len = mvpn_proxy_udp_encode(header, from)},
        {.iov_base = (void *)(uintptr_t)data.p, .iov_len = data.n},
    };
    struct msghdr m = {.msg_name = &to,
                       .msg_namelen = mvpn_sockaddr_from_addr(&u->peer, &to),
                       .msg_iov = parts,
                       .msg_iovlen = 2};
    if (u->peer.port != 0) {
        (void)sendmsg(u->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL); /* datagrams may be lost */
    }
}

/* ---- to the tunnel ---- */

static void send_to(mvpn_proxy_udp *u, const mvpn_addr *to, mvpn_bytes data)
{
    mvpn_datagrams **socket = &u->sockets[to->family == 4 ? 0 : 1];
    if (*socket == NULL &&
        mvpn_datagrams_open(u->stack, u->lane, to->family, on_datagram, u, socket) != 0) {
        return;
    }
    (void)mvpn_datagrams_send(*socket, to, data); /* datagrams may be lost */
}

static void forget(named *n)
{
    mvpn_proxy_lookup_free(n->lookup);
    free(n->waiting);
    *n = (named){.udp = n->udp};
}

/* IPv4 if there is one: nothing tells whether the exit carries IPv6. */
static void on_found(void *ctx, int error, const mvpn_addr *addrs, size_t count)
{
    named *n = ctx;
    if (error != 0) {
        forget(n); /* asked again with the next datagram */
        return;
    }
    n->addr = addrs[0];
    for (size_t i = 0; i < count; i++) {
        n->addr = addrs[i].family == 4 && n->addr.family != 4 ? addrs[i] : n->addr;
    }
    mvpn_proxy_lookup_free(n->lookup);
    n->lookup = NULL;
    if (n->waiting != NULL) {
        mvpn_addr to = n->addr;
        to.port = n->waiting_port;
        send_to(n->udp, &to, (mvpn_bytes){n->waiting, n->waiting_len});
        free(n->waiting);
        n->waiting = NULL;
    }
}

static named *find_name(mvpn_proxy_udp *u, const char *name)
{
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (strcmp(u->names[i].name, name) == 0) {
            return &u->names[i];
        }
    }
    return NULL;
}

static void send_to_name(mvpn_proxy_udp *u, const mvpn_proxy_target *target, mvpn_bytes data)
{
    named *n = find_name(u, target->name);
    if (n != NULL && n->addr.family != 0) {
        mvpn_addr to = n->addr;
        to.port = target->addr.port;
        send_to(u, &to, data);
        return;
    }
    if (n != NULL || !mvpn_proxy_is_name(target->name)) {
        return; /* one datagram waits already */
    }
    n = &u->names[u->next_name++ % NAMES_MAX];
    forget(n);
    n->waiting = malloc(data.n + 1);
    if (n->waiting == NULL ||
        mvpn_proxy_lookup_start(u->stack, u->lane, target->name, mvpn_clock_now(), on_found, n,
                                &n->lookup) != 0) {
        forget(n);
        return;
    }
    memcpy(n->waiting, data.p, data.n);
    memcpy(n->name, target->name, sizeof(n->name));
    n->waiting_len = data.n;
    n->waiting_port = target->addr.port;
}

static bool is_peer(mvpn_proxy_udp *u, const mvpn_addr *from)
{
    if (!mvpn_addr_ip_eq(from, &u->peer) || (u->peer.port != 0 && from->port != u->peer.port)) {
        return false;
    }
    u->peer.port = from->port;
    return true;
}

static void on_readable(void *ctx, unsigned events)
{
    mvpn_proxy_udp *u = ctx;
    (void)events;
    for (unsigned i = 0; i < BATCH; i++) {
        uint8_t buf[MVPN_NETSTACK_DATAGRAM_MAX + 1 + MVPN_PROXY_NAME_MAX + 7];
        struct sockaddr_storage sa;
        socklen_t len = sizeof(sa);
        mvpn_proxy_target target;
        size_t at;
        ssize_t n = recvfrom(u->fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&sa, &len);
        if (n < 0) {
            return;
        }
        mvpn_addr from = mvpn_sockaddr_to_addr(&sa);
        if (mvpn_proxy_udp_decode(buf, (size_t)n, &target, &at) != 0 || !is_peer(u, &from)) {
            continue;
        }
        mvpn_bytes data = {buf + at, (size_t)n - at};
        if (target.addr.family != 0) {
            send_to(u, &target.addr, data);
        } else {
            send_to_name(u, &target, data);
        }
    }
}

/* ---- all ---- */

static int open_socket(mvpn_proxy_udp *u, const mvpn_addr *local, mvpn_addr *ret_bound)
{
    struct sockaddr_storage sa;
    mvpn_addr any_port = *local;
    any_port.port = 0;
    socklen_t len = mvpn_sockaddr_from_addr(&any_port, &sa);
    u->fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (u->fd < 0 || bind(u->fd, (struct sockaddr *)&sa, len) != 0) {
        return MVPN_E_SYSTEM;
    }
    len = sizeof(sa);
    if (getsockname(u->fd, (struct sockaddr *)&sa, &len) != 0) {
        return MVPN_E_SYSTEM;
    }
    *ret_bound = mvpn_sockaddr_to_addr(&sa);
    return 0;
}

int mvpn_proxy_udp_new(mvpn_loop *loop, mvpn_netstack *stack, unsigned lane, const mvpn_addr *local,
                       const mvpn_addr *peer, mvpn_proxy_udp **ret, mvpn_addr *ret_bound)
{
    mvpn_addr bound = {0};
    mvpn_proxy_udp *u = calloc(1, sizeof(*u));
    if (u == NULL) {
        return MVPN_E_NOMEM;
    }
    u->stack = stack;
    u->lane = lane;
    u->peer = *peer;
    u->peer.port = 0;
    u->fd = -1;
    for (size_t i = 0; i < NAMES_MAX; i++) {
        u->names[i].udp = u;
    }
    int r = open_socket(u, local, &bound);
    r = r != 0 ? r : mvpn_loop_watch_fd(loop, u->fd, MVPN_LOOP_READABLE, on_readable, u, &u->watch);
    if (r != 0) {
        mvpn_proxy_udp_free(u);
        return r;
    }
    *ret_bound = bound;
    *ret = u;
    return 0;
}

void mvpn_proxy_udp_tick(mvpn_proxy_udp *u, mvpn_time now)
{
    for (size_t i = 0; i < NAMES_MAX; i++) {
        if (u->names[i].lookup != NULL) {
            mvpn_proxy_lookup_tick(u->names[i].lookup, now);
        }
    }
}

void mvpn_proxy_udp_free(mvpn_proxy_udp *u)
{
    if (u == NULL) {
        return;
    }
    for (size_t i = 0; i < NAMES_MAX; i++) {
        forget(&u->names[i]);
    }
    mvpn_datagrams_free(u->sockets[0]);
    mvpn_datagrams_free(u->sockets[1]);
    mvpn_loop_unwatch(u->watch);
    if (u->fd >= 0) {
        (void)close(u->fd);
    }
    free(u);
}
