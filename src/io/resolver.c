#include "io/resolver.h"

#include <ares.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "io/file.h"
#include "io/libraries.h"
#include "io/resolv_conf.h"
#include "io/sockaddr.h"

#define DEFAULT_TIMEOUT_MS 3000
#define DEFAULT_TRIES 2
/* Classes and types of RFC 1035 §3.2. */
#define CLASS_IN 1
#define TYPE_TXT 16

struct watched {
    mvpn_resolver *resolver;
    mvpn_loop_watch *watch; /* NULL: slot is free */
    ares_socket_t fd;
};

struct mvpn_resolver {
    mvpn_loop *loop;
    mvpn_loop_timer *timer;
    ares_channel channel;
    bool has_channel;
    const mvpn_marker *marker;
    struct watched watched[ARES_GETSOCK_MAXNUM];
};

struct request {
    mvpn_resolver_txt_fn *txt;
    mvpn_resolver_host_fn *host;
    void *ctx;
};

/* ---- c-ares on the loop ---- */

static void arm(mvpn_resolver *r)
{
    struct timeval tv;
    if (ares_timeout(r->channel, NULL, &tv) == NULL) {
        mvpn_loop_timer_clear(r->timer);
        return;
    }
    mvpn_loop_timer_set(r->timer, (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1);
}

static void timer_fired(void *ctx)
{
    mvpn_resolver *r = ctx;
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm(r);
}

static void fd_ready(void *ctx, unsigned events)
{
    struct watched *w = ctx;
    mvpn_resolver *r = w->resolver;
    ares_socket_t fd = w->fd;
    ares_process_fd(r->channel, (events & MVPN_LOOP_READABLE) != 0 ? fd : ARES_SOCKET_BAD,
                    (events & MVPN_LOOP_WRITABLE) != 0 ? fd : ARES_SOCKET_BAD);
    arm(r);
}

static struct watched *slot_of(mvpn_resolver *r, ares_socket_t fd)
{
    struct watched *unused = NULL;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(r->watched); i++) {
        struct watched *w = &r->watched[i];
        if (w->watch != NULL && w->fd == fd) {
            return w;
        }
        unused = w->watch == NULL && unused == NULL ? w : unused;
    }
    return unused;
}

/* c-ares wants to hear of this socket; of none of both when it is about to close it. */
static void socket_state(void *ctx, ares_socket_t fd, int readable, int writable)
{
    mvpn_resolver *r = ctx;
    struct watched *w = slot_of(r, fd);
    unsigned events = (readable ? MVPN_LOOP_READABLE : 0u) | (writable ? MVPN_LOOP_WRITABLE : 0u);
    if (w == NULL) {
        return; /* too many at once: its query times out */
    }
    if (events == 0) {
        mvpn_loop_unwatch(w->watch);
        w->watch = NULL;
    } else if (w->watch != NULL) {
        mvpn_loop_watch_set(w->watch, events);
    } else {
        w->resolver = r;
        w->fd = fd;
        if (mvpn_loop_watch_fd(r->loop, fd, events, fd_ready, w, &w->watch) != 0) {
            w->watch = NULL; /* as above */
        }
    }
}

static int socket_made(ares_socket_t fd, int type, void *ctx)
{
    const mvpn_resolver *r = ctx;
    (void)type;
    return mvpn_mark_socket(fd, r->marker);
}

/* ---- life ---- */

/*
 * Where the system's name servers stand. Behind systemd-resolved's stub the question would go on
 * without our mark, and the kill switch would drop it: whom the stub asks is in a file beside.
 */
static const char *settings_path(void)
{
    static const char uplinks[] = "/run/systemd/resolve/resolv.conf";
    uint8_t *text = NULL;
    size_t n = 0;
    if (mvpn_file_read("/etc/resolv.conf", MVPN_RESOLV_CONF_MAX, false, &text, &n, NULL) != 0) {
        return NULL;
    }
    bool is_stub = mvpn_resolv_conf_is_stub(mvpn_bytes_of(text, n));
    mvpn_file_free(text, n);
    return is_stub && access(uplinks, R_OK) == 0 ? uplinks : NULL;
}

static int set_server(mvpn_resolver *r, const mvpn_addr *server)
{
    char text[MVPN_ADDR_STRLEN];
    (void)mvpn_addr_format(server, text);
    return ares_set_servers_ports_csv(r->channel, text);
}

