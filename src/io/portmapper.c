#include "io/portmapper.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/netlink.h"
#include "io/random.h"
#include "io/sockaddr.h"
#include "io/upnp.h"

/* How soon another network is noticed. */
#define NETWORK_MS 10000
/* UPnP says nothing when a gateway restarts, so the mapping is made again more often than its
 * lifetime asks for. */
#define UPNP_RENEW_MS (10 * 60 * 1000)
#define UPNP_RETRY_MS (60 * 1000)
/* Renewals that may fail in a row: then its hour is nearly over. */
#define UPNP_FAILURES_MAX 3
#define UPNP_END_MS 3000
/* Ports tried instead of a taken one. */
#define OTHER_PORT_MIN 20000u
#define OTHER_PORTS 40000u
/* Datagrams read in one turn. */
#define BATCH 16

struct mvpn_portmapper {
    mvpn_portmapper_options opt;
    mvpn_rng rng;
    mvpn_netlink *netlink;
    mvpn_upnp *upnp;
    mvpn_loop_timer *network_timer, *machine_timer, *upnp_timer;
    mvpn_addr gateway, client; /* family 0: no gateway */
    mvpn_portmap machine;
    bool has_machine;
    int fd, announce_fd;
    mvpn_loop_watch *watch, *announce_watch;
    /* What UPnP gave. */
    bool has_upnp, is_ending;
    unsigned upnp_failures;
    mvpn_portmap_mapping upnp_mapping;
    char last_failure[256];
};

static void tell(mvpn_portmapper *p, enum mvpn_portmap_event_type type,
                 const mvpn_portmap_mapping *mapping, const char *why)
{
    static const mvpn_portmap_mapping none;
    if (p->is_ending) {
        return;
    }
    if (type == MVPN_PORTMAP_FAILED) {
        if (strcmp(p->last_failure, why) == 0) {
            return;
        }
        (void)snprintf(p->last_failure, sizeof(p->last_failure), "%s", why);
    } else {
        p->last_failure[0] = '\0';
    }
    p->opt.fn(p->opt.ctx, &(mvpn_portmap_event){type, mapping != NULL ? *mapping : none, why});
}

/* ---- UPnP ---- */

static void upnp_ask(mvpn_portmapper *p, uint16_t external_port, uint32_t lifetime_s)
{
    mvpn_upnp_request r = {.gateway = p->gateway,
                           .client = p->client,
                           .internal_port = p->opt.internal_port,
                           .lifetime_s = lifetime_s};
    r.external_ports[0] = external_port;
    for (size_t i = 1; i < MVPN_UPNP_PORTS; i++) {
        r.external_ports[i] = (uint16_t)(OTHER_PORT_MIN + mvpn_rng_below(&p->rng, OTHER_PORTS));
    }
    if (mvpn_upnp_start(p->upnp, &r) != 0) {
        /* An abandoned one is still running: later. */
        mvpn_loop_timer_set(p->upnp_timer, UPNP_RETRY_MS);
    }
}

static void upnp_map(mvpn_portmapper *p)
{
    upnp_ask(p, p->has_upnp ? p->upnp_mapping.external.port : p->opt.internal_port,
             MVPN_PORTMAP_LIFETIME_S);
}

static void close_machine(mvpn_portmapper *p)
{
    mvpn_loop_timer_clear(p->machine_timer);
    mvpn_loop_unwatch(p->watch);
    mvpn_loop_unwatch(p->announce_watch);
    p->watch = p->announce_watch = NULL;
    if (p->fd >= 0) {
        (void)close(p->fd);
    }
    if (p->announce_fd >= 0) {
        (void)close(p->announce_fd);
    }
    p->fd = p->announce_fd = -1;
    p->has_machine = false;
}

static void open_machine(mvpn_portmapper *p);

