#include "io/dns_sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "exit/dns.h"
#include "exit/dns_message.h"
#include "io/clock.h"
#include "io/sockaddr.h"

#define CHECK_MS 1000
#define EVENTS 64
/* Wrong answers that one readable socket may bring in a turn. */
#define RECV_MAX 16

typedef struct asked {
    uint16_t id;
    mvpn_time until; /* 0: free */
} asked;

typedef struct dns_slot {
    int fd; /* -1: closed */
    mvpn_addr remote;
    asked asked[MVPN_DNS_SOCKETS_SHARE];
} dns_slot;

struct mvpn_dns_sockets {
    mvpn_loop *loop;
    mvpn_packet_pool *pool;
    mvpn_packet_queue *received;
    /* One descriptor for the loop, however many sockets come and go. */
    int epoll;
    mvpn_loop_watch *watch;
    mvpn_loop_timer *timer;
    bool is_timed;
    unsigned count;
    unsigned next; /* where sharing goes on */
    dns_slot slots[MVPN_DNS_SOCKETS_MAX];
};

static void close_slot(mvpn_dns_sockets *s, dns_slot *slot)
{
    (void)close(slot->fd); /* leaves the epoll set by that */
    slot->fd = -1;
    s->count--;
}

/* The question with this id was answered (or has had its time: `now`); the last one closes. */
static void forget(mvpn_dns_sockets *s, dns_slot *slot, const asked *done, mvpn_time now)
{
    unsigned left = 0;
    for (unsigned i = 0; i < MVPN_DNS_SOCKETS_SHARE; i++) {
        asked *a = &slot->asked[i];
        if (a == done || a->until <= now) {
            a->until = 0;
        }
        left += a->until != 0;
    }
    if (left == 0) {
        close_slot(s, slot);
    }
}

static void on_timer(void *ctx)
{
    mvpn_dns_sockets *s = ctx;
    mvpn_time now = mvpn_clock_now();
    for (unsigned i = 0; i < MVPN_DNS_SOCKETS_MAX && s->count > 0; i++) {
        if (s->slots[i].fd >= 0) {
            forget(s, &s->slots[i], NULL, now);
        }
    }
    s->is_timed = s->count > 0;
    if (s->is_timed) {
        mvpn_loop_timer_set(s->timer, CHECK_MS);
    }
}

static asked *find_asked(dns_slot *slot, uint16_t id)
{
    for (unsigned i = 0; i < MVPN_DNS_SOCKETS_SHARE; i++) {
        if (slot->asked[i].until != 0 && slot->asked[i].id == id) {
            return &slot->asked[i];
        }
    }
    return NULL;
}

static void receive(mvpn_dns_sockets *s, dns_slot *slot)
{
    for (unsigned i = 0; i < RECV_MAX && slot->fd >= 0; i++) {
        mvpn_packet *p = mvpn_packet_new(s->pool);
        if (p == NULL) {
            return; /* it waits in the socket */
        }
        ssize_t n = recv(slot->fd, p->data, MVPN_PACKET_ROOM, MSG_TRUNC | MSG_DONTWAIT);
        asked *a = n >= MVPN_DNS_HEADER && n <= MVPN_PACKET_ROOM
                       ? find_asked(slot, mvpn_load16(p->data))
                       : NULL;
        if (a == NULL) {
            mvpn_packet_free(s->pool, p);
            if (n < 0) { /* nothing more; or "port unreachable": the exit notices by time */
                return;
            }
            continue;
        }
        p->len = (uint32_t)n;
        p->remote = slot->remote;
        p->local = MVPN_LOCAL_DNS;
        mvpn_packet_queue_push(s->received, p);
        forget(s, slot, a, 0);
    }
}

static void on_ready(void *ctx, unsigned events)
{
    mvpn_dns_sockets *s = ctx;
    struct epoll_event ready[EVENTS];
    (void)events;
    int n = epoll_wait(s->epoll, ready, EVENTS, 0);
    for (int i = 0; i < n; i++) {
        dns_slot *slot = ready[i].data.ptr;
        if (slot->fd >= 0) {
            receive(s, slot);
        }
    }
}

