#include "io/source_url.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/error.h"
#include "io/libraries.h"
#include "wire/bundle.h"

#define DEFAULT_TIMEOUT_MS 20000
#define PATH "/v1/bundle"
#define URL_MAX 512
/* "+host:port:" and addresses in brackets. */
#define RESOLVE_SIZE (URL_MAX + 16 + MVPN_RESOLVER_ADDRS_MAX * MVPN_ADDR_STRLEN)
#define WHY_SIZE (CURL_ERROR_SIZE + 128)

struct fetch {
    mvpn_fetcher *fetcher;
    bool is_active;
    struct lookup *lookup; /* the resolver will still call */
    CURL *easy;
    struct curl_slist *resolved;
    char url[URL_MAX];
    char host[URL_MAX];
    uint8_t *content;
    size_t size, room;
    bool is_too_big;
    uint64_t date;
    char why[CURL_ERROR_SIZE];
    mvpn_fetched_fn *fn;
    void *ctx;
};

/* Lives until the resolver has called, whatever became of the fetch. */
struct lookup {
    struct fetch *fetch; /* NULL: nobody waits any more */
    unsigned port;
};

struct watched {
    mvpn_fetcher *fetcher;
    mvpn_loop_watch *watch; /* NULL: slot is free */
    curl_socket_t fd;
};

struct mvpn_fetcher {
    mvpn_fetcher_options options;
    char *ca_file;
    CURLM *multi;
    mvpn_loop_timer *timer;
    struct fetch fetches[MVPN_FETCHES_MAX];
    /* One connection each, and one more while the other address family is tried. */
    struct watched watched[4 * MVPN_FETCHES_MAX];
};

/* ---- one fetch ---- */

static void release(struct fetch *f)
{
    if (f->easy != NULL) {
        (void)curl_multi_remove_handle(f->fetcher->multi, f->easy);
        curl_easy_cleanup(f->easy);
    }
    if (f->lookup != NULL) {
        f->lookup->fetch = NULL;
    }
    curl_slist_free_all(f->resolved);
    free(f->content);
    mvpn_fetcher *fetcher = f->fetcher;
    *f = (struct fetch){.fetcher = fetcher};
}

static void finish(struct fetch *f, int err, const char *why)
{
    char text[WHY_SIZE];
    (void)snprintf(text, sizeof(text), "%s", why);
    mvpn_fetched result = {.err = err, .why = text, .date = f->date};
    if (err == 0) {
        result.content = f->content;
        result.size = f->size;
        f->content = NULL;
    }
    mvpn_fetched_fn *fn = f->fn;
    void *ctx = f->ctx;
    release(f);
    fn(ctx, &result);
}

static size_t content_came(char *bytes, size_t one, size_t n, void *ctx)
{
    struct fetch *f = ctx;
    size_t size = one * n, max = f->fetcher->options.size_max;
    if (size > max - f->size) {
        f->is_too_big = true;
        return 0;
    }
    if (size > f->room - f->size) {
        size_t room = MVPN_MIN(MVPN_MAX(2 * f->room, f->size + size), max);
        uint8_t *grown = realloc(f->content, room);
        if (grown == NULL) {
            return 0;
        }
        f->content = grown;
        f->room = room;
    }
    if (size > 0) {
        memcpy(f->content + f->size, bytes, size);
    }
    f->size += size;
    return size;
}

static size_t header_came(char *line, size_t one, size_t n, void *ctx)
{
    struct fetch *f = ctx;
    char text[64];
    size_t len = one * n;
    if (len > 5 && len < sizeof(text) && strncasecmp(line, "date:", 5) == 0) {
        memcpy(text, line + 5, len - 5);
        text[len - 5] = '\0';
        time_t date = curl_getdate(text, NULL);
        f->date = date > 0 ? (uint64_t)date : 0;
    }
    return len;
}