static void upnp_ended(void *ctx, int err, const mvpn_addr *external, const char *why)
{
    mvpn_portmapper *p = ctx;
    if (p->is_ending) {
        if (err == 0) {
            /* A deletion, or a mapping that came too late to be used. */
            p->has_upnp = external->family != 0;
            p->upnp_mapping.external = *external;
        }
        return;
    }
    if (err == 0 && external->family == 0) {
        return; /* a deletion */
    }
    if (err == 0 && p->has_machine && mvpn_portmap_get(&p->machine, NULL)) {
        upnp_ask(p, external->port, 0); /* one mapping is enough */
        return;
    }
    if (err == 0) {
        bool is_same = p->has_upnp && mvpn_addr_eq(&p->upnp_mapping.external, external);
        bool is_first = !p->has_upnp;
        p->upnp_mapping =
            (mvpn_portmap_mapping){MVPN_PORTMAP_UPNP, *external, MVPN_PORTMAP_LIFETIME_S};
        p->has_upnp = true;
        p->upnp_failures = 0;
        close_machine(p);
        mvpn_loop_timer_set(p->upnp_timer, UPNP_RENEW_MS);
        if (!is_same) {
            tell(p, is_first ? MVPN_PORTMAP_MAPPED : MVPN_PORTMAP_CHANGED, &p->upnp_mapping, NULL);
        }
        return;
    }
    if (!p->has_upnp) {
        tell(p, MVPN_PORTMAP_FAILED, NULL, why); /* again when the machine has rested */
        return;
    }
    if (++p->upnp_failures < UPNP_FAILURES_MAX) {
        mvpn_loop_timer_set(p->upnp_timer, UPNP_RETRY_MS);
        return;
    }
    p->has_upnp = false;
    tell(p, MVPN_PORTMAP_LOST, &p->upnp_mapping, why);
    open_machine(p);
}

static void upnp_due(void *ctx)
{
    mvpn_portmapper *p = ctx;
    if (p->gateway.family != 0 && !(p->has_machine && mvpn_portmap_get(&p->machine, NULL))) {
        upnp_map(p);
    }
}

/* ---- PCP and NAT-PMP ---- */

static void drain(mvpn_portmapper *p)
{
    uint8_t out[MVPN_PORTMAP_REQUEST_MAX];
    mvpn_portmap_event event;
    size_t n;
    while ((n = mvpn_portmap_pull_packet(&p->machine, out)) > 0) {
        /* What is lost is sent again. A refusal of the packet before shows here too. */
        if (send(p->fd, out, n, 0) < 0 && errno == ECONNREFUSED) {
            (void)!send(p->fd, out, n, 0);
        }
    }
    while (p->has_machine && mvpn_portmap_pull_event(&p->machine, &event)) {
        if (event.type == MVPN_PORTMAP_FAILED && !p->is_ending) {
            upnp_map(p); /* which says why if it fails too */
        } else {
            tell(p, event.type, &event.mapping, event.why);
        }
    }
    mvpn_time deadline = mvpn_portmap_deadline(&p->machine), now = mvpn_clock_now();
    if (p->has_machine && deadline != MVPN_TIME_NEVER) {
        mvpn_loop_timer_set(p->machine_timer,
                            deadline > now ? (deadline - now) / MVPN_US_PER_MS + 1 : 0);
    }
}

static void machine_due(void *ctx)
{
    mvpn_portmapper *p = ctx;
    mvpn_portmap_tick(&p->machine, mvpn_clock_now());
    drain(p);
}

static void receive(mvpn_portmapper *p, int fd)
{
    uint8_t in[MVPN_PORTMAP_MAX + 1];
    for (unsigned i = 0; i < BATCH; i++) {
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(fd, in, sizeof(in), 0, (struct sockaddr *)&from, &len);
        mvpn_time now = mvpn_clock_now();
        if (n < 0 && errno == ECONNREFUSED) {
            mvpn_portmap_refused(&p->machine, now);
            continue;
        }
        if (n < 0) {
            return;
        }
        mvpn_addr addr = mvpn_sockaddr_to_addr(&from);
        /* Strangers' packets are nothing to tell of. */
        (void)mvpn_portmap_recv(&p->machine, &addr, mvpn_bytes_of(in, (size_t)n), now);
        mvpn_portmap_tick(&p->machine, now);
    }
}

