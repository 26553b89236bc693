#include "io/proxy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/list.h"
#include "io/clock.h"
#include "io/proxy_lookup.h"
#include "io/proxy_udp.h"
#include "io/random.h"
#include "io/sockaddr.h"
#include "network/proxy/request.h"

#define TICK_MS 100
/* How often it is looked whether a group was left for long. */
#define GROUPS_MS 5000
/* A program sends its request at once. */
#define READING_TIME MVPN_S(30)
/* Name and connection; the tunnel itself may just be connecting. */
#define CONNECT_TIME MVPN_S(45)
/* So that a refusal is read before the connection is closed. */
#define LAST_WORDS_TIME MVPN_S(2)
/* For data to a program that sends no more: mostly it is gone, and the other end as well. */
#define HALF_CLOSED_TIME MVPN_S(600)
/* Before the next address of a name is tried beside the first. (RFC 8305 §5) */
#define NEXT_ADDRESS_TIME MVPN_MS(250)
/* Read of a program at once, and how often in one turn. */
#define CHUNK 65536
#define CHUNKS 4
#define PIECES 64
/* Descriptors that are not connections' own. */
#define OTHER_FDS 64

enum state {
    READING,
    LOOKING,
    CONNECTING,
    OPEN,
    ASSOCIATED,
    LAST_WORDS,
};

typedef struct connection connection;

typedef struct attempt {
    connection *c;
    mvpn_stream *stream;
} attempt;

struct connection {
    mvpn_list all;
    mvpn_proxy *proxy;
    enum state state;
    int fd;
    mvpn_loop_watch *watch;
    mvpn_time deadline; /* MVPN_TIME_NEVER when OPEN (both ways) or ASSOCIATED */
    bool has_group;
    unsigned group;              /* whose circuits it uses: the lane in the stack */
    mvpn_proxy_request *request; /* NULL when OPEN */
    mvpn_proxy_lookup *lookup;
    mvpn_addr addrs[MVPN_PROXY_ADDRS_MAX]; /* to be tried, in order */
    attempt attempts[MVPN_PROXY_ADDRS_MAX];
    size_t addr_count, tried;
    mvpn_time last_try;
    int error; /* of the attempt that got furthest */
    mvpn_proxy_udp *udp;

    mvpn_stream *stream; /* OPEN */
    uint8_t *held;       /* read of the program, and no memory in the stack for it now */
    size_t held_len, held_at;
    bool has_program_ended; /* it will send no more */
    bool has_told_end;      /* nor shall we */
    bool is_full;           /* the program does not read */
};

typedef struct listener {
    mvpn_proxy *proxy;
    enum mvpn_proxy_kind kind;
    int fd;
    mvpn_loop_watch *watch;
} listener;

struct mvpn_proxy {
    mvpn_loop *loop;
    mvpn_netstack *stack;
    listener listeners[2];
    size_t listener_count;
    mvpn_list connections;
    unsigned connections_max;
    mvpn_proxy_stats stats;
    mvpn_loop_timer *timer;
    bool is_ticking;
    mvpn_proxy_groups groups;
    int (*open_group)(void *ctx, unsigned group);
    void (*close_group)(void *ctx, unsigned group);
    void *ctx;
    mvpn_loop_timer *group_timer;
    uint8_t buf[CHUNK];
};

static void on_stream(void *ctx, unsigned events);
static void try_next(connection *c);

/* ---- connections come and go ---- */

static void set_listening(mvpn_proxy *p, bool is)
{
    for (size_t i = 0; i < p->listener_count; i++) {
        mvpn_loop_watch_set(p->listeners[i].watch, is ? MVPN_LOOP_READABLE : 0);
    }
}

static void free_attempts(connection *c, const mvpn_stream *but)
{
    for (size_t i = 0; i < c->tried; i++) {
        if (c->attempts[i].stream != but) {
            mvpn_stream_free(c->attempts[i].stream, true);
        }
        c->attempts[i].stream = NULL;
    }
}