static int socket_made(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
    const mvpn_fetcher *fetcher = ctx;
    /* Closed with a reset: a farewell would need answers, which the kill switch may not let out. */
    const struct linger at_once = {.l_onoff = 1};
    (void)purpose;
    MVPN_IGNORE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)));
    return mvpn_mark_socket(fd, fetcher->options.marker) == 0 ? CURL_SOCKOPT_OK
                                                              : CURL_SOCKOPT_ERROR;
}

/* Everything that curl would otherwise take from its surroundings is said here. */
static bool set_options(struct fetch *f)
{
    const mvpn_fetcher *fetcher = f->fetcher;
    CURL *e = f->easy;
    bool ok = curl_easy_setopt(e, CURLOPT_URL, f->url) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok = ok &&
         curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)fetcher->options.timeout_ms) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE,
                                (curl_off_t)fetcher->options.size_max) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK;
    ok = ok && (fetcher->ca_file == NULL ||
                curl_easy_setopt(e, CURLOPT_CAINFO, fetcher->ca_file) == CURLE_OK);
    ok = ok &&
         (f->resolved == NULL || curl_easy_setopt(e, CURLOPT_RESOLVE, f->resolved) == CURLE_OK);
    ok = ok && curl_easy_setopt(e, CURLOPT_ERRORBUFFER, f->why) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_PRIVATE, f) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, content_came) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_WRITEDATA, f) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, header_came) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_HEADERDATA, f) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, socket_made) == CURLE_OK;
    return ok && curl_easy_setopt(e, CURLOPT_SOCKOPTDATA, fetcher) == CURLE_OK;
}

static void start(struct fetch *f)
{
    f->easy = curl_easy_init();
    if (f->easy == NULL || !set_options(f) ||
        curl_multi_add_handle(f->fetcher->multi, f->easy) != CURLM_OK) {
        finish(f, MVPN_E_NOMEM, "no memory for a transfer");
    }
}

static void done(struct fetch *f, CURLcode code)
{
    long status = 0;
    char why[WHY_SIZE];
    const char *text = f->why[0] != '\0' ? f->why : curl_easy_strerror(code);
    (void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    if (f->is_too_big || code == CURLE_FILESIZE_EXCEEDED) {
        (void)snprintf(why, sizeof(why), "it sends more than the %zu bytes that are allowed",
                       f->fetcher->options.size_max);
        finish(f, MVPN_E_TOO_BIG, why);
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        finish(f, MVPN_E_TIMEOUT, "no whole answer in time");
    } else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
        (void)snprintf(why, sizeof(why), "%s (is the clock of this host right?)", text);
        finish(f, MVPN_E_AUTH, why);
    } else if (code != CURLE_OK) {
        finish(f, MVPN_E_SYSTEM, text);
    } else if (status != 200) {
        (void)snprintf(why, sizeof(why), "HTTP status %ld%s", status,
                       status >= 300 && status < 400
                           ? ", a redirect, which is not followed: the network file must name the "
                             "final address"
                           : "");
        finish(f, MVPN_E_REFUSED, why);
    } else {
        finish(f, 0, "");
    }
}

/* ---- curl on the loop ---- */

static void collect(mvpn_fetcher *fetcher)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(fetcher->multi, &left)) != NULL) {
        char *f = NULL;
        CURLcode code = m->data.result;
        if (m->msg == CURLMSG_DONE &&
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &f) == CURLE_OK) {
            done((struct fetch *)(void *)f, code);
        }
    }
}

static void drive(mvpn_fetcher *fetcher, curl_socket_t fd, int what)
{
    int running;
    (void)curl_multi_socket_action(fetcher->multi, fd, what, &running); /* told per transfer */
    collect(fetcher);
}

