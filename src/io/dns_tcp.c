#include "io/dns_tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/keys.h"
#include "exit/dns.h"
#include "exit/dns_message.h"
#include "io/clock.h"
#include "io/sockaddr.h"

#define PORT_DNS 53
#define BACKLOG 32
#define CHECK_MS 1000
#define PREFIX 2 /* length of the message that follows, RFC 1035 §4.2.2 */
/* The answer is written over the query: room for the longest that the exit has at hand. */
#define QUERY_ROOM (PREFIX + MVPN_DNS_TCP_QUERY_MAX)
#define ANSWER_ROOM (PREFIX + MVPN_DNS_MESSAGE_MAX)

_Static_assert(MVPN_DNS_TCP_QUERY_MAX >= 512, "an answer from the cache must fit");

/* One direction of one socket: `done` of `len` bytes. */
typedef struct transfer {
    uint8_t *bytes;
    size_t len, done;
} transfer;

enum state {
    FREE,
    READING,  /* a query */
    ASKING,   /* connecting to the resolver, sending */
    AWAITING, /* its answer */
    WRITING,  /* the answer */
};

typedef struct connection {
    struct mvpn_dns_tcp *tcp;
    enum state state;
    int fd, up_fd; /* up_fd: -1 if none is asked */
    mvpn_loop_watch *watch, *up_watch;
    mvpn_addr peer, upstream;
    mvpn_time opened, progress;
    transfer in;     /* the query; of READING and ASKING */
    transfer answer; /* of AWAITING and WRITING; ANSWER_ROOM bytes, or borrowed from `in` */
    bool owns_answer;
} connection;

struct mvpn_dns_tcp {
    mvpn_loop *loop;
    mvpn_exit *exit;
    int listen_fd[2];
    mvpn_loop_watch *listen_watch[2];
    mvpn_loop_timer *timer;
    unsigned count;
    connection connections[MVPN_DNS_TCP_MAX];
};

static void drop_upstream(connection *c)
{
    mvpn_loop_unwatch(c->up_watch);
    c->up_watch = NULL;
    if (c->up_fd >= 0) {
        (void)close(c->up_fd);
    }
    c->up_fd = -1;
}

static void drop_answer(connection *c)
{
    if (c->owns_answer) {
        mvpn_wipe(c->answer.bytes, c->answer.len);
        free(c->answer.bytes);
    }
    c->owns_answer = false;
    c->answer = (transfer){NULL, 0, 0};
}

static void drop_connection(connection *c)
{
    drop_upstream(c);
    drop_answer(c);
    mvpn_loop_unwatch(c->watch);
    (void)close(c->fd);
    mvpn_wipe(c->in.bytes, QUERY_ROOM);
    free(c->in.bytes);
    c->tcp->count--;
    *c = (connection){.tcp = c->tcp, .state = FREE, .fd = -1, .up_fd = -1};
}

/* ---- moving bytes ---- */

/* True when all of `len` are there; false to wait; `*ret_ended` if the connection is over. */
static bool receive(int fd, transfer *t, bool *ret_ended)
{
    while (t->done < t->len) {
        ssize_t n = recv(fd, t->bytes + t->done, t->len - t->done, MSG_DONTWAIT);
        if (n <= 0) {
            *ret_ended = n == 0 || (errno != EAGAIN && errno != EINTR);
            return false;
        }
        t->done += (size_t)n;
    }
    return true;
}

static bool transmit(int fd, transfer *t, bool *ret_ended)
{
    while (t->done < t->len) {
        ssize_t n = send(fd, t->bytes + t->done, t->len - t->done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            *ret_ended = errno != EAGAIN && errno != EINTR;
            return false;
        }
        t->done += (size_t)n;
    }
    return true;
}

/* A message with its length: first the length alone is waited for. */
static bool receive_message(int fd, transfer *t, size_t room, bool *ret_ended)
{
    if (t->len == 0) {
        t->len = PREFIX;
    }
    if (!receive(fd, t, ret_ended)) {
        return false;
    }
    if (t->len == PREFIX) {
        size_t n = mvpn_load16(t->bytes);
        if (n < MVPN_DNS_HEADER || PREFIX + n > room) {
            *ret_ended = true;
            return false;
        }
        t->len = PREFIX + n;
    }
    return receive(fd, t, ret_ended);
}

/* ---- one step after another ---- */

static void step(connection *c);

static void on_ready(void *ctx, unsigned events)
{
    (void)events;
    step(ctx);
}

