#include "io/source_lan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bucket.h"
#include "base/error.h"
#include "io/clock.h"
#include "io/random.h"

/* Questions are rare: one of each client that starts. */
#define ANSWERS_PER_S 10
#define ANSWERS_BURST 20
#define REJOIN_MS 30000
/* Datagrams read in one turn. */
#define BATCH 32

enum family { V4, V6, FAMILIES };

/* ---- interfaces ---- */

struct interface {
    unsigned index;
    bool has[FAMILIES];
};

struct interfaces {
    size_t count;
    struct interface at[MVPN_LAN_INTERFACES_MAX];
};

static void note_address(void *ctx, const mvpn_netlink_address *a)
{
    const unsigned wanted = IFF_UP | IFF_MULTICAST, unwanted = IFF_LOOPBACK | IFF_POINTOPOINT;
    struct interfaces *all = ctx;
    size_t at = 0;
    if ((a->flags & wanted) != wanted || (a->flags & unwanted) != 0) {
        return; /* no local network */
    }
    while (at < all->count && all->at[at].index != a->index) {
        at++;
    }
    if (at == MVPN_LAN_INTERFACES_MAX) {
        return;
    }
    if (at == all->count) {
        all->at[all->count++] = (struct interface){.index = a->index};
    }
    all->at[at].has[a->addr.family == 4 ? V4 : V6] = true;
}

static void list_interfaces(mvpn_netlink *routes, struct interfaces *ret)
{
    *ret = (struct interfaces){.count = 0};
    if (mvpn_netlink_each_address(routes, note_address, ret, NULL) != 0) {
        ret->count = 0;
    }
}

/* ---- sockets ---- */

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static int open_socket(enum family family, const mvpn_marker *marker)
{
    int fd =
        socket(family == V4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    bool ok = family == V4 ? set_option(fd, IPPROTO_IP, IP_MULTICAST_TTL, 1) == 0
                           : set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) == 0;
    ok = ok && mvpn_mark_socket(fd, marker) == 0;
    if (!ok) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static struct sockaddr_in group4(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(MVPN_LAN_PORT)};
    (void)inet_pton(AF_INET, MVPN_LAN_GROUP4, &sa.sin_addr);
    return sa;
}

static struct sockaddr_in6 group6(unsigned index)
{
    struct sockaddr_in6 sa = {
        .sin6_family = AF_INET6, .sin6_port = htons(MVPN_LAN_PORT), .sin6_scope_id = index};
    (void)inet_pton(AF_INET6, MVPN_LAN_GROUP6, &sa.sin6_addr);
    return sa;
}

static void close_socket(mvpn_loop_watch *watch, int fd)
{
    mvpn_loop_unwatch(watch);
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* ---- asking ---- */

struct mvpn_source_lan {
    mvpn_netlink *routes; /* borrowed, unless it is own_routes */
    mvpn_netlink *own_routes;
    mvpn_key token;
    uint8_t nonce[MVPN_LAN_NONCE_LEN];
    bool has_asked;
    unsigned answers; /* to this question */
    int fd[FAMILIES];
    mvpn_loop_watch *watch[FAMILIES];
    mvpn_source_lan_fn *fn;
    void *ctx;
};

static void answers_came(mvpn_source_lan *lan, int fd)
{
    uint8_t bytes[MVPN_LAN_ANSWER_MAX + 1];
    for (unsigned i = 0; i < BATCH; i++) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
        if (n < 0) {
            return;
        }
        mvpn_dht_contact entry;
        if (lan->has_asked && lan->answers < MVPN_LAN_ANSWERS_MAX &&
            mvpn_lan_answer_decode(&entry, &lan->token, lan->nonce,
                                   mvpn_bytes_of(bytes, (size_t)n)) == 0) {
            lan->answers++;
            lan->fn(lan->ctx, &entry);
        }
    }
}

static void answers_came4(void *ctx, unsigned events)
{
    mvpn_source_lan *lan = ctx;
    (void)events;
    answers_came(lan, lan->fd[V4]);
}

static void answers_came6(void *ctx, unsigned events)
{
    mvpn_source_lan *lan = ctx;
    (void)events;
    answers_came(lan, lan->fd[V6]);
}