static void timer_fired(void *ctx)
{
    drive(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static int timer_wanted(CURLM *multi, long delay_ms, void *ctx)
{
    mvpn_fetcher *fetcher = ctx;
    (void)multi;
    if (delay_ms < 0) {
        mvpn_loop_timer_clear(fetcher->timer);
    } else {
        mvpn_loop_timer_set(fetcher->timer, (uint64_t)delay_ms);
    }
    return 0;
}

static void fd_ready(void *ctx, unsigned events)
{
    struct watched *w = ctx;
    int what = 0;
    what |= (events & MVPN_LOOP_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    what |= (events & MVPN_LOOP_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    drive(w->fetcher, w->fd, what);
}

static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    mvpn_fetcher *fetcher = ctx;
    struct watched *w = socket_ctx;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL) {
            mvpn_loop_unwatch(w->watch);
            w->watch = NULL;
        }
        return 0;
    }
    unsigned events = what == CURL_POLL_IN    ? MVPN_LOOP_READABLE
                      : what == CURL_POLL_OUT ? MVPN_LOOP_WRITABLE
                                              : MVPN_LOOP_READABLE | MVPN_LOOP_WRITABLE;
    if (w != NULL) {
        mvpn_loop_watch_set(w->watch, events);
        return 0;
    }
    for (size_t i = 0; w == NULL && i < MVPN_ARRAY_LEN(fetcher->watched); i++) {
        w = fetcher->watched[i].watch == NULL ? &fetcher->watched[i] : NULL;
    }
    if (w == NULL) {
        return 0; /* more sockets than there can be: this transfer times out */
    }
    w->fetcher = fetcher;
    w->fd = fd;
    if (mvpn_loop_watch_fd(fetcher->options.loop, fd, events, fd_ready, w, &w->watch) != 0) {
        w->watch = NULL;
        return 0; /* as above */
    }
    (void)curl_multi_assign(fetcher->multi, fd, w);
    return 0;
}

/* ---- life ---- */

int mvpn_fetcher_new(const mvpn_fetcher_options *options, mvpn_fetcher **ret)
{
    mvpn_fetcher *fetcher = calloc(1, sizeof(*fetcher));
    if (fetcher == NULL) {
        return MVPN_E_NOMEM;
    }
    fetcher->options = *options;
    mvpn_fetcher_options *o = &fetcher->options;
    o->size_max = o->size_max != 0 ? o->size_max : MVPN_BUNDLE_MAX;
    o->timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : DEFAULT_TIMEOUT_MS;
    fetcher->ca_file = o->ca_file != NULL ? strdup(o->ca_file) : NULL;
    fetcher->multi = mvpn_libraries_begin() == 0 ? curl_multi_init() : NULL;
    for (size_t i = 0; i < MVPN_FETCHES_MAX; i++) {
        fetcher->fetches[i].fetcher = fetcher;
    }
    CURLM *m = fetcher->multi;
    if (m == NULL || (o->ca_file != NULL && fetcher->ca_file == NULL) ||
        mvpn_loop_timer_new(o->loop, timer_fired, fetcher, &fetcher->timer) != 0 ||
        curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, socket_wanted) != CURLM_OK ||
        curl_multi_setopt(m, CURLMOPT_SOCKETDATA, fetcher) != CURLM_OK ||
        curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, timer_wanted) != CURLM_OK ||
        curl_multi_setopt(m, CURLMOPT_TIMERDATA, fetcher) != CURLM_OK) {
        mvpn_fetcher_free(fetcher);
        return MVPN_E_NOMEM;
    }
    *ret = fetcher;
    return 0;
}

void mvpn_fetcher_free(mvpn_fetcher *fetcher)
{
    if (fetcher == NULL) {
        return;
    }
    for (size_t i = 0; i < MVPN_FETCHES_MAX; i++) {
        release(&fetcher->fetches[i]);
    }
    if (fetcher->multi != NULL) {
        (void)curl_multi_cleanup(fetcher->multi);
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(fetcher->watched); i++) {
        mvpn_loop_unwatch(fetcher->watched[i].watch);
    }
    mvpn_loop_timer_free(fetcher->timer);
    free(fetcher->ca_file);
    free(fetcher);
}

/* ---- begin: the host's address first, by our own resolver ---- */