static bool ask_upstream(connection *c)
{
    struct sockaddr_storage to;
    socklen_t len = mvpn_sockaddr_from_addr(&c->upstream, &to);
    c->up_fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->up_fd < 0 ||
        (connect(c->up_fd, (struct sockaddr *)&to, len) != 0 && errno != EINPROGRESS) ||
        mvpn_loop_watch_fd(c->tcp->loop, c->up_fd, MVPN_LOOP_WRITABLE, on_ready, c, &c->up_watch) !=
            0) {
        return false;
    }
    c->in.done = 0; /* now it is sent */
    c->state = ASKING;
    mvpn_loop_watch_set(c->watch, 0);
    return true;
}

static bool begin_writing(connection *c)
{
    c->answer.done = 0;
    c->state = WRITING;
    mvpn_loop_watch_set(c->watch, MVPN_LOOP_WRITABLE);
    return true;
}

/* A whole query is there. False: the connection ends. */
static bool take_query(connection *c, mvpn_time now)
{
    uint32_t len = (uint32_t)(c->in.len - PREFIX);
    uint16_t number = (uint16_t)(c - c->tcp->connections);
    int r = mvpn_exit_stream_query(c->tcp->exit, &c->peer, number, c->in.bytes + PREFIX, &len,
                                   MVPN_DNS_TCP_QUERY_MAX, now, &c->upstream);
    if (r < 0) {
        return false;
    }
    mvpn_store16(c->in.bytes, (uint16_t)len);
    c->in.len = PREFIX + len;
    if (r == MVPN_DNS_ANSWERED) {
        c->answer = c->in; /* borrowed */
        return begin_writing(c);
    }
    return ask_upstream(c);
}

static bool await_answer(connection *c)
{
    c->answer.bytes = malloc(ANSWER_ROOM);
    if (c->answer.bytes == NULL) {
        return false;
    }
    c->owns_answer = true;
    c->state = AWAITING;
    mvpn_loop_watch_set(c->up_watch, MVPN_LOOP_READABLE);
    return true;
}

static bool take_answer(connection *c, mvpn_time now)
{
    uint32_t len = (uint32_t)(c->answer.len - PREFIX);
    uint16_t number = 0;
    drop_upstream(c);
    if (mvpn_exit_stream_answer(c->tcp->exit, &c->upstream, c->answer.bytes + PREFIX, &len, now,
                                &number) != 0 ||
        number != (uint16_t)(c - c->tcp->connections)) {
        return false;
    }
    mvpn_store16(c->answer.bytes, (uint16_t)len);
    c->answer.len = PREFIX + len;
    return begin_writing(c);
}

static bool next_query(connection *c)
{
    drop_answer(c);
    c->in.len = c->in.done = 0;
    c->state = READING;
    mvpn_loop_watch_set(c->watch, MVPN_LOOP_READABLE);
    return true;
}

static void step(connection *c)
{
    mvpn_time now = mvpn_clock_now();
    bool goes_on = true, ended = false;
    switch (c->state) {
    case READING:
        if (receive_message(c->fd, &c->in, QUERY_ROOM, &ended)) {
            goes_on = take_query(c, now);
        }
        break;
    case ASKING:
        if (transmit(c->up_fd, &c->in, &ended)) {
            goes_on = await_answer(c);
        }
        break;
    case AWAITING:
        if (receive_message(c->up_fd, &c->answer, ANSWER_ROOM, &ended)) {
            goes_on = take_answer(c, now);
        }
        break;
    case WRITING:
        if (transmit(c->fd, &c->answer, &ended)) {
            goes_on = next_query(c);
        }
        break;
    case FREE:
        return;
    }
    if (ended || !goes_on) {
        drop_connection(c);
        return;
    }
    c->progress = now;
}

/* ---- connections that come and go ---- */

static void on_timer(void *ctx)
{
    mvpn_dns_tcp *tcp = ctx;
    mvpn_time now = mvpn_clock_now();
    for (unsigned i = 0; i < MVPN_DNS_TCP_MAX; i++) {
        connection *c = &tcp->connections[i];
        if (c->state != FREE &&
            (now - c->progress >= MVPN_DNS_TCP_IDLE || now - c->opened >= MVPN_DNS_TCP_LIFE)) {
            drop_connection(c);
        }
    }
    if (tcp->count > 0) {
        mvpn_loop_timer_set(tcp->timer, CHECK_MS);
    }
}

static connection *take_connection(mvpn_dns_tcp *tcp, const mvpn_addr *peer)
{
    connection *found = NULL;
    unsigned of_peer = 0;
    for (unsigned i = 0; i < MVPN_DNS_TCP_MAX; i++) {
        connection *c = &tcp->connections[i];
        if (c->state == FREE) {
            found = c;
        } else {
            of_peer += mvpn_addr_ip_eq(&c->peer, peer);
        }
    }
    return of_peer < MVPN_DNS_TCP_SESSION_MAX ? found : NULL;
}