/* `is_abort`: the program and the other end see a reset, not an end. */
static void close_connection(connection *c, bool is_abort)
{
    mvpn_proxy *p = c->proxy;
    static const struct linger at_once = {.l_onoff = 1};
    if (c->fd >= 0) {
        mvpn_loop_unwatch(c->watch);
        if (is_abort) {
            (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        }
        (void)close(c->fd);
    }
    free_attempts(c, NULL);
    mvpn_stream_free(c->stream, is_abort);
    mvpn_proxy_lookup_free(c->lookup);
    if (c->udp != NULL) {
        mvpn_proxy_udp_free(c->udp);
        p->stats.associations--;
    }
    if (c->has_group) {
        mvpn_proxy_groups_leave(&p->groups, c->group, mvpn_clock_now());
    }
    free(c->request);
    free(c->held);
    mvpn_list_remove(&c->all);
    free(c);
    p->stats.connections--;
    set_listening(p, true);
}

static void set_watch(connection *c)
{
    unsigned events = 0;
    switch (c->state) {
    case READING:
    case ASSOCIATED:
    case LAST_WORDS:
        events = MVPN_LOOP_READABLE;
        break;
    case LOOKING:
    case CONNECTING:
        break;
    case OPEN:
        if (mvpn_stream_room(c->stream) == 0) {
            (void)mvpn_stream_write(c->stream, NULL, 0); /* an event tells of room */
        } else if (!c->has_program_ended && c->held == NULL) {
            events |= MVPN_LOOP_READABLE;
        }
        events |= c->is_full ? MVPN_LOOP_WRITABLE : 0;
        break;
    }
    mvpn_loop_watch_set(c->watch, events);
}

static void start_ticking(mvpn_proxy *p)
{
    if (!p->is_ticking) {
        p->is_ticking = true;
        mvpn_loop_timer_set(p->timer, TICK_MS);
    }
}

static void enter(connection *c, enum state state, mvpn_time time)
{
    c->state = state;
    c->deadline = time == 0 ? MVPN_TIME_NEVER : mvpn_clock_now() + time;
    set_watch(c);
    start_ticking(c->proxy);
}

/* A few bytes into an empty socket buffer. False: the program is gone. */
static bool send_reply(connection *c)
{
    mvpn_proxy_request *r = c->request;
    size_t n = r->reply_len;
    r->reply_len = 0;
    return n == 0 || send(c->fd, r->reply, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
}

static void say_last_words(connection *c)
{
    c->proxy->stats.failed++;
    if (!send_reply(c) || shutdown(c->fd, SHUT_WR) != 0) {
        close_connection(c, false);
        return;
    }
    enter(c, LAST_WORDS, LAST_WORDS_TIME);
}

static void refuse(connection *c, enum mvpn_proxy_result result)
{
    static const mvpn_addr none = {0};
    mvpn_proxy_lookup_free(c->lookup);
    c->lookup = NULL;
    free_attempts(c, NULL);
    mvpn_proxy_request_answer(c->request, result, &none);
    say_last_words(c);
}

static enum mvpn_proxy_result result_of(int error)
{
    switch (error) {
    case MVPN_E_POLICY:
        return MVPN_PROXY_NOT_ALLOWED;
    case MVPN_E_REFUSED:
        return MVPN_PROXY_CONNECTION_REFUSED;
    case MVPN_E_TIMEOUT:
        return MVPN_PROXY_TIMED_OUT;
    case MVPN_E_UNKNOWN:
        return MVPN_PROXY_HOST_UNREACHABLE;
    default:
        return MVPN_PROXY_FAILED;
    }
}

/* ---- groups ---- */

/* Who asks is known: the connection belongs to his group from now on. False: there is none left for
 * him, and he is not let into another's. */
static bool join_group(connection *c)
{
    mvpn_proxy *p = c->proxy;
    unsigned number;
    bool begins, ends;
    if (mvpn_proxy_groups_enter(&p->groups, &c->request->user, mvpn_clock_now(), &number, &begins,
                                &ends) != 0) {
        p->stats.refused_groups++;
        return false;
    }
    if (ends) {
        p->close_group(p->ctx, number);
    }
    if (begins && p->open_group(p->ctx, number) != 0) {
        mvpn_proxy_groups_forget(&p->groups, number);
        return false;
    }
    mvpn_wipe(&c->request->user, sizeof(c->request->user));
    c->has_group = true;
    c->group = number;
    return true;
}

static void end_idle_groups(void *ctx)
{
    mvpn_proxy *p = ctx;
    unsigned number;
    while ((number = mvpn_proxy_groups_expire(&p->groups, mvpn_clock_now())) != 0) {
        p->close_group(p->ctx, number);
    }
    mvpn_loop_timer_set(p->group_timer, GROUPS_MS);
}

/* ---- data ---- */

/* Returns false if the connection is closed. */
static bool pump_up(connection *c)
{
    mvpn_proxy *p = c->proxy;
    for (unsigned i = 0; i < CHUNKS; i++) {
        if (c->held != NULL) {
            c->held_at +=
                mvpn_stream_write(c->stream, c->held + c->held_at, c->held_len - c->held_at);
            if (c->held_at < c->held_len) {
                return true;
            }
            free(c->held);
            c->held = NULL;
        }
        size_t room = mvpn_stream_room(c->stream);
        if (room == 0 || c->has_program_ended) {
            return true;
        }
        ssize_t n = recv(c->fd, p->buf, MVPN_MIN(room, sizeof(p->buf)), MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                return true;
            }
            close_connection(c, true);
            return false;
        }
        if (n == 0) {
            c->has_program_ended = true;
            mvpn_stream_shutdown(c->stream);
            return true;
        }
        size_t taken = mvpn_stream_write(c->stream, p->buf, (size_t)n);
        if (taken < (size_t)n) {
            c->held_len = (size_t)n - taken;
            c->held_at = 0;
            c->held = malloc(c->held_len);
            if (c->held == NULL) {
                close_connection(c, true);
                return false;
            }
            memcpy(c->held, p->buf + taken, c->held_len);
            return true;
        }
    }
    return true;
}

/* Likewise. */
static bool pump_down(connection *c)
{
    struct iovec pieces[PIECES];
    struct msghdr m = {.msg_iov = pieces};
    c->is_full = false;
    while ((m.msg_iovlen = mvpn_stream_peek(c->stream, pieces, PIECES)) > 0) {
        ssize_t n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                c->is_full = true;
                return true;
            }
            close_connection(c, true);
            return false;
        }
        mvpn_stream_consume(c->stream, (size_t)n);
    }
    if (mvpn_stream_error(c->stream) != 0) {
        close_connection(c, true);
        return false;
    }
    if (mvpn_stream_has_ended(c->stream)) {
        if (!c->has_told_end) {
            c->has_told_end = true;
            (void)shutdown(c->fd, SHUT_WR);
        }
        if (c->has_program_ended && c->held == NULL) {
            close_connection(c, false);
            return false;
        }
    }
    return true;
}

