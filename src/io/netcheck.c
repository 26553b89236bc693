#include "io/netcheck.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/nat_cache.h"
#include "io/resolver.h"
#include "io/sockaddr.h"
#include "io/stun_socket.h"
#include "io/tcp_reach.h"

#define STUN_PORT 3478
#define HTTPS_PORT 443
#define HOST_SIZE 256
/* Names are looked up for so long; what is not known then is left out. */
#define NAMES_MS 1500
#define TCP_MS 3500
/* Of the network file's entries and discovery hosts, so many are tried. */
#define TCP_NODES 4
#define TCP_HOSTS 2
#define LOOKUPS_MAX (MVPN_NETCHECK_SERVERS_MAX + TCP_HOSTS)

enum lookup_for {
    FOR_STUN,
    FOR_TCP,
};

typedef struct lookup {
    mvpn_netcheck *owner;
    enum lookup_for purpose;
    uint16_t port;
} lookup;

typedef struct line {
    mvpn_netcheck_links *links;
    mvpn_stun_probe *stun;
    mvpn_addr servers[MVPN_STUN_SERVERS_MAX];
    size_t server_count;
    bool is_stun_done;
    mvpn_stun_result stun_result;
} line;

struct mvpn_netcheck {
    mvpn_loop *loop;
    mvpn_netcheck_options opt;
    mvpn_marker marker;
    mvpn_netcheck_fn *fn;
    void *ctx;
    mvpn_time began;
    mvpn_loop_timer *timer, *names_timer;
    mvpn_gateway_probe *gateway;
    mvpn_tcp_reach *tcp;
    bool is_tcp_done, are_names_done, is_told;
    mvpn_resolver *resolver;
    lookup lookups[LOOKUPS_MAX];
    size_t lookup_count, lookups_waiting;
    line v4, v6;
    mvpn_netcheck_result result;
};

int mvpn_netcheck_split(const char *text, char ret_host[static HOST_SIZE], uint16_t *ret_port)
{
    mvpn_addr a;
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long port = 0;
    if (mvpn_addr_parse(text, &a) == 0) {
        *ret_port = a.port;
        a.port = 0;
        char bare[MVPN_ADDR_STRLEN];
        (void)snprintf(ret_host, HOST_SIZE, "%s", mvpn_addr_format(&a, bare));
        return 0;
    }
    size_t n = colon != NULL ? (size_t)(colon - text) : strlen(text);
    if (colon != NULL) {
        port = strtoul(colon + 1, &end, 10);
        if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || port == 0 || port > 65535) {
            return MVPN_E_FORMAT;
        }
    }
    char host[HOST_SIZE];
    if (n == 0 || n >= HOST_SIZE) {
        return MVPN_E_FORMAT;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    /* An option's dash is nobody's name (RFC 1123 §2.1). */
    if (host[0] == '-' || !mvpn_network_dns_is_valid(host)) {
        return MVPN_E_FORMAT;
    }
    memcpy(ret_host, host, n + 1);
    *ret_port = (uint16_t)port;
    return 0;
}

/* ---- the end ---- */

static void note_seen(mvpn_netcheck_family *f, const mvpn_addr *addr)
{
    for (size_t i = 0; i < f->seen_count; i++) {
        if (mvpn_addr_ip_eq(&f->seen[i], addr)) {
            return;
        }
    }
    if (addr->family != 0 && f->seen_count < MVPN_NETCHECK_SEEN_MAX) {
        f->seen[f->seen_count++] = *addr;
    }
}

