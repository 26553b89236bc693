#include "io/gateway_probe.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "io/netlink.h"
#include "io/sockaddr.h"
#include "io/upnp.h"
#include "wire/portmap.h"

/* A gateway is one hop away: what has not answered three questions does not speak the protocol. */
#define SENDS 3
#define ANSWER_MS 700
static const unsigned send_after_ms[SENDS] = {0, 250, 500};
/* The search for UPnP takes 2 s by itself. */
#define TIME_MS 3500
/* Datagrams read in one turn. */
#define BATCH 16

struct mvpn_gateway_probe {
    mvpn_loop *loop;
    mvpn_gateway_probe_fn *fn;
    void *ctx;
    mvpn_gateway_found found;
    mvpn_addr client; /* our address towards it */
    int fd;
    mvpn_loop_watch *watch;
    mvpn_loop_timer *send_timer, *end_timer;
    mvpn_upnp *upnp;
    unsigned sent;
    bool is_port_done, is_upnp_done;
};

void mvpn_gateway_found_take(mvpn_gateway_found *found, mvpn_bytes datagram)
{
    mvpn_natpmp_answer natpmp;
    mvpn_pcp_answer pcp;
    if (mvpn_pcp_decode(&pcp, datagram) == 0) {
        found->has_pcp |= pcp.result != MVPN_PCP_UNSUPP_VERSION;
    } else if (mvpn_natpmp_decode(&natpmp, datagram) == 0) {
        if (natpmp.result == MVPN_NATPMP_SUCCESS && natpmp.opcode == MVPN_NATPMP_ADDRESS) {
            found->external = natpmp.external;
        }
        /* A gateway that does not know the version says so in the old form. */
        found->has_natpmp |= natpmp.result != MVPN_NATPMP_UNSUPPORTED_VERSION &&
                             natpmp.result != MVPN_NATPMP_UNSUPPORTED_OPCODE;
    }
}

static void end_if_done(mvpn_gateway_probe *p)
{
    if (p->is_port_done && p->is_upnp_done && !p->found.is_done) {
        p->found.is_done = true;
        mvpn_loop_timer_clear(p->send_timer);
        mvpn_loop_timer_clear(p->end_timer);
        p->fn(p->ctx);
    }
}

static void time_is_up(void *ctx)
{
    mvpn_gateway_probe *p = ctx;
    p->is_port_done = p->is_upnp_done = true;
    end_if_done(p);
}

static void upnp_ended(void *ctx, int err, const mvpn_addr *external, const char *why)
{
    mvpn_gateway_probe *p = ctx;
    (void)why;
    p->is_upnp_done = true;
    if (err == 0) {
        p->found.has_upnp = true;
        if (p->found.external.family == 0) {
            p->found.external = *external;
        }
    }
    end_if_done(p);
}

static void send_next(void *ctx)
{
    mvpn_gateway_probe *p = ctx;
    uint8_t pcp[MVPN_PCP_HEADER_LEN], natpmp[MVPN_NATPMP_ADDRESS_LEN];
    if (p->sent == SENDS) {
        p->is_port_done = true;
        end_if_done(p);
        return;
    }
    mvpn_pcp_announce_encode(pcp, &p->client);
    mvpn_natpmp_address_encode(natpmp);
    /* What is lost is sent again; a refusal is read below. */
    (void)!send(p->fd, pcp, sizeof(pcp), MSG_DONTWAIT);
    (void)!send(p->fd, natpmp, sizeof(natpmp), MSG_DONTWAIT);
    p->sent++;
    mvpn_loop_timer_set(p->send_timer, p->sent == SENDS
                                           ? ANSWER_MS
                                           : send_after_ms[p->sent] - send_after_ms[p->sent - 1]);
}