/* ---- CONNECT ---- */

/* Returns false if the connection is closed. */
static bool open_connection(connection *c, mvpn_stream *stream)
{
    mvpn_addr local = mvpn_stream_local(stream);
    c->stream = stream;
    free_attempts(c, stream);
    mvpn_proxy_request_answer(c->request, MVPN_PROXY_OK, &local);
    bool is_there = send_reply(c);
    size_t early = c->request->len;
    if (is_there && early > 0) { /* sent behind the request, before our answer */
        is_there = mvpn_stream_write(stream, c->request->buf, early) == early;
    }
    if (!is_there) {
        close_connection(c, true);
        return false;
    }
    free(c->request);
    c->request = NULL;
    c->proxy->stats.connected++;
    enter(c, OPEN, 0);
    return true;
}

static void on_attempt(void *ctx, unsigned events)
{
    attempt *a = ctx;
    connection *c = a->c;
    mvpn_stream *stream = a->stream;
    if (events & MVPN_STREAM_FAILED) {
        c->error = mvpn_stream_error(stream);
        mvpn_stream_free(stream, true);
        a->stream = NULL;
        try_next(c);
    } else if (events & MVPN_STREAM_CONNECTED) {
        mvpn_stream_set_handler(stream, on_stream, c);
        if (open_connection(c, stream)) {
            on_stream(c, events); /* data may have come already */
        }
    }
}