static void accept_one(mvpn_dns_tcp *tcp, int fd, const mvpn_addr *peer)
{
    mvpn_time now = mvpn_clock_now();
    connection *c = take_connection(tcp, peer);
    uint8_t *room = c == NULL ? NULL : malloc(QUERY_ROOM);
    if (room == NULL ||
        mvpn_loop_watch_fd(tcp->loop, fd, MVPN_LOOP_READABLE, on_ready, c, &c->watch) != 0) {
        free(room);
        (void)close(fd);
        return;
    }
    c->state = READING;
    c->fd = fd;
    c->peer = *peer;
    c->opened = c->progress = now;
    c->in = (transfer){room, 0, 0};
    if (tcp->count++ == 0) {
        mvpn_loop_timer_set(tcp->timer, CHECK_MS);
    }
}

static void on_listen(mvpn_dns_tcp *tcp, int listen_fd)
{
    for (unsigned i = 0; i < BACKLOG; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = accept4(listen_fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            return;
        }
        mvpn_addr peer = mvpn_sockaddr_to_addr(&from);
        accept_one(tcp, fd, &peer);
    }
}

static void on_listen_v4(void *ctx, unsigned events)
{
    mvpn_dns_tcp *tcp = ctx;
    (void)events;
    on_listen(tcp, tcp->listen_fd[0]);
}

static void on_listen_v6(void *ctx, unsigned events)
{
    mvpn_dns_tcp *tcp = ctx;
    (void)events;
    on_listen(tcp, tcp->listen_fd[1]);
}

static int listen_at(mvpn_dns_tcp *tcp, unsigned i, const mvpn_dns_tcp_options *o,
                     mvpn_fault *fault)
{
    struct sockaddr_storage at;
    mvpn_addr a = o->listen[i];
    const int on = 1;
    a.port = a.port != 0 ? a.port : PORT_DNS;
    socklen_t len = mvpn_sockaddr_from_addr(&a, &at);
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 && a.family == 6) {
        return 0;
    }
    tcp->listen_fd[i] = fd;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (a.family == 6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
        (o->device != NULL && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, o->device,
                                         (socklen_t)strlen(o->device) + 1) != 0)) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot listen for DNS by TCP");
    }
    if (bind(fd, (struct sockaddr *)&at, len) != 0 || listen(fd, BACKLOG) != 0) {
        if (a.family == 6 && errno == EADDRNOTAVAIL) {
            (void)close(fd);
            tcp->listen_fd[i] = -1;
            return 0;
        }
        return mvpn_fault_errno(
            fault, errno == EADDRINUSE ? MVPN_E_CONFIG : MVPN_E_SYSTEM, errno,
            "cannot listen for DNS by TCP at the TUN device%s",
            errno == EADDRINUSE ? " (a name server of this host listens on all addresses)" : "");
    }
    return mvpn_loop_watch_fd(tcp->loop, fd, MVPN_LOOP_READABLE,
                              i == 0 ? on_listen_v4 : on_listen_v6, tcp, &tcp->listen_watch[i]);
}

int mvpn_dns_tcp_open(const mvpn_dns_tcp_options *o, mvpn_dns_tcp **ret, mvpn_fault *fault)
{
    mvpn_dns_tcp *tcp = calloc(1, sizeof(*tcp));
    if (tcp == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    tcp->loop = o->loop;
    tcp->exit = o->exit;
    tcp->listen_fd[0] = tcp->listen_fd[1] = -1;
    for (unsigned i = 0; i < MVPN_DNS_TCP_MAX; i++) {
        tcp->connections[i] = (connection){.tcp = tcp, .fd = -1, .up_fd = -1};
    }
    int r = mvpn_loop_timer_new(o->loop, on_timer, tcp, &tcp->timer);
    for (unsigned i = 0; r == 0 && i < 2; i++) {
        r = o->listen[i].family == 0 ? 0 : listen_at(tcp, i, o, fault);
    }
    if (r != 0) {
        mvpn_dns_tcp_close(tcp);
        return r;
    }
    *ret = tcp;
    return 0;
}

void mvpn_dns_tcp_close(mvpn_dns_tcp *tcp)
{
    if (tcp == NULL) {
        return;
    }
    for (unsigned i = 0; i < MVPN_DNS_TCP_MAX; i++) {
        if (tcp->connections[i].state != FREE) {
            drop_connection(&tcp->connections[i]);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        mvpn_loop_unwatch(tcp->listen_watch[i]);
        if (tcp->listen_fd[i] >= 0) {
            (void)close(tcp->listen_fd[i]);
        }
    }
    mvpn_loop_timer_free(tcp->timer);
    free(tcp);
}

unsigned mvpn_dns_tcp_count(const mvpn_dns_tcp *tcp)
{
    return tcp->count;
}