static void readable(void *ctx, unsigned events)
{
    mvpn_portmapper *p = ctx;
    (void)events;
    receive(p, p->fd);
    drain(p);
}

static void announced(void *ctx, unsigned events)
{
    mvpn_portmapper *p = ctx;
    (void)events;
    receive(p, p->announce_fd);
    drain(p);
}

/* A socket that hears the gateway alone; `*ret_client` is our address towards it. */
static int open_socket(const mvpn_addr *gateway, mvpn_addr *ret_client)
{
    struct sockaddr_storage sa;
    mvpn_addr to = *gateway;
    to.port = MVPN_PORTMAP_PORT;
    socklen_t len = mvpn_sockaddr_from_addr(&to, &sa);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&sa, len) != 0) {
        (void)close(fd);
        return -1;
    }
    len = sizeof(sa);
    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0) {
        (void)close(fd);
        return -1;
    }
    *ret_client = mvpn_sockaddr_to_addr(&sa);
    ret_client->port = 0;
    return fd;
}

/* Announcements to all hosts; without them a restart is noticed a minute later. */
static int open_announcements(const mvpn_addr *client)
{
    static const uint8_t all_hosts[4] = {224, 0, 0, 1};
    int on = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(MVPN_PORTMAP_ANNOUNCE_PORT)};
    struct ip_mreq group = {0};
    memcpy(&at.sin_addr, all_hosts, 4);
    memcpy(&group.imr_multiaddr, all_hosts, 4);
    memcpy(&group.imr_interface, client->ip, 4);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
                    bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
                    setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)) != 0)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static void open_machine(mvpn_portmapper *p)
{
    mvpn_addr client;
    close_machine(p);
    p->fd = open_socket(&p->gateway, &client);
    if (p->fd < 0 ||
        mvpn_loop_watch_fd(p->opt.loop, p->fd, MVPN_LOOP_READABLE, readable, p, &p->watch) != 0) {
        close_machine(p);
        tell(p, MVPN_PORTMAP_FAILED, NULL, "cannot open a socket to the gateway");
        return;
    }
    p->announce_fd = open_announcements(&client);
    if (p->announce_fd >= 0 && mvpn_loop_watch_fd(p->opt.loop, p->announce_fd, MVPN_LOOP_READABLE,
                                                  announced, p, &p->announce_watch) != 0) {
        p->announce_watch = NULL; /* it is but quicker with it */
    }
    p->client = client;
    p->has_machine = true;
    mvpn_portmap_config config = {&p->rng, p->gateway, client, p->opt.internal_port};
    mvpn_portmap_init(&p->machine, &config, mvpn_clock_now());
    mvpn_portmap_tick(&p->machine, mvpn_clock_now());
    drain(p);
}

/* ---- the network ---- */

static void drop_all(mvpn_portmapper *p, const char *why)
{
    mvpn_portmap_mapping mapping;
    bool had = mvpn_portmapper_get(p, &mapping);
    close_machine(p);
    mvpn_loop_timer_clear(p->upnp_timer);
    p->has_upnp = false;
    if (had) {
        tell(p, MVPN_PORTMAP_LOST, &mapping, why);
    }
}

