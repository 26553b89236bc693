#include "io/prover.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "io/clock.h"
#include "io/random.h"
#include "io/sockaddr.h"
#include "io/stun_probe.h"
#include "io/stun_socket.h"

#define LIMIT MVPN_S(4)
#define TICK_MS 250
/* Over three hops an answer may take a second. */
#define STUN_RTO MVPN_MS(400)
/* A question for the root's name servers: it tells nobody anything. (RFC 1035 §4) */
#define QUESTION_LEN 17
#define ASK_AGAIN MVPN_S(1)
/* Within this an IPv6 packet that is not carried must be refused: "at once" for a program that then
 * tries IPv4. */
#define REFUSAL_MAX MVPN_MS(1500)
#define DISCARD_PORT 9

static const mvpn_addr nowhere_v4 = {.family = 4, .port = DISCARD_PORT, .ip = {192, 0, 2, 1}};
static const mvpn_addr nowhere_v6 = {
    .family = 6, .port = DISCARD_PORT, .ip = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}};

enum { V4, V6 };

struct witness {
    mvpn_prover *prover;
    unsigned family; /* V4, V6 */
    mvpn_stun_probe *probe;
    bool has_ended;
};

struct mvpn_prover {
    mvpn_prover_fn *fn;
    void *ctx;
    mvpn_proof_observation seen;
    struct witness witness[2 * MVPN_PROOF_WITNESSES];
    unsigned witness_count;
    mvpn_loop_timer *timer;
    mvpn_time began;
    int dns_fd; /* -1: not asked, or it has ended */
    mvpn_loop_watch *dns_watch;
    mvpn_time asked;
    uint8_t question[QUESTION_LEN];
    int v6_fd;
    mvpn_loop_watch *v6_watch;
};

/* ---- the end of each part ---- */