/* What the links could not tell. */
static void add_stun(mvpn_netcheck_family *f, const mvpn_stun_result *s)
{
    bool is_alone = f->source == MVPN_NETCHECK_BY_NOBODY;
    mvpn_nat_class *c = &f->nat;
    for (size_t i = 0; s->has_address && i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        note_seen(f, &s->mapped[i]);
    }
    c->is_public |= is_alone && s->nat == MVPN_STUN_NAT_NONE;
    if (c->mapping == MVPN_STUN_MAPPING_UNKNOWN) {
        c->mapping = s->mapping;
        c->is_known = s->mapping != MVPN_STUN_MAPPING_UNKNOWN;
    }
    if (c->filtering == MVPN_STUN_FILTERING_UNKNOWN) {
        c->filtering = s->filtering;
    }
    if (c->hairpin == MVPN_STUN_HAIRPIN_UNKNOWN) {
        c->hairpin = s->hairpin;
    }
    if (c->ports == MVPN_STUN_PORTS_UNKNOWN) {
        c->ports = s->ports;
        c->port_step = s->port_step;
    }
    if (is_alone && mvpn_nat_class_name(c) != MVPN_STUN_NAT_UNKNOWN) {
        f->source = MVPN_NETCHECK_BY_STUN;
    }
    if (f->rtt_us == 0) {
        f->rtt_us = (uint32_t)s->rtt;
    }
}

static void add_links(mvpn_netcheck *n, mvpn_netcheck_family *f,
                      const mvpn_netcheck_links_result *l)
{
    n->result.nodes_asked += l->asked;
    n->result.nodes_answered += l->answered;
    f->is_answered |= l->answered > 0;
    f->is_full_size_known = l->is_full_size_known;
    f->is_full_size = l->is_full_size;
    f->rtt_us = l->rtt_us;
    f->nat = l->nat;
    for (size_t i = 0; i < l->nat.seen_count; i++) {
        note_seen(f, &l->nat.seen[i]);
    }
    /* Of a public address one observer is enough: no other host can have it. */
    f->nat.is_public |= f->seen_count == 1 && mvpn_addr_ip_eq(&f->seen[0], &f->local) &&
                        mvpn_addr_is_public(&f->local);
    if (mvpn_nat_class_name(&f->nat) != MVPN_STUN_NAT_UNKNOWN) {
        f->source = MVPN_NETCHECK_BY_LINKS;
    }
    if (l->has_clock && !n->result.has_clock) {
        n->result.has_clock = true;
        n->result.clock_offset_s = l->clock_offset_s;
    }
}

static void sum_up_line(mvpn_netcheck *n, line *l, mvpn_netcheck_family *f)
{
    if (l->links != NULL) {
        add_links(n, f, mvpn_netcheck_links_get(l->links));
    }
    if (l->stun != NULL && l->is_stun_done) {
        f->is_answered |= l->stun_result.server.family != 0;
        add_stun(f, &l->stun_result);
    }
    f->is_asked = l->links != NULL || l->stun != NULL;
    n->result.servers_asked += (unsigned)l->server_count;
}

static void find_lifetime(mvpn_netcheck *n)
{
    const mvpn_netcheck_result *r = &n->result;
    const mvpn_addr none = {0};
    const mvpn_addr *seen = r->v4.seen_count > 0   ? &r->v4.seen[0]
                            : r->v6.seen_count > 0 ? &r->v6.seen[0]
                                                   : &none;
    mvpn_nat_network network;
    mvpn_nat_cache cache;
    if (n->opt.state_dir == NULL || mvpn_nat_cache_load(n->opt.state_dir, &cache) != 0) {
        return;
    }
    mvpn_nat_network_read(&network, seen);
    n->result.lifetime_s = mvpn_nat_cache_get(&cache, &network, mvpn_clock_unix());
}

static void end(void *ctx)
{
    mvpn_netcheck *n = ctx;
    if (n->is_told) {
        return;
    }
    n->is_told = true;
    sum_up_line(n, &n->v4, &n->result.v4);
    sum_up_line(n, &n->v6, &n->result.v6);
    mvpn_tcp_reach_result(n->tcp, &n->result.tcp_asked, &n->result.tcp_reached);
    n->result.gateway = *mvpn_gateway_probe_result(n->gateway);
    find_lifetime(n);
    n->result.took_ms = (unsigned)((mvpn_clock_now() - n->began) / MVPN_US_PER_MS);
    n->fn(n->ctx, &n->result);
}