int mvpn_resolver_new(const mvpn_resolver_options *options, mvpn_resolver **ret, mvpn_fault *fault)
{
    mvpn_resolver *r = calloc(1, sizeof(*r));
    if (r == NULL || mvpn_libraries_begin() != 0) {
        free(r);
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for a resolver");
    }
    r->loop = options->loop;
    r->marker = options->marker;
    int rc = mvpn_loop_timer_new(r->loop, timer_fired, r, &r->timer);
    if (rc != 0) {
        mvpn_resolver_free(r);
        return mvpn_fault_set(fault, rc, "no memory for a resolver");
    }
    struct ares_options o = {
        .flags = ARES_FLAG_NOSEARCH,
        .timeout = (int)(options->timeout_ms != 0 ? options->timeout_ms : DEFAULT_TIMEOUT_MS),
        .tries = (int)(options->tries != 0 ? options->tries : DEFAULT_TRIES),
        .sock_state_cb = socket_state,
        .sock_state_cb_data = r,
    };
    const char *path = options->server == NULL ? settings_path() : NULL;
    o.resolvconf_path = (char *)(uintptr_t)path; /* only read, and copied */
    int status =
        ares_init_options(&r->channel, &o,
                          ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                              ARES_OPT_SOCK_STATE_CB | (path != NULL ? ARES_OPT_RESOLVCONF : 0));
    r->has_channel = status == ARES_SUCCESS;
    if (status == ARES_SUCCESS) {
        ares_set_socket_callback(r->channel, socket_made, r);
        status = options->server != NULL ? set_server(r, options->server) : ARES_SUCCESS;
    }
    if (status != ARES_SUCCESS) {
        mvpn_resolver_free(r);
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "cannot make a resolver: %s",
                              ares_strerror(status));
    }
    *ret = r;
    return 0;
}

void mvpn_resolver_free(mvpn_resolver *r)
{
    if (r == NULL) {
        return;
    }
    if (r->has_channel) {
        ares_destroy(r->channel);
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(r->watched); i++) {
        mvpn_loop_unwatch(r->watched[i].watch);
    }
    mvpn_loop_timer_free(r->timer);
    free(r);
}

void mvpn_resolver_cancel(mvpn_resolver *r)
{
    ares_cancel(r->channel);
    arm(r);
}

/* ---- questions ---- */

static int code_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
    case ARES_ENONAME:
        return MVPN_E_UNKNOWN;
    case ARES_ETIMEOUT:
        return MVPN_E_TIMEOUT;
    case ARES_EFORMERR:
    case ARES_EBADRESP:
    case ARES_EBADNAME:
        return MVPN_E_FORMAT;
    case ARES_ECANCELLED:
    case ARES_EDESTRUCTION:
        return MVPN_E_CLOSED;
    case ARES_ENOMEM:
        return MVPN_E_NOMEM;
    default:
        return MVPN_E_REFUSED;
    }
}

static void txt_came(void *arg, int status, int timeouts, unsigned char *bytes, int len)
{
    struct request *q = arg;
    (void)timeouts;
    q->txt(q->ctx, code_of(status), ares_strerror(status),
           status == ARES_SUCCESS ? mvpn_bytes_of(bytes, (size_t)len) : MVPN_BYTES_NONE);
    free(q);
}

static void host_came(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct request *q = arg;
    mvpn_addr addrs[MVPN_RESOLVER_ADDRS_MAX];
    size_t count = 0;
    (void)timeouts;
    for (const struct ares_addrinfo_node *n = info != NULL ? info->nodes : NULL; n != NULL;
         n = n->ai_next) {
        struct sockaddr_storage sa = {0};
        if (count < MVPN_ARRAY_LEN(addrs) && n->ai_addrlen <= sizeof(sa)) {
            memcpy(&sa, n->ai_addr, n->ai_addrlen);
            addrs[count] = mvpn_sockaddr_to_addr(&sa);
            count += addrs[count].family != 0;
        }
    }
    int err = code_of(status);
    q->host(q->ctx, err == 0 && count == 0 ? MVPN_E_UNKNOWN : err, ares_strerror(status), addrs,
            count);
    if (info != NULL) {
        ares_freeaddrinfo(info);
    }
    free(q);
}

int mvpn_resolver_txt(mvpn_resolver *r, const char *name, mvpn_resolver_txt_fn *fn, void *ctx)
{
    struct request *q = malloc(sizeof(*q));
    if (q == NULL) {
        return MVPN_E_NOMEM;
    }
    *q = (struct request){.txt = fn, .ctx = ctx};
    ares_query(r->channel, name, CLASS_IN, TYPE_TXT, txt_came, q);
    arm(r);
    return 0;
}

int mvpn_resolver_host(mvpn_resolver *r, const char *host, mvpn_resolver_host_fn *fn, void *ctx)
{
    struct request *q = malloc(sizeof(*q));
    if (q == NULL) {
        return MVPN_E_NOMEM;
    }
    *q = (struct request){.host = fn, .ctx = ctx};
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    ares_getaddrinfo(r->channel, host, NULL, &hints, host_came, q);
    arm(r);
    return 0;
}