static void readable(void *ctx, unsigned events)
{
    mvpn_gateway_probe *p = ctx;
    uint8_t in[MVPN_PORTMAP_MAX + 1];
    (void)events;
    for (unsigned i = 0; i < BATCH; i++) {
        ssize_t n = recv(p->fd, in, sizeof(in), MSG_DONTWAIT);
        if (n >= 0) {
            mvpn_gateway_found_take(&p->found, mvpn_bytes_of(in, (size_t)n));
        } else if (errno != ECONNREFUSED) {
            break;
        }
    }
    if (p->found.has_pcp && p->found.has_natpmp) {
        p->is_port_done = true;
        end_if_done(p);
    }
}

/* A socket that hears the gateway alone. */
static int open_socket(mvpn_gateway_probe *p, mvpn_fault *fault)
{
    struct sockaddr_storage sa;
    mvpn_addr to = p->found.gateway;
    to.port = MVPN_PORTMAP_PORT;
    socklen_t len = mvpn_sockaddr_from_addr(&to, &sa);
    p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&sa, len) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "the gateway cannot be asked");
    }
    len = sizeof(sa);
    if (getsockname(p->fd, (struct sockaddr *)&sa, &len) == 0) {
        p->client = mvpn_sockaddr_to_addr(&sa);
    }
    p->client.port = 0;
    return 0;
}

static bool find_gateway(mvpn_addr *ret)
{
    mvpn_netlink *nl = NULL;
    uint32_t index;
    bool is_there =
        mvpn_netlink_open(&nl, NULL) == 0 && mvpn_netlink_gateway(nl, ret, &index, NULL) == 0;
    mvpn_netlink_close(nl);
    /* A provider's router, which gives no ports to anybody. */
    return is_there && !mvpn_addr_is_public(ret);
}

static int begin(mvpn_gateway_probe *p, mvpn_fault *fault)
{
    int r = mvpn_loop_timer_new(p->loop, send_next, p, &p->send_timer);
    r = r != 0 ? r : mvpn_loop_timer_new(p->loop, time_is_up, p, &p->end_timer);
    if (r != 0) {
        return mvpn_fault_set(fault, r, "no memory to ask the gateway");
    }
    if (!find_gateway(&p->found.gateway) || open_socket(p, NULL) != 0) {
        p->found.gateway = (mvpn_addr){0};
        mvpn_loop_timer_set(p->end_timer, 0); /* nobody to ask: told from the loop */
        return 0;
    }
    r = mvpn_loop_watch_fd(p->loop, p->fd, MVPN_LOOP_READABLE, readable, p, &p->watch);
    r = r != 0 ? r : mvpn_upnp_new(p->loop, upnp_ended, p, &p->upnp);
    const mvpn_upnp_request search = {
        .gateway = p->found.gateway, .client = p->client, .search_only = true};
    r = r != 0 ? r : mvpn_upnp_start(p->upnp, &search);
    if (r != 0) {
        return mvpn_fault_set(fault, r, "the gateway cannot be asked: %s", mvpn_strerror(r));
    }
    mvpn_loop_timer_set(p->send_timer, send_after_ms[0]);
    mvpn_loop_timer_set(p->end_timer, TIME_MS);
    return 0;
}

int mvpn_gateway_probe_new(mvpn_loop *loop, mvpn_gateway_probe_fn *fn, void *ctx,
                           mvpn_gateway_probe **ret, mvpn_fault *fault)
{
    mvpn_gateway_probe *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to ask the gateway");
    }
    *p = (mvpn_gateway_probe){.loop = loop, .fn = fn, .ctx = ctx, .fd = -1};
    int r = begin(p, fault);
    if (r != 0) {
        mvpn_gateway_probe_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void mvpn_gateway_probe_free(mvpn_gateway_probe *p)
{
    if (p == NULL) {
        return;
    }
    mvpn_loop_unwatch(p->watch);
    if (p->fd >= 0) {
        (void)close(p->fd);
    }
    mvpn_upnp_free(p->upnp);
    mvpn_loop_timer_free(p->send_timer);
    mvpn_loop_timer_free(p->end_timer);
    free(p);
}

const mvpn_gateway_found *mvpn_gateway_probe_result(const mvpn_gateway_probe *p)
{
    return &p->found;
}