static bool is_line_done(const mvpn_netcheck *n, line *l)
{
    return (l->links == NULL || mvpn_netcheck_links_get(l->links)->is_done) && n->are_names_done &&
           (l->stun == NULL || l->is_stun_done);
}

/* The end comes from the timer alone, with no part's own call above it. */
static void part_ended(void *ctx)
{
    mvpn_netcheck *n = ctx;
    if (!n->is_told && is_line_done(n, &n->v4) && is_line_done(n, &n->v6) && n->is_tcp_done &&
        mvpn_gateway_probe_result(n->gateway)->is_done) {
        mvpn_loop_timer_set(n->timer, 0);
    }
}

/* ---- STUN, TCP and names ---- */

static void tcp_ended(void *ctx)
{
    mvpn_netcheck *n = ctx;
    n->is_tcp_done = true;
    part_ended(n);
}

static void stun4_ended(void *ctx, const mvpn_stun_result *result)
{
    mvpn_netcheck *n = ctx;
    n->v4.stun_result = *result;
    n->v4.is_stun_done = true;
    part_ended(n);
}

static void stun6_ended(void *ctx, const mvpn_stun_result *result)
{
    mvpn_netcheck *n = ctx;
    n->v6.stun_result = *result;
    n->v6.is_stun_done = true;
    part_ended(n);
}

static void start_stun(mvpn_netcheck *n, line *l, const mvpn_netcheck_family *f,
                       mvpn_stun_probe_fn *fn)
{
    const mvpn_stun_probe_options options = {
        .servers = l->servers, .server_count = l->server_count, .mark = n->opt.mark};
    if (l->server_count == 0 || f->local.family == 0 ||
        mvpn_stun_probe_new(n->loop, &options, fn, n, &l->stun, NULL) != 0) {
        l->stun = NULL;
        l->server_count = 0;
    }
}

/* All names are known, or as good as. */
static void names_are_done(void *ctx)
{
    mvpn_netcheck *n = ctx;
    if (n->are_names_done) {
        return;
    }
    n->are_names_done = true;
    mvpn_loop_timer_clear(n->names_timer);
    start_stun(n, &n->v4, &n->result.v4, stun4_ended);
    start_stun(n, &n->v6, &n->result.v6, stun6_ended);
    mvpn_tcp_reach_finish(n->tcp, TCP_MS);
    part_ended(n);
}

static void take_address(mvpn_netcheck *n, enum lookup_for purpose, mvpn_addr addr, uint16_t port)
{
    line *l = addr.family == 4 ? &n->v4 : &n->v6;
    const mvpn_netcheck_family *f = addr.family == 4 ? &n->result.v4 : &n->result.v6;
    if (n->are_names_done || f->local.family == 0) {
        return;
    }
    addr.port = HTTPS_PORT;
    if (purpose == FOR_TCP) {
        addr.port = port;
    } else if (l->server_count < MVPN_STUN_SERVERS_MAX) {
        l->servers[l->server_count] = addr;
        l->servers[l->server_count++].port = port;
    }
    mvpn_tcp_reach_add(n->tcp, &addr);
}

static void host_known(void *ctx, int err, const char *why, const mvpn_addr *addrs, size_t count)
{
    const lookup *k = ctx;
    mvpn_netcheck *n = k->owner;
    (void)why;
    for (size_t i = 0; err == 0 && i < count; i++) {
        take_address(n, k->purpose, addrs[i], k->port);
    }
    if (--n->lookups_waiting == 0 && !n->are_names_done) {
        mvpn_loop_timer_set(n->names_timer, 0);
    }
}

static void look_up(mvpn_netcheck *n, const char *host, uint16_t port, enum lookup_for purpose)
{
    mvpn_addr addr;
    lookup *k = &n->lookups[n->lookup_count];
    if (mvpn_addr_parse(host, &addr) == 0) {
        take_address(n, purpose, addr, port);
        return;
    }
    const mvpn_resolver_options options = {
        .loop = n->loop, .marker = &n->marker, .timeout_ms = NAMES_MS / 2};
    if (n->lookup_count == LOOKUPS_MAX ||
        (n->resolver == NULL && mvpn_resolver_new(&options, &n->resolver, NULL) != 0)) {
        return;
    }
    *k = (lookup){n, purpose, port};
    n->lookup_count++;
    n->lookups_waiting++;
    if (mvpn_resolver_host(n->resolver, host, host_known, k) != 0) {
        n->lookups_waiting--;
    }
}

