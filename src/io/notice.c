#include "io/notice.h"

#include <string.h>

#include "base/error.h"
#include "io/file.h"
#include "io/metrics.h"

static const char default_page[] =
    "<!doctype html>\n"
    "<html lang=\"en\">\n"
    "<meta charset=\"utf-8\">\n"
    "<title>This is an exit of a MeshVPN network</title>\n"
    "<h1>This is an exit of a MeshVPN network</h1>\n"
    "<p>You probably came here because of traffic from this address. It does not come from this\n"
    "machine: MeshVPN passes what its users send through several relays, so that nobody on the "
    "way\n"
    "knows both who they are and whom they talk to. This machine is the last of these relays.</p>\n"
    "<p>Its operator cannot tell who sent what: the machine knows only the relay before it, and "
    "it\n"
    "keeps no records of connections. Taking it away would give no answer either.</p>\n"
    "<p>The operator can refuse traffic to your addresses or ports from now on. Write to the "
    "contact\n"
    "that the registry of addresses (RIPE, ARIN, APNIC, LACNIC, AFRINIC) names for this one.</p>\n"
    "</html>\n";

static bool is_get(const mvpn_http_request *request)
{
    return strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
}

static void give_status(mvpn_http_response *ret, unsigned status, const char *text)
{
    ret->status = status;
    ret->type = "text/plain; charset=utf-8";
    ret->body = mvpn_http_blob_copy(text, strlen(text));
}

void mvpn_notice_on_metrics(void *ctx, const mvpn_http_request *request, mvpn_http_response *ret)
{
    const mvpn_notice *n = ctx;
    const char *const names[] = {"localhost", n->host};
    char text[MVPN_METRICS_SIZE];
    if (!is_get(request)) {
        give_status(ret, 405, "only GET and HEAD are served\n");
    } else if (request->host == NULL ||
               !mvpn_http_host_is_ours(request->host, names, MVPN_ARRAY_LEN(names))) {
        give_status(ret, 421, "this server does not answer for that name\n");
    } else if (strcmp(request->target, "/metrics") != 0) {
        give_status(ret, 404, "there is only /metrics\n");
    } else {
        ret->status = 200;
        ret->type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ret->body = mvpn_http_blob_copy(text, mvpn_metrics_write(n->exit, text));
    }
}

/* For whoever asks under whatever name: it is the same for all, and says nothing. */
void mvpn_notice_on_page(void *ctx, const mvpn_http_request *request, mvpn_http_response *ret)
{
    const mvpn_notice *n = ctx;
    if (!is_get(request)) {
        give_status(ret, 405, "only GET and HEAD are served\n");
    } else if (strcmp(request->target, "/") != 0) {
        give_status(ret, 404, "there is only one page\n");
    } else {
        ret->status = 200;
        ret->type = "text/html; charset=utf-8";
        ret->body = mvpn_http_blob_hold(n->page);
    }
}

static int read_page(mvpn_notice *n, const char *path, mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t size = 0;
    if (strcmp(path, "default") == 0) {
        n->page = mvpn_http_blob_copy(default_page, sizeof(default_page) - 1);
        return n->page != NULL ? 0 : mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    int r = mvpn_file_read(path, MVPN_NOTICE_MAX, false, &content, &size, fault);
    if (r != 0) {
        return r == MVPN_E_UNKNOWN ? MVPN_E_CONFIG : r;
    }
    n->page = mvpn_http_blob_copy(content, size);
    mvpn_file_free(content, size);
    return n->page != NULL ? 0 : mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
}

/* The first address of each family; where it is not the host's own (a cloud's NAT), all of them. */
static int open_pages(mvpn_notice *n, const mvpn_notice_options *o, mvpn_fault *fault)
{
    int r = 0;
    unsigned count = 0;
    for (unsigned family = 4; r == 0 && family <= 6; family += 2) {
        const mvpn_addr *own = NULL;
        for (size_t i = o->own_count; i > 0; i--) {
            own = o->own[i - 1].family == family ? &o->own[i - 1] : own;
        }
        if (own == NULL) {
            continue;
        }
        mvpn_http_options http = {
            .loop = o->loop, .listen = *own, .handler = mvpn_notice_on_page, .ctx = n};
        http.listen.port = MVPN_NOTICE_PORT;
        if (mvpn_http_open(&n->pages[count], &http, NULL) != 0) {
            http.listen = (mvpn_addr){.family = (uint8_t)family, .port = MVPN_NOTICE_PORT};
            r = mvpn_http_open(&n->pages[count], &http, fault);
        }
        count += r == 0;
    }
    if (r == 0 && count == 0) {
        r = mvpn_fault_set(fault, MVPN_E_CONFIG,
                           "exit_notice: the configuration names no 'address' to show it at");
    }
    return r;
}

int mvpn_notice_open(mvpn_notice *n, const mvpn_notice_options *o, mvpn_fault *fault)
{
    int r = 0;
    *n = (mvpn_notice){.exit = o->exit};
    if (o->metrics.family != 0) {
        mvpn_addr host = o->metrics;
        host.port = 0;
        (void)mvpn_addr_format(&host, n->host);
        if (host.family == 6) { /* as a Host header has it */
            size_t len = strlen(n->host);
            memmove(n->host + 1, n->host, len);
            n->host[0] = '[';
            n->host[len + 1] = ']';
            n->host[len + 2] = '\0';
        }
        mvpn_http_options http = {
            .loop = o->loop, .listen = o->metrics, .handler = mvpn_notice_on_metrics, .ctx = n};
        r = mvpn_http_open(&n->metrics, &http, fault);
    }
    if (r == 0 && o->page[0] != '\0') {
        r = read_page(n, o->page, fault);
        r = r != 0 ? r : open_pages(n, o, fault);
    }
    return r;
}

void mvpn_notice_close(mvpn_notice *n)
{
    mvpn_http_close(n->metrics);
    for (unsigned i = 0; i < MVPN_NOTICE_LISTEN_MAX; i++) {
        mvpn_http_close(n->pages[i]);
    }
    mvpn_http_blob_release(n->page);
    *n = (mvpn_notice){.exit = NULL};
}
