#include "io/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/bucket.h"
#include "base/error.h"
#include "base/list.h"
#include "io/clock.h"
#include "io/sockaddr.h"

/* How often time-outs are looked for. */
#define STEP_MS 50
/* Rounds of one wake-up: others want the loop too. */
#define ROUNDS_MAX 32

struct mvpn_http {
    struct MHD_Daemon *daemon;
    mvpn_loop_watch *watch;
    mvpn_http_handler *handler;
    void *ctx;
    mvpn_list connections;
    mvpn_bucket rate;
    mvpn_time life;
};

typedef struct connection {
    mvpn_list link;
    int fd;
    mvpn_time began;
} connection;

typedef struct request {
    bool is_begun, is_too_long;
    char target[MVPN_HTTP_TARGET_MAX + 1];
} request;

/* ---- bodies ---- */

mvpn_http_blob *mvpn_http_blob_new(uint8_t *bytes, size_t n)
{
    mvpn_http_blob *blob = bytes == NULL ? NULL : calloc(1, sizeof(*blob));
    if (blob == NULL) {
        free(bytes);
        return NULL;
    }
    *blob = (mvpn_http_blob){.refs = 1, .n = n, .bytes = bytes};
    return blob;
}

mvpn_http_blob *mvpn_http_blob_copy(const void *bytes, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (copy != NULL && n > 0) {
        memcpy(copy, bytes, n);
    }
    return mvpn_http_blob_new(copy, n);
}

mvpn_http_blob *mvpn_http_blob_hold(mvpn_http_blob *blob)
{
    if (blob != NULL) {
        blob->refs++;
    }
    return blob;
}

void mvpn_http_blob_release(mvpn_http_blob *blob)
{
    if (blob != NULL && --blob->refs == 0) {
        free(blob->bytes);
        free(blob);
    }
}

static void blob_free(void *cls)
{
    mvpn_http_blob_release(cls);
}

/* ---- names ---- */

bool mvpn_http_host_is_ours(const char *host, const char *const *names, size_t count)
{
    size_t n = strcspn(host, ":");
    if (host[0] == '[') { /* an IPv6 address keeps its brackets */
        const char *end = strchr(host, ']');
        n = end == NULL ? 0 : (size_t)(end - host) + 1;
    }
    const char *rest = host + n;
    if (n == 0 || (rest[0] != '\0' && (rest[0] != ':' || strspn(rest + 1, "0123456789") > 5 ||
                                       rest[1 + strspn(rest + 1, "0123456789")] != '\0'))) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) == n && strncasecmp(names[i], host, n) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- answers ---- */

static const char *const always[][2] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
};

/* Takes the body. */
static enum MHD_Result answer(struct MHD_Connection *c, mvpn_http_response *r)
{
    mvpn_http_blob *body = r->body;
    struct MHD_Response *m =
        body == NULL ? MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT)
                     : MHD_create_response_from_buffer_with_free_callback_cls(body->n, body->bytes,
                                                                              blob_free, body);
    if (m == NULL) {
        mvpn_http_blob_release(body);
        return MHD_NO; /* out of memory: the connection ends */
    }
    enum MHD_Result ok = MHD_YES;
    for (size_t i = 0; ok == MHD_YES && i < MVPN_ARRAY_LEN(always); i++) {
        ok = MHD_add_response_header(m, always[i][0], always[i][1]);
    }
    if (ok == MHD_YES) {
        ok = MHD_add_response_header(m, "Cache-Control", r->cache != NULL ? r->cache : "no-store");
    }
    if (ok == MHD_YES && r->type != NULL) {
        ok = MHD_add_response_header(m, "Content-Type", r->type);
    }
    if (ok == MHD_YES && r->etag[0] != '\0') {
        ok = MHD_add_response_header(m, "ETag", r->etag);
    }
    if (ok == MHD_YES && r->status == 405) {
        ok = MHD_add_response_header(m, "Allow", "GET, HEAD");
    }
    if (ok == MHD_YES && (r->status == 429 || r->status == 503)) {
        ok = MHD_add_response_header(m, "Retry-After", "2");
    }
    if (ok == MHD_YES) {
        ok = MHD_queue_response(c, r->status, m);
    }
    MHD_destroy_response(m);
    return ok;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *json)
{
    mvpn_http_response r = {
        .status = status,
        .type = "application/json",
        .body = mvpn_http_blob_copy(json, strlen(json)),
    };
    return answer(c, &r);
}

static bool has_body(struct MHD_Connection *c)
{
    const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Transfer-Encoding") != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **con_cls)
{
    mvpn_http *http = cls;
    request *q = *con_cls;
    (void)url;
    (void)version;
    (void)upload;
    (void)upload_size;
    if (q == NULL) {
        return MHD_NO; /* no memory */
    }
    bool is_get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (!is_get) {
        return refuse(c, 405,
                      "{\"schema\":\"meshvpn.error/1\",\"error\":"
                      "\"only GET and HEAD are served\"}\n");
    }
    if (has_body(c)) {
        return refuse(c, 413,
                      "{\"schema\":\"meshvpn.error/1\",\"error\":"
                      "\"requests have no body here\"}\n");
    }
    if (q->is_too_long) {
        return refuse(c, 414,
                      "{\"schema\":\"meshvpn.error/1\",\"error\":"
                      "\"the address is too long\"}\n");
    }
    if (!q->is_begun) {
        q->is_begun = true; /* answered when the whole request is there: keeps the connection */
        return MHD_YES;
    }
    if (!mvpn_bucket_take(&http->rate, 1, mvpn_clock_now())) {
        return refuse(c, 429,
                      "{\"schema\":\"meshvpn.error/1\",\"error\":"
                      "\"too many requests; try again soon\"}\n");
    }
    mvpn_http_request r = {
        .method = method,
        .target = q->target,
        .host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host"),
        .if_none_match = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "If-None-Match"),
    };
    mvpn_http_response response = {.status = 500};
    http->handler(http->ctx, &r, &response);
    return answer(c, &response);
}

