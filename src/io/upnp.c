#include "io/upnp.h"

#include <errno.h>
#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <miniupnpc/upnperrors.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "network/p2p/portmap.h"

#define SEARCH_MS 2000
#define SEARCH_TTL 2
/* Answers to a search that are looked at: anybody can send them. */
#define DEVICES_MAX 16
#define DESCRIPTION "MeshVPN"
/* UPnP Device Architecture, WANIPConnection:1 §2.4.16 */
#define ERROR_CONFLICT 718
#define ERROR_SAME_PORTS 724
#define ERROR_ONLY_PERMANENT 725
#define ERROR_NO_SUCH_ENTRY 714

/* Shared by the loop and the thread; whoever leaves last frees it. */
struct job {
    atomic_int users;
    atomic_bool is_done;
    int done_fd;
    mvpn_upnp_request request;
    int err;
    mvpn_addr external;
    mvpn_fault why;
};

struct mvpn_upnp {
    mvpn_loop *loop;
    mvpn_loop_timer *timer;
    mvpn_upnp_fn *fn;
    void *ctx;
    struct job *job; /* NULL: none */
    mvpn_loop_watch *watch;
    bool is_abandoned; /* its end was told */
};

/* ---- in the thread ---- */

bool mvpn_upnp_url_is_local(const char *url, const mvpn_addr *gateway)
{
    static const char scheme[] = "http://";
    char host[MVPN_ADDR_STRLEN];
    mvpn_addr a;
    if (url == NULL || strncmp(url, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    url += sizeof(scheme) - 1;
    size_t n = strcspn(url, ":/");
    if (n == 0 || n >= sizeof(host)) {
        return false;
    }
    memcpy(host, url, n);
    host[n] = '\0';
    static const struct {
        uint8_t net[4];
        unsigned bits;
    } private_nets[] = {
        {{10}, 8}, {{172, 16}, 12}, {{192, 168}, 16}, {{169, 254}, 16}, {{100, 64}, 10}};
    if (mvpn_addr_parse(host, &a) != 0 || a.family != 4 || !mvpn_addr_ip_eq(&a, gateway)) {
        return false;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(private_nets); i++) {
        if (mvpn_ip_in_prefix(a.ip, private_nets[i].net, 4, private_nets[i].bits)) {
            return true;
        }
    }
    return false;
}

static const char *bare(const mvpn_addr *a, char out[static MVPN_ADDR_STRLEN])
{
    mvpn_addr copy = *a;
    copy.port = 0;
    return mvpn_addr_format(&copy, out);
}

static int refused(struct job *j, const char *what, int code)
{
    const char *text = strupnperror(code);
    return mvpn_fault_set(&j->why, MVPN_E_REFUSED, "the gateway's UPnP does not %s: %s (%d)", what,
                          text != NULL ? text : "unknown error", code);
}

static int add(struct job *j, const struct UPNPUrls *urls, const char *service)
{
    char address[MVPN_ADDR_STRLEN] = "", client[MVPN_ADDR_STRLEN], inside[8], outside[8], lease[16];
    mvpn_addr external;
    int code = UPNP_GetExternalIPAddress(urls->controlURL, service, address);
    if (code != UPNPCOMMAND_SUCCESS) {
        return refused(j, "tell its address", code);
    }
    if (mvpn_addr_parse(address, &external) != 0 || external.port != 0) {
        external = (mvpn_addr){0};
    }
    const char *why = mvpn_portmap_refusal(&external, &j->request.client);
    if (why != NULL) {
        return mvpn_fault_set(&j->why, MVPN_E_REFUSED, "%s", why);
    }
    (void)bare(&j->request.client, client);
    (void)snprintf(inside, sizeof(inside), "%u", (unsigned)j->request.internal_port);
    (void)snprintf(lease, sizeof(lease), "%u", (unsigned)j->request.lifetime_s);
    for (size_t i = 0; i < MVPN_UPNP_PORTS; i++) {
        (void)snprintf(outside, sizeof(outside), "%u", (unsigned)j->request.external_ports[i]);
        code = UPNP_AddPortMapping(urls->controlURL, service, outside, inside, client, DESCRIPTION,
                                   "UDP", NULL, lease);
        if (code == ERROR_ONLY_PERMANENT) {
            /* Old gateways: then it ends with the program, or when the gateway restarts. */
            code = UPNP_AddPortMapping(urls->controlURL, service, outside, inside, client,
                                       DESCRIPTION, "UDP", NULL, "0");
        }
        if (code == UPNPCOMMAND_SUCCESS) {
            external.port = j->request.external_ports[i];
            j->external = external;
            return 0;
        }
        if (code != ERROR_CONFLICT && code != ERROR_SAME_PORTS) {
            break;
        }
    }
    return refused(j, "map the port", code);
}

static int delete (struct job *j, const struct UPNPUrls *urls, const char *service)
{
    char outside[8];
    (void)snprintf(outside, sizeof(outside), "%u", (unsigned)j->request.external_ports[0]);
    int code = UPNP_DeletePortMapping(urls->controlURL, service, outside, "UDP", NULL);
    return code == UPNPCOMMAND_SUCCESS || code == ERROR_NO_SUCH_ENTRY
               ? 0
               : refused(j, "delete the mapping", code);
}

/* It is there; what it calls its address is for people to read. */
static int look(struct job *j, const struct UPNPUrls *urls, const char *service)
{
    char address[MVPN_ADDR_STRLEN] = "";
    mvpn_addr external;
    if (UPNP_GetExternalIPAddress(urls->controlURL, service, address) == UPNPCOMMAND_SUCCESS &&
        mvpn_addr_parse(address, &external) == 0 && external.port == 0) {
        j->external = external;
    }
    return 0;
}

/* MVPN_E_AGAIN: this device is no gateway. */
static int talk(struct job *j, const char *url)
{
    struct UPNPUrls urls = {0};
    struct IGDdatas data = {.urlbase = ""};
    char lan[64];
    int r = MVPN_E_AGAIN;
    if (UPNP_GetIGDFromUrl(url, &urls, &data, lan, (int)sizeof(lan)) != 1) {
        return r;
    }
    /* The description may point anywhere. */
    if (data.first.servicetype[0] != '\0' &&
        mvpn_upnp_url_is_local(urls.controlURL, &j->request.gateway)) {
        r = j->request.search_only       ? look(j, &urls, data.first.servicetype)
            : j->request.lifetime_s == 0 ? delete (j, &urls, data.first.servicetype)
                                         : add(j, &urls, data.first.servicetype);
    }
    FreeUPNPUrls(&urls);
    return r;
}

static int work(struct job *j)
{
    char client[MVPN_ADDR_STRLEN];
    int error = 0, r = MVPN_E_AGAIN;
    struct UPNPDev *devices = upnpDiscover(SEARCH_MS, bare(&j->request.client, client), NULL,
                                           UPNP_LOCAL_PORT_ANY, 0, SEARCH_TTL, &error);
    unsigned seen = 0;
    for (const struct UPNPDev *d = devices; r == MVPN_E_AGAIN && d != NULL && seen < DEVICES_MAX;
         d = d->pNext, seen++) {
        if (mvpn_upnp_url_is_local(d->descURL, &j->request.gateway)) {
            r = talk(j, d->descURL);
        }
    }
    freeUPNPDevlist(devices);
    return r == MVPN_E_AGAIN
               ? mvpn_fault_set(&j->why, MVPN_E_UNKNOWN, "the gateway offers no UPnP port mapping")
               : r;
}

static void leave(struct job *j)
{
    if (atomic_fetch_sub(&j->users, 1) == 1) {
        (void)close(j->done_fd);
        free(j);
    }
}

static void *run(void *arg)
{
    struct job *j = arg;
    j->err = work(j);
    atomic_store(&j->is_done, true);
    (void)eventfd_write(j->done_fd, 1);
    leave(j);
    return NULL;
}

/* ---- on the loop ---- */

static void forget_job(mvpn_upnp *u)
{
    mvpn_loop_timer_clear(u->timer);
    mvpn_loop_unwatch(u->watch);
    u->watch = NULL;
    leave(u->job);
    u->job = NULL;
}

static void job_ended(mvpn_upnp *u)
{
    struct job *j = u->job;
    int err = j->err;
    mvpn_addr external = j->external;
    mvpn_fault why = j->why;
    bool is_told = u->is_abandoned;
    forget_job(u);
    if (!is_told) {
        u->fn(u->ctx, err, &external, why.text);
    }
}

static void done_readable(void *ctx, unsigned events)
{
    mvpn_upnp *u = ctx;
    (void)events;
    if (atomic_load(&u->job->is_done)) {
        job_ended(u);
    }
}

static void too_slow(void *ctx)
{
    mvpn_upnp *u = ctx;
    static const mvpn_addr none;
    u->is_abandoned = true;
    u->fn(u->ctx, MVPN_E_TIMEOUT, &none, "the gateway's UPnP takes too long");
}

int mvpn_upnp_new(mvpn_loop *loop, mvpn_upnp_fn *fn, void *ctx, mvpn_upnp **ret)
{
    mvpn_upnp *u = calloc(1, sizeof(*u));
    if (u == NULL) {
        return MVPN_E_NOMEM;
    }
    *u = (mvpn_upnp){.loop = loop, .fn = fn, .ctx = ctx};
    int r = mvpn_loop_timer_new(loop, too_slow, u, &u->timer);
    if (r != 0) {
        free(u);
        return r;
    }
    *ret = u;
    return 0;
}

void mvpn_upnp_free(mvpn_upnp *u)
{
    if (u == NULL) {
        return;
    }
    if (u->job != NULL) {
        forget_job(u);
    }
    mvpn_loop_timer_free(u->timer);
    free(u);
}

/* Signals are the loop's. */
static int start_thread(struct job *j)
{
    pthread_t thread;
    pthread_attr_t detached;
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_attr_init(&detached);
    (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&thread, &detached, run, j);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&detached);
    return err == 0 ? 0 : MVPN_E_SYSTEM;
}

int mvpn_upnp_start(mvpn_upnp *u, const mvpn_upnp_request *request)
{
    if (u->job != NULL) {
        return MVPN_E_AGAIN;
    }
    struct job *j = calloc(1, sizeof(*j));
    if (j == NULL) {
        return MVPN_E_NOMEM;
    }
    j->request = *request;
    atomic_init(&j->users, 1);
    atomic_init(&j->is_done, false);
    j->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (j->done_fd < 0) {
        free(j);
        return MVPN_E_SYSTEM;
    }
    u->job = j;
    u->is_abandoned = false;
    int r =
        mvpn_loop_watch_fd(u->loop, j->done_fd, MVPN_LOOP_READABLE, done_readable, u, &u->watch);
    if (r == 0) {
        atomic_store(&j->users, 2);
        r = start_thread(j);
        if (r != 0) {
            atomic_store(&j->users, 1);
        }
    }
    if (r != 0) {
        forget_job(u);
        return r;
    }
    mvpn_loop_timer_set(u->timer, MVPN_UPNP_TIME_MS);
    return 0;
}

void mvpn_upnp_finish(mvpn_upnp *u, int timeout_ms)
{
    if (u->job == NULL) {
        return;
    }
    struct pollfd p = {.fd = u->job->done_fd, .events = POLLIN};
    while (poll(&p, 1, timeout_ms) < 0 && errno == EINTR) {
    }
    if (atomic_load(&u->job->is_done)) {
        job_ended(u);
    }
}