/* Tell curl the addresses: "host:port:address,address". */
static bool set_resolved(struct fetch *f, unsigned port, const mvpn_addr *addrs, size_t count)
{
    char text[RESOLVE_SIZE];
    size_t len = (size_t)snprintf(text, sizeof(text), "%s:%u:", f->host, port);
    for (size_t i = 0; i < count && len + MVPN_ADDR_STRLEN + 4 < sizeof(text); i++) {
        char addr[MVPN_ADDR_STRLEN];
        (void)mvpn_addr_format(&addrs[i], addr);
        const char *form = addrs[i].family == 6 ? "%s[%s]" : "%s%s";
        len += (size_t)snprintf(text + len, sizeof(text) - len, form, i > 0 ? "," : "", addr);
    }
    f->resolved = curl_slist_append(NULL, text);
    return f->resolved != NULL;
}

static void host_found(void *ctx, int err, const char *why, const mvpn_addr *addrs, size_t count)
{
    struct lookup *lookup = ctx;
    struct fetch *f = lookup->fetch;
    unsigned port = lookup->port;
    free(lookup);
    if (f == NULL) {
        return;
    }
    f->lookup = NULL;
    if (err != 0) {
        char text[WHY_SIZE];
        (void)snprintf(text, sizeof(text), "no address for its host: %s", why);
        finish(f, err, text);
    } else if (!set_resolved(f, port, addrs, count)) {
        finish(f, MVPN_E_NOMEM, "no memory for a transfer");
    } else {
        start(f);
    }
}

/* The host as the URL names it, and its port. False: no URL that we take. */
static bool split_url(struct fetch *f, unsigned *ret_port)
{
    CURLU *u = curl_url();
    char *host = NULL, *port = NULL, *scheme = NULL;
    bool ok = u != NULL &&
              curl_url_set(u, CURLUPART_URL, f->url, CURLU_DISALLOW_USER) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
              strlen(host) < sizeof(f->host);
    if (ok) {
        (void)snprintf(f->host, sizeof(f->host), "%s", host);
        *ret_port = (unsigned)strtoul(port, NULL, 10);
    }
    curl_free(host);
    curl_free(port);
    curl_free(scheme);
    curl_url_cleanup(u);
    return ok;
}

static bool is_address(const char *host)
{
    mvpn_addr addr;
    return host[0] == '[' || mvpn_addr_parse(host, &addr) == 0;
}

static void begin(struct fetch *f)
{
    unsigned port = 0;
    if (!split_url(f, &port)) {
        finish(f, MVPN_E_FORMAT, "not a URL of http or https");
        return;
    }
    if (is_address(f->host)) {
        start(f);
        return;
    }
    f->lookup = malloc(sizeof(*f->lookup));
    if (f->lookup == NULL) {
        finish(f, MVPN_E_NOMEM, "no memory for a transfer");
        return;
    }
    *f->lookup = (struct lookup){.fetch = f, .port = port};
    struct lookup *lookup = f->lookup; /* the call may come before this one returns */
    if (mvpn_resolver_host(f->fetcher->options.resolver, f->host, host_found, lookup) != 0) {
        free(lookup);
        f->lookup = NULL;
        finish(f, MVPN_E_NOMEM, "no memory for a transfer");
    }
}

int mvpn_fetcher_get(mvpn_fetcher *fetcher, const char *url, mvpn_fetched_fn *fn, void *ctx)
{
    struct fetch *f = NULL;
    for (size_t i = 0; f == NULL && i < MVPN_FETCHES_MAX; i++) {
        f = fetcher->fetches[i].is_active ? NULL : &fetcher->fetches[i];
    }
    if (f == NULL || strlen(url) + sizeof(PATH) > sizeof(f->url)) {
        return MVPN_E_LIMIT;
    }
    f->is_active = true;
    f->fn = fn;
    f->ctx = ctx;
    (void)snprintf(f->url, sizeof(f->url), "%s%s", url, PATH);
    begin(f);
    return 0;
}