static bool open_slot(mvpn_dns_sockets *s, dns_slot *slot, const mvpn_addr *remote)
{
    struct sockaddr_storage to;
    socklen_t len = mvpn_sockaddr_from_addr(remote, &to);
    slot->fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (slot->fd < 0) {
        return false;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
    if (connect(slot->fd, (struct sockaddr *)&to, len) != 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, slot->fd, &event) != 0) {
        (void)close(slot->fd);
        slot->fd = -1;
        return false;
    }
    slot->remote = *remote;
    s->count++;
    return true;
}

static asked *free_asked(dns_slot *slot)
{
    for (unsigned i = 0; i < MVPN_DNS_SOCKETS_SHARE; i++) {
        if (slot->asked[i].until == 0) {
            return &slot->asked[i];
        }
    }
    return NULL;
}

/* A new socket; when there are too many, one that asks the same resolver. */
static dns_slot *take_slot(mvpn_dns_sockets *s, const mvpn_addr *remote)
{
    for (unsigned i = 0; s->count < MVPN_DNS_SOCKETS_MAX && i < MVPN_DNS_SOCKETS_MAX; i++) {
        if (s->slots[i].fd < 0) {
            return open_slot(s, &s->slots[i], remote) ? &s->slots[i] : NULL;
        }
    }
    for (unsigned i = 0; i < MVPN_DNS_SOCKETS_MAX; i++) {
        dns_slot *slot = &s->slots[s->next++ % MVPN_DNS_SOCKETS_MAX];
        if (mvpn_addr_eq(&slot->remote, remote) && free_asked(slot) != NULL) {
            return slot;
        }
    }
    return NULL;
}

void mvpn_dns_sockets_send(mvpn_dns_sockets *s, mvpn_packet_queue *queue, mvpn_time now)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(queue)) != NULL) {
        dns_slot *slot = p->len >= MVPN_DNS_HEADER ? take_slot(s, &p->remote) : NULL;
        if (slot != NULL) {
            asked *a = free_asked(slot);
            *a = (asked){mvpn_load16(p->data), now + MVPN_DNS_TIMEOUT};
            if (send(slot->fd, p->data, p->len, MSG_NOSIGNAL) < 0) {
                forget(s, slot, a, 0);
            }
        }
        mvpn_packet_free(s->pool, p);
    }
    if (s->count > 0 && !s->is_timed) {
        s->is_timed = true;
        mvpn_loop_timer_set(s->timer, CHECK_MS);
    }
}

unsigned mvpn_dns_sockets_count(const mvpn_dns_sockets *s)
{
    return s->count;
}

int mvpn_dns_sockets_new(mvpn_loop *loop, mvpn_packet_pool *pool, mvpn_packet_queue *received,
                         mvpn_dns_sockets **ret, mvpn_fault *fault)
{
    mvpn_dns_sockets *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    s->loop = loop;
    s->pool = pool;
    s->received = received;
    for (unsigned i = 0; i < MVPN_DNS_SOCKETS_MAX; i++) {
        s->slots[i].fd = -1;
    }
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    int r = s->epoll >= 0 ? mvpn_loop_timer_new(loop, on_timer, s, &s->timer) : MVPN_E_SYSTEM;
    r = r != 0 ? r : mvpn_loop_watch_fd(loop, s->epoll, MVPN_LOOP_READABLE, on_ready, s, &s->watch);
    if (r != 0) {
        mvpn_dns_sockets_free(s);
        return mvpn_fault_set(fault, r, "cannot watch the sockets to the name servers");
    }
    *ret = s;
    return 0;
}

void mvpn_dns_sockets_free(mvpn_dns_sockets *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned i = 0; i < MVPN_DNS_SOCKETS_MAX; i++) {
        if (s->slots[i].fd >= 0) {
            close_slot(s, &s->slots[i]);
        }
    }
    mvpn_loop_unwatch(s->watch);
    mvpn_loop_timer_free(s->timer);
    if (s->epoll >= 0) {
        (void)close(s->epoll);
    }
    free(s);
}