/* Host and port of a URL; the port that it names, else that of its scheme. */
static void look_up_url(mvpn_netcheck *n, const char *url)
{
    char authority[HOST_SIZE], host[HOST_SIZE];
    uint16_t port;
    bool is_https = strncmp(url, "https://", 8) == 0;
    const char *from = strstr(url, "://");
    from = from == NULL ? url : from + 3;
    size_t len = strcspn(from, "/?#");
    if (!is_https || len >= sizeof(authority)) {
        return; /* it says nothing of port 443 */
    }
    memcpy(authority, from, len);
    authority[len] = '\0';
    if (mvpn_netcheck_split(authority, host, &port) == 0 && (port == 0 || port == HTTPS_PORT)) {
        look_up(n, host, HTTPS_PORT, FOR_TCP);
    }
}

static int start_names(mvpn_netcheck *n, mvpn_fault *fault)
{
    const mvpn_network_file *f = n->opt.network;
    char host[HOST_SIZE];
    uint16_t port;
    for (size_t i = 0; i < n->opt.server_count; i++) {
        if (mvpn_netcheck_split(n->opt.servers[i], host, &port) != 0) {
            return mvpn_fault_set(fault, MVPN_E_INVAL, "'%.100s' is no HOST[:PORT]",
                                  n->opt.servers[i]);
        }
        look_up(n, host, port != 0 ? port : STUN_PORT, FOR_STUN);
    }
    for (size_t i = 0, taken = 0; f != NULL && i < f->entry_count && taken < TCP_NODES; i++) {
        taken += f->allow_private || mvpn_addr_is_public(&f->entries[i].addr);
        if (f->allow_private || mvpn_addr_is_public(&f->entries[i].addr)) {
            take_address(n, FOR_TCP, f->entries[i].addr, HTTPS_PORT);
        }
    }
    for (size_t i = 0; f != NULL && f->entry_count == 0 && i < f->relay_count && i < TCP_NODES;
         i++) {
        if (f->relays[i].address_count > 0) {
            take_address(n, FOR_TCP, f->relays[i].addresses[0].addr, HTTPS_PORT);
        }
    }
    for (size_t i = 0; f != NULL && i < f->discovery_count && i < TCP_HOSTS; i++) {
        look_up_url(n, f->discovery[i]);
    }
    mvpn_loop_timer_set(n->names_timer, n->lookups_waiting > 0 ? NAMES_MS : 0);
    return 0;
}

/* ---- the beginning ---- */

/* Its packets must go around a tunnel that is up; only root may mark them. */
static uint32_t usable_mark(uint32_t mark)
{
    int fd = mark == 0 ? -1 : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), value = (int)mark;
    bool may = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &value, sizeof(value)) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return may ? mark : 0;
}

/* Addresses for documentation (RFC 5737, RFC 3849): where the default route leads. Nothing is sent.
 */
static const char *const far_away[] = {"192.0.2.1:9", "[2001:db8::1]:9"};

static unsigned route_mtu(const mvpn_addr *to, uint32_t mark)
{
    struct sockaddr_storage sa;
    socklen_t len = mvpn_sockaddr_from_addr(to, &sa), n = sizeof(int);
    const mvpn_addr any = {.family = to->family};
    int mtu = 0, fd = mvpn_stun_socket_open(&any, mark);
    if (fd < 0) {
        return 0;
    }
    if (connect(fd, (struct sockaddr *)&sa, len) != 0 ||
        getsockopt(fd, to->family == 4 ? IPPROTO_IP : IPPROTO_IPV6,
                   to->family == 4 ? IP_MTU : IPV6_MTU, &mtu, &n) != 0) {
        mtu = 0;
    }
    (void)close(fd);
    return mtu > 0 ? (unsigned)mtu : 0;
}