/* ---- connections ---- */

/* The target before anything is decoded; what it returns becomes the request's own pointer. */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *c)
{
    (void)cls;
    (void)c;
    request *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return NULL;
    }
    size_t n = strlen(uri);
    q->is_too_long = n > MVPN_HTTP_TARGET_MAX;
    memcpy(q->target, uri, q->is_too_long ? 0 : n);
    return q;
}

static void on_completed(void *cls, struct MHD_Connection *c, void **con_cls,
                         enum MHD_RequestTerminationCode toe)
{
    (void)cls;
    (void)c;
    (void)toe;
    free(*con_cls);
    *con_cls = NULL;
}

static void on_connection(void *cls, struct MHD_Connection *c, void **socket_ctx,
                          enum MHD_ConnectionNotificationCode toe)
{
    mvpn_http *http = cls;
    if (toe == MHD_CONNECTION_NOTIFY_CLOSED) {
        connection *con = *socket_ctx;
        if (con != NULL) {
            mvpn_list_remove(&con->link);
            free(con);
        }
        *socket_ctx = NULL;
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    connection *con = info == NULL ? NULL : calloc(1, sizeof(*con));
    *socket_ctx = con;
    if (con != NULL) {
        con->fd = info->connect_fd;
        con->began = mvpn_clock_now();
        mvpn_list_append(&http->connections, &con->link);
    }
}

/* Names and values stay as they came. */
static size_t keep_escapes(void *cls, struct MHD_Connection *c, char *s)
{
    (void)cls;
    (void)c;
    return strlen(s);
}

static void run(mvpn_http *http)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    for (unsigned i = 0; i < ROUNDS_MAX; i++) {
        if (MHD_run(http->daemon) != MHD_YES ||
            MHD_get_timeout(http->daemon, &timeout) != MHD_YES || timeout > 0) {
            return;
        }
    }
}

static void on_ready(void *ctx, unsigned events)
{
    (void)events;
    run(ctx);
}

/* A byte now and then keeps no connection for ever. */
static void on_step(void *ctx)
{
    mvpn_http *http = ctx;
    mvpn_time now = mvpn_clock_now();
    MVPN_LIST_FOREACH(it, &http->connections)
    {
        const connection *con = MVPN_CONTAINER_OF(it, connection, link);
        if (now - con->began > http->life) {
            (void)shutdown(con->fd, SHUT_RDWR); /* the server sees its end and closes it */
        }
    }
    run(http);
}

static int start(mvpn_http *http, const mvpn_http_options *options, mvpn_fault *fault)
{
    struct sockaddr_storage sa;
    char text[MVPN_ADDR_STRLEN];
    unsigned flags = MHD_USE_EPOLL | (options->listen.family == 6 ? MHD_USE_IPv6 : 0);
    if (mvpn_sockaddr_from_addr(&options->listen, &sa) == 0) {
        return mvpn_fault_set(fault, MVPN_E_INVAL, "no address to listen at");
    }
    http->daemon = MHD_start_daemon(
        flags, options->listen.port, NULL, NULL, on_request, http, MHD_OPTION_SOCK_ADDR,
        (struct sockaddr *)&sa, MHD_OPTION_CONNECTION_LIMIT, (unsigned)MVPN_HTTP_CONNECTIONS,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)MVPN_HTTP_PER_ADDRESS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)MVPN_HTTP_IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MVPN_HTTP_REQUEST_MAX,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_END);
    if (http->daemon == NULL) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM,
                              "cannot listen for HTTP at %s: %s. Choose another http_listen",
                              mvpn_addr_format(&options->listen, text), strerror(errno));
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int r = info == NULL ? MVPN_E_SYSTEM
                         : mvpn_loop_watch_fd(options->loop, info->epoll_fd, MVPN_LOOP_READABLE,
                                              on_ready, http, &http->watch);
    r = r != 0 ? r : mvpn_loop_every(options->loop, STEP_MS, on_step, http);
    return r == 0 ? 0 : mvpn_fault_set(fault, r, "cannot serve HTTP: %s", mvpn_strerror(r));
}

int mvpn_http_open(mvpn_http **ret, const mvpn_http_options *options, mvpn_fault *fault)
{
    mvpn_http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    http->handler = options->handler;
    http->ctx = options->ctx;
    http->life = options->life_ms > 0 ? MVPN_MS(options->life_ms) : MVPN_S(MVPN_HTTP_LIFE_S);
    mvpn_list_init(&http->connections);
    mvpn_bucket_init(&http->rate, MVPN_HTTP_RATE, MVPN_HTTP_BURST, mvpn_clock_now());
    int r = start(http, options, fault);
    if (r != 0) {
        mvpn_http_close(http);
        return r;
    }
    *ret = http;
    return 0;
}

void mvpn_http_close(mvpn_http *http)
{
    if (http == NULL) {
        return;
    }
    mvpn_loop_unwatch(http->watch);
    if (http->daemon != NULL) {
        MHD_stop_daemon(http->daemon);
    }
    free(http);
}

uint16_t mvpn_http_port(const mvpn_http *http)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info == NULL ? 0 : info->port;
}