static void end_socket(int *fd, mvpn_loop_watch **watch)
{
    mvpn_loop_unwatch(*watch);
    *watch = NULL;
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

static bool is_done(const mvpn_prover *p)
{
    bool is = p->dns_fd < 0 && p->v6_fd < 0;
    for (unsigned i = 0; is && i < p->witness_count; i++) {
        is = p->witness[i].has_ended;
    }
    return is;
}

/* ---- witnesses ---- */

static void witness_spoke(void *ctx, const mvpn_stun_result *result)
{
    struct witness *w = ctx;
    mvpn_proof_observation *o = &w->prover->seen;
    mvpn_proof_testimony *t = w->family == V4 ? &o->v4 : &o->v6;
    if (result->has_address && t->answered < MVPN_PROOF_WITNESSES) {
        t->seen[t->answered++] = result->mapped[0];
    }
    w->has_ended = true;
}

static void ask_witnesses(mvpn_prover *p, mvpn_loop *loop, unsigned family, const mvpn_addr *from,
                          const mvpn_addr *servers, size_t count)
{
    mvpn_proof_testimony *t = family == V4 ? &p->seen.v4 : &p->seen.v6;
    for (size_t i = 0; i < count; i++) {
        struct witness *w = &p->witness[p->witness_count];
        const mvpn_stun_probe_options options = {
            .servers = &servers[i],
            .server_count = 1,
            .rto = STUN_RTO,
            .address_only = true,
            .from = *from,
        };
        *w = (struct witness){.prover = p, .family = family};
        t->asked++; /* who cannot even be asked has not answered */
        if (mvpn_stun_probe_new(loop, &options, witness_spoke, w, &w->probe, NULL) == 0) {
            p->witness_count++;
        }
    }
}

/* ---- names ---- */

static void ask_resolver(mvpn_prover *p)
{
    (void)send(p->dns_fd, p->question, sizeof(p->question), MSG_DONTWAIT | MSG_NOSIGNAL);
    p->asked = mvpn_clock_now();
}

/* RFC 1035 §4.1.1: ours by its id, an answer, and not that the resolver failed. */
static void resolver_spoke(void *ctx, unsigned events)
{
    mvpn_prover *p = ctx;
    uint8_t answer[512];
    (void)events;
    for (;;) {
        ssize_t n = recv(p->dns_fd, answer, sizeof(answer), MSG_DONTWAIT);
        if (n < 0) {
            return; /* also a refusal: asked again until the time is up */
        }
        if (n >= 12 && memcmp(answer, p->question, 2) == 0 && (answer[2] & 0x80) != 0 &&
            (answer[3] & 0x0f) != 2) {
            p->seen.dns_answered = true;
            end_socket(&p->dns_fd, &p->dns_watch);
            return;
        }
    }
}

/* A socket of `to`'s family, at `from` if that has one. -1: the kernel refuses it. */
static int open_from(const mvpn_addr *from, const mvpn_addr *to)
{
    struct sockaddr_storage sa;
    socklen_t len = mvpn_sockaddr_from_addr(from, &sa);
    int fd =
        socket(to->family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && from->family == to->family && bind(fd, (struct sockaddr *)&sa, len) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* Connected, so that only he is heard. -1: the kernel refuses it. */
static int open_to(const mvpn_addr *from, const mvpn_addr *to)
{
    struct sockaddr_storage sa;
    socklen_t len = mvpn_sockaddr_from_addr(to, &sa);
    int fd = open_from(from, to);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, len) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static int begin_names(mvpn_prover *p, mvpn_loop *loop, const mvpn_addr *from,
                       const mvpn_addr *resolver)
{
    static const uint8_t question[QUESTION_LEN] = {
        [2] = 1, [5] = 1, [14] = 2, [16] = 1}; /* RD; "." NS IN */
    mvpn_addr to = *resolver;
    if (resolver->family == 0) {
        return 0;
    }
    to.port = 53;
    p->seen.dns_asked = true;
    memcpy(p->question, question, sizeof(question));
    int r = mvpn_random_bytes(p->question, 2);
    p->dns_fd = r == 0 ? open_to(from, &to) : -1;
    if (p->dns_fd < 0) {
        return r;
    }
    r = mvpn_loop_watch_fd(loop, p->dns_fd, MVPN_LOOP_READABLE, resolver_spoke, p, &p->dns_watch);
    if (r == 0) {
        ask_resolver(p);
    }
    return r;
}

/* ---- IPv6 that is not carried ---- */

static void v6_answered(void *ctx, unsigned events)
{
    mvpn_prover *p = ctx;
    uint8_t byte;
    (void)events;
    if (recv(p->v6_fd, &byte, sizeof(byte), MSG_DONTWAIT) < 0 && errno != EAGAIN &&
        errno != EWOULDBLOCK && errno != EINTR) {
        p->seen.v6_packet = MVPN_PROOF_REFUSED;
        end_socket(&p->v6_fd, &p->v6_watch);
    }
}

static int begin_v6(mvpn_prover *p, mvpn_loop *loop, const mvpn_addr *from)
{
    const int on = 1;
    uint8_t byte = 0;
    if (p->seen.carries_v6) {
        return 0;
    }
    p->seen.v6_packet = MVPN_PROOF_REFUSED;
    p->v6_fd = open_to(from, &nowhere_v6);
    if (p->v6_fd < 0) {
        return 0;
    }
    (void)setsockopt(p->v6_fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on)); /* all refusals */
    if (send(p->v6_fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        end_socket(&p->v6_fd, &p->v6_watch);
        return 0;
    }
    p->seen.v6_packet = MVPN_PROOF_PASSED; /* until somebody refuses it */
    return mvpn_loop_watch_fd(loop, p->v6_fd, MVPN_LOOP_READABLE, v6_answered, p, &p->v6_watch);
}

/* ---- past the tunnel ---- */

/* Bound to the interface no route leads it into the tunnel: the filter alone stands there. */
static enum mvpn_proof_packet try_past(uint32_t index, const mvpn_addr *from, const mvpn_addr *to)
{
    enum mvpn_proof_packet result = MVPN_PROOF_NOT_TRIED;
    struct sockaddr_storage sa;
    socklen_t len = mvpn_sockaddr_from_addr(to, &sa);
    uint8_t byte = 0;
    int number = (int)index;
    int fd = open_from(from, to);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &number, sizeof(number)) == 0) {
        if (sendto(fd, &byte, sizeof(byte), MSG_DONTWAIT, (struct sockaddr *)&sa, len) >= 0) {
            result = MVPN_PROOF_PASSED;
        } else if (errno == EPERM || errno == EACCES || errno == ENETUNREACH ||
                   errno == EHOSTUNREACH) {
            result = MVPN_PROOF_REFUSED;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return result;
}

/* ---- all of it ---- */

static void tick(void *ctx)
{
    mvpn_prover *p = ctx;
    mvpn_time now = mvpn_clock_now();
    if (is_done(p) || now - p->began >= LIMIT) {
        p->fn(p->ctx, &p->seen);
        return;
    }
    if (p->dns_fd >= 0 && now - p->asked >= ASK_AGAIN) {
        ask_resolver(p);
    }
    if (p->v6_fd >= 0 && now - p->began >= REFUSAL_MAX) {
        end_socket(&p->v6_fd, &p->v6_watch);
    }
    mvpn_loop_timer_set(p->timer, TICK_MS);
}

int mvpn_prover_new(mvpn_loop *loop, const mvpn_prover_options *options, mvpn_prover_fn *fn,
                    void *ctx, mvpn_prover **ret)
{
    mvpn_prover *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return MVPN_E_NOMEM;
    }
    p->fn = fn;
    p->ctx = ctx;
    p->seen = options->known;
    p->dns_fd = p->v6_fd = -1;
    p->began = mvpn_clock_now();
    ask_witnesses(p, loop, V4, &options->from_v4, options->witnesses_v4, options->witness_count_v4);
    ask_witnesses(p, loop, V6, &options->from_v6, options->witnesses_v6, options->witness_count_v6);
    int r = begin_names(p, loop, &options->from_v4, &options->resolver);
    r = r != 0 ? r : begin_v6(p, loop, &options->from_v6);
    r = r != 0 ? r : mvpn_loop_timer_new(loop, tick, p, &p->timer);
    if (r != 0) {
        mvpn_prover_free(p);
        return r;
    }
    if (options->looks_at_way) {
        p->seen.way_v4 = mvpn_stun_socket_source(&nowhere_v4, 0);
        p->seen.way_v6 = mvpn_stun_socket_source(&nowhere_v6, 0);
    }
    if (options->known.has_kill_switch && options->past_index != 0) { /* else it would leave */
        p->seen.past_v4 = try_past(options->past_index, &options->from_v4, &nowhere_v4);
        p->seen.past_v6 = try_past(options->past_index, &options->from_v6, &nowhere_v6);
    }
    mvpn_loop_timer_set(p->timer, TICK_MS);
    *ret = p;
    return 0;
}

void mvpn_prover_free(mvpn_prover *p)
{
    if (p == NULL) {
        return;
    }
    for (unsigned i = 0; i < p->witness_count; i++) {
        mvpn_stun_probe_free(p->witness[i].probe);
    }
    end_socket(&p->dns_fd, &p->dns_watch);
    end_socket(&p->v6_fd, &p->v6_watch);
    mvpn_loop_timer_free(p->timer);
    free(p);
}