static bool is_trying(const connection *c)
{
    for (size_t i = 0; i < c->tried; i++) {
        if (c->attempts[i].stream != NULL) {
            return true;
        }
    }
    return false;
}

/* The next address that is worth a try; when all have failed, say so. */
static void try_next(connection *c)
{
    while (c->tried < c->addr_count) {
        attempt *a = &c->attempts[c->tried];
        a->c = c;
        int r = mvpn_stream_connect(c->proxy->stack, c->group, &c->addrs[c->tried++], on_attempt, a,
                                    &a->stream);
        c->last_try = mvpn_clock_now();
        if (r == 0) {
            return;
        }
        c->error = r;
    }
    if (!is_trying(c)) {
        refuse(c, result_of(c->error));
    }
}

static void on_found(void *ctx, int error, const mvpn_addr *addrs, size_t count)
{
    connection *c = ctx;
    mvpn_proxy_lookup_free(c->lookup);
    c->lookup = NULL;
    if (error != 0) {
        refuse(c, result_of(error));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        c->addrs[i] = addrs[i];
        c->addrs[i].port = c->request->target.addr.port;
    }
    c->addr_count = count;
    c->state = CONNECTING;
    try_next(c);
}

static void begin_connect(connection *c)
{
    const mvpn_proxy_target *t = &c->request->target;
    if (t->addr.family != 0) {
        c->addrs[0] = t->addr;
        c->addr_count = 1;
        enter(c, CONNECTING, CONNECT_TIME);
        try_next(c);
    } else if (!mvpn_proxy_is_name(t->name)) {
        refuse(c, MVPN_PROXY_NOT_ALLOWED);
    } else if (mvpn_proxy_lookup_start(c->proxy->stack, c->group, t->name, mvpn_clock_now(),
                                       on_found, c, &c->lookup) != 0) {
        refuse(c, MVPN_PROXY_FAILED);
    } else {
        enter(c, LOOKING, CONNECT_TIME);
    }
}

/* ---- UDP ASSOCIATE ---- */

static void begin_association(connection *c)
{
    mvpn_proxy *p = c->proxy;
    struct sockaddr_storage local, peer;
    socklen_t local_len = sizeof(local), peer_len = sizeof(peer);
    mvpn_addr bound;
    bool ok = p->stats.associations < MVPN_PROXY_ASSOCIATIONS_MAX &&
              getsockname(c->fd, (struct sockaddr *)&local, &local_len) == 0 &&
              getpeername(c->fd, (struct sockaddr *)&peer, &peer_len) == 0;
    if (ok) {
        mvpn_addr from = mvpn_sockaddr_to_addr(&local), to = mvpn_sockaddr_to_addr(&peer);
        ok = mvpn_proxy_udp_new(p->loop, p->stack, c->group, &from, &to, &c->udp, &bound) == 0;
    }
    if (!ok) {
        refuse(c, MVPN_PROXY_FAILED);
        return;
    }
    p->stats.associations++;
    p->stats.connected++;
    mvpn_proxy_request_answer(c->request, MVPN_PROXY_OK, &bound);
    if (send_reply(c)) {
        enter(c, ASSOCIATED, 0);
    } else {
        close_connection(c, false);
    }
}

/* ---- what happens ---- */

static void read_request(connection *c)
{
    mvpn_proxy_request *r = c->request;
    size_t room;
    uint8_t *to = mvpn_proxy_request_room(r, &room);
    ssize_t n = recv(c->fd, to, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        close_connection(c, false);
        return;
    }
    mvpn_proxy_request_filled(r, (size_t)n);
    if (r->state == MVPN_PROXY_REFUSED) {
        say_last_words(c);
    } else if (!send_reply(c)) {
        close_connection(c, false);
    } else if (r->state == MVPN_PROXY_ASKED && !join_group(c)) {
        refuse(c, MVPN_PROXY_NO_GROUP);
    } else if (r->state == MVPN_PROXY_ASKED && r->command == MVPN_PROXY_CONNECT) {
        begin_connect(c);
    } else if (r->state == MVPN_PROXY_ASKED) {
        begin_association(c);
    }
}

