#include "io/user_nat.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/list.h"
#include "crypto/hash.h"
#include "io/clock.h"
#include "io/random.h"
#include "io/sockaddr.h"
#include "network/ip/checksum.h"
#include "network/ip/icmp.h"
#include "network/ip/ip.h"

#define TICK_MS 1000
/* The client's own SYNs give up about then. */
#define OPENING_TIME MVPN_S(30)
/* As a kernel's NAT: RFC 5382 REQ-5 asks for two hours of silence, RFC 4787 REQ-5 for two minutes,
 * RFC 5508 REQ-2 for one minute of echoes, which are datagrams here. */
#define TCP_TIME MVPN_S(7200)
#define HALF_CLOSED_TIME MVPN_S(600)
#define UDP_TIME MVPN_S(120)
/* Of a query and its answer. */
#define UDP_SHORT_TIME MVPN_S(15)
/* Descriptors that are not flows'. */
#define OTHER_FDS 128
#define OWN_MAX 64
#define SYN_MAX 128
#define CHUNK 65536
#define CHUNKS 4
#define PIECES 64
/* Datagrams of one flow in one turn. */
#define BATCH 64
#define TTL 64

enum state {
    CONNECTING, /* our socket */
    ACCEPTING,  /* the stack, with the client */
    OPEN,
    DATAGRAMS,
};

typedef struct flow {
    mvpn_hash_node node;
    mvpn_list all; /* the one that was heard of last, last */
    mvpn_user_nat *nat;
    enum state state;
    uint8_t protocol;     /* MVPN_IP_* */
    uint8_t hops;         /* of what leaves, where not the kernel's choice: echoes */
    mvpn_addr client, to; /* as the packets have them; of echoes the client's port is the
                             identifier, the other one 0 */
    int fd;
    mvpn_loop_watch *watch;
    mvpn_time heard;
    uint8_t syn[SYN_MAX];
    size_t syn_len;
    mvpn_stream *stream;
    uint8_t *held; /* read of the socket, and no memory in the stack for it now */
    size_t held_len, held_at;
    bool has_ended;    /* the socket gives no more */
    bool has_told_end; /* nor gets any */
    bool is_full;
    bool is_answered; /* a datagram: something came back */
} flow;

struct mvpn_user_nat {
    mvpn_loop *loop;
    mvpn_packet_pool *pool;
    mvpn_netstack *stack;
    mvpn_hash table;
    mvpn_siphash_key key;
    mvpn_list flows;
    unsigned flows_max;
    mvpn_user_nat_stats stats;
    mvpn_addr bind[2]; /* of IPv4, IPv6; family 0: any */
    mvpn_config_nat_map map[MVPN_CONFIG_NAT_MAP_MAX];
    size_t map_count;
    mvpn_addr own[OWN_MAX];
    size_t own_count;
    mvpn_packet_queue out; /* for the exit */
    mvpn_loop_timer *timer;
    uint8_t buf[CHUNK];
};

/* ---- flows come and go ---- */

static uint64_t hash_of(const mvpn_user_nat *nat, uint8_t protocol, const mvpn_addr *client,
                        const mvpn_addr *to)
{
    uint8_t in[1 + 2 * (16 + 2)] = {protocol};
    memcpy(in + 1, client->ip, 16);
    memcpy(in + 17, &client->port, 2);
    memcpy(in + 19, to->ip, 16);
    memcpy(in + 35, &to->port, 2);
    return mvpn_siphash(&nat->key, in, sizeof(in));
}

static flow *find(const mvpn_user_nat *nat, uint8_t protocol, const mvpn_addr *client,
                  const mvpn_addr *to)
{
    mvpn_hash_node *n = mvpn_hash_first(&nat->table, hash_of(nat, protocol, client, to));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        flow *f = MVPN_CONTAINER_OF(n, flow, node);
        if (f->protocol == protocol && mvpn_addr_eq(&f->client, client) &&
            mvpn_addr_eq(&f->to, to)) {
            return f;
        }
    }
    return NULL;
}