static void look_at_network(void *ctx)
{
    mvpn_portmapper *p = ctx;
    mvpn_addr gateway = {0}, client = {0};
    uint32_t index;
    mvpn_fault why = {.text = ""};
    int r = mvpn_netlink_gateway(p->netlink, &gateway, &index, &why);
    int fd = r == 0 ? open_socket(&gateway, &client) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    mvpn_loop_timer_set(p->network_timer, NETWORK_MS);
    if (r == 0 && mvpn_addr_ip_eq(&gateway, &p->gateway) && mvpn_addr_ip_eq(&client, &p->client)) {
        return;
    }
    if (p->gateway.family != 0) {
        drop_all(p, "the network changed");
    }
    p->gateway = p->client = (mvpn_addr){0};
    if (fd < 0) {
        tell(p, MVPN_PORTMAP_FAILED, NULL, r != 0 ? why.text : "the gateway cannot be reached");
        return;
    }
    p->gateway = gateway;
    p->client = client;
    if (mvpn_addr_is_public(&client)) {
        tell(p, MVPN_PORTMAP_FAILED, NULL, "this host has a public address: nothing to map");
        return;
    }
    open_machine(p);
}

/* ---- life ---- */

int mvpn_portmapper_new(const mvpn_portmapper_options *options, mvpn_portmapper **ret,
                        mvpn_fault *fault)
{
    mvpn_portmapper *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    p->opt = *options;
    p->fd = p->announce_fd = -1;
    int r = mvpn_random_seed(&p->rng);
    r = r != 0 ? r : mvpn_netlink_open(&p->netlink, fault);
    r = r != 0 ? r : mvpn_upnp_new(options->loop, upnp_ended, p, &p->upnp);
    r = r != 0 ? r : mvpn_loop_timer_new(options->loop, look_at_network, p, &p->network_timer);
    r = r != 0 ? r : mvpn_loop_timer_new(options->loop, machine_due, p, &p->machine_timer);
    r = r != 0 ? r : mvpn_loop_timer_new(options->loop, upnp_due, p, &p->upnp_timer);
    if (r != 0) {
        mvpn_portmapper_free(p);
        return mvpn_fault_set(fault, r, "cannot ask the gateway for a port: %s", mvpn_strerror(r));
    }
    mvpn_loop_timer_set(p->network_timer, 0);
    *ret = p;
    return 0;
}

/* The loop is over: the last words are exchanged here. */
static void end_machine(mvpn_portmapper *p)
{
    mvpn_portmap_close(&p->machine, mvpn_clock_now());
    while (!mvpn_portmap_is_closed(&p->machine)) {
        mvpn_time now = mvpn_clock_now(), deadline = mvpn_portmap_deadline(&p->machine);
        struct pollfd wait = {.fd = p->fd, .events = POLLIN};
        int ms = deadline > now ? (int)((deadline - now) / MVPN_US_PER_MS) + 1 : 0;
        if (poll(&wait, 1, ms) > 0) {
            receive(p, p->fd);
        }
        mvpn_portmap_tick(&p->machine, mvpn_clock_now());
        drain(p);
    }
}

static void end_upnp(mvpn_portmapper *p)
{
    mvpn_upnp_finish(p->upnp, UPNP_END_MS);
    if (p->has_upnp) {
        upnp_ask(p, p->upnp_mapping.external.port, 0);
        mvpn_upnp_finish(p->upnp, UPNP_END_MS);
    }
}

void mvpn_portmapper_free(mvpn_portmapper *p)
{
    if (p == NULL) {
        return;
    }
    p->is_ending = true;
    if (p->has_machine) {
        end_machine(p);
    }
    if (p->upnp != NULL) {
        end_upnp(p);
    }
    close_machine(p);
    mvpn_upnp_free(p->upnp);
    mvpn_loop_timer_free(p->network_timer);
    mvpn_loop_timer_free(p->machine_timer);
    mvpn_loop_timer_free(p->upnp_timer);
    mvpn_netlink_close(p->netlink);
    mvpn_rng_done(&p->rng);
    free(p);
}

bool mvpn_portmapper_get(const mvpn_portmapper *p, mvpn_portmap_mapping *ret)
{
    if (p->has_upnp) {
        *ret = p->upnp_mapping;
        return true;
    }
    return p->has_machine && mvpn_portmap_get(&p->machine, ret);
}