/* Nothing is expected any more: only the end counts. */
static void read_end(connection *c)
{
    ssize_t n = recv(c->fd, c->proxy->buf, sizeof(c->proxy->buf), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        close_connection(c, false);
    }
}

static void give_time(connection *c)
{
    if (c->has_program_ended) {
        c->deadline = mvpn_clock_now() + HALF_CLOSED_TIME;
        start_ticking(c->proxy);
    }
}

static void on_program(void *ctx, unsigned events)
{
    connection *c = ctx;
    switch (c->state) {
    case READING:
        read_request(c);
        break;
    case LOOKING:
    case CONNECTING:
        break;
    case ASSOCIATED:
    case LAST_WORDS:
        read_end(c);
        break;
    case OPEN:
        if ((events & MVPN_LOOP_READABLE) != 0 && !pump_up(c)) {
            return;
        }
        if (pump_down(c)) {
            give_time(c);
            set_watch(c);
        }
        break;
    }
}

static void on_stream(void *ctx, unsigned events)
{
    connection *c = ctx;
    if ((events & MVPN_STREAM_WRITABLE) != 0 && !pump_up(c)) {
        return;
    }
    if (pump_down(c)) {
        give_time(c);
        set_watch(c);
    }
}

static void on_tick(void *ctx)
{
    mvpn_proxy *p = ctx;
    mvpn_time now = mvpn_clock_now();
    bool goes_on = false;
    MVPN_LIST_FOREACH_SAFE(it, next, &p->connections)
    {
        connection *c = MVPN_CONTAINER_OF(it, connection, all);
        goes_on = goes_on || c->deadline != MVPN_TIME_NEVER || c->state == ASSOCIATED;
        if (c->deadline <= now && (c->state == LOOKING || c->state == CONNECTING)) {
            refuse(c, MVPN_PROXY_TIMED_OUT);
        } else if (c->deadline <= now) {
            close_connection(c, false);
        } else if (c->state == LOOKING) {
            mvpn_proxy_lookup_tick(c->lookup, now);
        } else if (c->state == CONNECTING && c->tried < c->addr_count &&
                   now - c->last_try >= NEXT_ADDRESS_TIME) {
            try_next(c);
        } else if (c->state == ASSOCIATED) {
            mvpn_proxy_udp_tick(c->udp, now);
        }
    }
    p->is_ticking = goes_on;
    if (goes_on) {
        mvpn_loop_timer_set(p->timer, TICK_MS);
    }
    set_listening(p, p->stats.connections < p->connections_max);
}

/* ---- listening ---- */

static int accept_one(listener *l)
{
    static const int on = 1;
    mvpn_proxy *p = l->proxy;
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return errno == EAGAIN ? MVPN_E_AGAIN : MVPN_E_SYSTEM;
    }
    connection *c = calloc(1, sizeof(*c));
    mvpn_proxy_request *request = malloc(sizeof(*request));
    if (c == NULL || request == NULL ||
        mvpn_loop_watch_fd(p->loop, fd, 0, on_program, c, &c->watch) != 0) {
        (void)close(fd);
        free(request);
        free(c);
        return MVPN_E_NOMEM;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c->proxy = p;
    c->fd = fd;
    c->request = request;
    mvpn_proxy_request_init(request, l->kind);
    mvpn_list_append(&p->connections, &c->all);
    p->stats.connections++;
    p->stats.accepted++;
    enter(c, READING, READING_TIME);
    return 0;
}

static void on_listener(void *ctx, unsigned events)
{
    listener *l = ctx;
    int r = 0;
    (void)events;
    while (r == 0 && l->proxy->stats.connections < l->proxy->connections_max) {
        r = accept_one(l);
    }
    if (r != MVPN_E_AGAIN) { /* full, or no descriptors: when one ends, or with the next tick */
        set_listening(l->proxy, false);
        start_ticking(l->proxy);
    }
}