static int start_line(mvpn_netcheck *n, line *l, mvpn_netcheck_family *f, const char *far,
                      mvpn_fault *fault)
{
    mvpn_addr to;
    int r = mvpn_addr_parse(far, &to);
    if (r != 0) {
        return mvpn_fault_set(fault, r, "%s is no address", far);
    }
    f->local = mvpn_stun_socket_source(&to, n->opt.mark);
    if (f->local.family == 0) {
        return 0; /* no route, or no such family at all */
    }
    f->interface_mtu = route_mtu(&to, n->opt.mark);
    if (n->opt.network == NULL) {
        return 0;
    }
    const mvpn_netcheck_links_options options = {
        .network = n->opt.network,
        .cached = n->opt.cached,
        .family = to.family,
        .mark = n->opt.mark,
        .clock_guess_s = n->opt.clock_guess_s,
        .own = f->local,
    };
    r = mvpn_netcheck_links_new(n->loop, &options, part_ended, n, &l->links, fault);
    if (r == MVPN_E_UNKNOWN) {
        l->links = NULL; /* nobody of this family: the other may have some */
        r = 0;
    }
    return r;
}

static int begin(mvpn_netcheck *n, mvpn_fault *fault)
{
    int r = mvpn_loop_timer_new(n->loop, end, n, &n->timer);
    r = r != 0 ? r : mvpn_loop_timer_new(n->loop, names_are_done, n, &n->names_timer);
    r = r != 0 ? r : mvpn_tcp_reach_new(n->loop, n->opt.mark, tcp_ended, n, &n->tcp);
    if (r != 0) {
        return mvpn_fault_set(fault, r, "no memory for the checks");
    }
    mvpn_loop_timer_set(n->timer, MVPN_NETCHECK_TIME_MS);
    r = mvpn_gateway_probe_new(n->loop, part_ended, n, &n->gateway, fault);
    r = r != 0 ? r : start_line(n, &n->v4, &n->result.v4, far_away[0], fault);
    r = r != 0 ? r : start_line(n, &n->v6, &n->result.v6, far_away[1], fault);
    if (n->v4.links != NULL && n->v6.links != NULL) {
        mvpn_netcheck_links_pair(n->v4.links, n->v6.links);
    }
    return r != 0 ? r : start_names(n, fault);
}

int mvpn_netcheck_new(mvpn_loop *loop, const mvpn_netcheck_options *options, mvpn_netcheck_fn *fn,
                      void *ctx, mvpn_netcheck **ret, mvpn_fault *fault)
{
    mvpn_netcheck *n = calloc(1, sizeof(*n));
    if (n == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the checks");
    }
    *n = (mvpn_netcheck){
        .loop = loop, .opt = *options, .fn = fn, .ctx = ctx, .began = mvpn_clock_now()};
    n->opt.mark = usable_mark(options->mark);
    n->marker.mark = n->opt.mark;
    n->result.is_marked = n->opt.mark != 0;
    int r = begin(n, fault);
    if (r != 0) {
        mvpn_netcheck_free(n);
        return r;
    }
    *ret = n;
    return 0;
}

void mvpn_netcheck_free(mvpn_netcheck *n)
{
    if (n == NULL) {
        return;
    }
    n->is_told = n->are_names_done = true; /* what ends now is nobody's business */
    mvpn_resolver_free(n->resolver);
    mvpn_stun_probe_free(n->v4.stun);
    mvpn_stun_probe_free(n->v6.stun);
    mvpn_netcheck_links_free(n->v4.links);
    mvpn_netcheck_links_free(n->v6.links);
    mvpn_tcp_reach_free(n->tcp);
    mvpn_gateway_probe_free(n->gateway);
    mvpn_loop_timer_free(n->names_timer);
    mvpn_loop_timer_free(n->timer);
    free(n);
}