int mvpn_source_lan_new(mvpn_loop *loop, mvpn_netlink *routes, const mvpn_key *token,
                        const mvpn_marker *marker, mvpn_source_lan_fn *fn, void *ctx,
                        mvpn_source_lan **ret, mvpn_fault *fault)
{
    mvpn_source_lan *lan = calloc(1, sizeof(*lan));
    if (lan == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to ask the local network");
    }
    *lan = (mvpn_source_lan){.token = *token, .fn = fn, .ctx = ctx, .routes = routes};
    lan->fd[V4] = open_socket(V4, marker);
    lan->fd[V6] = open_socket(V6, marker); /* a host may do without */
    int rc = lan->fd[V4] < 0 && lan->fd[V6] < 0
                 ? mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot ask the local network")
                 : 0;
    if (rc == 0 && routes == NULL) {
        rc = mvpn_netlink_open(&lan->own_routes, fault);
        lan->routes = lan->own_routes;
    }
    for (unsigned f = V4; rc == 0 && f < FAMILIES; f++) {
        if (lan->fd[f] >= 0) {
            rc = mvpn_loop_watch_fd(loop, lan->fd[f], MVPN_LOOP_READABLE,
                                    f == V4 ? answers_came4 : answers_came6, lan, &lan->watch[f]);
        }
    }
    if (rc != 0) {
        mvpn_source_lan_free(lan);
        return rc;
    }
    *ret = lan;
    return 0;
}

void mvpn_source_lan_free(mvpn_source_lan *lan)
{
    if (lan == NULL) {
        return;
    }
    for (unsigned f = V4; f < FAMILIES; f++) {
        close_socket(lan->watch[f], lan->fd[f]);
    }
    mvpn_netlink_close(lan->own_routes);
    mvpn_wipe(&lan->token, sizeof(lan->token));
    free(lan);
}

static bool ask_on(const mvpn_source_lan *lan, enum family family, unsigned index,
                   const uint8_t question[static MVPN_LAN_QUESTION_LEN])
{
    ssize_t n;
    if (lan->fd[family] < 0) {
        return false;
    }
    if (family == V4) {
        struct ip_mreqn out = {.imr_ifindex = (int)index};
        struct sockaddr_in to = group4();
        if (setsockopt(lan->fd[V4], IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)) != 0) {
            return false;
        }
        n = sendto(lan->fd[V4], question, MVPN_LAN_QUESTION_LEN, 0, (struct sockaddr *)&to,
                   sizeof(to));
    } else {
        struct sockaddr_in6 to = group6(index);
        n = sendto(lan->fd[V6], question, MVPN_LAN_QUESTION_LEN, 0, (struct sockaddr *)&to,
                   sizeof(to));
    }
    return n == MVPN_LAN_QUESTION_LEN;
}

unsigned mvpn_source_lan_ask(mvpn_source_lan *lan)
{
    struct interfaces interfaces;
    uint8_t question[MVPN_LAN_QUESTION_LEN];
    unsigned asked = 0;
    if (mvpn_random_bytes(lan->nonce, sizeof(lan->nonce)) != 0) {
        return 0;
    }
    lan->has_asked = true;
    lan->answers = 0;
    mvpn_lan_question_encode(question, &lan->token, lan->nonce);
    list_interfaces(lan->routes, &interfaces);
    for (size_t i = 0; i < interfaces.count; i++) {
        const struct interface *at = &interfaces.at[i];
        for (unsigned f = V4; f < FAMILIES; f++) {
            asked += at->has[f] && ask_on(lan, f, at->index, question);
        }
    }
    return asked;
}

/* ---- answering ---- */

struct mvpn_lan_server {
    mvpn_netlink *routes;
    mvpn_key token;
    mvpn_dht_contact entries[FAMILIES];
    size_t entry_count;
    int fd[FAMILIES];
    mvpn_loop_watch *watch[FAMILIES];
    mvpn_loop_timer *timer;
    mvpn_bucket rate;
    mvpn_lan_server_stats stats;
};

static const mvpn_dht_contact *entry_for(const mvpn_lan_server *s, enum family family)
{
    uint8_t wanted = family == V4 ? 4 : 6;
    for (size_t i = 0; i < s->entry_count; i++) {
        if (s->entries[i].addr.family == wanted) {
            return &s->entries[i];
        }
    }
    return &s->entries[0];
}

static void answer(mvpn_lan_server *s, enum family family, const uint8_t *bytes, size_t n,
                   const struct sockaddr *from, socklen_t from_len)
{
    uint8_t nonce[MVPN_LAN_NONCE_LEN], out[MVPN_LAN_ANSWER_MAX];
    if (mvpn_lan_question_decode(nonce, &s->token, mvpn_bytes_of(bytes, n)) != 0 ||
        !mvpn_bucket_take(&s->rate, 1, mvpn_clock_now())) {
        s->stats.dropped++;
        return;
    }
    size_t len = mvpn_lan_answer_encode(out, &s->token, nonce, entry_for(s, family));
    /* Lost if the socket is full: the asker asks again. */
    s->stats.answered += sendto(s->fd[family], out, len, 0, from, from_len) == (ssize_t)len;
}

/* Did it come to the group? Unicast from afar must not be answered: it may bear anybody's address.
 */
static bool is_to_group(struct msghdr *m)
{
    struct in6_addr group;
    (void)inet_pton(AF_INET6, MVPN_LAN_GROUP6, &group);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            return memcmp(&info.ipi6_addr, &group, sizeof(group)) == 0;
        }
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            struct sockaddr_in expected = group4();
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            return info.ipi_addr.s_addr == expected.sin_addr.s_addr;
        }
    }
    return false;
}