static int listen_on(mvpn_proxy *p, enum mvpn_proxy_kind kind, const mvpn_addr *addr,
                     mvpn_fault *fault)
{
    static const int on = 1;
    struct sockaddr_storage sa;
    char text[MVPN_ADDR_STRLEN];
    listener *l = &p->listeners[p->listener_count];
    socklen_t len = mvpn_sockaddr_from_addr(addr, &sa);
    l->proxy = p;
    l->kind = kind;
    l->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    p->listener_count++;
    if (l->fd < 0 || setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (addr->family == 6 && setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
        bind(l->fd, (struct sockaddr *)&sa, len) != 0 || listen(l->fd, SOMAXCONN) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_CONFIG, errno,
                                "cannot listen on %s: choose another address or port",
                                mvpn_addr_format(addr, text));
    }
    int r = mvpn_loop_watch_fd(p->loop, l->fd, MVPN_LOOP_READABLE, on_listener, l, &l->watch);
    return r == 0 ? 0 : mvpn_fault_set(fault, r, "cannot watch a socket: %s", mvpn_strerror(r));
}

/* As many connections as descriptors allow. */
static unsigned count_fds(void)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)MVPN_PROXY_CONNECTIONS_MAX + MVPN_PROXY_ASSOCIATIONS_MAX + OTHER_FDS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = MVPN_MIN(limit.rlim_max, wanted);
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* else fewer */
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) {
        return MVPN_PROXY_CONNECTIONS_MAX;
    }
    /* Each might be an association. */
    return limit.rlim_cur > OTHER_FDS + 2 ? (unsigned)(limit.rlim_cur - OTHER_FDS) / 2 : 1;
}

int mvpn_proxy_new(const mvpn_proxy_options *options, mvpn_proxy **ret, mvpn_fault *fault)
{
    mvpn_proxy *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    p->loop = options->loop;
    p->stack = options->stack;
    p->open_group = options->open_group;
    p->close_group = options->close_group;
    p->ctx = options->ctx;
    p->connections_max = count_fds();
    mvpn_list_init(&p->connections);
    uint8_t key[sizeof(p->groups.key)];
    int r = mvpn_random_bytes(key, sizeof(key));
    mvpn_proxy_groups_init(&p->groups, key);
    mvpn_wipe(key, sizeof(key));
    r = r != 0 ? r : mvpn_loop_timer_new(p->loop, on_tick, p, &p->timer);
    r = r != 0 ? r : mvpn_loop_timer_new(p->loop, end_idle_groups, p, &p->group_timer);
    if (r != 0) {
        (void)mvpn_fault_set(fault, r, "out of memory");
    }
    if (r == 0 && options->socks.family != 0) {
        r = listen_on(p, MVPN_PROXY_SOCKS, &options->socks, fault);
    }
    if (r == 0 && options->http.family != 0) {
        r = listen_on(p, MVPN_PROXY_HTTP, &options->http, fault);
    }
    if (r != 0) {
        mvpn_proxy_free(p);
        return r;
    }
    mvpn_loop_timer_set(p->group_timer, GROUPS_MS);
    *ret = p;
    return 0;
}

void mvpn_proxy_free(mvpn_proxy *p)
{
    if (p == NULL) {
        return;
    }
    while (p->connections.next != NULL && !mvpn_list_is_empty(&p->connections)) {
        close_connection(MVPN_CONTAINER_OF(p->connections.next, connection, all), true);
    }
    for (size_t i = 0; i < p->listener_count; i++) {
        mvpn_loop_unwatch(p->listeners[i].watch);
        if (p->listeners[i].fd >= 0) {
            (void)close(p->listeners[i].fd);
        }
    }
    mvpn_loop_timer_free(p->timer);
    mvpn_loop_timer_free(p->group_timer);
    free(p);
}

const mvpn_proxy_stats *mvpn_proxy_get_stats(const mvpn_proxy *p)
{
    return &p->stats;
}

const mvpn_proxy_group *mvpn_proxy_get_groups(const mvpn_proxy *p)
{
    return p->groups.of;
}