static void heard(flow *f)
{
    f->heard = mvpn_clock_now();
    mvpn_list_remove(&f->all);
    mvpn_list_append(&f->nat->flows, &f->all);
}

/* `is_abort`: both ends see a reset. */
static void close_flow(flow *f, bool is_abort)
{
    static const struct linger at_once = {.l_onoff = 1};
    mvpn_user_nat *nat = f->nat;
    mvpn_loop_unwatch(f->watch);
    if (is_abort && f->state != DATAGRAMS) {
        (void)setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    (void)close(f->fd);
    mvpn_stream_free(f->stream, is_abort);
    mvpn_hash_remove(&nat->table, &f->node);
    mvpn_list_remove(&f->all);
    free(f->held);
    free(f);
    nat->stats.flows--;
}

static mvpn_time time_of(const flow *f)
{
    switch (f->state) {
    case CONNECTING:
    case ACCEPTING:
        return OPENING_TIME;
    case DATAGRAMS:
        return f->is_answered && f->to.port == 53 ? UDP_SHORT_TIME : UDP_TIME;
    case OPEN:
        break;
    }
    return f->has_ended || f->has_told_end ? HALF_CLOSED_TIME : TCP_TIME;
}

/* Place for one more: datagrams' sockets give way, the quietest first; connections do not. */
static bool make_room(mvpn_user_nat *nat, const mvpn_addr *client)
{
    unsigned of_session = 0;
    flow *quietest = NULL, *own_quietest = NULL;
    MVPN_LIST_FOREACH(it, &nat->flows)
    {
        flow *f = MVPN_CONTAINER_OF(it, flow, all);
        bool is_own = mvpn_addr_ip_eq(&f->client, client);
        bool may_go = f->state == DATAGRAMS;
        of_session += is_own;
        quietest = quietest == NULL && may_go ? f : quietest;
        own_quietest = own_quietest == NULL && may_go && is_own ? f : own_quietest;
    }
    if (of_session >= MVPN_USER_NAT_SESSION_MAX) {
        if (own_quietest == NULL) {
            return false;
        }
        close_flow(own_quietest, false);
        return true;
    }
    if (nat->stats.flows >= nat->flows_max) {
        flow *f = own_quietest != NULL ? own_quietest : quietest;
        if (f == NULL) {
            return false;
        }
        close_flow(f, false);
    }
    return true;
}

static mvpn_addr target_of(const mvpn_user_nat *nat, const mvpn_addr *to, bool *ret_is_mapped)
{
    *ret_is_mapped = false;
    for (size_t i = 0; i < nat->map_count; i++) {
        if (mvpn_addr_eq(&nat->map[i].from, to)) {
            *ret_is_mapped = true;
            return nat->map[i].to;
        }
    }
    return *to;
}

static bool is_own(const mvpn_user_nat *nat, const mvpn_addr *to)
{
    for (size_t i = 0; i < nat->own_count; i++) {
        if (mvpn_addr_ip_eq(&nat->own[i], to)) {
            return true;
        }
    }
    return false;
}

static bool is_echo(uint8_t protocol)
{
    return protocol == MVPN_IP_ICMP || protocol == MVPN_IP_ICMPV6;
}

/* -1 with errno. Of ICMP it is a ping socket: EACCES if our group is not in ping_group_range. */
static int open_socket(int family, uint8_t protocol)
{
    int type = (protocol == MVPN_IP_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    return socket(family, type, is_echo(protocol) ? protocol : 0);
}

bool mvpn_user_nat_may_ping(void)
{
    int fd = open_socket(AF_INET, MVPN_IP_ICMP);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

/* A socket on its way to `to`, or -1 with errno. */
static int connect_to(const mvpn_user_nat *nat, uint8_t protocol, const mvpn_addr *to)
{
    static const int on = 1;
    struct sockaddr_storage sa;
    socklen_t len = mvpn_sockaddr_from_addr(to, &sa);
    int fd = open_socket(sa.ss_family, protocol);
    if (fd < 0) {
        return -1;
    }
    mvpn_addr from = nat->bind[to->family == 4 ? 0 : 1];
    if (from.family != 0) {
        struct sockaddr_storage own;
        from.port = 0;
        socklen_t own_len = mvpn_sockaddr_from_addr(&from, &own);
        /* The port is chosen when the other end is known: more than 28,000 may be used. */
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
        if (bind(fd, (struct sockaddr *)&own, own_len) != 0) {
            (void)close(fd);
            return -1;
        }
    }
    if (protocol == MVPN_IP_TCP) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    if (connect(fd, (struct sockaddr *)&sa, len) != 0 && errno != EINPROGRESS) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* ---- answers ---- */

static uint8_t code_of(unsigned version, int error)
{
    switch (error) {
    case ECONNREFUSED:
        return version == 4 ? MVPN_ICMP_PORT : MVPN_ICMPV6_PORT;
    case EPERM:
    case EACCES:
        return version == 4 ? MVPN_ICMP_PROHIBITED : MVPN_ICMPV6_PROHIBITED;
    case ENETUNREACH:
        return version == 4 ? MVPN_ICMP_NET : MVPN_ICMPV6_NO_ROUTE;
    default:
        return version == 4 ? MVPN_ICMP_HOST : MVPN_ICMPV6_ADDRESS;
    }
}

/* "Unreachable", as if the destination said so. */
static void answer_error(mvpn_user_nat *nat, const mvpn_packet *packet, int error)
{
    mvpn_ip ip;
    mvpn_packet *out = mvpn_packet_new(nat->pool);
    if (out == NULL) {
        return;
    }
    if (mvpn_ip_parse(packet->data, packet->len, &ip) == 0 &&
        mvpn_icmp_unreachable(out, packet, &ip, ip.dst, code_of(ip.version, error)) == 0) {
        mvpn_packet_queue_push(&nat->out, out);
    } else {
        mvpn_packet_free(nat->pool, out);
    }
}

static void answer_syn_error(flow *f, int error)
{
    mvpn_packet *syn = mvpn_packet_new(f->nat->pool);
    f->nat->stats.failed++;
    if (syn != NULL) {
        memcpy(mvpn_packet_append(syn, (uint32_t)f->syn_len), f->syn, f->syn_len);
        answer_error(f->nat, syn, error);
        mvpn_packet_free(f->nat->pool, syn);
    }
}

/* ---- TCP: bytes ---- */

/* From the socket. False: the flow is gone. */
static bool pump_in(flow *f)
{
    for (unsigned i = 0; i < CHUNKS; i++) {
        if (f->held != NULL) {
            f->held_at +=
                mvpn_stream_write(f->stream, f->held + f->held_at, f->held_len - f->held_at);
            if (f->held_at < f->held_len) {
                return true;
            }
            free(f->held);
            f->held = NULL;
        }
        size_t room = mvpn_stream_room(f->stream);
        if (room == 0 || f->has_ended) {
            return true;
        }
        uint8_t *buf = f->nat->buf;
        ssize_t n = recv(f->fd, buf, MVPN_MIN(room, (size_t)CHUNK), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        if (n < 0) {
            close_flow(f, true);
            return false;
        }
        if (n == 0) {
            f->has_ended = true;
            mvpn_stream_shutdown(f->stream);
            return true;
        }
        size_t taken = mvpn_stream_write(f->stream, buf, (size_t)n);
        if (taken < (size_t)n) {
            f->held_len = (size_t)n - taken;
            f->held_at = 0;
            f->held = malloc(f->held_len);
            if (f->held == NULL) {
                close_flow(f, true);
                return false;
            }
            memcpy(f->held, buf + taken, f->held_len);
            return true;
        }
    }
    return true;
}

/* To the socket. Likewise. */
static bool pump_out(flow *f)
{
    struct iovec pieces[PIECES];
    struct msghdr m = {.msg_iov = pieces};
    f->is_full = false;
    while ((m.msg_iovlen = mvpn_stream_peek(f->stream, pieces, PIECES)) > 0) {
        ssize_t n = sendmsg(f->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            f->is_full = true;
            return true;
        }
        if (n < 0) {
            close_flow(f, true);
            return false;
        }
        mvpn_stream_consume(f->stream, (size_t)n);
    }
    if (mvpn_stream_error(f->stream) != 0) {
        close_flow(f, true);
        return false;
    }
    if (mvpn_stream_has_ended(f->stream)) {
        if (!f->has_told_end) {
            f->has_told_end = true;
            (void)shutdown(f->fd, SHUT_WR);
        }
        if (f->has_ended && f->held == NULL) {
            close_flow(f, false);
            return false;
        }
    }
    return true;
}

static void pump(flow *f)
{
    unsigned events = 0;
    heard(f);
    if (!pump_in(f) || !pump_out(f)) {
        return;
    }
    if (mvpn_stream_room(f->stream) == 0) {
        (void)mvpn_stream_write(f->stream, NULL, 0); /* an event tells of room */
    } else if (!f->has_ended && f->held == NULL) {
        events |= MVPN_LOOP_READABLE;
    }
    mvpn_loop_watch_set(f->watch, events | (f->is_full ? MVPN_LOOP_WRITABLE : 0));
}

static void on_stream(void *ctx, unsigned events)
{
    (void)events;
    pump(ctx);
}

/* ---- TCP: connections ---- */

/* The socket is connected: only now the client is answered. */
static void on_connected(flow *f)
{
    mvpn_packet *syn = mvpn_packet_new(f->nat->pool);
    mvpn_loop_watch_set(f->watch, 0);
    f->state = ACCEPTING;
    if (syn == NULL) {
        return; /* it is sent again, or the flow ends in time */
    }
    memcpy(mvpn_packet_append(syn, (uint32_t)f->syn_len), f->syn, f->syn_len);
    mvpn_netstack_deliver(f->nat->stack, syn, true);
    mvpn_packet_free(f->nat->pool, syn);
}

static bool on_accepted(void *ctx, const mvpn_addr *from, const mvpn_addr *to, mvpn_stream *stream)
{
    mvpn_user_nat *nat = ctx;
    flow *f = find(nat, MVPN_IP_TCP, from, to);
    if (f == NULL || f->state != ACCEPTING) {
        return false;
    }
    f->state = OPEN;
    f->stream = stream;
    nat->stats.opened++;
    heard(f);
    mvpn_stream_set_handler(stream, on_stream, f);
    mvpn_loop_watch_set(f->watch, MVPN_LOOP_READABLE);
    return true;
}

static void on_tcp(void *ctx, unsigned events)
{
    flow *f = ctx;
    int error = 0;
    socklen_t len = sizeof(error);
    (void)events;
    switch (f->state) {
    case CONNECTING:
        (void)getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error == 0) {
            on_connected(f);
        } else {
            answer_syn_error(f, error);
            close_flow(f, false);
        }
        break;
    case OPEN:
        pump(f);
        break;
    case ACCEPTING:
    case DATAGRAMS:
        break;
    }
}

/* ---- datagrams: UDP and echoes ---- */

/* A packet with IP headers and room for `l4_len` bytes more at `*ret_l4`; NULL: it is lost, as
 * datagrams may be. */
static mvpn_packet *new_packet(mvpn_user_nat *nat, uint8_t protocol, const mvpn_addr *from,
                               const mvpn_addr *to, size_t l4_len, uint8_t **ret_l4)
{
    size_t header = from->family == 4 ? MVPN_IPV4_HEADER : MVPN_IPV6_HEADER;
    size_t addr_len = mvpn_addr_ip_len(from), total = header + l4_len;
    mvpn_packet *p = total <= MVPN_PACKET_ROOM ? mvpn_packet_new(nat->pool) : NULL;
    if (p == NULL) {
        return NULL;
    }
    uint8_t *at = mvpn_packet_append(p, (uint32_t)total);
    memset(at, 0, header);
    if (from->family == 4) {
        at[0] = 0x45;
        mvpn_store16(at + 2, (uint16_t)total);
        at[8] = TTL;
        at[9] = protocol;
    } else {
        at[0] = 0x60;
        mvpn_store16(at + 4, (uint16_t)l4_len);
        at[6] = protocol;
        at[7] = TTL;
    }
    uint8_t *addrs = at + header - 2 * addr_len;
    memcpy(addrs, from->ip, addr_len);
    memcpy(addrs + addr_len, to->ip, addr_len);
    if (from->family == 4) {
        mvpn_csum_ipv4_set(at);
    }
    *ret_l4 = at + header;
    return p;
}

static void write_udp_header(uint8_t *udp, const mvpn_addr *from, const mvpn_addr *to, size_t n)
{
    mvpn_store16(udp, from->port);
    mvpn_store16(udp + 2, to->port);
    mvpn_store16(udp + 4, (uint16_t)(MVPN_UDP_HEADER + n));
    mvpn_store16(udp + 6, 0);
}

/* Towards the client, complete but for its transport checksum. */
static void send_packet(mvpn_user_nat *nat, mvpn_packet *p)
{
    mvpn_ip ip;
    if (mvpn_ip_parse(p->data, p->len, &ip) != 0) {
        mvpn_packet_free(nat->pool, p);
        return;
    }
    mvpn_csum_transport_set(p->data, &ip);
    mvpn_packet_queue_push(&nat->out, p);
}

/* "Port unreachable" came. About which datagram is not told; its headers would say no more. */
static void answer_refused(flow *f)
{
    uint8_t *udp;
    mvpn_packet *sent = new_packet(f->nat, MVPN_IP_UDP, &f->client, &f->to, MVPN_UDP_HEADER, &udp);
    if (sent != NULL) {
        write_udp_header(udp, &f->client, &f->to, 0);
        answer_error(f->nat, sent, ECONNREFUSED);
        mvpn_packet_free(f->nat->pool, sent);
    }
}

static void send_out(flow *f, const uint8_t *p, size_t n)
{
    if (send(f->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED &&
        f->protocol == MVPN_IP_UDP) {
        answer_refused(f); /* of an earlier one: this one was not sent */
        (void)send(f->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void on_udp(void *ctx, unsigned events)
{
    flow *f = ctx;
    mvpn_user_nat *nat = f->nat;
    (void)events;
    for (unsigned i = 0; i < BATCH; i++) {
        uint8_t *udp;
        ssize_t n = recv(f->fd, nat->buf, MVPN_PACKET_ROOM, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && errno == ECONNREFUSED) {
            answer_refused(f);
            continue;
        }
        if (n < 0) {
            return; /* also what else ICMP told: the client's program has its own timeout */
        }
        f->is_answered = true;
        heard(f);
        mvpn_packet *p =
            new_packet(nat, MVPN_IP_UDP, &f->to, &f->client, MVPN_UDP_HEADER + (size_t)n, &udp);
        if (p != NULL) {
            write_udp_header(udp, &f->to, &f->client, (size_t)n);
            memcpy(udp + MVPN_UDP_HEADER, nat->buf, (size_t)n);
            send_packet(nat, p);
        }
    }
}

static void on_echo(void *ctx, unsigned events)
{
    flow *f = ctx;
    mvpn_user_nat *nat = f->nat;
    uint8_t reply = f->to.family == 4 ? MVPN_ICMP_ECHO_REPLY : MVPN_ICMPV6_ECHO_REPLY;
    (void)events;
    for (unsigned i = 0; i < BATCH; i++) {
        struct sockaddr_storage sa = {0};
        socklen_t len = sizeof(sa);
        uint8_t *icmp;
        ssize_t n = recvfrom(f->fd, nat->buf, MVPN_PACKET_ROOM, MSG_DONTWAIT | MSG_TRUNC,
                             (struct sockaddr *)&sa, &len);
        if (n < 0) {
            return;
        }
        /* The kernel goes by the identifier, of 16 bits: a stranger may guess it. */
        mvpn_addr from = mvpn_sockaddr_to_addr(&sa);
        if (n < MVPN_ICMP_HEADER || nat->buf[0] != reply || !mvpn_addr_ip_eq(&from, &f->to)) {
            continue;
        }
        f->is_answered = true;
        heard(f);
        mvpn_packet *p = new_packet(nat, f->protocol, &f->to, &f->client, (size_t)n, &icmp);
        if (p != NULL) {
            memcpy(icmp, nat->buf, (size_t)n);
            mvpn_store16(icmp + 4, f->client.port); /* the kernel chose its own */
            send_packet(nat, p);
        }
    }
}

/* ---- packets of sessions ---- */

static mvpn_loop_fd_fn *handler_of(uint8_t protocol)
{
    return protocol == MVPN_IP_TCP ? on_tcp : protocol == MVPN_IP_UDP ? on_udp : on_echo;
}

/* `packet` opens it; NULL: it does not, and is answered. */
static flow *begin(mvpn_user_nat *nat, uint8_t protocol, const mvpn_addr *client,
                   const mvpn_addr *to, const mvpn_packet *packet)
{
    bool is_mapped, is_tcp = protocol == MVPN_IP_TCP;
    mvpn_addr target = target_of(nat, to, &is_mapped);
    if ((!is_mapped && is_own(nat, to)) || !make_room(nat, client)) {
        nat->stats.refused++;
        answer_error(nat, packet, EACCES);
        return NULL;
    }
    int fd = connect_to(nat, protocol, &target);
    flow *f = fd < 0 ? NULL : calloc(1, sizeof(*f));
    if (f == NULL) {
        nat->stats.failed++;
        answer_error(nat, packet, fd < 0 ? errno : EACCES);
        if (fd >= 0) {
            (void)close(fd);
        }
        return NULL;
    }
    if (mvpn_loop_watch_fd(nat->loop, fd, is_tcp ? MVPN_LOOP_WRITABLE : MVPN_LOOP_READABLE,
                           handler_of(protocol), f, &f->watch) != 0) {
        nat->stats.failed++;
        (void)close(fd);
        free(f);
        return NULL;
    }
    f->nat = nat;
    f->fd = fd;
    f->state = is_tcp ? CONNECTING : DATAGRAMS;
    f->protocol = protocol;
    f->client = *client;
    f->to = *to;
    mvpn_hash_insert(&nat->table, &f->node, hash_of(nat, protocol, client, to));
    mvpn_list_append(&nat->flows, &f->all);
    f->heard = mvpn_clock_now();
    nat->stats.flows++;
    nat->stats.opened += !is_tcp;
    return f;
}

static void take_udp(mvpn_user_nat *nat, const mvpn_packet *packet, const mvpn_ip *ip)
{
    mvpn_addr client = mvpn_ip_src_addr(ip), to = mvpn_ip_dst_addr(ip);
    if (to.port == 0 || client.port == 0) {
        return;
    }
    flow *f = find(nat, MVPN_IP_UDP, &client, &to);
    f = f != NULL ? f : begin(nat, MVPN_IP_UDP, &client, &to, packet);
    if (f != NULL) {
        heard(f);
        send_out(f, packet->data + ip->l4 + MVPN_UDP_HEADER, (size_t)ip->l4_len - MVPN_UDP_HEADER);
    }
}

static void set_hops(flow *f, uint8_t hops)
{
    const int value = hops;
    bool v4 = f->to.family == 4;
    if (f->hops != hops &&
        setsockopt(f->fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_UNICAST_HOPS, &value,
                   sizeof(value)) == 0) {
        f->hops = hops;
    }
}

/* Requests alone: what else ICMP has is about connections, which are not the client's own here. */
static void take_icmp(mvpn_user_nat *nat, const mvpn_packet *packet, const mvpn_ip *ip)
{
    uint8_t request = ip->version == 4 ? MVPN_ICMP_ECHO : MVPN_ICMPV6_ECHO;
    if (ip->icmp_type != request || ip->icmp_code != 0 || ip->ttl <= 1) {
        return;
    }
    mvpn_addr client = mvpn_ip_src_addr(ip), to = mvpn_ip_dst_addr(ip);
    client.port = mvpn_load16(packet->data + ip->l4 + 4);
    flow *f = find(nat, ip->protocol, &client, &to);
    f = f != NULL ? f : begin(nat, ip->protocol, &client, &to, packet);
    if (f != NULL) {
        heard(f);
        set_hops(f, (uint8_t)(ip->ttl - 1));
        send_out(f, packet->data + ip->l4, ip->l4_len);
    }
}

static void take_tcp(mvpn_user_nat *nat, const mvpn_packet *packet, const mvpn_ip *ip)
{
    mvpn_addr client = mvpn_ip_src_addr(ip), to = mvpn_ip_dst_addr(ip);
    enum { OPENS = MVPN_TCP_SYN, KINDS = MVPN_TCP_SYN | MVPN_TCP_ACK | MVPN_TCP_RST };
    bool is_syn = (ip->tcp_flags & KINDS) == OPENS;
    flow *f = find(nat, MVPN_IP_TCP, &client, &to);
    if (f != NULL && f->state == CONNECTING) {
        if (ip->tcp_flags & MVPN_TCP_RST) {
            close_flow(f, true);
        }
        return; /* a SYN sent again */
    }
    if (f == NULL && is_syn) {
        if (packet->len > SYN_MAX || to.port == 0 || client.port == 0) {
            return;
        }
        f = begin(nat, MVPN_IP_TCP, &client, &to, packet);
        if (f != NULL) {
            memcpy(f->syn, packet->data, packet->len);
            f->syn_len = packet->len;
        }
        return;
    }
    mvpn_netstack_deliver(nat->stack, packet, f != NULL && f->state == ACCEPTING && is_syn);
}

static void take(mvpn_user_nat *nat, const mvpn_packet *packet)
{
    mvpn_ip ip;
    if (mvpn_ip_parse(packet->data, packet->len, &ip) != 0 || !ip.has_l4 || ip.fragment) {
        return;
    }
    if (ip.protocol == MVPN_IP_TCP) {
        take_tcp(nat, packet, &ip);
    } else if (ip.protocol == MVPN_IP_UDP) {
        take_udp(nat, packet, &ip);
    } else if (ip.protocol == (ip.version == 4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6)) {
        take_icmp(nat, packet, &ip);
    }
}

void mvpn_user_nat_exchange(void *ctx, mvpn_packet_queue *in, mvpn_packet_queue *out, mvpn_time now)
{
    mvpn_user_nat *nat = ctx;
    mvpn_packet *p;
    mvpn_packet_queue none;
    mvpn_packet_queue_init(&none);
    while ((p = mvpn_packet_queue_pop(in)) != NULL) {
        take(nat, p);
        mvpn_packet_free(nat->pool, p);
    }
    mvpn_netstack_exchange(nat->stack, &none, out, now);
    if (out != NULL) {
        mvpn_packet_queue_splice(out, &nat->out);
    }
}

mvpn_time mvpn_user_nat_deadline(void *ctx, mvpn_time now)
{
    const mvpn_user_nat *nat = ctx;
    return mvpn_netstack_deadline(nat->stack, now);
}

/* ---- all ---- */

static void end_quiet(void *ctx)
{
    mvpn_user_nat *nat = ctx;
    mvpn_time now = mvpn_clock_now();
    MVPN_LIST_FOREACH_SAFE(it, next, &nat->flows)
    {
        flow *f = MVPN_CONTAINER_OF(it, flow, all);
        if (now - f->heard >= time_of(f)) {
            if (f->state == CONNECTING) {
                answer_syn_error(f, ETIMEDOUT);
            }
            close_flow(f, true);
        }
    }
    mvpn_loop_timer_set(nat->timer, TICK_MS);
}

void mvpn_user_nat_release(mvpn_user_nat *nat, const mvpn_addr *client)
{
    MVPN_LIST_FOREACH_SAFE(it, next, &nat->flows)
    {
        flow *f = MVPN_CONTAINER_OF(it, flow, all);
        if (mvpn_addr_ip_eq(&f->client, client)) {
            close_flow(f, true);
        }
    }
}

static void find_own(mvpn_user_nat *nat)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0) {
        return;
    }
    for (const struct ifaddrs *a = all; a != NULL && nat->own_count < OWN_MAX; a = a->ifa_next) {
        if (a->ifa_addr != NULL &&
            (a->ifa_addr->sa_family == AF_INET || a->ifa_addr->sa_family == AF_INET6)) {
            struct sockaddr_storage sa = {0};
            memcpy(&sa, a->ifa_addr,
                   a->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                     : sizeof(struct sockaddr_in6));
            nat->own[nat->own_count++] = mvpn_sockaddr_to_addr(&sa);
        }
    }
    freeifaddrs(all);
}

static unsigned count_flows(void)
{
    struct rlimit limit;
    rlim_t wanted = MVPN_USER_NAT_FLOWS_MAX + OTHER_FDS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = MVPN_MIN(limit.rlim_max, wanted);
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* else fewer */
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) {
        return MVPN_USER_NAT_FLOWS_MAX;
    }
    return limit.rlim_cur > OTHER_FDS + 16 ? (unsigned)(limit.rlim_cur - OTHER_FDS) : 16;
}

int mvpn_user_nat_new(const mvpn_user_nat_options *options, mvpn_user_nat **ret, mvpn_fault *fault)
{
    static const uint8_t any[16] = {0};
    mvpn_user_nat *nat = calloc(1, sizeof(*nat));
    if (nat == NULL || options->map_count > MVPN_CONFIG_NAT_MAP_MAX) {
        free(nat);
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    nat->loop = options->loop;
    nat->pool = options->pool;
    nat->flows_max = count_flows();
    nat->map_count = options->map_count;
    if (options->map_count > 0) {
        memcpy(nat->map, options->map, options->map_count * sizeof(*options->map));
    }
    mvpn_list_init(&nat->flows);
    mvpn_packet_queue_init(&nat->out);
    for (size_t i = 0; i < options->bind_count; i++) {
        const mvpn_addr *a = &options->bind[i];
        if (memcmp(a->ip, any, mvpn_addr_ip_len(a)) != 0) {
            nat->bind[a->family == 4 ? 0 : 1] = *a;
        }
    }
    find_own(nat);
    int r = mvpn_random_bytes((uint8_t *)&nat->key, sizeof(nat->key));
    r = r != 0 ? r : mvpn_hash_init(&nat->table, nat->flows_max);
    r = r != 0 ? r : mvpn_netstack_new(nat->pool, 0, mvpn_clock_now(), &nat->stack);
    r = r != 0 ? r : mvpn_netstack_accept(nat->stack, on_accepted, nat);
    r = r != 0 ? r : mvpn_loop_timer_new(nat->loop, end_quiet, nat, &nat->timer);
    if (r != 0) {
        mvpn_user_nat_free(nat);
        return mvpn_fault_set(fault, r, "cannot make an IP stack: %s", mvpn_strerror(r));
    }
    mvpn_loop_timer_set(nat->timer, TICK_MS);
    *ret = nat;
    return 0;
}

void mvpn_user_nat_free(mvpn_user_nat *nat)
{
    if (nat == NULL) {
        return;
    }
    MVPN_LIST_FOREACH_SAFE(it, next, &nat->flows)
    {
        close_flow(MVPN_CONTAINER_OF(it, flow, all), true);
    }
    mvpn_loop_timer_free(nat->timer);
    mvpn_netstack_free(nat->stack);
    mvpn_packet_queue_clear(&nat->out, nat->pool);
    mvpn_hash_done(&nat->table);
    free(nat);
}

mvpn_user_nat_stats mvpn_user_nat_get_stats(const mvpn_user_nat *nat)
{
    return nat->stats;
}

size_t mvpn_user_nat_memory(const mvpn_user_nat *nat)
{
    return mvpn_netstack_memory(nat->stack);
}