static void questions_came(mvpn_lan_server *s, enum family family)
{
    uint8_t bytes[MVPN_LAN_QUESTION_LEN + 1];
    for (unsigned i = 0; i < BATCH; i++) {
        struct sockaddr_storage from;
        union {
            struct cmsghdr align;
            uint8_t bytes[128];
        } control;
        struct iovec iov = {bytes, sizeof(bytes)};
        struct msghdr m = {.msg_name = &from,
                           .msg_namelen = sizeof(from),
                           .msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(s->fd[family], &m, 0);
        if (n < 0) {
            return;
        }
        if (is_to_group(&m)) {
            answer(s, family, bytes, (size_t)n, (struct sockaddr *)&from, m.msg_namelen);
        } else {
            s->stats.dropped++;
        }
    }
}

static void questions_came4(void *ctx, unsigned events)
{
    (void)events;
    questions_came(ctx, V4);
}

static void questions_came6(void *ctx, unsigned events)
{
    (void)events;
    questions_came(ctx, V6);
}

/* Interfaces come and go; joining one again fails and does no harm. */
static void join(void *ctx)
{
    mvpn_lan_server *s = ctx;
    struct interfaces interfaces;
    list_interfaces(s->routes, &interfaces);
    for (size_t i = 0; i < interfaces.count; i++) {
        if (s->fd[V4] >= 0) {
            struct ip_mreqn m = {.imr_multiaddr = group4().sin_addr,
                                 .imr_ifindex = (int)interfaces.at[i].index};
            (void)setsockopt(s->fd[V4], IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m));
        }
        if (s->fd[V6] >= 0) {
            struct ipv6_mreq m = {.ipv6mr_multiaddr = group6(0).sin6_addr,
                                  .ipv6mr_interface = interfaces.at[i].index};
            (void)setsockopt(s->fd[V6], IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof(m));
        }
    }
    mvpn_loop_timer_set(s->timer, REJOIN_MS);
}

/* IPv4 is bound to the group itself; a link-local group of IPv6 can be bound on one link only. */
static int open_server(enum family family)
{
    int fd = open_socket(family, 0);
    if (fd < 0) {
        return -1;
    }
    struct sockaddr_in v4 = group4();
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(MVPN_LAN_PORT)};
    bool ok = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) == 0; /* several relays on one host */
    ok = ok && (family == V4 ? set_option(fd, IPPROTO_IP, IP_PKTINFO, 1) == 0 &&
                                   bind(fd, (struct sockaddr *)&v4, sizeof(v4)) == 0
                             : set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) == 0 &&
                                   bind(fd, (struct sockaddr *)&v6, sizeof(v6)) == 0);
    if (!ok) {
        int err = errno;
        (void)close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

int mvpn_lan_server_new(mvpn_loop *loop, const mvpn_key *token, const mvpn_dht_contact *entries,
                        size_t count, mvpn_lan_server **ret, mvpn_fault *fault)
{
    if (count < 1 || count > FAMILIES) {
        return MVPN_E_INVAL;
    }
    mvpn_lan_server *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to answer the local network");
    }
    s->token = *token;
    memcpy(s->entries, entries, count * sizeof(*entries));
    s->entry_count = count;
    mvpn_bucket_init(&s->rate, ANSWERS_PER_S, ANSWERS_BURST, mvpn_clock_now());
    s->fd[V4] = open_server(V4);
    s->fd[V6] = open_server(V6);
    int rc = mvpn_loop_timer_new(loop, join, s, &s->timer);
    rc = rc != 0 ? rc : mvpn_netlink_open(&s->routes, fault);
    if (rc == 0 && s->fd[V4] < 0 && s->fd[V6] < 0) {
        rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                              "cannot answer the local network on UDP port %u; set lan_announce to "
                              "false if another program needs it",
                              MVPN_LAN_PORT);
    }
    for (unsigned f = V4; rc == 0 && f < FAMILIES; f++) {
        if (s->fd[f] >= 0) {
            rc = mvpn_loop_watch_fd(loop, s->fd[f], MVPN_LOOP_READABLE,
                                    f == V4 ? questions_came4 : questions_came6, s, &s->watch[f]);
        }
    }
    if (rc != 0) {
        mvpn_lan_server_free(s);
        return rc;
    }
    join(s);
    *ret = s;
    return 0;
}

void mvpn_lan_server_free(mvpn_lan_server *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned f = V4; f < FAMILIES; f++) {
        close_socket(s->watch[f], s->fd[f]);
    }
    mvpn_loop_timer_free(s->timer);
    mvpn_netlink_close(s->routes);
    mvpn_wipe(&s->token, sizeof(s->token));
    free(s);
}

const mvpn_lan_server_stats *mvpn_lan_server_get_stats(const mvpn_lan_server *server)
{
    return &server->stats;
}
