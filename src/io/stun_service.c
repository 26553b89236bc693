#include "io/stun_service.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/random.h"
#include "io/sockaddr.h"
#include "io/stun_socket.h"

#define FAMILIES 2
/* Datagrams read in one turn. */
#define BATCH 64

struct family;

struct port {
    struct family *family;
    unsigned index;
    int fd;
    mvpn_loop_watch *watch;
};

struct family {
    mvpn_stun_server *server; /* NULL: not served */
    struct port ports[MVPN_STUN_SOCKETS];
};

struct mvpn_stun_service {
    struct family families[FAMILIES];
};

static void requests_came(void *ctx, unsigned events)
{
    const struct port *p = ctx;
    uint8_t bytes[MVPN_STUN_MAX + 1];
    (void)events;
    for (unsigned i = 0; i < BATCH; i++) {
        mvpn_addr from;
        mvpn_stun_answer a;
        ssize_t n = mvpn_stun_socket_recv(p->fd, bytes, sizeof(bytes), &from);
        if (n < 0) {
            return;
        }
        if (mvpn_stun_server_recv(p->family->server, p->index, &from,
                                  mvpn_bytes_of(bytes, (size_t)n), mvpn_clock_now(), &a) == 0) {
            mvpn_stun_socket_send(p->family->ports[a.socket].fd, &a.to, a.bytes, a.length);
        }
    }
}

static int open_port(mvpn_loop *loop, struct port *p, mvpn_fault *fault)
{
    mvpn_addr a = mvpn_stun_server_address(p->family->server, p->index);
    char text[MVPN_ADDR_STRLEN];
    if (a.family == 0) {
        return 0; /* there is no alternate */
    }
    p->fd = mvpn_stun_socket_open(&a, 0);
    if (p->fd < 0) {
        int code = errno == EADDRINUSE || errno == EADDRNOTAVAIL || errno == EACCES ? MVPN_E_CONFIG
                                                                                    : MVPN_E_SYSTEM;
        return mvpn_fault_errno(fault, code, errno,
                                "cannot serve STUN on UDP %s; see stun_listen in the configuration",
                                mvpn_addr_format(&a, text));
    }
    return mvpn_loop_watch_fd(loop, p->fd, MVPN_LOOP_READABLE, requests_came, p, &p->watch);
}

static int open_family(mvpn_loop *loop, struct family *f, const mvpn_stun_server_config *config,
                       mvpn_fault *fault)
{
    mvpn_rng rng;
    int r = mvpn_random_seed(&rng);
    if (r != 0) {
        return mvpn_fault_set(fault, r, "the system gives no random numbers");
    }
    r = mvpn_stun_server_new(&f->server, config, &rng);
    mvpn_rng_done(&rng);
    if (r == MVPN_E_INVAL) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "stun_listen: the second address of a family must differ from the "
                              "first in address and in port");
    }
    if (r != 0) {
        return mvpn_fault_set(fault, r, "no memory to serve STUN");
    }
    for (unsigned i = 0; r == 0 && i < MVPN_STUN_SOCKETS; i++) {
        r = open_port(loop, &f->ports[i], fault);
    }
    return r;
}

int mvpn_stun_service_new(mvpn_loop *loop, const mvpn_addr *listen, size_t count, bool is_strict,
                          mvpn_stun_service **ret, mvpn_fault *fault)
{
    mvpn_stun_server_config configs[FAMILIES] = {{.is_strict = is_strict},
                                                 {.is_strict = is_strict}};
    mvpn_stun_service *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to serve STUN");
    }
    for (unsigned f = 0; f < FAMILIES; f++) {
        for (unsigned i = 0; i < MVPN_STUN_SOCKETS; i++) {
            s->families[f].ports[i] =
                (struct port){.family = &s->families[f], .index = i, .fd = -1};
        }
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        mvpn_stun_server_config *c = &configs[listen[i].family == 4 ? 0 : 1];
        if (c->alternate.family != 0) {
            r = mvpn_fault_set(fault, MVPN_E_CONFIG,
                               "stun_listen: at most two addresses of one family are possible");
        }
        *(c->primary.family == 0 ? &c->primary : &c->alternate) = listen[i];
    }
    for (unsigned f = 0; r == 0 && f < FAMILIES; f++) {
        if (configs[f].primary.family != 0) {
            r = open_family(loop, &s->families[f], &configs[f], fault);
        }
    }
    if (r != 0) {
        mvpn_stun_service_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void mvpn_stun_service_free(mvpn_stun_service *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned f = 0; f < FAMILIES; f++) {
        for (unsigned i = 0; i < MVPN_STUN_SOCKETS; i++) {
            mvpn_loop_unwatch(s->families[f].ports[i].watch);
            if (s->families[f].ports[i].fd >= 0) {
                (void)close(s->families[f].ports[i].fd);
            }
        }
        mvpn_stun_server_free(s->families[f].server);
    }
    free(s);
}

mvpn_stun_server_stats mvpn_stun_service_get_stats(const mvpn_stun_service *s)
{
    mvpn_stun_server_stats sum = {0};
    for (unsigned f = 0; f < FAMILIES; f++) {
        if (s->families[f].server != NULL) {
            const mvpn_stun_server_stats *one = mvpn_stun_server_get_stats(s->families[f].server);
            sum.answered += one->answered;
            sum.refused += one->refused;
            sum.malformed += one->malformed;
            sum.too_short += one->too_short;
            sum.limited += one->limited;
        }
    }
    return sum;
}
